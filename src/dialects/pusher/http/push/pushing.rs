//! One request about push notifications, from its body to its answer.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::super::fields::check_channel;
use super::super::publish::EventIn;
use super::super::table::Names;
use super::answers::{self, Accepted};
use super::content::{self, Around};
use super::devices::{self, ID_BYTES_MAX, named, parameter};
use super::members::{Members, check_id, parse};
use super::{PushRoute, Terms, credentials, key_of_event};
use crate::auth::sign::Query;
use crate::auth::{App, Finding, Inquiry, Source, TokenSettings, What};
use crate::base::ids::Ticket;
use crate::base::name::{Channel, Name};
use crate::base::time::UnixMillis;
use crate::broker::state::{Deferred, Schedule};
use crate::broker::{self, Command, IdempotencyKey, Payload, Reply};
use crate::dialects::api::{Refusal, respond};
use crate::dialects::{Output, Request, Response};
use crate::push::Provider;
use crate::push::order::{Order, PAGE, PAGE_MAX, PageOf, Refused, Registrar, Told};
use crate::push::publish::{Intent, State};
use crate::push::stored::{self, Queued};
use crate::wire::json;

/// Bytes of a cursor, at most: the longest key in base64url, and some.
const CURSOR_BYTES_MAX: usize = 2048;
/// For how long a client that is refused for a while is sent away, unless more is said.
const RETRY_AFTER_MS: u64 = 1_000;

/// What the head of a request says about it.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Head {
    /// In whose name; none: nobody's that is known.
    capability: Option<Capability>,
    identity: Option<String>,
    is_rotated: bool,
    passes_quota: bool,
}

/// In whose name something is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Capability {
    /// The application's.
    Admin,
    /// A device's.
    Subscribe,
}

impl Head {
    /// Reads it.
    pub fn read(request: &Request<'_>) -> Self {
        let capability = match request.header("x-sockudo-push-capability") {
            None | Some("push-admin") => Some(Capability::Admin),
            Some("push-subscribe") => Some(Capability::Subscribe),
            Some(_) => None,
        };
        let bearer = || request.header("authorization")?.strip_prefix("Bearer ");
        let identity = request.header("x-sockudo-device-identity-token").or_else(bearer);
        let rotates = request.header("x-sockudo-rotate-device-identity-token");
        Self {
            capability,
            identity: identity.map(str::to_owned),
            // Whatever it says. Source: Sockudo's push API.
            passes_quota: request.header("x-sockudo-push-quota-override").is_some(),
            is_rotated: matches!(rotates, Some("1" | "true" | "TRUE" | "yes")),
        }
    }

    fn is_device(&self) -> bool {
        self.capability == Some(Capability::Subscribe)
    }

    fn registrar(&self) -> Registrar {
        match self.is_device() {
            true => {
                Registrar::Device { identity: self.identity.clone(), is_rotated: self.is_rotated }
            }
            false => Registrar::Admin { is_rotated: self.is_rotated },
        }
    }
}

/// What is asked, before and behind who asks is known.
pub(in super::super) struct Asked<'a> {
    pub route: PushRoute,
    pub names: &'a Names,
    pub query: &'a Query<'a>,
    pub body: &'a [u8],
    /// The key of the request, if its head has one.
    pub key: Option<&'a str>,
}

/// A request, while its orders are carried out.
pub(in super::super) struct Pushing {
    app: Arc<App>,
    source: Arc<Source>,
    route: PushRoute,
    /// What the path names.
    id: String,
    step: Step,
}

/// What is waited for.
enum Step {
    /// What comes of an order is the answer.
    One,
    /// A device must show that it is itself before this order is given.
    Showing(Box<(Option<String>, Order)>),
    /// Publishes, each for itself.
    Publishing(Vec<Item>),
    /// A publish could not be called off: is there one?
    Missed,
    /// A callback was taken: this is told again.
    Echo(Bytes),
}

