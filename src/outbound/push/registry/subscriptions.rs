//! Channels that devices hear of. A subscription lies under its channel and under its device; how many a channel has is a
//! count beside them, and one that has none has no count.

use bytes::Bytes;

use super::devices::{CHANGES_MAX, SUBSCRIPTIONS_OF_DEVICE_MAX, token_hash, unknown, verify};
use super::order::{Act, Running, Then, add, put, remove};
use super::seen::{Need, Range};
use super::{Registry, keys};
use crate::base::time::Now;
use crate::push::Provider;
use crate::push::device::{Device, Subscription};
use crate::push::order::{Page, PageOf, Refused, Registrar, Told};
use crate::push::stored;
use crate::store::{self, Shelf};

/// Subscriptions of a channel removed in one commit; each claims its device.
const REMOVED_AT_ONCE: u32 = 256;
/// What counts of a device's subscriptions are under.
const COUNT_OF_SUBSCRIPTIONS: &[u8] = b"subscriptions";

/// What a device asks to hear of.
pub(super) struct Asked<'a> {
    pub channel: &'a str,
    pub device_id: &'a str,
    pub client_id: Option<&'a str>,
    pub provider: Option<Provider>,
    pub token_hash: Option<&'a str>,
    pub credential_version: Option<u64>,
    pub registrar: &'a Registrar,
}

impl Registry {
    pub(super) fn subscribe(&self, it: &Running, asked: &Asked<'_>, now: Now) -> Result<Act, Need> {
        let id = asked.device_id.as_bytes();
        it.claim([it.device(asked.device_id)])?;
        let of_device = it.key(keys::DEVICE, &[id]);
        let key = it.subscription(asked.channel, asked.device_id);
        let count = it.count_of(asked.device_id);
        it.seen.load(&[&of_device, &key, &count])?;
        let device: Device = it.seen.record(&of_device)?.ok_or_else(unknown)?;
        if let Registrar::Device { identity, .. } = asked.registrar {
            verify(&device, identity.as_deref())?;
        }
        let wrong =
            |what| Err(Refused::invalid(format!("{what} is not that of the device")).into());
        let client = asked.client_id;
        if client.is_some() && device.client_id.is_some() && client != device.client_id.as_deref() {
            return wrong("the client id");
        }
        let provider = device.recipient.provider();
        if asked.provider.is_some_and(|it| it != provider) {
            return wrong("the provider");
        }
        let token_hash = token_hash(&device);
        if asked.token_hash.is_some_and(|it| !it.eq_ignore_ascii_case(&token_hash)) {
            return wrong("the token hash");
        }
        let old: Option<Subscription> = it.seen.record(&key)?;
        let subscription = Subscription {
            channel: asked.channel.to_owned(),
            device_id: asked.device_id.to_owned(),
            client_id: client.map(str::to_owned).or(device.client_id),
            provider,
            token_hash,
            credential_version: asked.credential_version,
            created_at: old.as_ref().map_or(now.wall.0, |it| it.created_at),
        };
        let is_new = old.is_none();
        if is_new {
            let has = store::Change::count(it.seen.value(&count)?.map(|it| &**it));
            if has >= u64::from(SUBSCRIPTIONS_OF_DEVICE_MAX) {
                let text = format!(
                    "the device hears of {has} channels, no more than {SUBSCRIPTIONS_OF_DEVICE_MAX} are taken"
                );
                return Err(Refused::new(400, "limit_exceeded", text).into());
            }
        }
        let mut changes = Vec::new();
        if old.as_ref() != Some(&subscription) {
            changes.push(put(key, stored::encode(&subscription)));
        }
        if is_new {
            let of_device = it.key(keys::OF_DEVICE, &[id, asked.channel.as_bytes()]);
            changes.push(put(of_device, Bytes::new()));
            changes.push(add(&it.key(keys::CHANNEL, &[asked.channel.as_bytes()]), 1));
            changes.push(add(&count, 1));
        }
        Ok(Act::write(changes, Then::Tell(Told::Subscribed(Box::new(subscription)))))
    }

    pub(super) fn subscriptions(
        &self,
        it: &Running,
        channel: Option<&str>,
        device: Option<&str>,
        page: &PageOf,
    ) -> Result<Act, Need> {
        it.claim([it.seat()])?;
        let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
        if let (Some(channel), Some(device)) = (channel, device) {
            rows.extend(it.seen.record(&it.subscription(channel, device))?);
            return Ok(Act::tell(Told::Subscriptions(Page { rows, next: None })));
        }
        let prefix = match (channel, device) {
            (Some(channel), _) => it.prefix(keys::SUBSCRIPTION, &[channel.as_bytes()]),
            (None, Some(device)) => it.prefix(keys::OF_DEVICE, &[device.as_bytes()]),
            (None, None) => it.prefix(keys::SUBSCRIPTION, &[]),
        };
        let after = page.after.as_ref().map(|it| [&prefix[..], it].concat().into());
        let range = Range { prefix: prefix.clone(), after, rows_max: page.rows_max };
        let found = it.seen.range(range)?;
        let mut take = |key: &Bytes, value: &Bytes| match stored::decode(value) {
            Some(row) => rows.push(row),
            None => unreadable.push(key.escape_ascii().to_string()),
        };
        match device {
            Some(device) => {
                let channels = found.rows.iter().filter_map(|(key, _)| keys::rest(&prefix, key));
                let of: Vec<Bytes> =
                    channels.map(|channel| it.subscription(channel, device)).collect();
                it.seen.load(&of.iter().collect::<Vec<_>>())?;
                for key in &of {
                    it.seen.value(key)?.into_iter().for_each(|value| take(key, value));
                }
            }
            None => found.rows.iter().for_each(|(key, value)| take(key, value)),
        }
        let next = found.next(&prefix);
        Ok(Act::listed(Told::Subscriptions(Page { rows, next }), unreadable))
    }

