//! What an order has read so far. It is decided anew after each answer, from the start, and asks for what it misses.

use std::collections::HashMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::claims::Claim;
use crate::push::order::Refused;
use crate::push::stored;

/// Bytes of one read of a range, at most; one row comes even if it is larger.
pub const RANGE_BYTES_MAX: u64 = 1 << 20;

/// What is missing for an order to be decided.
#[derive(Debug)]
pub enum Need {
    /// These claims, too.
    Claims(Vec<Claim>),
    /// What is under these keys.
    Values(Vec<Bytes>),
    /// What is in this range.
    Range(Range),
    /// Nothing: it will not be done.
    Refused(Refused),
}

impl From<Refused> for Need {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// Keys that begin so, behind one of them, so many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// What they begin with.
    pub prefix: Bytes,
    /// Behind this key.
    pub after: Option<Bytes>,
    /// Rows, at most.
    pub rows_max: u32,
}

/// What was found in a range.
#[derive(Debug)]
pub struct Rows {
    /// Keys and values.
    pub rows: Vec<(Bytes, Bytes)>,
    /// There are more.
    pub has_more: bool,
}

impl Rows {
    /// Where the next page of keys with this prefix begins: what stands behind it in the last key.
    pub fn next(&self, prefix: &[u8]) -> Option<Bytes> {
        let (last, _) = self.rows.last().filter(|_| self.has_more)?;
        Some(last.slice(prefix.len().min(last.len())..))
    }
}

/// All that was read.
#[derive(Debug, Default)]
pub struct Seen {
    values: HashMap<Bytes, Option<Bytes>>,
    ranges: Vec<(Range, Rows)>,
}

impl Seen {
    /// Takes what is under keys that were asked for.
    pub fn take_values(&mut self, keys: Vec<Bytes>, found: Vec<(Bytes, Bytes)>) {
        self.values.extend(keys.into_iter().map(|key| (key, None)));
        self.values.extend(found.into_iter().map(|(key, value)| (key, Some(value))));
    }

    /// Takes what is in a range that was asked for.
    pub fn take_range(&mut self, range: Range, rows: Rows) {
        self.ranges.push((range, rows));
    }

    /// Makes sure that all these keys were read.
    pub fn load(&self, keys: &[&Bytes]) -> Result<(), Need> {
        let missing: Vec<Bytes> = keys
            .iter()
            .filter(|it| !self.values.contains_key(**it))
            .map(|it| (*it).clone())
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(Need::Values(missing)) }
    }

    /// What is under a key.
    pub fn value(&self, key: &Bytes) -> Result<Option<&Bytes>, Need> {
        match self.values.get(key) {
            Some(value) => Ok(value.as_ref()),
            None => Err(Need::Values(vec![key.clone()])),
        }
    }

    /// The record under a key. One that cannot be read refuses the order: it is not known what would be lost.
    pub fn record<T: DeserializeOwned>(&self, key: &Bytes) -> Result<Option<T>, Need> {
        let Some(value) = self.value(key)? else { return Ok(None) };
        match stored::decode(value) {
            Some(record) => Ok(Some(record)),
            None => {
                let text = "what is stored under this id cannot be read";
                Err(Refused::new(500, "internal_error", text).into())
            }
        }
    }

    /// What is in a range.
    pub fn range(&self, range: Range) -> Result<&Rows, Need> {
        match self.ranges.iter().find(|(it, _)| *it == range) {
            Some((_, rows)) => Ok(rows),
            None => Err(Need::Range(range)),
        }
    }
}
