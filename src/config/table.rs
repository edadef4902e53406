//! The settings, one row each. Flags, environment, file, `--help` and reference come from here.

use super::value::{Applies, Kind, SecretFrom};
use super::{App, Config, DriverChoice, Revocations, Secret};
use crate::base::ids::SHARDS_MAX;

/// One setting of `T`.
pub struct Setting<T: 'static> {
    /// Its name: `group.name`, unit and bound last.
    pub key: &'static str,
    /// What it holds.
    pub kind: Kind<T>,
    /// When a change is felt.
    pub applies: Applies,
    /// What it does, in one sentence.
    pub help: &'static str,
}

/// A row with a number: field, unit, default, range, help. `zero` says what 0 means, if special.
macro_rules! number {
    ($key:expr, $($field:ident).+, $unit:ident, $default:expr, $min:expr, $max:expr, $help:literal) => {
        number!($key, $($field).+, $unit, $default, $min, $max, zero: None, $help)
    };
    ($key:expr, $($field:ident).+, $unit:ident, $default:expr, $min:expr, $max:expr, zero: $zero:expr, $help:literal) => {
        $crate::config::table::Setting {
            key: $key,
            kind: $crate::config::value::Kind::Number {
                unit: $crate::config::value::Unit::$unit,
                default: $default,
                min: $min,
                max: $max,
                zero: $zero,
                put: |target, number| {
                    target.$($field).+ = $crate::config::value::Amount::from_checked(number)
                },
                read: |target| $crate::config::value::Amount::to_number(target.$($field).+),
            },
            applies: $crate::config::value::Applies::AtStart,
            help: $help,
        }
    };
}

/// A row with a switch: field, default, help.
macro_rules! switch {
    ($key:expr, $($field:ident).+, $default:literal, $help:literal) => {
        $crate::config::table::Setting {
            key: $key,
            kind: $crate::config::value::Kind::Switch {
                default: $default,
                put: |target, value| target.$($field).+ = value,
                read: |target| target.$($field).+,
            },
            applies: $crate::config::value::Applies::AtStart,
            help: $help,
        }
    };
}

// Dialects declare their settings with the same words.
pub(crate) use {number, switch};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const MILLION: u64 = 1_000_000;

