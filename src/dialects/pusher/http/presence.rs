//! What is asked of the history of who came to a presence channel, changed and left.
//!
//! What is read and written is [`super::super::presence_history`]'s; here it is asked for.

use std::sync::Arc;

use super::super::history::HistoryQuery;
use super::super::presence_history::{self, Snapshot};
use super::Shared;
use super::history::Operation;
use super::table::Route;
use crate::auth::App;
use crate::auth::sign::Query;
use crate::base::ids::Ticket;
use crate::base::name::Channel;
use crate::broker::{Command, Reply};
use crate::dialects::api::{Refusal, refused, respond};
use crate::dialects::{Output, Response};

/// One request, and what is still missing for its answer.
pub(super) struct PresenceAsk {
    channel: Channel,
    what: What,
}

enum What {
    Page(Arc<App>, HistoryQuery),
    State,
    Reset(Operation),
    /// Page by page.
    Snapshot(Snapshot),
}

impl PresenceAsk {
    /// Reads a request; none: it asks for something else.
    pub fn read(
        route: Route,
        shared: &Shared,
        app: &Arc<App>,
        query: &Query<'_>,
        body: &[u8],
        channel: Channel,
    ) -> Result<Option<Self>, Refusal> {
        let name = &channel.name;
        let value = |name: &str| query.value(name).map(str::to_owned);
        let what = match route {
            Route::PresenceHistory => {
                let page_max = shared.settings.history_page_max;
                let asked = presence_history::read(&shared.apps, app, name, page_max, &value);
                What::Page(app.clone(), asked.map_err(Refusal::invalid)?)
            }
            Route::PresenceHistoryState => What::State,
            Route::PresenceHistorySnapshot => {
                What::Snapshot(Snapshot::read(&value).map_err(Refusal::invalid)?)
            }
            Route::PresenceHistoryReset => What::Reset(Operation::read(body, name, false)?),
            _ => return Ok(None),
        };
        Ok(Some(Self { channel, what }))
    }

    /// What the broker is asked first.
    pub fn command(&self) -> Command {
        let kept_in = presence_history::kept_in(&self.channel);
        match &self.what {
            What::Page(_, query) => {
                Command::History(kept_in, Box::new(presence_history::page(query)))
            }
            What::State => Command::Stream(kept_in),
            What::Reset(_) => Command::Reset(kept_in),
            What::Snapshot(snapshot) => Command::History(kept_in, Box::new(snapshot.query())),
        }
    }

    /// Takes what the broker says and asks on; the answer, once it is complete.
    pub fn take(&mut self, reply: Reply, out: &mut Vec<Output>) -> Option<Response> {
        let name = &*self.channel.name;
        let body = match (&mut self.what, reply) {
            (_, Reply::Refused(refusal)) => return Some(refused(refusal)),
            (What::Page(app, query), Reply::Page(page)) => {
                presence_history::write_page(query, app, name, &page)
            }
            (What::State, Reply::Stream(stream)) => presence_history::state(name, &stream),
            (What::Reset(operation), Reply::Purged(done)) => {
                let (reason, by) = (&operation.reason, operation.requested_by.as_deref());
                presence_history::reset(name, reason, by, &done)
            }
            (What::Snapshot(snapshot), Reply::Page(page)) => {
                let has_more = snapshot.take(&page);
                if !has_more && !snapshot.is_of_now() {
                    let body = snapshot.write(name, None);
                    return Some(respond(200, body.into()));
                }
                let command =
                    if has_more { self.command() } else { Command::Members(self.channel.clone()) };
                out.push(Output::Ask(Ticket(0), command));
                return None;
            }
            (What::Snapshot(snapshot), Reply::Members(members)) => {
                snapshot.write(name, Some(&members))
            }
            _ => return None,
        };
        Some(respond(200, body.into()))
    }
}
