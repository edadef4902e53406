//! Time as a value: the reactor reads the clocks once per tick and everyone else is told.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds of a clock that never steps back; zero is arbitrary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

/// A span in whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// Milliseconds since 1970-01-01T00:00:00Z, as the machine's wall clock has it; may step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

/// Both clocks, read together at the start of a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For durations, deadlines and order.
    pub steady: Nanos,
    /// For what people and protocols call the time.
    pub wall: UnixMillis,
}

impl Nanos {
    /// How long before this moment `earlier` was; zero if it was not before.
    pub fn since(self, earlier: Nanos) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Millis> for Nanos {
    type Output = Nanos;
    fn add(self, span: Millis) -> Nanos {
        Nanos(self.0.saturating_add(span.0.saturating_mul(1_000_000)))
    }
}

impl Sub for Nanos {
    type Output = Nanos;
    fn sub(self, other: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(other.0))
    }
}

impl UnixMillis {
    /// Whole seconds since 1970.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }
}
