//! Devices, subscriptions, credentials and templates.

use std::sync::Arc;

use super::{Counts, Step};
use crate::base::time::{Nanos, Now};
use crate::config::push::PushSettings;
use crate::push::Provider;
use crate::push::credential::Credential;
use crate::push::device::Device;
use crate::push::order::{Order, Refused};
use crate::store::Answer;

/// How sending to a device went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Went {
    /// Its provider took it.
    Well,
    /// It did not, for the device's sake: why.
    Badly(String),
    /// There is no such device any more.
    Gone,
}

/// Why there are no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoCredential {
    /// None were given.
    Missing,
    /// They are still being read.
    NotYet,
    /// They cannot be opened: another key sealed them.
    Sealed,
}

/// The registry.
pub struct Registry {
    #[expect(dead_code, reason = "the registry is made of it")]
    settings: Arc<PushSettings>,
    #[expect(dead_code, reason = "the registry is made of it")]
    counts: Arc<Counts>,
}

impl Registry {
    /// An empty one; [`Registry::drive`] reads credentials from the store.
    pub fn new(settings: Arc<PushSettings>, counts: Arc<Counts>) -> Self {
        Self { settings, counts }
    }

    /// Takes an order about what is registered.
    pub fn order(
        &mut self,
        caller: u64,
        _app: &str,
        _order: Order,
        _now: Now,
        _random: &mut dyn FnMut() -> u128,
        out: &mut Vec<Step>,
    ) {
        out.push(Step::Tell(caller, Err(Refused::unavailable("not yet"))));
    }

    /// Asks for what can be done now.
    pub fn drive(&mut self, _now: Now, _out: &mut Vec<Step>) {}

    /// When [`Registry::drive`] is to be called next.
    pub fn due(&self, _now: Now) -> Option<Nanos> {
        None
    }

    /// Takes an answer of the store.
    pub fn answered(&mut self, _tag: u64, _answer: Answer, _now: Now, _out: &mut Vec<Step>) {}

    /// The credentials of an app for a provider: those with this id, else those called
    /// [`DEFAULT_ID`](crate::push::credential::DEFAULT_ID), else the only ones.
    pub fn credential(
        &self,
        _app: &str,
        _provider: Provider,
        _id: Option<&str>,
    ) -> Result<Arc<Credential>, NoCredential> {
        Err(NoCredential::Missing)
    }

    /// Credentials were given, changed or removed since this was last asked: what waits for them may be tried again.
    pub fn take_changed(&mut self) -> bool {
        false
    }

    /// How sending to a device went; `device` as it was when that began. One that took another address since is left alone.
    pub fn went(
        &mut self,
        _app: &str,
        _device: &Device,
        _went: Went,
        _now: Now,
        _out: &mut Vec<Step>,
    ) {
    }
}
