//! What peers publish themselves.

use std::sync::Arc;

use bytes::Bytes;

use super::capabilities::Op;
use super::fault::{Ending, Fault};
use super::names::{Access, Kind};
use super::session::{Envelope, PusherSession};
use crate::base::name::{Channel, Name};
use crate::base::time::Now;
use crate::broker::{Command, Meta, Payload, Publish, Sender};
use crate::dialects::Output;
use crate::dialects::api::is_within_rate;
use crate::observe::Counter;
use crate::wire::json::Raw;

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
        out.push(Output::Count(Counter::ClientEvents));
        out.push(Output::Ask(ticket, Command::Publish(Box::new(publish))));
        Ok(())
    }
}
