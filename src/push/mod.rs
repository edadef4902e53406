//! Push notifications, as values: who takes them and where, what is sent, what came of it, and what is asked about all that.
//!
//! Values alone: who reads them from requests is a dialect, who keeps, plans and sends them is `outbound::push`. Read
//! [`order`] first. Source of the nouns: Sockudo's push API.

pub mod credential;
pub mod device;
pub mod order;
pub mod publish;
pub mod stored;
pub mod template;

use serde::{Deserialize, Serialize};

/// Who brings notifications to devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Provider {
    /// Firebase Cloud Messaging, HTTP v1.
    Fcm = 0,
    /// Apple Push Notification service.
    Apns = 1,
    /// Web Push: whatever service the browser's maker runs.
    WebPush = 2,
    /// Huawei Mobile Services.
    Hms = 3,
    /// Windows Push Notification Services.
    Wns = 4,
    /// A channel of this server: the device is a socket.
    Realtime = 5,
}

impl Provider {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Fcm, Self::Apns, Self::WebPush, Self::Hms, Self::Wns, Self::Realtime];

    /// As Sockudo's API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fcm => "fcm",
            Self::Apns => "apns",
            Self::WebPush => "webPush",
            Self::Hms => "hms",
            Self::Wns => "wns",
            Self::Realtime => "realtime",
        }
    }

    /// Reads any spelling: that of API, path or documentation, and `gcm` as registrations call the first.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "fcm" | "gcm" => Self::Fcm,
            "apns" => Self::Apns,
            "webPush" | "webpush" | "web_push" | "web" => Self::WebPush,
            "hms" => Self::Hms,
            "wns" => Self::Wns,
            "realtime" => Self::Realtime,
            _ => return None,
        })
    }
}
