//! One Pusher connection: what the peer may do, in which order, and what it is told.
//!
//! An idle session holds its subscriptions and no buffer. Subscriptions are sorted by name, so that
//! thousands on one connection are still found quickly.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::continuity::{Place, Two};
use super::fault::{Ending, Fault};
use super::frames::{self, Version};
use super::names::{self, Access, Kind, USER_PREFIX};
use super::user::User;
use super::{LANE_DEFLATE, LANE_TEXT, LANE_V2_DEFLATE, LANE_V2_TEXT, Shared};
use crate::auth::{App, Seat, sign};
use crate::base::ids::{ConnectionId, LaneId, Serial, Ticket};
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Nanos, Now};
use crate::broker::{
    Command, Control, Event, Happening, Member, Payload, Position, Publish, Refusal, Reply, Sender,
    Start, Subscribe, Subscribed,
};
use crate::dialects::api::is_within_rate;
use crate::dialects::{Facts, Farewell, Input, Output, Session, TimerKind};
use crate::observe::{CloseReason, Counter};
use crate::wire::json::{self, Kind as JsonKind, Raw};

/// The keep-alive timer: a period of silence, or the wait for a pong.
const KEEP_ALIVE: TimerKind = TimerKind(0);

/// Acknowledgements one pending subscribe is owed at most; a peer that repeats itself more often than
/// that while it waits hears no more of them.
const ACKNOWLEDGEMENTS_MAX: u8 = 16;

/// Members that were asked for and have not come, at most.
const ROSTERS_MAX: usize = 64;

/// Silence after which version 2 pings, at least: its clients are told a shorter timeout in good faith, but
/// their libraries ping no more often than that. Source: Sockudo's keep-alive.
const PING_SILENCE_MIN: Millis = Millis(30_000);

/// One peer's side of the protocol.
pub struct PusherSession {
    pub(super) shared: Arc<Shared>,
    /// The app, and this connection's place in it.
    seat: Seat,
    pub(super) connection: ConnectionId,
    lane_first: LaneId,
    lane: LaneId,
    /// The ping was sent and nothing came since.
    is_pinged: bool,
    ticket_next: u32,
    /// When anything last came.
    heard: Nanos,
    /// When the next client event would be due, were they evenly spaced.
    client_event_due: Nanos,
    /// Sorted by name.
    subscriptions: Vec<Subscription>,
    /// Acknowledgements that wait for more about a channel; unallocated when there are none.
    rosters: Vec<Roster>,
    /// Who is signed in.
    pub(super) user: Option<Box<User>>,
    /// What only version 2 has; none: version 7 is spoken.
    pub(super) two: Option<Box<Two>>,
}

/// A subscription, asked for or standing.
pub(super) struct Subscription {
    pub name: Name,
    /// Who the peer is in it, on presence channels.
    member: Option<Arc<Member>>,
    ticket: Ticket,
    /// Acknowledgements to send when it stands; 0 once it does.
    pub owed: u8,
    /// Where in the channel's history it begins; version 2 only.
    pub place: Option<Box<Place>>,
}

/// An acknowledgement of what stands already, while more about the channel is asked.
struct Roster {
    ticket: Ticket,
    channel: Name,
    /// How far the channel's history has come, once that is known.
    position: Option<Position>,
}

/// What a message is, once its envelope is read.
struct Envelope<'a> {
    event: Cow<'a, str>,
    channel: Option<Cow<'a, str>>,
    data: Option<Raw<'a>>,
}

impl PusherSession {
    /// A session for a connection that is about to be greeted.
    pub(super) fn new(shared: Arc<Shared>, seat: Seat, facts: &Facts, two: Option<Two>) -> Self {
        let lane = match (&two, facts.deflate) {
            (None, false) => LANE_TEXT,
            (None, true) => LANE_DEFLATE,
            (Some(_), false) => LANE_V2_TEXT,
            (Some(_), true) => LANE_V2_DEFLATE,
        };
        Self {
            shared,
            seat,
            connection: facts.connection,
            lane_first: facts.lane_first,
            lane: LaneId(facts.lane_first.0 + lane as u8),
            is_pinged: false,
            ticket_next: 0,
            heard: facts.now.steady,
            client_event_due: Nanos::default(),
            subscriptions: Vec::new(),
            rosters: Vec::new(),
            user: None,
            two: two.map(Box::new),
        }
    }

