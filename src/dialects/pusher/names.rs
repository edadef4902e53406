//! What a channel's name says about it, and which names there may be.

use std::fmt;

/// The channel of one user's own events starts so; the rest of the name is the user's id.
pub const USER_PREFIX: &str = "#server-to-user-";

/// Who may subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Public,
    /// Whoever the app signed a grant for.
    Private,
    /// The same, as a member that the others see.
    Presence,
}

/// What a channel's name says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Who may subscribe.
    pub access: Access,
    /// Its payloads are encrypted end to end: peers publish nothing on it.
    pub is_encrypted: bool,
    /// Its last event is kept for those who come later.
    pub is_cache: bool,
}

impl Kind {
    /// Reads the prefixes. They count at the start of the name only: `a-cache-b` keeps nothing and
    /// `my-private-x` is public.
    pub fn of(name: &str) -> Self {
        let (access, rest) = if let Some(rest) = name.strip_prefix("private-") {
            (Access::Private, rest)
        } else if let Some(rest) = name.strip_prefix("presence-") {
            (Access::Presence, rest)
        } else {
            (Access::Public, name)
        };
        let unencrypted = (access == Access::Private).then(|| rest.strip_prefix("encrypted-"));
        let is_encrypted = matches!(unencrypted, Some(Some(_)));
        let rest = unencrypted.flatten().unwrap_or(rest);
        Self { access, is_encrypted, is_cache: rest.starts_with("cache-") }
    }
}

/// True for a channel with members that peers can see.
pub fn is_presence(name: &str) -> bool {
    name.starts_with("presence-")
}

/// True for names the server gives, not the app.
pub fn is_internal(name: &str) -> bool {
    name.starts_with('#')
}

/// Why a name is no channel's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It is empty.
    Empty,
    /// It is longer than the app allows.
    TooLong {
        /// How many bytes it may have.
        bytes_max: usize,
    },
    /// It holds a character that names may not hold.
    Character(String),
    /// The part before a colon is none of the app's namespaces.
    Namespace(String),
    /// It is a pattern, with more than one star.
    Stars(String),
    /// It is a pattern of channels that not everyone may subscribe.
    NotPublic(String),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Channel name is empty"),
            Self::TooLong { bytes_max } => {
                write!(f, "Channel name too long. Max length is {bytes_max}")
            }
            Self::Character(name) => write!(
                f,
                "Channel name contains invalid characters: {name} (allowed are A-Z a-z 0-9 _ - = @ , . ;)"
            ),
            Self::Namespace(name) => {
                write!(f, "Channel error: Unknown channel namespace '{name}'")
            }
            Self::Stars(name) => write!(
                f,
                "Channel error: Wildcard subscription '{name}' must contain exactly one '*'"
            ),
            Self::NotPublic(name) => write!(
                f,
                "Channel error: Wildcard subscription '{name}' is only supported for public channels"
            ),
        }
    }
}

/// Checks the name of a channel that peers subscribe by name.
///
/// What stands before the first colon must be one of `namespaces`, among which `*` stands for any; the kind that a
/// name starts with, as in `private-chat:1`, is no part of it. Source: Pusher's naming conventions; Sockudo, "Channel
/// namespaces".
pub fn check(name: &str, bytes_max: usize, namespaces: &[String]) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > bytes_max {
        return Err(NameError::TooLong { bytes_max });
    }
    let mut colon = None;
    for (at, byte) in name.bytes().enumerate() {
        if byte == b':' {
            colon = colon.or(Some(at));
        } else if !is_allowed(byte) {
            return Err(NameError::Character(name.into()));
        }
    }
    let Some(at) = colon else { return Ok(()) };
    let whole = &name[..at];
    let namespace = without_kind(whole);
    let is_known = |it: &String| it == "*" || it == namespace || it == whole;
    match namespaces.iter().any(is_known) {
        true => Ok(()),
        false => Err(NameError::Namespace(namespace.into())),
    }
}

/// A name without the prefixes that say what kind of channel it is.
fn without_kind(name: &str) -> &str {
    let prefixes = ["private-encrypted-", "private-", "presence-", "cache-"];
    prefixes.iter().fold(name, |name, prefix| name.strip_prefix(prefix).unwrap_or(name))
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'=' | b'@' | b',' | b'.' | b';')
}

/// True for the name of a pattern, which version 2 may subscribe.
pub fn is_pattern(name: &str) -> bool {
    !is_internal(name) && name.contains('*')
}