/// The settings of the process, in the order of the reference.
pub static SETTINGS: &[Setting<Config>] = &[
    Setting {
        key: "listen",
        kind: Kind::Addresses {
            default: &["127.0.0.1:6001"],
            put: |config, addresses, paths| {
                (config.listen, config.listen_local) = (addresses, paths);
            },
            read: |config| (&config.listen, &config.listen_local),
        },
        applies: Applies::AtStart,
        help: "Addresses to listen on; port 0 lets the kernel choose one, which is printed. `unix:PATH` is a Unix \
               socket that everyone who may reach it may connect to, for a proxy on the same machine.",
    },
    number!("shards", shards, Count, 0, 1, SHARDS_MAX as u64,
        zero: Some("one per core"),
        "Threads that own sockets and channels; more than cores buys nothing."),
    switch!(
        "pin",
        pin,
        true,
        "Pin each shard's thread to a core; turn it off where something else shares the cores."
    ),
    Setting {
        key: "driver",
        kind: Kind::Choice {
            default: "auto",
            words: &["auto", "uring", "epoll"],
            put: |config, word| {
                config.driver = match word {
                    "uring" => DriverChoice::Uring,
                    "epoll" => DriverChoice::Epoll,
                    _ => DriverChoice::Auto,
                }
            },
            read: |config| match config.driver {
                DriverChoice::Auto => "auto",
                DriverChoice::Uring => "uring",
                DriverChoice::Epoll => "epoll",
            },
        },
        applies: Applies::AtStart,
        help: "How to talk to the kernel; auto takes io_uring where it is allowed, else epoll.",
    },
    Setting {
        key: "data",
        kind: Kind::Path {
            default: "ringmain-data",
            put: |config, path| config.data = path,
            read: |config| &config.data,
        },
        applies: Applies::AtStart,
        help: "The directory of durable state; what is durable lies there: channels that are, and what protocols keep.",
    },
    number!("store.bytes_max", store.bytes_max, Bytes, 0, 128 * MIB, 1 << 50,
        zero: Some("no bound of its own"),
        "Bytes that durable state may take on disk; above it durable publishes are refused with 503. Files that the database has replaced and not yet removed are not counted: plan for twice as much."),
    // Room for the database to fold its files together, which is how space comes back.
    number!(
        "store.free_bytes_min",
        store.free_bytes_min,
        Bytes,
        256 * MIB,
        0,
        1 << 50,
        "Bytes that must stay free on the disk of durable state; below it durable publishes are refused with 503."
    ),
    // Bounds of the process.
    number!("limits.connections_max", limits.connections_max, Count, 0, 1, u32::MAX as u64,
        zero: Some("what descriptors and memory allow"),
        "Connections in the whole process; a further WebSocket is closed with 4100, a further API request answered 503."),
    // Some hundred bytes each when empty: a million is what a mid-size machine carries per core.
    number!(
        "limits.channels_per_shard_max",
        limits.channels_per_shard_max,
        Count,
        MILLION,
        1,
        1_000 * MILLION,
        "Channels one shard is home of; a further one is refused."
    ),
    // Two seconds of a busy 16 Mbit/s peer: longer than a stall that heals, far below what hurts.
    number!(
        "limits.outbox_bytes_high_water",
        limits.outbox_bytes_high_water,
        Bytes,
        4 * MIB,
        16 * KIB,
        GIB,
        "Bytes queued for one connection above which it is a slow consumer and is closed."
    ),
    number!("limits.assembly_bytes_per_shard_max", limits.assembly_bytes_per_shard_max, Bytes, 0, MIB / 4, 1024 * GIB,
        zero: Some("an eighth of memory, shared by the shards"),
        "Bytes of messages and bodies of a shard that are not whole yet, and of what its sessions keep for peers (filters, requests that wait); above it whoever adds to them is refused with 503 or closed with 1013."),
    number!("limits.outbox_bytes_per_shard_max", limits.outbox_bytes_per_shard_max, Bytes, 0, MIB, 1024 * GIB,
        zero: Some("a quarter of memory, shared by the shards"),
        "Bytes queued for all connections of a shard; above it the fattest outbox goes first."),
    number!("limits.history_bytes_per_shard_max", limits.history_bytes_per_shard_max, Bytes, 0, MIB / 4, 1024 * GIB,
        zero: Some("an eighth of memory, shared by the shards"),
        "Bytes of events that the channels of a shard keep in memory; above it older ones go, of one channel after the other."),
    number!(
        "limits.mailbox_slots",
        limits.mailbox_slots,
        PowerOfTwo,
        4096,
        64,
        1 << 20,
        "Slots of each mailbox, two of which join every ordered pair of shards."
    ),
    number!(
        "limits.backlog_mails_high_water",
        limits.backlog_mails_high_water,
        Count,
        16_384,
        64,
        10 * MILLION,
        "Mails waiting for a full mailbox above which the sockets that send them are not read."
    ),
    // 8 MiB per shard together. The kernel refuses rings of more than 32,768 entries.
    number!(
        "limits.receive_buffers",
        limits.receive_buffers,
        PowerOfTwo,
        4096,
        16,
        32_768,
        "Receive buffers of a shard, shared by all its sockets."
    ),
    number!(
        "limits.receive_buffer_bytes",
        limits.receive_buffer_bytes,
        BytesPowerOfTwo,
        2 * KIB,
        256,
        MIB,
        "Bytes of one receive buffer; what does not fit comes in several."
    ),
    // The order of one wake-up: looking longer than that costs more than the wake-up it saves.
    number!(
        "limits.spin_us",
        limits.spin_us,
        Micros,
        30,
        0,
        10_000,
        "How long an idle shard looks for mail before it parks."
    ),
    // HTTP.
    // A token of 16 KiB in the query, which Hotsock allows, and some room for what is around it.
    number!(
        "http.target_bytes_max",
        http.target_bytes_max,
        Bytes,
        18 * KIB,
        256,
        64 * KIB,
        "A request line's target; above it 414."
    ),
    number!(
        "http.head_bytes_max",
        http.head_bytes_max,
        Bytes,
        32 * KIB,
        KIB,
        256 * KIB,
        "A request's head; above it 431."
    ),
    number!(
        "http.head_fields_max",
        http.head_fields_max,
        Count,
        100,
        8,
        1_000,
        "Header fields of a request; above it 431."
    ),
    // A hundred channels' worth of a batch at the largest payload.
    number!(
        "http.body_bytes_max",
        http.body_bytes_max,
        Bytes,
        10 * MIB,
        KIB,
        GIB,
        "A request's body; above it 413."
    ),
    number!(
        "http.head_timeout_s",
        http.head_timeout,
        Seconds,
        10 * SECOND,
        100,
        HOUR,
        "From the first byte of a request's head to its end; else 408."
    ),
    number!(
        "http.body_timeout_s",
        http.body_timeout,
        Seconds,
        30 * SECOND,
        100,
        HOUR,
        "From the end of the head to the end of the body; else 408."
    ),
    // Above the 60 s that load balancers commonly keep a connection, so that they close first
    // and never send a request into a connection that is just being closed.
    number!(
        "http.idle_timeout_s",
        http.idle_timeout,
        Seconds,
        75 * SECOND,
        100,
        24 * HOUR,
        "Between two requests on one connection."
    ),
    // WebSocket. A client event of 100 KiB is JSON within JSON: escaped it may be several times that.
    number!(
        "websocket.message_bytes_max",
        websocket.message_bytes_max,
        Bytes,
        MIB,
        KIB,
        GIB,
        "An inbound message, assembled and inflated; above it close code 1009."
    ),
    number!(
        "websocket.close_timeout_s",
        websocket.close_timeout,
        Seconds,
        5 * SECOND,
        100,
        10 * MINUTE,
        "How long a peer may take to answer a close frame."
    ),
    switch!(
        "websocket.deflate",
        websocket.deflate,
        true,
        "Take permessage-deflate when a peer offers it; an event is compressed once for all of them."
    ),
    // Without context takeover, below this compression saves less than it costs the peers.
    number!(
        "websocket.deflate_bytes_min",
        websocket.deflate_bytes_min,
        Bytes,
        KIB,
        0,
        GIB,
        "Payloads below this leave uncompressed even to peers that take compression."
    ),
    // The Pusher protocol.
    number!(
        "pusher.activity_timeout_s",
        pusher.activity_timeout,
        Seconds,
        120 * SECOND,
        SECOND,
        HOUR,
        "Silence after which the server pings; clients are told it."
    ),
    number!(
        "pusher.pong_timeout_s",
        pusher.pong_timeout,
        Seconds,
        30 * SECOND,
        100,
        HOUR,
        "How long a pong may take before the connection is closed with 4201."
    ),
    number!(
        "pusher.subscriptions_per_connection_max",
        pusher.subscriptions_per_connection_max,
        Count,
        10_000,
        1,
        MILLION,
        "Channels one connection may be subscribed to."
    ),
    // The window that Pusher documents.
    number!(
        "pusher.signature_window_s",
        pusher.signature_window,
        Seconds,
        600 * SECOND,
        SECOND,
        24 * HOUR,
        "How far the timestamp of a signed request may be from the server's clock."
    ),
    // What Pusher documents for cache channels.
    number!(
        "pusher.cache_ttl_s",
        pusher.cache_ttl,
        Seconds,
        30 * MINUTE,
        SECOND,
        30 * 24 * HOUR,
        "How long a cache channel keeps its last event."
    ),
    // What Sockudo documents.
    number!(
        "pusher.history_page_max",
        pusher.history_page_max,
        Count,
        100,
        1,
        1000,
        "Events in one page of a channel's history; who asks for more gets as many."
    ),
    Setting {
        key: "pusher.revocations",
        kind: Kind::Choice {
            default: "auto",
            words: &["auto", "memory", "durable"],
            put: |config, word| {
                config.pusher.revocations = match word {
                    "memory" => Revocations::Memory,
                    "durable" => Revocations::Durable,
                    _ => Revocations::Auto,
                }
            },
            read: |config| match config.pusher.revocations {
                Revocations::Auto => "auto",
                Revocations::Memory => "memory",
                Revocations::Durable => "durable",
            },
        },
        applies: Applies::AtStart,
        help: "Where revocations of capability tokens are kept: memory forgets them with the process, durable keeps them on disk; auto is durable where history or webhooks are kept on disk anyway.",
    },
    switch!(
        "pusher.versioned_messages",
        pusher.versioned_messages,
        true,
        "Messages of channels that keep history can be updated, appended to and deleted; subscribers of protocol 2 hear of it."
    ),
    switch!(
        "pusher.annotations",
        pusher.annotations,
        true,
        "Such messages can be annotated (reactions, receipts); needs pusher.versioned_messages."
    ),
    // What Sockudo's server is set to. A subscription has one byte for it: see broker::edge::LEASE_MAX.
    number!(
        "pusher.presence_lease_s",
        pusher.presence_lease,
        Seconds,
        15 * SECOND,
        SECOND,
        240 * SECOND,
        zero: Some("not at all"),
        "How long a member whose connection is lost without a word stays; protocol version 2 only."
    ),
    switch!(
        "pusher.meta_is_open",
        pusher.meta_is_open,
        false,
        "Anyone may subscribe [meta] of a private or presence channel, and hear how many are in it and who, as with Sockudo; else that takes a signature of the name with [meta]."
    ),
    switch!(
        "admin.remote",
        admin.remote,
        false,
        "Peers on other machines may read metrics and statistics, too."
    ),
    Setting {
        key: "admin.token",
        kind: Kind::Secret {
            from: SecretFrom::Text,
            put: |config, text| config.admin.token = Some(Secret(text)),
        },
        applies: Applies::AtStart,
        help: "Opens the console (/_/) to whoever has it, from anywhere; give it here or by one of the next two.",
    },
    Setting {
        key: "admin.token_file",
        kind: Kind::Secret {
            from: SecretFrom::File,
            put: |config, text| config.admin.token = Some(Secret(text)),
        },
        applies: Applies::AtStart,
        help: "A file that holds the console's token; space around it is dropped.",
    },
    Setting {
        key: "admin.token_env",
        kind: Kind::Secret {
            from: SecretFrom::Environment,
            put: |config, text| config.admin.token = Some(Secret(text)),
        },
        applies: Applies::AtStart,
        help: "An environment variable that holds the console's token.",
    },
    // The stop.
    number!(
        "drain.deadline_s",
        drain.deadline,
        Seconds,
        10 * SECOND,
        0,
        HOUR,
        "From the signal to the exit, at most."
    ),
    // Ten thousand peers per shard leave within two seconds, and come back no faster.
    number!(
        "drain.per_second",
        drain.per_second,
        Count,
        5_000,
        1,
        MILLION,
        "Peers that are told to reconnect, per second and shard."
    ),
];

