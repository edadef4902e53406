//! What version 2 adds to a connection: names of its frames, resuming, rewinding, history by WebSocket.
//!
//! A resume asks for what came after the peer's positions. Public channels are answered at once; what a
//! private one kept is nobody's before this very connection has subscribed it with a right signature, so its
//! position waits for that. Either way a position waits for the subscribe that follows: the subscription
//! begins exactly there ([`Start::After`]), so that what is published between the two is neither lost nor
//! told twice. Source: Sockudo's protocol 2, "Connection recovery", and what its clients send: they may
//! subscribe before, while and after they resume.

use std::borrow::Cow;

use super::capabilities::Op;
use super::fault::Fault;
use super::frames::{self, Version};
use super::history::{self, HistoryQuery};
use super::names::{self, Access, Kind, USER_PREFIX};
use super::pace::Pace;
use super::session::{PusherSession, object};
use crate::base::ids::{Epoch, Serial, Ticket};
use crate::base::name::Name;
use crate::base::pattern::Pattern;
use crate::base::time::Millis;
use crate::broker::{
    Command, Event, Gap, GapReason, Happening, Position, Refusal, Replay, Reply, Start, Stream,
    Subscribed,
};
use crate::dialects::Output;
use crate::wire::json::{self, Kind as JsonKind, Raw};

/// Replays one resume asks for at once: as much of the past as it holds in memory.
const REPLAYS_MAX: usize = 8;

/// Pages of history one connection may wait for. Source: Sockudo, "History over WebSocket".
const PAGES_MAX: usize = 2;

/// Bytes that a failure takes, about.
const FAILURE_BYTES: usize = 400;

/// Bytes of a stream's name that a peer hears again when it is not ours.
const STREAM_ID_BYTES_MAX: usize = 64;

/// Where in its channel's history a subscription begins.
pub(super) struct Place {
    /// As it was asked; `Now` once it stands.
    start: Start,
    /// The peer waits to hear that the rewind is complete.
    rewinds: bool,
    /// What a resume has told of this channel while the subscribe was on its way.
    told: Told,
    /// Everything after this comes with the subscription.
    began: Option<Position>,
    /// How far the history had come when it was attached.
    pub attached: Option<Position>,
}

/// What a resume has told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    /// What came up to here.
    Reached(Position),
    /// That it failed.
    Failed,
}

/// A resume that is being answered.
#[derive(Default)]
pub(super) struct Resume {
    /// Not asked yet, the next one last.
    pub waiting: Vec<(Name, Position)>,
    asked: Vec<(Ticket, Name, Position)>,
    /// What was replayed so far.
    bytes: usize,
    /// The items of the list of those that succeeded, as JSON, so far.
    pub recovered: Vec<u8>,
    pub failures: Vec<Failure>,
    /// The peer did not ask for it, and hears of failures only.
    is_quiet: bool,
}

/// A channel that cannot be resumed.
pub(super) struct Failure {
    channel: Name,
    reason: Reason,
    /// The stream the peer knows, as it spelled it.
    expected: Option<String>,
    stream: Option<Stream>,
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Gap(GapReason),
    /// The position has no serial that is a number.
    Malformed,
    /// The position does not say which life of the channel it is of. Taking the present one for it would tell
    /// a peer of an earlier one nothing of what it missed.
    StreamMissing,
    /// There is no such channel.
    Name,
    /// As many wait already as may.
    TooMany,
}

impl Reason {
    /// The word of the protocol, and our closer one.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Gap(GapReason::EpochChanged) => ("stream_reset", "stream_id_mismatch"),
            Self::Gap(GapReason::Expired) => ("position_expired", "position_expired"),
            Self::Gap(GapReason::Ahead) => {
                ("continuity_unverifiable", "position_ahead_of_durable_stream")
            }
            Self::Gap(GapReason::TooMuch) => ("position_expired", "replay_too_large"),
            Self::Gap(GapReason::Unavailable) => ("persistence_unavailable", "store_unavailable"),
            Self::Gap(GapReason::NotKept) => ("continuity_unverifiable", "history_not_kept"),
            Self::Malformed => ("continuity_unverifiable", "position_malformed"),
            Self::StreamMissing => ("continuity_unverifiable", "stream_id_missing"),
            Self::Name => ("continuity_unverifiable", "channel_name_invalid"),
            Self::TooMany => ("continuity_unverifiable", "too_many_positions"),
        }
    }
}

