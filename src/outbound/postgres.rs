//! An application's PostgreSQL: one question on one of a few connections, and its rows.
//!
//! Nothing is prepared under a name, so that a pooler between us which hands connections from question to question is
//! no matter; text and types go in one round trip.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, NoTls, TlsConnect, TlsStream};
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Config, Row};
use tokio_rustls::TlsConnector;

use super::tls;
use crate::auth::upstream::{
    Cell, Parameter, Postgres, PostgresTls, Rows, Statement, TOO_MANY, Unanswered,
};
use crate::base::time::UnixMillis;

/// How long a connection may take. Source: Mastodon's own server.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// How long a question may take in all.
const QUESTION_MAX: Duration = Duration::from_secs(10);
/// Questions under way at most, those that wait for a connection included; a further one is not answered.
///
/// Room for the tokens of a crowd that comes back at once; one takes a few hundred bytes.
const QUESTIONS_MAX: u32 = 32_768;
/// Parts of an address's query that are ours to read; applications put others there, for themselves.
const KNOWN: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "options",
    "target_session_attrs",
    "load_balance_hosts",
];
/// From 1970 to 2000, from which PostgreSQL counts.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The database.
#[derive(Clone)]
pub struct Database {
    pool: Pool,
    open: Arc<AtomicU32>,
}

/// How the pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Connections.
    pub connections: u32,
    /// Those that nobody uses.
    pub idle: u32,
    /// Questions that wait for one.
    pub waiting: u32,
}

impl Database {
    /// The database at that address. Nothing is asked yet, and nobody connected. Fails, in words, if the address is none.
    pub fn new(settings: &Postgres) -> Result<Self, String> {
        let mut config = address(&settings.url.0)?;
        config.connect_timeout(CONNECT_MAX).application_name("ringmain");
        let ways = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match settings.tls {
            PostgresTls::Off => {
                config.ssl_mode(SslMode::Disable);
                Manager::from_config(config, NoTls, ways)
            }
            PostgresTls::Unverified => {
                config.ssl_mode(SslMode::Require);
                Manager::from_config(config, Tls(tls::unverified()?), ways)
            }
            PostgresTls::Verified => {
                config.ssl_mode(SslMode::Require);
                Manager::from_config(config, Tls(tls::verified()?), ways)
            }
        };
        let pool = Pool::builder(manager)
            .max_size(settings.connections_max.max(1))
            .create_timeout(Some(CONNECT_MAX))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { pool, open: Arc::default() })
    }

    /// How the pool is now.
    pub fn gauges(&self) -> Gauges {
        let status = self.pool.status();
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Gauges {
            connections: narrow(status.size),
            idle: narrow(status.available),
            waiting: narrow(status.waiting),
        }
    }

    /// Asks. What does not come in time is no answer.
    pub async fn ask(&self, statement: Statement) -> Result<Rows, Unanswered> {
        let _open = Open::new(&self.open)?;
        let mut used = None;
        let asked = async {
            let client = self.pool.get().await.map_err(|error| Unanswered(words(&error)))?;
            let client: &Object = used.insert(client);
            let parameters: Vec<_> = statement.parameters.iter().map(parameter).collect();
            let found = client.query_typed(statement.sql, &parameters).await;
            let found = found.map_err(|error| Unanswered(words(&error)))?;
            found.iter().map(cells).collect()
        };
        match tokio::time::timeout(QUESTION_MAX, asked).await {
            Ok(answer) => answer,
            Err(_) => {
                // Whatever it does is not over; the next question gets another connection.
                if let Some(client) = used {
                    drop(Object::take(client));
                }
                Err(Unanswered(format!("no answer within {} s", QUESTION_MAX.as_secs())))
            }
        }
    }
}

/// A question that is under way.
struct Open<'a>(&'a AtomicU32);

impl<'a> Open<'a> {
    fn new(open: &'a AtomicU32) -> Result<Self, Unanswered> {
        if open.fetch_add(1, Ordering::Relaxed) >= QUESTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            return Err(Unanswered(TOO_MANY.to_owned()));
        }
        Ok(Self(open))
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads an address, and passes over what is not for us in it.
fn address(url: &str) -> Result<Config, String> {
    let expected = || "no postgres://USER:PASSWORD@HOST:PORT/DATABASE".to_owned();
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(expected());
    }
    let (start, query) = url.split_once('?').unwrap_or((url, ""));
    let known = |part: &&str| part.split_once('=').is_some_and(|(name, _)| KNOWN.contains(&name));
    let query: Vec<_> = query.split('&').filter(known).collect();
    let kept = match query.is_empty() {
        true => start.to_owned(),
        false => format!("{start}?{}", query.join("&")),
    };
    let mut config = Config::from_str(&kept).map_err(|_| expected())?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        config.host("localhost");
    }
    Ok(config)
}

fn parameter(parameter: &Parameter) -> (&(dyn ToSql + Sync), Type) {
    match parameter {
        Parameter::Text(it) => (it, Type::TEXT),
        Parameter::Integer(it) => (it, Type::INT8),
        Parameter::Integers(it) => (it, Type::INT8_ARRAY),
        Parameter::Texts(it) => (it, Type::TEXT_ARRAY),
    }
}

fn cells(row: &Row) -> Result<Vec<Cell>, Unanswered> {
    (0..row.len()).map(|at| cell(row, at)).collect()
}

