//! `ringmain listen`: subscribes and prints one line for each event, until told to stop.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::net::TcpStream;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use ringmain::auth::{App, Apps};
use ringmain::base::ids::AppIndex;
use ringmain::wire::json::{self, Raw, write_str};
use ringmain::wire::websocket::client::{key, parse_accept, write_request};
use ringmain::wire::websocket::encode::{Compression, masked_close_frame, masked_frame};
use ringmain::wire::websocket::{Decoder, Opcode, Role, Step};

use super::Failure;
use super::client::{Url, apps, arguments, plainly, read_some};

/// An inbound message above this ends the connection.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// The first wait before connecting again; each further one is twice as long.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest wait before connecting again.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// How long the server may leave our ping unanswered. Source: Pusher protocol, ping and pong.
const PONG_TIMEOUT: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  ringmain listen --channel news
  ringmain listen --channel news --channel private-orders --count 10
  ringmain listen --channel presence-room --user ada
  ringmain listen --url http://10.0.0.5:6001 --key shop-key --channel orders

One line for each event goes to stdout: channel, event and data, with a tab between. What happens to the
connection goes to stderr. private- and presence- channels are signed here, with the app's secret.";

/// The command's arguments.
pub fn command() -> Command {
    Command::new("listen")
        .about("Subscribe to channels and print one line for each event")
        .arg(
            Arg::new("channel")
                .long("channel")
                .value_name("CHANNEL")
                .required(true)
                .action(ArgAction::Append)
                .help("What to listen to, may be repeated"),
        )
        .arg(
            Arg::new("count")
                .long("count")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..))
                .help("Stop after this many events"),
        )
        .arg(
            Arg::new("user")
                .long("user")
                .value_name("ID")
                .default_value("ringmain-listen")
                .help("Who to be in presence channels"),
        )
        .args(arguments())
        .after_help(EXAMPLES)
}

/// Why one connection ended.
enum End {
    /// As many events came as were asked for.
    Counted,
    /// Coming back would end the same way.
    Refused(Failure),
    /// Coming back may help: at once, or after a while.
    Lost { why: String, at_once: bool },
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Lost { why: plainly(&error), at_once: false }
    }
}

/// Listens until enough events came or the server refuses.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let mut listener = Listener {
        url: Url::parse(&text("url"))?,
        apps: apps(matches),
        user: text("user"),
        channels: matches.get_many("channel").into_iter().flatten().cloned().collect(),
        left: matches.get_one::<u64>("count").copied(),
        was_open: false,
    };
    let mut wait = BACKOFF_MIN;
    let mut is_first = true;
    loop {
        listener.was_open = false;
        let end = match listener.url.connect() {
            Ok(stream) => listener.listen(stream),
            // The first time it is most likely a mistake in the address, later a restart.
            Err(error) if is_first => return Err(listener.url.unreachable(&error)),
            Err(error) => error.into(),
        };
        is_first = false;
        let (why, at_once) = match end {
            End::Counted => return Ok(()),
            End::Refused(failure) => return Err(failure),
            End::Lost { why, at_once } => (why, at_once && listener.was_open),
        };
        if listener.was_open {
            // It worked: this is a new trouble.
            wait = BACKOFF_MIN;
        }
        let pause = if at_once { Duration::ZERO } else { wait };
        note(format_args!("connection lost: {why}; connecting again in {} s", pause.as_secs()));
        std::thread::sleep(pause);
        wait = (wait * 2).min(BACKOFF_MAX);
    }
}

fn note(text: std::fmt::Arguments<'_>) {
    // If nobody reads stderr, the events still go out.
    let _ = writeln!(io::stderr().lock(), "# {text}");
}

struct Listener {
    url: Url,
    apps: Apps,
    user: String,
    channels: Vec<String>,
    /// Events still wanted; none: all.
    left: Option<u64>,
    /// The server greeted on this connection.
    was_open: bool,
}

impl Listener {
    fn app(&self) -> &App {
        self.apps.app(AppIndex(0)).expect("the table was built of one app")
    }

    /// One connection, from the handshake to its end.
    fn listen(&mut self, stream: TcpStream) -> End {
        let mut link = match self.open(stream) {
            Ok(link) => link,
            Err(end) => return end,
        };
        loop {
            match link.next() {
                Ok(Heard::Text(text)) => match self.hear(&text, &mut link) {
                    Ok(()) => {}
                    Err(End::Counted) => {
                        // The server learns that we leave on purpose; if it is gone, so are we.
                        let _ = link.close();
                        return End::Counted;
                    }
                    Err(end) => return end,
                },
                Ok(Heard::Close(code, reason)) => return self.closed(code, &reason),
                Err(error) => return error.into(),
            }
        }
    }

