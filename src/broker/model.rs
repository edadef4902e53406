//! Homes and edges of several shards, joined by mail that arrives when a seed says so, against what
//! a plain model of each session expects.
//!
//! Checked: each subscription hears a run of serials without a gap or a duplicate from where it was
//! attached, in its own lane; one with a filter hears exactly what the filter of that moment admits; presence, occupancy and counts heard agree with what is true once the mail is in, whoever stays for a while without a
//! connection included;
//! each ask is answered once; nothing is left when everyone has gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::edge::{Edge, Recipient, Sink};
use super::home::{Home, Limits};
use super::slots::Slots;
use super::wildcards_model::Seed;
use super::{
    Admit, Channel, Command, Control, Description, Down, Event, Filter, Happening, Member, Parting,
    Payload, Publish, Published, Refusal, Render, Reply, Subscribe, Tag, Up, Verdict, companion,
};
use crate::base::ids::{AppIndex, ConnectionId, LaneId, ShardId, Ticket};
use crate::base::name::Name;
use crate::base::prng::Prng;
use crate::base::time::{Millis, Nanos, Now, UnixMillis};

const SEEDS: u64 = 4_000;
const STEPS: usize = 400;
const CHANNELS: u64 = 6;
/// The number of the channel that tells of another is that one's and this.
const META: u64 = 100;
/// Shows messages only.
const LANE_PLAIN: LaneId = LaneId(3);
/// Has no frames: its sessions take the events.
const LANE_SESSIONS: LaneId = LaneId(4);
const LANES: u64 = 5;
/// Values of the one tag there is.
const TAGS: u64 = 3;

#[test]
fn sessions_see_what_a_plain_model_expects() {
    for seed in 0..SEEDS {
        let _guard = Seed(seed);
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.settle();
        world.check_settled();
        world.leave();
    }
}

struct Frames;

impl Render for Frames {
    /// The lane and, of a message, its data.
    fn render(&self, lane: LaneId, event: &Event) -> Option<Bytes> {
        if lane == LANE_SESSIONS {
            return Some(Bytes::new());
        }
        match &event.happening {
            Happening::Message { data, .. } => Some([&[lane.0], &*data.0].concat().into()),
            _ => (lane != LANE_PLAIN).then(|| vec![lane.0].into()),
        }
    }
}

fn tag(n: u64) -> Tag {
    Tag { name: "t".into(), value: n.to_string()[..].into() }
}

/// What a filter wants, as the model knows it: any of these tags (none: anything), and a verdict on what
/// the event's number leaves when divided by 4.
#[derive(Clone, Debug)]
struct Wanted {
    any_of: Option<Vec<u64>>,
    /// The same list, as the broker has it.
    tags: Option<Arc<[Tag]>>,
    verdicts: [Verdict; 4],
}

impl Wanted {
    fn verdict(&self, event: &Event) -> Verdict {
        self.verdicts[(event.serial.0 % 4) as usize]
    }

    fn takes(&self, event: &Event) -> Verdict {
        let tags = event.tags.as_slice();
        let is_message = matches!(event.happening, Happening::Message { .. });
        let looks = self.any_of.as_ref().is_none_or(|it| match is_message {
            true => it.iter().any(|&n| tags.contains(&tag(n))),
            false => !it.is_empty(),
        });
        if looks { self.verdict(event) } else { Verdict::Skip }
    }

    fn filter(&self) -> Arc<Filter> {
        Arc::new(Filter { any_of: self.tags.clone(), admit: Box::new(self.clone()) })
    }
}

impl Admit for Wanted {
    fn admit(&self, event: &Event) -> Verdict {
        self.verdict(event)
    }
}

struct World {
    prng: Prng,
    now: Now,
    shards: u64,
    homes: Vec<Home>,
    edges: Vec<Edge>,
    /// By sender and receiver: to be taken by the home, and by the edge.
    up: BTreeMap<(u16, u16), VecDeque<Up>>,
    down: BTreeMap<(u16, u16), VecDeque<Down>>,
    /// The last use of each slot.
    generations: BTreeMap<(u16, u32), u32>,
    sessions: Sessions,
}

