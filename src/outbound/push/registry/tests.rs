//! Rules of registrations one by one; lists; bounds; credentials and templates.

use super::world::*;
use super::*;
use crate::push::credential::{CredentialFacts, DEFAULT_ID, Material};
use crate::push::device::{DeviceState, Recipient};
use crate::push::order::{Change, DeviceFilter, Page, PageOf, Registrar};
use crate::push::template::{Template, Text};

fn of_client(id: &str, token: &str, client: &str) -> Device {
    Device { client_id: Some(client.into()), ..device(id, token) }
}

fn status(told: Result<Told, Refused>) -> u16 {
    told.expect_err("refused").status
}

fn registered(told: Result<Told, Refused>) -> (Change, Device, Option<String>, Option<String>) {
    match told {
        Ok(Told::Registered { change, device, identity, replaced, .. }) => {
            (change, *device, identity, replaced)
        }
        other => panic!("{other:?}"),
    }
}

fn register_as(world: &mut World, device: Device, by: Registrar) -> Result<Told, Refused> {
    world.order(Order::Register(Box::new(device), by))
}

fn registrar(identity: Option<&str>, is_rotated: bool) -> Registrar {
    Registrar::Device { identity: identity.map(str::to_owned), is_rotated }
}

#[test]
fn a_registration_says_what_it_did_and_tells_a_token_once() {
    let mut world = World::new(settings(), 1);
    let (change, first, token, _) = registered(world.register(of_client("a", "t", "x")));
    assert_eq!((change, first.created_at), (Change::Inserted, START));
    let token = token.expect("a new device is told its token");
    assert_eq!(token.len(), 43, "32 bytes in base64url");
    world.pass(5);
    let (change, same, none, _) = registered(world.register(of_client("a", "t", "x")));
    assert_eq!((change, none), (Change::Unchanged, None));
    assert_eq!(same, first);
    let with_locale = Device { locale: "de".into(), ..of_client("a", "t", "x") };
    let (change, updated, none, _) = registered(world.register(with_locale));
    assert_eq!((change, none), (Change::Updated, None));
    assert_eq!((updated.created_at, updated.updated_at), (START, START + 5));
    let rotated = Registrar::Admin { is_rotated: true };
    let told = register_as(&mut world, of_client("a", "t", "x"), rotated);
    let second = registered(told).2.expect("a new token");
    assert_ne!(token, second);
    let by = |token: &str| registrar(Some(token), false);
    let told = register_as(&mut world, device("a", "t2"), by(&token));
    assert_eq!(status(told), 401, "the first token is no longer good");
    let (change, device, ..) = registered(register_as(&mut world, device("a", "t2"), by(&second)));
    assert_eq!((change, device.client_id.as_deref()), (Change::Updated, Some("x")));
    assert_eq!(world.counts.registered.load(Relaxed), 1);
}

#[test]
fn a_device_may_do_what_is_its_own_and_hears_why_not_else() {
    let mut world = World::new(settings(), 1);
    let token = registered(world.register(of_client("a", "1", "x"))).2.unwrap();
    registered(world.register(of_client("b", "2", "x")));
    let own = || itself(&token);
    let subscription = |by: Registrar, id: &str| {
        let Order::Subscribe { channel, device_id, .. } = subscribe("c", id) else { panic!() };
        let (client_id, provider, token_hash, credential_version) = (None, None, None, None);
        Order::Subscribe {
            channel,
            device_id,
            client_id,
            provider,
            token_hash,
            credential_version,
            registrar: by,
        }
    };
    let new = Box::new(device("new", "3"));
    let unsubscribe = |channel: Option<&str>, device: Option<&str>, registrar| {
        let own = |it: &str| it.to_owned();
        Order::Unsubscribe { channel: channel.map(own), device_id: device.map(own), registrar }
    };
    for (name, order, expected) in [
        ("register anew", Order::Register(new, own()), 403),
        ("take another client", Order::Register(Box::new(of_client("a", "1", "y")), own()), 403),
        (
            "without a token",
            Order::Register(Box::new(device("a", "1")), registrar(None, false)),
            401,
        ),
        ("the token of another", Order::Register(Box::new(device("b", "2")), own()), 401),
        ("remove another", Order::Unregister("b".into(), own()), 401),
        ("remove what is not there", Order::Unregister("z".into(), own()), 404),
        ("subscribe another", subscription(own(), "b"), 401),
        ("subscribe what is not there", subscription(own(), "z"), 404),
        ("subscribe without a token", subscription(registrar(None, false), "a"), 401),
        ("end all of a channel", unsubscribe(Some("c"), None, own()), 403),
        ("end those of another", unsubscribe(None, Some("b"), own()), 401),
        ("end all there is", unsubscribe(None, None, admin()), 400),
    ] {
        assert_eq!(status(world.order(order)), expected, "{name}");
    }
    world.order(subscription(own(), "a")).unwrap();
    assert_eq!(world.order(unsubscribe(Some("c"), Some("a"), own())), Ok(Told::Removed(1)));
    let rotated = register_as(&mut world, device("a", "1"), registrar(Some(&token), true));
    assert!(registered(rotated).2.is_some());
    assert_eq!(status(world.order(Order::Unregister("a".into(), own()))), 401);
}

