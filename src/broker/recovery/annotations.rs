//! Homes whose messages are annotated, on a store that fails, and crash, against what is counted again from the history.
//!
//! Annotators say things about messages and take them back, twice now and then; listeners come and go, ask for the
//! summaries, and take those that are told; the store commits in groups, late, and fails; the process crashes. Checked:
//! what was acknowledged is in the history, once; what is listed about a message is what the history has of it; nothing is
//! taken back twice; what a new listener is told, and what one who listened was told last, is what the history makes.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::broker::summary::Summary;
use crate::broker::versioned::{
    Annotate, Annotated, Annotating, Annotation, AnnotationsQuery, MessageRef, Summarized,
    Summarizer,
};

const STEPS: usize = 400;
const SEEDS: u64 = 400;
const CLIENTS: usize = 4;
/// The first two are kept as a whole; of the others the newest events.
const NAMES: [&str; 4] = ["durable-a", "memory-all", "durable-b", "memory-few"];
const WHOLE: usize = 2;
const KINDS: [(&str, Summarizer); 5] = [
    ("a:total.v1", Summarizer::Total),
    ("b:flag.v1", Summarizer::Flag),
    ("c:distinct.v1", Summarizer::Distinct),
    ("d:unique.v1", Summarizer::Unique),
    ("e:multiple.v1", Summarizer::Multiple),
];

fn channel(n: usize) -> Channel {
    Channel { app: AppIndex(0), name: NAMES[n].into() }
}

/// By message and kind.
type View = BTreeMap<(EventId, Name), String>;

fn view<'a>(all: impl IntoIterator<Item = &'a Arc<Summarized>>) -> View {
    let text = |it: &Summarized| String::from_utf8_lossy(&it.summary.0).into_owned();
    all.into_iter().map(|it| ((it.message.id, it.kind.clone()), text(it))).collect()
}

fn annotated(event: &Event) -> Option<&Annotated> {
    match &event.happening {
        Happening::Annotated(it) => Some(it),
        _ => None,
    }
}

#[derive(Clone, Debug)]
enum Act {
    Publish,
    Annotate(Annotating),
}

#[derive(Clone, Debug)]
struct Sent {
    channel: usize,
    act: Act,
    told: Option<Published>,
}

struct Client {
    channel: usize,
    stage: ClientStage,
    ticket: u32,
    /// What it knows, once it was told.
    view: Option<View>,
}

#[derive(Debug, Default)]
struct Counts {
    said: u64,
    taken_back: u64,
    repeated: u64,
    not_found: u64,
    not_owner: u64,
    refused: u64,
    told: u64,
    summaries: u64,
    compared: u64,
}

enum Asked {
    Page(Page),
    Annotations(Vec<Arc<Event>>, Option<EventId>),
    Summaries(View),
    Refused(Refusal),
}

