//! Lanes: one for each app, provider and credentials. What a provider says to all of one's requests closes the lane, not
//! one device.

use std::sync::Arc;

use crate::base::prng::Prng;
use crate::base::time::{Millis, Nanos};
use crate::config::push::PushSettings;
use crate::outbound::push::provider::{Delivered, Verdict};
use crate::push::Provider;

/// The longest pause that a provider is granted.
const PAUSE_LONGEST: Millis = Millis(86_400_000);

/// Which lane: app, provider, and which credentials were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneKey {
    /// The id of the app.
    pub app: Arc<str>,
    /// Who brings it.
    pub provider: Provider,
    /// The id of the credentials; none: the provider's usual ones.
    pub credential: Option<String>,
}

/// Whether something can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Open,
    /// Not now.
    Closed,
    /// Not with these credentials: what needs them is given up.
    Dead,
}

/// A lane.
#[derive(Debug, Default)]
pub struct Lane {
    /// Nothing is sent before.
    paused_until: Nanos,
    /// Pauses in a row.
    rounds: u32,
    /// The last of them was for the credentials' sake.
    is_unauthorized: bool,
    /// After a pause one request goes alone; this one is under way.
    probe: Option<u64>,
    /// Why.
    reason: Option<String>,
    /// Publishes that wait for it.
    pub stalled: Vec<u64>,
}

impl Lane {
    /// Whether something can be sent now.
    pub fn gate(&self, now: Nanos, settings: &PushSettings) -> Gate {
        match () {
            () if self.rounds == 0 && self.paused_until <= now => Gate::Open,
            () if self.probe.is_none() && self.paused_until <= now => Gate::Open,
            () if self.is_unauthorized && self.rounds >= settings.attempts_max => Gate::Dead,
            () => Gate::Closed,
        }
    }

    /// A request leaves.
    pub fn sent(&mut self, number: u64) {
        if self.rounds > 0 {
            self.probe = Some(number);
        }
    }

    /// Takes what came of a request that left at `sent`. Gives how long nothing is sent, if that is new.
    pub fn heard(
        &mut self,
        number: u64,
        sent: Nanos,
        delivered: &Delivered,
        now: Nanos,
        (settings, chance): (&PushSettings, &mut Prng),
    ) -> Option<Millis> {
        let is_probe = self.probe == Some(number);
        if is_probe {
            self.probe = None;
        }
        match delivered.verdict {
            Verdict::Taken | Verdict::Gone | Verdict::Refused | Verdict::Unfit => {
                if is_probe || sent >= self.paused_until {
                    (self.rounds, self.is_unauthorized, self.reason) = (0, false, None);
                }
                None
            }
            // Another pause is not for this one to end; but a probe that nobody answered goes again.
            Verdict::Unavailable => None,
            Verdict::Throttled | Verdict::Unauthorized => {
                // All that were under way are answered alike: the first of them is enough.
                if sent < self.paused_until && !is_probe {
                    return None;
                }
                self.rounds = self.rounds.saturating_add(1);
                self.is_unauthorized = delivered.verdict == Verdict::Unauthorized;
                self.reason = delivered.reason.clone();
                let pause = match delivered.retry_after {
                    Some(asked) => Millis(asked.0.clamp(1, PAUSE_LONGEST.0)),
                    // Credentials do not get better by being shown again.
                    None if self.is_unauthorized => settings.retry_longest,
                    None => back_off(self.rounds, settings, chance),
                };
                self.paused_until = now + pause;
                Some(pause)
            }
        }
    }

    /// Nothing goes before then; it is nobody's fault.
    pub fn hold(&mut self, until: Nanos) {
        self.paused_until = self.paused_until.max(until);
    }

    /// Credentials changed.
    pub fn forgive(&mut self) {
        if self.is_unauthorized || self.rounds == 0 {
            let stalled = std::mem::take(&mut self.stalled);
            *self = Self { stalled, ..Self::default() };
        }
    }

    /// When those who wait for it may go on.
    pub fn due(&self) -> Option<Nanos> {
        (!self.stalled.is_empty() && self.probe.is_none()).then_some(self.paused_until)
    }

    /// When it opens again, if it is closed.
    pub fn opens_at(&self, now: Nanos) -> Option<Nanos> {
        (self.rounds > 0 && self.paused_until > now).then_some(self.paused_until)
    }

    /// What was said last, if that was bad.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Nothing is known of it that would be missed.
    pub fn is_blank(&self, now: Nanos) -> bool {
        self.rounds == 0 && self.paused_until <= now && self.stalled.is_empty()
    }
}

/// The pause after this many failures: twice as long each time, half of it by chance.
pub fn back_off(failures: u32, settings: &PushSettings, chance: &mut Prng) -> Millis {
    let doubled = settings.retry_first.0.saturating_mul(1 << (failures.max(1) - 1).min(32));
    let most = doubled.min(settings.retry_longest.0).max(1);
    Millis(most / 2 + chance.below(most / 2 + 1))
}
