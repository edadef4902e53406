//! One request of the server API, from its body to its answer.

use std::sync::Arc;

use super::message;
use super::publishing::Publishing;
use super::{Origin, Route};
use crate::base::event_id::EventId;
use crate::base::ids::Ticket;
use crate::base::name::Name;
use crate::base::time::Now;
use crate::broker::state::{Deferred, Scheduled, SchedulesQuery, ValuesQuery};
use crate::broker::{Command, Member, Reply};
use crate::dialects::hotsock::calls::SCHEDULE_ARN;
use crate::dialects::hotsock::faults::{Code, Fault};
use crate::dialects::hotsock::http::{refuse, respond};
use crate::dialects::hotsock::reads::{KEYS_MAX, PAGE_BYTES_MAX, PAGE_ITEMS_MAX, described, items};
use crate::dialects::hotsock::reports::About;
use crate::dialects::hotsock::{Shared, frames, names};
use crate::dialects::{Input, Output, Response, Session};
use crate::wire::http::query;
use crate::wire::json::{self, Kind, Raw};

/// Messages of one batch.
const BATCH_MAX: usize = 100;
/// The ticket of what a request asks alone, or first.
const FIRST: Ticket = Ticket(0);
/// The ticket of what it asks second.
const SECOND: Ticket = Ticket(1);

/// A request: what it is about, and what is still missing for its answer.
pub(super) struct Exchange {
    shared: Arc<Shared>,
    route: Route,
    is_deleting: bool,
    query: Option<Box<str>>,
    origin: Origin,
    state: State,
}

enum State {
    /// The body comes.
    Reading,
    /// Messages are on their way.
    Publishing { publishing: Publishing, is_batch: bool },
    /// A channel is described; on presence channels its members are listed, too.
    Describing { count: Option<u64>, members: Option<Vec<Arc<Member>>> },
    /// Values come, or schedules, or one is cancelled.
    Waiting,
    /// Answered: what still comes is too late.
    Answered,
}

impl Exchange {
    pub fn new(
        shared: Arc<Shared>,
        route: Route,
        is_deleting: bool,
        query: Option<Box<str>>,
        origin: Origin,
    ) -> Self {
        Self { shared, route, is_deleting, query, origin, state: State::Reading }
    }

    fn begin(&mut self, body: &[u8], now: Now, out: &mut Vec<Output>) -> Result<(), Fault> {
        let app = self.shared.app.index;
        let (state, command) = match &self.route {
            Route::Publish | Route::Batch => {
                let is_batch = self.route == Route::Batch;
                let messages = self.messages(body, is_batch, now)?;
                let mut publishing = Publishing::new(app, messages, now);
                publishing.ask(out);
                self.state = State::Publishing { publishing, is_batch };
                return Ok(());
            }
            Route::Channel(name) => {
                let name = checked(name.as_deref())?;
                let channel = self.shared.channel(name);
                let is_presence = names::is_presence(name);
                if is_presence {
                    out.push(Output::Ask(SECOND, Command::Members(channel.clone())));
                }
                let members = (!is_presence).then(Vec::new);
                (State::Describing { count: None, members }, Command::Describe(channel))
            }
            Route::Storage(name) => {
                let channel = self.shared.channel(checked(name.as_deref())?);
                let query = self.values_query()?;
                (State::Waiting, Command::Values(channel, Box::new(query)))
            }
            Route::Schedules => {
                let after = self.value("after").filter(|it| !it.is_empty());
                let after = after.map(|it| schedule_id(&it)).transpose()?;
                let schedules_max = match self.value("limit") {
                    None => PAGE_ITEMS_MAX,
                    Some(limit) => limit
                        .parse()
                        .ok()
                        .filter(|it| (1..=PAGE_ITEMS_MAX).contains(it))
                        .ok_or_else(|| Fault::field("limit", "a whole number from 1 to 100"))?,
                };
                let query = SchedulesQuery { app, after, only: None, schedules_max };
                (State::Waiting, Command::Schedules(query))
            }
            Route::Schedule(id) => {
                // What is no id is nobody's.
                let id = schedule_id(id).map_err(|_| no_schedule())?;
                let query = SchedulesQuery { app, after: None, only: Some(id), schedules_max: 1 };
                let command = match self.is_deleting {
                    true => Command::CancelSchedule(app, id),
                    false => Command::Schedules(query),
                };
                (State::Waiting, command)
            }
        };
        self.state = state;
        out.push(Output::Ask(FIRST, command));
        Ok(())
    }