    /// The version this peer speaks.
    pub(super) fn version(&self) -> Version {
        if self.two.is_some() { Version::Two } else { Version::Seven }
    }

    /// Sends one of the server's own frames, which version 2 gives a name.
    pub(super) fn say(&mut self, mut frame: Vec<u8>, out: &mut Vec<Output>) {
        if let Some(two) = &mut self.two {
            two.name(&mut frame);
        }
        out.push(Output::Text(frame));
    }

    /// Tells the peer its mistake.
    pub(super) fn fault(&mut self, fault: &Fault, out: &mut Vec<Output>) {
        let frame = frames::error(self.version(), fault.code(), fault);
        self.say(frame, out);
    }

    fn end(&mut self, ending: &Ending) -> Output {
        let mut frame = frames::error(self.version(), ending.code(), ending);
        if let Some(two) = &mut self.two {
            two.name(&mut frame);
        }
        end(ending, frame)
    }

    /// The app this connection belongs to.
    pub(super) fn app(&self) -> &App {
        &self.seat
    }

    /// A name for the next ask.
    pub(super) fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.ticket_next);
        self.ticket_next = self.ticket_next.wrapping_add(1);
        ticket
    }

    /// A channel of this connection's app.
    pub(super) fn channel(&self, name: Name) -> Channel {
        Channel { app: self.seat.index, name }
    }

    /// The id of one of this dialect's lanes.
    pub(super) fn lane_id(&self, lane: usize) -> LaneId {
        LaneId(self.lane_first.0 + lane as u8)
    }

    /// The lane this peer takes its events in.
    pub(super) fn lane(&self) -> LaneId {
        self.lane
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.subscriptions.binary_search_by(|it| (*it.name).cmp(name))
    }

    /// The subscription of a channel, asked for or standing.
    pub(super) fn subscription(&mut self, name: &str) -> Option<&mut Subscription> {
        self.find(name).ok().map(|at| &mut self.subscriptions[at])
    }

    fn opened(&mut self, now: Now, out: &mut Vec<Output>) {
        let timeout = self.shared.settings.activity_timeout;
        if let Some(two) = &mut self.two {
            two.open(self.connection, now);
        }
        let frame = frames::connection_established(self.version(), self.connection, timeout);
        self.say(frame, out);
        self.heard = now.steady;
        out.push(Output::Arm(KEEP_ALIVE, self.silence_max()));
    }

    /// How long the peer may be silent before it is pinged.
    fn silence_max(&self) -> Millis {
        let timeout = self.shared.settings.activity_timeout;
        match self.version() {
            Version::Seven => timeout,
            Version::Two => PING_SILENCE_MIN.max(Millis(timeout.0 / 2)),
        }
    }

    /// One lazy timer: input only notes the time, and the timer looks at the note when it comes.
    fn keep_alive(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.is_pinged {
            return out.push(self.end(&Ending::PongMissing));
        }
        let timeout = self.silence_max();
        let silent = Millis(now.steady.since(self.heard).as_millis() as u64);
        if silent < timeout {
            return out.push(Output::Arm(KEEP_ALIVE, Millis(timeout.0 - silent.0)));
        }
        self.is_pinged = true;
        out.push(match self.version() {
            Version::Seven => Output::Text(frames::PING.to_vec()),
            // Its clients take a ping of the application's for an event.
            Version::Two => Output::Ping,
        });
        out.push(Output::Arm(KEEP_ALIVE, self.shared.settings.pong_timeout));
    }

    /// Anything that came is a sign of life.
    fn hear(&mut self, now: Now, out: &mut Vec<Output>) {
        self.heard = now.steady;
        if std::mem::take(&mut self.is_pinged) {
            out.push(Output::Arm(KEEP_ALIVE, self.silence_max()));
        }
    }

    fn text(&mut self, text: &str, now: Now, out: &mut Vec<Output>) -> Result<(), Fault> {
        let message = Envelope::read(text)?;
        if message.event.starts_with("client-") {
            return self.client_event(&message, now, out);
        }
        let prefixed = |prefix| message.event.strip_prefix(prefix);
        match prefixed("pusher:").or_else(|| prefixed("sockudo:")) {
            Some("ping") => out.push(Output::Text(frames::pong(self.version()))),
            Some("subscribe") => return self.subscribe(message.data, out),
            Some("unsubscribe") => return self.unsubscribe(message.data, out),
            Some("signin") => return self.signin(message.data, out),
            Some("resume") if self.two.is_some() => return self.resume(message.data, out),
            Some("channel_history") if self.two.is_some() => {
                return self.channel_history(message.data, out);
            }
            // A pong has done its work by coming. What is not known is not answered: clients send
            // things of their own that other servers understand.
            _ => {}
        }
        Ok(())
    }

    fn subscribe(&mut self, data: Option<Raw<'_>>, out: &mut Vec<Output>) -> Result<(), Fault> {
        let mut buffer = String::new();
        let data = object("subscribe", data, &mut buffer)?;
        let name = field(data, "subscribe", "channel")?;
        let auth = optional(data, "subscribe", "auth")?;
        let channel_data = optional(data, "subscribe", "channel_data")?;
        let rewind = match &self.two {
            Some(_) => super::continuity::rewind(data)?,
            None => None,
        };
        if names::is_internal(&name) {
            return self.subscribe_internal(&name, out);
        }
        names::check(&name, self.app().settings.channel_name_bytes_max).map_err(Fault::Name)?;
        let kind = Kind::of(&name);
        if kind.access != Access::Public {
            self.authorize(&name, auth.as_deref(), channel_data.as_deref(), kind.access)?;
        }
        let member = match kind.access {
            Access::Presence => Some(self.member(channel_data.as_deref())?),
            Access::Public | Access::Private => None,
        };
        let at = match self.find(&name) {
            Ok(at) => {
                self.acknowledge_again(at, out);
                return Ok(());
            }
            Err(at) => at,
        };
        let max = self.shared.settings.subscriptions_per_connection_max;
        if self.subscriptions.len() >= max {
            return Err(Fault::SubscriptionsFull { max });
        }
        let (name, ticket) = (Name::from(&*name), self.ticket());
        let start = self.start(&name, rewind);
        let settings = &self.app().settings;
        let subscribe = Subscribe {
            members_max: settings.presence_members_max,
            // Members tell a presence channel's count already.
            announce_count: settings.subscription_counts && member.is_none(),
            member: member.clone(),
            start,
            ..Subscribe::new(self.channel(name.clone()), self.lane)
        };
        // Most peers have a few: room for one first, then for half as many again.
        if self.subscriptions.len() == self.subscriptions.capacity() {
            self.subscriptions.reserve_exact(self.subscriptions.len() / 2 + 1);
        }
        let place = (start != Start::Now).then(|| Box::new(Place::new(start, rewind.is_some())));
        self.subscriptions.insert(at, Subscription { name, member, ticket, owed: 1, place });
        let (name, subscribe) = (self.subscriptions[at].name.clone(), Box::new(subscribe));
        match subscribe.start {
            Start::Now => out.push(Output::Ask(ticket, Command::Subscribe(subscribe))),
            _ => self.ask_paced(&name, ticket, subscribe, out),
        }
        Ok(())
    }

    /// How many subscriptions there are, asked for or standing.
    pub(super) fn subscriptions_len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Whether the subscription that was to be asked for with this ticket is still wanted.
    pub(super) fn is_wanted(&self, name: &str, ticket: Ticket) -> bool {
        self.find(name).is_ok_and(|at| self.subscriptions[at].ticket == ticket)
    }

    /// `pusher-js` asks for the user's own channel after a sign-in; the sign-in subscribed it.
    fn subscribe_internal(&mut self, name: &str, out: &mut Vec<Output>) -> Result<(), Fault> {
        match (name.strip_prefix(USER_PREFIX), &self.user) {
            (Some(user_id), Some(user)) if user_id == &*user.member.user_id => {
                let frame = frames::subscribed(self.version(), name, None);
                self.say(frame, out);
                Ok(())
            }
            _ => Err(Fault::NotAllowed(name.chars().take(200).collect())),
        }
    }

    fn authorize(
        &self,
        name: &str,
        auth: Option<&str>,
        channel_data: Option<&str>,
        access: Access,
    ) -> Result<(), Fault> {
        let auth = auth.filter(|auth| !auth.is_empty()).ok_or(Fault::AuthMissing)?;
        // Only a member's data is signed along.
        let signed_data = channel_data.filter(|_| access == Access::Presence);
        let socket_id = self.connection.to_string();
        if sign::verify_channel(self.app(), auth, &socket_id, name, signed_data) {
            return Ok(());
        }
        Err(Fault::AuthWrong {
            socket_id: self.connection,
            channel: name.into(),
            with_data: signed_data.is_some(),
        })
    }

    /// Who the peer is in a presence channel: as the signed `channel_data` says, else as it signed in.
    fn member(&self, channel_data: Option<&str>) -> Result<Arc<Member>, Fault> {
        let Some(text) = channel_data else {
            let user = self.user.as_ref().ok_or(Fault::ChannelDataMissing)?;
            return Ok(user.member.clone());
        };
        let bytes_max = self.app().settings.presence_member_bytes_max;
        if text.len() > bytes_max {
            return Err(Fault::MemberTooLarge { bytes: text.len(), bytes_max });
        }
        let data = json::parse_str(text).map_err(|_| Fault::ChannelDataNotJson)?;
        let (mut user_id, mut info) = (None, None);
        for (key, value) in data.members() {
            match &*key {
                "user_id" => user_id = Some(value),
                "user_info" => info = Some(value),
                _ => {}
            }
        }
        let user_id = user_id.and_then(user_id_of).ok_or(Fault::UserIdMissing)?;
        let info = info.map(|info| Payload(Bytes::copy_from_slice(info.text().as_bytes())));
        Ok(Arc::new(Member { user_id: Name::from(&*user_id), info }))
    }

    /// The peer subscribes what it has subscribed: it hears so, again.
    fn acknowledge_again(&mut self, at: usize, out: &mut Vec<Output>) {
        let subscription = &mut self.subscriptions[at];
        if subscription.owed > 0 {
            subscription.owed = (subscription.owed + 1).min(ACKNOWLEDGEMENTS_MAX);
            return;
        }
        let name = subscription.name.clone();
        let has_members = subscription.member.is_some();
        let is_kept = subscription.place.as_ref().is_some_and(|it| it.attached.is_some());
        if !is_kept && !has_members {
            let frame = frames::subscribed(self.version(), &name, None);
            self.say(frame, out);
        } else if self.rosters.len() < ROSTERS_MAX {
            let ticket = self.ticket();
            self.rosters.push(Roster { ticket, channel: name.clone(), position: None });
            let channel = self.channel(name);
            let command =
                if is_kept { Command::Stream(channel) } else { Command::Members(channel) };
            out.push(Output::Ask(ticket, command));
        }
    }

    /// More about a channel whose subscription is to be acknowledged again; an answer that is none says that
    /// there is nothing to know.
    fn roster(&mut self, at: usize, reply: Reply, out: &mut Vec<Output>) {
        let mut roster = self.rosters.swap_remove(at);
        if self.rosters.is_empty() {
            self.rosters = Vec::new();
        }
        // Unless it unsubscribed while the answer was on its way.
        let Ok(at) = self.find(&roster.channel) else { return };
        let has_members = self.subscriptions[at].member.is_some();
        let members = match reply {
            Reply::Members(members) => Some(members),
            Reply::Stream(stream) => {
                roster.position = Some(stream.position());
                None
            }
            _ => None,
        };
        if has_members && members.is_none() {
            roster.ticket = self.ticket();
            let channel = self.channel(roster.channel.clone());
            out.push(Output::Ask(roster.ticket, Command::Members(channel)));
            return self.rosters.push(roster);
        }
        let attached = roster.position.map(|it| it.serial);
        let frame =
            self.acknowledgement(&roster.channel, members.as_deref(), attached, roster.position);
        self.say(frame, out);
    }

    /// The frame that says that a subscription stands: its channel's history has come to `attached`, and
    /// what follows is what came after `position`.
    fn acknowledgement(
        &self,
        name: &str,
        members: Option<&[Arc<Member>]>,
        attached: Option<Serial>,
        position: Option<Position>,
    ) -> Vec<u8> {
        let version = self.version();
        let attached = attached.filter(|_| version == Version::Two);
        let mut frame = match members {
            Some(members) => {
                let members = members.iter().map(|it| &**it);
                frames::subscribed_presence(version, name, attached, members)
            }
            None => frames::subscribed(version, name, attached),
        };
        if let (Version::Two, Some(position)) = (version, position) {
            frames::extend(&mut frame, |frame| frames::place(position, frame));
        }
        frame
    }

    fn unsubscribe(&mut self, data: Option<Raw<'_>>, out: &mut Vec<Output>) -> Result<(), Fault> {
        let mut buffer = String::new();
        let data = object("unsubscribe", data, &mut buffer)?;
        let name = field(data, "unsubscribe", "channel")?;
        if let Some(two) = &mut self.two {
            two.forget(&name);
        }
        // Unknown is fine: the peer wants it gone and it is.
        if let Ok(at) = self.find(&name) {
            let gone = self.subscriptions.remove(at);
            if gone.place.is_some() && gone.owed > 0 && self.is_waiting(gone.ticket) {
                return Ok(());
            }
            let channel = self.channel(gone.name);
            let ticket = self.ticket();
            out.push(Output::Ask(ticket, Command::Unsubscribe(channel)));
        }
        Ok(())
    }

    fn client_event(
        &mut self,
        message: &Envelope<'_>,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let settings = &self.seat.settings;
        if !settings.client_events {
            return Err(Fault::ClientEventsDisabled);
        }
        let Some(channel) = &message.channel else {
            return Err(Fault::ClientEventNowhere);
        };
        let kind = Kind::of(channel);
        if kind.access == Access::Public || kind.is_encrypted {
            return Err(Fault::ClientEventChannel { is_encrypted: kind.is_encrypted });
        }
        let standing = self.find(channel).ok().map(|at| &self.subscriptions[at]);
        let Some(subscription) = standing.filter(|it| it.owed == 0) else {
            return Err(Fault::NotSubscribed {
                socket_id: self.connection,
                channel: channel.chars().take(200).collect(),
            });
        };
        if message.event.len() > settings.event_name_bytes_max {
            return Err(Fault::EventNameLong { bytes_max: settings.event_name_bytes_max });
        }
        let data = message.data.map_or("null", Raw::text);
        let bytes_max = settings.event_payload_bytes_max;
        if data.len() > bytes_max {
            return Err(Fault::EventTooLarge { bytes: data.len(), bytes_max });
        }
        if !is_within_rate(
            &mut self.client_event_due,
            now.steady,
            settings.client_events_per_second_max,
        ) {
            if settings.client_events_terminate {
                out.push(Output::Count(Counter::ClientEventsLimited));
                out.push(self.end(&Ending::RateLimited));
                return Ok(());
            }
            return Err(Fault::RateLimited);
        }
        let publish = Publish {
            sender: Some(Sender {
                connection: self.connection,
                user_id: subscription.member.as_ref().map(|member| member.user_id.clone()),
            }),
            exclude: Some(self.connection)
                .filter(|_| !self.two.as_ref().is_some_and(|it| it.echoes)),
            quiet: true,
            ..Publish::new(
                Channel { app: self.seat.index, name: subscription.name.clone() },
                Name::from(&*message.event),
                Payload(Bytes::copy_from_slice(data.as_bytes())),
                now.steady,
            )
        };
        let ticket = self.ticket();
        out.push(Output::Count(Counter::ClientEvents));
        out.push(Output::Ask(ticket, Command::Publish(Box::new(publish))));
        Ok(())
    }

    fn reply(&mut self, ticket: Ticket, reply: Reply, out: &mut Vec<Output>) {
        if self.user_reply(ticket, &reply, out) {
            return;
        }
        if let Some(at) = self.rosters.iter().position(|it| it.ticket == ticket) {
            return self.roster(at, reply, out);
        }
        let Some(reply) = self.continuity_reply(ticket, reply, out) else { return };
        match reply {
            Reply::Subscribed(subscribed) => self.subscribed(ticket, *subscribed, out),
            Reply::Refused(refusal) => self.refused(ticket, refusal, out),
            _ => {}
        }
        self.paced(ticket, out);
    }

    fn subscribed(&mut self, ticket: Ticket, subscribed: Subscribed, out: &mut Vec<Output>) {
        let name = subscribed.channel.name.clone();
        let Ok(at) = self.find(&name) else { return };
        let subscription = &mut self.subscriptions[at];
        // The answer to one that was given up since, while a newer one is on its way.
        if subscription.ticket != ticket {
            return;
        }
        subscription.name = name.clone();
        let owed = std::mem::take(&mut subscription.owed);
        let has_members = subscription.member.is_some();
        let position = self.began(&name, &subscribed);
        let attached = subscribed.position.map(|it| it.serial);
        let members = has_members.then_some(&*subscribed.members);
        let frame = self.acknowledgement(&name, members, attached, position);
        for _ in 1..owed {
            self.say(frame.clone(), out);
        }
        self.say(frame, out);
        if Kind::of(&name).is_cache {
            self.last(&name, &subscribed, out);
        }
        if let Some(replay) = subscribed.replay {
            self.replay(&name, *replay, out);
        } else {
            self.replay_missing(&name, out);
        }
    }

    /// What a cache channel's subscriber starts with.
    fn last(&mut self, name: &Name, subscribed: &Subscribed, out: &mut Vec<Output>) {
        let version = self.version();
        match &subscribed.description.last {
            // It comes with the events of the past, or came before them.
            Some((event, _)) if self.is_replayed(name, event, subscribed) => {}
            Some((event, _)) => {
                let mut frame = Vec::new();
                if frames::render(version, event, &mut frame) {
                    out.push(Output::Text(frame));
                }
            }
            None => self.say(frames::cache_miss(version, name), out),
        }
    }

    fn refused(&mut self, ticket: Ticket, refusal: Refusal, out: &mut Vec<Output>) {
        let pending = |it: &Subscription| it.ticket == ticket && it.owed > 0;
        let Some(at) = self.subscriptions.iter().position(pending) else { return };
        let gone = self.subscriptions.remove(at);
        if let Some(place) = &gone.place {
            self.put_back(&gone.name, place);
        }
        match refusal {
            Refusal::MembersFull { members_max } => {
                let channel = gone.name.to_string();
                self.fault(&Fault::MembersFull { channel, members_max }, out);
            }
            Refusal::ChannelsFull { .. } => self.fault(&Fault::ChannelsFull, out),
            _ => {}
        }
    }

    fn event(&mut self, event: &Event, out: &mut Vec<Output>) {
        match event.happening {
            Happening::Control(Control::Terminate) => out.push(self.end(&Ending::Terminated)),
            Happening::Control(Control::Reconnect) => out.push(self.end(&Ending::Reconnect)),
            _ => {}
        }
    }
}

