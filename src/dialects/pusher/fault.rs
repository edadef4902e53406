//! What a peer can do wrong on a connection, and the code and words it is told.

use std::fmt;

use super::formats::DecodeError;
use super::names::NameError;
use super::tokens::TokenError;
use crate::base::ids::ConnectionId;
use crate::observe::{CloseReason, Counter};
use crate::wire::json::JsonError;

/// A peer's mistake, or a limit it met; told in an error frame, the connection stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The message is not a JSON object.
    NotJson(JsonError),
    /// The message is binary.
    Binary,
    /// The message is text, where something else is spoken.
    Text {
        /// What.
        format: &'static str,
    },
    /// The message is not written in the connection's format.
    Encoding(DecodeError),
    /// `modes` is not a list.
    ModesMalformed,
    /// The peer may not hear each annotation.
    AnnotationsNotAllowed(String),
    /// The message has no `event`, or it is not a string.
    EventMissing,
    /// The event's `data` is not an object, nor a string that holds one.
    DataMalformed {
        /// The event.
        event: &'static str,
    },
    /// A member of the event's `data` is missing or not a string.
    FieldMissing {
        /// The event.
        event: &'static str,
        /// The member.
        field: &'static str,
    },
    /// The channel's name is none.
    Name(NameError),
    /// The channel is one that nobody subscribes by name.
    NotAllowed(String),
    /// The peer's token or sign-in denies it something in a channel.
    Denied {
        /// What.
        op: &'static str,
        /// The channel.
        channel: String,
    },
    /// A token was brought in version 7.
    AuthVersion,
    /// Whether the last token was revoked is not known yet.
    AuthUnderway,
    /// `capabilities` of a sign-in are no lists of patterns.
    CapabilitiesMalformed,
    /// The channel needs a signature and there is none.
    AuthMissing,
    /// The signature is not the one expected.
    AuthWrong {
        /// The connection it must name.
        socket_id: ConnectionId,
        /// The channel it must name.
        channel: String,
        /// It must cover the `channel_data`, too.
        with_data: bool,
    },
    /// A presence channel was asked for without a user.
    ChannelDataMissing,
    /// `channel_data` is not a JSON object.
    ChannelDataNotJson,
    /// `channel_data` has no `user_id` that is a string.
    UserIdMissing,
    /// `channel_data` is too large.
    MemberTooLarge {
        /// Its size.
        bytes: usize,
        /// How large it may be.
        bytes_max: usize,
    },
    /// The presence channel is full.
    MembersFull {
        /// Its name.
        channel: String,
        /// How many members it may have.
        members_max: u32,
    },
    /// The server holds as many channels as it may.
    ChannelsFull,
    /// The connection has as many subscriptions as it may have.
    SubscriptionsFull {
        /// How many it may have.
        max: usize,
    },
    /// The app's peers may not publish.
    ClientEventsDisabled,
    /// The event names no channel.
    ClientEventNowhere,
    /// The channel is not one that peers publish on.
    ClientEventChannel {
        /// It is one whose payloads are encrypted.
        is_encrypted: bool,
    },
    /// The peer is not subscribed to the channel it publishes on.
    NotSubscribed {
        /// The connection.
        socket_id: ConnectionId,
        /// The channel.
        channel: String,
    },
    /// The event's name is too long.
    EventNameLong {
        /// How long it may be.
        bytes_max: usize,
    },
    /// The event's data is too large.
    EventTooLarge {
        /// Its size.
        bytes: usize,
        /// How large it may be.
        bytes_max: usize,
    },
    /// The peer publishes faster than it may.
    RateLimited,
    /// The app's peers may not sign in.
    SigninDisabled,
    /// The sign-in's signature is not the one expected.
    SigninAuthWrong {
        /// The connection it must name.
        socket_id: ConnectionId,
    },
    /// `user_data` is not an object with a string `id`.
    UserDataMalformed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// Another user is signed in already.
    SignedInAlready,
    /// The watchlist is too long; the sign-in itself stands.
    WatchlistLong {
        /// How long it may be.
        max: usize,
    },
    /// A resume says of no channel how far it came.
    ResumeNowhere,
    /// A resume is about no channel.
    ResumeEmpty,
    /// A resume is about more channels than one connection may subscribe.
    ResumeLong {
        /// How many that is.
        max: usize,
    },
    /// The last resume is not answered yet.
    ResumeUnderway,
    /// `rewind` is neither a number of events nor of seconds.
    RewindMalformed,
    /// The filter of a subscribe is none.
    Filter(String),
    /// The server takes no filters.
    FiltersDisabled,
    /// What is asked of a channel's history makes no sense.
    History(String),
    /// The peer asks for the history of a channel that it is not subscribed to.
    HistoryNotSubscribed {
        /// The connection.
        socket_id: ConnectionId,
        /// The channel.
        channel: String,
    },
    /// The peer waits for as many pages of history as it may.
    HistoryBusy {
        /// How many.
        max: usize,
    },
    /// The channel keeps no history.
    HistoryNotKept,
    /// The history cannot be read now.
    HistoryUnavailable(String),
    /// What is wrong with an update of a member.
    PresenceUpdate(&'static str),
    /// Version 7 knows no channels that tell of others.
    MetaVersion,
}