/// What each session knows; the sink of every edge.
#[derive(Default)]
struct Sessions {
    open: BTreeMap<(u16, u32), Session>,
    /// What each message is, by what its data says: where, and at which position once that is known.
    messages: Vec<(Channel, Option<ConnectionId>, Option<u64>)>,
    controlled: Vec<ConnectionId>,
    /// Who was sent (true) or handed (false) the delivery at work.
    served: BTreeSet<(u32, bool)>,
    /// The shard whose edge is at work.
    at: u16,
}

struct Session {
    id: ConnectionId,
    tickets: u32,
    /// Asks that wait for an answer.
    asked: BTreeMap<u32, Asked>,
    /// By channel number; a cancelled subscription is not here.
    subscriptions: BTreeMap<u64, Subscription>,
}

enum Asked {
    Subscribe { number: u64, cancelled: bool },
    Publish(usize),
    Describe,
    Members,
    Survey,
    Control,
}

struct Subscription {
    ticket: u32,
    asked: Subscribe,
    wanted: Option<Wanted>,
    /// None until the answer.
    heard: Option<Heard>,
}

struct Heard {
    serial: u64,
    users: BTreeSet<String>,
    count: Option<u64>,
    /// Of a channel that tells of another, once it has told.
    is_occupied: Option<bool>,
}

/// One of the few channels there are, in two apps.
fn channel(number: u64) -> Channel {
    let of = number % META;
    let name: Name = format!("c{}", of / 2)[..].into();
    let name = if number < META { name } else { companion::meta(&name) };
    Channel { app: AppIndex((of % 2) as u16), name }
}

fn number(channel: &Channel) -> u64 {
    let (name, meta) = match companion::of_meta(&channel.name) {
        Some(of) => (of, META),
        None => (&*channel.name, 0),
    };
    name[1..].parse::<u64>().unwrap() * 2 + u64::from(channel.app.0) + meta
}

fn has_members(number: u64) -> bool {
    number < META && number % 3 == 1
}

/// Events of this channel are for those only whose filter admits them.
fn is_guarded(number: u64) -> bool {
    number == 3
}

fn announces(number: u64) -> bool {
    number < META && number % 3 == 2
}

impl Sessions {
    fn of(&mut self, slot: u32) -> &mut Session {
        let at = self.at;
        self.open
            .get_mut(&(at, slot))
            .unwrap_or_else(|| panic!("an event for nobody in {at}/{slot}"))
    }

    /// Who on the shard at work is sent (true) or handed (false) this event.
    fn expected(&self, event: &Event, exclude: Option<ConnectionId>) -> BTreeSet<(u32, bool)> {
        let number = number(&event.channel);
        let here = self.open.range((self.at, 0)..(self.at + 1, 0));
        let expected = here.filter_map(|((_, slot), session)| {
            let subscription = session.subscriptions.get(&number)?;
            subscription.heard.as_ref()?;
            if exclude == Some(session.id) || matches!(event.happening, Happening::Control(_)) {
                return None;
            }
            let frame = Frames.render(subscription.asked.lane, event)?;
            let verdict = match &subscription.wanted {
                Some(wanted) => wanted.takes(event),
                None if event.guarded => Verdict::Skip,
                None => Verdict::Frame,
            };
            match verdict {
                Verdict::Skip => None,
                Verdict::Frame => Some((*slot, !frame.is_empty())),
                Verdict::Session => Some((*slot, false)),
            }
        });
        expected.collect()
    }

    /// What is true when no mail is under way.
    fn truth(&self, number: u64) -> (u64, BTreeSet<String>) {
        let active = self.open.values().filter_map(|it| it.subscriptions.get(&number));
        let counted: Vec<_> = active.filter(|it| !it.asked.silent).collect();
        let users = counted.iter().filter_map(|it| it.asked.member.as_ref());
        (counted.len() as u64, users.map(|it| it.user_id.to_string()).collect())
    }
}

