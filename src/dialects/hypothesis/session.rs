//! One Hypothesis socket: who it is, what it wants to hear, and what it is answered.
//!
//! An idle session holds no buffer. Messages that come while a token is being asked about, or while the
//! first filter's subscriptions are on their way, wait, bounded: they are taken as who the peer turns out
//! to be, and an answer to what came after a filter says that the filter is in force.

use std::borrow::Cow;
use std::sync::Arc;

use super::annotation::{self, AUTHOR, Field, MODERATION, ORIGIN, SEE, See};
use super::filter::{self, Parsed};
use super::{CHANNEL, LANE_ANNOTATIONS, LANE_USER, Shared, USER_PREFIX, frames};
use crate::auth::{Finding, Identity, Inquiry, Seat};
use crate::base::ids::{LaneId, Ticket};
use crate::base::name::{Channel, Name};
use crate::base::time::{Nanos, Now};
use crate::broker::{Admit, Command, Event, Filter, Reply, Subscribe, Tag, Verdict};
use crate::dialects::api::is_within_rate;
use crate::dialects::{Facts, Farewell, Input, Output, Session, TimerKind};
use crate::observe::{CloseReason, Counter};
use crate::wire::json::{self, Kind, Raw};

/// Asks for a sign of life.
const KEEP_ALIVE: TimerKind = TimerKind(0);

/// Messages that wait at most, and their bytes.
const WAITING_MAX: usize = 64;
const WAITING_BYTES_MAX: usize = 256 << 10;

/// Changes of name and filter in one second; the official client makes three in all.
const CHANGES_PER_SECOND_MAX: u32 = 50;

/// One peer's side of the protocol.
pub struct HypothesisSession {
    shared: Arc<Shared>,
    /// This connection's place in its app.
    _seat: Seat,
    lane_first: LaneId,
    /// Who the peer is; none: anyone.
    user: Option<Arc<Identity>>,
    waiting: Option<Box<Waiting>>,
    /// When anything last came.
    heard: Nanos,
    ticket_next: u32,
    /// What the peer calls itself, to be spared its own changes.
    client_id: Option<Name>,
    /// What it wants to hear; none before its first filter.
    wanted: Option<Arc<[Tag]>>,
    /// The values of that, together.
    wanted_bytes: u32,
    /// When the next change of name or filter would be due, were they evenly spaced.
    change_due: Nanos,
}

/// What waits for answers.
#[derive(Default)]
struct Waiting {
    /// To be asked once the socket is open.
    inquiry: Option<Inquiry>,
    /// Answers that are missing.
    missing: usize,
    messages: Vec<String>,
    bytes: usize,
}

impl HypothesisSession {
    /// The session of a peer that showed no token, or one that is good or nobody's.
    pub fn new(
        shared: Arc<Shared>,
        seat: Seat,
        user: Option<Arc<Identity>>,
        facts: &Facts,
    ) -> Self {
        Self {
            shared,
            _seat: seat,
            lane_first: facts.lane_first,
            user,
            waiting: None,
            heard: facts.now.steady,
            ticket_next: 0,
            client_id: None,
            wanted: None,
            wanted_bytes: 0,
            change_due: Nanos::default(),
        }
    }

    /// The session of a peer whose token only the application knows.
    pub fn asking(shared: Arc<Shared>, seat: Seat, inquiry: Inquiry, facts: &Facts) -> Self {
        let waiting = Waiting { inquiry: Some(inquiry), missing: 1, ..Waiting::default() };
        Self { waiting: Some(Box::new(waiting)), ..Self::new(shared, seat, None, facts) }
    }

    fn ticket(&mut self) -> Ticket {
        self.ticket_next = self.ticket_next.wrapping_add(1);
        Ticket(self.ticket_next)
    }

    fn opened(&mut self, out: &mut Vec<Output>) {
        out.push(Output::Arm(KEEP_ALIVE, self.shared.settings.keep_alive));
        match self.waiting.as_mut().and_then(|it| it.inquiry.take()) {
            Some(inquiry) => out.push(Output::Inquire(self.ticket(), inquiry)),
            None => self.hear_of_groups(out),
        }
    }

    /// A user's sockets hear when their groups change, filter or not.
    fn hear_of_groups(&mut self, out: &mut Vec<Output>) {
        let Some(user) = &self.user else { return };
        let channel = annotation::user_channel(&self.shared.app, &user.user);
        let lane = LaneId(self.lane_first.0 + LANE_USER);
        let subscribe = Subscribe { silent: true, ..Subscribe::new(channel, lane) };
        out.push(Output::Ask(self.ticket(), Command::Subscribe(Box::new(subscribe))));
    }

