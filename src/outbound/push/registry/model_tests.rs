//! The registry against plain maps: random orders, one after the other and all at once, while the store fails and the
//! process ends. A failure prints its seed.

use sha2::{Digest, Sha256};

use super::world::*;
use super::*;
use crate::base::prng::Prng;
use crate::push::device::{DeviceState, Recipient, Subscription};
use crate::push::order::{Change, DeviceFilter, Registrar};
use crate::store::memory::Outcome;

const APPS: [&str; 2] = [APP, "other"];
const DEVICES: [&str; 5] = ["a", "b", "c", "d", "e"];
const ADDRESSES: [&str; 4] = ["1", "2", "3", "4"];
const CLIENTS: [&str; 2] = ["x", "y"];
const CHANNELS: [&str; 3] = ["m", "n", "o"];

fn one<'a>(dice: &mut Prng, of: &[&'a str]) -> &'a str {
    of[dice.below(of.len() as u64) as usize]
}

/// Who asks: mostly the application; sometimes the device, with its token or another one.
fn registrar(dice: &mut Prng, model: &Dump, tokens: &[String], app: &str, id: &str) -> Registrar {
    let is_rotated = dice.chance(1, 8);
    if dice.chance(2, 3) {
        return Registrar::Admin { is_rotated };
    }
    let own = model.devices.get(&(app.into(), id.into())).and_then(|it| it.identity);
    let is_own = |it: &&String| own == Some(Sha256::digest(it.as_bytes()).into());
    let identity = match dice.below(4) {
        0 => None,
        1 => Some("wrong".to_owned()),
        _ => tokens.iter().find(is_own).cloned(),
    };
    Registrar::Device { identity, is_rotated }
}

fn draw(
    dice: &mut Prng,
    model: &Dump,
    tokens: &[String],
    is_single: bool,
) -> (&'static str, Order) {
    let app = APPS[usize::from(dice.chance(1, 5))];
    let id = one(dice, &DEVICES).to_owned();
    let channel = one(dice, &CHANNELS).to_owned();
    let by = registrar(dice, model, tokens, app, &id);
    let order = match dice.below(if is_single { 14 } else { 10 }) {
        0..4 => {
            let mut device = device(&id, one(dice, &ADDRESSES));
            if dice.chance(1, 4) {
                device.recipient = Recipient::Apns { token: one(dice, &ADDRESSES).to_owned() };
            }
            if dice.chance(2, 3) {
                device.client_id = Some(one(dice, &CLIENTS).to_owned());
            }
            Order::Register(Box::new(device), by)
        }
        4..7 => {
            let mut order = subscribe(&channel, &id);
            if let Order::Subscribe { registrar, credential_version, provider, .. } = &mut order {
                *registrar = by;
                *credential_version = dice.chance(1, 5).then_some(1);
                *provider = dice.chance(1, 5).then_some(Provider::Fcm);
            }
            order
        }
        7 => Order::Unregister(id, by),
        8 => Order::Unsubscribe { channel: Some(channel), device_id: Some(id), registrar: by },
        9 => Order::Unsubscribe { channel: None, device_id: Some(id), registrar: by },
        10 => Order::Unsubscribe { channel: Some(channel), device_id: None, registrar: admin() },
        11 => Order::UnregisterClient(one(dice, &CLIENTS).to_owned()),
        12 => Order::Device(id),
        _ => Order::Subscriptions { channel: Some(channel), device_id: None, page: page(100) },
    };
    (app, order)
}

impl Dump {
    fn forget(&mut self, app: &str, id: &str) -> u64 {
        let before = self.subscriptions.len();
        self.subscriptions.retain(|(of, _, device), _| of != app || device != id);
        self.devices.remove(&(app.to_owned(), id.to_owned()));
        (before - self.subscriptions.len()) as u64
    }

