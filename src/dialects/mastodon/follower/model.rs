//! The relay against a plain model of who follows what: random asks, ends, messages, answers late, failing or out of
//! order, links lost.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::auth::source::{Feeds, Follow, Need};
use crate::auth::upstream::{Cell, FeedOrder, Parameter};
use crate::auth::{Finding, Following, What};
use crate::base::ids::{ShardId, Ticket};
use crate::base::name::Name;
use crate::base::prng::Prng;
use crate::base::time::UnixMillis;
use crate::broker::Publish;
use crate::dialects::mastodon::brief::{Brief, Fate, Viewer};
use crate::dialects::mastodon::names;

const ACCOUNTS: i64 = 4;
const TOKENS: i64 = 40;
/// Each author, with their domain.
const AUTHORS: [(i64, &str); 4] = [(50, ""), (51, ""), (52, ""), (53, "d.example")];
const MENTIONED: i64 = 60;
/// A keyword of each version of a filter; a status has them all.
const VERSIONS: u64 = 400;

const SECOND: u64 = 1_000_000_000;
/// A session that was told whose its token is may take as long until it hears when that ends.
const DEAF: Millis = Millis(1000);
/// And as long after that it has heard so, whenever it was.
const HEARD_AFTER: Millis = Millis(2000);

fn account_of(token: i64) -> i64 {
    1 + token % ACCOUNTS
}

/// Whether the database says that one does not want the other, whoever of them said so.
fn blocks(account: i64, person: i64) -> bool {
    matches!((account, person), (1, 50) | (2, 51) | (1, MENTIONED) | (52, 3))
}

fn is_hidden(account: i64, status: &Sent) -> bool {
    blocks(account, status.author)
        || blocks(status.author, account)
        || status.mentions && blocks(account, MENTIONED)
        || account == 4 && status.author == 53
}

/// What a session asked.
enum Asked {
    Token(i64),
    Follow(Vec<String>),
    Unfollow(Vec<String>),
    Submit,
}

/// One that a connection follows: from which number, and after how many messages in all.
type Held = (u64, u64);

#[derive(Default)]
struct Peer {
    account: Option<i64>,
    token: Option<i64>,
    ticket: u32,
    asks: VecDeque<(u32, Asked)>,
    follows: BTreeMap<String, Vec<Held>>,
    /// From when on it hears when its token ends.
    hears: Nanos,
    is_killed: bool,
    is_gone: bool,
}

/// A message that was sent on a judged channel.
struct Sent {
    id: u64,
    is_status: bool,
    author: i64,
    mentions: bool,
    /// The version of each account's filters that was in force.
    versions: BTreeMap<i64, u64>,
}

struct World {
    chance: Prng,
    /// The database always answers, and before any time passes: nothing is lost.
    is_calm: bool,
    relay: Relay,
    counts: Arc<Counts>,
    now: Nanos,
    namespace: &'static str,
    pending: BTreeMap<u64, (Statement, Rows)>,
    /// What Redis has.
    subscribed: BTreeSet<String>,
    touched: BTreeMap<String, Nanos>,
    is_linked: bool,
    peers: BTreeMap<u32, Peer>,
    peer_last: u32,
    /// What the database has.
    revoked: BTreeSet<i64>,
    versions: BTreeMap<i64, u64>,
    /// The version that the relay was told of.
    told: BTreeMap<i64, u64>,
    killed: BTreeSet<i64>,
    sent: HashMap<String, VecDeque<Sent>>,
    messages: u64,
    dropped: u64,
    broken: u64,
    withheld: u64,
    published: u64,
}