    fn found(&mut self, finding: Finding, now: Now, out: &mut Vec<Output>) {
        match finding {
            Finding::Known(identity) => self.user = Some(identity),
            // Nobody's token makes no user; neither does one that nobody could be asked about.
            _ => {
                out.push(Output::Count(Counter::SignatureFailures));
                if self.shared.settings.strict_tokens {
                    return out.push(close(1008, "invalid token", CloseReason::Session));
                }
            }
        }
        self.hear_of_groups(out);
        self.answered(now, out);
    }

    /// One answer less is missing; with the last one goes on with what waited.
    fn answered(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(waiting) = &mut self.waiting else { return };
        waiting.missing = waiting.missing.saturating_sub(1);
        if waiting.missing > 0 {
            return;
        }
        let messages = std::mem::take(&mut waiting.messages);
        self.waiting = None;
        for message in messages {
            // It may be the first filter, and then the rest waits again.
            self.text(&message, now, out);
        }
    }

    /// One lazy timer: input only notes the time.
    fn keep_alive(&mut self, now: Now, out: &mut Vec<Output>) {
        let period = self.shared.settings.keep_alive;
        if now.steady >= self.heard + period + period {
            return out.push(close(1013, "no sign of life", CloseReason::Timeout));
        }
        out.push(Output::Ping);
        out.push(Output::Arm(KEEP_ALIVE, period));
    }

    fn text(&mut self, text: &str, now: Now, out: &mut Vec<Output>) {
        let Some(waiting) = &mut self.waiting else { return self.message(text, now, out) };
        waiting.bytes += text.len();
        if waiting.messages.len() >= WAITING_MAX || waiting.bytes > WAITING_BYTES_MAX {
            return out.push(close(1013, "try again later", CloseReason::Overload));
        }
        waiting.messages.push(text.to_owned());
    }

