//! Registrations: made, changed, listed, removed; and what sending to a device does to its own.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::claims::Claim;
use super::order::{Act, Effect, Running, Then, add, put, removal_report, remove};
use super::seen::{Need, RANGE_BYTES_MAX, Range};
use super::{Registry, Went, keys};
use crate::base::time::Now;
use crate::push::device::{Device, DeviceState};
use crate::push::order::{Change, DeviceFilter, Page, PageOf, Refused, Registrar, Told};
use crate::push::stored;
use crate::store::{self, Shelf};
use crate::wire::base64::{self, Alphabet};

/// Channels that one device may hear of. What removing a device writes is bounded by it.
pub const SUBSCRIPTIONS_OF_DEVICE_MAX: u32 = 1_000;
/// Bytes of a key, at most: ids and names of channels have bounds far below.
const KEY_BYTES_MAX: u64 = 1_024;
const _: () = assert!(
    (SUBSCRIPTIONS_OF_DEVICE_MAX as u64 + 1) * KEY_BYTES_MAX <= RANGE_BYTES_MAX,
    "all subscriptions of a device are one range"
);
/// Rows that one request for a list looks at; a page ends there though it is not full.
pub const SCAN_ROWS_MAX: usize = 2_048;
/// And ranges read for it: all of them are gone through anew after each.
const SCAN_RANGES_MAX: u32 = 4;
/// Rows read at once for a list that is filtered.
const SCAN_ROWS: u32 = 1_024;
/// Devices of a client that are looked at before some of them are removed.
const CLIENT_DEVICES: u32 = 16;
/// Changes of one commit, beside those that belong to its last device.
pub(super) const CHANGES_MAX: usize = 2_048;
/// What registrations still under way may add at most to a count of devices that was read.
const ROOM_NEAR: u64 = 2 * super::ORDERS_MAX as u64;
/// How many devices an app has.
const COUNT_OF_DEVICES: &[u8] = b"devices";

impl Registry {
    pub(super) fn register(
        &self,
        it: &Running,
        new: &Device,
        registrar: &Registrar,
        now: Now,
    ) -> Result<Act, Need> {
        let digest = digest_of(new);
        it.claim([it.device(&new.id), Claim::Address(it.app.clone(), digest)])?;
        let key = it.key(keys::DEVICE, &[new.id.as_bytes()]);
        let address = it.key(keys::ADDRESS, &[&digest]);
        let count = it.key(keys::COUNT, &[COUNT_OF_DEVICES]);
        it.seen.load(&[&key, &address, &count])?;
        let old: Option<Device> = it.seen.record(&key)?;
        let is_rotated = match registrar {
            Registrar::Admin { is_rotated } => *is_rotated,
            Registrar::Device { identity, is_rotated } => {
                let Some(old) = &old else {
                    let text = "push-subscribe may only update an existing device";
                    return Err(Refused::new(403, "forbidden", text).into());
                };
                verify(old, identity.as_deref())?;
                if new.client_id.is_some() && new.client_id != old.client_id {
                    let text = "push-subscribe may not give a device to another client";
                    return Err(Refused::new(403, "forbidden", text).into());
                }
                *is_rotated
            }
        };
        let owner = it.seen.value(&address)?.and_then(|it| std::str::from_utf8(it).ok());
        let replaced = owner.filter(|it| *it != new.id).map(str::to_owned);
        if let Some(other) = &replaced {
            it.claim([it.device(other)])?;
        }
        let mut device = new.clone();
        (device.created_at, device.updated_at) = (now.wall.0, now.wall.0);
        device.identity = None;
        if let Some(old) = &old {
            (device.created_at, device.identity) = (old.created_at, old.identity);
            if matches!(registrar, Registrar::Device { .. }) {
                device.client_id.clone_from(&old.client_id);
            }
        }
        let mut identity = None;
        if is_rotated || device.identity.is_none() {
            let token = to_text(&it.chance);
            device.identity = Some(Sha256::digest(token.as_bytes()).into());
            identity = Some(token);
        }
        let token_hash = token_hash(&device);
        let told = |change, device, identity, replaced| {
            let device = Box::new(device);
            Told::Registered { change, device, token_hash: token_hash.clone(), identity, replaced }
        };
        if let Some(old) = &old {
            let as_before = Device { updated_at: old.updated_at, ..device.clone() };
            if as_before == *old && replaced.is_none() {
                return Ok(Act::tell(told(Change::Unchanged, as_before, None, None)));
            }
        }
        let mut changes = Vec::new();
        if let Some(other) = &replaced {
            let key = it.key(keys::DEVICE, &[other.as_bytes()]);
            if let Some(gone) = it.seen.record::<Device>(&key)? {
                self.remove_device(it, &gone, &mut changes)?;
                if (self.wants)(&it.app, super::REMOVED) {
                    changes.push(removal_report(&it.app, &gone, "replaced", now));
                }
            }
        }
        match &old {
            None => {
                if replaced.is_none() {
                    self.check_room(it, &count)?;
                }
                changes.push(add(&count, 1));
            }
            Some(old) => {
                if old.client_id != device.client_id
                    && let Some(client) = &old.client_id
                {
                    changes.push(remove(it.of_client(client, &old.id)));
                }
                if old.recipient.provider() != device.recipient.provider()
                    || old.recipient.address() != device.recipient.address()
                {
                    changes.push(remove(it.key(keys::ADDRESS, &[&digest_of(old)])));
                    self.move_subscriptions(it, &device, &token_hash, &mut changes)?;
                }
            }
        }
        if let Some(client) = &device.client_id {
            changes.push(put(it.of_client(client, &device.id), Bytes::new()));
        }
        changes.push(put(address, Bytes::copy_from_slice(device.id.as_bytes())));
        changes.push(put(key, stored::encode(&device)));
        let (change, effect) = match old {
            None => (Change::Inserted, Effect::Registered),
            Some(_) => (Change::Updated, Effect::None),
        };
        let then = Then::Tell(told(change, device, identity, replaced));
        Ok(Act { changes, then, effect, unreadable: Vec::new() })
    }