impl Sink for Sessions {
    fn fan_out(
        &mut self,
        lane: LaneId,
        frame: &Bytes,
        recipients: &[Recipient],
        exclude: Option<u32>,
        event: &Event,
    ) {
        assert_eq!(frame[0], lane.0);
        assert!(!recipients.is_empty());
        let number = number(&event.channel);
        let mut excluded = None;
        if let Happening::Message { data, .. } = &event.happening {
            let text = std::str::from_utf8(&data.0).unwrap();
            assert_eq!(&frame[1..], text.as_bytes());
            let message = &mut self.messages[text.parse::<usize>().unwrap()];
            assert_eq!(message.0, event.channel);
            assert_eq!(
                *message.2.get_or_insert(event.serial.0),
                event.serial.0,
                "one place per event"
            );
            excluded = message.1;
        }
        for recipient in recipients {
            if exclude != Some(recipient.slot) {
                assert!(self.served.insert((recipient.slot, true)), "sent once");
            }
            let session = self.of(recipient.slot);
            let id = session.id;
            let subscription = session.subscriptions.get_mut(&number).expect("not subscribed");
            assert_eq!(subscription.asked.lane, lane);
            if subscription.wanted.is_some() {
                assert!(subscription.heard.is_some(), "an event before the answer");
                assert!(excluded != Some(id), "whoever is excluded is left out already");
                continue;
            }
            let heard = subscription.heard.as_mut().expect("an event before the answer");
            if number >= META {
                heard.hear_of_another(&event.happening);
                continue;
            }
            match &event.happening {
                Happening::Message { .. } => {
                    heard.serial += 1;
                    assert_eq!(event.serial.0, heard.serial, "{id} {number}");
                    assert_eq!(exclude == Some(recipient.slot), excluded == Some(id));
                }
                Happening::MemberAdded(it) => {
                    assert!(heard.users.insert(it.member.user_id.to_string()));
                }
                // Nobody here asks for any of these.
                Happening::MemberUpdated(_)
                | Happening::ValueChanged(_)
                | Happening::Mutated(_)
                | Happening::Annotated(_)
                | Happening::Summarized(_)
                | Happening::Occupied
                | Happening::Vacated => unreachable!(),
                Happening::MemberRemoved(it) => assert!(heard.users.remove(&*it.member.user_id)),
                Happening::SubscriptionCount(n) => {
                    assert_ne!(heard.count.replace(*n), Some(*n), "told without a change");
                }
                Happening::Control(_) => panic!("a control has no frames"),
            }
        }
    }

    fn answer(&mut self, to: ConnectionId, ticket: Ticket, reply: Reply) {
        let open = self.open.get_mut(&(to.shard.0, to.slot)).filter(|it| it.id == to);
        assert_eq!(to.shard.0, self.at);
        let Some(session) = open else { return };
        let asked =
            session.asked.get_mut(&ticket.0).expect("answered once, with a ticket it knows");
        match (asked, reply) {
            (Asked::Subscribe { number, cancelled: false }, Reply::Subscribed(it)) => {
                assert_eq!(it.channel, channel(*number));
                let subscription = session.subscriptions.get_mut(number).unwrap();
                assert_eq!(subscription.ticket, ticket.0);
                let members: Vec<_> = it.members.iter().map(|m| m.user_id.to_string()).collect();
                let users = BTreeSet::from_iter(members.iter().cloned());
                assert_eq!(users.len(), members.len(), "one entry per user");
                assert_eq!(users.len() as u64, it.description.user_count);
                let me = subscription.asked.member.as_ref();
                assert!(me.is_none_or(|me| users.contains(&*me.user_id)));
                let old = subscription.heard.replace(Heard {
                    serial: it.after.0,
                    users,
                    count: None,
                    is_occupied: None,
                });
                assert!(old.is_none());
            }
            (Asked::Subscribe { number, cancelled }, Reply::Refused(refusal)) => {
                if *cancelled {
                    assert_ne!(
                        session.subscriptions.get(number).map(|it| it.ticket),
                        Some(ticket.0)
                    );
                } else {
                    assert_ne!(refusal, Refusal::Cancelled);
                    session.subscriptions.remove(number);
                }
            }
            (Asked::Publish(id), Reply::Published(Published { serial, .. })) => {
                let known = &mut self.messages[*id].2;
                assert_eq!(*known.get_or_insert(serial.0), serial.0);
            }
            (Asked::Publish(_), Reply::Refused(Refusal::ChannelsFull { .. })) => (),
            (Asked::Describe, Reply::Described(_)) | (Asked::Members, Reply::Members(_)) => (),
            (Asked::Control, Reply::Done) => (),
            (Asked::Survey, Reply::Channels { .. }) => (),
            (_, reply) => panic!("{reply:?} does not answer that"),
        }
        session.asked.remove(&ticket.0);
    }

