//! One request of the HTTP API, from its body to its answer.

use std::sync::Arc;

use bytes::Bytes;

use super::super::actor::Actor;
use super::super::frames;
use super::super::history::{Bounds, HistoryQuery};
use super::super::names::{self, Kind};
use super::super::revoking::Revoking;
use super::Shared;
use super::channels::{self, Survey};
use super::fields::check_channel;
use super::history::{self, Operation};
use super::matter::Matter;
use super::messages;
use super::presence::PresenceAsk;
use super::publish::{self, EventIn, Info};
use super::published::{Outcome, acknowledged};
use super::push::{self, Pushing};
use super::table::{Names, Route, Row};
use crate::auth::App;
use crate::auth::sign::{Query, SignedRequest};
use crate::base::ids::{AppIndex, ShardId, Ticket};
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Now};
use crate::broker::{self, Command, Control, Publish, Reply};
use crate::dialects::api::{self, Refusal, refused, respond};
use crate::dialects::{Facts, Input, Output, Request, Response, Session, TimerKind};

/// How long the session of an acting connection may take to say who it is.
const ACTOR_PATIENCE: Millis = Millis(2_000);
const ACTOR_OVERDUE: TimerKind = TimerKind(0);

/// One request: what it is about, and what is still missing for its answer.
pub(super) struct Exchange {
    shared: Arc<Shared>,
    row: &'static Row,
    names: Names,
    method: String,
    path: String,
    query: Option<String>,
    /// The request's idempotency key, if its head has one.
    key: Option<String>,
    /// What its head says about push notifications.
    head: push::Head,
    shards: u16,
    state: State,
}

enum State {
    /// The body comes.
    Reading,
    /// Published; `outcomes` in the order of the asks, one per channel of each event.
    Publishing {
        missing: usize,
        outcomes: Vec<Outcome>,
        batch: Option<usize>,
        refusal: Option<broker::Refusal>,
        has_versions: bool,
    },
    /// Every shard says what it holds, a portion at a time.
    Surveying(Box<Survey>),
    /// The broker describes a channel.
    Describing(Info),
    /// The broker lists members, or carries a control out.
    Waiting,
    /// A page of a channel's history comes.
    Paging(Box<(Arc<App>, String, HistoryQuery)>),
    /// The broker says what is kept of this channel.
    Inspecting(String),
    /// A history is reset or purged.
    Operating(Box<Operation>),
    /// The broker answers about the history of who was present.
    Remembering(Box<PresenceAsk>),
    /// A connection's session says who it is, under this ticket and no other.
    Calling(Ticket, Box<Matter>),
    /// The broker answers about a message.
    Asking(Box<Matter>),
    /// Tokens are revoked.
    Revoking(Box<Revoking>),
    /// Something about push notifications is carried out.
    Pushing(Box<Pushing>),
    /// Answered: what still comes is too late.
    Answered,
}

impl Exchange {
    pub fn new(
        shared: Arc<Shared>,
        row: &'static Row,
        names: Names,
        request: &Request<'_>,
        facts: &Facts,
    ) -> Self {
        Self {
            shared,
            row,
            names,
            method: request.method.into(),
            path: request.path.into(),
            query: request.query.map(Into::into),
            key: request.header("x-idempotency-key").map(Into::into),
            head: push::Head::read(request),
            shards: facts.shards,
            state: State::Reading,
        }
    }