    /// Whether there is room for one more device. Far from the bound nobody waits; near it one after the other registers.
    fn check_room(&self, it: &Running, count: &Bytes) -> Result<(), Need> {
        let max = self.settings.devices_max;
        let devices = store::Change::count(it.seen.value(count)?.map(|it| &**it));
        if devices.saturating_add(ROOM_NEAR) < max {
            return Ok(());
        }
        it.claim([Claim::Room(it.app.clone())])?;
        if devices < max {
            return Ok(());
        }
        let text = format!("the app has {devices} devices, no more are taken (push.devices_max)");
        Err(Refused::new(400, "limit_exceeded", text).into())
    }

    pub(super) fn unregister(
        &self,
        it: &Running,
        id: &str,
        registrar: &Registrar,
    ) -> Result<Act, Need> {
        it.claim([it.device(id)])?;
        let key = it.key(keys::DEVICE, &[id.as_bytes()]);
        let device: Option<Device> = it.seen.record(&key)?;
        let Some(device) = device else {
            return match registrar {
                Registrar::Admin { .. } => Ok(Act::tell(Told::Removed(0))),
                Registrar::Device { .. } => Err(unknown().into()),
            };
        };
        if let Registrar::Device { identity, .. } = registrar {
            verify(&device, identity.as_deref())?;
        }
        let mut changes = Vec::new();
        self.remove_device(it, &device, &mut changes)?;
        Ok(Act::write(changes, Then::Tell(Told::Removed(1))))
    }

    pub(super) fn unregister_client(&self, it: &Running, client: &str) -> Result<Act, Need> {
        let prefix = it.prefix(keys::OF_CLIENT, &[client.as_bytes()]);
        let range = Range { prefix: prefix.clone(), after: None, rows_max: CLIENT_DEVICES };
        let found = it.seen.range(range)?;
        let ids: Vec<&str> =
            found.rows.iter().filter_map(|(key, _)| keys::rest(&prefix, key)).collect();
        it.claim(ids.iter().map(|id| it.device(id)))?;
        let device_keys: Vec<Bytes> =
            ids.iter().map(|id| it.key(keys::DEVICE, &[id.as_bytes()])).collect();
        it.seen.load(&device_keys.iter().collect::<Vec<_>>())?;
        let (mut changes, mut removed, mut is_all) = (Vec::new(), 0, !found.has_more);
        for (id, key) in ids.iter().zip(&device_keys) {
            match it.seen.record::<Device>(key)? {
                Some(device) => {
                    self.remove_device(it, &device, &mut changes)?;
                    removed += 1;
                }
                None => changes.push(remove(it.of_client(client, id))),
            }
            if changes.len() > CHANGES_MAX && Some(id) != ids.last() {
                is_all = false;
                break;
            }
        }
        Ok(Act::write(changes, Then::removed(it, removed, is_all)))
    }