    fn hand(&mut self, to: ConnectionId, event: &Event) {
        let session = self.of(to.slot);
        assert_eq!(session.id, to);
        let subscription = &session.subscriptions[&number(&event.channel)];
        assert!(subscription.heard.is_some());
        if let Happening::Control(control) = event.happening {
            assert_eq!(control, Control::Terminate);
            assert!(subscription.asked.member.is_some());
            return self.controlled.push(to);
        }
        assert!(self.served.insert((to.slot, false)), "handed once");
    }
}

impl Heard {
    fn hear_of_another(&mut self, happening: &Happening) {
        match happening {
            Happening::Occupied => assert_ne!(self.is_occupied.replace(true), Some(true)),
            Happening::Vacated => {
                assert_ne!(self.is_occupied.replace(false), Some(false));
                self.count = Some(0);
            }
            Happening::SubscriptionCount(n) => {
                assert_ne!(self.count.replace(*n), Some(*n), "told without a change");
                assert_ne!(self.is_occupied, Some(false), "told of a channel that is vacated");
            }
            // Who was there before it listened may leave, too.
            Happening::MemberAdded(it) => {
                assert!(self.users.insert(it.member.user_id.to_string()));
            }
            Happening::MemberRemoved(it) => {
                self.users.remove(&*it.member.user_id);
            }
            other => panic!("{other:?} is told of no channel"),
        }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut prng = Prng::new(seed);
        let shards = 1 + prng.below(4);
        let slots = Arc::new(Slots::new(shards as u16, [prng.next_u64(), prng.next_u64()]));
        let limits = Limits { channels_max: 1 + prng.below(6) as usize };
        Self {
            now: Now { steady: Nanos(5), wall: UnixMillis(5) },
            shards,
            homes: (0..shards).map(|_| Home::new(slots.clone(), limits)).collect(),
            edges: (0..shards).map(|n| Edge::new(ShardId(n as u16), slots.clone())).collect(),
            up: BTreeMap::new(),
            down: BTreeMap::new(),
            generations: BTreeMap::new(),
            sessions: Sessions::default(),
            prng,
        }
    }

    fn step(&mut self) {
        match self.prng.below(20) {
            0..10 => self.act(),
            10..14 => self.pump_up(),
            14..19 => self.pump_down(),
            _ => {
                let span = Millis(self.prng.below(40));
                self.expire(span);
            }
        }
    }

    fn act(&mut self) {
        let key = self.key();
        let Some(session) = self.sessions.open.get(&key) else { return self.open(key) };
        let n = self.prng.below(CHANNELS);
        if self.prng.chance(1, 6) {
            return self.watch(key, n + META);
        }
        let (id, subscribed) = (session.id, session.subscriptions.contains_key(&n));
        match self.prng.below(16) {
            0 => self.close(key),
            1..3 if subscribed => self.refilter(key, n),
            3..6 if subscribed => self.unsubscribe(key, n),
            1..9 if !subscribed => self.subscribe(key, n),
            9 => self.ask(key, Asked::Describe, Command::Describe(channel(n))),
            10 => self.ask(key, Asked::Members, Command::Members(channel(n))),
            11 => {
                let shard = ShardId(self.prng.below(self.shards) as u16);
                let survey =
                    Command::Survey { shard, from: 0, app: AppIndex(0), prefix: "c".into() };
                self.ask(key, Asked::Survey, survey);
            }
            12 => {
                let control = Command::Control(channel(n), Control::Terminate);
                self.ask(key, Asked::Control, control);
            }
            _ => {
                let exclude = match self.prng.below(4) {
                    0 => Some(id),
                    1 => Some(self.anyone()),
                    _ => None,
                };
                let keep_last = self.prng.chance(1, 5).then(|| Millis(self.prng.below(60)));
                self.publish(key, n, exclude, keep_last);
            }
        }
    }

    /// Begins to hear of another channel, or does so no more.
    fn watch(&mut self, key: (u16, u32), number: u64) {
        match self.sessions.open[&key].subscriptions.contains_key(&number) {
            true => self.unsubscribe(key, number),
            false => self.subscribe(key, number),
        }
    }

