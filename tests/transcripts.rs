//! Golden transcripts: lines in, lines out, for every dialect.
//!
//! Each file under `tests/transcripts/<dialect>` is played against bare sessions and the simulated server,
//! plainly and with compressed lanes, and against the real binary. The format is described in [`script`].

#[path = "transcripts/bare.rs"]
mod bare;
#[path = "transcripts/disk.rs"]
mod disk;
#[path = "transcripts/mint.rs"]
mod mint;
#[path = "transcripts/real.rs"]
mod real;
#[path = "transcripts/script.rs"]
mod script;
#[path = "transcripts/simulated.rs"]
mod simulated;
#[path = "transcripts/storm.rs"]
mod storm;
// The simulated server itself; what only the simulation's own test uses is idle here.
#[allow(dead_code)]
#[path = "simulation/keep.rs"]
mod keep;
#[allow(dead_code)]
#[path = "simulation/universe.rs"]
mod universe;

use std::path::Path;

use bare::Bare;

/// Every transcript, or those that `RINGMAIN_TRANSCRIPT` is a part of the path of: its path and its text.
fn transcripts() -> Vec<(String, String)> {
    let wanted = std::env::var("RINGMAIN_TRANSCRIPT").unwrap_or_default();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut found = Vec::new();
    for dialect in std::fs::read_dir(root).expect("the directory is part of the package") {
        let dialect = dialect.expect("it can be listed").path();
        if !dialect.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(dialect).expect("it can be listed") {
            let path = file.expect("it can be listed").path();
            let is_wanted = path.to_string_lossy().contains(&wanted);
            if !is_wanted || path.extension().is_none_or(|it| it != "txt") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("transcripts are text");
            found.push((path.display().to_string(), text));
        }
    }
    found.sort();
    assert!(!found.is_empty(), "there are transcripts");
    found
}

/// Whether something is meant to be held after everyone has gone: the channels' history.
fn keeps(text: &str) -> bool {
    text.contains("[[history.channels]]")
}

/// Whether it is about push notifications: who keeps and sends them is in the real binary alone.
fn pushes(text: &str) -> bool {
    text.lines().any(|line| line == "| [push]")
}

