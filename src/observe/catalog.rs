//! Every metric, declared once: its name, kind, unit, labels and a sentence of help.
//!
//! A row is one metric as Prometheus knows it; its variants are the values of its label, a closed
//! set. The enums below are made from the rows, and so is everything that is printed.

/// What a metric is, in Prometheus' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// The value of now.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One series of the catalog: a metric, or one label value of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The metric's name, unit last. Rows of one metric stand together.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// A sentence for people.
    pub help: &'static str,
    /// The label and its value, if the metric has several series per shard.
    pub label: Option<(&'static str, &'static str)>,
}

macro_rules! catalog {
    (
        $(#[$enum_doc:meta])*
        $enum:ident, $kind:ident;
        $( $name:literal, $help:literal, { $( $variant:ident $(= $label:ident : $value:literal)? ),+ } )+
    ) => {
        $(#[$enum_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $enum { $( $( #[doc = concat!($help, $(" ", stringify!($label), ": ", $value, ".")?)] $variant, )+ )+ }

        impl $enum {
            /// All of them, in the order of the catalog.
            pub const ALL: &'static [$enum] = &[ $( $( $enum::$variant, )+ )+ ];

            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            const ROWS: &'static [Row] = &[ $( $( Row {
                name: $name, kind: Kind::$kind, help: $help,
                label: catalog!(@label $($label $value)?),
            }, )+ )+ ];

            /// Its row of the catalog.
            pub fn row(self) -> &'static Row {
                &Self::ROWS[self as usize]
            }
        }
    };
    (@label) => { None };
    (@label $label:ident $value:literal) => { Some((stringify!($label), $value)) };
}