impl Session for PusherSession {
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        match input {
            Input::Opened => self.opened(now, out),
            Input::Text(text) => {
                self.hear(now, out);
                if let Err(error) = self.text(text, now, out) {
                    out.extend(error.counter().map(Output::Count));
                    self.fault(&error, out);
                }
            }
            Input::Binary(_) => {
                self.hear(now, out);
                self.fault(&Fault::Binary, out);
            }
            Input::Reply(ticket, reply) => self.reply(ticket, reply, out),
            Input::Event(event) => self.event(event, out),
            Input::Timer(KEEP_ALIVE) => self.keep_alive(now, out),
            Input::Pong if self.two.is_some() => {
                self.hear(now, out);
                self.pace_ponged(out);
            }
            Input::Timer(_)
            | Input::Body(_)
            | Input::Found(..)
            | Input::Pong
            | Input::Asked
            | Input::Call(..)
            | Input::Closed => {}
        }
    }

    fn held_bytes(&self) -> usize {
        self.two.as_ref().map_or(0, |it| it.held_bytes())
    }
}

/// A connection that is told why it may not be, and ended.
pub struct Refusing(pub(super) Version, pub(super) Ending);

impl Session for Refusing {
    fn handle(&mut self, input: Input<'_>, _: Now, out: &mut Vec<Output>) {
        if let Input::Opened = input {
            let frame = frames::error(self.0, self.1.code(), &self.1);
            out.push(end(&self.1, frame));
        }
    }
}