#[test]
fn one_address_is_one_device() {
    let mut world = World::new(settings(), 1);
    registered(world.register(of_client("old", "t", "x")));
    for channel in ["m", "n"] {
        world.order(subscribe(channel, "old")).unwrap();
    }
    let (change, _, token, replaced) = registered(world.register(device("new", "t")));
    assert_eq!((change, replaced.as_deref()), (Change::Inserted, Some("old")));
    assert!(token.is_some());
    let dump = world.dump();
    assert_eq!((dump.devices.len(), dump.subscriptions.len()), (1, 0));
    let reports = world.values(Shelf::Outbox);
    let report = crate::broker::report::decode(&reports[0].1).expect("a report");
    assert_eq!((&*report.kind, reports.len()), (REMOVED, 1));
    let body = r#"{"app_id":"app","device_id":"old","client_id":"x","provider":"fcm","reason":"replaced"}"#;
    assert_eq!(report.body, body.as_bytes());
    // The same token of another provider, or in another app, is another address.
    let apns = Device { recipient: Recipient::Apns { token: "t".into() }, ..device("third", "") };
    assert_eq!(registered(world.register(apns)).3, None);
    let order = Order::Register(Box::new(device("new", "t")), admin());
    assert_eq!(registered(world.order_as("other", order)).3, None);
    assert_eq!(world.dump().devices.len(), 3);
}

#[test]
fn what_a_subscription_says_of_its_device_must_be_so() {
    let mut world = World::new(settings(), 1);
    let told = world.register(of_client("a", "t", "x"));
    let Ok(Told::Registered { token_hash, .. }) = told else { panic!("{told:?}") };
    let with = |client: Option<&str>, by: Option<Provider>, hash: Option<&str>| {
        let mut order = subscribe("c", "a");
        if let Order::Subscribe { client_id, provider, token_hash, .. } = &mut order {
            *client_id = client.map(str::to_owned);
            *provider = by;
            *token_hash = hash.map(str::to_owned);
        }
        order
    };
    assert_eq!(status(world.order(with(Some("y"), None, None))), 400);
    assert_eq!(status(world.order(with(None, Some(Provider::Apns), None))), 400);
    assert_eq!(status(world.order(with(None, None, Some("00")))), 400);
    assert_eq!(status(world.order(subscribe("c", "b"))), 404);
    let upper = token_hash.to_uppercase();
    let told = world.order(with(Some("x"), Some(Provider::Fcm), Some(&upper)));
    let Ok(Told::Subscribed(row)) = told else { panic!("{told:?}") };
    assert_eq!((row.token_hash, row.client_id.as_deref()), (token_hash, Some("x")));
    // The row goes where its device goes.
    registered(world.register(of_client("a", "another", "x")));
    let dump = world.dump();
    assert_eq!(dump.subscriptions.len(), 1);
}

