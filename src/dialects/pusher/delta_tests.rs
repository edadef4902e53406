use std::collections::VecDeque;

use serde_json::Value;

use super::*;
use crate::base::event_id::EventId;
use crate::base::ids::{AppIndex, Epoch, Serial};
use crate::base::name::Channel;
use crate::base::prng::Prng;
use crate::base::time::UnixMillis;
use crate::broker::{Tag, Tags};

fn payload(text: &str) -> Payload {
    Payload(text.to_owned().into())
}

fn event(channel: &str, data: &str) -> Event {
    let tag = |name: &str, value: &str| Tag { name: name.into(), value: value.into() };
    Event {
        channel: Channel { app: AppIndex(0), name: channel.into() },
        serial: Serial(1),
        epoch: Some(Epoch(1)),
        id: EventId(9),
        at: UnixMillis(0),
        arrived: Nanos(0),
        tags: Tags::from(vec![tag("asset", "tagged")]),
        meta: None,
        guarded: false,
        happening: Happening::Message { name: "e".into(), data: payload(data), sender: None },
    }
}

/// What a client does, as Sockudo's JavaScript client does it: it cuts our members out of the text of a frame, and
/// takes the first frame that it holds under a number.
#[derive(Default)]
struct Client {
    base: BTreeMap<String, String>,
    held: BTreeMap<(String, String), VecDeque<(u64, String)>>,
    conflates: BTreeMap<String, bool>,
}

/// Frames of one key that such a client holds.
const CLIENT_HOLDS: usize = 30;

impl Client {
    fn hear(&mut self, channel: &str, text: &str) -> Option<String> {
        let frame: Value = serde_json::from_str(text).expect("a frame is JSON");
        if frame["event"] == "sockudo:delta" {
            let data = &frame["data"];
            let key = data["conflation_key"].as_str().unwrap_or_default();
            let base = match self.conflates.contains_key(channel) {
                true => {
                    let held = &self.held[&(channel.to_owned(), key.to_owned())];
                    let wanted = data["base_index"].as_u64().unwrap();
                    let found = held.iter().find(|(number, _)| *number == wanted);
                    found.expect("the base is held").1.clone()
                }
                false => self.base[channel].clone(),
            };
            let coded = data["delta"].as_str().unwrap();
            assert_eq!(coded.len() % 4, 0, "padded");
            let delta =
                base64::decode(coded.trim_end_matches('=').as_bytes(), Alphabet::Standard).unwrap();
            let made = match data["algorithm"].as_str().unwrap_or("fossil") {
                "fossil" => fossil::apply(base.as_bytes(), &delta, 1 << 20),
                _ => vcdiff::apply(base.as_bytes(), &delta, 1 << 20),
            };
            let made = String::from_utf8(made.expect("it applies")).unwrap();
            self.hold(channel, key, data["seq"].as_u64().unwrap(), &made);
            return Some(made);
        }
        let number = frame["__delta_seq"].as_u64()?;
        let mut whole = text.replace(&format!(",\"__delta_seq\":{number}"), "");
        let key = frame["__conflation_key"].as_str();
        if let Some(key) = key {
            whole = whole.replace(&format!(",\"__conflation_key\":\"{key}\""), "");
            self.conflates.insert(channel.to_owned(), true);
        }
        self.hold(channel, key.unwrap_or_default(), number, &whole);
        Some(whole)
    }

    fn hold(&mut self, channel: &str, key: &str, number: u64, frame: &str) {
        if !self.conflates.contains_key(channel) {
            self.base.insert(channel.to_owned(), frame.to_owned());
            return;
        }
        let held = self.held.entry((channel.to_owned(), key.to_owned())).or_default();
        held.push_back((number, frame.to_owned()));
        if held.len() > CLIENT_HOLDS {
            held.pop_front();
        }
    }
}

fn settings() -> Settings {
    Settings {
        delta: true,
        delta_run_max: 10,
        delta_age_max: Millis(300_000),
        delta_channels_max: 100,
        delta_held_bytes_max: 1 << 20,
        ..Settings::default()
    }
}

fn frame(n: u64) -> String {
    format!(
        "{{\"event\":\"e\",\"channel\":\"c\",\"data\":\"{{\\\"price\\\":{n},\\\"venue\\\":\\\"somewhere\\\",\\\"more\\\":\
         \\\"text that never changes and makes this longer\\\"}}\",\"message_id\":\"{n:026}\"}}"
    )
}

fn rule(conflation_key: Option<&str>, keys_max: usize) -> Rule<'_> {
    let messages_per_key_max = 10;
    Rule { enabled: true, algorithm: None, conflation_key, messages_per_key_max, keys_max }
}

