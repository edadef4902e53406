//! Devices, and channels they hear of.

use serde::{Deserialize, Serialize};

use super::Provider;

/// Where a device takes notifications. All but `Realtime` are secrets: whoever has one can send there.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are said with their variant")]
pub enum Recipient {
    /// A registration token of FCM.
    Fcm { token: String },
    /// A device token of APNs, in hexadecimal digits.
    Apns { token: String },
    /// The push token of a Live Activity.
    ApnsLiveActivity { token: String },
    /// A broadcast channel of Live Activities.
    ApnsBroadcast { channel_id: String, storage_policy: Option<u8> },
    /// A browser's subscription: where, its public key (65 bytes) and its secret (16 bytes), these in base64url.
    Web { endpoint: String, p256dh: String, auth: String },
    /// A registration token of HMS.
    Hms { token: String },
    /// A channel URI of WNS.
    Wns { uri: String },
    /// A channel of this server.
    Realtime { channel: String },
}

impl Recipient {
    /// Who brings it there.
    pub fn provider(&self) -> Provider {
        match self {
            Self::Fcm { .. } => Provider::Fcm,
            Self::Apns { .. } | Self::ApnsLiveActivity { .. } | Self::ApnsBroadcast { .. } => {
                Provider::Apns
            }
            Self::Web { .. } => Provider::WebPush,
            Self::Hms { .. } => Provider::Hms,
            Self::Wns { .. } => Provider::Wns,
            Self::Realtime { .. } => Provider::Realtime,
        }
    }

    /// As registrations call the kind. Source: Sockudo's push API.
    pub fn transport(&self) -> &'static str {
        match self {
            Self::Fcm { .. } => "gcm",
            Self::Apns { .. } => "apns",
            Self::ApnsLiveActivity { .. } => "apnsLiveActivity",
            Self::ApnsBroadcast { .. } => "apnsLiveActivityBroadcast",
            Self::Web { .. } => "web",
            Self::Hms { .. } => "hms",
            Self::Wns { .. } => "wns",
            Self::Realtime { .. } => "realtime",
        }
    }

    /// What says where: two recipients of one provider with the same are the same device.
    pub fn address(&self) -> &str {
        match self {
            Self::Fcm { token }
            | Self::Apns { token }
            | Self::ApnsLiveActivity { token }
            | Self::Hms { token } => token,
            Self::ApnsBroadcast { channel_id, .. } => channel_id,
            Self::Web { endpoint, .. } => endpoint,
            Self::Wns { uri } => uri,
            Self::Realtime { channel } => channel,
        }
    }
}

impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ***", self.transport())
    }
}

/// How sending to a device went lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeviceState {
    /// Well.
    #[default]
    Active,
    /// Not well.
    Failing,
    /// So often not that nothing more is sent until it registers again.
    Failed,
}

impl DeviceState {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Failing => "FAILING",
            Self::Failed => "FAILED",
        }
    }

    /// Reads that, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Failing, Self::Failed]
            .into_iter()
            .find(|it| it.as_str().eq_ignore_ascii_case(text))
    }
}

/// How often a device may be sent something, as its registration asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeviceRate {
    /// At once, at most; at least 1.
    pub capacity: u32,
    /// And so many more each second; at least 1.
    pub refill_per_second: u32,
}

/// A registered device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// What the application calls it.
    pub id: String,
    /// Whose it is.
    pub client_id: Option<String>,
    /// `phone`, `tablet`, `desktop`, `tv`, `car`, `watch`, `embedded`, `other`.
    pub form_factor: String,
    /// `android`, `ios`, `browser`, `windows`, `macos`, `watchos`, `tvos`, `other`.
    pub platform: String,
    /// IANA name; empty: not said.
    pub timezone: String,
    /// BCP 47 tag; empty: not said. Chooses the language of templates.
    pub locale: String,
    /// A JSON value; empty: none.
    pub metadata: String,
    /// Where it takes notifications.
    pub recipient: Recipient,
    /// How sending went.
    pub state: DeviceState,
    /// Failures since it last went well.
    pub failures: u32,
    /// What the last one was.
    pub error_reason: Option<String>,
    /// When the application last saw it, in milliseconds since 1970; 0: not said.
    pub last_active_at: u64,
    /// How often it may be sent something.
    pub rate: Option<DeviceRate>,
    /// SHA-256 of the token by which the device itself may change its registration.
    pub identity: Option<[u8; 32]>,
    /// When it was first registered, in milliseconds since 1970.
    pub created_at: u64,
    /// When it last was.
    pub updated_at: u64,
}

/// A channel whose notifications a device takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The channel.
    pub channel: String,
    /// The device.
    pub device_id: String,
    /// Whose the device was when it subscribed.
    pub client_id: Option<String>,
    /// Who brings them.
    pub provider: Provider,
    /// SHA-256 of the device's address, in hexadecimal digits.
    pub token_hash: String,
    /// Which version of the credentials, if it matters.
    pub credential_version: Option<u64>,
    /// Since when, in milliseconds since 1970.
    pub created_at: u64,
}