catalog! {
    /// What is counted.
    Counter, Counter;
    "ringmain_connections_accepted_total", "Connections accepted.", { ConnectionsAccepted }
    "ringmain_accepts_failed_total", "Accepts that failed, for want of descriptors most likely.", { AcceptsFailed }
    "ringmain_websocket_handshakes_total", "HTTP connections that became WebSocket connections.", { Handshakes }
    "ringmain_event_streams_total", "Requests answered with an event stream.", { EventStreams }
    "ringmain_messages_received_total", "WebSocket messages from peers, assembled.", { MessagesIn }
    "ringmain_messages_sent_total", "WebSocket messages handed to outboxes, deliveries included.", { MessagesOut }
    "ringmain_received_bytes_total", "Bytes received from sockets.", { BytesIn }
    "ringmain_sent_bytes_total", "Bytes the kernel took for sockets.", { BytesOut }
    "ringmain_http_requests_total", "HTTP requests answered, by class of status.", {
        Http1xx = class: "1xx", Http2xx = class: "2xx", Http3xx = class: "3xx", Http4xx = class: "4xx",
        Http5xx = class: "5xx"
    }
    "ringmain_http_refused_total", "Requests refused before any dialect saw them whole, by status.", {
        HttpRefused400 = status: "400", HttpRefused408 = status: "408", HttpRefused413 = status: "413",
        HttpRefused414 = status: "414", HttpRefused417 = status: "417", HttpRefused431 = status: "431",
        HttpRefused501 = status: "501", HttpRefused503 = status: "503", HttpRefused505 = status: "505",
        HttpRefusedOther = status: "other"
    }
    "ringmain_protocol_errors_total", "WebSocket connections that broke the protocol, by close code.", {
        ProtocolErrors1002 = code: "1002", ProtocolErrors1003 = code: "1003",
        ProtocolErrors1007 = code: "1007", ProtocolErrors1008 = code: "1008",
        ProtocolErrors1009 = code: "1009", ProtocolErrorsOther = code: "other"
    }
    "ringmain_session_panics_total", "Sessions ended because their code failed: a fault of ours.", { SessionPanics }
    "ringmain_events_published_total", "Events ordered by a home.", { EventsPublished }
    "ringmain_events_delivered_total", "Events queued to recipients, one per recipient.", { EventsDelivered }
    "ringmain_frames_dropped_total", "Frames taken back out of outboxes unsent.", { FramesDropped }
    "ringmain_renders_total", "Events rendered, one per event and lane.", { Renders }
    "ringmain_rendered_bytes_total", "Bytes of rendered frames.", { BytesRendered }
    "ringmain_sends_total", "Sends submitted.", { Sends }
    "ringmain_sends_gathered_total", "Sends of more than one frame.", { SendsGathered }
    "ringmain_sends_short_total", "Sends of which the kernel took a part.", { SendsShort }
    "ringmain_slow_consumers_total", "Connections whose outbox passed its high-water mark.", { SlowConsumers }
    "ringmain_receive_pauses_total", "Sockets not read from for a while, because something downstream was full.", { ReceivePauses }
    "ringmain_subscriptions_opened_total", "Subscriptions granted.", { SubscriptionsOpened }
    "ringmain_subscriptions_closed_total", "Subscriptions ended.", { SubscriptionsClosed }
    "ringmain_subscriptions_refused_total", "Subscriptions refused.", { SubscriptionsRefused }
    "ringmain_signature_failures_total", "Signatures and tokens that did not verify.", { SignatureFailures }
    "ringmain_client_events_total", "Events published by peers over their connection.", { ClientEvents }
    "ringmain_client_events_limited_total", "Events of peers refused for their rate.", { ClientEventsLimited }
    "ringmain_inquiries_total", "Questions to the world outside: whose token, a login.", { Inquiries }
    "ringmain_inquiries_unanswered_total", "Of them those that nobody answered in time, treated as refused.", { InquiriesUnanswered }
    "ringmain_events_kept_total", "Events that took a place in their channel's history, by where.", {
        KeptMemory = mode: "memory", KeptDurable = mode: "durable"
    }
    "ringmain_idempotent_repeats_total", "Publishes that were answered with the result of an earlier one.", { IdempotentRepeats }
    "ringmain_replayed_events_total", "Events of the past that subscribers were sent.", { EventsReplayed }
    "ringmain_gaps_total", "Positions that could not be continued, and were refused.", { Gaps }
    "ringmain_schedules_done_total", "Schedules that were done when they were due.", { SchedulesDone }
    "ringmain_schedules_late_total", "Of them those that were done more than a second late.", { SchedulesLate }
    "ringmain_presence_lost_total", "Changes of members that found no room to wait for the store, and are missing from their history.", { PresenceLost }
    "ringmain_reports_lost_total", "Reports to the world outside that found no room to wait for the store.", { ReportsLost }
    "ringmain_store_batches_total", "Groups that the store committed, with one sync each.", { StoreBatches }
    "ringmain_store_asks_total", "Asks in these groups.", { StoreAsks }
    "ringmain_store_records_total", "Events that the store took.", { StoreRecords }
    "ringmain_store_record_bytes_total", "Bytes of these events.", { StoreRecordBytes }
    "ringmain_store_failures_total", "Groups whose commit failed.", { StoreFailures }
    "ringmain_store_records_expired_total", "Events that retention took away from disk.", { StoreRecordsExpired }
    "ringmain_webhook_events_delivered_total", "Events that receivers of webhooks took, one per receiver.", { WebhookDelivered }
    "ringmain_webhook_requests_failed_total", "Requests to receivers of webhooks that failed or were refused.", { WebhookFailed }
    "ringmain_webhook_events_dead_total", "Events that became dead letters, one per receiver, by why.", {
        WebhookRefused = why: "refused", WebhookExpired = why: "expired", WebhookOverflow = why: "overflow"
    }
    "ringmain_webhook_dead_letters_dropped_total", "Dead letters that went because there was no room for more.", { WebhookDropped }
    "ringmain_push_registrations_total", "Devices registered for push notifications, or registered again.", { PushRegistered }
    "ringmain_push_publishes_accepted_total", "Publishes to devices that are on disk.", { PushAccepted }
    "ringmain_push_publishes_refused_total", "Publishes to devices refused for want of room or for coming too often.", { PushRefused }
    "ringmain_push_publishes_finished_total", "Publishes to devices of which nothing more comes, by how they ended.", {
        PushFinishedCancelled = state: "cancelled", PushFinishedSucceeded = state: "succeeded",
        PushFinishedPartial = state: "partially_succeeded", PushFinishedFailed = state: "failed",
        PushFinishedQuota = state: "quota_exceeded", PushFinishedExpired = state: "expired",
        PushFinishedDead = state: "dead_lettered"
    }
    "ringmain_push_delivered_total", "Notifications that a provider took.", {
        PushDeliveredFcm = provider: "fcm", PushDeliveredApns = provider: "apns", PushDeliveredWebPush = provider: "webPush",
        PushDeliveredHms = provider: "hms", PushDeliveredWns = provider: "wns", PushDeliveredRealtime = provider: "realtime"
    }
    "ringmain_push_failed_total", "Notifications that a provider refused for good.", {
        PushFailedFcm = provider: "fcm", PushFailedApns = provider: "apns", PushFailedWebPush = provider: "webPush",
        PushFailedHms = provider: "hms", PushFailedWns = provider: "wns", PushFailedRealtime = provider: "realtime"
    }
    "ringmain_push_pruned_total", "Devices removed because their provider said that they are gone.", {
        PushPrunedFcm = provider: "fcm", PushPrunedApns = provider: "apns", PushPrunedWebPush = provider: "webPush",
        PushPrunedHms = provider: "hms", PushPrunedWns = provider: "wns", PushPrunedRealtime = provider: "realtime"
    }
    "ringmain_push_retries_total", "Tries to deliver a notification beyond the first.", {
        PushRetriedFcm = provider: "fcm", PushRetriedApns = provider: "apns", PushRetriedWebPush = provider: "webPush",
        PushRetriedHms = provider: "hms", PushRetriedWns = provider: "wns", PushRetriedRealtime = provider: "realtime"
    }
    "ringmain_push_dead_total", "Notifications given up after the last try.", {
        PushDeadFcm = provider: "fcm", PushDeadApns = provider: "apns", PushDeadWebPush = provider: "webPush",
        PushDeadHms = provider: "hms", PushDeadWns = provider: "wns", PushDeadRealtime = provider: "realtime"
    }
    "ringmain_push_skipped_total", "Notifications left out or too late: connected, failed before, over a rate, expired.", { PushSkipped }
    "ringmain_push_build_microseconds_total", "Time of a thread that making requests to providers took, encryption included.", { PushBuild }
    "ringmain_mails_sent_total", "Mails to shards, one's own included, by direction.", {
        MailsUp = direction: "up", MailsDown = direction: "down"
    }
    "ringmain_mails_spilled_total", "Mails that found their mailbox full and went to the backlog.", { MailSpills }
    "ringmain_wakes_total", "Wakes sent to parked shards.", { Wakes }
    "ringmain_parks_total", "Times a shard had nothing to do and parked.", { Parks }
    "ringmain_ticks_total", "Turns of the loop.", { Ticks }
    "ringmain_timers_expired_total", "Timers that came.", { TimersFired }
    "ringmain_ring_enters_total", "Calls of io_uring_enter.", { RingEnters }
    "ringmain_ring_overflows_total", "Times completions overflowed their queue.", { RingOverflows }
    "ringmain_receive_buffers_exhausted_total", "Receives that ended for want of a buffer (ENOBUFS).", { ReceiveBuffersExhausted }
}