fn text(sent: &Sent) -> (bool, &str) {
    match sent {
        Sent::Whole(frame) => (true, std::str::from_utf8(frame).unwrap()),
        Sent::Changes(frame) => (false, std::str::from_utf8(frame).unwrap()),
    }
}

#[test]
fn two_are_whole_and_then_one_in_eleven() {
    let (mut deltas, settings, rule) = (Deltas::default(), settings(), rule(None, 1));
    let (event, mut whole) = (event("c", "1"), Vec::new());
    for n in 0..26 {
        let told = Told {
            event: &event,
            channel: &event.channel.name,
            key: "",
            rule: &rule,
            algorithm: Algorithm::Fossil,
            frame: frame(n).into_bytes(),
        };
        let sent = deltas.tell(told, &settings, Nanos(0));
        let (is_whole, frame) = text(&sent);
        if is_whole {
            whole.push(n);
            assert!(frame.ends_with(&format!(",\"__delta_seq\":{n}}}")), "{frame}");
        } else {
            assert!(frame.starts_with("{\"event\":\"sockudo:delta\",\"channel\":\"c\",\"data\":{\"event\":\"e\",\"delta\":\""));
            let rest = format!(
                "\"seq\":{n},\"base_index\":{},\"algorithm\":\"fossil\"}},\"stream_id\":\"{}\",\"serial\":1}}",
                n - 1,
                Epoch(1)
            );
            assert!(frame.ends_with(&rest), "{frame}");
        }
    }
    assert_eq!(whole, [0, 1, 12, 23]);
    deltas.forget("c");
    assert_eq!(deltas.bytes, 0);
}

#[test]
fn what_is_old_or_other_is_no_base() {
    let (mut deltas, settings, rule) = (Deltas::default(), settings(), rule(None, 1));
    let event = event("c", "1");
    let mut tell = |frame: String, at: u64| {
        let told = Told {
            event: &event,
            channel: &event.channel.name,
            key: "",
            rule: &rule,
            algorithm: Algorithm::Xdelta3,
            frame: frame.into_bytes(),
        };
        text(&deltas.tell(told, &settings, Nanos(at * 1_000_000_000))).0
    };
    let is_whole = [tell(frame(1), 0), tell(frame(2), 1), tell(frame(3), 2), tell(frame(4), 302)];
    assert_eq!(is_whole, [true, true, false, true]);
    // Nothing of the base is in it: all of it is less.
    assert!(tell("{\"x\":1}".to_owned(), 303));
}

/// Whatever is sent, in whatever order, a client that does as the official one does has every frame.
#[test]
fn clients_have_every_frame() {
    let mut changed = 0;
    for seed in 0..150 {
        let mut prng = Prng::new(seed);
        let conflates = prng.chance(2, 3);
        let keys_max = 1 + prng.below(6) as usize;
        let rule = rule(conflates.then_some("key"), keys_max);
        let settings = Settings {
            delta_run_max: 1 + prng.below(12) as u32,
            delta_channels_max: 1 + prng.below(4) as usize,
            delta_held_bytes_max: 600 + prng.below(6000) as usize,
            delta_algorithm_omitted: prng.chance(1, 2),
            ..settings()
        };
        let everywhere =
            Everywhere { announced: Algorithm::Fossil, reads_fossil: true, reads_xdelta3: true };
        let mut deltas = Deltas { everywhere: Some(everywhere), ..Deltas::default() };
        let mut client = Client::default();
        for n in 0..200 {
            let channel = format!("c{}", prng.below(5));
            let key = if conflates { format!("k{}", prng.below(8)) } else { String::new() };
            let event = event(&channel, "1");
            if prng.chance(1, 40) {
                // It lost its way, and both forget.
                deltas.forget(&channel);
                client.base.remove(&channel);
                client.held.retain(|(it, _), _| *it != channel);
                client.conflates.remove(&channel);
            }
            let frame = frame(n + prng.below(3));
            let algorithm = [Algorithm::Fossil, Algorithm::Xdelta3][prng.below(2) as usize];
            let told = Told {
                event: &event,
                channel: &event.channel.name,
                key: &key,
                rule: &rule,
                algorithm,
                frame: frame.clone().into_bytes(),
            };
            let sent = deltas.tell(told, &settings, Nanos(0));
            let (is_whole, text) = text(&sent);
            changed += u32::from(!is_whole);
            assert_eq!(client.hear(&channel, text).as_deref(), Some(&*frame), "seed {seed}");
            assert!(deltas.channels.len() <= settings.delta_channels_max, "seed {seed}");
            assert!(deltas.bytes <= settings.delta_held_bytes_max, "seed {seed}");
            assert!(deltas.channels.values().all(|it| it.bases.len() <= keys_max), "seed {seed}");
            let held = deltas.channels.values().flat_map(|it| &it.bases);
            let held: usize = held.map(|(key, base)| bytes(key, &base.frame)).sum();
            assert_eq!(deltas.bytes, held, "seed {seed}");
        }
    }
    assert!(changed > 1000, "{changed}");
}

