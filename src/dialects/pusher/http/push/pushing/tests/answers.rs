//! What is answered, and when.

use super::*;

#[test]
fn a_publish_is_answered_when_it_is_on_disk() {
    let mut it = bench();
    it.ask(PushRoute::Publish, "", "", PUBLISH).unwrap();
    it.order();
    let (found, body) = it.tell(0, Ok(published("p", State::Accepted))).unwrap();
    assert_eq!(
        (found, &*body),
        (
            202,
            concat!(
                r#"{"appId":"1","app_id":"1","publishId":"p","publish_id":"p","status":"accepted","#,
                r#""expectedRecipients":1,"expected_recipients":1,"fanoutRegime":"fastPath","fanout_regime":"fastPath","#,
                r#""renderedPayloads":[{"provider":"fcm","payload":{"a":1},"usedOverride":false,"used_override":false}],"#,
                r#""rendered_payloads":[{"provider":"fcm","payload":{"a":1},"usedOverride":false,"used_override":false}]}"#
            )
        )
    );
    // Waited for.
    let mut it = bench();
    it.ask(PushRoute::Publish, "", "mode=sync", PUBLISH).unwrap();
    let outcome = Outcome {
        provider: Some(Provider::Fcm),
        fate: Fate::Accepted,
        attempts: 1,
        message_id: Some("m".into()),
        status: 200,
        reason: None,
        at: 6,
    };
    let mut told = published("p", State::Succeeded);
    if let Told::Published { outcomes, .. } = &mut told {
        *outcomes = Some(vec![("d".into(), outcome.clone()), ("#1".into(), outcome)]);
    }
    let (found, body) = it.tell(0, Ok(told)).unwrap();
    assert_eq!(found, 200);
    for part in [
        r#""counters":{"planned":1,"#,
        r#""outcomes":[{"deviceId":"d","device_id":"d","provider":"fcm","outcome":"accepted","attempts":1,"#,
        r#"{"target":1,"provider":"fcm""#,
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
    // There was nobody to send to.
    let mut it = bench();
    it.ask(PushRoute::Publish, "", "mode=sync", PUBLISH).unwrap();
    let mut told = published("p", State::Succeeded);
    if let Told::Published { outcomes, .. } = &mut told {
        *outcomes = Some(Vec::new());
    }
    let (found, body) = it.tell(0, Ok(told)).unwrap();
    assert_eq!(found, 200);
    assert!(body.contains(r#""outcomes":[]"#), "{body}");
    // It was not: the head says so.
    let mut it = bench();
    it.ask(PushRoute::Publish, "", "mode=sync", PUBLISH).unwrap();
    let mut told = published("p", State::Accepted);
    if let Told::Published { is_forced_async, .. } = &mut told {
        *is_forced_async = true;
    }
    let finding = Finding::Push(Box::new(Ok(told)));
    let response = it.pushing.as_mut().unwrap().found(Ticket(0), finding, &mut it.out).unwrap();
    assert_eq!(response.status, 202);
    let forced = response.headers.iter().find(|(name, _)| *name == "X-Sockudo-Forced-Async");
    assert_eq!(forced.unwrap().1, "publish-api-is-async");
}

#[test]
fn a_publish_for_later_is_answered_when_its_schedule_is_on_disk() {
    let due = || {
        let mut told = published("p", State::Accepted);
        if let Told::Published { due, .. } = &mut told {
            *due = Some(77);
        }
        Ok(told)
    };
    for is_kept in [true, false] {
        let mut it = bench();
        it.ask(PushRoute::Publish, "", "", PUBLISH).unwrap();
        it.order();
        assert_eq!(it.tell(0, due()), None);
        let Some(Output::Ask(ticket, Command::Schedule(asked))) = it.out.pop() else { panic!() };
        let Deferred::Push(channel, what) = &asked.what else { panic!() };
        assert_eq!((asked.at, &*channel.name), (UnixMillis(77), "#push:p"));
        let queued = Queued::Due { app: "1".into(), publish_id: "p".into() };
        assert_eq!(stored::decode(&what.0), Some(queued));
        let pushing = it.pushing.as_mut().unwrap();
        if is_kept {
            let reply = Reply::Scheduled(crate::base::event_id::EventId(5));
            let response = pushing.reply(ticket, reply, &mut it.out).unwrap();
            assert_eq!(response.status, 202);
            continue;
        }
        let reply = Reply::Refused(broker::Refusal::StoreFull);
        assert!(pushing.reply(ticket, reply, &mut it.out).is_none());
        assert!(matches!(it.order(), Order::Cancel(id) if id == "p"));
        let (found, body) = it.tell(0, Ok(Told::Cancelled(true))).unwrap();
        assert_eq!(found, 503);
        assert!(body.contains("it cannot be scheduled"), "{body}");
    }
}

#[test]
fn each_publish_of_a_batch_is_taken_or_refused_for_itself() {
    let batch = format!("[{PUBLISH},{PUBLISH},{PUBLISH}]");
    let limited = || Refused { retry_after: Some(1500), ..Refused::new(429, "rate_limited", "no") };
    let mut it = Bench { key: Some("k"), ..bench() };
    it.ask(PushRoute::Batch, "", "", &batch).unwrap();
    let keys = it.orders().into_iter().map(|order| match order {
        Order::Publish(intent) => intent.key,
        other => panic!("{other:?}"),
    });
    assert_eq!(keys.flatten().collect::<Vec<_>>(), ["k#0", "k#1", "k#2"]);
    assert_eq!(it.tell(2, Ok(published("c", State::Accepted))), None);
    assert_eq!(it.tell(0, Ok(published("a", State::Accepted))), None);
    let (found, body) = it.tell(1, Err(limited())).unwrap();
    assert_eq!(found, 202);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["items"][0]["publish_id"], "a");
    assert_eq!(body["items"][1]["code"], "rate_limited");
    assert_eq!(body["items"][2]["publishId"], "c");
    let mut it = bench();
    it.ask(PushRoute::Batch, "", "", &batch).unwrap();
    it.tell(0, Err(limited()));
    it.tell(1, Err(limited()));
    assert_eq!(it.tell(2, Err(Refused::invalid("x"))).unwrap().0, 429);
}

#[test]
fn what_is_called_off_is_gone_or_was_finished() {
    for (route, told, next, status) in [
        (PushRoute::Cancel, true, None, 204),
        (PushRoute::Cancel, false, Some(Err(Refused::unknown("no"))), 404),
        (PushRoute::Cancel, false, Some(Ok(State::Succeeded)), 409),
        (PushRoute::Cancel, false, Some(Ok(State::Cancelled)), 204),
        (PushRoute::CancelScheduled, true, None, 204),
        (PushRoute::CancelScheduled, false, None, 204),
    ] {
        let mut it = bench();
        it.ask(route, "p", "", "").unwrap();
        it.order();
        let mut answer = it.tell(0, Ok(Told::Cancelled(told)));
        if let Some(next) = next {
            assert_eq!(answer, None);
            assert!(matches!(it.order(), Order::Status(id) if id == "p"));
            answer = it.tell(0, next.map(|state| Told::Status(super::tests::status("p", state))));
        }
        let (found, body) = answer.unwrap();
        assert_eq!((found, body.is_empty()), (status, status == 204), "{route:?} {told}");
    }
}

#[test]
fn answers_say_what_was_done() {
    let device = registered(r#"{"id":"d","platform":"ios","provider_token":"aa","client_id":"u"}"#);
    let mut it = bench();
    it.ask(PushRoute::Register, "", "", r#"{"id":"d","platform":"ios","provider_token":"aa"}"#)
        .unwrap();
    let told = Told::Registered {
        change: Change::Inserted,
        device: Box::new(device),
        token_hash: "ff".into(),
        identity: Some("secret".into()),
        replaced: Some("e".into()),
    };
    let (found, body) = it.tell(0, Ok(told)).unwrap();
    assert_eq!(found, 201);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    for (name, value) in [
        ("change", "inserted"),
        ("tokenHash", "ff"),
        ("token_hash", "ff"),
        ("deviceIdentityToken", "secret"),
        ("device_identity_token", "secret"),
        ("replaced", "e"),
    ] {
        assert_eq!(body[name], value, "{name}");
    }
    let device = &body["device"];
    assert_eq!((&device["clientId"], &device["client_id"]), (&"u".into(), &"u".into()));
    assert_eq!(device["recipient"]["transportType"], "apns");
    assert!(!body.to_string().contains("\"aa\""), "an address is a secret");
    // A list says where it goes on, and is told so in its own cursor.
    let mut it = bench();
    it.ask(PushRoute::Channels, "", "limit=1", "").unwrap();
    it.order();
    let page = Page { rows: vec!["orders".to_owned()], next: Some(Bytes::from_static(b"at")) };
    let (_, body) = it.tell(0, Ok(Told::Channels(page))).unwrap();
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["items"][0], &body["has_more"]), (&"orders".into(), &true.into()));
    let cursor = body["next_cursor"].as_str().unwrap();
    let next = Bench::read(PushRoute::Channels, "", &format!("cursor={cursor}"), "");
    assert!(matches!(next, Order::Channels(PageOf { after: Some(at), .. }) if at == "at"));
    let (status, _) = refused(PushRoute::Templates, "", &format!("cursor={cursor}"), "");
    assert_eq!(status, 400, "it is another list's");
    // Nobody could be asked.
    let mut it = bench();
    it.ask(PushRoute::Channels, "", "", "").unwrap();
    let pushing = it.pushing.as_mut().unwrap();
    let response = pushing.found(Ticket(0), Finding::Unavailable, &mut it.out).unwrap();
    assert_eq!(response.status, 503);
    assert!(response.headers.iter().any(|(name, value)| *name == "Retry-After" && value == "1"));
}

#[test]
fn extras_of_events_become_publishes_to_their_channels() {
    let it = bench();
    let of = |extras: &str| {
        let extras = Payload(Bytes::copy_from_slice(extras.as_bytes()));
        of_extras(Some(&extras), &["a".into(), "b".into()], None, &it.app, it.terms)
    };
    let push = of(
        r#"{"headers":{},"push":{"title":"t","skip_connected":true,"expiresAtMs":9,"providerOverrides":{"fcm":{}}}}"#,
    );
    let Some(Queued::Publish { app, intent }) = stored::decode(&push.unwrap().unwrap().0) else {
        panic!("it is a publish")
    };
    assert_eq!(app, "1");
    assert_eq!(intent.targets, [Target::Channel("a".into()), Target::Channel("b".into())]);
    assert_eq!(intent.content.text.title.as_deref(), Some("t"));
    assert!(intent.skip_connected && intent.expires_at == Some(9));
    for nothing in ["{}", r#"{"push":null}"#, r#"{"ref":{"push":{}}}"#] {
        assert_eq!(of(nothing).unwrap(), None, "{nothing}");
    }
    for (wrong, part) in [
        (r#"{"push":[]}"#, "extras.push is not an object"),
        (r#"{"push":{}}"#, "says nothing"),
        (r#"{"push":{"title":1}}"#, "extras.push.title is not a string"),
    ] {
        let refusal = of(wrong).unwrap_err();
        assert!(refusal.status == 400 && refusal.text.contains(part), "{wrong}: {refusal:?}");
    }
}

#[test]
fn what_goes_with_an_event_has_a_key_of_its_own_if_the_event_has_one() {
    let it = bench();
    let extras = Payload(Bytes::from_static(br#"{"push":{"title":"t"}}"#));
    let key_of = |key: Option<&str>, channels: &[&str]| {
        let channels: Vec<Name> = channels.iter().map(|it| Name::from(*it)).collect();
        let key =
            key.map(|name| IdempotencyKey { name: name.into(), fingerprint: [0; 16], span: None });
        let push = of_extras(Some(&extras), &channels, key.as_ref(), &it.app, it.terms);
        let Some(Queued::Publish { intent, .. }) = stored::decode(&push.unwrap().unwrap().0) else {
            panic!("it is a publish")
        };
        (intent.key, intent.key_span)
    };
    assert_eq!(key_of(None, &["a"]), (None, None));
    let (key, span) = key_of(Some("k"), &["a", "b"]);
    assert_eq!(span, Some(120_000), "no longer than the event's");
    assert_eq!(key_of(Some("k"), &["a", "b"]).0, key);
    for (name, channels) in [("l", &["a", "b"][..]), ("k", &["a"]), ("k", &["ab"]), ("ka", &["b"])]
    {
        assert_ne!(key_of(Some(name), channels).0, key, "{name} {channels:?}");
    }
    // None that a publish of its own can have.
    let key = key.unwrap();
    assert!(crate::dialects::pusher::http::push::members::check_id(&key, 128).is_err());
}

#[test]
fn a_publish_passes_the_daily_bound_where_its_head_says_so() {
    let ask = |passes_quota| {
        let mut it = bench();
        it.head.passes_quota = passes_quota;
        it.ask(PushRoute::Publish, "", "", PUBLISH).unwrap();
        let Order::Publish(intent) = it.order() else { panic!("it is a publish") };
        *intent
    };
    let (without, with) = (ask(false), ask(true));
    assert!(with.passes_quota && !without.passes_quota);
    assert_eq!(with.fingerprint, without.fingerprint, "it is the same request all the same");
}
