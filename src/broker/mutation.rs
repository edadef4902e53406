//! What a message is after something was done to it. Pure: events in, an event out.
//!
//! Rules: the reference of Sockudo's protocol, section 6.2. A back end's data that is no string is told as its JSON
//! text, so that text is what something can be added to; data of a peer or of an update is what it is.

use std::sync::Arc;

use bytes::Bytes;

use super::versioned::{Action, MessageRef, Mutate, Mutated, Patch};
use super::{Event, Happening, Meta, Payload, Refusal};
use crate::base::event_id::EventId;
use crate::base::ids::Serial;
use crate::base::name::Name;
use crate::base::time::Now;
use crate::wire::json::{self, write_str};

/// A message as it is before something is done to it.
struct Before<'a> {
    name: Option<&'a Name>,
    data: Option<&'a Payload>,
    keeps_type: bool,
}

/// What a message is called for good, from any of its versions; none: it is no version of a message.
pub(super) fn message_of(version: &Event) -> Option<MessageRef> {
    match &version.happening {
        Happening::Message { .. } => Some(MessageRef { id: version.id, serial: version.serial }),
        Happening::Mutated(it) => Some(it.message),
        _ => None,
    }
}

fn before(version: &Event) -> Option<Before<'_>> {
    match &version.happening {
        Happening::Message { name, data, sender } => {
            Some(Before { name: Some(name), data: Some(data), keeps_type: sender.is_some() })
        }
        Happening::Mutated(it) => {
            let Mutated { name, data, keeps_type, .. } = &**it;
            Some(Before { name: name.as_ref(), data: data.as_ref(), keeps_type: *keeps_type })
        }
        _ => None,
    }
}

/// The version of a message that comes after `version`, with its own name and place; or why there is none.
pub(super) fn mutated(
    version: &Event,
    mutate: &Mutate,
    (id, serial): (EventId, Serial),
    now: Now,
) -> Result<Event, Refusal> {
    let (Some(before), Some(message)) = (before(version), message_of(version)) else {
        return Err(Refusal::NotFound);
    };
    let owner = version.meta.as_ref().and_then(|it| it.client_id.as_ref());
    if mutate.only_of.is_some() && mutate.only_of.as_ref() != owner {
        return Err(Refusal::NotOwner);
    }
    let Before { keeps_type, .. } = before;
    let (data, fragment, keeps_type) = match (mutate.action, &mutate.data) {
        (Action::Append, Patch::Set(fragment)) => {
            let whole = appended(&before, fragment)?;
            (Some(whole), Some(fragment.clone()), keeps_type)
        }
        (_, Patch::Set(data)) => (Some(data.clone()), None, true),
        (_, Patch::Clear) => (None, None, keeps_type),
        (_, Patch::Stay) => (before.data.cloned(), None, keeps_type),
    };
    let bytes_max = mutate.data_bytes_max;
    let bytes = data.as_ref().map_or(0, |it| told_bytes(it, bytes_max));
    if matches!(mutate.data, Patch::Set(_)) && bytes > bytes_max {
        return Err(Refusal::DataTooLarge { bytes, bytes_max });
    }
    let meta = version.meta.as_deref().cloned().unwrap_or_default();
    let extras = patched(&mutate.extras, meta.extras.as_ref());
    let meta = Meta { extras, was_due: None, ..meta };
    let mutated = Mutated {
        message,
        action: mutate.action,
        name: patched(&mutate.name, before.name),
        data,
        fragment,
        keeps_type,
        about: mutate.about.clone(),
    };
    Ok(Event {
        channel: version.channel.clone(),
        serial,
        epoch: version.epoch,
        id,
        at: now.wall,
        arrived: now.steady,
        tags: version.tags.clone(),
        meta: (meta != Meta::default()).then(|| Arc::new(meta)),
        guarded: false,
        happening: Happening::Mutated(Arc::new(mutated)),
    })
}

fn patched<T: Clone>(patch: &Patch<T>, before: Option<&T>) -> Option<T> {
    match patch {
        Patch::Stay => before.cloned(),
        Patch::Clear => None,
        Patch::Set(it) => Some(it.clone()),
    }
}

/// How large data is as its subscribers see it: a string's text, anything else's JSON.
fn told_bytes(data: &Payload, bytes_max: usize) -> usize {
    // A string is never longer than its JSON: nothing to read when that fits.
    let bytes = data.0.len();
    if bytes <= bytes_max {
        return bytes;
    }
    let read = json::parse(&data.0).ok();
    read.and_then(|it| it.as_str().map(|text| text.len())).unwrap_or(bytes)
}

/// The message's text and what is added to it, as one JSON string.
fn appended(before: &Before<'_>, fragment: &Payload) -> Result<Payload, Refusal> {
    let data = before.data.ok_or(Refusal::NotText)?;
    let added = inside(&fragment.0).ok_or(Refusal::NotText)?;
    let mut whole;
    match inside(&data.0) {
        Some(text) => {
            whole = Vec::with_capacity(text.len() + added.len() + 2);
            whole.push(b'"');
            whole.extend_from_slice(text);
        }
        None if before.keeps_type => return Err(Refusal::NotText),
        None => {
            whole = Vec::with_capacity(data.0.len() + data.0.len() / 4 + added.len() + 2);
            let text = std::str::from_utf8(&data.0).map_err(|_| Refusal::NotText)?;
            write_str(&mut whole, text.trim());
            whole.pop();
        }
    }
    whole.extend_from_slice(added);
    whole.push(b'"');
    Ok(Payload(Bytes::from(whole)))
}

/// The inside of a JSON string, escaped as it came; none: the value is no string. A payload is one JSON value, so what
/// begins as a string ends as one.
fn inside(value: &[u8]) -> Option<&[u8]> {
    value.trim_ascii().strip_prefix(b"\"")?.strip_suffix(b"\"")
}

#[cfg(test)]
#[path = "mutation_tests.rs"]
mod tests;
