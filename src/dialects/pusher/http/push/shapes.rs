//! What the bodies, queries and answers of the routes about push notifications look like. Bodies are described in the
//! spelling of Sockudo's documentation; each member is read in that of running Sockudo (`deviceId`), too.

use super::super::shapes::{Body, COUNT, Field, Kind, TEXT, TEXT_OR_NULL, TEXTS, may, must};

const ID: Kind = Kind::Text(1, 255);
const PROVIDER: Kind = Kind::Choice(&["fcm", "apns", "webPush", "hms", "wns", "realtime"]);
const PROVIDERS_SAID: Kind = Kind::Choice(&[
    "fcm", "gcm", "apns", "webPush", "webpush", "web_push", "web", "hms", "wns", "realtime",
]);

const CAPABILITY: Field = may(
    "X-Sockudo-Push-Capability",
    Kind::Choice(&["push-admin", "push-subscribe"]),
    "In whose name: `push-admin`, the application, unless it is said; `push-subscribe`, a device, which shows its identity token.",
);
const IDENTITY: Field = may(
    "X-Sockudo-Device-Identity-Token",
    TEXT,
    "The identity token of the device; also `Authorization: Bearer`.",
);
const KEY: Field = may(
    "X-Idempotency-Key",
    Kind::Text(1, 128),
    "Who publishes again with the same key hears of the same publish; `idempotency_key` in the body counts before it.",
);

/// The head of what only the application may ask.
pub(super) static OF_ADMIN: &[Field] = &[CAPABILITY];
/// The head of what a device may ask about itself.
pub(super) static OF_DEVICE: &[Field] = &[CAPABILITY, IDENTITY];
/// The head of a registration.
pub(super) static OF_REGISTRATION: &[Field] = &[
    CAPABILITY,
    IDENTITY,
    may(
        "X-Sockudo-Rotate-Device-Identity-Token",
        TEXT,
        "`1`, `true` or `yes`: the device gets another identity token.",
    ),
];
/// The head of a publish.
pub(super) static OF_PUBLISH: &[Field] = &[
    CAPABILITY,
    KEY,
    may(
        "X-Sockudo-Push-Quota-Override",
        TEXT,
        "Whatever it says: `push.deliveries_per_day_max` does not hold it up.",
    ),
];

const LIMIT: Field =
    may("limit", Kind::Whole(1), "How many, at most; 100 unless it is said, never more than 1000.");
const CURSOR: Field = may("cursor", TEXT, "`next_cursor` of the page before.");

/// A page.
pub(super) static PAGE: &[Field] = &[LIMIT, CURSOR];

/// Which devices.
pub(super) static DEVICES: &[Field] = &[
    LIMIT,
    CURSOR,
    may("clientId", ID, "Those of this client."),
    may("deviceId", ID, "This one."),
    may("platform", TEXT, "Those of this platform, or of this provider."),
    may("provider", PROVIDERS_SAID, "Those that this provider serves."),
    may("state", TEXT, "Those that are `ACTIVE`, `FAILING` or `FAILED`."),
];

/// Whose devices.
pub(super) static OF_CLIENT: &[Field] = &[may("clientId", ID, "Whose; it must be there.")];

/// Which subscriptions.
pub(super) static SUBSCRIPTIONS: &[Field] = &[
    LIMIT,
    CURSOR,
    may("channel", ID, "Those of this channel."),
    may("deviceId", ID, "Those of this device."),
];

/// Which subscriptions end.
pub(super) static UNSUBSCRIBED: &[Field] = &[
    may("channel", ID, "Those of this channel; with `deviceId` that one."),
    may("deviceId", ID, "Those of this device."),
];

/// Which dead letters.
pub(super) static DEAD: &[Field] = &[
    LIMIT,
    CURSOR,
    may("provider", PROVIDERS_SAID, "Those about this provider."),
    may("sinceMs", COUNT, "Those from then on, in milliseconds since 1970."),
    may("untilMs", COUNT, "Those until then."),
];