    /// What an order does, said as simply as can be. `Err`: the status.
    fn apply(&mut self, caller: u64, app: &str, order: &Order, wall: u64) -> Result<Told, u16> {
        let at = |id: &str| (app.to_owned(), id.to_owned());
        let check = |device: Option<&Device>, by: &Registrar, none: u16| match (by, device) {
            (Registrar::Admin { .. }, _) => Ok(()),
            (Registrar::Device { .. }, None) => Err(none),
            (Registrar::Device { identity, .. }, Some(device)) => {
                let digest = identity.as_ref().map(|it| Sha256::digest(it.as_bytes()).into());
                if digest.is_some() && digest == device.identity { Ok(()) } else { Err(401) }
            }
        };
        match order {
            Order::Register(new, by) => {
                let old = self.devices.get(&at(&new.id)).cloned();
                check(old.as_ref(), by, 403)?;
                let mut device = (**new).clone();
                if let Registrar::Device { .. } = by {
                    let client = &old.as_ref().unwrap().client_id;
                    if device.client_id.is_some() && device.client_id != *client {
                        return Err(403);
                    }
                    device.client_id.clone_from(client);
                }
                let (Registrar::Admin { is_rotated } | Registrar::Device { is_rotated, .. }) = by;
                let own = old.as_ref().and_then(|it| it.identity).filter(|_| !is_rotated);
                let identity = own.is_none().then(|| identity_of(caller));
                device.identity = own.or(identity.as_ref().map(|it| Sha256::digest(it).into()));
                (device.created_at, device.updated_at) = (wall, wall);
                let owner = self.devices.iter().find(|((of, _), it)| {
                    of == app
                        && it.recipient.provider() == new.recipient.provider()
                        && it.recipient.address() == new.recipient.address()
                });
                let replaced = owner.map(|((_, id), _)| id.clone()).filter(|id| *id != new.id);
                let mut change = Change::Inserted;
                if let Some(old) = &old {
                    device.created_at = old.created_at;
                    change = Change::Updated;
                    let as_before = Device { updated_at: old.updated_at, ..device.clone() };
                    if as_before == *old && replaced.is_none() {
                        (change, device) = (Change::Unchanged, as_before);
                    }
                }
                if let Some(other) = &replaced {
                    self.forget(app, other);
                }
                let token_hash = devices::token_hash(&device);
                for ((of, _, id), row) in &mut self.subscriptions {
                    if of == app && *id == device.id {
                        row.token_hash.clone_from(&token_hash);
                        row.provider = device.recipient.provider();
                    }
                }
                self.devices.insert(at(&device.id), device.clone());
                let device = Box::new(device);
                Ok(Told::Registered { change, device, token_hash, identity, replaced })
            }
            Order::Unregister(id, by) => {
                check(self.devices.get(&at(id)), by, 404)?;
                let is_there = self.devices.contains_key(&at(id));
                self.forget(app, id);
                Ok(Told::Removed(u64::from(is_there)))
            }
            Order::Subscribe {
                channel,
                device_id,
                provider,
                credential_version,
                registrar,
                ..
            } => {
                let device = self.devices.get(&at(device_id)).ok_or(404_u16)?;
                check(Some(device), registrar, 404)?;
                let own = device.recipient.provider();
                if provider.is_some_and(|it| it != own) {
                    return Err(400);
                }
                let key = (app.to_owned(), channel.clone(), device_id.clone());
                let row = Subscription {
                    channel: channel.clone(),
                    device_id: device_id.clone(),
                    client_id: device.client_id.clone(),
                    provider: own,
                    token_hash: devices::token_hash(device),
                    credential_version: *credential_version,
                    created_at: self.subscriptions.get(&key).map_or(wall, |it| it.created_at),
                };
                self.subscriptions.insert(key, row.clone());
                Ok(Told::Subscribed(Box::new(row)))
            }
            Order::Unsubscribe { channel, device_id, registrar } => {
                if let Some(id) = device_id {
                    check(self.devices.get(&at(id)), registrar, 404)?;
                }
                let before = self.subscriptions.len();
                self.subscriptions.retain(|(of, c, d), _| {
                    of != app
                        || channel.as_ref().is_some_and(|it| it != c)
                        || device_id.as_ref().is_some_and(|it| it != d)
                });
                Ok(Told::Removed((before - self.subscriptions.len()) as u64))
            }
            Order::UnregisterClient(client) => {
                let of = |((of, _), it): &(&(String, String), &Device)| {
                    of == app && it.client_id.as_ref() == Some(client)
                };
                let gone: Vec<_> =
                    self.devices.iter().filter(of).map(|it| it.0.1.clone()).collect();
                for id in &gone {
                    self.forget(app, id);
                }
                Ok(Told::Removed(gone.len() as u64))
            }
            Order::Device(id) => {
                let device = self.devices.get(&at(id)).cloned().ok_or(404_u16)?;
                Ok(Told::Device(Box::new(device)))
            }
            Order::Subscriptions { channel: Some(channel), .. } => {
                let of = |it: &&(String, String, String)| it.0 == app && it.1 == *channel;
                let keys = self.subscriptions.keys().filter(of);
                let rows = keys.map(|key| self.subscriptions[key].clone()).collect();
                Ok(Told::Subscriptions(crate::push::order::Page { rows, next: None }))
            }
            other => panic!("{other:?}"),
        }
    }
}

