//! The text format of transcripts, and how one is played against a world.
//!
//! One line, one step; empty lines and lines that start with `#` are for readers, and the first says
//! which client or document the transcript comes from.
//!
//! | line | meaning |
//! | --- | --- |
//! | `\| toml` | a line of the configuration file; without any, the development app |
//! | `consult TOKEN = STATUS body` | what the application answers when asked about that token (404 otherwise) |
//! | `let NAME = text` | names a text |
//! | `PEER open TARGET` | opens a WebSocket; a further `Name: value` is a header field, as is what `with` says |
//! | `PEER stream TARGET` | asks for an event stream in the same way; `header` and `=` tell of its head |
//! | `PEER stream/1.0 TARGET` | the same as a peer of HTTP/1.0 does |
//! | `PEER \| text` | the next line of its event stream, the end of the line left out |
//! | `PEER event NAME text` | the next three lines are an event with this data, and a blank one |
//! | `PEER ended` | its event stream ends here, as a whole answer |
//! | `PEER > text` | the peer sends a text message |
//! | `PEER binary` | the peer sends a binary message that means nothing |
//! | `PEER >> bytes` | the peer sends a binary message: characters stand for themselves, `\9f` for a byte |
//! | `PEER << bytes` | the next thing the peer receives is this binary message |
//! | `PEER < text` | the next thing the peer receives is this text message |
//! | `PEER ~ text` | the peer receives this text message, perhaps after others: two channels have no common order |
//! | `PEER closed CODE text` | the next thing the peer receives is this close frame |
//! | `PEER cut` | its WebSocket ends here, without a close frame |
//! | `PEER refused STATUS [body]` | its WebSocket or event stream was refused with this answer |
//! | `PEER calls OPERATION [body]` | a request of Hotsock's client HTTP API, with what the peer was greeted with |
//! | `PEER gone` | the peer goes away, and says so if it has a WebSocket |
//! | `PEER lost` | the peer's connection is lost without a word |
//! | `PEER mute` | the peer answers no pings from here on |
//! | `METHOD PATH[?query] [body]` | a signed request of the HTTP API |
//! | `raw METHOD TARGET [body]` | a request as it stands |
//! | `key METHOD TARGET [body]` | the same with a bearer key: the text named `key`, or the development app's secret |
//! | `invoke FUNCTION [body]` | the same as an AWS SDK invokes a function, signed with the development app's secret |
//! | `= STATUS [body]` | what the last request was answered |
//! | `header NAME: value` | a header field of that answer |
//! | `keep NAME = MEMBER` | names a member of that answer's JSON body: `a.b.0.c`, through JSON as text, too |
//! | `PEER keep NAME = MEMBER` | names a member of the last text message the peer received, or of the last event's data |
//! | `with NAME: value` | the next request has this header field |
//! | `wait MILLIS` | time passes |
//! | `report KIND body` | the next thing the world outside is told, in a world that sees it |
//! | `let NAME = jwt [WORD=text] {claims}`, or `hotsock` | a token, `exp` in an hour unless they say when; `alg`, `kid` and `secret` may be others |
//!
//! In every text, `${PEER}` is a peer's socket id, `${NAME}` a named text, `${json NAME}` the same as
//! a JSON string, `${auth PEER CHANNEL [NAME]}` and `${user PEER NAME}` what an app's back end signs
//! for the peer, `${now}` the time in seconds and `${now 60}` a minute later, `${at 60}` the same as a schedule
//! says it, `${times N TEXT}` a text so many times; `${PEER.id}` and `${PEER.secret}` are what Hotsock greeted the
//! peer with. An expected text that ends in `...` is compared up to there, and
//! `${any}` in it stands for whatever is there without a quotation mark, in a binary message for whatever is there.
//! At its end a transcript has received
//! everything that came.

use std::collections::{BTreeMap, HashMap, VecDeque};

