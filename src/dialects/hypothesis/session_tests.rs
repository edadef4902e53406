use serde_json::Value;

use super::*;
use crate::auth::Apps;
use crate::base::ids::{ConnectionId, Serial};
use crate::base::time::UnixMillis;
use crate::broker::{Happening, Payload, Tags};
use crate::config::Config;
use crate::dialects::hypothesis::Shared;

fn shared() -> Arc<Shared> {
    let config = Config::development();
    let apps = Apps::new(&config.apps);
    let settings = super::super::settings::SECTION.blank().development();
    let source = Arc::new(crate::auth::Source::new("hypothesis", &settings.tokens, None));
    Arc::new(Shared { app: apps.with_id("app-id").unwrap().clone(), settings, source })
}

fn session() -> HypothesisSession {
    let shared = shared();
    let seat = Seat::try_take(&shared.app).unwrap();
    HypothesisSession::new(shared, seat, None, &facts())
}

fn facts() -> Facts {
    Facts {
        connection: ConnectionId::from_pair(1, 1),
        now: Now::default(),
        shards: 1,
        draining: false,
        lane_first: LaneId(0),
        deflate: false,
        chance: 0,
    }
}

fn named(user: &str, groups: &[&str], moderates: &[&str]) -> Arc<Identity> {
    let names = |them: &[&str]| them.iter().map(|it| Name::from(*it)).collect();
    Arc::new(Identity {
        groups: names(groups),
        moderates: names(moderates),
        ..Identity::named(user)
    })
}

/// What a session with a filter for `old` answers to a message, and what it wants afterwards if that changed.
fn say(message: &str) -> (Option<String>, Option<Vec<String>>) {
    let mut session = session();
    let mut out = Vec::new();
    session.want(vec![Field::Id.tag("old")], &mut out);
    // Its subscriptions stand.
    session.waiting = None;
    out.clear();
    session.handle(Input::Text(message), Now::default(), &mut out);
    let reply = out.iter().find_map(|it| match it {
        Output::Text(text) => Some(String::from_utf8(text.clone()).unwrap()),
        Output::Close(farewell, _) => {
            assert_eq!((farewell.code, &*farewell.text), (1000, "invalid message format"));
            Some("close".to_owned())
        }
        _ => None,
    });
    let wanted: Vec<_> = session.wanted.as_deref().unwrap_or_default().to_vec();
    let is_old = wanted == [Field::Id.tag("old")];
    let wanted = wanted.iter().map(|it| format!("/{} {}", it.name, it.value)).collect();
    (reply, (!is_old).then_some(wanted))
}

/// Numbers that are the same although they are spelled otherwise: Python spells them anew.
fn is_same(ours: &str, theirs: &str) -> bool {
    let read = |text: &str| {
        let mut value: Value = serde_json::from_str(text).ok()?;
        let id = value["reply_to"].take();
        Some((value, id.as_f64().unwrap_or_default(), id.as_bool()))
    };
    if ours == theirs {
        return true;
    }
    let (Some(a), Some(b)) = (read(ours), read(theirs)) else { return false };
    // The reader of this test rounds the last bit otherwise than Python.
    (&a.0, a.2) == (&b.0, b.2) && (a.1 - b.1).abs() <= a.1.abs() * 1e-15
}

