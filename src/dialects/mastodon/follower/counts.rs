//! What came of what was followed, in numbers that other threads read.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Numbers of one follower, for metrics and readiness.
#[derive(Debug, Default)]
pub struct Counts {
    /// Channels that are subscribed at the pub/sub server, those of the system included.
    pub subscriptions: AtomicU64,
    /// Messages that came.
    pub messages: AtomicU64,
    /// Messages that were no events, and statuses that had not the shape of one: skipped.
    pub malformed: AtomicU64,
    /// Statuses that were judged, once for each channel they came on.
    pub judged: AtomicU64,
    /// Statuses that nobody got because the database did not say in time who may have them.
    pub unjudged: AtomicU64,
    /// Statuses that nobody got because too many waited to be judged.
    pub overflowed: AtomicU64,
    /// Accounts from which a status was kept back because their keyword filters were not known in time, one for each
    /// status.
    pub withheld: AtomicU64,
    /// Keywords that were too much for one account and are not looked for.
    pub keywords_passed_over: AtomicU64,
    /// Statuses that wait to be judged, and what waits behind them.
    pub waiting: AtomicU64,
    /// Connections to the database.
    pub pool_connections: AtomicU32,
    /// Those that nobody uses.
    pub pool_idle: AtomicU32,
    /// Questions that wait for one.
    pub pool_waiting: AtomicU32,
    /// The pub/sub server is there.
    pub is_linked: AtomicBool,
    /// The database answered when it was last asked.
    pub is_answered: AtomicBool,
}

impl Counts {
    /// What is lost, in words; none: everything is there.
    pub fn unready(&self) -> Option<String> {
        let lost = [
            (&self.is_linked, "Redis is not connected"),
            (&self.is_answered, "PostgreSQL does not answer"),
        ];
        let lost = lost.iter().filter(|(is, _)| !is.load(Ordering::Relaxed));
        let lost: Vec<_> = lost.map(|(_, words)| *words).collect();
        (!lost.is_empty()).then(|| lost.join("; "))
    }

    /// How the pool of connections to the database is.
    pub fn pool(&self, connections: u32, idle: u32, waiting: u32) {
        self.pool_connections.store(connections, Ordering::Relaxed);
        self.pool_idle.store(idle, Ordering::Relaxed);
        self.pool_waiting.store(waiting, Ordering::Relaxed);
    }
}

/// One more.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_named() {
        let counts = Counts::default();
        for (linked, answered, words) in [
            (false, false, Some("Redis is not connected; PostgreSQL does not answer")),
            (true, false, Some("PostgreSQL does not answer")),
            (false, true, Some("Redis is not connected")),
            (true, true, None),
        ] {
            counts.is_linked.store(linked, Ordering::Relaxed);
            counts.is_answered.store(answered, Ordering::Relaxed);
            assert_eq!(counts.unready().as_deref(), words);
        }
    }
}