    pub(super) fn channels(&self, it: &Running, page: &PageOf) -> Result<Act, Need> {
        it.claim([it.seat()])?;
        let prefix = it.prefix(keys::CHANNEL, &[]);
        let after = page.after.as_ref().map(|it| [&prefix[..], it].concat().into());
        let range = Range { prefix: prefix.clone(), after, rows_max: page.rows_max };
        let found = it.seen.range(range)?;
        let names = found.rows.iter().filter_map(|(key, _)| keys::rest(&prefix, key));
        let rows = names.map(str::to_owned).collect();
        Ok(Act::tell(Told::Channels(Page { rows, next: found.next(&prefix) })))
    }

    pub(super) fn unsubscribe(
        &self,
        it: &Running,
        channel: Option<&str>,
        device: Option<&str>,
        registrar: &Registrar,
    ) -> Result<Act, Need> {
        match (channel, device, registrar) {
            (None, None, _) => {
                let text = "a channel or a device is needed to end subscriptions";
                Err(Refused::invalid(text).into())
            }
            (Some(channel), None, Registrar::Admin { .. }) => self.unsubscribe_all(it, channel),
            (Some(_), None, Registrar::Device { .. }) => {
                let text = "push-subscribe ends subscriptions of its own device alone";
                Err(Refused::new(403, "forbidden", text).into())
            }
            (channel, Some(device), registrar) => {
                it.claim([it.device(device)])?;
                if let Registrar::Device { identity, .. } = registrar {
                    let key = it.key(keys::DEVICE, &[device.as_bytes()]);
                    let device: Device = it.seen.record(&key)?.ok_or_else(unknown)?;
                    verify(&device, identity.as_deref())?;
                }
                let mut changes = Vec::new();
                let mut removed = 0;
                match channel {
                    Some(channel) => {
                        if it.seen.value(&it.subscription(channel, device))?.is_some() {
                            it.remove_subscription(channel, device, &mut changes);
                            removed = 1;
                        }
                    }
                    None => {
                        let prefix = it.prefix(keys::OF_DEVICE, &[device.as_bytes()]);
                        let rows_max = SUBSCRIPTIONS_OF_DEVICE_MAX + 1;
                        let range = Range { prefix: prefix.clone(), after: None, rows_max };
                        for (key, _) in &it.seen.range(range)?.rows {
                            let Some(channel) = keys::rest(&prefix, key) else { continue };
                            it.remove_subscription(channel, device, &mut changes);
                            removed += 1;
                        }
                    }
                }
                Ok(Act::write(changes, Then::Tell(Told::Removed(removed))))
            }
        }
    }

    /// Ends subscriptions of a channel, some in each commit.
    fn unsubscribe_all(&self, it: &Running, channel: &str) -> Result<Act, Need> {
        const { assert!(REMOVED_AT_ONCE as usize * 4 <= CHANGES_MAX, "a commit has a bound") };
        let prefix = it.prefix(keys::SUBSCRIPTION, &[channel.as_bytes()]);
        let range = Range { prefix: prefix.clone(), after: None, rows_max: REMOVED_AT_ONCE };
        let found = it.seen.range(range)?;
        let devices: Vec<&str> =
            found.rows.iter().filter_map(|(key, _)| keys::rest(&prefix, key)).collect();
        it.claim(devices.iter().map(|id| it.device(id)))?;
        let mut changes = Vec::new();
        for device in &devices {
            it.remove_subscription(channel, device, &mut changes);
        }
        let removed = devices.len() as u64;
        Ok(Act::write(changes, Then::removed(it, removed, !found.has_more)))
    }
}

impl Running {
    /// The key of a subscription.
    pub(super) fn subscription(&self, channel: &str, device: &str) -> Bytes {
        self.key(keys::SUBSCRIPTION, &[channel.as_bytes(), device.as_bytes()])
    }

    /// The key of the count of a device's subscriptions.
    fn count_of(&self, device: &str) -> Bytes {
        self.key(keys::COUNT, &[COUNT_OF_SUBSCRIPTIONS, device.as_bytes()])
    }

    /// All that ends a subscription that is there.
    pub(super) fn remove_subscription(
        &self,
        channel: &str,
        device: &str,
        changes: &mut Vec<(Shelf, store::Change)>,
    ) {
        changes.push(remove(self.subscription(channel, device)));
        changes.push(remove(self.key(keys::OF_DEVICE, &[device.as_bytes(), channel.as_bytes()])));
        changes.push(add(&self.key(keys::CHANNEL, &[channel.as_bytes()]), -1));
        changes.push(add(&self.count_of(device), -1));
    }

    /// Goes through all subscriptions of a device whose line is the order's.
    pub(super) fn each_subscription(
        &self,
        device: &str,
        mut act: impl FnMut(&Bytes, Subscription),
    ) -> Result<(), Need> {
        let prefix = self.prefix(keys::OF_DEVICE, &[device.as_bytes()]);
        let rows_max = SUBSCRIPTIONS_OF_DEVICE_MAX + 1;
        let range = Range { prefix: prefix.clone(), after: None, rows_max };
        let found = self.seen.range(range)?;
        let channels = found.rows.iter().filter_map(|(key, _)| keys::rest(&prefix, key));
        let of: Vec<Bytes> = channels.map(|it| self.subscription(it, device)).collect();
        self.seen.load(&of.iter().collect::<Vec<_>>())?;
        for key in &of {
            if let Some(subscription) = self.seen.value(key)?.and_then(|it| stored::decode(it)) {
                act(key, subscription);
            }
        }
        Ok(())
    }
}