    /// The messages of a body, each read or refused for itself.
    fn messages(
        &self,
        body: &[u8],
        is_batch: bool,
        now: Now,
    ) -> Result<Vec<Result<message::Message, Fault>>, Fault> {
        let body = json::parse(body)
            .map_err(|error| Fault::new(Code::InvalidMessage, format!("the body is {error}")))?;
        if body.kind() != Kind::Object {
            return Err(Fault::new(Code::InvalidMessage, "the body is not a JSON object"));
        }
        let read = |item: Raw<'_>| message::read(&self.shared, item, &self.origin, now);
        if !is_batch {
            return Ok(vec![read(body)]);
        }
        let list = body.member("messages").filter(|it| it.kind() == Kind::Array);
        let list = list.ok_or_else(|| Fault::field("messages", "a list"))?;
        if list.items().nth(BATCH_MAX).is_some() {
            return Err(Fault::field("messages", &format!("a list of at most {BATCH_MAX}")));
        }
        Ok(list.items().map(read).collect())
    }

    fn values_query(&self) -> Result<ValuesQuery, Fault> {
        let checked = |key: &str| -> Result<Name, Fault> {
            names::key_fault(key).map_err(|why| Fault::new(Code::InvalidKey, why).with_key(key))?;
            Ok(Name::from(key))
        };
        let keys = match self.value("keys") {
            None => None,
            Some(keys) if keys.split(',').nth(KEYS_MAX).is_some() => {
                return Err(Fault::field("keys", &format!("at most {KEYS_MAX} keys")));
            }
            // No key at all is spelled like an empty one.
            Some(keys) if keys.is_empty() => Some(Vec::new()),
            Some(keys) => Some(keys.split(',').map(checked).collect::<Result<_, _>>()?),
        };
        let after = self.value("after").filter(|it| !it.is_empty());
        let after = after.map(|it| checked(&it)).transpose()?;
        let (values_max, bytes_max) = (PAGE_ITEMS_MAX, PAGE_BYTES_MAX as u64);
        Ok(ValuesQuery { keys, after, admit: None, values_max, bytes_max })
    }

    /// A parameter of the query, decoded.
    fn value(&self, name: &str) -> Option<String> {
        query::value(self.query.as_deref()?, name).map(|it| it.into_owned())
    }

    fn take(&mut self, ticket: Ticket, reply: Reply, out: &mut Vec<Output>) -> Option<Response> {
        match (&mut self.state, reply) {
            (State::Publishing { publishing, .. }, reply) => {
                publishing.take(ticket, reply, out);
                self.published()
            }
            (State::Describing { count, members }, reply) => {
                match reply {
                    Reply::Described(it) => *count = Some(it.subscription_count),
                    Reply::Members(list) => *members = Some(list),
                    Reply::Refused(refusal) => return Some(refuse(&refusal.into())),
                    _ => return None,
                }
                let (count, members) = (count.as_ref()?, members.as_ref()?);
                let Route::Channel(Some(name)) = &self.route else { return None };
                let shown = names::is_presence(name).then_some(&**members);
                Some(respond(200, described("name", name, *count, shown)))
            }
            (State::Reading | State::Answered, _) => None,
            (State::Waiting, Reply::Refused(refusal)) => {
                let is_gone = refusal == crate::broker::Refusal::NotFound;
                Some(refuse(&if is_gone { no_schedule() } else { refusal.into() }))
            }
            (State::Waiting, Reply::Values(values)) => Some(respond(200, items(&values))),
            (State::Waiting, Reply::Schedules(found)) => Some(match (&self.route, &found[..]) {
                (Route::Schedule(_), [it]) => {
                    let mut body = Vec::new();
                    write_scheduled(it, &mut body);
                    respond(200, body)
                }
                (Route::Schedule(_), _) => refuse(&no_schedule()),
                _ => respond(200, scheduled(&found)),
            }),
            (State::Waiting, Reply::Done) => Some(respond(200, b"{}".to_vec())),
            (State::Waiting, _) => None,
        }
    }

