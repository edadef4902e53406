//! Streams as peers ask for them: which channels each is made of, and how a peer calls it.

use std::borrow::Cow;

use super::names::{self, Kind};
use super::replies::Fault;
use super::{frames, scopes, tags};
use crate::auth::Identity;
use crate::auth::source::{Feeds, Follow, Need};
use crate::base::name::Name;
use crate::wire::json::{self, Raw};

/// A tag may have this many bytes; Mastodon has no status that is half as long.
const TAG_BYTES_MAX: usize = 1000;

/// What a peer asks for, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    /// The stream's name; none: it gave none, or something that is none.
    pub name: Option<Cow<'a, str>>,
    /// Which tag.
    pub tag: Word<'a>,
    /// Which list.
    pub list: Word<'a>,
}

/// A tag or a list, as a peer gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// Not at all, or empty.
    #[default]
    Missing,
    /// As a text.
    Text(Cow<'a, str>),
    /// As a number: its digits.
    Number(Cow<'a, str>),
    /// As something that is no name.
    Odd,
}

impl<'a> Word<'a> {
    /// A text; an empty one is as good as none.
    pub(super) fn of(text: Option<Cow<'a, str>>) -> Self {
        text.filter(|it| !it.is_empty()).map_or(Self::Missing, Self::Text)
    }

    fn of_raw(value: Option<Raw<'a>>) -> Self {
        let Some(value) = value else { return Self::Missing };
        match value.kind() {
            json::Kind::Null => Self::Missing,
            json::Kind::String => Self::of(value.as_str()),
            json::Kind::Bool if value.text() == "false" => Self::Missing,
            json::Kind::Number if value.as_f64() == Some(0.0) => Self::Missing,
            json::Kind::Number => Self::Number(value.text().into()),
            json::Kind::Bool | json::Kind::Array | json::Kind::Object => Self::Odd,
        }
    }

    /// For keeping.
    pub(super) fn into_owned(self) -> Word<'static> {
        match self {
            Self::Missing => Word::Missing,
            Self::Text(text) => Word::Text(text.into_owned().into()),
            Self::Number(text) => Word::Number(text.into_owned().into()),
            Self::Odd => Word::Odd,
        }
    }
}

impl<'a> Asked<'a> {
    /// What the members of a command ask for; of a list of names the first counts.
    pub(super) fn of_message(message: Raw<'a>) -> Self {
        let name = message.member("stream");
        let name = match name {
            Some(it) if it.kind() == json::Kind::Array => it.items().next(),
            other => other,
        };
        Self {
            name: name.and_then(Raw::as_str),
            tag: Word::of_raw(message.member("tag")),
            list: Word::of_raw(message.member("list")),
        }
    }

    /// The stream, if there is such a one.
    fn kind(&self) -> Option<Kind> {
        self.name.as_deref().and_then(Kind::of)
    }

    /// For keeping.
    pub(super) fn into_owned(self) -> Asked<'static> {
        Asked {
            name: self.name.map(|it| it.into_owned().into()),
            tag: self.tag.into_owned(),
            list: self.list.into_owned(),
        }
    }
}

/// A stream that one peer hears, or wants to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    /// Which.
    pub kind: Kind,
    /// What it is made of, as the broker calls it: upstream's channels first, then those shared with other protocols.
    pub channels: Box<[Name]>,
    /// How this peer calls it, as a JSON list; none: as everyone does ([`frames::text`]).
    pub label: Option<Box<str>>,
}

impl Stream {
    /// The stream that someone asks for and may hear, as far as a token says it.
    pub(super) fn grant(
        asked: &Asked<'_>,
        identity: &Identity,
        bridge: &[String],
    ) -> Result<Self, Fault> {
        match scopes::may_hear(identity, asked.kind()) {
            true => Self::find(asked, identity, bridge),
            false => Err(Fault::Scopes),
        }
    }