/// Which credentials.
pub(super) static OF_CREDENTIALS: &[Field] =
    &[may("credentialId", ID, "Those at APNs that are used; `default` unless it is said.")];

/// Whether to wait.
pub(super) static MODE: &[Field] = &[may("mode", TEXT, "`sync`: as `sync` in the body.")];

/// A registration.
pub(super) static DEVICE_BODY: Body = Body {
    fields: &[
        may("device_id", ID, "What the application calls the device; also `id`."),
        may("client_id", Kind::Text(1, 255), "Whose it is."),
        may(
            "platform",
            TEXT,
            "`android`, `ios`, `browser`, `windows`, `macos`, `watchos`, `tvos`, `other`; or the provider: `fcm`, `apns`, `webpush`, `hms`, `wns`.",
        ),
        may(
            "provider_token",
            Kind::Any,
            "The token that the provider gave the device; of a browser its `PushSubscription`, as an object or as its text. Who serves it follows from `platform`, or `provider`.",
        ),
        may("provider", PROVIDERS_SAID, "Whose token it is, where the platform does not say so."),
        may(
            "push",
            Kind::Open,
            "In place of a token: `recipient`, with `transportType` `gcm` and `hms` (`registrationToken`), `apns` (`deviceToken`), `apnsLiveActivity` (`activityToken`), `apnsLiveActivityBroadcast` (`channelId`), `web` (`endpoint`, `p256dh`, `auth`), `wns` (`channelUri`), `realtime` (`channel`); and `state`.",
        ),
        may(
            "form_factor",
            TEXT,
            "`phone`, `tablet`, `desktop`, `tv`, `car`, `watch`, `embedded`, `other`.",
        ),
        may("timezone", Kind::Text(0, 64), "Its name in the database of IANA."),
        may("locale", Kind::Text(0, 64), "A tag of BCP 47; it chooses the language of templates."),
        may("metadata", Kind::Open, "At most 4096 bytes."),
        may("last_active_at_ms", COUNT, "When it was last seen, in milliseconds since 1970."),
        may(
            "push_rate_policy",
            Kind::Open,
            "How much it may be sent: `capacity` at once, and `refillPerSecond` more each second.",
        ),
    ],
    is_list: false,
    any_of: &["device_id", "deviceId", "id"],
    example: r#"{"device_id":"ios-device-1","client_id":"user-42","platform":"apns","provider_token":"provider-token","metadata":{"app_version":"4.5.0"}}"#,
};

const RECIPIENT: Kind = Kind::Twice(&[
    must("transportType", TEXT, ""),
    must("provider", PROVIDER, ""),
    must("tokenHash", TEXT, "SHA-256 of its address, in hexadecimal digits."),
]);

const DEVICE_FIELDS: &[Field] = &[
    must("appId", TEXT, ""),
    must("id", TEXT, ""),
    must("deviceId", TEXT, "The same."),
    must("clientId", TEXT_OR_NULL, ""),
    must("formFactor", TEXT, ""),
    must("platform", TEXT, ""),
    must("timezone", TEXT, ""),
    must("locale", TEXT, ""),
    may("metadata", Kind::Open, ""),
    must("lastActiveAtMs", COUNT, "0: it was not said."),
    must("pushState", Kind::Choice(&["ACTIVE", "FAILING", "FAILED"]), ""),
    must("pushFailureCount", COUNT, ""),
    may("pushErrorReason", TEXT, ""),
    may(
        "pushRatePolicy",
        Kind::Twice(&[must("capacity", COUNT, ""), must("refillPerSecond", COUNT, "")]),
        "",
    ),
    must("createdAtMs", COUNT, ""),
    must("updatedAtMs", COUNT, ""),
    must("recipient", RECIPIENT, "Where it takes notifications, without what is secret."),
];

/// A device.
pub(super) static DEVICE: Kind = Kind::Twice(DEVICE_FIELDS);

