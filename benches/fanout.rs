//! What one event costs between its home and the outboxes, without sockets:
//! `cargo bench --bench fanout`.
//!
//! Fan-out: nanoseconds per recipient for one event pushed to the queues of 1,000 and 5,000
//! connections. Publish: nanoseconds per event, home and edge, in 10,000 channels that each have one
//! subscriber. Each figure is the fastest and the middle one of many rounds.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ringmain::base::frame::Frame;
use ringmain::base::ids::{AppIndex, ConnectionId, LaneId, ShardId, Ticket};
use ringmain::base::name::Channel;
use ringmain::base::time::Now;
use ringmain::broker::edge::{Edge, Recipient, Sink};
use ringmain::broker::home::{Home, Limits};
use ringmain::broker::slots::Slots;
use ringmain::broker::{
    Command, Down, Event, Happening, Payload, Publish, Render, Reply, Subscribe, Up,
};

const SHARD: ShardId = ShardId(0);

/// Copies the payload: the least that a dialect does.
struct Copy;

impl Render for Copy {
    fn render(&self, _: LaneId, event: &Event) -> Option<Bytes> {
        let Happening::Message { data, .. } = &event.happening else { return None };
        Some(Bytes::copy_from_slice(&data.0))
    }
}

/// An outbox per connection.
struct Outboxes(Vec<VecDeque<Frame>>);

impl Sink for Outboxes {
    fn fan_out(
        &mut self,
        _: LaneId,
        frame: &Bytes,
        recipients: &[Recipient],
        exclude: Option<u32>,
        _: &Event,
    ) {
        let frame = Frame::new(frame.clone());
        for recipient in recipients {
            if Some(recipient.slot) != exclude
                && let Some(outbox) = self.0.get_mut(recipient.slot as usize)
            {
                outbox.push_back(frame.clone());
            }
        }
    }

    fn answer(&mut self, _: ConnectionId, _: Ticket, reply: Reply) {
        black_box(reply);
    }

    fn hand(&mut self, _: ConnectionId, _: &Event) {}
}

/// One shard that is home and edge, its mail handed over by hand.
struct Shard {
    home: Home,
    edge: Edge,
    outboxes: Outboxes,
    up: Vec<(ShardId, Up)>,
    down: Vec<(ShardId, Down)>,
}

impl Shard {
    fn new(connections: u32) -> Self {
        let slots = Arc::new(Slots::new(1, [0x5eed, 0xfeed]));
        Self {
            home: Home::new(slots.clone(), Limits { channels_max: 1 << 20 }),
            edge: Edge::new(SHARD, slots),
            outboxes: Outboxes((0..connections).map(|_| VecDeque::with_capacity(16)).collect()),
            up: Vec::new(),
            down: Vec::new(),
        }
    }

    fn ask(&mut self, slot: u32, command: Command) {
        let from = ConnectionId { shard: SHARD, slot, generation: 1 };
        self.edge.ask(from, Ticket(1), command, &mut self.up);
    }

    fn home(&mut self) {
        for (from, up) in self.up.drain(..) {
            self.home.handle(up, from, Now::default(), &Copy, &mut self.down);
        }
    }

    fn edge(&mut self) {
        for (_, down) in self.down.drain(..) {
            self.edge.handle(down, &mut self.outboxes, &mut self.up);
        }
    }

    fn subscribe(&mut self, slot: u32, channel: Channel) {
        let subscribe = Subscribe::new(channel, LaneId(0));
        self.ask(slot, Command::Subscribe(Box::new(subscribe)));
        self.home();
        self.edge();
    }

    fn empty_outboxes(&mut self) {
        self.outboxes.0.iter_mut().for_each(VecDeque::clear);
    }
}

fn channel(n: usize) -> Channel {
    Channel { app: AppIndex(0), name: format!("private-room-{n}")[..].into() }
}

fn message(channel: Channel, data: &Bytes) -> Command {
    let (name, data) = ("message".into(), Payload(data.clone()));
    Command::Publish(Box::new(Publish::new(channel, name, data, Now::default().steady)))
}

fn report(what: &str, mut nanos: Vec<f64>) {
    nanos.sort_by(f64::total_cmp);
    println!("{what:<44} best {:7.1} ns   median {:7.1} ns", nanos[0], nanos[nanos.len() / 2]);
}

fn fan_out(subscribers: u32, rounds: usize) {
    let mut shard = Shard::new(subscribers);
    for slot in 0..subscribers {
        shard.subscribe(slot, channel(0));
    }
    let data = Bytes::from(vec![b'7'; 128]);
    let mut nanos = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        shard.ask(0, message(channel(0), &data));
        shard.home();
        let start = Instant::now();
        shard.edge();
        nanos.push(start.elapsed().as_nanos() as f64 / f64::from(subscribers));
        shard.empty_outboxes();
    }
    report(&format!("fan-out to {subscribers}, per recipient"), nanos);
}

fn publish(channels: u32, rounds: usize) {
    let mut shard = Shard::new(channels);
    let names: Vec<_> = (0..channels as usize).map(channel).collect();
    for (slot, channel) in names.iter().enumerate() {
        shard.subscribe(slot as u32, channel.clone());
    }
    let data = Bytes::from(vec![b'7'; 128]);
    let (mut total, mut home, mut edge) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        // As many mails at once as a tick may take; neighbours in time are not neighbours in memory.
        let mut spent = [0.0; 3];
        for batch in names.chunks(64) {
            let start = Instant::now();
            for channel in batch {
                shard.ask(0, message(channel.clone(), &data));
            }
            let asked = Instant::now();
            shard.home();
            let ordered = Instant::now();
            shard.edge();
            let done = Instant::now();
            spent[0] += (done - start).as_nanos() as f64;
            spent[1] += (ordered - asked).as_nanos() as f64;
            spent[2] += (done - ordered).as_nanos() as f64;
        }
        shard.empty_outboxes();
        for (list, spent) in [&mut total, &mut home, &mut edge].into_iter().zip(spent) {
            list.push(spent / f64::from(channels));
        }
    }
    report(&format!("publish in {channels} channels of one, all of it"), total);
    report("  of which at the home", home);
    report("  of which at the edge", edge);
}

fn main() {
    fan_out(1_000, 5_000);
    fan_out(5_000, 2_000);
    publish(10_000, 100);
}
