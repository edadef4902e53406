//! The bodies and answers of the routes about a channel's history. What is read is read by
//! [`super::super::history`], for WebSockets alike.

use super::super::history::{self, number, write_stream};
use crate::base::ids::Serial;
use crate::base::name::Channel;
use crate::base::time::UnixMillis;
use crate::broker::{Command, PurgeTo, Purged, Stream};
use crate::dialects::api::Refusal;
use crate::wire::json::{self, Kind, Raw};

/// What an operator does to a history.
#[derive(Debug, PartialEq)]
pub(super) struct Operation {
    channel: String,
    /// None: a reset.
    purge: Option<PurgeTo>,
    /// Why.
    pub reason: String,
    /// Who says so.
    pub requested_by: Option<String>,
}

impl Operation {
    /// Reads the body of `reset` or `purge`: whoever sends it has typed the channel's name twice and says why.
    pub fn read(body: &[u8], channel: &str, is_purge: bool) -> Result<Self, Refusal> {
        let word = if is_purge { "purge" } else { "reset" };
        let body =
            json::parse(body).map_err(|error| Refusal::invalid(format!("the body is {error}")))?;
        if body.kind() != Kind::Object {
            return Err(Refusal::shape("the body is not an object"));
        }
        let member = |name: &str| body.member(name).filter(|it| !it.is_null());
        let optional = |name: &str| match member(name) {
            None => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text.into_owned())),
                None => Err(Refusal::shape(format!("{name} is not a string"))),
            },
        };
        let text = |name: &str| optional(name)?.ok_or(Refusal::shape(format!("{name} is missing")));
        if text("confirm_channel")? != channel {
            return Err(Refusal::invalid("confirm_channel must exactly match the channel path"));
        }
        if text("confirm_operation")? != word {
            return Err(Refusal::invalid(format!("confirm_operation must be {word}")));
        }
        let reason = text("reason")?;
        if reason.trim().is_empty() {
            return Err(Refusal::invalid("reason must not be empty"));
        }
        let requested_by = optional("requested_by")?;
        let purge = if is_purge { Some(purge_to(&text("mode")?, &member)?) } else { None };
        Ok(Self { channel: channel.into(), purge, reason, requested_by })
    }

    /// What the broker is asked.
    pub fn command(&self, channel: Channel) -> Command {
        match self.purge {
            None => Command::Reset(channel),
            Some(to) => Command::Purge(channel, to),
        }
    }

    /// The answer once it is done.
    pub fn answer(&self, done: &Purged) -> Vec<u8> {
        let word = if self.purge.is_some() { "purge" } else { "reset" };
        let mut out = format!("{{\"ok\":true,\"operation\":\"{word}\",\"channel\":").into_bytes();
        json::write_str(&mut out, &self.channel);
        if let Some(to) = self.purge {
            let (mode, serial, at) = match to {
                PurgeTo::All => ("all", None, None),
                PurgeTo::Serial(Serial(serial)) => ("before_serial", Some(serial), None),
                PurgeTo::At(UnixMillis(at)) => ("before_time_ms", None, Some(at)),
            };
            out.extend_from_slice(format!(",\"mode\":\"{mode}\"").as_bytes());
            number(",\"before_serial\":", serial, &mut out);
            number(",\"before_time_ms\":", at, &mut out);
        }
        out.extend_from_slice(b",\"reason\":");
        json::write_str(&mut out, &self.reason);
        out.extend_from_slice(b",\"requested_by\":");
        match &self.requested_by {
            Some(who) => json::write_str(&mut out, who),
            None => out.extend_from_slice(b"null"),
        }
        if self.purge.is_none() {
            let (before, now) = (done.epoch_before, done.stream.epoch);
            let ids = format!(",\"previous_stream_id\":\"{before}\",\"new_stream_id\":\"{now}\"");
            out.extend_from_slice(ids.as_bytes());
        }
        number(",\"purged_messages\":", Some(done.events), &mut out);
        number(",\"purged_bytes\":", Some(done.bytes), &mut out);
        out.extend_from_slice(b",\"stream\":");
        history::write_stream(&done.stream, &mut out);
        out.push(b'}');
        out
    }
}

/// How far a purge goes: exactly the member that its mode asks for.
fn purge_to<'a>(mode: &str, member: &dyn Fn(&str) -> Option<Raw<'a>>) -> Result<PurgeTo, Refusal> {
    const BOUNDS: [&str; 2] = ["before_serial", "before_time_ms"];
    if mode != "all" && !BOUNDS.contains(&mode) {
        return Err(Refusal::invalid("mode must be all, before_serial or before_time_ms"));
    }
    for name in BOUNDS {
        match (member(name), name == mode) {
            (Some(_), false) => {
                return Err(Refusal::invalid(format!("mode {mode} takes no {name}")));
            }
            (None, true) => return Err(Refusal::invalid(format!("mode {mode} needs {name}"))),
            _ => {}
        }
    }
    let Some(bound) = member(mode) else { return Ok(PurgeTo::All) };
    let number = bound.as_u64();
    let number = number.ok_or(Refusal::shape(format!("{mode} is not a whole number from 0")))?;
    Ok(match mode {
        "before_serial" => PurgeTo::Serial(Serial(number)),
        _ => PurgeTo::At(UnixMillis(number)),
    })
}

