//! Events told as what changed since the last one, to peers that ask for it. Source: Sockudo, "Delta compression", and
//! what its clients do.
//!
//! A peer holds the last frame it was sent of a channel, or of a channel's conflation key; so do we. Frames that it is
//! to hold carry a number; what changes is told against one of them by that number. A frame without a number changes
//! nothing of what either side holds. State is bounded by [`Settings`]: whoever is forgotten is sent all of the next event.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::fault::Fault;
use super::filters;
use super::formats::Format;
use super::frames::{self, Version};
use super::names::{self, Kind};
use super::session::{PusherSession, field, object};
use super::settings::Settings;
use crate::base::name::Name;
use crate::base::time::{Millis, Nanos, Now};
use crate::broker::{Command, Event, Happening, Payload};
use crate::dialects::Output;
use crate::wire::base64::{self, Alphabet};
use crate::wire::delta::{fossil, vcdiff};
use crate::wire::json::{self, Kind as JsonKind, Raw};

/// Frames beyond this are sent as they are: what changed in them takes long to find.
const FRAME_BYTES_MAX: usize = 256 << 10;
/// Frames of one key before the first that is told as what changed. Source: Sockudo, as its clients see it.
const FULL_FIRST: u32 = 2;
/// Bytes of a conflation key; an event about something longer is sent as it is.
const KEY_BYTES_MAX: usize = 256;
/// Clients cut these out of what they hold, wherever they stand.
const MARKS: [&str; 2] = ["\"__delta_seq\":", "\"__conflation_key\":"];

/// How changes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// The format of the Fossil version control system.
    #[default]
    Fossil,
    /// VCDIFF.
    Xdelta3,
}

impl Algorithm {
    /// As settings and peers spell them.
    pub const NAMES: &[&str] = &["fossil", "xdelta3"];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fossil => "fossil",
            Self::Xdelta3 => "xdelta3",
        }
    }

    /// The one of a name that is known to be one's.
    pub fn chosen(name: &str) -> Self {
        Self::named(name).unwrap_or_default()
    }

    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "fossil" => Some(Self::Fossil),
            "xdelta3" | "vcdiff" => Some(Self::Xdelta3),
            _ => None,
        }
    }

    fn encode(self, base: &[u8], target: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Fossil => fossil::encode(base, target, out),
            Self::Xdelta3 => vcdiff::encode(base, target, out),
        }
    }
}

/// What is set for a channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule<'a> {
    pub enabled: bool,
    /// None: the one of the settings.
    pub algorithm: Option<Algorithm>,
    /// Where an event says what it is about.
    pub conflation_key: Option<&'a str>,
    pub messages_per_key_max: u32,
    pub keys_max: usize,
}

/// What a subscribe says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Never.
    Off,
    /// As the connection has it, but if it is told, so.
    Prefer(Algorithm),
    /// It is wanted; how, if it says.
    On(Option<Algorithm>),
}

impl Asked {
    /// `delta` of a subscribe: a truth value, an algorithm, `"disabled"`, or an object of both.
    pub fn of(data: Raw<'_>) -> Option<Self> {
        let delta = data.member("delta")?;
        match delta.kind() {
            JsonKind::Bool if delta.as_bool() == Some(true) => Some(Self::On(None)),
            JsonKind::Bool => Some(Self::Off),
            JsonKind::String => {
                let word = delta.as_str()?.to_ascii_lowercase();
                Some(match word.as_str() {
                    "disabled" | "false" | "none" => Self::Off,
                    word => Self::On(Algorithm::named(word)),
                })
            }
            JsonKind::Object => {
                let algorithm = delta.member("algorithm").and_then(Raw::as_str);
                let algorithm = algorithm.and_then(|it| Algorithm::named(&it));
                match delta.member("enabled").and_then(Raw::as_bool) {
                    Some(false) => Some(Self::Off),
                    Some(true) => Some(Self::On(algorithm)),
                    None => algorithm.map(Self::Prefer),
                }
            }
            _ => None,
        }
    }
}

/// What a connection takes as changes, and what its peer holds.
#[derive(Debug, Default)]
pub(super) struct Deltas {
    /// The peer asked for it on all its channels, and reads these.
    everywhere: Option<Everywhere>,
    asked: BTreeMap<Name, Asked>,
    channels: BTreeMap<Name, Held>,
    /// Of all frames held.
    bytes: usize,
    /// Counts uses, so that the longest unused is known.
    uses: u64,
    /// Above every number of what was forgotten: a client that still holds it shall not take it for something newer.
    number_first: u32,
}

