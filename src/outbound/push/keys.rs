//! Where records lie on [`Shelf::Push`](crate::store::Shelf::Push). Each key begins with a byte for its kind and the app's
//! id; parts but the last are behind their length in two bytes, big end first, so that no part runs into the next and all
//! of a page lie together.

use bytes::Bytes;

use crate::push::Provider;

/// A device, by its id: [`crate::push::device::Device`].
pub const DEVICE: u8 = b'd';
/// Devices of a client: client, device; no value.
pub const OF_CLIENT: u8 = b'c';
/// The device at an address: SHA-256 of provider and address, to the device's id.
pub const ADDRESS: u8 = b'a';
/// A subscription: channel, device; [`crate::push::device::Subscription`].
pub const SUBSCRIPTION: u8 = b's';
/// Subscriptions of a device: device, channel; no value.
pub const OF_DEVICE: u8 = b't';
/// How many subscriptions a channel has ([`Change::Add`](crate::store::Change::Add)); none: no key.
pub const CHANNEL: u8 = b'n';
/// How many of something an app has, as [`CHANNEL`] counts: what, and of which one.
pub const COUNT: u8 = b'q';
/// Sealed credentials: provider and id.
pub const CREDENTIAL: u8 = b'k';
/// A template.
pub const TEMPLATE: u8 = b'm';
/// A publish as it was asked for; never changed.
pub const JOB: u8 = b'j';
/// How far a publish is.
pub const PROGRESS: u8 = b'p';
/// A publish whose time is to come: its time in eight bytes, big end first, and its id; no value.
pub const WAITING: u8 = b'w';
/// How many devices an app was sent something for on a day.
pub const QUOTA: u8 = b'y';
/// A publish that is not finished; no value.
pub const OPEN: u8 = b'u';
/// The publish of an idempotency key.
pub const IDEMPOTENCY: u8 = b'i';
/// What came of one device: publish, device; [`crate::push::publish::Outcome`].
pub const OUTCOME: u8 = b'o';
/// A dead letter: app, number; [`crate::push::publish::DeadLetter`].
pub const DEAD: u8 = b'x';

/// The key of a record, or what the keys of several begin with: a kind, the app, and parts. With `is_whole` the last part ends
/// the key; else more follows it.
pub fn key(kind: u8, app: &str, parts: &[&[u8]], is_whole: bool) -> Bytes {
    let bytes: usize = parts.iter().map(|it| it.len() + 2).sum();
    let mut out = Vec::with_capacity(3 + app.len() + bytes);
    out.push(kind);
    put(&mut out, app.as_bytes());
    for (n, part) in parts.iter().enumerate() {
        match is_whole && n + 1 == parts.len() {
            true => out.extend_from_slice(part),
            false => put(&mut out, part),
        }
    }
    out.into()
}

fn put(out: &mut Vec<u8>, part: &[u8]) {
    // Every id has a bound far below; a longer one would be another's key.
    debug_assert!(part.len() <= usize::from(u16::MAX), "a part of a key has a bound");
    out.extend_from_slice(&(part.len() as u16).to_be_bytes());
    out.extend_from_slice(part);
}

/// What stands behind `prefix` in a key; none: it does not begin so.
pub fn rest<'a>(prefix: &[u8], key: &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(key.strip_prefix(prefix)?).ok()
}

/// The app's id in a key of this kind, and what follows it.
pub fn app_of(kind: u8, key: &[u8]) -> Option<(&str, &[u8])> {
    let rest = key.strip_prefix(&[kind])?;
    let (app, rest) = split(rest)?;
    Some((std::str::from_utf8(app).ok()?, rest))
}

/// The first part of what is left of a key, and what follows it.
pub fn split(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = rest.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// The last part of the key of an address.
pub fn address_digest(provider: Provider, address: &str) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    hash.update([provider as u8]);
    hash.update(address.as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let channel = key(SUBSCRIPTION, "app", &[b"a"], false);
        assert!(key(SUBSCRIPTION, "app", &[b"a", b"device"], true).starts_with(&channel));
        assert!(!key(SUBSCRIPTION, "app", &[b"ab", b"device"], true).starts_with(&channel));
        let whole = key(SUBSCRIPTION, "app", &[b"a", b"device"], true);
        assert_eq!(rest(&channel, &whole), Some("device"));
        let (app, behind) = app_of(SUBSCRIPTION, &whole).expect("a key");
        assert_eq!((app, split(behind)), ("app", Some((&b"a"[..], &b"device"[..]))));
        assert_eq!(app_of(DEVICE, &whole), None);
    }
}
