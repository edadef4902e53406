//! The settings, declared once each; file, environment and flags become one checked [`Config`].
//!
//! [`Config`] is plain checked values; how they are spelled and bounded is in the table of settings
//! ([`table`], read it first) and nowhere else. [`load`] turns texts into a `Config` or says what is
//! wrong with them; it reads no environment by itself, only files that a setting names.

pub mod describe;
pub mod history;
pub mod load;
mod machine;
pub mod problem;
pub mod push;
pub mod push_rules;
pub mod rates;
pub mod reference;
pub mod section;
pub mod table;
pub mod value;
pub mod webhooks;

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::base::time::Millis;

pub use crate::base::driver::DriverChoice;

pub use machine::Machine;
pub use section::{Section, SectionOf, Sections};

/// Everything the server was told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Nobody configured an app: the development app is in force (loopback only).
    pub development: bool,
    /// Addresses to listen on; port 0 asks the kernel for one.
    pub listen: Vec<SocketAddr>,
    /// Paths of Unix sockets to listen on.
    pub listen_local: Vec<PathBuf>,
    /// Shards, at least 1.
    pub shards: u16,
    /// Pin each shard's thread to a core.
    pub pin: bool,
    /// Which driver.
    pub driver: DriverChoice,
    /// Where durable state lives.
    pub data: PathBuf,
    /// Bounds of it.
    pub store: Store,
    /// Bounds of the whole process and of each shard.
    pub limits: Limits,
    /// HTTP bounds.
    pub http: Http,
    /// WebSocket bounds.
    pub websocket: WebSocket,
    /// Pusher protocol settings.
    pub pusher: Pusher,
    /// Health, metrics and the console.
    pub admin: Admin,
    /// How the process stops.
    pub drain: Drain,
    /// The apps, at least one.
    pub apps: Vec<App>,
    /// What the dialects declare themselves.
    pub sections: Sections,
}

impl Config {
    /// What runs when nothing was configured, on a small machine of one core: the development app
    /// and every default. Cannot fail; meant for tests and as a start for [`Config`] by hand.
    pub fn development() -> Self {
        let mut config = Self::from_defaults();
        config.development = true;
        config.apps.push(App::development());
        config.resolve(&Machine::small());
        config
    }

    /// The defaults of the table, without an app and with what depends on the machine still 0.
    pub(crate) fn from_defaults() -> Self {
        let mut config = Self {
            development: false,
            listen: Vec::new(),
            listen_local: Vec::new(),
            shards: 0,
            pin: false,
            driver: DriverChoice::Auto,
            data: PathBuf::new(),
            store: Store::default(),
            limits: Limits::default(),
            http: Http::default(),
            websocket: WebSocket::default(),
            pusher: Pusher::default(),
            admin: Admin::default(),
            drain: Drain::default(),
            apps: Vec::new(),
            sections: Sections::default(),
        };
        for setting in table::SETTINGS {
            setting.kind.put_default(&mut config);
        }
        config
    }

    /// How many places it listens at.
    pub(crate) fn listeners(&self) -> usize {
        self.listen.len() + self.listen_local.len()
    }

    /// Replaces the zeros that mean "as the machine allows" by numbers.
    pub(crate) fn resolve(&mut self, machine: &Machine) {
        if self.shards == 0 {
            self.shards = machine.shards();
        }
        if self.limits.connections_max == 0 {
            self.limits.connections_max = machine.connections_max(self.shards, self.listeners());
        }
        if self.limits.assembly_bytes_per_shard_max == 0 {
            self.limits.assembly_bytes_per_shard_max =
                machine.assembly_bytes_per_shard_max(self.shards);
        }
        if self.limits.history_bytes_per_shard_max == 0 {
            self.limits.history_bytes_per_shard_max =
                machine.assembly_bytes_per_shard_max(self.shards);
        }
        if self.limits.outbox_bytes_per_shard_max == 0 {
            self.limits.outbox_bytes_per_shard_max = machine
                .outbox_bytes_per_shard_max(self.shards, self.limits.outbox_bytes_high_water);
        }
    }
}

impl App {
    /// The app that is in force while none is configured.
    pub fn development() -> Self {
        Self {
            id: DEVELOPMENT_ID.to_owned(),
            key: DEVELOPMENT_KEY.to_owned(),
            secret: Secret(DEVELOPMENT_SECRET.to_owned()),
            client_events: true,
            user_authentication: true,
            watchlist: true,
            subscription_counts: true,
            bridge: vec![DEVELOPMENT_BRIDGE.to_owned()],
            ..Self::from_defaults()
        }
    }

    /// An app with these credentials and every default.
    pub fn with(id: String, key: String, secret: Secret) -> Self {
        Self { id, key, secret, ..Self::from_defaults() }
    }

