//! Push notifications in the HTTP API: what a request says becomes an order ([`crate::push::order`]), which the back shard
//! carries out, and what it tells becomes the answer.
//!
//! Read `pushing` first. Bodies are read in two spellings (`members`): that of running Sockudo and that of its
//! documentation; answers have both. Source: Sockudo's push API.

mod answers;
mod content;
mod credentials;
mod devices;
mod members;
mod pushing;
mod shapes;
mod table;

pub use self::members::snake;
pub(super) use self::pushing::{Asked, Head, Pushing, of_extras, with_events};
pub(super) use self::shapes::OF_EVENT;
pub(super) use self::table::path_field;
pub use self::table::{OF_BODIES, ROWS};

use crate::auth::sign::fingerprint;
use crate::base::name::Name;
use crate::base::time::Millis;
use crate::broker::IdempotencyKey;
use crate::config::Config;
use crate::config::history::History;
use crate::config::push::{Enabled, PushSettings};

/// What the settings say that requests are read by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// There are no push notifications, whatever else is set.
    pub is_off: bool,
    /// Addresses on networks that are not public are no matter.
    pub allow_private: bool,
    /// How long the key of an event is remembered.
    pub key_window: Millis,
}

impl Terms {
    /// Those in force.
    pub fn of(config: &Config) -> Self {
        let settings = PushSettings::of(config);
        Self {
            is_off: settings.enabled == Enabled::Off,
            allow_private: settings.allow_private,
            key_window: History::of(config).idempotency_window,
        }
    }
}

/// The key of the notification that goes with an event to these channels under this key, and for how many milliseconds it
/// is remembered. A channel that keeps nothing forgets its keys with the process; the notification is on disk, and whoever
/// makes the request again then must not send it twice.
///
/// No publish of its own can have it: a key that is given has no control characters.
pub(super) fn key_of_event(
    key: &IdempotencyKey,
    channels: &[Name],
    window: Millis,
) -> (Option<String>, Option<u64>) {
    let parts: Vec<&[u8]> = std::iter::once(&*key.name)
        .chain(channels.iter().map(|it| &**it))
        .map(str::as_bytes)
        .collect();
    let digest = u128::from_be_bytes(fingerprint(&parts));
    (Some(format!("\u{1}{digest:032x}")), Some(key.span.unwrap_or(window).0))
}

/// What a request about push notifications is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushRoute {
    /// Register a device, or change its registration.
    Register,
    /// List devices.
    Devices,
    /// Forget the devices of a client.
    UnregisterClient,
    /// One device.
    Device,
    /// Forget it.
    Unregister,
    /// Let a device hear of a channel.
    Subscribe,
    /// List subscriptions.
    Subscriptions,
    /// End some.
    Unsubscribe,
    /// Which channels have some.
    Channels,
    /// Keep credentials.
    PutCredential,
    /// List them.
    Credentials,
    /// Forget some.
    RemoveCredential,
    /// Keep a template.
    PutTemplate,
    /// List them.
    Templates,
    /// One.
    Template,
    /// Forget one.
    RemoveTemplate,
    /// Publish.
    Publish,
    /// Publish several.
    Batch,
    /// Call a publish off.
    Cancel,
    /// Call one off that waits for its time, if there is one.
    CancelScheduled,
    /// Where a publish is.
    Status,
    /// What came of it, device by device.
    Outcomes,
    /// What a provider or a worker says of a device.
    Feedback,
    /// List dead letters.
    DeadLetters,
    /// Try one again.
    Replay,
    /// Make a broadcast channel of Live Activities.
    CreateBroadcast,
    /// List them.
    Broadcasts,
    /// One.
    Broadcast,
    /// Remove one.
    RemoveBroadcast,
}
