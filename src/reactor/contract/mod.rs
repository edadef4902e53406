//! What every driver promises, played on each of them.
//!
//! A test is a function of a [`Rig`]; the table at the end runs it on io_uring, on io_uring with every
//! feature in its plain form, on epoll, and on simulated networks calm and rough.

mod mix;
mod rig;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use self::mix::anything_goes_in_any_order;
use self::rig::{Peer, Rig, Seen, Stage, pattern};
use super::sim::{Faults, SimEnd};
use super::{GATHER_FRAMES_MAX, Options, Wait};
use crate::base::frame::Frame;

/// More bytes than fit between two sockets.
fn too_much(rig: &Rig) -> usize {
    if rig.is_sim() { 100 << 10 } else { 16 << 20 }
}

fn accepts_and_echoes(rig: Rig) {
    let mut stage = rig.stage();
    let (_, address) = stage.listen();
    for n in 0..3 {
        let (mut peer, socket) = stage.pair(address);
        assert_eq!(stage.accepted[n].1, peer.address());
        peer.send(b"hello");
        stage.until(&mut [&mut peer], "hello", |stage, _| stage.bytes(socket) == b"hello");
        assert!(stage.send(socket, b"and to you"));
        stage.until(&mut [&mut peer], "answer", |stage, peers| {
            peers[0].received == b"and to you" && stage.saw(&Seen::Sent(socket, 10)) == 1
        });
    }
    assert_eq!((stage.driver.stats().accepts, stage.driver.stats().sends), (3, 3));
}

fn bytes_arrive_one_at_a_time(rig: Rig) {
    let mut stage = rig.stage();
    let (_, address) = stage.listen();
    let (mut peer, socket) = stage.pair(address);
    let sent = pattern(60);
    for (at, byte) in sent.iter().enumerate() {
        peer.send(&[*byte]);
        stage.until(&mut [&mut peer], "one byte", |stage, _| stage.bytes(socket).len() == at + 1);
    }
    assert_eq!(stage.bytes(socket), sent);
}

fn a_stalled_reader_delays_only_itself(rig: Rig) {
    let mut stage = rig.stage();
    let (_, address) = stage.listen();
    let (mut slow, slow_socket) = stage.pair(address);
    let (mut quick, quick_socket) = stage.pair(address);
    slow.stall(true);
    let frame_bytes = if rig.is_sim() { 4 << 10 } else { 256 << 10 };
    let all = pattern(70 * frame_bytes);
    let mut queue: VecDeque<_> =
        all.chunks(frame_bytes).map(|chunk| Frame::from(chunk.to_vec())).collect();
    assert!(stage.driver.send(slow_socket, &mut queue));
    assert_eq!(queue.len(), 70 - GATHER_FRAMES_MAX);
    stage.settle(&mut [&mut slow]);
    let gather = Seen::Sent(slow_socket, GATHER_FRAMES_MAX * frame_bytes);
    assert_eq!(stage.saw(&gather), 0, "16 MiB do not fit between two sockets");
    assert!(!stage.driver.send(slow_socket, &mut queue), "one send at a time");
    assert_eq!(queue.len(), 70 - GATHER_FRAMES_MAX);
    assert!(stage.send(quick_socket, b"quick"));
    stage.until(&mut [&mut quick], "the other peer", |_, peers| peers[0].received == b"quick");
    slow.stall(false);
    stage.until(&mut [&mut slow], "first gather", |stage, _| stage.saw(&gather) == 1);
    assert!(stage.driver.send(slow_socket, &mut queue));
    stage.until(&mut [&mut slow], "everything", |_, peers| peers[0].received.len() == all.len());
    assert!(slow.received == all);
    let last = Seen::Sent(slow_socket, (70 - GATHER_FRAMES_MAX) * frame_bytes);
    stage.until(&mut [], "second gather", |stage, _| stage.saw(&last) == 1);
}

fn one_large_frame_is_sent_whole(rig: Rig) {
    let mut stage = rig.stage();
    let (_, address) = stage.listen();
    let (mut peer, socket) = stage.pair(address);
    let all = pattern(too_much(&rig));
    assert!(stage.send(socket, &all));
    let sent = Seen::Sent(socket, all.len());
    stage.until(&mut [&mut peer], "the frame", |stage, peers| {
        peers[0].received.len() == all.len() && stage.saw(&sent) == 1
    });
    assert!(peer.received == all);
}

