//! Which messages a subscription of version 2 takes: those of some names, with some tags, of which an expression holds.
//! Source: Sockudo, "Filters".
//!
//! A filter is about messages and their versions. Who comes and goes, what is counted and what is said about messages
//! passes every one.

use std::sync::Arc;

use super::delta::Asked;
use super::expression::{self, Expression};
use super::fault::Fault;
use super::filter_document;
use super::filter_tags::Node;
use super::session::PusherSession;
use crate::base::name::Name;
use crate::broker::{Admit, Event, Filter, Happening, Verdict, versioned};
use crate::wire::json::{Kind, Raw};

/// Names of events in one filter. Source: Sockudo's `event_name_filtering`.
const EVENTS_MAX: usize = 50;
/// Bytes of one of them. Source: the same.
const EVENT_BYTES_MAX: usize = 200;

/// A filter, read.
#[derive(Debug)]
pub(super) struct Predicate {
    /// Names, sorted; empty: any.
    events: Vec<Name>,
    tags: Option<Node>,
    expression: Option<Expression>,
}

/// Why it is none, for the peer.
pub(super) type Wrong = String;

impl Predicate {
    /// The filter of a subscribe, if it has one.
    pub fn of(data: Raw<'_>) -> Result<Option<Self>, Fault> {
        let given = |name| data.member(name).filter(|it: &Raw<'_>| !it.is_null());
        let Some(filter) = given("filter").or_else(|| given("tags_filter")) else {
            return Ok(None);
        };
        let predicate = Self::read(filter).map_err(Fault::Filter)?;
        let is_all = predicate.events.is_empty()
            && predicate.tags.is_none()
            && predicate.expression.is_none();
        Ok((!is_all).then_some(predicate))
    }

    /// Reads a filter: a node about tags, or an object that says what it is about.
    pub fn read(filter: Raw<'_>) -> Result<Self, Wrong> {
        let (mut events, mut tags, mut expression) = (None, None, None);
        let mut is_compound = false;
        for (name, value) in filter.members() {
            let part = match &*name {
                "events" => &mut events,
                "tags" => &mut tags,
                "expression" => &mut expression,
                _ => continue,
            };
            is_compound = true;
            *part = (!value.is_null()).then_some(value);
        }
        if !is_compound {
            tags = Some(filter);
        }
        Ok(Self {
            events: events.map_or(Ok(Vec::new()), read_events)?,
            tags: tags.map(Node::read).transpose()?,
            expression: expression.map(read_expression).transpose()?,
        })
    }

    /// Whether it lets an event through.
    pub fn admits(&self, event: &Event) -> bool {
        let is_named = match &event.happening {
            Happening::Message { name, .. } => self.takes_name(name),
            Happening::Mutated(it) => {
                it.name.as_ref().is_some_and(|it| self.takes_name(it))
                    || self.takes_name(action_event(it.action))
            }
            _ => return true,
        };
        // What costs least is asked first.
        is_named
            && self.tags.as_ref().is_none_or(|it| it.holds(&event.tags))
            && self.expression.as_ref().is_none_or(|it| filter_document::holds(it, event))
    }

    fn takes_name(&self, name: &str) -> bool {
        self.events.is_empty() || self.events.binary_search_by(|it| (**it).cmp(name)).is_ok()
    }

    /// Memory that it holds.
    pub fn held_bytes(&self) -> usize {
        let names = self.events.iter().map(|it| it.len() + 32).sum::<usize>();
        let tags = self.tags.as_ref().map_or(0, Node::held_bytes);
        size_of::<Self>()
            + names
            + tags
            + self.expression.as_ref().map_or(0, Expression::held_bytes)
    }
}

/// The event of a version's frame.
pub(super) fn action_event(action: versioned::Action) -> &'static str {
    match action {
        versioned::Action::Create => "sockudo:message.create",
        versioned::Action::Update => "sockudo:message.update",
        versioned::Action::Delete => "sockudo:message.delete",
        versioned::Action::Append => "sockudo:message.append",
    }
}

