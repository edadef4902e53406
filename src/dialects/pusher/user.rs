//! Signing in, the user's own channel, and the watchlist.
//!
//! A watched user is a silent subscription of that user's own channel in the lane for watchers. Each
//! answer tells whether the user is online; together they make one snapshot. A user may come or go
//! between their own answer and the last one, and the news of it overtakes the snapshot: so each is
//! asked about once more, and whoever differs from the snapshot is told again.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::capabilities::Capabilities;
use super::fault::Fault;
use super::formats::Format;
use super::frames::{self, Version};
use super::lanes;
use super::session::{PusherSession, field, object, user_id_of};
use crate::auth::sign;
use crate::base::ids::Ticket;
use crate::base::name::Name;
use crate::broker::{Command, Member, Payload, Publish, Refusal, Reply, Subscribe};
use crate::dialects::Output;
use crate::wire::json::{self, Kind, Raw};

/// Who a connection is signed in as.
pub struct User {
    /// The user, as members of presence channels and watchers see them.
    pub member: Arc<Member>,
    /// The text it signed in with, until the sign-in is answered.
    user_data: Option<Box<str>>,
    /// The ask that subscribes the user's own channel.
    ticket: Ticket,
    watch: Watch,
    /// Events of theirs that wait to hear whether so many may be published.
    pub waiting: VecDeque<(Ticket, Box<Publish>)>,
}

/// How far the watchlist's snapshot is.
enum Watch {
    /// There is none, or it is done.
    Idle,
    /// The sign-in is not answered yet.
    Listed(Vec<Name>),
    /// Subscribed one by one; ticket `first + i` asks about user `i`.
    Subscribing(Watched),
    /// Asked about once more; tickets likewise.
    Verifying(Watched),
}

struct Watched {
    first: Ticket,
    missing: usize,
    users: Vec<(Name, bool)>,
}

impl Watched {
    fn index(&self, ticket: Ticket) -> Option<usize> {
        let index = ticket.0.wrapping_sub(self.first.0) as usize;
        (index < self.users.len()).then_some(index)
    }
}

/// Bytes of a user's id, at most: it is part of a channel's name.
const USER_ID_BYTES_MAX: usize = 200;

impl PusherSession {
    /// `pusher:signin`.
    pub(super) fn signin(
        &mut self,
        data: Option<Raw<'_>>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let settings = &self.app().settings;
        if !settings.user_authentication {
            return Err(Fault::SigninDisabled);
        }
        let mut buffer = String::new();
        let data = object("signin", data, &mut buffer)?;
        let auth = field(data, "signin", "auth")?;
        let user_data = field(data, "signin", "user_data")?;
        if !sign::verify_user(self.app(), &auth, &self.connection.to_string(), &user_data) {
            return Err(Fault::SigninAuthWrong { socket_id: self.connection });
        }
        let watches = settings.watchlist;
        let watchlist_max = settings.watchlist_users_max;
        let (member, watchlist) = read_user_data(&user_data)?;
        let capabilities = match &self.two {
            Some(_) => read_capabilities(&user_data)?,
            None => None,
        };
        if let Some(user) = &self.user {
            if user.member.user_id != member.user_id {
                return Err(Fault::SignedInAlready);
            }
            if user.user_data.is_none() {
                let frame = frames::signin_success(self.version(), &user_data);
                self.say(frame, out);
            }
            return Ok(());
        }

        let watch = match watchlist {
            Some(list) if watches && list.len() <= watchlist_max => Watch::Listed(list),
            Some(_) if watches => {
                self.fault(&Fault::WatchlistLong { max: watchlist_max }, out);
                Watch::Idle
            }
            _ => Watch::Idle,
        };
        if let (Some(two), Some(capabilities)) = (&mut self.two, capabilities) {
            two.signed_in = Some(Box::new(capabilities));
        }
        let member = Arc::new(member);
        let ticket = self.ticket();
        let name = frames::user_channel(&member.user_id);
        let subscribe = Subscribe {
            member: Some(member.clone()),
            members_max: u32::MAX,
            // The sign-in's signature is what lets it in: only now may it hear what it missed.
            start: self.start(&name, None),
            ..Subscribe::new(self.channel(name), self.lane())
        };
        let user_data = Some(user_data.into());
        self.user =
            Some(Box::new(User { member, user_data, ticket, watch, waiting: VecDeque::new() }));
        out.push(Output::Ask(ticket, Command::Subscribe(Box::new(subscribe))));
        Ok(())
    }

