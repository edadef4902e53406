//! What users say to messages that are kept.

use bytes::Bytes;

use super::durable::refusal_of;
use super::line::{Check, Op, Place, Write, Written, exactly, found};
use super::state::Origin;
use super::{Asker, Home};
use crate::base::event_id::EventId;
use crate::base::ids::{Serial, ShardId};
use crate::base::time::{Now, UnixMillis};
use crate::broker::shelved::{self, StoredReaction};
use crate::broker::state::React;
use crate::broker::{Down, Event, Happening, Meta, Payload, Refusal, Render, Reply, Tags};
use crate::store::{Answer, Ask, Change, Clock, Fault, Shelf};

/// Something to be said to a message or taken back, in its channel's line.
#[derive(Debug)]
pub(super) struct Reacting {
    react: React,
    asker: Asker,
    /// Of the event that tells of it.
    id: EventId,
    at: UnixMillis,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Nothing was done yet.
    New,
    /// The message it is for, or what is to be taken back, is being read.
    Reads,
    Writes(Write),
    /// It is written, and waits for what is on its way in the channel's history.
    Done,
}

impl Home {
    /// Says something to a message that is kept, or takes it back, in its channel's line.
    pub(super) fn react(
        &mut self,
        asker: Asker,
        react: React,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let info = react.by.info.as_ref().map_or(0, |it| it.0.len());
        let bytes = react.reaction.len() + info + react.event.1.0.len();
        let origin = Origin::of(asker, false);
        let Some(number) = self.enter_line(&origin, &react.channel, bytes, now, out) else {
            return;
        };
        // In the order of the line, as everything else has its id.
        let id = self.next_id_of(number, now);
        let reacting = Reacting { react, asker, id, at: now.wall, stage: Stage::New };
        self.line_up(number, Op::React(Box::new(reacting)), bytes, None, now, render, out);
    }

    /// Goes on with a reaction that is the first in line.
    pub(super) fn carry_reaction(
        &mut self,
        place: &Place,
        mut it: Box<Reacting>,
        answer: Option<Answer>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Option<Op> {
        let React { channel, message, reaction, by, is_added, .. } = &it.react;
        let prefix = self.prefix(channel)?;
        let message_key = shelved::message_key(&prefix, *message);
        let key = shelved::reaction_key(&message_key, reaction, &by.user_id);
        let (shelf, target) = match is_added {
            true => (Shelf::Messages, message_key),
            false => (Shelf::Annotations, key.clone()),
        };
        match (std::mem::replace(&mut it.stage, Stage::Reads), answer) {
            (Stage::New, _) => {
                self.ask_in_line(place, exactly(shelf, target));
                Some(Op::React(it))
            }
            (Stage::Reads, None) => Some(Op::React(it)),
            (Stage::Reads, Some(answer)) => match found(&answer, &target) {
                Ok(Some(stored)) => self.write_reaction(place, it, key, stored, now, render, out),
                Ok(None) => {
                    let gone = Reply::Refused(Refusal::NotFound);
                    it.asker.answer(if *is_added { gone } else { Reply::Done }, out);
                    None
                }
                Err(refusal) => {
                    it.asker.answer(Reply::Refused(refusal), out);
                    None
                }
            },
            (Stage::Done, _) => self.conclude_reaction(place, it, now, render, out),
            (Stage::Writes(write), answer) => match self.written(place, write, answer) {
                Written::Open(write) => {
                    it.stage = Stage::Writes(write);
                    Some(Op::React(it))
                }
                Written::Done => self.conclude_reaction(place, it, now, render, out),
                // It was so already.
                Written::Not(Fault::Exists | Fault::Missing) => {
                    it.asker.answer(Reply::Done, out);
                    None
                }
                Written::Not(fault) => {
                    it.asker.answer(Reply::Refused(refusal_of(&fault)), out);
                    None
                }
            },
        }
    }

    /// It is on disk: subscribers are told, after what came before it.
    fn conclude_reaction(
        &mut self,
        place: &Place,
        mut it: Box<Reacting>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Option<Op> {
        if !self.is_clear(place.number) {
            it.stage = Stage::Done;
            return Some(Op::React(it));
        }
        let event = told(&it, None, now);
        self.deliver_if_heard(place.number, &event, it.react.exclude, render, out);
        it.asker.answer(Reply::Done, out);
        None
    }

    /// The message is there, or what is to be taken back.
    #[expect(clippy::too_many_arguments, reason = "one reaction, what it is for, and the world")]
    fn write_reaction(
        &mut self,
        place: &Place,
        mut it: Box<Reacting>,
        key: Bytes,
        stored: &Bytes,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Option<Op> {
        let React { channel, message, by, is_added, report, .. } = &it.react;
        let reaction = match is_added {
            true => shelved::decode_message(stored, *message, channel).map(|(_, expires)| {
                StoredReaction { info: by.info.clone(), at: it.at, about: report.clone(), expires }
            }),
            false => StoredReaction::decode(stored),
        };
        let Some(reaction) = reaction else {
            it.asker.answer(Reply::Refused(Refusal::StoreUnreadable), out);
            return None;
        };
        let expires = reaction.expires;
        let (change, expected) = match is_added {
            true => {
                let value = reaction.encode();
                (Change::PutNew { key: key.clone(), value: value.clone(), expires }, Some(value))
            }
            false => (Change::RemoveKept { key: key.clone() }, None),
        };
        let mut changes = vec![(Shelf::Annotations, change)];
        if let Some(about) = &reaction.about {
            let event = told(&it, Some((reaction.at, expires)), now);
            changes.extend(self.shelve_report(&event, about, render));
        }
        self.ask_in_line(place, Ask::Change { changes });
        let check = Check { shelf: Shelf::Annotations, key, expected };
        it.stage = Stage::Writes(Write::Asked(Some(check)));
        Some(Op::React(it))
    }
}

/// What subscribers are told of it; the world outside is told, too, when it was said and until when it is kept, in
/// milliseconds: as `{"at":1,"expires":2}`, or `null`, in the event's extras.
fn told(it: &Reacting, kept: Option<(UnixMillis, Clock)>, now: Now) -> Event {
    let (name, data) = it.react.event.clone();
    let extras = kept.map(|(at, expires)| {
        let expires = shelved::told(expires).map_or("null".into(), |it| it.0.to_string());
        Payload(Bytes::from(format!("{{\"at\":{},\"expires\":{expires}}}", at.0)))
    });
    let meta = Meta { publisher: it.react.publisher.clone(), extras, ..Meta::default() };
    Event {
        channel: it.react.channel.clone(),
        serial: Serial(0),
        epoch: None,
        id: it.id,
        at: it.at,
        arrived: now.steady,
        tags: Tags::default(),
        meta: (meta != Meta::default()).then(|| meta.into()),
        guarded: false,
        happening: Happening::Message { name, data, sender: None },
    }
}