#[test]
fn a_device_hears_of_a_bounded_number_of_channels_and_goes_with_all_of_them_at_once() {
    let mut world = World::new(settings(), 1);
    registered(world.register(device("a", "t")));
    for n in 0..SUBSCRIPTIONS_OF_DEVICE_MAX {
        world.order(subscribe(&format!("channel-{n}"), "a")).unwrap();
    }
    let told = world.order(subscribe("one-more", "a"));
    assert_eq!(told.as_ref().unwrap_err().code, "limit_exceeded");
    assert_eq!(status(told), 400);
    world.order(subscribe("channel-7", "a")).expect("one that is there");
    let commits = world.memory.commits();
    registered(world.register(device("a", "moved")));
    assert_eq!(world.memory.commits(), commits + 1);
    world.dump();
    assert_eq!(world.order(Order::Unregister("a".into(), admin())), Ok(Told::Removed(1)));
    assert_eq!(world.memory.commits(), commits + 2);
    assert_eq!(world.dump(), Dump::default());
}

#[test]
fn a_channel_ends_in_commits_of_bounded_size_while_others_subscribe() {
    let mut world = World::new(settings(), 1);
    for n in 0..700 {
        world.send(Order::Register(Box::new(device(&format!("d{n}"), &n.to_string())), admin()));
    }
    world.settle();
    for n in 0..699 {
        world.send(subscribe("c", &format!("d{n}")));
        world.send(subscribe("other", &format!("d{n}")));
    }
    world.settle();
    world.told.clear();
    let commits = world.memory.commits();
    let channel = Some("c".to_owned());
    let end = world.send(Order::Unsubscribe { channel, device_id: None, registrar: admin() });
    let late = world.send(subscribe("c", "d699"));
    world.settle();
    assert!(world.memory.commits() >= commits + 3);
    let told: HashMap<u64, _> = world.told.drain(..).collect();
    assert!(matches!(told[&late], Ok(Told::Subscribed(_))));
    let left = world.dump().subscriptions.keys().filter(|it| it.1 == "c").count() as u64;
    assert_eq!(told[&end], Ok(Told::Removed(700 - left)));
    assert_eq!(world.dump().subscriptions.len() as u64, 699 + left);
}

#[test]
fn all_devices_of_a_client_go() {
    let mut world = World::new(settings(), 1);
    for n in 0..50 {
        registered(world.register(of_client(&format!("d{n}"), &n.to_string(), "x")));
        world.order(subscribe("c", &format!("d{n}"))).unwrap();
    }
    registered(world.register(of_client("left", "left", "xy")));
    assert_eq!(world.order(Order::UnregisterClient("x".into())), Ok(Told::Removed(50)));
    assert_eq!(world.order(Order::UnregisterClient("x".into())), Ok(Told::Removed(0)));
    let dump = world.dump();
    assert_eq!((dump.devices.len(), dump.subscriptions.len()), (1, 0));
}

