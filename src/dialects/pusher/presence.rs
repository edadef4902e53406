//! What version 2 adds to presence: members who let others know something else about themselves, members who stay for
//! a while when their connection is lost, and channels that tell of other channels.
//!
//! Source: Sockudo's "Protocol V2", its clients, and its server's source where those are silent.

use std::sync::Arc;

use bytes::Bytes;

use super::capabilities::Op;
use super::fault::Fault;
use super::frames::{self, Version};
use super::names::{self, Access, Kind};
use super::session::{Envelope, PusherSession, Subscription, object};
use crate::base::name::Name;
use crate::base::time::{Millis, Nanos, Now};
use crate::broker::{Command, Event, Happening, Member, Payload, Renew, Subscribe, companion};
use crate::dialects::Output;
use crate::dialects::api::is_within_rate;
use crate::wire::json;

/// Bytes of what a member may let others know with one update.
const UPDATE_BYTES_MAX: usize = 1024;

/// Updates of one member of one channel in a second.
const UPDATES_PER_SECOND: u32 = 10;

/// When a member's next update would be due, were they evenly spaced; of channels where that is yet to come.
#[derive(Debug, Default)]
pub(super) struct Updates(Vec<(Name, Nanos)>);

impl Updates {
    /// Whether one more is within the rate. Holds no more than the channels updated in the last second.
    fn may(&mut self, channel: &Name, now: Nanos) -> bool {
        self.0.retain(|(_, due)| *due > now);
        let at = self.0.iter().position(|(name, _)| name == channel).unwrap_or_else(|| {
            self.0.push((channel.clone(), now));
            self.0.len() - 1
        });
        is_within_rate(&mut self.0[at].1, now, UPDATES_PER_SECOND)
    }

    /// Memory it holds.
    pub fn held_bytes(&self) -> usize {
        self.0.capacity() * size_of::<(Name, Nanos)>()
    }
}

impl PusherSession {
    /// How long this peer's members stay when its connection is lost.
    pub(super) fn lease(&self) -> Millis {
        match self.version() {
            Version::Seven => Millis(0),
            Version::Two => self.shared.settings.presence_lease,
        }
    }

    /// `presence_update`: others know something else about this peer from now on, it hears so itself.
    pub(super) fn presence_update(
        &mut self,
        message: &Envelope<'_>,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let mut buffer = String::new();
        let data = object("presence_update", message.data, &mut buffer)?;
        // Sockudo's Python client has the channel beside the data, and another word for what is known.
        let name = data.member("channel").and_then(|it| it.as_str());
        let name = name.or_else(|| message.channel.clone()).filter(|it| !it.is_empty());
        let name = name.ok_or(Fault::PresenceUpdate("channel is required"))?;
        let info = data.member("data").or_else(|| data.member("user_info"));
        let info = info.ok_or(Fault::PresenceUpdate("data field is required"))?;
        if !names::is_presence(&name) {
            return Err(Fault::PresenceUpdate("requires a presence channel"));
        }
        self.allow(Op::Presence, &name)?;
        if info.text().len() > UPDATE_BYTES_MAX {
            return Err(Fault::PresenceUpdate("data exceeds 1024 bytes"));
        }
        let standing = self.find(&name).ok().map(|at| &self.subscriptions[at]);
        let standing = standing.filter(|it| it.owed == 0);
        let (name, member) = standing
            .and_then(|it| Some((it.name.clone(), it.member.clone()?)))
            .ok_or(Fault::PresenceUpdate("requires active membership"))?;
        let two = self.two.as_mut();
        if two.is_some_and(|two| !two.updates.may(&name, now.steady)) {
            return Err(Fault::RateLimited);
        }
        let info = Some(Payload(Bytes::copy_from_slice(info.text().as_bytes())));
        let member = Arc::new(Member { user_id: member.user_id.clone(), info });
        let renew = Box::new(Renew { member, members_bytes_max: 0 });
        let channel = self.channel(name);
        let ticket = self.ticket();
        out.push(Output::Ask(ticket, Command::Renew(channel, renew)));
        Ok(())
    }