    /// The defaults of the table; id, key and secret still empty.
    pub(crate) fn from_defaults() -> Self {
        let mut app = Self {
            id: String::new(),
            key: String::new(),
            secret: Secret(String::new()),
            enabled: false,
            client_events: false,
            client_events_per_second_max: 0,
            client_events_terminate: false,
            user_events_per_second_max: 0,
            publishes_per_second_max: 0,
            reads_per_second_max: 0,
            user_authentication: false,
            watchlist: false,
            watchlist_users_max: 0,
            subscription_counts: false,
            connections_max: 0,
            presence_members_max: 0,
            presence_member_bytes_max: 0,
            channel_name_bytes_max: 0,
            event_name_bytes_max: 0,
            event_payload_bytes_max: 0,
            event_channels_max: 0,
            event_batch_max: 0,
            allowed_origins: Vec::new(),
            namespaces: Vec::new(),
            bridge: Vec::new(),
        };
        for setting in table::APP_SETTINGS {
            setting.kind.put_default(&mut app);
        }
        app
    }
}

/// The id of the development app.
pub const DEVELOPMENT_ID: &str = "app-id";
/// The key of the development app.
pub const DEVELOPMENT_KEY: &str = "app-key";
/// The secret of the development app, known to everyone.
pub const DEVELOPMENT_SECRET: &str = "app-secret";

/// The bridged channel of the development app.
pub const DEVELOPMENT_BRIDGE: &str = "hello";

/// Bounds of durable state.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// Bytes on disk; 0 for no bound of its own.
    pub bytes_max: u64,
    /// Bytes that must stay free where it lives.
    pub free_bytes_min: u64,
}

/// Bounds of the process and its shards.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Connections in the whole process.
    pub connections_max: u32,
    /// Channels one shard is home of.
    pub channels_per_shard_max: usize,
    /// An outbox above this makes its connection a slow consumer.
    pub outbox_bytes_high_water: usize,
    /// All outboxes of one shard together; above it the fattest goes first.
    pub outbox_bytes_per_shard_max: usize,
    /// Messages and bodies of one shard that are not whole yet, together; above it whoever adds to
    /// them is refused with 503 or closed with 1013.
    pub assembly_bytes_per_shard_max: usize,
    /// Events that the channels of one shard keep in memory, together; above it older ones go.
    pub history_bytes_per_shard_max: usize,
    /// Slots of one mailbox (up or down, per ordered pair of shards); a power of two.
    pub mailbox_slots: usize,
    /// A backlog of asks above this pauses receiving on the sockets that fill it; also the mark of the
    /// down backlogs above which asks are not taken.
    pub backlog_mails_high_water: usize,
    /// Receive buffers per shard; a power of two.
    pub receive_buffers: u16,
    /// Bytes of one receive buffer.
    pub receive_buffer_bytes: u32,
    /// How long an idle shard looks for mail before it parks, in microseconds.
    pub spin_us: u32,
}

/// HTTP bounds.
#[derive(Clone, Debug, Default)]
pub struct Http {
    /// A request line's target; above it 414.
    pub target_bytes_max: usize,
    /// A whole head; above it 431.
    pub head_bytes_max: usize,
    /// Header fields; above it 431.
    pub head_fields_max: usize,
    /// A request body; above it 413.
    pub body_bytes_max: usize,
    /// From the first byte of a head to its end; else 408.
    pub head_timeout: Millis,
    /// From the head to the end of the body; else 408.
    pub body_timeout: Millis,
    /// Between requests on one connection.
    pub idle_timeout: Millis,
}

/// WebSocket bounds.
#[derive(Clone, Debug, Default)]
pub struct WebSocket {
    /// An inbound message, assembled and inflated; above it close 1009.
    pub message_bytes_max: usize,
    /// How long a peer may take to answer our close frame.
    pub close_timeout: Millis,
    /// Take permessage-deflate when offered.
    pub deflate: bool,
    /// Events with a payload below this many bytes leave uncompressed in a compressed lane too.
    pub deflate_bytes_min: usize,
}

/// Pusher protocol settings.
#[derive(Clone, Debug, Default)]
pub struct Pusher {
    /// Silence after which the server pings; told to clients.
    pub activity_timeout: Millis,
    /// How long the pong may take.
    pub pong_timeout: Millis,
    /// Subscriptions one connection may have.
    pub subscriptions_per_connection_max: usize,
    /// How far a signed request's timestamp may be from the server's clock.
    pub signature_window: Millis,
    /// How long a cache channel keeps its last event.
    pub cache_ttl: Millis,
    /// Events in one page of a channel's history.
    pub history_page_max: u32,
    /// Messages of channels that keep history can be changed.
    pub versioned_messages: bool,
    /// And annotated.
    pub annotations: bool,
    /// How long a member whose connection is lost stays; version 2 only.
    pub presence_lease: Millis,
    /// Anyone may watch who is in a channel that takes a signature.
    pub meta_is_open: bool,
    /// Where revocations of capability tokens are kept.
    pub revocations: Revocations,
}