#[derive(Clone, Copy, Debug)]
struct Everywhere {
    announced: Algorithm,
    reads_fossil: bool,
    reads_xdelta3: bool,
}

impl Everywhere {
    fn reads(&self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::Fossil => self.reads_fossil,
            Algorithm::Xdelta3 => self.reads_xdelta3,
        }
    }
}

/// What the peer holds of one channel.
#[derive(Debug, Default)]
struct Held {
    /// By conflation key; one without a name where there are none.
    bases: BTreeMap<Box<str>, Base>,
    used: u64,
}

/// The last frame of one key.
#[derive(Debug)]
struct Base {
    /// Shared with the shard's other subscribers that hold the same.
    frame: Rc<[u8]>,
    /// Its number.
    number: u32,
    /// Numbered frames of the key so far.
    count: u32,
    /// Changes since the last whole frame.
    run: u32,
    at: Nanos,
    used: u64,
}

/// What was last told on this shard. The subscribers of a channel mostly hold the same frame, so what changed is looked
/// for once and all of them hold one copy. It only saves work: what it says follows from what it is asked.
#[derive(Default)]
struct Last {
    frame: Rc<[u8]>,
    base: Rc<[u8]>,
    algorithm: Algorithm,
    /// From the base to the frame; empty: not looked for yet.
    changed: Rc<[u8]>,
}

thread_local! {
    static LAST: RefCell<Last> = RefCell::default();
}

impl Last {
    /// A frame as it is shared, and what changed from a base to it; nothing without a base.
    fn tell(frame: Vec<u8>, base: Option<(&Rc<[u8]>, Algorithm)>) -> (Rc<[u8]>, Rc<[u8]>) {
        LAST.with_borrow_mut(|last| {
            if *last.frame != *frame {
                last.frame = frame.into();
                last.changed = Rc::default();
            }
            let Some((base, algorithm)) = base else { return (last.frame.clone(), Rc::default()) };
            let is_same =
                last.algorithm == algorithm && (Rc::ptr_eq(&last.base, base) || last.base == *base);
            if !is_same || last.changed.is_empty() {
                let mut changed = Vec::new();
                algorithm.encode(base, &last.frame, &mut changed);
                (last.base, last.algorithm) = (base.clone(), algorithm);
                last.changed = changed.into();
            }
            (last.frame.clone(), last.changed.clone())
        })
    }
}

/// Bytes that a base takes beside its frame and its key.
const BASE_BYTES: usize = size_of::<Base>() + 64;

impl Deltas {
    /// How a channel's events are told as changes; none: they are not.
    fn algorithm(&self, channel: &str, rule: &Rule<'_>, settings: &Settings) -> Option<Algorithm> {
        if !settings.delta || !rule.enabled || !may_be(channel) {
            return None;
        }
        let wanted = match self.asked.get(channel) {
            Some(Asked::Off) => return None,
            Some(Asked::On(Some(algorithm))) => return Some(*algorithm),
            Some(Asked::On(None)) => rule.algorithm,
            Some(Asked::Prefer(algorithm)) => {
                self.everywhere?;
                Some(*algorithm)
            }
            None => {
                self.everywhere?;
                rule.algorithm
            }
        };
        Some(match self.everywhere {
            // Whatever is set for the channel, the peer must be able to read it.
            Some(it) => wanted.filter(|wanted| it.reads(*wanted)).unwrap_or(it.announced),
            None => wanted.unwrap_or(settings.delta_algorithm),
        })
    }

    /// Forgets what the peer holds of a channel.
    fn forget(&mut self, channel: &str) {
        let Some(held) = self.channels.remove(channel) else { return };
        self.bytes -= held.bases.iter().map(|(key, base)| bytes(key, &base.frame)).sum::<usize>();
    }

