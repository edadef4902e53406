//! Subscriptions that begin and end, and the members they make.

use super::{Asker, Home};
use crate::base::ids::{Serial, ShardId};
use crate::base::name::Channel;
use crate::base::time::Now;
use crate::broker::members::Members;
use crate::broker::state::Value;
use crate::broker::{
    Down, Gap, Happening, Parting, Refusal, Render, Renew, Replay, Reply, Start, Subscribe,
    Subscribed,
};

/// What a subscription begins with.
#[derive(Debug, Default)]
pub(super) struct Beginning {
    /// The past, if any of it was asked for.
    pub replay: Option<Box<Result<Replay, Gap>>>,
    pub values: Vec<Value>,
    pub has_more_values: bool,
}

impl Home {
    pub(super) fn subscribe(
        &mut self,
        asker: Asker,
        granted: Box<Subscribe>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        if granted.values.is_some() && granted.start == Start::Now {
            return self.observe(asker, granted, now, render, out);
        }
        if granted.start == Start::Now {
            return self.attach(asker, granted, Beginning::default(), now, render, out);
        }
        match self.admit(&granted, now) {
            Ok(number) => self.subscribe_from(number, asker, granted, now, render, out),
            Err(refusal) => asker.answer(Reply::Refused(refusal), out),
        }
    }

    /// Lets a subscription stand, behind what it begins with.
    pub(super) fn attach(
        &mut self,
        asker: Asker,
        granted: Box<Subscribe>,
        beginning: Beginning,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let number = match self.admit(&granted, now) {
            Ok(number) => number,
            Err(refusal) => return asker.answer(Reply::Refused(refusal), out),
        };
        let Beginning { replay, values, has_more_values } = beginning;
        let position = self.position(number);
        let held = &mut self.channels[number];
        let reports = &mut self.reports;
        let mut renewed = None;
        if let Some(member) = &granted.member {
            let members = &mut held.rare.get_or_insert_default().members;
            if members.join(member) {
                self.members += 1;
                // Before the attach, so that nobody hears of themselves.
                held.tell_members(Happening::MemberAdded, member, now, render, reports, out);
            } else if granted.renews && !members.knows(member) {
                members.renew(member);
                renewed = Some(member.clone());
            }
        }
        held.interest.add(asker.shard, granted.lane);
        if !granted.silent {
            held.counted += 1;
        }
        let reply = Box::new(Subscribed {
            channel: held.channel.clone(),
            // On disk the newest may still be on their way.
            after: position.map_or(Serial(held.serial), |position| position.serial),
            description: held.describe(now),
            members: held.snapshot(),
            position,
            replay,
            values,
            has_more_values,
        });
        let announce = granted.announce_count;
        let Asker { shard, to, ticket } = asker;
        out.push((shard, Down::Attach { to, ticket, granted, reply }));
        // After the attach, so that the new subscriber hears it too.
        if announce {
            held.rare.get_or_insert_default().count.get_or_insert_default();
        }
        if let Some(member) = renewed {
            held.tell_members(Happening::MemberUpdated, &member, now, render, reports, out);
        }
        held.tell_count(now, render, reports, out);
        self.settle(number, now);
    }

    /// Whether there is room for the channel and the user; the channel's number if so.
    fn admit(&mut self, subscribe: &Subscribe, now: Now) -> Result<u32, Refusal> {
        if let Some(member) = &subscribe.member {
            let members_max = subscribe.members_max;
            let members =
                self.find(&subscribe.channel).and_then(|number| self.channels[number].members());
            let present = members.map_or(0, Members::len);
            let known = members.and_then(|members| members.member(&member.user_id));
            if known.is_none() && present >= members_max as usize {
                return Err(Refusal::MembersFull { members_max });
            }
            let is_other = match known {
                Some(known) => subscribe.renews && !known.is_known_as(member),
                None => true,
            };
            let bytes_max = subscribe.members_bytes_max;
            let bytes = members.map_or(member.weight(), |members| members.bytes_with(member));
            if is_other && bytes_max > 0 && bytes > bytes_max {
                return Err(Refusal::MembersTooLarge { bytes_max });
            }
        }
        self.find_or_hold(&subscribe.channel, now)
    }

    /// Lets others know something else about a user who is present.
    pub(super) fn renew(
        &mut self,
        channel: &Channel,
        renew: &Renew,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Reply {
        let Renew { member, members_bytes_max: bytes_max } = renew;
        let Some(number) = self.find(channel) else {
            return Reply::Refused(Refusal::NotSubscribed);
        };
        let held = &mut self.channels[number];
        let members = held.rare.as_mut().map(|rare| &mut rare.members);
        let known = members.as_ref().and_then(|members| members.member(&member.user_id));
        let (Some(known), Some(members)) = (known, &members) else {
            return Reply::Refused(Refusal::NotSubscribed);
        };
        if known.is_known_as(member) {
            return Reply::Done;
        }
        if *bytes_max > 0 && members.bytes_with(member) > *bytes_max {
            return Reply::Refused(Refusal::MembersTooLarge { bytes_max: *bytes_max });
        }
        if let Some(rare) = held.rare.as_mut() {
            rare.members.renew(member);
        }
        held.tell_members(Happening::MemberUpdated, member, now, render, &mut self.reports, out);
        Reply::Done
    }

    pub(super) fn detach(
        &mut self,
        ended: &Subscribe,
        _parting: Parting,
        from_shard: ShardId,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let number = self.find(&ended.channel).expect("a subscribed channel is held");
        let held = &mut self.channels[number];
        let reports = &mut self.reports;
        held.interest.remove(from_shard, ended.lane);
        if !ended.silent {
            assert!(held.counted > 0, "more subscriptions ended than began");
            held.counted -= 1;
        }
        if let Some(member) = &ended.member {
            let rare = held.rare.as_mut().expect("a member's channel has members");
            if let Some(gone) = rare.members.leave(&member.user_id) {
                self.members -= 1;
                held.tell_members(Happening::MemberRemoved, &gone, now, render, reports, out);
            }
        }
        held.tell_count(now, render, reports, out);
        if held.interest.is_empty() {
            self.linger(number, now);
        }
        self.settle(number, now);
    }
}