    /// What a close code asks of the client. Source: Pusher protocol, error codes: 4000-4099 do not
    /// come back, 4100-4199 come back later, 4200-4299 come back at once.
    fn closed(&self, code: u16, reason: &str) -> End {
        match code {
            4000..=4099 => End::Refused(Failure::new(
                1,
                format_args!("the server closed the connection with {code}: {reason}"),
                match code {
                    4001 | 4003 => "check --key, and that the app is enabled",
                    _ => "correct what the reason names",
                },
            )),
            _ => End::Lost {
                why: format!("closed with {code} {reason}"),
                at_once: (4200..=4299).contains(&code),
            },
        }
    }

    fn open(&self, mut stream: TcpStream) -> Result<Link, End> {
        let mut target = format!("{}/app/", self.url.prefix);
        ringmain::wire::http::query::encode(&mut target, &self.app().settings.key);
        target.push_str("?protocol=7&client=ringmain&version=");
        target.push_str(env!("CARGO_PKG_VERSION"));
        let key = key(random());
        let mut request = Vec::new();
        write_request(&mut request, &self.url.authority, &target, &key, false, []);
        stream.write_all(&request)?;
        let mut bytes = Vec::new();
        loop {
            let is_end = read_some(&mut stream, &mut bytes)? == 0;
            match parse_accept(&bytes, &key) {
                Ok(Some(opened)) => {
                    bytes.drain(..opened.len);
                    let decoder = Decoder::new(Role::Client, MESSAGE_BYTES_MAX, false);
                    let mut link = Link {
                        stream,
                        decoder,
                        assembly: Vec::new(),
                        heard: VecDeque::new(),
                        activity_timeout: PONG_TIMEOUT,
                        pinged: false,
                    };
                    link.decode(&mut bytes)?;
                    return Ok(link);
                }
                Ok(None) if is_end => {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                Ok(None) => {}
                Err(error) => {
                    let what = format_args!("{}: {error}", self.url.authority).to_string();
                    let is_busy = bytes.starts_with(b"HTTP/1.1 503");
                    return Err(if is_busy {
                        End::Lost { why: what, at_once: false }
                    } else {
                        End::Refused(Failure::new(1, what, "check --url and --key"))
                    });
                }
            }
        }
    }

    /// Takes one message of the protocol.
    fn hear(&mut self, text: &str, link: &mut Link) -> Result<(), End> {
        let Ok(message) = json::parse_str(text) else {
            return Err(End::Lost { why: "a message that is not JSON".to_owned(), at_once: false });
        };
        let member = |name: &str| message.member(name).and_then(Raw::as_str).unwrap_or_default();
        let (event, channel) = (member("event"), member("channel"));
        let data = message.member("data");
        match &*event {
            "pusher:connection_established" => {
                // The data is JSON within a string.
                let inner = data.and_then(Raw::as_str).unwrap_or_default();
                let inner = json::parse_str(&inner).ok();
                let inner = |name: &str| inner.and_then(|it| it.member(name));
                let socket_id = inner("socket_id").and_then(Raw::as_str).unwrap_or_default();
                let seconds = inner("activity_timeout").and_then(Raw::as_u64).unwrap_or(120);
                link.activity_timeout = Duration::from_secs(seconds.clamp(1, 3600));
                link.stream.set_read_timeout(Some(link.activity_timeout))?;
                note(format_args!("connected to {} as {socket_id}", self.url.authority));
                self.was_open = true;
                for channel in &self.channels {
                    link.send(&self.subscribe(&socket_id, channel))?;
                }
            }
            "pusher:ping" => link.send(b"{\"event\":\"pusher:pong\",\"data\":{}}")?,
            "pusher:pong" => {}
            "pusher_internal:subscription_succeeded" => {
                note(format_args!("listening to {channel}"))
            }
            "pusher:subscription_error" => {
                let why = data.map(|it| it.text()).unwrap_or_default();
                return Err(End::Refused(Failure::new(
                    1,
                    format_args!("{channel} was refused: {why}"),
                    "check --key, --secret and the channel's name",
                )));
            }
            "pusher:error" => {
                let member = |name: &str| data.and_then(|it| it.member(name));
                let code = member("code").and_then(Raw::as_u64);
                let message = member("message").and_then(Raw::as_str).unwrap_or_default();
                match code {
                    // Its close follows, and says when to come back.
                    Some(4100..=4299) => note(format_args!("error {message}")),
                    // All we ask for are subscriptions: one of them was refused, or the app is.
                    _ => {
                        let code = code.map(|code| format!(" with {code}")).unwrap_or_default();
                        return Err(End::Refused(Failure::new(
                            1,
                            format_args!("the server refused{code}: {message}"),
                            "check --key, --secret and the channels' names",
                        )));
                    }
                }
            }
            _ if event.starts_with("pusher:") || event.starts_with("pusher_internal:") => {
                let data = line_of(data);
                note(format_args!("{channel} {event} {data}"));
            }
            _ => {
                let mut stdout = io::stdout().lock();
                let printed = writeln!(stdout, "{channel}\t{event}\t{}", line_of(data));
                printed
                    .and_then(|()| stdout.flush())
                    .map_err(|error| End::Refused(error.into()))?;
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        return Err(End::Counted);
                    }
                }
            }
        }
        Ok(())
    }

    /// The message that subscribes, signed where the channel's name asks for it.
    fn subscribe(&self, socket_id: &str, channel: &str) -> Vec<u8> {
        let is_presence = channel.starts_with("presence-");
        let mut out = b"{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":".to_vec();
        write_str(&mut out, channel);
        if is_presence || channel.starts_with("private-") {
            let mut member = b"{\"user_id\":".to_vec();
            write_str(&mut member, &self.user);
            member.push(b'}');
            let mut parts = vec![socket_id.as_bytes(), b":", channel.as_bytes()];
            if is_presence {
                parts.extend([b":".as_slice(), &member]);
            }
            let signature = self.app().signing_key.sign(&parts);
            let signature = String::from_utf8_lossy(&signature);
            out.extend_from_slice(b",\"auth\":");
            write_str(&mut out, &format!("{}:{signature}", self.app().settings.key));
            if is_presence {
                out.extend_from_slice(b",\"channel_data\":");
                write_str(&mut out, &String::from_utf8_lossy(&member));
            }
        }
        out.extend_from_slice(b"}}");
        out
    }
}