use ringmain::auth::{Apps, sign};
use ringmain::base::time::{Millis, UnixMillis};
use ringmain::broker::Report;
use ringmain::config::Config;
use ringmain::config::Machine;
use ringmain::config::load::{Sources, load};
use ringmain::wire::json;

use crate::mint;

/// What a peer receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// The close frame.
    Closed(u16, String),
    /// The end of a WebSocket without one.
    Cut,
    /// A line of an event stream, without its end.
    Line(String),
    /// The event stream is whole.
    Ended,
}

/// The lines of an event stream, however its bytes are cut.
#[derive(Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// The lines that are whole with these bytes.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Heard> {
        self.0.extend_from_slice(bytes);
        let end = self.0.iter().rposition(|it| *it == b'\n').map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.0.drain(..end).collect();
        let text = String::from_utf8(whole).expect("an event stream is text");
        text.split_terminator('\n').map(|line| Heard::Line(line.to_owned())).collect()
    }

    /// The end, which is at the end of a line.
    pub fn end(&self) -> Heard {
        assert!(self.0.is_empty(), "an event stream consists of lines");
        Heard::Ended
    }
}

/// An answer to a request.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// Where a transcript is played: bare sessions, or a whole server.
pub trait World {
    /// Opens a WebSocket; the peer's socket id if it was greeted with one. The answer, if it was refused.
    fn open(
        &mut self,
        peer: &str,
        target: &str,
        headers: &[(String, String)],
    ) -> Result<Option<String>, Answer>;
    /// Asks for an event stream: the head of the answer, or, if it was refused, the answer.
    fn stream(
        &mut self,
        peer: &str,
        target: &str,
        headers: &[(String, String)],
        takes_chunks: bool,
    ) -> Result<Answer, Answer>;
    fn send(&mut self, peer: &str, text: &str);
    fn send_binary(&mut self, peer: &str, bytes: &[u8]);
    /// From here on the peer answers no pings.
    fn mute(&mut self, peer: &str);
    /// The next thing that has come or is sure to come; none if nothing will.
    fn next(&mut self, peer: &str) -> Option<Heard>;
    /// What has come beyond what was expected, if anything.
    fn rest(&mut self, peer: &str) -> Option<Heard>;
    fn go(&mut self, peer: &str);
    fn lose(&mut self, peer: &str);
    fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(String, String)],
        body: &str,
    ) -> Answer;
    fn wait(&mut self, span: Millis);
    fn wall(&self) -> UnixMillis;
    /// What its peers call it, with the port.
    fn host(&self) -> String;
    /// What the world outside was told since the last time, if this world sees it.
    fn reports(&mut self) -> Option<Vec<Report>> {
        None
    }
}

/// The configuration a transcript asks for.
pub fn configuration(text: &str) -> Config {
    let toml: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("| ")).collect();
    if toml.is_empty() {
        return Config::development();
    }
    let sources = Sources {
        file: Some(("transcript.toml".into(), toml.join("\n"))),
        environment: Vec::new(),
        flags: Vec::new(),
        machine: Machine::small(),
        sections: ringmain::dialects::SECTIONS,
    };
    load(&sources).expect("the transcript's configuration is good").config
}

/// What the application that a transcript stands in for says of each token: `consult TOKEN = STATUS body`.
pub fn consulted(text: &str) -> HashMap<String, (u16, String)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("consult "));
    let told = lines.map(|line| {
        let (token, answer) = line.split_once(" = ").expect("consult TOKEN = STATUS body");
        let (status, body) = answer.split_once(' ').unwrap_or((answer, ""));
        (token.to_owned(), (status.parse().expect("a status"), body.to_owned()))
    });
    told.collect()
}

/// The application's answer to a question; one about a token it does not know is 404.
pub fn consult(
    consulted: &HashMap<String, (u16, String)>,
    question: &str,
) -> Option<(u16, Vec<u8>)> {
    let question = json::parse_str(question).expect("a question is JSON");
    let what = question.member("token").or(question.member("username"));
    let token = what.and_then(json::Raw::as_str).expect("a question is about something");
    let (status, body) = consulted.get(&*token).cloned().unwrap_or((404, String::new()));
    Some((status, body.into_bytes()))
}

