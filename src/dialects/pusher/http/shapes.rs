//! What the bodies, queries and answers of the routes look like, for people and programs that call them.
//!
//! A description only: what is checked of a request is checked where it is read. The test of every route and
//! schemathesis hold both to each other.

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A string of at least and at most so many bytes.
    Text(usize, usize),
    /// A string that this regular expression matches.
    Pattern(&'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number from here on.
    Whole(u64),
    /// A number.
    Number,
    /// `true` or `false`.
    Switch,
    /// A string, a number or one of those.
    Scalar,
    /// Any JSON value.
    Any,
    /// An object of anything.
    Open,
    /// An object with these members.
    Object(&'static [Field]),
    /// An object with these members, each of which is there once more in snake case where its name has capitals.
    Twice(&'static [Field]),
    /// A list of at least so many.
    List(usize, &'static Kind),
    /// An object whose members are all of a kind.
    Map(&'static Kind),
    /// Or null.
    Nullable(&'static Kind),
}

/// A member of an object, a parameter of a query or a field of a head.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// It must be there.
    pub is_required: bool,
    /// What it does; empty where the name says it.
    pub help: &'static str,
}

/// The body of a request: a JSON object, or a list of them.
#[derive(Debug)]
pub struct Body {
    /// Its members.
    pub fields: &'static [Field],
    /// It is a list of such objects.
    pub is_list: bool,
    /// At least one of these must be there; empty: that is no matter.
    pub any_of: &'static [&'static str],
    /// One that works.
    pub example: &'static str,
}

pub(super) const fn must(name: &'static str, kind: Kind, help: &'static str) -> Field {
    Field { name, kind, is_required: true, help }
}

pub(super) const fn may(name: &'static str, kind: Kind, help: &'static str) -> Field {
    Field { name, kind, is_required: false, help }
}

pub(super) const TEXT: Kind = Kind::Text(0, usize::MAX);
pub(super) const ID: Kind = Kind::Text(1, 128);
pub(super) const COUNT: Kind = Kind::Whole(0);
pub(super) const SERIAL: Kind = Kind::Whole(1);
pub(super) const COUNT_OR_NULL: Kind = Kind::Nullable(&COUNT);
pub(super) const TEXT_OR_NULL: Kind = Kind::Nullable(&TEXT);
pub(super) const TEXTS: Kind = Kind::Map(&TEXT);
const SOCKET_ID: Kind = Kind::Pattern(r"^[0-9]+\.[0-9]+$");

/// A channel's name in a path.
pub const CHANNEL_NAME: Kind = Kind::Pattern("^[A-Za-z0-9_=@,.;:-]{1,200}$");
/// A presence channel's.
pub const PRESENCE_NAME: Kind = Kind::Pattern("^presence-[A-Za-z0-9_=@,.;:-]{0,191}$");
/// A channel's name in a publish, which may be a user's own.
const CHANNEL_PUBLISHED: Kind =
    Kind::Pattern("^([A-Za-z0-9_=@,.;:-]{1,200}|#server-to-user-[^\\x00-\\x1f\\x7f]+)$");

/// What is refused.
pub static ERROR: Kind = Kind::Object(&[
    must("error", TEXT, "For people."),
    must("code", TEXT, "For programs."),
    must("status", Kind::Whole(400), "The status again."),
    may("message", TEXT, "More, for people."),
    may("ai_code", COUNT, "A number that goes with some codes."),
]);

/// Done.
pub static DONE: Kind = Kind::Object(&[must("ok", Kind::Switch, "")]);

// --- Publishing ---------------------------------------------------------------------------------

/// The key of a whole request.
pub static KEY_HEADER: &[Field] = &[may(
    "X-Idempotency-Key",
    ID,
    "Who sends the request again with the same key gets the first answer again, and nothing is published twice. A key in the body counts before it.",
)];

const EXTRAS: Kind = Kind::Object(&[
    may("headers", Kind::Map(&Kind::Scalar), "A flat map of strings, numbers and booleans."),
    may("ephemeral", Kind::Switch, "Deliver it and forget it: no place in the history."),
    may("idempotencyKey", ID, "The message's own key; also `idempotency_key`."),
    may(
        "echo",
        Kind::Switch,
        "Whether the publisher's connection hears it, whatever it asked for.",
    ),
    may(
        "push",
        super::push::OF_EVENT,
        "A push notification to the devices that hear of the event's channels: what `payload` of `push/publish` says, `provider_overrides`, `expires_at_ms` and `skip_connected`. Passed on, too.",
    ),
    may("ref", Kind::Any, "Passed on."),
]);

const EVENT_FIELDS: &[Field] = &[
    must("name", Kind::Text(1, 200), "The event's name."),
    may(
        "data",
        Kind::Any,
        "Subscribers get a string as it is and anything else as its JSON text. Absent: `null`.",
    ),
    may("channel", TEXT, "Where; not looked at where there is `channels`."),
    may(
        "channels",
        Kind::List(1, &CHANNEL_PUBLISHED),
        "Where, at most the app's `event_channels_max`.",
    ),
    may("socket_id", TEXT, "The connection that does not get it."),
    may(
        "info",
        INFO_LIST,
        "What is to be told about the channels: `user_count`, `subscription_count`, divided by commas.",
    ),
    may("tags", TEXTS, "What filters look at: at most 128, names of 256 bytes, values of 1024."),
    may("delta", Kind::Switch, "`false`: nobody gets it as the difference to the last."),
    may(
        "message_id",
        Kind::Text(1, 200),
        "What subscribers of protocol 2 see as its `message_id`, and its key: the same id is published once.",
    ),
    may("idempotency_key", ID, "Who sends it again with the same key gets the first answer again."),
    may("extras", EXTRAS, "Passed on to subscribers of protocol 2."),
];

const INFO_LIST: Kind = Kind::Pattern(r"^[\s,]*((user_count|subscription_count|cache)[\s,]*)*$");

/// One event.
pub static EVENT_BODY: Body = Body {
    fields: EVENT_FIELDS,
    is_list: false,
    any_of: &["channel", "channels"],
    example: r#"{"name":"order.created","channel":"orders","data":{"id":"ord_123"},"idempotency_key":"order-created-ord_123"}"#,
};

/// Several.
pub static BATCH_BODY: Body = Body {
    fields: &[must(
        "batch",
        Kind::List(0, &Kind::Object(EVENT_FIELDS)),
        "The events, each as for `events`, at most the app's `event_batch_max`.",
    )],
    is_list: false,
    any_of: &[],
    example: r#"{"batch":[{"channel":"orders","name":"order.created","data":{"id":"ord_123"}},{"channel":"orders","name":"order.paid","data":{"id":"ord_123"}}]}"#,
};

const OF_CHANNEL: &[Field] = &[
    may("user_count", COUNT, "Users present, of presence channels."),
    may("subscription_count", COUNT, "Subscriptions."),
    may(
        "message_serial",
        TEXT,
        "The message's name for good; where it can be changed and annotated.",
    ),
    may("version_serial", TEXT, "That of its first version: the same."),
    may("history_serial", SERIAL, "Its place in the channel's history, if it is kept."),
    may("delivery_serial", SERIAL, "The place it was delivered with: the same."),
    may("mode", Kind::Choice(&["none", "memory", "durable"]), "How it is kept."),
    may(
        "acknowledgement_id",
        TEXT,
        "Its `message_serial`; without one its `message_id`, or a name that it was given.",
    ),
    may(
        "repeated",
        Kind::Switch,
        "It was published before, with the same key: this is what was said then.",
    ),
];

/// The answer to a publish.
pub static PUBLISHED: Kind = Kind::Object(&[may(
    "channels",
    Kind::Map(&Kind::Object(OF_CHANNEL)),
    "Only if the event has `info` or `message_id`.",
)]);

/// The answer to a batch.
pub static BATCH_PUBLISHED: Kind = Kind::Object(&[may(
    "batch",
    Kind::List(0, &Kind::Object(OF_CHANNEL)),
    "Only if an event has `info` or `message_id`: one for each, about its first channel.",
)]);

// --- Channels -----------------------------------------------------------------------------------

/// What may be asked about a channel.
pub static INFO_QUERY: &[Field] = &[may(
    "info",
    INFO_LIST,
    "What is to be told: `user_count`, `subscription_count`, `cache`, divided by commas.",
)];

/// What may be asked about channels.
pub static CHANNELS_QUERY: &[Field] = &[
    may("filter_by_prefix", TEXT, "Only channels whose names start so."),
    may(
        "info",
        INFO_LIST,
        "What is to be told: `user_count`, `subscription_count`, divided by commas.",
    ),
];

/// Channels.
pub static CHANNELS: Kind = Kind::Object(&[must(
    "channels",
    Kind::Map(&Kind::Object(&[may("user_count", COUNT, ""), may("subscription_count", COUNT, "")])),
    "Those that have a subscription.",
)]);

/// A channel.
pub static CHANNEL: Kind = Kind::Object(&[
    must("occupied", Kind::Switch, "It has a subscription."),
    may("subscription_count", COUNT, ""),
    may("user_count", COUNT, ""),
    may(
        "cache",
        Kind::Object(&[must("data", TEXT, ""), must("ttl", COUNT, "Seconds it is still kept.")]),
        "The event that a cache channel keeps.",
    ),
]);

/// Users.
pub static USERS: Kind =
    Kind::Object(&[must("users", Kind::List(0, &Kind::Object(&[must("id", TEXT, "")])), "")]);

// --- History ------------------------------------------------------------------------------------

const DIRECTION: Field = may(
    "direction",
    Kind::Choice(&["newest_first", "oldest_first", "backwards", "reverse", "forwards", "forward"]),
    "Which comes first; the newest unless it is said.",
);

/// Which part of a history.
pub static HISTORY_QUERY: &[Field] = &[
    may("limit", SERIAL, "How many, at most; never more than `pusher.history_page_max`."),
    DIRECTION,
    may("cursor", TEXT, "`next_cursor` of the page before."),
    may("start_serial", COUNT, "This one or a later one."),
    may("end_serial", COUNT, "This one or an earlier one."),
    may("start_time_ms", COUNT, "Published then or later; also `start`."),
    may("end_time_ms", COUNT, "Published then or earlier; also `end`."),
];

const BOUNDS: Kind = Kind::Object(&[
    must("start_serial", COUNT_OR_NULL, ""),
    must("end_serial", COUNT_OR_NULL, ""),
    must("start_time_ms", COUNT_OR_NULL, ""),
    must("end_time_ms", COUNT_OR_NULL, ""),
]);

/// Whether a history can be trusted.
const STREAM_STATE: Kind = Kind::Object(&[
    must("stream_id", TEXT, "Which life of the channel."),
    must("durable_state", Kind::Choice(&["healthy", "degraded", "reset_required"]), ""),
    must("reset_required", Kind::Switch, ""),
    may("recovery_allowed", Kind::Switch, "Of messages."),
    may("continuity_proven", Kind::Switch, "Of members."),
    must("reason", TEXT_OR_NULL, ""),
    must("node_id", TEXT_OR_NULL, ""),
    must("last_transition_at_ms", COUNT_OR_NULL, ""),
    must("authoritative_source", TEXT, "How it is kept: `memory` or `durable`."),
    must("observed_source", TEXT, "The same."),
]);

const CONTINUITY: Kind = Kind::Object(&[
    must("stream_id", TEXT, ""),
    must("oldest_available_serial", COUNT_OR_NULL, ""),
    must("newest_available_serial", COUNT_OR_NULL, ""),
    must("oldest_available_published_at_ms", COUNT_OR_NULL, ""),
    must("newest_available_published_at_ms", COUNT_OR_NULL, ""),
    may("retained_messages", COUNT, ""),
    may("retained_events", COUNT, ""),
    must("retained_bytes", COUNT, ""),
    may("degraded", Kind::Switch, "Of members."),
    must("complete", Kind::Switch, "Nothing that was asked for is missing."),
    must("truncated_by_retention", Kind::Switch, "Some of it is not kept any more."),
]);

/// A page of a history.
pub static HISTORY: Kind = Kind::Object(&[
    must(
        "items",
        Kind::List(
            0,
            &Kind::Object(&[
                must("stream_id", TEXT, ""),
                must("serial", SERIAL, ""),
                must("published_at_ms", COUNT, ""),
                must("message_id", TEXT, ""),
                must("event_name", TEXT_OR_NULL, ""),
                must("operation_kind", TEXT, ""),
                must("payload_size_bytes", COUNT, ""),
                must("message", Kind::Open, "As its subscribers of protocol 2 get it."),
            ]),
        ),
        "",
    ),
    must("direction", Kind::Choice(&["newest_first", "oldest_first"]), ""),
    must("limit", SERIAL, ""),
    must("has_more", Kind::Switch, ""),
    must("next_cursor", TEXT_OR_NULL, ""),
    must("bounds", BOUNDS, "What was asked for."),
    must("continuity", CONTINUITY, ""),
    must("stream_state", STREAM_STATE, ""),
]);

const STREAM: Kind = Kind::Object(&[
    must("stream_id", TEXT, ""),
    must("next_serial", SERIAL, ""),
    must("retained", Kind::Open, ""),
    must("state", STREAM_STATE, ""),
]);

/// What is kept.
pub static HISTORY_STATE: Kind =
    Kind::Object(&[must("channel", TEXT, ""), must("stream", STREAM, "")]);

const CONFIRM_CHANNEL: Field =
    must("confirm_channel", TEXT, "The channel's name once more, exactly.");
const REASON: Field = must("reason", Kind::Pattern(r"\S"), "Why, for the answer and the log.");
const REQUESTED_BY: Field = may("requested_by", TEXT, "Who.");

/// A reset.
pub static RESET_BODY: Body = Body {
    fields: &[
        CONFIRM_CHANNEL,
        must("confirm_operation", Kind::Choice(&["reset"]), "What, once more."),
        REASON,
        REQUESTED_BY,
    ],
    is_list: false,
    any_of: &[],
    example: r#"{"confirm_channel":"presence-orders","confirm_operation":"reset","reason":"test data"}"#,
};

/// A purge.
pub static PURGE_BODY: Body = Body {
    fields: &[
        CONFIRM_CHANNEL,
        must("confirm_operation", Kind::Choice(&["purge"]), "What, once more."),
        must("mode", Kind::Choice(&["all", "before_serial", "before_time_ms"]), "How far."),
        may("before_serial", COUNT, "Of that mode: serials below go."),
        may("before_time_ms", COUNT, "Of that mode: what was published before goes."),
        REASON,
        REQUESTED_BY,
    ],
    is_list: false,
    any_of: &[],
    example: r#"{"confirm_channel":"orders","confirm_operation":"purge","mode":"before_serial","before_serial":100,"reason":"too much of it"}"#,
};

const OK: Field = must("ok", Kind::Switch, "");
const WHAT: Field = must("operation", Kind::Choice(&["reset", "purge"]), "");
const WHERE: Field = must("channel", TEXT, "");
const WHY: Field = must("reason", TEXT, "");
const WHO: Field = must("requested_by", TEXT_OR_NULL, "");

/// What a reset did.
pub static RESET: Kind = Kind::Object(&[
    OK,
    WHAT,
    WHERE,
    WHY,
    WHO,
    must("previous_stream_id", TEXT, ""),
    must("new_stream_id", TEXT, ""),
    must("purged_messages", COUNT, ""),
    must("purged_bytes", COUNT, ""),
    must("stream", STREAM, ""),
]);

/// What a purge did.
pub static PURGED: Kind = Kind::Object(&[
    OK,
    WHAT,
    WHERE,
    WHY,
    WHO,
    must("mode", TEXT, ""),
    must("before_serial", COUNT_OR_NULL, ""),
    must("before_time_ms", COUNT_OR_NULL, ""),
    must("purged_messages", COUNT, ""),
    must("purged_bytes", COUNT, ""),
    must("stream", STREAM, ""),
]);

// --- The history of members ---------------------------------------------------------------------

const CHANGES: Kind = Kind::Choice(&["member_added", "member_updated", "member_removed"]);

/// A page of who came, changed and left.
pub static PRESENCE_HISTORY: Kind = Kind::Object(&[
    must(
        "items",
        Kind::List(
            0,
            &Kind::Object(&[
                must("stream_id", TEXT, ""),
                must("serial", SERIAL, ""),
                must("published_at_ms", COUNT, ""),
                must("event", CHANGES, ""),
                must("cause", TEXT, "`join`, `disconnect`, `timeout` or `forced_disconnect`."),
                must("user_id", TEXT, ""),
                must("connection_id", TEXT_OR_NULL, ""),
                must("dead_node_id", TEXT_OR_NULL, ""),
                must("payload_size_bytes", COUNT, ""),
                must("presence_event", Kind::Open, ""),
            ]),
        ),
        "",
    ),
    must("direction", Kind::Choice(&["newest_first", "oldest_first"]), ""),
    must("limit", SERIAL, ""),
    must("has_more", Kind::Switch, ""),
    must("next_cursor", TEXT_OR_NULL, ""),
    must("bounds", BOUNDS, ""),
    must("continuity", CONTINUITY, ""),
    must("stream_state", Kind::Open, ""),
]);

/// At which moment.
pub static SNAPSHOT_QUERY: &[Field] = &[
    may("at_time_ms", COUNT, "Who was there then; also `at`."),
    may("at_serial", COUNT, "Who was there after this change."),
];

/// Who was there.
pub static SNAPSHOT: Kind = Kind::Object(&[
    must("channel", TEXT, ""),
    must(
        "members",
        Kind::List(
            0,
            &Kind::Object(&[
                must("user_id", TEXT, ""),
                must("last_event", CHANGES, ""),
                must("last_event_serial", SERIAL, ""),
                must("last_event_at_ms", COUNT, ""),
            ]),
        ),
        "",
    ),
    must("member_count", COUNT, ""),
    must("events_replayed", COUNT, ""),
    must("snapshot_serial", COUNT_OR_NULL, ""),
    must("snapshot_time_ms", COUNT_OR_NULL, ""),
    must("continuity", Kind::Open, ""),
]);

/// What a reset of it did.
pub static PRESENCE_RESET: Kind = Kind::Object(&[
    OK,
    WHAT,
    WHERE,
    WHY,
    WHO,
    must("previous_stream_id", TEXT, ""),
    must("new_stream_id", TEXT, ""),
    must("purged_events", COUNT, ""),
    must("purged_bytes", COUNT, ""),
    must("stream", Kind::Open, ""),
]);

// --- Versions -----------------------------------------------------------------------------------

const VERSION: Kind = Kind::Object(&[
    must("serial", TEXT, "The version's name for good."),
    must("timestamp_ms", COUNT, ""),
    may("client_id", TEXT, ""),
    may("description", TEXT, ""),
    may("metadata", Kind::Any, ""),
]);

const ITEM: Kind = Kind::Object(&[
    must("event", TEXT, "`sockudo:message.` and the action."),
    must("channel", TEXT, ""),
    may("data", Kind::Any, "Absent where it was cleared."),
    may("name", TEXT, "The message's."),
    must("serial", SERIAL, "The version's place in the channel's history."),
    may("extras", Kind::Open, ""),
    must("action", Kind::Choice(&["create", "update", "delete", "append", "summary"]), ""),
    must("message_serial", TEXT, ""),
    must("history_serial", SERIAL, "The message's place in the channel's history."),
    must("delivery_serial", SERIAL, "The version's."),
    must("version", VERSION, ""),
]);

/// A message.
pub static MESSAGE: Kind = Kind::Object(&[must("channel", TEXT, ""), must("item", ITEM, "")]);

/// Which versions.
pub static VERSIONS_QUERY: &[Field] = &[
    may("limit", SERIAL, "How many, at most; never more than 100."),
    DIRECTION,
    may("cursor", TEXT, "`next_cursor` of the page before."),
];

/// Versions.
pub static VERSIONS: Kind = Kind::Object(&[
    must("channel", TEXT, ""),
    must("direction", Kind::Choice(&["newest_first", "oldest_first"]), ""),
    must("limit", SERIAL, ""),
    must("has_more", Kind::Switch, ""),
    may("next_cursor", TEXT, ""),
    must("items", Kind::List(0, &ITEM), ""),
]);

const NAME: Field = may("name", Kind::Text(1, 200), "The message's other name.");
const DATA: Field = may("data", Kind::Any, "Its other data; it keeps its type.");
const PATCHED_EXTRAS: Field = may("extras", EXTRAS, "Its other extras, in place of all of them.");
const DESCRIPTION: Field = may("description", TEXT, "Why, for who reads the versions.");
const METADATA: Field = may("metadata", Kind::Any, "More, likewise.");
const CLIENT_ID: Field = may("client_id", ID, "Who; also `clientId`.");
const ACTING: Field = may(
    "socket_id",
    SOCKET_ID,
    "The connection that acts, with the rights of its capability token; also `socketId`.",
);
const OP_ID: Field = may(
    "op_id",
    Kind::Text(1, 64),
    "Who sends it again with the same key gets the first answer again; also `idempotency_key`.",
);
const CLEAR_FIELDS: Kind = Kind::List(0, &Kind::Choice(&["name", "data", "extras"]));
const CLEAR_ON_DELETE: Kind = Kind::List(0, &Kind::Choice(&["data", "extras"]));

/// An update.
pub static UPDATE_BODY: Body = Body {
    fields: &[
        NAME,
        DATA,
        PATCHED_EXTRAS,
        may("clear_fields", CLEAR_FIELDS, "What of it goes."),
        DESCRIPTION,
        METADATA,
        CLIENT_ID,
        ACTING,
        OP_ID,
    ],
    is_list: false,
    any_of: &["name", "data", "extras", "clear_fields", "description", "metadata", "client_id"],
    example: r#"{"data":{"body":"edited message"},"description":"user edit","idempotency_key":"edit-msg-1-v2"}"#,
};

/// A delete.
pub static DELETE_BODY: Body = Body {
    fields: &[
        DATA,
        PATCHED_EXTRAS,
        may("clear_fields", CLEAR_ON_DELETE, "What of it goes."),
        DESCRIPTION,
        METADATA,
        CLIENT_ID,
        ACTING,
        OP_ID,
    ],
    is_list: false,
    any_of: &[],
    example: r#"{"clear_fields":["data"],"description":"taken back"}"#,
};

/// An append.
pub static APPEND_BODY: Body = Body {
    fields: &[
        must("data", Kind::Text(1, usize::MAX), "What is added."),
        PATCHED_EXTRAS,
        DESCRIPTION,
        METADATA,
        CLIENT_ID,
        ACTING,
        OP_ID,
    ],
    is_list: false,
    any_of: &[],
    example: r#"{"data":" and more","op_id":"token-17"}"#,
};

/// What a change did.
pub static MUTATED: Kind = Kind::Object(&[
    must("channel", TEXT, ""),
    must("message_serial", TEXT, ""),
    must("action", Kind::Choice(&["update", "delete", "append"]), ""),
    must("accepted", Kind::Switch, ""),
    must("version_serial", TEXT, "The version's name for good."),
    must("history_serial", SERIAL, "The message's place in the channel's history."),
    must("delivery_serial", SERIAL, "The version's."),
    must("status", Kind::Choice(&["applied", "duplicate"]), "A duplicate was applied before."),
]);

// --- Annotations --------------------------------------------------------------------------------

/// What is said about a message.
pub static ANNOTATION_BODY: Body = Body {
    fields: &[
        must(
            "type",
            Kind::Pattern(r"^[^\s:]+:(total|flag|distinct|unique|multiple)\.v1$"),
            "What kind of thing, and how it counts: `<namespace>:<summarizer>.v1`, at most 256 bytes.",
        ),
        may("name", Kind::Text(1, 256), "What."),
        may("client_id", ID, "By whom; also `clientId`."),
        may(
            "socket_id",
            SOCKET_ID,
            "The connection that says it, with the rights and the client of its capability token; also `socketId`.",
        ),
        may("count", SERIAL, "How much it counts for, of `multiple`."),
        may("data", Kind::Any, "More, for who hears each annotation."),
        may("encoding", TEXT, "How that is encoded."),
    ],
    is_list: false,
    any_of: &[],
    example: r#"{"type":"reactions:distinct.v1","name":"like","client_id":"user-1","count":1}"#,
};

/// It was said.
pub static ANNOTATED: Kind = Kind::Object(&[must("annotationSerial", TEXT, "Its name for good.")]);

/// Who acts.
pub static ACTOR_QUERY: &[Field] = &[may(
    "socket_id",
    SOCKET_ID,
    "The connection that acts, with the rights of its capability token.",
)];

/// Which annotations.
pub static ANNOTATIONS_QUERY: &[Field] = &[
    may("type", TEXT, "Only of this type."),
    may("limit", SERIAL, "How many, at most; never more than 100."),
    may("from_serial", TEXT, "This one or later ones."),
    may(
        "socket_id",
        SOCKET_ID,
        "The connection that asks, with the rights of its capability token.",
    ),
];

/// Annotations.
pub static ANNOTATIONS: Kind = Kind::Object(&[
    must("channel", TEXT, ""),
    must("messageSerial", TEXT, ""),
    must("limit", SERIAL, ""),
    must("hasMore", Kind::Switch, ""),
    must("nextCursor", TEXT_OR_NULL, ""),
    must(
        "items",
        Kind::List(
            0,
            &Kind::Object(&[
                must("action", Kind::Choice(&["annotation.create", "annotation.delete"]), ""),
                may("id", TEXT, ""),
                must("serial", TEXT, ""),
                must("messageSerial", TEXT, ""),
                must("type", TEXT, ""),
                may("name", TEXT, ""),
                may("clientId", TEXT, ""),
                may("count", COUNT, ""),
                may("data", Kind::Any, ""),
                may("encoding", TEXT, ""),
                must("timestamp", COUNT, "In ms since 1970."),
            ]),
        ),
        "",
    ),
]);

/// It was taken back.
pub static TAKEN_BACK: Kind = Kind::Object(&[
    must("annotationSerial", TEXT, "That of taking it back."),
    must("deletedAnnotationSerial", TEXT, "That of what was said."),
]);

// --- Revocations --------------------------------------------------------------------------------

/// Which tokens.
pub static REVOCATION_BODY: Body = Body {
    fields: &[
        may("jti", ID, "The token's id."),
        may("client_id", ID, "Every token of this client; also `clientId`."),
        may("expires_at", Kind::Number, "Until when it is remembered, in seconds since 1970."),
        may(
            "ttl_seconds",
            Kind::Number,
            "For how long; without either: as long as a token may live.",
        ),
        may("reason", TEXT, "Why."),
    ],
    is_list: false,
    any_of: &["jti", "client_id"],
    example: r#"{"jti":"token-1","reason":"lost device"}"#,
};

/// What it did.
pub static REVOKED: Kind = Kind::Object(&[
    must("revoked_jti", Kind::Switch, ""),
    must("revoked_client_id", Kind::Switch, ""),
    must("closed_connections", COUNT, ""),
]);
