//! Subscribing and unsubscribing, names and their aliases, and whose metadata is shown.

use std::borrow::Cow;
use std::sync::Arc;

use super::claims::Claims;
use super::doing::{Doing, Origin, What};
use super::envelope::Envelope;
use super::faults::{Code, Fault};
use super::rights::{MessageRights, Observes, Reactions, Rights};
use super::session::HotsockSession;
use super::user::User;
use super::{LANE_OBSERVER, LANE_PLAIN, MEMBERS_BYTES_MAX, frames, names};
use crate::base::ids::{LaneId, Ticket};
use crate::base::name::Name;
use crate::base::time::{Now, UnixMillis};
use crate::broker::state::{AdmitKey, Keys, Value, ValuesQuery};
use crate::broker::{
    Admit, Command, Event, Filter, Happening, Refusal, Renew, Reply, Subscribe, Subscribed, Verdict,
};
use crate::dialects::Output;
use crate::wire::json::same_value;

/// Rights that were looked up last, kept per subscription.
const RIGHTS_MAX: usize = 4;
/// Values that are read at once for a new subscription.
const MORE_VALUES_MAX: u32 = 100;
/// And their bytes.
const MORE_BYTES_MAX: u64 = 512 << 10;

/// A subscription, asked for or standing.
pub(super) struct Subscription {
    /// What the broker calls the channel.
    home: Name,
    stage: Stage,
    /// What the subscribe token says, if there was one.
    pub claims: Option<Arc<Claims>>,
    /// Who it is in this channel.
    pub user: Arc<User>,
    /// What the peer may call the channel.
    alias: Option<Box<str>>,
    /// As the peer called it; none: by its name.
    sent: Option<Box<str>>,
    is_automatic: bool,
    /// It inherits who it is from the connection.
    pub inherits: bool,
    /// When it was asked for.
    pub since: UnixMillis,
    /// What it may do with the events it was asked for last.
    rights: Vec<(Name, Arc<MessageRights>)>,
    /// Memory it was counted for.
    counted: usize,
}

/// How far a subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its turn has not come.
    Queued,
    /// Its token is being used.
    Using(Ticket),
    /// The broker is asked.
    Asked(Ticket),
    /// It stands.
    Standing,
}

impl Subscription {
    /// The channel's name, as peers see it.
    pub fn name(&self) -> &str {
        names::from_broker(&self.home)
    }

    /// What the broker calls the channel.
    pub fn home(&self) -> &Name {
        &self.home
    }

    /// Whether it stands.
    pub fn is_standing(&self) -> bool {
        self.stage == Stage::Standing
    }

    /// The channel as the peer called it.
    fn sent(&self) -> &str {
        self.sent.as_deref().unwrap_or_else(|| self.name())
    }

    /// Memory it holds.
    fn held_bytes(&self) -> usize {
        let claims = self.claims.as_ref().map_or(0, |it| it.held_bytes());
        let names = [&self.alias, &self.sent].into_iter().flatten().map(|it| it.len());
        let user = if self.inherits { 0 } else { self.user.held_bytes() };
        let rights = self.rights.iter().map(|(event, _)| event.len() + size_of::<MessageRights>());
        size_of::<Self>() + claims + names.sum::<usize>() + user + rights.sum::<usize>()
    }
}

/// Every key.
struct AllKeys;

impl AdmitKey for AllKeys {
    fn admit(&self, _: &str) -> bool {
        true
    }
}

/// Takes every event, of values those under some keys.
struct ObserveSome(Keys);

impl Admit for ObserveSome {
    fn admit(&self, event: &Event) -> Verdict {
        match &event.happening {
            Happening::ValueChanged(change) if !self.0.0.admit(&change.key) => Verdict::Skip,
            _ => Verdict::Frame,
        }
    }
}

impl HotsockSession {
    fn find(&self, name: &str) -> Result<usize, usize> {
        self.subscriptions.binary_search_by(|it| it.name().cmp(name))
    }

    /// Counts the memory of a subscription that changed.
    fn count(&mut self, at: usize) {
        let it = &mut self.subscriptions[at];
        let held = it.held_bytes();
        self.subscriptions_bytes = self.subscriptions_bytes + held - it.counted;
        it.counted = held;
    }

    fn remove(&mut self, at: usize) -> Subscription {
        let gone = self.subscriptions.remove(at);
        self.subscriptions_bytes -= gone.counted;
        gone
    }