/// Plays a transcript; the error says in which line the world did otherwise.
pub fn play(text: &str, config: &Config, world: &mut dyn World) -> Result<(), String> {
    let first = text.lines().next().unwrap_or_default();
    if !first.starts_with("# From: ") {
        return Err("the first line says where it comes from: # From: ...".into());
    }
    let apps = Apps::new(&config.apps);
    let mut player = Player {
        world,
        apps,
        texts: BTreeMap::new(),
        peers: Vec::new(),
        passed_over: BTreeMap::new(),
        last: BTreeMap::new(),
        headers: Vec::new(),
        answer: Answer::default(),
        refused: BTreeMap::new(),
        reports: VecDeque::new(),
    };
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_end();
        let is_setting = line.starts_with('|') || line.starts_with("consult ");
        if line.is_empty() || line.starts_with('#') || is_setting {
            continue;
        }
        let step = player.expand(line).and_then(|line| player.step(&line));
        step.map_err(|error| format!("line {}: {line}\n{error}", number + 1))?;
    }
    for peer in player.peers.clone() {
        let passed = player.passed_over.get_mut(&peer).and_then(VecDeque::pop_front);
        if let Some(heard) = passed.or_else(|| player.world.rest(&peer)) {
            return Err(format!("at the end: {peer} also received {heard:?}"));
        }
    }
    let is_reported = text.lines().any(|line| line.starts_with("report "));
    if let Some(report) = player.next_report().flatten().filter(|_| is_reported) {
        return Err(format!("at the end: also told: {} {}", report.kind, text_of(&report)));
    }
    Ok(())
}

struct Player<'a> {
    world: &'a mut dyn World,
    apps: Apps,
    texts: BTreeMap<String, String>,
    peers: Vec<String>,
    /// What peers received before what was looked for, by peer.
    passed_over: BTreeMap<String, VecDeque<Heard>>,
    /// The last text message each peer was expected to receive and did.
    last: BTreeMap<String, String>,
    /// Of the next request.
    headers: Vec<(String, String)>,
    answer: Answer,
    /// The answers of those who were refused a WebSocket.
    refused: BTreeMap<String, Answer>,
    /// What the world outside was told and nobody expected yet.
    reports: VecDeque<Report>,
}

