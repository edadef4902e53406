//! Whole servers on a simulated network, clock and schedule: many seeds, and checkers that watch order,
//! gaps, duplicates, presence, answers, memory and leaks.
//!
//! `RINGMAIN_SEEDS=1000` runs more seeds, `RINGMAIN_SEED=n` replays one, and with `RINGMAIN_SIM_LOG=1` a run
//! tells what its peers do and hear: `tools/replay SEED`. Read [`scene`] first.

mod annotations;
mod back_end;
mod broken;
mod checks;
mod crashes;
mod hotsock;
mod keep;
mod link;
mod messages;
#[allow(dead_code)]
#[path = "../transcripts/mint.rs"]
mod mint;
mod peer;
mod scene;
mod streams;
mod universe;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ringmain::reactor::sim::Faults;

use scene::Scene;
use universe::{Sound, Universe, Wrap};

/// What a run came across, by name.
type Exercised = BTreeMap<&'static str, u64>;

/// Seeds run when nobody asks for more.
const SEEDS: u64 = 60;

fn run(seed: u64, wrap: &dyn Wrap) -> Exercised {
    let mut scene = Scene::new(seed, wrap);
    for _ in 0..3000 {
        scene.act();
    }
    scene.come_to_rest();
    scene.check();
    scene.check_nothing_is_left();
    scene.exercised()
}