    /// The stream that someone asks for, or why there is none. `bridge`: the names of channels that are shared with
    /// other protocols.
    pub(super) fn find(
        asked: &Asked<'_>,
        identity: &Identity,
        bridge: &[String],
    ) -> Result<Self, Fault> {
        let kind = asked.kind().ok_or(Fault::UnknownStream)?;
        let account = &*identity.user;
        let mut channels = Vec::with_capacity(1);
        let mut own = |channel: String| channels.push(names::own(&channel));
        let mut label = None;
        match kind {
            Kind::User => {
                own(format!("timeline:{account}"));
                if scopes::hears_notifications(identity) {
                    own(format!("timeline:{account}:notifications"));
                }
            }
            Kind::UserNotification => {
                own(format!("timeline:{account}:notifications"));
                // Most hear that channel as part of `user`.
                label = Some(label_of(kind, None));
            }
            Kind::Direct => own(format!("timeline:direct:{account}")),
            Kind::List => {
                let list = match &asked.list {
                    Word::Missing => return Err(Fault::MissingList),
                    Word::Odd => return Err(Fault::ForeignList),
                    Word::Text(list) => list,
                    Word::Number(list) => {
                        label = Some(format!("[\"{}\",{list}]", kind.name()).into());
                        list
                    }
                };
                own(format!("timeline:list:{list}"));
            }
            Kind::Hashtag | Kind::HashtagLocal => {
                let tag = match &asked.tag {
                    Word::Missing => return Err(Fault::MissingTag),
                    Word::Text(tag) if tag.len() > TAG_BYTES_MAX => return Err(Fault::MissingTag),
                    // Only texts can be normalised, as Mastodon's server finds out too late.
                    Word::Odd | Word::Number(_) => return Err(Fault::Unexpected),
                    Word::Text(tag) => tag,
                };
                let normal = tags::normalize(tag);
                own(match kind {
                    Kind::HashtagLocal => format!("timeline:hashtag:{normal}:local"),
                    _ => format!("timeline:hashtag:{normal}"),
                });
                label = (normal != **tag).then(|| label_of(kind, Some(tag)));
                if kind == Kind::Hashtag {
                    let shared = bridge.iter().filter(|name| !name.starts_with(names::OWN));
                    let of_tag = shared.filter(|name| tags::normalize(name) == normal);
                    channels.extend(of_tag.map(|name| Name::from(&**name)));
                }
            }
            public => own(format!("timeline:{}", public.name())),
        }
        Ok(Self { kind, channels: channels.into(), label })
    }

    /// What upstream calls its channels.
    pub(super) fn upstream(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().filter_map(|it| names::upstream(it))
    }

    /// The list that it is of.
    pub(super) fn list(&self) -> Option<&str> {
        self.upstream().find_map(|it| it.strip_prefix("timeline:list:"))
    }

    /// What upstream is asked to follow for it.
    pub(super) fn follow(&self, account: &Name) -> Box<Follow> {
        let need = match self.kind {
            Kind::List => self.list().map_or(Need::Nothing, |it| Need::List(it.into())),
            Kind::Hashtag | Kind::HashtagLocal => Need::Feeds(Feeds::Topic),
            kind if kind.is_judged() => Need::Feeds(Feeds::Live),
            _ => Need::Nothing,
        };
        Box::new(Follow {
            channels: self.upstream().map(Name::from).collect(),
            account: account.clone(),
            is_judged: self.kind.is_judged(),
            need,
        })
    }
}

fn label_of(kind: Kind, of: Option<&str>) -> Box<str> {
    let mut label = Vec::new();
    frames::write_label_of(kind, of, &mut label);
    String::from_utf8(label).expect("it was made of texts").into()
}

/// The stream of an event stream's path; none: there is none there.
pub(super) fn kind_of_path(path: &str, only_media: bool) -> Option<Kind> {
    Some(match (path.strip_prefix("/api/v1/streaming/")?, only_media) {
        ("user", _) => Kind::User,
        ("user/notification", _) => Kind::UserNotification,
        ("public", false) => Kind::Public,
        ("public", true) => Kind::PublicMedia,
        ("public/local", false) => Kind::PublicLocal,
        ("public/local", true) => Kind::PublicLocalMedia,
        ("public/remote", false) => Kind::PublicRemote,
        ("public/remote", true) => Kind::PublicRemoteMedia,
        ("hashtag", _) => Kind::Hashtag,
        ("hashtag/local", _) => Kind::HashtagLocal,
        ("list", _) => Kind::List,
        ("direct", _) => Kind::Direct,
        _ => return None,
    })
}

/// Whether the value of a switch in a query says yes: all do but these. Source: observed.
pub(super) fn is_truthy(value: &str) -> bool {
    !matches!(value, "" | "0" | "f" | "F" | "false" | "FALSE" | "off" | "OFF")
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
