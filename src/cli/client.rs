//! What `publish` and `listen` share: where the server is, who we are, a connection that cannot hang.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::{Arg, ArgMatches};
use ringmain::auth::Apps;
use ringmain::config::{
    App, DEVELOPMENT_ID, DEVELOPMENT_KEY, DEVELOPMENT_SECRET, Secret, load::variable,
};
use ringmain::wire::http::BodyKind;
use ringmain::wire::http::chunked::{ChunkProgress, Chunked};
use ringmain::wire::http::client::parse_response_head;

use super::Failure;

/// How long a connection, an answer or a write may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// An answer above this is refused.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// `--url`, `--key` and `--secret`.
pub fn arguments() -> [Arg; 3] {
    [
        Arg::new("url")
            .long("url")
            .value_name("URL")
            .default_value("http://127.0.0.1:6001")
            .help("Where the server is"),
        Arg::new("key").long("key").value_name("KEY").help(
            "The app's key [default: RINGMAIN_APP_KEY, else that of the development app]",
        ),
        Arg::new("secret").long("secret").value_name("SECRET").help(
            "The app's secret; others can read it here, better set RINGMAIN_APP_SECRET [default: that, else the development app's]",
        ),
    ]
}

/// `--app-id`, which only HTTP requests need.
pub fn app_id_argument() -> Arg {
    Arg::new("app-id")
        .long("app-id")
        .value_name("ID")
        .help("The app's id [default: RINGMAIN_APP_ID, else that of the development app]")
}

/// The app that the arguments name, alone in a table, so that signing is the server's own.
pub fn apps(matches: &ArgMatches) -> Apps {
    let given = |argument: &str, key: &str, default: &str| {
        let argument = matches.try_get_one::<String>(argument).ok().flatten().cloned();
        argument.or_else(|| std::env::var(variable(key)).ok()).unwrap_or_else(|| default.to_owned())
    };
    Apps::new(&[App {
        id: given("app-id", "app.id", DEVELOPMENT_ID),
        key: given("key", "app.key", DEVELOPMENT_KEY),
        secret: Secret(given("secret", "app.secret", DEVELOPMENT_SECRET)),
        ..App::development()
    }])
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Host and port, as they go into the `Host` field.
    pub authority: String,
    /// What comes before the paths of the protocol, without a slash at its end.
    pub prefix: String,
}

impl Url {
    /// Reads `http://` or `ws://`, host, perhaps port and path.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let bad = |what: &str| {
            Failure::new(
                2,
                format_args!("--url {text}: {what}"),
                "write it like --url http://127.0.0.1:6001",
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("there is no scheme"))?;
        match scheme {
            "http" | "ws" => {}
            "https" | "wss" => return Err(bad("this client does not speak TLS")),
            _ => return Err(bad("the scheme is neither http nor ws")),
        }
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, path.trim_end_matches('/')),
            None => (rest, ""),
        };
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if authority.is_empty() || !plain(rest) || rest.contains(['?', '#', '@']) {
            return Err(bad("it is not a host with a port and perhaps a path"));
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| {
            !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
        });
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
        Ok(Self { authority, prefix })
    }

    /// Connects, to the first address of the host that answers.
    pub fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in self.authority.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Why no connection came about, and what to do.
    pub fn unreachable(&self, error: &io::Error) -> Failure {
        Failure::new(
            1,
            format_args!("cannot reach {}: {}", self.authority, plainly(error)),
            "start the server (`ringmain`) or name where it listens with --url http://HOST:PORT",
        )
    }
}

/// An error in words: a time-out on a blocking socket is called "would block" otherwise.
pub fn plainly(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no answer within {} s", PATIENCE.as_secs())
        }
        io::ErrorKind::UnexpectedEof => "the connection ended before the answer did".to_owned(),
        _ => error.to_string(),
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// What the acknowledgement of a publish stands for, if it says so.
    pub acknowledged: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Sends a whole request and reads the answer.