/// A page of history on its way.
pub(super) struct PageAsk {
    ticket: Ticket,
    channel: Name,
    query: HistoryQuery,
    /// The peer wants no more than there was when it attached: up to here.
    until: Option<Serial>,
}

impl Place {
    /// Of a subscribe that is sent; `rewinds` if the peer asked for the past itself.
    pub fn new(start: Start, rewinds: bool) -> Self {
        Self { start, rewinds, told: Told::Nothing, began: None, attached: None }
    }
}

/// What a subscribe says about rewinding: a number of events, or `{count}`, `{seconds}`, `{duration_seconds}`.
pub(super) fn rewind(data: Raw<'_>) -> Result<Option<Start>, Fault> {
    let Some(rewind) = data.member("rewind").filter(|it| !it.is_null()) else { return Ok(None) };
    let number = |value: Raw<'_>| {
        let number = match value.as_str() {
            Some(text) => text.parse().ok(),
            None => value.as_u64(),
        };
        number.filter(|&number| number > 0).ok_or(Fault::RewindMalformed)
    };
    let events = |count: u64| Start::Events(u32::try_from(count).unwrap_or(u32::MAX));
    if rewind.kind() != JsonKind::Object {
        return Ok(Some(events(number(rewind)?)));
    }
    if let Some(count) = rewind.member("count") {
        return Ok(Some(events(number(count)?)));
    }
    let seconds = rewind.member("seconds").or(rewind.member("duration_seconds"));
    let seconds = number(seconds.ok_or(Fault::RewindMalformed)?)?;
    Ok(Some(Start::Since(Millis(seconds.saturating_mul(1000)))))
}

impl PusherSession {
    /// Where a channel's subscription begins: at the position that waits for it, else as asked.
    pub(super) fn start(&mut self, channel: &str, rewind: Option<Start>) -> Start {
        let position = self.two.as_mut().and_then(|two| two.take(channel));
        position.map(Start::After).or(rewind).unwrap_or_default()
    }

    /// A subscription was refused: the position it was to begin at waits for the next one.
    pub(super) fn put_back(&mut self, channel: &Name, place: &Place) {
        let Start::After(position) = place.start else { return };
        let position = match place.told {
            Told::Reached(reached) => reached,
            Told::Failed => return,
            Told::Nothing => position,
        };
        let max = self.shared.settings.subscriptions_per_connection_max;
        if let Some(two) = &mut self.two {
            two.put(channel, position, max);
        }
    }

    /// How fast the past is sent, to a peer that is sent any.
    pub(super) fn pace(&mut self) -> Option<&mut Pace> {
        self.two.as_mut().map(|two| &mut two.pace)
    }

    /// Bytes of the past that may be on their way unread before more of it is asked for.
    pub(super) fn past_bytes_max(&self) -> usize {
        self.shared.replay_bytes_max / 2
    }

    /// A subscription stands. Notes where it began; the place after which its events come.
    pub(super) fn began(&mut self, channel: &str, subscribed: &Subscribed) -> Option<Position> {
        self.two.as_ref()?;
        let subscription = self.subscription(channel)?;
        let attached = subscribed.position?;
        let place =
            subscription.place.get_or_insert_with(|| Box::new(Place::new(Start::Now, false)));
        let began = match (place.start, subscribed.replay.as_deref()) {
            (Start::After(position), Some(Ok(_))) => position,
            (_, Some(Ok(replay))) => {
                let first = replay.events.first().map(|it| it.serial.0.saturating_sub(1));
                first.map_or(attached, |serial| Position { serial: Serial(serial), ..attached })
            }
            _ => attached,
        };
        place.began = Some(began);
        place.attached = Some(attached);
        Some(began)
    }

    /// Whether an event is among those of the past that a new subscription starts with, or before them.
    pub(super) fn is_replayed(
        &mut self,
        channel: &str,
        event: &Event,
        subscribed: &Subscribed,
    ) -> bool {
        let Some(Ok(replay)) = subscribed.replay.as_deref() else { return false };
        let place = self.subscription(channel).and_then(|it| it.place.as_deref());
        let is_continued = place.is_some_and(|it| matches!(it.start, Start::After(_)));
        is_continued && event.epoch.is_some()
            || replay.events.iter().any(|it| it.epoch.is_some() && it.serial == event.serial)
    }