/// Runs a seed; what went wrong, if anything did.
fn verdict(seed: u64, wrap: &dyn Wrap) -> Result<Exercised, String> {
    catch_unwind(AssertUnwindSafe(|| run(seed, wrap))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned()
    })
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_seed_keeps_every_promise() {
    if let Some(seed) = variable("RINGMAIN_SEED") {
        println!("{:#?}", run(seed, &Sound));
        return;
    }
    let (mut exercised, mut failures) = (Exercised::new(), Vec::new());
    for seed in 0..variable("RINGMAIN_SEEDS").unwrap_or(SEEDS) {
        match verdict(seed, &Sound) {
            Ok(of_seed) => {
                for (what, count) in of_seed {
                    *exercised.entry(what).or_default() += count;
                }
            }
            Err(why) => failures.push(format!("seed {seed}: {why}\nreplay: tools/replay {seed}")),
        }
        // Some more of the same say whether it is rare.
        if failures.len() == 5 {
            break;
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
    // A checker that is never given anything to check keeps every promise.
    println!("{exercised:#?}");
    for (what, count) in exercised {
        assert!(count > 0 || what == "told 4200, drained", "never in all these seeds: {what}");
    }
}

#[test]
fn a_seed_runs_the_same_way_twice() {
    let heard = |seed| {
        let mut scene = Scene::new(seed, &Sound);
        for _ in 0..800 {
            scene.act();
        }
        scene.come_to_rest();
        scene
            .subscribers
            .iter()
            .map(|it| (it.socket_id.clone(), format!("{:?}", it.runs)))
            .collect::<Vec<_>>()
    };
    for seed in 0..4 {
        assert_eq!(heard(seed), heard(seed), "seed {seed}");
    }
}

/// Without a fault and without a farewell, the server's own numbers are exactly what its peers saw.
#[test]
fn metrics_agree_with_what_the_peers_saw() {
    use ringmain::observe::{Counter, Gauge};
    for shards in 1..4_u64 {
        let mut scene = Scene::of_shards(shards as u16);
        for _ in 0..6 {
            scene.add_subscriber_of("a");
        }
        scene.universe.pass(Duration::from_millis(10));
        scene.hear();
        scene.universe.pass(Duration::from_millis(10));
        for _ in 0..30 {
            scene.publish_to("a");
            scene.universe.pass(Duration::from_millis(1));
            scene.hear();
        }
        scene.check_runs();
        let (met, metrics) = (scene.exercised(), &scene.universe.metrics);
        assert_eq!((met["events heard"], met["subscriptions confirmed"]), (6 * 30, 6));
        for (counter, count) in [
            (Counter::EventsPublished, 30),
            (Counter::EventsDelivered, 6 * 30),
            (Counter::SubscriptionsOpened, 6),
            (Counter::SubscriptionsClosed, 0),
            (Counter::Handshakes, 6),
            (Counter::ConnectionsAccepted, 7),
            (Counter::Http2xx, 30),
            (Counter::SlowConsumers, 0),
            (Counter::FramesDropped, 0),
        ] {
            assert_eq!(metrics.total(counter), count, "{counter:?} with {shards} shards");
        }
        assert_eq!(metrics.total_gauge(Gauge::Subscriptions), 6);
        assert_eq!(metrics.total_gauge(Gauge::Connections), 7);
        assert_eq!(metrics.total_gauge(Gauge::Channels), 1);
        scene.check_nothing_is_left();
    }
}

/// Half of the seeds drain at rest, half of them in the middle of load, which goes on.
/// Bodies and messages that never end are bounded for all peers together: who would pass the bound is told to
/// come back, and whoever asks for little is served all the same.
#[test]
fn what_is_not_whole_has_a_bound_for_all_together() {
    const BOUND: usize = 512 << 10;
    let mut config = ringmain::config::Config::development();
    config.limits.assembly_bytes_per_shard_max = BOUND;
    let mut universe = Universe::new(7, Faults::none(), config, 1, &Sound);
    let head = "POST /apps/app-id/events HTTP/1.1\r\nHost: sim\r\nContent-Length: 200000\r\n\r\n";
    let peers: Vec<_> = (0..24).map(|_| universe.connect()).collect();
    for peer in &peers {
        peer.send(head.as_bytes());
        for _ in 0..25 {
            peer.send(&[b' '; 4000]);
            universe.settle();
            // One buffer may double before it is counted.
            assert!(universe.held().assembly_bytes <= BOUND + (256 << 10));
        }
    }
    universe.pass(Duration::from_millis(100));
    let answers: Vec<_> = peers.iter().map(|peer| peer.received()).collect();
    let refused = answers.iter().filter(|answer| answer.starts_with(b"HTTP/1.1 503 ")).count();
    assert!(refused >= 24 - 2 * BOUND / 100_000, "{refused} were refused");
    let says_when = |answer: &Vec<u8>| answer.windows(12).any(|text| text == b"Retry-After:");
    assert_eq!(answers.iter().filter(|answer| says_when(answer)).count(), refused);
    let small = universe.connect();
    small.send(b"GET /up HTTP/1.1\r\nHost: sim\r\n\r\n");
    universe.pass(Duration::from_millis(100));
    assert!(small.received().starts_with(b"HTTP/1.1 200 "));
    peers.iter().for_each(|peer| peer.reset());
    small.reset();
    universe.pass(Duration::from_secs(1));
    assert_eq!(universe.held(), Default::default());
}

#[test]
fn a_drain_ends_every_connection_with_words() {
    let mut told = 0;
    for seed in 0..24 {
        let mut scene = Scene::new(seed * 3, &Sound);
        for _ in 0..600 {
            scene.act();
        }
        if seed.is_multiple_of(2) {
            scene.come_to_rest();
        }
        scene.drained = true;
        scene.universe.drain();
        for _ in 0..if seed.is_multiple_of(2) { 0 } else { 400 } {
            scene.act();
        }
        for _ in 0..30 {
            scene.universe.pass(Duration::from_millis(500));
            scene.hear();
        }
        assert!(scene.universe.is_done(), "seed {seed}: some shard runs on");
        for subscriber in &mut scene.subscribers {
            if subscriber.stalled {
                subscriber.resume();
            }
        }
        scene.universe.pass(Duration::from_secs(1));
        scene.hear();
        scene.check_runs();
        scene.check_one_order();
        told += scene.exercised()["told 4200, drained"];
        assert!(
            scene.subscribers.iter().all(|subscriber| subscriber.gone),
            "seed {seed}: someone was not told"
        );
    }
    assert!(told > 0, "nobody was told to go elsewhere");
}

/// The checkers catch what they are for: each broken variant fails within a few seeds.
#[test]
fn broken_variants_are_caught() {
    // Their panics are wanted; the lines would only drown real ones.
    std::panic::set_hook(Box::new(|_| {}));
    let variants: [(&str, &dyn Wrap, &[&str]); 8] = [
        (
            "a driver that loses a frame",
            &broken::LosesFrames::default(),
            &[
                "skipped or repeated",
                // A member whose leaving was lost comes again.
                "joined",
                "arrived",
                "unseen",
                "never",
                "members",
                "out of order",
                "waits",
            ],
        ),
        (
            "a driver that sends a frame twice",
            &broken::RepeatsFrames::default(),
            &["skipped or repeated", "twice", "unseen", "nobody waits for", "out of order"],
        ),
        (
            "a driver that swaps two frames",
            &broken::SwapsFrames,
            &[
                "skipped or repeated",
                "unseen",
                "different orders",
                "before its confirmation",
                "out of order",
                "joined",
            ],
        ),
        (
            "a session that confirms before the home did",
            &broken::ConfirmsEarly,
            &["attached", "arrived", "confirmed", "members", "before it asked"],
        ),
        (
            "a session that never unsubscribes",
            &broken::NeverUnsubscribes,
            &["members", "joined", "unseen"],
        ),
        ("a session that hears itself", &broken::HearsItself, &["was to be left out"]),
        ("a session that forgives silence", &broken::ForgivesSilence, &["is still there"]),
        (
            "a shard that bears slow consumers",
            &broken::BearsSlowConsumers,
            &["that do not read have"],
        ),
    ];
    let mut missed = Vec::new();
    for (name, wrap, words) in variants {
        let caught = (0..40).find_map(|seed| verdict(seed, wrap).err());
        match caught {
            Some(why) if words.iter().any(|word| why.contains(word)) => {}
            Some(why) => missed.push(format!("{name}: caught for another reason: {why}")),
            None => missed.push(format!("{name}: not caught")),
        }
    }
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