    fn open(&mut self, key: (u16, u32)) {
        let generation = self.generations.entry(key).or_default();
        *generation += 1;
        let id = ConnectionId { shard: ShardId(key.0), slot: key.1, generation: *generation };
        let session =
            Session { id, tickets: 0, asked: BTreeMap::new(), subscriptions: BTreeMap::new() };
        self.sessions.open.insert(key, session);
    }

    /// A connection that is, was or may yet be.
    fn anyone(&mut self) -> ConnectionId {
        let key = self.key();
        let last = self.generations.get(&key).copied().unwrap_or_default();
        let generation = last.saturating_sub(self.prng.below(2) as u32);
        ConnectionId { shard: ShardId(key.0), slot: key.1, generation }
    }

    fn close(&mut self, key: (u16, u32)) {
        let Some(session) = self.sessions.open.remove(&key) else { return };
        let mut out = Vec::new();
        let partings = [Parting::Closed, Parting::Lost, Parting::Silent, Parting::Forced];
        let parting = partings[self.prng.below(4) as usize];
        self.edges[usize::from(key.0)].close(session.id, parting, &mut out);
        self.send(key.0, out);
    }

    fn ask(&mut self, key: (u16, u32), asked: Asked, command: Command) {
        let session = self.sessions.open.get_mut(&key).unwrap();
        session.tickets += 1;
        session.asked.insert(session.tickets, asked);
        self.command(key, command);
    }

    fn command(&mut self, key: (u16, u32), command: Command) {
        let session = &self.sessions.open[&key];
        let mut out = Vec::new();
        self.edges[usize::from(key.0)].ask(session.id, Ticket(session.tickets), command, &mut out);
        self.send(key.0, out);
    }

    fn subscribe(&mut self, key: (u16, u32), number: u64) {
        let silent = number >= META || self.prng.chance(1, 4);
        let user = format!("u{}", self.prng.below(4));
        let member = Member { user_id: user[..].into(), info: None };
        let lane = LaneId(self.prng.below(LANES) as u8);
        let wanted = (number < META && self.prng.chance(1, 2)).then(|| self.wanted());
        let lease = Millis(1_000 * self.prng.below(3));
        let asked = Subscribe {
            member: (has_members(number) && !silent).then(|| Arc::new(member)),
            members_max: 3,
            lease,
            silent,
            announce_count: announces(number),
            filter: wanted.as_ref().map(Wanted::filter),
            ..Subscribe::new(channel(number), lane)
        };
        self.ask(
            key,
            Asked::Subscribe { number, cancelled: false },
            Command::Subscribe(Box::new(asked.clone())),
        );
        let session = self.sessions.open.get_mut(&key).unwrap();
        let subscription = Subscription { ticket: session.tickets, asked, wanted, heard: None };
        session.subscriptions.insert(number, subscription);
    }

    fn wanted(&mut self) -> Wanted {
        let tags = self.prng.below(3);
        let any_of =
            self.prng.chance(4, 5).then(|| (0..tags).map(|_| self.prng.below(TAGS)).collect());
        let verdicts = [Verdict::Skip, Verdict::Frame, Verdict::Session];
        let verdicts = std::array::from_fn(|_| verdicts[self.prng.below(3) as usize]);
        let any_of: Option<Vec<u64>> = any_of;
        let tags = any_of.as_ref().map(|it| it.iter().map(|&n| tag(n)).collect());
        Wanted { any_of, tags, verdicts }
    }

    /// A filter, or another one.
    fn refilter(&mut self, key: (u16, u32), number: u64) {
        let mut wanted = self.wanted();
        let session = &self.sessions.open[&key];
        // Now and then the same tags with other verdicts.
        if let (true, Some(before)) =
            (self.prng.chance(1, 3), &session.subscriptions[&number].wanted)
        {
            (wanted.any_of, wanted.tags) = (before.any_of.clone(), before.tags.clone());
        }
        let filter = wanted.filter();
        let session = self.sessions.open.get_mut(&key).unwrap();
        let subscription = session.subscriptions.get_mut(&number).unwrap();
        subscription.wanted = Some(wanted);
        self.command(key, Command::Refilter(channel(number), filter));
    }