#[test]
fn what_is_asked_is_read() {
    for (data, asked) in [
        ("{}", None),
        (r#"{"delta":true}"#, Some(Asked::On(None))),
        (r#"{"delta":false}"#, Some(Asked::Off)),
        (r#"{"delta":"disabled"}"#, Some(Asked::Off)),
        (r#"{"delta":"fossil"}"#, Some(Asked::On(Some(Algorithm::Fossil)))),
        (r#"{"delta":"VCDIFF"}"#, Some(Asked::On(Some(Algorithm::Xdelta3)))),
        (r#"{"delta":"unheard-of"}"#, Some(Asked::On(None))),
        (r#"{"delta":{"enabled":true}}"#, Some(Asked::On(None))),
        (r#"{"delta":{"enabled":false,"algorithm":"fossil"}}"#, Some(Asked::Off)),
        (r#"{"delta":{"algorithm":"xdelta3"}}"#, Some(Asked::Prefer(Algorithm::Xdelta3))),
        (r#"{"delta":{}}"#, None),
        (r#"{"delta":null}"#, None),
        (r#"{"delta":5}"#, None),
    ] {
        assert_eq!(Asked::of(json::parse_str(data).unwrap()), asked, "{data}");
    }
}

#[test]
fn keys_are_found_where_they_are_said() {
    for (path, data, key) in [
        ("asset", r#"{"asset":"BTC"}"#, Some("BTC")),
        ("data.asset", r#"{"asset":"BTC"}"#, Some("BTC")),
        ("a.b", r#""{\"a\":{\"b\":7}}""#, Some("7")),
        ("a", r#"{"a":true}"#, Some("true")),
        ("tags.asset", "1", Some("tagged")),
        ("tags.none", "1", None),
        ("a", r#"{"a":""}"#, None),
        ("a", r#"{"a":null}"#, None),
        ("a", r#"{"a":{"b":1}}"#, None),
        ("a", r#"{"a":"q\"q"}"#, None),
        ("a", r#"{"a":"q\nq"}"#, None),
        ("a", r#""plain""#, None),
    ] {
        let found = key_of(path, &event("c", data), &payload(data));
        assert_eq!(found.as_deref(), key, "{path} {data}");
    }
    let long = format!("{{\"a\":\"{}\"}}", "k".repeat(KEY_BYTES_MAX + 1));
    assert_eq!(key_of("a", &event("c", &long), &payload(&long)), None);
}

#[test]
fn the_peer_and_the_settings_say_how() {
    let settings = settings();
    let rule = |enabled, algorithm| Rule { enabled, algorithm, ..rule(None, 1) };
    let (fossil, xdelta3) = (Some(Algorithm::Fossil), Some(Algorithm::Xdelta3));
    let mut deltas = Deltas::default();
    let of = |deltas: &Deltas, channel: &str, rule: Rule<'_>| {
        deltas.algorithm(channel, &rule, &settings)
    };
    assert_eq!(of(&deltas, "c", rule(true, None)), None);
    deltas.asked.insert("c".into(), Asked::On(None));
    assert_eq!(of(&deltas, "c", rule(true, None)), fossil);
    assert_eq!(of(&deltas, "c", rule(true, xdelta3)), xdelta3);
    assert_eq!(of(&deltas, "c", rule(false, None)), None);
    assert_eq!(of(&deltas, "d", rule(true, None)), None);
    let only = |reads_fossil, announced| Everywhere {
        announced,
        reads_fossil,
        reads_xdelta3: !reads_fossil,
    };
    deltas.everywhere = Some(only(true, Algorithm::Fossil));
    assert_eq!(of(&deltas, "d", rule(true, xdelta3)), fossil);
    assert_eq!(of(&deltas, "private-encrypted-d", rule(true, None)), None);
    assert_eq!(of(&deltas, "private-d", rule(true, None)), fossil);
    deltas.asked.insert("d".into(), Asked::Off);
    assert_eq!(of(&deltas, "d", rule(true, None)), None);
    let off = Settings { delta: false, ..settings.clone() };
    assert_eq!(deltas.algorithm("c", &rule(true, None), &off), None);
}
