//! Where a Redis is, and how one gets in: addresses, sentinels, TLS, users.

use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::{Side, Stream};
use crate::auth::upstream::Redis;
use crate::config::Secret;
use crate::outbound::tls;
use crate::wire::http::query::{Plus, decode};
use crate::wire::resp::{self, Value};

/// Whoever answers does not speak RESP.
pub(super) const NO_REDIS: &str = "what answers there is no Redis";
/// Its port, and a sentinel's. Source: Redis.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// How long one sentinel may take before the next is asked.
const SENTINEL_MAX: Duration = Duration::from_secs(3);
/// What a server says that has no password, of version 6 on and before. Source: Redis, observed.
const NO_PASSWORD: [&str; 2] = ["without any password configured", "no password is set"];
/// Bytes read at once while getting in.
const READ_BYTES: usize = 4096;

/// Where a Redis is.
#[derive(Clone, Debug)]
pub struct Place {
    address: Address,
    login: Login,
    database: u32,
    tls: Option<Arc<ClientConfig>>,
    sentinels: Vec<(String, u16)>,
    master: String,
    sentinel_login: Login,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// As whom; without a password as nobody.
#[derive(Clone, Debug, Default)]
struct Login {
    user: String,
    password: Option<Secret>,
}

/// What a url says.
#[derive(Debug)]
struct Parsed {
    address: Address,
    login: Login,
    database: u32,
    is_tls: bool,
}

impl Place {
    /// The place that the settings name. Fails, in words, if they name none.
    pub fn new(settings: &Redis) -> Result<Self, String> {
        let Parsed { address, login, database, is_tls } = parse(&settings.url.0)?;
        let sentinels = settings.sentinels.iter();
        let sentinels: Result<_, _> =
            sentinels.map(|it| host_and_port(it, SENTINEL_PORT)).collect();
        Ok(Self {
            address,
            login,
            database,
            tls: if is_tls { Some(tls::verified()?) } else { None },
            sentinels: sentinels?,
            master: settings.sentinel_master.clone(),
            sentinel_login: Login {
                user: settings.sentinel_user.clone(),
                password: settings.sentinel_password.clone(),
            },
        })
    }

    /// Two connections: for commands, and to hear.
    pub(super) async fn connect(&self) -> Result<(Side, Side), String> {
        let address = match self.sentinels.is_empty() {
            true => self.address.clone(),
            false => self.ask_sentinels().await?,
        };
        Ok((self.enter(&address).await?, self.enter(&address).await?))
    }

    /// A connection that is let in.
    async fn enter(&self, address: &Address) -> Result<Side, String> {
        let mut side = open(address, self.tls.as_ref()).await?;
        self.login.show(&mut side).await?;
        if self.database > 0 {
            side.say(&[b"SELECT", self.database.to_string().as_bytes()]).await?;
        }
        side.say(&[b"PING"]).await?;
        if !self.sentinels.is_empty() {
            // A master that is none any more does not know yet that it was told so. Whoever may not ask goes on.
            let role = side.say(&[b"ROLE"]).await.unwrap_or_default();
            if role.first().is_some_and(|it| it != "master") {
                return Err("what the sentinels call the master is none".to_owned());
            }
        }
        Ok(side)
    }

