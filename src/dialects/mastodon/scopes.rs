//! Which scopes of a token open which streams. Source: Mastodon's documentation, "OAuth scopes", and the security
//! releases of October 2025, from which on public streams need one, too.

use super::names::Kind;
use crate::auth::Identity;

const READ: &str = "read";
const READ_STATUSES: &str = "read:statuses";
const READ_NOTIFICATIONS: &str = "read:notifications";
/// Not a scope but a right of the account's role: feeds that are closed are open to it.
const VIEW_FEEDS: &str = "view_feeds";

/// Whether a token opens such a stream; none: one that does not exist, which is said only to who may read.
pub(super) fn may_hear(identity: &Identity, kind: Option<Kind>) -> bool {
    let other = match kind {
        Some(Kind::UserNotification) => READ_NOTIFICATIONS,
        _ => READ_STATUSES,
    };
    identity.may(READ) || identity.may(other)
}

/// Whether the `user` stream carries notifications.
pub(super) fn hears_notifications(identity: &Identity) -> bool {
    identity.may(READ) || identity.may(READ_NOTIFICATIONS)
}

/// Whether closed feeds are open to it.
pub(super) fn views_feeds(identity: &Identity) -> bool {
    identity.may(VIEW_FEEDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_open_streams() {
        // What a token has; whether it opens `user:notification`, every other stream, notifications in `user`.
        for (scopes, notifications_alone, others, notifications) in [
            ("", false, false, false),
            ("read", true, true, true),
            ("read write follow push", true, true, true),
            ("read:statuses", false, true, false),
            ("read:notifications", true, false, true),
            ("read:statuses read:notifications", true, true, true),
            ("write", false, false, false),
            ("read:lists read:accounts", false, false, false),
            ("Read", false, false, false),
            ("read:", false, false, false),
            ("view_feeds", false, false, false),
        ] {
            let mut identity = Identity::named("1");
            identity.permissions = scopes.split(' ').map(Into::into).collect();
            for kind in Kind::ALL {
                let expected =
                    if kind == Kind::UserNotification { notifications_alone } else { others };
                assert_eq!(may_hear(&identity, Some(kind)), expected, "{scopes}: {kind:?}");
            }
            assert_eq!(may_hear(&identity, None), others, "{scopes}");
            assert_eq!(hears_notifications(&identity), notifications, "{scopes}");
        }
    }
}