    /// Checks who asks and starts on what is asked; the answer at once if nothing is to be waited for.
    fn begin(
        &mut self,
        body: &[u8],
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<Option<Response>, Refusal> {
        let Some(query) = &self.query else {
            return Err(api::unsigned());
        };
        let query = Query::parse(query);
        let app = self.verify(&query, body, now, out)?;
        match self.row.route {
            Route::Events => {
                let event = publish::read_event(body, self.key.as_deref(), &app.settings)?;
                let mut events = vec![event];
                push::with_events(&mut events, &app, self.shared.push)?;
                return Ok(self.publish(&app, events, None, now, out));
            }
            Route::BatchEvents => {
                let mut events = publish::read_batch(body, self.key.as_deref(), &app.settings)?;
                push::with_events(&mut events, &app, self.shared.push)?;
                let count = events.len();
                return Ok(self.publish(&app, events, Some(count), now, out));
            }
            Route::Push(route) => {
                let (names, key) = (&self.names, self.key.as_deref());
                let asked = push::Asked { route, names, query: &query, body, key };
                return Ok(
                    match Pushing::begin(&asked, &self.head, &app, self.shared.push, out)? {
                        Ok(pushing) => {
                            self.state = State::Pushing(Box::new(pushing));
                            None
                        }
                        Err(response) => Some(response),
                    },
                );
            }
            _ => {}
        }
        let info = query.value("info").map(Info::parse).transpose()?.unwrap_or_default();
        let name = self.name(&app)?;
        let channel = || Channel { app: app.index, name: Name::from(&*name) };
        let settings = &self.shared.settings;
        let (state, command) = match self.row.route {
            Route::Channels => {
                let prefix = query.value("filter_by_prefix").unwrap_or_default();
                if info.user_count && !names::is_presence(prefix) {
                    return Err(Refusal::invalid(
                        "info=user_count needs filter_by_prefix to start with presence-",
                    ));
                }
                let survey = Survey::new(app.index, Name::from(prefix), info, self.shards);
                out.extend(survey.begin());
                self.state = State::Surveying(Box::new(survey));
                return Ok(None);
            }
            Route::Channel => {
                if info.user_count && !names::is_presence(&name) {
                    return Err(Refusal::invalid("info=user_count is for presence channels only"));
                }
                (State::Describing(info), Command::Describe(channel()))
            }
            Route::Users => (State::Waiting, Command::Members(channel())),
            Route::History => {
                let value = |name: &str| query.value(name).map(str::to_owned);
                let page_max = settings.history_page_max;
                let asked = HistoryQuery::read(&self.shared.apps, &app, &name, page_max, &value);
                let asked = asked.map_err(Refusal::invalid)?;
                let command = Command::History(channel(), Box::new(asked.page(None)));
                (State::Paging(Box::new((app.clone(), name.clone(), asked))), command)
            }
            Route::HistoryState => (State::Inspecting(name.clone()), Command::Stream(channel())),
            Route::HistoryReset | Route::HistoryPurge => {
                let is_purge = self.row.route == Route::HistoryPurge;
                let operation = Operation::read(body, &name, is_purge)?;
                let command = operation.command(channel());
                (State::Operating(Box::new(operation)), command)
            }
            Route::Revoke => {
                let is_durable = self.shared.revocations_are_durable;
                let mut revoking = Revoking::read(body, app.index, is_durable, now.wall)?;
                revoking.ask(now, out);
                self.state = State::Revoking(Box::new(revoking));
                return Ok(None);
            }
            Route::Terminate => (State::Waiting, Command::Control(channel(), Control::Terminate)),
            Route::Reconnect => (State::Waiting, Command::Control(channel(), Control::Reconnect)),
            route => {
                let ask = PresenceAsk::read(route, &self.shared, &app, &query, body, channel())?;
                if let Some(ask) = ask {
                    out.push(Output::Ask(Ticket(0), ask.command()));
                    self.state = State::Remembering(Box::new(ask));
                    return Ok(None);
                }
                self.check_feature(route)?;
                let matter = Matter::read(route, &self.names, &query, body, channel(), &app)?;
                let mut matter = matter.ok_or(Refusal::new(404, "not_found", "no such route"))?;
                if let Matter::Mutate(it) = &mut matter {
                    it.bring_push(&app, self.shared.push)?;
                }
                return self.ask(matter, app.index, now, out).map(|()| None);
            }
        };
        self.state = state;
        out.push(Output::Ask(Ticket(0), command));
        Ok(None)
    }

    /// The channel that the path names, or that of the user it names; empty where it names neither.
    fn name(&self, app: &App) -> Result<String, Refusal> {
        let name = match self.row.route {
            Route::Channels | Route::Revoke => return Ok(String::new()),
            Route::Terminate | Route::Reconnect => {
                frames::user_channel(&self.names.name).to_string()
            }
            _ => self.names.name.clone(),
        };
        check_channel(&name, &app.settings)?;
        if self.row.is_of_presence && !names::is_presence(&name) {
            return Err(Refusal::invalid("Only presence channels support this endpoint"));
        }
        Ok(name)
    }

    /// Whether what a route is about is switched on at all.
    fn check_feature(&self, route: Route) -> Result<(), Refusal> {
        let off = |text| Err(Refusal::new(422, "feature_disabled", text));
        let is_said = matches!(route, Route::Annotate | Route::Annotations | Route::TakeBack);
        match route {
            Route::Revoke => Ok(()),
            _ if !self.shared.has_versions() => {
                off("versioned messages are off: the setting pusher.versioned_messages")
            }
            _ if is_said && !self.shared.has_annotations() => {
                off("annotations are off: the setting pusher.annotations")
            }
            _ => Ok(()),
        }
    }

    /// Asks about a message, in the app's name at once, in a connection's when that has said who it is.
    fn ask(
        &mut self,
        matter: Matter,
        app: AppIndex,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusal> {
        let Some(actor) = matter.actor() else {
            out.push(Output::Ask(Ticket(0), self.shared.reports.with(matter.command())));
            self.state = State::Asking(Box::new(matter));
            return Ok(());
        };
        // Any two numbers name a connection; only our shards have any.
        if actor.shard.0 >= self.shards {
            return Err(messages::not_connected(&actor.to_string()));
        }
        // Of this request alone: a session that answers too late answers none that comes later on this connection.
        let ticket = Ticket(now.steady.0 as u32 | 1);
        let words = Actor::ask(app, matter.channel());
        out.push(Output::Arm(ACTOR_OVERDUE, ACTOR_PATIENCE));
        out.push(Output::Ask(ticket, Command::Call(actor, words)));
        self.state = State::Calling(ticket, Box::new(matter));
        Ok(())
    }

    fn verify(
        &self,
        query: &Query<'_>,
        body: &[u8],
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<Arc<App>, Refusal> {
        let request = SignedRequest {
            method: &self.method,
            path: &self.path,
            app_id: self.names.app_id.as_deref(),
            body,
        };
        let window = self.shared.settings.signature_window;
        api::verify(&self.shared.apps, window, request, query, now, out)
    }

    fn publish(
        &mut self,
        app: &App,
        events: Vec<EventIn>,
        batch: Option<usize>,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Option<Response> {
        let mut outcomes = Vec::new();
        for (event, it) in events.into_iter().enumerate() {
            // One notification for all channels of the event, with the first: a device gets it once.
            let (has_push, mut push) = (it.push.is_some(), it.push);
            for channel in it.channels {
                let to = Channel { app: app.index, name: channel.clone() };
                let publish = Publish {
                    exclude: it.exclude,
                    keep_last: Kind::of(&channel)
                        .is_cache
                        .then_some(self.shared.settings.cache_ttl),
                    tags: it.tags.clone(),
                    meta: it.meta.clone(),
                    ephemeral: it.ephemeral,
                    key: it.key.clone(),
                    // What is ephemeral is not told.
                    push: push.take(),
                    report: self.shared.reports.about_message(app.index).filter(|_| !it.ephemeral),
                    ..Publish::new(to, it.name.clone(), it.data.clone(), now.steady)
                };
                let publish = match has_push {
                    true => publish,
                    false => self.shared.push_rules.bring_push(app, publish, now),
                };
                let ticket = Ticket(outcomes.len() as u32);
                out.push(Output::Ask(ticket, Command::Publish(Box::new(publish))));
                let message_id = it.meta.as_ref().and_then(|it| it.message_id.clone());
                let info = it.info;
                outcomes.push(Outcome { event, channel, info, message_id, published: None });
            }
        }
        let missing = outcomes.len();
        if missing == 0 {
            return Some(respond(200, Bytes::from_static(b"{}")));
        }
        let has_versions = self.shared.has_versions();
        self.state = State::Publishing { missing, outcomes, batch, refusal: None, has_versions };
        None
    }
}

impl State {
    /// Takes an answer of the broker; the answer to the peer, once it is complete.
    fn reply(&mut self, ticket: Ticket, reply: Reply, out: &mut Vec<Output>) -> Option<Response> {
        match (self, reply) {
            (Self::Publishing { missing, outcomes, batch, refusal, has_versions }, reply) => {
                let outcome = outcomes.get_mut(ticket.0 as usize)?;
                match reply {
                    Reply::Published(it) => outcome.published = Some(it),
                    // Answered with the last reply all the same: one that came later would be taken for
                    // a reply to the connection's next request.
                    Reply::Refused(first) => *refusal = refusal.take().or(Some(first)),
                    _ => return None,
                }
                *missing -= 1;
                if *missing > 0 {
                    return None;
                }
                Some(match refusal.take() {
                    Some(broker::Refusal::KeyReused) => {
                        Refusal::invalid(broker::Refusal::KeyReused.text()).response()
                    }
                    Some(refusal) => refused(refusal),
                    None => acknowledged(outcomes, *batch, *has_versions),
                })
            }
            (Self::Reading | Self::Answered, _) => None,
            (Self::Calling(..) | Self::Revoking(_), _) => None,
            (Self::Pushing(pushing), reply) => pushing.reply(ticket, reply, out),
            (Self::Asking(matter), reply) => matter.answer(reply),
            (Self::Remembering(ask), reply) => ask.take(reply, out),
            (_, Reply::Refused(refusal)) => Some(refused(refusal)),
            (Self::Surveying(survey), Reply::Channels { found, rest }) => {
                survey.take(ShardId(ticket.0 as u16), found, rest, out)
            }
            (Self::Describing(info), Reply::Described(description)) => {
                Some(respond(200, Bytes::from(channels::described(&description, *info))))
            }
            (Self::Waiting, Reply::Members(members)) => {
                Some(respond(200, Bytes::from(channels::listed(&members))))
            }
            (Self::Paging(paging), Reply::Page(page)) => {
                let (app, channel, query) = &**paging;
                let mut body = Vec::new();
                query.write(app, channel, &page, Bounds::Asked, &mut body);
                Some(respond(200, Bytes::from(body)))
            }
            (Self::Inspecting(channel), Reply::Stream(stream)) => {
                Some(respond(200, Bytes::from(history::state(channel, &stream))))
            }
            (Self::Operating(operation), Reply::Purged(done)) => {
                Some(respond(200, Bytes::from(operation.answer(&done))))
            }
            (Self::Waiting, Reply::Done) => {
                Some(respond(200, Bytes::from_static(b"{\"ok\":true}")))
            }
            _ => None,
        }
    }
}

impl Exchange {
    /// Takes what the session of the acting connection says; the answer if that ends it.
    fn called(&mut self, reply: Reply, out: &mut Vec<Output>) -> Option<Response> {
        let State::Calling(_, matter) = std::mem::replace(&mut self.state, State::Answered) else {
            return None;
        };
        let mut matter = matter;
        let actor = matter.actor()?;
        let Reply::Returned(words) = reply else {
            return Some(messages::not_connected(&actor.to_string()).response());
        };
        if let Err(response) = matter.act_as(actor, &words) {
            return Some(response);
        }
        out.push(Output::Ask(Ticket(0), self.shared.reports.with(matter.command())));
        self.state = State::Asking(matter);
        None
    }
}

impl Session for Exchange {
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        let called = match self.state {
            State::Calling(ticket, _) => Some(ticket),
            _ => None,
        };
        let response = match input {
            Input::Body(body) if matches!(self.state, State::Reading) => {
                self.begin(body, now, out).unwrap_or_else(|refusal| Some(refusal.response()))
            }
            Input::Reply(ticket, reply) if called == Some(ticket) => self.called(reply, out),
            Input::Reply(ticket, reply) => match &mut self.state {
                State::Revoking(it) => it.take(ticket, &reply, now, out).map(|done| match done {
                    Ok(body) => respond(200, body),
                    Err(refusal) => refusal.response(),
                }),
                state => state.reply(ticket, reply, out),
            },
            Input::Found(ticket, finding) => match &mut self.state {
                State::Pushing(it) => it.found(ticket, finding, out),
                _ => None,
            },
            // A session of another protocol never answers.
            Input::Timer(ACTOR_OVERDUE) => match &self.state {
                State::Calling(_, matter) => {
                    let actor = matter.actor().map(|it| it.to_string()).unwrap_or_default();
                    Some(messages::not_connected(&actor).response())
                }
                _ => None,
            },
            _ => None,
        };
        if let Some(response) = response {
            self.state = State::Answered;
            out.push(Output::Respond(response));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Serial;

    #[test]
    fn a_publish_is_answered_once_by_its_last_reply() {
        let outcome = |n: usize| Outcome {
            event: 0,
            channel: Name::from(&*format!("c{n}")),
            info: None,
            message_id: None,
            published: None,
        };
        let published = || Reply::Published(broker::Published::unkept(Serial(1)));
        let refused = || Reply::Refused(broker::Refusal::ChannelsFull { channels_max: 1 });
        for (replies, status) in [
            ([published(), published(), published()], 200),
            ([published(), refused(), published()], 503),
            ([refused(), refused(), published()], 503),
            ([published(), published(), refused()], 503),
        ] {
            let mut state = State::Publishing {
                missing: 3,
                outcomes: (0..3).map(outcome).collect(),
                batch: None,
                refusal: None,
                has_versions: true,
            };
            let mut answers = Vec::new();
            for (ticket, reply) in replies.into_iter().enumerate() {
                answers.push(
                    state.reply(Ticket(ticket as u32), reply, &mut Vec::new()).map(|it| it.status),
                );
            }
            assert_eq!(answers, [None, None, Some(status)]);
        }
    }
}
