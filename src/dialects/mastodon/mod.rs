//! Mastodon streaming: timelines and notifications over server-sent events and WebSockets, as Mastodon's own streaming
//! server speaks it, in its place or alone.
//!
//! Alone, tokens come from the settings or an issuer, and events from a signed request. In that server's place, both come
//! from Mastodon's own Redis and PostgreSQL ([`upstream`]). What a status means for each account is found out once, before
//! it is published ([`judge`], [`brief`]). Never here: timelines, which are Mastodon's. Start with [`names`], then the
//! sessions.

pub mod accounts;
pub mod brief;
pub mod envelope;
pub mod judge;
pub mod names;
mod settings;

use std::sync::Arc;

pub use self::settings::{SECTION, Settings};
use super::{Dialect, Facts, Farewell, LaneKind, Opening, Request};
use crate::auth::{App, Apps, Source};
use crate::broker::Event;
use crate::config::Config;
use crate::observe::CloseReason;

/// WebSockets, each event named by its channel's stream.
pub(in crate::dialects) const LANE_TEXT: u8 = 0;
/// Event streams, in chunks; the next lane is the same for peers that take none.
pub(in crate::dialects) const LANE_CHUNK: u8 = 1;

/// What every session of this dialect shares.
struct Shared {
    /// The app whose events these are.
    app: Arc<App>,
    settings: Settings,
    source: Arc<Source>,
}

/// The dialect; without an app it takes no request.
pub struct Mastodon {
    shared: Option<Arc<Shared>>,
}

impl Mastodon {
    /// The dialect of the app that its settings name.
    pub fn new(config: &Config, apps: Arc<Apps>) -> Self {
        let settings = Settings::of(config);
        let shared = apps.with_id(&settings.app).cloned().map(|app| {
            let mut source = Source::new("mastodon", &settings.tokens, None);
            source.has_upstream = settings.has_upstream();
            Arc::new(Shared { app, source: Arc::new(source), settings })
        });
        Self { shared }
    }
}

impl Dialect for Mastodon {
    fn name(&self) -> &'static str {
        "mastodon"
    }

    fn lanes(&self) -> &'static [LaneKind] {
        &[LaneKind::Text, LaneKind::Chunk, LaneKind::Plain]
    }

    fn open(&self, _request: &Request<'_>, _facts: &Facts) -> Option<Opening> {
        let _shared = self.shared.as_ref()?;
        None
    }

    fn listening(&self, address: &str) -> Option<String> {
        let is_in_place = self.shared.as_ref()?.settings.takes_everything;
        // What starts that server waits for these words.
        is_in_place.then(|| format!("Streaming API now listening on {address}"))
    }

    fn render(&self, _lane: usize, _event: &Event, _out: &mut Vec<u8>) -> bool {
        false
    }

    fn farewell(&self, reason: CloseReason) -> Farewell {
        let (code, text) = match reason {
            CloseReason::Drain => (1012, "the server is about to stop"),
            CloseReason::SlowConsumer => (1013, "messages are not read fast enough"),
            CloseReason::Overload => (1013, "over capacity"),
            CloseReason::Failed => (1011, "the server failed"),
            CloseReason::TooLarge => (1009, "message too large"),
            CloseReason::Utf8 => (1007, ""),
            CloseReason::Protocol => (1002, "not the WebSocket protocol"),
            CloseReason::Timeout => (1008, "not heard of in time"),
            CloseReason::Peer | CloseReason::Session | CloseReason::Asked | CloseReason::Done => {
                (1000, "")
            }
        };
        Farewell { message: None, code, text: text.into() }
    }
}
