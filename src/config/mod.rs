//! The settings, declared once each; file, environment and flags become one checked [`Config`].
//!
//! Everything here is plain checked values; how they are spelled and bounded is in the table of
//! settings, and nowhere else.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::base::time::Millis;

/// Which driver a shard should use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// io_uring where the kernel allows it, else epoll.
    #[default]
    Auto,
    /// io_uring or refuse to start.
    Uring,
    /// epoll.
    Epoll,
}

/// Everything the server was told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Nobody configured an app: the development app is in force (loopback only).
    pub development: bool,
    /// Addresses to listen on; port 0 asks the kernel for one.
    pub listen: Vec<SocketAddr>,
    /// Shards, at least 1.
    pub shards: u16,
    /// Pin each shard's thread to a core.
    pub pin: bool,
    /// Which driver.
    pub driver: DriverChoice,
    /// Where durable state lives.
    pub data: PathBuf,
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
}

/// Bounds of the process and its shards.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections in the whole process.
    pub connections_max: u32,
    /// Channels one shard is home of.
    pub channels_per_shard_max: usize,
    /// An outbox above this makes its connection a slow consumer.
    pub outbox_bytes_high_water: usize,
    /// All outboxes of one shard together; above it the fattest goes first.
    pub outbox_bytes_per_shard_max: usize,
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
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
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
}

/// Health, metrics and the console.
#[derive(Clone, Debug, Default)]
pub struct Admin {
    /// Peers on other machines may read metrics and statistics, too.
    pub remote: bool,
}

/// How the process stops.
#[derive(Clone, Debug)]
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
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
