//! One receiver: how far it is in the queue, what is ready for it, and when it is tried again.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::post::{Address, Entry, Form, Heard, Silence, Verdict};
use crate::auth::sign::SigningKey;
use crate::base::name::Name;
use crate::base::prng::Prng;
use crate::base::time::{Millis, Nanos, Now, UnixMillis};
use crate::config::Secret;
use crate::config::webhooks::{Expression, Format, ReceiverRow, Signer, StatusRange};

/// Entries held in memory for one receiver ...
pub const READY_ENTRIES_MAX: usize = 1024;
/// ... and bytes of them; one page more while it catches up.
pub const READY_BYTES_MAX: usize = 1 << 20;
/// Bytes in one request; a larger event goes alone.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// How often an event is refused before it is dead.
const REFUSALS_MAX: u32 = 2;
/// Failures in a row before anyone is told: one alone is a connection that was closed just then.
const FAILURES_TOLD: u32 = 2;

/// What is under way to a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// So many entries from the front of what is ready.
    Queue(usize),
    /// A dead letter, by its id, that is sent again.
    Again(u64),
}

/// A change of how a receiver is, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It takes nothing.
    Failing,
    /// It takes events again, after so long.
    Recovered(Millis),
}

/// One receiver.
pub struct Receiver {
    /// What it is called.
    pub name: Name,
    /// The form of its requests.
    pub address: Address,
    row: ReceiverRow,
    expression: Option<Expression>,
    /// Statuses that say that the receiver is not well, where they are given.
    later: Vec<RangeInclusive<u16>>,
    batch_max: usize,
    /// Since when what is ready waits for more.
    gathers_from: Option<Nanos>,
    /// What it gets next, in order; what is under way is still at the front.
    pub ready: VecDeque<Arc<Entry>>,
    ready_bytes: usize,
    /// All entries up to this number are ready, were sent, or are not for it.
    pub seen: u64,
    /// Up to this number it is on disk that it needs nothing more.
    pub saved: u64,
    /// A page of the queue is being read for it.
    pub is_reading: bool,
    /// What is under way, by the number of the request.
    pub flight: Option<(u64, Load)>,
    /// Entries for it that it has not got.
    pub waiting: u64,
    /// Dead letters that are to be sent again.
    pub again: VecDeque<u64>,
    /// The last request was one of those: now it is the queue's turn.
    pub was_again: bool,
    /// Requests in a row that failed.
    pub failures: u32,
    /// Since when.
    pub failing_since: Option<UnixMillis>,
    /// What was said last.
    pub outcome: Option<Result<u16, Silence>>,
    /// When something was taken last.
    pub taken_at: Option<UnixMillis>,
    /// Not before this.
    pub next_at: Nanos,
    /// How often the entry at the front was sent.
    pub attempts: u32,
    refusals: u32,
    /// The entry at the front was refused for good, with this status.
    pub condemned: Option<u16>,
    /// Up to this number entries go one by one, to find which of a batch was refused.
    single_to: u64,
}

