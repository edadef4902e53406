//! The answers to `events` and `batch_events`.

use bytes::Bytes;

use super::super::{frames, names};
use super::channels::numbers;
use super::publish::Info;
use crate::base::name::Name;
use crate::broker::versioned::MessageRef;
use crate::broker::{Mode, Published};
use crate::dialects::Response;
use crate::dialects::api::respond;
use crate::wire::json;

/// What became of one event in one channel.
pub(super) struct Outcome {
    /// Which event of the batch.
    pub event: usize,
    pub channel: Name,
    pub info: Option<Info>,
    /// What its publisher calls it.
    pub message_id: Option<Name>,
    /// What the broker made of it.
    pub published: Option<Published>,
}

/// The answer to a publish. Its head says how the events are kept: as the weakest of them is.
pub(super) fn acknowledged(
    outcomes: &[Outcome],
    batch: Option<usize>,
    has_versions: bool,
) -> Response {
    let mut response = respond(200, Bytes::from(published(outcomes, batch, has_versions)));
    let strength = |mode: &Mode| match mode {
        Mode::None => 0,
        Mode::Memory => 1,
        Mode::Durable => 2,
    };
    let modes = outcomes.iter().filter_map(|it| it.published.map(|it| it.mode));
    if let Some(weakest) = modes.min_by_key(strength) {
        response.headers.push(("X-Ringmain-Acknowledged", weakest.as_str().into()));
    }
    response
}

/// `{}`, or what was asked about the channels, per channel or per event of a batch.
fn published(outcomes: &[Outcome], batch: Option<usize>, has_versions: bool) -> Vec<u8> {
    if outcomes.iter().all(|it| it.info.is_none() && it.message_id.is_none()) {
        return b"{}".to_vec();
    }
    let mut body = Vec::new();
    match batch {
        None => {
            body.extend_from_slice(b"{\"channels\":{");
            for (i, it) in outcomes.iter().enumerate() {
                if i > 0 {
                    body.push(b',');
                }
                json::write_str(&mut body, &it.channel);
                body.push(b':');
                counts(it, has_versions, &mut body);
            }
            body.extend_from_slice(b"}}");
        }
        Some(events) => {
            body.extend_from_slice(b"{\"batch\":");
            for event in 0..events {
                body.push(if event == 0 { b'[' } else { b',' });
                match outcomes.iter().find(|it| it.event == event) {
                    Some(it) if it.info.is_some() || it.message_id.is_some() => {
                        counts(it, has_versions, &mut body);
                    }
                    _ => body.extend_from_slice(b"{}"),
                }
            }
            body.extend_from_slice(b"]}");
        }
    }
    body
}