impl Fault {
    /// The code of the error frame. Source: Pusher protocol, "Error codes".
    pub fn code(&self) -> u16 {
        match self {
            Self::NotJson(_)
            | Self::Binary
            | Self::Text { .. }
            | Self::Encoding(_)
            | Self::ModesMalformed
            | Self::EventMissing
            | Self::DataMalformed { .. }
            | Self::FieldMissing { .. }
            | Self::ChannelDataNotJson
            | Self::ResumeNowhere
            | Self::RewindMalformed
            | Self::PresenceUpdate(_)
            | Self::Filter(_)
            | Self::FiltersDisabled
            | Self::History(_) => 4000,
            Self::NotAllowed(_)
            | Self::Denied { .. }
            | Self::AnnotationsNotAllowed(_)
            | Self::AuthVersion
            | Self::CapabilitiesMalformed
            | Self::AuthMissing
            | Self::AuthWrong { .. }
            | Self::SigninDisabled
            | Self::SigninAuthWrong { .. }
            | Self::UserDataMalformed { .. }
            | Self::SignedInAlready => 4009,
            Self::MembersFull { .. } | Self::ChannelsFull | Self::HistoryUnavailable(_) => 4100,
            Self::Name(_)
            | Self::MetaVersion
            | Self::ChannelDataMissing
            | Self::UserIdMissing
            | Self::MemberTooLarge { .. } => 4300,
            Self::SubscriptionsFull { .. }
            | Self::ClientEventsDisabled
            | Self::ClientEventNowhere
            | Self::ClientEventChannel { .. }
            | Self::NotSubscribed { .. }
            | Self::EventNameLong { .. }
            | Self::EventTooLarge { .. }
            | Self::RateLimited
            | Self::HistoryNotSubscribed { .. }
            | Self::HistoryBusy { .. }
            | Self::HistoryNotKept => 4301,
            Self::WatchlistLong { .. }
            | Self::ResumeEmpty
            | Self::ResumeLong { .. }
            | Self::AuthUnderway
            | Self::ResumeUnderway => 4302,
        }
    }

