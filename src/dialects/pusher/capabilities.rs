//! What a connection may do in which channels.
//!
//! A capability token names everything that its bearer may do. Whoever signed in with a list of capabilities may do
//! what the lists of their operations say. Without either, a connection may do what every connection could before
//! there were tokens. Source: Sockudo, "Capability tokens" and "User authentication".

use std::borrow::Cow;
use std::fmt;

use crate::base::name::Name;
use crate::base::pattern::Pattern;
use crate::wire::json::{self, Kind, Raw};

/// Patterns in one claim, at most.
pub(super) const PATTERNS_MAX: usize = 100;

/// Something that can be allowed in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Op {
    /// Hear it.
    Subscribe,
    /// Publish on it.
    Publish,
    /// Read its past.
    History,
    /// Be a member of it.
    Presence,
    /// Hear each annotation.
    AnnotationSubscribe,
    /// Say something about its messages.
    AnnotationPublish,
    /// Take back what one said oneself.
    AnnotationDeleteOwn,
    /// Take back what anyone said.
    AnnotationDeleteAny,
    /// Change one's own messages ...
    MessageUpdateOwn,
    /// ... or anyone's.
    MessageUpdateAny,
    /// Delete one's own messages ...
    MessageDeleteOwn,
    /// ... or anyone's.
    MessageDeleteAny,
    /// Append to one's own messages ...
    MessageAppendOwn,
    /// ... or to anyone's.
    MessageAppendAny,
    /// Decide whose devices are pushed to.
    PushAdmin,
    /// Have one's own device pushed to.
    PushSubscribe,
}

impl Op {
    /// All there are.
    pub const ALL: [Self; 16] = [
        Self::Subscribe,
        Self::Publish,
        Self::History,
        Self::Presence,
        Self::AnnotationSubscribe,
        Self::AnnotationPublish,
        Self::AnnotationDeleteOwn,
        Self::AnnotationDeleteAny,
        Self::MessageUpdateOwn,
        Self::MessageUpdateAny,
        Self::MessageDeleteOwn,
        Self::MessageDeleteAny,
        Self::MessageAppendOwn,
        Self::MessageAppendAny,
        Self::PushAdmin,
        Self::PushSubscribe,
    ];

    /// As a token spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::History => "history",
            Self::Presence => "presence",
            Self::AnnotationSubscribe => "annotation-subscribe",
            Self::AnnotationPublish => "annotation-publish",
            Self::AnnotationDeleteOwn => "annotation-delete-own",
            Self::AnnotationDeleteAny => "annotation-delete-any",
            Self::MessageUpdateOwn => "message-update-own",
            Self::MessageUpdateAny => "message-update-any",
            Self::MessageDeleteOwn => "message-delete-own",
            Self::MessageDeleteAny => "message-delete-any",
            Self::MessageAppendOwn => "message-append-own",
            Self::MessageAppendAny => "message-append-any",
            Self::PushAdmin => "push-admin",
            Self::PushSubscribe => "push-subscribe",
        }
    }

    /// Reads a name; underscores are taken for hyphens.
    pub fn read(name: &str) -> Option<Self> {
        let same = |it: &Self| {
            let spelled = it.as_str().bytes();
            spelled.eq(name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte }))
        };
        Self::ALL.into_iter().find(same)
    }

    /// Whether a connection without capabilities may do it.
    ///
    /// Everything of Pusher's protocol is of this kind: its own rules (signatures of private and presence channels, the
    /// app's switch for client events) decide there, as they did before there were tokens. What acts on the messages
    /// of others, and the raw annotations, is for whoever the app said so of: Sockudo refuses it to connections
    /// without a token ("Message mutations": `mutable_not_permitted`; "Annotations": both of `publish` and
    /// `annotation-publish`; "Raw annotations": 4009), and a peer that could update messages because nobody
    /// forbade it would be a hole.
    pub fn is_ordinary(self) -> bool {
        matches!(self, Self::Subscribe | Self::Publish | Self::History | Self::Presence)
    }
}

/// A set of operations, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ops(u16);

impl Ops {
    fn insert(&mut self, op: Op) {
        self.0 |= 1 << op as u8;
    }

    fn contains(self, op: Op) -> bool {
        self.0 >> (op as u8) & 1 == 1
    }
}