    /// Sends what a new subscription starts with.
    pub(super) fn replay(
        &mut self,
        channel: &Name,
        mut replay: Result<Replay, Gap>,
        out: &mut Vec<Output>,
    ) {
        let bytes_max = self.shared.replay_bytes_max;
        let subscription = self.subscription(channel);
        let lane = subscription.as_ref().map(|it| it.lane);
        let place = subscription.and_then(|it| it.place.as_deref_mut());
        // Without a place it is the user's own channel, which is only ever continued.
        let (mut rewinds, mut start, mut told) = (false, Start::Now, Told::Nothing);
        let (mut is_continued, mut attached) = (true, None);
        if let Some(place) = place {
            attached = place.attached;
            start = std::mem::take(&mut place.start);
            is_continued = matches!(start, Start::After(_));
            rewinds = std::mem::take(&mut place.rewinds);
            told = std::mem::replace(&mut place.told, Told::Nothing);
        }
        let (mut sent, mut bytes) = (0, 0);
        if let Ok(past) = &replay {
            let is_told = |event: &Event| match told {
                Told::Reached(it) => event.epoch == Some(it.epoch) && event.serial <= it.serial,
                Told::Nothing | Told::Failed => false,
            };
            let lane = lane.unwrap_or_else(|| self.lane());
            let first = out.len();
            for event in past.events.iter().filter(|it| !is_told(it)) {
                if !self.lets_through(channel, event) {
                    continue;
                }
                if let Some(shown) = self.show(lane, event, out) {
                    bytes += shown;
                    sent += 1;
                }
            }
            // Who is shown all of a message at each append is shown more than the home has counted.
            if let (true, Start::After(asked)) = (bytes > bytes_max, start) {
                out.truncate(first);
                (sent, bytes) = (0, 0);
                replay = Err(Gap { reason: GapReason::TooMuch, asked, stream: None });
            }
        }
        if let Some(two) = &mut self.two {
            two.pace.sent(bytes);
        }
        if let (Err(gap), true) = (&replay, is_continued && told != Told::Failed) {
            let failure = Failure::from_gap(channel.clone(), *gap);
            self.say(failure.frame(), out);
        }
        if rewinds {
            self.say(rewind_complete(channel, sent, replay.as_ref().ok(), attached), out);
        }
    }

    /// A new subscription stands and starts with nothing, whatever it asked for.
    pub(super) fn replay_missing(&mut self, channel: &Name, out: &mut Vec<Output>) {
        let Some(place) = self.subscription(channel).and_then(|it| it.place.as_deref()) else {
            return;
        };
        let asked = match place.start {
            Start::Now => return,
            Start::After(position) => position,
            Start::Events(_) | Start::Since(_) => Position { epoch: Epoch(0), serial: Serial(0) },
        };
        self.replay(channel, Err(Gap { reason: GapReason::NotKept, asked, stream: None }), out);
    }

