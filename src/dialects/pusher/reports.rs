//! What the world outside is told: Pusher's webhooks, and what Sockudo adds to them.
//!
//! Which of them anyone wants is known from the start, so that the others cost nothing. Source: Pusher's documentation of
//! webhooks, Sockudo's webhooks.

use bytes::Bytes;

use super::names;
use crate::base::event_id::EVENT_ID_CHARS;
use crate::base::ids::AppIndex;
use crate::base::name::Name;
use crate::broker::versioned::{Action, Annotated, Annotating, MessageRef, Mutated};
use crate::broker::{Command, Event, Happening, Payload, Presence, Report, Sender};
use crate::config::Config;
use crate::config::webhooks::Webhooks;
use crate::wire::http::query;
use crate::wire::{json, write_decimal};

/// What the kinds of all reports begin with.
const FAMILY: &str = "sockudo.";

/// What can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A channel's first subscription began.
    ChannelOccupied,
    /// Its last one ended a while ago.
    ChannelVacated,
    /// How many there are.
    SubscriptionCount,
    /// A user came to a presence channel.
    MemberAdded,
    /// Others are to know something else about a user there.
    MemberUpdated,
    /// A user left one.
    MemberRemoved,
    /// A peer published.
    ClientEvent,
    /// Someone subscribed a cache channel that keeps nothing.
    CacheMiss,
    /// A message was published where messages have versions, or has another version.
    VersionCreated,
    /// Something was said about a message.
    AnnotationCreated,
    /// It was taken back.
    AnnotationDeleted,
}

impl What {
    const ALL: [Self; 11] = [
        Self::ChannelOccupied,
        Self::ChannelVacated,
        Self::SubscriptionCount,
        Self::MemberAdded,
        Self::MemberUpdated,
        Self::MemberRemoved,
        Self::ClientEvent,
        Self::CacheMiss,
        Self::VersionCreated,
        Self::AnnotationCreated,
        Self::AnnotationDeleted,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::ChannelOccupied => "channel_occupied",
            Self::ChannelVacated => "channel_vacated",
            Self::SubscriptionCount => "subscription_count",
            Self::MemberAdded => "member_added",
            Self::MemberUpdated => "member_updated",
            Self::MemberRemoved => "member_removed",
            Self::ClientEvent => "client_event",
            Self::CacheMiss => "cache_miss",
            Self::VersionCreated => "message_version_created",
            Self::AnnotationCreated => "annotation_created",
            Self::AnnotationDeleted => "annotation_deleted",
        }
    }
}

/// What is wanted of each app, in the order of their indices: one bit for each [`What`].
#[derive(Debug, Default)]
pub struct Reports(Box<[u16]>);

impl Reports {
    /// What receivers of webhooks are to be told.
    pub fn of(config: &Config) -> Self {
        let webhooks = Webhooks::of(config);
        let of_app = |app: &crate::config::App| {
            let kind = |what: What| format!("{FAMILY}{}", what.name());
            let wants = |what: &What| webhooks.wants(&app.id, &kind(*what));
            // Without versions no message has any.
            let is_there =
                |it: &What| *it != What::VersionCreated || config.pusher.versioned_messages;
            let wanted = What::ALL.into_iter().filter(|it| is_there(it) && wants(it));
            wanted.fold(0, |bits, what| bits | bit(what))
        };
        Self(config.apps.iter().map(of_app).collect())
    }

    /// Whether anything is to be told.
    pub fn any(&self) -> bool {
        self.0.iter().any(|bits| *bits != 0)
    }

    fn wants(&self, app: AppIndex, what: What) -> bool {
        self.0.get(usize::from(app.0)).is_some_and(|bits| bits & bit(what) != 0)
    }

    /// What comes with a publish that is to be told, for [`Reports::tell`]; none: nobody wants it. `what` it may become.
    fn about(&self, app: AppIndex, what: &[What]) -> Option<Payload> {
        let is_wanted = what.iter().any(|it| self.wants(app, *it));
        is_wanted.then(|| Payload(Bytes::from_static(b"{}")))
    }

    /// What comes with a message of a back end.
    pub fn about_message(&self, app: AppIndex) -> Option<Payload> {
        self.about(app, &[What::VersionCreated])
    }

    /// What comes with a client event.
    pub fn about_client_event(&self, app: AppIndex) -> Option<Payload> {
        self.about(app, &[What::ClientEvent, What::VersionCreated])
    }

    /// The same ask, with what is to be told of another version or an annotation.
    pub fn with(&self, command: Command) -> Command {
        match command {
            Command::Mutate(mut it) => {
                it.report = self.about_message(it.channel.app);
                Command::Mutate(it)
            }
            Command::Annotate(mut it) => {
                let what = match it.what {
                    Annotating::Say(_) => What::AnnotationCreated,
                    Annotating::TakeBack { .. } => What::AnnotationDeleted,
                };
                it.report = self.about(it.channel.app, &[what]);
                Command::Annotate(it)
            }
            command => command,
        }
    }

    /// What is told of a cache channel that keeps nothing; none: nobody wants it.
    pub fn cache_miss(&self, app: AppIndex, channel: &str) -> Option<Report> {
        let told = Told::new(What::CacheMiss, app, channel);
        self.wants(app, What::CacheMiss).then(|| told.text("data", "{}").done())
    }