fn read_events(events: Raw<'_>) -> Result<Vec<Name>, Wrong> {
    if events.kind() != Kind::Array {
        return Err("filter.events must be an array of non-empty strings".into());
    }
    let mut names = Vec::new();
    for event in events.items() {
        let Some(name) = event.as_str().filter(|it| !it.is_empty()) else {
            return Err("filter.events must contain only non-empty strings".into());
        };
        if names.len() >= EVENTS_MAX {
            return Err(format!("filter.events exceeds maximum of {EVENTS_MAX} event names"));
        }
        if name.len() > EVENT_BYTES_MAX {
            let start: String = name.chars().take(40).collect();
            return Err(format!(
                "Event name '{start}...' exceeds maximum length of {EVENT_BYTES_MAX} characters"
            ));
        }
        names.push(Name::from(&*name));
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn read_expression(given: Raw<'_>) -> Result<Expression, Wrong> {
    let text = match given.kind() {
        Kind::String => given.as_str().filter(|it| !it.is_empty()),
        Kind::Object => {
            let language = given.member("language").and_then(Raw::as_str);
            if let Some(language) = language.filter(|it| *it != "jmespath") {
                let language: String = language.chars().take(40).collect();
                return Err(format!("Unsupported filter expression language '{language}'"));
            }
            let source = given.member("source").and_then(Raw::as_str);
            let Some(source) = source.filter(|it| !it.is_empty()) else {
                return Err("filter.expression.source must be a non-empty string".into());
            };
            Some(source)
        }
        _ => None,
    };
    let Some(text) = text else {
        return Err("filter.expression must be a JMESPath string or object".into());
    };
    if text.len() > expression::BYTES_MAX {
        return Err(format!(
            "Invalid subscription filter: JMESPath expression exceeds the byte limit of {}",
            expression::BYTES_MAX
        ));
    }
    Expression::new(&text).map_err(|error| {
        format!("Invalid subscription filter: invalid JMESPath expression: {error}")
    })
}

/// What the edge asks about one subscription.
struct Chosen {
    predicate: Option<Arc<Predicate>>,
    /// Its session says messages itself: as what changed since the last one.
    takes_changes: bool,
}

impl Admit for Chosen {
    fn admit(&self, event: &Event) -> Verdict {
        // A filter of a peer's own is no leave to hear what is not for everyone.
        if event.guarded || self.predicate.as_ref().is_some_and(|it| !it.admits(event)) {
            return Verdict::Skip;
        }
        let is_whole = || event.meta.as_ref().is_some_and(|it| it.is_whole);
        match event.happening {
            Happening::Message { .. } if self.takes_changes && !is_whole() => Verdict::Session,
            _ => Verdict::Frame,
        }
    }
}

/// The filter of a subscription that takes some messages, or takes them as changes; none: it takes everything in its
/// lane's frames.
pub(super) fn filter(
    predicate: Option<&Arc<Predicate>>,
    takes_changes: bool,
) -> Option<Arc<Filter>> {
    if predicate.is_none() && !takes_changes {
        return None;
    }
    let tags = predicate.and_then(|it| it.tags.as_ref());
    let any_of = tags.and_then(Node::any_of).map(Arc::from);
    let chosen = Chosen { predicate: predicate.cloned(), takes_changes };
    Some(Arc::new(Filter { any_of, admit: Box::new(chosen) }))
}

/// What a subscription's predicate counts for, its place among them included.
fn weight(predicate: &Predicate) -> usize {
    predicate.held_bytes() + 64
}

impl PusherSession {
    /// Notes what a subscribe says about which messages it takes and how; the filter it needs for that.
    pub(super) fn choose(
        &mut self,
        channel: &Name,
        predicate: Option<Predicate>,
        delta: Option<Asked>,
    ) -> Option<Arc<Filter>> {
        self.ask_delta(channel, delta);
        if let (Some(two), Some(predicate)) = (&mut self.two, predicate) {
            two.predicates_bytes += weight(&predicate);
            let old = two.predicates.insert(channel.clone(), Arc::new(predicate));
            two.predicates_bytes -= old.map_or(0, |it| weight(&it));
        }
        filter(self.predicate(channel).as_ref(), self.takes_changes(channel))
    }

    /// Which messages a subscription takes; none: all.
    pub(super) fn predicate(&self, channel: &str) -> Option<Arc<Predicate>> {
        self.two.as_ref()?.predicates.get(channel).cloned()
    }

    /// Whether an event of a channel is one that its subscription takes.
    pub(super) fn lets_through(&self, channel: &str, event: &Event) -> bool {
        let predicates = self.two.as_ref().map(|two| &two.predicates);
        let predicate = predicates.and_then(|it| it.get(channel));
        predicate.is_none_or(|it| it.admits(event))
    }

    /// Forgets what a subscription that is over took, and how.
    pub(super) fn forget_choice(&mut self, channel: &str) {
        if let Some(two) = &mut self.two {
            let old = two.predicates.remove(channel);
            two.predicates_bytes -= old.map_or(0, |it| weight(&it));
        }
        self.leave_delta(channel);
    }
}

#[cfg(test)]
#[path = "filters_tests.rs"]
mod tests;
