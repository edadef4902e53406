//! What back ends ask over HTTP: signed requests under `/apps/<id>/authrequest`.

use std::sync::Arc;

use bytes::Bytes;

use super::channels::{self, ID_BYTES_MAX};
use super::{Shared, events};
use crate::auth::{App, Inquiry, What};
use crate::base::ids::Ticket;
use crate::base::name::{Channel, Name};
use crate::base::time::Now;
use crate::broker::{Command, Payload, Publish};
use crate::dialects::api::{Door, ReadBody, Refusal, Submission};
use crate::dialects::{Facts, Opening, Output, Request};
use crate::wire::http::query::{self, Plus};
use crate::wire::json::{self, Kind};

/// What a revocation is called on the session channel; nobody reads it.
const REVOKED: &str = "revoked";

/// Looks at a request of these paths; another app's are not ours.
pub(super) fn open(shared: &Arc<Shared>, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
    let path = request.path.strip_suffix('/').unwrap_or(request.path);
    let (id, route) = path.strip_prefix("/apps/")?.split_once('/')?;
    let app_id = &shared.app.settings.id;
    if query::decode_lossy(id, Plus::Literal) != **app_id {
        return None;
    }
    let read: ReadBody = match route {
        "authrequest/events" => {
            let shared = shared.clone();
            Box::new(move |app, body, now, out| publish(&shared, app, body, now, out))
        }
        "authrequest/revoke" => {
            let shared = shared.clone();
            Box::new(move |app, body, now, out| revoke(&shared, app, body, now, out))
        }
        _ => return None,
    };
    let door = || Ok(Door::signed(&shared.apps, shared.signature_window, app_id, request));
    Some(Submission::open(request, facts, shared.body_bytes_max, door, read))
}

fn publish(
    shared: &Shared,
    app: &App,
    body: &[u8],
    now: Now,
    out: &mut Vec<Output>,
) -> Result<(), Refusal> {
    let events = events::read(body, &app.settings, &shared.bridge, now.wall)?;
    for event in events {
        for name in event.channels {
            let channel = Channel { app: app.index, name };
            let publish = Publish::new(channel, event.name.clone(), event.data.clone(), now.steady);
            out.push(Output::Ask(Ticket(0), Command::Publish(Box::new(publish))));
        }
    }
    Ok(())
}

/// Forgets a user's tokens and ends their connections.
fn revoke(
    shared: &Shared,
    app: &App,
    body: &[u8],
    now: Now,
    out: &mut Vec<Output>,
) -> Result<(), Refusal> {
    let body =
        json::parse(body).map_err(|error| Refusal::invalid(format!("the body is {error}")))?;
    if body.kind() != Kind::Object {
        return Err(Refusal::shape("the body is not an object"));
    }
    let needed = |member: &'static str| {
        events::text(body, member, ID_BYTES_MAX)?
            .ok_or_else(|| Refusal::shape(format!("{member} is missing")))
    };
    let (user, account) = (needed("userId")?, needed("accountId")?);
    let channel = Channel { app: app.index, name: channels::session(&account, &user) };
    let what = What::Revoke { user: Name::from(&*user), account: Some(Name::from(&*account)) };
    out.push(Output::Inquire(Ticket(0), Inquiry { source: shared.source.clone(), what }));
    let data = Payload(Bytes::from_static(b"null"));
    let publish = Publish::new(channel, Name::from(REVOKED), data, now.steady);
    out.push(Output::Ask(Ticket(0), Command::Publish(Box::new(publish))));
    Ok(())
}
