//! One receiver: how far it is in the queue, what is ready for it, and when it is tried again.

use std::collections::VecDeque;
use std::sync::Arc;

use super::post::{Address, Entry, Heard, Silence, Verdict};
use crate::auth::sign::SigningKey;
use crate::base::name::Name;
use crate::base::pattern::Pattern;
use crate::base::prng::Prng;
use crate::base::time::{Millis, Nanos, Now, UnixMillis};
use crate::config::webhooks::ReceiverRow;

/// Entries held in memory for one receiver ...
pub const READY_ENTRIES_MAX: usize = 1024;
/// ... and bytes of them; one page more while it catches up.
pub const READY_BYTES_MAX: usize = 1 << 20;
/// Bytes in one request; a larger event goes alone.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// The first pause after a failure; each further one is twice as long ...
const PAUSE_FIRST: Millis = Millis(1_000);
/// ... up to this.
const PAUSE_MAX: Millis = Millis(300_000);
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
    app: Option<Name>,
    types: Vec<Pattern>,
    batch_max: usize,
    age_max: Millis,
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
    /// The receiver of these settings; where it is in the queue is not known yet.
    pub fn new(row: &ReceiverRow) -> Self {
        let key = row.secret.as_ref().map(|it| SigningKey::new(it.0.as_bytes()));
        let address = Address {
            url: row.url.as_str().into(),
            key,
            is_list: row.batch_max > 1,
            timeout: row.timeout,
        };
        Self {
            name: row.name.as_str().into(),
            address,
            app: (!row.app.is_empty()).then(|| row.app.as_str().into()),
            types: row.types.iter().map(|it| Pattern(it.as_str().into())).collect(),
            batch_max: row.batch_max.max(1) as usize,
            age_max: row.retry_max_age,
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
        self.app.as_ref().is_none_or(|app| *app == report.app)
            && (self.types.is_empty() || self.types.iter().any(|it| it.matches(&report.kind)))
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

    /// The entries of the next request, at the front of what is ready.
    pub fn batch(&self) -> Vec<Arc<Entry>> {
        let is_single = self.ready.front().is_some_and(|it| it.number <= self.single_to);
        let most = if is_single { 1 } else { self.batch_max };
        let mut bytes = 0;
        let fits = |entry: &&Arc<Entry>| {
            bytes += entry.bytes();
            bytes <= BATCH_BYTES_MAX || bytes == entry.bytes()
        };
        self.ready.iter().take(most).take_while(fits).cloned().collect()
    }

    /// How many entries at the front are too old, of a receiver that takes nothing.
    pub fn expired(&self, now: UnixMillis) -> usize {
        if self.failures == 0 {
            return 0;
        }
        let is_old = |it: &&Arc<Entry>| now.0.saturating_sub(it.report.at.0) > self.age_max.0;
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
        let verdict = heard.verdict();
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
                self.next_at = now.steady + pause(1, chance).max(heard.pause(now.wall));
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
            let pause = pause(self.failures, chance).max(heard.pause(now.wall));
            self.next_at = now.steady + pause;
            return (self.failures == FAILURES_TOLD).then_some(Turn::Failing);
        }
        // Who refuses an event is there.
        let since = self.failing_since.take();
        let was_told = std::mem::take(&mut self.failures) >= FAILURES_TOLD;
        let since = since.filter(|_| was_told)?;
        Some(Turn::Recovered(Millis(now.wall.0.saturating_sub(since.0))))
    }

    /// Whether it is failing as far as anyone is told.
    pub fn is_failing(&self) -> bool {
        self.failures >= FAILURES_TOLD
    }
}

/// The pause after so many failures in a row: doubled each time, and somewhere in its second half, so that
/// receivers behind one gateway do not come back all at once.
fn pause(failures: u32, chance: &mut Prng) -> Millis {
    let doubled = PAUSE_FIRST.0.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let whole = doubled.min(PAUSE_MAX.0);
    Millis(whole - chance.below(whole / 2 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    use crate::base::ids::AppIndex;
    use crate::broker::{Payload, Report, report};

    pub fn entry(number: u64, app: &str, kind: &str, at: u64) -> Arc<Entry> {
        let report = Report {
            app: AppIndex(0),
            kind: kind.into(),
            channel: None,
            fields: Vec::new(),
            body: Payload(Bytes::from_static(b"{}")),
        };
        let stored = report::encode(&report, app, UnixMillis(at));
        Arc::new(Entry::read(number, stored).expect("a report"))
    }

    fn receiver(batch_max: u32) -> Receiver {
        Receiver::new(&ReceiverRow {
            name: "crm".into(),
            url: "http://x/".into(),
            batch_max,
            retry_max_age: Millis(1000),
            ..ReceiverRow::default()
        })
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
            let wanted = Receiver::new(&row).wants(&entry(1, "app", kind, 0));
            assert_eq!(wanted, wants, "{app} {types:?} {kind}");
        }
    }

    #[test]
    fn pauses_double_within_their_bounds() {
        let mut chance = Prng::new(1);
        for (failures, most) in
            [(1, 1_000), (2, 2_000), (5, 16_000), (9, 256_000), (10, 300_000), (u32::MAX, 300_000)]
        {
            let drawn: Vec<_> = (0..200).map(|_| pause(failures, &mut chance).0).collect();
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
        let numbers = |it: &Receiver| it.batch().iter().map(|it| it.number).collect::<Vec<_>>();
        assert_eq!(numbers(&it), [1, 2, 3]);
        assert_eq!(it.heard(&status(400), 3, now(1), &mut chance), (Verdict::Refused, None));
        assert_eq!((numbers(&it), it.next_at), (vec![1], now(1).steady));
        assert_eq!(it.heard(&status(200), 1, now(2), &mut chance), (Verdict::Done, None));
        it.take(1, 5);
        assert_eq!(numbers(&it), [2]);
        // Refused once, it is tried once more.
        it.heard(&status(400), 1, now(3), &mut chance);
        assert!(it.condemned.is_none() && it.next_at > now(400).steady);
        it.heard(&status(422), 1, now(2000), &mut chance);
        assert_eq!(it.condemned, Some(422));
        it.take(1, 5);
        assert_eq!(numbers(&it), [3]);
        it.take(1, 5);
        assert_eq!((numbers(&it), it.waiting, it.done()), (vec![4, 5], 2, 3));
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
