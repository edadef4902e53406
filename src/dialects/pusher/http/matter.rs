//! One thing that is asked about a message, in the app's name or in a connection's.

use super::super::actor::Actor;
use super::annotations::{AnnotationsAsk, Saying};
use super::messages::{self, Mutation, VersionsAsk};
use super::table::{Names, Route};
use crate::auth::App;
use crate::auth::sign::Query;
use crate::base::ids::ConnectionId;
use crate::base::name::Channel;
use crate::broker::versioned::{Action, MessageRef};
use crate::broker::{Command, Reply};
use crate::dialects::Response;
use crate::dialects::api::Refusal;

/// What.
#[derive(Debug)]
pub(super) enum Matter {
    /// Give the message another version.
    Mutate(Mutation),
    /// Say something about it, or take it back.
    Say(Saying),
    /// What was said about it.
    Annotations(AnnotationsAsk),
    /// Its versions.
    Versions(Channel, VersionsAsk),
    /// What it is now.
    Latest(Channel, MessageRef),
}

impl Matter {
    /// Reads what a request about a message asks for; none: it asks for something else.
    pub fn read(
        route: Route,
        names: &Names,
        query: &Query<'_>,
        body: &[u8],
        channel: Channel,
        app: &App,
    ) -> Result<Option<Self>, Refusal> {
        let settings = &app.settings;
        let mutate = |action, channel| {
            Mutation::read(body, action, channel, &names.message, settings).map(Self::Mutate)
        };
        Ok(Some(match route {
            Route::Update => mutate(Action::Update, channel)?,
            Route::Delete => mutate(Action::Delete, channel)?,
            Route::Append => mutate(Action::Append, channel)?,
            Route::Message => {
                let message = messages::read_serial(&names.message, &channel.name)?;
                Self::Latest(channel, message)
            }
            Route::Versions => {
                let ask = VersionsAsk::read(query, &channel.name, &names.message)?;
                Self::Versions(channel, ask)
            }
            Route::Annotate => Self::Say(Saying::read(body, channel, &names.message, settings)?),
            Route::Annotations => {
                Self::Annotations(AnnotationsAsk::read(query, channel, &names.message)?)
            }
            Route::TakeBack => Self::Say(Saying::read_taking_back(
                query,
                channel,
                &names.message,
                &names.annotation,
                settings,
            )?),
            _ => return Ok(None),
        }))
    }

    /// The connection in whose name it is asked; none: in the app's.
    pub fn actor(&self) -> Option<ConnectionId> {
        match self {
            Self::Mutate(it) => it.actor,
            Self::Say(it) => it.actor,
            Self::Annotations(it) => it.actor,
            Self::Versions(..) | Self::Latest(..) => None,
        }
    }

    /// In which channel the message is.
    pub fn channel(&self) -> &str {
        match self {
            Self::Mutate(it) => it.channel(),
            Self::Say(it) => it.channel(),
            Self::Annotations(it) => it.channel(),
            Self::Versions(channel, _) | Self::Latest(channel, _) => &channel.name,
        }
    }

    /// Lets the connection ask, with the rights that it has; `words` are what its session answered.
    pub fn act_as(&mut self, connection: ConnectionId, words: &[u8]) -> Result<(), Response> {
        let id = connection.to_string();
        // One of another app is as if it were not there.
        let Some(actor) = Actor::read(words) else {
            return Err(messages::not_connected(&id).response());
        };
        if !actor.is_two {
            let text = format!("Mutation actor socket '{id}' does not speak protocol V2");
            return Err(Refusal::new(401, "auth_failed", text).response());
        }
        match self {
            Self::Mutate(it) => it.act_as(&actor),
            Self::Say(it) => it.act_as(&actor).map_err(|it| it.response()),
            Self::Annotations(it) => it.act_as(&actor).map_err(|it| it.response()),
            Self::Versions(..) | Self::Latest(..) => Ok(()),
        }
    }

    /// What the broker is asked.
    pub fn command(&self) -> Command {
        match self {
            Self::Mutate(it) => it.command(),
            Self::Say(it) => it.command(),
            Self::Annotations(it) => it.command(),
            Self::Versions(channel, it) => it.command(channel.clone()),
            Self::Latest(channel, message) => Command::Latest(channel.clone(), *message),
        }
    }

    /// The answer to what the broker says; none: it says nothing that belongs here.
    pub fn answer(&self, reply: Reply) -> Option<Response> {
        Some(match (self, reply) {
            (Self::Mutate(it), Reply::Published(done)) => it.answer(&done),
            (Self::Mutate(it), Reply::Refused(refusal)) => it.refused(refusal),
            (Self::Say(it), Reply::Published(done)) => it.answer(&done),
            (Self::Say(it), Reply::Refused(refusal)) => it.refused(refusal),
            (Self::Annotations(it), Reply::Annotations(found)) => it.answer(&found),
            (Self::Annotations(it), Reply::Refused(refusal)) => it.refused(refusal),
            (Self::Versions(_, it), Reply::Versions(found)) => it.answer(&found),
            (Self::Versions(_, it), Reply::Refused(refusal)) => it.refused(refusal),
            (Self::Latest(channel, message), Reply::Versions(found)) => {
                messages::latest(&channel.name, *message, &found)
            }
            (Self::Latest(channel, message), Reply::Refused(refusal)) => {
                messages::refused_of(refusal, *message, &channel.name)
            }
            _ => return None,
        })
    }
}
