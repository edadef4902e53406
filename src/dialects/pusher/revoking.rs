//! Revoking capability tokens: by their own names, or all of a client's.
//!
//! What is revoked stands in a channel of the engine's own, that of the token or of its client, where every bearer
//! looks before a token counts ([`super::tokens`]). First it is written there, then the bearers who are connected are
//! told: whoever comes between the two finds it written. Where this server keeps anything on disk, it is written
//! there, and still stands after a restart. Source: Sockudo, "Token revocation".

use bytes::Bytes;

use super::tokens::{ID_BYTES_MAX, client_channel, token_channel};
use crate::base::ids::{AppIndex, Ticket};
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Now, UnixMillis};
use crate::broker::state::{Keep, SetValue};
use crate::broker::{Command, Control, Payload, Publish, Reply};
use crate::config::history::History;
use crate::config::webhooks::Webhooks;
use crate::config::{Config, Revocations};
use crate::dialects::Output;
use crate::dialects::api::{self, Refusal};
use crate::wire::json::{self, Kind, Raw};

/// How long something stays revoked, unless it is said: as long as a token may be good.
const TTL: Millis = Millis(24 * 60 * 60 * 1000);
/// How long it may, at most: a century.
const TTL_MAX: Millis = Millis(100 * 365 * 24 * 60 * 60 * 1000);
/// The key under which a revocation stands in its channel.
const KEY: &str = "revoked";
/// Bytes of a reason that are kept.
const REASON_BYTES_MAX: usize = 1024;

/// Whether revocations are on disk: as the setting says, else where anything is.
pub(super) fn are_durable(config: &Config) -> bool {
    match config.pusher.revocations {
        Revocations::Durable => true,
        Revocations::Memory => false,
        Revocations::Auto => {
            let history = History::of(config);
            history.channels.iter().any(|row| row.mode == "durable")
                || !Webhooks::of(config).receivers.is_empty()
        }
    }
}

/// A request to revoke, on its way: first it asks ([`Revoking::ask`]), then it takes what is answered
/// ([`Revoking::take`]), and asks on, until it is done.
#[derive(Debug)]
pub(super) struct Revoking {
    app: AppIndex,
    jti: Option<Name>,
    client_id: Option<Name>,
    span: Millis,
    /// One JSON object.
    about: Payload,
    is_durable: bool,
    stage: Stage,
    /// Connections that bear the token.
    of_token: u64,
    /// Connections that bear one of the client's.
    of_client: u64,
    /// The token is among those of the client.
    is_same: bool,
    /// Answers that are missing.
    missing: usize,
    /// What the first of them said that was a refusal.
    refusal: Option<Refusal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Reading,
    Writing,
    Telling,
    Done,
}

