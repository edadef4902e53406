//! What is said about a message in annotations of one kind, taken together one by one.
//!
//! Pure: annotations go in as they are made and taken back, in order, and what Sockudo's clients read comes out. Its size
//! is known at any time without writing it. What a client said and takes back counts as the kind's summarizer
//! says, whatever else they said before: see [`Summary::apply`].

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Payload;
use super::versioned::{Annotated, Annotation, Summarizer};
use crate::base::name::Name;
use crate::wire::json::write_str;

/// Clients in one list of a summary that is too large with all of them, at most; if that is too large, half as many, and
/// so on. Source: `reference/sockudo.md`, section 7.2.
const CLIPPED_CLIENTS_MAX: usize = 64;
/// What a client or a name counts for in memory beside its text.
const ENTRY_BYTES: u64 = 96;

/// What is said, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    said: Said,
    /// What it takes in memory, about.
    bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Total(u64),
    Flag(Clients),
    Distinct(BTreeMap<Name, Clients>),
    /// With the name that each client said last.
    Unique(BTreeMap<Name, Clients>, BTreeMap<Name, Name>),
    Multiple(BTreeMap<Name, Clients>),
}

/// Those who said one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Clients {
    /// How often each did; looked at for [`Summarizer::Multiple`] alone.
    counts: BTreeMap<Name, u64>,
    /// How often it was said by nobody in particular.
    unidentified: u64,
    /// Bytes of the clients as JSON strings.
    text_bytes: usize,
    /// Digits of all counts.
    digits: usize,
}

impl Clients {
    /// Adds to a client's count; what the client takes in memory, if they are new.
    fn add(&mut self, client: &Name, count: u64) -> u64 {
        let Some(known) = self.counts.get_mut(client) else {
            self.counts.insert(client.clone(), count);
            self.text_bytes += json_bytes(client);
            self.digits += digits(count);
            return entry_bytes(client);
        };
        self.digits -= digits(*known);
        *known = known.saturating_add(count);
        self.digits += digits(*known);
        0
    }

    /// Takes a client out; what they took in memory.
    fn remove(&mut self, client: &Name) -> u64 {
        let Some(count) = self.counts.remove(client) else { return 0 };
        self.text_bytes -= json_bytes(client);
        self.digits -= digits(count);
        entry_bytes(client)
    }

    fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.unidentified == 0
    }

    fn total(&self, is_counted: bool) -> u64 {
        match is_counted {
            true => self.counts.values().fold(self.unidentified, |sum, it| sum.saturating_add(*it)),
            false => self.counts.len() as u64,
        }
    }

    /// Appends what clients read of it, with so many in its list at most.
    fn write(&self, is_counted: bool, clients_max: usize, out: &mut Vec<u8>) {
        let is_clipped = self.counts.len() > clients_max;
        write_number(out, "{\"total\":", self.total(is_counted));
        out.extend_from_slice(match is_counted {
            true => b",\"clientCounts\":{",
            false => b",\"clientIds\":[",
        });
        for (nth, (client, count)) in self.counts.iter().take(clients_max).enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            write_str(out, client);
            if is_counted {
                write_number(out, ":", *count);
            }
        }
        if is_counted {
            write_number(out, "},\"totalUnidentified\":", self.unidentified);
            write_number(out, ",\"totalClientIds\":", self.counts.len() as u64);
        } else {
            out.push(b']');
        }
        out.extend_from_slice(match is_clipped {
            true => b",\"clipped\":true}",
            false => b",\"clipped\":false}",
        });
    }

    /// Bytes that [`Clients::write`] appends if all are told.
    fn written_bytes(&self, is_counted: bool) -> usize {
        let clients = self.counts.len();
        let list = self.text_bytes + clients.saturating_sub(1);
        let total = digits(self.total(is_counted));
        match is_counted {
            true => {
                let around = "{\"total\":,\"clientCounts\":{},\"totalUnidentified\":,\
                              \"totalClientIds\":,\"clipped\":false}";
                let numbers = total + digits(self.unidentified) + digits(clients as u64);
                around.len() + list + clients + self.digits + numbers
            }
            false => "{\"total\":,\"clientIds\":[],\"clipped\":false}".len() + list + total,
        }
    }
}

