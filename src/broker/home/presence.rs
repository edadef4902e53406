//! What is told about a channel beside what happens in it: that it is occupied or vacated, how many subscriptions it
//! has, who its members are; and members who stay although their connection was lost.
//!
//! It is told to subscribers, in the channel's companion ([`companion::meta`]), and to the world outside; where nobody
//! listens it costs a look at a counter.

use std::sync::Arc;

use super::presence_history::Record;
use super::{COUNT_IMMEDIATE_MAX, COUNT_PERIOD, Count, Home};
use crate::base::ids::{ConnectionId, ShardId};
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Nanos, Now};
use crate::broker::{Down, Happening, Member, Parting, Presence, Render, companion};

/// How long a channel that nobody subscribes any more counts as occupied for the world outside: whoever only loads a
/// page anew is not worth two reports. Source: Sockudo's webhooks.
pub const VACATED_DELAY: Millis = Millis(3_000);

/// Members of one channel whose time without a connection is over and who are removed at one look.
const LEASES_PER_LOOK: usize = 32;

/// What happened to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Added,
    Updated,
    Removed(Cause),
}

/// Why a member was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The last connection ended, or did not want the channel any more.
    Disconnect,
    /// The last connection was not heard of in time, or lost and nobody came back.
    Timeout,
    /// Someone asked for it.
    Forced,
}

impl Cause {
    pub(super) fn of(parting: Parting) -> Self {
        match parting {
            Parting::Unsubscribed | Parting::Closed | Parting::Lost => Self::Disconnect,
            Parting::Silent => Self::Timeout,
            Parting::Forced => Self::Forced,
        }
    }
}

impl Change {
    /// As the history of presence names it, and why it happened. Source: Sockudo's HTTP API, "Presence history".
    pub(super) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Added => ("member_added", "join"),
            Self::Updated => ("member_updated", "join"),
            Self::Removed(Cause::Disconnect) => ("member_removed", "disconnect"),
            Self::Removed(Cause::Timeout) => ("member_removed", "timeout"),
            Self::Removed(Cause::Forced) => ("member_removed", "forced_disconnect"),
        }
    }

    fn happening(self) -> fn(Arc<Presence>) -> Happening {
        match self {
            Self::Added => Happening::MemberAdded,
            Self::Updated => Happening::MemberUpdated,
            Self::Removed(_) => Happening::MemberRemoved,
        }
    }
}

impl Home {
    /// Whether a channel is a companion that tells of another.
    pub(super) fn is_meta(channel: &Channel) -> bool {
        companion::of_meta(&channel.name).is_some()
    }

    /// The companion of a channel that someone listens to.
    fn heard_meta(&self, channel: &Channel) -> Option<u32> {
        if self.metas == 0 || !companion::is_watchable(&channel.name) {
            return None;
        }
        let number = self.channels.find(channel.app, &companion::meta(&channel.name))?;
        (!self.channels[number].interest.is_empty()).then_some(number)
    }

    /// Tells the companion of a channel, if someone listens to it.
    fn tell_meta(
        &self,
        channel: &Channel,
        happening: impl FnOnce() -> Happening,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        if let Some(number) = self.heard_meta(channel) {
            let held = &self.channels[number];
            held.deliver(held.happened(happening(), now), None, render, out);
        }
    }

    /// Tells the world outside something of a channel that its subscribers are not told.
    fn report_happening(&mut self, number: u32, what: Happening, now: Now, render: &dyn Render) {
        let event = self.channels[number].happened(what, now);
        self.report_event(&event, None, render);
    }

    /// Tells that a channel is occupied, which it was not a moment ago.
    pub(super) fn tell_occupied(
        &mut self,
        number: u32,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let held = &mut self.channels[number];
        if !companion::is_watchable(&held.channel.name) {
            return;
        }
        // The world outside has not heard that it was vacated.
        let is_known = held.rare.as_mut().is_some_and(|rare| rare.vacates.take().is_some());
        let held = &self.channels[number];
        self.tell_meta(&held.channel, || Happening::Occupied, now, render, out);
        if !is_known && render.reports() {
            self.report_happening(number, Happening::Occupied, now, render);
        }
    }

    /// Tells that a channel is vacated, which it was not a moment ago: the world outside a little later.
    pub(super) fn tell_vacated(
        &mut self,
        number: u32,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let held = &mut self.channels[number];
        if !companion::is_watchable(&held.channel.name) {
            return;
        }
        if render.reports() {
            held.rare.get_or_insert_default().vacates = Some(now.steady + VACATED_DELAY);
        }
        let held = &self.channels[number];
        self.tell_meta(&held.channel, || Happening::Vacated, now, render, out);
    }

    /// Tells the world outside that a channel is vacated, if it is time.
    pub(super) fn report_vacated(&mut self, number: u32, now: Now, render: &dyn Render) {
        let rare = self.channels[number].rare.as_mut();
        let vacates = rare.and_then(|rare| rare.vacates.take_if(|it| *it <= now.steady));
        if vacates.is_some() {
            self.report_happening(number, Happening::Vacated, now, render);
        }
    }