/// Where revocations of capability tokens are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Revocations {
    /// On disk where history or webhooks are, else in memory.
    #[default]
    Auto,
    /// In memory: a restart forgets them.
    Memory,
    /// On disk.
    Durable,
}

/// Health, metrics and the console.
#[derive(Clone, Debug, Default)]
pub struct Admin {
    /// Peers on other machines may read metrics and statistics, too.
    pub remote: bool,
    /// Opens the console, from anywhere; none: only the development app's console opens, on loopback.
    pub token: Option<Secret>,
}

/// How the process stops.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    /// From the signal to the exit, at most.
    pub deadline: Millis,
    /// Peers told to reconnect, per second and shard.
    pub per_second: u32,
}

/// One app: who may publish and subscribe, and how much.
#[derive(Clone, Debug)]
pub struct App {
    /// Its id, in paths of the HTTP API.
    pub id: String,
    /// Its public key, in WebSocket paths.
    pub key: String,
    /// Its secret; never printed.
    pub secret: Secret,
    /// A disabled app can do nothing.
    pub enabled: bool,
    /// Peers may publish `client-` events.
    pub client_events: bool,
    /// Client events per second and connection; 0 for no limit.
    pub client_events_per_second_max: u32,
    /// Close a connection that passes that limit instead of refusing the event.
    pub client_events_terminate: bool,
    /// Client events per second of all connections of one user who is signed in; 0 for no limit.
    pub user_events_per_second_max: u32,
    /// Events that back ends publish, versions and annotations among them, per second; 0 for no limit.
    pub publishes_per_second_max: u32,
    /// Requests of the HTTP API that read, per second; 0 for no limit.
    pub reads_per_second_max: u32,
    /// Peers may sign in.
    pub user_authentication: bool,
    /// Signed-in peers hear of the users on their watchlist.
    pub watchlist: bool,
    /// Users on one watchlist.
    pub watchlist_users_max: usize,
    /// Subscribers hear of the subscription count.
    pub subscription_counts: bool,
    /// Connections; 0 for no limit.
    pub connections_max: u32,
    /// Members of a presence channel.
    pub presence_members_max: u32,
    /// A member's `channel_data`, in bytes.
    pub presence_member_bytes_max: usize,
    /// A channel's name, in bytes.
    pub channel_name_bytes_max: usize,
    /// An event's name, in bytes.
    pub event_name_bytes_max: usize,
    /// An event's data, in bytes.
    pub event_payload_bytes_max: usize,
    /// Channels of one publish.
    pub event_channels_max: usize,
    /// Events of one batch.
    pub event_batch_max: usize,
    /// Origins that may connect: exact, `*` or `*.example.com`, with or without scheme; empty for any.
    pub allowed_origins: Vec<String>,
    /// What may stand before a colon in a channel's name; `*` for anything.
    pub namespaces: Vec<String>,
    /// Channels that every protocol hears and may publish to, each in its own words.
    pub bridge: Vec<String>,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::value::Kind;
    use super::*;

    #[test]
    fn every_default_is_within_its_own_range() {
        fn check<T>(settings: &[table::Setting<T>], target: &mut T) {
            for setting in settings {
                let text = match setting.kind {
                    Kind::Number { unit, default, .. } => unit.spell(default),
                    Kind::Word { .. }
                    | Kind::Text { .. }
                    | Kind::Texts { .. }
                    | Kind::Secret { .. } => continue,
                    _ => setting.kind.default_text(),
                };
                let given = value::Given::One(text.clone());
                assert!(setting.kind.try_put(target, &given), "{} = {text}", setting.key);
            }
        }
        check(table::SETTINGS, &mut Config::from_defaults());
        check(table::APP_SETTINGS, &mut App::from_defaults());
    }

    #[test]
    fn development_is_ready_to_run() {
        let config = Config::development();
        assert!(config.development && config.pin);
        assert_eq!(config.listen, [SocketAddr::from(([127, 0, 0, 1], 6001))]);
        assert_eq!((config.shards, config.apps.len()), (1, 1));
        assert!(config.limits.connections_max > 0 && config.limits.outbox_bytes_per_shard_max > 0);
        assert_eq!(config.http.head_timeout, Millis(10_000));
        let app = &config.apps[0];
        assert!(app.enabled && app.client_events && app.watchlist && app.subscription_counts);
        assert_eq!((app.key.as_str(), app.secret.0.as_str()), ("app-key", "app-secret"));
        assert!(!format!("{config:?}").contains("app-secret"));
    }
}
