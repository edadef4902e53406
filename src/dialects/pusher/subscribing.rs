//! Subscriptions of one connection: asked for, acknowledged, refused, ended.

use std::sync::Arc;

use bytes::Bytes;

use super::capabilities::Op;
use super::continuity::Place;
use super::delta::Asked;
use super::fault::Fault;
use super::filters::Predicate;
use super::frames::{self, Version};
use super::names::{self, Access, Kind, USER_PREFIX};
use super::session::{
    ACKNOWLEDGEMENTS_MAX, PusherSession, ROSTERS_MAX, Roster, Subscription, field, object,
    optional, user_id_of,
};
use super::versions;
use crate::auth::sign;
use crate::base::ids::{Serial, Ticket};
use crate::base::name::Name;
use crate::broker::versioned::Summarized;
use crate::broker::{
    Command, Member, Payload, Position, Refusal, Reply, Start, Subscribe, Subscribed, companion,
};
use crate::dialects::Output;
use crate::wire::json::{self, Raw};

impl PusherSession {
    pub(super) fn subscribe(
        &mut self,
        data: Option<Raw<'_>>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let mut buffer = String::new();
        let data = object("subscribe", data, &mut buffer)?;
        let name = field(data, "subscribe", "channel")?;
        let auth = optional(data, "subscribe", "auth")?;
        let channel_data = optional(data, "subscribe", "channel_data")?;
        let rewind = match &self.two {
            Some(_) => super::continuity::rewind(data)?,
            None => None,
        };
        let with_annotations = match &self.two {
            Some(_) => versions::wants_annotations(data).ok_or(Fault::ModesMalformed)?,
            None => false,
        };
        let (predicate, delta) = match &self.two {
            Some(_) => (Predicate::of(data)?, Asked::of(data)),
            None => (None, None),
        };
        if predicate.is_some() && !self.shared.version_two.filters {
            return Err(Fault::FiltersDisabled);
        }
        if names::is_internal(&name) {
            return self.subscribe_internal(&name, out);
        }
        if let Some(of) = companion::of_meta(&name) {
            return self.subscribe_meta(&name, of, auth.as_deref(), out);
        }
        let is_pattern = self.two.is_some() && names::is_pattern(&name);
        let settings = &self.app().settings;
        let bytes_max = settings.channel_name_bytes_max;
        match is_pattern {
            true => names::check_pattern(&name, bytes_max),
            false => names::check(&name, bytes_max, &settings.namespaces),
        }
        .map_err(Fault::Name)?;
        let kind = Kind::of(&name);
        self.allow_subscribe(&name, kind, rewind.is_some())?;
        if kind.access != Access::Public {
            self.authorize(&name, auth.as_deref(), channel_data.as_deref(), kind.access)?;
        }
        let member = match kind.access {
            Access::Presence => Some(self.member(channel_data.as_deref())?),
            Access::Public | Access::Private => None,
        };
        if with_annotations {
            self.allow(Op::AnnotationSubscribe, &name)?;
        }
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
        let filter = self.choose(&name, predicate, delta);
        let lane = if with_annotations { self.lane_with_annotations() } else { self.lane() };
        let settings = &self.app().settings;
        let subscribe = Subscribe {
            members_max: settings.presence_members_max,
            // Members tell a presence channel's count already.
            announce_count: settings.subscription_counts && member.is_none() && !is_pattern,
            lease: self.lease(),
            member: member.clone(),
            // Many channels have no one past.
            start: if is_pattern { Start::Now } else { start },
            is_pattern,
            silent: is_pattern,
            filter,
            ..Subscribe::new(self.channel(name.clone()), lane)
        };
        // Most peers have a few: room for one first, then for half as many again.
        if self.subscriptions.len() == self.subscriptions.capacity() {
            self.subscriptions.reserve_exact(self.subscriptions.len() / 2 + 1);
        }
        let place = (start != Start::Now).then(|| Box::new(Place::new(start, rewind.is_some())));
        self.subscriptions.insert(at, Subscription { name, member, ticket, owed: 1, lane, place });
        let (name, subscribe) = (self.subscriptions[at].name.clone(), Box::new(subscribe));
        match subscribe.start {
            Start::Now => out.push(Output::Ask(ticket, Command::Subscribe(subscribe))),
            _ => self.ask_paced(&name, ticket, Command::Subscribe(subscribe), out),
        }
        Ok(())
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

    /// Whether the peer's token or sign-in lets it in; signatures are another matter.
    fn allow_subscribe(&self, name: &str, kind: Kind, rewinds: bool) -> Result<(), Fault> {
        self.allow(Op::Subscribe, name)?;
        if kind.access == Access::Presence {
            self.allow(Op::Presence, name)?;
        }
        if rewinds {
            self.allow(Op::History, name)?;
        }
        Ok(())
    }

    pub(super) fn authorize(
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
    pub(super) fn acknowledge_again(&mut self, at: usize, out: &mut Vec<Output>) {
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
    pub(super) fn roster(&mut self, at: usize, reply: Reply, out: &mut Vec<Output>) {
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

    pub(super) fn unsubscribe(
        &mut self,
        data: Option<Raw<'_>>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let mut buffer = String::new();
        let data = object("unsubscribe", data, &mut buffer)?;
        let name = field(data, "unsubscribe", "channel")?;
        self.leave(&name, out);
        Ok(())
    }

    /// Ends a subscription, asked for or standing.
    pub(super) fn leave(&mut self, name: &str, out: &mut Vec<Output>) {
        if let Some(two) = &mut self.two {
            two.forget(name);
        }
        // Unknown is fine: the peer wants it gone and it is.
        if let Ok(at) = self.find(name) {
            let gone = self.subscriptions.remove(at);
            self.forget_choice(&gone.name);
            if gone.place.is_some() && gone.owed > 0 && self.is_waiting(gone.ticket) {
                return;
            }
            let channel = self.channel(gone.name);
            let ticket = self.ticket();
            out.push(Output::Ask(ticket, Command::Unsubscribe(channel)));
        }
    }

    pub(super) fn subscribed(
        &mut self,
        ticket: Ticket,
        subscribed: Subscribed,
        out: &mut Vec<Output>,
    ) {
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
        self.begin_delta(&name, out);
        if Kind::of(&name).is_cache && !names::is_pattern(&name) {
            self.last(&name, &subscribed, out);
        }
        if let Some(replay) = subscribed.replay {
            self.replay(&name, *replay, out);
        } else {
            self.replay_missing(&name, out);
        }
        if names::is_pattern(&name) {
            self.resume_pattern(&name, out);
        }
        if self.two.is_some() && subscribed.position.is_some() && self.shared.has_annotations() {
            self.ask_summaries(&name, out);
        }
    }

    /// Asks what is said about the messages of a channel whose subscription has just begun to stand.
    fn ask_summaries(&mut self, name: &Name, out: &mut Vec<Output>) {
        let ticket = self.ticket();
        let Some(subscription) = self.subscription(name) else { return };
        subscription.ticket = ticket;
        let command = Command::Summaries(self.channel(name.clone()));
        self.ask_paced(name, ticket, command, out);
    }

    /// What is said about a channel's messages; of more than may be sent of the past at once, the newest.
    pub(super) fn summaries(
        &mut self,
        ticket: Ticket,
        summaries: &[Arc<Summarized>],
        out: &mut Vec<Output>,
    ) {
        let pace = self.pace();
        let Some(name) =
            pace.and_then(|it| it.open(ticket)).filter(|it| self.is_wanted(it, ticket))
        else {
            return;
        };
        let (mut frames, mut bytes) = (Vec::new(), 0);
        for it in summaries.iter().rev() {
            let mut frame = Vec::new();
            versions::summarized(&name, it, &mut frame);
            if bytes + frame.len() > self.shared.replay_bytes_max {
                break;
            }
            bytes += frame.len();
            frames.push(frame);
        }
        if let Some(pace) = self.pace() {
            pace.sent(bytes);
        }
        for frame in frames.into_iter().rev() {
            self.send(frame, out);
        }
    }

    /// What a cache channel's subscriber starts with.
    fn last(&mut self, name: &Name, subscribed: &Subscribed, out: &mut Vec<Output>) {
        match &subscribed.description.last {
            // It comes with the events of the past, or came before them.
            Some((event, _)) if self.is_replayed(name, event, subscribed) => {}
            Some((event, _)) if !self.lets_through(name, event) => {}
            Some((event, _)) => {
                self.show(self.lane(), event, out);
            }
            None => {
                let report = self.shared.reports.cache_miss(self.seat.index, name);
                out.extend(report.map(Output::Report));
                self.say(frames::cache_miss(self.version(), name), out);
            }
        }
    }

    pub(super) fn refused(&mut self, ticket: Ticket, refusal: Refusal, out: &mut Vec<Output>) {
        let pending = |it: &Subscription| it.ticket == ticket && it.owed > 0;
        let Some(at) = self.subscriptions.iter().position(pending) else { return };
        let gone = self.subscriptions.remove(at);
        self.forget_choice(&gone.name);
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
}