    /// The master's address, by the first sentinel that knows it.
    async fn ask_sentinels(&self) -> Result<Address, String> {
        let mut why = String::new();
        for (host, port) in &self.sentinels {
            let asked = async {
                let mut side = open(&Address::Tcp(host.clone(), *port), None).await?;
                self.sentinel_login.show(&mut side).await?;
                let master = self.master.as_bytes();
                side.say(&[b"SENTINEL", b"get-master-addr-by-name", master]).await
            };
            match tokio::time::timeout(SENTINEL_MAX, asked).await {
                Err(_) => why = "no sentinel answers in time".to_owned(),
                Ok(Err(said)) => why = format!("no sentinel answers: {said}"),
                Ok(Ok(words)) => match (words.first(), words.get(1).map(|it| it.parse())) {
                    (Some(host), Some(Ok(port))) => return Ok(Address::Tcp(host.clone(), port)),
                    _ => why = "the sentinels know no master of that name".to_owned(),
                },
            }
        }
        Err(why)
    }
}

impl Login {
    /// Says who we are, if we are anybody.
    async fn show(&self, side: &mut Side) -> Result<(), String> {
        let Some(password) = &self.password else { return Ok(()) };
        let (user, password) = (self.user.as_bytes(), password.0.as_bytes());
        let said = match user.is_empty() {
            true => side.say(&[b"AUTH", password]).await,
            false => side.say(&[b"AUTH", user, password]).await,
        };
        match said {
            // A password for a server that has none is no mistake: sentinels often have none, and other clients go on.
            Err(why) if NO_PASSWORD.iter().any(|it| why.contains(it)) => Ok(()),
            said => said.map(drop),
        }
    }
}

async fn open(address: &Address, tls: Option<&Arc<ClientConfig>>) -> Result<Side, String> {
    let said = |error: std::io::Error| error.to_string();
    let stream: Box<dyn Stream> = match address {
        Address::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(said)?),
        Address::Tcp(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(said)?;
            stream.set_nodelay(true).map_err(said)?;
            match tls {
                None => Box::new(stream),
                Some(config) => {
                    let name = ServerName::try_from(host.clone());
                    let name = name.map_err(|_| format!("no certificate is for {host}"))?;
                    let connector = TlsConnector::from(config.clone());
                    Box::new(connector.connect(name, stream).await.map_err(said)?)
                }
            }
        }
    };
    Ok(Side::new(stream))
}

impl Side {
    /// Says one command and waits for its answer, of which texts and numbers count. Fails if it is a refusal.
    async fn say(&mut self, words: &[&[u8]]) -> Result<Vec<String>, String> {
        resp::write(&mut self.out, words);
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.decoder.next() {
                Ok(None) => {}
                Ok(Some(Value::Error(why))) => return Err(said(why)),
                Ok(Some(value)) => return Ok(texts(&value)),
                Err(_) => return Err(NO_REDIS.to_owned()),
            }
            let came = poll_fn(|context| {
                if let Err(why) = self.write(context) {
                    return std::task::Poll::Ready(Err(why));
                }
                match self.read(context, &mut buffer) {
                    Ok(false) => std::task::Poll::Pending,
                    other => std::task::Poll::Ready(other),
                }
            });
            came.await?;
        }
    }
}

fn texts(value: &Value<'_>) -> Vec<String> {
    match value {
        Value::Text(text) => vec![String::from_utf8_lossy(text).into_owned()],
        Value::Integer(number) => vec![number.to_string()],
        Value::List(list) => list.iter().flat_map(texts).collect(),
        Value::Nil | Value::Error(_) => Vec::new(),
    }
}

/// What a Redis says of why it refuses; it repeats no key and no password.
pub(super) fn said(why: &[u8]) -> String {
    let line: String = String::from_utf8_lossy(why).chars().take(200).collect();
    format!("it says {line}")
}