/// The settings of one app: a table of `[[apps]]`, or `RINGMAIN_APP_*` for the first.
pub static APP_SETTINGS: &[Setting<App>] = &[
    Setting {
        key: "id",
        kind: Kind::Word { bytes_max: 64, put: |app, text| app.id = text, read: |app| &app.id },
        applies: Applies::AtStart,
        help: "The app's id, in paths of the HTTP API.",
    },
    Setting {
        key: "key",
        kind: Kind::Word { bytes_max: 64, put: |app, text| app.key = text, read: |app| &app.key },
        applies: Applies::AtStart,
        help: "The app's public key, in WebSocket paths and signed requests.",
    },
    Setting {
        key: "secret",
        kind: Kind::Secret { from: SecretFrom::Text, put: |app, text| app.secret.0 = text },
        applies: Applies::AtStart,
        help: "The app's secret, which signs; give it here or by one of the next two.",
    },
    Setting {
        key: "secret_file",
        kind: Kind::Secret { from: SecretFrom::File, put: |app, text| app.secret.0 = text },
        applies: Applies::AtStart,
        help: "A file that holds the secret; space around it is dropped.",
    },
    Setting {
        key: "secret_env",
        kind: Kind::Secret { from: SecretFrom::Environment, put: |app, text| app.secret.0 = text },
        applies: Applies::AtStart,
        help: "An environment variable that holds the secret.",
    },
    switch!("enabled", enabled, true, "A disabled app can do nothing."),
    switch!("client_events", client_events, false, "Peers may publish client- events."),
    // Pusher's limit.
    number!("client_events_per_second_max", client_events_per_second_max, Count, 10, 1, MILLION,
        zero: Some("no limit"), "Client events per second and connection."),
    switch!(
        "client_events_terminate",
        client_events_terminate,
        false,
        "Close a connection that passes that limit instead of refusing the event."
    ),
    number!("user_events_per_second_max", user_events_per_second_max, Count, 0, 1, MILLION,
        zero: Some("no limit"), "Client events per second of all connections of one user who is signed in."),
    number!("publishes_per_second_max", publishes_per_second_max, Count, 0, 1, 1_000 * MILLION,
        zero: Some("no limit"),
        "Events that back ends publish over HTTP, versions and annotations among them, per second; above it 429."),
    number!("reads_per_second_max", reads_per_second_max, Count, 0, 1, 1_000 * MILLION,
        zero: Some("no limit"), "Requests of the HTTP API that read, per second; above it 429."),
    switch!("user_authentication", user_authentication, false, "Peers may sign in as a user."),
    switch!(
        "watchlist",
        watchlist,
        false,
        "Signed-in peers hear when the users on their watchlist come and go."
    ),
    number!(
        "watchlist_users_max",
        watchlist_users_max,
        Count,
        100,
        0,
        100_000,
        "Users on one watchlist."
    ),
    switch!(
        "subscription_counts",
        subscription_counts,
        false,
        "Subscribers hear how many subscriptions a channel has."
    ),
    number!("connections_max", connections_max, Count, 0, 1, u32::MAX as u64,
        zero: Some("no limit of its own"), "Connections of the app; a further one is closed with 4004."),
    number!(
        "presence_members_max",
        presence_members_max,
        Count,
        100,
        1,
        MILLION,
        "Members of one presence channel."
    ),
    number!(
        "presence_member_bytes_max",
        presence_member_bytes_max,
        Bytes,
        2 * KIB,
        16,
        MIB,
        "What one member of a presence channel may tell of itself."
    ),
    number!(
        "channel_name_bytes_max",
        channel_name_bytes_max,
        Bytes,
        200,
        1,
        4 * KIB,
        "A channel's name."
    ),
    number!(
        "event_name_bytes_max",
        event_name_bytes_max,
        Bytes,
        200,
        1,
        4 * KIB,
        "An event's name."
    ),
    // Pusher's hosted service takes 10 KB; those who host their own expect 100.
    number!(
        "event_payload_bytes_max",
        event_payload_bytes_max,
        Bytes,
        100 * KIB,
        1,
        GIB,
        "An event's data."
    ),
    number!(
        "event_channels_max",
        event_channels_max,
        Count,
        100,
        1,
        100_000,
        "Channels of one publish."
    ),
    // Pusher's hosted service takes 10; clients written for it never send more than that.
    number!("event_batch_max", event_batch_max, Count, 100, 1, 100_000, "Events of one batch."),
    Setting {
        key: "allowed_origins",
        kind: Kind::Texts {
            put: |app, texts| app.allowed_origins = texts,
            read: |app| &app.allowed_origins,
        },
        applies: Applies::AtStart,
        help: "Origins that may connect over the Pusher protocol: exact, * or *.example.com, with or without scheme; none given: any.",
    },
    Setting {
        key: "namespaces",
        kind: Kind::Texts { put: |app, texts| app.namespaces = texts, read: |app| &app.namespaces },
        applies: Applies::AtStart,
        help: "What may stand before a colon in the names of channels of the Pusher protocol, as chat in chat:1; * for anything; none given: such names are refused.",
    },
    Setting {
        key: "bridge",
        kind: Kind::Texts { put: |app, texts| app.bridge = texts, read: |app| &app.bridge },
        applies: Applies::AtStart,
        help: "Channels that every protocol hears and may publish to, each in its own words; exact names.",
    },
];
