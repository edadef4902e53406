//! Homes and edges of several shards with subscriptions of patterns, joined by mail that arrives when a seed says so,
//! against a plain list of who subscribes what.
//!
//! Checked: nobody hears an event twice, whatever it matches; nobody hears what matches nothing it asked for; once all
//! mail is in, an event reaches exactly those whose subscriptions match and whose filters admit it; each ask is answered
//! once; and nothing is left when everyone has gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::edge::{Edge, Recipient, Sink};
use super::home::{Home, Limits};
use super::slots::Slots;
use super::wildcards::is_reachable;
use super::{
    Admit, Channel, Command, Down, Event, Filter, Happening, Parting, Payload, Publish, Refusal,
    Render, Reply, Subscribe, Tag, Tags, Up, Verdict,
};
use crate::base::ids::{AppIndex, ConnectionId, LaneId, ShardId, Ticket};
use crate::base::pattern::Pattern;
use crate::base::prng::Prng;
use crate::base::time::{Nanos, Now, UnixMillis};

const SEEDS: u64 = 600;
const STEPS: usize = 250;
const CONNECTIONS: u32 = 5;
const NAMES: [&str; 6] = ["a", "a1", "b1", "ab", "private-a1", "presence-a"];
const PATTERNS: [&str; 6] = ["*", "a*", "*1", "a*b", "b*", "p*"];

struct Frames;

impl Render for Frames {
    fn render(&self, lane: LaneId, event: &Event) -> Option<Bytes> {
        match &event.happening {
            // One lane's sessions take the events themselves.
            Happening::Message { .. } if lane == LaneId(1) => Some(Bytes::new()),
            Happening::Message { data, .. } => Some(data.0.clone()),
            _ => None,
        }
    }
}

struct Everything;

impl Admit for Everything {
    fn admit(&self, _: &Event) -> Verdict {
        Verdict::Frame
    }
}

/// Someone's subscription, as the model knows it.
#[derive(Clone, Debug)]
struct Wanted {
    name: &'static str,
    ticket: u32,
    /// Only events with this tag.
    tag: Option<u64>,
    stands: bool,
}

impl Wanted {
    fn takes(&self, channel: &str, tag: u64, guarded: bool) -> bool {
        let is_it = match self.name.contains('*') {
            true => is_reachable(channel) && Pattern(self.name.into()).matches(channel),
            false => self.name == channel,
        };
        is_it && self.tag.is_none_or(|it| it == tag) && (!guarded || self.tag.is_some())
    }
}

struct World {
    prng: Prng,
    now: Now,
    homes: Vec<Home>,
    edges: Vec<Edge>,
    /// By sender and receiver: what a home and what an edge is sent.
    ups: BTreeMap<(u16, u16), VecDeque<Up>>,
    downs: BTreeMap<(u16, u16), VecDeque<Down>>,
    connections: Vec<Connection>,
    generation: u32,
    ticket: u32,
    published: u64,
}

struct Connection {
    id: ConnectionId,
    wanted: Vec<Wanted>,
    /// Everything it ever asked for.
    asked: BTreeSet<&'static str>,
    open: BTreeSet<u32>,
    heard: BTreeSet<u64>,
}

/// What an edge says while it is at work.
#[derive(Default)]
struct Heard {
    events: Vec<(u32, String, u64)>,
    answers: Vec<(ConnectionId, Ticket, Reply)>,
}

impl Sink for Heard {
    fn fan_out(
        &mut self,
        _: LaneId,
        _: &Bytes,
        recipients: &[Recipient],
        exclude: Option<u32>,
        event: &Event,
    ) {
        let slots = recipients.iter().map(|it| it.slot).filter(|it| Some(*it) != exclude);
        let told = slots.map(|slot| (slot, event.channel.name.to_string(), number_of(event)));
        self.events.extend(told);
    }

    fn answer(&mut self, to: ConnectionId, ticket: Ticket, reply: Reply) {
        self.answers.push((to, ticket, reply));
    }

    fn hand(&mut self, to: ConnectionId, event: &Event) {
        self.events.push((to.slot, event.channel.name.to_string(), number_of(event)));
    }
}

fn number_of(event: &Event) -> u64 {
    let Happening::Message { data, .. } = &event.happening else { panic!("{event:?}") };
    std::str::from_utf8(&data.0).unwrap().parse().unwrap()
}

