//! A whole shard and two peers: whatever they send, cut anyhow, in any order, the shard goes on, its
//! own frames are well formed, and nothing is left when the peers are gone.
//!
//! The input is a script: an opcode byte with the peer in its low bit, a length byte, then that many bytes.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ringmain::base::ids::ShardId;
use ringmain::base::mailbox::Parking;
use ringmain::broker::edge::Edge;
use ringmain::broker::home::{self, Home};
use ringmain::broker::slots::Slots;
use ringmain::config::Config;
use ringmain::dialects::{self, Lanes};
use ringmain::observe::{Counter, Metrics};
use ringmain::reactor::Driver;
use ringmain::reactor::sim::{Faults, SimClient, World};
use ringmain::shard::back::Nobody;
use ringmain::shard::mesh::{self, Doorbell};
use ringmain::shard::{Held, Parts, Shard, Shared};
use ringmain::wire::websocket::Opcode;
use ringmain::wire::websocket::encode::{Compression, masked_frame};

const HANDSHAKE: &[u8] = b"GET /app/app-key?protocol=7 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

fn rest(world: &World, shard: &mut Shard) {
    for _ in 0..10_000 {
        shard.tick();
        if world.is_idle(0) && world.next_due().is_none_or(|due| due > world.now().steady) {
            return;
        }
    }
    panic!("the shard never comes to rest");
}

fn pass(world: &World, shard: &mut Shard, span: Duration) {
    let until = world.now().steady.0 + span.as_nanos() as u64;
    rest(world, shard);
    while world.next_due().is_some_and(|due| due.0 <= until) && world.advance() {
        rest(world, shard);
    }
}

fuzz_target!(|script: &[u8]| {
    let [seed, script @ ..] = script else { return };
    let world = World::new(u64::from(*seed), if seed & 1 == 0 { Faults::none() } else { Faults::slow() });
    let mut config = Config::development();
    config.limits.mailbox_slots = 16;
    config.limits.outbox_bytes_high_water = 32 << 10;
    config.limits.connections_max = 3;
    config.limits.spin_us = 0;
    config.http.body_bytes_max = 4096;
    config.websocket.message_bytes_max = 4096;
    let config = Arc::new(config);
    let metrics = Arc::new(Metrics::new(1, &dialects::NAMES));
    let dialects = Arc::new(dialects::all(&config, Arc::clone(&metrics)));
    let slots = Arc::new(Slots::new(1, [1, 2]));
    let mut driver = world.driver(0);
    let (listener, address) = driver.listen("127.0.0.1:0".parse().expect("an address")).expect("a listener");
    let doorbells = vec![Doorbell { parking: Parking::new(), waker: driver.waker() }];
    let ports = mesh::mesh(&Arc::new(doorbells), config.limits.mailbox_slots).pop().expect("one shard");
    let mut shard = Shard::new(Parts {
        id: ShardId(0),
        driver: Box::new(driver),
        listeners: vec![listener],
        ports,
        home: Home::new(Arc::clone(&slots), home::Limits { channels_max: 64 }),
        edge: Edge::new(ShardId(0), slots),
        lanes: Lanes::new(&dialects, &config),
        config,
        dialects,
        metrics: Arc::clone(&metrics),
        shared: Arc::new(Shared::default()),
        health: None,
        keeper: Box::new(ringmain::store::port::NoStore::default()),
        outside: Box::new(Nobody::default()),
        seed: 7,
    });

    let mut peers: [SimClient; 2] = [world.connect(address), world.connect(address)];
    let mut script = script;
    while let [opcode, length, tail @ ..] = script {
        let (bytes, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        script = tail;
        let peer = &mut peers[usize::from(opcode & 1)];
        let text = |peer: &SimClient, bytes: &[u8]| {
            peer.send(&masked_frame(Opcode::Text, Compression::Plain, bytes, [9, 8, 7, 6]));
        };
        match opcode >> 1 & 15 {
            0 => peer.send(bytes),
            1 => peer.send(HANDSHAKE),
            2 => text(peer, bytes),
            3 => {
                let channel = String::from_utf8_lossy(bytes).replace(['"', '\\'], "");
                text(peer, format!("{{\"event\":\"pusher:subscribe\",\"data\":{{\"channel\":\"{channel}\"}}}}").as_bytes());
            }
            4 => {
                let channel = String::from_utf8_lossy(bytes).replace(['"', '\\'], "");
                text(peer, format!("{{\"event\":\"pusher:unsubscribe\",\"data\":{{\"channel\":\"{channel}\"}}}}").as_bytes());
            }
            5 => peer.send(&masked_frame(Opcode::Ping, Compression::Plain, &bytes[..bytes.len().min(125)], [0; 4])),
            6 => peer.send(&masked_frame(Opcode::Text, Compression::Deflated, bytes, [1; 4])),
            7 => {
                peer.send(format!("POST /apps/app-id/events HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", bytes.len()).as_bytes());
                peer.send(bytes);
            }
            8 => peer.finish(),
            9 => peer.reset(),
            10 => peer.stall(),
            11 => peer.resume(),
            12 => *peer = world.connect(address),
            13 => pass(&world, &mut shard, Duration::from_millis(u64::from(*length) * 50)),
            14 => {
                let _ = peer.received();
            }
            _ => rest(&world, &mut shard),
        }
    }
    rest(&world, &mut shard);
    assert_eq!(metrics.total(Counter::SessionPanics), 0);
    peers.iter().for_each(SimClient::reset);
    pass(&world, &mut shard, Duration::from_secs(200));
    assert_eq!(shard.held(), Held::default());
});
