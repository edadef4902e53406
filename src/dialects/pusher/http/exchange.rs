//! One request of the HTTP API, from its body to its answer.

use std::sync::Arc;

use bytes::Bytes;

use super::super::frames;
use super::super::history::{Bounds, HistoryQuery};
use super::super::names::{self, Kind};
use super::history::{self, Operation};
use super::publish::{self, EventIn, Info};
use super::{Route, Shared};
use crate::auth::App;
use crate::auth::sign::{Query, SignedRequest};
use crate::base::ids::{AppIndex, ShardId, Ticket};
use crate::base::name::{Channel, Name};
use crate::base::time::Now;
use crate::broker::{
    self, Command, Control, Description, Happening, Member, Mode, Publish, Published, Reply,
};
use crate::dialects::api::{self, Refusal, refused, respond};
use crate::dialects::{Facts, Input, Output, Request, Response, Session};
use crate::wire::json;

/// One request: what it is about, and what is still missing for its answer.
pub(super) struct Exchange {
    shared: Arc<Shared>,
    app_id: Option<String>,
    route: Route,
    method: String,
    path: String,
    query: Option<String>,
    /// The request's idempotency key, if its head has one.
    key: Option<String>,
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
    /// Answered: what still comes is too late.
    Answered,
}

/// What shards have said they hold; ticket `n` asks shard `n`.
struct Survey {
    app: AppIndex,
    prefix: Name,
    info: Info,
    /// Shards that have more to say.
    missing: u16,
    /// What is not in `body` yet.
    found: Vec<(Name, u64, u64)>,
    /// The answer so far.
    body: Vec<u8>,
}

/// Found channels that are sorted and written at once: a tick has time for as many.
const FOUND_MAX: usize = 1024;

/// What became of one event in one channel.
struct Outcome {
    /// Which event of the batch.
    event: usize,
    channel: Name,
    info: Option<Info>,
    /// What its publisher calls it.
    message_id: Option<Name>,
    /// What the broker made of it.
    published: Option<Published>,
}

