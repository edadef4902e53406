//! What a channel keeps of its past in memory: all of it, or the newest part of what is on disk.
//!
//! Only reads and bounds are here; who appends what, and when, is the home's affair.

use std::collections::VecDeque;
use std::sync::Arc;

use super::rules::Rule;
use super::{Event, Gap, GapReason, Happening, Mode, PageQuery, Payload, Position, Stream};
use crate::base::event_id::EventId;
use crate::base::ids::{Epoch, Serial};
use crate::base::time::{Millis, UnixMillis};
use crate::store::{Clock, NEVER};

/// The newest events of a channel, consecutive.
#[derive(Debug)]
pub(super) struct Window {
    pub rule: Rule,
    pub epoch: Epoch,
    /// The newest event's serial, kept or not.
    pub newest: u64,
    kept: VecDeque<Kept>,
    /// How many of them are messages, not versions of one or what was said about one.
    messages: u64,
    bytes: u64,
}

/// Places in a window for each message that it may hold: versions and annotations take the others. Without them a
/// message that many react to would push all others out, and itself.
const PLACES_PER_MESSAGE: u64 = 100;

#[derive(Debug)]
struct Kept {
    event: Arc<Event>,
    /// On the clock of retention.
    expires: Clock,
    bytes: u64,
}

/// What of a replay is there, before anyone decides whether it will do.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub events: Vec<Arc<Event>>,
    pub is_cut_by_limit: bool,
    /// The oldest serial that was looked at; the newest and one if none was.
    pub from: u64,
}

/// Bounds of what may be handed out at once.
#[derive(Clone, Copy, Debug)]
pub struct ReplayMax {
    /// Events.
    pub events: u32,
    /// Bytes of them.
    pub bytes: u64,
}

/// How much an event counts for in bounds: what is kept of it beside what every event needs.
pub(super) fn weight(event: &Event) -> u64 {
    let of = |it: &Option<Payload>| it.as_ref().map_or(0, |it| it.0.len());
    let own = match &event.happening {
        Happening::Message { name, data, .. } => name.len() + data.0.len(),
        Happening::Mutated(it) => {
            let name = it.name.as_ref().map_or(0, |it| it.len());
            name + of(&it.data) + of(&it.fragment) + of(&it.about.metadata)
        }
        Happening::Annotated(it) => it.annotation.kind.len() + of(&it.annotation.data),
        _ => 0,
    };
    (own + event.meta.as_ref().map_or(0, |meta| of(&meta.extras))) as u64
}

/// What is shown of the events that are kept: each as it is, or, where they are replaced, one or none in its place.
pub(super) trait Show: Fn(&Arc<Event>) -> Option<Arc<Event>> {}

impl<T: Fn(&Arc<Event>) -> Option<Arc<Event>>> Show for T {}

fn is_message(event: &Event) -> bool {
    matches!(event.happening, Happening::Message { .. })
}