#[test]
fn lists_come_in_pages_and_filters_hold_together() {
    let mut world = World::new(settings(), 1);
    let mut names = Vec::new();
    for n in 0..60 {
        let mut device = device(&format!("d{n:02}"), &n.to_string());
        device.client_id = (n % 2 == 0).then(|| "x".to_owned());
        device.platform = if n % 3 == 0 { "ios" } else { "android" }.to_owned();
        if n % 5 == 0 {
            device.recipient = Recipient::Apns { token: n.to_string() };
            device.state = DeviceState::Failed;
        }
        registered(world.register(device));
        world.order(subscribe(&format!("c{}", n % 7), &format!("d{n:02}"))).unwrap();
        names.push(format!("d{n:02}"));
    }
    let of = |keep: &dyn Fn(usize) -> bool| -> Vec<String> {
        let kept = names.iter().enumerate().filter(|(n, _)| keep(*n));
        kept.map(|(_, name)| name.clone()).collect()
    };
    let client_id = Some("x".to_owned());
    let ios = Some("ios".to_owned());
    let provider = Some(Provider::Apns);
    let state = Some(DeviceState::Failed);
    let none = DeviceFilter::default;
    for (filter, expected) in [
        (none(), of(&|_| true)),
        (DeviceFilter { client_id: client_id.clone(), ..none() }, of(&|n| n % 2 == 0)),
        (DeviceFilter { platform: ios.clone(), ..none() }, of(&|n| n % 3 == 0)),
        (DeviceFilter { provider, ..none() }, of(&|n| n % 5 == 0)),
        (DeviceFilter { state, ..none() }, of(&|n| n % 5 == 0)),
        (DeviceFilter { client_id, platform: ios, state, ..none() }, of(&|n| n % 30 == 0)),
        (DeviceFilter { device_id: Some("d07".into()), ..none() }, of(&|n| n == 7)),
        (DeviceFilter { device_id: Some("d07".into()), provider, ..none() }, of(&|_| false)),
        (DeviceFilter { client_id: Some("nobody".into()), ..none() }, of(&|_| false)),
    ] {
        for rows_max in [1, 7, 30, 60, 1000] {
            assert_eq!(device_list(&mut world, &filter, rows_max), expected, "{filter:?}");
        }
    }
    for rows_max in [1, 4, 100] {
        let channels = all(&mut world, rows_max, Order::Channels, |told| match told {
            Told::Channels(page) => page,
            other => panic!("{other:?}"),
        });
        assert_eq!(channels, ["c0", "c1", "c2", "c3", "c4", "c5", "c6"]);
        let list = |world: &mut World, channel: Option<&str>, device: Option<&str>| {
            let (channel, device_id) = (channel.map(str::to_owned), device.map(str::to_owned));
            let ask = |page| Order::Subscriptions {
                channel: channel.clone(),
                device_id: device_id.clone(),
                page,
            };
            let rows = all(world, rows_max, ask, |told| match told {
                Told::Subscriptions(page) => page,
                other => panic!("{other:?}"),
            });
            rows.into_iter().map(|it| (it.channel, it.device_id)).collect::<Vec<_>>()
        };
        assert_eq!(list(&mut world, None, None).len(), 60);
        assert_eq!(list(&mut world, Some("c6"), None).len(), 8);
        let row = ("c3".to_owned(), "d10".to_owned());
        let of_device = list(&mut world, None, Some("d10"));
        assert_eq!(of_device, list(&mut world, Some("c3"), Some("d10")));
        assert_eq!(of_device, [row]);
        assert_eq!(list(&mut world, Some("c4"), Some("d10")), []);
    }
    // What is no cursor of ours is a place like any other, and none of another app.
    let order = Order::Register(Box::new(device("e", "e")), admin());
    registered(world.order_as("apq", order));
    for after in ["", "\0", "zzz", "d30", "\u{ff}"] {
        let page = PageOf { after: Some(after.to_owned().into()), rows_max: 100 };
        let told = world.order(Order::Devices(none(), page));
        let Ok(Told::Devices(Page { rows, next: None })) = told else { panic!("{told:?}") };
        assert!(rows.iter().all(|it| it.id.starts_with('d')));
    }
}

#[test]
fn a_list_looks_at_a_bounded_number_of_rows() {
    let mut world = World::new(settings(), 1);
    let devices = SCAN_ROWS_MAX + 700;
    for n in 0..devices {
        let mut device = device(&format!("d{n:06}"), &n.to_string());
        if n + 1 == devices {
            device.platform = "ios".into();
        }
        world.send(Order::Register(Box::new(device), admin()));
        if n % 1_000 == 0 {
            world.settle();
        }
    }
    world.settle();
    assert_eq!(world.told.len(), devices);
    world.told.clear();
    let filter = DeviceFilter { platform: Some("ios".into()), ..DeviceFilter::default() };
    let told = world.order(Order::Devices(filter.clone(), page(10)));
    let Ok(Told::Devices(Page { rows, next: Some(_) })) = told else { panic!("{told:?}") };
    assert_eq!(rows, []);
    assert_eq!(device_list(&mut world, &filter, 10), [format!("d{:06}", devices - 1)]);
}

