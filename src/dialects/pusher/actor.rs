//! Who stands behind a connection: what one session asks another before it acts in its name.
//!
//! A request of the HTTP API may name a connection as the actor. It calls that connection's session
//! ([`Command::Call`](crate::broker::Command::Call)), on whichever shard it is, and is told whose it is and what it may do in
//! the channel.

use bytes::Bytes;

use super::capabilities::Op;
use super::session::PusherSession;
use crate::base::ids::AppIndex;
use crate::base::name::Name;
use crate::dialects::{Caller, Output};
use crate::wire::json::{self, Kind, Raw};

/// Who a connection acts as in a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Actor {
    /// The client that its token names, else the user who is signed in.
    pub client_id: Option<Name>,
    /// It speaks version 2; others act on nobody's messages.
    pub is_two: bool,
    may: Vec<Op>,
}

impl Actor {
    /// The words that ask a session who it is in a channel of an app.
    pub fn ask(app: AppIndex, channel: &str) -> Bytes {
        let mut out = format!("{{\"app\":{},\"channel\":", app.0).into_bytes();
        json::write_str(&mut out, channel);
        out.push(b'}');
        out.into()
    }

    /// Reads the answer; none: the connection is not one of the app's.
    pub fn read(words: &[u8]) -> Option<Self> {
        let words = json::parse(words).ok().filter(|it| it.kind() == Kind::Object)?;
        let client_id = words.member("client_id").and_then(Raw::as_str);
        let may = words.member("may").filter(|it| it.kind() == Kind::Array)?;
        Some(Self {
            client_id: client_id.map(|it| Name::from(&*it)),
            is_two: words.member("v2").and_then(Raw::as_bool)?,
            may: may.items().filter_map(|it| Op::read(&it.as_str()?)).collect(),
        })
    }

    /// Whether it may do this there.
    pub fn may(&self, op: Op) -> bool {
        self.may.contains(&op)
    }

    fn write(&self) -> Bytes {
        let mut out = b"{\"client_id\":".to_vec();
        match &self.client_id {
            Some(id) => json::write_str(&mut out, id),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(format!(",\"v2\":{},\"may\":[", self.is_two).as_bytes());
        for (i, op) in self.may.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b"\"" } else { b",\"" });
            out.extend_from_slice(op.as_str().as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b"]}");
        out.into()
    }
}

impl PusherSession {
    /// Another session asks who this one is. Words that are not [`Actor::ask`]'s are not answered.
    pub(super) fn called(&mut self, caller: Caller, words: &[u8], out: &mut Vec<Output>) {
        let Ok(words) = json::parse(words) else { return };
        let app = words.member("app").and_then(Raw::as_u64);
        let channel = words.member("channel").and_then(Raw::as_str);
        let (Some(app), Some(channel)) = (app, channel) else { return };
        // Another app's request learns nothing.
        let is_ours = app == u64::from(self.seat.index.0);
        let answer = if is_ours { self.actor(&channel).write() } else { Bytes::from_static(b"{}") };
        out.push(Output::Return(caller, answer));
    }

    fn actor(&self, channel: &str) -> Actor {
        Actor {
            client_id: self.client_id(),
            is_two: self.two.is_some(),
            may: Op::ALL.into_iter().filter(|&op| self.may(op, channel)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for actor in [
            Actor::default(),
            Actor { client_id: Some("a\"b".into()), is_two: true, may: Op::ALL.to_vec() },
        ] {
            assert_eq!(Actor::read(&actor.write()), Some(actor));
        }
        assert_eq!(Actor::read(b"{}"), None);
        assert_eq!(Actor::read(b"null"), None);
        let words = Actor::ask(AppIndex(3), "a\"b");
        assert_eq!(words, r#"{"app":3,"channel":"a\"b"}"#.as_bytes());
    }
}