impl Window {
    pub fn new(rule: Rule, epoch: Epoch) -> Self {
        Self { rule, epoch, newest: 0, kept: VecDeque::new(), messages: 0, bytes: 0 }
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The oldest kept event's serial; the newest and one if none is kept.
    pub fn oldest(&self) -> u64 {
        self.kept.front().map_or(self.newest + 1, |it| it.event.serial.0)
    }

    /// When the oldest is to be removed; none if nothing is.
    pub fn expires(&self) -> Option<Clock> {
        self.kept.front().map(|it| it.expires).filter(|&expires| expires != NEVER)
    }

    /// When an event that is ordered now may be removed.
    pub fn expiry(&self, clock: Clock) -> Clock {
        match self.rule.age {
            Millis(0) => NEVER,
            age => UnixMillis(clock.0.saturating_add(age.0)),
        }
    }

    /// Takes the next event. `records_max` bounds what is held here beside the rule.
    pub fn push(&mut self, event: Arc<Event>, expires: Clock, records_max: usize) {
        debug_assert_eq!(event.serial.0, self.newest + 1, "a window has no holes");
        self.newest = event.serial.0;
        let bytes = weight(&event);
        self.bytes += bytes;
        self.messages += u64::from(is_message(&event));
        self.kept.push_back(Kept { event, expires, bytes });
        let Rule { mode, events_max, bytes_max, .. } = self.rule;
        let places_max = match mode {
            Mode::Memory => events_max.saturating_mul(PLACES_PER_MESSAGE),
            // As the store counts.
            _ => events_max,
        };
        let is_over = |it: &Self| {
            let kept = it.kept.len();
            kept > records_max
                || events_max > 0 && (it.messages > events_max || kept as u64 > places_max)
                || bytes_max > 0 && it.bytes > bytes_max
        };
        while is_over(self) {
            self.pop();
        }
    }

    /// Forgets the oldest; what it held in bytes.
    fn pop(&mut self) -> u64 {
        let Some(gone) = self.kept.pop_front() else { return 0 };
        self.bytes -= gone.bytes;
        self.messages -= u64::from(is_message(&gone.event));
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
        gone.bytes
    }

    /// Forgets what is before a serial; how many and how many bytes.
    pub fn forget_before(&mut self, serial: u64) -> (u64, u64) {
        let (mut events, mut bytes) = (0, 0);
        while self.kept.front().is_some_and(|it| it.event.serial.0 < serial) {
            bytes += self.pop();
            events += 1;
        }
        (events, bytes)
    }

    /// Forgets what has expired.
    pub fn expire(&mut self, clock: Clock) {
        while self.kept.front().is_some_and(|it| it.expires <= clock) {
            self.pop();
        }
    }

    /// Forgets the older half, to make room.
    pub fn halve(&mut self) {
        let keep = self.kept.len() / 2;
        while self.kept.len() > keep {
            self.pop();
        }
    }

    /// Another life: nothing is kept and serials start again.
    pub fn restart(&mut self, epoch: Epoch) {
        *self = Self::new(self.rule, epoch);
    }

    /// The first serial ordered at `at` or later, among what is kept, reading from the oldest.
    pub fn first_at(&self, at: UnixMillis) -> u64 {
        let found = self.kept.iter().find(|it| it.event.at >= at);
        found.map_or(self.newest + 1, |it| it.event.serial.0)
    }

    /// What is kept, where this window is all there is.
    pub fn stream(&self, clock: Clock) -> Stream {
        // What is expired and still here is told apart from the old end: every page asks this, and mostly none is.
        let gone: u64 = self.expired(clock).map(|it| it.bytes).sum();
        let oldest = self.live(clock).next();
        let newest = self.kept.back().filter(|_| oldest.is_some());
        Stream {
            mode: Mode::Memory,
            epoch: self.epoch,
            newest: Serial(self.newest),
            oldest: Serial(oldest.map_or(self.newest + 1, |it| it.event.serial.0)),
            oldest_at: oldest.map(|it| it.event.at),
            newest_at: newest.map(|it| it.event.at),
            bytes: self.bytes - gone,
        }
    }

    /// What is not expired: its timer may be late.
    fn live(&self, clock: Clock) -> impl DoubleEndedIterator<Item = &Kept> {
        self.kept.iter().skip(self.expired(clock).count())
    }

    /// What is, from the oldest on.
    fn expired(&self, clock: Clock) -> impl Iterator<Item = &Kept> {
        self.kept.iter().take_while(move |it| it.expires <= clock)
    }

    /// Why the events after `position` cannot be told in full from a stream; none if they can.
    pub fn gap(stream: &Stream, position: Position) -> Option<Gap> {
        let reason = if position.epoch != stream.epoch {
            GapReason::EpochChanged
        } else if position.serial > stream.newest {
            GapReason::Ahead
        } else if position.serial.0 + 1 < stream.oldest.0 {
            GapReason::Expired
        } else {
            return None;
        };
        Some(Gap { reason, asked: position, stream: Some(*stream) })
    }

    /// The events after a serial; none if this window does not reach back so far.
    pub fn after(&self, serial: u64, max: ReplayMax) -> Option<Found> {
        let from = self.oldest();
        if serial + 1 < from {
            return None;
        }
        let mut found = Found { from: serial + 1, ..Found::default() };
        let mut bytes = 0;
        for kept in self.kept.iter().skip((serial + 1 - from) as usize) {
            bytes += kept.bytes;
            if found.events.len() as u64 >= u64::from(max.events) || bytes > max.bytes {
                found.is_cut_by_limit = true;
                break;
            }
            found.events.push(kept.event.clone());
        }
        Some(found)
    }

    /// The newest events that are shown, `count` of them at most, those ordered at `since` or later if that is given,
    /// within `bytes_max`; none if what is held here ends first, `oldest` being the oldest serial kept anywhere.
    pub fn newest(
        &self,
        (count, since): (u32, Option<UnixMillis>),
        bytes_max: u64,
        oldest: u64,
        show: impl Show,
    ) -> Option<Found> {
        let mut found = Found { from: self.newest + 1, ..Found::default() };
        let mut bytes = 0;
        let mut ended = self.oldest() <= oldest;
        for kept in self.kept.iter().rev() {
            if since.is_some_and(|since| kept.event.at < since) {
                ended = true;
                break;
            }
            if let Some(event) = show(&kept.event) {
                bytes += weight(&event);
                if found.events.len() as u64 >= u64::from(count) || bytes > bytes_max {
                    found.is_cut_by_limit = true;
                    ended = true;
                    break;
                }
                found.events.push(event);
            }
            found.from = kept.event.serial.0;
        }
        found.events.reverse();
        ended.then_some(found)
    }

    /// The event of a serial, if it is held here.
    pub fn event(&self, serial: u64, clock: Clock) -> Option<(&Arc<Event>, Clock)> {
        let kept = self.kept.get(serial.checked_sub(self.oldest())? as usize)?;
        (kept.expires > clock).then_some((&kept.event, kept.expires))
    }

    /// What is held here from an id on, oldest first.
    pub fn events_from(&self, id: EventId) -> impl Iterator<Item = &Arc<Event>> {
        let from = self.kept.partition_point(|it| it.event.id < id);
        self.kept.range(from..).map(|it| &it.event)
    }

    /// All that is held here, oldest first, and until when.
    pub fn events(&self) -> impl Iterator<Item = (&Arc<Event>, Clock)> {
        self.kept.iter().map(|it| (&it.event, it.expires))
    }

    /// The part of the history that is asked for, as it is shown; none if what is held here cannot tell, `oldest` being
    /// the oldest serial that is kept anywhere.
    pub fn page(
        &self,
        query: &PageQuery,
        oldest: u64,
        clock: Clock,
        show: impl Show,
    ) -> Option<(Vec<Arc<Event>>, bool)> {
        let to = query.to.map_or(u64::MAX, |to| to.0);
        let from = query.from.0;
        let held_all = self.oldest() <= oldest.max(from);
        if !query.is_newest_first && !held_all {
            return None;
        }
        let is_wanted = |it: &&Kept| {
            let event = &it.event;
            (from..=to).contains(&event.serial.0)
                && query.from_at.is_none_or(|at| event.at >= at)
                && query.to_at.is_none_or(|at| event.at <= at)
        };
        let mut events = Vec::new();
        let (mut bytes, mut has_more) = (0, false);
        let mut take = |it: &Kept| {
            let Some(event) = show(&it.event) else { return true };
            bytes += weight(&event);
            let is_full = events.len() as u64 >= u64::from(query.events_max)
                || bytes > query.bytes_max && !events.is_empty();
            if is_full {
                has_more = true;
            } else {
                events.push(event);
            }
            !is_full
        };
        if query.is_newest_first {
            let _ = self.live(clock).rev().filter(is_wanted).all(&mut take);
        } else {
            let _ = self.live(clock).filter(is_wanted).all(&mut take);
        }
        (held_all || has_more).then_some((events, has_more))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::base::event_id::EventId;
    use crate::base::ids::AppIndex;
    use crate::base::name::{Channel, Name};
    use crate::base::time::Nanos;
    use crate::broker::{Payload, Tags};

    const EPOCH: Epoch = Epoch(7);
    const ANY: ReplayMax = ReplayMax { events: 1000, bytes: 1 << 20 };

    fn event(serial: u64) -> Event {
        let happening = Happening::Message {
            name: Name::from("name"),
            data: Payload(Bytes::from_static(b"123456")),
            sender: None,
        };
        Event {
            channel: Channel { app: AppIndex(0), name: Name::from("c") },
            serial: Serial(serial),
            epoch: Some(EPOCH),
            id: EventId(serial.into()),
            at: UnixMillis(serial * 1000),
            arrived: Nanos(0),
            tags: Tags::default(),
            meta: None,
            guarded: false,
            happening,
        }
    }

    /// Events of 10 bytes, a second apart, that expire 10 seconds after.
    fn window(rule: Rule, serials: u64) -> Window {
        let mut window = Window::new(Rule { age: Millis(10_000), ..rule }, EPOCH);
        for serial in 1..=serials {
            let expires = window.expiry(UnixMillis(serial * 1000));
            window.push(Arc::new(event(serial)), expires, 50);
        }
        window
    }

    fn serials(events: &[Arc<Event>]) -> Vec<u64> {
        events.iter().map(|it| it.serial.0).collect()
    }

    #[test]
    fn what_is_said_about_messages_pushes_none_out() {
        let of_memory = Rule { mode: Mode::Memory, events_max: 2, ..Rule::default() };
        let mut window = window(of_memory, 2);
        let mut push = |is_message: bool| {
            let mut event = event(window.newest + 1);
            if !is_message {
                event.happening = Happening::Vacated;
            }
            window.push(Arc::new(event), NEVER, usize::MAX);
            (window.oldest(), window.newest)
        };
        let filled = (0..198).map(|_| push(false)).last();
        assert_eq!(filled, Some((1, 200)));
        assert_eq!(push(true), (2, 201), "a third message pushes the first out");
        assert_eq!(push(true), (3, 202), "and a fourth the second");
        assert_eq!(push(false), (4, 203), "places have an end, too");
    }

    #[test]
    fn bounds_take_the_oldest() {
        let rule = |events_max, bytes_max| Rule { events_max, bytes_max, ..Rule::default() };
        for (rule, oldest) in
            [(rule(0, 0), 11), (rule(5, 0), 56), (rule(0, 35), 58), (rule(5, 25), 59)]
        {
            let window = window(rule, 60);
            assert_eq!((window.oldest(), window.newest), (oldest, 60), "{rule:?}");
            assert_eq!(window.bytes(), (61 - oldest) * 10);
        }
        let mut window = window(rule(0, 0), 8);
        window.expire(UnixMillis(13_000));
        assert_eq!(window.oldest(), 4);
        assert_eq!(window.forget_before(6), (2, 20));
        window.halve();
        assert_eq!((window.oldest(), window.bytes()), (8, 10));
        window.expire(UnixMillis(18_000));
        assert!(window.is_empty());
        assert_eq!((window.oldest(), window.newest), (9, 8));
    }

    #[test]
    fn positions_are_continued_exactly_or_refused() {
        let window = window(Rule { events_max: 5, ..Rule::default() }, 20);
        let stream = window.stream(UnixMillis(0));
        assert_eq!((stream.oldest, stream.events()), (Serial(16), 5));
        for (epoch, serial, outcome) in [
            (EPOCH, 20, Ok(vec![])),
            (EPOCH, 18, Ok(vec![19, 20])),
            (EPOCH, 15, Ok(vec![16, 17, 18, 19, 20])),
            (EPOCH, 14, Err(GapReason::Expired)),
            (EPOCH, 0, Err(GapReason::Expired)),
            (EPOCH, 21, Err(GapReason::Ahead)),
            (Epoch(8), 20, Err(GapReason::EpochChanged)),
        ] {
            let position = Position { epoch, serial: Serial(serial) };
            let found = match Window::gap(&stream, position) {
                Some(gap) => Err(gap.reason),
                None => Ok(serials(&window.after(serial, ANY).expect("it reaches back").events)),
            };
            assert_eq!(found, outcome, "{serial}");
        }
        assert!(window.after(14, ANY).is_none());
        for (max, events) in [((3, 1000), vec![16, 17, 18]), ((9, 25), vec![16, 17])] {
            let found =
                window.after(15, ReplayMax { events: max.0, bytes: max.1 }).expect("it does");
            assert_eq!((serials(&found.events), found.is_cut_by_limit), (events, true));
        }
        let newest = |count, since: Option<u64>, bytes_max, oldest| {
            let wanted = (count, since.map(UnixMillis));
            let found = window.newest(wanted, bytes_max, oldest, |it| Some(it.clone()));
            found.map(|it| (serials(&it.events), it.is_cut_by_limit))
        };
        assert_eq!(newest(2, None, 1000, 1), Some((vec![19, 20], true)));
        assert_eq!(newest(9, None, 25, 1), Some((vec![19, 20], true)));
        assert_eq!(newest(9, Some(19_000), 1000, 1), Some((vec![19, 20], false)));
        assert_eq!(newest(5, None, 1000, 16), Some((vec![16, 17, 18, 19, 20], false)));
        assert_eq!(newest(6, None, 1000, 1), None);
        assert_eq!(newest(0, None, 1000, 1), Some((vec![], true)));
    }

    #[test]
    fn pages_are_told_from_here_or_not_at_all() {
        let window = window(Rule { events_max: 5, ..Rule::default() }, 20);
        let all = PageQuery {
            epoch: None,
            from: Serial(0),
            to: None,
            from_at: None,
            to_at: None,
            is_newest_first: true,
            events_max: 3,
            bytes_max: 1000,
            is_latest: false,
        };
        let oldest_first = PageQuery { is_newest_first: false, ..all };
        let page = |query: &PageQuery, oldest| {
            let page = window.page(query, oldest, UnixMillis(0), |it| Some(it.clone()));
            page.map(|(events, has_more)| (serials(&events), has_more))
        };
        // All that is kept is here.
        assert_eq!(page(&all, 16), Some((vec![20, 19, 18], true)));
        assert_eq!(page(&oldest_first, 16), Some((vec![16, 17, 18], true)));
        assert_eq!(page(&PageQuery { from: Serial(19), ..all }, 16), Some((vec![20, 19], false)));
        assert_eq!(
            page(&PageQuery { to: Some(Serial(17)), ..all }, 16),
            Some((vec![17, 16], false))
        );
        assert_eq!(
            page(&PageQuery { from_at: Some(UnixMillis(20_000)), ..all }, 16),
            Some((vec![20], false))
        );
        assert_eq!(
            page(&PageQuery { to_at: Some(UnixMillis(16_500)), ..all }, 16),
            Some((vec![16], false))
        );
        assert_eq!(page(&PageQuery { bytes_max: 15, ..all }, 16), Some((vec![20], true)));
        assert_eq!(page(&PageQuery { bytes_max: 1, ..all }, 16), Some((vec![20], true)));
        // More is kept elsewhere.
        assert_eq!(page(&all, 1), Some((vec![20, 19, 18], true)));
        assert_eq!(page(&oldest_first, 1), None);
        assert_eq!(
            page(&PageQuery { from: Serial(16), ..oldest_first }, 1),
            Some((vec![16, 17, 18], true))
        );
        assert_eq!(page(&PageQuery { to: Some(Serial(17)), ..all }, 1), None);
        assert_eq!(page(&PageQuery { events_max: 5, ..all }, 1), None);
        // Expired events are not shown, whether their timer came or not.
        let late = window.page(&all, 16, UnixMillis(29_000), |it| Some(it.clone()));
        let late = late.map(|(events, _)| serials(&events));
        assert_eq!(late, Some(vec![20]));
        assert_eq!(window.stream(UnixMillis(29_000)).events(), 1);
        assert_eq!(window.stream(UnixMillis(31_000)).oldest_at, None);
    }
}
