use super::super::port::{ARRIVALS_MAX, Arrivals, Findings};
use super::super::{INQUIRIES_MAX, mpsc as mail_of};
use super::*;
use crate::broker::slots::Slots;
use crate::config::Config;
use crate::outbound::push::provider::Address;
use crate::reactor::Driver;
use crate::reactor::sim::{Faults, World as Machine};
use crate::store::port::NoStore;

const SHARDS: u16 = 4;
const NOW: Now = Now { steady: Nanos(1_000_000_000), wall: crate::base::time::UnixMillis(1 << 40) };

struct World {
    post: Post,
    arrivals: Vec<Arc<Arrivals>>,
    mail: mail_of::Receiver<Mail>,
    slots: Arc<Slots>,
}

fn world() -> World {
    let arrivals: Vec<Arc<Arrivals>> = (0..SHARDS).map(|_| Arc::default()).collect();
    let slots = Arc::new(Slots::new(SHARDS, [1, 2]));
    let (out, mail) = mail_of::channel(64);
    let machine = Machine::new(1, Faults::none());
    let doorbells = (0..SHARDS).map(|_| super::super::Doorbell {
        parking: crate::base::mailbox::Parking::new(),
        waker: machine.driver(0).waker(),
    });
    let ways = Ways {
        findings: (0..SHARDS).map(|_| Arc::new(Findings::new(INQUIRIES_MAX))).collect(),
        doorbells: Arc::new(doorbells.collect()),
    };
    let posting = Posting {
        settings: Arc::new(PushSettings::of(&Config::development())),
        keeper: Box::<NoStore>::default(),
        health: Arc::default(),
        counts: Arc::default(),
        wants: Arc::new(|_, _| false),
        apps: HashMap::from([("a".to_owned(), AppIndex(0))]),
        client_channels: Box::new(|client| {
            vec![Name::from(&*format!("one-{client}")), Name::from(&*format!("two-{client}"))]
        }),
    };
    let homes = Homes::new(slots.clone(), &arrivals);
    let post = Post::new(posting, homes, out, ways).expect("a thread");
    World { post, arrivals, mail, slots }
}

fn parcel(app: &str, channel: &str) -> Box<Parcel> {
    Box::new(Parcel {
        app: app.into(),
        publish_id: "p".into(),
        provider: crate::push::Provider::Realtime,
        credential: None,
        address: Address::Recipient(Recipient::Realtime { channel: channel.into() }),
        message: Arc::default(),
        expires_at: None,
        is_logged: false,
    })
}

#[test]
fn shards_are_asked_who_is_connected_and_one_that_says_nothing_is_not_waited_for() {
    let World { mut post, arrivals, slots, .. } = world();
    let clients: Vec<_> = (0..20).map(|it| it.to_string()).collect();
    let looking = Looking { app: "a".into(), clients };
    post.steps.push(Step::Look(7, looking));
    post.do_steps(NOW);
    let mut asked = Vec::new();
    for (shard, arrivals) in arrivals.iter().enumerate() {
        let Some(Arrival::Look(7, channels)) = arrivals.queue.pop() else { panic!("a question") };
        assert!(arrivals.queue.is_empty(), "one question for each home");
        assert!(channels.iter().all(|it| slots.home_of(it).index() == shard));
        asked.push(channels);
    }
    assert_eq!(asked.iter().map(Vec::len).sum::<usize>(), 40);
    for (shard, channels) in asked.iter().enumerate().take(3) {
        let are_occupied: Vec<_> =
            channels.iter().map(|it| matches!(&*it.name, "one-3" | "two-5")).collect();
        post.looked(shard, 7, &are_occupied, NOW);
        // Another time is once too often, and does no harm.
        post.looked(shard, 7, &are_occupied, NOW);
    }
    let look = &post.looks[&7];
    let found: Vec<_> = (0..20).filter(|it| look.are_there[*it]).collect();
    let expected: Vec<_> = [(3, "one-3"), (5, "two-5")]
        .into_iter()
        .filter(|(_, name)| !asked[3].iter().any(|it| &*it.name == *name))
        .map(|(client, _)| client)
        .collect();
    assert_eq!(found, expected);
    assert!(post.wait(NOW.steady) <= Duration::from_millis(LOOK_MAX.0));
    let late = Now { steady: NOW.steady + LOOK_MAX, ..NOW };
    post.work(late);
    assert!(post.looks.is_empty(), "whoever was not found is sent what there is to be sent");
    post.looked(3, 7, &[true], late);
}

