//! What settings of Sockudo, Soketi and Reverb are called here. docs/migrating.md is made from it.

/// How a value becomes ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// It stays.
    Same,
    /// Kibibytes become bytes.
    Kibibytes,
    /// Mebibytes become bytes.
    Mebibytes,
    /// Seconds; where the configuration counts milliseconds, those.
    Time,
    /// Milliseconds become seconds.
    Milliseconds,
    /// Days become seconds.
    Days,
    /// A word in lower case.
    Lower,
    /// A number where what is not positive means: without a limit.
    Limit,
    /// Texts, or one with commas between them.
    Texts,
    /// A word that says whether compression is on.
    Compression,
}

/// Where a setting of theirs goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// To this setting.
    Setting(&'static str, As),
    /// To this setting of an app; a server-wide one to every app that has none of its own.
    App(&'static str, As),
    /// It is taken together with others.
    Together(&'static str),
    /// Nowhere, for this reason.
    Nowhere(&'static str),
}

/// One row: their place, in snake case, `*` for a whole part and what is below it; ours.
pub type Row = (&'static str, To);

const CLUSTER: &str = "one process serves all connections; several nodes are not joined yet";
const PROVIDERS: &str = "each app gives its credentials over HTTP, and a provider that it gave some for is used; devices, credentials and templates are not carried over and have to be given again: docs/push.md";
const STORES: &str = "durable state is in the server's own store (`data`)";

/// Settings, the first row that fits.
pub const ROWS: &[Row] = &[
    ("host", To::Together("listen")),
    ("port", To::Together("listen")),
    ("max_connections", To::Setting("limits.connections_max", As::Limit)),
    ("activity_timeout", To::Setting("pusher.activity_timeout_s", As::Same)),
    ("shutdown_grace_period", To::Setting("drain.deadline_s", As::Time)),
    ("http_api.request_limit_in_mb", To::Setting("http.body_bytes_max", As::Mebibytes)),
    ("http_api.request_limit_in_bytes", To::Setting("http.body_bytes_max", As::Limit)),
    (
        "http_api.*",
        To::Nowhere("`/stats` and `/metrics` are always there; `admin.remote` opens them"),
    ),
    (
        "public.*",
        To::Nowhere("clients know the address they connect to; the server does not need it"),
    ),
    ("channel_limits.cache_ttl", To::Setting("pusher.cache_ttl_s", As::Same)),
    ("channel_limits.max_name_length", To::App("channel_name_bytes_max", As::Same)),
    ("event_limits.max_channels_at_once", To::App("event_channels_max", As::Same)),
    ("event_limits.max_name_length", To::App("event_name_bytes_max", As::Same)),
    ("event_limits.max_payload_in_kb", To::App("event_payload_bytes_max", As::Kibibytes)),
    ("event_limits.max_batch_size", To::App("event_batch_max", As::Same)),
    ("presence.max_members_per_channel", To::App("presence_members_max", As::Same)),
    ("presence.max_member_size_in_kb", To::App("presence_member_bytes_max", As::Kibibytes)),
    ("websocket.max_message_size", To::Setting("websocket.message_bytes_max", As::Limit)),
    ("websocket.max_backpressure", To::Setting("limits.outbox_bytes_high_water", As::Limit)),
    ("websocket.compression", To::Setting("websocket.deflate", As::Compression)),
    ("idempotency.ttl_seconds", To::Setting("history.idempotency_window_s", As::Same)),
    ("history.max_page_size", To::Setting("pusher.history_page_max", As::Same)),
    ("history.enabled", To::Together("[[history.channels]]")),
    ("history.backend", To::Together("[[history.channels]]")),
    ("history.retention_window_seconds", To::Together("[[history.channels]]")),
    ("history.max_messages_per_channel", To::Together("[[history.channels]]")),
    ("history.max_bytes_per_channel", To::Together("[[history.channels]]")),
    ("connection_recovery.enabled", To::Together("[[history.channels]]")),
    ("connection_recovery.buffer_ttl_seconds", To::Together("[[history.channels]]")),
    ("connection_recovery.max_buffer_size", To::Together("[[history.channels]]")),
    ("history.*", To::Nowhere(STORES)),
    ("presence_history.enabled", To::Setting("history.presence", As::Same)),
    ("presence_history.*", To::Nowhere("as the history of the channel: `[[history.channels]]`")),
    ("versioned_messages.enabled", To::Setting("pusher.versioned_messages", As::Same)),
    ("versioned_messages.*", To::Nowhere("as the history of the channel: `[[history.channels]]`")),
    ("annotations.enabled", To::Setting("pusher.annotations", As::Same)),
    ("presence.v2_ungraceful_timeout_seconds", To::Setting("pusher.presence_lease_s", As::Same)),
    ("tag_filtering.enabled", To::Setting("pusher.filters", As::Same)),
    ("tag_filtering.*", To::Nowhere("tags are told to subscribers of protocol 2")),
    ("delta_compression.enabled", To::Setting("pusher.delta_enabled", As::Same)),
    ("delta_compression.algorithm", To::Setting("pusher.delta_algorithm", As::Lower)),
    ("delta_compression.full_message_interval", To::Setting("pusher.delta_run_max", As::Same)),
    ("delta_compression.min_message_size", To::Setting("pusher.delta_bytes_min", As::Same)),
    ("delta_compression.max_state_age_secs", To::Setting("pusher.delta_age_s", As::Same)),
    (
        "delta_compression.max_channel_states_per_socket",
        To::Setting("pusher.delta_channels_max", As::Same),
    ),
    (
        "delta_compression.omit_delta_algorithm",
        To::Setting("pusher.delta_algorithm_omitted", As::Same),
    ),
    ("delta_compression.*", To::Nowhere(CLUSTER)),
    ("rate_limiter.api_rate_limit.max_requests", To::Setting("rates.api_requests_max", As::Limit)),
    ("rate_limiter.api_rate_limit.window_seconds", To::Setting("rates.api_window_s", As::Same)),
    ("rate_limiter.api_rate_limit.trust_hops", To::Setting("rates.proxies", As::Same)),
    (
        "rate_limiter.websocket_rate_limit.max_requests",
        To::Setting("rates.upgrades_max", As::Limit),
    ),
    (
        "rate_limiter.websocket_rate_limit.window_seconds",
        To::Setting("rates.upgrades_window_s", As::Same),
    ),
    (
        "rate_limiter.*",
        To::Nowhere("off unless `rates.*` say otherwise; all shards count together"),
    ),
    ("app_manager.array.apps.*.id", To::App("id", As::Same)),
    ("app_manager.array.apps.*.key", To::App("key", As::Same)),
    ("app_manager.array.apps.*.secret", To::App("secret", As::Same)),
    ("app_manager.array.apps.*.enabled", To::App("enabled", As::Same)),
    ("app_manager.array.apps.*.max_connections", To::App("connections_max", As::Limit)),
    ("app_manager.array.apps.*.enable_client_messages", To::App("client_events", As::Same)),
    (
        "app_manager.array.apps.*.max_client_events_per_second",
        To::App("client_events_per_second_max", As::Limit),
    ),
    (
        "app_manager.array.apps.*.max_backend_events_per_second",
        To::App("publishes_per_second_max", As::Limit),
    ),
    (
        "app_manager.array.apps.*.max_read_requests_per_second",
        To::App("reads_per_second_max", As::Limit),
    ),
    ("app_manager.array.apps.*.channel_namespaces.*.name", To::Together("namespaces")),
    ("app_manager.array.apps.*.channel_delta_compression", To::Together("[[pusher.delta]]")),
    ("app_manager.array.apps.*.terminate_on_limit", To::App("client_events_terminate", As::Same)),
    (
        "app_manager.array.apps.*.enable_user_authentication",
        To::App("user_authentication", As::Same),
    ),
    ("app_manager.array.apps.*.enable_watchlist_events", To::App("watchlist", As::Same)),
    ("app_manager.array.apps.*.allowed_origins", To::App("allowed_origins", As::Texts)),
    (
        "app_manager.array.apps.*.max_presence_members_per_channel",
        To::App("presence_members_max", As::Same),
    ),
    (
        "app_manager.array.apps.*.max_presence_member_size_in_kb",
        To::App("presence_member_bytes_max", As::Kibibytes),
    ),
    (
        "app_manager.array.apps.*.max_channel_name_length",
        To::App("channel_name_bytes_max", As::Same),
    ),
    (
        "app_manager.array.apps.*.max_event_channels_at_once",
        To::App("event_channels_max", As::Same),
    ),
    ("app_manager.array.apps.*.max_event_name_length", To::App("event_name_bytes_max", As::Same)),
    (
        "app_manager.array.apps.*.max_event_payload_in_kb",
        To::App("event_payload_bytes_max", As::Kibibytes),
    ),
    ("app_manager.array.apps.*.max_event_batch_size", To::App("event_batch_max", As::Same)),
    ("app_manager.array.apps.*.webhooks.*", To::Together("[[webhooks.receivers]]")),
    (
        "app_manager.array.apps.*.channel_namespaces.*",
        To::Nowhere(
            "a namespace is a name among `namespaces` of the app; `[[history.channels]]` says what channels keep",
        ),
    ),
    (
        "app_manager.driver",
        To::Nowhere("apps are in the configuration: copy them from your database to [[apps]]"),
    ),
    ("app_manager.array.apps.*", To::Nowhere("said for all apps and channels together, if at all")),
    ("app_manager.*", To::Nowhere("apps are in the configuration")),
    ("webhooks.batching.*", To::Nowhere("each receiver says it: `batch_max`")),
    ("adapter.*", To::Nowhere(CLUSTER)),
    ("cluster.*", To::Nowhere(CLUSTER)),
    ("cluster_health.*", To::Nowhere(CLUSTER)),
    ("instance.*", To::Nowhere(CLUSTER)),
    ("cache.*", To::Nowhere("what is cached is in the channel itself")),
    ("queue.*", To::Nowhere("webhooks wait in the server's own store (`data`)")),
    ("database.*", To::Nowhere(STORES)),
    ("database_pooling.*", To::Nowhere(STORES)),
    (
        "metrics.*",
        To::Nowhere("`/metrics` is on the same port; `admin.remote` opens it to other machines"),
    ),
    ("cors.*", To::Nowhere("every page may call the API; only who can sign is answered")),
    (
        "ssl.*",
        To::Nowhere("put a proxy that ends TLS in front, and let it pass WebSocket upgrades"),
    ),
    ("logging.*", To::Nowhere("lines of key=value on stderr")),
    ("cleanup.*", To::Nowhere("a closed connection is forgotten at once")),
    ("websocket.*", To::Nowhere("`ringmain settings` lists the bounds of connections")),
    (
        "path_prefix",
        To::Nowhere("paths are those of the protocol; a proxy can put something in front"),
    ),
    (
        "mode",
        To::Nowhere("without [[apps]] the server runs for development, with them for production"),
    ),
    ("debug", To::Nowhere("lines of key=value on stderr")),
    ("ephemeral.*", To::Nowhere("always on")),
    ("push.credential_encryption_key", To::Setting("push.encryption_key", As::Same)),
    ("push.apns.endpoint", To::Setting("push.apns_url", As::Same)),
    ("push.apns.management_endpoint", To::Setting("push.apns_channels_url", As::Same)),
    ("push.apns.request_timeout_ms", To::Setting("push.timeout_s", As::Milliseconds)),
    ("push.apns.*", To::Nowhere(PROVIDERS)),
    ("push.fcm_enabled", To::Nowhere(PROVIDERS)),
    ("push.apns_enabled", To::Nowhere(PROVIDERS)),
    ("push.webpush_enabled", To::Nowhere(PROVIDERS)),
    ("push.hms_enabled", To::Nowhere(PROVIDERS)),
    ("push.wns_enabled", To::Nowhere(PROVIDERS)),
    ("push.storage_driver", To::Nowhere(STORES)),
    ("push.queue_driver", To::Nowhere(STORES)),
    ("push.allow_memory_drivers", To::Nowhere(STORES)),
    ("push.retry.max_attempts", To::Setting("push.attempts_max", As::Same)),
    ("push.retry.initial_backoff_ms", To::Setting("push.retry_first_s", As::Milliseconds)),
    ("push.retry.max_backoff_ms", To::Setting("push.retry_longest_s", As::Milliseconds)),
    ("push.retry.*", To::Nowhere("pauses have jitter, and `Retry-After` counts, always")),
    ("push.dispatch_max_outbound_requests", To::Setting("push.concurrency_max", As::Same)),
    ("push.publish_status_ttl_days", To::Setting("push.retention_s", As::Days)),
    ("push.default_quotas.acceptance_rps", To::Setting("push.publishes_per_second_max", As::Limit)),
    (
        "push.default_quotas.delivery_quota_daily",
        To::Setting("push.deliveries_per_day_max", As::Limit),
    ),
    (
        "push.default_quotas.*",
        To::Nowhere("`push.pending_max` bounds what is in memory, however large a publish is"),
    ),
    (
        "push.*",
        To::Nowhere("publishes are planned page by page from the store, and go on after a crash"),
    ),
    ("echo_control.*", To::Nowhere("always on; each connection says `echo_messages`")),
    ("event_name_filtering.*", To::Nowhere("always on")),
];

/// Environment variables and their places; those of Soketi have `SOKETI_` in front.
pub const VARIABLES: &[(&str, &str)] = &[
    ("HOST", "host"),
    ("PORT", "port"),
    ("DEBUG", "debug"),
    ("DEBUG_MODE", "debug"),
    ("MODE", "mode"),
    ("ENVIRONMENT", "mode"),
    ("PATH_PREFIX", "path_prefix"),
    ("ACTIVITY_TIMEOUT", "activity_timeout"),
    ("SHUTDOWN_GRACE_PERIOD", "shutdown_grace_period"),
    ("SOCKUDO_MAX_CONNECTIONS", "max_connections"),
    ("CHANNEL_LIMITS_MAX_NAME_LENGTH", "channel_limits.max_name_length"),
    ("CHANNEL_CACHE_TTL", "channel_limits.cache_ttl"),
    ("EVENT_MAX_CHANNELS_AT_ONCE", "event_limits.max_channels_at_once"),
    ("EVENT_MAX_NAME_LENGTH", "event_limits.max_name_length"),
    ("EVENT_MAX_SIZE_IN_KB", "event_limits.max_payload_in_kb"),
    ("EVENT_MAX_BATCH_SIZE", "event_limits.max_batch_size"),
    ("PRESENCE_MAX_MEMBERS", "presence.max_members_per_channel"),
    ("PRESENCE_MAX_MEMBER_SIZE", "presence.max_member_size_in_kb"),
    ("WEBSOCKET_MAX_MESSAGE_SIZE", "websocket.max_message_size"),
    ("WEBSOCKET_MAX_BACKPRESSURE", "websocket.max_backpressure"),
    ("WEBSOCKET_COMPRESSION", "websocket.compression"),
    ("IDEMPOTENCY_TTL_SECONDS", "idempotency.ttl_seconds"),
    ("TAG_FILTERING_ENABLED", "tag_filtering.enabled"),
    ("VERSIONED_MESSAGES_ENABLED", "versioned_messages.enabled"),
    ("ANNOTATIONS_ENABLED", "annotations.enabled"),
    ("PRESENCE_HISTORY_ENABLED", "presence_history.enabled"),
    ("PRESENCE_V2_UNGRACEFUL_TIMEOUT_SECONDS", "presence.v2_ungraceful_timeout_seconds"),
    ("RATE_LIMITER_ENABLED", "rate_limiter.enabled"),
    ("RATE_LIMITER_API_MAX_REQUESTS", "rate_limiter.api_rate_limit.max_requests"),
    ("RATE_LIMITER_API_WINDOW_SECONDS", "rate_limiter.api_rate_limit.window_seconds"),
    ("RATE_LIMITER_API_TRUST_HOPS", "rate_limiter.api_rate_limit.trust_hops"),
    ("RATE_LIMITER_WS_MAX_REQUESTS", "rate_limiter.websocket_rate_limit.max_requests"),
    ("RATE_LIMITER_WS_WINDOW_SECONDS", "rate_limiter.websocket_rate_limit.window_seconds"),
    ("HISTORY_ENABLED", "history.enabled"),
    ("HISTORY_BACKEND", "history.backend"),
    ("HISTORY_RETENTION_WINDOW_SECONDS", "history.retention_window_seconds"),
    ("HISTORY_MAX_MESSAGES_PER_CHANNEL", "history.max_messages_per_channel"),
    ("HISTORY_MAX_BYTES_PER_CHANNEL", "history.max_bytes_per_channel"),
    ("HISTORY_MAX_PAGE_SIZE", "history.max_page_size"),
    ("CONNECTION_RECOVERY_ENABLED", "connection_recovery.enabled"),
    ("CONNECTION_RECOVERY_BUFFER_TTL", "connection_recovery.buffer_ttl_seconds"),
    ("CONNECTION_RECOVERY_MAX_BUFFER_SIZE", "connection_recovery.max_buffer_size"),
    ("SOCKUDO_DEFAULT_APP_ID", "app_manager.array.apps.0.id"),
    ("SOCKUDO_DEFAULT_APP_KEY", "app_manager.array.apps.0.key"),
    ("SOCKUDO_DEFAULT_APP_SECRET", "app_manager.array.apps.0.secret"),
    ("SOCKUDO_DEFAULT_APP_ENABLED", "app_manager.array.apps.0.enabled"),
    ("SOCKUDO_DEFAULT_APP_MAX_CONNECTIONS", "app_manager.array.apps.0.max_connections"),
    (
        "SOCKUDO_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SECOND",
        "app_manager.array.apps.0.max_backend_events_per_second",
    ),
    (
        "SOCKUDO_DEFAULT_APP_MAX_READ_REQUESTS_PER_SECOND",
        "app_manager.array.apps.0.max_read_requests_per_second",
    ),
    (
        "SOCKUDO_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SECOND",
        "app_manager.array.apps.0.max_client_events_per_second",
    ),
    (
        "SOCKUDO_DEFAULT_APP_MAX_PRESENCE_MEMBERS_PER_CHANNEL",
        "app_manager.array.apps.0.max_presence_members_per_channel",
    ),
    (
        "SOCKUDO_DEFAULT_APP_MAX_PRESENCE_MEMBER_SIZE_IN_KB",
        "app_manager.array.apps.0.max_presence_member_size_in_kb",
    ),
    (
        "SOCKUDO_DEFAULT_APP_MAX_CHANNEL_NAME_LENGTH",
        "app_manager.array.apps.0.max_channel_name_length",
    ),
    (
        "SOCKUDO_DEFAULT_APP_MAX_EVENT_CHANNELS_AT_ONCE",
        "app_manager.array.apps.0.max_event_channels_at_once",
    ),
    ("SOCKUDO_DEFAULT_APP_MAX_EVENT_NAME_LENGTH", "app_manager.array.apps.0.max_event_name_length"),
    (
        "SOCKUDO_DEFAULT_APP_MAX_EVENT_PAYLOAD_IN_KB",
        "app_manager.array.apps.0.max_event_payload_in_kb",
    ),
    ("SOCKUDO_DEFAULT_APP_MAX_EVENT_BATCH_SIZE", "app_manager.array.apps.0.max_event_batch_size"),
    (
        "SOCKUDO_DEFAULT_APP_ENABLE_CLIENT_MESSAGES",
        "app_manager.array.apps.0.enable_client_messages",
    ),
    ("SOCKUDO_ENABLE_CLIENT_MESSAGES", "app_manager.array.apps.0.enable_client_messages"),
    (
        "SOCKUDO_DEFAULT_APP_ENABLE_USER_AUTHENTICATION",
        "app_manager.array.apps.0.enable_user_authentication",
    ),
    (
        "SOCKUDO_DEFAULT_APP_ENABLE_WATCHLIST_EVENTS",
        "app_manager.array.apps.0.enable_watchlist_events",
    ),
    ("SOCKUDO_DEFAULT_APP_ALLOWED_ORIGINS", "app_manager.array.apps.0.allowed_origins"),
    ("DEFAULT_APP_ID", "app_manager.array.apps.0.id"),
    ("DEFAULT_APP_KEY", "app_manager.array.apps.0.key"),
    ("DEFAULT_APP_SECRET", "app_manager.array.apps.0.secret"),
    ("DEFAULT_APP_ENABLED", "app_manager.array.apps.0.enabled"),
    ("DEFAULT_APP_MAX_CONNS", "app_manager.array.apps.0.max_connections"),
    ("DEFAULT_APP_ENABLE_CLIENT_MESSAGES", "app_manager.array.apps.0.enable_client_messages"),
    (
        "DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC",
        "app_manager.array.apps.0.max_client_events_per_second",
    ),
    ("DEFAULT_APP_USER_AUTHENTICATION", "app_manager.array.apps.0.enable_user_authentication"),
    ("REVERB_SERVER_HOST", "host"),
    ("REVERB_SERVER_PORT", "port"),
    ("REVERB_APP_ID", "app_manager.array.apps.0.id"),
    ("REVERB_APP_KEY", "app_manager.array.apps.0.key"),
    ("REVERB_APP_SECRET", "app_manager.array.apps.0.secret"),
    ("REVERB_APP_ALLOWED_ORIGINS", "app_manager.array.apps.0.allowed_origins"),
    ("REVERB_APP_MAX_CONNECTIONS", "app_manager.array.apps.0.max_connections"),
    ("REVERB_APP_ACTIVITY_TIMEOUT", "activity_timeout"),
    ("REVERB_APP_MAX_MESSAGE_SIZE", "websocket.max_message_size"),
    ("REVERB_MAX_REQUEST_SIZE", "http_api.request_limit_in_bytes"),
    ("REVERB_HOST", "public.host"),
    ("REVERB_PORT", "public.port"),
    ("REVERB_SCHEME", "public.scheme"),
    ("REVERB_SCALING_ENABLED", "adapter.driver"),
    ("ADAPTER_DRIVER", "adapter.driver"),
    ("APP_MANAGER_DRIVER", "app_manager.driver"),
    ("CACHE_DRIVER", "cache.driver"),
    ("QUEUE_DRIVER", "queue.driver"),
    ("SSL_ENABLED", "ssl.enabled"),
    ("SSL_CERT_PATH", "ssl.cert_path"),
    ("SSL_KEY_PATH", "ssl.key_path"),
    ("SSL_CERT", "ssl.cert_path"),
    ("SSL_KEY", "ssl.key_path"),
    ("METRICS_ENABLED", "metrics.enabled"),
    ("METRICS_HOST", "metrics.host"),
    ("METRICS_PORT", "metrics.port"),
    ("METRICS_SERVER_PORT", "metrics.port"),
    ("PUSH_STORAGE_DRIVER", "push.storage_driver"),
    ("PUSH_QUEUE_DRIVER", "push.queue_driver"),
    ("PUSH_ALLOW_MEMORY_DRIVERS", "push.allow_memory_drivers"),
    ("PUSH_FCM_ENABLED", "push.fcm_enabled"),
    ("PUSH_APNS_ENABLED", "push.apns_enabled"),
    ("PUSH_WEBPUSH_ENABLED", "push.webpush_enabled"),
    ("PUSH_HMS_ENABLED", "push.hms_enabled"),
    ("PUSH_WNS_ENABLED", "push.wns_enabled"),
    ("PUSH_APNS_TOPIC", "push.apns.topic"),
    ("PUSH_APNS_ENDPOINT", "push.apns.endpoint"),
    ("PUSH_APNS_BUNDLE_ID", "push.apns.bundle_id"),
    ("PUSH_APNS_LIVE_ACTIVITY_TOPIC", "push.apns.live_activity_topic"),
    ("PUSH_APNS_LIVE_ACTIVITIES_ENABLED", "push.apns.live_activities_enabled"),
    ("PUSH_APNS_BROADCAST_ENABLED", "push.apns.broadcast_enabled"),
    ("PUSH_APNS_BROADCAST_ENDPOINT", "push.apns.broadcast_endpoint"),
    ("PUSH_APNS_MANAGEMENT_ENDPOINT", "push.apns.management_endpoint"),
    ("PUSH_APNS_DEFAULT_BROADCAST_EXPIRATION_SECS", "push.apns.default_broadcast_expiration_secs"),
    ("PUSH_APNS_CONNECT_TIMEOUT_MS", "push.apns.connect_timeout_ms"),
    ("PUSH_APNS_REQUEST_TIMEOUT_MS", "push.apns.request_timeout_ms"),
    ("PUSH_APNS_POOL_IDLE_TIMEOUT_SECS", "push.apns.pool_idle_timeout_secs"),
    ("PUSH_APNS_MAX_IDLE_CONNECTIONS_PER_HOST", "push.apns.max_idle_connections_per_host"),
    ("PUSH_APNS_TCP_KEEPALIVE_SECS", "push.apns.tcp_keepalive_secs"),
    ("PUSH_APNS_HTTP2_KEEPALIVE_INTERVAL_SECS", "push.apns.http2_keepalive_interval_secs"),
    ("PUSH_APNS_HTTP2_KEEPALIVE_TIMEOUT_SECS", "push.apns.http2_keepalive_timeout_secs"),
    ("PUSH_CREDENTIAL_ENCRYPTION_KEY", "push.credential_encryption_key"),
    ("PUSH_FANOUT_FAST_THRESHOLD", "push.fanout_fast_threshold"),
    ("PUSH_FANOUT_SHARD_SIZE", "push.fanout_shard_size"),
    ("PUSH_FANOUT_SYNC_THRESHOLD", "push.fanout_sync_threshold"),
    ("PUSH_BACKPRESSURE_LAG_THRESHOLD_SECS", "push.backpressure_lag_threshold_secs"),
    ("PUSH_PUBLISH_STATUS_TTL_DAYS", "push.publish_status_ttl_days"),
    ("PUSH_RETRY_WORKER_COUNT", "push.retry_worker_count"),
    ("PUSH_DISPATCH_MAX_OUTBOUND_REQUESTS", "push.dispatch_max_outbound_requests"),
    ("PUSH_SCHEDULER_INTERVAL_SECS", "push.scheduler_interval_secs"),
    ("PUSH_REPAIR_INTERVAL_SECS", "push.repair_interval_secs"),
    ("PUSH_REPAIR_MIN_AGE_SECS", "push.repair_min_age_secs"),
    ("PUSH_REPAIR_BATCH_SIZE", "push.repair_batch_size"),
    ("PUSH_CLEANUP_INTERVAL_SECS", "push.cleanup_interval_secs"),
    ("PUSH_CLEANUP_BATCH_SIZE", "push.cleanup_batch_size"),
    ("PUSH_CLEANUP_MAX_DELETED_PER_TICK", "push.cleanup_max_deleted_per_tick"),
    ("PUSH_STALE_DEVICE_MAX_AGE_DAYS", "push.stale_device_max_age_days"),
    ("PUSH_ANALYTICS_ENABLED", "push.analytics_enabled"),
    ("PUSH_RETRY_MAX_ATTEMPTS", "push.retry.max_attempts"),
    ("PUSH_RETRY_INITIAL_BACKOFF_MS", "push.retry.initial_backoff_ms"),
    ("PUSH_RETRY_MAX_BACKOFF_MS", "push.retry.max_backoff_ms"),
    ("PUSH_RETRY_MAX_ELAPSED_SECS", "push.retry.max_elapsed_secs"),
    ("PUSH_RETRY_JITTER", "push.retry.jitter"),
    ("PUSH_RETRY_JITTER_RATIO_PERCENT", "push.retry.jitter_ratio_percent"),
    ("PUSH_RETRY_RESPECT_RETRY_AFTER", "push.retry.respect_retry_after"),
    ("PUSH_FAILURE_THRESHOLD", "push.circuit_breaker.failure_threshold"),
    ("PUSH_DEFAULT_ACCEPTANCE_RPS", "push.default_quotas.acceptance_rps"),
    ("PUSH_DEFAULT_DELIVERY_QUOTA_DAILY", "push.default_quotas.delivery_quota_daily"),
    ("PUSH_DEFAULT_FANOUT_MAX", "push.default_quotas.fanout_max"),
    ("PUSH_DEFAULT_INFLIGHT_MAX", "push.default_quotas.inflight_max"),
    ("APNS_TOPIC", "push.apns.topic"),
    ("APNS_ENDPOINT", "push.apns.endpoint"),
    ("PUSHER_APP_ID", "app_manager.array.apps.0.id"),
    ("PUSHER_APP_KEY", "app_manager.array.apps.0.key"),
    ("PUSHER_APP_SECRET", "app_manager.array.apps.0.secret"),
];

/// The row of a place.
pub fn row(path: &str) -> Option<To> {
    let path: Vec<&str> = path.split('.').collect();
    let is_it = |pattern: &str| {
        let pattern: Vec<&str> = pattern.split('.').collect();
        let fits = |(ours, theirs): (&&str, &&str)| *ours == "*" || ours == theirs;
        let is_open = pattern.last() == Some(&"*");
        (pattern.len() == path.len() || is_open && path.len() > pattern.len())
            && pattern.iter().zip(&path).all(fits)
    };
    ROWS.iter().find(|(pattern, _)| is_it(pattern)).map(|(_, to)| *to)
}
