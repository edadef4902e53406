//! What an application's own database and its pub/sub server are asked and say, as data.
//!
//! A dialect that stands in for another server ([`crate::dialects::upstream`]) lives on these; who carries them out,
//! with which client, is `outbound`'s affair.

use std::sync::Arc;

use crate::base::time::UnixMillis;
use crate::config::Secret;

/// Where an application's own servers are.
#[derive(Clone, Debug)]
pub struct Servers {
    /// The pub/sub server.
    pub redis: Redis,
    /// The database.
    pub postgres: Postgres,
}

/// Where a Redis is.
#[derive(Clone, Debug)]
pub struct Redis {
    /// `redis://`, `rediss://` (TLS) or `unix://`, with user, password and number of the database. With sentinels only
    /// what follows the host counts.
    pub url: Secret,
    /// Who is asked for the address of the master, `host:port` each; empty: the url says it.
    pub sentinels: Vec<String>,
    /// What they call it.
    pub sentinel_master: String,
    /// As whom they are asked; empty: nobody in particular.
    pub sentinel_user: String,
    /// And the password for it.
    pub sentinel_password: Option<Secret>,
}

/// Where a PostgreSQL is.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// `postgres://` or `postgresql://`; a host that is a path (percent-encoded, or as `host=` in the query) is a
    /// Unix socket's folder.
    pub url: Secret,
    /// How its certificate is checked.
    pub tls: PostgresTls,
    /// Connections at most.
    pub connections_max: usize,
}

/// How a PostgreSQL's certificate is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PostgresTls {
    /// There is none: the connection is not encrypted.
    #[default]
    Off,
    /// Not at all.
    Unverified,
    /// By the machine's authorities and the host's name.
    Verified,
}

/// An order to the pub/sub server. Channels and keys are in full, namespace included. Repeated by who carries it out
/// when the link was lost: what is subscribed stays so until it is unsubscribed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedOrder {
    /// Hear these channels.
    Subscribe(Vec<Arc<str>>),
    /// Hear these channels no more, and set these keys no more: they are left to be forgotten.
    Unsubscribe(Vec<Arc<str>>, Vec<Arc<str>>),
    /// Set each of these keys to `1`, to be forgotten after so many seconds. Carried out before any subscription that
    /// was ordered later.
    Touch(Vec<Arc<str>>, u32),
}

/// One question to the database, prepared once per connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// The text, with `$1` and so on for the parameters.
    pub sql: &'static str,
    /// In their order.
    pub parameters: Vec<Parameter>,
}

/// A parameter of a statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// `text`.
    Text(Box<str>),
    /// `int8`.
    Integer(i64),
    /// `int8[]`.
    Integers(Vec<i64>),
    /// `text[]`.
    Texts(Vec<Box<str>>),
}

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// `bool`.
    Bool(bool),
    /// `int2`, `int4` or `int8`.
    Integer(i64),
    /// `text` or `varchar`.
    Text(Box<str>),
    /// `text[]` or `varchar[]`; what is null in it is left out.
    Texts(Vec<Box<str>>),
    /// `timestamp`, in UTC.
    Time(UnixMillis),
}

/// What a statement found.
pub type Rows = Vec<Vec<Cell>>;

/// The database did not answer, or not with what was asked: in words, without anybody's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered(pub String);

/// Why a question was not asked: more are under way than may be. The database is none the worse for it.
pub const TOO_MANY: &str = "too many questions wait";

/// Reads nothing of the row, which has no such cell.
const NOTHING: &Cell = &Cell::Null;

/// A row's cell; one that is not there is null.
pub fn cell(row: &[Cell], at: usize) -> &Cell {
    row.get(at).unwrap_or(NOTHING)
}

impl Cell {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }
}
