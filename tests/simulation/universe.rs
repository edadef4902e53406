//! A whole server in one thread: shards on simulated drivers, ticked in an order drawn from the seed.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ringmain::auth::{App, Apps};
use ringmain::base::ids::ShardId;
use ringmain::base::mailbox::Parking;
use ringmain::base::time::{Now, UnixMillis};
use ringmain::broker::edge::Edge;
use ringmain::broker::home::{self, Home};
use ringmain::broker::rules::Rules;
use ringmain::broker::slots::Slots;
use ringmain::config::Config;
use ringmain::dialects::lanes::Lanes;
use ringmain::dialects::{self, Dialect};
use ringmain::observe::Metrics;
use ringmain::reactor::Driver;
use ringmain::reactor::sim::{Faults, SimClient, World};
use ringmain::shard::back::{Nobody, Outside};
use ringmain::shard::mesh::{self, Doorbell};
use ringmain::shard::{Held, Life, Parts, Shard, Shared};
use ringmain::store::memory::Memory;
use ringmain::store::port::NoStore;

use crate::keep::SimStore;

/// Prints what happens, if `RINGMAIN_SIM_LOG` is set: the readable side of a replay.
#[macro_export]
macro_rules! tell {
    ($world:expr, $($text:tt)*) => {
        if $crate::universe::is_told() {
            println!("{:>12.6} {}", $world.now().steady.0 as f64 / 1e9, format_args!($($text)*));
        }
    };
}

/// Whether runs are told line by line.
pub fn is_told() -> bool {
    static IS_TOLD: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("RINGMAIN_SIM_LOG").is_some_and(|it| it != "0"));
    *IS_TOLD
}

/// What a run may put between the shards and the world: the broken variants live here.
pub trait Wrap {
    /// The driver a shard gets.
    fn driver(&self, driver: Box<dyn Driver>) -> Box<dyn Driver> {
        driver
    }
    /// The settings the server runs with, while the checkers go by those that were asked for.
    fn config(&self, _: &mut Config) {}
    /// A dialect all shards get.
    fn dialect(&self, dialect: Arc<dyn Dialect>) -> Arc<dyn Dialect> {
        dialect
    }
}

/// Nothing between.
pub struct Sound;

impl Wrap for Sound {}

/// The simulated server.
pub struct Universe {
    pub world: World,
    pub address: SocketAddr,
    pub config: Arc<Config>,
    pub shared: Arc<Shared>,
    pub metrics: Arc<Metrics>,
    /// The app's secrets, for those who sign.
    pub app: Arc<App>,
    /// What is durable, if anything is.
    pub store: Option<SimStore>,
    /// The store fails now and then.
    pub store_fails: bool,
    doorbells: Arc<Vec<Doorbell>>,
    origin: Now,
    shards: Vec<Option<Shard>>,
    /// A shard that is passed over, and for how many ticks more.
    lazy: (usize, u32),
}

impl Universe {
    /// `shards` shards with these settings, listening.
    pub fn new(seed: u64, faults: Faults, config: Config, shards: u16, wrap: &dyn Wrap) -> Self {
        let nobody = || Box::new(Nobody::default()) as Box<dyn Outside>;
        Self::with_outside(seed, faults, config, shards, wrap, &nobody)
    }

    /// The same, on a disk that may have seen other processes.
    pub fn on_disk(seed: u64, faults: Faults, config: Config, shards: u16, disk: &Memory) -> Self {
        let nobody = || Box::new(Nobody::default()) as Box<dyn Outside>;
        Self::with_all(seed, faults, config, shards, &nobody, disk)
    }

    /// The same, with a disk, and with someone who answers the inquiries of each shard.
    pub fn with_all(
        seed: u64,
        faults: Faults,
        config: Config,
        shards: u16,
        outside: &dyn Fn() -> Box<dyn Outside>,
        disk: &Memory,
    ) -> Self {
        let (world, store) = (World::new(seed, faults), SimStore::open(disk, shards));
        Self::in_world(seed, world, config, shards, &Sound, outside, Some(store))
    }

    /// The same, with someone who answers the inquiries of each shard.
    pub fn with_outside(
        seed: u64,
        faults: Faults,
        config: Config,
        shards: u16,
        wrap: &dyn Wrap,
        outside: &dyn Fn() -> Box<dyn Outside>,
    ) -> Self {
        let world = World::new(seed, faults);
        Self::in_world(seed, world, config, shards, wrap, outside, None)
    }