/// One publish of a request.
enum Item {
    /// It is on its way to the disk.
    Asked,
    /// Its time is to come, and the schedule for that is on its way to the disk.
    Scheduling(Box<Told>),
    /// It could not be scheduled and is called off.
    Undoing(Refused),
    Done(Box<Result<Told, Refused>>),
}

impl Pushing {
    /// Reads what is asked of an app and gives the first order; the answer at once if there is none to give.
    pub fn begin(
        asked: &Asked<'_>,
        head: &Head,
        app: &Arc<App>,
        terms: Terms,
        out: &mut Vec<Output>,
    ) -> Result<Result<Self, Response>, Refusal> {
        if terms.is_off {
            let text = "push notifications are off: the setting push.enabled";
            return Err(Refusal::new(404, "not_found", text));
        }
        check_capability(asked.route, head)?;
        let source = Arc::new(Source::new("pusher", &TokenSettings::default(), None));
        let mut it = Self {
            app: app.clone(),
            source,
            route: asked.route,
            id: asked.names.name.clone(),
            step: Step::One,
        };
        let id = &*app.settings.id;
        let around = Around {
            app: id,
            key: asked.key,
            passes_quota: head.passes_quota,
            allow_private: terms.allow_private,
        };
        match asked.route {
            PushRoute::Publish => {
                let mut intent = content::publish(asked.body, &around)?;
                intent.is_sync |= asked.query.value("mode") == Some("sync");
                it.publish(vec![intent], out);
            }
            PushRoute::Batch => it.publish(content::batch(asked.body, &around)?, out),
            PushRoute::Feedback => {
                let body = parse(asked.body)?;
                let echo = Bytes::copy_from_slice(body.text().as_bytes());
                match credentials::feedback(body, id)? {
                    Some(order) => {
                        it.step = Step::Echo(echo);
                        it.order(Ticket(0), order, out);
                    }
                    None => return Ok(Err(respond(202, echo))),
                }
            }
            PushRoute::Device if head.is_device() => {
                it.step = Step::Showing(Box::new((None, Order::Device(asked.names.name.clone()))));
                it.show(asked.names.name.clone(), head, out);
            }
            PushRoute::Subscriptions if head.is_device() => {
                let order = read_order(asked, head, app, terms)?;
                let Some(device_id) = named(asked.query, "deviceId")? else {
                    let text = "push-subscribe can only list its own device subscriptions";
                    return Err(Refusal::new(403, "forbidden", text));
                };
                it.step = Step::Showing(Box::new((None, order)));
                it.show(device_id, head, out);
            }
            _ => it.order(Ticket(0), read_order(asked, head, app, terms)?, out),
        }
        Ok(Ok(it))
    }

    fn order(&self, ticket: Ticket, order: Order, out: &mut Vec<Output>) {
        let what = What::Push(Name::from(&*self.app.settings.id), Box::new(order));
        out.push(Output::Inquire(ticket, Inquiry { source: self.source.clone(), what }));
    }

    /// Asks for a device, whose identity token the head must have.
    fn show(&mut self, device_id: String, head: &Head, out: &mut Vec<Output>) {
        if let Step::Showing(showing) = &mut self.step {
            showing.0 = head.identity.clone();
        }
        self.order(Ticket(0), Order::Device(device_id), out);
    }

    fn publish(&mut self, intents: Vec<Intent>, out: &mut Vec<Output>) {
        self.step = Step::Publishing(intents.iter().map(|_| Item::Asked).collect());
        for (n, intent) in intents.into_iter().enumerate() {
            self.order(Ticket(n as u32), Order::Publish(Box::new(intent)), out);
        }
    }