/// Appends what is told of one event in one channel: what was asked for, how it is kept and where, its names,
/// and whether all that was said before.
fn counts(outcome: &Outcome, has_versions: bool, body: &mut Vec<u8>) {
    let Some(published) = outcome.published else { return body.extend_from_slice(b"{}") };
    let info = outcome.info.unwrap_or_default();
    let users =
        (info.user_count && names::is_presence(&outcome.channel)).then_some(published.user_count);
    let subscriptions = info.subscription_count.then_some(published.subscription_count);
    let serial = published.epoch.map(|_| published.serial.0);
    // What is kept can be changed and annotated, and is named for that.
    let message = published.epoch.filter(|_| has_versions);
    let message = message.map(|_| MessageRef { id: published.id, serial: published.serial });
    numbers(
        &[
            ("user_count", users),
            ("subscription_count", subscriptions),
            ("history_serial", serial),
            ("delivery_serial", serial.filter(|_| has_versions)),
        ],
        body,
    );
    let is_first = body.ends_with(b"{}");
    frames::extend(body, |body| {
        let comma = if is_first { "" } else { "," };
        if let Some(it) = message {
            frames::append(
                body,
                format_args!("{comma}\"message_serial\":\"{it}\",\"version_serial\":\"{it}\""),
            );
        }
        let comma = if message.is_some() { "," } else { comma };
        frames::append(body, format_args!("{comma}\"mode\":\"{}\"", published.mode.as_str()));
        body.extend_from_slice(b",\"acknowledgement_id\":");
        match (message, &outcome.message_id) {
            (Some(it), _) => frames::append(body, format_args!("\"{it}\"")),
            (None, Some(given)) => json::write_str(body, given),
            (None, None) => frames::append(body, format_args!("\"{}\"", published.id)),
        }
        if published.is_repeated {
            body.extend_from_slice(b",\"repeated\":true");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Serial;

    #[test]
    fn an_acknowledgement_says_how_the_event_is_kept() {
        use crate::base::ids::Epoch;

        let made = |channel: &str, mode, info: Option<&str>, message_id: Option<&str>| Outcome {
            event: 0,
            channel: Name::from(channel),
            info: info.map(|it| Info::parse(it).unwrap()),
            message_id: message_id.map(Name::from),
            published: Some(Published {
                mode,
                epoch: (mode != Mode::None).then_some(Epoch(1)),
                subscription_count: 2,
                is_repeated: mode == Mode::Durable,
                ..Published::unkept(Serial(7))
            }),
        };
        let told = |outcomes: &[Outcome], batch| {
            let response = acknowledged(outcomes, batch, false);
            let (_, mode) =
                response.headers.iter().find(|(it, _)| *it == "X-Ringmain-Acknowledged").unwrap();
            (mode.to_string(), String::from_utf8(response.body.to_vec()).unwrap())
        };
        use Mode::{Durable, Memory, None as Not};
        let plain = [made("a", Durable, None, None), made("b", Memory, None, None)];
        assert_eq!(told(&plain, None), ("memory".into(), "{}".into()));
        let nil = "0".repeat(26);
        let asked =
            [made("a", Durable, Some("subscription_count"), None), made("b", Not, Some(""), None)];
        let first = format!(
            r#"{{"subscription_count":2,"history_serial":7,"mode":"durable","acknowledgement_id":"{nil}","repeated":true}}"#
        );
        let second = format!(r#"{{"mode":"none","acknowledgement_id":"{nil}"}}"#);
        let body = format!(r#"{{"channels":{{"a":{first},"b":{second}}}}}"#);
        assert_eq!(told(&asked, None), ("none".into(), body));
        let batch = [
            made("a", Memory, None, None),
            Outcome { event: 1, ..made("a", Memory, None, Some("m")) },
        ];
        let body =
            r#"{"batch":[{},{"history_serial":7,"mode":"memory","acknowledgement_id":"m"}]}"#;
        assert_eq!(told(&batch, Some(2)), ("memory".into(), body.into()));
    }

    #[test]
    fn what_can_be_changed_is_named_for_it() {
        use crate::base::event_id::EventId;
        use crate::base::ids::Epoch;

        let id = EventId(u128::MAX / 7);
        let kept = Published { epoch: Some(Epoch(1)), id, ..Published::unkept(Serial(7)) };
        let told = |published| {
            let outcome = Outcome {
                event: 0,
                channel: Name::from("a"),
                info: None,
                message_id: Some(Name::from("m")),
                published: Some(published),
            };
            let mut body = Vec::new();
            counts(&outcome, true, &mut body);
            String::from_utf8(body).unwrap()
        };
        let serial = format!("{id}-7");
        let expected = format!(
            r#"{{"history_serial":7,"delivery_serial":7,"message_serial":"{serial}","version_serial":"{serial}","mode":"none","acknowledgement_id":"{serial}"}}"#
        );
        assert_eq!(told(kept), expected);
        // What is kept nowhere is no message of that kind.
        assert_eq!(
            told(Published { epoch: None, ..kept }),
            r#"{"mode":"none","acknowledgement_id":"m"}"#
        );
    }
}
