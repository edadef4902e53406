//! Counters and histograms with one writer each, their catalog, and the words for why things end.

/// Why a connection ended: a closed set, for metrics, logs and the dialects' close codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The peer closed or went away.
    Peer,
    /// The session ended it as its protocol says (terminated, unauthorised, keep-alive failed).
    Session,
    /// Its outbox passed the high-water mark.
    SlowConsumer,
    /// The process drains.
    Drain,
    /// The peer broke HTTP or the WebSocket protocol.
    Protocol,
    /// A message or frame above its limit.
    TooLarge,
    /// Text that is not UTF-8.
    Utf8,
    /// A head, body or close answer did not come in time.
    Timeout,
    /// A limit of this process was reached.
    Overload,
    /// The answer was given and the peer asked for no more.
    Done,
}

/// What is counted: rows of the metric catalog, one writer per shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Counter {
    /// Connections accepted.
    ConnectionsAccepted,
}
