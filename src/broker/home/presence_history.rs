//! The history of who came to a channel, changed and left: events of a channel that goes with it
//! ([`companion::presence_history`]), kept as the channel's own are.
//!
//! Nobody waits for them to be kept. What the store does not take waits here, in order, and is tried again: whoever
//! reads the history finds nobody present who has left.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::durable::Durable;
use super::presence::Change;
use super::{Asker, Home};
use crate::base::ids::{ConnectionId, ShardId, Ticket};
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Nanos, Now};
use crate::broker::{
    Command, Down, Member, Meta, Payload, Publish, Refusal, Render, Reply, companion,
};
use crate::wire::json;

/// Events that wait because the store did not take them, at most; a further one is lost, and counted.
const WAITING_MAX: usize = 16_384;

/// How soon they are tried again.
const RETRY: Millis = Millis(1_000);

/// A change of a channel's members that is to be kept.
#[derive(Debug)]
pub(super) struct Record {
    pub channel: Channel,
    pub change: Change,
    pub member: Arc<Member>,
    /// Whose connection made it.
    pub by: Option<ConnectionId>,
}

/// Events that the store did not take.
#[derive(Debug, Default)]
pub(super) struct Untaken {
    events: VecDeque<Box<Publish>>,
    /// Of these channels: what comes to them since waits behind.
    channels: HashSet<Channel>,
    /// Not to be tried before.
    from: Nanos,
}

impl Untaken {
    fn push(&mut self, publish: Box<Publish>) -> bool {
        let has_room = self.events.len() < WAITING_MAX;
        if has_room {
            self.channels.insert(publish.channel.clone());
            self.events.push_back(publish);
        }
        has_room
    }

    /// When they are to be tried.
    pub fn due(&self) -> Option<Nanos> {
        (!self.events.is_empty()).then_some(self.from)
    }
}

/// Whether a publish is one of these events, which nobody else makes.
fn is_of_presence(publish: &Publish) -> bool {
    publish.quiet && companion::of_presence_history(&publish.channel.name).is_some()
}

impl Home {
    /// Keeps changes of members.
    pub(super) fn keep_presence(
        &mut self,
        records: impl IntoIterator<Item = Record>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        for record in records {
            let publish = self.presence_event(&record, now);
            self.keep_event(Box::new(publish), now, render, out);
        }
    }

    fn keep_event(
        &mut self,
        publish: Box<Publish>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        if self.untaken.channels.contains(&publish.channel) {
            return self.keep_later(publish);
        }
        let nobody = ConnectionId { shard: ShardId(0), slot: 0, generation: 0 };
        let asker = Asker { shard: nobody.shard, to: nobody, ticket: Ticket(0) };
        self.ask(asker, Command::Publish(publish), now, render, out);
    }

    /// Lets who reads the history of presence wait for what is on its way to disk. Of other histories, who published
    /// has been told when it is there; here nobody is.
    pub(super) fn behind_presence(
        &mut self,
        number: u32,
        asker: Asker,
        command: Command,
    ) -> Option<Command> {
        let is_read = match &command {
            Command::History(channel, _) | Command::Stream(channel) => {
                companion::of_presence_history(&channel.name).is_some()
            }
            _ => false,
        };
        match self.durable(number) {
            Some(durable) if is_read => durable.await_flight(asker, command),
            _ => Some(command),
        }
    }

    /// Answers those who waited for what is on disk now.
    pub(super) fn let_readers(&mut self, number: u32, now: Now, out: &mut Vec<(ShardId, Down)>) {
        while let Some((asker, command)) = self.durable(number).and_then(Durable::take_reader) {
            match (command, self.stream(number, now)) {
                (Command::History(channel, query), _) => {
                    self.page(asker, &channel, *query, now, out);
                }
                (_, Some(stream)) => asker.answer(Reply::Stream(stream), out),
                (_, None) => asker.answer(Reply::Refused(Refusal::NotKept), out),
            }
        }
    }

    /// The same publish, to be tried again if it is refused; none: it is none of these.
    pub(super) fn again(publish: &Publish) -> Option<Box<Publish>> {
        is_of_presence(publish).then(|| Box::new(publish.clone()))
    }

    /// An event was refused: it waits.
    pub(super) fn keep_later(&mut self, publish: Box<Publish>) {
        if !self.untaken.push(publish) {
            self.counts.presence_lost += 1;
        }
    }

    /// Tries what waits, if it is time.
    pub(super) fn retry_presence(
        &mut self,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        if self.untaken.due().is_none_or(|due| due > now.steady) {
            return;
        }
        let from = now.steady + RETRY;
        let untaken = std::mem::replace(&mut self.untaken, Untaken { from, ..Untaken::default() });
        for publish in untaken.events {
            self.keep_event(publish, now, render, out);
        }
    }

    fn presence_event(&self, record: &Record, now: Now) -> Publish {
        let Record { channel, change, member, by } = record;
        let (event, cause) = change.words();
        let mut data =
            format!("{{\"event\":\"{event}\",\"cause\":\"{cause}\",\"user_id\":").into_bytes();
        json::write_str(&mut data, &member.user_id);
        let by = by.map(|it| it.to_string());
        data.extend_from_slice(b",\"connection_id\":");
        match &by {
            Some(by) => json::write_str(&mut data, by),
            None => data.extend_from_slice(b"null"),
        }
        data.extend_from_slice(b",\"user_info\":");
        match &member.info {
            // Who is gone is not described once more.
            Some(info) if !matches!(change, Change::Removed(_)) => data.extend_from_slice(&info.0),
            _ => data.extend_from_slice(b"null"),
        }
        data.extend_from_slice(b",\"dead_node_id\":null,\"dedupe_key\":");
        let key = format!(
            "{event}:{}:{}:{}:{}",
            channel.name,
            member.user_id,
            by.as_deref().unwrap_or("_"),
            now.wall.0
        );
        json::write_str(&mut data, &key);
        data.extend_from_slice(format!(",\"published_at_ms\":{}}}", now.wall.0).as_bytes());
        let name = companion::presence_history(&channel.name);
        let channel = Channel { app: channel.app, name };
        let publisher = Some(Payload(Bytes::from(self.run_text())));
        Publish {
            quiet: true,
            meta: Some(Arc::new(Meta { publisher, ..Meta::default() })),
            ..Publish::new(channel, Name::from(event), Payload(data.into()), now.steady)
        }
    }

    /// Names this run of the process, as a JSON string: whoever was present in an earlier one is not any more.
    fn run_text(&self) -> String {
        format!("\"{:016x}\"", self.keeping.seed)
    }
}

#[cfg(test)]
#[path = "presence_history_tests.rs"]
mod tests;
