//! What a peer is told when something is not done: the protocol's codes, and a sentence for people.
//!
//! The official client acts on four of the codes; it finds the channel of a fault by the name in it. Source: our
//! reference, sections 4.6 and 6.3.

use std::borrow::Cow;

use crate::broker::Refusal;
use crate::wire::json;

/// A fault's word for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A subscribe of what is subscribed.
    AlreadySubscribed,
    /// Something that needs a subscription.
    NotSubscribed,
    /// No right to subscribe.
    SubscribePermissionDenied,
    /// A subscribe token that is not good here.
    InvalidSubscribeToken,
    /// A presence channel, and nobody's connection.
    PresenceUserIdRequired,
    /// The members would take more than they may.
    PresenceCapacityReached,
    /// Not JSON, or a field that is missing or of another type.
    InvalidMessage,
    /// No name for a channel.
    InvalidChannel,
    /// No name for an event that clients publish.
    InvalidEvent,
    /// No key.
    InvalidKey,
    /// More data than a message may have.
    DataTooLarge,
    /// No right to publish.
    PublishPermissionDenied,
    /// No right to read or write that key.
    StoragePermissionDenied,
    /// A token for user metadata that is not good here.
    InvalidUmdToken,
    /// No right to change user metadata.
    UmdUpdatePermissionDenied,
    /// A time that is none, or over.
    InvalidScheduleExpression,
    /// A time later than may be scheduled for.
    SchedulePermissionDenied,
    /// No right to that reaction.
    ReactionPermissionDenied,
    /// A reaction that is none.
    InvalidReaction,
    /// A reaction to nothing.
    MessageNotFound,
    /// Something that only somebody can do, by a connection without a user id.
    UserIdRequired,
    /// No right to a channel's description.
    InfoPermissionDenied,
    /// A connect token is missing or not good.
    InvalidConnectToken,
    /// A connect token that may not connect.
    ConnectPermissionDenied,
    /// Connection id and secret are nobody's.
    InvalidCredentials,
    /// Not one of the server API's keys.
    InvalidApiKey,
    /// Another method.
    MethodNotAllowed,
    /// No such operation.
    NotFound,
    /// A request without a WebSocket where only a WebSocket can be.
    UpgradeRequired,
    /// A request that is larger than one may be.
    RequestTooLarge,
    /// More than the peer may have under way.
    RateLimited,
    /// The server has more to do than it can.
    Busy,
    /// The server is about to stop, or cannot keep what it should.
    Unavailable,
    /// Our mistake.
    Internal,
}

impl Code {
    /// As frames and bodies spell it, and the status of an answer over HTTP.
    pub fn row(self) -> (&'static str, u16) {
        match self {
            Self::AlreadySubscribed => ("ALREADY_SUBSCRIBED", 400),
            Self::NotSubscribed => ("NOT_SUBSCRIBED", 403),
            Self::SubscribePermissionDenied => ("SUBSCRIBE_PERMISSION_DENIED", 403),
            Self::InvalidSubscribeToken => ("INVALID_SUBSCRIBE_TOKEN", 403),
            Self::PresenceUserIdRequired => ("PRESENCE_CHANNEL_USER_ID_REQUIRED", 403),
            Self::PresenceCapacityReached => ("PRESENCE_CHANNEL_CAPACITY_REACHED", 403),
            Self::InvalidMessage => ("INVALID_MESSAGE", 400),
            Self::InvalidChannel => ("INVALID_CHANNEL", 400),
            Self::InvalidEvent => ("INVALID_EVENT", 400),
            Self::InvalidKey => ("INVALID_KEY", 400),
            Self::DataTooLarge => ("DATA_TOO_LARGE", 413),
            Self::PublishPermissionDenied => ("PUBLISH_PERMISSION_DENIED", 403),
            Self::StoragePermissionDenied => ("STORAGE_PERMISSION_DENIED", 403),
            Self::InvalidUmdToken => ("INVALID_UMD_TOKEN", 403),
            Self::UmdUpdatePermissionDenied => ("UMD_UPDATE_PERMISSION_DENIED", 403),
            Self::InvalidScheduleExpression => ("INVALID_SCHEDULE_EXPRESSION", 400),
            Self::SchedulePermissionDenied => ("SCHEDULE_PERMISSION_DENIED", 403),
            Self::ReactionPermissionDenied => ("REACTION_PERMISSION_DENIED", 403),
            Self::InvalidReaction => ("INVALID_REACTION", 400),
            Self::MessageNotFound => ("MESSAGE_NOT_FOUND", 404),
            Self::UserIdRequired => ("USER_ID_REQUIRED", 403),
            Self::InfoPermissionDenied => ("CHANNEL_INFO_PERMISSION_DENIED", 403),
            Self::InvalidConnectToken => ("INVALID_CONNECT_TOKEN", 401),
            Self::ConnectPermissionDenied => ("CONNECT_PERMISSION_DENIED", 403),
            Self::InvalidCredentials => ("INVALID_CONNECTION_CREDENTIALS", 401),
            Self::InvalidApiKey => ("INVALID_API_KEY", 401),
            Self::MethodNotAllowed => ("METHOD_NOT_ALLOWED", 405),
            Self::NotFound => ("NOT_FOUND", 404),
            Self::UpgradeRequired => ("UPGRADE_REQUIRED", 400),
            Self::RequestTooLarge => ("REQUEST_TOO_LARGE", 413),
            Self::RateLimited => ("RATE_LIMITED", 429),
            Self::Busy => ("RATE_LIMITED", 503),
            Self::Unavailable => ("INTERNAL_ERROR", 503),
            Self::Internal => ("INTERNAL_ERROR", 500),
        }
    }
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its word for programs.
    pub code: Code,
    /// A sentence for people.
    pub text: Cow<'static, str>,
    /// The channel, as the peer is to find it.
    pub channel: Option<Box<str>>,
    /// The key, for what concerns one.
    pub key: Option<Box<str>>,
}

