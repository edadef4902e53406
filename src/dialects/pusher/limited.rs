//! How often an address may ask, and an app may publish and read: sessions around others, only where a setting says so.
//!
//! All shards count together, where a name's home is; whoever is refused hears how much there is, what is left, and when
//! it begins anew. Source: Sockudo, "Rate limits".

use std::sync::Arc;

use super::Shared;
use crate::auth::App;
use crate::base::ids::{AppIndex, Ticket};
use crate::base::name::Name;
use crate::base::time::{Millis, Now};
use crate::broker::{Command, Reply, Spend, Spent};
use crate::dialects::api::{Refusal, respond};
use crate::dialects::{Input, Opening, Output, Request, Response, Session};

/// Tickets that no session inside uses.
const OF_ADDRESS: Ticket = Ticket(u32::MAX);
const OF_APP: Ticket = Ticket(u32::MAX - 1);

/// The time that an app's bounds are given in.
const SECOND: Millis = Millis(1_000);

/// Addresses are counted for all apps together.
const EVERY_APP: AppIndex = AppIndex(0);

/// The same opening, behind the bounds that the settings name; almost always there are none.
pub(super) fn limit(shared: &Arc<Shared>, opening: Opening, request: &Request<'_>) -> Opening {
    let rates = &shared.rates;
    let of_upgrade =
        || of_address(shared, request, "upgrades", rates.upgrades_max, rates.upgrades_window);
    match opening {
        Opening::Exchange { session, body_bytes_max } => {
            let of_api =
                of_address(shared, request, "api", rates.api_requests_max, rates.api_window);
            if of_api.is_none() && !shared.apps_are_bounded {
                return Opening::Exchange { session, body_bytes_max };
            }
            let session = Box::new(LimitedExchange::new(shared.clone(), session, of_api));
            Opening::Exchange { session, body_bytes_max }
        }
        Opening::WebSocket { session, message_bytes_max, deflate } => match of_upgrade() {
            None => Opening::WebSocket { session, message_bytes_max, deflate },
            Some(spend) => {
                let session = Box::new(LimitedUpgrade::new(session, false, spend));
                let (protocol, headers) = (None, Vec::new());
                Opening::Decide { session, message_bytes_max, deflate, protocol, headers }
            }
        },
        Opening::Decide { session, message_bytes_max, deflate, protocol, headers } => {
            let session = match of_upgrade() {
                None => session,
                Some(spend) => Box::new(LimitedUpgrade::new(session, true, spend)),
            };
            Opening::Decide { session, message_bytes_max, deflate, protocol, headers }
        }
        Opening::Respond(response) => Opening::Respond(response),
    }
}

/// What an address may use of one thing.
fn of_address(
    shared: &Shared,
    request: &Request<'_>,
    what: &str,
    uses_max: u32,
    window: Millis,
) -> Option<Spend> {
    (uses_max > 0).then(|| {
        let is_forwarded = |name: &str| name.eq_ignore_ascii_case("x-forwarded-for");
        let forwarded = request.headers.iter().filter(|(name, _)| is_forwarded(name));
        let forwarded = forwarded.filter_map(|(_, value)| std::str::from_utf8(value).ok());
        let address = shared.rates.address(request.peer, forwarded, request.header("x-real-ip"));
        let name = Name::from(format!("#{what}:{address}").as_str());
        Spend { name, cost: 1, uses_max, window }
    })
}

/// An exchange that is asked for only so often.
struct LimitedExchange {
    shared: Arc<Shared>,
    inner: Box<dyn Session>,
    /// What the address may use, until that is asked.
    of_address: Option<Spend>,
    /// The body, while the address waits.
    body: Vec<u8>,
    /// What is to be asked once the app may.
    held: Vec<Output>,
    /// The tightest bound that was looked at.
    told: Option<(u32, Spent)>,
    /// The bound that is being asked about.
    asked_max: u32,
    is_answered: bool,
}

impl LimitedExchange {
    /// `inner`, behind what its address and its app may use.
    fn new(shared: Arc<Shared>, inner: Box<dyn Session>, of_address: Option<Spend>) -> Self {
        Self {
            shared,
            inner,
            of_address,
            body: Vec::new(),
            held: Vec::new(),
            told: None,
            asked_max: 0,
            is_answered: false,
        }
    }

    /// Begins what the body asks for; what it asks of the broker waits for the app's bounds, where it has any.
    fn begin(&mut self, body: &[u8], now: Now, out: &mut Vec<Output>) {
        let first = out.len();
        self.inner.handle(Input::Body(body), now, out);
        let bound = out[first..].iter().find_map(|it| match it {
            Output::Ask(_, command) => app_of(command),
            _ => None,
        });
        let Some((app, is_publish)) = bound else { return self.settle(first, out) };
        let Some(app) = self.shared.apps.app(app) else { return };
        let Some(spend) = of_app(app, &out[first..], is_publish) else { return };
        if spend.cost > spend.uses_max {
            // Coming again would not help.
            let text = format!(
                "{} events at once, and the app may publish {} in a second",
                spend.cost, spend.uses_max
            );
            out.truncate(first);
            self.is_answered = true;
            return out.push(Output::Respond(Refusal::limit(text).response()));
        }
        self.held.extend(out.drain(first..));
        self.asked_max = spend.uses_max;
        out.push(Output::Ask(OF_APP, Command::Spend(app.index, Box::new(spend))));
    }

