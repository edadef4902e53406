//! Messages of a channel that became something else than they were published as, in memory.
//!
//! All versions that the channel's window holds are known here. A message is kept as long as the window holds something
//! that became of it; where its channel is on disk some others stay for a while, so that what is changed often need not
//! be read. A message that is not here and was published within the window is as it was published: what became of it
//! came later, and would be in the window too.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::base::event_id::EventId;
use crate::broker::Event;
use crate::broker::history::weight;
use crate::broker::mutation::message_of;
use crate::broker::versioned::MessageRef;
use crate::store::Clock;

/// Messages of one channel beside those in its window that stay in memory, at most; few in tests, so that the model
/// reads from disk.
const SPARE_MAX: usize = if cfg!(test) { 2 } else { 1_024 };
/// And bytes of them, about.
const SPARE_BYTES_MAX: u64 = 4 << 20;

/// The messages of one channel of which something became.
#[derive(Debug)]
pub(super) struct Messages {
    /// By the place where each was published.
    by_serial: BTreeMap<u64, Message>,
    /// What became of them, in the window: its place, and that where the message was published.
    places: BTreeMap<u64, u64>,
    /// Those of which the window holds nothing, in the order in which they may be forgotten.
    spare: BTreeMap<u64, u64>,
    spare_next: u64,
    bytes: u64,
    /// There is nothing on disk: what the window does not hold is forgotten, and versions are kept here.
    is_all: bool,
}

#[derive(Debug)]
struct Message {
    id: EventId,
    /// As it was told last.
    latest: Arc<Event>,
    /// As it will be when what is on its way is on disk.
    ordered: Option<Arc<Event>>,
    /// Its first version, and the others that the window holds; empty where they are on disk.
    versions: VecDeque<Arc<Event>>,
    /// How much became of it that the window holds.
    places: u32,
    /// Its turn to be forgotten.
    spare: Option<u64>,
    expires: Clock,
}

impl Message {
    fn weight(&self) -> u64 {
        weight(&self.latest) + self.versions.front().map_or(0, |it| weight(it))
    }
}

