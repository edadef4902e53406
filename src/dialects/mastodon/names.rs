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

/// Whether a channel of ours is of what an account is told by the system.
pub fn is_system(own: &str) -> bool {
    upstream(own).is_some_and(|it| it.starts_with("timeline:system:"))
}

/// The stream that a channel (upstream's name) is of, and of which tag or list; none: of no stream that peers may ask
/// for. Notifications are taken for what most hear them in.
pub fn stream_of(channel: &str) -> Option<(Kind, Option<&str>)> {
    let rest = channel.strip_prefix("timeline:")?;
    if rest.starts_with("public") {
        return Kind::of(rest).map(|kind| (kind, None));
    }
    if let Some(tag) = rest.strip_prefix("hashtag:") {
        return Some(match tag.strip_suffix(":local") {
            Some(tag) => (Kind::HashtagLocal, Some(tag)),
            None => (Kind::Hashtag, Some(tag)),
        });
    }
    if let Some(list) = rest.strip_prefix("list:") {
        return Some((Kind::List, Some(list)));
    }
    if rest.starts_with("direct:") {
        return Some((Kind::Direct, None));
    }
    let account = rest.strip_suffix(":notifications").unwrap_or(rest);
    (!account.contains(':')).then_some((Kind::User, None))
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
    fn channels_lead_to_streams() {
        for (channel, expected) in [
            ("timeline:7", Some((Kind::User, None))),
            ("timeline:7:notifications", Some((Kind::User, None))),
            ("timeline:7:device", None),
            ("timeline:public", Some((Kind::Public, None))),
            ("timeline:public:media", Some((Kind::PublicMedia, None))),
            ("timeline:public:local", Some((Kind::PublicLocal, None))),
            ("timeline:public:local:media", Some((Kind::PublicLocalMedia, None))),
            ("timeline:public:remote", Some((Kind::PublicRemote, None))),
            ("timeline:public:remote:media", Some((Kind::PublicRemoteMedia, None))),
            ("timeline:public:else", None),
            ("timeline:hashtag:a", Some((Kind::Hashtag, Some("a")))),
            ("timeline:hashtag:a:local", Some((Kind::HashtagLocal, Some("a")))),
            ("timeline:list:5", Some((Kind::List, Some("5")))),
            ("timeline:direct:7", Some((Kind::Direct, None))),
            ("timeline:system:7", None),
            ("timeline:access_token:7", None),
            ("hello", None),
        ] {
            assert_eq!(stream_of(channel), expected, "{channel}");
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