    /// Memory that it holds.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes + (self.asked.len() + self.channels.len()) * 96
    }

    /// Turns a frame of a channel into what is sent: marked, as what changed, or as it is.
    fn tell(&mut self, told: Told<'_>, settings: &Settings, now: Nanos) -> Sent {
        let Told { event, channel, key, rule, algorithm, frame } = told;
        self.uses += 1;
        let used = self.uses;
        let number_first = self.number_first;
        let held = self.channels.entry(channel.clone()).or_default();
        held.used = used;
        let before = held.bases.remove(key);
        if let Some(before) = &before {
            self.bytes -= bytes(key, &before.frame);
        }
        let number = before.as_ref().map_or(number_first, |it| it.number.wrapping_add(1));
        let base = before.as_ref().filter(|it| {
            it.count >= FULL_FIRST
                && it.run < settings.delta_run_max
                && Millis(now.since(it.at).as_millis() as u64) < settings.delta_age_max
        });
        let (frame, changed) = Last::tell(frame, base.map(|it| (&it.frame, algorithm)));
        let is_change = base.is_some() && changed.len() < frame.len();
        let marked_key = rule.conflation_key.map(|_| key);
        let sent = match base.filter(|_| is_change) {
            Some(base) => {
                let is_announced = self.everywhere.is_some_and(|it| it.announced == algorithm);
                let is_omitted = settings.delta_algorithm_omitted && is_announced;
                let algorithm = (!is_omitted).then_some(algorithm);
                Sent::Changes(changes(event, &changed, number, base.number, algorithm, marked_key))
            }
            None => Sent::Whole(marked(&frame, number, marked_key)),
        };
        let (count, run) = before.as_ref().map_or((0, 0), |it| (it.count, it.run));
        let base = Base {
            frame,
            number,
            count: count.saturating_add(1),
            run: if is_change { run + 1 } else { 0 },
            at: now,
            used,
        };
        self.bytes += bytes(key, &base.frame);
        held.bases.insert(key.into(), base);
        let keys_max = rule.keys_max;
        self.shrink(channel, keys_max, settings);
        sent
    }

    /// Forgets the longest unused while too much is held.
    fn shrink(&mut self, channel: &str, keys_max: usize, settings: &Settings) {
        if let Some(held) = self.channels.get_mut(channel)
            && held.bases.len() > keys_max
        {
            let oldest = held.bases.iter().min_by_key(|(_, base)| base.used);
            if let Some(key) = oldest.map(|(key, _)| key.clone())
                && let Some(gone) = held.bases.remove(&key)
            {
                self.bytes -= bytes(&key, &gone.frame);
                self.number_first = self.number_first.max(gone.number.wrapping_add(1));
            }
        }
        while self.channels.len() > settings.delta_channels_max
            || self.bytes > settings.delta_held_bytes_max
        {
            let oldest = self.channels.iter().min_by_key(|(_, held)| held.used);
            let Some(name) = oldest.map(|(name, _)| name.clone()) else { return };
            let bases = self.channels.get(&name).into_iter().flat_map(|it| it.bases.values());
            let next = bases.map(|it| it.number.wrapping_add(1)).max();
            self.number_first = self.number_first.max(next.unwrap_or(0));
            self.forget(&name);
        }
    }
}

fn bytes(key: &str, frame: &[u8]) -> usize {
    key.len() + frame.len() + BASE_BYTES
}

/// Whether a channel's events may be told as changes at all: what is encrypted has no parts that stay.
fn may_be(channel: &str) -> bool {
    !Kind::of(channel).is_encrypted && !names::is_internal(channel)
}

/// A frame and what it is about.
struct Told<'a> {
    event: &'a Event,
    channel: &'a Name,
    key: &'a str,
    rule: &'a Rule<'a>,
    algorithm: Algorithm,
    frame: Vec<u8>,
}

/// What a frame became.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    /// All of it, with its number.
    Whole(Vec<u8>),
    /// What changed.
    Changes(Vec<u8>),
}

/// A frame with its number, for a peer to hold. Clients cut both members out of its text, each with one comma.
fn marked(frame: &[u8], number: u32, key: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(frame.len() + 64);
    out.extend_from_slice(frame);
    frames::extend(&mut out, |out| {
        frames::append(out, format_args!(",\"__delta_seq\":{number}"));
        if let Some(key) = key {
            // It needs no escapes: `key_of` takes no other.
            frames::append(out, format_args!(",\"__conflation_key\":\"{key}\""));
        }
    });
    out
}

/// The frame that says what changed. Its place in the channel's history stands beside it, so that a client that comes
/// back knows how far it was.
fn changes(
    event: &Event,
    changed: &[u8],
    number: u32,
    base: u32,
    algorithm: Option<Algorithm>,
    key: Option<&str>,
) -> Vec<u8> {
    let mut text = String::with_capacity(changed.len() * 4 / 3 + 4);
    base64::encode(&mut text, changed, Alphabet::Standard);
    // Most decoders want its padding.
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    let mut out = b"{\"event\":\"sockudo:delta\",\"channel\":".to_vec();
    json::write_str(&mut out, &event.channel.name);
    out.extend_from_slice(b",\"data\":{\"event\":");
    if let Happening::Message { name, .. } = &event.happening {
        json::write_str(&mut out, name);
    }
    frames::append(
        &mut out,
        format_args!(",\"delta\":\"{text}\",\"seq\":{number},\"base_index\":{base}"),
    );
    if let Some(algorithm) = algorithm {
        frames::append(&mut out, format_args!(",\"algorithm\":\"{}\"", algorithm.name()));
    }
    if let Some(key) = key {
        frames::append(&mut out, format_args!(",\"conflation_key\":\"{key}\""));
    }
    out.push(b'}');
    if let Some(position) = event.position() {
        frames::place(position, &mut out);
    }
    out.push(b'}');
    out
}