/// Who may do what, as a token or a sign-in says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    grants: Vec<(Pattern, Ops)>,
    /// Operations that nothing was said of: ordinary ones are allowed everywhere.
    unsaid: Ops,
}

/// Why a claim is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ClaimError {
    /// It is neither an object nor a string that holds one.
    Shape,
    /// A pattern's operations are no list of strings.
    Operations,
    /// A pattern is empty.
    PatternEmpty,
    /// There are more than [`PATTERNS_MAX`] patterns.
    TooMany,
    /// There is no such operation.
    Unknown(String),
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape => {
                f.write_str("x-sockudo-capability must be a JSON object or object string")
            }
            Self::Operations => {
                f.write_str("x-sockudo-capability must map channel patterns to operations")
            }
            Self::PatternEmpty => f.write_str("capability patterns must not be empty"),
            Self::TooMany => {
                write!(f, "x-sockudo-capability exceeds {PATTERNS_MAX} patterns")
            }
            Self::Unknown(name) => write!(f, "unsupported capability operation '{name}'"),
        }
    }
}

impl Capabilities {
    /// Reads a token's claim: an object from pattern to operations, or a string that holds one. What it does not name
    /// is denied.
    pub fn read(claim: Raw<'_>) -> Result<Self, ClaimError> {
        if let Some(text) = claim.as_str() {
            let inner = json::parse_str(&text).map_err(|_| ClaimError::Shape)?;
            return Self::read_map(inner);
        }
        Self::read_map(claim)
    }

    fn read_map(claim: Raw<'_>) -> Result<Self, ClaimError> {
        if claim.kind() != Kind::Object {
            return Err(ClaimError::Shape);
        }
        let mut grants = Vec::new();
        for (pattern, operations) in claim.members() {
            if pattern.is_empty() {
                return Err(ClaimError::PatternEmpty);
            }
            if grants.len() == PATTERNS_MAX {
                return Err(ClaimError::TooMany);
            }
            if operations.kind() != Kind::Array {
                return Err(ClaimError::Operations);
            }
            let mut ops = Ops::default();
            for operation in operations.items() {
                let name = operation.as_str().ok_or(ClaimError::Operations)?;
                let op = Op::read(&name)
                    .ok_or_else(|| ClaimError::Unknown(name.chars().take(64).collect()))?;
                ops.insert(op);
            }
            grants.push((pattern_of(pattern), ops));
        }
        Ok(Self { grants, unsaid: Ops::default() })
    }

    /// Reads the capabilities of who signs in: an object from operation to patterns. Of an operation that is absent
    /// nothing is said. None: that is not what it is.
    pub fn read_lists(lists: Raw<'_>) -> Option<Self> {
        if lists.kind() != Kind::Object {
            return None;
        }
        let mut unsaid = Ops::default();
        Op::ALL.into_iter().for_each(|op| unsaid.insert(op));
        let mut it = Self { grants: Vec::new(), unsaid };
        for (name, patterns) in lists.members() {
            // What servers after this one may know of says nothing here.
            let Some(op) = Op::read(&name).filter(|_| !patterns.is_null()) else { continue };
            if patterns.kind() != Kind::Array {
                return None;
            }
            it.unsaid.0 &= !(1 << op as u8);
            for pattern in patterns.items() {
                let pattern = pattern_of(pattern.as_str()?);
                let same = it.grants.iter().position(|(other, _)| *other == pattern);
                let at = match same {
                    Some(at) => at,
                    None if it.grants.len() == PATTERNS_MAX => return None,
                    None => {
                        it.grants.push((pattern, Ops::default()));
                        it.grants.len() - 1
                    }
                };
                it.grants[at].1.insert(op);
            }
        }
        Some(it)
    }

    /// Whether this may be done in a channel.
    pub fn may(&self, op: Op, channel: &str) -> bool {
        if self.unsaid.contains(op) {
            return op.is_ordinary();
        }
        self.grants.iter().any(|(pattern, ops)| ops.contains(op) && pattern.matches(channel))
    }

    /// Memory it holds.
    pub fn held_bytes(&self) -> usize {
        self.grants.iter().map(|(pattern, _)| size_of::<(Pattern, Ops)>() + pattern.0.len()).sum()
    }
}

