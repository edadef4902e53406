//! Room: how much of memory and of requests one app may have, and devices that let go of memory while they wait.
//!
//! Whoever registers a device chooses who is asked to bring it something, so that an app may have any number of devices that
//! hang or are to be tried again later. None of that may keep another app waiting: one has three quarters of the devices in
//! memory and of the requests to a provider, at most. A device that is tried again in a while is *asleep*: of it stays what it
//! is called, and it is read again when its time has come.

use super::*;
use crate::outbound::push::provider::Address;
use crate::push::device::Device;
use crate::push::publish::Fate;
use crate::push::stored::decode;

use super::job::{Item, Stage};
use super::record::PAGE_DEVICES;

/// Devices that are asleep; one more stays awake.
pub const ASLEEP_MAX: usize = if cfg!(test) { 300 } else { 65_536 };
/// Who is tried again sooner stays awake.
const SLEEP_MIN: Millis = Millis(if cfg!(test) { 20 } else { 1_000 });

/// What of it all one app may have.
fn share(most: usize) -> usize {
    (most * 3 / 4).max(1)
}

/// What an app has.
#[derive(Debug, Default)]
pub struct Held {
    /// Devices in memory that are awake, and those that pages being read may bring.
    awake: usize,
    asleep: usize,
    /// Requests under way, by provider.
    flying: [u64; 6],
    /// Publishes that want to read on and may not, because the app has its share of memory.
    planning: Vec<u64>,
    /// Publishes that want to send and may not, because it has its share of requests; by provider.
    sending: [Vec<u64>; 6],
    /// Devices whose time has come and that are to be read again.
    waking: VecDeque<u64>,
}

impl Held {
    fn is_blank(&self) -> bool {
        self.awake + self.asleep == 0
            && self.flying.iter().sum::<u64>() == 0
            && self.planning.is_empty()
            && self.sending.iter().all(Vec::is_empty)
            && self.waking.is_empty()
    }
}

impl Jobs {
    /// Devices that an app may still have in memory.
    pub(super) fn room_of(&self, app: &str) -> usize {
        let awake = self.held.get(app).map_or(0, |it| it.awake);
        share(self.settings.pending_max as usize).saturating_sub(awake)
    }

    /// Whether that is room for so many, or for all that it may have if that is less.
    pub(super) fn has_room(&self, app: &str, devices: usize) -> bool {
        self.room_of(app) >= devices.min(share(self.settings.pending_max as usize))
    }

    /// An app has so many more devices in memory.
    pub(super) fn hold(&mut self, app: &Arc<str>, devices: usize) {
        self.held.entry(Arc::clone(app)).or_default().awake += devices;
    }

    /// It has so many less.
    pub(super) fn release(&mut self, app: &Arc<str>, devices: usize) {
        let Some(held) = self.held.get_mut(app) else { return };
        held.awake -= devices;
        if held.is_blank() {
            self.held.remove(app);
        }
    }

    /// A publish that has no room waits until its app has.
    pub(super) fn wait_for_room(&mut self, app: &Arc<str>, number: u64) {
        self.held.entry(Arc::clone(app)).or_default().planning.push(number);
    }

    /// Lets those read on that waited for room of their app's.
    pub(super) fn plan_again(&mut self, room_min: usize) {
        let is_let =
            |it: &(&Arc<str>, &Held)| !it.1.planning.is_empty() && self.has_room(it.0, room_min);
        let apps: Vec<_> = self.held.iter().filter(is_let).map(|it| Arc::clone(it.0)).collect();
        for app in apps {
            let Some(held) = self.held.get_mut(&app) else { continue };
            for number in std::mem::take(&mut held.planning) {
                self.planning.push(&app, number);
            }
        }
    }

    /// Whether one more request of an app to a provider may leave; if not, the publish waits until one comes back.
    pub(super) fn may_send(&mut self, app: &Arc<str>, number: u64, at: usize) -> bool {
        let most = share(self.settings.concurrency_max as usize) as u64;
        let held = self.held.entry(Arc::clone(app)).or_default();
        if held.flying[at] < most {
            return true;
        }
        held.sending[at].push(number);
        false
    }

    /// A request of an app's leaves.
    pub(super) fn take_off(&mut self, app: &Arc<str>, at: usize) {
        self.flying[at] += 1;
        self.held.entry(Arc::clone(app)).or_default().flying[at] += 1;
    }

    /// It is answered.
    pub(super) fn land(&mut self, app: &Arc<str>, at: usize) {
        self.flying[at] -= 1;
        let Some(held) = self.held.get_mut(app) else { return };
        held.flying[at] -= 1;
        for number in std::mem::take(&mut held.sending[at]) {
            self.sending[at].push(app, number);
        }
    }

