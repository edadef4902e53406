//! The client HTTP API: a request is carried to the session of the connection it speaks for, and its answer back.
//!
//! Here is what can be said without that connection: paths, methods, sizes, and ids that are nobody's. Source: our
//! reference, sections 6.1 to 6.3.

use std::sync::Arc;

use bytes::Bytes;

use super::Shared;
use super::calls::Op;
use super::faults::{Code, Fault};
use super::ids::SECRET_CHARS;
use crate::base::ids::{ConnectionId, Ticket};
use crate::base::time::{Millis, Now};
use crate::broker::{Command, Refusal, Reply};
use crate::dialects::{Facts, Input, Opening, Output, Request, Response, Session, TimerKind};
use crate::wire::http::query;

/// A request's body, at most.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// What is read to be refused in our own words; beyond it the server refuses in its.
const BODY_BYTES_READ: usize = 1024 * 1024;
/// How long an operation may take. Source: our reference, section 1.
const CALL_TIME: Millis = Millis(5_000);
const OVERDUE: TimerKind = TimerKind(0);

/// Where the operations are.
const PREFIX: &str = "/connection/";

/// An answer in JSON that pages of any origin may read.
pub fn respond(status: u16, body: impl Into<Bytes>) -> Response {
    Response {
        status,
        headers: vec![
            ("Content-Type", "application/json".into()),
            ("Access-Control-Allow-Origin", "*".into()),
        ],
        body: body.into(),
    }
}

/// The answer to what is not done.
pub fn refuse(fault: &Fault) -> Response {
    let status = fault.code.row().1;
    let mut response = respond(status, fault.body());
    if status == 503 {
        response.headers.push(("Retry-After", "1".into()));
    }
    response
}

/// The answer to another method.
pub fn method_not_allowed(allow: &'static str) -> Response {
    let mut response =
        refuse(&Fault::new(Code::MethodNotAllowed, format!("allowed here: {allow}")));
    response.headers.push(("Allow", allow.into()));
    response
}

/// The answer to a browser that asks what it may ask.
pub fn preflight() -> Response {
    let mut response = respond(204, Bytes::new());
    response.headers.remove(0);
    for (name, value) in [
        ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
        ("Access-Control-Allow-Headers", "*, authorization, content-type"),
        ("Access-Control-Max-Age", "86400"),
    ] {
        response.headers.push((name, value.into()));
    }
    response
}

/// The answer while the process is about to stop.
pub fn draining() -> Response {
    refuse(&Fault::new(Code::Unavailable, "the server is about to stop: try again"))
}

/// Credentials that are missing, wrong, or a connection's that is gone: nobody learns which.
pub fn unknown_credentials() -> Fault {
    Fault::new(Code::InvalidCredentials, "connectionId and connectionSecret are no connection's")
}

/// Looks at a request; none: it is not for this API.
pub(super) fn open(shared: &Arc<Shared>, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
    let name = request.path.strip_prefix(PREFIX)?;
    if request.method == "OPTIONS" {
        return Some(Opening::Respond(preflight()));
    }
    let Some((op, _)) = Op::ALL.into_iter().find(|(_, it)| *it == name) else {
        let fault = Fault::new(Code::NotFound, "there is no such operation");
        return Some(Opening::Respond(refuse(&fault)));
    };
    if request.method != "POST" {
        return Some(Opening::Respond(method_not_allowed("POST, OPTIONS")));
    }
    if facts.draining {
        return Some(Opening::Respond(draining()));
    }
    let query = request.query.unwrap_or_default();
    let id = query::value(query, "connectionId").unwrap_or_default();
    let secret = query::value(query, "connectionSecret").unwrap_or_default();
    let Some(to) = shared.ids.connection(&id, facts.shards) else {
        return Some(Opening::Respond(refuse(&unknown_credentials())));
    };
    if secret.len() != SECRET_CHARS {
        return Some(Opening::Respond(refuse(&unknown_credentials())));
    }
    let ip = request.peer.ip().to_canonical().to_string();
    let agent = request.header("user-agent");
    let head = Call { op, secret: secret.as_bytes(), ip: &ip, agent, body: &[] }.write();
    let session = Box::new(Forwarding { to, words: head, is_asked: false, is_answered: false });
    Some(Opening::Exchange { session, body_bytes_max: BODY_BYTES_READ })
}

/// What one session says to another: an operation, and who wants it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call<'a> {
    pub op: Op,
    pub secret: &'a [u8],
    pub ip: &'a str,
    pub agent: Option<&'a str>,
    pub body: &'a [u8],
}

/// What a client says that it is, at most; the rest is cut.
const AGENT_BYTES_MAX: usize = 1024;

