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
//! | `PEER open TARGET` | opens a WebSocket; further words `Name: value` are header fields |
//! | `PEER > text` | the peer sends a text message |
//! | `PEER binary` | the peer sends a binary message |
//! | `PEER < text` | the next thing the peer receives is this text message |
//! | `PEER ~ text` | the peer receives this text message, perhaps after others: two channels have no common order |
//! | `PEER closed CODE text` | the next thing the peer receives is this close frame |
//! | `PEER gone` | the peer goes away |
//! | `PEER mute` | the peer answers no pings from here on |
//! | `METHOD PATH[?query] [body]` | a signed request of the HTTP API |
//! | `raw METHOD TARGET [body]` | a request as it stands |
//! | `= STATUS [body]` | what the last request was answered |
//! | `header NAME: value` | a header field of that answer |
//! | `keep NAME = MEMBER` | names a member of that answer's JSON body: `a.b.0.c`, through JSON as text, too |
//! | `PEER keep NAME = MEMBER` | names a member of the last text message the peer received |
//! | `with NAME: value` | the next request has this header field |
//! | `wait MILLIS` | time passes |
//!
//! In every text, `${PEER}` is a peer's socket id, `${NAME}` a named text, `${json NAME}` the same as
//! a JSON string, `${auth PEER CHANNEL [NAME]}` and `${user PEER NAME}` what an app's back end signs
//! for the peer, `${now}` the time in seconds. An expected text that ends in `...` is compared up to there, and
//! `${any}` in it stands for whatever is there without a quotation mark. At its end a transcript has received
//! everything that came.

use std::collections::{BTreeMap, HashMap, VecDeque};

use ringmain::auth::{Apps, sign};
use ringmain::base::time::{Millis, UnixMillis};
use ringmain::config::Config;
use ringmain::config::Machine;
use ringmain::config::load::{Sources, load};
use ringmain::wire::json;

/// What a peer receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A text message.
    Text(String),
    /// The close frame.
    Closed(u16, String),
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
    /// Opens a WebSocket; the peer's socket id if it was greeted with one.
    fn open(&mut self, peer: &str, target: &str, headers: &[(String, String)]) -> Option<String>;
    fn send(&mut self, peer: &str, text: &str);
    fn send_binary(&mut self, peer: &str);
    /// From here on the peer answers no pings.
    fn mute(&mut self, peer: &str);
    /// The next thing that has come or is sure to come; none if nothing will.
    fn next(&mut self, peer: &str) -> Option<Heard>;
    /// What has come beyond what was expected, if anything.
    fn rest(&mut self, peer: &str) -> Option<Heard>;
    fn go(&mut self, peer: &str);
    fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(String, String)],
        body: &str,
    ) -> Answer;
    fn wait(&mut self, span: Millis);
    fn wall(&self) -> UnixMillis;
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
}

impl Player<'_> {
    fn step(&mut self, line: &str) -> Result<(), String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "let" => {
                let (name, text) = rest.split_once(" = ").ok_or("let NAME = text")?;
                self.texts.insert(name.into(), text.into());
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
            "raw" => {
                let mut words = rest.splitn(3, ' ');
                let mut word = || words.next().unwrap_or_default();
                let (method, target, body) = (word(), word(), word());
                let headers = std::mem::take(&mut self.headers);
                self.answer = self.world.request(method, target, &headers, body);
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
        match word {
            "open" => {
                let (target, headers) = rest.split_once(' ').unwrap_or((rest, ""));
                let headers: Vec<_> = headers
                    .split_once(": ")
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into_iter()
                    .collect();
                if let Some(socket_id) = self.world.open(peer, target, &headers) {
                    self.texts.insert(peer.into(), socket_id);
                }
                self.peers.push(peer.into());
            }
            ">" => self.world.send(peer, rest),
            "binary" => self.world.send_binary(peer),
            "gone" => self.world.go(peer),
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
                    self.last.insert(peer.into(), text);
                }
                other => return Err(format!("  was: {other:?}")),
            },
            "closed" => {
                let (code, text) = rest.split_once(' ').unwrap_or((rest, ""));
                match self.next(peer) {
                    Some(Heard::Closed(was, why)) if was.to_string() == code && why == text => {}
                    other => return Err(format!("  was: {other:?}")),
                }
            }
            _ => return Err("no such step".into()),
        }
        Ok(())
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
            [name] => text(name)?.clone(),
            _ => return Err(format!("no such value: {inside}")),
        })
    }
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
