//! The Hotsock protocol: what a peer may do is written in its token.

pub mod at;
pub mod claims;
mod expression;
pub mod names;
pub mod patterns;
pub mod rights;
pub mod settings;

use std::sync::Arc;

use self::settings::Settings;
use super::{Dialect, Facts, Farewell, LaneKind, Opening, Request};
use crate::auth::{App, Apps};
use crate::broker::Event;
use crate::config::Config;
use crate::observe::CloseReason;

/// What every session of this dialect shares.
pub(super) struct Shared {
    /// The app whose channels these are.
    pub app: Arc<App>,
    pub settings: Settings,
    pub body_bytes_max: usize,
    /// The world outside hears of what happens.
    pub reports: bool,
}

/// The dialect; without an app it takes no request.
pub struct Hotsock(Option<Arc<Shared>>);

impl Hotsock {
    /// The dialect for the app that its settings name.
    pub fn new(config: &Config, apps: Arc<Apps>) -> Self {
        let settings = Settings::of(config);
        Self(apps.with_id(&settings.app).cloned().map(|app| {
            let body_bytes_max = config.http.body_bytes_max;
            Arc::new(Shared { app, settings, body_bytes_max, reports: false })
        }))
    }
}

impl Dialect for Hotsock {
    fn name(&self) -> &'static str {
        "hotsock"
    }

    fn lanes(&self) -> &'static [LaneKind] {
        use LaneKind::{Text, TextDeflate};
        &[Text, TextDeflate, Text, TextDeflate]
    }

    fn open(&self, _request: &Request<'_>, _facts: &Facts) -> Option<Opening> {
        None
    }

    fn render(&self, _lane: usize, _event: &Event, _out: &mut Vec<u8>) -> bool {
        false
    }

    fn farewell(&self, _reason: CloseReason) -> Farewell {
        Farewell { message: None, code: 1001, text: "Going away".into() }
    }
}
