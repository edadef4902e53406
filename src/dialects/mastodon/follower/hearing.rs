//! What comes on channels: to be published at once, to be judged first, or an order of the system.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::counts::count;
use super::line::{FILTERS_WAIT_MAX, Place, RELATIONS_WAIT_MAX, Waiting};
use super::queries;
use super::relations::{Known, People};
use super::{Purpose, Relay};
use crate::base::name::{Channel, Name};
use crate::base::time::{Nanos, Now};
use crate::broker::{self, Meta, Payload, Publish};
use crate::dialects::mastodon::envelope::Envelope;
use crate::dialects::mastodon::judge::{self, Status};
use crate::dialects::mastodon::names;
use crate::dialects::upstream::FollowerOutput;
use crate::wire::json::{self, Kind};

/// Longer messages are skipped: no status of Mastodon's is a tenth of that.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// A status on a judged channel, as far as it was read.
enum Read {
    /// This is who decides about it.
    Status(People),
    /// It is no status, or none that is judged.
    Other,
    /// It should be one.
    Broken,
}

impl Relay {
    /// Something was published on a channel, by upstream's name.
    pub(super) fn message(
        &mut self,
        channel: &str,
        message: &[u8],
        now: Now,
        out: &mut Vec<FollowerOutput>,
    ) {
        // Nobody follows it any more: what was on its way.
        if !self.channels.is_held(channel) {
            return;
        }
        let envelope = match Envelope::read(message) {
            Ok(envelope) if message.len() <= MESSAGE_BYTES_MAX => envelope,
            _ => return count(&self.counts.malformed),
        };
        if let Some(account) = channel.strip_prefix(names::SYSTEM) {
            return self.system(account, &envelope, now, out);
        }
        if let Some(token) = channel.strip_prefix(names::ACCESS_TOKEN) {
            if let Some(token) = queries::number(token).filter(|_| &*envelope.event == "kill") {
                self.kill_token(token, now, out);
            }
            return;
        }
        if !names::is_judged(channel) {
            let publish = envelope.publish(self.plan.app, channel, None, now.steady);
            if let Some(publish) = publish.or_else(|| self.bare(channel, &envelope, now.steady)) {
                out.push(FollowerOutput::Publish(Box::new(publish)));
            }
            return;
        }
        match read(&envelope) {
            Read::Broken => count(&self.counts.malformed),
            Read::Other if !self.line.has_room_for_others(message.len()) => {
                count(&self.counts.overflowed);
            }
            Read::Status(_) if !self.line.has_room(message.len()) => {
                count(&self.counts.overflowed);
            }
            Read::Other => {
                let publish = envelope.publish(self.plan.app, channel, None, now.steady);
                if let Some(publish) = publish {
                    self.line.push(Place::Ready(Box::new(publish)));
                }
            }
            Read::Status(people) => self.status(channel, &envelope, people, now, out),
        }
    }

    /// Someone here publishes on a channel: of upstream's, as if it came from there, or one of other protocols' as well.
    pub(super) fn submitted(
        &mut self,
        channel: &Name,
        message: &[u8],
        now: Now,
        out: &mut Vec<FollowerOutput>,
    ) {
        if channel.starts_with(names::UPSTREAM) {
            return self.message(channel, message, now, out);
        }
        let Ok(envelope) = Envelope::read(message) else { return count(&self.counts.malformed) };
        if let Some(mut publish) = envelope.publish(self.plan.app, channel, None, now.steady) {
            publish.channel.name = channel.clone();
            out.push(FollowerOutput::Publish(Box::new(publish)));
        }
    }

    /// `filters_changed` on a home timeline has no payload, and is an event only where the settings want that.
    fn bare(&self, channel: &str, envelope: &Envelope<'_>, arrived: Nanos) -> Option<Publish> {
        let is_wanted = self.plan.sends_filters_changed && &*envelope.event == FILTERS_CHANGED;
        let data = Payload(Bytes::from_static(b"null"));
        is_wanted.then(|| self.quiet(channel, envelope.event.clone(), data, arrived))
    }

    fn quiet(&self, channel: &str, event: Name, data: Payload, arrived: Nanos) -> Publish {
        let channel = Channel { app: self.plan.app, name: names::own(channel) };
        let mut publish = Publish::new(channel, event, data, arrived);
        publish.quiet = true;
        publish
    }

    /// An order of the system to an account.
    fn system(
        &mut self,
        account: &str,
        envelope: &Envelope<'_>,
        now: Now,
        out: &mut Vec<FollowerOutput>,
    ) {
        match &*envelope.event {
            "kill" => {
                // Who publishes here may name one of the account's tokens.
                let one = envelope.payload.map(|it| Bytes::copy_from_slice(it.text().as_bytes()));
                let data = Payload(one.unwrap_or(Bytes::from_static(b"null")));
                let channel = names::system(account);
                let publish = self.quiet(&channel, envelope.event.clone(), data, now.steady);
                out.push(FollowerOutput::Publish(Box::new(publish)));
                // One token that is named is the sessions' affair: they know what it is called.
                if let (None, Some(account)) = (envelope.payload, queries::number(account)) {
                    self.condemn(|_, it| it == account, now);
                }
            }
            FILTERS_CHANGED => {
                if let Some(account) = queries::number(account) {
                    self.viewers.filters_changed(account);
                }
            }
            _ => {}
        }
    }

