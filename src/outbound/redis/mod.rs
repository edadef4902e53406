//! An application's Redis: channels that are heard, keys that are set, and the link to both.
//!
//! [`Feed`] is polled by the back shard. It keeps what was ordered and repeats it whenever it had to connect anew; what
//! comes is read only when the caller wants it, so that nothing piles up here. Start there; `place` is where a Redis is
//! and how one gets in.

mod place;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

pub use self::place::Place;
use crate::auth::upstream::FeedOrder;
use crate::wire::resp::{self, Decoder, Value};

/// How long a link may take. Source: Mastodon's own server.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// The first pause before another try, and the longest; each is twice the one before.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How often a link is looked at: one that was asked for a sign of life the last time and gave none is lost.
const LOOK: Duration = Duration::from_secs(5);
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Words of one command.
const WORDS_MAX: usize = 1024;
/// How often keys that are over are forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// Bytes both ways.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What a feed tells.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The link is there, and everything that was ordered is in force.
    Linked,
    /// The link is lost, or could not be made at first: why.
    Unlinked(String),
    /// There may be messages: [`Feed::messages`].
    Ready,
}

/// The channels of one Redis.
pub struct Feed {
    place: Arc<Place>,
    /// Channels that are to be heard.
    wanted: HashSet<Arc<str>>,
    /// Keys that were set, until when.
    keys: HashMap<Arc<str>, Instant>,
    swept: Instant,
    pending: Pending,
    phase: Phase,
    /// When something is to be done though nothing comes.
    timer: Pin<Box<Sleep>>,
    pause: Duration,
    /// What was told last.
    is_linked: Option<bool>,
    buffer: Box<[u8]>,
}

/// From this many keys on, the table of a crowd that has left is given back.
const KEYS_KEPT: usize = 1024;

/// What was ordered and not sent yet.
#[derive(Default)]
struct Pending {
    touches: Vec<(Arc<str>, u32)>,
    /// Heard from now on, or no more.
    changes: HashMap<Arc<str>, bool>,
}

type Connecting = Pin<Box<dyn Future<Output = Result<Link, String>> + Send>>;

enum Phase {
    /// Until the timer.
    Waiting,
    Connecting(Connecting),
    Linked(Box<Link>),
}

/// A link: RESP2 knows two kinds of connections, one for commands and one that hears.
struct Link {
    commands: Side,
    hearing: Side,
    /// Changes that wait for the keys that were ordered before.
    changes: Vec<(Arc<str>, bool)>,
    /// There may be whole messages that were not taken.
    has_more: bool,
    /// Nobody read since it was looked at.
    was_shut: bool,
    /// Why what came is no message.
    refusal: Option<String>,
    is_told: bool,
}

/// One connection.
struct Side {
    stream: Box<dyn Stream>,
    decoder: Decoder,
    out: Vec<u8>,
    written: usize,
    /// Answers that are not there yet.
    awaited: usize,
    /// Something came since it was looked at.
    was_heard: bool,
    is_pinged: bool,
}

impl Feed {
    /// A feed that connects as soon as it is polled. To be called within the runtime that polls it.
    pub fn new(place: Place) -> Self {
        let now = Instant::now();
        Self {
            place: Arc::new(place),
            wanted: HashSet::new(),
            keys: HashMap::new(),
            swept: now,
            pending: Pending::default(),
            phase: Phase::Waiting,
            timer: Box::pin(sleep_until(now)),
            pause: PAUSE,
            is_linked: None,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        }
    }

    /// Takes an order; it is sent when the feed is polled next.
    pub fn order(&mut self, order: FeedOrder) {
        let is_up = matches!(self.phase, Phase::Linked(_));
        match order {
            FeedOrder::Touch(keys, seconds) => {
                let now = Instant::now();
                let until = now + Duration::from_secs(seconds.into());
                if now.duration_since(self.swept) >= SWEEP {
                    self.swept = now;
                    self.keys.retain(|_, until| *until > now);
                }
                for key in keys {
                    self.keys.insert(key.clone(), until);
                    if is_up {
                        self.pending.touches.push((key, seconds));
                    }
                }
            }
            FeedOrder::Subscribe(channels) => {
                for channel in channels {
                    if is_up {
                        self.pending.changes.insert(channel.clone(), true);
                    }
                    self.wanted.insert(channel);
                }
            }
            FeedOrder::Unsubscribe(channels, keys) => {
                for key in &keys {
                    self.keys.remove(key);
                }
                if self.keys.capacity() > KEYS_KEPT && self.keys.len() < self.keys.capacity() / 8 {
                    self.keys.shrink_to_fit();
                }
                for channel in channels {
                    self.wanted.remove(&channel);
                    if is_up {
                        self.pending.changes.insert(channel, false);
                    }
                }
            }
        }
    }