#[test]
fn messages_are_answered_as_the_service_does() {
    let path = format!("{}/tests/data/hypothesis_messages.json", env!("CARGO_MANIFEST_DIR"));
    let rows: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut checked = 0;
    for row in rows.as_array().unwrap() {
        let message = row[0].as_str().unwrap();
        let (reply, wanted) = say(message);
        let is_respelled = message.contains("\"type\":1") || message.contains("\"type\":-0");
        match row[1].as_str() {
            Some(theirs) if is_respelled => {
                assert!(reply.is_some_and(|it| it.contains("invalid_type")), "{message}: {theirs}")
            }
            Some(theirs) => assert!(
                is_same(reply.as_deref().unwrap_or_default(), theirs),
                "{message}: {reply:?}"
            ),
            None => assert_eq!(reply, None, "{message}"),
        }
        let expected = row[2].as_array().map(|rows| {
            // What is no text equals nothing, and we keep none of it.
            let texts = rows
                .iter()
                .filter_map(|it| Some(format!("{} {}", it[0].as_str()?, it[1].as_str()?)));
            let mut texts: Vec<_> = texts.collect();
            texts.sort();
            texts
        });
        assert_eq!(
            wanted.map(|mut it| {
                it.sort();
                it
            }),
            expected,
            "{message}"
        );
        checked += 1;
    }
    assert!(checked > 140, "{checked}");
}