    /// The counter it moves, if it has one.
    pub fn counter(&self) -> Option<Counter> {
        match self {
            Self::AuthWrong { .. } | Self::SigninAuthWrong { .. } => {
                Some(Counter::SignatureFailures)
            }
            Self::RateLimited => Some(Counter::ClientEventsLimited),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(error) => write!(f, "Invalid message: {error}"),
            Self::Binary => f.write_str("Invalid message: binary messages are not understood here"),
            Self::Text { format } => {
                write!(f, "Invalid message: this connection speaks {format}, in binary messages")
            }
            Self::Encoding(error) => write!(f, "Invalid message: {error}"),
            Self::ModesMalformed => f.write_str("Invalid message: subscription modes must be an array"),
            Self::AnnotationsNotAllowed(channel) => write!(
                f,
                "Connection is not allowed to receive raw annotations for channel '{channel}'"
            ),
            Self::EventMissing => f.write_str("Invalid message: no event name"),
            Self::DataMalformed { event } => {
                write!(f, "Invalid message: data of {event} is not an object")
            }
            Self::FieldMissing { event, field } => {
                write!(f, "Invalid message: data of {event} has no string '{field}'")
            }
            Self::Name(error) => error.fmt(f),
            Self::NotAllowed(channel) => {
                write!(f, "Connection is not allowed to subscribe channel '{channel}'")
            }
            Self::Denied { op, channel } => {
                write!(f, "Connection is not allowed to {op} channel '{channel}'")
            }
            Self::AuthVersion => f.write_str("sockudo:auth is only supported on protocol V2"),
            Self::AuthUnderway => {
                f.write_str("Authentication error: the last token is not answered yet")
            }
            Self::CapabilitiesMalformed => {
                f.write_str("Authentication error: capabilities in user_data are no lists of patterns")
            }
            Self::AuthMissing => f.write_str(
                "Authentication error: Authentication signature required for this channel",
            ),
            Self::AuthWrong { socket_id, channel, with_data } => {
                let data = if *with_data { ":<channel_data>" } else { "" };
                write!(
                    f,
                    "Authentication error: Invalid signature: expected <app key>:<HMAC SHA256 hex digest of \
                     '{socket_id}:{channel}{data}'>"
                )
            }
            Self::ChannelDataMissing => f.write_str(
                "Channel error: a presence channel needs channel_data, or a signed-in user",
            ),
            Self::ChannelDataNotJson => f.write_str("Invalid message: channel_data is not JSON"),
            Self::UserIdMissing => f.write_str("Missing user_id in channel_data: it must be a string"),
            Self::MemberTooLarge { bytes, bytes_max } => {
                write!(f, "Presence member data size ({bytes} B) exceeds limit ({bytes_max} B)")
            }
            Self::MembersFull { channel, members_max } => {
                write!(f, "Presence channel '{channel}' is full: it may have {members_max} members")
            }
            Self::ChannelsFull => f.write_str("Over capacity: the server holds no more channels"),
            Self::SubscriptionsFull { max } => {
                write!(f, "Too many subscriptions: one connection may have {max}")
            }
            Self::ClientEventsDisabled => {
                f.write_str("Client event error: Client events are disabled for this app")
            }
            Self::ClientEventNowhere => f.write_str("Client event error: no channel is named"),
            Self::ClientEventChannel { is_encrypted: true } => f.write_str(
                "Client event error: Client events cannot be sent to encrypted channels",
            ),
            Self::ClientEventChannel { is_encrypted: false } => f.write_str(
                "Client event error: Client events can only be sent to private or presence channels",
            ),
            Self::NotSubscribed { socket_id, channel } => write!(
                f,
                "Client event error: Socket {socket_id} is not subscribed to channel {channel}"
            ),
            Self::EventNameLong { bytes_max } => {
                write!(f, "Client event error: Event name exceeds limit ({bytes_max} B)")
            }
            Self::EventTooLarge { bytes, bytes_max } => write!(
                f,
                "Client event error: Event payload size ({bytes} B) exceeds limit ({bytes_max} B)"
            ),
            Self::RateLimited => f.write_str("Client event rejected due to rate limit"),
            Self::SigninDisabled => f.write_str("User authentication is disabled for this app"),
            Self::SigninAuthWrong { socket_id } => write!(
                f,
                "Authentication error: Invalid signature: expected <app key>:<HMAC SHA256 hex digest of \
                 '{socket_id}::user::<user_data>'>"
            ),
            Self::UserDataMalformed { what } => {
                write!(f, "Authentication error: user_data {what}")
            }
            Self::SignedInAlready => {
                f.write_str("Authentication error: another user is signed in on this connection")
            }
            Self::WatchlistLong { max } => {
                write!(f, "The watchlist limit has been exceeded: it may name {max} users")
            }
            Self::ResumeNowhere => {
                f.write_str("Missing channel_positions or channel_serials in resume data")
            }
            Self::ResumeEmpty => f.write_str("Resume error: no channel is named"),
            Self::ResumeLong { max } => write!(
                f,
                "Resume error: more channels than one connection may be subscribed to, which is {max}"
            ),
            Self::ResumeUnderway => f.write_str("Resume error: the last one is not answered yet"),
            Self::RewindMalformed => f.write_str(
                "Invalid message: rewind is a number of events from 1, or an object with count, seconds or \
                 duration_seconds",
            ),
            Self::Filter(text) => f.write_str(text),
            Self::FiltersDisabled => f.write_str("Filters are disabled here"),
            Self::History(text) => write!(f, "History error: {text}"),
            Self::HistoryNotSubscribed { socket_id, channel } => {
                write!(f, "History error: Socket {socket_id} is not subscribed to channel {channel}")
            }
            Self::HistoryBusy { max } => {
                write!(f, "History error: a connection may wait for {max} pages at a time")
            }
            Self::HistoryNotKept => f.write_str(
                "History error: the channel keeps no history: the setting history.channels says which do",
            ),
            Self::HistoryUnavailable(text) => write!(f, "History error: {text}"),
            Self::PresenceUpdate(what) => write!(f, "presence_update {what}"),
            Self::MetaVersion => f.write_str(
                "Channel error: Metachannel subscriptions are only supported on protocol V2",
            ),
        }
    }
}