#[test]
fn an_app_has_so_many_devices_and_not_one_more() {
    let mut world = World::new(PushSettings { devices_max: 20, ..settings() }, 7);
    for n in 0..50 {
        let device = device(&format!("d{n}"), &n.to_string());
        world.send(Order::Register(Box::new(device), admin()));
    }
    world.settle();
    let told: Vec<_> = world.told.drain(..).map(|it| it.1).collect();
    assert_eq!(told.iter().filter(|it| it.is_ok()).count(), 20);
    let refused = told.into_iter().filter_map(Result::err);
    assert!(refused.map(|it| (it.status, it.code)).all(|it| it == (400, "limit_exceeded")));
    assert_eq!(world.dump().devices.len(), 20);
    // One in the place of another is none more, and so is a change.
    let dump = world.dump();
    let there = dump.devices.values().next().unwrap().clone();
    let again = Device { id: "another".into(), ..there.clone() };
    assert_eq!(registered(world.register(again)).3, Some(there.id));
    assert_eq!(status(world.register(device("more", "more"))), 400);
}

#[test]
fn thousands_are_under_way_at_once_and_what_is_over_the_bounds_is_refused() {
    let mut world = World::new(settings(), 1);
    world.settle();
    let sent = ORDERS_MAX + ORDERS_WAITING_MAX + 10;
    for n in 0..sent {
        let device = device(&format!("d{n}"), &n.to_string());
        world.send(Order::Register(Box::new(device), admin()));
    }
    assert_eq!(world.told.len(), 10);
    let refused = world.told.drain(..).map(|it| it.1.unwrap_err());
    assert!(refused.into_iter().all(|it| it.status == 503 && it.retry_after.is_some()));
    // Each needs one look and one commit of its own.
    let asked = world.asked;
    world.settle();
    assert_eq!(world.told.len(), sent - 10);
    assert!(world.told.drain(..).all(|it| it.1.is_ok()));
    assert_eq!(world.asked - asked + ORDERS_MAX, 2 * (sent - 10));
    // Those that change one device wait for each other, up to a bound.
    for n in 0..claims::LINE_MAX + 5 {
        let device = Device { locale: n.to_string(), ..device("d0", "0") };
        world.send(Order::Register(Box::new(device), admin()));
    }
    assert_eq!(world.told.len(), 5);
    world.settle();
    assert_eq!(world.told.iter().filter(|it| it.1.is_ok()).count(), claims::LINE_MAX);
}

#[test]
fn what_sending_found_out_is_forgotten_rather_than_kept_without_bound() {
    let mut world = World::new(settings(), 1);
    registered(world.register(device("a", "1")));
    world.order(subscribe("c", "a")).unwrap();
    let there = world.dump().devices.values().next().unwrap().clone();
    for _ in 0..20_000 {
        world.went(&there, Went::Well);
    }
    assert!(world.registry.went_waiting.len() <= WENT_WAITING_MAX);
    world.settle();
    // One that took another address since is another one.
    let moved = registered(world.register(device("a", "2"))).1;
    world.went(&there, Went::Gone);
    world.settle();
    assert_eq!(world.dump().devices.len(), 1);
    world.went(&moved, Went::Gone);
    world.went(&moved, Went::Gone);
    world.went(&moved, Went::Badly("late".into()));
    world.settle();
    assert_eq!(world.dump(), Dump::default());
    assert!(world.values(Shelf::Outbox).is_empty(), "who found it out reports it");
}

#[test]
fn a_store_that_is_full_or_away_is_named() {
    let mut world = World::new(settings(), 1);
    registered(world.register(device("a", "1")));
    world.order(subscribe("c", "a")).unwrap();
    let before = world.dump();
    world.is_full = true;
    let refused = world.register(device("b", "2")).unwrap_err();
    assert_eq!((refused.status, refused.retry_after), (503, Some(1000)));
    assert!(refused.text.contains("the disk's bound is reached"), "{}", refused.text);
    assert_eq!(world.dump(), before);
    world.order(Order::Unregister("a".into(), admin())).expect("removals make room");
    world.is_full = false;
    world.is_away = true;
    let refused = world.order(Order::Device("a".into())).unwrap_err();
    assert_eq!((refused.status, refused.code), (503, "service_unavailable"));
}