catalog! {
    /// What is measured as it stands now.
    Gauge, Gauge;
    "ringmain_connections", "Connections open.", { Connections }
    "ringmain_subscriptions", "Subscriptions of this shard's connections.", { Subscriptions }
    "ringmain_channels", "Channels this shard is home of.", { Channels }
    "ringmain_members", "Members of the channels this shard is home of.", { Members }
    "ringmain_outbox_bytes", "Bytes queued in all outboxes.", { OutboxBytes }
    "ringmain_outbox_peak_bytes", "The most bytes any one outbox has held.", { OutboxPeakBytes }
    "ringmain_history_bytes", "Bytes of events that channels keep in memory.", { HistoryBytes }
    "ringmain_store_asks", "Asks that the store has not answered.", { StoreAsks }
    "ringmain_store_bytes", "Bytes that durable state takes on disk.", { StoreBytes }
    "ringmain_store_free_bytes", "Bytes free on the disk of durable state.", { StoreFreeBytes }
    "ringmain_store_full", "1 while durable publishes are refused because the disk is at its bound.", { StoreFull }
    "ringmain_store_failed", "1 while the database is being opened again after a failure.", { StoreFailed }
    "ringmain_webhook_events_waiting", "Events that wait for the receiver of webhooks that is furthest behind.", { WebhookWaiting }
    "ringmain_webhook_oldest_seconds", "Age of the oldest event that waits for a receiver of webhooks.", { WebhookOldest }
    "ringmain_webhook_dead_letters", "Dead letters kept.", { WebhookLetters }
    "ringmain_webhook_receivers_failing", "Receivers of webhooks that take nothing.", { WebhookFailing }
    "ringmain_push_publishes", "Publishes to devices that are not finished.", { PushOpen }
    "ringmain_push_pending", "Notifications that are planned and not finished.", { PushPending }
    "ringmain_push_requests", "Requests under way with providers.", {
        PushRequestsFcm = provider: "fcm", PushRequestsApns = provider: "apns", PushRequestsWebPush = provider: "webPush",
        PushRequestsHms = provider: "hms", PushRequestsWns = provider: "wns", PushRequestsRealtime = provider: "realtime"
    }
    "ringmain_backlog_mails", "Mails that wait for room in a mailbox, by direction.", {
        BacklogUp = direction: "up", BacklogDown = direction: "down"
    }
}