fn at(id: u32) -> ConnectionId {
    ConnectionId { shard: ShardId(0), slot: id, generation: 1 }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Prng::new(seed);
        let namespace = if chance.chance(1, 3) { "ns" } else { "" };
        let plan = Plan {
            app: AppIndex(3),
            namespace: namespace.to_owned(),
            relations_cache: Millis(if chance.chance(1, 3) { 0 } else { 5000 }),
            sends_filters_changed: false,
            enforces_expiry: false,
        };
        let counts = Arc::<Counts>::default();
        Self {
            is_calm: chance.chance(1, 4),
            chance,
            relay: Relay::new(plan, counts.clone()),
            counts,
            now: Nanos(SECOND),
            namespace,
            pending: BTreeMap::new(),
            subscribed: BTreeSet::new(),
            touched: BTreeMap::new(),
            is_linked: false,
            peers: BTreeMap::new(),
            peer_last: 0,
            revoked: BTreeSet::new(),
            versions: (1..=ACCOUNTS).map(|it| (it, 0)).collect(),
            told: (1..=ACCOUNTS).map(|it| (it, 0)).collect(),
            killed: BTreeSet::new(),
            sent: HashMap::new(),
            messages: 0,
            dropped: 0,
            broken: 0,
            withheld: 0,
            published: 0,
        }
    }

    fn full(&self, channel: &str) -> String {
        if self.namespace.is_empty() {
            channel.to_owned()
        } else {
            format!("{}:{channel}", self.namespace)
        }
    }

    fn hear(&mut self, input: FollowerInput<'_>) {
        let mut out = Vec::new();
        let now = Now { steady: self.now, wall: UnixMillis(self.now.0 / 1_000_000) };
        self.relay.handle(input, now, &mut out);
        for output in out {
            match output {
                FollowerOutput::Tell(to, ticket, finding) => self.is_told(to.slot, ticket, finding),
                FollowerOutput::Publish(publish) => self.is_published(&publish),
                FollowerOutput::Feed(order) => self.is_ordered(order),
                FollowerOutput::Query(number, statement) => {
                    let rows = self.rows(&statement);
                    assert!(self.pending.insert(number, (statement, rows)).is_none());
                }
            }
        }
        self.check();
    }

    fn is_ordered(&mut self, order: FeedOrder) {
        match order {
            FeedOrder::Subscribe(channels) => {
                for channel in channels {
                    assert!(self.subscribed.insert(channel.to_string()), "{channel} twice");
                }
            }
            FeedOrder::Unsubscribe(channels, _) => {
                for channel in channels {
                    assert!(self.subscribed.remove(&*channel), "{channel} was not subscribed");
                }
            }
            FeedOrder::Touch(keys, seconds) => {
                assert_eq!(seconds, 1080);
                let touched = keys.into_iter().map(|it| (it.to_string(), self.now));
                self.touched.extend(touched);
            }
        }
    }

    fn is_told(&mut self, to: u32, ticket: Ticket, finding: Finding) {
        let peer = self.peers.get_mut(&to).expect("who is told has asked");
        let (asked, what) = peer.asks.pop_front().expect("each ask is answered once");
        assert_eq!(asked, ticket.0, "asks are answered in order");
        match (what, finding) {
            _ if peer.is_gone => {}
            (Asked::Token(token), Finding::Known(identity)) => {
                assert!(token < TOKENS);
                assert_eq!(*identity.user, *account_of(token).to_string());
                peer.token.get_or_insert(token);
                peer.hears = self.now + DEAF;
                peer.account = Some(account_of(token));
            }
            (Asked::Token(token), Finding::Unknown) => {
                assert!(token >= TOKENS || self.revoked.contains(&token));
            }
            (Asked::Follow(channels), Finding::Following(following)) => {
                let Following { judged_from, .. } = following;
                for channel in channels {
                    let held = peer.follows.entry(channel).or_default();
                    held.push((judged_from, self.messages));
                }
            }
            (Asked::Follow(channels), Finding::Unknown) => {
                let own = format!("timeline:list:{}", peer.account.unwrap());
                let is_foreign = channels[0].starts_with("timeline:list:") && channels[0] != own;
                // Whoever was told to end gets nothing more, whether they have heard that or not.
                let is_condemned = peer.token.is_some_and(|it| self.killed.contains(&it));
                assert!(is_foreign || is_condemned);
            }
            (Asked::Unfollow(channels), Finding::Done) => {
                for channel in channels {
                    let Some(held) = peer.follows.get_mut(&channel) else { continue };
                    held.pop();
                    if held.is_empty() {
                        peer.follows.remove(&channel);
                    }
                }
            }
            (Asked::Unfollow(channels), Finding::Unknown) => {
                assert!(channels[0].starts_with("timeline:list:"));
            }
            (Asked::Submit, Finding::Done) => {}
            (Asked::Token(_) | Asked::Follow(_) | Asked::Unfollow(_), Finding::Unavailable) => {}
            (_, finding) => panic!("{finding:?}"),
        }
        if peer.is_gone && peer.asks.is_empty() {
            self.peers.remove(&to);
        }
    }

    fn is_published(&mut self, publish: &Publish) {
        assert_eq!((publish.channel.app, publish.quiet), (AppIndex(3), true));
        let channel = names::upstream(&publish.channel.name).unwrap().to_owned();
        let data = std::str::from_utf8(&publish.data.0).unwrap();
        if &*publish.name == "kill" {
            let account = channel.strip_prefix("timeline:system:").unwrap();
            if data != "null" {
                let token: i64 = data.trim_matches('"').parse().unwrap();
                assert_eq!(*account, *account_of(token).to_string());
                assert!(self.revoked.contains(&token), "token {token} is good");
                self.killed.insert(token);
                let hears = |it: &&mut Peer| it.token == Some(token) && it.hears <= self.now;
                self.peers.values_mut().filter(hears).for_each(|it| it.is_killed = true);
            }
            return;
        }
        self.published += 1;
        let id: u64 = data.split('"').find_map(|it| it.parse().ok()).unwrap();
        let sent = self.sent.get_mut(&channel).expect("what is published was sent there");
        let sent = loop {
            let first = sent.pop_front().expect("what is published was sent, in this order");
            if first.id == id {
                break first;
            }
            self.dropped += 1;
        };
        let brief = publish.meta.as_ref().and_then(|it| it.brief.get::<Brief>());
        assert_eq!(brief.is_some(), sent.is_status && names::is_judged(&channel));
        let Some(brief) = brief else { return };
        for peer in self.peers.values().filter(|it| !it.is_gone) {
            let Some(held) = peer.follows.get(&channel) else { continue };
            let account = peer.account.unwrap();
            for (judged_from, messages) in held {
                let viewer = Viewer {
                    account: Name::from(&*account.to_string()),
                    languages: None,
                    judged_from: *judged_from,
                    local: true,
                    remote: true,
                };
                let fate = brief.fate(&viewer);
                // What came after who follows was told so is judged for them.
                assert!(id <= *messages || brief.number >= *judged_from);
                match fate {
                    Fate::Hidden if brief.number < *judged_from => {}
                    Fate::Hidden if is_hidden(account, &sent) => {}
                    Fate::Hidden => self.withheld += 1,
                    Fate::Plain => panic!("each account has a filter that every status matches"),
                    Fate::Filtered(list) => {
                        assert!(!is_hidden(account, &sent), "account {account} got {id}");
                        let version = list.split("\"v").nth(1).unwrap().split('"').next();
                        let version: u64 = version.unwrap().parse().unwrap();
                        let least = sent.versions[&account];
                        assert!(version >= least, "account {account}: {version} of {least}");
                    }
                }
            }
        }
    }

    /// What the database says now.
    fn rows(&self, statement: &Statement) -> Rows {
        let integers = |at: usize| match &statement.parameters[at] {
            Parameter::Integers(it) => it.clone(),
            Parameter::Integer(it) => vec![*it],
            other => panic!("{other:?}"),
        };
        let text = |at: usize| match &statement.parameters[at] {
            Parameter::Text(it) => it.to_string(),
            other => panic!("{other:?}"),
        };
        let one = |it: i64| vec![Cell::Integer(it)];
        let word = |it: String| Cell::Text(it.into());
        match statement.sql {
            queries::TOKEN => {
                let token: i64 = text(0)[1..].parse().unwrap();
                let is_good = token < TOKENS && !self.revoked.contains(&token);
                let row = || {
                    let account = Cell::Integer(account_of(token));
                    vec![Cell::Integer(token), account, Cell::Null, word("read".into()), Cell::Null]
                };
                is_good.then(row).into_iter().collect()
            }
            queries::TOKENS_GOOD => {
                integers(0).into_iter().filter(|it| !self.revoked.contains(it)).map(one).collect()
            }
            queries::LIST => {
                let (list, account) = (integers(0)[0], integers(1)[0]);
                (list == account).then(|| one(list)).into_iter().collect()
            }
            queries::FEEDS | queries::PROBE => Rows::new(),
            queries::RELATIONS => {
                let (people, author, domain) = (integers(1), integers(2)[0], text(3));
                let is_hidden = |it: &i64| {
                    people.iter().any(|person| blocks(*it, *person))
                        || blocks(author, *it)
                        || *it == 4 && domain == "d.example"
                };
                integers(0).into_iter().filter(is_hidden).map(one).collect()
            }
            queries::FILTERS => {
                let row = |account: i64| {
                    let word = || word(format!("v{}", self.versions[&account]));
                    let (id, context) = (Cell::Integer(account), Cell::Texts(vec![]));
                    let action = Cell::Integer(0);
                    let is_whole = Cell::Bool(true);
                    vec![id.clone(), id, word(), context, Cell::Null, action, word(), is_whole]
                };
                integers(0).into_iter().map(row).collect()
            }
            sql => panic!("{sql}"),
        }
    }

    /// What holds whenever nothing is under way.
    fn check(&mut self) {
        let mut followed = BTreeSet::new();
        let mut expected = BTreeSet::new();
        for peer in self.peers.values() {
            followed.extend(peer.follows.keys().map(|it| self.full(it)));
            if let Some(token) = peer.token {
                let (token, account) = (token.to_string(), account_of(token).to_string());
                expected.insert(self.full(&names::access_token(&token)));
                expected.insert(self.full(&names::system(&account)));
            }
        }
        for channel in &followed {
            let name = channel.strip_prefix("ns:").unwrap_or(channel);
            let key = self.full(&format!("subscribed:{name}"));
            let touched = self.touched.get(&key).copied();
            let late = touched.is_none_or(|it| self.now > it + Millis(360_000));
            assert!(!late || !self.is_linked, "{key} was touched at {touched:?} of {:?}", self.now);
        }
        expected.extend(followed);
        assert_eq!(self.subscribed, expected);
        let subscriptions = self.counts.subscriptions.load(Ordering::Relaxed);
        assert_eq!(subscriptions, expected.len() as u64);
    }

    /// Who has a token that was taken back knows it, unless it has just come.
    fn check_killed(&self) {
        let is_over = |it: &&Peer| !it.is_killed && it.hears + HEARD_AFTER <= self.now;
        for peer in self.peers.values().filter(is_over).filter(|_| self.is_linked) {
            let is_good = peer.token.is_none_or(|it| !self.revoked.contains(&it));
            assert!(is_good, "token {:?} was taken back", peer.token);
        }
    }

    fn pass(&mut self, span: Millis) {
        let end = self.now + span;
        while let Some(due) = self.relay.due().filter(|it| *it <= end) {
            self.now = self.now.max(due);
            self.hear(FollowerInput::Due);
            assert!(self.relay.due().is_none_or(|it| it > self.now), "it is due for ever");
        }
        self.now = end;
    }

    fn answer(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let place = self.chance.below(self.pending.len() as u64) as usize;
        let number = *self.pending.keys().nth(place).unwrap();
        let fails = !self.is_calm && self.chance.chance(1, 8);
        self.answer_one(number, fails);
    }

    fn answer_one(&mut self, number: u64, fails: bool) {
        let (statement, then) = self.pending.remove(&number).unwrap();
        let now = self.rows(&statement);
        // The database looks at some moment between the question and the answer.
        let rows = if self.chance.chance(1, 2) { then } else { now };
        let answer = if fails { Err(Unanswered("lost".into())) } else { Ok(rows) };
        self.hear(FollowerInput::Answered(number, answer));
    }

    fn someone(&mut self) -> Option<u32> {
        let here: Vec<_> = self.peers.iter().filter(|it| !it.1.is_gone).map(|it| *it.0).collect();
        let place = self.chance.below(here.len().max(1) as u64) as usize;
        here.get(place).copied()
    }

    fn ask(&mut self, id: u32, asked: Asked, what: What) {
        let peer = self.peers.get_mut(&id).unwrap();
        peer.ticket += 1;
        let ticket = peer.ticket;
        peer.asks.push_back((ticket, asked));
        self.hear(FollowerInput::Asked(at(id), Ticket(ticket), what));
    }

    fn arrive(&mut self) {
        self.peer_last += 1;
        let id = self.peer_last;
        self.peers.insert(id, Peer::default());
        // Some have a token that the settings know.
        if self.chance.chance(1, 6) {
            let account = 1 + self.chance.below(ACCOUNTS as u64) as i64;
            self.peers.get_mut(&id).unwrap().account = Some(account);
            return;
        }
        let token = self.chance.below(TOKENS as u64 + 1) as i64;
        self.ask(id, Asked::Token(token), What::Token(format!("t{token}").into()));
    }

    fn follow_or_not(&mut self) {
        let Some(id) = self.someone() else { return };
        let Some(account) = self.peers[&id].account else { return };
        let list = 1 + self.chance.below(2) as i64;
        let (channels, is_judged, need) = match self.chance.below(6) {
            0 => {
                let home = format!("timeline:{account}");
                let notifications = format!("timeline:{account}:notifications");
                (vec![home, notifications], false, Need::Nothing)
            }
            1 => (vec![format!("timeline:{account}:notifications")], false, Need::Nothing),
            2 => {
                let need = Need::List(Name::from(&*list.to_string()));
                (vec![format!("timeline:list:{list}")], false, need)
            }
            3 => (vec!["timeline:hashtag:a".to_owned()], true, Need::Feeds(Feeds::Topic)),
            n => {
                let end = if n == 4 { "" } else { ":local" };
                (vec![format!("timeline:public{end}")], true, Need::Feeds(Feeds::Live))
            }
        };
        let follow = Box::new(Follow {
            channels: channels.iter().map(|it| Name::from(&**it)).collect(),
            account: Name::from(&*account.to_string()),
            is_judged,
            need,
        });
        if self.chance.chance(1, 2) {
            self.ask(id, Asked::Follow(channels), What::Follow(follow));
        } else {
            // As sessions do: what is judged is not heard any more when upstream is told.
            if is_judged {
                let peer = self.peers.get_mut(&id).unwrap();
                let held = peer.follows.get_mut(&channels[0]).and_then(|it| it.last_mut());
                held.into_iter().for_each(|it| *it = (u64::MAX, u64::MAX));
            }
            self.ask(id, Asked::Unfollow(channels), What::Unfollow(follow));
        }
    }

    fn leave(&mut self) {
        let Some(id) = self.someone() else { return };
        let peer = self.peers.get_mut(&id).unwrap();
        peer.is_gone = true;
        peer.token = None;
        peer.follows.clear();
        if peer.asks.is_empty() {
            self.peers.remove(&id);
        }
        self.hear(FollowerInput::Gone(at(id)));
    }

    fn message(&mut self) {
        let channels = [
            "timeline:public",
            "timeline:public:local",
            "timeline:hashtag:a",
            "timeline:1",
            "timeline:list:1",
        ];
        let channel = channels[self.chance.below(channels.len() as u64) as usize];
        if !self.subscribed.contains(&self.full(channel)) || !self.is_linked {
            return;
        }
        self.messages += 1;
        let id = self.messages;
        let (author, domain) = AUTHORS[self.chance.below(4) as usize];
        let mentions = self.chance.chance(1, 4);
        let (is_status, is_broken) = (self.chance.chance(4, 5), self.chance.chance(1, 20));
        let text = match (is_status, is_broken) {
            (false, false) => format!(r#"{{"event":"delete","payload":"{id}"}}"#),
            (true, false) => {
                let acct = if domain.is_empty() { "a".to_owned() } else { format!("a@{domain}") };
                let mention = if mentions { r#"{"id":"60"}"# } else { "" };
                let words: String = (0..VERSIONS).map(|it| format!("v{it} ")).collect();
                format!(
                    r#"{{"event":"update","payload":{{"id":"{id}","content":"{words}","account":{{"id":"{author}","username":"a","acct":"{acct}"}},"mentions":[{mention}]}}}}"#
                )
            }
            (true, true) if names::is_judged(channel) => {
                format!(r#"{{"event":"update","payload":{{"id":"{id}","account":null}}}}"#)
            }
            (_, true) => "{{".to_owned(),
        };
        let full = self.full(channel);
        if is_broken {
            self.broken += 1;
        } else {
            let versions = self.told.clone();
            let sent = Sent { id, is_status, author, mentions, versions };
            self.sent.entry(channel.to_owned()).or_default().push_back(sent);
        }
        // The same status comes on several channels.
        let again = full.replace("public:local", "public");
        if again != full && is_status && !is_broken && self.subscribed.contains(&again) {
            let versions = self.told.clone();
            let sent = Sent { id, is_status, author, mentions, versions };
            self.sent.entry("timeline:public".to_owned()).or_default().push_back(sent);
            self.hear(FollowerInput::Message { channel: &again, payload: text.as_bytes() });
        }
        // Whoever is at this server may publish as well.
        if self.chance.chance(1, 10) {
            self.peer_last += 1;
            let id = self.peer_last;
            self.peers.insert(id, Peer { is_gone: true, ..Peer::default() });
            let channels = vec![Name::from(channel)];
            let envelope = bytes::Bytes::from(text);
            return self.ask(id, Asked::Submit, What::Submit { channels, envelope });
        }
        self.hear(FollowerInput::Message { channel: &full, payload: text.as_bytes() });
    }

    /// An account edits its filters.
    fn edit(&mut self) {
        let account = 1 + self.chance.below(ACCOUNTS as u64) as i64;
        let version = self.versions.get_mut(&account).unwrap();
        *version = (*version + 1).min(VERSIONS - 1);
        let version = *version;
        let full = self.full(&names::system(&account.to_string()));
        if self.is_linked && self.subscribed.contains(&full) {
            self.told.insert(account, version);
            let payload = br#"{"event":"filters_changed"}"#;
            self.hear(FollowerInput::Message { channel: &full, payload });
        }
    }

    fn revoke(&mut self) {
        let Some(id) = self.someone().filter(|_| self.chance.chance(1, 4)) else { return };
        let peer = &self.peers[&id];
        let asked = peer.asks.iter().find_map(|it| match it.1 {
            Asked::Token(token) if token < TOKENS => Some(token),
            _ => None,
        });
        let Some(token) = peer.token.or(asked).filter(|it| self.revoked.insert(*it)) else {
            return;
        };
        let full = self.full(&names::access_token(&token.to_string()));
        if self.is_linked && self.subscribed.contains(&full) {
            let payload = br#"{"event":"kill"}"#;
            self.hear(FollowerInput::Message { channel: &full, payload });
            assert!(self.killed.contains(&token));
        }
    }

    fn link(&mut self) {
        self.is_linked = !self.is_linked;
        if self.is_linked {
            self.told = self.versions.clone();
            self.hear(FollowerInput::Linked);
        } else {
            self.touched.clear();
            self.hear(FollowerInput::Unlinked);
        }
    }

    fn step(&mut self) {
        match self.chance.below(100) {
            0..10 => self.arrive(),
            10..30 => self.follow_or_not(),
            30..36 => self.leave(),
            36..56 => self.message(),
            56..60 => self.edit(),
            60..63 => self.revoke(),
            63..65 => self.link(),
            65..70 => {
                let most = if self.chance.chance(1, 10) { 400_000 } else { 3000 };
                let span = self.chance.below(most);
                if self.is_calm {
                    self.answer_all();
                    self.check_killed();
                }
                self.pass(Millis(span));
            }
            _ => self.answer(),
        }
    }

    /// Everybody goes, everything is answered, and time passes.
    fn finish(&mut self) {
        if !self.is_linked {
            self.link();
        }
        self.settle();
        self.check_killed();
        while self.someone().is_some() {
            self.leave();
        }
        self.settle();
        assert!(self.peers.is_empty());
        let relay = &self.relay;
        assert!(relay.connections.is_empty() && relay.tokens.is_empty());
        assert!(relay.channels.len() == 0 && relay.channels.due().is_none());
        assert!(relay.viewers.is_empty() && relay.unchecked.is_empty());
        assert_eq!(relay.newcomers.due(), None);
        assert_eq!(relay.judged.due(), None);
        assert!(relay.relations.is_empty() && relay.line.is_empty() && relay.queries.is_empty());
        let count = |it: &AtomicU64| it.load(Ordering::Relaxed);
        self.dropped += self.sent.values().map(|it| it.len() as u64).sum::<u64>();
        assert_eq!(self.dropped, count(&self.counts.unjudged));
        assert_eq!(self.broken, count(&self.counts.malformed));
        assert_eq!(count(&self.counts.overflowed), 0);
        assert!(!self.is_calm || self.dropped == 0 && self.withheld == 0);
        assert!(self.withheld == 0 || count(&self.counts.withheld) > 0);
    }

    /// Everything that is asked is answered.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.answer_all();
            self.pass(Millis(1000));
        }
        self.answer_all();
    }

    fn answer_all(&mut self) {
        while let Some(number) = self.pending.keys().next().copied() {
            self.answer_one(number, false);
        }
    }
}

#[test]
fn the_relay_does_what_a_plain_model_does() {
    let (mut published, mut withheld, mut dropped, mut killed) = (0, 0, 0, 0);
    for seed in 0..40 {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..1500 {
                world.step();
            }
            world.finish();
            (world.published, world.withheld, world.dropped, world.killed.len())
        });
        let Ok(run) = run else { panic!("seed {seed}") };
        published += run.0;
        withheld += run.1;
        dropped += run.2;
        killed += run.3;
    }
    // Otherwise it has tested nothing.
    assert!(published > 1000 && withheld > 0 && dropped > 0 && killed > 0);
}
