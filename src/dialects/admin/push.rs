//! Push notifications, under the console's door: which publishes are under way and how far, how providers are, what was
//! logged; and a publish called off.

use std::sync::Arc;

use super::console::{json, list, refusal};
use crate::auth::{Finding, Inquiry, Source, TokenSettings, What};
use crate::base::ids::Ticket;
use crate::base::name::Name;
use crate::base::time::Now;
use crate::dialects::{Input, Opening, Output, Request, Response, Session};
use crate::push::order::{Order, Overview, ProviderShown, Shown, Told};
use crate::wire::http::query;
use crate::wire::json;

/// Bytes of an app's id, and of a publish's, at most.
const ID_BYTES_MAX: usize = 256;
/// A body says nothing; so much of one is passed over.
const BODY_BYTES_MAX: usize = 1024;

/// What a request asks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    /// How all is.
    Overview,
    /// Call off this publish of this app.
    Cancel(String, String),
}

impl Asked {
    /// Reads a request by its path behind `push`.
    fn read(method: &str, path: &str, query: Option<&str>) -> Result<Self, Response> {
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        match (method, &parts[..]) {
            ("GET" | "HEAD", []) => Ok(Self::Overview),
            ("DELETE", ["publishes", id]) => {
                let id = query::decode(id, query::Plus::Literal).unwrap_or_default().into_owned();
                let app = query.and_then(|it| query::value(it, "app")).unwrap_or_default();
                let is_id = |it: &str| !it.is_empty() && it.len() <= ID_BYTES_MAX;
                if !is_id(&id) || !is_id(&app) {
                    return Err(refusal(400, "name a publish, and its app with ?app="));
                }
                Ok(Self::Cancel(app.into_owned(), id))
            }
            (_, [] | ["publishes", _]) => Err(refusal(405, "this path takes another method")),
            _ => Err(refusal(404, "push notifications have nothing there")),
        }
    }

    fn order(&self) -> (Name, Order) {
        match self {
            Self::Overview => (Name::from(""), Order::Overview),
            Self::Cancel(app, id) => (Name::from(&**app), Order::Cancel(id.clone())),
        }
    }
}

/// Answers a request whose path goes on so behind `push`.
pub(super) fn open(path: &str, request: &Request<'_>) -> Opening {
    match Asked::read(request.method, path, request.query) {
        Ok(asked) => {
            Opening::Exchange { session: Box::new(Asking(asked)), body_bytes_max: BODY_BYTES_MAX }
        }
        Err(response) => Opening::Respond(response),
    }
}

/// One request, while its order is carried out.
struct Asking(Asked);

impl Session for Asking {
    fn handle(&mut self, input: Input<'_>, _: Now, out: &mut Vec<Output>) {
        let response = match input {
            Input::Body(_) => {
                let source = Arc::new(Source::new("admin", &TokenSettings::default(), None));
                let (app, order) = self.0.order();
                let what = What::Push(app, Box::new(order));
                return out.push(Output::Inquire(Ticket(0), Inquiry { source, what }));
            }
            Input::Found(_, Finding::Push(told)) => match *told {
                Ok(Told::Overview(overview)) => json(200, write(&overview)),
                Ok(Told::Cancelled(true)) => json(200, b"{\"cancelled\":true}".to_vec()),
                Ok(Told::Cancelled(false)) => refusal(404, "there is none that is not finished"),
                Ok(_) => refusal(500, "that was not asked"),
                Err(refused) => refusal(refused.status, &refused.text),
            },
            Input::Found(..) => refusal(503, "nobody could be asked: try again"),
            _ => return,
        };
        out.push(Output::Respond(response));
    }
}

fn write(overview: &Overview) -> Vec<u8> {
    let mut out = b"{\"publishes\":".to_vec();
    list(&mut out, overview.publishes.iter(), write_publish);
    out.extend_from_slice(b",\"providers\":");
    list(&mut out, overview.providers.iter(), write_provider);
    out.extend_from_slice(b",\"logged\":");
    list(&mut out, overview.logged.iter(), |out, line| json::write_str(out, line));
    out.push(b'}');
    out
}

fn write_publish(out: &mut Vec<u8>, shown: &Shown) {
    let Shown { app, status } = shown;
    out.extend_from_slice(b"{\"app\":");
    json::write_str(out, app);
    out.extend_from_slice(b",\"id\":");
    json::write_str(out, &status.id);
    let it = &status.counters;
    out.extend_from_slice(
        format!(
            ",\"state\":\"{}\",\"is_final\":{},\"expected\":{},\"planned\":{},\"succeeded\":{},\
             \"failed\":{},\"expired\":{},\"skipped\":{},\"dead_lettered\":{},\"retry_scheduled\":{},\
             \"accepted_at\":{}",
            status.state.as_str(),
            status.state.is_final(),
            status.expected,
            it.planned,
            it.succeeded,
            it.failed,
            it.expired,
            it.skipped,
            it.dead_lettered,
            it.retry_scheduled,
            status.accepted_at,
        )
        .as_bytes(),
    );
    for (name, at) in [("not_before", status.not_before), ("finished_at", status.finished_at)] {
        if let Some(at) = at {
            out.extend_from_slice(format!(",\"{name}\":{at}").as_bytes());
        }
    }
    write_reason(out, status.error_reason.as_deref());
    out.push(b'}');
}