/// What a registration did.
pub(super) static REGISTERED: Kind = Kind::Twice(&[
    must("change", Kind::Choice(&["inserted", "unchanged", "updated"]), ""),
    must("deviceId", TEXT, ""),
    must("tokenHash", TEXT, "SHA-256 of its address, in hexadecimal digits."),
    may(
        "deviceIdentityToken",
        TEXT,
        "By which the device itself may change its registration; told once, when it is registered first or the token is renewed.",
    ),
    may(
        "replaced",
        TEXT,
        "Another device had the same address; it and its subscriptions are gone.",
    ),
    must("device", Kind::Twice(DEVICE_FIELDS), ""),
]);

/// A page of something.
macro_rules! page_of {
    ($items:expr) => {
        Kind::Object(&[
            must("items", Kind::List(0, &$items), ""),
            must("next_cursor", TEXT_OR_NULL, ""),
            must("has_more", Kind::Switch, ""),
        ])
    };
}

/// Devices.
pub(super) static DEVICE_PAGE: Kind = page_of!(Kind::Twice(DEVICE_FIELDS));

/// How many went.
pub(super) static REMOVED: Kind = Kind::Object(&[
    must("deleted", COUNT, ""),
    may("consistency", TEXT, "As Sockudo says it; they are gone when this is answered."),
]);

/// Nothing.
pub(super) static NOTHING: Kind = Kind::Object(&[]);

/// A subscription.
pub(super) static SUBSCRIPTION_BODY: Body = Body {
    fields: &[
        may("device_id", ID, "The device; it must be registered."),
        must("channel", Kind::Text(1, 255), "The channel; it need not exist."),
        may("client_id", ID, "Whose device it is."),
        may("provider", PROVIDERS_SAID, "Must be that of the device, if it is said."),
        may("token_hash", ID, "Must be that of the device, if it is said."),
        may("credential_version", COUNT, "Kept, and told again."),
    ],
    is_list: false,
    any_of: &["device_id", "deviceId"],
    example: r#"{"device_id":"ios-device-1","channel":"orders","client_id":"user-42"}"#,
};

const SUBSCRIPTION_FIELDS: &[Field] = &[
    must("appId", TEXT, ""),
    must("channel", TEXT, ""),
    must("deviceId", TEXT, ""),
    must("clientId", TEXT_OR_NULL, ""),
    must("provider", PROVIDER, ""),
    must("tokenHash", TEXT, ""),
    may("credentialVersion", COUNT, ""),
    must("createdAtMs", COUNT, ""),
];

pub(super) static SUBSCRIPTION: Kind = Kind::Twice(SUBSCRIPTION_FIELDS);
/// Subscriptions.
pub(super) static SUBSCRIPTION_PAGE: Kind = page_of!(Kind::Twice(SUBSCRIPTION_FIELDS));
/// Names of channels.
pub(super) static CHANNEL_PAGE: Kind = page_of!(TEXT);

/// Credentials of any provider.
pub(super) static CREDENTIAL_BODY: Body = Body {
    fields: &[
        may("credential_id", ID, "What they are called; `default` unless it is said."),
        may("version", COUNT, "Otherwise one more than before."),
        may(
            "service_account_json",
            Kind::Any,
            "Of `fcm`: the file of a service account, as an object or as its text.",
        ),
        may("team_id", TEXT, "Of `apns`, with `key_id` and `private_key`."),
        may("key_id", TEXT, ""),
        may(
            "private_key",
            TEXT,
            "Of `apns`: PKCS #8 as PEM, also `pem`. Of `webpush`: the scalar in base64url.",
        ),
        may(
            "p12",
            TEXT,
            "Of `apns`, in place of a key: a certificate with its key, PKCS #12 in base64.",
        ),
        may("p12_password", TEXT, ""),
        may("topic", TEXT, "Of `apns`: the bundle id; also `bundle_id`."),
        may("environment", TEXT, "Of `apns`: `production` or `sandbox`."),
        may("public_key", TEXT, "Of `webpush`: the point, uncompressed, in base64url."),
        may(
            "subject",
            TEXT,
            "Of `webpush`: whom a push service may write to, `mailto:` or `https://`.",
        ),
        may("hms_app_id", TEXT, "Of `hms`."),
        may("package_sid", TEXT, "Of `wns`."),
        may("client_secret", TEXT, "Of `hms` and `wns`."),
    ],
    is_list: false,
    any_of: &[],
    example: r#"{"package_sid":"ms-app://s-1-15-2-1","client_secret":"secret"}"#,
};