    /// `sockudo:resume`.
    pub(super) fn resume(
        &mut self,
        data: Option<Raw<'_>>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let mut buffer = String::new();
        let data = object("resume", data, &mut buffer)?;
        let places = data.member("channel_positions").or(data.member("channel_serials"));
        let places =
            places.filter(|it| it.kind() == JsonKind::Object).ok_or(Fault::ResumeNowhere)?;
        let positions_max = self.shared.settings.subscriptions_per_connection_max;
        // Were all of them to fail, the outbox must hold what is said of them once.
        let max = positions_max.min(2 * self.shared.replay_bytes_max / FAILURE_BYTES);
        match places.members().take(max + 1).count() {
            0 => return Err(Fault::ResumeEmpty),
            count if count > max => return Err(Fault::ResumeLong { max }),
            _ => {}
        }
        let Some(two) = &mut self.two else { return Ok(()) };
        let quiet = two.resume.take_if(|it| it.is_quiet);
        if two.resume.is_some() {
            return Err(Fault::ResumeUnderway);
        }
        // What was to be told anyway is told with it.
        let mut resume = quiet.unwrap_or_default();
        resume.is_quiet = false;
        let name_bytes_max = self.app().settings.channel_name_bytes_max;
        for (name, value) in places.members() {
            let channel = Name::from(truncated(&name, name_bytes_max + USER_PREFIX.len()));
            let failed = |reason, expected| Failure {
                channel: channel.clone(),
                reason,
                expected,
                stream: None,
            };
            let namespaces = &self.app().settings.namespaces;
            if names::check_published(&name, name_bytes_max, namespaces).is_err() {
                resume.failures.push(failed(Reason::Name, None));
                continue;
            }
            let Known { position, last_id } = match Known::read(value) {
                Ok(known) => known,
                Err(Unknown { reason, expected }) => {
                    resume.failures.push(failed(reason, expected));
                    continue;
                }
            };
            let is_subscribed = self.subscription(&channel).is_some();
            let is_public =
                Kind::of(&channel).access == Access::Public && !names::is_internal(&channel);
            // What its token denies waits for a subscribe, too, and that is refused.
            let is_public = is_public && self.may(Op::Subscribe, &channel);
            let waits = !is_subscribed && !self.is_own(&channel);
            if let (Some(two), true) = (&mut self.two, waits) {
                if !two.put(&channel, position, positions_max) {
                    resume.failures.push(failed(Reason::TooMany, None));
                    continue;
                }
                if !is_public {
                    resume.recover(&channel, "hot", 0, position, last_id.as_deref());
                    continue;
                }
            }
            resume.waiting.push((channel, position));
        }
        // From the last one on: the next is taken from the end.
        resume.waiting.reverse();
        if let Some(two) = &mut self.two {
            two.resume = Some(resume);
        }
        self.resume_on(out);
        Ok(())
    }

    /// A pattern is subscribed from here on. Of its channels the peer has told how far it came what came since is told,
    /// unless it was: between a resume and this nobody heard for it. Some of it may come twice, as what is live does
    /// already, and clients pass over names that they know.
    pub(super) fn resume_pattern(&mut self, pattern: &Name, out: &mut Vec<Output>) {
        let pattern = Pattern(pattern.clone());
        let Some(two) = &self.two else { return };
        let is_of_it = |name: &Name| {
            Kind::of(name).access == Access::Public
                && !names::is_internal(name)
                && pattern.matches(name)
        };
        let positions = two.positions.iter().filter(|(name, _)| is_of_it(name));
        let waiting: Vec<_> = positions.map(|(name, it)| (name.clone(), *it)).collect();
        if waiting.is_empty() {
            return;
        }
        if let Some(two) = &mut self.two {
            let quiet = || Box::new(Resume { is_quiet: true, ..Resume::default() });
            two.resume.get_or_insert_with(quiet).waiting.extend(waiting);
        }
        self.resume_on(out);
    }

    /// Whether a channel is the one of the user who is signed in here.
    fn is_own(&self, channel: &str) -> bool {
        let user = self.user.as_ref().map(|it| &*it.member.user_id);
        user.is_some() && channel.strip_prefix(USER_PREFIX) == user
    }

    /// Asks for more replays, or tells how the resume went once there are none.
    fn resume_on(&mut self, out: &mut Vec<Output>) {
        while let Some(resume) = self.two.as_mut().and_then(|two| two.resume.as_mut())
            && resume.asked.len() < REPLAYS_MAX
            && let Some((name, position)) = resume.waiting.pop()
        {
            let ticket = self.ticket();
            let channel = self.channel(name.clone());
            out.push(Output::Ask(ticket, Command::Replay(channel, position)));
            if let Some(resume) = self.two.as_mut().and_then(|two| two.resume.as_mut()) {
                resume.asked.push((ticket, name, position));
            }
        }
        let Some(two) = &mut self.two else { return };
        let Some(resume) = two.resume.take_if(|it| it.asked.is_empty()) else { return };
        // Each failure is told alone and in the list at the end; those that would not fit twice, in the list.
        let alone = self.shared.replay_bytes_max / (2 * FAILURE_BYTES);
        for failure in resume.failures.iter().take(alone) {
            self.say(failure.frame(), out);
        }
        if !resume.is_quiet {
            self.say(resume.frame(), out);
        }
    }

