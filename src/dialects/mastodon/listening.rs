//! The streams that one connection hears: which channels it subscribes for them, with which filters, and what it says of
//! an event that it is handed.
//!
//! The broker subscribes a connection to a channel once. Two streams may share one (notifications are part of `user`);
//! then its session renders for both.

use std::sync::Arc;

use super::brief::{Brief, Fate, Viewer};
use super::connected::{Presence, Transport};
use super::replies::Fault;
use super::streams::{Asked, Stream};
use super::{Shared, frames, names, scopes};
use crate::auth::source::{Following, What};
use crate::auth::{Identity, Inquiry, Seat};
use crate::base::ids::{LaneId, Ticket};
use crate::base::name::{Channel, Name};
use crate::broker::{Admit, Command, Event, Filter, Happening, Subscribe, Verdict};
use crate::dialects::Output;
use crate::wire::json;

/// What the names of one connection's channels and streams may take in all.
const NAMES_BYTES_MAX: usize = 256 << 10;

/// The streams of one connection.
pub(super) struct Listening {
    shared: Arc<Shared>,
    /// This connection's place in its app.
    _seat: Seat,
    presence: Presence,
    transport: Transport,
    lane: LaneId,
    /// Who listens.
    pub identity: Arc<Identity>,
    ticket_last: u32,
    streams: Vec<Heard>,
    names_bytes: usize,
}

/// A stream that is heard.
struct Heard {
    stream: Stream,
    /// For whom its statuses are judged; none: they are not.
    viewer: Option<Arc<Viewer>>,
}

/// What becomes of an event that a session is handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// What there was to say is said.
    Said,
    /// The connection is to end: its token was taken back, or its account is gone.
    Killed,
}

impl Listening {
    /// Listens to nothing but the system's own channel.
    pub(super) fn begin(
        shared: Arc<Shared>,
        seat: Seat,
        transport: Transport,
        lane: LaneId,
        identity: Arc<Identity>,
        out: &mut Vec<Output>,
    ) -> Self {
        let presence = Presence::new(shared.connected.clone(), transport);
        let mut listening = Self {
            shared,
            _seat: seat,
            presence,
            transport,
            lane,
            identity,
            ticket_last: 0,
            streams: Vec::new(),
            names_bytes: 0,
        };
        let system = names::own(&names::system(&listening.identity.user));
        let filter = listening.shared.filters.session.clone();
        listening.subscribe(&system, Some(filter), out);
        listening
    }

    /// A ticket that nobody waits for.
    pub(super) fn ticket(&mut self) -> Ticket {
        self.ticket_last = self.ticket_last.wrapping_add(1);
        Ticket(self.ticket_last)
    }

    /// The stream that the peer asks for and may hear, or why there is none.
    pub(super) fn grant(&self, asked: &Asked<'_>) -> Result<Stream, Fault> {
        Stream::grant(asked, &self.identity, &self.shared.app.settings.bridge)
    }

    /// The stream that the peer asks for, or why there is none.
    pub(super) fn find(&self, asked: &Asked<'_>) -> Result<Stream, Fault> {
        Stream::find(asked, &self.identity, &self.shared.app.settings.bridge)
    }

    /// Where a stream is among those that are heard: those of the same channels are the same.
    fn place(&self, stream: &Stream) -> Option<usize> {
        self.streams.iter().position(|it| it.stream.channels == stream.channels)
    }

    /// Whether a stream is heard already.
    pub(super) fn has(&self, stream: &Stream) -> bool {
        self.place(stream).is_some()
    }

    /// Whether there is room for one more stream.
    pub(super) fn has_room(&self, stream: &Stream) -> bool {
        self.streams.len() < self.shared.settings.streams_max
            && self.names_bytes + bytes_of(stream) <= NAMES_BYTES_MAX
    }

    /// What the names of its channels and streams take.
    pub(super) fn names_bytes(&self) -> usize {
        self.names_bytes
    }

    /// What upstream is to be asked, if there is one.
    pub(super) fn inquiry(&self, what: impl FnOnce(&Name) -> What) -> Option<Inquiry> {
        let source = &self.shared.source;
        let inquiry = |what| Inquiry { source: source.clone(), what };
        source.has_upstream.then(|| inquiry(what(&self.identity.user)))
    }

    /// How a stream may be followed, without upstream.
    pub(super) fn alone(&self, stream: &Stream) -> Result<Following, Fault> {
        self.shared.alone(&self.identity.user, stream)
    }

    /// Hears a stream from here on.
    pub(super) fn add(&mut self, stream: Stream, following: Following, out: &mut Vec<Output>) {
        let views = scopes::views_feeds(&self.identity);
        let viewer = stream.kind.is_judged().then(|| {
            Arc::new(Viewer {
                account: self.identity.user.clone(),
                languages: self.identity.languages.clone(),
                judged_from: following.judged_from,
                local: following.local || views,
                remote: following.remote || views,
            })
        });
        let channels = stream.channels.clone();
        let shared: Vec<bool> = channels.iter().map(|it| self.hears(it)).collect();
        self.presence.add(stream.kind);
        self.names_bytes += bytes_of(&stream);
        if self.streams.is_empty() {
            // Most hear one.
            self.streams.reserve_exact(1);
        }
        self.streams.push(Heard { stream, viewer });
        for (channel, is_shared) in channels.iter().zip(shared) {
            let filter = self.filter_of(channel);
            match is_shared {
                true => self.refilter(channel, filter, out),
                false => self.subscribe(channel, filter, out),
            }
        }
    }

