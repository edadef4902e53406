//! What is sent, to whom, and what came of it.

use serde::{Deserialize, Serialize};

use super::Provider;
use super::device::Recipient;
use super::template::Text;

/// To whom something is sent. A device that several of them reach gets it once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A device by its id.
    Device(String),
    /// All devices of a client.
    Client(String),
    /// All devices that hear of a channel.
    Channel(String),
    /// An address that need not be registered.
    Direct(Recipient),
    /// A topic of the provider's own (FCM).
    ProviderTopic(Provider, String),
    /// A condition over such topics (FCM).
    ProviderCondition(Provider, String),
}

/// What is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// A template that says it in the device's language.
    pub template_id: Option<String>,
    /// Values for its places: a JSON object; empty: none.
    pub template_data: String,
    /// What is said here counts before the template.
    pub text: Text,
    /// For the application on the device: a JSON object; empty: none.
    pub data: String,
    /// What is sent as it is to one provider's devices: a JSON object each.
    pub overrides: Vec<(Provider, String)>,
    /// For Live Activities of APNs: a JSON object; empty: none.
    pub live_activity: String,
}

/// A publish, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// What it is called; none: it is given a name.
    pub id: Option<String>,
    /// Who comes again with this key hears of the same publish.
    pub key: Option<String>,
    /// For how long `key` is remembered, in milliseconds; none: as long as what came of it.
    pub key_span: Option<u64>,
    /// What the request was, digested, without `id`, `key`, its span and whether to wait: with another one under the same key it is
    /// refused.
    pub fingerprint: [u8; 16],
    /// To whom; at least one, at most [`TARGETS_MAX`].
    pub targets: Vec<Target>,
    /// What.
    pub content: Content,
    /// Send with these credentials instead of the provider's default ones.
    pub credential_id: Option<String>,
    /// Not before then, in milliseconds since 1970.
    pub not_before: Option<u64>,
    /// Not after then.
    pub expires_at: Option<u64>,
    /// Devices whose client has a connection here are left out.
    pub skip_connected: bool,
    /// The app's daily bound does not hold it up.
    pub passes_quota: bool,
    /// The answer waits for what comes of it, if it is small.
    pub is_sync: bool,
}

/// Targets of one publish, at most. Source: Sockudo's push API.
pub const TARGETS_MAX: usize = 1024;

/// Where a publish is. Source: Sockudo's push API, but for what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// On disk; it waits for its time or its turn.
    Accepted,
    /// Who gets it is being found out, and nothing is sent yet.
    Planning,
    /// Every provider it needs asked to be left alone for a while.
    Throttled,
    /// It is being sent.
    Dispatching,
    /// It was called off; what was sent stays sent.
    Cancelled,
    /// Every device was taken by its provider, or there was none.
    Succeeded,
    /// Some were.
    PartiallySucceeded,
    /// None was.
    Failed,
    /// The app's daily bound was met.
    QuotaExceeded,
    /// Its time was over before it could be sent.
    Expired,
    /// Sending was given up: there are dead letters.
    DeadLettered,
}

impl State {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Planning => "planning",
            Self::Throttled => "throttled",
            Self::Dispatching => "dispatching",
            Self::Cancelled => "cancelled",
            Self::Succeeded => "succeeded",
            Self::PartiallySucceeded => "partially_succeeded",
            Self::Failed => "failed",
            Self::QuotaExceeded => "quota_exceeded",
            Self::Expired => "expired",
            Self::DeadLettered => "dead_lettered",
        }
    }

    /// Nothing more comes of it.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Accepted | Self::Planning | Self::Throttled | Self::Dispatching)
    }
}

/// How many devices are where. `planned` = `succeeded` + `failed` + `expired` + `skipped` + `dead_lettered` + those that are on their
/// way, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Found.
    pub planned: u64,
    /// Handed to a provider at least once.
    pub dispatched: u64,
    /// Taken by one.
    pub succeeded: u64,
    /// Refused for good.
    pub failed: u64,
    /// Too late for them.
    pub expired: u64,
    /// Left out: connected, failed before, over their own rate.
    pub skipped: u64,
    /// Will be tried again.
    pub retry_scheduled: u64,
    /// Tries beyond the first.
    pub retry_attempted: u64,
    /// Given up.
    pub dead_lettered: u64,
}

/// What came of a publish so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is called.
    pub id: String,
    /// Where it is.
    pub state: State,
    /// How many devices are where.
    pub counters: Counters,
    /// Devices it was expected to reach when it was accepted.
    pub expected: u64,
    /// More than a page of them.
    pub is_large: bool,
    /// When it was accepted, in milliseconds since 1970.
    pub accepted_at: u64,
    /// Its time, if it is or was to be sent later.
    pub not_before: Option<u64>,
    /// When nothing more was to come of it.
    pub finished_at: Option<u64>,
    /// When a provider that asked to be left alone is tried again, in milliseconds from now.
    pub retry_after: Option<u64>,
    /// Why it failed.
    pub error_reason: Option<String>,
}

/// What came of sending to one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fate {
    /// The provider took it.
    Accepted,
    /// A callback said that the device got it.
    Delivered,
    /// The provider refused it for good.
    Failed,
    /// The device is no more; its registration is removed.
    Gone,
    /// Too late.
    Expired,
    /// Its client is connected.
    Connected,
    /// The device failed too often before, or had too many.
    Skipped,
    /// Given up after the last try.
    DeadLettered,
}

impl Fate {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Gone => "gone",
            Self::Expired => "expired",
            Self::Connected => "connected",
            Self::Skipped => "skipped",
            Self::DeadLettered => "dead_lettered",
        }
    }

    /// Reads that, and what callbacks of Sockudo's API say.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "accepted" => Self::Accepted,
            "delivered" => Self::Delivered,
            "failed" | "rejected" => Self::Failed,
            "gone" => Self::Gone,
            "expired" => Self::Expired,
            "connected" => Self::Connected,
            "skipped" => Self::Skipped,
            "dead_lettered" => Self::DeadLettered,
            _ => return None,
        })
    }
}

/// What came of sending to one device, on record. Its key is the device's id; `#` and the index of the target where an
/// address, a topic or a condition was the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// By whom; none: the device is not registered, so that nobody knows.
    pub provider: Option<Provider>,
    /// What.
    pub fate: Fate,
    /// Tries.
    pub attempts: u32,
    /// What the provider calls the message.
    pub message_id: Option<String>,
    /// The provider's status; 0: it said none.
    pub status: u16,
    /// Why, in the provider's words.
    pub reason: Option<String>,
    /// When, in milliseconds since 1970.
    pub at: u64,
}

/// A publish, or a device of one, that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The id of the app.
    pub app: String,
    /// Of which publish.
    pub publish_id: String,
    /// By whom, if it is about one device.
    pub provider: Option<Provider>,
    /// The key of its [`Outcome`]; empty: it is about the whole publish.
    pub key: String,
    /// `dispatch` or `plan`.
    pub stage: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// It can be tried again.
    pub is_replayable: bool,
}