    /// Takes what comes of an order; the answer, once it is complete.
    pub fn found(
        &mut self,
        ticket: Ticket,
        finding: Finding,
        out: &mut Vec<Output>,
    ) -> Option<Response> {
        let told = match finding {
            Finding::Push(told) => *told,
            _ => Err(Refused::unavailable("push notifications cannot be reached: try again")),
        };
        match std::mem::replace(&mut self.step, Step::One) {
            Step::Publishing(items) => {
                self.step = Step::Publishing(items);
                self.published(ticket, told, out)
            }
            Step::Showing(showing) => self.shown(*showing, told, out),
            Step::Missed => Some(match told {
                // Once more is the same.
                Ok(Told::Status(status)) if status.state == State::Cancelled => respond_nothing(),
                Ok(Told::Status(status)) => {
                    let state = status.state.as_str();
                    let text = format!("the publish is finished: {state}");
                    refuse(&Refused::new(409, "conflict", text))
                }
                Ok(_) => refuse(&Refused::unknown("there is no such publish")),
                Err(refused) => refuse(&refused),
            }),
            Step::Echo(echo) => Some(match told {
                Ok(_) => respond(202, echo),
                Err(refused) => refuse(&refused),
            }),
            Step::One => match (self.route, told) {
                (PushRoute::Cancel, Ok(Told::Cancelled(false))) => {
                    self.order(Ticket(0), Order::Status(self.id.clone()), out);
                    self.step = Step::Missed;
                    None
                }
                (_, Ok(told)) => Some(self.answer(&told)),
                (_, Err(refused)) => Some(refuse(&refused)),
            },
        }
    }

    /// A device is there: whoever asks must have its identity token.
    fn shown(
        &mut self,
        (identity, order): (Option<String>, Order),
        told: Result<Told, Refused>,
        out: &mut Vec<Output>,
    ) -> Option<Response> {
        let device = match told {
            Ok(Told::Device(device)) => device,
            Ok(_) => return Some(refuse(&Refused::unknown("there is no such device"))),
            Err(refused) => return Some(refuse(&refused)),
        };
        let wrong = match identity {
            None => "deviceIdentityToken is required",
            // Digests: how far they are alike tells nobody a token.
            Some(token) if device.identity != Some(Sha256::digest(token.as_bytes()).into()) => {
                "invalid deviceIdentityToken"
            }
            Some(_) if self.route == PushRoute::Device => {
                return Some(self.answer(&Told::Device(device)));
            }
            Some(_) => {
                self.order(Ticket(0), order, out);
                return None;
            }
        };
        Some(refuse(&Refused::new(401, "auth_failed", wrong)))
    }

    /// Takes what the broker says of a schedule.
    pub fn reply(
        &mut self,
        ticket: Ticket,
        reply: Reply,
        out: &mut Vec<Output>,
    ) -> Option<Response> {
        let Step::Publishing(items) = &mut self.step else { return None };
        let item = items.get_mut(ticket.0 as usize)?;
        let Item::Scheduling(_) = item else { return None };
        let Item::Scheduling(told) = std::mem::replace(item, Item::Asked) else { return None };
        if let Reply::Scheduled(_) = reply {
            *item = Item::Done(Box::new(Ok(*told)));
            return self.all_published();
        }
        let why = match reply {
            Reply::Refused(refusal) => refusal.text(),
            _ => broker::Refusal::StoreFailed.text(),
        };
        let publish_id = publish_id(&told).to_owned();
        let refused = Refused::unavailable(format!("it cannot be scheduled: {why}"));
        *item = Item::Undoing(refused);
        self.order(ticket, Order::Cancel(publish_id), out);
        None
    }

    fn published(
        &mut self,
        ticket: Ticket,
        told: Result<Told, Refused>,
        out: &mut Vec<Output>,
    ) -> Option<Response> {
        let Step::Publishing(items) = &mut self.step else { return None };
        let item = items.get_mut(ticket.0 as usize)?;
        *item = match (std::mem::replace(item, Item::Asked), told) {
            (Item::Asked, Ok(told)) => match due(&told) {
                Some(at) => {
                    out.push(Output::Ask(ticket, schedule(&self.app, publish_id(&told), at)));
                    Item::Scheduling(Box::new(told))
                }
                None => Item::Done(Box::new(Ok(told))),
            },
            (Item::Asked, Err(refused)) => Item::Done(Box::new(Err(refused))),
            // Called off, or it will find that its time has passed.
            (Item::Undoing(refused), _) => Item::Done(Box::new(Err(refused))),
            (other, _) => other,
        };
        self.all_published()
    }