    fn message(&mut self, text: &str, now: Now, out: &mut Vec<Output>) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let plain = match json::parse_str(text) {
            Ok(_) => Cow::Borrowed(text),
            // Numbers that JSON does not have, but whose writers do.
            Err(_) => without_nan(text),
        };
        let Ok(message) = json::parse_str(&plain) else {
            return out.push(close(1000, "invalid message format", CloseReason::Session));
        };
        if message.kind() != Kind::Object {
            return;
        }
        let mut envelope = Envelope::default();
        for (name, value) in message.members() {
            match &*name {
                "type" => envelope.kind = Some(value),
                "messageType" => envelope.message_type = Some(value),
                "id" => envelope.id = Some(value),
                "value" => envelope.value = Some(value),
                "filter" => envelope.filter = Some(value),
                _ => {}
            }
        }
        self.act(&envelope, now, out);
    }

    fn act(&mut self, message: &Envelope<'_>, now: Now, out: &mut Vec<Output>) {
        // Without a number to answer to there is no answer, not even to a mistake.
        let id = message.id.filter(|it| matches!(it.kind(), Kind::Number | Kind::Bool));
        let reply = id.map(Raw::text);
        let error = |kind: &str, description: &str, out: &mut Vec<Output>| {
            out.extend(reply.map(|id| Output::Text(frames::error(kind, description, id))));
        };
        let kind = match message.kind.filter(|it| !it.is_null()) {
            Some(kind) if matches!(kind.kind(), Kind::Array | Kind::Object) => return,
            Some(kind) => kind.as_str().ok_or(kind),
            None if message.filter.is_some() => Ok(Cow::Borrowed("filter")),
            None if message.message_type.and_then(Raw::as_str).as_deref() == Some("client_id") => {
                Ok(Cow::Borrowed("client_id"))
            }
            None => return error("invalid_type", "invalid message type: null", out),
        };
        match kind.as_deref() {
            Ok("ping") => out.extend(reply.map(|id| Output::Text(frames::pong(id)))),
            Ok("whoami") => {
                let userid = self.user.as_ref().map(|it| &*it.user);
                out.extend(reply.map(|id| Output::Text(frames::whoyouare(userid, id))));
            }
            Ok("client_id") => match message.value {
                None => error("invalid_data", "\"value\" is missing", out),
                Some(value) if self.may_change(now, out) => self.name(value, out),
                Some(_) => {}
            },
            Ok("filter") => match message.filter {
                None => error("invalid_data", "\"filter\" is missing", out),
                Some(filter) if self.may_change(now, out) => {
                    match filter::parse(filter, self.shared.settings.filter_values_max) {
                        Parsed::Filter(tags) => self.want(tags, out),
                        Parsed::Refused => error("invalid_data", "failed to parse filter", out),
                        Parsed::Dropped => {}
                    }
                }
                Some(_) => {}
            },
            Ok(_) | Err(_) => {
                let kind = message.kind.map_or(String::from("null"), frames::as_python);
                error("invalid_type", &format!("invalid message type: {kind}"), out);
            }
        }
    }

    /// Whether the peer may change its name or its filter once more: each is work for every channel.
    fn may_change(&mut self, now: Now, out: &mut Vec<Output>) -> bool {
        let may = is_within_rate(&mut self.change_due, now.steady, CHANGES_PER_SECOND_MAX);
        if !may {
            out.push(close(1008, "name or filter changed too often", CloseReason::Session));
        }
        may
    }

    /// The peer says what it calls itself; any JSON value.
    fn name(&mut self, value: Raw<'_>, out: &mut Vec<Output>) {
        self.client_id = match value.as_str() {
            Some(text) => Some(Name::from(&*text)),
            None if value.is_null() => None,
            // No change is made under such a name, so that it is nobody's.
            None => Some(Name::from(format!("\0{}", value.text()).as_str())),
        };
        if let Some(wanted) = self.wanted.clone() {
            for channel in self.channels() {
                let filter = self.filter_of(&channel, &wanted);
                out.push(Output::Ask(self.ticket(), Command::Refilter(channel, filter)));
            }
        }
    }

    /// The peer says what it wants to hear from here on.
    fn want(&mut self, tags: Vec<Tag>, out: &mut Vec<Output>) {
        let wanted: Arc<[Tag]> = tags.into();
        self.wanted_bytes = wanted.iter().map(|tag| tag.value.len() as u32).sum();
        let is_first = self.wanted.replace(wanted.clone()).is_none();
        for channel in self.channels() {
            let filter = self.filter_of(&channel, &wanted);
            let command = if is_first {
                self.waiting.get_or_insert_default().missing += 1;
                let lane = LaneId(self.lane_first.0 + LANE_ANNOTATIONS);
                Command::Subscribe(Box::new(Subscribe {
                    silent: true,
                    filter: Some(filter),
                    ..Subscribe::new(channel, lane)
                }))
            } else {
                Command::Refilter(channel, filter)
            };
            out.push(Output::Ask(self.ticket(), command));
        }
    }

    /// Where annotations come from: the dialect's own channel, and those shared with other protocols.
    fn channels(&self) -> Vec<Channel> {
        let app = &self.shared.app;
        let names = [CHANNEL].into_iter().chain(app.settings.bridge.iter().map(String::as_str));
        names.map(|name| Channel { app: app.index, name: Name::from(name) }).collect()
    }

    fn filter_of(&self, channel: &Channel, wanted: &Arc<[Tag]>) -> Arc<Filter> {
        // Everything on a bridged channel is in the group of its name, tags or not.
        let group = Field::Group.tag(&channel.name);
        let is_whole = &*channel.name != CHANNEL && wanted.binary_search(&group).is_ok();
        let admit = Audience {
            user: self.user.clone(),
            client_id: self.client_id.clone(),
            null_origin_suppressed: self.shared.settings.null_origin_suppressed,
        };
        let any_of = (!is_whole).then(|| wanted.clone());
        Arc::new(Filter { any_of, admit: Box::new(admit) })
    }

    /// Something that this peer is told in words of its own.
    fn event(&mut self, event: &Event, out: &mut Vec<Output>) {
        let moderates = self.user.as_ref().is_some_and(|user| moderates(user, event));
        let moderation = event.tags.value(MODERATION).filter(|_| moderates);
        let mut text = Vec::new();
        let is_shown = match moderation {
            Some(moderation) => frames::render_for_moderator(event, moderation, &mut text),
            None => frames::render_for_author(event, &mut text),
        };
        out.extend(is_shown.then_some(Output::Text(text)));
    }
}

/// What of a message matters.
#[derive(Default)]
struct Envelope<'a> {
    kind: Option<Raw<'a>>,
    message_type: Option<Raw<'a>>,
    id: Option<Raw<'a>>,
    value: Option<Raw<'a>>,
    filter: Option<Raw<'a>>,
}

/// Whether a peer may have an annotation that its filter found, as it was when it gave the filter.
pub struct Audience {
    /// Who it is; none: anyone.
    pub user: Option<Arc<Identity>>,
    /// What it calls itself.
    pub client_id: Option<Name>,
    /// As the `h` service: an event without an origin is not for a peer without a name.
    pub null_origin_suppressed: bool,
}