    /// Tells the subscription count if it changed, or sees to it that it is told later: subscribers who want it, the
    /// companion, and the world outside. `before` is what it was.
    pub(super) fn tell_count(
        &mut self,
        number: u32,
        before: u32,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let held = &self.channels[number];
        let meta = self.heard_meta(&held.channel);
        let is_reported = render.reports() && companion::is_watchable(&held.channel.name);
        let (counted, is_occupied) = (held.counted, held.is_occupied());
        let held = &mut self.channels[number];
        if meta.is_some() || is_reported {
            let told = Count { told: before, ..Count::default() };
            held.rare.get_or_insert_default().count.get_or_insert(told);
        }
        let Some(count) = held.rare.as_mut().and_then(|rare| rare.count.as_mut()) else { return };
        let free_at = count.told_at.map_or(now.steady, |at| at + COUNT_PERIOD);
        if counted == count.told {
            count.due = None;
            return;
        }
        if counted > COUNT_IMMEDIATE_MAX && free_at > now.steady {
            count.due = Some(free_at);
            return;
        }
        let is_announced = count.is_announced;
        *count = Count { told: counted, told_at: Some(now.steady), due: None, is_announced };
        let what = || Happening::SubscriptionCount(u64::from(counted));
        if is_announced {
            // To the world outside as well.
            self.channels[number].tell(what(), now, render, &mut self.reports, out);
        } else if is_reported {
            self.report_happening(number, what(), now, render);
        }
        // That nobody is left it hears in other words.
        if let Some(meta) = meta.filter(|_| is_occupied) {
            let held = &self.channels[meta];
            held.deliver(held.happened(what(), now), None, render, out);
        }
    }

    /// Tells what happened to a member. What comes back is to be kept, once nothing else is done to the channel.
    #[expect(clippy::too_many_arguments, reason = "one change, and the world")]
    pub(super) fn member_changed(
        &mut self,
        number: u32,
        change: Change,
        member: &Arc<Member>,
        by: Option<ConnectionId>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Option<Record> {
        let held = &self.channels[number];
        held.tell_members(change.happening(), member, now, render, &mut self.reports, out);
        if change != Change::Updated {
            let what = || {
                let presence = Presence { member: member.clone(), members: Vec::new() };
                (change.happening())(Arc::new(presence))
            };
            self.tell_meta(&self.channels[number].channel, what, now, render, out);
        }
        let is_kept = self.window(number).is_some() && self.keeping.rules.keeps_presence();
        let channel = &self.channels[number].channel;
        is_kept.then(|| Record { channel: channel.clone(), change, member: member.clone(), by })
    }

    /// A member's last connection has ended: the member stays for a while, if there is a lease for that.
    #[expect(clippy::too_many_arguments, reason = "one member, and the world")]
    pub(super) fn part(
        &mut self,
        number: u32,
        user_id: &Name,
        lease: Millis,
        parting: Parting,
        by: Option<ConnectionId>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Option<Record> {
        let rare = self.channels[number].rare.as_mut();
        let rare = rare.expect("a member's channel has members");
        if !rare.members.part(user_id) {
            return None;
        }
        if lease > Millis(0) && matches!(parting, Parting::Lost | Parting::Silent) {
            rare.leases.insert(user_id, now.steady + lease);
            return None;
        }
        self.remove_member(number, user_id, Cause::of(parting), by, now, render, out)
    }

    #[expect(clippy::too_many_arguments, reason = "one member, and the world")]
    fn remove_member(
        &mut self,
        number: u32,
        user_id: &str,
        cause: Cause,
        by: Option<ConnectionId>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Option<Record> {
        let rare = self.channels[number].rare.as_mut();
        let gone = rare.expect("a member's channel has members").members.remove(user_id);
        self.members -= 1;
        self.member_changed(number, Change::Removed(cause), &gone, by, now, render, out)
    }

    /// Removes members whose time without a connection is over.
    pub(super) fn end_leases(
        &mut self,
        number: u32,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Vec<Record> {
        let mut records = Vec::new();
        let mut has_ended = false;
        for _ in 0..LEASES_PER_LOOK {
            let rare = self.channels[number].rare.as_mut();
            let Some(user_id) = rare.and_then(|it| it.leases.take_due(now.steady)) else { break };
            has_ended = true;
            let record =
                self.remove_member(number, &user_id, Cause::Timeout, None, now, render, out);
            records.extend(record);
        }
        if has_ended && !self.channels[number].is_occupied() {
            self.tell_vacated(number, now, render, out);
        }
        records
    }

    /// When something of this file is due in a channel.
    pub(super) fn presence_due(rare: &super::Rare) -> Option<Nanos> {
        [rare.vacates, rare.leases.next_due()].into_iter().flatten().min()
    }
}