/// What an event is about: what its data, or a tag of it, says at a path. None: it does not say, or nothing that clients
/// could cut out of a frame again.
fn key_of(path: &str, event: &Event, data: &Payload) -> Option<Box<str>> {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let text = match (first, rest) {
        ("tags", Some(name)) => event.tags.value(name)?.to_string(),
        ("data", Some(path)) => text_at(path, data)?,
        _ => text_at(path, data)?,
    };
    let needs_escapes = |c: char| c == '"' || c == '\\' || c < ' ';
    let is_right = !text.is_empty() && text.len() <= KEY_BYTES_MAX && !text.contains(needs_escapes);
    is_right.then(|| text.into())
}

fn text_at(path: &str, data: &Payload) -> Option<String> {
    let data = json::parse(&data.0).ok()?;
    let text = data.as_str();
    let mut value = match &text {
        Some(text) => json::parse_str(text).ok()?,
        None => data,
    };
    for name in path.split('.') {
        value = value.member(name)?;
    }
    match value.kind() {
        JsonKind::String => value.as_str().map(Cow::into_owned),
        JsonKind::Number | JsonKind::Bool => Some(value.text().to_owned()),
        _ => None,
    }
}

impl PusherSession {
    /// How a channel's events are told as changes here, and what is set for it.
    fn delta_of(&self, channel: &str) -> Option<(Algorithm, Rule<'_>)> {
        // A pattern's events come under their channels' names, each with changes of its own.
        if names::is_pattern(channel) {
            return None;
        }
        let two = self.two.as_ref().filter(|two| two.format == Format::Json)?;
        let settings = &self.shared.version_two;
        let rule = settings.rule(&self.app().settings.id, channel);
        let algorithm = two.deltas.as_ref()?.algorithm(channel, &rule, settings)?;
        Some((algorithm, rule))
    }

    /// Whether a subscription takes its messages as changes.
    pub(super) fn takes_changes(&self, channel: &str) -> bool {
        self.delta_of(channel).is_some()
    }

    /// Notes what a subscribe says about it.
    pub(super) fn ask_delta(&mut self, channel: &Name, asked: Option<Asked>) {
        let (Some(two), Some(asked)) = (&mut self.two, asked) else { return };
        two.deltas.get_or_insert_default().asked.insert(channel.clone(), asked);
    }

    /// The peer does not listen to a channel any more: it forgets, and so do we.
    pub(super) fn leave_delta(&mut self, channel: &str) {
        let deltas = self.two.as_mut().and_then(|two| two.deltas.as_mut());
        if let Some(deltas) = deltas {
            deltas.asked.remove(channel);
            deltas.forget(channel);
        }
    }

    /// A subscription stands. Clients hold frames by their numbers, which begin anew: they are told to hold none.
    pub(super) fn begin_delta(&mut self, channel: &str, out: &mut Vec<Output>) {
        let Some((_, rule)) = self.delta_of(channel) else { return };
        let Some(path) = rule.conflation_key else { return };
        let mut frame = b"{\"event\":\"sockudo:delta_cache_sync\",\"channel\":".to_vec();
        json::write_str(&mut frame, channel);
        frame.extend_from_slice(b",\"data\":{\"conflation_key\":");
        json::write_str(&mut frame, path);
        let messages_max = rule.messages_per_key_max;
        frames::append(
            &mut frame,
            format_args!(",\"max_messages_per_key\":{messages_max},\"states\":{{}}}}}}"),
        );
        self.say(frame, out);
    }