const CREDENTIAL_FIELDS: &[Field] = &[
    must("appId", TEXT, ""),
    must("credentialId", TEXT, ""),
    must("provider", PROVIDER, ""),
    must("version", COUNT, ""),
    must("updatedAtMs", COUNT, ""),
];

/// Credentials, without what is secret.
pub(super) static CREDENTIAL: Kind = Kind::Twice(CREDENTIAL_FIELDS);
/// All of them.
pub(super) static CREDENTIAL_PAGE: Kind = page_of!(Kind::Twice(CREDENTIAL_FIELDS));

const OVERRIDES_HELP: &str = "What is sent as it is to one provider's devices: a list of `{provider, payload}`, or an object of payloads by provider; at most 4096 bytes each, for APNs 5120.";

/// A template.
pub(super) static TEMPLATE_BODY: Body = Body {
    fields: &[
        may("template_id", ID, "What it is called; also `id`."),
        may("default_locale", Kind::Text(1, 64), "The language of those whose own it has not."),
        must(
            "locales",
            Kind::Map(&Kind::Open),
            "By language `title`, `body`, `icon`, `sound`, `collapse_key`, with places `{{name}}` for values; at most 100 languages.",
        ),
        may("provider_overrides", Kind::Any, OVERRIDES_HELP),
    ],
    is_list: false,
    any_of: &["template_id", "templateId", "id"],
    example: r#"{"template_id":"order-updated","default_locale":"en","locales":{"en":{"title":"Order updated","body":"Order {{order_id}} moved to {{state}}"}}}"#,
};

const TEMPLATE_FIELDS: &[Field] = &[
    must("appId", TEXT, ""),
    must("templateId", TEXT, ""),
    must("defaultLocale", TEXT, ""),
    must("locales", Kind::Map(&TEXTS), ""),
    must("providerOverrides", Kind::Map(&Kind::Open), ""),
    must("updatedAtMs", COUNT, ""),
];

pub(super) static TEMPLATE: Kind = Kind::Twice(TEMPLATE_FIELDS);
/// Templates.
pub(super) static TEMPLATE_PAGE: Kind = page_of!(Kind::Twice(TEMPLATE_FIELDS));

const PAYLOAD: &[Field] = &[
    may("title", Kind::Text(0, 256), ""),
    may("body", Kind::Text(0, 4096), ""),
    may("icon", TEXT, "An https address."),
    may("sound", TEXT, ""),
    may("collapse_key", TEXT, "A later notification with the same takes this one's place."),
    may("data", Kind::Open, "For the application on the device; at most 4096 bytes."),
    may("template_id", ID, "A template says what is not said here."),
    may("template_data", Kind::Open, "Values for its places; at most 8192 bytes."),
];

/// What `extras.push` of an event says.
pub(in super::super) const OF_EVENT: Kind = Kind::Object(PAYLOAD);