impl Receiver {
    /// The receiver of these settings; where it is in the queue is not known yet. Settings that are wrong are passed
    /// over.
    pub fn new(row: &ReceiverRow, signers: &[Signer]) -> Self {
        let signing_key = |secret: &Secret| SigningKey::new(secret.0.as_bytes());
        let signer =
            |it: &Signer| (Name::from(it.app.as_str()), (it.key.clone(), signing_key(&it.secret)));
        let form = match row.format {
            Format::Ringmain => Form::Own {
                key: row.secret.as_ref().map(signing_key),
                is_list: row.batch_max() > 1,
            },
            Format::Sockudo => {
                Form::OfApp(signers.iter().filter(|it| row.is_of(&it.app)).map(signer).collect())
            }
        };
        let address = Address {
            url: row.url.as_str().into(),
            form,
            headers: row.headers.iter().filter_map(|it| it.parse().ok()).collect(),
            timeout: row.timeout,
            allow_private: row.allow_private,
        };
        let later = row.retry_statuses.iter().filter_map(|it| it.parse::<StatusRange>().ok());
        Self {
            name: row.name.as_str().into(),
            address,
            expression: row
                .channel_pattern
                .parse()
                .ok()
                .filter(|_| !row.channel_pattern.is_empty()),
            later: later.map(|it| it.0).collect(),
            batch_max: row.batch_max() as usize,
            gathers_from: None,
            row: row.clone(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            seen: 0,
            saved: 0,
            is_reading: false,
            flight: None,
            waiting: 0,
            again: VecDeque::new(),
            was_again: false,
            failures: 0,
            failing_since: None,
            outcome: None,
            taken_at: None,
            next_at: Nanos(0),
            attempts: 0,
            refusals: 0,
            condemned: None,
            single_to: 0,
        }
    }

    /// Whether it is to be told this.
    fn wants(&self, entry: &Entry) -> bool {
        let report = &entry.report;
        self.row.is_of(&report.app)
            && self.address.form.speaks_for(&report.app)
            && self.row.takes(&report.kind)
            && self.wants_channel(report.channel.as_deref())
    }

    /// Whether it is to be told of this channel, or of what is of none.
    fn wants_channel(&self, channel: Option<&str>) -> bool {
        let ReceiverRow { channel_prefix, channel_suffix, channel_namespaces, .. } = &self.row;
        let is_any = channel_prefix.is_empty()
            && channel_suffix.is_empty()
            && channel_namespaces.is_empty()
            && self.expression.is_none();
        let Some(channel) = channel.filter(|_| !is_any) else { return is_any };
        let namespace = channel.split_once(':').map(|(namespace, _)| namespace);
        channel.starts_with(channel_prefix.as_str())
            && channel.ends_with(channel_suffix.as_str())
            && (channel_namespaces.is_empty()
                || channel_namespaces.iter().any(|it| Some(it.as_str()) == namespace))
            && self.expression.as_ref().is_none_or(|it| it.matches(channel))
    }

    /// It needs nothing of the queue up to this number.
    pub fn done(&self) -> u64 {
        self.ready.front().map_or(self.seen, |entry| entry.number - 1)
    }

    /// Nothing of the queue is left before this number.
    pub fn begin_at(&mut self, first: u64) {
        if self.ready.is_empty() {
            self.seen = self.seen.max(first.saturating_sub(1));
        }
    }

    /// Takes what came at the end of the queue, whose last number was `before` until then. What does not fit
    /// is read again later.
    pub fn arrived(&mut self, before: u64, number: u64, entry: Option<&Arc<Entry>>) {
        let wanted = entry.filter(|it| self.wants(it));
        if number <= self.seen {
            // A page of its own had it before; perhaps it is done already.
            self.waiting += u64::from(wanted.is_some() && number > self.done());
            return;
        }
        self.waiting += u64::from(wanted.is_some());
        let has_room = self.ready.len() < READY_ENTRIES_MAX && self.ready_bytes < READY_BYTES_MAX;
        if self.seen < before || wanted.is_some() && !has_room {
            return;
        }
        self.seen = number;
        if let Some(entry) = wanted {
            self.push(Arc::clone(entry));
        }
    }

    /// Whether a page of its own is to be read, from behind what it has seen.
    pub fn is_behind(&self, tail: u64) -> bool {
        let taken = match self.flight {
            Some((_, Load::Queue(entries))) => entries,
            _ => 0,
        };
        !self.is_reading && self.seen < tail && self.ready.len() == taken
    }

    /// Takes an entry of its own page.
    pub fn paged(&mut self, number: u64, entry: Option<&Arc<Entry>>) {
        if number <= self.seen {
            return;
        }
        self.seen = number;
        if let Some(entry) = entry.filter(|it| self.wants(it)) {
            self.push(Arc::clone(entry));
        }
    }

    fn push(&mut self, entry: Arc<Entry>) {
        self.ready_bytes += entry.bytes();
        self.ready.push_back(entry);
    }

    /// The entries of the next request, at the front of what is ready; none: there are none, or they wait for more.
    pub fn batch(&mut self, now: Nanos) -> Vec<Arc<Entry>> {
        let is_single = self.ready.front().is_some_and(|it| it.number <= self.single_to);
        let most = if is_single { 1 } else { self.batch_max };
        // Who failed has waited long enough.
        if self.ready.is_empty()
            || self.ready.len() < most && self.attempts == 0 && self.gathers(now)
        {
            return Vec::new();
        }
        self.gathers_from = None;
        let (mut bytes, mixes_apps) = (0, self.address.form.mixes_apps());
        let app = self.ready.front().map(|it| it.report.app.clone());
        let fits = |entry: &&Arc<Entry>| {
            bytes += entry.bytes();
            (bytes <= BATCH_BYTES_MAX || bytes == entry.bytes())
                && (mixes_apps || app.as_ref() == Some(&entry.report.app))
        };
        self.ready.iter().take(most).take_while(fits).cloned().collect()
    }

    /// Whether what is ready waits for more.
    fn gathers(&mut self, now: Nanos) -> bool {
        now < *self.gathers_from.get_or_insert(now) + self.row.batch_window
    }

    /// When something is to be done for it, unless something happens before: it is tried again, and what is ready has
    /// waited for more.
    pub fn due(&self) -> [Option<Nanos>; 2] {
        if self.flight.is_some() || self.ready.is_empty() && self.again.is_empty() {
            return [None; 2];
        }
        [Some(self.next_at), self.gathers_from.map(|from| from + self.row.batch_window)]
    }

    /// How many entries at the front are too old, of a receiver that takes nothing.
    pub fn expired(&self, now: UnixMillis) -> usize {
        if self.failures == 0 {
            return 0;
        }
        let is_old =
            |it: &&Arc<Entry>| now.0.saturating_sub(it.report.at.0) > self.row.retry_max_age.0;
        self.ready.iter().take_while(is_old).count()
    }

    /// Removes entries at the front, done or dead. `tail` is the last number that was counted as waiting.
    pub fn take(&mut self, entries: usize, tail: u64) -> Vec<Arc<Entry>> {
        let taken: Vec<_> = self.ready.drain(..entries.min(self.ready.len())).collect();
        self.ready_bytes -= taken.iter().map(|it| it.bytes()).sum::<usize>();
        let counted = taken.iter().filter(|it| it.number <= tail).count() as u64;
        self.waiting = self.waiting.saturating_sub(counted);
        // The next one has a history of its own.
        (self.attempts, self.refusals, self.condemned) = (0, 0, None);
        taken
    }

    /// Takes what was said to a request of so many entries of the queue; says what it means and how the
    /// receiver's state turned. Entries that are done are still at the front.
    pub fn heard(
        &mut self,
        heard: &Heard,
        entries: usize,
        now: Now,
        chance: &mut Prng,
    ) -> (Verdict, Option<Turn>) {
        let verdict = self.verdict(heard);
        self.attempts += 1;
        match verdict {
            Verdict::Done => {
                self.next_at = now.steady;
                self.taken_at = Some(now.wall);
            }
            Verdict::Refused if entries > 1 => {
                // One of them it may be. Found out one by one, and at once.
                self.single_to = self.ready.get(entries - 1).map_or(0, |it| it.number);
                self.attempts -= 1;
                self.next_at = now.steady;
            }
            Verdict::Refused => {
                self.refusals += 1;
                self.next_at = now.steady + self.pause(1, chance).max(heard.pause(now.wall));
                if self.refusals >= REFUSALS_MAX {
                    self.condemned = heard.outcome.ok();
                    self.next_at = now.steady;
                }
            }
            Verdict::Later => {}
        }
        (verdict, self.turn(heard, verdict, now, chance))
    }

    /// Takes what was said to a request as far as it tells how the receiver is.
    pub fn turn(
        &mut self,
        heard: &Heard,
        verdict: Verdict,
        now: Now,
        chance: &mut Prng,
    ) -> Option<Turn> {
        self.outcome = Some(heard.outcome);
        if verdict == Verdict::Later {
            self.failures = self.failures.saturating_add(1);
            self.failing_since.get_or_insert(now.wall);
            let pause = self.pause(self.failures, chance).max(heard.pause(now.wall));
            self.next_at = now.steady + pause;
            return (self.failures == FAILURES_TOLD).then_some(Turn::Failing);
        }
        // Who refuses an event is there.
        let since = self.failing_since.take();
        let was_told = std::mem::take(&mut self.failures) >= FAILURES_TOLD;
        let since = since.filter(|_| was_told)?;
        Some(Turn::Recovered(Millis(now.wall.0.saturating_sub(since.0))))
    }

    /// What an answer means for what was sent.
    pub fn verdict(&self, heard: &Heard) -> Verdict {
        heard.verdict(&self.later)
    }

    /// The pause after so many failures in a row: doubled each time, and somewhere in its second half, so that
    /// receivers behind one gateway do not come back all at once.
    fn pause(&self, failures: u32, chance: &mut Prng) -> Millis {
        let ReceiverRow { retry_first, retry_longest, .. } = &self.row;
        let doubled = retry_first.0.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let whole = doubled.min(retry_longest.0);
        Millis(whole - chance.below(whole / 2 + 1))
    }

    /// Whether it is failing as far as anyone is told.
    pub fn is_failing(&self) -> bool {
        self.failures >= FAILURES_TOLD
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    use crate::base::ids::AppIndex;
    use crate::broker::{Payload, Report, report};

    fn entry(number: u64, app: &str, kind: &str, at: u64) -> Arc<Entry> {
        entry_of(number, app, kind, None, at)
    }

    fn entry_of(number: u64, app: &str, kind: &str, channel: Option<&str>, at: u64) -> Arc<Entry> {
        let report = Report {
            app: AppIndex(0),
            kind: kind.into(),
            channel: channel.map(Name::from),
            fields: Vec::new(),
            body: Payload(Bytes::from_static(b"{}")),
        };
        let stored = report::encode(&report, app, UnixMillis(at));
        Arc::new(Entry::read(number, stored).expect("a report"))
    }

    fn row(batch_max: u32) -> ReceiverRow {
        ReceiverRow {
            name: "crm".into(),
            url: "http://x/".into(),
            batch_max,
            retry_first: Millis(1_000),
            retry_longest: Millis(300_000),
            retry_max_age: Millis(1000),
            ..ReceiverRow::default()
        }
    }

    fn receiver(batch_max: u32) -> Receiver {
        Receiver::new(&row(batch_max), &[])
    }

    fn now(millis: u64) -> Now {
        Now { steady: Nanos(millis * 1_000_000), wall: UnixMillis(millis) }
    }

    fn status(status: u16) -> Heard {
        Heard { outcome: Ok(status), retry_after: None }
    }

    #[test]
    fn it_wants_what_its_settings_name() {
        for (app, types, kind, wants) in [
            ("", &[][..], "a.b", true),
            ("app", &[], "a.b", true),
            ("other", &[], "a.b", false),
            ("", &["a.*"], "a.b", true),
            ("", &["b.*", "a.b"], "a.b", true),
            ("app", &["b.*"], "a.b", false),
        ] {
            let row = ReceiverRow {
                app: app.into(),
                types: types.iter().map(|it| (*it).to_owned()).collect(),
                ..ReceiverRow::default()
            };
            let wanted = Receiver::new(&row, &[]).wants(&entry(1, "app", kind, 0));
            assert_eq!(wanted, wants, "{app} {types:?} {kind}");
        }
    }

    #[test]
    fn it_wants_the_channels_that_its_settings_name() {
        let row = |prefix: &str, suffix: &str, pattern: &str, namespaces: &[&str]| ReceiverRow {
            channel_prefix: prefix.into(),
            channel_suffix: suffix.into(),
            channel_pattern: pattern.into(),
            channel_namespaces: namespaces.iter().map(|it| (*it).to_owned()).collect(),
            ..ReceiverRow::default()
        };
        for (row, channel, wants) in [
            (row("", "", "", &[]), None, true),
            (row("", "", "", &[]), Some("orders-1"), true),
            (row("orders-", "", "", &[]), Some("orders-1"), true),
            (row("orders-", "", "", &[]), Some("my-orders-1"), false),
            (row("orders-", "", "", &[]), None, false),
            (row("", "-log", "", &[]), Some("a-log"), true),
            (row("", "-log", "", &[]), Some("a-log-"), false),
            (row("", "", "^[a-z]+$", &[]), Some("abc"), true),
            (row("", "", "^[a-z]+$", &[]), Some("abc1"), false),
            (row("", "", "", &["chat", "news"]), Some("news:1"), true),
            (row("", "", "", &["chat", "news"]), Some("news"), false),
            (row("", "", "", &["chat", "news"]), Some("newsx:news:1"), false),
            (row("a", "z", "m", &[]), Some("a-m-z"), true),
            (row("a", "z", "m", &[]), Some("a-n-z"), false),
        ] {
            let wanted = Receiver::new(&row, &[]).wants(&entry_of(1, "app", "a.b", channel, 0));
            assert_eq!(wanted, wants, "{row:?} {channel:?}");
        }
    }

    #[test]
    fn what_an_app_signs_is_of_that_app_alone() {
        let signer = |app: &str| Signer {
            app: app.into(),
            key: format!("key-{app}"),
            secret: Secret("hush".into()),
        };
        let row = ReceiverRow { format: Format::Sockudo, ..row(0) };
        let mut it = Receiver::new(&row, &[signer("a"), signer("b")]);
        for (number, app) in (1..).zip(["a", "a", "gone", "b", "a"]) {
            it.arrived(number - 1, number, Some(&entry(number, app, "sockudo.x", 0)));
        }
        it.arrived(5, 6, Some(&entry(6, "a", "other.x", 0)));
        let mut told = Vec::new();
        while !it.ready.is_empty() {
            let batch: Vec<_> = it.batch(Nanos(0)).iter().map(|it| it.number).collect();
            it.take(batch.len(), 6);
            told.push(batch);
        }
        assert_eq!(told, [vec![1, 2], vec![4], vec![5]]);
    }

    #[test]
    fn a_batch_waits_until_it_is_full_or_its_window_is_over() {
        let window = Millis(50);
        let mut it = Receiver::new(&ReceiverRow { batch_window: window, ..row(3) }, &[]);
        let mut number = 0;
        let mut push = |it: &mut Receiver| {
            number += 1;
            it.arrived(number - 1, number, Some(&entry(number, "app", "k", 0)));
        };
        push(&mut it);
        assert_eq!(it.batch(now(100).steady).len(), 0);
        assert_eq!(it.due()[1], Some(now(150).steady));
        push(&mut it);
        assert_eq!(it.batch(now(149).steady).len(), 0);
        assert_eq!(it.batch(now(150).steady).len(), 2);
        // Sent again, it waits for nobody.
        let mut chance = Prng::new(1);
        it.heard(&status(503), 2, now(160), &mut chance);
        assert_eq!(it.batch(now(2000).steady).len(), 2);
        it.take(2, 2);
        for _ in 0..3 {
            assert_eq!(it.batch(now(3000).steady).len(), 0);
            push(&mut it);
        }
        assert_eq!(it.batch(now(3000).steady).len(), 3, "it is full");
    }

    #[test]
    fn pauses_double_within_their_bounds() {
        let mut chance = Prng::new(1);
        for (failures, most) in
            [(1, 1_000), (2, 2_000), (5, 16_000), (9, 256_000), (10, 300_000), (u32::MAX, 300_000)]
        {
            let it = receiver(1);
            let drawn: Vec<_> = (0..200).map(|_| it.pause(failures, &mut chance).0).collect();
            assert!(drawn.iter().all(|it| (most / 2..=most).contains(it)), "{failures}: {drawn:?}");
            assert!(drawn.iter().any(|it| *it < most * 3 / 4), "there is chance in it");
        }
    }

    #[test]
    fn a_refused_batch_is_told_apart_and_its_bad_one_dies() {
        let (mut it, mut chance) = (receiver(3), Prng::new(1));
        for number in 1..=5 {
            it.arrived(number - 1, number, Some(&entry(number, "app", "k", 0)));
        }
        let numbers =
            |it: &mut Receiver| it.batch(Nanos(0)).iter().map(|it| it.number).collect::<Vec<_>>();
        assert_eq!(numbers(&mut it), [1, 2, 3]);
        assert_eq!(it.heard(&status(400), 3, now(1), &mut chance), (Verdict::Refused, None));
        assert_eq!((numbers(&mut it), it.next_at), (vec![1], now(1).steady));
        assert_eq!(it.heard(&status(200), 1, now(2), &mut chance), (Verdict::Done, None));
        it.take(1, 5);
        assert_eq!(numbers(&mut it), [2]);
        // Refused once, it is tried once more.
        it.heard(&status(400), 1, now(3), &mut chance);
        assert!(it.condemned.is_none() && it.next_at > now(400).steady);
        it.heard(&status(422), 1, now(2000), &mut chance);
        assert_eq!(it.condemned, Some(422));
        it.take(1, 5);
        assert_eq!(numbers(&mut it), [3]);
        it.take(1, 5);
        assert_eq!((numbers(&mut it), it.waiting, it.done()), (vec![4, 5], 2, 3));
    }

    #[test]
    fn a_failing_receiver_is_told_of_once_and_its_old_entries_expire() {
        let (mut it, mut chance) = (receiver(1), Prng::new(1));
        it.arrived(0, 1, Some(&entry(1, "app", "k", 100)));
        it.arrived(1, 2, Some(&entry(2, "app", "k", 900)));
        assert_eq!(it.expired(UnixMillis(5_000)), 0, "it was not tried yet");
        let silence = Heard { outcome: Err(Silence::Late), retry_after: None };
        let mut hear = |heard: &Heard, at| it.heard(heard, 1, now(at), &mut chance).1;
        assert_eq!(hear(&silence, 1000), None);
        assert_eq!(hear(&status(503), 2000), Some(Turn::Failing));
        assert_eq!(hear(&status(404), 3000), None);
        assert_eq!(it.expired(UnixMillis(1_100)), 0);
        assert_eq!(it.expired(UnixMillis(1_101)), 1);
        assert_eq!(it.expired(UnixMillis(2_000)), 2);
        let paused = Heard { outcome: Ok(503), retry_after: Some("600".into()) };
        it.heard(&paused, 1, now(4_000), &mut chance);
        assert_eq!(it.next_at, now(604_000).steady);
        let turn = it.heard(&status(204), 1, now(5_000), &mut chance).1;
        assert_eq!(turn, Some(Turn::Recovered(Millis(4_000))));
        assert_eq!((it.expired(UnixMillis(9_000)), it.failures), (0, 0));
    }

    #[test]
    fn who_falls_behind_reads_pages_of_its_own() {
        let mut it = receiver(1);
        let number_of = |it: &Receiver| it.ready.back().map_or(0, |it| it.number);
        for number in 1..=READY_ENTRIES_MAX as u64 + 10 {
            it.arrived(number - 1, number, Some(&entry(number, "app", "k", 0)));
        }
        let (max, tail) = (READY_ENTRIES_MAX as u64, READY_ENTRIES_MAX as u64 + 10);
        assert_eq!((number_of(&it), it.seen, it.waiting), (max, max, tail));
        assert!(!it.is_behind(tail), "there is enough to do");
        it.take(READY_ENTRIES_MAX, tail);
        assert!(it.is_behind(tail));
        for number in max - 5..=tail + 2 {
            it.paged(number, Some(&entry(number, "app", "k", 0)));
        }
        // What it read ahead is counted when the end of the queue gets there, unless it is done by then.
        assert_eq!((it.ready.len(), it.waiting, it.seen), (12, 10, tail + 2));
        it.take(11, tail);
        assert_eq!((it.waiting, it.done()), (0, tail + 1));
        it.arrived(tail, tail + 1, Some(&entry(tail + 1, "app", "k", 0)));
        it.arrived(tail + 1, tail + 2, Some(&entry(tail + 2, "app", "k", 0)));
        assert_eq!((it.waiting, it.seen), (1, tail + 2));
    }
}