/// The error frame and the close frame of an ending.
fn end(ending: &Ending, frame: Vec<u8>) -> Output {
    let mut text = ending.to_string();
    // A close frame's reason has 123 bytes. Source: RFC 6455, section 5.5.
    while text.len() > 123 {
        text.pop();
    }
    let message = String::from_utf8(frame).ok().map(Cow::Owned);
    let farewell = Farewell { message, code: ending.code(), text: Cow::Owned(text) };
    Output::Close(farewell, CloseReason::Session)
}

/// A user's id: a string that is not empty.
pub(super) fn user_id_of(value: Raw<'_>) -> Option<Cow<'_, str>> {
    value.as_str().filter(|text| !text.is_empty())
}

impl<'a> Envelope<'a> {
    fn read(text: &'a str) -> Result<Self, Fault> {
        let (mut event, mut channel, mut data) = (None, None, None);
        let read = json::read_object(text, |key, value| match &*key {
            "event" => event = value.as_str(),
            "channel" => channel = value.as_str(),
            "data" => data = Some(value),
            _ => {}
        });
        read.map_err(Fault::NotJson)?;
        Ok(Self { event: event.ok_or(Fault::EventMissing)?, channel, data })
    }
}

/// An event's `data` as an object: the object itself, or the string that holds one, decoded into
/// `buffer`.
pub(super) fn object<'a>(
    event: &'static str,
    data: Option<Raw<'a>>,
    buffer: &'a mut String,
) -> Result<Raw<'a>, Fault> {
    let malformed = || Fault::DataMalformed { event };
    let data = data.ok_or_else(malformed)?;
    let data = match data.as_str() {
        Some(text) => {
            *buffer = text.into_owned();
            json::parse_str(buffer).map_err(|_| malformed())?
        }
        None => data,
    };
    if data.kind() != JsonKind::Object {
        return Err(malformed());
    }
    Ok(data)
}

/// A string member that must be there.
pub(super) fn field<'a>(
    data: Raw<'a>,
    event: &'static str,
    field: &'static str,
) -> Result<Cow<'a, str>, Fault> {
    optional(data, event, field)?.ok_or(Fault::FieldMissing { event, field })
}

/// A string member that may be absent or null, but not anything else.
pub(super) fn optional<'a>(
    data: Raw<'a>,
    event: &'static str,
    field: &'static str,
) -> Result<Option<Cow<'a, str>>, Fault> {
    match data.member(field) {
        None => Ok(None),
        Some(value) if value.is_null() => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(Fault::FieldMissing { event, field }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        assert!(size_of::<PusherSession>() <= 160, "{}", size_of::<PusherSession>());
        assert!(size_of::<Subscription>() <= 40, "{}", size_of::<Subscription>());
    }
}
