//! The routes about push notifications, one row each. Source: Sockudo's push API, its documentation and what runs.

use super::super::shapes::Kind;
use super::super::table::{Failure, Method, Route, Row, failure};
use super::{PushRoute, shapes};

/// What a body may be answered with: everything that is wrong with one is 400 here.
pub static OF_BODIES: &[Failure] = &[
    failure(
        400,
        "invalid_input",
        "the body is not JSON, or something in it is missing or makes no sense",
    ),
    failure(413, "payload_too_large", "the body, or a part of it, is larger than it may be"),
];

const OFF: Failure =
    failure(404, "not_found", "push notifications are off (the setting `push.enabled`)");
const MAY_NOT: Failure = failure(403, "forbidden", "the capability does not allow it, or is none");
const NOT_IT: Failure = failure(401, "auth_failed", "a device does not show its identity token");
const NO_DEVICE: Failure = failure(404, "not_found", "there is no such device");
const NO_TEMPLATE: Failure = failure(404, "not_found", "there is no such template");
const NO_CREDENTIALS: Failure = failure(404, "not_found", "there are no such credentials");
const NO_PUBLISH: Failure = failure(404, "not_found", "there is no such publish, or device in it");
const NO_LETTER: Failure = failure(404, "not_found", "there is no such dead letter");
const NO_BROADCAST: Failure = failure(404, "not_found", "APNs has no such broadcast channel");
const NOT_TAKEN: Failure =
    failure(502, "provider_unauthorized", "APNs refuses the credentials of the app");
const NOT_READ: Failure = failure(502, "provider_error", "APNs' answer makes no sense");
const FULL: Failure = failure(400, "limit_exceeded", "there are as many as there may be");
const TOO_MANY: Failure = failure(400, "limit_exceeded", "there is more of something than may be");
const TOO_BUSY: Failure = failure(
    429,
    "too_many_publishes",
    "as many publishes as may be are not finished (`push.publishes_open_max`)",
);
const CONFLICT: Failure =
    failure(409, "conflict", "the key or the name was used with another publish");
const FINISHED: Failure = failure(409, "conflict", "it is finished");

const BLANK: Row = Row {
    route: Route::Push(PushRoute::Devices),
    name: "",
    method: Method::Get,
    path: "",
    summary: "",
    about: "",
    is_of_presence: false,
    query: &[],
    headers: shapes::OF_ADMIN,
    body: None,
    good: &[200],
    answer: &shapes::NOTHING,
    failures: &[OFF, MAY_NOT],
};

