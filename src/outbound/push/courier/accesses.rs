//! What lets one in at one provider, by credentials and realm: remembered, bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Mutex as Turn;

use crate::base::time::{Millis, Nanos};
use crate::outbound::push::provider::Delivered;
use crate::push::credential::{Credential, Fingerprint};

/// Kept for one provider, at most; the one that was used the longest ago goes first. Origins of Web Push are what comes
/// in numbers.
const KEPT_MAX: usize = 1024;
/// What is signed here is made anew before its end only if it is so old: APNs refuses whoever does so more often.
pub(super) const RENEWED_SIGNED: Duration = Duration::from_secs(20 * 60);
/// What is asked for is asked for again before its end only if it is so old: where credentials are no good any more
/// each request would ask once more.
pub(super) const RENEWED_TOLD: Duration = Duration::from_millis(200);
/// What is asked for is used until so long before its end, or a tenth of its time.
const MARGIN: Duration = Duration::from_secs(60);

/// App, credentials, what is secret of them, realm. Not their version: that begins anew when they were removed.
type Key = (String, String, Fingerprint, String);

#[derive(Default)]
pub(super) struct Accesses(Mutex<HashMap<Key, Place>>);

/// Where one of them is.
struct Place {
    used: Nanos,
    /// Who asked for it last. It goes with the credentials when these were changed or removed.
    credential: Weak<Credential>,
    slot: Arc<Slot>,
}

/// One of them, perhaps still to be got.
#[derive(Default)]
pub(super) struct Slot {
    /// Held while it is got.
    pub(super) state: Turn<State>,
}

#[derive(Default)]
pub(super) struct State {
    kept: Option<Arc<Kept>>,
    /// Why it was not got last, and when that was.
    refused: Option<(Nanos, Delivered)>,
}

/// What lets one in.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) text: String,
    made: Nanos,
    until: Nanos,
    /// It is forgotten before its end only if it is so old.
    renewed: Duration,
}

impl Kept {
    pub(super) fn new(text: String, made: Nanos, life: Duration, renewed: Duration) -> Self {
        let life = u64::try_from(life.as_nanos()).unwrap_or(u64::MAX);
        Self { text, made, until: Nanos(made.0.saturating_add(life)), renewed }
    }
}

/// How long something that lives so long is used.
pub(super) fn used_for(life: Millis) -> Duration {
    let life = Duration::from_millis(life.0);
    life - MARGIN.min(life / 10)
}

impl Accesses {
    pub(super) fn slot(
        &self,
        credential: &Arc<Credential>,
        realm: String,
        now: Nanos,
    ) -> Arc<Slot> {
        let key = (credential.app.clone(), credential.id.clone(), credential.fingerprint(), realm);
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get_mut(&key) {
            place.used = now;
            place.credential = Arc::downgrade(credential);
            return Arc::clone(&place.slot);
        }
        places.retain(|_, place| place.credential.strong_count() > 0);
        if places.len() >= KEPT_MAX {
            let oldest = places.iter().min_by_key(|(_, place)| place.used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                places.remove(&oldest);
            }
        }
        let slot = Arc::<Slot>::default();
        let credential = Arc::downgrade(credential);
        places.insert(key, Place { used: now, credential, slot: Arc::clone(&slot) });
        slot
    }
}

impl Slot {
    /// Forgets what did not let us in; false: it is so new that another would not either. True also if somebody forgot it
    /// already.
    pub(super) async fn forget(&self, stale: &Arc<Kept>, now: crate::base::time::Now) -> bool {
        let mut state = self.state.lock().await;
        match &state.kept {
            Some(kept) if Arc::ptr_eq(kept, stale) => {
                if now.steady.since(kept.made) < kept.renewed {
                    return false;
                }
                state.kept = None;
                true
            }
            _ => true,
        }
    }
}

impl State {
    /// What is good now, or a refusal that came after `asked_at`: whoever waited while it came need not ask again.
    pub(super) fn known(
        &self,
        asked_at: Nanos,
        now: Nanos,
    ) -> Option<Result<Arc<Kept>, Delivered>> {
        match (&self.kept, &self.refused) {
            (Some(kept), _) if now < kept.until => Some(Ok(Arc::clone(kept))),
            (_, Some((at, refused))) if *at >= asked_at => Some(Err(refused.clone())),
            _ => None,
        }
    }

    pub(super) fn learn(
        &mut self,
        got: Result<Kept, Delivered>,
        now: Nanos,
    ) -> Result<Arc<Kept>, Delivered> {
        (self.kept, self.refused) = (None, None);
        match got {
            Ok(kept) => Ok(Arc::clone(self.kept.insert(Arc::new(kept)))),
            Err(refused) => {
                self.refused = Some((now, refused.clone()));
                Err(refused)
            }
        }
    }
}

#[cfg(test)]
#[path = "accesses_tests.rs"]
mod tests;