fn tag(n: u64) -> Tag {
    Tag { name: "t".into(), value: n.to_string()[..].into() }
}

fn channel(name: &str) -> Channel {
    Channel { app: AppIndex(0), name: name.into() }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut prng = Prng::new(seed);
        let shards = 1 + prng.below(3) as u16;
        let slots = Arc::new(Slots::new(shards, [prng.next_u64(), 5]));
        let limits = Limits { channels_max: 1000 };
        let mut world = Self {
            homes: (0..shards).map(|_| Home::new(slots.clone(), limits)).collect(),
            edges: (0..shards).map(|it| Edge::new(ShardId(it), slots.clone())).collect(),
            prng,
            now: Now { steady: Nanos(1), wall: UnixMillis(1) },
            ups: BTreeMap::new(),
            downs: BTreeMap::new(),
            connections: Vec::new(),
            generation: 0,
            ticket: 0,
            published: 0,
        };
        for slot in 0..CONNECTIONS {
            let connection = world.connect(slot);
            world.connections.push(connection);
        }
        world
    }

    fn connect(&mut self, slot: u32) -> Connection {
        self.generation += 1;
        let shard = ShardId((slot as usize % self.homes.len()) as u16);
        Connection {
            id: ConnectionId { shard, slot, generation: self.generation },
            wanted: Vec::new(),
            asked: BTreeSet::new(),
            open: BTreeSet::new(),
            heard: BTreeSet::new(),
        }
    }

    fn send(&mut self, from: ShardId, ups: Vec<(ShardId, Up)>) {
        for (to, up) in ups {
            self.ups.entry((from.0, to.0)).or_default().push_back(up);
        }
    }

    fn ask(&mut self, at: usize, command: Command) -> u32 {
        self.ticket += 1;
        let (id, ticket) = (self.connections[at].id, self.ticket);
        let mut ups = Vec::new();
        self.edges[id.shard.index()].ask(id, Ticket(ticket), command, &mut ups);
        self.send(id.shard, ups);
        ticket
    }

    fn subscribe(&mut self, at: usize) {
        let all: Vec<_> = NAMES.into_iter().chain(PATTERNS).collect();
        let name = all[self.prng.below(all.len() as u64) as usize];
        if self.connections[at].wanted.iter().any(|it| it.name == name) {
            return;
        }
        let tag_wanted = self.prng.chance(1, 3).then(|| self.prng.below(2));
        let filter = tag_wanted.map(|n| {
            Arc::new(Filter { any_of: Some([tag(n)].into()), admit: Box::new(Everything) })
        });
        let lane = LaneId(self.prng.below(3) as u8);
        let subscribe = Subscribe {
            is_pattern: name.contains('*'),
            silent: name.contains('*'),
            filter,
            ..Subscribe::new(channel(name), lane)
        };
        let ticket = self.ask(at, Command::Subscribe(Box::new(subscribe)));
        let connection = &mut self.connections[at];
        connection.wanted.push(Wanted { name, ticket, tag: tag_wanted, stands: false });
        connection.asked.insert(name);
        connection.open.insert(ticket);
    }

    fn unsubscribe(&mut self, at: usize) {
        let count = self.connections[at].wanted.len() as u64;
        if count > 0 {
            let nth = self.prng.below(count) as usize;
            let gone = self.connections[at].wanted.swap_remove(nth);
            self.ask(at, Command::Unsubscribe(channel(gone.name)));
        }
    }

    /// Publishes, from a shard of its own; the event's channel, tag and whether it is guarded.
    fn publish(&mut self, exclude: Option<ConnectionId>) -> (&'static str, u64, bool) {
        let name = NAMES[self.prng.below(NAMES.len() as u64) as usize];
        let (n, guarded) = (self.prng.below(2), self.prng.chance(1, 6));
        self.published += 1;
        let data = Payload(Bytes::from(self.published.to_string()));
        let publish = Publish {
            tags: Tags::from(vec![tag(n)]),
            exclude,
            guarded,
            quiet: true,
            ..Publish::new(channel(name), "e".into(), data, Nanos(0))
        };
        self.ask(0, Command::Publish(Box::new(publish)));
        (name, n, guarded)
    }

    fn close(&mut self, at: usize) {
        let id = self.connections[at].id;
        let mut ups = Vec::new();
        self.edges[id.shard.index()].close(id, Parting::Closed, &mut ups);
        self.send(id.shard, ups);
        self.connections[at] = self.connect(id.slot);
    }

    /// Lets one mail arrive; false if there is none.
    fn carry(&mut self) -> bool {
        let ups = self.ups.iter().filter(|(_, it)| !it.is_empty()).map(|(pair, _)| (*pair, true));
        let downs = self.downs.iter().filter(|(_, it)| !it.is_empty());
        let ways: Vec<_> = ups.chain(downs.map(|(pair, _)| (*pair, false))).collect();
        if ways.is_empty() {
            return false;
        }
        let ((from, to), is_up) = ways[self.prng.below(ways.len() as u64) as usize];
        if is_up {
            let up = self.ups.get_mut(&(from, to)).and_then(VecDeque::pop_front).unwrap();
            let mut downs = Vec::new();
            let home = &mut self.homes[usize::from(to)];
            home.handle(up, ShardId(from), self.now, &Frames, &mut downs);
            for (edge, down) in downs {
                self.downs.entry((to, edge.0)).or_default().push_back(down);
            }
            return true;
        }
        let down = self.downs.get_mut(&(from, to)).and_then(VecDeque::pop_front).unwrap();
        let (mut heard, mut ups) = (Heard::default(), Vec::new());
        self.edges[usize::from(to)].handle(down, &mut heard, &mut ups);
        self.send(ShardId(to), ups);
        for (slot, name, number) in heard.events {
            let connection = &mut self.connections[slot as usize];
            assert!(connection.heard.insert(number), "slot {slot} heard {number} twice");
            let is_asked = |it: &&'static str| {
                let tag = None;
                let (ticket, stands) = (0, true);
                Wanted { name: it, ticket, tag, stands }.takes(&name, 0, false)
            };
            assert!(connection.asked.iter().any(is_asked), "slot {slot} never asked for {name}");
        }
        for (to, Ticket(ticket), reply) in heard.answers {
            let Some(connection) = self.connections.iter_mut().find(|it| it.id == to) else {
                continue;
            };
            assert!(connection.open.remove(&ticket), "{ticket} was answered twice");
            match reply {
                Reply::Subscribed(subscribed) => {
                    let wanted = connection.wanted.iter_mut().find(|it| it.ticket == ticket);
                    // Unless it was given up while the answer was on its way.
                    if let Some(wanted) = wanted {
                        assert_eq!(&*subscribed.channel.name, wanted.name);
                        wanted.stands = true;
                    }
                }
                Reply::Refused(Refusal::Cancelled) => {
                    assert!(connection.wanted.iter().all(|it| it.ticket != ticket));
                }
                other => panic!("{other:?}"),
            }
        }
        true
    }

    fn settle(&mut self) {
        while self.carry() {}
        for connection in &self.connections {
            assert!(connection.open.is_empty() && connection.wanted.iter().all(|it| it.stands));
        }
    }

    /// With all mail in, an event reaches exactly who it is for.
    fn check(&mut self) {
        self.settle();
        let excluded = self.prng.below(u64::from(CONNECTIONS) * 2) as usize;
        let exclude = self.connections.get(excluded).map(|it| it.id);
        let (name, tag, guarded) = self.publish(exclude);
        self.settle();
        for (at, connection) in self.connections.iter().enumerate() {
            let expected =
                at != excluded && connection.wanted.iter().any(|it| it.takes(name, tag, guarded));
            let has_heard = connection.heard.contains(&self.published);
            assert_eq!(has_heard, expected, "{name} to {at}: {:?}", connection.wanted);
        }
    }

    fn step(&mut self) {
        let at = self.prng.below(u64::from(CONNECTIONS)) as usize;
        match self.prng.below(20) {
            0..5 => self.subscribe(at),
            5..8 => self.unsubscribe(at),
            8 => self.close(at),
            9..12 => {
                self.publish(None);
            }
            12 => self.check(),
            _ => {
                self.carry();
            }
        }
    }
}

#[test]
fn patterns_reach_whom_a_plain_list_says() {
    for seed in 0..SEEDS {
        let _guard = Seed(seed);
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.check();
        for at in 0..CONNECTIONS as usize {
            world.close(at);
        }
        world.settle();
        for (home, edge) in world.homes.iter().zip(&world.edges) {
            assert_eq!((home.channels(), home.patterns()), (0, 0));
            assert_eq!((edge.channels(), edge.subscriptions()), (0, 0));
        }
    }
}

/// Says which seed failed.
pub(super) struct Seed(pub u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}