impl<'a> Call<'a> {
    /// One byte for the operation, then address, agent and secret with their lengths, then the body.
    pub fn write(&self) -> Vec<u8> {
        let op = Op::ALL.iter().position(|(op, _)| *op == self.op);
        let mut out = vec![op.expect("every operation is in the list of them") as u8];
        let agent = self.agent.unwrap_or_default();
        let agent = &agent[..agent.floor_char_boundary(AGENT_BYTES_MAX)];
        for part in [self.secret, self.ip.as_bytes(), agent.as_bytes()] {
            out.extend_from_slice(&(part.len() as u16).to_le_bytes());
            out.extend_from_slice(part);
        }
        out.extend_from_slice(self.body);
        out
    }

    /// Reads what [`Call::write`] wrote.
    pub fn read(words: &'a [u8]) -> Option<Self> {
        fn part<'a>(words: &mut &'a [u8]) -> Option<&'a [u8]> {
            let (length, rest) = words.split_first_chunk::<2>()?;
            let (part, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
            *words = rest;
            Some(part)
        }
        let (op, mut words) = words.split_first()?;
        let (op, _) = *Op::ALL.get(usize::from(*op))?;
        let secret = part(&mut words)?;
        let ip = std::str::from_utf8(part(&mut words)?).ok()?;
        let agent = std::str::from_utf8(part(&mut words)?).ok()?;
        Some(Self { op, secret, ip, agent: (!agent.is_empty()).then_some(agent), body: words })
    }
}

/// What a session says to the session that called it: a body, and behind it, so that it need not be copied, a status.
pub(super) fn answer(status: u16, mut body: Vec<u8>) -> Bytes {
    body.extend_from_slice(&status.to_le_bytes());
    body.into()
}

/// Carries one request to a connection's session.
struct Forwarding {
    to: ConnectionId,
    /// All but the body; nothing once it is sent.
    words: Vec<u8>,
    is_asked: bool,
    is_answered: bool,
}

impl Forwarding {
    fn respond(&mut self, response: Response, out: &mut Vec<Output>) {
        if !std::mem::replace(&mut self.is_answered, true) {
            out.push(Output::Respond(response));
        }
    }
}

impl Session for Forwarding {
    fn handle(&mut self, input: Input<'_>, _: Now, out: &mut Vec<Output>) {
        match input {
            Input::Body(body) if body.len() > BODY_BYTES_MAX => {
                let text = format!("a request may have {BODY_BYTES_MAX} bytes");
                self.respond(refuse(&Fault::new(Code::RequestTooLarge, text)), out);
            }
            Input::Body(body) if !self.is_asked => {
                self.is_asked = true;
                let mut words = std::mem::take(&mut self.words);
                words.extend_from_slice(body);
                out.push(Output::Arm(OVERDUE, CALL_TIME));
                out.push(Output::Ask(Ticket(0), Command::Call(self.to, words.into())));
            }
            Input::Reply(_, Reply::Returned(words)) => {
                let response = match words.split_last_chunk::<2>() {
                    Some((body, status)) => {
                        let status = u16::from_le_bytes(*status);
                        let mut response = respond(status, words.slice(..body.len()));
                        if status == 503 {
                            response.headers.push(("Retry-After", "1".into()));
                        }
                        response
                    }
                    None => refuse(&Fault::new(Code::Internal, "the server failed")),
                };
                self.respond(response, out);
            }
            Input::Reply(_, Reply::Refused(Refusal::NoConnection)) => {
                self.respond(refuse(&unknown_credentials()), out);
            }
            Input::Reply(..) => {
                self.respond(refuse(&Fault::new(Code::Internal, "the server failed")), out);
            }
            Input::Timer(OVERDUE) => {
                let fault = Fault::new(Code::Busy, "the server did not answer in time: try again");
                self.respond(refuse(&fault), out);
            }
            _ => {}
        }
    }

    fn held_bytes(&self) -> usize {
        self.words.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_reads_back_and_nothing_else_panics() {
        for (op, _) in Op::ALL {
            for agent in [None, Some("curl/8 ü")] {
                let call = Call { op, secret: b"s3", ip: "::1", agent, body: b"{}" };
                let words = call.write();
                assert_eq!(Call::read(&words), Some(call));
                for end in 0..words.len() - 2 {
                    assert_eq!(Call::read(&words[..end]), None);
                }
            }
        }
        assert_eq!(Call::read(&[200, 0, 0, 0, 0, 0, 0]), None);
        let long = "ü".repeat(2_000);
        let call = Call { agent: Some(&long), op: Op::UmdUpdate, secret: b"", ip: "", body: b"" };
        assert_eq!(Call::read(&call.write()).and_then(|it| it.agent.map(str::len)), Some(1024));
    }
}
