//! Who someone turned out to be, and what they may do, as data.

use crate::base::name::Name;
use crate::base::time::UnixMillis;
use crate::wire::json::{Kind, Raw};

/// A verified identity. Which of its parts mean something is the dialect's rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub user: Name,
    /// The account they belong to, where there are accounts.
    pub account: Option<Name>,
    /// Groups they are a member of.
    pub groups: Vec<Name>,
    /// Groups they moderate.
    pub moderates: Vec<Name>,
    /// What else they may do, in the dialect's words.
    pub permissions: Vec<Name>,
    /// What its issuer calls the token that told this, to take it back by.
    pub token: Option<Name>,
    /// The languages that they want to hear; none: all.
    pub languages: Option<Vec<Name>>,
    /// From when on the token that told this is void.
    pub expires: Option<UnixMillis>,
}

/// Why a JSON text tells no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The member that is missing or of another type.
    pub member: &'static str,
}

impl Identity {
    /// Someone of whom nothing is known but the name.
    pub fn named(user: &str) -> Self {
        Self {
            user: user.into(),
            account: None,
            groups: Vec::new(),
            moderates: Vec::new(),
            permissions: Vec::new(),
            token: None,
            languages: None,
            expires: None,
        }
    }

    /// Whether they may do this.
    pub fn may(&self, permission: &str) -> bool {
        self.permissions.iter().any(|it| **it == *permission)
    }

    /// Whether the token that told this is void by now.
    pub fn is_expired(&self, wall: UnixMillis) -> bool {
        self.expires.is_some_and(|expires| expires <= wall)
    }

    /// Reads the claims of a token or the answer of an application: an object with `user` (or `sub`), and
    /// perhaps `account`, `groups`, `moderates`, `permissions` (lists of texts), `exp` (seconds since 1970,
    /// may have a fraction) or `expires_in` (seconds from `wall`). Without `permissions` the words of `scope` are
    /// meant (RFC 8693, section 4.2). Other members are passed over.
    pub fn from_json(object: Raw<'_>, wall: UnixMillis) -> Result<Self, Malformed> {
        if object.kind() != Kind::Object {
            return Err(Malformed { member: "the whole" });
        }
        let text = |member: &'static str| match object.member(member).filter(|it| !it.is_null()) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or(Malformed { member }),
        };
        let list = |member: &'static str| -> Result<Vec<Name>, Malformed> {
            let Some(list) = object.member(member).filter(|it| !it.is_null()) else {
                return Ok(Vec::new());
            };
            if list.kind() != Kind::Array {
                return Err(Malformed { member });
            }
            let name = |item: Raw<'_>| item.as_str().map(|it| Name::from(&*it));
            list.items().map(|item| name(item).ok_or(Malformed { member })).collect()
        };
        let seconds = |member: &'static str| match object.member(member).filter(|it| !it.is_null())
        {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(seconds) if seconds >= 0.0 => Ok(Some((seconds * 1000.0) as u64)),
                _ => Err(Malformed { member }),
            },
        };
        let user = match text("user")? {
            Some(user) => user,
            None => text("sub")?.ok_or(Malformed { member: "user" })?,
        };
        if user.is_empty() {
            return Err(Malformed { member: "user" });
        }
        // Others use the name otherwise: what is no text says nothing here.
        let scope = || {
            let scope = object.member("scope").and_then(|it| it.as_str()).unwrap_or_default();
            scope.split_ascii_whitespace().map(Name::from).collect()
        };
        let permissions = match object.member("permissions").filter(|it| !it.is_null()) {
            Some(_) => list("permissions")?,
            None => scope(),
        };
        let expires_in = seconds("expires_in")?.map(|it| wall.0.saturating_add(it));
        let expires = [seconds("exp")?, expires_in].into_iter().flatten().min();
        Ok(Self {
            user: Name::from(&*user),
            account: text("account")?.map(|it| Name::from(&*it)),
            groups: list("groups")?,
            moderates: list("moderates")?,
            permissions,
            token: text("jti")?.map(|it| Name::from(&*it)),
            languages: None,
            expires: expires.map(UnixMillis),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;

    #[test]
    fn an_identity_is_read_or_named_for_what_is_wrong() {
        let wall = UnixMillis(10_000);
        let read = |text| Identity::from_json(json::parse_str(text).unwrap(), wall);
        let full = read(
            r#"{"sub":"ann","account":"a","groups":["g"],"moderates":["h"],"permissions":["p"],"exp":12.5,"iat":1}"#,
        )
        .unwrap();
        assert_eq!((&*full.user, full.account.as_deref()), ("ann", Some("a")));
        assert!(full.may("p") && !full.may("q"));
        assert_eq!(full.expires, Some(UnixMillis(12_500)));
        assert!(!full.is_expired(UnixMillis(12_499)) && full.is_expired(UnixMillis(12_500)));
        let scoped = read(r#"{"sub":"1","scope":"read:statuses  follow"}"#).unwrap();
        assert!(scoped.may("read:statuses") && scoped.may("follow") && !scoped.may("read"));
        let both = read(r#"{"sub":"1","permissions":["p"],"scope":"q"}"#).unwrap();
        assert!(both.may("p") && !both.may("q"));
        assert!(read(r#"{"sub":"1","scope":["q"]}"#).unwrap().permissions.is_empty());
        let soon = read(r#"{"user":"ann","sub":"bob","exp":99,"expires_in":3}"#).unwrap();
        assert_eq!((&*soon.user, soon.expires), ("ann", Some(UnixMillis(13_000))));
        for (text, member) in [
            ("[]", "the whole"),
            ("{}", "user"),
            (r#"{"user":1}"#, "user"),
            (r#"{"user":""}"#, "user"),
            (r#"{"user":"a","groups":"g"}"#, "groups"),
            (r#"{"user":"a","moderates":[1]}"#, "moderates"),
            (r#"{"user":"a","exp":"1"}"#, "exp"),
            (r#"{"user":"a","expires_in":-1}"#, "expires_in"),
        ] {
            assert_eq!(read(text), Err(Malformed { member }), "{text}");
        }
    }
}