    /// A token is not good any more: its account's connections are told, and those with that token end. It is looked at
    /// again until none is left.
    pub(super) fn kill_token(&mut self, token: i64, now: Now, out: &mut Vec<FollowerOutput>) {
        let Some(held) = self.tokens.get(&token) else { return };
        let channel = names::system(&held.account.to_string());
        let data = Payload(Bytes::from(format!("\"{token}\"")));
        let publish = self.quiet(&channel, "kill".into(), data, now.steady);
        out.push(FollowerOutput::Publish(Box::new(publish)));
        self.condemn(|it, _| it == token, now);
        self.newcomers.come(token, now.steady);
    }

    /// A status waits to be judged.
    fn status(
        &mut self,
        channel: &str,
        envelope: &Envelope<'_>,
        people: People,
        now: Now,
        out: &mut Vec<FollowerOutput>,
    ) {
        let number = self.viewers.next_number();
        let (queries, last) = (&mut self.queries, &mut self.query_last);
        let ask = |statement| {
            *last += 1;
            queries.insert(*last, Purpose::Relations);
            out.push(FollowerOutput::Query(*last, statement));
            *last
        };
        let lookups = self.relations.look_up(people, number, &self.viewers, now.steady, ask);
        self.line.push(Place::Status(Box::new(Waiting {
            number,
            channel: self.channels.shared(channel),
            event: envelope.event.clone(),
            payload: envelope
                .payload
                .map(|it| Bytes::copy_from_slice(it.text().as_bytes()))
                .unwrap_or_default(),
            lookups,
            arrived: now.steady,
        })));
    }

    /// Whoever is first in the line leaves it, as long as it can.
    pub(super) fn move_line(&mut self, now: Now, out: &mut Vec<FollowerOutput>) {
        while let Some(first) = self.line.first() {
            if let Place::Status(status) = first
                && self.must_wait(status, now.steady)
            {
                break;
            }
            match self.line.pop() {
                None => break,
                Some(Place::Ready(publish)) => out.push(FollowerOutput::Publish(publish)),
                Some(Place::Status(status)) => {
                    match self.judge(&status, now) {
                        Some(publish) => out.push(FollowerOutput::Publish(Box::new(publish))),
                        None => count(&self.counts.unjudged),
                    }
                    self.relations.release(&status.lookups);
                }
            }
        }
    }

    /// Whether a status cannot be judged yet, and may still wait.
    fn must_wait(&self, status: &Waiting, now: Nanos) -> bool {
        match self.relations.known(&status.lookups) {
            Known::Failed => false,
            Known::Waits => now < status.arrived + RELATIONS_WAIT_MAX,
            Known::All => {
                now < status.arrived + FILTERS_WAIT_MAX
                    && self.viewers.unknown(status.number).next().is_some()
            }
        }
    }

    /// When the first in the line does not wait any more.
    pub(super) fn line_due(&self) -> Option<Nanos> {
        let Place::Status(status) = self.line.first()? else { return None };
        let wait = match self.relations.known(&status.lookups) {
            Known::Waits => RELATIONS_WAIT_MAX,
            Known::Failed | Known::All => FILTERS_WAIT_MAX,
        };
        Some(status.arrived + wait)
    }

    /// Judges a status for everyone; none: it is not known who may have it.
    fn judge(&mut self, status: &Waiting, now: Now) -> Option<Publish> {
        if self.relations.known(&status.lookups) != Known::All {
            return None;
        }
        let changes = self.viewers.changes;
        let brief = match self.judged.find(status, changes, now.steady) {
            Some(brief) => brief,
            None => {
                // Read when it came, and taken for a status.
                let read = Status::read(json::parse(&status.payload).ok()?)?;
                let unknown: Vec<_> = self.viewers.unknown(status.number).collect();
                self.counts.withheld.fetch_add(unknown.len() as u64, Ordering::Relaxed);
                let is_whole = unknown.is_empty();
                let hidden = self.relations.hidden_from(&status.lookups).chain(unknown);
                let hidden: HashSet<Name> = self.viewers.names(hidden).collect();
                let keywords = &self.viewers.keywords;
                let brief = judge::judge(&read, status.number, hidden, keywords, now.wall);
                let brief = Arc::new(brief);
                if is_whole {
                    self.judged.keep(status, changes, brief.clone(), now.steady);
                }
                brief
            }
        };
        count(&self.counts.judged);
        let data = Payload(status.payload.clone());
        let mut publish = self.quiet(&status.channel, status.event.clone(), data, status.arrived);
        let brief = broker::Brief::new(brief);
        publish.meta = Some(Arc::new(Meta { brief, ..Meta::default() }));
        Some(publish)
    }
}

const FILTERS_CHANGED: &str = "filters_changed";

/// Reads what came on a judged channel.
fn read(envelope: &Envelope<'_>) -> Read {
    let Some(payload) = envelope.payload.filter(|_| envelope.is_status()) else {
        return Read::Other;
    };
    // What cannot be judged is nobody's, in whatever shape it comes.
    let status = Some(payload).filter(|it| it.kind() == Kind::Object).and_then(Status::read);
    let Some(status) = status else { return Read::Broken };
    let Some(author) = queries::number_said(&status.author) else { return Read::Broken };
    let mentions = status.mentions.iter().filter_map(|it| queries::number_said(it));
    let mut all: Vec<_> = mentions.chain([author]).collect();
    all.sort_unstable();
    all.dedup();
    Read::Status(People { author, all: all.into(), domain: status.domain })
}