    /// Takes the answer to one of a resume's replays.
    fn resumed(&mut self, at: usize, reply: Reply, out: &mut Vec<Output>) {
        let bytes_max = self.shared.replay_bytes_max;
        let Some(resume) = self.two.as_mut().and_then(|two| two.resume.as_mut()) else { return };
        let (_, channel, asked) = resume.asked.swap_remove(at);
        let bytes_before = resume.bytes;
        let gap = |reason| Gap { reason, asked, stream: None };
        let result = match reply {
            Reply::Replayed(result) => *result,
            Reply::Refused(Refusal::NotKept) => Err(gap(GapReason::NotKept)),
            _ => Err(gap(GapReason::Unavailable)),
        };
        // What a subscription that stands sends itself is told once.
        let subscription = self.subscription(&channel);
        let is_pending = subscription.as_ref().is_some_and(|it| it.owed > 0);
        let lane = subscription.as_ref().map(|it| it.lane);
        let began = subscription.and_then(|it| it.place.as_deref()?.began);
        let lane = lane.unwrap_or_else(|| self.lane());
        let mut sent = Vec::new();
        let mut bytes = bytes_before;
        for event in result.iter().flat_map(|it| &it.events) {
            let comes_anyway =
                began.is_some_and(|it| event.epoch == Some(it.epoch) && event.serial > it.serial);
            if !comes_anyway && self.lets_through(&channel, event) {
                bytes += self.show(lane, event, &mut sent).unwrap_or_default();
            }
        }
        let result = if bytes > bytes_max { Err(gap(GapReason::TooMuch)) } else { result };
        let place = self.subscription(&channel).filter(|_| is_pending);
        if let Some(place) = place.and_then(|it| it.place.as_deref_mut()) {
            place.told = match &result {
                Ok(replay) => Told::Reached(replay.position),
                Err(_) => Told::Failed,
            };
        }
        let Some(two) = &mut self.two else { return };
        let Some(mut resume) = two.resume.take() else { return };
        match result {
            Ok(replay) => {
                if let Some(position) = two.positions.get_mut(&*channel) {
                    *position = replay.position;
                }
                two.pace.sent(bytes - resume.bytes);
                resume.bytes = bytes;
                let last_id = replay.events.iter().rev().find_map(|it| text_id(it));
                let source = if replay.is_cold { "cold" } else { "hot" };
                let count = sent.len();
                resume.recover(&channel, source, count, replay.position, last_id.as_deref());
                out.append(&mut sent);
            }
            Err(gap) => {
                two.forget(&channel);
                resume.failures.push(Failure::from_gap(channel, gap));
            }
        }
        two.resume = Some(resume);
        self.resume_on(out);
    }

    /// `sockudo:channel_history`.
    pub(super) fn channel_history(
        &mut self,
        data: Option<Raw<'_>>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        const EVENT: &str = "channel_history";
        let mut buffer = String::new();
        let data = object(EVENT, data, &mut buffer)?;
        let channel = super::session::field(data, EVENT, "channel")?;
        let socket_id = self.connection;
        let standing = self.subscription(&channel).filter(|it| it.owed == 0);
        let Some(subscription) = standing else {
            let channel = truncated(&channel, 200).to_owned();
            return Err(Fault::HistoryNotSubscribed { socket_id, channel });
        };
        let channel = subscription.name.clone();
        let attached = subscription.place.as_ref().and_then(|it| it.attached);
        self.allow(Op::History, &channel)?;
        if names::is_pattern(&channel) {
            return Err(Fault::HistoryNotKept);
        }
        let params = data.member("params").filter(|it| it.kind() == JsonKind::Object);
        let member = |name: &str| {
            let value = params.and_then(|it| it.member(name)).or(data.member(name))?;
            if value.is_null() {
                return None;
            }
            Some(value.as_str().map_or_else(|| value.text().to_owned(), Cow::into_owned))
        };
        let mut query = HistoryQuery::read(
            &self.shared.apps,
            self.app(),
            &channel,
            self.shared.settings.history_page_max,
            &member,
        )
        .map_err(Fault::History)?;
        query.has_versions = self.shared.has_versions();
        let until = match member("until_attach").as_deref() {
            None | Some("false") => None,
            Some("true") => match attached {
                Some(position) => Some(position.serial),
                None => return Err(Fault::HistoryNotKept),
            },
            Some(_) => return Err(Fault::History("until_attach is true or false".into())),
        };
        let ticket = self.ticket();
        let Some(two) = &mut self.two else { return Ok(()) };
        if two.pages.len() >= PAGES_MAX {
            return Err(Fault::HistoryBusy { max: PAGES_MAX });
        }
        let ask = query.page(until);
        two.pages.push(PageAsk { ticket, channel: channel.clone(), query, until });
        out.push(Output::Ask(ticket, Command::History(self.channel(channel), Box::new(ask))));
        Ok(())
    }