    /// All that removes a device and what belongs to it. Its line is the order's.
    fn remove_device(
        &self,
        it: &Running,
        device: &Device,
        changes: &mut Vec<(Shelf, store::Change)>,
    ) -> Result<(), Need> {
        let id = device.id.as_bytes();
        let prefix = it.prefix(keys::OF_DEVICE, &[id]);
        let rows_max = SUBSCRIPTIONS_OF_DEVICE_MAX + 1;
        let range = Range { prefix: prefix.clone(), after: None, rows_max };
        for (key, _) in &it.seen.range(range)?.rows {
            let Some(channel) = keys::rest(&prefix, key) else { continue };
            it.remove_subscription(channel, &device.id, changes);
        }
        if let Some(client) = &device.client_id {
            changes.push(remove(it.of_client(client, &device.id)));
        }
        changes.push(remove(it.key(keys::ADDRESS, &[&digest_of(device)])));
        changes.push(remove(it.key(keys::DEVICE, &[id])));
        changes.push(add(&it.key(keys::COUNT, &[COUNT_OF_DEVICES]), -1));
        Ok(())
    }

    /// Says in a device's subscriptions where it is now.
    fn move_subscriptions(
        &self,
        it: &Running,
        device: &Device,
        token_hash: &str,
        changes: &mut Vec<(Shelf, store::Change)>,
    ) -> Result<(), Need> {
        let provider = device.recipient.provider();
        it.each_subscription(&device.id, |key, mut subscription| {
            subscription.provider = provider;
            token_hash.clone_into(&mut subscription.token_hash);
            changes.push(put(key.clone(), stored::encode(&subscription)));
        })
    }

    pub(super) fn device(&self, it: &Running, id: &str) -> Result<Act, Need> {
        let device = it.seen.record(&it.key(keys::DEVICE, &[id.as_bytes()]))?;
        let device = device.ok_or_else(unknown)?;
        Ok(Act::tell(Told::Device(Box::new(device))))
    }

    pub(super) fn devices(
        &self,
        it: &Running,
        filter: &DeviceFilter,
        page: &PageOf,
    ) -> Result<Act, Need> {
        it.claim([it.seat()])?;
        if let Some(id) = &filter.device_id {
            let device: Option<Device> = it.seen.record(&it.key(keys::DEVICE, &[id.as_bytes()]))?;
            let rows = device.into_iter().filter(|device| fits(device, filter)).collect();
            return Ok(Act::tell(Told::Devices(Page { rows, next: None })));
        }
        let prefix = match &filter.client_id {
            Some(client) => it.prefix(keys::OF_CLIENT, &[client.as_bytes()]),
            None => it.prefix(keys::DEVICE, &[]),
        };
        let is_plain =
            DeviceFilter { client_id: None, ..filter.clone() } == DeviceFilter::default();
        let rows_max = if is_plain { page.rows_max } else { SCAN_ROWS };
        let mut after = page.after.as_ref().map(|it| [&prefix[..], it].concat().into());
        let (mut rows, mut unreadable, mut scanned, mut ranges) = (Vec::new(), Vec::new(), 0, 0);
        loop {
            let range = Range { prefix: prefix.clone(), after, rows_max };
            let found = it.seen.range(range)?;
            let mut values = Vec::new();
            if filter.client_id.is_some() {
                let ids = found.rows.iter().filter_map(|(key, _)| keys::rest(&prefix, key));
                let of: Vec<Bytes> = ids.map(|id| it.key(keys::DEVICE, &[id.as_bytes()])).collect();
                it.seen.load(&of.iter().collect::<Vec<_>>())?;
                for key in &of {
                    values.push(it.seen.value(key)?);
                }
            } else {
                values.extend(found.rows.iter().map(|(_, value)| Some(value)));
            }
            let last = found.rows.last().map(|(key, _)| key);
            for ((key, _), value) in found.rows.iter().zip(values) {
                match value.map(|it| stored::decode::<Device>(it)) {
                    Some(Some(device)) if fits(&device, filter) => rows.push(device),
                    Some(None) => unreadable.push(key.escape_ascii().to_string()),
                    _ => {}
                }
                if rows.len() >= page.rows_max as usize {
                    let is_end = !found.has_more && last == Some(key);
                    let next = (!is_end).then(|| key.slice(prefix.len()..));
                    return Ok(Act::listed(Told::Devices(Page { rows, next }), unreadable));
                }
            }
            scanned += found.rows.len();
            ranges += 1;
            let Some(last) = last.filter(|_| found.has_more) else {
                return Ok(Act::listed(Told::Devices(Page { rows, next: None }), unreadable));
            };
            if is_plain || scanned >= SCAN_ROWS_MAX || ranges >= SCAN_RANGES_MAX {
                let next = Some(last.slice(prefix.len()..));
                return Ok(Act::listed(Told::Devices(Page { rows, next }), unreadable));
            }
            after = Some(last.clone());
        }
    }

