//! Publishes: accepted, planned, sent, tried again, accounted for.

use std::sync::Arc;

use super::provider::Delivered;
use super::registry::Registry;
use super::{Counts, Step, Wants};
use crate::base::time::{Nanos, Now};
use crate::config::push::PushSettings;
use crate::push::order::{Order, Refused};
use crate::store::Answer;

/// All publishes that are not finished.
pub struct Jobs {
    #[expect(dead_code, reason = "jobs are made of it")]
    settings: Arc<PushSettings>,
    #[expect(dead_code, reason = "jobs are made of it")]
    counts: Arc<Counts>,
}

impl Jobs {
    /// None; [`Jobs::drive`] reads those of before from the store.
    pub fn new(
        settings: Arc<PushSettings>,
        counts: Arc<Counts>,
        _wants: Wants,
        _seed: u64,
    ) -> Self {
        Self { settings, counts }
    }

    /// Takes an order about publishes.
    #[expect(clippy::too_many_arguments, reason = "the world comes in as arguments")]
    pub fn order(
        &mut self,
        caller: u64,
        _app: &str,
        _order: Order,
        _registry: &mut Registry,
        _now: Now,
        _random: &mut dyn FnMut() -> u128,
        out: &mut Vec<Step>,
    ) {
        out.push(Step::Tell(caller, Err(Refused::unavailable("not yet"))));
    }

    /// Something may have been put on the queue.
    pub fn nudged(&mut self, _registry: &mut Registry, _now: Now, _out: &mut Vec<Step>) {}

    /// Asks for what can be done now.
    pub fn drive(&mut self, _registry: &mut Registry, _now: Now, _out: &mut Vec<Step>) {}

    /// When [`Jobs::drive`] is to be called next.
    pub fn due(&self, _now: Now) -> Option<Nanos> {
        None
    }

    /// Takes an answer of the store.
    pub fn answered(
        &mut self,
        _tag: u64,
        _answer: Answer,
        _registry: &mut Registry,
        _now: Now,
        _out: &mut Vec<Step>,
    ) {
    }

    /// Takes what came of a parcel.
    pub fn delivered(
        &mut self,
        _number: u64,
        _delivered: Delivered,
        _registry: &mut Registry,
        _now: Now,
        _out: &mut Vec<Step>,
    ) {
    }

    /// Takes which clients have a connection.
    pub fn looked(
        &mut self,
        _number: u64,
        _are_there: &[bool],
        _registry: &mut Registry,
        _now: Now,
        _out: &mut Vec<Step>,
    ) {
    }
}
