//! What a connection has in version 2 only.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::capabilities::Capabilities;
use super::continuity::{Failure, PageAsk, Resume};
use super::delta::Deltas;
use super::filters::Predicate;
use super::formats::Format;
use super::pace::Pace;
use super::presence::Updates;
use super::tokens::Tokens;
use super::{frames, lanes};
use crate::base::event_id::EventId;
use crate::base::ids::ConnectionId;
use crate::base::name::Name;
use crate::base::time::Now;
use crate::broker::Position;
use crate::wire::http::query::{self, Plus};

/// The part of a connection that only version 2 has.
pub(super) struct Two {
    /// The peer hears its own events.
    pub echoes: bool,
    /// What its frames are written in.
    pub format: Format,
    /// Appends show it all of the data, not what was added.
    pub shows_all: bool,
    /// What the next of the server's own frames is called; nobody else's is ever called the same.
    name_next: u128,
    /// Where subscriptions that have not come yet begin.
    pub positions: BTreeMap<Name, Position>,
    /// How fast the past is sent.
    pub pace: Pace,
    pub resume: Option<Box<Resume>>,
    pub pages: Vec<PageAsk>,
    /// What whoever signed in may do, where the app said so.
    pub signed_in: Option<Box<Capabilities>>,
    /// Its capability tokens; none: it never brought one.
    pub tokens: Option<Box<Tokens>>,
    /// How fast its members may be updated.
    pub updates: Updates,
    /// What subscriptions take, of those that do not take everything.
    pub predicates: BTreeMap<Name, Arc<Predicate>>,
    /// Bytes of all of them: looked at with each message, however many there are.
    pub predicates_bytes: usize,
    /// What it takes as changes, if it asked for that.
    pub deltas: Option<Box<Deltas>>,
}

impl Two {
    /// Reads the parameters of version 2, or says which is wrong.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        let (mut echoes, mut shows_all, mut format) = (true, false, Format::Json);
        for (key, value) in query::pairs_raw(text) {
            let value = query::decode_lossy(value, Plus::Literal);
            match (key, &*value) {
                ("format", it) => {
                    format = Format::read(it).ok_or("format is json, messagepack or protobuf")?;
                }
                ("echo_messages", "true") => echoes = true,
                ("echo_messages", "false") => echoes = false,
                ("echo_messages", _) => return Err("echo_messages is true or false"),
                ("append_mode", "delta" | "") => shows_all = false,
                ("append_mode", "full") => shows_all = true,
                ("append_mode", _) => return Err("append_mode is delta or full"),
                ("append_rollup_window", "0" | "20" | "40" | "100" | "500") => {}
                ("append_rollup_window", _) => {
                    return Err("append_rollup_window is 0, 20, 40, 100 or 500");
                }
                _ => {}
            }
        }
        Ok(Self {
            echoes,
            format,
            shows_all,
            name_next: 0,
            positions: BTreeMap::new(),
            pace: Pace::default(),
            resume: None,
            pages: Vec::new(),
            signed_in: None,
            tokens: None,
            updates: Updates::default(),
            predicates: BTreeMap::new(),
            predicates_bytes: 0,
            deltas: None,
        })
    }

    /// The lane its peer takes events in, unless a subscription wants more.
    pub fn lane(&self, deflate: bool) -> lanes::Two {
        let &Self { format, shows_all, .. } = self;
        lanes::Two { format, deflate, shows_all, shows_annotations: false }
    }

    /// The names of this connection's frames start here. A client remembers names over its connections and
    /// passes over what it has heard: the time tells this run of the server from the last.
    pub fn open(&mut self, connection: ConnectionId, now: Now) {
        let (first, second) = connection.to_pair();
        self.name_next =
            u128::from(now.wall.0) << 80 | u128::from(first) << 48 | u128::from(second) << 16;
    }

    /// Gives one of the server's own frames its name.
    pub fn name(&mut self, frame: &mut Vec<u8>) {
        let name = EventId(self.name_next);
        self.name_next = self.name_next.wrapping_add(1);
        frames::extend(frame, |out| {
            frames::append(out, format_args!(",\"message_id\":\"{name}\""));
        });
    }

    /// Memory it holds for its peer.
    pub fn held_bytes(&self) -> usize {
        let per_position = size_of::<(Name, Position)>();
        let of_resume = |it: &Resume| {
            it.recovered.len()
                + (it.waiting.len() + it.failures.len()) * (per_position + size_of::<Failure>())
        };
        // A channel's name is counted as long as most are allowed to be.
        self.positions.len() * (per_position + 64)
            + self.pace.held_bytes()
            + self.resume.as_deref().map_or(0, of_resume)
            + self.pages.len() * size_of::<PageAsk>()
            + self.signed_in.as_deref().map_or(0, Capabilities::held_bytes)
            + self.tokens.as_deref().map_or(0, Tokens::held_bytes)
            + self.updates.held_bytes()
            + self.predicates_bytes
            + self.deltas.as_deref().map_or(0, Deltas::held_bytes)
    }

    /// Notes where a channel's subscription is to begin; false if `max` wait already.
    pub fn put(&mut self, channel: &Name, position: Position, max: usize) -> bool {
        let has_room = self.positions.len() < max || self.positions.contains_key(channel);
        if has_room {
            self.positions.insert(channel.clone(), position);
        }
        has_room
    }

    /// Takes the position that waits for a channel's subscribe.
    pub fn take(&mut self, channel: &str) -> Option<Position> {
        self.positions.remove(channel)
    }

    /// The peer does not want this channel.
    pub fn forget(&mut self, channel: &str) {
        self.take(channel);
    }
}
