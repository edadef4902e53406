//! Capability tokens: who a connection is and what it may do, as its app has signed.

use super::capabilities::Op;
use super::session::PusherSession;
use crate::base::name::Name;

impl PusherSession {
    /// Whether this connection may do something in a channel, beside what the channel's own rules say (signatures,
    /// the app's switches): as its token says, else as its sign-in says.
    pub(super) fn may(&self, op: Op, channel: &str) -> bool {
        match self.two.as_ref().and_then(|two| two.capabilities.as_ref()) {
            Some(capabilities) => capabilities.may(op, channel),
            None => op.is_ordinary(),
        }
    }

    /// The client that this connection speaks for: the user who is signed in.
    pub(super) fn client_id(&self) -> Option<Name> {
        self.user.as_ref().map(|it| it.member.user_id.clone())
    }
}