    /// Hears a stream no more; nothing happens if it was not heard. Upstream is told by who asked.
    pub(super) fn remove(&mut self, stream: &Stream, out: &mut Vec<Output>) {
        let Some(place) = self.place(stream) else { return };
        let Heard { stream, .. } = self.streams.swap_remove(place);
        self.presence.remove(stream.kind);
        self.names_bytes -= bytes_of(&stream);
        for channel in &stream.channels {
            if self.hears(channel) {
                let filter = self.filter_of(channel);
                self.refilter(channel, filter, out);
            } else {
                let command = Command::Unsubscribe(self.channel(channel));
                out.push(Output::Ask(self.ticket(), command));
            }
        }
    }

    /// Says what is to be said of an event that the session is handed.
    pub(super) fn event(&self, event: &Event, out: &mut Vec<Output>) -> Told {
        if names::is_system(&event.channel.name) {
            return self.system(event);
        }
        for Heard { stream, viewer } in &self.streams {
            if !stream.channels.contains(&event.channel.name) {
                continue;
            }
            let fate = match (viewer, event.brief::<Brief>()) {
                (Some(viewer), Some(brief)) => brief.fate(viewer),
                _ => Fate::Plain,
            };
            let filtered = match &fate {
                Fate::Hidden => continue,
                Fate::Plain => None,
                Fate::Filtered(list) => Some(&**list),
            };
            let mut text = Vec::new();
            let is_shown = match self.transport {
                Transport::WebSocket => {
                    frames::text(event, stream.label.as_deref(), filtered, &mut text)
                }
                Transport::EventStream => frames::piece(event, filtered, &mut text),
            };
            if is_shown {
                self.presence.sent();
                out.push(Output::Text(text));
            }
        }
        Told::Said
    }

    fn system(&self, event: &Event) -> Told {
        let Happening::Message { name, data, .. } = &event.happening else { return Told::Said };
        if &**name != "kill" {
            return Told::Said;
        }
        // Of the whole account, or of one token alone.
        let token = json::parse(&data.0).ok().and_then(json::Raw::as_str);
        match token {
            Some(token) if self.identity.token.as_deref() != Some(&*token) => Told::Said,
            _ => Told::Killed,
        }
    }

    fn hears(&self, channel: &Name) -> bool {
        self.streams.iter().any(|it| it.stream.channels.contains(channel))
    }

    /// The filter of a channel's subscription; none: every event goes to the peer as its lane has it.
    fn filter_of(&self, channel: &Name) -> Option<Arc<Filter>> {
        let mut of = self.streams.iter().filter(|it| it.stream.channels.contains(channel));
        let Heard { stream, viewer } = of.next()?;
        let is_shared = of.next().is_some();
        let in_own_words =
            self.transport == Transport::WebSocket && (is_shared || stream.label.is_some());
        match viewer.as_ref().filter(|_| names::upstream(channel).is_some()) {
            Some(viewer) => {
                let admit = Audience { viewer: viewer.clone(), in_own_words };
                Some(Arc::new(Filter { any_of: None, admit: Box::new(admit) }))
            }
            None => in_own_words.then(|| self.shared.filters.session.clone()),
        }
    }

    fn channel(&self, name: &Name) -> Channel {
        Channel { app: self.shared.app.index, name: name.clone() }
    }

    fn subscribe(&mut self, name: &Name, filter: Option<Arc<Filter>>, out: &mut Vec<Output>) {
        let channel = self.channel(name);
        // Nobody counts who hears a timeline, and those on bridged channels are counted by their own protocols.
        let subscribe = Subscribe { silent: true, filter, ..Subscribe::new(channel, self.lane) };
        out.push(Output::Ask(self.ticket(), Command::Subscribe(Box::new(subscribe))));
    }

    fn refilter(&mut self, name: &Name, filter: Option<Arc<Filter>>, out: &mut Vec<Output>) {
        let filter = filter.unwrap_or_else(|| self.shared.filters.frame.clone());
        out.push(Output::Ask(self.ticket(), Command::Refilter(self.channel(name), filter)));
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.streams.iter().for_each(|it| self.presence.remove(it.stream.kind));
    }
}

fn bytes_of(stream: &Stream) -> usize {
    let label = stream.label.as_ref().map_or(0, |it| it.len());
    label + stream.channels.iter().map(|it| it.len()).sum::<usize>()
}

/// Filters that are the same for everyone.
pub(super) struct Filters {
    /// Every event is handed to the session.
    session: Arc<Filter>,
    /// Every event goes to the peer as its lane has it.
    frame: Arc<Filter>,
}

impl Default for Filters {
    fn default() -> Self {
        let always = |verdict| Filter { any_of: None, admit: Box::new(Always(verdict)) };
        Self {
            session: Arc::new(always(Verdict::Session)),
            frame: Arc::new(always(Verdict::Frame)),
        }
    }
}

struct Always(Verdict);

impl Admit for Always {
    fn admit(&self, event: &Event) -> Verdict {
        // Of a bridged channel everyone hears only what is for everyone.
        if event.guarded { Verdict::Skip } else { self.0 }
    }
}

/// One viewer on a channel whose statuses are judged.
struct Audience {
    viewer: Arc<Viewer>,
    /// The peer calls the stream something else than the lane's frame does.
    in_own_words: bool,
}

impl Admit for Audience {
    fn admit(&self, event: &Event) -> Verdict {
        // What is no status has none: it is for everyone.
        let fate = event.brief::<Brief>().map_or(Fate::Plain, |it| it.fate(&self.viewer));
        match fate {
            Fate::Hidden => Verdict::Skip,
            Fate::Plain if !self.in_own_words => Verdict::Frame,
            Fate::Plain | Fate::Filtered(_) => Verdict::Session,
        }
    }
}