impl Revoking {
    /// Reads a request's body.
    pub fn read(
        body: &[u8],
        app: AppIndex,
        is_durable: bool,
        wall: UnixMillis,
    ) -> Result<Self, Refusal> {
        let body =
            json::parse(body).map_err(|error| Refusal::invalid(format!("the body is {error}")))?;
        if body.kind() != Kind::Object {
            return Err(Refusal::shape("the body is not an object"));
        }
        let given = |name: &str| body.member(name).filter(|it| !it.is_null());
        let id = |name: &'static str| match given(name) {
            None => Ok(None),
            Some(value) => match value.as_str() {
                Some(id) if (1..=ID_BYTES_MAX).contains(&id.len()) => Ok(Some(Name::from(&*id))),
                None => Err(Refusal::shape(format!("{name} is not a string"))),
                Some(_) => Err(Refusal::invalid(format!(
                    "{name} is a string of 1 to {ID_BYTES_MAX} bytes"
                ))),
            },
        };
        let seconds = |name: &'static str| {
            let number = |value: Raw<'_>| {
                value.as_f64().map(|it| (it * 1000.0).clamp(0.0, u64::MAX as f64) as u64)
            };
            let not = || Refusal::shape(format!("{name} is not a number of seconds"));
            given(name).map(|it| number(it).ok_or_else(not)).transpose()
        };
        let (jti, client_id) = (id("jti")?, given("client_id").map(|_| id("client_id")));
        let client_id = match client_id {
            Some(it) => it?,
            None => id("clientId")?,
        };
        if jti.is_none() && client_id.is_none() {
            let text = "revocation requires jti or client_id";
            return Err(Refusal::new(401, "auth_failed", text));
        }
        let span = match (seconds("ttl_seconds")?, seconds("expires_at")?) {
            (Some(ttl), _) => Millis(ttl),
            (None, Some(at)) => Millis(at.saturating_sub(wall.0)),
            (None, None) => TTL,
        };
        if span == Millis(0) {
            let text = "a revocation ends in the future: ttl_seconds is above 0, expires_at later than now";
            return Err(Refusal::invalid(text));
        }
        let reason = match given("reason").map(Raw::as_str) {
            None => Default::default(),
            Some(Some(reason)) => reason,
            Some(None) => return Err(Refusal::shape("reason is not a string")),
        };
        let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
        let mut about = b"{\"reason\":".to_vec();
        json::write_str(&mut about, reason);
        about.push(b'}');
        Ok(Self {
            app,
            jti,
            client_id,
            span: Millis(span.0.clamp(1000, TTL_MAX.0)),
            about: Payload(Bytes::from(about)),
            is_durable,
            stage: Stage::New,
            of_token: 0,
            of_client: 0,
            is_same: false,
            missing: 0,
            refusal: None,
        })
    }

    fn channels(&self) -> impl Iterator<Item = Channel> {
        let names =
            [self.jti.as_deref().map(token_channel), self.client_id.as_deref().map(client_channel)];
        let app = self.app;
        names.into_iter().flatten().map(move |name| Channel { app, name })
    }

    /// Asks what is to be asked next.
    pub fn ask(&mut self, now: Now, out: &mut Vec<Output>) {
        let commands = self.commands(now);
        self.missing = commands.len();
        let asks = commands.into_iter().enumerate();
        out.extend(asks.map(|(nth, command)| Output::Ask(Ticket(nth as u32), command)));
    }

    /// Takes an answer; what the request is answered, once there are no more.
    pub fn take(
        &mut self,
        ticket: Ticket,
        reply: &Reply,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Option<Result<Bytes, Refusal>> {
        if let Err(refusal) = self.hear(ticket.0 as usize, reply) {
            self.refusal.get_or_insert(refusal);
        }
        self.missing = self.missing.saturating_sub(1);
        if self.missing > 0 {
            return None;
        }
        if let Some(refusal) = self.refusal.take() {
            return Some(Err(refusal));
        }
        self.ask(now, out);
        (self.missing == 0).then(|| Ok(self.answer()))
    }

    /// What is to be asked next, all together; nothing once it is done.
    fn commands(&mut self, now: Now) -> Vec<Command> {
        match self.stage {
            // In memory there is one: it takes nothing from an earlier one that lasts longer.
            Stage::New if !self.is_durable => {
                self.stage = Stage::Reading;
                self.channels().map(Command::Describe).collect()
            }
            Stage::New | Stage::Reading => {
                self.stage = Stage::Writing;
                self.channels().map(|channel| self.write(channel, now)).collect()
            }
            Stage::Writing => {
                self.stage = Stage::Telling;
                // Counted by the same home right before, so that the number is that of those who are told.
                let counted = |channel: Channel| {
                    let of_client = self.client_id.is_some() && self.jti.is_some();
                    let members = of_client.then(|| Command::Members(channel.clone()));
                    let describe = Command::Describe(channel.clone());
                    let control = Command::Control(channel, Control::Revoke);
                    members.into_iter().chain([describe, control])
                };
                self.channels().flat_map(counted).collect()
            }
            Stage::Telling | Stage::Done => {
                self.stage = Stage::Done;
                Vec::new()
            }
        }
    }

    fn write(&self, channel: Channel, now: Now) -> Command {
        if !self.is_durable {
            let publish = Publish {
                keep_last: Some(self.span),
                ..Publish::new(channel, Name::from(KEY), self.about.clone(), now.steady)
            };
            return Command::Publish(Box::new(publish));
        }
        Command::SetValue(Box::new(SetValue {
            channel,
            // Each end has a key of its own: a revocation takes nothing from an earlier one that lasts longer.
            key: Name::from(format!("{KEY}-{}", now.wall.0.saturating_add(self.span.0)).as_str()),
            data: Some(self.about.clone()),
            meta: Payload(Bytes::from_static(b"{}")),
            keep: Keep::For(self.span),
            report: None,
            quiet: false,
        }))
    }

    /// Takes the answer to one of the commands, the `nth` of those that were asked together.
    fn hear(&mut self, nth: usize, reply: &Reply) -> Result<(), Refusal> {
        // The first half of what is asked last is about the token, if there is one.
        let is_both = self.jti.is_some() && self.client_id.is_some();
        let is_of_token = self.jti.is_some() && (!is_both || nth < 3);
        match reply {
            Reply::Refused(refusal) => return Err(api_refusal(*refusal)),
            Reply::Described(it) if self.stage == Stage::Reading => {
                let left = it.last.as_ref().map_or(Millis(0), |(_, left)| *left);
                self.span = self.span.max(left);
            }
            Reply::Described(it) if is_of_token => self.of_token = it.subscription_count,
            Reply::Described(it) => self.of_client = it.subscription_count,
            Reply::Members(members) if !is_of_token => {
                let jti = self.jti.as_deref();
                self.is_same = members.iter().any(|it| Some(&*it.user_id) == jti);
            }
            _ => {}
        }
        Ok(())
    }

    /// The answer, once it is done.
    fn answer(&self) -> Bytes {
        // Who bears the client's token is counted once.
        let closed = match self.is_same {
            true => self.of_client.max(self.of_token),
            false => self.of_client + self.of_token,
        };
        let text = format!(
            "{{\"revoked_jti\":{},\"revoked_client_id\":{},\"closed_connections\":{closed}}}",
            self.jti.is_some(),
            self.client_id.is_some()
        );
        Bytes::from(text)
    }
}