catalog! {
    /// What is measured as a distribution, in nanoseconds here and in seconds where it is printed.
    Histogram, Histogram;
    "ringmain_publish_stage_seconds", "Time an event spent in one stage of its way.", {
        StageParse = stage: "parse", StageHop = stage: "hop", StageRender = stage: "render",
        StageSubmit = stage: "submit", StageComplete = stage: "complete"
    }
    "ringmain_publish_seconds", "From the arrival of an event's bytes to the last send of it on a shard.", { PublishToLastSend }
    "ringmain_store_sync_seconds", "Time the store took to bring one group to disk.", { StoreSync }
    "ringmain_tick_seconds", "Time one turn of the loop worked, its wait left out.", { Tick }
}

/// The one metric with two labels: why connections ended, and which dialect they spoke.
pub const CLOSED: Row = Row {
    name: "ringmain_connections_closed_total",
    kind: Kind::Counter,
    help: "Connections ended, by reason and dialect (none: before a dialect took them).",
    label: None,
};

impl Counter {
    /// Which counter an answered request moves.
    pub fn http_answered(status: u16) -> Self {
        match status / 100 {
            1 => Self::Http1xx,
            2 => Self::Http2xx,
            3 => Self::Http3xx,
            4 => Self::Http4xx,
            _ => Self::Http5xx,
        }
    }

    /// Which counter a request moves that was refused with this status before any dialect took it.
    pub fn http_refused(status: u16) -> Self {
        match status {
            400 => Self::HttpRefused400,
            408 => Self::HttpRefused408,
            413 => Self::HttpRefused413,
            414 => Self::HttpRefused414,
            417 => Self::HttpRefused417,
            431 => Self::HttpRefused431,
            501 => Self::HttpRefused501,
            503 => Self::HttpRefused503,
            505 => Self::HttpRefused505,
            _ => Self::HttpRefusedOther,
        }
    }

    /// Which counter a peer's breach of the WebSocket protocol moves, by the close code it was told.
    pub fn protocol_error(code: u16) -> Self {
        match code {
            1002 => Self::ProtocolErrors1002,
            1003 => Self::ProtocolErrors1003,
            1007 => Self::ProtocolErrors1007,
            1008 => Self::ProtocolErrors1008,
            1009 => Self::ProtocolErrors1009,
            _ => Self::ProtocolErrorsOther,
        }
    }
}

/// Every row there is, rows of one metric together; [`CLOSED`] is last.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    [Counter::ROWS, Gauge::ROWS, Histogram::ROWS, &[CLOSED]].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_in_house_style_and_units_last() {
        let mut seen = HashSet::new();
        let mut previous = "";
        for row in rows() {
            let name = row.name;
            assert!(name.starts_with("ringmain_"), "{name}");
            assert!(name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_')), "{name}");
            match row.kind {
                Kind::Counter => assert!(name.ends_with("_total"), "{name}"),
                Kind::Histogram => assert!(name.ends_with("_seconds"), "{name}"),
                // A number of things has no unit but the things, which the name says.
                Kind::Gauge => assert!(!name.ends_with("_total"), "{name}"),
            }
            assert!(row.help.ends_with('.'), "{name}: {}", row.help);
            assert!(seen.insert((name, row.label)), "{name} {:?} twice", row.label);
            assert!(
                previous == name || seen.iter().filter(|(seen, _)| *seen == name).count() == 1,
                "{name}: rows of one metric stand together"
            );
            previous = name;
        }
    }

    #[test]
    fn a_status_and_a_code_find_their_counter() {
        for status in [400, 408, 413, 414, 417, 431, 501, 503, 505] {
            let label = Counter::http_refused(status).row().label;
            assert_eq!(label.map(|(_, value)| value.parse()), Some(Ok(status)));
        }
        for code in [1002, 1003, 1007, 1008, 1009] {
            let label = Counter::protocol_error(code).row().label;
            assert_eq!(label.map(|(_, value)| value.parse()), Some(Ok(code)));
        }
        for (status, class) in
            [(101, "1xx"), (200, "2xx"), (304, "3xx"), (404, "4xx"), (503, "5xx")]
        {
            assert_eq!(Counter::http_answered(status).row().label, Some(("class", class)));
        }
    }
}