/// The answer to who asks what is kept.
pub(super) fn state(channel: &str, stream: &Stream) -> Vec<u8> {
    let mut out = b"{\"channel\":".to_vec();
    json::write_str(&mut out, channel);
    out.extend_from_slice(b",\"stream\":");
    write_stream(stream, &mut out);
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_refused_for_what_is_wrong_with_it() {
        let sure = r#""confirm_channel":"c","confirm_operation":"purge","reason":"r""#;
        for (body, is_purge, status, part) in [
            ("nope".to_owned(), false, 400, "not JSON"),
            ("[]".into(), false, 422, "not an object"),
            ("{}".into(), false, 422, "confirm_channel is missing"),
            (r#"{"confirm_channel":1}"#.into(), false, 422, "not a string"),
            (
                r#"{"confirm_channel":"d"}"#.into(),
                false,
                400,
                "must exactly match the channel path",
            ),
            (format!("{{{sure}}}"), false, 400, "confirm_operation must be reset"),
            (format!("{{{sure},\"reason\":\" \"}}"), true, 400, "reason must not be empty"),
            (format!("{{{sure}}}"), true, 422, "mode is missing"),
            (format!("{{{sure},\"mode\":\"some\"}}"), true, 400, "all, before_serial or"),
            (format!("{{{sure},\"mode\":\"before_serial\"}}"), true, 400, "needs before_serial"),
            (
                format!("{{{sure},\"mode\":\"all\",\"before_serial\":1}}"),
                true,
                400,
                "all takes no before_serial",
            ),
            (
                format!(
                    "{{{sure},\"mode\":\"before_serial\",\"before_serial\":1,\"before_time_ms\":1}}"
                ),
                true,
                400,
                "takes no before_time_ms",
            ),
            (
                format!("{{{sure},\"mode\":\"before_serial\",\"before_serial\":\"1\"}}"),
                true,
                422,
                "before_serial is not a whole number",
            ),
        ] {
            let refusal = Operation::read(body.as_bytes(), "c", is_purge).unwrap_err();
            assert_eq!(refusal.status, status, "{body}: {}", refusal.text);
            assert!(refusal.text.contains(part), "{body}: {}", refusal.text);
        }
    }

    #[test]
    fn an_operation_is_answered_with_what_it_did() {
        use crate::base::ids::Epoch;
        use crate::broker::Mode;

        let stream = Stream {
            mode: Mode::Durable,
            epoch: Epoch(2),
            newest: Serial(9),
            oldest: Serial(4),
            oldest_at: Some(UnixMillis(40)),
            newest_at: Some(UnixMillis(90)),
            bytes: 600,
        };
        let done = Purged { epoch_before: Epoch(1), stream, events: 3, bytes: 30 };
        let body = br#"{"confirm_channel":"c","confirm_operation":"purge","reason":"r",
            "requested_by":"me","mode":"before_serial","before_serial":4}"#;
        let purge = Operation::read(body, "c", true).unwrap();
        assert_eq!(purge.purge, Some(PurgeTo::Serial(Serial(4))));
        let answer = json_of(&purge.answer(&done));
        assert_eq!(answer["mode"], "before_serial");
        assert_eq!((&answer["before_serial"], &answer["purged_messages"]), (&4.into(), &3.into()));
        assert_eq!(answer["requested_by"], "me");
        assert_eq!(answer["stream"]["next_serial"], 10);
        assert_eq!(answer["stream"]["retained"]["retained_messages"], 6);
        assert_eq!(answer["stream"]["state"]["authoritative_source"], "durable");
        let body = br#"{"confirm_channel":"c","confirm_operation":"reset","reason":"r"}"#;
        let answer = json_of(&Operation::read(body, "c", false).unwrap().answer(&done));
        assert_eq!(answer["previous_stream_id"], Epoch(1).to_string());
        assert_eq!(answer["new_stream_id"], Epoch(2).to_string());
        assert_eq!(answer["requested_by"], serde_json::Value::Null);
        assert_eq!(
            json_of(&state("c", &stream))["stream"]["retained"]["oldest_available_serial"],
            4
        );
    }

    fn json_of(text: &[u8]) -> serde_json::Value {
        serde_json::from_slice(text).unwrap()
    }
}
