//! What is asked about push notifications, and what is told. One order, one answer.

use bytes::Bytes;

use super::Provider;
use super::credential::{CredentialFacts, Material};
use super::device::{Device, DeviceState, Subscription};
use super::publish::{DeadLetter, Fate, Intent, Outcome, Status};
use super::template::Template;

/// Rows of one page, at most.
pub const PAGE_MAX: u32 = 1000;
/// Rows of one page, unless the request says so.
pub const PAGE: u32 = 100;

/// Where a page begins, and how long it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOf {
    /// Behind this cursor; none: from the first.
    pub after: Option<Bytes>,
    /// 1 to [`PAGE_MAX`].
    pub rows_max: u32,
}

/// Which devices are listed; each that is there must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFilter {
    /// Those of this client.
    pub client_id: Option<String>,
    /// This one.
    pub device_id: Option<String>,
    /// Those of this platform.
    pub platform: Option<String>,
    /// Those that this provider serves.
    pub provider: Option<Provider>,
    /// Those in this state.
    pub state: Option<DeviceState>,
}

/// Who registers a device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are said with their variant")]
pub enum Registrar {
    /// The application. `is_rotated`: the device gets a new identity token.
    Admin { is_rotated: bool },
    /// The device itself, with its identity token; only what is registered may be changed.
    Device { identity: Option<String>, is_rotated: bool },
}

/// What is asked, in the name of one app.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are said with their variant")]
pub enum Order {
    /// Register a device or change its registration: [`Told::Registered`].
    Register(Box<Device>, Registrar),
    /// List devices: [`Told::Devices`].
    Devices(DeviceFilter, PageOf),
    /// One device: [`Told::Device`], 404.
    Device(String),
    /// Forget a device and its subscriptions: [`Told::Removed`].
    Unregister(String, Registrar),
    /// Forget the devices of a client: [`Told::Removed`].
    UnregisterClient(String),
    /// Let a device hear of a channel: [`Told::Subscribed`]; 404 without such a device. `provider`, `token_hash` of
    /// the subscription are checked against the device if they are given.
    Subscribe {
        channel: String,
        device_id: String,
        client_id: Option<String>,
        provider: Option<Provider>,
        token_hash: Option<String>,
        credential_version: Option<u64>,
        registrar: Registrar,
    },
    /// List subscriptions of a channel, a device or, without both, all: [`Told::Subscriptions`].
    Subscriptions { channel: Option<String>, device_id: Option<String>, page: PageOf },
    /// Which channels have subscriptions: [`Told::Channels`].
    Channels(PageOf),
    /// End subscriptions of a channel, a device, or of both that one: [`Told::Removed`].
    Unsubscribe { channel: Option<String>, device_id: Option<String>, registrar: Registrar },
    /// Keep credentials: [`Told::Credential`].
    PutCredential { id: String, version: Option<u64>, material: Box<Material> },
    /// List them: [`Told::Credentials`].
    Credentials,
    /// Forget some: [`Told::Removed`].
    RemoveCredential(Provider, String),
    /// Keep a template: [`Told::Template`].
    PutTemplate(Box<Template>),
    /// List them: [`Told::Templates`].
    Templates(PageOf),
    /// One: [`Told::Template`], 404.
    Template(String),
    /// Forget one: [`Told::Removed`].
    RemoveTemplate(String),
    /// Publish: [`Told::Published`], once it is on disk. With `is_sync`, once it is finished or the wait is over.
    Publish(Box<Intent>),
    /// What came of a publish: [`Told::Status`], 404.
    Status(String),
    /// What came of it device by device: [`Told::Outcomes`].
    Outcomes(String, PageOf),
    /// Call a publish off, also one that waits for its time or is half sent: [`Told::Cancelled`].
    Cancel(String),
    /// A callback: what came of one device of a publish, as its provider or worker says: [`Told::Done`], 404.
    Feedback {
        publish_id: String,
        key: String,
        fate: Fate,
        message_id: Option<String>,
        reason: Option<String>,
    },
    /// List dead letters: [`Told::DeadLetters`].
    DeadLetters { provider: Option<Provider>, since: Option<u64>, until: Option<u64>, page: PageOf },
    /// Try one again: [`Told::Replayed`], 404.
    Replay(u64),
    /// Make a broadcast channel of Live Activities at APNs: [`Told::Broadcast`].
    CreateBroadcast { credential_id: Option<String>, storage_policy: u8 },
    /// List them: [`Told::Broadcasts`].
    Broadcasts { credential_id: Option<String> },
    /// One: [`Told::Broadcast`], 404.
    Broadcast { credential_id: Option<String>, channel_id: String },
    /// Remove one: [`Told::Removed`].
    RemoveBroadcast { credential_id: Option<String>, channel_id: String },
    /// How all is, for the console: [`Told::Overview`], over all apps.
    Overview,
}

