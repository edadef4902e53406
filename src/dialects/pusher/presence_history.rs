//! Who came to a presence channel, changed and left: pages, states and snapshots as JSON.
//!
//! It is kept as a channel's history is, in a channel that goes with it ([`companion::presence_history`]); so it is
//! asked for in the same words ([`super::history`]), of that channel. Source: Sockudo's HTTP API, "Presence history".

use std::collections::BTreeMap;
use std::sync::Arc;

use super::frames;
use super::history::{self, HistoryQuery, Of, number};
use crate::auth::{App, Apps};
use crate::base::ids::{Epoch, Serial};
use crate::base::name::{Channel, Name};
use crate::base::time::UnixMillis;
use crate::broker::{
    Event, Happening, Member, Page, PageQuery, Payload, Purged, Stream, companion,
};
use crate::wire::json::{self, Raw};

/// Events and bytes that a snapshot asks for at a time.
const SNAPSHOT_PAGE_EVENTS: u32 = 1000;
const SNAPSHOT_PAGE_BYTES: u64 = 1 << 20;

/// Events that one snapshot looks at, at most; one of a longer history says that it is not complete.
const SNAPSHOT_EVENTS_MAX: u64 = 1_000_000;

/// The channel that keeps the history of presence of this one.
pub(super) fn kept_in(channel: &Channel) -> Channel {
    Channel { app: channel.app, name: companion::presence_history(&channel.name) }
}

/// Reads what is asked of the history of presence of a channel: see [`HistoryQuery::read`].
pub(super) fn read(
    apps: &Apps,
    app: &App,
    channel: &str,
    page_max: u32,
    value: &dyn Fn(&str) -> Option<String>,
) -> Result<HistoryQuery, String> {
    let kept_in = companion::presence_history(channel);
    HistoryQuery::read(apps, app, &kept_in, page_max, value)
}

/// What the broker is asked, of [`kept_in`].
pub(super) fn page(query: &HistoryQuery) -> PageQuery {
    PageQuery { is_latest: false, ..query.page(None) }
}

/// What is kept of one change.
struct Item<'a> {
    event: &'a Arc<Event>,
    name: &'a Name,
    data: &'a Payload,
    told: Raw<'a>,
}

impl<'a> Item<'a> {
    /// None: it is none.
    fn read(event: &'a Arc<Event>) -> Option<Self> {
        let Happening::Message { name, data, .. } = &event.happening else { return None };
        let told = json::parse(&data.0).ok()?;
        Some(Self { event, name, data, told })
    }

    fn member(&self, name: &str) -> &'a str {
        self.told.member(name).map_or("null", Raw::text)
    }

    fn write(&self, epoch: Epoch, out: &mut Vec<u8>) {
        let epoch = self.event.epoch.unwrap_or(epoch);
        let (serial, at) = (self.event.serial.0, self.event.at.0);
        frames::append(
            out,
            format_args!(
                "{{\"stream_id\":\"{epoch}\",\"serial\":{serial},\"published_at_ms\":{at},\"event\":"
            ),
        );
        json::write_str(out, self.name);
        for name in ["cause", "user_id", "connection_id", "dead_node_id"] {
            frames::append(out, format_args!(",\"{name}\":{}", self.member(name)));
        }
        let bytes = self.data.0.len();
        frames::append(out, format_args!(",\"payload_size_bytes\":{bytes},\"presence_event\":"));
        out.extend_from_slice(&self.data.0);
        out.push(b'}');
    }
}

/// A page as one JSON object.
pub(super) fn write_page(query: &HistoryQuery, app: &App, channel: &str, page: &Page) -> Vec<u8> {
    let stream = &page.stream;
    let mut out = b"{\"items\":[".to_vec();
    for (nth, item) in page.events.iter().filter_map(Item::read).enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        item.write(stream.epoch, &mut out);
    }
    out.push(b']');
    query.write_asked(app, &companion::presence_history(channel), page, &mut out);
    out.extend_from_slice(b"},\"continuity\":{");
    history::write_retained(stream, Of::Presence, &mut out);
    let is_cut = query.is_cut(stream);
    let complete = !is_cut && !page.has_more;
    frames::append(
        &mut out,
        format_args!(
            ",\"degraded\":false,\"complete\":{complete},\"truncated_by_retention\":{is_cut}}}"
        ),
    );
    out.extend_from_slice(b",\"stream_state\":");
    history::write_state(stream, Of::Presence, &mut out);
    out.push(b'}');
    out
}

/// The answer to who asks what is kept.
pub(super) fn state(channel: &str, stream: &Stream) -> Vec<u8> {
    let mut out = b"{\"channel\":".to_vec();
    json::write_str(&mut out, channel);
    out.extend_from_slice(b",\"stream\":");
    history::write_stream_of(stream, Of::Presence, &mut out);
    out.push(b'}');
    out
}

/// The answer to who had it begin anew, and said why.
pub(super) fn reset(
    channel: &str,
    reason: &str,
    requested_by: Option<&str>,
    done: &Purged,
) -> Vec<u8> {
    let mut out = b"{\"ok\":true,\"operation\":\"reset\",\"channel\":".to_vec();
    json::write_str(&mut out, channel);
    out.extend_from_slice(b",\"reason\":");
    json::write_str(&mut out, reason);
    out.extend_from_slice(b",\"requested_by\":");
    match requested_by {
        Some(who) => json::write_str(&mut out, who),
        None => out.extend_from_slice(b"null"),
    }
    let (before, now) = (done.epoch_before, done.stream.epoch);
    frames::append(
        &mut out,
        format_args!(",\"previous_stream_id\":\"{before}\",\"new_stream_id\":\"{now}\""),
    );
    number(",\"purged_events\":", Some(done.events), &mut out);
    number(",\"purged_bytes\":", Some(done.bytes), &mut out);
    out.extend_from_slice(b",\"stream\":");
    history::write_stream_of(&done.stream, Of::Presence, &mut out);
    out.push(b'}');
    out
}

