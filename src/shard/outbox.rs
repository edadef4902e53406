//! Frames queued for each connection, counted in bytes, and the list of connections that have some.
//!
//! Kept apart from the connections themselves, so that fan-out touches one small dense table. An
//! outbox above its high-water mark is reported once, as slow; what happens then is decided by
//! the shard. A frame counts as its bytes and [`FRAME_OVERHEAD_BYTES`], or a peer that takes nothing
//! but asks for tiny frames would hold sixty times what is counted.

use std::collections::VecDeque;

use crate::base::frame::Frame;
use crate::base::time::Nanos;
use crate::reactor::{Driver, SocketId};

/// One connection's queue.
#[derive(Default)]
struct Outbox {
    queue: VecDeque<Frame>,
    /// Bytes queued and in flight, overhead included.
    bytes: usize,
    /// Frames in flight.
    flying: u32,
    /// Which use of the socket's slot this is; sends name it.
    generation: u32,
    /// When anything was last sent or received, in seconds of the steady clock.
    active_s: u32,
    open: bool,
    sending: bool,
    dirty: bool,
    slow: bool,
}

/// The outboxes of one shard, indexed by socket slot.
pub struct Outboxes {
    table: Vec<Outbox>,
    dirty: Vec<u32>,
    slow: Vec<u32>,
    bytes: usize,
    bytes_peak: usize,
    bytes_high_water: usize,
}

/// What a frame of its own takes beside its bytes: its place in a queue, its count and the allocator's
/// rounding. Measured with a flood of pings, each answered by two bytes: 63.
pub const FRAME_OVERHEAD_BYTES: usize = 64;

/// A queue keeps room for this many frames when it runs empty; more is given back, so that an
/// idle connection holds next to nothing after a burst.
const QUEUE_KEPT_FRAMES: usize = 64;

const SECOND: u64 = 1_000_000_000;

fn seconds(now: Nanos) -> u32 {
    (now.0 / SECOND) as u32
}

impl Outboxes {
    /// `bytes_high_water`: an outbox above it that gets another frame belongs to a slow consumer.
    pub fn new(bytes_high_water: usize) -> Self {
        Self {
            table: Vec::new(),
            dirty: Vec::new(),
            slow: Vec::new(),
            bytes: 0,
            bytes_peak: 0,
            bytes_high_water,
        }
    }

    /// Starts an empty outbox for a new socket.
    pub fn open(&mut self, socket: SocketId) {
        let slot = socket.slot as usize;
        if self.table.len() <= slot {
            self.table.resize_with(slot + 1, Outbox::default);
        }
        let outbox = &mut self.table[slot];
        assert!(!outbox.open, "socket slot {slot} was opened twice");
        outbox.generation = socket.generation;
        outbox.open = true;
    }

    /// Forgets a socket's queue.
    pub fn close(&mut self, slot: u32) {
        let outbox = &mut self.table[slot as usize];
        self.bytes -= outbox.bytes;
        // The slot may still stand in the dirty list; the flag stays so that it is not listed twice.
        *outbox = Outbox { dirty: outbox.dirty, ..Outbox::default() };
    }

    /// Queues a frame for one connection.
    pub fn push(&mut self, slot: u32, frame: Frame) {
        let outbox = &mut self.table[slot as usize];
        if !outbox.open {
            return;
        }
        let length = frame.len() + FRAME_OVERHEAD_BYTES;
        // What is behind counts, not the newest: an answer that is above the mark by itself can be had.
        let is_behind = outbox.bytes > self.bytes_high_water;
        outbox.queue.push_back(frame);
        outbox.bytes += length;
        self.bytes += length;
        if !outbox.dirty {
            outbox.dirty = true;
            self.dirty.push(slot);
        }
        self.bytes_peak = self.bytes_peak.max(outbox.bytes);
        if is_behind && !outbox.slow {
            outbox.slow = true;
            self.slow.push(slot);
        }
    }

    /// What is queued or in flight for one connection, in bytes.
    pub fn bytes_of(&self, slot: u32) -> usize {
        self.table.get(slot as usize).map_or(0, |outbox| outbox.bytes)
    }

    /// Queues the same frame for many connections: one plain increment and one push for each.
    /// Returns how many.
    pub fn push_all(&mut self, frame: &Frame, slots: impl Iterator<Item = u32>) -> u64 {
        let mut count = 0;
        for slot in slots {
            self.push(slot, frame.clone());
            count += 1;
        }
        count
    }

    /// Hands every dirty outbox that has no send in flight to the driver: one gathered send each.
    /// Returns how many sends that were, and how many of them gathered several frames.
    pub fn flush(&mut self, now: Nanos, driver: &mut dyn Driver) -> (u64, u64) {
        let (mut sends, mut gathers) = (0, 0);
        for slot in self.dirty.drain(..) {
            let outbox = &mut self.table[slot as usize];
            outbox.dirty = false;
            if !outbox.open || outbox.sending {
                continue;
            }
            let queued = outbox.queue.len();
            let socket = SocketId { slot, generation: outbox.generation };
            if driver.send(socket, &mut outbox.queue) {
                outbox.sending = true;
                outbox.active_s = seconds(now);
                outbox.flying = (queued - outbox.queue.len()) as u32;
                sends += 1;
                gathers += u64::from(queued > 1);
            }
        }
        (sends, gathers)
    }