fn as_status(told: Result<Told, Refused>) -> Result<Told, u16> {
    told.map_err(|it| it.status)
}

fn keep_token(tokens: &mut Vec<String>, told: &Result<Told, u16>) {
    if let Ok(Told::Registered { identity: Some(token), .. }) = told {
        tokens.push(token.clone());
    }
}

#[test]
fn one_after_the_other_is_as_the_model_says_whatever_the_store_does() {
    for seed in 0..30 {
        let mut world = World::new(settings(), seed);
        let mut dice = Prng::new(seed ^ 0x5eed);
        let (mut model, mut tokens) = (Dump::default(), Vec::new());
        for step in 0..250 {
            match dice.below(30) {
                0 => world.memory.expect([Outcome::FailsBefore]),
                1 => world.memory.expect([Outcome::FailsAfter]),
                2 => world.is_full = dice.chance(1, 2),
                3 => world.is_away = dice.chance(1, 3),
                4 => world.crash(),
                _ => world.pass(dice.below(1_000)),
            }
            let (app, order) = draw(&mut dice, &model, &tokens, true);
            let caller = world.send_as(app, order.clone());
            if dice.chance(1, 20) {
                for _ in 0..dice.below(8) {
                    world.turn();
                }
                world.crash();
                world.settle();
            } else {
                world.settle();
            }
            let told = world.told.pop_front().map(|(who, told)| {
                assert_eq!(who, caller, "seed {seed} step {step}");
                as_status(told)
            });
            assert!(world.told.is_empty());
            let mut after = model.clone();
            let expected = after.apply(caller, app, &order, world.now.wall.0);
            let dump = world.dump();
            match told {
                Some(Err(503)) | None => {
                    // What was done cannot be known from outside, but it is all or nothing.
                    let is_either = dump == model || dump == after;
                    assert!(is_either, "seed {seed} step {step}: half of {order:?}");
                    if dump == after && dump != model {
                        keep_token(&mut tokens, &expected);
                    }
                }
                Some(told) => {
                    assert_eq!(told, expected, "seed {seed} step {step}: {order:?}");
                    assert_eq!(dump, after, "seed {seed} step {step}: {order:?}");
                    keep_token(&mut tokens, &told);
                }
            }
            model = dump;
        }
        assert!(!tokens.is_empty());
    }
}