    /// Takes a reply if it belongs to the sign-in or the watchlist.
    pub(super) fn user_reply(
        &mut self,
        ticket: Ticket,
        reply: &Reply,
        out: &mut Vec<Output>,
    ) -> bool {
        let version = self.version();
        let Some(user) = &mut self.user else { return false };
        if user.user_data.is_some() && user.ticket == ticket {
            self.signed_in(reply, out);
            return true;
        }
        let (Watch::Subscribing(watched) | Watch::Verifying(watched)) = &mut user.watch else {
            return false;
        };
        let Some(index) = watched.index(ticket) else { return false };
        watched.missing -= 1;
        let is_online = match reply {
            Reply::Subscribed(subscribed) => subscribed.description.user_count > 0,
            Reply::Described(description) => description.user_count > 0,
            _ => false,
        };
        let (user_id, was_online) = &mut watched.users[index];
        let is_news = is_online != std::mem::replace(was_online, is_online);
        let user_id = user_id.clone();
        let is_last = watched.missing == 0;
        match &user.watch {
            Watch::Verifying(_) => {
                if is_news {
                    let mut frame = Vec::new();
                    let (online, offline): (&[_], &[_]) =
                        if is_online { (&[user_id], &[]) } else { (&[], &[user_id]) };
                    let ids =
                        |it: &'_ [Name]| it.iter().map(|id| id.to_string()).collect::<Vec<_>>();
                    let (online, offline) = (ids(online), ids(offline));
                    frames::watchlist(
                        version,
                        online.iter().map(String::as_str),
                        offline.iter().map(String::as_str),
                        &mut frame,
                    );
                    if is_last {
                        user.watch = Watch::Idle;
                    }
                    self.say(frame, out);
                } else if is_last {
                    user.watch = Watch::Idle;
                }
            }
            _ if is_last => self.snapshot(out),
            _ => {}
        }
        true
    }

    /// The user's own channel is subscribed, or not.
    fn signed_in(&mut self, reply: &Reply, out: &mut Vec<Output>) {
        let Some(user) = &mut self.user else { return };
        if let Reply::Refused(refusal) = reply {
            if !matches!(refusal, Refusal::Cancelled) {
                self.fault(&Fault::ChannelsFull, out);
            }
            self.user = None;
            if let Some(two) = &mut self.two {
                two.signed_in = None;
            }
            return;
        }
        let user_data = user.user_data.take().unwrap_or_default();
        let frame = frames::signin_success(self.version(), &user_data);
        self.say(frame, out);
        self.leave_denied(out);
        if let Reply::Subscribed(subscribed) = reply
            && let Some(replay) = &subscribed.replay
        {
            self.replay(&subscribed.channel.name, (**replay).clone(), out);
        }
        let Some(user) = &mut self.user else { return };
        let Watch::Listed(list) = std::mem::replace(&mut user.watch, Watch::Idle) else { return };
        // Someone who watches themselves knows.
        let own = user.member.user_id.clone();
        let users: Vec<_> =
            list.into_iter().filter(|id| *id != own).map(|id| (id, false)).collect();
        if users.is_empty() {
            return;
        }
        let lane = self.lane_id(match self.version() {
            Version::Seven => lanes::SEVEN_WATCH,
            Version::Two => {
                lanes::two_watch(self.two.as_ref().map_or(Format::Json, |it| it.format))
            }
        });
        let mut first = None;
        for (user_id, _) in &users {
            let ticket = self.ticket();
            first = first.or(Some(ticket));
            let channel = self.channel(frames::user_channel(user_id));
            let subscribe = Subscribe { silent: true, ..Subscribe::new(channel, lane) };
            out.push(Output::Ask(ticket, Command::Subscribe(Box::new(subscribe))));
        }
        if let (Some(user), Some(first)) = (&mut self.user, first) {
            user.watch = Watch::Subscribing(Watched { first, missing: users.len(), users });
        }
    }