fn a_send_that_cannot_be_is_refused(rig: Rig) {
    let mut stage = rig.stage();
    let (_, address) = stage.listen();
    let (mut peer, socket) = stage.pair(address);
    assert!(!stage.driver.send(socket, &mut VecDeque::new()));
    let mut stale = socket;
    stale.generation = stale.generation.wrapping_add(1);
    assert!(!stage.send(stale, b"x"));
    stale.slot = 1 << 23;
    assert!(!stage.send(stale, b"x"));
    stage.driver.close(stale);
    stage.driver.pause(stale);
    stage.driver.resume(stale);
    stage.driver.finish(stale);
    // Frames without bytes are sent too, in no time.
    assert!(
        stage.driver.send(socket, &mut VecDeque::from([Frame::from(vec![]), Frame::from(vec![])]))
    );
    stage.until(&mut [&mut peer], "nothing", |stage, _| stage.saw(&Seen::Sent(socket, 0)) == 1);
    assert!(stage.send(socket, b""));
    stage.until(&mut [&mut peer], "nothing", |stage, _| stage.saw(&Seen::Sent(socket, 0)) == 2);
}

fn held_buffers_stop_receiving_until_they_come_back(rig: Rig) {
    let mut stage = rig.stage_with(Options::new(2, 16));
    let (_, address) = stage.listen();
    let mut pairs: Vec<_> = (0..6).map(|_| stage.pair(address)).collect();
    let sent = pattern(1000);
    for (peer, _) in &mut pairs {
        peer.send(&sent);
    }
    stage.held = Some(Vec::new());
    let mut peers: Vec<_> = pairs.iter_mut().map(|(peer, _)| peer).collect();
    stage.settle(&mut peers);
    let held = |stage: &Stage| stage.held.as_ref().map_or(0, Vec::len);
    assert_eq!(held(&stage), 2, "two buffers, both held");
    assert!(stage.driver.stats().receives_starved > 0);
    stage.held = None;
    let sockets: Vec<_> = stage.accepted.iter().map(|(socket, _)| *socket).collect();
    stage.until(&mut peers, "the rest", |stage, _| {
        sockets.iter().all(|socket| stage.bytes(*socket).len() == sent.len())
    });
    assert!(sockets.iter().all(|socket| stage.bytes(*socket) == sent));
}

fn more_completions_than_places_are_all_delivered(rig: Rig) {
    let options = Options { submissions: 4, completions: 8, ..Options::new(256, 64) };
    let mut stage = rig.stage_with(options);
    let (_, address) = stage.listen();
    let mut pairs: Vec<_> = (0..100).map(|_| stage.pair(address)).collect();
    let sockets: Vec<_> = pairs.iter().map(|(_, socket)| *socket).collect();
    for (peer, _) in &mut pairs {
        peer.send(&pattern(100));
    }
    for socket in &sockets {
        assert!(stage.send(*socket, b"broadcast"));
    }
    let mut peers: Vec<_> = pairs.iter_mut().map(|(peer, _)| peer).collect();
    stage.until(&mut peers, "everything", |stage, peers| {
        sockets.iter().all(|socket| {
            stage.bytes(*socket) == pattern(100) && stage.saw(&Seen::Sent(*socket, 9)) == 1
        }) && peers.iter().all(|peer| peer.received == b"broadcast")
    });
    if matches!(rig, Rig::Uring { .. }) {
        assert!(stage.driver.stats().completions_overflowed > 0, "not the case that was meant");
    }
}

fn a_close_ends_a_send_in_flight(rig: Rig) {
    let mut stage = rig.stage();
    let (_, address) = stage.listen();
    for frames in [1, 3] {
        let (mut peer, socket) = stage.pair(address);
        peer.stall(true);
        let frame = Frame::from(vec![1; too_much(&rig)]);
        assert!(stage.driver.send(socket, &mut (0..frames).map(|_| frame.clone()).collect()));
        stage.settle(&mut [&mut peer]);
        stage.events.clear();
        peer.send(b"unread");
        stage.driver.close(socket);
        stage.driver.close(socket);
        assert!(!stage.send(socket, b"late"));
        stage.until(&mut [&mut peer], "close", |stage, _| stage.saw(&Seen::Closed(socket)) == 1);
        stage.settle(&mut [&mut peer]);
        assert_eq!(stage.events, [Seen::Closed(socket)], "and nothing else about it");
        assert!(frame.is_last(), "its frames are let go of");
        peer.stall(false);
        stage.until(&mut [&mut peer], "end at the peer", |_, peers| peers[0].end.is_some());
    }
}

