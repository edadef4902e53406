//! Webhooks, under the console's door: how receivers are, and dead letters, listed, sent again and dropped.
//!
//! What is asked becomes an order in words, as `ringmain webhooks` gives them too; the back shard does it.

use std::sync::Arc;

use super::console::{json, refusal};
use crate::auth::{Finding, Inquiry, Source, TokenSettings, What};
use crate::base::ids::Ticket;
use crate::base::time::Now;
use crate::dialects::{Input, Opening, Output, Request, Response, Session};
use crate::wire::http::query;

/// Letters of one answer, unless the request says so.
const LETTERS: usize = 100;
/// Letters of one answer, at most.
const LETTERS_MAX: usize = 1000;
/// Bytes of a receiver's name, at most.
const NAME_BYTES_MAX: usize = 64;

/// A body says nothing; so much of one is passed over.
const BODY_BYTES_MAX: usize = 1024;

/// What a request asks.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// How each receiver is.
    Statuses,
    /// So many letters behind this one.
    Letters(usize, u64, Option<String>),
    /// Send letters again: `ID`, or `all [RECEIVER]`.
    Retry(String),
    /// Forget letters.
    Drop(String),
}

impl Asked {
    /// Reads a request by its path behind `webhooks`.
    fn read(method: &str, path: &str, query: Option<&str>) -> Result<Self, Response> {
        let value =
            |name: &str| query.and_then(|it| query::value(it, name)).filter(|it| !it.is_empty());
        let receiver = value("receiver").map(|it| it.into_owned());
        let is_name = |it: &String| {
            it.len() <= NAME_BYTES_MAX && it.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if receiver.as_ref().is_some_and(|it| !is_name(it)) {
            return Err(refusal(400, "receiver is no name of a receiver"));
        }
        let number = |name: &str, otherwise: u64| match value(name) {
            None => Ok(otherwise),
            Some(text) => {
                let wrong = |_| refusal(400, &format!("{name} is no number"));
                text.parse::<u64>().map_err(wrong)
            }
        };
        let all = |receiver: Option<String>| match receiver {
            Some(receiver) => format!("all {receiver}"),
            None => "all".to_owned(),
        };
        let id = |text: &str| match text.parse::<u64>() {
            Ok(id) => Ok(id.to_string()),
            Err(_) => Err(refusal(404, "a dead letter has a number")),
        };
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        Ok(match (method, &parts[..]) {
            ("GET" | "HEAD", []) => Self::Statuses,
            ("GET" | "HEAD", ["dead"]) => {
                let most = number("limit", LETTERS as u64)?.clamp(1, LETTERS_MAX as u64);
                Self::Letters(most as usize, number("after", 0)?, receiver)
            }
            ("POST", ["dead", "retry"]) => Self::Retry(all(receiver)),
            ("POST", ["dead", one, "retry"]) => Self::Retry(id(one)?),
            ("DELETE", ["dead"]) => Self::Drop(all(receiver)),
            ("DELETE", ["dead", one]) => Self::Drop(id(one)?),
            (_, [] | ["dead"] | ["dead", _] | ["dead", _, "retry"]) => {
                return Err(refusal(405, "this path takes another method"));
            }
            _ => return Err(refusal(404, "webhooks have nothing there")),
        })
    }

    /// In the words of an order.
    fn words(&self) -> String {
        match self {
            Self::Statuses => "json".to_owned(),
            Self::Letters(most, after, receiver) => {
                // One more, to see whether there is one.
                let receiver = receiver.as_deref().unwrap_or_default();
                format!("json dead {after} {} {receiver}", most + 1)
            }
            Self::Retry(which) => format!("retry {which}"),
            Self::Drop(which) => format!("drop {which}"),
        }
    }

    /// The answer of these lines.
    fn answer(&self, mut lines: Vec<String>) -> Vec<u8> {
        let first = lines.first().map(String::as_str).unwrap_or_default();
        let done = first.split(' ').next().filter(|it| it.parse::<u64>().is_ok()).unwrap_or("0");
        match self {
            Self::Statuses => format!("{{\"receivers\":[{}]}}", lines.join(",")),
            Self::Letters(most, ..) => {
                let more = lines.len() > *most;
                lines.truncate(*most);
                format!("{{\"dead\":[{}],\"more\":{more}}}", lines.join(","))
            }
            Self::Retry(_) => format!("{{\"retrying\":{done}}}"),
            Self::Drop(_) => format!("{{\"dropped\":{done}}}"),
        }
        .into_bytes()
    }
}

/// Answers a request whose path goes on so behind `webhooks`.
pub(super) fn open(path: &str, request: &Request<'_>) -> Opening {
    match Asked::read(request.method, path, request.query) {
        Ok(asked) => {
            Opening::Exchange { session: Box::new(Ordering(asked)), body_bytes_max: BODY_BYTES_MAX }
        }
        Err(response) => Opening::Respond(response),
    }
}

/// One request, while its order is carried out.
struct Ordering(Asked);

impl Session for Ordering {
    fn handle(&mut self, input: Input<'_>, _: Now, out: &mut Vec<Output>) {
        let response = match input {
            Input::Body(_) => {
                let source = Arc::new(Source::new("admin", &TokenSettings::default(), None));
                let what = What::Operate(self.0.words().into());
                return out.push(Output::Inquire(Ticket(0), Inquiry { source, what }));
            }
            Input::Found(_, Finding::Told(Ok(lines))) => json(200, self.0.answer(lines)),
            Input::Found(_, Finding::Told(Err(denied))) => refusal(denied.status, &denied.text),
            Input::Found(..) => refusal(503, "nobody could be asked: try again"),
            _ => return,
        };
        out.push(Output::Respond(response));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Denied;

    #[test]
    fn requests_become_orders() {
        for (method, path, query, words) in [
            ("GET", "", None, Ok("json")),
            ("GET", "/", None, Ok("json")),
            ("GET", "/dead", None, Ok("json dead 0 101 ")),
            ("GET", "/dead", Some("limit=5&after=7&receiver=crm"), Ok("json dead 7 6 crm")),
            ("GET", "/dead", Some("limit=9999"), Ok("json dead 0 1001 ")),
            ("GET", "/dead", Some("limit=x"), Err(400)),
            ("GET", "/dead", Some("receiver=a%20b"), Err(400)),
            ("POST", "/dead/retry", None, Ok("retry all")),
            ("POST", "/dead/retry", Some("receiver=crm"), Ok("retry all crm")),
            ("POST", "/dead/7/retry", None, Ok("retry 7")),
            ("POST", "/dead/x/retry", None, Err(404)),
            ("DELETE", "/dead", Some("receiver=crm"), Ok("drop all crm")),
            ("DELETE", "/dead/7", None, Ok("drop 7")),
            ("GET", "/dead/7/retry", None, Err(405)),
            ("POST", "", None, Err(405)),
            ("GET", "/alive", None, Err(404)),
        ] {
            let read = Asked::read(method, path, query);
            let read = read.map(|it| it.words()).map_err(|it| it.status);
            assert_eq!(read, words.map(str::to_owned), "{method} {path} {query:?}");
        }
    }

    #[test]
    fn what_comes_of_an_order_is_the_answer() {
        let lines = |lines: &[&str]| Ok(lines.iter().map(|it| (*it).to_owned()).collect());
        for (asked, told, status, body) in [
            (Asked::Statuses, lines(&["{}", "{}"]), 200, r#"{"receivers":[{},{}]}"#),
            (Asked::Letters(1, 0, None), lines(&["1", "2"]), 200, r#"{"dead":[1],"more":true}"#),
            (Asked::Letters(2, 0, None), lines(&["1", "2"]), 200, r#"{"dead":[1,2],"more":false}"#),
            (Asked::Retry("all".into()), lines(&["3 to be sent again"]), 200, r#"{"retrying":3}"#),
            (Asked::Drop("7".into()), lines(&["1 dropped"]), 200, r#"{"dropped":1}"#),
            (Asked::Drop("7".into()), Err(Denied::unknown("no")), 404, r#"{"error":"no"}"#),
        ] {
            let (mut session, mut out) = (Ordering(asked), Vec::new());
            session.handle(Input::Body(b""), Now::default(), &mut out);
            let Some(Output::Inquire(ticket, _)) = out.pop() else { panic!("it inquires") };
            session.handle(Input::Found(ticket, Finding::Told(told)), Now::default(), &mut out);
            let Some(Output::Respond(response)) = out.pop() else { panic!("it answers") };
            assert_eq!((response.status, &response.body[..]), (status, body.as_bytes()));
        }
    }
}
