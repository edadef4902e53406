//! Providers: what a request to each looks like, and what its answers mean. Sans-io. What all have in common is one small
//! trait, [`Speak`].

pub mod apns;
pub mod broadcast;
pub mod fcm;
pub(super) mod form;
pub mod hms;
pub mod sign;
pub mod vapid;
pub mod webpush;
pub mod wns;

use std::sync::Arc;

use bytes::Bytes;

use crate::base::time::{Millis, Now};
use crate::outbound::hooks::post::Heard;
use crate::push::Provider;
use crate::push::credential::{Credential, Material};
use crate::push::device::Recipient;
use crate::push::template::Text;

/// Where one parcel goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// To a recipient.
    Recipient(Recipient),
    /// To a topic of the provider's own.
    Topic(String),
    /// To a condition over such topics.
    Condition(String),
}

/// What one provider's devices of one language get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What is said, places filled in.
    pub text: Text,
    /// For the application: a JSON object; empty: none.
    pub data: String,
    /// What is sent instead, as it is: a JSON object; empty: none.
    pub raw: String,
    /// For Live Activities: a JSON object; empty: none.
    pub live_activity: String,
}

/// One message for one device.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// The id of the app.
    pub app: String,
    /// Of which publish.
    pub publish_id: String,
    /// By whom.
    pub provider: Provider,
    /// With what; none: the provider needs none, or the message is only logged.
    pub credential: Option<Arc<Credential>>,
    /// Where.
    pub address: Address,
    /// What.
    pub message: Arc<Message>,
    /// When it is too late, in milliseconds since 1970.
    pub expires_at: Option<u64>,
    /// It is written to the log and the console instead of being sent.
    pub is_logged: bool,
}

/// What came of a parcel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// What it means.
    pub verdict: Verdict,
    /// What the provider calls the message.
    pub message_id: Option<String>,
    /// The status; 0: there was none.
    pub status: u16,
    /// Why, in the provider's words or ours.
    pub reason: Option<String>,
    /// How long the provider asks to be left alone.
    pub retry_after: Option<Millis>,
    /// When the provider last saw that the device is no more, in milliseconds since 1970: one that was registered later is
    /// there again.
    pub gone_at: Option<u64>,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Taken.
    Taken,
    /// There is no such device any more: its registration goes.
    Gone,
    /// This message for this device will never do.
    Refused,
    /// The address is none for these credentials. Where the credentials, or which of a provider's servers is asked, are
    /// the mistake, that is said of every device: it counts against this one, and its registration stays.
    Unfit,
    /// The provider takes nothing now, from anyone: again later.
    Throttled,
    /// No answer, or the provider failed: this one again later.
    Unavailable,
    /// The credentials are not good: nothing of theirs does until they change.
    Unauthorized,
}

/// A request as it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `POST`, `GET` or `DELETE`.
    pub method: &'static str,
    /// Where.
    pub url: String,
    /// Field names and values.
    pub fields: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
    /// Over HTTP/2 alone.
    pub is_http2: bool,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// Fields of its head that providers use: `retry-after`, `apns-id`, `apns-unique-id`, `location`, `apns-channel-id`,
    /// `x-wns-status`, `x-wns-msg-id`, `x-wns-error-description`, `www-authenticate`.
    pub fields: Vec<(String, String)>,
    /// The body, at most 64 KiB.
    pub body: Vec<u8>,
}

/// How to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing is needed.
    Open,
    /// This goes with each request, for so long.
    Signed(String, Millis),
    /// This request is answered with what does: [`Speak::read_access`].
    Exchange(Box<Request>),
}

/// Where providers are: real ones unless the settings say otherwise.
pub use crate::config::push::ProviderUrls;

/// How one provider is spoken to.
pub trait Speak: Send + Sync {
    /// Who.
    fn provider(&self) -> Provider;
    /// How these credentials let one in to where this parcel goes; `realm` of two parcels is the same if what lets one in is.
    fn access(&self, parcel: &Parcel, urls: &ProviderUrls, now: Now) -> Result<Access, Delivered>;
    /// What the access of this parcel is remembered under, beside its credentials: the origin where that matters.
    fn realm(&self, parcel: &Parcel) -> String;
    /// Reads what an exchange was answered with: what goes with each request, for so long.
    fn read_access(&self, answered: &Answered, now: Now) -> Result<(String, Millis), Delivered>;
    /// The request that brings a parcel. `access` is what [`Speak::access`] came to. `chance` is 32 bytes that nobody can
    /// guess, new for each. Fails for what will never do.
    fn request(
        &self,
        parcel: &Parcel,
        access: &str,
        urls: &ProviderUrls,
        chance: &[u8; 32],
        now: Now,
    ) -> Result<Request, Delivered>;
    /// What an answer means.
    fn read(&self, answered: &Answered, now: Now) -> Delivered;
    /// Whether these credentials, which are this provider's, can be used; if not, why.
    fn check(&self, material: &Material) -> Result<(), String>;
    /// What its devices get for a message that is no override, as a JSON object.
    fn rendered(&self, message: &Message) -> String {
        form::plain(message)
    }
}

/// Everyone that there is one for.
pub static SPEAKERS: &[&dyn Speak] =
    &[&fcm::Fcm, &apns::Apns, &webpush::WebPush, &hms::Hms, &wns::Wns];

/// How this provider is spoken to; none: it is not, or not from here.
pub fn speaker(provider: Provider) -> Option<&'static dyn Speak> {
    SPEAKERS.iter().find(|it| it.provider() == provider).copied()
}

/// Whether credentials can be used at all: what is read of them when something is sent is read now, so that whoever
/// gives them hears what is wrong with them.
pub fn check(material: &Material) -> Result<(), String> {
    speaker(material.provider()).map_or(Ok(()), |it| it.check(material))
}

/// What devices of a provider get for a message, as a JSON object: an override as it is, anything else in the provider's
/// words, without what says which device.
pub fn rendered(provider: Provider, message: &Message) -> String {
    match speaker(provider) {
        _ if !message.raw.is_empty() => message.raw.clone(),
        Some(speaker) => speaker.rendered(message),
        None => form::plain(message),
    }
}

impl Answered {
    /// A field of its head.
    pub fn field(&self, name: &str) -> Option<&str> {
        let is_it = |(it, _): &&(String, String)| it.eq_ignore_ascii_case(name);
        self.fields.iter().find(is_it).map(|(_, value)| value.as_str())
    }

    /// How long it asks to be left alone, bounded; none: it does not.
    pub fn pause(&self, now: Now) -> Option<Millis> {
        let retry_after = Some(self.field("retry-after")?.to_owned());
        let pause = Heard { outcome: Ok(self.status), retry_after }.pause(now.wall);
        (pause.0 > 0).then_some(pause)
    }
}

impl Delivered {
    /// Taken, under this name.
    pub fn taken(message_id: Option<String>) -> Self {
        Self { message_id, reason: None, ..Self::not(Verdict::Taken, "") }
    }

    /// Not taken, and why.
    pub fn not(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self {
            verdict,
            message_id: None,
            status: 0,
            reason: Some(reason.into()),
            retry_after: None,
            gone_at: None,
        }
    }

    /// The same with the status that said so.
    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }
}