#[test]
fn a_record_that_cannot_be_read_is_left_out_of_lists_and_named() {
    let mut world = World::new(settings(), 1);
    for id in ["a", "b", "c"] {
        registered(world.register(device(id, id)));
    }
    world.write(keys::key(keys::DEVICE, APP, &[b"b"], true), b"\x01nonsense");
    assert_eq!(device_list(&mut world, &DeviceFilter::default(), 10), ["a", "c"]);
    assert!(matches!(&world.notes[..], [Note::Unreadable(key)] if key.ends_with('b')));
    assert_eq!(status(world.order(Order::Device("b".into()))), 500);
    assert_eq!(status(world.register(device("b", "b"))), 500);
    registered(world.register(device("c", "other")));
}

#[test]
fn devices_that_take_one_address_at_once_all_register() {
    let mut world = World::new(settings(), 1);
    world.settle();
    let callers: Vec<u64> = (0..claims::LINE_MAX)
        .map(|n| world.send(Order::Register(Box::new(device(&format!("d{n}"), "same")), admin())))
        .collect();
    world.settle();
    assert_eq!(world.told.len(), callers.len());
    for (_, told) in std::mem::take(&mut world.told) {
        registered(told);
    }
    assert_eq!(device_list(&mut world, &DeviceFilter::default(), 100).len(), 1);
}

fn hms(secret: &str) -> Box<Material> {
    Box::new(Material::Hms { app_id: "1".into(), client_secret: secret.into() })
}

fn put(id: &str, version: Option<u64>, material: Box<Material>) -> Order {
    Order::PutCredential { id: id.to_owned(), version, material }
}

fn facts(told: Result<Told, Refused>) -> CredentialFacts {
    match told {
        Ok(Told::Credential(facts)) => facts,
        other => panic!("{other:?}"),
    }
}