fn a_slot_used_again_is_not_taken_for_the_old_one(rig: Rig) {
    let mut stage = rig.stage();
    let (_, address) = stage.listen();
    let mut old: Option<(Peer, super::SocketId)> = None;
    for round in 0..30 {
        let (mut peer, socket) = stage.pair(address);
        if let Some((mut peer_before, before)) = old.take() {
            assert_eq!(socket.slot, before.slot, "round {round}: the freed slot is the next used");
            assert_ne!(socket.generation, before.generation);
            stage.driver.close(before);
            stage.driver.pause(before);
            stage.driver.finish(before);
            assert!(!stage.send(before, b"stray"));
            peer_before.step();
        }
        peer.send(b"new");
        stage.until(&mut [&mut peer], "new bytes", |stage, _| stage.bytes(socket) == b"new");
        assert!(stage.send(socket, b"news"));
        // Closed with its receive armed, its send perhaps in flight and bytes on the way.
        peer.send(b"on the way");
        stage.driver.close(socket);
        stage.until(&mut [&mut peer], "close", |stage, _| stage.saw(&Seen::Closed(socket)) == 1);
        old = Some((peer, socket));
    }
}

fn a_paused_socket_receives_later(rig: Rig) {
    let mut stage = rig.stage();
    let (_, address) = stage.listen();
    let (mut peer, socket) = stage.pair(address);
    for round in 1..=5 {
        stage.driver.pause(socket);
        stage.settle(&mut [&mut peer]);
        peer.send(b"12345");
        stage.settle(&mut [&mut peer]);
        assert_eq!(stage.bytes(socket).len(), (round - 1) * 5, "paused");
        // Changing one's mind in between leaves the last word standing.
        for _ in 0..round {
            stage.driver.resume(socket);
            stage.driver.pause(socket);
            if round > 2 {
                stage.turn(Wait::No);
            }
        }
        stage.driver.resume(socket);
        stage.until(&mut [&mut peer], "bytes", |stage, _| stage.bytes(socket).len() == round * 5);
    }
    stage.driver.pause(socket);
    stage.driver.close(socket);
    stage.until(&mut [&mut peer], "close", |stage, _| stage.saw(&Seen::Closed(socket)) == 1);
}

fn half_a_connection_still_carries(rig: Rig) {
    let mut stage = rig.stage();
    let (_, address) = stage.listen();
    let (mut peer, socket) = stage.pair(address);
    peer.send(b"last words");
    peer.finish();
    stage.until(&mut [&mut peer], "the end", |stage, _| stage.saw(&Seen::Ended(socket)) == 1);
    assert_eq!(stage.bytes(socket), b"last words");
    assert!(stage.send(socket, b"reply"));
    stage.until(&mut [&mut peer], "sent", |stage, _| stage.saw(&Seen::Sent(socket, 5)) == 1);
    stage.driver.finish(socket);
    stage.until(&mut [&mut peer], "our end", |_, peers| peers[0].end == Some(SimEnd::Finished));
    assert_eq!(peer.received, b"reply");
    stage.driver.close(socket);
    stage.until(&mut [&mut peer], "close", |stage, _| stage.saw(&Seen::Closed(socket)) == 1);
    assert_eq!(stage.saw(&Seen::Ended(socket)), 1);
}