fn cell(row: &Row, at: usize) -> Result<Cell, Unanswered> {
    let kind = row.columns()[at].type_();
    let unreadable = |_| Unanswered(format!("column {} cannot be read", at + 1));
    macro_rules! read {
        ($type:ty, $into:expr) => {
            row.try_get::<_, Option<$type>>(at).map_err(unreadable)?.map_or(Cell::Null, $into)
        };
    }
    Ok(match *kind {
        Type::BOOL => read!(bool, Cell::Bool),
        Type::INT2 => read!(i16, |it| Cell::Integer(it.into())),
        Type::INT4 => read!(i32, |it| Cell::Integer(it.into())),
        Type::INT8 => read!(i64, Cell::Integer),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => {
            read!(&str, |it| Cell::Text(it.into()))
        }
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY => read!(Vec<Option<&str>>, |it| {
            Cell::Texts(it.into_iter().flatten().map(Box::from).collect())
        }),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => read!(Moment, |it| Cell::Time(it.0)),
        _ => return Err(Unanswered(format!("column {} is of type {}", at + 1, kind.name()))),
    })
}

/// A point in time; one before 1970 is 1970.
struct Moment(UnixMillis);

impl<'a> FromSql<'a> for Moment {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        // Microseconds from 2000; the ends of the range are never.
        let micros = i64::from_be_bytes(raw.try_into()?);
        let millis = micros.saturating_add(EPOCH_MICROS) / 1000;
        Ok(Self(UnixMillis(u64::try_from(millis).unwrap_or(0))))
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::TIMESTAMP | Type::TIMESTAMPTZ)
    }
}

/// Why there is no answer, without anybody's data: what a database says of a value it says with the value.
fn words(error: &(dyn Error + 'static)) -> String {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(said) = error.downcast_ref::<tokio_postgres::error::DbError>() {
            return said_words(said.code(), said.message());
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.to_string();
        }
        let source = error.source();
        if source.is_none() {
            return error.to_string();
        }
        next = source;
    }
    String::new()
}

/// Classes of errors whose text names users, tables and settings of the server, never what is in a table.
const OPEN_CLASSES: &[&str] = &["08", "28", "3D", "42", "53", "57"];

fn said_words(code: &SqlState, message: &str) -> String {
    let code = code.code();
    match OPEN_CLASSES.iter().any(|class| code.starts_with(class)) {
        true => format!("{message} (SQLSTATE {code})"),
        false => format!("SQLSTATE {code}"),
    }
}

/// TLS for its connections.
#[derive(Clone)]
struct Tls(Arc<ClientConfig>);

/// TLS for one.
struct TlsOnce {
    connector: TlsConnector,
    host: String,
}

/// A connection with TLS.
struct Stream<S>(tokio_rustls::client::TlsStream<S>);

type Connecting<S> = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Stream<S>;
    type TlsConnect = TlsOnce;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<TlsOnce> {
        Ok(TlsOnce { connector: TlsConnector::from(self.0.clone()), host: host.to_owned() })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for TlsOnce {
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Connecting<S>;

    fn connect(self, stream: S) -> Connecting<S> {
        Box::pin(async move {
            let name = ServerName::try_from(self.host).map_err(io::Error::other)?;
            Ok(Stream(self.connector.connect(name, stream).await?))
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::Host;

    use super::*;

    #[test]
    fn addresses_are_read_and_what_is_for_others_in_them_is_passed_over() {
        let tcp = |host: &str| Host::Tcp(host.to_owned());
        for (url, host, port, database) in [
            ("postgres://u:p@h:7/d", tcp("h"), Some(7), "d"),
            (
                "postgresql://u@h/d?pool=25&sslmode=verify-full&encoding=utf8",
                tcp("h"),
                Some(5432),
                "d",
            ),
            ("postgres://u@h/d?options=-c%20search_path%3Da", tcp("h"), Some(5432), "d"),
            (
                "postgres://u@%2Frun%2Fpostgresql:7/d",
                Host::Unix("/run/postgresql".into()),
                Some(7),
                "d",
            ),
            (
                "postgres://u@/d?host=/run/postgresql",
                Host::Unix("/run/postgresql".into()),
                None,
                "d",
            ),
            ("postgres:///d", tcp("localhost"), None, "d"),
        ] {
            let read = address(url).unwrap_or_else(|why| panic!("{url}: {why}"));
            assert_eq!(read.get_hosts(), [host], "{url}");
            assert_eq!(read.get_ports().first().copied(), port, "{url}");
            assert_eq!(read.get_dbname(), Some(database), "{url}");
        }
        for url in ["", "mysql://h", "postgres://h:x/d"] {
            assert!(address(url).is_err(), "{url}");
        }
    }

    #[test]
    fn what_a_database_says_of_a_value_is_not_repeated() {
        for (code, said) in [
            (SqlState::INVALID_TEXT_REPRESENTATION, "SQLSTATE 22P02"),
            (SqlState::UNDEFINED_TABLE, "why (SQLSTATE 42P01)"),
            (SqlState::INVALID_PASSWORD, "why (SQLSTATE 28P01)"),
        ] {
            assert_eq!(said_words(&code, "why"), said);
        }
    }

    #[test]
    fn times_are_of_1970_and_later() {
        for (micros, expected) in [(0, 946_684_800_000), (-EPOCH_MICROS - 1, 0), (i64::MIN, 0)] {
            let read = Moment::from_sql(&Type::TIMESTAMP, &i64::to_be_bytes(micros));
            assert_eq!(read.expect("eight bytes").0, UnixMillis(expected));
        }
        let never = Moment::from_sql(&Type::TIMESTAMP, &i64::MAX.to_be_bytes());
        assert!(never.expect("eight bytes").0.0 > 9_000_000_000_000);
    }
}
