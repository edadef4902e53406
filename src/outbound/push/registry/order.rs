//! An order on its way, and what it comes to.

use std::sync::Arc;

use bytes::Bytes;

use super::claims::Claim;
use super::seen::{Need, Range, Seen};
use super::{REMOVED, Went, keys};
use crate::base::ids::AppIndex;
use crate::base::time::Now;
use crate::broker::{Payload, Report};
use crate::outbound::push::outbox_value;
use crate::push::Provider;
use crate::push::credential::{Credential, CredentialFacts};
use crate::push::device::Device;
use crate::push::order::{Order, Refused, Told};
use crate::store::{Change, NEVER, Shelf};
use crate::wire::json;

/// Orders that read much, at once.
const SEATS: u64 = 32;

/// What is to be done.
#[derive(Debug)]
pub enum Work {
    /// What someone asked for.
    Order(Order),
    /// What sending did to a device.
    Went(Box<Device>, Went),
}

/// What is awaited.
#[derive(Debug)]
pub enum Stage {
    /// Its turn in all lines.
    Lines,
    /// Values.
    Values(Vec<Bytes>),
    /// A range.
    Range(Range),
    /// That it is on disk.
    Disk(Then, Effect),
}

/// An order on its way.
#[derive(Debug)]
pub struct Running {
    /// Who asked; none: nobody waits for it.
    pub caller: Option<u64>,
    /// In whose name.
    pub app: Arc<str>,
    /// What.
    pub work: Work,
    /// 32 bytes that nobody can guess.
    pub chance: [u8; 32],
    /// What it claims, sorted.
    pub claims: Vec<Claim>,
    /// How often it found out that it claims too little.
    pub rounds: u32,
    /// What it read while all its claims were its own.
    pub seen: Seen,
    /// Rows that are gone by earlier parts of it.
    pub removed: u64,
    /// What it waits for.
    pub stage: Stage,
    /// Which one it is.
    pub number: u64,
}

/// What a decided order comes to: all of `changes` in one commit, or nothing.
#[derive(Debug)]
pub struct Act {
    /// What is written; nothing: it is over at once.
    pub changes: Vec<(Shelf, Change)>,
    /// What then.
    pub then: Then,
    /// What is different once it is on disk.
    pub effect: Effect,
    /// Keys of records that cannot be read and were left out.
    pub unreadable: Vec<String>,
}

/// What follows.
#[derive(Debug)]
pub enum Then {
    /// Whoever asked is told.
    Tell(Told),
    /// So many rows are gone; the order begins anew for the rest.
    Again(u64),
    /// Nothing: nobody waits.
    Nothing,
}

/// What is different, outside the store, once something is on disk.
#[derive(Debug)]
pub enum Effect {
    /// Nothing.
    None,
    /// There is one more device.
    Registered,
    /// Credentials are known.
    Credential(CredentialFacts, Arc<Credential>),
    /// Some are gone.
    NoCredential(Provider, String),
}

impl Act {
    /// Nothing is written.
    pub fn tell(told: Told) -> Self {
        Self::write(Vec::new(), Then::Tell(told))
    }

    /// A list, without what cannot be read.
    pub fn listed(told: Told, unreadable: Vec<String>) -> Self {
        Self { unreadable, ..Self::tell(told) }
    }

    /// Something is written and nothing beside it changes.
    pub fn write(changes: Vec<(Shelf, Change)>, then: Then) -> Self {
        Self { changes, then, effect: Effect::None, unreadable: Vec::new() }
    }
}

impl Then {
    /// So many more are gone, and they were all that were left or not.
    pub fn removed(it: &Running, removed: u64, is_all: bool) -> Self {
        match is_all {
            true => Self::Tell(Told::Removed(it.removed + removed)),
            false => Self::Again(removed),
        }
    }
}

impl Running {
    /// Makes sure that these claims are the order's own.
    pub fn claim(&self, claims: impl IntoIterator<Item = Claim>) -> Result<(), Need> {
        let is_new = |it: &Claim| self.claims.binary_search(it).is_err();
        let more: Vec<Claim> = claims.into_iter().filter(is_new).collect();
        if more.is_empty() { Ok(()) } else { Err(Need::Claims(more)) }
    }

    /// The claim on a device.
    pub fn device(&self, id: &str) -> Claim {
        Claim::Device(self.app.clone(), id.into())
    }

    /// One of the seats.
    pub fn seat(&self) -> Claim {
        Claim::Seat(self.number % SEATS)
    }

    /// A key of this app.
    pub fn key(&self, kind: u8, parts: &[&[u8]]) -> Bytes {
        keys::key(kind, &self.app, parts, true)
    }

    /// What keys of this app begin with.
    pub fn prefix(&self, kind: u8, parts: &[&[u8]]) -> Bytes {
        keys::key(kind, &self.app, parts, false)
    }

    /// The key that says that a device is a client's.
    pub fn of_client(&self, client: &str, device: &str) -> Bytes {
        self.key(keys::OF_CLIENT, &[client.as_bytes(), device.as_bytes()])
    }
}

/// A value written.
pub fn put(key: Bytes, value: Bytes) -> (Shelf, Change) {
    (Shelf::Push, Change::Put { key, value, expires: NEVER })
}

/// A value gone.
pub fn remove(key: Bytes) -> (Shelf, Change) {
    (Shelf::Push, Change::Remove { key })
}

/// A count moved.
pub fn add(key: &Bytes, by: i64) -> (Shelf, Change) {
    (Shelf::Push, Change::Add { key: key.clone(), by })
}

/// The report that a registration is gone though its application did not ask for that.
pub fn removal_report(app: &str, device: &Device, reason: &str, now: Now) -> (Shelf, Change) {
    let mut body = b"{\"app_id\":".to_vec();
    json::write_str(&mut body, app);
    body.extend_from_slice(b",\"device_id\":");
    json::write_str(&mut body, &device.id);
    if let Some(client) = &device.client_id {
        body.extend_from_slice(b",\"client_id\":");
        json::write_str(&mut body, client);
    }
    body.extend_from_slice(b",\"provider\":");
    json::write_str(&mut body, device.recipient.provider().as_str());
    body.extend_from_slice(b",\"reason\":");
    json::write_str(&mut body, reason);
    body.push(b'}');
    let report = Report {
        // The stored form goes by the app's id alone.
        app: AppIndex(0),
        kind: REMOVED.into(),
        channel: None,
        fields: Vec::new(),
        body: Payload(body.into()),
    };
    (Shelf::Outbox, Change::Push { value: outbox_value(&report, app, now) })
}

/// Refused for now.
pub fn later(text: &str) -> Refused {
    Refused::unavailable(format!("push registry unavailable: {text}"))
}
