//! Starting: drivers, listeners, mailboxes, threads, in the order that lets every failure be told.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::base::ids::{AppIndex, ShardId};
use crate::base::mailbox::Parking;
use crate::base::time::Now;
use crate::broker::edge::Edge;
use crate::broker::home::{self, Home};
use crate::broker::rules::Rules;
use crate::broker::slots::Slots;
use crate::config::Config;
use crate::config::push::{Enabled, PushSettings};
use crate::config::webhooks::Webhooks;
use crate::dialects::Dialect;
use crate::dialects::lanes::Lanes;
use crate::observe::Metrics;
use crate::reactor::{self, LocalListener, Waker, machine};
use crate::shard::back::{self, Back, BackPort, Operator, Posting, Telling, Upstreams};
use crate::shard::mesh::{self, Doorbell, Ports};
use crate::shard::{Life, Parts, Shard, Shared};
use crate::store::Keeper;
use crate::store::health::Health;
use crate::store::thread::Store;

use super::RunError;
use super::control::Control;
use super::keep::{self, Kept};

/// A server that was killed leaves its listeners to the kernel, which takes its rings apart after the
/// process is gone: a port is only taken if it stays so.
const CLAIM_TRIES: u32 = 40;
/// Between two tries.
const CLAIM_PAUSE: Duration = Duration::from_millis(50);
/// How long a shard goes on while other threads want its core: the shortest that there is.
const SHARD_TURN: Duration = Duration::from_micros(100);

/// A running server.
pub struct Started {
    /// Its settings.
    pub config: Arc<Config>,
    /// Where it really listens.
    pub addresses: Vec<SocketAddr>,
    /// And on which Unix sockets, whose paths are there as long as this is.
    pub local: Vec<LocalListener>,
    /// What drives its shards.
    pub driver: String,
    /// What it speaks.
    pub dialects: Arc<Vec<Arc<dyn Dialect>>>,
    /// One thread a shard.
    pub threads: Vec<JoinHandle<()>>,
    /// One waker a shard.
    pub wakers: Vec<Waker>,
    /// What all shards share.
    pub shared: Arc<Shared>,
    /// The store; none: nothing is durable.
    pub store: Option<Arc<Store>>,
    /// How commands work on it.
    pub control: Option<Control>,
    /// Gives orders to the back shard.
    pub operator: Operator,
    /// There are push notifications.
    pub pushes: bool,
}

/// What a shard's thread says once it listens.
struct Ready {
    addresses: Vec<SocketAddr>,
    waker: Waker,
    driver: String,
}

/// A shard's ends of the ways to the others, to the back shard and to the store.
struct Ends {
    ports: Ports,
    back: BackPort,
    keeper: Box<dyn Keeper>,
}

/// Everything the shards have in common.
struct Common {
    config: Arc<Config>,
    dialects: Arc<Vec<Arc<dyn Dialect>>>,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    slots: Arc<Slots>,
    rules: Arc<Rules>,
    /// When the clock of retention starts.
    origin: Now,
    /// How the store is.
    health: Option<Arc<Health>>,
    seed: u64,
    cores: Vec<usize>,
}