const PUBLISH_FIELDS: &[Field] = &[
    must(
        "recipients",
        Kind::List(
            1,
            &Kind::Object(&[
                must(
                    "type",
                    Kind::Choice(&[
                        "device",
                        "client",
                        "channel",
                        "recipient",
                        "providerTopic",
                        "providerCondition",
                    ]),
                    "",
                ),
                may("device_id", ID, "Of `device`."),
                may("client_id", ID, "Of `client`."),
                may("channel", ID, "Of `channel`: the devices that are subscribed to it."),
                may("recipient", Kind::Open, "Of `recipient`: as in a registration."),
                may(
                    "provider",
                    PROVIDERS_SAID,
                    "Of `providerTopic` and `providerCondition`: `fcm` or `hms`.",
                ),
                may("topic", TEXT, "Of `providerTopic`."),
                may("condition", TEXT, "Of `providerCondition`."),
            ]),
        ),
        "To whom, at most 1024. A device that several of them reach gets it once.",
    ),
    must("payload", Kind::Object(PAYLOAD), "What."),
    may("publish_id", ID, "What the publish is called, if it is not to be given a name."),
    may(
        "idempotency_key",
        Kind::Text(1, 128),
        "Who publishes again with the same key hears of the same publish.",
    ),
    may("provider_overrides", Kind::Any, OVERRIDES_HELP),
    may("live_activity", Kind::Open, "For Live Activities of APNs; at most 5120 bytes."),
    may("credential_id", ID, "Send with these credentials."),
    may("not_before_ms", COUNT, "Send it then, in milliseconds since 1970."),
    may("expires_at_ms", COUNT, "Do not send it after then."),
    may("skip_connected", Kind::Switch, "Leave out devices whose client has a connection here."),
    may("sync", Kind::Switch, "Answer when it is sent, if it is to few devices."),
];

/// A publish.
pub(super) static PUBLISH_BODY: Body = Body {
    fields: PUBLISH_FIELDS,
    is_list: false,
    any_of: &[],
    example: r#"{"recipients":[{"type":"channel","channel":"orders"}],"payload":{"title":"Order updated","body":"Order ord_123 moved to packing","data":{"order_id":"ord_123"}},"sync":false,"idempotency_key":"push-order-ord_123-packing"}"#,
};

/// Several.
pub(super) static BATCH_BODY: Body = Body {
    fields: PUBLISH_FIELDS,
    is_list: true,
    any_of: &[],
    example: r#"[{"recipients":[{"type":"client","client_id":"user-42"}],"payload":{"title":"Order updated"}},{"recipients":[{"type":"device","device_id":"ios-device-1"}],"payload":{"title":"Order paid"}}]"#,
};

const STATE: Kind = Kind::Choice(&[
    "accepted",
    "planning",
    "throttled",
    "dispatching",
    "cancelled",
    "succeeded",
    "partially_succeeded",
    "failed",
    "quota_exceeded",
    "expired",
    "dead_lettered",
]);

const COUNTERS: Kind = Kind::Twice(&[
    must("planned", COUNT, "Devices that were found."),
    must("dispatched", COUNT, "Handed to a provider at least once."),
    must("succeeded", COUNT, "Taken by it."),
    must("failed", COUNT, "Refused for good."),
    must("expired", COUNT, "Too late."),
    must("skipped", COUNT, "Left out: connected, failed too often before, over their own rate."),
    must("retryScheduled", COUNT, "To be tried again."),
    must("retryAttempted", COUNT, "Tries beyond the first."),
    must("deadLettered", COUNT, "Given up."),
]);

const REGIME: Kind = Kind::Choice(&["fastPath", "shardPath"]);

const OUTCOME: Kind = Kind::Twice(&[
    may("deviceId", TEXT, ""),
    may("target", COUNT, "In place of a device: which of the recipients."),
    may("provider", PROVIDER, "None: the device is not registered."),
    must(
        "outcome",
        TEXT,
        "`accepted`, `delivered`, `failed`, `gone`, `expired`, `connected`, `skipped`, `dead_lettered`.",
    ),
    must("attempts", COUNT, ""),
    may("providerMessageId", TEXT, ""),
    may("providerStatus", COUNT, ""),
    may("reason", TEXT, "In the provider's words."),
    must("occurredAtMs", COUNT, ""),
]);

