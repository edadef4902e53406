//! Publishing as AWS SDKs do it: the invocation of a function, signed with an access key.
//!
//! The function's name is not looked at: there is one function, which takes a message of `server::message`. Source:
//! our reference, section 9.3; the Lambda API reference, "Invoke".

use std::sync::Arc;

use bytes::Bytes;

use super::Shared;
use super::faults::Fault;
use super::http::{method_not_allowed, preflight, respond};
use super::reports::Trigger;
use super::server::message::{self, Message};
use super::server::publishing::Publishing;
use super::server::{self, Origin};
use crate::auth::sigv4::{self, SignatureError};
use crate::base::time::Now;
use crate::dialects::{Facts, Input, Opening, Output, Request, Response, Session};
use crate::wire::json;

const PREFIX: &str = "/2015-03-31/functions/";
const SUFFIX: &str = "/invocations";
const ALLOW: &str = "POST, OPTIONS";
/// What requests are signed for.
const SERVICE: &str = "lambda";

/// What a caller wants to know of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// What became of it.
    RequestResponse,
    /// That it was taken.
    Event,
    /// Whether it would be: nothing is done.
    DryRun,
}

impl Kind {
    fn of(request: &Request<'_>) -> Option<Self> {
        match request.header("x-amz-invocation-type") {
            None | Some("RequestResponse") => Some(Self::RequestResponse),
            Some("Event") => Some(Self::Event),
            Some("DryRun") => Some(Self::DryRun),
            Some(_) => None,
        }
    }
}

/// Looks at an invocation.
pub(super) fn open(shared: &Arc<Shared>, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
    let rest = request.path.strip_prefix(PREFIX)?;
    let request_id = server::request_id(shared, facts);
    let refuse = |status, kind, text| {
        Some(Opening::Respond(with_id(refused(status, kind, text), request_id.clone())))
    };
    let name = rest.strip_suffix(SUFFIX).unwrap_or_default();
    if name.is_empty() || name.contains('/') {
        let text = "no such operation: functions are invoked here, nothing else";
        return refuse(404, "ResourceNotFoundException", text);
    }
    match request.method {
        "POST" => {}
        "OPTIONS" => return Some(Opening::Respond(preflight())),
        _ => return Some(Opening::Respond(method_not_allowed(ALLOW))),
    }
    if facts.draining {
        return refuse(503, "ServiceException", "the server is about to stop: try again");
    }
    let Some(kind) = Kind::of(request) else {
        let text = "X-Amz-Invocation-Type must be RequestResponse, Event or DryRun";
        return refuse(400, "InvalidParameterValueException", text);
    };
    let owned = |(name, value): &(&str, &[u8])| ((*name).into(), (*value).into());
    let session = Invocation {
        shared: shared.clone(),
        path: request.path.into(),
        query: request.query.map(Into::into),
        headers: request.headers.iter().map(owned).collect(),
        kind,
        origin: Origin { request_id, trigger: Trigger::ServerLambda, about: None },
        state: State::Reading,
    };
    let body_bytes_max = server::BODY_BYTES_MAX.min(shared.body_bytes_max);
    Some(Opening::Exchange { session: Box::new(session), body_bytes_max })
}

/// One invocation, from its body to its answer.
struct Invocation {
    shared: Arc<Shared>,
    path: Box<str>,
    query: Option<Box<str>>,
    headers: Vec<(Box<str>, Box<[u8]>)>,
    kind: Kind,
    origin: Origin,
    state: State,
}

enum State {
    Reading,
    Publishing(Publishing),
    Answered,
}

impl Invocation {
    fn begin(&mut self, body: &[u8], now: Now, out: &mut Vec<Output>) -> Option<Response> {
        if let Err(error) = self.verify(body, now) {
            out.push(Output::Count(crate::observe::Counter::SignatureFailures));
            return Some(unsigned(error));
        }
        // Only the body needs them.
        self.headers = Vec::new();
        if !self.shared.app.settings.enabled {
            return Some(refused(403, "AccessDeniedException", "the app is disabled"));
        }
        let body = match json::parse(body) {
            Ok(body) => body,
            Err(error) => {
                let text = format!("Could not parse request body into json: {error}");
                return Some(refused(400, "InvalidRequestContentException", &text));
            }
        };
        let read = message::read(&self.shared, body, &self.origin, now);
        match (self.kind, read) {
            (Kind::DryRun, Ok(_)) => Some(empty(204)),
            (Kind::RequestResponse, Err(fault)) => Some(failed(&fault)),
            // Upstream takes them and nobody ever hears that they were dropped.
            (_, Err(fault)) => {
                Some(refused(400, "InvalidRequestContentException", &describe(&fault)))
            }
            (_, Ok(message)) => self.publish(message, now, out),
        }
    }