    /// A page of history came, or will not.
    fn paged(&mut self, at: usize, reply: Reply, out: &mut Vec<Output>) {
        let Some(two) = &mut self.two else { return };
        let ask = two.pages.swap_remove(at);
        match reply {
            Reply::Page(page) => {
                let mut frame = start_frame("channel_history", &ask.channel);
                let bounds = history::Bounds::Attached(ask.until);
                ask.query.write(self.app(), &ask.channel, &page, bounds, &mut frame);
                frame.push(b'}');
                self.say(frame, out);
            }
            Reply::Refused(Refusal::NotKept) => self.fault(&Fault::HistoryNotKept, out),
            Reply::Refused(refusal @ Refusal::EpochChanged) => {
                self.fault(&Fault::History(refusal.text()), out);
            }
            Reply::Refused(refusal) => self.fault(&Fault::HistoryUnavailable(refusal.text()), out),
            _ => {}
        }
    }

    /// Takes a reply that belongs to a resume or to a page of history; any other comes back.
    pub(super) fn continuity_reply(
        &mut self,
        ticket: Ticket,
        reply: Reply,
        out: &mut Vec<Output>,
    ) -> Option<Reply> {
        let Some(two) = &self.two else { return Some(reply) };
        if let Some(at) = two.pages.iter().position(|it| it.ticket == ticket) {
            self.paged(at, reply, out);
            return None;
        }
        let asked = two.resume.as_ref().map_or(&[][..], |it| &it.asked);
        match asked.iter().position(|(it, ..)| *it == ticket) {
            Some(at) => {
                self.resumed(at, reply, out);
                None
            }
            None => Some(reply),
        }
    }
}

impl Resume {
    /// Notes a channel that succeeded.
    fn recover(
        &mut self,
        channel: &str,
        source: &str,
        replayed: usize,
        position: Position,
        last_id: Option<&str>,
    ) {
        let out = &mut self.recovered;
        out.extend_from_slice(if out.is_empty() { b"{" } else { b",{" });
        out.extend_from_slice(b"\"channel\":");
        json::write_str(out, channel);
        let Position { epoch, serial } = position;
        frames::append(
            out,
            format_args!(
                ",\"source\":\"{source}\",\"replayed\":{replayed},\"position\":{{\"stream_id\":\"{epoch}\",\
                 \"serial\":{},\"last_message_id\":",
                serial.0
            ),
        );
        match last_id {
            Some(id) => json::write_str(out, id),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b"}}");
    }

    /// The frame that ends a resume.
    fn frame(&self) -> Vec<u8> {
        let mut inner = b"{\"recovered\":[".to_vec();
        inner.extend_from_slice(&self.recovered);
        inner.extend_from_slice(b"],\"failed\":[");
        for (i, failure) in self.failures.iter().enumerate() {
            if i > 0 {
                inner.push(b',');
            }
            failure.write(&mut inner);
        }
        inner.extend_from_slice(b"]}");
        let mut out = b"{\"event\":\"sockudo:resume_success\",\"data\":".to_vec();
        frames::write_text(&inner, &mut out);
        out.push(b'}');
        out
    }
}

impl Failure {
    fn from_gap(channel: Name, gap: Gap) -> Self {
        let expected = Some(gap.asked.epoch.to_string());
        Self { channel, reason: Reason::Gap(gap.reason), expected, stream: gap.stream }
    }