/// What a registration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The device is new.
    Inserted,
    /// It was registered just so.
    Unchanged,
    /// Something is different now.
    Updated,
}

/// A page of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Where the next page begins; none: there is none.
    pub next: Option<Bytes>,
}

/// A broadcast channel of Live Activities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast {
    /// What APNs calls it.
    pub channel_id: String,
    /// 0: nothing is stored; 1: the newest message is.
    pub storage_policy: Option<u8>,
}

/// A publish as the console shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The id of its app.
    pub app: String,
    /// The rest.
    pub status: Status,
}

/// How a provider is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderShown {
    /// Who.
    pub provider: Provider,
    /// Requests under way.
    pub in_flight: u64,
    /// Devices that wait to be tried again.
    pub retrying: u64,
    /// When it is tried again, in milliseconds from now, if it is left alone.
    pub paused: Option<u64>,
    /// What it said last, if that was bad.
    pub reason: Option<String>,
}

/// How all is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// Publishes that are not finished, and the last that are; newest first, at most 100.
    pub publishes: Vec<Shown>,
    /// Providers that were used.
    pub providers: Vec<ProviderShown>,
    /// What `log` wrote last, newest first, at most 50: lines.
    pub logged: Vec<String>,
}

/// What is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A device is registered.
    Registered {
        /// What that did.
        change: Change,
        /// As it is now.
        device: Box<Device>,
        /// SHA-256 of its address, in hexadecimal digits.
        token_hash: String,
        /// Its new identity token, told once.
        identity: Option<String>,
        /// Another device had the same address; it and its subscriptions are gone.
        replaced: Option<String>,
    },
    /// A device.
    Device(Box<Device>),
    /// Devices.
    Devices(Page<Device>),
    /// So many are gone.
    Removed(u64),
    /// A subscription is there.
    Subscribed(Box<Subscription>),
    /// Subscriptions.
    Subscriptions(Page<Subscription>),
    /// Names of channels.
    Channels(Page<String>),
    /// Credentials are kept.
    Credential(CredentialFacts),
    /// What credentials there are.
    Credentials(Vec<CredentialFacts>),
    /// A template.
    Template(Box<Template>),
    /// Templates.
    Templates(Page<Template>),
    /// A publish is on disk. `is_repeated`: it was before.
    Published {
        /// Where it is.
        status: Box<Status>,
        /// What devices of each provider get, for a device in the default language: a JSON object each, and whether it is an override.
        rendered: Vec<(Provider, String, bool)>,
        /// The same was asked before.
        is_repeated: bool,
        /// It was to be waited for, and was too large for that, or took too long.
        is_forced_async: bool,
        /// What came of it device by device, maybe of none; none: it was not waited for.
        outcomes: Option<Vec<(String, Outcome)>>,
        /// Its time is to come: a schedule must be made for it before it is acknowledged.
        due: Option<u64>,
    },
    /// Where a publish is.
    Status(Box<Status>),
    /// What came of it.
    Outcomes(Page<(String, Outcome)>),
    /// It is called off; false: there is none, or it was finished.
    Cancelled(bool),
    /// Dead letters with their numbers.
    DeadLetters(Page<(u64, DeadLetter)>),
    /// It is tried again; false: it cannot be, or its publish is gone.
    Replayed(bool),
    /// A broadcast channel.
    Broadcast(Broadcast),
    /// Broadcast channels.
    Broadcasts(Vec<Broadcast>),
    /// How all is.
    Overview(Box<Overview>),
    /// Carried out.
    Done,
}

/// Why an order was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The status of HTTP that says so.
    pub status: u16,
    /// A word for programs.
    pub code: &'static str,
    /// In words.
    pub text: String,
    /// Come again after so many milliseconds.
    pub retry_after: Option<u64>,
}

impl Refused {
    /// The status, a word for programs, a sentence for people.
    pub fn new(status: u16, code: &'static str, text: impl Into<String>) -> Self {
        Self { status, code, text: text.into(), retry_after: None }
    }

    /// A value that makes no sense.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(400, "invalid_input", text)
    }

    /// There is none.
    pub fn unknown(text: impl Into<String>) -> Self {
        Self::new(404, "not_found", text)
    }

    /// It cannot be done now.
    pub fn unavailable(text: impl Into<String>) -> Self {
        Self { retry_after: Some(1000), ..Self::new(503, "service_unavailable", text) }
    }
}