fn a_reset_is_one_failure(rig: Rig) {
    let mut stage = rig.stage();
    let (_, address) = stage.listen();
    let (mut peer, socket) = stage.pair(address);
    peer.stall(true);
    assert!(stage.send(socket, &vec![1; too_much(&rig)]));
    stage.settle(&mut [&mut peer]);
    peer.reset();
    let failed = Seen::Failed(socket, ErrorKind::ConnectionReset);
    let broken = Seen::Failed(socket, ErrorKind::BrokenPipe);
    let failures = move |stage: &Stage| stage.saw(&failed) + stage.saw(&broken);
    stage.until(&mut [], "failure", |stage, _| failures(stage) == 1);
    assert!(!stage.send(socket, b"late"));
    stage.settle(&mut []);
    // The kernel tells each error once: if the send gets it, the receive may see a plain end before.
    stage.events.retain(|event| *event != Seen::Ended(socket));
    assert_eq!((failures(&stage), stage.events.len()), (1, 1), "{:?}", stage.events);
    stage.driver.close(socket);
    stage.until(&mut [], "close", |stage, _| stage.saw(&Seen::Closed(socket)) == 1);
}

fn a_wake_ends_the_wait(rig: Rig) {
    let mut stage = rig.stage();
    let waker = stage.driver.waker();
    for _ in 0..3 {
        // Before the wait, more than once.
        waker.wake();
        waker.wake();
        stage.turn(Wait::Forever);
        stage.turn(Wait::No);
        let seen = stage.driver.stats().wakes;
        assert!(seen > 0);
        if !rig.is_sim() {
            // During the wait, from elsewhere.
            let waker = waker.clone();
            let thread = std::thread::spawn(move || waker.wake());
            stage.turn(Wait::Forever);
            thread.join().unwrap();
            stage.until(&mut [], "a second wake", |stage, _| stage.driver.stats().wakes > seen);
        }
    }
    drop(stage);
    waker.wake();
}

fn a_wait_ends_by_itself(rig: Rig) {
    let mut stage = rig.stage();
    let before = stage.driver.now();
    stage.turn(Wait::No);
    stage.turn(Wait::AtMost(Duration::ZERO));
    stage.turn(Wait::AtMost(Duration::from_millis(5)));
    let after = stage.driver.now();
    assert!(after.steady.since(before.steady) >= Duration::from_millis(4));
    assert!(after.wall >= before.wall);
    assert!(stage.events.is_empty() && !stage.driver.describe().is_empty());
}

fn a_listener_that_is_gone_takes_nobody(rig: Rig) {
    let mut stage = rig.stage();
    let (first, first_address) = stage.listen();
    let (second, second_address) = stage.listen();
    assert!(first != second && first_address != second_address && first_address.port() != 0);
    let (mut peer, socket) = stage.pair(first_address);
    stage.driver.unlisten(first);
    stage.driver.unlisten(first);
    stage.settle(&mut []);
    if rig.is_sim() {
        let mut late = rig.connect(first_address);
        stage.until(&mut [&mut late], "refusal", |_, peers| peers[0].end == Some(SimEnd::Refused));
    } else {
        assert!(TcpStream::connect(first_address).is_err());
    }
    peer.send(b"still here");
    stage.until(&mut [&mut peer], "bytes", |stage, _| stage.bytes(socket) == b"still here");
    let (_, again) = stage.driver.listen(first_address).unwrap();
    assert_eq!(again, first_address);
    stage.pair(first_address);
    stage.pair(second_address);
}

fn two_drivers_share_a_port(rig: Rig) {
    let mut first = rig.stage_of(0, Options::new(64, 64));
    let mut second = rig.stage_of(1, Options::new(64, 64));
    let (_, address) = first.listen();
    second.driver.listen(address).unwrap();
    let peers: Vec<_> = (0..64).map(|_| rig.connect(address)).collect();
    let since = Instant::now();
    while first.accepted.len() + second.accepted.len() < peers.len() {
        assert!(since.elapsed() < Duration::from_secs(20));
        first.turn(Wait::No);
        second.turn(Wait::No);
        if let Rig::Sim(world) = &rig {
            world.advance();
        }
    }
    assert!(!first.accepted.is_empty() && !second.accepted.is_empty());
}