    /// Its frame. The channel is in the data, too, where clients look for it.
    fn frame(&self) -> Vec<u8> {
        let mut out = start_frame("resume_failed", &self.channel);
        let mut inner = Vec::new();
        self.write(&mut inner);
        frames::write_text(&inner, &mut out);
        out.push(b'}');
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"channel\":");
        json::write_str(out, &self.channel);
        let (code, reason) = self.reason.words();
        frames::append(out, format_args!(",\"code\":\"{code}\",\"reason\":\"{reason}\""));
        out.extend_from_slice(b",\"expected_stream_id\":");
        match &self.expected {
            Some(id) => json::write_str(out, id),
            None => out.extend_from_slice(b"null"),
        }
        let stream = self.stream.as_ref();
        out.extend_from_slice(b",\"current_stream_id\":");
        match stream {
            Some(stream) => frames::append(out, format_args!("\"{}\"", stream.epoch)),
            None => out.extend_from_slice(b"null"),
        }
        let kept = stream.filter(|it| it.events() > 0);
        history::number(",\"oldest_available_serial\":", kept.map(|it| it.oldest.0), out);
        history::number(",\"newest_available_serial\":", kept.map(|it| it.newest.0), out);
        out.push(b'}');
    }
}

/// An event of the server's about a channel, up to its data.
fn start_frame(event: &str, channel: &str) -> Vec<u8> {
    let prefix = Version::Two.prefix();
    let mut out = format!("{{\"event\":\"{prefix}{event}\",\"channel\":").into_bytes();
    json::write_str(&mut out, channel);
    out.extend_from_slice(b",\"data\":");
    out
}

/// The past has been told. Nothing live was held back meanwhile: the replay ends where that begins, which is where the
/// subscription was attached. The frame names that place: clients take the last one they read for where they are, and
/// a changed message was told in its first place, so that they would be told of its changes again.
fn rewind_complete(
    channel: &str,
    sent: usize,
    replay: Option<&Replay>,
    attached: Option<Position>,
) -> Vec<u8> {
    let by_retention = replay.is_some_and(|it| it.is_cut_by_retention);
    let by_limit = replay.is_some_and(|it| it.is_cut_by_limit);
    let complete = replay.is_some() && !by_retention && !by_limit;
    let mut out = start_frame("rewind_complete", channel);
    frames::append(
        &mut out,
        format_args!(
            "{{\"historical_count\":{sent},\"live_count\":0,\"complete\":{complete},\
             \"truncated_by_retention\":{by_retention},\"truncated_by_limit\":{by_limit}}}"
        ),
    );
    if let Some(Position { epoch, serial: Serial(serial) }) = attached {
        frames::append(&mut out, format_args!(",\"stream_id\":\"{epoch}\",\"serial\":{serial}"));
    }
    out.push(b'}');
    out
}

/// What a frame of a message is called, as text; none of what is none.
fn text_id(event: &Event) -> Option<String> {
    let given = event.meta.as_ref().and_then(|it| it.message_id.as_ref());
    match &event.happening {
        Happening::Message { .. } => {
            Some(given.map_or_else(|| event.id.to_string(), |it| it.to_string()))
        }
        Happening::Mutated(_) => Some(event.id.to_string()),
        _ => None,
    }
}

/// How far a peer came in a channel.
struct Known<'a> {
    position: Position,
    /// The last event it heard.
    last_id: Option<Cow<'a, str>>,
}

/// Why that cannot be told, and the stream the peer names.
struct Unknown {
    reason: Reason,
    expected: Option<String>,
}

impl<'a> Known<'a> {
    fn read(value: Raw<'a>) -> Result<Self, Unknown> {
        let text = |name| value.member(name).and_then(Raw::as_str);
        let stream = text("stream_id");
        let unknown = |reason| Unknown {
            reason,
            expected: stream.as_deref().map(|it| truncated(it, STREAM_ID_BYTES_MAX).to_owned()),
        };
        let serial = match value.kind() {
            JsonKind::Object => value.member("serial").and_then(Raw::as_u64),
            _ => value.as_u64(),
        };
        let serial = Serial(serial.ok_or_else(|| unknown(Reason::Malformed))?);
        let epoch = stream.as_deref().ok_or_else(|| unknown(Reason::StreamMissing))?;
        // If it is another server's, no stream here was ever called so.
        let changed = |_| unknown(Reason::Gap(GapReason::EpochChanged));
        let position = Position { epoch: epoch.parse().map_err(changed)?, serial };
        Ok(Self { position, last_id: text("last_message_id") })
    }
}

/// As much of a text as fits.
fn truncated(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
#[path = "continuity_tests.rs"]
mod tests;

#[cfg(test)]
pub(super) use self::tests::{Peer, inner, place, positions, told};