    /// The answer, if all publishes are done.
    fn all_published(&self) -> Option<Response> {
        let Step::Publishing(items) = &self.step else { return None };
        let done: Option<Vec<_>> = items
            .iter()
            .map(|item| match item {
                Item::Done(it) => Some(&**it),
                _ => None,
            })
            .collect();
        let done = done?;
        if self.route == PushRoute::Publish {
            return Some(match done.first()? {
                Ok(told) => self.answer(told),
                Err(refused) => refuse(refused),
            });
        }
        if let Some(Err(first)) = done.first().filter(|_| done.iter().all(|it| it.is_err())) {
            return Some(refuse(first));
        }
        let mut body = b"{\"items\":[".to_vec();
        for (n, item) in done.into_iter().enumerate() {
            if n > 0 {
                body.push(b',');
            }
            match item {
                Ok(told) => self.accepted(told, &mut body),
                Err(refused) => body.extend_from_slice(&refuse(refused).body),
            }
        }
        body.extend_from_slice(b"]}");
        Some(respond(202, body.into()))
    }

    /// What a publish came to, as a part of a body.
    fn accepted(&self, told: &Told, body: &mut Vec<u8>) {
        let Told::Published { status, rendered, is_repeated, outcomes, .. } = told else { return };
        answers::accepted(
            body,
            &Accepted {
                app: &self.app.settings.id,
                status,
                rendered,
                is_repeated: *is_repeated,
                outcomes: outcomes.as_deref(),
            },
        );
    }

    /// The answer to what an order came to.
    fn answer(&self, told: &Told) -> Response {
        let app = &*self.app.settings.id;
        let one = |status: u16, write: &dyn Fn(&mut Vec<u8>)| {
            let mut body = Vec::new();
            write(&mut body);
            respond(status, body.into())
        };
        match told {
            Told::Registered { change, device, token_hash, identity, replaced } => {
                let (identity, replaced) = (identity.as_deref(), replaced.as_deref());
                let body =
                    answers::registered(app, *change, device, token_hash, identity, replaced);
                respond(201, body)
            }
            Told::Device(it) => one(200, &|body| answers::device(body, app, it)),
            Told::Devices(page) => respond(
                200,
                answers::page(list_of(self.route), page, |body, it| {
                    answers::device(body, app, it);
                }),
            ),
            Told::Removed(count) => match self.route {
                PushRoute::UnregisterClient | PushRoute::Unsubscribe => {
                    let body = answers::removed(*count, self.route == PushRoute::UnregisterClient);
                    respond(200, body)
                }
                _ => respond_nothing(),
            },
            Told::Subscribed(it) => one(201, &|body| answers::subscription(body, app, it)),
            Told::Subscriptions(page) => respond(
                200,
                answers::page(list_of(self.route), page, |body, it| {
                    answers::subscription(body, app, it);
                }),
            ),
            Told::Channels(page) => respond(
                200,
                answers::page(list_of(self.route), page, |body, it| {
                    json::write_str(body, it);
                }),
            ),
            Told::Credential(it) => one(201, &|body| answers::credential(body, app, it)),
            Told::Credentials(rows) => {
                respond(200, answers::all(rows, |body, it| answers::credential(body, app, it)))
            }
            Told::Template(it) => {
                let status = if self.route == PushRoute::PutTemplate { 201 } else { 200 };
                one(status, &|body| answers::template(body, app, it))
            }
            Told::Templates(page) => respond(
                200,
                answers::page(list_of(self.route), page, |body, it| {
                    answers::template(body, app, it);
                }),
            ),
            Told::Published { is_forced_async, .. } => {
                let status = if is_waited_for(told) { 200 } else { 202 };
                let mut response = one(status, &|body| self.accepted(told, body));
                if *is_forced_async {
                    let header = ("X-Sockudo-Forced-Async", "publish-api-is-async".into());
                    response.headers.push(header);
                }
                response
            }
            Told::Status(status) => respond(200, answers::status(app, status)),
            Told::Outcomes(page) => respond(
                200,
                answers::page(list_of(self.route), page, |body, (key, it)| {
                    answers::outcome(body, key, it);
                }),
            ),
            Told::DeadLetters(page) => respond(
                200,
                answers::page(list_of(self.route), page, |body, (number, it)| {
                    answers::dead_letter(body, *number, it);
                }),
            ),
            Told::Replayed(true) => respond(202, answers::replayed(&self.id)),
            Told::Replayed(false) => refuse(&Refused::invalid(
                "this dead letter cannot be replayed: its publish is gone",
            )),
            Told::Broadcast(it) => {
                let status = if self.route == PushRoute::CreateBroadcast { 201 } else { 200 };
                one(status, &|body| answers::broadcast(body, it))
            }
            Told::Broadcasts(rows) => respond(200, answers::all(rows, answers::broadcast)),
            Told::Cancelled(_) | Told::Done | Told::Overview(_) => respond_nothing(),
        }
    }
}