#[test]
fn all_at_once_is_as_if_each_came_when_it_was_answered() {
    for seed in 0..30 {
        let mut world = World::new(settings(), seed);
        world.settle();
        let mut dice = Prng::new(seed ^ 0xa11);
        let (mut model, mut tokens) = (Dump::default(), Vec::new());
        let mut orders = HashMap::new();
        let mut answered = 0;
        for _ in 0..600 {
            if dice.chance(1, 3) {
                let (app, order) = draw(&mut dice, &model, &tokens, false);
                let caller = world.send_as(app, order.clone());
                orders.insert(caller, (app, order));
            } else if !world.turn() {
                world.pass(dice.below(100));
            }
            while let Some((caller, told)) = world.told.pop_front() {
                let told = as_status(told);
                let (app, order) = orders.remove(&caller).expect("one answer each");
                let expected = model.apply(caller, app, &order, world.now.wall.0);
                assert_eq!(told, expected, "seed {seed}: {order:?}");
                keep_token(&mut tokens, &told);
                answered += 1;
            }
        }
        world.settle();
        while let Some((caller, told)) = world.told.pop_front() {
            let (app, order) = orders.remove(&caller).expect("one answer each");
            let expected = model.apply(caller, app, &order, world.now.wall.0);
            assert_eq!(as_status(told), expected, "seed {seed}: {order:?}");
            answered += 1;
        }
        assert!(orders.is_empty() && answered > 100, "seed {seed}: every order is answered");
        assert_eq!(world.dump(), model, "seed {seed}");
    }
}

#[test]
fn whatever_comes_at_once_and_fails_leaves_nothing_half_done() {
    for seed in 0..30 {
        let mut world = World::new(settings(), seed);
        let mut dice = Prng::new(seed ^ 0xfa17);
        let (mut open, mut tokens) = (std::collections::BTreeSet::new(), Vec::new());
        for _ in 0..500 {
            match dice.below(60) {
                0 => world.memory.expect([Outcome::FailsBefore]),
                1 => world.memory.expect([Outcome::FailsAfter]),
                2 => world.is_full = dice.chance(1, 3),
                3 => {
                    world.crash();
                    open.clear();
                }
                4..8 => {
                    let dump = world.dump();
                    let of_app: Vec<_> = dump.devices.iter().filter(|it| it.0.0 == APP).collect();
                    let went = [Went::Gone, Went::Well, Went::Badly("why".into())];
                    if !of_app.is_empty() {
                        let (_, device) = of_app[dice.below(of_app.len() as u64) as usize];
                        world.went(device, went[dice.below(3) as usize].clone());
                    }
                }
                8..30 => {
                    let none = Dump::default();
                    let (app, order) = draw(&mut dice, &none, &tokens, true);
                    open.insert(world.send_as(app, order));
                }
                _ => {
                    world.turn();
                }
            }
            while let Some((caller, told)) = world.told.pop_front() {
                assert!(open.remove(&caller), "seed {seed}: one answer each");
                keep_token(&mut tokens, &as_status(told));
            }
            world.dump();
        }
        world.settle();
        for (caller, _) in std::mem::take(&mut world.told) {
            assert!(open.remove(&caller), "seed {seed}");
        }
        assert!(open.is_empty(), "seed {seed}: every order is answered");
        let dump = world.dump();
        world.is_full = false;
        let ids: Vec<_> =
            dump.devices.keys().filter(|it| it.0 == APP).map(|it| it.1.clone()).collect();
        assert_eq!(device_list(&mut world, &DeviceFilter::default(), 2), ids, "seed {seed}");
    }
}

#[test]
fn a_device_that_fails_too_often_is_left_out_until_it_registers_again() {
    let mut world = World::new(settings(), 1);
    world.register(device("a", "1")).unwrap();
    let mut states = Vec::new();
    for went in ["late", "late", "no", "well", "no"] {
        let device = world.dump().devices.values().next().unwrap().clone();
        let went = if went == "well" { Went::Well } else { Went::Badly(went.into()) };
        world.went(&device, went);
        world.settle();
        let device = world.dump().devices.values().next().unwrap().clone();
        states.push((device.state.as_str(), device.failures, device.error_reason));
    }
    let why = |it: &str| Some(it.to_owned());
    let expected = [
        ("FAILING", 1, why("late")),
        ("FAILING", 2, why("late")),
        ("FAILED", 3, why("no")),
        ("ACTIVE", 0, None),
        ("FAILING", 1, why("no")),
    ];
    assert_eq!(states, expected);
    world.register(device("a", "1")).unwrap();
    assert_eq!(world.dump().devices.values().next().unwrap().state, DeviceState::Active);
}