impl Exchange {
    pub fn new(
        shared: Arc<Shared>,
        app_id: Option<String>,
        route: Route,
        request: &Request<'_>,
        facts: &Facts,
    ) -> Self {
        Self {
            shared,
            app_id,
            route,
            method: request.method.into(),
            path: request.path.into(),
            query: request.query.map(Into::into),
            key: request.header("x-idempotency-key").map(Into::into),
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
        let info = query.value("info").map(Info::parse).transpose()?.unwrap_or_default();
        let channel = |name: &str| Channel { app: app.index, name: Name::from(name) };
        let (state, command) = match &self.route {
            Route::Events => {
                let event = publish::read_event(body, self.key.as_deref(), &app.settings)?;
                return Ok(self.publish(&app, vec![event], None, now, out));
            }
            Route::BatchEvents => {
                let events = publish::read_batch(body, self.key.as_deref(), &app.settings)?;
                let count = events.len();
                return Ok(self.publish(&app, events, Some(count), now, out));
            }
            Route::Channels => {
                let prefix = query.value("filter_by_prefix").unwrap_or_default();
                if info.user_count && !names::is_presence(prefix) {
                    return Err(Refusal::invalid(
                        "info=user_count needs filter_by_prefix to start with presence-",
                    ));
                }
                let survey = Survey {
                    app: app.index,
                    prefix: Name::from(prefix),
                    info,
                    missing: self.shards,
                    found: Vec::new(),
                    body: b"{\"channels\":{".to_vec(),
                };
                out.extend((0..self.shards).map(|shard| survey.ask(ShardId(shard), 0)));
                self.state = State::Surveying(Box::new(survey));
                return Ok(None);
            }
            Route::Channel(name) => {
                check_name(name, &app)?;
                if info.user_count && !names::is_presence(name) {
                    return Err(Refusal::invalid("info=user_count is for presence channels only"));
                }
                (State::Describing(info), Command::Describe(channel(name)))
            }
            Route::Users(name) => {
                check_name(name, &app)?;
                if !names::is_presence(name) {
                    return Err(Refusal::invalid("users are listed for presence channels only"));
                }
                (State::Waiting, Command::Members(channel(name)))
            }
            Route::History(name) => {
                check_name(name, &app)?;
                let value = |name: &str| query.value(name).map(str::to_owned);
                let page_max = self.shared.settings.history_page_max;
                let asked = HistoryQuery::read(&self.shared.apps, &app, name, page_max, &value);
                let asked = asked.map_err(Refusal::invalid)?;
                let command = Command::History(channel(name), Box::new(asked.page(None)));
                (State::Paging(Box::new((app.clone(), name.clone(), asked))), command)
            }
            Route::HistoryState(name) => {
                check_name(name, &app)?;
                (State::Inspecting(name.clone()), Command::Stream(channel(name)))
            }
            Route::HistoryReset(name) | Route::HistoryPurge(name) => {
                check_name(name, &app)?;
                let is_purge = matches!(self.route, Route::HistoryPurge(_));
                let operation = Operation::read(body, name, is_purge)?;
                let command = operation.command(channel(name));
                (State::Operating(Box::new(operation)), command)
            }
            Route::Terminate(user) | Route::Reconnect(user) => {
                let control = match self.route {
                    Route::Terminate(_) => Control::Terminate,
                    _ => Control::Reconnect,
                };
                let name = frames::user_channel(user);
                check_name(&name, &app)?;
                (State::Waiting, Command::Control(channel(&name), control))
            }
        };
        self.state = state;
        out.push(Output::Ask(Ticket(0), command));
        Ok(None)
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
            app_id: self.app_id.as_deref(),
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
                    report: self.shared.reports.about_message(app.index).filter(|_| !it.ephemeral),
                    ..Publish::new(to, it.name.clone(), it.data.clone(), now.steady)
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
        self.state = State::Publishing { missing, outcomes, batch, refusal: None };
        None
    }
}

impl State {
    /// Takes an answer of the broker; the answer to the peer, once it is complete.
    fn reply(&mut self, ticket: Ticket, reply: Reply, out: &mut Vec<Output>) -> Option<Response> {
        match (self, reply) {
            (Self::Publishing { missing, outcomes, batch, refusal }, reply) => {
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
                    Some(refusal) => refused(refusal),
                    None => acknowledged(outcomes, *batch),
                })
            }
            (Self::Reading | State::Answered, _) => None,
            (_, Reply::Refused(refusal)) => Some(refused(refusal)),
            (Self::Surveying(survey), Reply::Channels { found, rest }) => {
                let found = found.into_iter();
                survey.found.extend(found.filter(|(name, ..)| !names::is_internal(name)));
                if survey.found.len() > FOUND_MAX {
                    survey.write();
                }
                if let Some(from) = rest {
                    out.push(survey.ask(ShardId(ticket.0 as u16), from));
                    return None;
                }
                survey.missing = survey.missing.saturating_sub(1);
                if survey.missing > 0 {
                    return None;
                }
                survey.write();
                survey.body.extend_from_slice(b"}}");
                Some(respond(200, Bytes::from(std::mem::take(&mut survey.body))))
            }
            (Self::Describing(info), Reply::Described(description)) => {
                Some(respond(200, Bytes::from(described(&description, *info))))
            }
            (Self::Waiting, Reply::Members(members)) => {
                Some(respond(200, Bytes::from(listed(&members))))
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

impl Survey {
    fn ask(&self, shard: ShardId, from: u32) -> Output {
        let (app, prefix) = (self.app, self.prefix.clone());
        let survey = Command::Survey { shard, from, app, prefix };
        Output::Ask(Ticket(u32::from(shard.0)), survey)
    }

    /// Writes what was found. Few channels come in one order, whatever the number of shards.
    fn write(&mut self) {
        self.found.sort_unstable();
        for (name, subscriptions, users) in self.found.drain(..) {
            if self.body.last() != Some(&b'{') {
                self.body.push(b',');
            }
            json::write_str(&mut self.body, &name);
            self.body.push(b':');
            let users = self.info.user_count.then_some(users);
            let subscriptions = self.info.subscription_count.then_some(subscriptions);
            numbers(
                &[("user_count", users), ("subscription_count", subscriptions)],
                &mut self.body,
            );
        }
    }
}

impl Session for Exchange {
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        let response = match input {
            Input::Body(body) if matches!(self.state, State::Reading) => {
                self.begin(body, now, out).unwrap_or_else(|refusal| Some(refusal.response()))
            }
            Input::Reply(ticket, reply) => self.state.reply(ticket, reply, out),
            _ => None,
        };
        if let Some(response) = response {
            self.state = State::Answered;
            out.push(Output::Respond(response));
        }
    }
}

fn check_name(name: &str, app: &App) -> Result<(), Refusal> {
    // A user's channel may be longer by its prefix.
    let bytes_max = app.settings.channel_name_bytes_max;
    names::check_published(name, bytes_max).map_err(|error| Refusal::invalid(error.to_string()))
}

/// The answer to a publish. Its head says how the events are kept: as the weakest of them is.
fn acknowledged(outcomes: &[Outcome], batch: Option<usize>) -> Response {
    let mut response = respond(200, Bytes::from(published(outcomes, batch)));
    let strength = |mode: &Mode| match mode {
        Mode::None => 0,
        Mode::Memory => 1,
        Mode::Durable => 2,
    };
    let modes = outcomes.iter().filter_map(|it| it.published.map(|it| it.mode));
    if let Some(weakest) = modes.min_by_key(strength) {
        response.headers.push(("X-Ringmain-Acknowledged", weakest.as_str().into()));
    }
    response
}

/// `{}`, or what was asked about the channels, per channel or per event of a batch.
fn published(outcomes: &[Outcome], batch: Option<usize>) -> Vec<u8> {
    if outcomes.iter().all(|it| it.info.is_none() && it.message_id.is_none()) {
        return b"{}".to_vec();
    }
    let mut body = Vec::new();
    match batch {
        None => {
            body.extend_from_slice(b"{\"channels\":{");
            for (i, it) in outcomes.iter().enumerate() {
                if i > 0 {
                    body.push(b',');
                }
                json::write_str(&mut body, &it.channel);
                body.push(b':');
                counts(it, &mut body);
            }
            body.extend_from_slice(b"}}");
        }
        Some(events) => {
            body.extend_from_slice(b"{\"batch\":");
            for event in 0..events {
                body.push(if event == 0 { b'[' } else { b',' });
                match outcomes.iter().find(|it| it.event == event) {
                    Some(it) if it.info.is_some() || it.message_id.is_some() => {
                        counts(it, &mut body);
                    }
                    _ => body.extend_from_slice(b"{}"),
                }
            }
            body.extend_from_slice(b"]}");
        }
    }
    body
}

/// Appends what is told of one event in one channel: what was asked for, how it is kept and where, its name,
/// and whether all that was said before.
fn counts(outcome: &Outcome, body: &mut Vec<u8>) {
    let Some(published) = outcome.published else { return body.extend_from_slice(b"{}") };
    let info = outcome.info.unwrap_or_default();
    let users =
        (info.user_count && names::is_presence(&outcome.channel)).then_some(published.user_count);
    let subscriptions = info.subscription_count.then_some(published.subscription_count);
    let serial = published.epoch.map(|_| published.serial.0);
    numbers(
        &[("user_count", users), ("subscription_count", subscriptions), ("history_serial", serial)],
        body,
    );
    let is_first = body.ends_with(b"{}");
    frames::extend(body, |body| {
        let comma = if is_first { "" } else { "," };
        frames::append(body, format_args!("{comma}\"mode\":\"{}\"", published.mode.as_str()));
        body.extend_from_slice(b",\"acknowledgement_id\":");
        json::write_str(body, &acknowledgement_id(outcome, &published));
        if published.is_repeated {
            body.extend_from_slice(b",\"repeated\":true");
        }
    });
}

/// What the event is called from now on.
fn acknowledgement_id(outcome: &Outcome, published: &Published) -> String {
    let given = outcome.message_id.as_ref();
    given.map_or_else(|| published.id.to_string(), |it| it.to_string())
}

/// Appends an object of the numbers that are there.
fn numbers(members: &[(&str, Option<u64>)], body: &mut Vec<u8>) {
    body.push(b'{');
    let there = members.iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    for (i, (name, value)) in there.enumerate() {
        let comma = if i > 0 { "," } else { "" };
        body.extend_from_slice(format!("{comma}\"{name}\":{value}").as_bytes());
    }
    body.push(b'}');
}

fn described(description: &Description, info: Info) -> Vec<u8> {
    let occupied = description.subscription_count > 0;
    let mut body = format!("{{\"occupied\":{occupied}").into_bytes();
    if info.user_count {
        body.extend_from_slice(format!(",\"user_count\":{}", description.user_count).as_bytes());
    }
    if info.subscription_count {
        let count = description.subscription_count;
        body.extend_from_slice(format!(",\"subscription_count\":{count}").as_bytes());
    }
    if let (true, Some((event, left))) = (info.cache, &description.last)
        && let Happening::Message { data, .. } = &event.happening
    {
        body.extend_from_slice(b",\"cache\":{\"data\":");
        frames::write_data(data, &mut body);
        body.extend_from_slice(format!(",\"ttl\":{}}}", left.0.div_ceil(1000)).as_bytes());
    }
    body.push(b'}');
    body
}

fn listed(members: &[Arc<Member>]) -> Vec<u8> {
    let mut body = b"{\"users\":[".to_vec();
    for (i, member) in members.iter().enumerate() {
        body.extend_from_slice(if i > 0 { b",{\"id\":" } else { b"{\"id\":" });
        json::write_str(&mut body, &member.user_id);
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Serial;

    #[test]
    fn an_acknowledgement_says_how_the_event_is_kept() {
        use crate::base::ids::Epoch;

        let made = |channel: &str, mode, info: Option<&str>, message_id: Option<&str>| Outcome {
            event: 0,
            channel: Name::from(channel),
            info: info.map(|it| Info::parse(it).unwrap()),
            message_id: message_id.map(Name::from),
            published: Some(Published {
                mode,
                epoch: (mode != Mode::None).then_some(Epoch(1)),
                subscription_count: 2,
                is_repeated: mode == Mode::Durable,
                ..Published::unkept(Serial(7))
            }),
        };
        let told = |outcomes: &[Outcome], batch| {
            let response = acknowledged(outcomes, batch);
            let (_, mode) =
                response.headers.iter().find(|(it, _)| *it == "X-Ringmain-Acknowledged").unwrap();
            (mode.to_string(), String::from_utf8(response.body.to_vec()).unwrap())
        };
        use Mode::{Durable, Memory, None as Not};
        let plain = [made("a", Durable, None, None), made("b", Memory, None, None)];
        assert_eq!(told(&plain, None), ("memory".into(), "{}".into()));
        let nil = "0".repeat(26);
        let asked =
            [made("a", Durable, Some("subscription_count"), None), made("b", Not, Some(""), None)];
        let first = format!(
            r#"{{"subscription_count":2,"history_serial":7,"mode":"durable","acknowledgement_id":"{nil}","repeated":true}}"#
        );
        let second = format!(r#"{{"mode":"none","acknowledgement_id":"{nil}"}}"#);
        let body = format!(r#"{{"channels":{{"a":{first},"b":{second}}}}}"#);
        assert_eq!(told(&asked, None), ("none".into(), body));
        let batch = [
            made("a", Memory, None, None),
            Outcome { event: 1, ..made("a", Memory, None, Some("m")) },
        ];
        let body =
            r#"{"batch":[{},{"history_serial":7,"mode":"memory","acknowledgement_id":"m"}]}"#;
        assert_eq!(told(&batch, Some(2)), ("memory".into(), body.into()));
    }

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