    fn spent(&mut self, ticket: Ticket, spent: Spent, now: Now, out: &mut Vec<Output>) {
        let told = (self.asked_max, spent);
        if self.told.is_none_or(|(_, before)| spent.left <= before.left) || !spent.is_within {
            self.told = Some(told);
        }
        if !spent.is_within {
            self.is_answered = true;
            self.held = Vec::new();
            return out.push(Output::Respond(refused(told.0, spent)));
        }
        match ticket {
            OF_ADDRESS => {
                let body = std::mem::take(&mut self.body);
                self.begin(&body, now, out);
            }
            _ => out.append(&mut self.held),
        }
    }

    /// Says in an answer how much is left.
    fn settle(&mut self, first: usize, out: &mut [Output]) {
        for output in &mut out[first..] {
            if let Output::Respond(response) = output {
                self.is_answered = true;
                if let Some((max, spent)) = self.told {
                    tell(response, max, spent);
                }
            }
        }
    }
}

impl Session for LimitedExchange {
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        match input {
            Input::Body(body) => match self.of_address.take() {
                Some(spend) => {
                    self.body.extend_from_slice(body);
                    self.asked_max = spend.uses_max;
                    out.push(Output::Ask(OF_ADDRESS, Command::Spend(EVERY_APP, Box::new(spend))));
                }
                None => self.begin(body, now, out),
            },
            Input::Reply(_, _) if self.is_answered => {}
            Input::Reply(ticket @ (OF_ADDRESS | OF_APP), Reply::Spent(spent)) => {
                self.spent(ticket, spent, now, out);
            }
            input => {
                let first = out.len();
                self.inner.handle(input, now, out);
                self.settle(first, out);
            }
        }
    }

    fn held_bytes(&self) -> usize {
        self.body.len() + self.inner.held_bytes()
    }
}

/// A WebSocket that is opened only so often; it is asked for with `Opening::Decide`.
struct LimitedUpgrade {
    inner: Box<dyn Session>,
    /// `inner` is to decide itself, too.
    inner_decides: bool,
    of_address: Option<Spend>,
    uses_max: u32,
}

impl LimitedUpgrade {
    /// `inner`, behind what its address may use.
    fn new(inner: Box<dyn Session>, inner_decides: bool, of_address: Spend) -> Self {
        let uses_max = of_address.uses_max;
        Self { inner, inner_decides, of_address: Some(of_address), uses_max }
    }
}

impl Session for LimitedUpgrade {
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        match input {
            Input::Asked => match self.of_address.take() {
                Some(spend) => {
                    out.push(Output::Ask(OF_ADDRESS, Command::Spend(EVERY_APP, Box::new(spend))));
                }
                None => self.inner.handle(Input::Asked, now, out),
            },
            Input::Reply(OF_ADDRESS, Reply::Spent(spent)) if !spent.is_within => {
                out.push(Output::Respond(refused(self.uses_max, spent)));
            }
            Input::Reply(OF_ADDRESS, Reply::Spent(_)) if self.inner_decides => {
                self.inner.handle(Input::Asked, now, out);
            }
            Input::Reply(OF_ADDRESS, Reply::Spent(_)) => out.push(Output::Accept),
            input => self.inner.handle(input, now, out),
        }
    }

    fn held_bytes(&self) -> usize {
        self.inner.held_bytes()
    }
}

/// The app that a command of an exchange is of, and whether it publishes; none for what has no bounds.
fn app_of(command: &Command) -> Option<(AppIndex, bool)> {
    Some(match command {
        Command::Publish(it) => (it.channel.app, true),
        Command::Mutate(it) => (it.channel.app, true),
        Command::Annotate(it) => (it.channel.app, true),
        Command::Survey { app, .. } => (*app, false),
        Command::Describe(channel)
        | Command::Members(channel)
        | Command::History(channel, _)
        | Command::Stream(channel)
        | Command::Latest(channel, _)
        | Command::Versions(channel, _)
        | Command::Annotations(channel, _) => (channel.app, false),
        _ => return None,
    })
}

/// What an app is to use for what is asked, where it is bounded.
fn of_app(app: &App, asked: &[Output], is_publish: bool) -> Option<Spend> {
    let settings = &app.settings;
    let (name, uses_max, cost) = match is_publish {
        true => {
            let is_publish = |it: &&Output| matches!(it, Output::Ask(_, command) if app_of(command).is_some_and(|it| it.1));
            let events = asked.iter().filter(is_publish).count();
            ("#publishes", settings.publishes_per_second_max, events as u32)
        }
        false => ("#reads", settings.reads_per_second_max, 1),
    };
    (uses_max > 0).then(|| Spend { name: Name::from(name), cost, uses_max, window: SECOND })
}

fn refused(uses_max: u32, spent: Spent) -> Response {
    let body = r#"{"error":"Too Many Requests","message":"Rate limit exceeded. Please try again later.","code":"rate_limited","status":429}"#;
    let mut response = respond(429, body.into());
    tell(&mut response, uses_max, spent);
    response.headers.push(("Retry-After", seconds(spent).to_string().into()));
    response
}

fn tell(response: &mut Response, uses_max: u32, spent: Spent) {
    response.headers.push(("X-RateLimit-Limit", uses_max.to_string().into()));
    response.headers.push(("X-RateLimit-Remaining", spent.left.to_string().into()));
    response.headers.push(("X-RateLimit-Reset", seconds(spent).to_string().into()));
}

fn seconds(spent: Spent) -> u64 {
    spent.renews_in.0.div_ceil(1000)
}