/// Checks a pattern of channels that peers subscribe. Source: Sockudo, "Wildcard subscriptions".
pub fn check_pattern(name: &str, bytes_max: usize) -> Result<(), NameError> {
    if name.len() > bytes_max {
        return Err(NameError::TooLong { bytes_max });
    }
    let is_closed = Kind::of(name).access != Access::Public;
    let part = || name.chars().take(200).collect();
    if name.bytes().filter(|byte| *byte == b'*').count() != 1 {
        return Err(NameError::Stars(part()));
    }
    if is_closed {
        return Err(NameError::NotPublic(part()));
    }
    // A colon says nothing here: what it could match is checked where that is published.
    match name.bytes().all(|byte| is_allowed(byte) || matches!(byte, b':' | b'*')) {
        true => Ok(()),
        false => Err(NameError::Character(part())),
    }
}

/// Checks the name of a channel that a back end names: as [`check`], and users' own channels as well,
/// whose ids are the app's and may hold anything but control characters.
pub fn check_published(
    name: &str,
    bytes_max: usize,
    namespaces: &[String],
) -> Result<(), NameError> {
    let Some(user_id) = name.strip_prefix(USER_PREFIX) else {
        return check(name, bytes_max, namespaces);
    };
    if user_id.is_empty() {
        return Err(NameError::Empty);
    }
    if user_id.len() > bytes_max {
        return Err(NameError::TooLong { bytes_max });
    }
    if user_id.chars().any(char::is_control) {
        return Err(NameError::Character(name.into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_count_at_the_start_only() {
        use Access::*;
        for (name, access, is_encrypted, is_cache) in [
            ("a", Public, false, false),
            ("cache-a", Public, false, true),
            ("a-cache-b", Public, false, false),
            ("private-a", Private, false, false),
            ("private-cache-a", Private, false, true),
            ("private-encrypted-a", Private, true, false),
            ("private-encrypted-cache-a", Private, true, true),
            ("private-x-cache-a", Private, false, false),
            ("presence-a", Presence, false, false),
            ("presence-cache-a", Presence, false, true),
            ("presence-encrypted-a", Presence, false, false),
            ("privateer", Public, false, false),
            ("encrypted-a", Public, false, false),
            ("cache-private-a", Public, false, true),
        ] {
            assert_eq!(Kind::of(name), Kind { access, is_encrypted, is_cache }, "{name}");
        }
    }

    #[test]
    fn names_are_refused_for_what_is_wrong_with_them() {
        for name in ["a", "A-Za_z=@,.;09", &"x".repeat(200)] {
            assert_eq!(check(name, 200, &[]), Ok(()), "{name}");
        }
        assert_eq!(check("", 200, &[]), Err(NameError::Empty));
        assert_eq!(check(&"x".repeat(201), 200, &[]), Err(NameError::TooLong { bytes_max: 200 }));
        for name in
            ["a b", "a#b", "é", "a/b", "a\n", "a\"", "#server-to-user-1", "[meta]a", "a*", "a:b c"]
        {
            assert_eq!(check(name, 200, &[]), Err(NameError::Character(name.into())), "{name}");
        }
        assert_eq!(check("orders:1", 200, &[]), Err(NameError::Namespace("orders".into())));
        let known = |namespace: &str, name| check(name, 200, &[namespace.to_owned()]).is_ok();
        for (namespace, name, is_known) in [
            ("orders", "orders:1", true),
            ("orders", "orders:1:2", true),
            ("orders", "private-orders:1", true),
            ("orders", "presence-cache-orders:1", true),
            ("private-orders", "private-orders:1", true),
            ("orders", "order:1", false),
            ("orders", ":1", false),
            ("*", "anything:1", true),
        ] {
            assert_eq!(known(namespace, name), is_known, "{namespace} {name}");
        }
        for (name, error) in [
            ("*", None),
            ("ticker:*", None),
            ("a*b", None),
            ("cache-*", None),
            ("**", Some(NameError::Stars("**".into()))),
            ("a*b*", Some(NameError::Stars("a*b*".into()))),
            ("private-*", Some(NameError::NotPublic("private-*".into()))),
            ("presence-x*", Some(NameError::NotPublic("presence-x*".into()))),
            ("private-encrypted-*", Some(NameError::NotPublic("private-encrypted-*".into()))),
            ("a b*", Some(NameError::Character("a b*".into()))),
            ("a#*", Some(NameError::Character("a#*".into()))),
            ("[meta]*", Some(NameError::Character("[meta]*".into()))),
        ] {
            assert!(is_pattern(name));
            assert_eq!(check_pattern(name, 200).err(), error, "{name}");
        }
        assert!(check_pattern(&format!("{}*", "x".repeat(200)), 200).is_err());
        assert!(!is_pattern("a") && !is_pattern("#server-to-user-*"));
        assert_eq!(check_published("#server-to-user-é+ 1", 200, &[]), Ok(()));
        assert!(check_published("#server-to-user-", 200, &[]).is_err());
        assert!(check_published("#server-to-user-\n", 200, &[]).is_err());
        assert!(check_published("#else", 200, &[]).is_err());
    }
}
