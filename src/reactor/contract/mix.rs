//! Everything at once, drawn from a seed: what the single promises might miss between them.

use std::collections::VecDeque;

use super::rig::{Peer, Rig, Seen, Stage, pattern};
use crate::base::frame::Frame;
use crate::base::prng::Prng;
use crate::reactor::{Options, SocketId, Wait};

/// Bytes of one large frame: more than the first window of a connection takes, so that sends stay in flight.
const FILLS: usize = 3 << 20;

/// One connection and what a plain model knows of it.
struct Play {
    peer: Peer,
    socket: SocketId,
    /// What each end was given to send, in order.
    up: Vec<u8>,
    down: Vec<u8>,
    queue: VecDeque<Frame>,
    sends: usize,
    finished: bool,
    reset: bool,
    closed: bool,
}

impl Play {
    fn send(&mut self, stage: &mut Stage) {
        self.sends += usize::from(stage.driver.send(self.socket, &mut self.queue));
    }

    fn check(&self, stage: &Stage, seed: u64) {
        let heard = stage.bytes(self.socket);
        assert!(self.up.starts_with(heard), "seed {seed}: the server heard what nobody sent");
        assert!(
            self.down.starts_with(&self.peer.received),
            "seed {seed}: the peer heard what nobody sent"
        );
        assert!(stage.saw(&Seen::Closed(self.socket)) <= usize::from(self.closed), "seed {seed}");
    }

    /// True if nothing was done that may lose bytes.
    fn is_whole(&self) -> bool {
        !self.reset && !self.closed
    }
}

pub(super) fn anything_goes_in_any_order(rig: Rig) {
    for seed in 0..4 {
        play(&rig, seed);
    }
}

fn play(rig: &Rig, seed: u64) {
    let mut prng = Prng::new(seed);
    let options = Options { submissions: 8, completions: 16, ..Options::new(16, 64) };
    let mut stage = rig.stage_with(options);
    let (_, address) = stage.listen();
    let all = pattern(if rig.is_sim() { FILLS / 16 } else { 2 * FILLS });
    let mut plays: Vec<Play> = Vec::new();
    for _ in 0..300 {
        if plays.len() < 4 || prng.chance(1, 30) {
            // The accept must not wait for buffers that are held here.
            stage.held = None;
            let (peer, socket) = stage.pair(address);
            let (up, down, queue) = (Vec::new(), Vec::new(), VecDeque::new());
            plays.push(Play {
                peer,
                socket,
                up,
                down,
                queue,
                sends: 0,
                finished: false,
                reset: false,
                closed: false,
            });
        }
        let at = prng.below(plays.len() as u64) as usize;
        let play = &mut plays[at];
        let socket = play.socket;
        match prng.below(22) {
            0..5 if !play.finished && !play.reset => {
                let from = play.up.len();
                let bytes = &all[from..from + prng.below(500) as usize];
                play.up.extend_from_slice(bytes);
                play.peer.send(bytes);
            }
            5..10 if play.down.len() < all.len() / 2 => {
                for _ in 0..1 + prng.below(80) {
                    let from = play.down.len();
                    let bytes = &all[from..from + prng.below(200) as usize];
                    play.down.extend_from_slice(bytes);
                    play.queue.push_back(Frame::from(bytes.to_vec()));
                }
                play.send(&mut stage);
            }
            10 if play.down.len() < all.len() / 2 => {
                let from = play.down.len();
                let bytes = &all[from..from + all.len() / 2];
                play.down.extend_from_slice(bytes);
                play.queue.push_back(Frame::from(bytes.to_vec()));
                play.send(&mut stage);
            }
            11 => play.peer.stall(true),
            12 => play.peer.stall(false),
            13..15 => stage.driver.pause(socket),
            15..17 => stage.driver.resume(socket),
            17 => stage.held = if prng.chance(1, 2) { Some(Vec::new()) } else { None },
            18 if prng.chance(1, 4) => {
                play.closed = true;
                stage.driver.close(socket);
            }
            19 if prng.chance(1, 4) && !play.reset => {
                play.reset = true;
                play.peer.reset();
            }
            20 if prng.chance(1, 4) && !play.reset => {
                play.finished = true;
                play.peer.finish();
            }
            _ => stage.turn(Wait::No),
        }
        if prng.chance(1, 3) {
            stage.turn(Wait::No);
        }
        let play = &mut plays[at];
        if !play.reset {
            play.peer.step();
        }
        play.send(&mut stage);
        play.check(&stage, seed);
    }
    settle(&mut stage, &mut plays, seed);
}

/// Lifts every obstacle, waits until all bytes have come through, and closes what is open.
fn settle(stage: &mut Stage, plays: &mut [Play], seed: u64) {
    stage.held = None;
    for play in plays.iter_mut() {
        stage.driver.resume(play.socket);
        play.peer.stall(false);
    }
    for round in 0.. {
        assert!(round < 20_000, "seed {seed}: bytes are stuck");
        stage.turn(Wait::AtMost(std::time::Duration::from_millis(1)));
        for play in plays.iter_mut() {
            if !play.reset {
                play.peer.step();
            }
            play.send(stage);
        }
        let through = |play: &Play| {
            !play.is_whole()
                || (play.peer.received.len() == play.down.len()
                    && stage.bytes(play.socket).len() == play.up.len())
        };
        if plays.iter().all(through) {
            break;
        }
    }
    for play in plays.iter_mut() {
        play.check(stage, seed);
        let ended = usize::from(play.finished);
        if play.is_whole() && ended > 0 {
            stage.until(&mut [], "the end", |stage, _| {
                stage.saw(&Seen::Ended(play.socket)) == ended
            });
        }
    }
    for play in plays.iter_mut() {
        if play.is_whole() {
            let socket = play.socket;
            let sent = move |stage: &Stage| {
                let mine = |seen: &&Seen| matches!(seen, Seen::Sent(about, _) if *about == socket);
                stage.events.iter().filter(mine).count()
            };
            stage.until(&mut [], "every send's end", |stage, _| sent(stage) == play.sends);
        }
        play.closed = true;
        stage.driver.close(play.socket);
    }
    stage.until(&mut [], "every close", |stage, _| {
        plays.iter().all(|play| stage.saw(&Seen::Closed(play.socket)) == 1)
    });
    stage.settle(&mut []);
    for play in plays.iter() {
        let about = |seen: &&Seen| match seen {
            Seen::Ended(id) | Seen::Sent(id, _) | Seen::Failed(id, _) | Seen::Closed(id) => {
                *id == play.socket
            }
            Seen::AcceptFailed(_) => false,
        };
        let events: Vec<_> = stage.events.iter().filter(about).collect();
        let failure = events.iter().position(|seen| matches!(seen, Seen::Failed(..)));
        assert!(
            failure.is_none_or(|at| at + 2 == events.len()),
            "seed {seed}: after a failure only Closed: {events:?}"
        );
        assert_eq!(
            events.last(),
            Some(&&Seen::Closed(play.socket)),
            "seed {seed}: Closed is the last word"
        );
    }
}