/// What the broker refuses, as a refusal of the request.
fn api_refusal(refusal: crate::broker::Refusal) -> Refusal {
    let status = api::refused(refusal).status;
    Refusal::new(status, "service_unavailable", refusal.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::base::time::Nanos;
    use crate::broker::{Description, Member};

    const NOW: Now = Now { steady: Nanos(0), wall: UnixMillis(1_000_000) };

    fn read(body: &str) -> Result<Revoking, Refusal> {
        Revoking::read(body.as_bytes(), AppIndex(0), true, NOW.wall)
    }

    #[test]
    fn a_request_says_what_is_revoked_and_for_how_long() {
        for (body, span) in [
            (r#"{"jti":"a"}"#, TTL.0),
            (r#"{"client_id":"a","ttl_seconds":60,"expires_at":9999}"#, 60_000),
            (r#"{"clientId":"a","expires_at":1100}"#, 100_000),
            (r#"{"jti":"a","ttl_seconds":0.001}"#, 1000),
            (r#"{"jti":"a","ttl_seconds":1e300}"#, TTL_MAX.0),
        ] {
            assert_eq!(read(body).map(|it| it.span.0), Ok(span), "{body}");
        }
        for (body, status) in [
            ("{}", 401),
            (r#"{"jti":null}"#, 401),
            (r#"{"jti":""}"#, 400),
            (r#"{"jti":1}"#, 422),
            (r#"{"jti":"a","ttl_seconds":"1"}"#, 422),
            (r#"{"jti":"a","expires_at":3}"#, 400),
            (r#"{"jti":"a","ttl_seconds":0}"#, 400),
            (r#"{"jti":"a","ttl_seconds":-5}"#, 400),
            ("[]", 422),
            ("", 400),
        ] {
            assert_eq!(read(body).err().map(|it| it.status), Some(status), "{body}");
        }
        assert!(read(&format!(r#"{{"jti":"{}"}}"#, "x".repeat(129))).is_err());
    }

    /// What is asked, in words.
    fn asked(it: &mut Revoking) -> Vec<String> {
        let word = |command: &Command| match command {
            Command::SetValue(it) => format!("set {}", it.channel.name),
            Command::Publish(it) => format!("keep {}", it.channel.name),
            Command::Members(it) => format!("members {}", it.name),
            Command::Describe(it) => format!("describe {}", it.name),
            Command::Control(it, Control::Revoke) => format!("revoke {}", it.name),
            other => format!("{other:?}"),
        };
        it.commands(NOW).iter().map(word).collect()
    }

    #[test]
    fn it_is_written_before_anyone_is_told() {
        let mut it = read(r#"{"jti":"j"}"#).unwrap();
        assert_eq!(asked(&mut it), ["set #token:j"]);
        assert_eq!(it.hear(0, &Reply::Done), Ok(()));
        assert_eq!(asked(&mut it), ["describe #token:j", "revoke #token:j"]);
        it.hear(0, &described(2)).unwrap();
        it.hear(1, &Reply::Done).unwrap();
        assert!(asked(&mut it).is_empty());
        let answer = r#"{"revoked_jti":true,"revoked_client_id":false,"closed_connections":2}"#;
        assert_eq!(it.answer(), answer);

        let mut it = read(r#"{"client_id":"c"}"#).unwrap();
        it.is_durable = false;
        assert_eq!(asked(&mut it), ["describe #client:c"]);
        it.hear(0, &described(9)).unwrap();
        assert_eq!(asked(&mut it), ["keep #client:c"]);
        assert_eq!(asked(&mut it), ["describe #client:c", "revoke #client:c"]);
        it.hear(0, &described(3)).unwrap();
        assert!(it.answer().ends_with(b"\"closed_connections\":3}"));
        let refused = it.hear(0, &Reply::Refused(crate::broker::Refusal::StoreBusy));
        assert_eq!(refused.map_err(|it| it.status), Err(503));
    }

    #[test]
    fn who_is_revoked_twice_is_counted_once() {
        for (members, closed) in [(&["j", "k"][..], 3), (&["k"][..], 5)] {
            let mut it = read(r#"{"jti":"j","client_id":"c"}"#).unwrap();
            assert_eq!(asked(&mut it), ["set #token:j", "set #client:c"]);
            let told = asked(&mut it);
            assert_eq!(told[..2], ["members #token:j", "describe #token:j"]);
            assert_eq!(told[3..], ["members #client:c", "describe #client:c", "revoke #client:c"]);
            let member = |id: &&str| Arc::new(Member { user_id: Name::from(*id), info: None });
            it.hear(0, &Reply::Members(vec![member(&"j")])).unwrap();
            it.hear(1, &described(2)).unwrap();
            it.hear(3, &Reply::Members(members.iter().map(member).collect())).unwrap();
            it.hear(4, &described(3)).unwrap();
            let answer = String::from_utf8(it.answer().to_vec()).unwrap();
            assert!(answer.ends_with(&format!("\"closed_connections\":{closed}}}")), "{answer}");
        }
    }

    fn described(subscription_count: u64) -> Reply {
        Reply::Described(Box::new(Description { subscription_count, ..Description::default() }))
    }
}