fn two_drivers_share_a_path(rig: Rig) {
    let mut first = rig.stage_of(0, Options::new(64, 64));
    let mut second = rig.stage_of(1, Options::new(64, 64));
    let (first_id, address) = first.listen();
    let second_id = second.driver.listen_local(&first.local[0]).unwrap().unwrap();
    let mut peers = Vec::new();
    let since = Instant::now();
    // Until both have had some: who is first with the next one is up to the kernel.
    while first.accepted.is_empty() || second.accepted.is_empty() {
        assert!(since.elapsed() < Duration::from_secs(20));
        let known = first.accepted.len() + second.accepted.len();
        peers.extend((0..16).map(|_| rig.connect(address)));
        while first.accepted.len() + second.accepted.len() < known + 16 {
            assert!(since.elapsed() < Duration::from_secs(20));
            let turns: [&mut Stage; 2] = match peers.len() / 16 % 2 {
                0 => [&mut first, &mut second],
                _ => [&mut second, &mut first],
            };
            turns.into_iter().for_each(|stage| stage.turn(Wait::No));
        }
    }
    // Of those who listen the last one ends it.
    first.local[0].seal();
    first.driver.unlisten(first_id);
    first.settle(&mut []);
    let known = second.accepted.len();
    let late = rig.connect(address);
    second.until(&mut [], "accept", |stage, _| stage.accepted.len() > known);
    first.settle(&mut []);
    drop(late);
    second.driver.unlisten(second_id);
    second.settle(&mut []);
    let path = first.local[0].path();
    assert!(std::os::unix::net::UnixStream::connect(path).is_err());
}

fn a_dropped_driver_ends_its_connections(rig: Rig) {
    let mut stage = rig.stage();
    let (_, address) = stage.listen();
    let mut pairs: Vec<_> = (0..10).map(|_| stage.pair(address)).collect();
    let frame = Frame::from(vec![1; too_much(&rig)]);
    for (n, (peer, socket)) in pairs.iter_mut().enumerate() {
        peer.stall(n % 2 == 0);
        assert!(stage.driver.send(*socket, &mut VecDeque::from([frame.clone(), frame.clone()])));
        peer.send(b"unread");
    }
    stage.turn(Wait::No);
    drop(stage);
    assert!(rig.is_sim() || frame.is_last(), "nothing leaks");
    let mut other = rig.stage_of(1, Options::new(1, 1));
    for (peer, _) in &mut pairs {
        peer.stall(false);
        other.until(&mut [peer], "end", |_, peers| peers[0].end.is_some());
    }
}

fn no_worker_threads_appear(rig: Rig) {
    accepts_and_echoes(rig.clone());
    if !rig.is_sim() {
        a_stalled_reader_delays_only_itself(rig.clone());
        a_close_ends_a_send_in_flight(rig);
    }
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        // A thread may end between the listing and the look.
        let name = std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default();
        assert!(!name.starts_with("iou-wrk"), "the kernel gave an operation to {name}");
    }
}

/// Runs in a process of its own: it takes that process's descriptors away.
fn a_shortage_of_descriptors_is_told_once_and_passes(rig: Rig) {
    let Rig::Sim(world) = &rig else {
        let mut stage = rig.stage();
        let (listener, address) = stage.listen();
        let mut peers: Vec<_> = (0..3).map(|_| rig.connect(address)).collect();
        // A fourth that is not accepted before descriptors have run out.
        let mut taken = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            taken.push(file);
        }
        let failed = Seen::AcceptFailed(listener);
        let mut peers: Vec<_> = peers.iter_mut().collect();
        stage.until(&mut peers, "shortage", |stage, _| stage.saw(&failed) == 1);
        let since = Instant::now();
        stage.until(&mut peers, "three more attempts", |_, _| {
            since.elapsed() > Duration::from_millis(350)
        });
        assert_eq!(stage.saw(&failed), 1, "told once");
        drop(taken);
        stage.until(&mut peers, "accepts", |stage, _| stage.accepted.len() == 3);
        return;
    };
    world.set_faults(Faults { accept_failures_per_million: 500_000, ..Faults::none() });
    let mut stage = rig.stage();
    let (listener, address) = stage.listen();
    for _ in 0..20 {
        stage.pair(address);
    }
    assert!(stage.saw(&Seen::AcceptFailed(listener)) > 0);
}

