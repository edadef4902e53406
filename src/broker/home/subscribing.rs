//! Subscriptions that begin and end, and the members they make.

use super::presence::Change;
use super::{Asker, Home};
use crate::base::ids::{Serial, ShardId};
use crate::base::name::Channel;
use crate::base::time::Now;
use crate::broker::members::{Joined, Members};
use crate::broker::state::Value;
use crate::broker::{
    Description, Down, Gap, Parting, Refusal, Render, Renew, Replay, Reply, Start, Subscribe,
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
        if granted.is_pattern {
            return self.listen(asker, granted, out);
        }
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

    /// Lets a pattern's subscription stand, as far as this home goes.
    fn listen(&mut self, asker: Asker, granted: Box<Subscribe>, out: &mut Vec<(ShardId, Down)>) {
        let Asker { shard, to, ticket } = asker;
        if let Err(refusal) = self.wildcards.add(&granted.channel, shard, granted.lane) {
            return asker.answer(Reply::Refused(refusal), out);
        }
        let reply = Box::new(Subscribed {
            channel: granted.channel.clone(),
            after: Serial(0),
            description: Description::default(),
            members: Vec::new(),
            position: None,
            replay: None,
            values: Vec::new(),
            has_more_values: false,
        });
        out.push((shard, Down::Attach { to, ticket, granted, reply }));
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
        let (was_occupied, counted_before) = (held.is_occupied(), held.counted);
        held.counted += u32::from(!granted.silent);
        let mut joined = None;
        let mut renewed = None;
        if let Some(member) = &granted.member {
            let rare = held.rare.get_or_insert_default();
            let joins = rare.members.join(member);
            if joins == Joined::CameBack {
                rare.leases.remove(&member.user_id);
            }
            // Who comes back begins anew, and is known as what they say now.
            let renews = granted.renews || joins == Joined::CameBack;
            if joins == Joined::Came {
                joined = Some(member.clone());
            } else if renews && !rare.members.knows(member) {
                rare.members.renew(member);
                renewed = Some(member.clone());
            }
        }
        if !was_occupied && self.channels[number].is_occupied() {
            self.tell_occupied(number, now, render, out);
        }
        let by = Some(asker.to);
        let mut record = None;
        if let Some(member) = joined {
            self.members += 1;
            // Before the attach, so that nobody hears of themselves.
            record = self.member_changed(number, Change::Added, &member, by, now, render, out);
        }
        let held = &mut self.channels[number];
        held.interest.add(asker.shard, granted.lane);
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
            let rare = held.rare.get_or_insert_default();
            rare.count.get_or_insert_default().is_announced = true;
        }
        if let Some(member) = renewed {
            record = self.member_changed(number, Change::Updated, &member, by, now, render, out);
        }
        self.tell_count(number, counted_before, now, render, out);
        self.settle(number, now);
        self.keep_presence(record, now, render, out);
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
        asker: Asker,
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
        let by = Some(asker.to);
        let record = self.member_changed(number, Change::Updated, member, by, now, render, out);
        self.keep_presence(record, now, render, out);
        Reply::Done
    }

    pub(super) fn detach(
        &mut self,
        ended: &Subscribe,
        parting: Parting,
        from_shard: ShardId,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        if ended.is_pattern {
            return self.wildcards.remove(&ended.channel, from_shard, ended.lane);
        }
        let number = self.find(&ended.channel).expect("a subscribed channel is held");
        let held = &mut self.channels[number];
        let (was_occupied, counted_before) = (held.is_occupied(), held.counted);
        held.interest.remove(from_shard, ended.lane);
        if !ended.silent {
            assert!(held.counted > 0, "more subscriptions ended than began");
            held.counted -= 1;
        }
        let (lease, by) = (ended.lease, ended.by);
        let record = ended
            .member
            .as_ref()
            .and_then(|it| self.part(number, &it.user_id, lease, parting, by, now, render, out));
        self.tell_count(number, counted_before, now, render, out);
        let held = &self.channels[number];
        if was_occupied && !held.is_occupied() {
            self.tell_vacated(number, now, render, out);
        }
        if self.channels[number].interest.is_empty() {
            self.linger(number, now);
        }
        self.settle(number, now);
        self.keep_presence(record, now, render, out);
    }
}