impl Summary {
    /// Nothing is said.
    pub fn new(summarizer: Summarizer) -> Self {
        let said = match summarizer {
            Summarizer::Total => Said::Total(0),
            Summarizer::Flag => Said::Flag(Clients::default()),
            Summarizer::Distinct => Said::Distinct(BTreeMap::new()),
            Summarizer::Unique => Said::Unique(BTreeMap::new(), BTreeMap::new()),
            Summarizer::Multiple => Said::Multiple(BTreeMap::new()),
        };
        Self { said, bytes: ENTRY_BYTES }
    }

    /// What it takes in memory, about.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next annotation, or that one is taken back. What is taken back was said before, and is so once.
    ///
    /// Of a client who said the same thing several times none of it is left when they take one of them back. An annotation
    /// without what its summarizer counts by changes nothing.
    pub fn apply(&mut self, annotated: &Annotated) {
        let Annotated { annotation, takes_back } = annotated;
        match takes_back {
            None => self.say(annotation),
            Some(_) => self.take_back(annotation),
        }
    }

    fn say(&mut self, annotation: &Annotation) {
        let Annotation { name, client_id, count, .. } = annotation;
        let (grown, gone) = match (&mut self.said, name, client_id) {
            (Said::Total(total), ..) => {
                *total = total.saturating_add(1);
                (0, 0)
            }
            (Said::Flag(clients), _, Some(client)) if !clients.counts.contains_key(client) => {
                (clients.add(client, 1), 0)
            }
            (Said::Distinct(names), Some(name), Some(client)) => (add(names, name, client), 0),
            (Said::Unique(names, last), Some(name), Some(client)) => {
                let before = last.insert(client.clone(), name.clone());
                let gone = before.as_ref().filter(|it| *it != name);
                let gone = gone.map_or(0, |before| remove(names, before, client));
                let is_new = u64::from(before.is_none()) * entry_bytes(client);
                (add(names, name, client) + is_new, gone)
            }
            (Said::Multiple(names), Some(name), client) => {
                let count = count.unwrap_or(1);
                let (entry, grown) = entry(names, name);
                match client {
                    Some(client) => (grown + entry.add(client, count), 0),
                    None => {
                        entry.unidentified = entry.unidentified.saturating_add(count);
                        (grown, 0)
                    }
                }
            }
            _ => (0, 0),
        };
        self.bytes = self.bytes + grown - gone;
    }

    fn take_back(&mut self, annotation: &Annotation) {
        let Annotation { name, client_id, .. } = annotation;
        let gone = match (&mut self.said, name, client_id) {
            (Said::Total(total), ..) => {
                *total = total.saturating_sub(1);
                0
            }
            (Said::Flag(clients), _, Some(client)) => clients.remove(client),
            (Said::Distinct(names), Some(name), Some(client)) => remove(names, name, client),
            // What was taken back may be what the client has moved on from.
            (Said::Unique(names, last), Some(name), Some(client))
                if last.get(client) == Some(name) =>
            {
                last.remove(client);
                remove(names, name, client) + entry_bytes(client)
            }
            // The name stays, as Sockudo has it: who counts sees that nobody says it any more.
            (Said::Multiple(names), Some(name), Some(client)) => {
                names.get_mut(name).map_or(0, |clients| clients.remove(client))
            }
            _ => 0,
        };
        self.bytes -= gone;
    }

    /// As clients read it: one JSON object. If it is larger than so many bytes, lists of clients are cut; if that does not
    /// do, the names that were said least are left out.
    pub fn write(&self, bytes_max: usize) -> Payload {
        let mut out = Vec::new();
        if self.written_bytes() <= bytes_max {
            self.write_clipped(usize::MAX, &mut out);
            return Payload(out.into());
        }
        let mut clients_max = CLIPPED_CLIENTS_MAX;
        loop {
            self.write_clipped(clients_max, &mut out);
            if out.len() <= bytes_max {
                return Payload(out.into());
            }
            out.clear();
            if clients_max == 0 {
                break;
            }
            clients_max /= 2;
        }
        self.write_most_said(bytes_max, &mut out);
        Payload(out.into())
    }