fn play_all(deflate: bool) {
    let mut failures = Vec::new();
    for (path, text) in transcripts().into_iter().filter(|(_, text)| !pushes(text)) {
        let config = script::configuration(&text);
        let mut world = Bare::new(&config);
        world.deflate = deflate;
        world.consulted = script::consulted(&text);
        if let Err(error) = script::play(&text, &config, &mut world) {
            failures.push(format!("{path}, {error}"));
        } else if !keeps(&text) && world.held_by_nobody() > 0 {
            failures.push(format!("{path}: something is still held after everyone has gone"));
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n\n"));
}

#[test]
fn bare_sessions_follow_the_transcripts() {
    play_all(false);
}

#[test]
fn the_simulated_server_follows_the_transcripts() {
    let mut failures = Vec::new();
    let played = transcripts().into_iter().filter(|(_, text)| !pushes(text));
    for (seed, (path, text)) in (0..).zip(played) {
        for deflate in [false, true] {
            let config = script::configuration(&text);
            let consulted = script::consulted(&text);
            let mut world = simulated::Simulated::new(seed, &config, &consulted);
            world.deflate = deflate;
            if let Err(error) = script::play(&text, &config, &mut world) {
                failures.push(format!("{path}, deflate {deflate}, {error}"));
            } else if !keeps(&text) && !world.is_empty_in_the_end() {
                failures.push(format!("{path}: something is still held after everyone has gone"));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n\n"));
}

/// All but those in which time passes, which it does not on a real clock as fast as a test should.
#[test]
fn the_real_binary_follows_the_transcripts() {
    let mut failures = Vec::new();
    for (path, text) in transcripts() {
        if text.lines().any(|line| line.starts_with("wait ")) {
            continue;
        }
        let config = script::configuration(&text);
        let name = Path::new(&path).file_stem().map(|it| it.to_string_lossy().into_owned());
        let mut world = real::Real::start(&name.unwrap_or_default(), &text);
        if let Err(error) = script::play(&text, &config, &mut world) {
            failures.push(format!("{path}, {error}"));
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n\n"));
}

#[test]
fn compressed_lanes_follow_the_transcripts() {
    play_all(true);
}

/// A seeded storm: peers send whole, mutated and cut lines of all transcripts, random bytes and binary
/// messages, ask for things over HTTP, come and go while time passes.
///
/// Nothing may panic, every text that comes back is a JSON object with an event, a connection that was
/// closed hears no more, and once everyone has gone nothing is held.
#[test]
fn no_input_breaks_a_session() {
    use ringmain::base::prng::Prng;
    use ringmain::base::time::Millis;
    use ringmain::wire::json;
    use script::{Heard, World};

    let mut lines = Vec::new();
    for (_, text) in transcripts() {
        lines.extend(text.lines().filter_map(|it| it.split_once(" > ")).map(|it| it.1.to_owned()));
    }
    let requests = [
        (
            "POST",
            "/apps/app-id/events",
            r##"{"name":"e","channels":["c","#server-to-user-ann"],"data":1}"##,
        ),
        (
            "POST",
            "/apps/app-id/batch_events",
            r#"{"batch":[{"name":"e","channel":"cache-c","data":"1"}]}"#,
        ),
        ("GET", "/apps/app-id/channels", ""),
        ("POST", "/apps/app-id/users/ann/terminate_connections", "{}"),
    ];
    let mut config = ringmain::config::Config::development();
    config.pusher.subscriptions_per_connection_max = 8;
    config.apps[0].client_events_per_second_max = 3;
    let apps = ringmain::auth::Apps::new(&config.apps);
    let app = apps.iter().next().expect("the development app");
    for seed in 0..40 {
        let mut random = Prng::new(seed);
        let mut world = Bare::new(&config);
        let mut closed = [true; 4];
        let mut ids = vec![String::new(); 4];
        for step in 0..300 {
            let at = random.below(4) as usize;
            let peer = format!("p{at}");
            if closed[at] {
                let version = [7, 2][random.below(2) as usize];
                let target = format!("/app/app-key?protocol={version}");
                let id = world.open(&peer, &target, &[]).expect("it is let in");
                ids[at] = id.expect("it is greeted");
                closed[at] = false;
            }
            match random.below(12) {
                0 => world.send_binary(&peer, &[0, 1, 2]),
                1 => {
                    world.go(&peer);
                    closed[at] = true;
                    continue;
                }
                2 => world.wait(Millis(random.below(200_000))),
                3 => {
                    let (method, path, body) = requests[random.below(4) as usize];
                    let wall = world.wall();
                    let query = ringmain::auth::sign::sign_request(
                        app,
                        method,
                        path,
                        &[],
                        body.as_bytes(),
                        wall,
                    );
                    let status =
                        world.request(method, &format!("{path}?{query}"), &[], body).status;
                    assert_eq!(status, 200, "seed {seed}, step {step}: {path}");
                }
                4..=6 => {
                    // Signed right, so that the storm gets past the door.
                    let channel =
                        ["private-c", "presence-c", "presence-cache-c"][random.below(3) as usize];
                    let data = [r#"{"user_id":"ann"}"#, r#"{"user_id":"bob","user_info":[]}"#];
                    let data = data[random.below(2) as usize];
                    let mut parts = vec![ids[at].as_bytes(), b":", channel.as_bytes()];
                    if channel.starts_with("presence") {
                        parts.extend([&b":"[..], data.as_bytes()]);
                    }
                    let signature = app.signing_key.sign(&parts);
                    let auth = format!("app-key:{}", String::from_utf8_lossy(&signature));
                    let mut text = Vec::new();
                    json::write_str(&mut text, data);
                    let data = String::from_utf8_lossy(&text);
                    world.send(&peer, &format!(
                        r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}","auth":"{auth}","channel_data":{data}}}}}"#
                    ));
                }
                _ => {
                    let mut text: Vec<u8> =
                        lines[random.below(lines.len() as u64) as usize].clone().into_bytes();
                    for _ in 0..random.below(3) {
                        let i = random.below(text.len() as u64 + 1) as usize;
                        match random.below(3) {
                            0 => text.truncate(i),
                            1 => text.insert(i, random.below(128) as u8),
                            _ if i < text.len() => text[i] = random.below(128) as u8,
                            _ => {}
                        }
                    }
                    world.send(&peer, &String::from_utf8_lossy(&text));
                }
            }
            for (at, closed) in closed.iter_mut().enumerate().filter(|(_, closed)| !**closed) {
                while let Some(heard) = world.next(&format!("p{at}")) {
                    assert!(!*closed, "seed {seed}, step {step}: heard after the end: {heard:?}");
                    match heard {
                        Heard::Text(text) => {
                            let raw = json::parse_str(&text).expect("what we send is JSON");
                            assert!(raw.member("event").is_some(), "seed {seed}: {text}");
                        }
                        Heard::Binary(bytes) => panic!("seed {seed}: nobody asked for {bytes:?}"),
                        Heard::Closed(..) => *closed = true,
                        Heard::Line(_) | Heard::Ended => panic!("seed {seed}: nobody asked"),
                        Heard::Cut => panic!("seed {seed}: cut without a word"),
                    }
                }
            }
        }
        assert_eq!(world.held_by_nobody(), 0, "seed {seed}: something is still held");
    }
}