fn listed(world: &mut World) -> Vec<(String, u64)> {
    match world.order(Order::Credentials) {
        Ok(Told::Credentials(facts)) => facts.into_iter().map(|it| (it.id, it.version)).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn credentials_are_sealed_opened_and_forgotten() {
    let mut world = World::new(settings(), 1);
    let find = |world: &World, id: Option<&str>| {
        let found = world.registry.credential(APP, Provider::Hms, id);
        found.map(|it| (it.id.clone(), it.version))
    };
    assert_eq!(find(&world, None), Err(NoCredential::NotYet));
    world.settle();
    assert!(world.registry.take_changed() && !world.registry.take_changed());
    assert_eq!(find(&world, None), Err(NoCredential::Missing));
    assert_eq!(facts(world.order(put("one", None, hms("s")))).version, 1);
    assert!(world.registry.take_changed());
    let of = |id: &str, version| Ok((id.to_owned(), version));
    assert_eq!(find(&world, None), of("one", 1), "the only ones");
    assert_eq!(find(&world, Some(DEFAULT_ID)), Err(NoCredential::Missing));
    assert_eq!(facts(world.order(put("one", None, hms("s")))).version, 1, "the same");
    assert!(!world.registry.take_changed());
    assert_eq!(facts(world.order(put("one", None, hms("t")))).version, 2);
    assert_eq!(facts(world.order(put("one", Some(9), hms("t")))).version, 9);
    assert_eq!(facts(world.order(put("one", Some(3), hms("u")))).version, 10, "it goes up");
    assert_eq!(facts(world.order(put("two", Some(5), hms("2")))).version, 5);
    assert_eq!(find(&world, None), Err(NoCredential::Missing), "which of them?");
    assert_eq!(facts(world.order(put(DEFAULT_ID, None, hms("d")))).version, 1);
    assert_eq!(find(&world, None), of(DEFAULT_ID, 1));
    assert_eq!(find(&world, Some("one")), of("one", 10));
    let wns = Material::Wns { package_sid: "ms-app://s-1".into(), client_secret: "s".into() };
    facts(world.order(put("windows", None, Box::new(wns))));
    assert_eq!(find(&world, Some("windows")), of(DEFAULT_ID, 1), "another provider's");
    assert_eq!(find(&world, Some("nobody")), Err(NoCredential::Missing));
    world.order(Order::RemoveCredential(Provider::Wns, "windows".into())).unwrap();
    let all = [(DEFAULT_ID.to_owned(), 1), ("one".to_owned(), 10), ("two".to_owned(), 5)];
    assert_eq!(listed(&mut world), all);
    let stored = world.values(Shelf::Push);
    assert!(!stored.iter().any(|(_, value)| value.windows(2).any(|it| it == b"uu")));
    world.crash();
    world.settle();
    assert_eq!(find(&world, Some("one")), of("one", 10));
    let gone = Order::RemoveCredential(Provider::Hms, "one".into());
    assert_eq!(world.order(gone.clone()), Ok(Told::Removed(1)));
    assert_eq!(world.order(gone), Ok(Told::Removed(0)));
    assert_eq!(find(&world, Some("one")), Err(NoCredential::Missing));
    // Another key opens nothing; what there is can still be seen and replaced.
    world.settings.encryption_key = Some(crate::config::Secret(format!("another {KEY}")));
    world.crash();
    world.settle();
    assert_eq!(find(&world, None), Err(NoCredential::Sealed));
    assert_eq!(listed(&mut world).len(), 2);
    let sealed = |it: &&Note| matches!(it, Note::CredentialsSealed(of, _) if of == "app/hms");
    assert_eq!(world.notes.iter().filter(sealed).count(), 1, "a person hears of it");
    assert_eq!(facts(world.order(put(DEFAULT_ID, None, hms("d")))).version, 2);
    assert_eq!(find(&world, None), of(DEFAULT_ID, 2));
    // Without a key none are taken.
    world.settings.encryption_key = None;
    world.crash();
    world.settle();
    let refused = world.order(put("one", None, hms("s"))).unwrap_err();
    assert!(refused.status == 400 && refused.text.contains("push.encryption_key"));
}

#[test]
fn a_token_uri_is_public_or_configured() {
    let mut world = World::new(settings(), 1);
    let fcm = |uri: &str| Material::Fcm { service_account: format!(r#"{{"token_uri":"{uri}"}}"#) };
    for private in
        ["http://169.254.169.254/", "https://[::1]:1/", "https://0x7f.1/", "https://localhost/t"]
    {
        let refused = world.registry.check_urls(&fcm(private)).unwrap_err();
        assert!(refused.status == 400 && refused.text.contains("token_uri"), "{private}");
    }
    assert_eq!(world.registry.check_urls(&fcm("https://oauth2.googleapis.com/token")), Ok(()));
    world.settings.urls.fcm = "http://127.0.0.1:99".into();
    world.crash();
    assert_eq!(world.registry.check_urls(&fcm("http://127.0.0.1:99/token")), Ok(()));
    assert!(world.registry.check_urls(&fcm("http://127.0.0.1:98/token")).is_err());
    world.settings.allow_private = true;
    world.crash();
    assert_eq!(world.registry.check_urls(&fcm("http://127.0.0.1:98/token")), Ok(()));
}

#[test]
fn credentials_that_cannot_be_used_and_too_many_are_refused() {
    let mut world = World::new(settings(), 1);
    world.settle();
    let text = "no JSON".to_owned();
    let bad = Box::new(Material::Fcm { service_account: text });
    let refused = world.order(put("fcm", None, bad)).unwrap_err();
    assert_eq!((refused.status, refused.code), (400, "invalid_input"));
    for n in 0..CREDENTIALS_OF_APP_MAX {
        facts(world.order(put(&n.to_string(), None, hms("s"))));
    }
    let refused = world.order(put("more", None, hms("s"))).unwrap_err();
    assert_eq!(refused.code, "limit_exceeded");
    assert_eq!(facts(world.order(put("7", None, hms("t")))).version, 2);
    // A version is never so high that none is left above it.
    for version in [1_000_003, u64::MAX] {
        let refused = world.order(put("7", Some(version), hms("u"))).unwrap_err();
        assert!(refused.status == 400 && refused.text.contains("version"), "{}", refused.text);
    }
    assert_eq!(facts(world.order(put("7", Some(1_000_002), hms("u")))).version, 1_000_002);
    assert_eq!(facts(world.order(put("7", None, hms("v")))).version, 1_000_003);
    assert_eq!(listed(&mut world).len() as u64, CREDENTIALS_OF_APP_MAX);
}

#[test]
fn credentials_are_as_in_the_store_after_it_failed() {
    use crate::store::memory::Outcome;
    let mut world = World::new(settings(), 1);
    world.settle();
    facts(world.order(put("a", None, hms("1"))));
    for outcome in [Outcome::FailsBefore, Outcome::FailsAfter] {
        world.memory.expect([outcome]);
        assert_eq!(status(world.order(put("a", None, hms("2")))), 503);
        world.settle();
        let known = world.registry.credential(APP, Provider::Hms, None).unwrap();
        let (version, material) = match outcome {
            Outcome::FailsAfter => (2, *hms("2")),
            _ => (1, *hms("1")),
        };
        assert_eq!((known.version, &known.material), (version, &material));
    }
    // A store that is not there at the start is asked until it is.
    world.is_away = true;
    world.crash();
    world.settle();
    let found =
        |world: &World| world.registry.credential(APP, Provider::Hms, None).map(|it| it.version);
    assert_eq!(found(&world), Err(NoCredential::NotYet));
    assert_eq!(status(world.order(put("a", None, hms("3")))), 503);
    world.is_away = false;
    world.settle();
    assert_eq!(found(&world), Ok(2));
}

#[test]
fn templates_are_kept_listed_and_removed() {
    let mut world = World::new(settings(), 1);
    let template = |id: &str, title: &str| Template {
        id: id.into(),
        default_locale: "en".into(),
        locales: vec![("en".into(), Text { title: Some(title.into()), ..Text::default() })],
        overrides: Vec::new(),
        updated_at: 0,
    };
    let put = |id: &str, title: &str| Order::PutTemplate(Box::new(template(id, title)));
    let one = |told| match told {
        Ok(Told::Template(it)) => *it,
        other => panic!("{other:?}"),
    };
    assert_eq!(one(world.order(put("a", "A"))).updated_at, START);
    world.pass(9);
    assert_eq!(one(world.order(put("a", "A"))).updated_at, START, "the same");
    assert_eq!(one(world.order(put("a", "B"))).updated_at, START + 9);
    for n in 0..20 {
        one(world.order(put(&format!("n{n:02}"), "N")));
    }
    let ids: Vec<_> = all(&mut world, 6, Order::Templates, |told| match told {
        Told::Templates(page) => page,
        other => panic!("{other:?}"),
    });
    assert_eq!(ids.len(), 21);
    assert_eq!(one(world.order(Order::Template("a".into()))).locales, template("a", "B").locales);
    assert_eq!(status(world.order(Order::Template("z".into()))), 404);
    assert_eq!(world.order(Order::RemoveTemplate("a".into())), Ok(Told::Removed(1)));
    assert_eq!(world.order(Order::RemoveTemplate("a".into())), Ok(Told::Removed(0)));
    let of_other = world.order_as("other", Order::Template("n01".into()));
    assert_eq!(status(of_other), 404);
}

#[test]
fn broadcast_channels_are_asked_for_with_the_apps_own_credentials() {
    let mut world = World::new(settings(), 1);
    world.settle();
    let list = Order::Broadcasts { credential_id: None };
    let refused = world.order(list.clone()).unwrap_err();
    assert_eq!(refused.status, 400);
    let material = Material::ApnsToken {
        team_id: "TEAM123456".into(),
        key_id: "KEY1234567".into(),
        private_key: String::new(),
        topic: "com.example".into(),
        is_sandbox: true,
    };
    let facts =
        CredentialFacts { provider: Provider::Apns, id: "a".into(), version: 1, updated_at: 0 };
    let credential = Credential::new(APP, "a", 1, material);
    world.registry.vault.put(&APP.into(), facts, Arc::new(credential));
    let caller = world.send(list);
    let (who, ask) = world.broadcasts.pop().expect("asked of the provider");
    assert_eq!((who, ask.what, &*ask.credential.id), (caller, BroadcastWhat::List, "a"));
}