impl Admit for Audience {
    fn admit(&self, event: &Event) -> Verdict {
        let tags = &event.tags;
        let Some(see) = tags.value(SEE) else {
            // Of another protocol, on a channel that everyone shares.
            return if event.guarded { Verdict::Skip } else { Verdict::Frame };
        };
        match (tags.value(ORIGIN), &self.client_id) {
            (Some(origin), Some(mine)) if origin == mine => return Verdict::Skip,
            (None, None) if self.null_origin_suppressed => return Verdict::Skip,
            _ => {}
        }
        let is_author = || {
            let author = tags.value(AUTHOR);
            self.user.as_ref().is_some_and(|user| author == Some(&user.user))
        };
        let moderates = self.user.as_ref().is_some_and(|user| moderates(user, event));
        let may = match See::of(see) {
            Some(See::World) => true,
            Some(See::Members) => self.user.as_ref().is_some_and(|user| is_of(&user.groups, event)),
            Some(See::Moderators) => is_author() || moderates,
            Some(See::Author) => is_author(),
            None => false,
        };
        let is_withheld = matches!(See::of(see), Some(See::Moderators | See::Author));
        match may {
            false => Verdict::Skip,
            true if tags.value(MODERATION).is_some() && moderates => Verdict::Session,
            // Its author is not told that it is hidden.
            true if is_withheld && is_author() => Verdict::Session,
            true => Verdict::Frame,
        }
    }
}

/// Whether an event's group is one of these.
fn is_of(groups: &[Name], event: &Event) -> bool {
    event.tags.value(&Field::Group.name()).is_some_and(|group| groups.contains(group))
}

/// Whether someone moderates an event's group.
fn moderates(user: &Identity, event: &Event) -> bool {
    is_of(&user.moderates, event)
}

fn close(code: u16, text: &'static str, reason: CloseReason) -> Output {
    Output::Close(Farewell { message: None, code, text: text.into() }, reason)
}

/// The text with `NaN`, `Infinity` and `-Infinity`, outside of strings, replaced by `null`: Python writes
/// them, and a message is not lost for one.
fn without_nan(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    if !WORDS.iter().any(|word| text.contains(word)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut in_string) = (text, false);
    while let Some(c) = rest.chars().next() {
        let word = WORDS.iter().find(|word| !in_string && rest.starts_with(**word));
        if let Some(word) = word {
            out.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        let escaped = in_string && c == '\\';
        let length = if escaped {
            rest.chars().take(2).map(char::len_utf8).sum()
        } else {
            in_string ^= c == '"';
            c.len_utf8()
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    Cow::Owned(out)
}

impl Session for HypothesisSession {
    fn held_bytes(&self) -> usize {
        // A tag stands in the filter and, if nobody else looks for it, in the index of each channel.
        const TAG_BYTES: usize = 2 * size_of::<Tag>() + 96;
        let tags = self.wanted.as_deref().unwrap_or_default();
        let wanted = self.wanted_bytes as usize + tags.len() * TAG_BYTES;
        wanted + self.waiting.as_ref().map_or(0, |it| it.bytes)
    }

    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        match input {
            Input::Opened => self.opened(out),
            Input::Text(text) => {
                self.heard = now.steady;
                self.text(text, now, out);
            }
            Input::Binary(bytes) => {
                self.heard = now.steady;
                match std::str::from_utf8(bytes) {
                    Ok(text) => self.text(text, now, out),
                    Err(_) => {
                        out.push(close(1000, "invalid message format", CloseReason::Session));
                    }
                }
            }
            Input::Pong => self.heard = now.steady,
            Input::Found(_, finding) => self.found(finding, now, out),
            Input::Event(event) => self.event(event, out),
            Input::Timer(KEEP_ALIVE) => self.keep_alive(now, out),
            Input::Reply(_, Reply::Refused(refusal)) => {
                // Without its channels it would wait for nothing: better it comes back.
                if refusal != crate::broker::Refusal::Cancelled {
                    out.push(close(1013, "try again later", CloseReason::Overload));
                }
            }
            // The channel of the user's own groups is nobody's to wait for.
            Input::Reply(_, Reply::Subscribed(it)) if !it.channel.name.starts_with(USER_PREFIX) => {
                self.answered(now, out);
            }
            Input::Reply(..)
            | Input::Timer(_)
            | Input::Body(_)
            | Input::Asked
            | Input::Call(..)
            | Input::Closed => {}
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