    /// Subscribes the channel that tells of the channel `of`.
    pub(super) fn subscribe_meta(
        &mut self,
        name: &str,
        of: &str,
        auth: Option<&str>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        if self.version() == Version::Seven {
            return Err(Fault::MetaVersion);
        }
        let settings = &self.app().settings;
        names::check(of, settings.channel_name_bytes_max, &settings.namespaces)
            .map_err(Fault::Name)?;
        // It tells of a channel what only its subscribers should know.
        self.allow(Op::Subscribe, of)?;
        if !self.shared.settings.meta_is_open && Kind::of(of).access != Access::Public {
            self.authorize(name, auth, None, Access::Private)?;
        }
        let at = match self.find(name) {
            Ok(at) => {
                self.acknowledge_again(at, out);
                return Ok(());
            }
            Err(at) => at,
        };
        let max = self.shared.settings.subscriptions_per_connection_max;
        if self.subscriptions.len() >= max {
            return Err(Fault::SubscriptionsFull { max });
        }
        let (name, ticket) = (Name::from(name), self.ticket());
        let subscribe = Subscribe {
            // It is no channel of the app's that could be occupied.
            silent: true,
            ..Subscribe::new(self.channel(name.clone()), self.lane)
        };
        let lane = self.lane;
        let subscription = Subscription { name, member: None, ticket, owed: 1, place: None, lane };
        self.subscriptions.insert(at, subscription);
        out.push(Output::Ask(ticket, Command::Subscribe(Box::new(subscribe))));
        Ok(())
    }
}

/// Appends what a channel that tells of another is told; false, and nothing appended, if nothing. Its data is an
/// object, unlike that of other frames.
pub(super) fn render_meta(version: Version, event: &Event, out: &mut Vec<u8>) -> bool {
    let Some(of) = companion::of_meta(&event.channel.name) else { return false };
    if version == Version::Seven {
        return false;
    }
    let (name, count, member) = match &event.happening {
        // It is told when the first has begun, and when the last has ended.
        Happening::Occupied => ("channel_occupied", Some(1), None),
        Happening::Vacated => ("channel_vacated", Some(0), None),
        Happening::SubscriptionCount(count) => ("subscription_count", Some(*count), None),
        Happening::MemberAdded(it) => ("member_added", None, Some(&it.member)),
        Happening::MemberRemoved(it) => ("member_removed", None, Some(&it.member)),
        _ => return false,
    };
    let prefix = version.prefix_internal();
    frames::append(out, format_args!("{{\"event\":\"{prefix}{name}\",\"channel\":"));
    json::write_str(out, &event.channel.name);
    out.extend_from_slice(b",\"data\":{\"channel\":");
    json::write_str(out, of);
    if let Some(count) = count {
        frames::append(out, format_args!(",\"subscription_count\":{count}"));
    }
    if let Some(member) = member {
        out.extend_from_slice(b",\"user_id\":");
        json::write_str(out, &member.user_id);
    }
    out.extend_from_slice(b"}}");
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_its_own_rate_in_each_channel() {
        let mut updates = Updates::default();
        let second = 1_000_000_000;
        for round in 1..4 {
            let now = Nanos(round * second * 2);
            for channel in ["a", "b"].map(Name::from) {
                for _ in 0..UPDATES_PER_SECOND {
                    assert!(updates.may(&channel, now));
                }
                assert!(!updates.may(&channel, now));
                assert!(updates.may(&channel, Nanos(now.0 + second / 10)));
            }
            assert_eq!(updates.0.len(), 2);
        }
        assert!(updates.may(&Name::from("c"), Nanos(100 * second)));
        assert_eq!(updates.0.len(), 1);
    }
}