const ACCEPTED_FIELDS: &[Field] = &[
    must("appId", TEXT, ""),
    must("publishId", TEXT, ""),
    must("status", STATE, ""),
    must("expectedRecipients", COUNT, ""),
    must("fanoutRegime", REGIME, ""),
    must(
        "renderedPayloads",
        Kind::List(
            0,
            &Kind::Twice(&[
                must("provider", PROVIDER, ""),
                may("payload", Kind::Any, ""),
                must("usedOverride", Kind::Switch, ""),
            ]),
        ),
        "What a provider's devices get.",
    ),
    may("notBeforeMs", COUNT, ""),
    may("repeated", Kind::Switch, "It was published before, with the same key or name."),
    may("counters", COUNTERS, "With 200."),
    may("errorReason", TEXT, "With 200."),
    may("outcomes", Kind::List(0, &OUTCOME), "With 200: what came of each device."),
];

/// A publish was taken.
pub(super) static ACCEPTED: Kind = Kind::Twice(ACCEPTED_FIELDS);

/// Several were; one that was not has `error`, `code` and `status`.
pub(super) static BATCH_ACCEPTED: Kind = Kind::Object(&[must(
    "items",
    Kind::List(0, &Kind::Open),
    "An answer each, or what is refused.",
)]);

/// Where a publish is.
pub(super) static STATUS: Kind = Kind::Twice(&[
    must("appId", TEXT, ""),
    must("publishId", TEXT, ""),
    must("state", STATE, ""),
    must("status", STATE, "The same."),
    must("counters", COUNTERS, ""),
    must("expectedRecipients", COUNT, ""),
    must("fanoutRegime", REGIME, ""),
    must("acceptedAtMs", COUNT, ""),
    may("notBeforeMs", COUNT, ""),
    may("finishedAtMs", COUNT, ""),
    may("retryAfterMs", COUNT, "A provider asked to be left alone for so long."),
    may("errorReason", TEXT, ""),
]);

/// What came of each device.
pub(super) static OUTCOME_PAGE: Kind = page_of!(OUTCOME);

/// A callback.
pub(super) static FEEDBACK_BODY: Body = Body {
    fields: &[
        may("publish_id", ID, "Which publish."),
        may("device_id", ID, "Which of its devices."),
        may(
            "outcome",
            TEXT,
            "`accepted`, `delivered`, `rejected`, `failed`, `expired`, `gone`; `retryable` and `cancelled` change nothing.",
        ),
        may("provider_message_id", TEXT, ""),
        may("reason", TEXT, ""),
        may(
            "result",
            Kind::Open,
            "The same members, where they are not beside it, and `error` with `reason`.",
        ),
    ],
    is_list: false,
    any_of: &[],
    example: r#"{"publish_id":"publish-1","device_id":"ios-device-1","outcome":"delivered"}"#,
};

/// What was sent.
pub(super) static ECHO: Kind = Kind::Open;

const DEAD_LETTER: Kind = Kind::Twice(&[
    must("deadLetterId", TEXT, ""),
    must("appId", TEXT, ""),
    must("publishId", TEXT, ""),
    may("provider", PROVIDER, ""),
    must("stage", TEXT, ""),
    must("key", TEXT, "The device."),
    must("reason", TEXT, ""),
    must("occurredAtMs", COUNT, ""),
    must("replayable", Kind::Switch, ""),
]);

/// Dead letters.
pub(super) static DEAD_PAGE: Kind = page_of!(DEAD_LETTER);

/// One is tried again.
pub(super) static REPLAYED: Kind =
    Kind::Twice(&[must("deadLetterId", TEXT, ""), must("replayed", Kind::Switch, "")]);

/// A broadcast channel to be made.
pub(super) static BROADCAST_BODY: Body = Body {
    fields: &[
        may("credential_id", ID, "Those at APNs that are used."),
        may("storage_policy", Kind::Any, "0: nothing is stored; 1: the newest message is."),
    ],
    is_list: false,
    any_of: &[],
    example: r#"{"storage_policy":1}"#,
};

const BROADCAST_FIELDS: &[Field] = &[must("channelId", TEXT, ""), may("storagePolicy", COUNT, "")];

/// A broadcast channel.
pub(super) static BROADCAST: Kind = Kind::Twice(BROADCAST_FIELDS);
/// All of them.
pub(super) static BROADCAST_PAGE: Kind = page_of!(Kind::Twice(BROADCAST_FIELDS));
