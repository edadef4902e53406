//! What peers publish themselves.

use std::sync::Arc;

use bytes::Bytes;

use super::capabilities::Op;
use super::fault::{Ending, Fault};
use super::names::{Access, Kind};
use super::session::{Envelope, PusherSession};
use crate::base::ids::Ticket;
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Now};
use crate::broker::{Command, Meta, Payload, Publish, Sender, Spend, Spent};
use crate::dialects::Output;
use crate::dialects::api::is_within_rate;
use crate::observe::Counter;
use crate::wire::json::Raw;

/// Events of one connection that wait to hear whether its user may publish so many, at most.
const WAITING_MAX: usize = 64;
/// The time that a user's bound is given in.
const SECOND: Millis = Millis(1_000);

impl PusherSession {
    pub(super) fn client_event(
        &mut self,
        message: &Envelope<'_>,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let settings = &self.seat.settings;
        if !settings.client_events {
            return Err(Fault::ClientEventsDisabled);
        }
        let Some(channel) = &message.channel else {
            return Err(Fault::ClientEventNowhere);
        };
        let kind = Kind::of(channel);
        if kind.access == Access::Public || kind.is_encrypted {
            return Err(Fault::ClientEventChannel { is_encrypted: kind.is_encrypted });
        }
        let standing = self.find(channel).ok().map(|at| &self.subscriptions[at]);
        let Some(subscription) = standing.filter(|it| it.owed == 0) else {
            return Err(Fault::NotSubscribed {
                socket_id: self.connection,
                channel: channel.chars().take(200).collect(),
            });
        };
        self.allow(Op::Publish, channel)?;
        if message.event.len() > settings.event_name_bytes_max {
            return Err(Fault::EventNameLong { bytes_max: settings.event_name_bytes_max });
        }
        let data = message.data.map_or("null", Raw::text);
        let bytes_max = settings.event_payload_bytes_max;
        if data.len() > bytes_max {
            return Err(Fault::EventTooLarge { bytes: data.len(), bytes_max });
        }
        if !is_within_rate(
            &mut self.client_event_due,
            now.steady,
            settings.client_events_per_second_max,
        ) {
            if settings.client_events_terminate {
                out.push(Output::Count(Counter::ClientEventsLimited));
                out.push(self.end(&Ending::RateLimited));
                return Ok(());
            }
            return Err(Fault::RateLimited);
        }
        let publish = Publish {
            sender: Some(Sender {
                connection: self.connection,
                user_id: subscription.member.as_ref().map(|member| member.user_id.clone()),
            }),
            exclude: Some(self.connection)
                .filter(|_| !self.two.as_ref().is_some_and(|it| it.echoes)),
            quiet: true,
            // Whoever published a message may change it, where clients may change their own.
            meta: self
                .client_id()
                .map(|id| Arc::new(Meta { client_id: Some(id), ..Meta::default() })),
            report: self.shared.reports.about_client_event(self.seat.index),
            ..Publish::new(
                Channel { app: self.seat.index, name: subscription.name.clone() },
                Name::from(&*message.event),
                Payload(Bytes::copy_from_slice(data.as_bytes())),
                now.steady,
            )
        };
        let ticket = self.ticket();
        let uses_max = self.app().settings.user_events_per_second_max;
        match &mut self.user {
            Some(user) if uses_max > 0 => {
                // All connections of the user are counted together, where the user's name is.
                if user.waiting.len() >= WAITING_MAX {
                    return Err(Fault::RateLimited);
                }
                let name = Name::from(format!("#events:{}", user.member.user_id).as_str());
                let spend = Spend { name, cost: 1, uses_max, window: SECOND };
                user.waiting.push_back((ticket, Box::new(publish)));
                let app = self.seat.index;
                out.push(Output::Ask(ticket, Command::Spend(app, Box::new(spend))));
            }
            _ => publish_now(ticket, Box::new(publish), out),
        }
        Ok(())
    }

    /// Whether the user may publish once more is known.
    pub(super) fn spent(&mut self, ticket: Ticket, spent: Spent, out: &mut Vec<Output>) {
        let Some(user) = &mut self.user else { return };
        let Some((_, publish)) = user.waiting.pop_front_if(|(of, _)| *of == ticket) else { return };
        if spent.is_within {
            return publish_now(ticket, publish, out);
        }
        out.push(Output::Count(Counter::ClientEventsLimited));
        if self.app().settings.client_events_terminate {
            return out.push(self.end(&Ending::RateLimited));
        }
        self.fault(&Fault::RateLimited, out);
    }
}

fn publish_now(ticket: Ticket, publish: Box<Publish>, out: &mut Vec<Output>) {
    out.push(Output::Count(Counter::ClientEvents));
    out.push(Output::Ask(ticket, Command::Publish(publish)));
}