    /// Something came from the peer.
    pub fn touch(&mut self, slot: u32, now: Nanos) {
        self.table[slot as usize].active_s = seconds(now);
    }

    /// When anything was last sent or received, to the second.
    pub fn active(&self, slot: u32) -> Nanos {
        Nanos(u64::from(self.table[slot as usize].active_s) * SECOND)
    }

    /// A send is with the kernel: `bytes` of it left. Returns true if nothing is left to send.
    pub fn sent(&mut self, slot: u32, bytes: usize) -> bool {
        let outbox = &mut self.table[slot as usize];
        let length = bytes + std::mem::take(&mut outbox.flying) as usize * FRAME_OVERHEAD_BYTES;
        outbox.sending = false;
        outbox.bytes -= length;
        self.bytes -= length;
        if outbox.queue.is_empty() {
            if outbox.queue.capacity() > QUEUE_KEPT_FRAMES {
                outbox.queue.shrink_to(QUEUE_KEPT_FRAMES);
            }
            return true;
        }
        if !outbox.dirty {
            outbox.dirty = true;
            self.dirty.push(slot);
        }
        false
    }

    /// True if nothing is queued or in flight.
    pub fn is_empty(&self, slot: u32) -> bool {
        let outbox = &self.table[slot as usize];
        !outbox.sending && outbox.queue.is_empty()
    }

    /// Drops what is queued behind the send in flight; the cut is between two frames.
    pub fn drop_queued(&mut self, slot: u32) -> usize {
        let outbox = &mut self.table[slot as usize];
        let bytes: usize =
            outbox.queue.iter().map(|frame| frame.len() + FRAME_OVERHEAD_BYTES).sum();
        let frames = outbox.queue.len();
        outbox.queue = VecDeque::new();
        outbox.bytes -= bytes;
        self.bytes -= bytes;
        frames
    }

    /// Connections that passed the high-water mark since the last call, one at a time.
    pub fn take_slow(&mut self) -> Option<u32> {
        while let Some(slot) = self.slow.pop() {
            // Not whoever took the slot of one that has gone.
            if self.table[slot as usize].slow {
                return Some(slot);
            }
        }
        None
    }

    /// The connections that have anything queued, those with the most last. One sort for a tick, because a
    /// broadcast may put thousands above the bound at once, and looking for each would be quadratic.
    pub fn fattest_last(&self) -> Vec<u32> {
        let open = self.table.iter().enumerate().filter(|(_, outbox)| outbox.bytes > 0);
        let mut slots: Vec<(usize, u32)> =
            open.map(|(slot, outbox)| (outbox.bytes, slot as u32)).collect();
        slots.sort_unstable();
        slots.into_iter().map(|(_, slot)| slot).collect()
    }

    /// Bytes queued and in flight on this shard, overhead included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The most bytes any one outbox has held.
    pub fn bytes_peak(&self) -> usize {
        self.bytes_peak
    }

    /// Is there anything to flush?
    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outboxes(bytes_high_water: usize, sockets: u32) -> Outboxes {
        let mut outboxes = Outboxes::new(bytes_high_water);
        for slot in 0..sockets {
            outboxes.open(SocketId { slot, generation: 1 });
        }
        outboxes
    }

    #[test]
    fn tiny_frames_count_as_what_they_take() {
        let mut outboxes = outboxes(1 << 20, 1);
        let mut frames = 0;
        while outboxes.take_slow().is_none() {
            outboxes.push(0, Frame::from(vec![0x8a, 0]));
            frames += 1;
        }
        // Two bytes each, and by those alone half a million would fit.
        assert_eq!(frames, (1 << 20) / (2 + FRAME_OVERHEAD_BYTES) + 2);
        assert_eq!(outboxes.drop_queued(0), frames);
        assert_eq!(outboxes.bytes(), 0);
    }

    #[test]
    fn a_frame_above_the_mark_leaves_if_nothing_is_behind_it() {
        let mut outboxes = outboxes(1000, 1);
        outboxes.push(0, Frame::from(vec![0; 5000]));
        assert_eq!(outboxes.take_slow(), None);
        outboxes.push(0, Frame::from(vec![0; 1]));
        assert_eq!(outboxes.take_slow(), Some(0));
        assert_eq!(outboxes.take_slow(), None);
    }

    #[test]
    fn who_took_the_slot_of_a_slow_one_is_not_slow() {
        let mut outboxes = outboxes(10, 1);
        outboxes.push(0, Frame::from(vec![0; 1]));
        outboxes.push(0, Frame::from(vec![0; 1]));
        assert_eq!(outboxes.slow, [0]);
        outboxes.close(0);
        outboxes.open(SocketId { slot: 0, generation: 2 });
        assert_eq!(outboxes.take_slow(), None);
    }

    #[test]
    fn the_fattest_come_last() {
        let mut outboxes = outboxes(1000, 4);
        for (slot, bytes) in [(0, 20), (1, 30), (3, 10)] {
            outboxes.push(slot, Frame::from(vec![0; bytes]));
        }
        assert_eq!(outboxes.fattest_last(), [3, 0, 1]);
    }
}