fn write_provider(out: &mut Vec<u8>, shown: &ProviderShown) {
    let ProviderShown { provider, in_flight, retrying, paused, reason } = shown;
    out.extend_from_slice(
        format!(
            "{{\"provider\":\"{}\",\"in_flight\":{in_flight},\"retrying\":{retrying}",
            provider.as_str()
        )
        .as_bytes(),
    );
    if let Some(paused) = paused {
        out.extend_from_slice(format!(",\"paused_ms\":{paused}").as_bytes());
    }
    write_reason(out, reason.as_deref());
    out.push(b'}');
}

fn write_reason(out: &mut Vec<u8>, reason: Option<&str>) {
    if let Some(reason) = reason {
        out.extend_from_slice(b",\"reason\":");
        json::write_str(out, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::Provider;
    use crate::push::order::Refused;
    use crate::push::publish::{Counters, State, Status};

    #[test]
    fn requests_become_orders() {
        let cancel = |app: &str, id: &str| Ok(Asked::Cancel(app.into(), id.into()));
        for (method, path, query, expected) in [
            ("GET", "", None, Ok(Asked::Overview)),
            ("HEAD", "/", None, Ok(Asked::Overview)),
            ("POST", "", None, Err(405)),
            ("DELETE", "/publishes/p%201", Some("app=a"), cancel("a", "p 1")),
            ("DELETE", "/publishes/p", None, Err(400)),
            ("DELETE", "/publishes/p", Some("app="), Err(400)),
            ("GET", "/publishes/p", Some("app=a"), Err(405)),
            ("GET", "/devices", None, Err(404)),
        ] {
            let read = Asked::read(method, path, query).map_err(|it| it.status);
            assert_eq!(read, expected, "{method} {path} {query:?}");
        }
        let long = format!("/publishes/{}", "p".repeat(ID_BYTES_MAX + 1));
        assert!(Asked::read("DELETE", &long, Some("app=a")).is_err());
    }

    fn overview() -> Overview {
        let counters = Counters { planned: 9, succeeded: 4, failed: 1, ..Counters::default() };
        let status = Status {
            id: "p\"".into(),
            state: State::Dispatching,
            counters,
            expected: 10,
            is_large: false,
            accepted_at: 7,
            not_before: Some(8),
            finished_at: None,
            retry_after: None,
            error_reason: Some("why".into()),
        };
        let provider = ProviderShown {
            provider: Provider::WebPush,
            in_flight: 3,
            retrying: 2,
            paused: Some(5),
            reason: None,
        };
        Overview {
            publishes: vec![Shown { app: "a".into(), status }],
            providers: vec![provider],
            logged: vec!["a <b>".into()],
        }
    }

    #[test]
    fn what_comes_of_an_order_is_the_answer() {
        let all = Told::Overview(Box::new(overview()));
        for (told, status, body) in [
            (Ok(Told::Cancelled(true)), 200, r#"{"cancelled":true}"#),
            (Ok(Told::Cancelled(false)), 404, r#"{"error":"there is none that is not finished"}"#),
            (Err(Refused::unknown("off")), 404, r#"{"error":"off"}"#),
            (Ok(Told::Done), 500, r#"{"error":"that was not asked"}"#),
            (
                Ok(Told::Overview(Box::default())),
                200,
                r#"{"publishes":[],"providers":[],"logged":[]}"#,
            ),
            (
                Ok(all),
                200,
                r#"{"publishes":[{"app":"a","id":"p\"","state":"dispatching","is_final":false,"expected":10,"planned":9,"succeeded":4,"failed":1,"expired":0,"skipped":0,"dead_lettered":0,"retry_scheduled":0,"accepted_at":7,"not_before":8,"reason":"why"}],"providers":[{"provider":"webPush","in_flight":3,"retrying":2,"paused_ms":5}],"logged":["a <b>"]}"#,
            ),
        ] {
            let (mut session, mut out) = (Asking(Asked::Overview), Vec::new());
            session.handle(Input::Body(b""), Now::default(), &mut out);
            let Some(Output::Inquire(ticket, _)) = out.pop() else { panic!("it inquires") };
            let found = Finding::Push(Box::new(told));
            session.handle(Input::Found(ticket, found), Now::default(), &mut out);
            let Some(Output::Respond(response)) = out.pop() else { panic!("it answers") };
            assert_eq!(response.status, status);
            assert_eq!(String::from_utf8_lossy(&response.body), body);
        }
    }
}