    fn in_world(
        seed: u64,
        world: World,
        config: Config,
        shards: u16,
        wrap: &dyn Wrap,
        outside: &dyn Fn() -> Box<dyn Outside>,
        store: Option<SimStore>,
    ) -> Self {
        let origin = world.now();
        let asked_for = Arc::new(config);
        let mut config = Config::clone(&asked_for);
        wrap.config(&mut config);
        let config = Arc::new(config);
        let metrics = Arc::new(Metrics::new(shards, &dialects::NAMES));
        let dialects: Vec<_> = dialects::all(&config, Arc::clone(&metrics))
            .into_iter()
            .map(|it| wrap.dialect(it))
            .collect();
        let dialects = Arc::new(dialects);
        let shared = Arc::new(Shared::default());
        let slots = Arc::new(Slots::new(shards, [seed, !seed]));
        let mut address: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let mut drivers = Vec::new();
        for shard in 0..shards {
            let mut driver = wrap.driver(Box::new(world.driver(usize::from(shard))));
            let (listener, real) = driver.listen(address).expect("a listener");
            address = real;
            drivers.push((driver, listener));
        }
        let doorbells = drivers
            .iter()
            .map(|(driver, _)| Doorbell { parking: Parking::new(), waker: driver.waker() });
        let doorbells = Arc::new(doorbells.collect::<Vec<_>>());
        let ports = mesh::mesh(&doorbells, config.limits.mailbox_slots);
        let parts = drivers.into_iter().zip(ports).enumerate();
        let shards = parts.map(|(id, ((driver, listener), ports))| {
            let id = ShardId(id as u16);
            Some(Shard::new(Parts {
                id,
                driver,
                listeners: vec![listener],
                ports,
                home: Home::new(
                    Arc::clone(&slots),
                    home::Limits { channels_max: config.limits.channels_per_shard_max },
                )
                .keeping(home::Keeping {
                    shard: store.is_some().then_some(id),
                    ..home::Keeping::configured(
                        &config,
                        Rules::configured(&config),
                        origin,
                        seed ^ u64::from(id.0),
                    )
                }),
                edge: Edge::new(id, Arc::clone(&slots)),
                config: Arc::clone(&config),
                dialects: Arc::clone(&dialects),
                lanes: Lanes::new(&dialects, &config),
                metrics: Arc::clone(&metrics),
                shared: Arc::clone(&shared),
                outside: outside(),
                keeper: match &store {
                    Some(store) => store.keeper(id.index()),
                    None => Box::new(NoStore::default()),
                },
                health: None,
                seed: seed as u32,
            }))
        });
        let app = Arc::clone(
            Apps::new(&config.apps).with_key(&config.apps[0].key).expect("the development app"),
        );
        let shards = shards.collect();
        Self {
            address,
            shards,
            world,
            app,
            store,
            store_fails: false,
            doorbells,
            origin,
            config: asked_for,
            shared,
            metrics,
            lazy: (0, 0),
        }
    }

    /// How many shards it was started with.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// A new connection.
    pub fn connect(&self) -> SimClient {
        self.world.connect(self.address)
    }

    /// Passes over one shard, drawn, for a while: mail to it piles up at the others.
    pub fn neglect_one(&mut self) {
        self.lazy = (self.world.draw(self.shards.len() as u64) as usize, 40);
    }

    /// Ticks one shard, drawn.
    pub fn tick(&mut self) {
        let shard = self.world.draw(self.shards.len() as u64) as usize;
        if self.lazy.0 == shard && self.lazy.1 > 0 && self.shards.len() > 1 {
            self.lazy.1 -= 1;
            return;
        }
        self.tick_one(shard);
    }

    /// Lets the store do something.
    pub fn step_store(&self) {
        let Some(store) = &self.store else { return };
        let passed = (self.world.now().steady - self.origin.steady).0 / 1_000_000;
        let clock = UnixMillis(self.origin.wall.0 + passed);
        store.step(&|below| self.world.draw(below), clock, self.store_fails, &self.doorbells);
    }

    fn tick_one(&mut self, shard: usize) {
        if let Some(running) = &mut self.shards[shard]
            && running.tick() == Life::Done
        {
            self.shards[shard] = None;
        }
    }

    /// Ticks until no shard has anything to do at this moment.
    pub fn settle(&mut self) {
        for round in 0.. {
            let from = self.world.draw(self.shards.len() as u64) as usize;
            for i in 0..self.shards.len() {
                self.tick_one((from + i) % self.shards.len());
            }
            for _ in 0..4 {
                self.step_store();
            }
            let is_busy = self.store.as_ref().is_some_and(SimStore::is_busy);
            if !is_busy
                && (0..self.shards.len())
                    .all(|shard| self.shards[shard].is_none() || self.world.is_idle(shard))
            {
                return;
            }
            assert!(round < 100_000, "the shards never come to rest");
        }
    }

    /// Moves the clock to what happens next. While some shard has work it is not far: a shard may be slow,
    /// but one that sleeps through a time-out with input at hand would blame its peers.
    pub fn advance(&mut self) {
        // Nor does it jump over the life of kept events, which is all there is to wait for without a peer.
        let near = self.world.now().steady.0 + 50_000_000;
        let far = near + 3600 * 1_000_000_000;
        let rests =
            (0..self.shards.len()).all(|it| self.shards[it].is_none() || self.world.is_idle(it));
        let until = if rests { far } else { near };
        if self.world.next_due().is_some_and(|due| due.0 <= until) {
            self.world.advance();
        }
    }

    /// Lets time pass, and everything that happens in it, until `span` is over.
    pub fn pass(&mut self, span: Duration) {
        let until = self.world.now().steady.0 + span.as_nanos() as u64;
        loop {
            self.settle();
            match self.world.next_due() {
                Some(due) if due.0 <= until => {
                    self.world.advance();
                }
                _ => break,
            }
        }
        self.world.advance_to(ringmain::base::time::Nanos(until));
        self.settle();
    }

    /// What all shards hold together.
    pub fn held(&self) -> Held {
        let mut sum = Held::default();
        for shard in self.shards.iter().flatten() {
            let held = shard.held();
            sum.connections += held.connections;
            sum.channels += held.channels;
            sum.subscriptions += held.subscriptions;
            sum.outbox_bytes += held.outbox_bytes;
            sum.assembly_bytes += held.assembly_bytes;
            sum.timers += held.timers;
            sum.backlog_mails += held.backlog_mails;
        }
        sum
    }

    /// The bytes in the outboxes of the fullest shard.
    pub fn outbox_bytes_peak(&self) -> usize {
        self.shards.iter().flatten().map(|shard| shard.held().outbox_bytes).max().unwrap_or(0)
    }

    /// Tells the server to drain.
    pub fn drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
    }

    /// True once every shard is done.
    pub fn is_done(&self) -> bool {
        self.shards.iter().all(Option::is_none)
    }
}