/// Data on one line: a string's content, unless it would break the line; else its JSON.
fn line_of(data: Option<Raw<'_>>) -> String {
    let Some(data) = data else { return String::new() };
    match data.as_str() {
        Some(text) if !text.contains(char::is_control) => text.into_owned(),
        Some(_) => data.text().to_owned(),
        // Outside of strings JSON's only control characters are white space.
        None => data.text().replace(['\r', '\n', '\t'], " "),
    }
}

/// What came on a connection.
enum Heard {
    Text(String),
    Close(u16, String),
}

/// One open WebSocket.
struct Link {
    stream: TcpStream,
    decoder: Decoder,
    assembly: Vec<u8>,
    heard: VecDeque<Heard>,
    /// Silence after which we ask for a sign of life.
    activity_timeout: Duration,
    /// We asked and have heard nothing since.
    pinged: bool,
}

impl Link {
    /// The next message. Asks a silent server for a sign of life; an error when none comes.
    fn next(&mut self) -> io::Result<Heard> {
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return Ok(heard);
            }
            let mut bytes = Vec::new();
            match read_some(&mut self.stream, &mut bytes) {
                Ok(0) => {
                    let ended = "the server ended the connection";
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, ended));
                }
                Ok(_) => {
                    if std::mem::take(&mut self.pinged) {
                        self.stream.set_read_timeout(Some(self.activity_timeout))?;
                    }
                    self.decode(&mut bytes)?;
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    if self.pinged {
                        let silent = "the server fell silent";
                        return Err(io::Error::new(io::ErrorKind::ConnectionAborted, silent));
                    }
                    self.pinged = true;
                    self.stream.set_read_timeout(Some(PONG_TIMEOUT))?;
                    self.send(b"{\"event\":\"pusher:ping\",\"data\":{}}")?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes in bytes and keeps what became whole.
    fn decode(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let mut input = bytes;
        loop {
            let step = self.decoder.next(&mut input, &mut self.assembly);
            match step
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.as_str()))?
            {
                Step::NeedMore => return Ok(()),
                Step::Text(text) => self.heard.push_back(Heard::Text(text.to_owned())),
                Step::Close { code, reason } => {
                    self.heard.push_back(Heard::Close(code.unwrap_or(1005), reason.to_owned()));
                }
                Step::Ping(payload) => {
                    let pong = masked_frame(Opcode::Pong, Compression::Plain, payload, mask());
                    self.stream.write_all(&pong)?;
                }
                // The protocol is text, and nothing compressed was agreed.
                Step::Pong(_) | Step::Binary(_) | Step::Deflated(..) => {}
            }
        }
    }

    fn send(&mut self, text: &[u8]) -> io::Result<()> {
        self.stream.write_all(&masked_frame(Opcode::Text, Compression::Plain, text, mask()))
    }

    fn close(&mut self) -> io::Result<()> {
        self.stream.write_all(&masked_close_frame(1000, "", mask()))
    }
}

/// Sixteen bytes nobody can foresee: the standard library keys every hasher anew from the system's
/// randomness.
fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    for half in bytes.chunks_exact_mut(8) {
        half.copy_from_slice(&RandomState::new().build_hasher().finish().to_ne_bytes());
    }
    bytes
}

fn mask() -> [u8; 4] {
    let [a, b, c, d, ..] = random();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_stays_on_one_line() {
        let cases = [
            (r#""plain""#, "plain"),
            (r#""{\"a\":1}""#, r#"{"a":1}"#),
            (r#""two\nlines""#, r#""two\nlines""#),
            ("{\"a\":\n1}", "{\"a\": 1}"),
            ("null", "null"),
        ];
        for (json, expected) in cases {
            assert_eq!(line_of(json::parse_str(json).ok()), expected, "{json}");
        }
        assert_eq!(line_of(None), "");
    }
}