/// Starts the shards and waits until all of them listen.
pub fn start(
    config: Config,
    names: &[&'static str],
    dialects: impl FnOnce(&Config, Arc<Metrics>) -> Vec<Arc<dyn Dialect>>,
) -> Result<Started, RunError> {
    for address in config.listen.iter().filter(|address| address.port() != 0) {
        claim(*address)?;
    }
    let mut local = Vec::new();
    for path in &config.listen_local {
        let bound = patiently(|| LocalListener::bind(path));
        local.push(bound.map_err(|error| refused_path(path, &error))?);
    }
    let local = Arc::new(local);
    let shards = config.shards;
    let metrics = Arc::new(Metrics::new(shards, names));
    let dialects = Arc::new(dialects(&config, Arc::clone(&metrics)));
    let seed = random_seed();
    let (rules, origin) = (Rules::configured(&config), machine::now());
    let bell = Arc::new(OnceLock::new());
    let webhooks = Webhooks::of(&config);
    let is_told = !webhooks.receivers.is_empty();
    let push = PushSettings::of(&config);
    // What waited for a receiver when the process ended waits there, whoever reports now.
    let is_needed =
        is_told || push.needs_store() || dialects.iter().any(|dialect| dialect.needs_store());
    let Kept { store, keepers, back: back_keeper, post: post_keeper, back_ready } =
        keep::open(&config, &rules, is_needed, origin, &bell)?;
    let health = store.as_ref().map(Store::health);
    let common = Arc::new(Common {
        rules,
        origin,
        health,
        config: Arc::new(config),
        dialects,
        metrics,
        shared: Arc::new(Shared::default()),
        slots: Arc::new(Slots::new(shards, [seed, seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15])),
        seed,
        cores: machine::cores(),
    });

    let mut addresses = common.config.listen.clone();
    let (mut threads, mut wakers, mut go, mut driver) =
        (Vec::new(), Vec::new(), Vec::new(), String::new());
    for id in 0..shards {
        let (ready_sender, ready) = mpsc::channel();
        let (go_sender, ports) = mpsc::channel();
        let (common, asked) = (Arc::clone(&common), addresses.clone());
        let local = Arc::clone(&local);
        let thread = std::thread::Builder::new()
            .name(format!("shard-{id}"))
            .spawn(move || run_shard(ShardId(id), &common, &asked, local, &ready_sender, &ports))
            .map_err(|error| RunError::Machine(format!("a thread cannot be started: {error}")))?;
        // A shard that cannot start says why; those before it end because `go` is dropped.
        let ready: Ready = match ready.recv() {
            Ok(ready) => ready?,
            Err(_) => return Err(RunError::Failed(format!("shard {id} ended before it listened"))),
        };
        // The first shard has turned port 0 into numbers; the others share them.
        addresses = ready.addresses;
        driver = ready.driver;
        wakers.push(ready.waker);
        threads.push(thread);
        go.push(go_sender);
    }

    let mut local = Arc::into_inner(local).expect("every shard has let go of them");
    // From here on only shards listen, so that nobody does once they have stopped.
    local.iter_mut().for_each(LocalListener::seal);
    let doorbells = wakers
        .iter()
        .map(|waker| Doorbell { parking: Parking::new(), waker: waker.clone() })
        .collect::<Vec<_>>();
    let doorbells = Arc::new(doorbells);
    let _ = bell.set(Arc::clone(&doorbells));
    let ports = mesh::mesh(&doorbells, common.config.limits.mailbox_slots);
    let telling = back_keeper.zip(common.health.clone()).filter(|_| is_told);
    let telling = telling.map(|(keeper, health)| {
        let counts = Arc::clone(&common.shared.webhooks);
        Telling { settings: webhooks.clone(), keeper, health, counts }
    });
    let posting = post_keeper.zip(common.health.clone());
    let posting = posting.filter(|_| push.enabled != Enabled::Off);
    let posting =
        posting.map(|(keeper, health)| posting_of(&common, push, webhooks, keeper, health));
    let pushes = posting.is_some();
    let upstreams = Upstreams {
        upstreams: common.dialects.iter().filter_map(|it| it.upstream()).collect(),
        slots: Arc::clone(&common.slots),
    };
    let Back { ports: back, ring, operator } = back::start(doorbells, telling, posting, upstreams)
        .map_err(|error| RunError::Machine(format!("the back shard cannot be started: {error}")))?;
    let _ = back_ready.set(ring);
    // What the store answered before that rang nobody.
    back_ready.get().into_iter().for_each(|ring| ring());
    let ends = ports.into_iter().zip(back).zip(keepers);
    for (go, ((ports, back), keeper)) in go.iter().zip(ends) {
        if go.send(Ends { ports, back, keeper }).is_err() {
            return Err(RunError::Failed("a shard ended before it ran".into()));
        }
    }
    let store = store.map(Arc::new);
    let data = &common.config.data;
    let control =
        store.as_ref().and_then(|store| Control::start(data, Arc::clone(store), operator.clone()));
    Ok(Started {
        config: Arc::clone(&common.config),
        addresses,
        local,
        driver,
        dialects: Arc::clone(&common.dialects),
        threads,
        wakers,
        shared: Arc::clone(&common.shared),
        store,
        control,
        operator,
        pushes,
    })
}

/// What sending push notifications takes.
fn posting_of(
    common: &Common,
    settings: PushSettings,
    webhooks: Webhooks,
    keeper: Box<dyn Keeper>,
    health: Arc<Health>,
) -> Posting {
    let apps = common.config.apps.iter().enumerate();
    let apps = apps.map(|(index, app)| (app.id.clone(), AppIndex(index as u16))).collect();
    let dialects = Arc::clone(&common.dialects);
    let channels =
        move |client: &str| dialects.iter().filter_map(|it| it.client_channel(client)).collect();
    Posting {
        settings: Arc::new(settings),
        keeper,
        health,
        counts: Arc::clone(&common.shared.push),
        wants: Arc::new(move |app, kind| webhooks.wants(app, kind)),
        apps,
        client_channels: Box::new(channels),
    }
}

fn run_shard(
    id: ShardId,
    common: &Common,
    addresses: &[SocketAddr],
    local: Arc<Vec<LocalListener>>,
    ready: &mpsc::Sender<Result<Ready, RunError>>,
    ends: &mpsc::Receiver<Ends>,
) {
    let config = &common.config;
    if config.pin && !common.cores.is_empty() {
        // A hint: a shard that may not choose its core runs all the same.
        let _ = machine::pin(common.cores[id.index() % common.cores.len()]);
    }
    // A hint, too: who was published to is told before the threads beside go on.
    let _ = machine::ask_short_turns(SHARD_TURN);
    let options =
        reactor::Options::new(config.limits.receive_buffers, config.limits.receive_buffer_bytes);
    let opened = reactor::open(config.driver, options)
        .map_err(|error| RunError::Machine(error.to_string()))
        .and_then(|mut driver| {
            let mut listening = Vec::new();
            for address in addresses {
                listening.push(driver.listen(*address).map_err(|error| refused(*address, &error))?);
            }
            let mut listening_locally = Vec::new();
            for listener in local.iter() {
                let path = listener.path();
                let id =
                    driver.listen_local(listener).map_err(|error| refused_path(path, &error))?;
                listening_locally.extend(id);
            }
            Ok((driver, listening, listening_locally))
        });
    // Whoever started this shard has the listeners for itself again when it hears of it.
    drop(local);
    let (driver, listening, listening_locally) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let (mut listeners, addresses): (Vec<_>, Vec<_>) = listening.into_iter().unzip();
    listeners.extend(listening_locally);
    let told =
        ready.send(Ok(Ready { addresses, waker: driver.waker(), driver: driver.describe() }));
    let (Ok(()), Ok(Ends { ports, back, keeper })) = (told, ends.recv()) else { return };

    let mut shard = Shard::new(Parts {
        id,
        driver,
        listeners,
        ports,
        home: Home::new(
            Arc::clone(&common.slots),
            home::Limits { channels_max: config.limits.channels_per_shard_max },
        )
        .keeping(home::Keeping {
            // Without a store there is nothing to be done later.
            shard: common.health.as_ref().map(|_| id),
            has_pushes: common.health.is_some(),
            ..home::Keeping::configured(
                config,
                Arc::clone(&common.rules),
                common.origin,
                common.seed ^ u64::from(id.0).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            )
        }),
        edge: Edge::new(id, Arc::clone(&common.slots)),
        config: Arc::clone(config),
        dialects: Arc::clone(&common.dialects),
        lanes: Lanes::new(&common.dialects, config),
        metrics: Arc::clone(&common.metrics),
        shared: Arc::clone(&common.shared),
        outside: Box::new(back),
        keeper,
        // One shard counts what the store did.
        health: common.health.clone().filter(|_| id.0 == 0),
        seed: (common.seed >> 32) as u32 ^ u32::from(id.0),
    });
    while shard.tick() == Life::Running {}
}

/// Makes sure that no other server listens on this address.
///
/// Our listeners share a port among shards, so a second server would bind it too and take half of the
/// peers. A listener that does not share finds out; it is closed at once.
fn claim(address: SocketAddr) -> Result<(), RunError> {
    patiently(|| TcpListener::bind(address)).map(drop).map_err(|error| refused(address, &error))
}

/// Binds what may be a killed server's for a little while.
fn patiently<T>(bind: impl Fn() -> std::io::Result<T>) -> std::io::Result<T> {
    let mut left = CLAIM_TRIES;
    loop {
        match bind() {
            Err(error) if error.kind() == ErrorKind::AddrInUse && left > 0 => left -= 1,
            bound => return bound,
        }
        std::thread::sleep(CLAIM_PAUSE);
    }
}

fn refused(address: SocketAddr, error: &std::io::Error) -> RunError {
    let hint = match error.kind() {
        ErrorKind::AddrInUse => {
            "something listens there already; choose another with --listen ADDR:PORT"
        }
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address; choose another with --listen"
        }
        ErrorKind::PermissionDenied => {
            "this port needs privileges; choose one above 1023 with --listen"
        }
        _ => "choose another address with --listen ADDR:PORT",
    };
    RunError::Machine(format!("cannot listen on {address}: {error}; {hint}"))
}

fn refused_path(path: &Path, error: &std::io::Error) -> RunError {
    let hint = match error.kind() {
        ErrorKind::AddrInUse => "something is there already; remove it or choose another path",
        ErrorKind::NotFound => "its folder must be there",
        ErrorKind::PermissionDenied => "its folder must be one that this user may write to",
        _ => "choose another path",
    };
    RunError::Machine(format!("cannot listen on unix:{}: {error}; {hint}", path.display()))
}

/// A number that differs from process to process. Names from outside are hashed with it, so it must not
/// be guessable.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library keys its hash tables from the kernel's random source.
    std::hash::RandomState::new().build_hasher().finish()
}