    /// The subscription of a channel that stands.
    pub(super) fn standing(&self, name: &str) -> Option<&Subscription> {
        let at = self.find(name).ok()?;
        Some(&self.subscriptions[at]).filter(|it| it.is_standing())
    }

    /// Whether any subscription is on its way.
    pub(super) fn has_pending(&self) -> bool {
        self.pending > 0
    }

    /// Whether a channel's is.
    pub(super) fn is_pending(&self, name: &str) -> bool {
        self.find(name).is_ok_and(|at| !self.subscriptions[at].is_standing())
    }

    /// The channel that the peer means: a name of its tokens is itself, else an alias, else a name. Source: our
    /// reference, section 5.
    pub(super) fn resolve<'a>(&self, sent: &'a str, token: Option<&Claims>) -> Cow<'a, str> {
        // What is subscribed was resolved then.
        let is_name = self.find(sent).is_ok()
            || has_channel(&self.claims, sent)
            || token.is_some_and(|it| has_channel(it, sent));
        if is_name {
            return Cow::Borrowed(sent);
        }
        let by_subscription = || {
            let found = self.subscriptions.iter().find(|it| it.alias.as_deref() == Some(sent))?;
            Some(found.name().to_owned())
        };
        let by = |claims: &Claims| claims.alias_target(sent).map(str::to_owned);
        let real = token.and_then(by).or_else(by_subscription).or_else(|| by(&self.claims));
        real.map_or(Cow::Borrowed(sent), Cow::Owned)
    }

    /// [`HotsockSession::resolve`], and a name that is none is refused.
    pub(super) fn resolve_valid<'a>(&self, sent: &'a str) -> Result<Cow<'a, str>, Fault> {
        let real = self.resolve(sent, None);
        match names::channel_fault(&real) {
            Ok(()) => Ok(real),
            Err(text) => Err(Fault::new(Code::InvalidChannel, text)),
        }
    }

    /// What this connection may do in a channel, its subscription's token included.
    pub(super) fn rights<'a>(&'a self, name: &str) -> Rights<'a> {
        let subscribe = self.standing(name).and_then(|it| it.claims.as_deref());
        Rights { connect: &self.claims, subscribe }
    }

    /// What it may do with an event there; kept for the next time if the channel is subscribed, with the event's
    /// name as one that is shared.
    pub(super) fn message_rights(
        &mut self,
        name: &str,
        event: &str,
    ) -> Result<(Name, Arc<MessageRights>), Fault> {
        let at = self.find(name).ok().filter(|&at| self.subscriptions[at].is_standing());
        if let Some(at) = at {
            let kept = &self.subscriptions[at].rights;
            if let Some((event, rights)) = kept.iter().find(|(it, _)| **it == *event) {
                return Ok((event.clone(), rights.clone()));
            }
        }
        names::event_fault(event).map_err(|text| Fault::new(Code::InvalidEvent, text))?;
        let mut rights = self.rights(name).message(name, event);
        // Nobody asks these what may be said to it, and that may be long.
        rights.react = Reactions::None;
        let (event, rights) = (Name::from(event), Arc::new(rights));
        if let Some(at) = at {
            let kept = &mut self.subscriptions[at].rights;
            if kept.len() == RIGHTS_MAX {
                kept.remove(0);
            }
            kept.push((event.clone(), rights.clone()));
            self.count(at);
        }
        Ok((event, rights))
    }

    pub(super) fn subscribe(
        &mut self,
        message: &Envelope<'_>,
        text: &str,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let sent = message.channel()?;
        let token = message.data_string("token")?;
        let real = self.resolve(&sent, None);
        self.refuse_again(&real)?;
        let claims = match token {
            None => None,
            Some(token) => {
                let claims = self.subscribe_claims(&token, now);
                let invalid = |text| Fault::new(Code::InvalidSubscribeToken, text);
                Some(Arc::new(claims.map_err(invalid)?))
            }
        };
        let real = self.resolve(&sent, claims.as_deref());
        self.refuse_again(&real)?;
        if self.is_pending(&real) {
            return self.wait(Name::from(&*real), text);
        }
        names::channel_fault(&real).map_err(|text| Fault::new(Code::InvalidChannel, text))?;
        let at = self.add(&real, &sent, claims, false, now)?;
        self.begin(at, out);
        Ok(())
    }

    /// A subscription of what is subscribed, told by its name and not by the alias.
    fn refuse_again(&self, real: &str) -> Result<(), Fault> {
        match self.standing(real) {
            None => Ok(()),
            Some(_) => {
                let text = "the channel is subscribed already";
                Err(Fault::new(Code::AlreadySubscribed, text).on(real))
            }
        }
    }

    /// What a token that is to subscribe says, if it is good on this connection.
    fn subscribe_claims(&self, token: &str, now: Now) -> Result<Claims, Cow<'static, str>> {
        let claims = self.check_token(token, now)?;
        if !claims.subscribes {
            return Err("the token has not the scope subscribe".into());
        }
        self.check_bearer(&claims)?;
        Ok(claims)
    }

    /// What a token says, if it is one of ours.
    pub(super) fn check_token(&self, token: &str, now: Now) -> Result<Claims, Cow<'static, str>> {
        let json = self.shared.keyring.verify(token, now.wall);
        let json = json.map_err(|error| error.to_string())?;
        Ok(Claims::parse(&json).map_err(|error| error.to_string())?)
    }

    /// Whether a token is for this connection or its user. Source: our reference, section 2.2.
    pub(super) fn check_bearer(&self, claims: &Claims) -> Result<(), &'static str> {
        if claims.is_for(&self.id(), self.user.uid.as_deref()) {
            Ok(())
        } else {
            Err("the token is for neither this connection nor its user")
        }
    }

    /// Lets the subscriptions begin that the connect token wants at once, one after the other, so that they are
    /// told in its order.
    pub(super) fn subscribe_automatically(&mut self, now: Now, out: &mut Vec<Output>) {
        let channels: Vec<Name> = self.claims.auto_subscribe().map(Name::from).collect();
        for channel in channels {
            let is_name = names::channel_fault(&channel);
            let is_name = is_name.map_err(|text| Fault::new(Code::InvalidChannel, text));
            match is_name.and_then(|()| self.add(&channel, &channel, None, true, now)) {
                Ok(_) => self.autos.push_back(channel),
                Err(fault) => self.fail(Origin::Socket, &fault.on(&channel), out),
            }
        }
        self.begin_next(out);
    }

    fn begin_next(&mut self, out: &mut Vec<Output>) {
        while let Some(channel) = self.autos.pop_front() {
            if let Ok(at) = self.find(&channel) {
                return self.begin(at, out);
            }
        }
    }

    /// Notes a subscription that may be; its place.
    fn add(
        &mut self,
        real: &str,
        sent: &str,
        claims: Option<Arc<Claims>>,
        is_automatic: bool,
        now: Now,
    ) -> Result<usize, Fault> {
        let rights = Rights { connect: &self.claims, subscribe: claims.as_deref() };
        if !rights.may_subscribe(real) {
            let text = "the tokens give no right to subscribe this channel";
            return Err(Fault::new(Code::SubscribePermissionDenied, text));
        }
        let user = match &claims {
            Some(claims) if claims.has_uid || claims.has_umd => {
                let uid = if claims.has_uid { &claims.uid } else { &self.user.uid };
                let umd = if claims.has_umd { &claims.umd } else { &self.user.umd };
                User::new(uid.clone(), umd.clone())
            }
            _ => self.user.clone(),
        };
        if names::is_presence(real) && user.some_uid().is_none() {
            let text = "a presence channel needs a uid";
            return Err(Fault::new(Code::PresenceUserIdRequired, text));
        }
        let max = self.shared.settings.subscriptions_max;
        if self.subscriptions.len() >= max {
            let text = format!("a connection may subscribe {max} channels");
            return Err(Fault::new(Code::RateLimited, text));
        }
        let at = match self.find(real) {
            Err(at) => at,
            // Nobody adds what is there.
            Ok(at) => return Ok(at),
        };
        let alias = rights.alias(real).map(Box::from);
        let inherits = claims.is_none();
        let subscription = Subscription {
            home: self.channel(real).name,
            stage: Stage::Queued,
            alias,
            sent: (sent != real).then(|| sent.into()),
            is_automatic,
            inherits,
            since: now.wall,
            rights: Vec::new(),
            counted: 0,
            claims,
            user,
        };
        // Most peers have a few: room for one first, then for half as many again.
        if self.subscriptions.len() == self.subscriptions.capacity() {
            self.subscriptions.reserve_exact(self.subscriptions.len() / 2 + 1);
        }
        self.subscriptions.insert(at, subscription);
        self.pending += 1;
        self.count(at);
        Ok(at)
    }

    /// Uses a subscription's token, if it is good for one use; else asks the broker.
    fn begin(&mut self, at: usize, out: &mut Vec<Output>) {
        let ticket = self.ticket();
        let subscription = &mut self.subscriptions[at];
        let single = subscription.claims.as_ref().filter(|it| it.single_use);
        match single.and_then(|it| Some((it.jti.clone()?, it.expires))) {
            Some((jti, expires)) => {
                subscription.stage = Stage::Using(ticket);
                let until = self.shared.good_until(expires);
                let command = Command::UseOnce(self.shared.app.index, jti, until);
                out.push(Output::Ask(ticket, command));
            }
            None => self.ask_subscribe(at, out),
        }
    }

    fn ask_subscribe(&mut self, at: usize, out: &mut Vec<Output>) {
        let ticket = self.ticket();
        let subscription = &self.subscriptions[at];
        let name = subscription.name();
        let subscribe = subscription.claims.as_deref();
        let rights = Rights { connect: &self.claims, subscribe };
        let member = names::is_presence(name).then(|| subscription.user.member()).flatten();
        let (values, filter) = match rights.observes(name) {
            Observes::Nothing => (None, None),
            Observes::Everything => (Some(Keys(Arc::new(AllKeys))), None),
            Observes::Some(keys) => {
                let admit = Box::new(ObserveSome(keys.clone()));
                (Some(keys), Some(Arc::new(Filter { any_of: None, admit })))
            }
        };
        let lane = if values.is_some() { LANE_OBSERVER } else { LANE_PLAIN };
        let lane = LaneId(self.lane_first.0 + lane + u8::from(self.deflate));
        let channel = self.channel(name);
        // The count is for the world outside. On a bridged channel it would be for other protocols' peers, too.
        let is_own = names::from_broker(&channel.name).len() < channel.name.len();
        let ask = Subscribe {
            members_max: u32::MAX,
            members_bytes_max: MEMBERS_BYTES_MAX,
            renews: true,
            silent: rights.is_uncounted(name),
            announce_count: self.shared.reports && is_own,
            member,
            values,
            filter,
            ..Subscribe::new(channel, lane)
        };
        self.subscriptions[at].stage = Stage::Asked(ticket);
        out.push(Output::Ask(ticket, Command::Subscribe(Box::new(ask))));
    }

    /// The answer to what a subscription waits for.
    pub(super) fn subscription_reply(
        &mut self,
        ticket: Ticket,
        reply: Reply,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let waits = |it: &Subscription| {
            it.stage == Stage::Asked(ticket) || it.stage == Stage::Using(ticket)
        };
        let Some(at) = self.subscriptions.iter().position(waits) else { return };
        match (self.subscriptions[at].stage, reply) {
            (Stage::Using(_), Reply::Done) => return self.ask_subscribe(at, out),
            (Stage::Asked(_), Reply::Subscribed(subscribed)) => {
                self.subscribed(at, *subscribed, out);
            }
            (Stage::Using(_), Reply::Refused(Refusal::Used)) => {
                let text = "the token was used before";
                self.give_up(at, Fault::new(Code::InvalidSubscribeToken, text), out);
            }
            (_, Reply::Refused(refusal)) => self.give_up(at, Fault::from(refusal), out),
            _ => self.give_up(at, Fault::new(Code::Internal, "the server failed"), out),
        }
        self.begin_next(out);
        self.resume(now, out);
    }

    fn give_up(&mut self, at: usize, fault: Fault, out: &mut Vec<Output>) {
        let gone = self.remove(at);
        self.pending -= 1;
        self.fail(Origin::Socket, &fault.on(gone.sent()), out);
    }

    fn subscribed(&mut self, at: usize, subscribed: Subscribed, out: &mut Vec<Output>) {
        let it = &mut self.subscriptions[at];
        it.home = subscribed.channel.name.clone();
        it.stage = Stage::Standing;
        it.sent = None;
        self.pending -= 1;
        let it = &self.subscriptions[at];
        let is_presence = names::is_presence(it.name());
        let members = is_presence.then_some(&*subscribed.members);
        let alias = it.alias.as_deref();
        out.push(Output::Text(frames::subscribed(
            it.name(),
            alias,
            members,
            it.is_automatic,
            &it.user,
        )));
        for value in &subscribed.values {
            out.push(Output::Text(frames::value_updated(it.name(), value)));
        }
        self.report_subscription("hotsock.subscribed", it, out);
        // The connection's metadata may have changed while the member was on its way.
        if is_presence {
            let own = self.subscriptions[at].user.member();
            let is_known = own.as_ref().is_none_or(|own| {
                let mut members = subscribed.members.iter();
                members.find(|it| it.user_id == own.user_id).is_some_and(|it| it.is_known_as(own))
            });
            if !is_known {
                let user = self.subscriptions[at].user.clone();
                self.renew(Origin::Socket, "", at, user, out);
            }
        }
        if subscribed.has_more_values
            && let Some(last) = subscribed.values.last()
        {
            let name = Name::from(self.subscriptions[at].name());
            self.promise_more_values(name, last.key.clone(), out);
        }
    }

    /// The keys that the standing subscription of a channel observes; none if it observes none.
    fn observed(&self, channel: &str) -> Option<Keys> {
        let claims = self.standing(channel)?.claims.as_deref();
        match (Rights { connect: &self.claims, subscribe: claims }).observes(channel) {
            Observes::Some(keys) => Some(keys),
            Observes::Everything => Some(Keys(Arc::new(AllKeys))),
            Observes::Nothing => None,
        }
    }

    /// Lets the rest follow when the peer has taken what it was sent: its pong says so.
    fn promise_more_values(&mut self, channel: Name, after: Name, out: &mut Vec<Output>) {
        if self.more.is_empty() {
            out.push(Output::Ping);
        }
        self.more.push((channel, after));
    }

    /// The peer has taken what it was sent.
    pub(super) fn ponged(&mut self, out: &mut Vec<Output>) {
        for (channel, after) in std::mem::take(&mut self.more) {
            if let Some(keys) = self.observed(&channel) {
                self.ask_more_values(channel, keys, after, out);
            }
        }
    }

    /// Asks for the rest of what a new subscriber starts with. A change that comes between is told twice, the
    /// newest last.
    fn ask_more_values(&mut self, channel: Name, keys: Keys, after: Name, out: &mut Vec<Output>) {
        let query = ValuesQuery {
            keys: None,
            after: Some(after),
            admit: Some(keys),
            values_max: MORE_VALUES_MAX,
            bytes_max: MORE_BYTES_MAX,
        };
        let command = Command::Values(self.channel(&channel), Box::new(query));
        let what = What::MoreValues { channel: channel.clone() };
        if let Err(fault) = self.ask(Origin::Socket, &channel, what, command, out) {
            self.fail(Origin::Socket, &fault.on(&channel), out);
        }
    }

    /// Some of the rest has come.
    pub(super) fn more_values(&mut self, channel: Name, values: &[Value], out: &mut Vec<Output>) {
        // Another subscription of the channel may stand by now, with other rights.
        let Some(keys) = self.observed(&channel) else { return };
        for value in values.iter().filter(|it| keys.0.admit(&it.key)) {
            out.push(Output::Text(frames::value_updated(&channel, value)));
        }
        // A page may be short because of its bytes: only an empty one is the last.
        if let Some(last) = values.last() {
            self.promise_more_values(channel, last.key.clone(), out);
        }
    }

    pub(super) fn unsubscribe(
        &mut self,
        message: &Envelope<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let sent = message.channel()?;
        let real = self.resolve(&sent, None);
        let Ok(at) = self.find(&real) else {
            return Err(not_subscribed());
        };
        let gone = self.remove(at);
        let ticket = self.ticket();
        let command = Command::Unsubscribe(self.channel(gone.name()));
        out.push(Output::Ask(ticket, command));
        let frame = frames::unsubscribed(gone.name(), gone.alias.as_deref(), &gone.user);
        out.push(Output::Text(frame));
        self.report_subscription("hotsock.unsubscribed", &gone, out);
        Ok(())
    }

    /// Lets the connection or one of its subscriptions be known by other metadata. Source: our reference,
    /// section 4.5.
    pub(super) fn update_umd(
        &mut self,
        origin: Origin,
        token: Option<&str>,
        sent: Option<&str>,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let token = token.ok_or_else(|| Fault::field("data.token", "a string and is missing"))?;
        let claims = self.check_token(token, now).and_then(|claims| {
            if !claims.updates_umd {
                return Err("the token has not the scope umd".into());
            }
            self.check_bearer(&claims)?;
            Ok(claims)
        });
        let claims = claims.map_err(|text| Fault::new(Code::InvalidUmdToken, text))?;
        let denied = |text| Fault::new(Code::UmdUpdatePermissionDenied, text);
        let Some(sent) = sent else {
            if !claims.umd_update {
                return Err(denied("the token does not say umdUpdate"));
            }
            self.update_connection(&claims, out);
            self.succeed(origin, 200, || b"{}".to_vec(), out);
            return Ok(());
        };
        let real = self.resolve_valid(sent)?;
        let rights = Rights { connect: &claims, subscribe: None };
        if !rights.may_update_umd(&real) {
            return Err(denied("the token does not say umdUpdate of this channel"));
        }
        let at = self.find(&real).ok().filter(|&at| self.subscriptions[at].is_standing());
        let at = at.ok_or_else(not_subscribed)?;
        let user = User::new(self.subscriptions[at].user.uid.clone(), claims.umd.clone());
        self.subscriptions[at].inherits = false;
        self.count(at);
        if names::is_presence(&real) {
            self.renew(origin, sent, at, user, out);
        } else {
            self.subscriptions[at].user = user;
            self.succeed(origin, 200, || b"{}".to_vec(), out);
        }
        Ok(())
    }

    fn update_connection(&mut self, claims: &Claims, out: &mut Vec<Output>) {
        let is_changed = match (&self.user.umd, &claims.umd) {
            (None, None) => false,
            (Some(a), Some(b)) => !same_value(&a.0, &b.0),
            _ => true,
        };
        self.user = User::new(self.user.uid.clone(), claims.umd.clone());
        if claims.umd_propagate {
            for at in 0..self.subscriptions.len() {
                let it = &mut self.subscriptions[at];
                let user = match it.user.uid == self.user.uid {
                    true => self.user.clone(),
                    false => User::new(it.user.uid.clone(), claims.umd.clone()),
                };
                let is_presence = names::is_presence(it.name());
                if it.is_standing() && is_presence {
                    // What one channel has no room for changes nothing in the others.
                    self.renew(Origin::Socket, "", at, user, out);
                } else {
                    it.user = user;
                }
            }
        }
        if is_changed {
            self.report_connection("hotsock.connectionUpdated", None, out);
        }
    }

    /// Lets the others of a presence channel know this subscription's user by something else.
    fn renew(
        &mut self,
        origin: Origin,
        sent: &str,
        at: usize,
        user: Arc<User>,
        out: &mut Vec<Output>,
    ) {
        let Some(member) = user.member() else { return };
        let name = Name::from(self.subscriptions[at].name());
        let renew = Renew { member, members_bytes_max: MEMBERS_BYTES_MAX };
        let command = Command::Renew(self.channel(&name), Box::new(renew));
        let before = std::mem::replace(&mut self.subscriptions[at].user, user);
        let what = What::Renew { channel: name.clone(), before: before.clone() };
        let sent = if sent.is_empty() { &*name } else { sent };
        if let Err(fault) = self.ask(origin, sent, what, command, out) {
            self.subscriptions[at].user = before;
            self.fail(origin, &fault.on(sent), out);
        }
    }

    /// Whether the others know.
    pub(super) fn renewed(
        &mut self,
        doing: &Doing,
        channel: &str,
        before: Arc<User>,
        refusal: Option<Refusal>,
        out: &mut Vec<Output>,
    ) {
        let Some(refusal) = refusal else {
            return self.succeed(doing.origin, 200, || b"{}".to_vec(), out);
        };
        if let Ok(at) = self.find(channel) {
            self.subscriptions[at].user = before;
        }
        self.fail(doing.origin, &Fault::from(refusal).on(&doing.sent), out);
    }
}

/// Whether a token names a channel in full.
fn has_channel(claims: &Claims, name: &str) -> bool {
    claims.literal_channels().any(|it| it == name)
}

/// What needs a subscription and has none.
pub(super) fn not_subscribed() -> Fault {
    Fault::new(Code::NotSubscribed, "the channel is not subscribed")
}