impl Player<'_> {
    fn step(&mut self, line: &str) -> Result<(), String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "let" => {
                let (name, text) = rest.split_once(" = ").ok_or("let NAME = text")?;
                let text = match text.strip_prefix("jwt ").or(text.strip_prefix("hotsock ")) {
                    Some(text) => self.token(text)?,
                    None => text.to_owned(),
                };
                self.texts.insert(name.into(), text);
            }
            "keep" => {
                let (name, member) = rest.split_once(" = ").ok_or("keep NAME = MEMBER")?;
                let text = member_of(self.answer.body.trim_end(), member)?;
                self.texts.insert(name.into(), text);
            }
            "wait" => self.world.wait(Millis(rest.parse().map_err(|_| "wait MILLIS")?)),
            "GET" | "POST" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" => {
                let (target, body) = rest.split_once(' ').unwrap_or((rest, ""));
                let (path, query) = target.split_once('?').unwrap_or((target, ""));
                let parameters: Vec<_> =
                    query.split('&').filter_map(|pair| pair.split_once('=')).collect();
                let app = path.strip_prefix("/apps/").and_then(|rest| rest.split('/').next());
                let app = app.and_then(|id| self.apps.with_id(id)).or(self.apps.iter().next());
                let app = app.ok_or("no app")?;
                let wall = self.world.wall();
                let query = sign::sign_request(app, word, path, &parameters, body.as_bytes(), wall);
                let headers = std::mem::take(&mut self.headers);
                self.answer = self.world.request(word, &format!("{path}?{query}"), &headers, body);
            }
            "raw" | "key" => {
                if word == "key" {
                    let key = self.texts.get("key").map_or(DEVELOPMENT_SECRET, String::as_str);
                    let bearer = format!("Bearer {key}");
                    self.headers.push(("Authorization".into(), bearer));
                }
                let mut words = rest.splitn(3, ' ');
                let mut word = || words.next().unwrap_or_default();
                let (method, target, body) = (word(), word(), word());
                self.request(method, target, body);
            }
            "invoke" => {
                let (function, body) = rest.split_once(' ').unwrap_or((rest, ""));
                let path = format!("/2015-03-31/functions/{function}/invocations");
                let (key, wall) = ((DEVELOPMENT_KEY, DEVELOPMENT_SECRET), self.world.wall());
                let host = self.world.host();
                self.headers.extend(mint::sigv4(key, &path, &host, body, wall));
                self.request("POST", &path, body);
            }
            "report" => {
                let (kind, body) = rest.split_once(' ').ok_or("report KIND body")?;
                match self.next_report() {
                    None => {}
                    Some(Some(report))
                        if &*report.kind == kind && is_as(text_of(&report), body) => {}
                    Some(Some(report)) => {
                        let mut told = format!("  was: {} {}", report.kind, text_of(&report));
                        for next in &self.reports {
                            told += &format!("\n then: {} {}", next.kind, text_of(next));
                        }
                        return Err(told);
                    }
                    Some(None) => return Err("  nothing was told".into()),
                }
            }
            "with" => {
                let (name, value) = rest.split_once(": ").ok_or("with NAME: value")?;
                self.headers.push((name.into(), value.into()));
            }
            "=" => {
                let (status, body) = rest.split_once(' ').unwrap_or((rest, ""));
                if self.answer.status.to_string() != status
                    || !is_as(self.answer.body.trim_end(), body)
                {
                    return Err(format!("  was: {} {}", self.answer.status, self.answer.body));
                }
            }
            "header" => {
                let (name, value) = rest.split_once(": ").ok_or("header NAME: value")?;
                let found =
                    self.answer.headers.iter().find(|(it, _)| it.eq_ignore_ascii_case(name));
                if found.is_none_or(|(_, it)| it != value) {
                    return Err(format!("  was: {:?}", self.answer.headers));
                }
            }
            peer => return self.peer(peer, rest),
        }
        Ok(())
    }

    fn peer(&mut self, peer: &str, rest: &str) -> Result<(), String> {
        let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match (word, self.refused.remove(peer)) {
            ("refused", Some(Answer { status, body, .. })) => {
                let (expected, text) = rest.split_once(' ').unwrap_or((rest, ""));
                return match status.to_string() == expected && is_as(body.trim_end(), text) {
                    true => Ok(()),
                    false => Err(format!("  was: {status} {body}")),
                };
            }
            ("refused", None) => return Err("  it was not refused".into()),
            (_, Some(answer)) => return Err(format!("  it was refused: {answer:?}")),
            (_, None) => {}
        }
        match word {
            "stream" | "stream/1.0" => {
                let (target, headers) = self.asked(rest);
                match self.world.stream(peer, target, &headers, word == "stream") {
                    Ok(head) => {
                        self.answer = head;
                        self.peers.push(peer.into());
                    }
                    Err(answer) => {
                        self.answer = answer.clone();
                        self.refused.insert(peer.into(), answer);
                    }
                }
            }
            "|" => self.line(peer, rest)?,
            "event" => {
                let (name, data) = rest.split_once(' ').unwrap_or((rest, ""));
                self.line(peer, &format!("event: {name}"))?;
                self.line(peer, &format!("data: {data}"))?;
                self.line(peer, "")?;
            }
            "ended" => match self.next(peer) {
                Some(Heard::Ended) => {}
                other => return Err(format!("  was: {other:?}")),
            },
            "open" => {
                let (target, headers) = self.asked(rest);
                match self.world.open(peer, target, &headers) {
                    Ok(socket_id) => {
                        self.texts.extend(socket_id.map(|it| (peer.to_owned(), it)));
                        self.peers.push(peer.into());
                    }
                    Err(answer) => {
                        self.answer = answer.clone();
                        self.refused.insert(peer.into(), answer);
                    }
                }
            }
            "calls" => {
                let (operation, body) = rest.split_once(' ').unwrap_or((rest, ""));
                let known = |what| {
                    let text = self.texts.get(&format!("{peer}.{what}"));
                    text.ok_or("it was not greeted").map(|it| it.replace('=', "%3D"))
                };
                let (id, secret) = (known("id")?, known("secret")?);
                let target =
                    format!("/connection/{operation}?connectionId={id}&connectionSecret={secret}");
                self.request("POST", &target, body);
            }
            ">" => self.world.send(peer, rest),
            "binary" => self.world.send_binary(peer, &[0, 1, 2]),
            ">>" => self.world.send_binary(peer, &bytes_of(rest)?),
            "<<" => match self.next(peer) {
                Some(Heard::Binary(bytes)) if is_as_bytes(&bytes, rest)? => {}
                Some(Heard::Binary(bytes)) => return Err(format!("  was: {}", spelled(&bytes))),
                other => return Err(format!("  was: {other:?}")),
            },
            "gone" => self.world.go(peer),
            "lost" => self.world.lose(peer),
            "mute" => self.world.mute(peer),
            "keep" => {
                let (name, member) = rest.split_once(" = ").ok_or("keep NAME = MEMBER")?;
                let last = self.last.get(peer).ok_or("nothing came yet")?;
                let text = member_of(last, member)?;
                self.texts.insert(name.into(), text);
            }
            "~" => {
                let mut passed = VecDeque::new();
                loop {
                    match self.next(peer) {
                        Some(Heard::Text(text)) if is_as(&text, rest) => break,
                        Some(other) => passed.push_back(other),
                        None => return Err(format!("  was: {passed:?}")),
                    }
                }
                passed.extend(self.passed_over.remove(peer).unwrap_or_default());
                self.passed_over.insert(peer.into(), passed);
            }
            "<" => match self.next(peer) {
                Some(Heard::Text(text)) if is_as(&text, rest) => {
                    if text.contains("connectionSecret") {
                        let what = [("id", "connectionId"), ("secret", "connectionSecret")];
                        for (name, member) in what {
                            let text = member_of(&text, &format!("data.{member}"))?;
                            self.texts.insert(format!("{peer}.{name}"), text);
                        }
                    }
                    self.last.insert(peer.into(), text);
                }
                other => return Err(format!("  was: {other:?}")),
            },
            "cut" => match self.next(peer) {
                Some(Heard::Cut) => {}
                other => return Err(format!("  was: {other:?}")),
            },
            "closed" => {
                let (code, text) = rest.split_once(' ').unwrap_or((rest, ""));
                match self.next(peer) {
                    Some(Heard::Closed(was, why))
                        if was.to_string() == code && is_as(&why, text) => {}
                    other => return Err(format!("  was: {other:?}")),
                }
            }
            _ => return Err("no such step".into()),
        }
        Ok(())
    }

    /// What a peer asks for, and the header fields of its request.
    fn asked<'a>(&mut self, rest: &'a str) -> (&'a str, Vec<(String, String)>) {
        let (target, field) = rest.split_once(' ').unwrap_or((rest, ""));
        let mut headers = std::mem::take(&mut self.headers);
        let field = field.split_once(": ");
        headers.extend(field.map(|(name, value)| (name.to_owned(), value.to_owned())));
        (target, headers)
    }

    /// The next line of an event stream is this.
    fn line(&mut self, peer: &str, expected: &str) -> Result<(), String> {
        match self.next(peer) {
            // An end of a line that is white space cannot be written down.
            Some(Heard::Line(line)) if is_as(line.trim_end(), expected) => {
                let data = line.strip_prefix("data: ").map(str::to_owned);
                self.last.extend(data.map(|data| (peer.to_owned(), data)));
                Ok(())
            }
            other => Err(format!("  was: {other:?}")),
        }
    }

    fn request(&mut self, method: &str, target: &str, body: &str) {
        let headers = std::mem::take(&mut self.headers);
        self.answer = self.world.request(method, target, &headers, body);
    }

    /// What the world outside was told next, if anything; none in a world that does not see it.
    fn next_report(&mut self) -> Option<Option<Report>> {
        self.reports.extend(self.world.reports()?);
        Some(self.reports.pop_front())
    }

    /// A token: `[alg=A] [kid=K] [secret=S] {claims}`.
    fn token(&self, text: &str) -> Result<String, String> {
        let (mut alg, mut kid, mut secret) = ("HS256", None, DEVELOPMENT_SECRET);
        let mut claims = text;
        while !claims.starts_with('{') {
            let (word, rest) = claims.split_once(' ').ok_or("a token has {claims}")?;
            match word.split_once('=') {
                Some(("alg", it)) => alg = it,
                Some(("kid", it)) => kid = Some(it),
                Some(("secret", it)) => secret = it,
                _ => return Err(format!("no such word of a token: {word}")),
            }
            claims = rest;
        }
        let kid = kid.map(|it| format!(r#","kid":"{it}""#)).unwrap_or_default();
        let header = format!(r#"{{"alg":"{alg}","typ":"JWT"{kid}}}"#);
        let claims = match claims.contains("\"exp\"") {
            true => claims.to_owned(),
            false => {
                let comma = if claims == "{}" { "" } else { "," };
                let exp = self.world.wall().seconds() + 3600;
                format!("{{\"exp\":{exp}{comma}{}", &claims[1..])
            }
        };
        Ok(mint::token_with(&header, &claims, secret.as_bytes()))
    }

    /// The next thing a peer receives, what was passed over first.
    fn next(&mut self, peer: &str) -> Option<Heard> {
        let passed = self.passed_over.get_mut(peer).and_then(VecDeque::pop_front);
        passed.or_else(|| self.world.next(peer))
    }

    /// Puts the values of `${...}` in.
    fn expand(&self, line: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("${") {
            let (inside, after) = after.split_once('}').ok_or("${ without }")?;
            out.push_str(before);
            out.push_str(&self.value(inside)?);
            rest = after;
        }
        Ok(out + rest)
    }

    /// So many seconds from now, which may be less than none.
    fn later(&self, seconds: &str) -> Result<UnixMillis, String> {
        let seconds: i64 = seconds.parse().map_err(|_| "a number of seconds")?;
        Ok(UnixMillis(self.world.wall().0.saturating_add_signed(seconds * 1000)))
    }

    fn value(&self, inside: &str) -> Result<String, String> {
        let words: Vec<_> = inside.split(' ').collect();
        let text = |name: &str| self.texts.get(name).ok_or(format!("{name} has no value"));
        let app = self.apps.iter().next().ok_or("no app")?;
        let grant = |parts: &[&str]| {
            let parts: Vec<_> = parts.iter().map(|part| part.as_bytes()).collect();
            let signature = app.signing_key.sign(&parts);
            format!("{}:{}", app.settings.key, String::from_utf8_lossy(&signature))
        };
        Ok(match words[..] {
            ["json", name] => {
                let mut out = Vec::new();
                ringmain::wire::json::write_str(&mut out, text(name)?);
                String::from_utf8(out).map_err(|error| error.to_string())?
            }
            ["auth", peer, channel] => grant(&[text(peer)?, ":", channel]),
            ["auth", peer, channel, data] => grant(&[text(peer)?, ":", channel, ":", text(data)?]),
            ["user", peer, data] => grant(&[text(peer)?, "::user::", text(data)?]),
            ["any"] => ANY.into(),
            ["now"] => self.world.wall().seconds().to_string(),
            ["now", seconds] => (self.later(seconds)?.seconds()).to_string(),
            ["at", seconds] => mint::at(self.later(seconds)?),
            ["times", n, text] => text.repeat(n.parse().map_err(|_| "times N TEXT")?),
            [name] => text(name)?.clone(),
            _ => return Err(format!("no such value: {inside}")),
        })
    }
}

/// The key and secret of the development app, which sign for it everywhere.
const DEVELOPMENT_KEY: &str = "app-key";
const DEVELOPMENT_SECRET: &str = "app-secret";

/// A report's body.
fn text_of(report: &Report) -> &str {
    std::str::from_utf8(&report.body.0).expect("a report is text")
}

/// What `${any}` becomes: a character that no text has.
const ANY: &str = "\u{1}";

fn is_as(text: &str, expected: &str) -> bool {
    let (expected, is_start) = match expected.strip_suffix("...") {
        Some(start) => (start, true),
        None => (expected, false),
    };
    let mut parts = expected.split(ANY);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for part in parts {
        rest = rest.trim_start_matches(|it| it != '"');
        match rest.strip_prefix(part) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    is_start || rest.is_empty()
}

/// The bytes that a text of a transcript stands for.
fn bytes_of(text: &str) -> Result<Vec<u8>, String> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let digits = escape.get(..2).ok_or("two digits make a byte")?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|error| error.to_string())?);
        rest = &escape[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// The text that stands for bytes.
fn spelled(bytes: &[u8]) -> String {
    let text = |byte: &u8| match byte {
        b'\\' => "\\5c".to_owned(),
        b' '..=b'~' => char::from(*byte).to_string(),
        _ => format!("\\{byte:02x}"),
    };
    bytes.iter().map(text).collect()
}

fn is_as_bytes(bytes: &[u8], expected: &str) -> Result<bool, String> {
    let (expected, is_start) = match expected.strip_suffix("...") {
        Some(start) => (start, true),
        None => (expected, false),
    };
    let mut parts = expected.split(ANY);
    let first = bytes_of(parts.next().unwrap_or_default())?;
    let Some(mut rest) = bytes.strip_prefix(&*first) else { return Ok(false) };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let part = bytes_of(part)?;
        let mut places = 0..=rest.len();
        let is_here = |at: &usize| rest[*at..].starts_with(&part);
        // The last one is at the end.
        let at = match parts.peek().is_none() && !is_start {
            true => places.rfind(is_here),
            false => places.find(is_here),
        };
        let Some(at) = at else { return Ok(false) };
        rest = &rest[at + part.len()..];
    }
    Ok(is_start || rest.is_empty())
}

/// The socket id in the words that Pusher greets with, in whichever format.
pub fn greeted(heard: &Heard) -> Option<String> {
    let text = match heard {
        Heard::Text(text) => text.replace('\\', ""),
        Heard::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Heard::Closed(..) | Heard::Cut | Heard::Line(_) | Heard::Ended => return None,
    };
    let (_, rest) = text.split_once("\"socket_id\":\"")?;
    rest.split_once('"').map(|(id, _)| id.to_owned())
}

/// A member of a JSON text by its path: a text's content, anything else's JSON.
fn member_of(text: &str, path: &str) -> Result<String, String> {
    let mut found = text.to_owned();
    for step in path.split('.') {
        let raw = json::parse_str(&found).map_err(|error| error.to_string())?;
        let next = match step.parse::<usize>() {
            Ok(n) => raw.items().nth(n),
            Err(_) => raw.member(step),
        };
        let next = next.ok_or(format!("no {step} of {path} in {text}"))?;
        found = next.as_str().map_or_else(|| next.text().to_owned(), |it| it.into_owned());
    }
    Ok(found)
}