fn pattern_of(text: Cow<'_, str>) -> Pattern {
    Pattern(Name::from(&*text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(claim: &str) -> Result<Capabilities, ClaimError> {
        Capabilities::read(json::parse_str(claim).unwrap())
    }

    #[test]
    fn a_token_denies_what_it_does_not_name() {
        let it = read(
            r#"{"room:*":["subscribe","history"],"news":["publish"],"*":["annotation_subscribe"],"none":[]}"#,
        )
        .unwrap();
        for (op, channel, may) in [
            (Op::Subscribe, "room:1", true),
            (Op::Subscribe, "room:", true),
            (Op::Subscribe, "room", false),
            (Op::Subscribe, "news", false),
            (Op::Publish, "news", true),
            (Op::Publish, "news2", false),
            (Op::Publish, "room:1", false),
            (Op::History, "room:1", true),
            (Op::Presence, "room:1", false),
            (Op::AnnotationSubscribe, "anything", true),
            (Op::AnnotationPublish, "room:1", false),
            (Op::Subscribe, "none", false),
            // A pattern to subscribe must lie within one of the token's.
            (Op::Subscribe, "room:a*", true),
            (Op::Subscribe, "*", false),
        ] {
            assert_eq!(it.may(op, channel), may, "{op:?} {channel}");
        }
        let nothing = read("{}").unwrap();
        assert!(Op::ALL.into_iter().all(|op| !nothing.may(op, "c")));
        assert_eq!(read(r#""{\"c\":[\"subscribe\"]}""#), read(r#"{"c":["subscribe"]}"#));
    }

    #[test]
    fn claims_are_refused_for_what_is_wrong_with_them() {
        let many: Vec<_> = (0..=PATTERNS_MAX).map(|n| format!("\"{n}\":[]")).collect();
        let just = format!("{{{}}}", many[1..].join(","));
        assert!(read(&just).is_ok());
        for (claim, error) in [
            ("[]", ClaimError::Shape),
            ("1", ClaimError::Shape),
            (r#""x""#, ClaimError::Shape),
            (r#""\"{}\"""#, ClaimError::Shape),
            (r#"{"":["subscribe"]}"#, ClaimError::PatternEmpty),
            (r#"{"c":"subscribe"}"#, ClaimError::Operations),
            (r#"{"c":[1]}"#, ClaimError::Operations),
            (r#"{"c":["*"]}"#, ClaimError::Unknown("*".into())),
            (r#"{"c":["Subscribe"]}"#, ClaimError::Unknown("Subscribe".into())),
            (&format!("{{{}}}", many.join(",")), ClaimError::TooMany),
        ] {
            assert_eq!(read(claim), Err(error), "{claim}");
        }
        let unknown = ClaimError::Unknown("*".into()).to_string();
        assert_eq!(unknown, "unsupported capability operation '*'");
    }

    #[test]
    fn every_operation_has_its_name() {
        for op in Op::ALL {
            assert_eq!(Op::read(op.as_str()), Some(op));
            assert_eq!(Op::read(&op.as_str().replace('-', "_")), Some(op));
            assert_eq!(Op::ALL[op as usize], op);
        }
        assert_eq!(Op::read(""), None);
    }

    #[test]
    fn a_sign_in_says_something_of_what_it_lists() {
        let read = |text| Capabilities::read_lists(json::parse_str(text).unwrap());
        let it = read(
            r#"{"subscribe":["a","b*"],"message_update_own":["a"],"history":null,"object_publish":["a"]}"#,
        )
        .unwrap();
        for (op, channel, may) in [
            (Op::Subscribe, "a", true),
            (Op::Subscribe, "b1", true),
            (Op::Subscribe, "c", false),
            (Op::Publish, "c", true),
            (Op::History, "c", true),
            (Op::MessageUpdateOwn, "a", true),
            (Op::MessageUpdateOwn, "b1", false),
            (Op::MessageUpdateAny, "a", false),
        ] {
            assert_eq!(it.may(op, channel), may, "{op:?} {channel}");
        }
        assert!(read(r#"{"subscribe":[]}"#).is_some_and(|it| !it.may(Op::Subscribe, "a")));
        for wrong in ["[]", r#"{"subscribe":"a"}"#, r#"{"subscribe":[1]}"#] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