    /// `sockudo:enable_delta_compression`: on every channel from here on.
    pub(super) fn enable_delta(
        &mut self,
        data: Option<Raw<'_>>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let mut buffer = String::new();
        let data = data.filter(|it| !it.is_null());
        let data = match data {
            Some(_) => Some(object("enable_delta_compression", data, &mut buffer)?),
            None => None,
        };
        let listed = data.and_then(|it| it.member("algorithms"));
        let listed = listed.filter(|it| it.kind() == JsonKind::Array);
        let reads = |algorithm| match listed {
            None => true,
            Some(listed) => listed
                .items()
                .filter_map(Raw::as_str)
                .any(|it| Algorithm::named(&it) == Some(algorithm)),
        };
        let (reads_fossil, reads_xdelta3) = (reads(Algorithm::Fossil), reads(Algorithm::Xdelta3));
        let settings = &self.shared.version_two;
        let others = [settings.delta_algorithm, Algorithm::Fossil, Algorithm::Xdelta3];
        let announced = others.into_iter().find(|it| reads(*it));
        let is_enabled = settings.delta;
        let Some(two) = self.two.as_mut() else { return Ok(()) };
        let is_json = two.format == Format::Json;
        let (true, true, Some(announced)) = (is_enabled, is_json, announced) else {
            let frame =
                b"{\"event\":\"sockudo:delta_compression_enabled\",\"data\":{\"enabled\":false}}";
            self.say(frame.to_vec(), out);
            return Ok(());
        };
        let deltas = two.deltas.get_or_insert_default();
        deltas.everywhere = Some(Everywhere { announced, reads_fossil, reads_xdelta3 });
        for name in deltas.channels.keys().cloned().collect::<Vec<_>>() {
            deltas.forget(&name);
        }
        let mut frame = b"{\"event\":\"sockudo:delta_compression_enabled\",\"data\":".to_vec();
        let algorithm = announced.name();
        frames::append(
            &mut frame,
            format_args!("{{\"enabled\":true,\"algorithm\":\"{algorithm}\"}}}}"),
        );
        self.say(frame, out);
        let standing = self.subscriptions.iter().map(|it| (it.name.clone(), it.owed == 0));
        for (name, stands) in standing.collect::<Vec<_>>() {
            if !self.takes_changes(&name) {
                continue;
            }
            let predicate = self.predicate(&name);
            if let Some(filter) = filters::filter(predicate.as_ref(), true) {
                let command = Command::Refilter(self.channel(name.clone()), filter);
                out.push(Output::Ask(self.ticket(), command));
            }
            if stands {
                self.begin_delta(&name, out);
            }
        }
        Ok(())
    }

    /// `sockudo:delta_sync_error`: the peer holds nothing of a channel any more.
    pub(super) fn delta_sync_error(&mut self, data: Option<Raw<'_>>) -> Result<(), Fault> {
        const EVENT: &str = "delta_sync_error";
        let mut buffer = String::new();
        let channel = field(object(EVENT, data, &mut buffer)?, EVENT, "channel")?;
        if let Some(deltas) = self.two.as_mut().and_then(|two| two.deltas.as_mut()) {
            deltas.forget(&channel);
        }
        Ok(())
    }

    /// A message for this peer alone, as what changed if that is less.
    pub(super) fn tell_changes(&mut self, event: &Event, now: Now, out: &mut Vec<Output>) {
        let Happening::Message { name, data, .. } = &event.happening else { return };
        let mut shown = Vec::new();
        self.show(self.lane(), event, &mut shown);
        let Some(Output::Text(frame)) = shown.pop() else { return out.append(&mut shown) };
        let channel = &event.channel.name;
        let shared = self.shared.clone();
        let settings = &shared.version_two;
        let rule = settings.rule(&self.app().settings.id, channel);
        let Some(deltas) = self.two.as_mut().and_then(|two| two.deltas.as_mut()) else {
            return out.push(Output::Text(frame));
        };
        // It may have been switched off while the event was on its way.
        let Some(algorithm) = deltas.algorithm(channel, &rule, settings) else {
            return out.push(Output::Text(frame));
        };
        if MARKS.iter().any(|it| memchr::memmem::find(&frame, it.as_bytes()).is_some())
            || memchr::memmem::find(&data.0, b"__delta_seq").is_some()
        {
            // Clients would take the publisher's words for ours, and hold something else than we think.
            deltas.forget(channel);
            return out.push(Output::Text(frame));
        }
        let is_own = [Version::Seven, Version::Two]
            .iter()
            .any(|it| name.starts_with(it.prefix()) || name.starts_with(it.prefix_internal()));
        let key = match rule.conflation_key {
            Some(path) => key_of(path, event, data),
            None => Some(Box::from("")),
        };
        let fits = (settings.delta_bytes_min..=FRAME_BYTES_MAX).contains(&frame.len());
        let (Some(key), true, false) = (key, fits, is_own) else {
            return out.push(Output::Text(frame));
        };
        let told = Told { event, channel, key: &key, rule: &rule, algorithm, frame };
        let (Sent::Whole(frame) | Sent::Changes(frame)) = deltas.tell(told, settings, now.steady);
        out.push(Output::Text(frame));
    }
}

#[cfg(test)]
#[path = "delta_tests.rs"]
mod tests;