pub fn exchange(stream: &mut (impl Read + Write), request: &[u8]) -> io::Result<Answer> {
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    loop {
        let is_end = read_some(stream, &mut bytes)? == 0;
        if let Some(answer) = answer(&bytes, is_end)? {
            return Ok(answer);
        }
        if is_end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The answer that `bytes` hold, if it is whole.
fn answer(bytes: &[u8], is_end: bool) -> io::Result<Option<Answer>> {
    let wrong = |error: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, error.to_string())
    };
    let Some(head) = parse_response_head(bytes).map_err(|error| wrong(&error))? else {
        return Ok(None);
    };
    let status = head.status;
    let rest = bytes.get(head.len..).unwrap_or_default();
    if status < 200 {
        // What an interim answer announces follows it.
        return answer(rest, is_end);
    }
    let body = match head.body {
        Some(BodyKind::None) => Some(Vec::new()),
        Some(BodyKind::Length(length)) => {
            usize::try_from(length).ok().and_then(|length| rest.get(..length)).map(<[u8]>::to_vec)
        }
        Some(BodyKind::Chunked) => {
            let mut body = Vec::new();
            let progress = Chunked::new().read(rest, &mut body, ANSWER_BYTES_MAX);
            match progress.map_err(|error| wrong(&error))? {
                ChunkProgress::Done { .. } => Some(body),
                ChunkProgress::More => None,
            }
        }
        None => is_end.then(|| rest.to_vec()),
    };
    let acknowledged = field(&bytes[..head.len], "x-ringmain-acknowledged");
    Ok(body.map(|body| Answer { status, acknowledged, body }))
}

/// The value of a field of a head that was parsed.
fn field(head: &[u8], name: &str) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}

/// Reads what is there, at least a byte unless the peer has ended; bounded.
pub fn read_some(stream: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut piece = [0; 16 << 10];
    let count = loop {
        match stream.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if bytes.len() + count > ANSWER_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
    }
    bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_hosts_with_ports() {
        let cases = [
            ("http://127.0.0.1:6001", Some(("127.0.0.1:6001", ""))),
            ("ws://localhost:1/", Some(("localhost:1", ""))),
            ("http://example.com", Some(("example.com:80", ""))),
            ("http://[::1]:7000/a/b/", Some(("[::1]:7000", "/a/b"))),
            ("http://[::1]", Some(("[::1]:80", ""))),
            ("https://example.com", None),
            ("127.0.0.1:6001", None),
            ("http://", None),
            ("http://a b", None),
            ("http://a/b?c", None),
            ("http://user@host", None),
            ("ftp://a", None),
        ];
        for (text, expected) in cases {
            let url = Url::parse(text).ok();
            let found = url.as_ref().map(|url| (url.authority.as_str(), url.prefix.as_str()));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn answers_end_where_they_say() {
        type Case<'a> = (&'a str, bool, Option<(u16, &'a str)>);
        let cases: &[Case<'_>] = &[
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", false, Some((200, "{}"))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{", true, None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", true, None),
            ("HTTP/1.1 200 OK\r\n\r\n{}", true, Some((200, "{}"))),
            ("HTTP/1.1 200 OK\r\n\r\n{}", false, None),
            ("HTTP/1.1 204 No\r\n\r\n", false, Some((204, ""))),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                false,
                Some((200, "{}")),
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 No\r\nContent-Length: 1\r\n\r\nx",
                false,
                Some((401, "x")),
            ),
        ];
        for (bytes, is_end, expected) in cases {
            let found = answer(bytes.as_bytes(), *is_end).unwrap();
            let found = found.map(|it| (it.status, String::from_utf8(it.body).unwrap()));
            let found = found.as_ref().map(|(status, body)| (*status, body.as_str()));
            assert_eq!(found, *expected, "{bytes:?}");
        }
        assert!(answer(b"SSH-2.0-x\r\n\r\n", true).is_err());
    }
}