/// Why a connection ends by this protocol's own rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The key is no app's.
    AppUnknown(String),
    /// The app is disabled.
    AppDisabled,
    /// The app has as many connections as it may have.
    AppFull,
    /// No connection is made here.
    PathUnknown,
    /// `protocol` is not a number.
    VersionMalformed,
    /// `protocol` is a version not spoken here.
    VersionUnsupported(u32),
    /// `protocol` is there and empty.
    VersionMissing,
    /// The page's origin is not on the app's list.
    Origin,
    /// The token is none.
    Token(TokenError),
    /// A token came in version 7.
    TokenVersion,
    /// A token is another client's than the connection is.
    TokenClient,
    /// The token that was brought was revoked before.
    TokenRevoked,
    /// The token that counted was revoked.
    Revoked,
    /// Whether the token was revoked cannot be told now.
    TokenUnchecked,
    /// The token's time is over and no other came.
    TokenExpired,
    /// The app ended the user's connections.
    Terminated,
    /// The app asked the user's connections to come back.
    Reconnect,
    /// The pong did not come.
    PongMissing,
    /// The peer published faster than it may.
    RateLimited,
}

impl Ending {
    /// What the end of the connection is counted as; others may be told why a member left.
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::Terminated | Self::Reconnect => CloseReason::Asked,
            Self::PongMissing => CloseReason::Timeout,
            _ => CloseReason::Session,
        }
    }

    /// The close code. Clients do not come back after 4000-4099, with a delay after 4100-4199, at once
    /// after 4200-4299. Source: Pusher protocol, "Error codes".
    pub fn code(&self) -> u16 {
        match self {
            Self::AppUnknown(_) => 4001,
            Self::AppDisabled => 4003,
            Self::AppFull => 4004,
            Self::PathUnknown => 4005,
            Self::VersionMalformed => 4006,
            Self::VersionUnsupported(_) => 4007,
            Self::VersionMissing => 4008,
            Self::Origin
            | Self::Terminated
            | Self::Token(_)
            | Self::TokenVersion
            | Self::TokenClient
            | Self::TokenRevoked
            | Self::Revoked
            | Self::TokenExpired => 4009,
            Self::TokenUnchecked => 4100,
            Self::Reconnect => 4200,
            Self::PongMissing => 4201,
            Self::RateLimited => 4301,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AppUnknown(key) => write!(f, "App key {key} does not exist"),
            Self::AppDisabled => f.write_str("Application disabled"),
            Self::AppFull => f.write_str("Application is over connection quota"),
            Self::PathUnknown => f.write_str("Path not found: connect to /app/<app key>"),
            Self::VersionMalformed => f.write_str("Invalid version string format"),
            Self::VersionUnsupported(version) => {
                write!(f, "Unsupported protocol version: {version}; 7 and 2 are spoken here")
            }
            Self::VersionMissing => f.write_str("No protocol version supplied"),
            Self::Origin => f.write_str("Origin not allowed"),
            Self::Token(error) => error.fmt(f),
            Self::TokenVersion => f.write_str("capability tokens require protocol V2"),
            Self::TokenClient => f.write_str("capability token refresh cannot change client_id"),
            Self::TokenRevoked => f.write_str("capability token has been revoked"),
            Self::Revoked => f.write_str("capability token revoked"),
            Self::TokenUnchecked => {
                f.write_str("Over capacity: the capability token cannot be checked now")
            }
            Self::TokenExpired => f.write_str("capability token expired"),
            Self::Terminated => f.write_str("You got disconnected by the app."),
            Self::Reconnect => f.write_str("Force reconnect requested by the app."),
            Self::PongMissing => f.write_str("Pong reply not received in time"),
            Self::RateLimited => f.write_str("Connection closed due to client event rate limit"),
        }
    }
}