struct Scene {
    seed: u64,
    chance: Prng,
    slots: Arc<Slots>,
    rules: Arc<Rules>,
    homes: Vec<Home>,
    store: SlowStore,
    downs: Vec<VecDeque<Down>>,
    clients: Vec<Client>,
    sent: Vec<Sent>,
    now: Now,
    /// What was known of a channel is void.
    resets: [u64; NAMES.len()],
    crashes: u64,
    /// Those that may be annotated, and their annotations.
    messages: Vec<(usize, MessageRef)>,
    annotations: Vec<(usize, MessageRef, EventId)>,
    counts: Counts,
    asked: Option<Asked>,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let rule = |mode, events_max| Rule { mode, age: Millis(0), events_max, bytes_max: 0 };
        let rules = AppRules {
            id: "app".into(),
            rules: vec![
                (Pattern("durable-*".into()), rule(Mode::Durable, 0)),
                (Pattern("memory-all".into()), rule(Mode::Memory, 0)),
                (Pattern("memory-*".into()), rule(Mode::Memory, MEMORY_EVENTS)),
            ],
        };
        let client = |n| Client {
            channel: n % NAMES.len(),
            stage: ClientStage::Away,
            ticket: 0,
            view: None,
        };
        let mut scene = Self {
            seed,
            chance: Prng::new(seed),
            slots: Arc::new(Slots::new(SHARDS, [seed, 1])),
            rules: Rules::new(vec![rules]),
            homes: Vec::new(),
            store: SlowStore::open(Memory::default()),
            downs: (0..SHARDS).map(|_| VecDeque::new()).collect(),
            clients: (0..CLIENTS).map(client).collect(),
            sent: Vec::new(),
            now: BEGIN,
            resets: [0; NAMES.len()],
            crashes: 0,
            messages: Vec::new(),
            annotations: Vec::new(),
            counts: Counts::default(),
            asked: None,
        };
        scene.start_homes();
        scene
    }

    fn start_homes(&mut self) {
        let home = |shard: u16| {
            Home::new(Arc::clone(&self.slots), Limits { channels_max: 100 }).keeping(Keeping {
                rules: Arc::clone(&self.rules),
                origin: self.now,
                seed: self.seed ^ self.crashes << 32 ^ u64::from(shard),
                window_events: WINDOW_EVENTS,
                ..Keeping::default()
            })
        };
        self.homes = (0..SHARDS).map(home).collect();
    }

    fn connection(n: usize) -> ConnectionId {
        ConnectionId { shard: ShardId(n as u16 % SHARDS), slot: n as u32, generation: 1 }
    }

    fn up(&mut self, to: &Channel, from: ConnectionId, ticket: u32, command: Command) {
        let home = self.slots.home_of(to).index();
        tell!("up {from} {ticket} {command:?}");
        let up = Up::Ask { from, ticket: Ticket(ticket), command };
        let mut out = Vec::new();
        self.homes[home].handle(up, from.shard, self.now, &Nothing, &mut out);
        self.post(home, out);
    }

    fn post(&mut self, home: usize, out: Vec<(ShardId, Down)>) {
        for (shard, down) in out {
            self.downs[shard.index()].push_back(down);
        }
        while let Some((tag, ask)) = self.homes[home].next_ask() {
            tell!("ask {home} {tag} {ask:?}");
            self.store.ask(home, tag, ask);
        }
    }

    fn subscribe(&mut self, n: usize) {
        let client = &mut self.clients[n];
        if client.stage != ClientStage::Away {
            return;
        }
        (client.stage, client.view) = (ClientStage::Asked(false), None);
        client.ticket += 1;
        let (ticket, at) = (client.ticket, client.channel);
        let subscribe = Subscribe::new(channel(at), LaneId(0));
        let command = Command::Subscribe(Box::new(subscribe));
        self.up(&channel(at), Self::connection(n), ticket, command);
    }

    fn leave(&mut self, n: usize) {
        match self.clients[n].stage {
            ClientStage::Away => {}
            ClientStage::Asked(_) => self.clients[n].stage = ClientStage::Asked(true),
            ClientStage::Here => {
                self.clients[n].stage = ClientStage::Away;
                self.detach(n);
            }
        }
    }

    fn detach(&mut self, n: usize) {
        let channel = channel(self.clients[n].channel);
        let home = self.slots.home_of(&channel).index();
        let ended = Box::new(Subscribe::new(channel, LaneId(0)));
        let up = Up::Detach(ended, Parting::Unsubscribed);
        let mut out = Vec::new();
        let shard = Self::connection(n).shard;
        self.homes[home].handle(up, shard, self.now, &Nothing, &mut out);
        self.post(home, out);
    }

    fn send(&mut self, at: usize, act: Act) {
        let number = self.sent.len();
        let command = match &act {
            Act::Publish => {
                let data = Payload(Bytes::from(number.to_string()));
                let publish = Publish::new(channel(at), "e".into(), data, self.now.steady);
                Command::Publish(Box::new(publish))
            }
            Act::Annotate(what) => {
                let (channel, what) = (channel(at), what.clone());
                let annotate = Annotate { channel, what, summary_bytes_max: 1 << 16, report: None };
                Command::Annotate(Box::new(annotate))
            }
        };
        self.sent.push(Sent { channel: at, act, told: None });
        let from = Self::connection(CLIENTS + number % 2);
        self.up(&channel(at), from, number as u32, command);
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        // Mostly one of the newest.
        let from = if self.chance.below(3) == 0 { 0 } else { all.len().saturating_sub(6) };
        let left = (all.len() - from) as u64;
        (left > 0).then(|| all[from + self.chance.below(left) as usize])
    }

    fn say(&mut self) {
        let Some((at, message)) = self.one_of(&self.messages.clone()) else { return };
        let (kind, summarizer) = KINDS[self.chance.below(5) as usize];
        let client = ["ann", "bob", "cy"][self.chance.below(3) as usize];
        let is_nobody = self.chance.below(3) == 0
            && matches!(summarizer, Summarizer::Total | Summarizer::Multiple);
        let annotation = Annotation {
            message,
            kind: kind.into(),
            summarizer,
            name: Some(["up", "down"][self.chance.below(2) as usize].into()),
            client_id: (!is_nobody).then(|| client.into()),
            count: (self.chance.below(2) == 0).then(|| 1 + self.chance.below(20)),
            data: None,
            encoding: None,
        };
        self.send(at, Act::Annotate(Annotating::Say(annotation)));
    }

    fn take_back(&mut self) {
        let Some((at, message, id)) = self.one_of(&self.annotations.clone()) else { return };
        let only_of = (self.chance.below(3) == 0).then(|| Name::from("ann"));
        let what = Annotating::TakeBack { message, id, only_of };
        self.send(at, Act::Annotate(what.clone()));
        if self.chance.below(4) == 0 {
            self.send(at, Act::Annotate(what));
        }
    }

    /// About something that never was.
    fn say_wrongly(&mut self) {
        let Some((at, message)) = self.one_of(&self.messages.clone()) else { return };
        let message = match self.chance.below(2) {
            0 => MessageRef { id: EventId(message.id.0 ^ 1), ..message },
            _ => MessageRef { serial: Serial(message.serial.0 + 1), ..message },
        };
        let what = match self.chance.below(2) {
            0 => Annotating::TakeBack { message, id: message.id, only_of: None },
            _ => Annotating::Say(Annotation {
                message,
                kind: KINDS[0].0.into(),
                summarizer: KINDS[0].1,
                name: None,
                client_id: None,
                count: None,
                data: None,
                encoding: None,
            }),
        };
        self.send(at, Act::Annotate(what));
    }

    fn take_down(&mut self, shard: usize) {
        let Some(down) = self.downs[shard].pop_front() else { return };
        tell!("down {shard} {down:?}");
        match down {
            Down::Deliver(delivery) => {
                let Happening::Summarized(it) = &delivery.event.happening else { return };
                self.counts.told += 1;
                for n in 0..CLIENTS {
                    let client = &mut self.clients[n];
                    let is_here = client.stage == ClientStage::Here
                        && Self::connection(n).shard.index() == shard
                        && channel(client.channel) == delivery.event.channel;
                    if is_here {
                        client.view.get_or_insert_default().extend(view([it]));
                    }
                }
            }
            Down::Attach { to, ticket, .. } => {
                let n = to.slot as usize;
                assert_eq!(self.clients[n].ticket, ticket.0);
                if self.clients[n].stage == ClientStage::Asked(true) {
                    self.clients[n].stage = ClientStage::Away;
                    return self.detach(n);
                }
                self.clients[n].stage = ClientStage::Here;
                let at = channel(self.clients[n].channel);
                self.clients[n].ticket += 1;
                let ticket = self.clients[n].ticket;
                self.up(&at, to, ticket, Command::Summaries(at.clone()));
            }
            Down::Answer { to, ticket, reply } if (to.slot as usize) < CLIENTS => {
                let client = &mut self.clients[to.slot as usize];
                if client.ticket != ticket.0 || client.stage != ClientStage::Here {
                    return;
                }
                match reply {
                    Reply::Summaries(all) => {
                        self.counts.summaries += 1;
                        client.view.get_or_insert_default().extend(view(&all));
                    }
                    // Such a client comes again.
                    Reply::Refused(_) => {
                        self.leave(to.slot as usize);
                    }
                    other => panic!("{other:?}"),
                }
            }
            Down::Answer { to, ticket, reply } if to.slot as usize == CLIENTS + 2 => {
                let _ = ticket;
                self.asked = Some(match reply {
                    Reply::Page(page) => Asked::Page(*page),
                    Reply::Annotations(it) => Asked::Annotations(it.events, it.next),
                    Reply::Summaries(all) => Asked::Summaries(view(&all)),
                    Reply::Refused(refusal) => Asked::Refused(refusal),
                    Reply::Purged(_) => return,
                    other => panic!("{other:?}"),
                });
            }
            Down::Answer { ticket, reply, .. } => self.answered(ticket.0 as usize, reply),
        }
    }

    fn answered(&mut self, number: usize, reply: Reply) {
        let Sent { channel: at, act, .. } = self.sent[number].clone();
        match (reply, act) {
            (Reply::Published(published), Act::Publish) => {
                let message = MessageRef { id: published.id, serial: published.serial };
                self.messages.push((at, message));
                self.sent[number].told = Some(published);
            }
            (Reply::Published(published), Act::Annotate(Annotating::Say(annotation))) => {
                assert!(!published.is_repeated);
                self.counts.said += 1;
                self.annotations.push((at, annotation.message, published.id));
                self.sent[number].told = Some(published);
            }
            (Reply::Published(published), Act::Annotate(Annotating::TakeBack { id, .. })) => {
                if published.is_repeated {
                    self.counts.repeated += 1;
                    assert_eq!(published.id, id, "seed {}", self.seed);
                } else {
                    self.counts.taken_back += 1;
                    self.sent[number].told = Some(published);
                }
            }
            (Reply::Refused(Refusal::NotFound), act) => {
                self.counts.not_found += 1;
                let is_known = match &act {
                    Act::Publish => true,
                    Act::Annotate(Annotating::Say(it)) => self.messages.contains(&(at, it.message)),
                    Act::Annotate(Annotating::TakeBack { message, id, .. }) => {
                        self.annotations.contains(&(at, *message, *id))
                    }
                };
                let is_whole = at < WHOLE && self.resets[at] == 0;
                assert!(!(is_known && is_whole), "seed {}: {act:?} not found", self.seed);
            }
            (Reply::Refused(Refusal::NotOwner), Act::Annotate(Annotating::TakeBack { .. })) => {
                self.counts.not_owner += 1;
            }
            (Reply::Refused(refusal), _) => {
                assert!(
                    matches!(
                        refusal,
                        Refusal::StoreBusy
                            | Refusal::StoreFailed
                            | Refusal::StoreUnreadable
                            | Refusal::StoreFull
                    ),
                    "seed {}: {refusal:?}",
                    self.seed
                );
                self.counts.refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }

    fn take_answer(&mut self, home: usize) {
        let Some((tag, answer)) = self.store.answers[home].pop_front() else { return };
        tell!("answer {home} {tag} {answer:?}");
        let mut out = Vec::new();
        self.homes[home].stored(tag, answer, self.now, &Nothing, &mut out);
        self.post(home, out);
    }

    fn pass(&mut self, span: Millis) {
        self.now.steady = self.now.steady + span;
        self.now.wall = UnixMillis(self.now.wall.0 + span.0);
        for home in 0..SHARDS as usize {
            let mut out = Vec::new();
            self.homes[home].expire(self.now, &Nothing, &mut out);
            self.post(home, out);
        }
    }

    fn void(&mut self, at: usize) {
        self.resets[at] += 1;
        self.messages.retain(|it| it.0 != at);
        self.annotations.retain(|it| it.0 != at);
        for n in (0..CLIENTS).filter(|it| it % NAMES.len() == at) {
            self.leave(n);
        }
    }

    fn crash(&mut self) {
        tell!("crash");
        self.crashes += 1;
        self.store = SlowStore::open(self.store.memory.clone());
        self.downs.iter_mut().for_each(VecDeque::clear);
        self.clients.iter_mut().for_each(|it| it.stage = ClientStage::Away);
        self.now.steady = self.now.steady + Millis(10);
        self.now.wall = self.clock();
        self.start_homes();
        for at in (0..NAMES.len()).filter(|at| NAMES[*at].starts_with("memory")) {
            self.void(at);
        }
    }

    fn clock(&self) -> UnixMillis {
        UnixMillis(BEGIN.wall.0 + (self.now.steady - BEGIN.steady).0 / 1_000_000)
    }

    fn step(&mut self) {
        let clock = self.clock();
        match self.chance.below(100) {
            0..6 => {
                let at = self.chance.below(NAMES.len() as u64) as usize;
                self.send(at, Act::Publish);
            }
            6..24 => self.say(),
            24..32 => self.take_back(),
            32..33 => self.say_wrongly(),
            33..40 => {
                let n = self.chance.below(CLIENTS as u64) as usize;
                self.subscribe(n);
            }
            40..42 => {
                let n = self.chance.below(CLIENTS as u64) as usize;
                self.leave(n);
            }
            42..60 => {
                let shard = self.chance.below(SHARDS.into()) as usize;
                self.take_down(shard);
            }
            60..78 => {
                let mut chance = Prng::new(self.chance.next_u64());
                self.store.step(&mut chance, clock);
            }
            78..94 => {
                let home = self.chance.below(SHARDS.into()) as usize;
                self.take_answer(home);
            }
            94 => self.store.sweep(clock),
            95 => {
                let span = [10, 1_500, 35_000][self.chance.below(3) as usize];
                self.pass(Millis(span));
            }
            96 if self.chance.below(6) == 0 => {
                let at = self.chance.below(NAMES.len() as u64) as usize;
                self.void(at);
                let command = Command::Reset(channel(at));
                self.up(&channel(at), Self::connection(CLIENTS + 2), 0, command);
                self.settle();
                self.void(at);
            }
            97 if self.chance.below(3) == 0 => self.crash(),
            _ => {
                let span = self.chance.below(9);
                self.pass(Millis(span));
            }
        }
    }

    /// Lets everything that is under way come to its end, what waits for its time included.
    fn settle(&mut self) {
        for round in 0..10_000 {
            for shard in 0..SHARDS as usize {
                while !self.downs[shard].is_empty() {
                    self.take_down(shard);
                }
                while !self.store.answers[shard].is_empty() {
                    self.take_answer(shard);
                }
            }
            let clock = self.clock();
            let mut chance = Prng::new(self.seed.wrapping_add(round));
            self.store.step(&mut chance, clock);
            let is_open = self.homes.iter().any(|home| home.store_asks_open() > 0);
            let is_quiet = self.downs.iter().all(VecDeque::is_empty)
                && self.store.answers.iter().all(VecDeque::is_empty);
            if !is_open && is_quiet {
                return;
            }
        }
        panic!("seed {}: it never comes to rest", self.seed);
    }

    /// What a home says, once the store lets it.
    fn ask(&mut self, at: usize, command: &Command) -> Asked {
        for _ in 0..100 {
            self.up(&channel(at), Self::connection(CLIENTS + 2), 0, command.clone());
            self.settle();
            match self.asked.take() {
                Some(Asked::Refused(refusal)) if refusal != Refusal::NotFound => {}
                Some(asked) => return asked,
                None => {}
            }
            self.pass(Millis(1_500));
        }
        panic!("seed {}: no answer to {command:?}", self.seed);
    }

    fn history(&mut self, at: usize) -> Vec<Arc<Event>> {
        let mut events: Vec<Arc<Event>> = Vec::new();
        loop {
            let from = events.last().map_or(Serial(0), |it| Serial(it.serial.0 + 1));
            let query = PageQuery {
                epoch: None,
                from,
                to: None,
                from_at: None,
                to_at: None,
                is_newest_first: false,
                events_max: 50,
                bytes_max: 1 << 20,
                is_latest: false,
            };
            let Asked::Page(page) = self.ask(at, &Command::History(channel(at), Box::new(query)))
            else {
                panic!("seed {}: no page", self.seed)
            };
            events.extend(page.events);
            if !page.has_more {
                return events;
            }
        }
    }

    fn listed(&mut self, at: usize, message: MessageRef) -> Option<Vec<Arc<Event>>> {
        let (mut all, mut from) = (Vec::new(), None);
        loop {
            let query = AnnotationsQuery { message, kind: None, from, annotations_max: 3 };
            match self.ask(at, &Command::Annotations(channel(at), Box::new(query))) {
                Asked::Annotations(events, next) => {
                    assert!(events.len() <= 3);
                    all.extend(events);
                    match next {
                        Some(_) => from = next,
                        None => return Some(all),
                    }
                }
                Asked::Refused(Refusal::NotFound) => return None,
                _ => panic!("seed {}: no list", self.seed),
            }
        }
    }

    fn check(&mut self) {
        // Three times: what could not be read is tried again.
        for _ in 0..3 {
            self.settle();
            self.pass(Millis(1_500));
            self.settle();
        }
        for at in 0..NAMES.len() {
            self.check_channel(at);
        }
    }

    fn check_channel(&mut self, at: usize) {
        let seed = self.seed;
        let events = self.history(at);
        assert!(events.windows(2).all(|two| two[0].id < two[1].id), "seed {seed}: {}", NAMES[at]);
        let by_id: BTreeMap<EventId, &Arc<Event>> = events.iter().map(|it| (it.id, it)).collect();
        let oldest = events.first().map_or(Serial(0), |it| it.serial);
        let epoch = events.first().and_then(|it| it.epoch);
        // What was acknowledged is there.
        for sent in self.sent.iter().filter(|it| it.channel == at) {
            let told = sent.told.filter(|it| it.epoch == epoch && it.serial >= oldest);
            let Some(told) = told else { continue };
            let event = by_id.get(&told.id);
            assert_eq!(event.map(|it| it.serial), Some(told.serial), "seed {seed}: {sent:?}");
            let found = event.and_then(|it| annotated(it));
            match &sent.act {
                Act::Publish => assert!(found.is_none()),
                Act::Annotate(Annotating::Say(it)) => {
                    assert_eq!(found.map(|it| &it.annotation), Some(it), "seed {seed}");
                }
                Act::Annotate(Annotating::TakeBack { id, .. }) => {
                    assert_eq!(found.and_then(|it| it.takes_back), Some(*id), "seed {seed}");
                }
            }
        }
        // Nothing is taken back twice, or before it is said.
        let mut taken_back = BTreeSet::new();
        let mut expected: BTreeMap<(EventId, Name), Summary> = BTreeMap::new();
        let mut lists: BTreeMap<MessageRef, Vec<Arc<Event>>> = BTreeMap::new();
        for event in &events {
            let message = MessageRef { id: event.id, serial: event.serial };
            let Some(it) = annotated(event) else {
                lists.insert(message, Vec::new());
                continue;
            };
            let Annotation { message, kind, summarizer, .. } = &it.annotation;
            if let Some(target) = it.takes_back {
                assert!(taken_back.insert(target), "seed {seed}: {target} is taken back twice");
                assert!(at >= WHOLE || by_id.contains_key(&target), "seed {seed}");
                assert!(target < event.id);
            }
            let new = || Summary::new(*summarizer);
            expected.entry((message.id, kind.clone())).or_insert_with(new).apply(it);
            lists.entry(*message).or_default().push(event.clone());
        }
        // What is listed is what the history has.
        for (message, list) in &lists {
            let listed = self.listed(at, *message);
            let is_gone = message.serial < oldest;
            let ids = |it: &[Arc<Event>]| it.iter().map(|it| it.id).collect::<Vec<_>>();
            if at < WHOLE || !list.is_empty() || !is_gone {
                let listed = listed.unwrap_or_default();
                assert_eq!(ids(&listed), ids(list), "seed {seed}: {} {message:?}", NAMES[at]);
                assert!(listed.iter().zip(list).all(|(a, b)| a.happening == b.happening));
            }
        }
        // What is told is what it makes.
        let Asked::Summaries(view) = self.ask(at, &Command::Summaries(channel(at))) else {
            panic!("seed {seed}: no summaries")
        };
        if at < WHOLE {
            let text = |it: &Summary| String::from_utf8_lossy(&it.write(1 << 16).0).into_owned();
            let expected: View = expected.iter().map(|(key, it)| (key.clone(), text(it))).collect();
            assert_eq!(view, expected, "seed {seed}: {}", NAMES[at]);
            self.counts.compared += expected.len() as u64;
        } else {
            let messages = |view: &mut dyn Iterator<Item = EventId>| view.collect::<BTreeSet<_>>();
            assert_eq!(
                messages(&mut view.keys().map(|it| it.0)),
                messages(&mut expected.keys().map(|it| it.0)),
                "seed {seed}: {}",
                NAMES[at]
            );
        }
        for n in (0..CLIENTS).filter(|n| self.clients[*n].channel == at) {
            let client = &self.clients[n];
            if client.stage != ClientStage::Here {
                continue;
            }
            let known = client.view.as_ref().expect("who is here was told");
            for (key, summary) in &view {
                // What is not kept as a whole may count less when it is read again.
                let known = known.get(key);
                let is_known = match NAMES[at] {
                    "durable-b" => known.is_some(),
                    _ => known == Some(summary),
                };
                assert!(is_known, "seed {seed}: client {n} {key:?} {known:?} {summary}");
            }
        }
    }
}

impl Scene {
    /// Everything is forgotten, and nobody is there: no memory is taken any more.
    fn end(&mut self) {
        for at in 0..NAMES.len() {
            self.void(at);
            let command = Command::Reset(channel(at));
            self.up(&channel(at), Self::connection(CLIENTS + 2), 0, command);
        }
        self.settle();
        (0..NAMES.len()).for_each(|at| self.void(at));
        for _ in 0..3 {
            self.pass(Millis(130_000));
            self.settle();
        }
        for home in &self.homes {
            let held = (home.history_bytes(), home.channels());
            assert_eq!(held, (0, 0), "seed {}", self.seed);
        }
    }
}

#[test]
fn what_is_said_about_messages_survives_and_adds_up() {
    let seeds = std::env::var("RINGMAIN_SEEDS").ok().and_then(|it| it.parse().ok());
    let first = std::env::var("RINGMAIN_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(0);
    let mut total = Counts::default();
    for seed in first..first + seeds.unwrap_or(SEEDS) {
        let mut scene = Scene::new(seed);
        for step in 1..=STEPS {
            scene.step();
            if step % 200 == 0 {
                scene.check();
            }
        }
        scene.crash();
        scene.check();
        scene.end();
        let counts = scene.counts;
        total.said += counts.said;
        total.taken_back += counts.taken_back;
        total.repeated += counts.repeated;
        total.not_found += counts.not_found;
        total.not_owner += counts.not_owner;
        total.refused += counts.refused;
        total.told += counts.told;
        total.summaries += counts.summaries;
        total.compared += counts.compared;
    }
    println!("{total:?}");
    for (what, count) in [
        ("said", total.said),
        ("taken back", total.taken_back),
        ("repeated", total.repeated),
        ("not found", total.not_found),
        ("of another", total.not_owner),
        ("refused", total.refused),
        ("told", total.told),
        ("told at the beginning", total.summaries),
        ("compared", total.compared),
    ] {
        assert!(count > 50 || seeds.is_some(), "hardly anything was {what}: {total:?}");
    }
}