    fn unsubscribe(&mut self, key: (u16, u32), number: u64) {
        let session = self.sessions.open.get_mut(&key).unwrap();
        let subscription = session.subscriptions.remove(&number).unwrap();
        if let Some(Asked::Subscribe { cancelled, .. }) =
            session.asked.get_mut(&subscription.ticket)
        {
            *cancelled = true;
        }
        self.command(key, Command::Unsubscribe(channel(number)));
    }

    fn publish(
        &mut self,
        key: (u16, u32),
        n: u64,
        exclude: Option<ConnectionId>,
        keep_last: Option<Millis>,
    ) {
        let message = self.sessions.messages.len();
        self.sessions.messages.push((channel(n), exclude, None));
        let tags: Vec<_> = (0..self.prng.below(3)).map(|_| tag(self.prng.below(TAGS))).collect();
        let data = Payload(message.to_string().into());
        let publish = Publish {
            exclude,
            keep_last,
            quiet: self.prng.chance(1, 4),
            tags: tags.into(),
            guarded: is_guarded(n),
            ..Publish::new(channel(n), "e".into(), data, self.now.steady)
        };
        match publish.quiet {
            true => self.command(key, Command::Publish(Box::new(publish))),
            false => self.ask(key, Asked::Publish(message), Command::Publish(Box::new(publish))),
        }
    }

    fn send(&mut self, from: u16, mail: Vec<(ShardId, Up)>) {
        for (to, up) in mail {
            self.up.entry((from, to.0)).or_default().push_back(up);
        }
    }

    fn post(&mut self, from: u16, mail: Vec<(ShardId, Down)>) {
        for (to, down) in mail {
            self.down.entry((from, to.0)).or_default().push_back(down);
        }
    }

    fn key(&mut self) -> (u16, u32) {
        (self.prng.below(self.shards) as u16, self.prng.below(4) as u32)
    }

    fn pair(&mut self) -> (u16, u16) {
        (self.prng.below(self.shards) as u16, self.prng.below(self.shards) as u16)
    }

    fn pump_up(&mut self) {
        let (from, to) = self.pair();
        self.take_up(from, to);
    }

    fn take_up(&mut self, from: u16, to: u16) -> bool {
        let Some(up) = self.up.get_mut(&(from, to)).and_then(VecDeque::pop_front) else {
            return false;
        };
        let mut out = Vec::new();
        self.homes[usize::from(to)].handle(up, ShardId(from), self.now, &Frames, &mut out);
        self.post(to, out);
        true
    }

    fn pump_down(&mut self) {
        let (from, to) = self.pair();
        self.take_down(from, to);
    }

    fn take_down(&mut self, from: u16, to: u16) -> bool {
        let Some(down) = self.down.get_mut(&(from, to)).and_then(VecDeque::pop_front) else {
            return false;
        };
        let mut out = Vec::new();
        self.sessions.at = to;
        let expected = match &down {
            Down::Deliver(it) => Some((it.clone(), self.sessions.expected(&it.event, it.exclude))),
            _ => None,
        };
        self.sessions.served.clear();
        self.edges[usize::from(to)].handle(down, &mut self.sessions, &mut out);
        if let Some((delivery, expected)) = expected {
            assert_eq!(self.sessions.served, expected, "{delivery:?}");
        }
        self.send(to, out);
        // A session that was asked to go does so, or thinks about it.
        for id in std::mem::take(&mut self.sessions.controlled) {
            if self.prng.chance(1, 2) {
                self.close((id.shard.0, id.slot));
            }
        }
        true
    }

    fn expire(&mut self, span: Millis) {
        self.now.steady = self.now.steady + span;
        for shard in 0..self.shards as u16 {
            let mut out = Vec::new();
            self.homes[usize::from(shard)].expire(self.now, &Frames, &mut out);
            self.post(shard, out);
        }
    }

    /// Brings all mail in, in some order.
    fn settle(&mut self) {
        let mut pairs = Vec::new();
        for from in 0..self.shards as u16 {
            pairs.extend(
                (0..self.shards as u16).flat_map(|to| [(from, to, true), (from, to, false)]),
            );
        }
        loop {
            self.prng.shuffle(&mut pairs);
            let mut moved = false;
            for &(from, to, up) in &pairs {
                moved |= if up { self.take_up(from, to) } else { self.take_down(from, to) };
            }
            if !moved {
                return;
            }
        }
    }