/// Who was present at a moment, as the history tells: read page by page, oldest first.
///
/// Ask the broker [`Snapshot::query`] of [`kept_in`] and hand each page to [`Snapshot::take`] until that says that it is
/// the last.
#[derive(Debug)]
pub(super) struct Snapshot {
    at: Option<UnixMillis>,
    at_serial: Option<Serial>,
    /// In the order of their ids.
    members: BTreeMap<String, Seen>,
    /// In which run of the process the last event was told. All who were present in an earlier one left with it,
    /// and nobody was there to say so.
    run: Option<Payload>,
    events: u64,
    last: Option<(Serial, UnixMillis)>,
    stream: Option<Stream>,
    has_more: bool,
}

/// What was last told of a member.
#[derive(Debug)]
struct Seen {
    event: Name,
    serial: Serial,
    at: UnixMillis,
}

impl Snapshot {
    /// Reads the parameters; the error is a sentence that names the wrong one.
    pub fn read(value: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let number = |name: &str| match value(name) {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(format!("{name} is not a whole number from 0")),
            },
        };
        let at = match number("at_time_ms")? {
            None => number("at")?,
            found => found,
        };
        Ok(Self {
            at: at.map(UnixMillis),
            at_serial: number("at_serial")?.map(Serial),
            members: BTreeMap::new(),
            run: None,
            events: 0,
            last: None,
            stream: None,
            has_more: false,
        })
    }

    /// Whether it is of this moment: then it may be compared with who is present.
    pub fn is_of_now(&self) -> bool {
        self.at.is_none() && self.at_serial.is_none()
    }

    /// What the broker is to be asked next.
    pub fn query(&self) -> PageQuery {
        PageQuery {
            epoch: self.stream.map(|it| it.epoch),
            from: Serial(self.last.map_or(1, |(serial, _)| serial.0.saturating_add(1))),
            to: self.at_serial,
            from_at: None,
            to_at: self.at,
            is_newest_first: false,
            events_max: SNAPSHOT_PAGE_EVENTS,
            bytes_max: SNAPSHOT_PAGE_BYTES,
            is_latest: false,
        }
    }

    /// Takes the next page; true if there is another.
    pub fn take(&mut self, page: &Page) -> bool {
        self.stream.get_or_insert(page.stream);
        for event in &page.events {
            self.events += 1;
            self.last = Some((event.serial, event.at));
            self.fold(event);
        }
        self.has_more = page.has_more && !page.events.is_empty();
        self.has_more && self.events < SNAPSHOT_EVENTS_MAX
    }

    fn fold(&mut self, event: &Arc<Event>) {
        let run = event.meta.as_ref().and_then(|it| it.publisher.clone());
        if self.run != run {
            self.members.clear();
            self.run = run;
        }
        let Some(item) = Item::read(event) else { return };
        let Some(user_id) = item.told.member("user_id").and_then(|it| it.as_str()) else { return };
        if &**item.name == "member_removed" {
            self.members.remove(&*user_id);
        } else {
            // Of one who came before the oldest event that is kept, an update is the first word.
            let seen = Seen { event: item.name.clone(), serial: event.serial, at: event.at };
            self.members.insert(user_id.into_owned(), seen);
        }
    }

    /// The answer; `present` is who is a member now, if it is of this moment: those that the process left behind when
    /// it ended are not.
    pub fn write(&self, channel: &str, present: Option<&[Arc<Member>]>) -> Vec<u8> {
        let present = present.filter(|_| self.is_of_now());
        let is_there = |user_id: &str| {
            present.is_none_or(|all| all.iter().any(|member| &*member.user_id == user_id))
        };
        let mut out = b"{\"channel\":".to_vec();
        json::write_str(&mut out, channel);
        out.extend_from_slice(b",\"members\":[");
        let mut count = 0;
        for (user_id, seen) in self.members.iter().filter(|(user_id, _)| is_there(user_id)) {
            out.extend_from_slice(if count > 0 { b",{\"user_id\":" } else { b"{\"user_id\":" });
            count += 1;
            json::write_str(&mut out, user_id);
            out.extend_from_slice(b",\"last_event\":");
            json::write_str(&mut out, &seen.event);
            number(",\"last_event_serial\":", Some(seen.serial.0), &mut out);
            number(",\"last_event_at_ms\":", Some(seen.at.0), &mut out);
            out.push(b'}');
        }
        frames::append(
            &mut out,
            format_args!("],\"member_count\":{count},\"events_replayed\":{}", self.events),
        );
        number(",\"snapshot_serial\":", self.last.map(|it| it.0.0), &mut out);
        number(",\"snapshot_time_ms\":", self.last.map(|it| it.1.0), &mut out);
        out.extend_from_slice(b",\"continuity\":{");
        if let Some(stream) = &self.stream {
            history::write_retained(stream, Of::Presence, &mut out);
            let is_cut = stream.oldest.0 > 1;
            let complete = !is_cut && !self.has_more;
            frames::append(
                &mut out,
                format_args!(",\"complete\":{complete},\"truncated_by_retention\":{is_cut}"),
            );
        }
        out.extend_from_slice(b"}}");
        out
    }
}

#[cfg(test)]
#[path = "presence_history_tests.rs"]
mod tests;