/// Reads a url.
fn parse(url: &str) -> Result<Parsed, String> {
    let wrong = || "no redis://, rediss:// or unix:// address".to_owned();
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let part = |name: &str| {
        let found = query.split('&').filter_map(|it| it.split_once('='));
        found.filter(|(it, _)| *it == name).map(|(_, value)| value).next()
    };
    let plain = |text: &str| decode(text, Plus::Literal).map(String::from).ok_or_else(wrong);
    let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
    let (user_info, rest) = match scheme {
        "unix" => rest.split_once('@').filter(|(it, _)| !it.contains('/')),
        _ => rest.rsplit_once('@'),
    }
    .unwrap_or(("", rest));
    let (user, password) =
        user_info.split_once(':').map_or((user_info, None), |(user, it)| (user, Some(it)));
    let password = password.or_else(|| part("password"));
    let user = if user.is_empty() { part("username").unwrap_or("") } else { user };
    let password = password.filter(|it| !it.is_empty()).map(plain).transpose()?;
    let login = Login { user: plain(user)?, password: password.map(Secret) };
    if scheme == "unix" {
        let path = plain(rest)?;
        if !path.starts_with('/') {
            return Err(wrong());
        }
        let database = part("db").map_or(Ok(0), number)?;
        return Ok(Parsed { address: Address::Unix(path.into()), login, database, is_tls: false });
    }
    let is_tls = match scheme {
        "redis" => false,
        "rediss" => true,
        _ => return Err(wrong()),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = host_and_port(if host.is_empty() { "127.0.0.1" } else { host }, PORT)?;
    let database = match path.is_empty() {
        true => part("db").map_or(Ok(0), number)?,
        false => number(path)?,
    };
    Ok(Parsed { address: Address::Tcp(host, port), login, database, is_tls })
}

/// Reads `HOST`, `HOST:PORT` or `[HOST]:PORT`.
fn host_and_port(text: &str, port: u16) -> Result<(String, u16), String> {
    // Not the text: of an address that is written wrongly it may be the password.
    let wrong = || "no HOST:PORT in it".to_owned();
    let (host, rest) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(wrong)?,
        // More colons than one and no brackets: an address of version 6 alone.
        None if text.matches(':').count() > 1 => (text, ""),
        None => text.find(':').map_or((text, ""), |at| text.split_at(at)),
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse().map_err(|_| wrong())?,
        None if rest.is_empty() => port,
        None => return Err(wrong()),
    };
    if host.is_empty() { Err(wrong()) } else { Ok((host.to_owned(), port)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_a_redis_is() {
        let tcp = |host: &str, port| Address::Tcp(host.to_owned(), port);
        for (url, address, user, password, database, is_tls) in [
            ("redis://a", tcp("a", 6379), "", None, 0, false),
            ("redis://a:1/2", tcp("a", 1), "", None, 2, false),
            ("redis://a/", tcp("a", 6379), "", None, 0, false),
            ("redis:///3", tcp("127.0.0.1", 6379), "", None, 3, false),
            ("redis://:p%40s@a", tcp("a", 6379), "", Some("p@s"), 0, false),
            ("redis://u:p@a:7?db=4", tcp("a", 7), "u", Some("p"), 4, false),
            ("redis://u:p@ss@a:7", tcp("a", 7), "u", Some("p@ss"), 0, false),
            ("redis://u:a+b@a", tcp("a", 6379), "u", Some("a+b"), 0, false),
            ("rediss://[::1]:7/1", tcp("::1", 7), "", None, 1, true),
            ("redis://[::1]", tcp("::1", 6379), "", None, 0, false),
            ("unix:///run/r%20s", Address::Unix("/run/r s".into()), "", None, 0, false),
            ("unix://:p@/r?db=5", Address::Unix("/r".into()), "", Some("p"), 5, false),
            ("unix:///r?password=p", Address::Unix("/r".into()), "", Some("p"), 0, false),
        ] {
            let parsed = parse(url).unwrap_or_else(|why| panic!("{url}: {why}"));
            let said = parsed.login.password.as_ref().map(|it| it.0.as_str());
            assert_eq!(parsed.address, address, "{url}");
            assert_eq!((parsed.login.user.as_str(), said), (user, password), "{url}");
            assert_eq!((parsed.database, parsed.is_tls), (database, is_tls), "{url}");
        }
        for url in ["", "a", "http://a", "redis://a:x", "redis://a/x", "unix://r", "redis://[::1"] {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn sentinels_are_named_with_or_without_a_port() {
        for (text, expected) in [
            ("a", Some(("a", 26379))),
            ("a:1", Some(("a", 1))),
            ("::1", Some(("::1", 26379))),
            ("[::1]:2", Some(("::1", 2))),
            (":1", None),
            ("a:b", None),
        ] {
            let read = host_and_port(text, SENTINEL_PORT).ok();
            assert_eq!(read, expected.map(|(host, port)| (host.to_owned(), port)), "{text}");
        }
    }
}
