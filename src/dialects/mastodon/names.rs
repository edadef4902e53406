//! Streams: how peers name them, and which channels they are made of.
//!
//! A channel here is the Redis channel of Mastodon's with `#` in front, which no peer of another protocol can name.
//! Source: Mastodon's documentation, "Streaming timelines", and its streaming server as observed.

use crate::base::name::Name;

/// What the channels of this dialect start with; the rest is upstream's name.
pub const OWN: char = '#';

/// What upstream's channels start with.
pub const UPSTREAM: &str = "timeline:";
/// In front of an account's id: the channel of what it is told by the system.
pub const SYSTEM: &str = "timeline:system:";
/// In front of a token's id: the channel of what it is told by the system.
pub const ACCESS_TOKEN: &str = "timeline:access_token:";

/// A stream that a peer may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Home timeline and notifications.
    User,
    /// Notifications alone.
    UserNotification,
    /// Everything public.
    Public,
    /// With media.
    PublicMedia,
    /// Everything public that was written here.
    PublicLocal,
    /// With media.
    PublicLocalMedia,
    /// Everything public that was written elsewhere.
    PublicRemote,
    /// With media.
    PublicRemoteMedia,
    /// With a tag.
    Hashtag,
    /// With a tag, written here.
    HashtagLocal,
    /// Of a list.
    List,
    /// Direct messages.
    Direct,
}

impl Kind {
    /// All of them, in the order of [`Kind`].
    pub const ALL: [Self; 12] = [
        Self::User,
        Self::UserNotification,
        Self::Public,
        Self::PublicMedia,
        Self::PublicLocal,
        Self::PublicLocalMedia,
        Self::PublicRemote,
        Self::PublicRemoteMedia,
        Self::Hashtag,
        Self::HashtagLocal,
        Self::List,
        Self::Direct,
    ];

    /// What peers call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::UserNotification => "user:notification",
            Self::Public => "public",
            Self::PublicMedia => "public:media",
            Self::PublicLocal => "public:local",
            Self::PublicLocalMedia => "public:local:media",
            Self::PublicRemote => "public:remote",
            Self::PublicRemoteMedia => "public:remote:media",
            Self::Hashtag => "hashtag",
            Self::HashtagLocal => "hashtag:local",
            Self::List => "list",
            Self::Direct => "direct",
        }
    }

    /// The stream that peers call so.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// Whether its statuses are judged for each account before they are sent.
    pub fn is_judged(self) -> bool {
        !matches!(self, Self::User | Self::UserNotification | Self::List | Self::Direct)
    }
}

/// Whether statuses on this channel (upstream's name) are judged for each account.
pub fn is_judged(channel: &str) -> bool {
    let rest = channel.strip_prefix(UPSTREAM).unwrap_or_default();
    let is =
        |kind: &str| rest.strip_prefix(kind).is_some_and(|it| it.is_empty() || it.starts_with(':'));
    is("public") || is("hashtag")
}

/// The channel of the broker that upstream calls `channel`.
pub fn own(channel: &str) -> Name {
    Name::from(&*format!("{OWN}{channel}"))
}

/// Upstream's name of a channel of ours; none if it is of another protocol.
pub fn upstream(own: &str) -> Option<&str> {
    own.strip_prefix(OWN).filter(|it| it.starts_with(UPSTREAM))
}

/// Upstream's channel of what an account is told by the system.
pub fn system(account: &str) -> String {
    format!("{SYSTEM}{account}")
}

/// Upstream's channel of what a token is told by the system.
pub fn access_token(id: &str) -> String {
    format!("{ACCESS_TOKEN}{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_kinds_and_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind.name()), Some(kind));
        }
        for name in ["", "system", "User", "public:", "hashtag:remote"] {
            assert_eq!(Kind::of(name), None, "{name}");
        }
    }

    #[test]
    fn public_and_tagged_channels_are_judged() {
        for (channel, judged) in [
            ("timeline:public", true),
            ("timeline:public:local:media", true),
            ("timeline:hashtag:a", true),
            ("timeline:hashtag:a:local", true),
            ("timeline:1", false),
            ("timeline:1:notifications", false),
            ("timeline:list:1", false),
            ("timeline:publicity", false),
            ("public", false),
        ] {
            assert_eq!(is_judged(channel), judged, "{channel}");
        }
    }
}