    fn check_settled(&mut self) {
        // Nobody stays longer than this.
        self.expire(Millis(3_000));
        // One more event each: whoever missed one before hears a gap now.
        if let Some(&key) = self.sessions.open.keys().next() {
            for n in 0..CHANNELS {
                self.publish(key, n, None, None);
            }
        }
        self.settle();
        for session in self.sessions.open.values() {
            assert!(session.asked.is_empty(), "{} waits for an answer", session.id);
            for (&n, subscription) in &session.subscriptions {
                let heard =
                    subscription.heard.as_ref().expect("an answered subscription is active");
                let (count, users) = self.sessions.truth(n);
                let lane = subscription.asked.lane;
                if [LANE_PLAIN, LANE_SESSIONS].contains(&lane) || subscription.wanted.is_some() {
                    continue;
                }
                if n >= META {
                    let (count, users) = self.sessions.truth(n - META);
                    assert!(heard.users.is_subset(&users), "{} of {n}", session.id);
                    assert!(heard.count.is_none_or(|it| it == count), "{} of {n}", session.id);
                    let is_occupied = count > 0;
                    assert!(heard.is_occupied.is_none_or(|it| it == is_occupied));
                    continue;
                }
                assert_eq!(heard.users, users, "{} in {n}", session.id);
                if announces(n) && !subscription.asked.silent {
                    assert_eq!(heard.count, Some(count), "{} in {n}", session.id);
                }
            }
        }
        let last = self.sessions.messages.len();
        for (message, (channel, _, serial)) in
            self.sessions.messages.iter().enumerate().skip(last - last.min(6))
        {
            let subscribers =
                self.sessions.open.values().filter_map(|it| it.subscriptions.get(&number(channel)));
            let all = |it: &&Subscription| {
                let takes_frames = it.wanted.is_none() && it.asked.lane != LANE_SESSIONS;
                takes_frames && !is_guarded(number(channel))
            };
            for subscription in subscribers.filter(all) {
                let heard = subscription.heard.as_ref().unwrap();
                assert_eq!(Some(heard.serial), *serial, "everyone heard message {message}");
            }
        }
        self.check_descriptions();
    }

    /// What the homes say agrees with what is true.
    fn check_descriptions(&mut self) {
        for n in 0..CHANNELS {
            let home = self.edges[0].home_of(&channel(n));
            let from = ConnectionId { shard: ShardId(0), slot: 0, generation: 0 };
            let mut out = Vec::new();
            for command in [Command::Describe(channel(n)), Command::Members(channel(n))] {
                let ask = Up::Ask { from, ticket: Ticket(0), command };
                self.homes[home.index()].handle(ask, ShardId(0), self.now, &Frames, &mut out);
            }
            let [
                (_, Down::Answer { reply: Reply::Described(it), .. }),
                (_, Down::Answer { reply: Reply::Members(members), .. }),
            ] = &out[..]
            else {
                panic!("{out:?}");
            };
            let (subscription_count, users) = self.sessions.truth(n);
            let user_count = users.len() as u64;
            assert_eq!(**it, Description { subscription_count, user_count, last: it.last.clone() });
            assert_eq!(
                members.iter().map(|m| m.user_id.to_string()).collect::<BTreeSet<_>>(),
                users
            );
        }
        let subscriptions: usize =
            self.sessions.open.values().map(|it| it.subscriptions.len()).sum();
        assert_eq!(self.edges.iter().map(Edge::subscriptions).sum::<usize>(), subscriptions);
    }

    /// Everyone goes; then nothing is left anywhere.
    fn leave(mut self) {
        for key in self.sessions.open.keys().copied().collect::<Vec<_>>() {
            self.close(key);
        }
        self.settle();
        self.expire(Millis(10_000));
        for (edge, home) in self.edges.iter().zip(&self.homes) {
            assert_eq!((edge.subscriptions(), edge.channels()), (0, 0));
            assert_eq!((home.channels(), home.members(), home.next_due()), (0, 0, None));
        }
    }
}