    /// Everyone on the watchlist has been heard of: tells the peer, and asks once more.
    fn snapshot(&mut self, out: &mut Vec<Output>) {
        let version = self.version();
        let Some(user) = &mut self.user else { return };
        let Watch::Subscribing(mut watched) = std::mem::replace(&mut user.watch, Watch::Idle)
        else {
            return;
        };
        let mut frame = Vec::new();
        let ids = |online: bool| {
            let wanted = watched.users.iter().filter(move |(_, is)| *is == online);
            wanted.map(|(user_id, _)| &**user_id)
        };
        frames::watchlist(version, ids(true), ids(false), &mut frame);
        self.say(frame, out);
        watched.missing = watched.users.len();
        let mut first = None;
        for (user_id, _) in &watched.users {
            let ticket = self.ticket();
            first = first.or(Some(ticket));
            let channel = self.channel(frames::user_channel(user_id));
            out.push(Output::Ask(ticket, Command::Describe(channel)));
        }
        if let (Some(user), Some(first)) = (&mut self.user, first) {
            watched.first = first;
            user.watch = Watch::Verifying(watched);
        }
    }
}

/// What the app lets the user do, if it says so.
fn read_capabilities(text: &str) -> Result<Option<Capabilities>, Fault> {
    let data = json::parse_str(text).map_err(|_| Fault::CapabilitiesMalformed)?;
    let lists = data.member("capabilities").filter(|it| !it.is_null());
    let read = |lists| Capabilities::read_lists(lists).ok_or(Fault::CapabilitiesMalformed);
    lists.map(read).transpose()
}

/// The user and the watchlist, each user once, in the order given.
fn read_user_data(text: &str) -> Result<(Member, Option<Vec<Name>>), Fault> {
    let malformed = |what| Fault::UserDataMalformed { what };
    let data = json::parse_str(text).map_err(|_| malformed("is not JSON"))?;
    if data.kind() != Kind::Object {
        return Err(malformed("is not an object"));
    }
    let (mut id, mut info, mut watchlist) = (None, None, None);
    for (key, value) in data.members() {
        match &*key {
            "id" => id = Some(value),
            "user_info" => info = Some(value),
            "watchlist" => watchlist = Some(value),
            _ => {}
        }
    }
    let id = id.and_then(user_id_of).ok_or(malformed("has no id"))?;
    if id.len() > USER_ID_BYTES_MAX || id.chars().any(char::is_control) {
        return Err(malformed("has an id that is too long or holds control characters"));
    }
    let info = info.map(|info| Payload(Bytes::copy_from_slice(info.text().as_bytes())));
    let watchlist = match watchlist {
        None => None,
        Some(value) if value.is_null() => None,
        Some(value) => {
            if value.kind() != Kind::Array {
                return Err(malformed("has a watchlist that is no list"));
            }
            let mut seen = std::collections::HashSet::new();
            let mut list = Vec::new();
            for entry in value.items() {
                let user_id =
                    user_id_of(entry).ok_or(malformed("has a watchlist with other than ids"))?;
                if user_id.len() > USER_ID_BYTES_MAX {
                    return Err(malformed("has a watchlist with an id that is too long"));
                }
                if seen.insert(user_id.to_string()) {
                    list.push(Name::from(&*user_id));
                }
            }
            Some(list)
        }
    };
    Ok((Member { user_id: Name::from(&*id), info }, watchlist))
}
