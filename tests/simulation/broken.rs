//! Deliberately broken parts, to see the checkers fail.

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use ringmain::base::frame::Frame;
use ringmain::base::time::Now;
use ringmain::broker::{Command, Event};
use ringmain::config::Config;
use ringmain::dialects::{
    Dialect, Facts, Farewell, Input, LaneKind, Opening, Output, Request, Session,
};
use ringmain::observe::CloseReason;
use ringmain::reactor::{Completion, Driver, DriverStats, ListenerId, SocketId, Wait, Waker};

use crate::universe::Wrap;

/// What a broken driver does to every so many frames.
#[derive(Clone, Copy)]
enum Fault {
    Lose,
    Repeat,
    Swap,
}

struct BrokenDriver {
    inner: Box<dyn Driver>,
    fault: Fault,
    frames: u64,
    /// Bytes by which `Sent` must be corrected, so that only the peer notices.
    extra: Vec<(SocketId, usize, usize)>,
}

impl Driver for BrokenDriver {
    fn listen(&mut self, address: SocketAddr) -> std::io::Result<(ListenerId, SocketAddr)> {
        self.inner.listen(address)
    }
    fn unlisten(&mut self, listener: ListenerId) {
        self.inner.unlisten(listener);
    }
    fn send(&mut self, socket: SocketId, queue: &mut VecDeque<Frame>) -> bool {
        self.frames += 1;
        // Never the first frames of a connection: those are HTTP.
        if self.frames.is_multiple_of(53) && queue.len() > 1 {
            let (Some(frame), length) = (queue.back().cloned(), queue.len()) else { return false };
            let bytes = frame.len();
            match self.fault {
                Fault::Lose if length <= 64 => {
                    queue.pop_back();
                    self.extra.push((socket, bytes, 0));
                }
                Fault::Repeat if length < 64 => {
                    queue.push_back(frame);
                    self.extra.push((socket, 0, bytes));
                }
                Fault::Swap => queue.swap(length - 1, length - 2),
                _ => {}
            }
        }
        self.inner.send(socket, queue)
    }
    fn pause(&mut self, socket: SocketId) {
        self.inner.pause(socket);
    }
    fn resume(&mut self, socket: SocketId) {
        self.inner.resume(socket);
    }
    fn finish(&mut self, socket: SocketId) {
        self.inner.finish(socket);
    }
    fn close(&mut self, socket: SocketId) {
        self.inner.close(socket);
    }
    fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> std::io::Result<()> {
        self.inner.turn(wait, completions)?;
        for completion in completions {
            if let Completion::Sent { socket, bytes } = completion
                && let Some(place) = self.extra.iter().position(|(it, ..)| it == socket)
            {
                let (_, lost, repeated) = self.extra.remove(place);
                *bytes = *bytes + lost - repeated;
            }
        }
        Ok(())
    }
    fn now(&self) -> Now {
        self.inner.now()
    }
    fn waker(&self) -> Waker {
        self.inner.waker()
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn stats(&self) -> DriverStats {
        self.inner.stats()
    }
}

#[derive(Default)]
pub struct LosesFrames(Cell<()>);

impl Wrap for LosesFrames {
    fn driver(&self, inner: Box<dyn Driver>) -> Box<dyn Driver> {
        Box::new(BrokenDriver { inner, fault: Fault::Lose, frames: 0, extra: Vec::new() })
    }
}

#[derive(Default)]
pub struct RepeatsFrames(Cell<()>);

impl Wrap for RepeatsFrames {
    fn driver(&self, inner: Box<dyn Driver>) -> Box<dyn Driver> {
        Box::new(BrokenDriver { inner, fault: Fault::Repeat, frames: 0, extra: Vec::new() })
    }
}

/// What mail out of order would do to whoever hears it.
pub struct SwapsFrames;

impl Wrap for SwapsFrames {
    fn driver(&self, inner: Box<dyn Driver>) -> Box<dyn Driver> {
        Box::new(BrokenDriver { inner, fault: Fault::Swap, frames: 0, extra: Vec::new() })
    }
}

/// A dialect whose sessions are passed through `spoil`, output by output.
struct Spoiled {
    inner: Arc<dyn Dialect>,
    spoil: fn(Vec<Output>, &Input<'_>) -> Vec<Output>,
}

struct SpoiledSession {
    inner: Box<dyn Session>,
    spoil: fn(Vec<Output>, &Input<'_>) -> Vec<Output>,
}

impl Session for SpoiledSession {
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        let mut own = Vec::new();
        // The session takes the input; spoiling only needs to know its kind.
        let kind = match &input {
            Input::Reply(ticket, reply) => Input::Reply(*ticket, reply.clone()),
            _ => Input::Closed,
        };
        self.inner.handle(input, now, &mut own);
        out.extend((self.spoil)(own, &kind));
    }
}

impl Dialect for Spoiled {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn lanes(&self) -> &'static [LaneKind] {
        self.inner.lanes()
    }
    fn open(&self, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
        Some(match self.inner.open(request, facts)? {
            Opening::WebSocket { session, message_bytes_max, deflate } => Opening::WebSocket {
                session: Box::new(SpoiledSession { inner: session, spoil: self.spoil }),
                message_bytes_max,
                deflate,
            },
            other => other,
        })
    }
    fn render(&self, lane: usize, event: &Event, out: &mut Vec<u8>) -> bool {
        self.inner.render(lane, event, out)
    }
    fn farewell(&self, reason: CloseReason) -> Farewell {
        self.inner.farewell(reason)
    }
}

/// Public channels are confirmed at the request, not at the home's answer.
pub struct ConfirmsEarly;

impl Wrap for ConfirmsEarly {
    fn dialect(&self, inner: Arc<dyn Dialect>) -> Arc<dyn Dialect> {
        fn spoil(outputs: Vec<Output>, input: &Input<'_>) -> Vec<Output> {
            let is_reply = matches!(input, Input::Reply(..));
            let mut spoiled = Vec::new();
            for output in outputs {
                match &output {
                    Output::Ask(_, Command::Subscribe(subscribe)) if subscribe.member.is_none() => {
                        let channel = &subscribe.channel.name;
                        let text = format!(
                            "{{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":\"{channel}\",\"data\":\"{{}}\"}}"
                        );
                        spoiled.push(Output::Text(text.into_bytes()));
                        spoiled.push(output);
                    }
                    Output::Text(text)
                        if is_reply
                            && text.windows(22).any(|it| it == b"subscription_succeeded")
                            && !text.windows(8).any(|it| it == b"presence") => {}
                    _ => spoiled.push(output),
                }
            }
            spoiled
        }
        Arc::new(Spoiled { inner, spoil })
    }
}

/// Unsubscribes are forgotten on their way to the broker.
pub struct NeverUnsubscribes;

impl Wrap for NeverUnsubscribes {
    fn dialect(&self, inner: Arc<dyn Dialect>) -> Arc<dyn Dialect> {
        fn spoil(outputs: Vec<Output>, _: &Input<'_>) -> Vec<Output> {
            let keep = |output: &Output| !matches!(output, Output::Ask(_, Command::Unsubscribe(_)));
            outputs.into_iter().filter(keep).collect()
        }
        Arc::new(Spoiled { inner, spoil })
    }
}

/// Client events come back to their sender.
pub struct HearsItself;

impl Wrap for HearsItself {
    fn dialect(&self, inner: Arc<dyn Dialect>) -> Arc<dyn Dialect> {
        fn spoil(mut outputs: Vec<Output>, _: &Input<'_>) -> Vec<Output> {
            for output in &mut outputs {
                if let Output::Ask(_, Command::Publish(publish)) = output {
                    publish.exclude = None;
                }
            }
            outputs
        }
        Arc::new(Spoiled { inner, spoil })
    }
}

/// Whoever answers no ping stays.
pub struct ForgivesSilence;

impl Wrap for ForgivesSilence {
    fn dialect(&self, inner: Arc<dyn Dialect>) -> Arc<dyn Dialect> {
        fn spoil(outputs: Vec<Output>, _: &Input<'_>) -> Vec<Output> {
            let keep =
                |it: &Output| !matches!(it, Output::Close(farewell, _) if farewell.code == 4201);
            outputs.into_iter().filter(keep).collect()
        }
        Arc::new(Spoiled { inner, spoil })
    }
}

/// No outbox is ever above its mark.
pub struct BearsSlowConsumers;

impl Wrap for BearsSlowConsumers {
    fn config(&self, config: &mut Config) {
        config.limits.outbox_bytes_high_water = 1 << 30;
        config.limits.outbox_bytes_per_shard_max = 1 << 30;
    }
}