    fn names(&self) -> Option<(&BTreeMap<Name, Clients>, bool)> {
        match &self.said {
            Said::Total(_) | Said::Flag(_) => None,
            Said::Distinct(names) | Said::Unique(names, _) => Some((names, false)),
            Said::Multiple(names) => Some((names, true)),
        }
    }

    fn written_bytes(&self) -> usize {
        match (&self.said, self.names()) {
            (Said::Total(total), _) => "{\"total\":}".len() + digits(*total),
            (Said::Flag(clients), _) => clients.written_bytes(false),
            (_, None) => 0,
            (_, Some((names, is_counted))) => {
                let of_names = names.iter().map(|(name, clients)| {
                    json_bytes(name) + ":".len() + clients.written_bytes(is_counted)
                });
                "{}".len() + of_names.sum::<usize>() + names.len().saturating_sub(1)
            }
        }
    }

    fn write_clipped(&self, clients_max: usize, out: &mut Vec<u8>) {
        match (&self.said, self.names()) {
            (Said::Total(total), _) => {
                write_number(out, "{\"total\":", *total);
                out.push(b'}');
            }
            (Said::Flag(clients), _) => clients.write(false, clients_max, out),
            (_, None) => {}
            (_, Some((names, is_counted))) => {
                write_names(names.iter(), is_counted, clients_max, out);
            }
        }
    }

    /// Without clients, and with the names that were said most as long as they fit.
    fn write_most_said(&self, bytes_max: usize, out: &mut Vec<u8>) {
        let Some((names, is_counted)) = self.names() else {
            return self.write_clipped(0, out);
        };
        let mut most: Vec<_> = names.iter().collect();
        most.sort_by_key(|(name, clients)| (u64::MAX - clients.total(is_counted), *name));
        let (mut bytes, mut one) = ("{}".len(), Vec::new());
        let fitting = most.iter().take_while(|(name, clients)| {
            one.clear();
            clients.write(is_counted, 0, &mut one);
            bytes += json_bytes(name) + ":,".len() + one.len();
            bytes <= bytes_max
        });
        let fitting = fitting.count();
        most.truncate(fitting);
        most.sort_by_key(|(name, _)| *name);
        write_names(most.into_iter(), is_counted, 0, out);
    }

    /// As bytes for the store.
    pub fn encode(&self, out: &mut BytesMut) {
        match &self.said {
            Said::Total(total) => {
                out.put_u8(1);
                out.put_u64_le(*total);
            }
            Said::Flag(clients) => {
                out.put_u8(2);
                clients.encode(out);
            }
            Said::Distinct(names) => encode_names(3, names, out),
            Said::Unique(names, _) => encode_names(4, names, out),
            Said::Multiple(names) => encode_names(5, names, out),
        }
    }

    /// Takes it from the beginning of bytes of the store. None: these bytes are none.
    pub fn decode(bytes: &mut Bytes) -> Option<Self> {
        let said = match take_u8(bytes)? {
            1 => Said::Total(take_u64(bytes)?),
            2 => Said::Flag(Clients::decode(bytes)?),
            3 => Said::Distinct(decode_names(bytes)?),
            4 => {
                let names = decode_names(bytes)?;
                let mut last = BTreeMap::new();
                for (name, clients) in &names {
                    last.extend(clients.counts.keys().map(|it| (it.clone(), name.clone())));
                }
                Said::Unique(names, last)
            }
            5 => Said::Multiple(decode_names(bytes)?),
            _ => return None,
        };
        let weight = |clients: &Clients| clients.counts.keys().map(entry_bytes).sum::<u64>();
        let mut it = Self { said, bytes: ENTRY_BYTES };
        it.bytes += match (&it.said, it.names()) {
            (Said::Flag(clients), _) => weight(clients),
            (_, Some((names, _))) => names.iter().map(|it| entry_bytes(it.0) + weight(it.1)).sum(),
            _ => 0,
        };
        if let Said::Unique(_, last) = &it.said {
            it.bytes += last.keys().map(entry_bytes).sum::<u64>();
        }
        Some(it)
    }
}