/// Everything that is asked with one order.
fn read_order(asked: &Asked<'_>, head: &Head, app: &App, terms: Terms) -> Result<Order, Refusal> {
    let (id, query) = (&*app.settings.id, asked.query);
    let name = || {
        let name = &asked.names.name;
        let checked = check_id(name, ID_BYTES_MAX);
        checked.map_err(|why| Refusal::invalid(format!("the path's last name {why}")))?;
        Ok::<_, Refusal>(name.clone())
    };
    let page = || page_of(query, list_of(asked.route));
    let credential_id = || named(query, "credentialId");
    Ok(match asked.route {
        PushRoute::Register => {
            let device = devices::device(parse(asked.body)?, id, terms.allow_private)?;
            Order::Register(Box::new(device), head.registrar())
        }
        PushRoute::Devices => Order::Devices(devices::filter(query)?, page()?),
        PushRoute::UnregisterClient => match named(query, "clientId")? {
            Some(client_id) => Order::UnregisterClient(client_id),
            None => return Err(Refusal::invalid("removeWhere requires clientId")),
        },
        PushRoute::Device => Order::Device(name()?),
        PushRoute::Unregister => Order::Unregister(name()?, head.registrar()),
        PushRoute::Subscribe => {
            let check = |channel: &str| check_channel(channel, &app.settings);
            devices::subscribe(parse(asked.body)?, id, head.registrar(), check)?
        }
        PushRoute::Subscriptions => Order::Subscriptions {
            channel: named(query, "channel")?,
            device_id: named(query, "deviceId")?,
            page: page()?,
        },
        PushRoute::Unsubscribe => {
            let (channel, device_id) = (named(query, "channel")?, named(query, "deviceId")?);
            if device_id.is_none() && head.is_device() {
                let text = "push-subscribe can only remove its own device subscriptions";
                return Err(Refusal::new(403, "forbidden", text));
            }
            if device_id.is_none() && channel.is_none() {
                return Err(Refusal::invalid("delete requires channel or deviceId"));
            }
            Order::Unsubscribe { channel, device_id, registrar: head.registrar() }
        }
        PushRoute::Channels => Order::Channels(page()?),
        PushRoute::PutCredential => {
            let provider = provider_of(asked.names)?;
            credentials::put(parse(asked.body)?, provider, id)?
        }
        PushRoute::Credentials => {
            // All are there at once; what a page is asked for in must make sense all the same.
            page()?;
            Order::Credentials
        }
        PushRoute::RemoveCredential => Order::RemoveCredential(provider_of(asked.names)?, name()?),
        PushRoute::PutTemplate => {
            Order::PutTemplate(Box::new(content::template(parse(asked.body)?, id)?))
        }
        PushRoute::Templates => Order::Templates(page()?),
        PushRoute::Template => Order::Template(name()?),
        PushRoute::RemoveTemplate => Order::RemoveTemplate(name()?),
        PushRoute::Cancel | PushRoute::CancelScheduled => Order::Cancel(name()?),
        PushRoute::Status => Order::Status(name()?),
        PushRoute::Outcomes => Order::Outcomes(name()?, page()?),
        PushRoute::DeadLetters => {
            let (since, until) = (moment(query, "sinceMs")?, moment(query, "untilMs")?);
            if since.zip(until).is_some_and(|(since, until)| since > until) {
                let text = "sinceMs must be less than or equal to untilMs";
                return Err(Refusal::invalid(text));
            }
            Order::DeadLetters { provider: devices::provider(query)?, since, until, page: page()? }
        }
        PushRoute::Replay => match asked.names.name.parse() {
            Ok(number) => Order::Replay(number),
            Err(_) => return Err(Refusal::new(404, "not_found", "there is no such dead letter")),
        },
        PushRoute::CreateBroadcast => {
            let members = Members::of_body(parse(asked.body)?)?;
            members.check_app(id)?;
            Order::CreateBroadcast {
                credential_id: members.id(&["credentialId"], ID_BYTES_MAX)?,
                storage_policy: devices::storage_policy(&members)?.unwrap_or(0),
            }
        }
        PushRoute::Broadcasts => Order::Broadcasts { credential_id: credential_id()? },
        PushRoute::Broadcast => {
            Order::Broadcast { credential_id: credential_id()?, channel_id: name()? }
        }
        PushRoute::RemoveBroadcast => {
            Order::RemoveBroadcast { credential_id: credential_id()?, channel_id: name()? }
        }
        // These take more than one.
        PushRoute::Publish | PushRoute::Batch | PushRoute::Feedback => {
            return Err(Refusal::new(404, "not_found", "no such route"));
        }
    })
}