    /// Takes a device out of memory.
    pub(super) fn take_item(&mut self, id: u64) -> Option<Item> {
        let item = self.items.remove(&id)?;
        let app = self.jobs.get(&item.job).map(|it| Arc::clone(&it.app));
        match app {
            Some(app) if item.is_asleep => {
                self.asleep -= 1;
                if let Some(held) = self.held.get_mut(&app) {
                    held.asleep -= 1;
                }
                self.release(&app, 0);
            }
            Some(app) => self.release(&app, 1),
            None => {}
        }
        Some(item)
    }

    /// Lets a device that waits for so long let go of what it holds, if it is one and there is room for it asleep.
    pub(super) fn fall_asleep(&mut self, id: u64, pause: Millis) {
        let Some(item) = self.items.get_mut(&id) else { return };
        let Some(job) = self.jobs.get(&item.job) else { return };
        let held = self.held.entry(Arc::clone(&job.app)).or_default();
        let is_full = self.asleep >= ASLEEP_MAX || held.asleep >= share(ASLEEP_MAX);
        if pause < SLEEP_MIN || item.device.is_none() || is_full {
            return;
        }
        (item.device, item.address) = (None, Address::Topic(String::new()));
        item.is_asleep = true;
        self.asleep += 1;
        held.asleep += 1;
        held.awake -= 1;
    }

    /// The time of a device that is asleep has come.
    pub(super) fn wake_device(&mut self, id: u64) {
        let Some(item) = self.items.get(&id) else { return };
        let Some(job) = self.jobs.get(&item.job) else { return };
        self.held.entry(Arc::clone(&job.app)).or_default().waking.push_back(id);
    }

    /// Reads devices again whose time has come, as far as there is room for them.
    pub(super) fn read_woken(&mut self, now: Now, out: &mut Vec<Step>) {
        let is_due = |it: &(&Arc<str>, &Held)| !it.1.waking.is_empty();
        let apps: Vec<_> = self.held.iter().filter(is_due).map(|it| Arc::clone(it.0)).collect();
        for app in apps {
            let taken = self.pending() + self.reserved;
            let room = (self.settings.pending_max as usize).saturating_sub(taken);
            let room = room.min(self.room_of(&app)).min(PAGE_DEVICES as usize);
            if room == 0 || self.pages >= PAGES_MAX || now.steady < self.store_at {
                continue;
            }
            let Some(held) = self.held.get_mut(&app) else { continue };
            let take = held.waking.len().min(room);
            let ids: Vec<u64> = held.waking.drain(..take).collect();
            let mut woken = Vec::with_capacity(ids.len());
            for id in ids {
                // It may have its outcome meanwhile.
                let Some(item) = self.items.get(&id).filter(|it| it.is_asleep) else { continue };
                woken.push((id, keys::key(keys::DEVICE, &app, &[item.key.as_bytes()], true)));
            }
            if woken.is_empty() {
                self.release(&app, 0);
                continue;
            }
            self.pages += 1;
            self.reserved += woken.len();
            self.hold(&app, woken.len());
            let ask_keys = woken.iter().map(|it| it.1.clone()).collect();
            let ask = Ask::Pick { shelf: Shelf::Push, keys: ask_keys };
            self.ask(Asked::Woken(app, woken), ask, out);
        }
    }

    /// Devices are read again: they can be sent to.
    pub(super) fn woken(
        &mut self,
        app: &Arc<str>,
        woken: Vec<(u64, Bytes)>,
        answer: Answer,
        now: Now,
    ) {
        self.pages -= 1;
        self.reserved -= woken.len();
        self.release(app, woken.len());
        let Answer::Values { values, .. } = answer else {
            self.store_at = now.steady + STORE_PAUSE;
            for (id, _) in woken {
                self.wake_device(id);
            }
            return;
        };
        let values: HashMap<Bytes, Bytes> = values.into_iter().collect();
        for (id, key) in woken {
            let Some(item) = self.items.get_mut(&id).filter(|it| it.is_asleep) else { continue };
            let device = values.get(&key).and_then(|it| decode::<Device>(it));
            match device.filter(|it| it.recipient.provider() == item.provider) {
                Some(mut device) => {
                    device.metadata = String::new();
                    item.address = Address::Recipient(device.recipient.clone());
                    item.device = Some(Box::new(device));
                    item.is_asleep = false;
                    self.asleep -= 1;
                    let held = self.held.entry(Arc::clone(app)).or_default();
                    held.asleep -= 1;
                    held.awake += 1;
                    self.ready_again(id);
                }
                // It is no more, or is another provider's now.
                None => {
                    item.stage = Stage::Ready;
                    self.finish(id, Fate::Gone, None, Some("not_registered".to_owned()), 0, now);
                }
            }
        }
    }
}
