//! The channels behind the streams. Their names start with `#`, which no protocol lets its peers name.

use crate::base::name::Name;
use crate::wire::http::query;

/// The longest id of an account or a user, in bytes.
pub const ID_BYTES_MAX: usize = 256;

const ACCOUNT: &str = "#authrequest:account:";
const USER: &str = "#authrequest:user:";
const SESSION: &str = "#authrequest:session:";

/// The channel of an account's events.
pub fn account(account: &str) -> Name {
    named(ACCOUNT, account, None)
}

/// The channel of one user's events.
pub fn user(account: &str, user: &str) -> Name {
    named(USER, account, Some(user))
}

/// The channel on which a user's connections are told that they are revoked.
pub fn session(account: &str, user: &str) -> Name {
    named(SESSION, account, Some(user))
}

/// Whether this is one of the above.
pub fn is_own(name: &str) -> bool {
    name.starts_with("#authrequest:")
}

/// Ids are percent-encoded, which leaves no colon in them: two different pairs never give one name.
fn named(prefix: &str, first: &str, second: Option<&str>) -> Name {
    let mut name = prefix.to_owned();
    query::encode(&mut name, first);
    if let Some(second) = second {
        name.push(':');
        query::encode(&mut name, second);
    }
    Name::from(&*name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_ids_give_different_names() {
        assert_eq!(&*account("a"), "#authrequest:account:a");
        assert_eq!(&*user("a:b", "ü"), "#authrequest:user:a%3Ab:%C3%BC");
        let ids = ["a", "a:b", "b", ":", "", "%3A", "a%3Ab", "A"];
        let mut names = Vec::new();
        for first in ids {
            names.push(account(first));
            names.extend(ids.iter().flat_map(|it| [user(first, it), session(first, it)]));
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|it| is_own(it)) && !is_own("hello") && !is_own("#else"));
    }
}