#[test]
fn numbers_that_json_does_not_have_are_read() {
    let pong = |id: &str| Some(format!("{{\"type\": \"pong\", \"ok\": true, \"reply_to\": {id}}}"));
    for (message, reply) in [
        (r#"{"id":1,"type":"ping","x":NaN}"#, pong("1")),
        (r#"{"id":NaN,"type":"ping"}"#, None),
        (r#"{"id":2,"type":"ping","x":[-Infinity,"NaN\"Infinity"]}"#, pong("2")),
        (r#"{"id":3,"type":"ping","x":nan}"#, Some("close".to_owned())),
        ("Infinity", None),
    ] {
        assert_eq!(say(message).0, reply, "{message}");
    }
}

fn event(tags: &[(&str, &str)], guarded: bool) -> Event {
    let tag = |&(name, value): &(&str, &str)| Tag { name: name.into(), value: value.into() };
    Event {
        channel: Channel { app: crate::base::ids::AppIndex(0), name: CHANNEL.into() },
        serial: Serial(1),
        at: UnixMillis(0),
        arrived: Nanos(0),
        epoch: None,
        id: Default::default(),
        meta: None,
        tags: Tags::from(tags.iter().map(tag).collect::<Vec<_>>()),
        guarded,
        happening: Happening::Message {
            name: "annotation-update".into(),
            data: Payload(bytes::Bytes::from_static(b"{\"id\": \"A\"}")),
            sender: None,
        },
    }
}

/// Rows: who may see it; columns: anyone, a stranger, the author, a member of the group, its moderator.
#[test]
fn the_visibility_matrix_holds() {
    let people = [
        None,
        Some(named("acct:x@h", &["other"], &["other"])),
        Some(named("acct:a@h", &[], &[])),
        Some(named("acct:m@h", &["g"], &[])),
        Some(named("acct:o@h", &["g"], &["g"])),
    ];
    for (see, allowed) in [
        (See::World, [true, true, true, true, true]),
        (See::Members, [false, false, false, true, true]),
        (See::Moderators, [false, false, true, false, true]),
        (See::Author, [false, false, true, false, false]),
    ] {
        for (person, may) in people.iter().zip(allowed) {
            let audience = |client_id: Option<&str>, null_origin_suppressed| Audience {
                user: person.clone(),
                client_id: client_id.map(Name::from),
                null_origin_suppressed,
            };
            let tags = [("group", "g"), ("see", see.as_str()), ("author", "acct:a@h")];
            let plain = event(&tags, see != See::World);
            let is_author = person.as_ref().is_some_and(|it| &*it.user == "acct:a@h");
            let frame = match may {
                true if matches!(see, See::Moderators | See::Author) && is_author => {
                    Verdict::Session
                }
                true => Verdict::Frame,
                false => Verdict::Skip,
            };
            assert_eq!(audience(None, false).admit(&plain), frame, "{see:?} {person:?}");
            assert_eq!(audience(Some("c"), true).admit(&plain), frame);
            // As the service does it, if wanted: nobody's change is not for nobody.
            assert_eq!(audience(None, true).admit(&plain), Verdict::Skip);
            // One's own change is not told again, anyone else's is.
            let tags =
                [&tags[..], &[("origin", "c"), ("moderation", "{\"flagCount\":1}")]].concat();
            let changed = event(&tags, see != See::World);
            assert_eq!(audience(Some("c"), false).admit(&changed), Verdict::Skip);
            // Moderators of the group are told more.
            let moderates = person.as_ref().is_some_and(|it| it.moderates == ["g".into()]);
            let personal = if may && moderates { Verdict::Session } else { frame };
            assert_eq!(audience(Some("d"), false).admit(&changed), personal);
            assert_eq!(audience(None, true).admit(&changed), personal);
        }
    }
}

#[test]
fn what_says_nothing_of_who_may_see_it_is_for_everyone_or_no_one() {
    let anyone = Audience { user: None, client_id: None, null_origin_suppressed: true };
    assert_eq!(anyone.admit(&event(&[], false)), Verdict::Frame);
    assert_eq!(anyone.admit(&event(&[], true)), Verdict::Skip);
    assert_eq!(anyone.admit(&event(&[("see", "nobody"), ("origin", "x")], false)), Verdict::Skip);
}

#[test]
fn moderators_are_told_what_others_are_not() {
    let mut session = session();
    let mut out = Vec::new();
    let told =
        event(&[("group", "g"), ("see", "world"), ("moderation", "{\"flagCount\":1}")], false);
    session.handle(Input::Event(&told), Now::default(), &mut out);
    let [Output::Text(text)] = &out[..] else { panic!("{out:?}") };
    assert_eq!(
        String::from_utf8_lossy(text),
        "{\"type\": \"annotation-notification\", \"options\": {\"action\": \"update\"}, \"payload\": \
         [{\"id\": \"A\"}]}"
    );
    session.user = Some(named("acct:o@h", &[], &["g"]));
    out.clear();
    session.handle(Input::Event(&told), Now::default(), &mut out);
    let [Output::Text(text)] = &out[..] else { panic!("{out:?}") };
    assert!(text.ends_with(b"[{\"id\": \"A\", \"moderation\": {\"flagCount\":1}}]}"));
}

#[test]
fn messages_wait_for_the_tokens_owner_within_bounds() {
    let source = Arc::new(crate::auth::Source::new("hypothesis", &Default::default(), None));
    let asking = || {
        let what = crate::auth::What::Token("t".into());
        let inquiry = Inquiry { source: source.clone(), what };
        let shared = shared();
        let seat = Seat::try_take(&shared.app).unwrap();
        HypothesisSession::asking(shared, seat, inquiry, &facts())
    };
    let whoami = r#"{"id":1,"type":"whoami"}"#;
    let (mut session, mut out) = (asking(), Vec::new());
    session.handle(Input::Opened, Now::default(), &mut out);
    assert!(out.iter().any(|it| matches!(it, Output::Inquire(..))));
    out.clear();
    session.handle(Input::Text(whoami), Now::default(), &mut out);
    assert!(out.is_empty());
    let ann = named("acct:a@h", &[], &[]);
    session.handle(Input::Found(Ticket(1), Finding::Known(ann)), Now::default(), &mut out);
    let texts: Vec<_> = out
        .iter()
        .filter_map(|it| match it {
            Output::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(
        texts,
        [r#"{"type": "whoyouare", "userid": "acct:a@h", "ok": true, "reply_to": 1}"#]
    );
    // Too many of them, or too long.
    for (message, many) in
        [(whoami.to_owned(), WAITING_MAX), (" ".repeat(WAITING_BYTES_MAX / 4), 4)]
    {
        let (mut session, mut out) = (asking(), Vec::new());
        for _ in 0..many {
            session.handle(Input::Text(&message), Now::default(), &mut out);
        }
        assert!(out.is_empty());
        session.handle(Input::Text(&message), Now::default(), &mut out);
        assert!(matches!(&out[..], [Output::Close(it, _)] if it.code == 1013));
    }
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<HypothesisSession>() <= 112, "{}", size_of::<HypothesisSession>());
}