/// Whether whoever asks may: a device is asked for itself alone.
fn check_capability(route: PushRoute, head: &Head) -> Result<(), Refusal> {
    let of_device = matches!(
        route,
        PushRoute::Register
            | PushRoute::Device
            | PushRoute::Unregister
            | PushRoute::Subscribe
            | PushRoute::Subscriptions
            | PushRoute::Unsubscribe
    );
    let text = match head.capability {
        Some(Capability::Admin) => return Ok(()),
        Some(Capability::Subscribe) if of_device => return Ok(()),
        Some(Capability::Subscribe) => "push-admin capability is required",
        None => "unknown push capability requested",
    };
    Err(Refusal::new(403, "forbidden", text))
}

fn provider_of(names: &Names) -> Result<Provider, Refusal> {
    let found = Provider::parse(&names.provider).filter(|it| *it != Provider::Realtime);
    let text = "provider must be one of fcm, apns, webpush, hms, or wns";
    found.ok_or(Refusal::invalid(text))
}

fn moment(query: &Query<'_>, name: &str) -> Result<Option<u64>, Refusal> {
    let Some(text) = parameter(query, name) else { return Ok(None) };
    let wrong = |_| Refusal::invalid(format!("{name} is not a whole number from 0"));
    text.parse().map(Some).map_err(wrong)
}

/// Marks the cursors of a list.
fn list_of(route: PushRoute) -> u8 {
    route as u8
}

fn page_of(query: &Query<'_>, of: u8) -> Result<PageOf, Refusal> {
    let rows_max = match query.value("limit").map(str::parse) {
        None => PAGE,
        Some(Ok(limit @ 1..=PAGE_MAX)) => limit,
        Some(_) => return Err(Refusal::invalid("limit must be between 1 and 1000")),
    };
    let after = query.value("cursor").map(|text| {
        let found = answers::read_cursor(of, text).filter(|_| text.len() <= CURSOR_BYTES_MAX);
        found.ok_or(Refusal::invalid("cursor is none that this list gave out"))
    });
    Ok(PageOf { after: after.transpose()?, rows_max })
}