impl Messages {
    /// None, of a channel that keeps all it has in memory, or not.
    pub fn new(is_all: bool) -> Self {
        Self {
            by_serial: BTreeMap::new(),
            places: BTreeMap::new(),
            spare: BTreeMap::new(),
            spare_next: 0,
            bytes: 0,
            is_all,
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.by_serial.is_empty()
    }

    fn find(&self, message: MessageRef, clock: Clock) -> Option<&Message> {
        let found = self.by_serial.get(&message.serial.0)?;
        (found.id == message.id && found.expires > clock).then_some(found)
    }

    /// A message as it will be when all that is on its way is on disk.
    pub fn ordered(&self, message: MessageRef, clock: Clock) -> Option<&Arc<Event>> {
        let found = self.find(message, clock)?;
        Some(found.ordered.as_ref().unwrap_or(&found.latest))
    }

    /// A message as it was told last.
    pub fn latest(&self, message: MessageRef, clock: Clock) -> Option<&Arc<Event>> {
        Some(&self.find(message, clock)?.latest)
    }

    /// The message that was published in a place, as it was told last.
    pub fn latest_at(&self, serial: u64) -> Option<&Arc<Event>> {
        Some(&self.by_serial.get(&serial)?.latest)
    }

    /// A message's versions, oldest first, where there is nothing on disk.
    pub fn versions(&self, message: MessageRef) -> Option<&VecDeque<Arc<Event>>> {
        Some(&self.by_serial.get(&message.serial.0)?.versions)
    }

    /// Takes what is known of a message, if nothing was known.
    pub fn learn(&mut self, latest: &Arc<Event>, expires: Clock) {
        let Some(message) = message_of(latest) else { return };
        if self.by_serial.contains_key(&message.serial.0) {
            return;
        }
        let versions = if self.is_all { VecDeque::from([latest.clone()]) } else { VecDeque::new() };
        let known = Message {
            id: message.id,
            latest: latest.clone(),
            ordered: None,
            versions,
            places: 0,
            spare: None,
            expires,
        };
        self.bytes += known.weight();
        self.by_serial.insert(message.serial.0, known);
        self.spare(message.serial.0);
    }

    /// A version of a message that is known is on its way.
    pub fn order(&mut self, version: &Arc<Event>, expires: Clock) {
        let Some(message) = message_of(version) else { return };
        if let Some(known) = self.by_serial.get_mut(&message.serial.0) {
            known.ordered = Some(version.clone());
            known.expires = expires;
            if let Some(turn) = known.spare.take() {
                self.spare.remove(&turn);
            }
        }
    }

    /// A version was told and is in the window.
    pub fn tell(&mut self, version: &Arc<Event>, expires: Clock) {
        let Some(message) = message_of(version) else { return };
        self.learn(version, expires);
        let Some(known) = self.by_serial.get_mut(&message.serial.0) else { return };
        self.bytes -= known.weight();
        known.latest = version.clone();
        known.ordered.take_if(|it| it.serial <= version.serial);
        if self.is_all && known.versions.back().is_none_or(|it| it.serial < version.serial) {
            known.versions.push_back(version.clone());
        }
        known.expires = known.expires.max(expires);
        self.bytes += known.weight();
        self.place(version.serial.0, message, expires);
    }

    /// Something became of a message that is known, and is in the window.
    pub fn place(&mut self, serial: u64, message: MessageRef, expires: Clock) {
        let Some(known) = self.by_serial.get_mut(&message.serial.0) else { return };
        if self.places.insert(serial, message.serial.0).is_none() {
            known.places += 1;
        }
        known.expires = known.expires.max(expires);
        if let Some(turn) = known.spare.take() {
            self.spare.remove(&turn);
        }
    }

    /// A version that was on its way is not known to be on disk: so are those that came after it.
    pub fn give_up(&mut self, version: &Event) {
        let Some(message) = message_of(version) else { return };
        if let Some(known) = self.by_serial.get_mut(&message.serial.0) {
            known.ordered = None;
            if known.places == 0 {
                self.spare(message.serial.0);
            }
        }
    }

    /// The window begins with a serial now: what it held before that is forgotten.
    pub fn prune(&mut self, oldest: u64) {
        while let Some(place) = self.places.first_entry().filter(|it| *it.key() < oldest) {
            let (serial, of) = place.remove_entry();
            let Some(known) = self.by_serial.get_mut(&of) else { continue };
            known.places -= 1;
            // The first version stays as long as the message does.
            if known.versions.get(1).is_some_and(|it| it.serial.0 == serial) {
                known.versions.remove(1);
            }
            if known.places == 0 && known.ordered.is_none() {
                self.spare(of);
            }
        }
        if self.is_all {
            self.forget_spare();
        }
    }

    /// The window holds nothing of a message any more, or not yet.
    fn spare(&mut self, serial: u64) {
        let Some(known) = self.by_serial.get_mut(&serial) else { return };
        if known.spare.is_none() {
            known.spare = Some(self.spare_next);
            self.spare.insert(self.spare_next, serial);
            self.spare_next += 1;
        }
        let is_over = |it: &Self| it.spare.len() > SPARE_MAX || it.bytes > SPARE_BYTES_MAX;
        // What was just learned is about to be used.
        while !self.is_all && self.spare.len() > 1 && is_over(self) && self.forget_first() {}
    }

    /// Another life of the channel has begun, or what was known of it is asked again.
    pub fn forget_all(&mut self) {
        *self = Self::new(self.is_all);
    }

    /// Forgets what the window holds nothing of.
    pub fn forget_spare(&mut self) {
        while self.forget_first() {}
    }

    fn forget_first(&mut self) -> bool {
        let Some((_, serial)) = self.spare.pop_first() else { return false };
        if let Some(gone) = self.by_serial.remove(&serial) {
            self.bytes -= gone.weight();
        }
        true
    }
}
