//! How long events take, stage by stage: parse, hop, render, submit, complete, and all of it.
//!
//! Clocks are read once per stage and batch, never per recipient. An event is complete when no outbox
//! and no send holds its frame any more, which its count tells.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::frame::Frame;
use crate::base::time::Nanos;
use crate::observe::{Histogram, ShardMetrics};

/// Events watched at once; under a storm the rest goes unwatched rather than slow.
const WATCHED_MAX: usize = 256;

/// An event that a stalled peer holds longer than this is counted so, and watched no more.
const WATCHED_FOR: Duration = Duration::from_secs(1);

/// The events of one shard whose frames are on their way.
#[derive(Default)]
pub struct Stages {
    watched: VecDeque<Watched>,
    /// How many of `watched` were not yet part of a flush.
    fresh: usize,
}

struct Watched {
    frame: Frame,
    arrived: Nanos,
    fanned_out: Nanos,
    submitted: Nanos,
}

impl Stages {
    /// Watches an event whose frame was just queued; `arrived` is when its publisher's bytes came.
    pub fn fanned_out(&mut self, frame: &Frame, arrived: Nanos, now: Nanos) {
        if self.watched.len() < WATCHED_MAX {
            self.watched.push_back(Watched {
                frame: frame.clone(),
                arrived,
                fanned_out: now,
                submitted: now,
            });
            self.fresh += 1;
        }
    }

    /// Everything queued so far was handed to the driver.
    pub fn flushed(&mut self, now: Nanos, metrics: &ShardMetrics) {
        let old = self.watched.len() - self.fresh;
        for watched in self.watched.iter_mut().skip(old) {
            watched.submitted = now;
            metrics.record(Histogram::StageSubmit, now.since(watched.fanned_out));
        }
        self.fresh = 0;
    }

    /// Completions were reaped: records the events that everyone has been sent.
    pub fn reaped(&mut self, now: Nanos, metrics: &ShardMetrics) {
        while let Some(watched) = self.watched.front() {
            // In order, so that this costs nothing while the oldest is on its way.
            let waits = now.since(watched.submitted) < WATCHED_FOR;
            if self.fresh == self.watched.len() || (waits && !watched.frame.is_last()) {
                return;
            }
            metrics.record(Histogram::StageComplete, now.since(watched.submitted));
            metrics.record(Histogram::PublishToLastSend, now.since(watched.arrived));
            self.watched.pop_front();
        }
    }
}
