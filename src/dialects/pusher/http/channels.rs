//! What channels look like: the answers about occupied channels, one channel, and who is in it.

use std::sync::Arc;

use bytes::Bytes;

use super::super::{frames, names};
use super::publish::Info;
use crate::base::ids::{AppIndex, ShardId, Ticket};
use crate::base::name::Name;
use crate::broker::{Command, Description, Happening, Member};
use crate::dialects::api::respond;
use crate::dialects::{Output, Response};
use crate::wire::json;

/// What shards have said they hold; ticket `n` asks shard `n`.
pub(super) struct Survey {
    app: AppIndex,
    prefix: Name,
    info: Info,
    /// Shards that have more to say.
    missing: u16,
    /// What is not in `body` yet.
    found: Vec<(Name, u64, u64)>,
    /// The answer so far.
    body: Vec<u8>,
}

/// Found channels that are sorted and written at once: a tick has time for as many.
const FOUND_MAX: usize = 1024;

impl Survey {
    /// A survey of all shards.
    pub fn new(app: AppIndex, prefix: Name, info: Info, shards: u16) -> Self {
        let body = b"{\"channels\":{".to_vec();
        Self { app, prefix, info, missing: shards, found: Vec::new(), body }
    }

    /// The first question to each shard.
    pub fn begin(&self) -> impl Iterator<Item = Output> {
        (0..self.missing).map(|shard| self.ask(ShardId(shard), 0))
    }

    /// Takes what a shard says and asks it for more; the answer, once it is complete.
    pub fn take(
        &mut self,
        shard: ShardId,
        found: Vec<(Name, u64, u64)>,
        rest: Option<u32>,
        out: &mut Vec<Output>,
    ) -> Option<Response> {
        self.found.extend(found.into_iter().filter(|(name, ..)| !names::is_internal(name)));
        if self.found.len() > FOUND_MAX {
            self.write();
        }
        if let Some(from) = rest {
            out.push(self.ask(shard, from));
            return None;
        }
        self.missing = self.missing.saturating_sub(1);
        if self.missing > 0 {
            return None;
        }
        self.write();
        self.body.extend_from_slice(b"}}");
        Some(respond(200, Bytes::from(std::mem::take(&mut self.body))))
    }

    fn ask(&self, shard: ShardId, from: u32) -> Output {
        let (app, prefix) = (self.app, self.prefix.clone());
        let survey = Command::Survey { shard, from, app, prefix };
        Output::Ask(Ticket(u32::from(shard.0)), survey)
    }

    /// Writes what was found. Few channels come in one order, whatever the number of shards.
    fn write(&mut self) {
        self.found.sort_unstable();
        for (name, subscriptions, users) in self.found.drain(..) {
            if self.body.last() != Some(&b'{') {
                self.body.push(b',');
            }
            json::write_str(&mut self.body, &name);
            self.body.push(b':');
            let users = self.info.user_count.then_some(users);
            let subscriptions = self.info.subscription_count.then_some(subscriptions);
            numbers(
                &[("user_count", users), ("subscription_count", subscriptions)],
                &mut self.body,
            );
        }
    }
}

/// Appends an object of the numbers that are there.
pub(super) fn numbers(members: &[(&str, Option<u64>)], body: &mut Vec<u8>) {
    body.push(b'{');
    let there = members.iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    for (i, (name, value)) in there.enumerate() {
        let comma = if i > 0 { "," } else { "" };
        body.extend_from_slice(format!("{comma}\"{name}\":{value}").as_bytes());
    }
    body.push(b'}');
}

/// The answer about a channel.
pub(super) fn described(description: &Description, info: Info) -> Vec<u8> {
    let occupied = description.subscription_count > 0;
    let mut body = format!("{{\"occupied\":{occupied}").into_bytes();
    if info.user_count {
        body.extend_from_slice(format!(",\"user_count\":{}", description.user_count).as_bytes());
    }
    if info.subscription_count {
        let count = description.subscription_count;
        body.extend_from_slice(format!(",\"subscription_count\":{count}").as_bytes());
    }
    if let (true, Some((event, left))) = (info.cache, &description.last)
        && let Happening::Message { data, .. } = &event.happening
    {
        body.extend_from_slice(b",\"cache\":{\"data\":");
        frames::write_data(data, &mut body);
        body.extend_from_slice(format!(",\"ttl\":{}}}", left.0.div_ceil(1000)).as_bytes());
    }
    body.push(b'}');
    body
}

/// The answer about who is in a channel.
pub(super) fn listed(members: &[Arc<Member>]) -> Vec<u8> {
    let mut body = b"{\"users\":[".to_vec();
    for (i, member) in members.iter().enumerate() {
        body.extend_from_slice(if i > 0 { b",{\"id\":" } else { b"{\"id\":" });
        json::write_str(&mut body, &member.user_id);
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    body
}