/// The routes.
pub static ROWS: &[Row] = &[
    Row {
        route: Route::Push(PushRoute::Register),
        name: "registerDevice",
        method: Method::Post,
        path: "/apps/{app_id}/push/deviceRegistrations",
        summary: "Register a device for push notifications, or change its registration",
        about: "One address is one device: who registers it under another id takes it away from the first. With `push-subscribe` a device changes its own registration.",
        headers: shapes::OF_REGISTRATION,
        body: Some(&shapes::DEVICE_BODY),
        good: &[201],
        answer: &shapes::REGISTERED,
        failures: &[OFF, MAY_NOT, NOT_IT, FULL],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Devices),
        name: "listDevices",
        path: "/apps/{app_id}/push/deviceRegistrations",
        summary: "List registered devices",
        query: shapes::DEVICES,
        answer: &shapes::DEVICE_PAGE,
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::UnregisterClient),
        name: "deleteDevicesOfClient",
        method: Method::Delete,
        path: "/apps/{app_id}/push/deviceRegistrations",
        summary: "Forget the devices of a client",
        query: shapes::OF_CLIENT,
        answer: &shapes::REMOVED,
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Device),
        name: "readDevice",
        path: "/apps/{app_id}/push/deviceRegistrations/{device_id}",
        summary: "Read a device's registration",
        headers: shapes::OF_DEVICE,
        answer: &shapes::DEVICE,
        failures: &[OFF, MAY_NOT, NOT_IT, NO_DEVICE],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Unregister),
        name: "deleteDevice",
        method: Method::Delete,
        path: "/apps/{app_id}/push/deviceRegistrations/{device_id}",
        summary: "Forget a device and its subscriptions",
        about: "Also where there is none.",
        headers: shapes::OF_DEVICE,
        good: &[204],
        failures: &[OFF, MAY_NOT, NOT_IT, NO_DEVICE],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Subscribe),
        name: "subscribeDevice",
        method: Method::Post,
        path: "/apps/{app_id}/push/channelSubscriptions",
        summary: "Let a device hear of a channel",
        headers: shapes::OF_DEVICE,
        body: Some(&shapes::SUBSCRIPTION_BODY),
        good: &[201],
        answer: &shapes::SUBSCRIPTION,
        failures: &[OFF, MAY_NOT, NOT_IT, NO_DEVICE, FULL],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Subscriptions),
        name: "listDeviceSubscriptions",
        path: "/apps/{app_id}/push/channelSubscriptions",
        summary: "List which devices hear of which channels",
        headers: shapes::OF_DEVICE,
        query: shapes::SUBSCRIPTIONS,
        answer: &shapes::SUBSCRIPTION_PAGE,
        failures: &[OFF, MAY_NOT, NOT_IT, NO_DEVICE],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Unsubscribe),
        name: "unsubscribeDevices",
        method: Method::Delete,
        path: "/apps/{app_id}/push/channelSubscriptions",
        summary: "End subscriptions of a channel, of a device, or of both that one",
        headers: shapes::OF_DEVICE,
        query: shapes::UNSUBSCRIBED,
        answer: &shapes::REMOVED,
        failures: &[OFF, MAY_NOT, NOT_IT, NO_DEVICE],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Channels),
        name: "listSubscribedChannels",
        path: "/apps/{app_id}/push/channelSubscriptions/channels",
        summary: "List the channels that devices hear of",
        query: shapes::PAGE,
        answer: &shapes::CHANNEL_PAGE,
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::PutCredential),
        name: "putCredential",
        method: Method::Post,
        path: "/apps/{app_id}/push/credentials/{provider}",
        summary: "Keep credentials for a provider",
        about: "What is secret is sealed on disk (`push.encryption_key`) and nobody is ever told it again.",
        body: Some(&shapes::CREDENTIAL_BODY),
        good: &[201],
        answer: &shapes::CREDENTIAL,
        failures: &[OFF, MAY_NOT, FULL],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Credentials),
        name: "listCredentials",
        path: "/apps/{app_id}/push/credentials",
        summary: "List credentials, without what is secret",
        query: shapes::PAGE,
        answer: &shapes::CREDENTIAL_PAGE,
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::RemoveCredential),
        name: "deleteCredential",
        method: Method::Delete,
        path: "/apps/{app_id}/push/credentials/{provider}/{credential_id}",
        summary: "Forget credentials",
        about: "Also where there are none.",
        good: &[204],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::PutTemplate),
        name: "putTemplate",
        method: Method::Post,
        path: "/apps/{app_id}/push/templates",
        summary: "Keep a template",
        about: "A publish keeps the template as it is then.",
        body: Some(&shapes::TEMPLATE_BODY),
        good: &[201],
        answer: &shapes::TEMPLATE,
        failures: &[OFF, MAY_NOT, TOO_MANY],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Templates),
        name: "listTemplates",
        path: "/apps/{app_id}/push/templates",
        summary: "List templates",
        query: shapes::PAGE,
        answer: &shapes::TEMPLATE_PAGE,
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Template),
        name: "readTemplate",
        path: "/apps/{app_id}/push/templates/{template_id}",
        summary: "Read a template",
        answer: &shapes::TEMPLATE,
        failures: &[OFF, MAY_NOT, NO_TEMPLATE],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::RemoveTemplate),
        name: "deleteTemplate",
        method: Method::Delete,
        path: "/apps/{app_id}/push/templates/{template_id}",
        summary: "Forget a template",
        about: "Also where there is none.",
        good: &[204],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Publish),
        name: "publishPush",
        method: Method::Post,
        path: "/apps/{app_id}/push/publish",
        summary: "Send a push notification to devices, clients and channels",
        about: "Answered with 202 when it is on disk. With `sync`, and if it is to few devices, with 200 when it is sent; otherwise `X-Sockudo-Forced-Async` says that it was not waited for.",
        query: shapes::MODE,
        headers: shapes::OF_PUBLISH,
        body: Some(&shapes::PUBLISH_BODY),
        good: &[200, 202],
        answer: &shapes::ACCEPTED,
        failures: &[OFF, MAY_NOT, NO_CREDENTIALS, TOO_MANY, TOO_BUSY, CONFLICT],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Batch),
        name: "publishPushBatch",
        method: Method::Post,
        path: "/apps/{app_id}/push/batch/publish",
        summary: "Send several push notifications",
        about: "A list of 1 to 100. Each is taken or refused for itself; where all are refused, the first refusal is the answer.",
        headers: shapes::OF_PUBLISH,
        body: Some(&shapes::BATCH_BODY),
        good: &[202],
        answer: &shapes::BATCH_ACCEPTED,
        failures: &[OFF, MAY_NOT, NO_CREDENTIALS, TOO_MANY, TOO_BUSY, CONFLICT],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Cancel),
        name: "cancelPush",
        method: Method::Delete,
        path: "/apps/{app_id}/push/publish/{publish_id}",
        summary: "Call a publish off",
        about: "Also one that waits for its time or is half sent; what was sent stays sent.",
        good: &[204],
        failures: &[OFF, MAY_NOT, NO_PUBLISH, FINISHED],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::CancelScheduled),
        name: "cancelScheduledPush",
        method: Method::Delete,
        path: "/apps/{app_id}/push/scheduled/{publish_id}",
        summary: "Call a publish off that waits for its time",
        about: "Also where there is none.",
        good: &[204],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Status),
        name: "readPushStatus",
        path: "/apps/{app_id}/push/publish/{publish_id}/status",
        summary: "Say where a publish is",
        answer: &shapes::STATUS,
        failures: &[OFF, MAY_NOT, NO_PUBLISH],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Outcomes),
        name: "listPushOutcomes",
        path: "/apps/{app_id}/push/publish/{publish_id}/outcomes",
        summary: "List what came of a publish, device by device",
        query: shapes::PAGE,
        answer: &shapes::OUTCOME_PAGE,
        failures: &[OFF, MAY_NOT, NO_PUBLISH],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Feedback),
        name: "reportDelivery",
        method: Method::Post,
        path: "/apps/{app_id}/push/deliveryStatus",
        summary: "Take what a provider or a worker says of one device of a publish",
        body: Some(&shapes::FEEDBACK_BODY),
        good: &[202],
        answer: &shapes::ECHO,
        failures: &[OFF, MAY_NOT, NO_PUBLISH],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::DeadLetters),
        name: "listDeadLetters",
        path: "/apps/{app_id}/push/deadLetters",
        summary: "List what sending was given up of",
        query: shapes::DEAD,
        answer: &shapes::DEAD_PAGE,
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Replay),
        name: "replayDeadLetter",
        method: Method::Post,
        path: "/apps/{app_id}/push/deadLetters/{dead_letter_id}/replay",
        summary: "Try a dead letter again",
        good: &[202],
        answer: &shapes::REPLAYED,
        failures: &[OFF, MAY_NOT, NO_LETTER],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::CreateBroadcast),
        name: "createBroadcast",
        method: Method::Post,
        path: "/apps/{app_id}/push/liveActivities/channels",
        summary: "Make a broadcast channel of Live Activities at APNs",
        body: Some(&shapes::BROADCAST_BODY),
        good: &[201],
        answer: &shapes::BROADCAST,
        failures: &[OFF, MAY_NOT, NO_BROADCAST, NOT_TAKEN, NOT_READ],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Broadcasts),
        name: "listBroadcasts",
        path: "/apps/{app_id}/push/liveActivities/channels",
        summary: "List the broadcast channels at APNs",
        query: shapes::OF_CREDENTIALS,
        answer: &shapes::BROADCAST_PAGE,
        failures: &[OFF, MAY_NOT, NO_BROADCAST, NOT_TAKEN, NOT_READ],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::Broadcast),
        name: "readBroadcast",
        path: "/apps/{app_id}/push/liveActivities/channels/{channel_id}",
        summary: "Read a broadcast channel at APNs",
        query: shapes::OF_CREDENTIALS,
        answer: &shapes::BROADCAST,
        failures: &[OFF, MAY_NOT, NO_BROADCAST, NOT_TAKEN, NOT_READ],
        ..BLANK
    },
    Row {
        route: Route::Push(PushRoute::RemoveBroadcast),
        name: "deleteBroadcast",
        method: Method::Delete,
        path: "/apps/{app_id}/push/liveActivities/channels/{channel_id}",
        summary: "Remove a broadcast channel at APNs",
        query: shapes::OF_CREDENTIALS,
        good: &[204],
        failures: &[OFF, MAY_NOT, NO_BROADCAST, NOT_TAKEN, NOT_READ],
        ..BLANK
    },
];

/// What a word in braces of such a path stands for.
pub fn path_field(name: &'static str) -> (Kind, &'static str) {
    match name {
        "device_id" => (Kind::Text(1, 255), "The device's id, percent-encoded."),
        "template_id" => (Kind::Text(1, 255), "The template's id, percent-encoded."),
        "credential_id" => (Kind::Text(1, 255), "What the credentials are called."),
        "publish_id" => (Kind::Text(1, 255), "The publish's id: its `publish_id`."),
        "dead_letter_id" => (Kind::Text(1, 20), "The dead letter: its `deadLetterId`."),
        "provider" => (Kind::Choice(&["fcm", "apns", "webpush", "hms", "wns"]), "The provider."),
        _ => (Kind::Text(1, 255), "The broadcast channel, percent-encoded."),
    }
}