/// The name of the publish that was taken.
fn publish_id(told: &Told) -> &str {
    match told {
        Told::Published { status, .. } => &status.id,
        _ => "",
    }
}

fn due(told: &Told) -> Option<u64> {
    match told {
        Told::Published { due, .. } => *due,
        _ => None,
    }
}

/// It was to be waited for, and was.
fn is_waited_for(told: &Told) -> bool {
    matches!(told, Told::Published { outcomes: Some(_), .. })
}

/// The schedule of a publish. Each has a channel of its own, so that they are at home on all shards; asked for again it is
/// the same.
fn schedule(app: &App, publish_id: &str, at: u64) -> Command {
    let name = format!("#push:{publish_id}");
    let channel = Channel { app: app.index, name: Name::from(&*name) };
    let due = Queued::Due { app: app.settings.id.clone(), publish_id: publish_id.to_owned() };
    let what = Deferred::Push(channel, Payload(stored::encode(&due)));
    let key = IdempotencyKey { name: Name::from(&*name), fingerprint: [0; 16], span: None };
    Command::Schedule(Box::new(Schedule { what, at: UnixMillis(at), key: Some(Arc::new(key)) }))
}

fn respond_nothing() -> Response {
    let mut response = respond(204, Bytes::new());
    response.headers.retain(|(name, _)| *name != "Content-Type");
    response
}

fn refuse(refused: &Refused) -> Response {
    let refusal = Refusal::new(refused.status, refused.code, refused.text.clone());
    let mut response = refusal.response();
    if matches!(refused.status, 429 | 503) || refused.retry_after.is_some() {
        let after = refused.retry_after.unwrap_or(RETRY_AFTER_MS).div_ceil(1000).max(1);
        response.headers.push(("Retry-After", after.to_string().into()));
    }
    response
}

/// Reads `extras.push` of events: each that has one becomes a publish to the devices that hear of the event's channels.
pub(in super::super) fn with_events(
    events: &mut [EventIn],
    app: &App,
    terms: Terms,
) -> Result<(), Refusal> {
    let is_batch = events.len() > 1;
    for (n, event) in events.iter_mut().enumerate() {
        let extras = event.meta.as_ref().and_then(|it| it.extras.as_ref());
        let push = of_extras(extras, &event.channels, event.key.as_deref(), app, terms);
        event.push = push.map_err(|refusal| match is_batch {
            true => Refusal { text: format!("batch[{n}]: {}", refusal.text).into(), ..refusal },
            false => refusal,
        })?;
    }
    Ok(())
}

/// What `push` among an event's or a message's extras says, as it waits for the back shard; none: nothing, or push
/// notifications are off and it is passed on alone.
pub(in super::super) fn of_extras(
    extras: Option<&Payload>,
    channels: &[Name],
    key: Option<&IdempotencyKey>,
    app: &App,
    terms: Terms,
) -> Result<Option<Payload>, Refusal> {
    let extras = extras.filter(|_| !terms.is_off);
    let extras = extras.and_then(|it| json::parse(&it.0).ok());
    let push = extras.and_then(|it| it.member("push")).filter(|it| !it.is_null());
    let Some(push) = push else { return Ok(None) };
    let mut intent = content::of_event(push, channels.iter().map(|it| it.to_string()))?;
    if let Some(key) = key {
        (intent.key, intent.key_span) = key_of_event(key, channels, terms.key_window);
    }
    let queued = Queued::Publish { app: app.settings.id.clone(), intent: Box::new(intent) };
    Ok(Some(Payload(stored::encode(&queued))))
}

#[cfg(test)]
mod tests;
