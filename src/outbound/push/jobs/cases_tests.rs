//! One case each: what is accepted, what is refused and how, what becomes of what is sent.

use super::tests::{APP, World, channel, fcm, ids, intent, put, settings};
use super::*;
use crate::config::push::Logging;
use crate::outbound::push::provider::Verdict;
use crate::push::device::{DeviceRate, DeviceState, Recipient};
use crate::push::publish::{Content, Fate, Intent, State, Target};
use crate::push::template::{Template, Text};

fn world(count: usize) -> World {
    let mut world = World::new(settings(), 5);
    for id in ids(0, count) {
        world.device(&id, Some(&format!("client-{id}")), fcm(&id));
    }
    world.subscribe("news", &ids(0, count));
    world
}

fn named(id: &str) -> Intent {
    Intent { id: Some(id.into()), ..intent(vec![channel("news")]) }
}

fn refused(world: &mut World, intent: Intent) -> (u16, &'static str) {
    let caller = world.publish(intent);
    match &world.told[&caller] {
        Err(refused) => (refused.status, refused.code),
        Ok(told) => panic!("{told:?}"),
    }
}

fn state(world: &mut World, id: &str) -> State {
    world.progress(id).expect("a publish").state
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let mut world = world(1);
    let long = |bytes: usize| Some("x".repeat(bytes));
    let with = |content: Content| Intent { content, ..named("p") };
    let text = |text: Text| with(Content { text, ..Content::default() });
    let title = super::tests::text("t");
    for (asked, status) in [
        (Intent { targets: vec![], ..named("p") }, 400),
        (Intent { targets: vec![channel("news"); 1025], ..named("p") }, 400),
        (Intent { expires_at: Some(world.now.wall.0), ..named("p") }, 400),
        (with(Content::default()), 400),
        (text(Text { title: long(257), ..Text::default() }), 413),
        (text(Text { body: long(4097), ..Text::default() }), 413),
        (text(Text { icon: Some("http://a/".into()), ..Text::default() }), 400),
        (with(Content { data: "[1]".into(), ..title.clone() }), 400),
        (
            with(Content { data: format!(r#"{{"a":"{}"}}"#, "x".repeat(5000)), ..title.clone() }),
            413,
        ),
        (with(Content { template_id: Some("none".into()), ..title.clone() }), 400),
        (
            with(Content {
                overrides: vec![(crate::push::Provider::Wns, "x".repeat(4097))],
                ..title
            }),
            413,
        ),
    ] {
        let shown = format!("{asked:?}");
        let (is, _) = refused(&mut world, asked);
        assert_eq!(is, status, "{}", &shown[..shown.len().min(300)]);
    }
    assert_eq!(world.progress("p"), None);
}

#[test]
fn without_credentials_nothing_is_accepted() {
    let mut world = World::new(PushSettings { log: Logging::Off, ..settings() }, 1);
    assert_eq!(refused(&mut world, named("p")), (503, "service_unavailable"));
    let named = Intent { credential_id: Some("mine".into()), ..named("p") };
    assert_eq!(refused(&mut world, named), (404, "not_found"));
    let target = Target::Direct(Recipient::Realtime { channel: "c".into() });
    world.publish(Intent { id: Some("r".into()), ..intent(vec![target]) });
    world.finish();
    assert_eq!(state(&mut world, "r"), State::Succeeded);
}

#[test]
fn the_same_again_is_told_the_same_and_another_is_a_conflict() {
    let mut world = world(3);
    let first = Intent { key: Some("k".into()), ..intent(vec![channel("news")]) };
    let caller = world.publish(first.clone());
    let Ok(Told::Published { status, .. }) = world.told[&caller].clone() else { panic!() };
    for _ in 0..2 {
        let again = world.publish(first.clone());
        let Ok(Told::Published { status: same, is_repeated: true, .. }) = &world.told[&again]
        else {
            panic!("{:?}", world.told[&again]);
        };
        assert_eq!(same.id, status.id);
        world.finish();
        world.crash();
        world.settle();
    }
    let other = Intent { fingerprint: [8; 16], ..first.clone() };
    assert_eq!(refused(&mut world, other), (409, "conflict"));
    let other = Intent { id: Some(status.id.clone()), key: None, fingerprint: [8; 16], ..first };
    assert_eq!(refused(&mut world, other), (409, "conflict"));
    assert_eq!(world.outcomes(&status.id).len(), 3);
}

#[test]
fn what_goes_with_an_event_goes_once_within_the_span_of_its_key() {
    let mut world = world(2);
    let asked = Intent {
        key: Some("\u{1}e".into()),
        key_span: Some(120_000),
        ..intent(vec![channel("news")])
    };
    let come = |world: &mut World| {
        let intent = Box::new(asked.clone());
        world.queue(Queued::Publish { app: APP.into(), intent });
        world.settle();
        let count = world.parcels.len();
        world.finish();
        count
    };
    assert_eq!(come(&mut world), 2);
    world.crash();
    assert_eq!(come(&mut world), 0, "it is known after a crash");
    world.pass(120_000);
    assert_eq!(come(&mut world), 2, "the event is another one then");
    assert!(world.values(Shelf::PushQueue, b"").is_empty());
}

#[test]
fn a_rate_is_kept() {
    let settings = PushSettings { publishes_per_second_max: 2, ..settings() };
    let mut world = World::new(settings, 1);
    world.publish(named("a"));
    world.publish(named("b"));
    let caller = world.publish(named("c"));
    let Err(refused) = &world.told[&caller] else { panic!() };
    assert_eq!(refused.status, 429);
    let pause = refused.retry_after.expect("when to come again");
    world.pass(pause);
    let caller = world.publish(named("c"));
    assert!(world.told[&caller].is_ok());
}

#[test]
fn so_many_are_open_and_one_more_is_sent_away() {
    let settings = PushSettings { publishes_open_max: 1, ..settings() };
    let mut world = World::new(settings, 1);
    world.device("d000", None, fcm("d000"));
    let to =
        |id: &str| Intent { id: Some(id.into()), ..intent(vec![Target::Device("d000".into())]) };
    world.publish(to("a"));
    let caller = world.publish(to("b"));
    let refused = world.told[&caller].clone().unwrap_err();
    assert_eq!((refused.status, refused.code), (429, "too_many_publishes"));
    assert!(refused.retry_after.is_some());
    world.finish();
    let caller = world.publish(to("b"));
    assert!(world.told[&caller].is_ok());
}

#[test]
fn who_waits_is_told_what_came_of_each_device() {
    let mut world = world(3);
    let caller = world.publish(Intent { is_sync: true, ..named("p") });
    assert!(!world.told.contains_key(&caller));
    world.answer(0, Verdict::Refused, None);
    world.finish();
    let came = |world: &World, caller| match &world.told[&caller] {
        Ok(Told::Published {
            status, outcomes: Some(outcomes), is_forced_async: false, ..
        }) => (status.state, outcomes.len()),
        told => panic!("{told:?}"),
    };
    assert_eq!(came(&world, caller), (State::PartiallySucceeded, 3));
    let to_nobody = intent(vec![channel("nobody")]);
    let caller = world.publish(Intent { is_sync: true, ..to_nobody });
    world.finish();
    assert_eq!(came(&world, caller), (State::Succeeded, 0));
    let caller = world.publish(Intent { is_sync: true, ..named("q") });
    world.pass(5_000);
    let Ok(Told::Published { is_forced_async: true, .. }) = &world.told[&caller] else { panic!() };
}

#[test]
fn a_publish_is_called_off_half_way() {
    let mut world = world(100);
    world.publish(named("p"));
    for _ in 0..5 {
        world.answer(0, Verdict::Taken, None);
    }
    let caller = world.order(Order::Cancel("p".into()));
    world.settle();
    assert_eq!(world.told[&caller], Ok(Told::Cancelled(true)));
    assert_eq!(state(&mut world, "p"), State::Cancelled);
    let under_way = world.parcels.len();
    world.finish();
    assert_eq!(world.outcomes("p").len(), 5 + under_way);
    assert_eq!(world.progress("p").unwrap().counters.planned, 5 + under_way as u64);
    world.crash();
    world.settle();
    assert!(world.parcels.is_empty());
    let caller = world.order(Order::Cancel("p".into()));
    world.settle();
    assert_eq!(world.told[&caller], Ok(Told::Cancelled(false)));
}

#[test]
fn one_for_later_waits_and_can_be_called_off() {
    let mut world = world(3);
    let at = world.now.wall.0 + 60_000;
    for id in ["p", "q"] {
        let caller = world.publish(Intent { not_before: Some(at), ..named(id) });
        let Ok(Told::Published { due, .. }) = &world.told[&caller] else { panic!() };
        assert_eq!(*due, Some(at));
    }
    let caller = world.order(Order::Cancel("q".into()));
    world.settle();
    assert_eq!(world.told[&caller], Ok(Told::Cancelled(true)));
    world.crash();
    world.pass(60_000);
    world.settle();
    assert!(world.parcels.is_empty(), "nobody said that its time has come");
    for id in ["p", "q", "unknown"] {
        world.queue(Queued::Due { app: APP.into(), publish_id: id.into() });
    }
    world.finish();
    assert_eq!(world.outcomes("p").len(), 3);
    assert_eq!(world.outcomes("q").len(), 0);
    assert!(world.values(Shelf::PushQueue, b"").is_empty());
}

#[test]
fn a_provider_that_asks_for_a_pause_gets_it() {
    let mut world = world(30);
    world.publish(named("p"));
    assert_eq!(world.parcels.len(), 6);
    for _ in 0..6 {
        world.answer(0, Verdict::Throttled, Some(3_000));
    }
    world.settle();
    assert!(world.parcels.is_empty());
    let caller = world.order(Order::Status("p".into()));
    let Ok(Told::Status(status)) = &world.told[&caller] else { panic!() };
    assert_eq!(status.state, State::Throttled);
    assert!(status.retry_after.is_some_and(|it| (2_000..=3_000).contains(&it)));
    world.pass(3_000);
    world.settle();
    assert_eq!(world.parcels.len(), 1, "one goes first");
    world.answer(0, Verdict::Taken, None);
    world.settle();
    assert_eq!(world.parcels.len(), 6);
    world.finish();
    let outcomes = world.outcomes("p");
    assert!(outcomes.values().all(|it| it.fate == Fate::Accepted && it.attempts == 1));
}

#[test]
fn who_fails_is_tried_again_and_given_up_and_tried_again_on_request() {
    let mut world = world(1);
    world.publish(named("p"));
    for _ in 0..3 {
        assert_eq!(world.parcels.len(), 1);
        world.answer(0, Verdict::Unavailable, Some(2_000));
        world.settle();
        assert!(world.parcels.is_empty());
        world.pass(2_000);
        world.settle();
    }
    assert_eq!(state(&mut world, "p"), State::DeadLettered);
    let outcomes = world.outcomes("p");
    assert_eq!((outcomes["d000"].fate, outcomes["d000"].attempts), (Fate::DeadLettered, 3));
    let page = crate::push::order::PageOf { after: None, rows_max: 10 };
    let list = Order::DeadLetters { provider: None, since: None, until: None, page };
    let caller = world.order(list.clone());
    world.settle();
    let Ok(Told::DeadLetters(page)) = &world.told[&caller] else { panic!() };
    assert_eq!((page.rows[0].0, &*page.rows[0].1.key), (1, "d000"));
    world.crash();
    world.settle();
    let caller = world.order(Order::Replay(1));
    world.settle();
    assert_eq!(world.told[&caller], Ok(Told::Replayed(true)));
    world.crash();
    world.settle();
    world.finish();
    assert_eq!(world.outcomes("p")["d000"].fate, Fate::Accepted);
    assert_eq!(state(&mut world, "p"), State::Succeeded);
    let caller = world.order(list);
    world.settle();
    let Ok(Told::DeadLetters(page)) = &world.told[&caller] else { panic!() };
    assert!(page.rows.is_empty());
    let caller = world.order(Order::Replay(1));
    world.settle();
    assert_eq!(world.told[&caller].as_ref().unwrap_err().status, 404);
}

#[test]
fn credentials_that_are_no_good_hold_nothing_for_ever() {
    let mut world = world(40);
    world.publish(named("p"));
    for _ in 0..100_000 {
        match world.parcels.is_empty() {
            false => world.answer(0, Verdict::Unauthorized, None),
            true if state(&mut world, "p").is_final() => break,
            true => {
                let due = world.push.due(world.now).expect("something is waited for");
                world.pass(due.since(world.now.steady).as_millis() as u64 + 1);
            }
        }
        world.settle();
    }
    assert_eq!(state(&mut world, "p"), State::DeadLettered);
    assert_eq!(world.outcomes("p").len(), 40);
    assert_eq!(world.values(Shelf::Push, &[keys::DEAD]).len(), 20, "the oldest went");
}

#[test]
fn what_is_too_late_is_not_sent() {
    let mut world = world(100);
    let expires_at = Some(world.now.wall.0 + 1_000);
    world.publish(Intent { expires_at, ..named("p") });
    world.answer(0, Verdict::Taken, None);
    world.pass(1_000);
    world.settle();
    world.finish();
    let fates: Vec<_> = world.outcomes("p").values().map(|it| it.fate).collect();
    assert!(fates.contains(&Fate::Accepted) && fates.contains(&Fate::Expired));
    assert_eq!(state(&mut world, "p"), State::PartiallySucceeded);
}

#[test]
fn who_is_connected_or_failed_or_had_too_many_is_left_out() {
    let mut world = world(4);
    world.connected.insert("client-d001".into());
    let mut device = crate::push::stored::decode::<crate::push::device::Device>(
        &world.values(Shelf::Push, &keys::key(keys::DEVICE, APP, &[b"d002"], true))[0].1,
    )
    .unwrap();
    device.state = DeviceState::Failed;
    world.put_device(&device);
    (device.id, device.state) = ("d003".into(), DeviceState::Active);
    device.rate = Some(DeviceRate { capacity: 1, refill_per_second: 1 });
    world.put_device(&device);
    let asked = |id| Intent { skip_connected: true, ..named(id) };
    for id in ["p", "q"] {
        world.publish(asked(id));
        world.finish();
    }
    let outcomes = world.outcomes("p");
    assert_eq!(outcomes["d000"].fate, Fate::Accepted);
    assert_eq!(outcomes["d001"].fate, Fate::Connected);
    assert_eq!(outcomes["d002"].reason.as_deref(), Some("device_failed"));
    assert_eq!(outcomes["d003"].fate, Fate::Accepted);
    assert_eq!(world.outcomes("q")["d003"].reason.as_deref(), Some("device_rate"));
    assert_eq!(state(&mut world, "p"), State::Succeeded);
}

fn device(world: &mut World, id: &str) -> Option<crate::push::device::Device> {
    let key = keys::key(keys::DEVICE, APP, &[id.as_bytes()], true);
    let values = world.values(Shelf::Push, &key);
    values.first().and_then(|it| crate::push::stored::decode(&it.1))
}

#[test]
fn an_address_that_is_none_for_these_credentials_counts_and_stays_registered() {
    let mut world = world(1);
    for n in 1..=settings().failures_max {
        let id = format!("p{n}");
        world.publish(named(&id));
        world.answer(0, Verdict::Unfit, None);
        world.finish();
        assert_eq!(world.outcomes(&id)["d000"].fate, Fate::Failed);
        let device = device(&mut world, "d000").expect("it is registered still");
        assert_eq!(device.failures, n);
        let is_last = n == settings().failures_max;
        assert_eq!(device.state == DeviceState::Failed, is_last, "{n}");
    }
    world.publish(named("q"));
    assert!(world.parcels.is_empty());
    world.finish();
    assert_eq!(world.outcomes("q")["d000"].reason.as_deref(), Some("device_failed"));
}

#[test]
fn who_registered_after_its_provider_saw_it_go_is_there() {
    let mut world = world(2);
    for id in ids(0, 2) {
        let mut device = device(&mut world, &id).expect("it is registered");
        device.updated_at = 1_000;
        world.put_device(&device);
    }
    world.publish(named("p"));
    for gone_at in [1_000, 1_001] {
        let (number, _) = world.parcels.remove(0);
        let gone = Delivered::not(Verdict::Gone, "Unregistered").with_status(410);
        let gone = Delivered { gone_at: Some(gone_at), ..gone };
        world.with(|push, now, out| push.delivered(number, gone, now, out));
    }
    world.finish();
    let outcomes = world.outcomes("p");
    assert_eq!((outcomes["d000"].fate, outcomes["d001"].fate), (Fate::Failed, Fate::Gone));
    assert_eq!(device(&mut world, "d000").map(|it| it.state), Some(DeviceState::Failing));
    assert_eq!(device(&mut world, "d001"), None);
}

#[test]
fn a_device_that_nobody_registered_is_told_of() {
    let mut world = world(1);
    let device = |id: &str| Target::Device(id.into());
    for (id, targets, is) in [
        ("p", vec![device("nobody")], State::Failed),
        ("q", vec![device("nobody"), device("d000")], State::PartiallySucceeded),
    ] {
        world.publish(Intent { id: Some(id.into()), ..intent(targets) });
        world.finish();
        let outcome = world.outcomes(id)["nobody"].clone();
        assert_eq!((outcome.fate, outcome.provider, outcome.attempts), (Fate::Failed, None, 0));
        assert_eq!(outcome.reason.as_deref(), Some("not_registered"));
        assert_eq!(state(&mut world, id), is);
    }
    // One that an index names and that is no more is none.
    world.subscribe("news", &["d000".to_owned(), "gone".to_owned()]);
    world.publish(named("r"));
    world.finish();
    assert_eq!(world.outcomes("r").len(), 1);
    assert_eq!(state(&mut world, "r"), State::Succeeded);
}

#[test]
fn the_overview_shows_what_waits_for_its_time_too() {
    let mut world = world(1);
    let at = world.now.wall.0 + 60_000;
    for n in 0..30 {
        world.publish(Intent { not_before: Some(at), ..named(&format!("later{n:02}")) });
    }
    world.publish(named("done"));
    world.finish();
    world.publish(named("now"));
    let caller = world.order(Order::Overview);
    world.settle();
    let Ok(Told::Overview(overview)) = &world.told[&caller] else { panic!() };
    let shown: Vec<_> =
        overview.publishes.iter().map(|it| (&*it.status.id, it.status.state)).collect();
    assert_eq!(shown.len(), 27, "{shown:?}");
    assert_eq!(shown[0], ("now", State::Dispatching));
    assert_eq!(shown[1], ("later00", State::Accepted));
    assert_eq!(shown[26], ("done", State::Succeeded));
    assert_eq!(overview.publishes[1].status.not_before, Some(at));
    // Where the store does not answer, the rest is shown.
    world.pass(60_000);
    let caller = world.order(Order::Overview);
    world.with(|push, now, out| {
        let tags: Vec<u64> = push.jobs.asks.keys().copied().collect();
        for tag in tags {
            push.answered(
                TAG_JOBS | tag,
                Answer::Fault(crate::store::Fault::Unavailable),
                now,
                out,
            );
        }
    });
    let Ok(Told::Overview(overview)) = &world.told[&caller] else { panic!() };
    assert_eq!(overview.publishes.len(), 2);
}

#[test]
fn what_is_tried_again_was_handed_out() {
    let mut world = world(1);
    world.publish(named("p"));
    world.answer(0, Verdict::Unavailable, Some(2_000));
    world.settle();
    assert!(world.parcels.is_empty());
    let caller = world.order(Order::Status("p".into()));
    let Ok(Told::Status(status)) = &world.told[&caller] else { panic!() };
    assert_eq!((status.state, status.counters.retry_scheduled), (State::Dispatching, 1));
}

#[test]
fn what_came_from_the_queue_and_cannot_be_accepted_fails_as_others_do() {
    let mut world = world(1);
    let none = Content { template_id: Some("none".into()), ..Content::default() };
    let large = super::tests::text(&"x".repeat(300));
    for (n, content) in [none, large].into_iter().enumerate() {
        let id = format!("p{n}");
        let intent = Box::new(Intent { content, ..named(&id) });
        world.queue(Queued::Publish { app: APP.into(), intent });
        world.finish();
        let progress = world.progress(&id).expect("it is on record");
        assert!(progress.state == State::Failed && progress.error_reason.is_some());
        let finished = &world.counts.finished[State::Failed as usize];
        assert_eq!(finished.load(Ordering::Relaxed), n as u64 + 1);
        let reports = world.values(Shelf::Outbox, b"");
        assert_eq!(reports.len(), n + 1);
        let is_said =
            |it: &Note| matches!(it, Note::Finished(_, of, State::Failed, 0, 0, None) if *of == id);
        assert!(world.notes.iter().any(is_said));
        let is_dropped =
            |it: &Note| matches!(it, Note::NotAccepted(_, of, why) if *of == id && !why.is_empty());
        assert!(world.notes.iter().any(is_dropped));
    }
    assert!(world.values(Shelf::PushQueue, b"").is_empty());
}

#[test]
fn a_daily_bound_is_kept_across_a_crash() {
    let settings = PushSettings { deliveries_per_day_max: 5, ..settings() };
    let mut world = World::new(settings, 1);
    for id in ids(0, 4) {
        world.device(&id, None, fcm(&id));
    }
    world.subscribe("news", &ids(0, 4));
    world.publish(named("p"));
    world.finish();
    assert_eq!(state(&mut world, "p"), State::Succeeded);
    world.crash();
    world.settle();
    world.publish(named("q"));
    world.finish();
    assert_eq!(state(&mut world, "q"), State::QuotaExceeded);
    assert_eq!(world.outcomes("q").len(), 1);
    // One that is more important than the bound.
    world.publish(Intent { passes_quota: true, ..named("s") });
    world.finish();
    assert_eq!((state(&mut world, "s"), world.outcomes("s").len()), (State::Succeeded, 4));
    world.pass(86_400_000);
    world.publish(named("r"));
    world.finish();
    assert_eq!(state(&mut world, "r"), State::Succeeded);
}

#[test]
fn a_callback_changes_what_came_of_a_device() {
    let mut world = world(2);
    world.publish(named("p"));
    world.finish();
    let say = |world: &mut World, key: &str, fate| {
        let (publish_id, key) = ("p".to_owned(), key.to_owned());
        let order = Order::Feedback { publish_id, key, fate, message_id: None, reason: None };
        let caller = world.order(order);
        world.settle();
        world.told[&caller].clone()
    };
    assert_eq!(say(&mut world, "d000", Fate::Delivered), Ok(Told::Done));
    assert_eq!(say(&mut world, "d000", Fate::Accepted), Ok(Told::Done));
    assert_eq!(say(&mut world, "d001", Fate::Gone), Ok(Told::Done));
    assert_eq!(say(&mut world, "d009", Fate::Gone).unwrap_err().status, 404);
    let outcomes = world.outcomes("p");
    assert_eq!((outcomes["d000"].fate, outcomes["d001"].fate), (Fate::Delivered, Fate::Gone));
    let counters = world.progress("p").unwrap().counters;
    assert_eq!((counters.succeeded, counters.failed), (1, 1));
}

#[test]
fn a_template_is_kept_as_it_was_when_the_publish_was_accepted() {
    let mut world = world(1);
    let text = |title: &str| Text { title: Some(title.into()), ..Text::default() };
    let template = |title: &str| Template {
        id: "t".into(),
        default_locale: "en".into(),
        locales: vec![("de".into(), text("Hallo {{name}}")), ("en".into(), text(title))],
        overrides: Vec::new(),
        updated_at: 0,
    };
    let key = keys::key(keys::TEMPLATE, APP, &[b"t"], true);
    world.change(vec![put(key.clone(), &template("Hello {{name}}"))]);
    let asked = |id: &str, data: &str| Intent {
        content: Content {
            template_id: Some("t".into()),
            template_data: data.into(),
            ..Content::default()
        },
        ..named(id)
    };
    assert_eq!(refused(&mut world, asked("p", "{}")), (400, "invalid_input"));
    let at = world.now.wall.0 + 1_000;
    world.publish(Intent { not_before: Some(at), ..asked("p", r#"{"name":"Ann"}"#) });
    world.change(vec![put(key, &template("Bye"))]);
    world.pass(1_000);
    world.queue(Queued::Due { app: APP.into(), publish_id: "p".into() });
    world.settle();
    assert_eq!(world.parcels[0].1.message.text.title.as_deref(), Some("Hello Ann"));
}

#[test]
fn a_store_without_room_loses_nothing() {
    let mut world = world(40);
    world.publish(named("p"));
    world.is_full = true;
    for _ in 0..20 {
        if !world.parcels.is_empty() {
            world.answer(0, Verdict::Taken, None);
        }
        world.settle();
    }
    assert!(world.parcels.len() <= 8 && world.outcomes("p").is_empty());
    let caller = world.publish(named("q"));
    assert_eq!(world.told[&caller].as_ref().unwrap_err().status, 503);
    world.is_full = false;
    world.pass(1_000);
    world.finish();
    assert_eq!(world.outcomes("p").len(), 40);
}

#[test]
fn a_crowd_of_one_provider_does_not_hold_up_another() {
    let mut world = world(200);
    world.publish(named("p"));
    for _ in 0..6 {
        world.answer(0, Verdict::Throttled, Some(500_000));
    }
    world.settle();
    for n in 0..50 {
        let target = Target::Direct(Recipient::Wns { uri: format!("https://w.example/{n}") });
        let id = Some(format!("q{n}"));
        world.publish(Intent { id, ..intent(vec![target]) });
        assert_eq!(world.parcels.len(), 1, "{n}");
        world.answer(0, Verdict::Taken, None);
        world.settle();
    }
    world.pass(500_000);
    world.finish();
    assert_eq!(world.outcomes("p").len(), 200);
}

#[test]
fn who_waits_for_long_keeps_nobody_else_waiting() {
    let mut world = world(200);
    world.publish(named("p"));
    // More of them are to be tried again later than there is room for in memory.
    let mut failed = 0;
    while !world.parcels.is_empty() {
        world.answer(0, Verdict::Unavailable, Some(300_000));
        world.settle();
        failed += 1;
    }
    assert!(failed > 32, "{failed} were tried");
    let target = Target::Direct(Recipient::Wns { uri: "https://w.example/".into() });
    world.publish(Intent { id: Some("q".into()), ..intent(vec![target]) });
    assert_eq!(world.parcels.len(), 1);
    world.answer(0, Verdict::Taken, None);
    world.settle();
    assert_eq!(state(&mut world, "q"), State::Succeeded);
    world.pass(300_000);
    world.finish();
    let outcomes = world.outcomes("p");
    assert_eq!(outcomes.len(), 200);
    assert!(outcomes.values().all(|it| it.fate == Fate::Accepted));
    assert!(outcomes.values().any(|it| it.attempts == 2));
}

#[test]
fn a_publish_is_at_most_a_hundred_years_ahead() {
    let mut world = world(1);
    let now = world.now.wall.0;
    let caller =
        world.publish(Intent { not_before: Some(now + 36_525 * 86_400_000), ..named("p") });
    world.settle();
    assert!(world.told[&caller].is_ok());
    let caller = world.publish(Intent { not_before: Some(now * 1000), ..named("q") });
    world.settle();
    let refused = world.told[&caller].clone().unwrap_err();
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("notBeforeMs") && refused.text.contains("milliseconds"));
}

#[test]
fn credentials_that_cannot_be_opened_are_waited_for_and_end_as_dead_letters() {
    use crate::outbound::push::seal::Key;
    use crate::push::Provider;
    use crate::push::credential::{CredentialFacts, Material};
    let set = PushSettings { log: Logging::Auto, is_development: true, ..settings() };
    let mut world = World::new(set, 1);
    world.finish();
    world.device("d0", None, super::tests::fcm("d0"));
    let facts = CredentialFacts {
        provider: Provider::Fcm,
        id: "default".into(),
        version: 1,
        updated_at: 0,
    };
    let material = Material::Fcm { service_account: "{}".into() };
    let sealed = Key::parse(&"k".repeat(32)).unwrap().seal(APP, facts, &material, [0; 12]).unwrap();
    let key = keys::key(keys::CREDENTIAL, APP, &[&[Provider::Fcm as u8], b"default"], true);
    assert!(world.change(vec![put(key, &sealed)]));
    world.crash();
    world.finish();
    let intent = Box::new(Intent { targets: vec![Target::Device("d0".into())], ..named("p") });
    world.queue(Queued::Publish { app: APP.into(), intent });
    world.settle();
    assert!(world.parcels.is_empty(), "nothing is logged in place of being sent");
    assert!(world.outcomes("p").is_empty(), "it is waited for");
    for _ in 0..5 {
        world.pass(60_001);
        world.settle();
    }
    let outcome = world.outcomes("p").remove("d0").expect("it is given up");
    assert_eq!(outcome.fate, Fate::DeadLettered);
    assert_eq!(outcome.reason.as_deref(), Some("credentials_sealed"));
    let refused = Intent { targets: vec![Target::Direct(super::tests::fcm("x"))], ..named("r") };
    let caller = world.publish(refused);
    world.settle();
    // Others would be logged; these are sealed.
    let refused = world.told[&caller].clone().unwrap_err();
    assert!(refused.status == 503 && refused.text.contains("push.encryption_key"), "{refused:?}");
}