#[test]
fn nobody_of_an_unknown_app_is_connected() {
    let World { mut post, arrivals, .. } = world();
    post.steps.push(Step::Look(1, Looking { app: "b".into(), clients: vec!["c".into()] }));
    post.do_steps(NOW);
    assert!(post.looks.is_empty());
    assert!(arrivals.iter().all(|it| it.queue.is_empty()));
}

#[test]
fn parcels_for_channels_here_are_taken_when_their_homes_have_room() {
    let World { mut post, arrivals, slots, .. } = world();
    let channel = Channel { app: AppIndex(0), name: Name::from("c") };
    let home = &arrivals[slots.home_of(&channel).index()];
    let parcels = ARRIVALS_MAX as u64 + 10;
    for number in 0..parcels {
        post.steps.push(Step::Deliver(number, parcel("a", "c")));
    }
    post.steps.push(Step::Deliver(parcels, parcel("b", "c")));
    post.do_steps(NOW);
    assert_eq!(post.in_flight, parcels + 1);
    post.work(NOW);
    assert_eq!(post.in_flight, parcels + 1, "its home is full");
    let Some(Arrival::Publish(first)) = home.queue.pop() else { panic!("an event") };
    assert_eq!((&*first.channel.name, &*first.name), ("c", EVENT));
    while home.queue.pop().is_some() {}
    let turns = (parcels + 1).div_ceil(TAKEN_PER_TURN as u64);
    for turn in 1..=turns {
        post.work(NOW);
        let left = (parcels + 1).saturating_sub(turn * TAKEN_PER_TURN as u64);
        assert_eq!(post.in_flight, left, "others have a turn in between");
        assert_eq!(post.is_ready(NOW.steady), left > 0);
    }
    assert_eq!(home.queue.len(), 10);
}

#[test]
fn what_is_said_to_a_socket_is_one_json_object() {
    let text = |title: &str, body: &str| crate::push::template::Text {
        title: Some(title.into()),
        body: Some(body.into()),
        ..Default::default()
    };
    for (message, expected) in [
        (Message::default(), r#"{"publish_id":"p\""}"#),
        (
            Message { text: text("a\"", "b"), data: r#"{"c":1}"#.into(), ..Message::default() },
            r#"{"publish_id":"p\"","title":"a\"","body":"b","data":{"c":1}}"#,
        ),
        (
            Message { text: text("a", "b"), raw: r#"{"d":1}"#.into(), ..Message::default() },
            r#"{"d":1}"#,
        ),
    ] {
        assert_eq!(event("p\"", &message), expected);
    }
}

#[test]
fn a_task_that_fails_is_heard_of() {
    let World { post, mut mail, .. } = world();
    let promise = Promise { out: post.out.clone(), number: 9, is_kept: false };
    drop(promise);
    let Ok(Mail::Delivered(9, delivered)) = mail.try_recv() else { panic!("what came of it") };
    assert_eq!(delivered.verdict, Verdict::Unavailable);
    drop(Promise { out: post.out.clone(), number: 10, is_kept: true });
    assert!(mail.try_recv().is_err());
}

#[test]
fn at_the_end_nothing_new_is_sent_and_what_is_under_way_is_waited_for() {
    let World { mut post, mut mail, .. } = world();
    post.steps.push(Step::Deliver(1, parcel("a", "c")));
    post.do_steps(NOW);
    let (sender, stopped) = std::sync::mpsc::sync_channel(1);
    post.stop(sender, NOW);
    post.steps.push(Step::Deliver(2, parcel("a", "c")));
    post.do_steps(NOW);
    assert_eq!(post.in_flight, 0, "the first was taken, the second is not sent");
    assert!(stopped.try_recv().is_err(), "what came of it may not be written yet");
    let late = Now { steady: NOW.steady + QUIET, ..NOW };
    assert!(post.wait(NOW.steady) <= Duration::from_millis(QUIET.0));
    post.work(late);
    assert_eq!(stopped.try_recv(), Ok(()));
    assert!(mail.try_recv().is_err());
}