impl Fault {
    /// One that concerns no channel.
    pub fn new(code: Code, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into(), channel: None, key: None }
    }

    /// Of a field that is missing or of another type.
    pub fn field(name: &str, what: &str) -> Self {
        Self::new(Code::InvalidMessage, format!("\"{name}\" must be {what}"))
    }

    /// Of a channel.
    pub fn on(mut self, channel: &str) -> Self {
        self.channel = Some(channel.into());
        self
    }

    /// Of a key.
    pub fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The frame that tells it. Source: our reference, section 4.6.
    pub fn frame(&self) -> Vec<u8> {
        let mut out = b"{\"event\":\"hotsock.error\"".to_vec();
        if let Some(channel) = &self.channel {
            out.extend_from_slice(b",\"channel\":");
            json::write_str(&mut out, channel);
        }
        if let Some(key) = &self.key {
            out.extend_from_slice(b",\"key\":");
            json::write_str(&mut out, key);
        }
        out.push(b',');
        self.write_error(&mut out);
        out.push(b'}');
        out
    }

    /// The body of an answer over HTTP that tells it. Source: our reference, section 6.3.
    pub fn body(&self) -> Vec<u8> {
        let mut out = b"{".to_vec();
        self.write_error(&mut out);
        out.push(b'}');
        out
    }

    fn write_error(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"error\":{\"code\":\"");
        out.extend_from_slice(self.code.row().0.as_bytes());
        out.extend_from_slice(b"\",\"message\":");
        json::write_str(out, &self.text);
        out.push(b'}');
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::MembersTooLarge { .. } | Refusal::MembersFull { .. } => {
                Code::PresenceCapacityReached
            }
            Refusal::NotSubscribed => Code::NotSubscribed,
            Refusal::NotFound => Code::MessageNotFound,
            Refusal::StoreBusy | Refusal::KeysFull { .. } | Refusal::ChannelsFull { .. } => {
                Code::Busy
            }
            Refusal::StoreFull | Refusal::StoreFailed | Refusal::StoreUnreadable => {
                Code::Unavailable
            }
            Refusal::Cancelled
            | Refusal::NotKept
            | Refusal::EpochChanged
            | Refusal::KeyReused
            | Refusal::Used
            | Refusal::NoConnection
            | Refusal::NotOwner
            | Refusal::NotText
            | Refusal::DataTooLarge { .. } => Code::Internal,
        };
        // The engine's words for it speak of keys that this protocol does not have.
        let text = match refusal {
            Refusal::StoreFailed => {
                "the store failed: it is not known whether this was done".to_owned()
            }
            refusal => refusal.text(),
        };
        Self::new(code, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_in_both_shapes() {
        let fault = Fault::new(Code::NotSubscribed, "not \"subscribed\"");
        for (fault, frame) in [
            (
                fault.clone(),
                r#"{"event":"hotsock.error","error":{"code":"NOT_SUBSCRIBED","message":"not \"subscribed\""}}"#,
            ),
            (
                fault.clone().on("a").with_key("k"),
                r#"{"event":"hotsock.error","channel":"a","key":"k","error":{"code":"NOT_SUBSCRIBED","message":"not \"subscribed\""}}"#,
            ),
        ] {
            assert_eq!(String::from_utf8(fault.frame()).unwrap(), frame);
            assert_eq!(
                String::from_utf8(fault.body()).unwrap(),
                r#"{"error":{"code":"NOT_SUBSCRIBED","message":"not \"subscribed\""}}"#
            );
        }
    }

    #[test]
    fn what_the_broker_refuses_has_a_code_and_a_status() {
        for (refusal, row) in [
            (Refusal::StoreBusy, ("RATE_LIMITED", 503)),
            (Refusal::ChannelsFull { channels_max: 1 }, ("RATE_LIMITED", 503)),
            (Refusal::StoreFull, ("INTERNAL_ERROR", 503)),
            (Refusal::KeyReused, ("INTERNAL_ERROR", 500)),
            (Refusal::NotFound, ("MESSAGE_NOT_FOUND", 404)),
            (Refusal::MembersTooLarge { bytes_max: 1 }, ("PRESENCE_CHANNEL_CAPACITY_REACHED", 403)),
        ] {
            assert_eq!(Fault::from(refusal).code.row(), row, "{refusal:?}");
        }
    }
}