    fn verify(&self, body: &[u8], now: Now) -> Result<(), SignatureError> {
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let request = sigv4::Request {
            method: "POST",
            path: &self.path,
            query: self.query.as_deref(),
            headers: &headers,
            body,
        };
        let keys = &self.shared.settings.access_keys;
        sigv4::verify(keys, SERVICE, &request, now.wall).map(|_| ())
    }

    fn publish(&mut self, message: Message, now: Now, out: &mut Vec<Output>) -> Option<Response> {
        let mut publishing = Publishing::new(self.shared.app.index, vec![Ok(message)], now);
        publishing.ask(out);
        self.state = State::Publishing(publishing);
        None
    }

    /// The answer, once there is one.
    fn published(&self) -> Option<Response> {
        let State::Publishing(publishing) = &self.state else { return None };
        if !publishing.is_done() {
            return None;
        }
        Some(match (publishing.results().next()?, self.kind) {
            (Err(fault), _) if fault.code.row().1 >= 500 => {
                // Callers try such a one again by themselves.
                refused(503, "ServiceException", &describe(fault))
            }
            (Err(fault), Kind::RequestResponse) => failed(fault),
            (Err(fault), _) => refused(400, "InvalidRequestContentException", &describe(fault)),
            (Ok(body), Kind::RequestResponse) => executed(body),
            (Ok(_), _) => empty(202),
        })
    }
}

impl Session for Invocation {
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        let response = match (input, &mut self.state) {
            (Input::Body(body), State::Reading) => self.begin(body, now, out),
            (Input::Reply(ticket, reply), State::Publishing(publishing)) => {
                publishing.take(ticket, reply, out);
                self.published()
            }
            _ => None,
        };
        if let Some(response) = response {
            self.state = State::Answered;
            let request_id = std::mem::take(&mut self.origin.request_id);
            out.push(Output::Respond(with_id(response, request_id)));
        }
    }

    fn held_bytes(&self) -> usize {
        let fields = self.headers.iter().map(|(name, value)| name.len() + value.len());
        fields.sum::<usize>() + self.path.len() + self.query.as_ref().map_or(0, |it| it.len())
    }
}

fn with_id(mut response: Response, request_id: String) -> Response {
    response.headers.push(("X-Amzn-RequestId", request_id.into()));
    response
}

fn empty(status: u16) -> Response {
    let mut response = respond(status, Bytes::new());
    response.headers.retain(|(name, _)| *name != "Content-Type");
    response
}

/// The function ran.
fn executed(body: Vec<u8>) -> Response {
    let mut response = respond(200, body);
    response.headers.push(("X-Amz-Executed-Version", "$LATEST".into()));
    response
}

/// The function ran and failed: for the caller that is a good answer with a bad word in its head.
fn failed(fault: &Fault) -> Response {
    let mut body = b"{\"errorMessage\":".to_vec();
    json::write_str(&mut body, &fault.text);
    body.extend_from_slice(b",\"errorType\":");
    json::write_str(&mut body, fault.code.row().0);
    body.push(b'}');
    let mut response = executed(body);
    response.headers.push(("X-Amz-Function-Error", "Unhandled".into()));
    response
}

fn describe(fault: &Fault) -> String {
    format!("{}: {}", fault.code.row().0, fault.text)
}

/// The function did not run.
fn refused(status: u16, kind: &'static str, text: &str) -> Response {
    let mut body = b"{\"Message\":".to_vec();
    json::write_str(&mut body, text);
    let whose: &[u8] =
        if status < 500 { b",\"Type\":\"User\"}" } else { b",\"Type\":\"Service\"}" };
    body.extend_from_slice(whose);
    let mut response = respond(status, body);
    response.headers.push(("x-amzn-ErrorType", kind.into()));
    if status == 503 {
        response.headers.push(("Retry-After", "1".into()));
    }
    response
}

/// The request is not signed as it must be. Source: the Lambda API reference, "Common errors".
fn unsigned(error: SignatureError) -> Response {
    let kind = match error {
        SignatureError::Missing { .. } => "MissingAuthenticationTokenException",
        SignatureError::Malformed { .. } => "IncompleteSignatureException",
        SignatureError::UnknownKey => "UnrecognizedClientException",
        SignatureError::Expired { .. } | SignatureError::Body | SignatureError::Mismatch => {
            "InvalidSignatureException"
        }
    };
    refused(403, kind, &error.to_string())
}