/// Runs one test of this suite in a process that may open few descriptors.
fn in_a_process_of_its_own(test: &str) -> bool {
    const MARK: &str = "RINGMAIN_CONTRACT_CHILD";
    if std::env::var_os(MARK).is_some() {
        let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        // SAFETY: the kernel reads one rlimit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        return true;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    false
}

macro_rules! contract {
    (@local $($test:ident)*) => {
        contract! { @rig uring_local, Rig::Local(Box::new(Rig::Uring { plain: false })); $($test)* }
        contract! { @rig uring_plain_local, Rig::Local(Box::new(Rig::Uring { plain: true })); $($test)* }
        contract! { @rig epoll_local, Rig::Local(Box::new(Rig::Epoll)); $($test)* }
    };
    ($($test:ident)*) => {
        contract! { @rig uring, Rig::Uring { plain: false }; $($test)* }
        contract! { @rig uring_plain, Rig::Uring { plain: true }; $($test)* }
        contract! { @rig epoll, Rig::Epoll; $($test)* }
        contract! { @rig sim_calm, Rig::sim(1, Faults::none()); $($test)* }
        contract! { @rig sim_slow, Rig::sim(2, Faults::slow()); $($test)* }
    };
    (@rig $rig:ident, $make:expr; $($test:ident)*) => {
        mod $rig {
            use super::*;
            $(#[test]
            fn $test() {
                super::on($make, concat!(stringify!($rig), "::", stringify!($test)), super::$test);
            })*
        }
    };
}

/// Plays one test, if this machine has what it needs.
fn on(rig: Rig, name: &str, test: fn(Rig)) {
    let kind = match &rig {
        Rig::Local(kind) => kind,
        kind => kind,
    };
    if matches!(kind, Rig::Uring { .. })
        && let Err(refusal) = super::uring::UringDriver::open(Options::new(1, 1))
    {
        eprintln!("skipped: {refusal}");
        return;
    }
    let alone =
        name.ends_with("a_shortage_of_descriptors_is_told_once_and_passes") && !rig.is_sim();
    if alone && !in_a_process_of_its_own(&format!("reactor::contract::{name}")) {
        return;
    }
    test(rig);
}

contract! {
    accepts_and_echoes
    bytes_arrive_one_at_a_time
    a_stalled_reader_delays_only_itself
    one_large_frame_is_sent_whole
    a_send_that_cannot_be_is_refused
    held_buffers_stop_receiving_until_they_come_back
    more_completions_than_places_are_all_delivered
    a_close_ends_a_send_in_flight
    a_slot_used_again_is_not_taken_for_the_old_one
    a_paused_socket_receives_later
    half_a_connection_still_carries
    a_reset_is_one_failure
    a_wake_ends_the_wait
    a_wait_ends_by_itself
    a_listener_that_is_gone_takes_nobody
    two_drivers_share_a_port
    a_dropped_driver_ends_its_connections
    no_worker_threads_appear
    a_shortage_of_descriptors_is_told_once_and_passes
    anything_goes_in_any_order
}

// What a Unix socket has in common with a port.
contract! {
    @local
    accepts_and_echoes
    bytes_arrive_one_at_a_time
    a_stalled_reader_delays_only_itself
    one_large_frame_is_sent_whole
    a_send_that_cannot_be_is_refused
    held_buffers_stop_receiving_until_they_come_back
    more_completions_than_places_are_all_delivered
    a_close_ends_a_send_in_flight
    a_slot_used_again_is_not_taken_for_the_old_one
    a_paused_socket_receives_later
    half_a_connection_still_carries
    a_reset_is_one_failure
    two_drivers_share_a_path
    a_dropped_driver_ends_its_connections
    no_worker_threads_appear
    anything_goes_in_any_order
}

#[test]
fn a_refusal_of_io_uring_is_named_and_epoll_stands_in() {
    use super::{DriverChoice, open};
    // A completion queue of no places is what every kernel refuses.
    let refused = Options { completions: 0, ..Options::new(4, 64) };
    let said = open(DriverChoice::Auto, refused).unwrap().describe();
    assert!(
        said.starts_with("epoll (io_uring: ring with deferred task work")
            && said.contains("refused"),
        "{said}"
    );
    let error = open(DriverChoice::Uring, refused).err().expect("no driver");
    assert!(error.to_string().starts_with("io_uring: ring"), "{error}");
    assert_eq!(open(DriverChoice::Epoll, refused).unwrap().describe(), "epoll");
    assert!(
        open(DriverChoice::Auto, Options::new(0, 64)).is_err(),
        "no driver does without buffers"
    );
}
