//! Messages that channels keep under their ids, read for who asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::asking::Pending;
use super::line::found;
use super::{Asker, Home};
use crate::base::event_id::EventId;
use crate::base::ids::ShardId;
use crate::base::name::Channel;
use crate::base::time::UnixMillis;
use crate::broker::shelved::{self, StoredReaction};
use crate::broker::state::{Reaction, Retained, RetainedQuery};
use crate::broker::{Down, Refusal, Reply};
use crate::store::{Answer, Ask, Shelf};

/// Reads for who asks that the store has not answered, at most; a further one is refused.
const READS_MAX: usize = 4096;
/// Reactions that the store is asked for at once; few in tests, so that the model meets a second page.
const REACTIONS_PER_READ: u32 = if cfg!(test) { 2 } else { 2048 };
/// And bytes of them.
const BYTES_PER_READ: u64 = 1 << 20;
/// Reactions that are told with one page, at most; those of its last messages are missing if there are more.
const REACTIONS_MAX: usize = 32_768;

/// Messages that are being read.
#[derive(Debug)]
pub(super) struct RetainedRead {
    asker: Asker,
    channel: Channel,
    prefix: Bytes,
    with_reactions: bool,
    /// None until they are there; then what was said to them is read.
    found: Option<Vec<Retained>>,
    /// By message.
    reactions: BTreeMap<EventId, Vec<Reaction>>,
    reactions_read: usize,
}

/// The last id before all of a time; none if there is none.
fn before_all_of(at: UnixMillis) -> Option<EventId> {
    let first = u128::from(at.0).checked_mul(1 << 80)?;
    first.checked_sub(1).map(EventId)
}

impl Home {
    /// What the keys of everything that a channel keeps begin with, if one more read may be asked for.
    pub(super) fn may_read(&self, channel: &Channel) -> Option<Bytes> {
        if self.reads_open < READS_MAX { self.prefix(channel) } else { None }
    }

    /// Asks the store on behalf of someone who only reads.
    pub(super) fn ask_reading(&mut self, pending: Pending, ask: Ask) {
        self.reads_open += 1;
        self.ask_store(pending, ask);
    }

    /// Reads messages of a channel for who asks.
    pub(super) fn read_retained(
        &mut self,
        asker: Asker,
        channel: Channel,
        query: RetainedQuery,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        // No id has a time that is later than 48 bits can say.
        if query.from_at.0 >> 48 > 0 || query.events_max == 0 {
            return asker.answer(Reply::Retained(Vec::new()), out);
        }
        let Some(prefix) = self.may_read(&channel) else {
            return asker.answer(Reply::Refused(Refusal::StoreBusy), out);
        };
        let after = query.after.max(before_all_of(query.from_at));
        let ask = Ask::Read {
            shelf: Shelf::Messages,
            prefix: prefix.clone(),
            after: after.map(|it| shelved::message_key(&prefix, it)),
            before: query.before.map(|it| shelved::message_key(&prefix, it)),
            is_last_first: query.is_newest_first,
            values_max: query.events_max,
            bytes_max: query.bytes_max,
        };
        let read = RetainedRead {
            asker,
            channel,
            prefix,
            with_reactions: query.with_reactions,
            found: None,
            reactions: BTreeMap::new(),
            reactions_read: 0,
        };
        self.ask_reading(Pending::Retained(Box::new(read)), ask);
    }

    /// Reads one message of a channel for who asks.
    pub(super) fn find_retained(
        &mut self,
        asker: Asker,
        channel: Channel,
        id: EventId,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let query = RetainedQuery {
            after: id.0.checked_sub(1).map(EventId),
            before: id.0.checked_add(1).map(EventId),
            from_at: UnixMillis(0),
            is_newest_first: false,
            events_max: 1,
            bytes_max: u64::MAX,
            with_reactions: true,
        };
        self.read_retained(asker, channel, query, out);
    }

    /// Messages that someone asked for are read, or what was said to them.
    pub(super) fn retained_read(
        &mut self,
        mut read: Box<RetainedRead>,
        answer: Answer,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Answer::Values { values, has_more } = answer else {
            let refusal = found(&answer, &[]).err().unwrap_or(Refusal::StoreBusy);
            return read.asker.answer(Reply::Refused(refusal), out);
        };
        if read.found.is_none() {
            let retained = values.iter().filter_map(|(key, value)| {
                let id = shelved::id_of(&read.prefix, key)?;
                let (event, _) = shelved::decode_message(value, id, &read.channel)?;
                Some(Retained { event: Arc::new(event), reactions: Vec::new() })
            });
            let retained: Vec<_> = retained.collect();
            let is_enough = retained.is_empty() || !read.with_reactions;
            read.found = Some(retained);
            return if is_enough { finish(*read, out) } else { self.read_reactions(read, None) };
        }
        for (key, value) in &values {
            let Some(id) = shelved::id_of(&read.prefix, key) else { continue };
            let rest = key.get(read.prefix.len() + 16..).unwrap_or_default();
            let named = shelved::parse_reaction(rest).zip(StoredReaction::decode(value));
            let Some(((reaction, user_id), stored)) = named else { continue };
            read.reactions.entry(id).or_default().push(stored.told(reaction, user_id));
            read.reactions_read += 1;
        }
        match values.last() {
            Some((last, _)) if has_more && read.reactions_read < REACTIONS_MAX => {
                let last = last.clone();
                self.read_reactions(read, Some(last));
            }
            _ => finish(*read, out),
        }
    }

    /// Reads what was said to the messages from the first to the last of a page, in one go where it fits.
    fn read_reactions(&mut self, read: Box<RetainedRead>, after: Option<Bytes>) {
        let ids = || read.found.iter().flatten().map(|it| it.event.id);
        let (Some(first), Some(last)) = (ids().min(), ids().max()) else { return };
        let end = last.0.checked_add(1).map(EventId);
        let ask = Ask::Read {
            shelf: Shelf::Annotations,
            prefix: read.prefix.clone(),
            // What was said to a message sorts behind its own key.
            after: after.or_else(|| Some(shelved::message_key(&read.prefix, first))),
            before: end.map(|it| shelved::message_key(&read.prefix, it)),
            is_last_first: false,
            values_max: REACTIONS_PER_READ,
            bytes_max: BYTES_PER_READ,
        };
        self.ask_reading(Pending::Retained(read), ask);
    }
}

/// Answers with what was read.
fn finish(mut read: RetainedRead, out: &mut Vec<(ShardId, Down)>) {
    let mut found = read.found.take().unwrap_or_default();
    for retained in &mut found {
        let mut reactions = read.reactions.remove(&retained.event.id).unwrap_or_default();
        reactions.sort_by_key(|it| it.at);
        retained.reactions = reactions;
    }
    read.asker.answer(Reply::Retained(found), out);
}
