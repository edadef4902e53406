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
