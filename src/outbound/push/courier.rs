//! Brings parcels: what a [`Speak`](super::provider::Speak) says, done over HTTP.

use crate::push::Provider;
use crate::push::credential::Credential;
use std::sync::Arc;

/// What is asked about broadcast channels of Live Activities.
#[derive(Clone, Debug)]
pub struct BroadcastAsk {
    /// With what.
    pub credential: Arc<Credential>,
    /// By whom: APNs.
    pub provider: Provider,
    /// What.
    pub what: BroadcastWhat,
}

/// What exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BroadcastWhat {
    /// Make one with this policy.
    Create(u8),
    /// List them.
    List,
    /// One.
    Read(String),
    /// Remove one.
    Remove(String),
}

/// Brings parcels. Clones share what they know.
#[derive(Clone)]
pub struct Courier;

impl Courier {
    /// One that knows nobody yet.
    pub fn new(_: Arc<crate::config::push::PushSettings>, _: Arc<super::Counts>) -> Self {
        Self
    }

    /// Brings a parcel.
    pub async fn deliver(&self, _: super::provider::Parcel) -> super::provider::Delivered {
        super::provider::Delivered::taken(None)
    }

    /// Asks about broadcast channels.
    pub async fn broadcast(
        &self,
        _: BroadcastAsk,
    ) -> Result<crate::push::order::Told, crate::push::order::Refused> {
        Err(crate::push::order::Refused::unavailable("not yet"))
    }

    /// What was logged last.
    pub fn logged(&self) -> Vec<String> {
        Vec::new()
    }
}