    pub(super) fn went_with(&self, it: &Running, then: &Device, went: &Went) -> Result<Act, Need> {
        it.claim([it.device(&then.id)])?;
        let key = it.key(keys::DEVICE, &[then.id.as_bytes()]);
        let device: Option<Device> = it.seen.record(&key)?;
        let Some(mut device) = device.filter(|it| it.recipient == then.recipient) else {
            return Ok(Act::write(Vec::new(), Then::Nothing));
        };
        let mut changes = Vec::new();
        match went {
            // Who found that out tells of it, with what was sent.
            Went::Gone => self.remove_device(it, &device, &mut changes)?,
            Went::Well if device.state == DeviceState::Active && device.failures == 0 => {}
            Went::Well => {
                (device.state, device.failures) = (DeviceState::Active, 0);
                device.error_reason = None;
                changes.push(put(key, stored::encode(&device)));
            }
            Went::Badly(why) => {
                device.failures = device.failures.saturating_add(1);
                device.state = match device.failures >= self.settings.failures_max {
                    true => DeviceState::Failed,
                    false => DeviceState::Failing,
                };
                device.error_reason = Some(why.clone());
                changes.push(put(key, stored::encode(&device)));
            }
        }
        Ok(Act::write(changes, Then::Nothing))
    }
}

fn fits(device: &Device, filter: &DeviceFilter) -> bool {
    let DeviceFilter { client_id, device_id, platform, provider, state } = filter;
    client_id.as_ref().is_none_or(|it| device.client_id.as_ref() == Some(it))
        && device_id.as_ref().is_none_or(|it| device.id == *it)
        && platform.as_ref().is_none_or(|it| device.platform == *it)
        && provider.is_none_or(|it| device.recipient.provider() == it)
        && state.is_none_or(|it| device.state == it)
}

/// Lets a device in that has the token it was given.
pub(super) fn verify(device: &Device, identity: Option<&str>) -> Result<(), Refused> {
    let Some(identity) = identity else {
        return Err(Refused::new(401, "auth_failed", "the device's identity token is missing"));
    };
    let digest: [u8; 32] = Sha256::digest(identity.as_bytes()).into();
    match device.identity {
        Some(own) if bool::from(own.ct_eq(&digest)) => Ok(()),
        _ => Err(Refused::new(401, "auth_failed", "the device's identity token is another one")),
    }
}

pub(super) fn unknown() -> Refused {
    Refused::unknown("no such device is registered")
}

/// SHA-256 of a device's address, in hexadecimal digits.
pub(super) fn token_hash(device: &Device) -> String {
    let digest: [u8; 32] = Sha256::digest(device.recipient.address().as_bytes()).into();
    digest.iter().fold(String::with_capacity(64), |mut out, byte| {
        for digit in [byte >> 4, byte & 15] {
            out.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
        out
    })
}

fn digest_of(device: &Device) -> [u8; 32] {
    keys::address_digest(device.recipient.provider(), device.recipient.address())
}

/// A token as its device is told it.
pub(super) fn to_text(bytes: &[u8; 32]) -> String {
    let mut out = String::with_capacity(43);
    base64::encode(&mut out, bytes, Alphabet::Url);
    out
}