    /// Appends what is told of an event.
    pub fn tell(&self, event: &Event, out: &mut Vec<Report>) {
        let (app, channel) = (event.channel.app, &*event.channel.name);
        if !is_apps(channel) {
            return;
        }
        let mut tell = |what, say: &dyn Fn(Told) -> Told| {
            if self.wants(app, what) {
                out.push(say(Told::new(what, app, channel)).done());
            }
        };
        match &event.happening {
            Happening::Occupied => tell(What::ChannelOccupied, &|told| told),
            Happening::Vacated => tell(What::ChannelVacated, &|told| told),
            Happening::SubscriptionCount(_) if names::is_presence(channel) => {}
            Happening::SubscriptionCount(count) => {
                tell(What::SubscriptionCount, &|told| told.number("subscription_count", *count));
            }
            Happening::MemberAdded(_)
            | Happening::MemberUpdated(_)
            | Happening::MemberRemoved(_)
                if !names::is_presence(channel) => {}
            Happening::MemberAdded(it) => tell(What::MemberAdded, &|told| told.member(it)),
            Happening::MemberRemoved(it) => tell(What::MemberRemoved, &|told| told.member(it)),
            Happening::MemberUpdated(it) => tell(What::MemberUpdated, &|told| {
                let info = it.member.info.as_ref().map_or(&b"{}"[..], |info| &info.0);
                told.member(it).json("user_info", info)
            }),
            Happening::Message { name, data, sender } => {
                if let Some(sender) = sender.as_ref().filter(|_| name.starts_with("client-")) {
                    tell(What::ClientEvent, &|told| told.client_event(name, data, sender));
                }
                // Where nothing is kept, there is one version of everything.
                if event.epoch.is_some() {
                    let message = MessageRef { id: event.id, serial: event.serial };
                    let serial = message.to_string();
                    tell(What::VersionCreated, &|told| {
                        told.version(&serial, &serial, Action::Create)
                    });
                }
            }
            Happening::Mutated(it) => tell(What::VersionCreated, &|told| told.mutated(event, it)),
            Happening::Annotated(it) => match it.takes_back {
                None => tell(What::AnnotationCreated, &|told| told.annotated(event, it)),
                Some(id) => tell(What::AnnotationDeleted, &|told| {
                    let id = id.to_string();
                    told.annotated(event, it).text("deleted_annotation_serial", &id)
                }),
            },
            Happening::ValueChanged(_) | Happening::Summarized(_) | Happening::Control(_) => {}
        }
    }
}

/// Whether a channel is the app's own: not one of the engine's, nor one that tells of others.
fn is_apps(channel: &str) -> bool {
    !names::is_internal(channel) && !channel.starts_with("[meta]")
}

fn bit(what: What) -> u16 {
    1 << what as u16
}

/// One thing that is told, as it is written.
struct Told {
    what: What,
    app: AppIndex,
    channel: Name,
    body: Vec<u8>,
}

impl Told {
    fn new(what: What, app: AppIndex, channel: &str) -> Self {
        let body = format!("{{\"name\":\"{}\"", what.name()).into_bytes();
        Self { what, app, channel: Name::from(channel), body }.text("channel", channel)
    }

    fn json(mut self, name: &str, json: &[u8]) -> Self {
        self.body.extend_from_slice(b",\"");
        self.body.extend_from_slice(name.as_bytes());
        self.body.extend_from_slice(b"\":");
        self.body.extend_from_slice(json);
        self
    }

    fn text(self, name: &str, text: &str) -> Self {
        let mut told = self.json(name, b"");
        json::write_str(&mut told.body, text);
        told
    }

    fn number(self, name: &str, number: u64) -> Self {
        let mut told = self.json(name, b"");
        write_decimal(&mut told.body, number);
        told
    }

    fn member(self, it: &Presence) -> Self {
        self.text("user_id", &it.member.user_id)
    }

    fn client_event(self, name: &str, data: &Payload, sender: &Sender) -> Self {
        let told = self.text("event", name).json("data", &data.0);
        let told = told.text("socket_id", &sender.connection.to_string());
        match &sender.user_id {
            Some(user_id) => told.text("user_id", user_id),
            None => told,
        }
    }

    fn version(self, message: &str, version: &str, action: Action) -> Self {
        let told = self.text("message_serial", message).text("version_serial", version);
        told.text(
            "action",
            match action {
                Action::Create => "message.create",
                Action::Update => "message.update",
                Action::Delete => "message.delete",
                Action::Append => "message.append",
            },
        )
    }

    fn mutated(self, event: &Event, it: &Mutated) -> Self {
        let version = event.id.write(&mut [0; EVENT_ID_CHARS]).to_owned();
        self.version(&it.message.to_string(), &version, it.action)
    }

    fn annotated(self, event: &Event, it: &Annotated) -> Self {
        let told = self.text("message_serial", &it.annotation.message.to_string());
        let told = told.text("annotation_serial", &event.id.to_string());
        told.text("annotation_type", &it.annotation.kind)
    }

    fn done(self) -> Report {
        let Self { what, app, channel, mut body } = self;
        body.push(b'}');
        let mut encoded = String::new();
        query::encode(&mut encoded, &channel);
        let name = what.name();
        Report {
            app,
            kind: Name::from(format!("{FAMILY}{name}").as_str()),
            channel: Some(channel),
            fields: vec![("X-Sockudo-Event", name.into()), ("X-Sockudo-Channel", encoded.into())],
            body: Payload(body.into()),
        }
    }
}

#[cfg(test)]
#[path = "reports_tests.rs"]
mod tests;