    /// The answer to messages, once all of them have one.
    fn published(&self) -> Option<Response> {
        let State::Publishing { publishing, is_batch } = &self.state else { return None };
        if !publishing.is_done() {
            return None;
        }
        if !is_batch {
            return publishing.results().next().map(|result| match result {
                Ok(body) => respond(202, body),
                Err(fault) => refuse(fault),
            });
        }
        let mut body = b"{\"results\":[".to_vec();
        for (i, result) in publishing.results().enumerate() {
            body.extend_from_slice(if i > 0 { b"," } else { b"" });
            body.extend_from_slice(&result.unwrap_or_else(Fault::body));
        }
        body.extend_from_slice(b"]}");
        Some(respond(202, body))
    }
}

impl Session for Exchange {
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        let response = match input {
            Input::Body(body) if matches!(self.state, State::Reading) => {
                match self.begin(body, now, out) {
                    Ok(()) => self.published(),
                    Err(fault) => Some(refuse(&fault)),
                }
            }
            Input::Reply(ticket, reply) => self.take(ticket, reply, out),
            _ => None,
        };
        if let Some(response) = response {
            self.state = State::Answered;
            out.push(Output::Respond(response));
        }
    }

    fn held_bytes(&self) -> usize {
        let about = self.origin.about.as_ref().map_or(0, About::held_bytes);
        about + self.query.as_ref().map_or(0, |it| it.len())
    }
}

fn checked(name: Option<&str>) -> Result<&str, Fault> {
    let name = name.ok_or("the channel's name is not percent-encoded UTF-8");
    let checked = name.and_then(|name| names::channel_fault(name).map(|()| name));
    checked.map_err(|why| Fault::new(Code::InvalidChannel, why))
}

/// A schedule's id, alone or as the end of its ARN.
fn schedule_id(text: &str) -> Result<EventId, Fault> {
    let id = text.strip_prefix(SCHEDULE_ARN).unwrap_or(text);
    id.parse().map_err(|_| Fault::field("after", "the id of a schedule"))
}

fn no_schedule() -> Fault {
    Fault::new(Code::NotFound, "there is no such schedule, or not any more")
}

fn scheduled(schedules: &[Scheduled]) -> Vec<u8> {
    let mut body = b"{\"schedules\":[".to_vec();
    for (i, schedule) in schedules.iter().enumerate() {
        body.extend_from_slice(if i > 0 { b"," } else { b"" });
        write_scheduled(schedule, &mut body);
    }
    body.extend_from_slice(b"]}");
    body
}

fn write_scheduled(schedule: &Scheduled, body: &mut Vec<u8>) {
    let id = schedule.id;
    let head =
        format!("{{\"id\":\"{id}\",\"scheduleArn\":\"{SCHEDULE_ARN}{id}\",\"scheduledFor\":\"");
    body.extend_from_slice(head.as_bytes());
    frames::write_seconds(body, schedule.at);
    body.extend_from_slice(b"\",\"channel\":");
    json::write_str(body, names::from_broker(&schedule.what.channel().name));
    let (event, key, data) = match &schedule.what {
        Deferred::Publish(it) => (&*it.name, None, Some(&it.data)),
        Deferred::SetValue(it) => (names::STORAGE_SET, Some(&it.key), it.data.as_ref()),
        Deferred::Push(_, it) => ("push", None, Some(it)),
    };
    body.extend_from_slice(b",\"event\":");
    json::write_str(body, event);
    if let Some(key) = key {
        body.extend_from_slice(b",\"key\":");
        json::write_str(body, key);
    }
    body.extend_from_slice(b",\"data\":");
    body.extend_from_slice(data.map_or(b"null", |it| &it.0));
    body.push(b'}');
}