    /// Does what can be done, and says what happened. With `may_read` false no message is read: the server over there
    /// keeps it, or its kernel or ours.
    pub fn poll(&mut self, context: &mut Context<'_>, may_read: bool) -> Poll<Event> {
        loop {
            match &mut self.phase {
                Phase::Waiting => {
                    ready!(self.timer.as_mut().poll(context));
                    let place = self.place.clone();
                    self.phase = Phase::Connecting(Box::pin(async move {
                        let connected = tokio::time::timeout(CONNECT_MAX, Link::new(&place)).await;
                        connected.unwrap_or_else(|_| Err("it does not answer in time".to_owned()))
                    }));
                }
                Phase::Connecting(connecting) => match ready!(connecting.as_mut().poll(context)) {
                    Ok(link) => self.begin(link),
                    Err(why) => {
                        if let Some(event) = self.lose(why) {
                            return Poll::Ready(event);
                        }
                    }
                },
                Phase::Linked(link) => {
                    let timer = self.timer.as_mut();
                    let buffer = &mut self.buffer;
                    match link.poll(context, may_read, &mut self.pending, timer, buffer) {
                        Ok(Poll::Ready(event)) => {
                            if event == Event::Linked {
                                self.pause = PAUSE;
                                self.is_linked = Some(true);
                            }
                            return Poll::Ready(event);
                        }
                        Ok(Poll::Pending) => return Poll::Pending,
                        Err(why) => {
                            if let Some(event) = self.lose(why) {
                                return Poll::Ready(event);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Hands out messages that have come, `max` at most: their channel and what was published there.
    pub fn messages(&mut self, max: usize, mut take: impl FnMut(&str, &[u8])) {
        let Phase::Linked(link) = &mut self.phase else { return };
        link.has_more = true;
        for _ in 0..max {
            let list = match link.hearing.decoder.next() {
                Ok(Some(Value::List(list))) => list,
                Ok(Some(Value::Error(why))) => {
                    link.refusal = Some(place::said(why));
                    return;
                }
                // A sign of life.
                Ok(Some(_)) => {
                    link.hearing.awaited = link.hearing.awaited.saturating_sub(1);
                    continue;
                }
                Ok(None) => {
                    link.has_more = false;
                    return;
                }
                Err(_) => {
                    link.refusal = Some(place::NO_REDIS.to_owned());
                    return;
                }
            };
            match list.as_slice() {
                [Value::Text(b"message"), Value::Text(channel), Value::Text(payload)] => {
                    if let Ok(channel) = std::str::from_utf8(channel) {
                        take(channel, payload);
                    }
                }
                // A confirmation, or a sign of life.
                _ => link.hearing.awaited = link.hearing.awaited.saturating_sub(1),
            }
        }
    }

    /// Starts with a link that is fresh: everything that was ordered is ordered again, keys for the rest of their time.
    fn begin(&mut self, link: Link) {
        let now = Instant::now();
        self.swept = now;
        self.keys.retain(|_, until| *until > now);
        let rest = |until: &Instant| {
            let seconds = until.duration_since(now).as_secs_f64().ceil();
            // A key for no time at all is refused.
            (seconds as u32).max(1)
        };
        self.pending = Pending {
            touches: self.keys.iter().map(|(key, until)| (key.clone(), rest(until))).collect(),
            changes: self.wanted.iter().map(|channel| (channel.clone(), true)).collect(),
        };
        self.timer.as_mut().reset(now + LOOK);
        self.phase = Phase::Linked(Box::new(link));
    }

    /// Gives up a link, or a try; says so unless that was said.
    fn lose(&mut self, why: String) -> Option<Event> {
        self.phase = Phase::Waiting;
        self.pending = Pending::default();
        self.timer.as_mut().reset(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        let was_said = self.is_linked.replace(false) == Some(false);
        (!was_said).then_some(Event::Unlinked(why))
    }
}

impl Link {
    async fn new(place: &Place) -> Result<Self, String> {
        let (commands, hearing) = place.connect().await?;
        let (changes, has_more, was_shut, refusal, is_told) =
            (Vec::new(), false, false, None, false);
        Ok(Self { commands, hearing, changes, has_more, was_shut, refusal, is_told })
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        may_read: bool,
        pending: &mut Pending,
        mut timer: Pin<&mut Sleep>,
        buffer: &mut [u8],
    ) -> Result<Poll<Event>, String> {
        if let Some(why) = self.refusal.take() {
            return Err(why);
        }
        self.was_shut |= !may_read;
        while timer.as_mut().poll(context).is_ready() {
            timer.as_mut().reset(Instant::now() + LOOK);
            self.commands.look(true)?;
            self.hearing.look(!self.was_shut)?;
            self.was_shut = !may_read;
        }
        while self.commands.read(context, buffer)? {
            self.take_answers()?;
        }
        self.send(pending);
        self.commands.write(context)?;
        self.hearing.write(context)?;
        if may_read && (self.has_more || self.hearing.read(context, buffer)?) {
            self.has_more = true;
            return Ok(Poll::Ready(Event::Ready));
        }
        let is_whole = self.commands.is_done() && self.hearing.is_done();
        if is_whole && self.changes.is_empty() && !self.is_told {
            self.is_told = true;
            return Ok(Poll::Ready(Event::Linked));
        }
        Ok(Poll::Pending)
    }

    /// Puts on their way what was ordered: keys first, and what is heard when they are set.
    fn send(&mut self, pending: &mut Pending) {
        if self.commands.awaited > 0 {
            return;
        }
        if !self.changes.is_empty() {
            let changes = std::mem::take(&mut self.changes);
            for (command, wanted) in [("SUBSCRIBE", true), ("UNSUBSCRIBE", false)] {
                let channels: Vec<_> = changes.iter().filter(|it| it.1 == wanted).collect();
                for channels in channels.chunks(WORDS_MAX) {
                    resp::write_command(&mut self.hearing.out, channels.len() + 1);
                    resp::write_word(&mut self.hearing.out, command.as_bytes());
                    for (channel, _) in channels {
                        resp::write_word(&mut self.hearing.out, channel.as_bytes());
                    }
                }
            }
            self.hearing.awaited += changes.len();
        }
        self.changes.extend(pending.changes.drain());
        for (key, seconds) in pending.touches.drain(..) {
            let seconds = seconds.to_string();
            let words: [&[u8]; 5] = [b"SET", key.as_bytes(), b"1", b"EX", seconds.as_bytes()];
            resp::write(&mut self.commands.out, &words);
            self.commands.awaited += 1;
        }
        if self.commands.awaited == 0 && !self.changes.is_empty() {
            self.send(pending);
        }
    }

    fn take_answers(&mut self) -> Result<(), String> {
        loop {
            match self.commands.decoder.next() {
                Ok(None) => return Ok(()),
                Ok(Some(Value::Error(why))) if is_in_the_way(why) => return Err(place::said(why)),
                // One that may not be set is no reason to hear nothing.
                Ok(Some(_)) => self.commands.awaited = self.commands.awaited.saturating_sub(1),
                Err(_) => return Err(place::NO_REDIS.to_owned()),
            }
        }
    }
}

/// Whether a refusal says that this server is not the one to talk to now.
fn is_in_the_way(why: &[u8]) -> bool {
    let first = why.split(|byte| *byte == b' ').next().unwrap_or_default();
    [&b"READONLY"[..], b"LOADING", b"MASTERDOWN", b"NOAUTH", b"CLUSTERDOWN"].contains(&first)
}

impl Side {
    fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            decoder: Decoder::default(),
            out: Vec::new(),
            written: 0,
            awaited: 0,
            was_heard: false,
            is_pinged: false,
        }
    }

    /// Everything was sent and answered.
    fn is_done(&self) -> bool {
        self.out.is_empty() && self.awaited == 0
    }

    /// Reads what there is. True: something came.
    fn read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Result<bool, String> {
        let mut read = ReadBuf::new(buffer);
        match Pin::new(&mut self.stream).poll_read(context, &mut read) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(error)) => Err(error.to_string()),
            Poll::Ready(Ok(())) if read.filled().is_empty() => Err("it hung up".to_owned()),
            Poll::Ready(Ok(())) => {
                self.was_heard = true;
                self.decoder.feed(read.filled());
                Ok(true)
            }
        }
    }

    fn write(&mut self, context: &mut Context<'_>) -> Result<(), String> {
        let said = |error: io::Error| error.to_string();
        while self.written < self.out.len() {
            let written = Pin::new(&mut self.stream).poll_write(context, &self.out[self.written..]);
            match written {
                Poll::Pending => return Ok(()),
                Poll::Ready(written) => self.written += written.map_err(said)?,
            }
        }
        if !self.out.is_empty() {
            (self.out, self.written) = (Vec::new(), 0);
        }
        // What TLS holds back; a socket holds nothing.
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(flushed) => flushed.map_err(said),
            Poll::Pending => Ok(()),
        }
    }

    /// Asks for a sign of life; fails if there was none since the last time. Whom nobody may hear is not to blame.
    fn look(&mut self, may_be_heard: bool) -> Result<(), String> {
        if self.is_pinged && !self.was_heard && may_be_heard {
            return Err("it gives no sign of life".to_owned());
        }
        if self.was_heard || !self.is_pinged {
            resp::write(&mut self.out, &[b"PING"]);
            self.awaited += 1;
            self.is_pinged = true;
        }
        self.was_heard = false;
        Ok(())
    }
}