/// Those who said a name, and what that takes in memory if it is new.
fn entry<'a>(names: &'a mut BTreeMap<Name, Clients>, name: &Name) -> (&'a mut Clients, u64) {
    let grown = if names.contains_key(name) { 0 } else { entry_bytes(name) };
    (names.entry(name.clone()).or_default(), grown)
}

/// A client said a name, who may have said it before.
fn add(names: &mut BTreeMap<Name, Clients>, name: &Name, client: &Name) -> u64 {
    let (clients, grown) = entry(names, name);
    match clients.counts.contains_key(client) {
        true => grown,
        false => grown + clients.add(client, 1),
    }
}

/// They do not say it any more; a name that nobody says is gone.
fn remove(names: &mut BTreeMap<Name, Clients>, name: &Name, client: &Name) -> u64 {
    let Some(clients) = names.get_mut(name) else { return 0 };
    let gone = clients.remove(client);
    match clients.is_empty() {
        true => {
            names.remove(name);
            gone + entry_bytes(name)
        }
        false => gone,
    }
}

fn write_names<'a>(
    names: impl Iterator<Item = (&'a Name, &'a Clients)>,
    is_counted: bool,
    clients_max: usize,
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    for (nth, (name, clients)) in names.enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        write_str(out, name);
        out.push(b':');
        clients.write(is_counted, clients_max, out);
    }
    out.push(b'}');
}

fn write_number(out: &mut Vec<u8>, before: &str, number: u64) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(number.to_string().as_bytes());
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |it| it as usize + 1)
}

/// Bytes of a text as a JSON string, quotes included.
fn json_bytes(text: &str) -> usize {
    let mut out = Vec::new();
    write_str(&mut out, text);
    out.len()
}

fn entry_bytes(name: &Name) -> u64 {
    name.len() as u64 + ENTRY_BYTES
}

impl Clients {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.unidentified);
        out.put_u32_le(self.counts.len() as u32);
        for (client, count) in &self.counts {
            put_name(out, client);
            out.put_u64_le(*count);
        }
    }

    fn decode(bytes: &mut Bytes) -> Option<Self> {
        let mut it = Self { unidentified: take_u64(bytes)?, ..Self::default() };
        for _ in 0..take_u32(bytes)? {
            let client = take_name(bytes)?;
            let count = take_u64(bytes)?;
            it.add(&client, count);
        }
        Some(it)
    }
}

fn encode_names(kind: u8, names: &BTreeMap<Name, Clients>, out: &mut BytesMut) {
    out.put_u8(kind);
    out.put_u32_le(names.len() as u32);
    for (name, clients) in names {
        put_name(out, name);
        clients.encode(out);
    }
}

fn decode_names(bytes: &mut Bytes) -> Option<BTreeMap<Name, Clients>> {
    (0..take_u32(bytes)?).map(|_| Some((take_name(bytes)?, Clients::decode(bytes)?))).collect()
}

pub(super) fn put_name(out: &mut BytesMut, name: &str) {
    out.put_u32_le(name.len() as u32);
    out.put_slice(name.as_bytes());
}

pub(super) fn take_name(bytes: &mut Bytes) -> Option<Name> {
    let length = take_u32(bytes)? as usize;
    let name = bytes.get(..length)?;
    let name = Name::from(std::str::from_utf8(name).ok()?);
    bytes.advance(length);
    Some(name)
}

fn take_u8(bytes: &mut Bytes) -> Option<u8> {
    bytes.try_get_u8().ok()
}

fn take_u32(bytes: &mut Bytes) -> Option<u32> {
    bytes.try_get_u32_le().ok()
}

fn take_u64(bytes: &mut Bytes) -> Option<u64> {
    bytes.try_get_u64_le().ok()
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
