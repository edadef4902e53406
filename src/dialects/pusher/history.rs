//! A channel's history as this API speaks of it: what may be asked, and pages and states as JSON. HTTP and
//! WebSocket say the same.
//!
//! Source: Sockudo's HTTP API, "History".

use super::cursor::{Cursor, CursorError, Range};
use super::frames::{self, View};
use super::versions::{self, Shown};
use crate::auth::{App, Apps};
use crate::base::ids::Serial;
use crate::base::time::UnixMillis;
use crate::broker::{Event, Happening, Page, PageQuery, Payload, Stream};
use crate::wire::{json, write_decimal};

/// Names and data in one page, at most; a page that would be larger says that there is more.
const PAGE_BYTES_MAX: u64 = 512 << 10;

/// About what a page, and an event in it, take as text beside names and data.
const PAGE_BYTES: usize = 1024;
const EVENT_BYTES: usize = 384;

/// What is asked of a channel's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HistoryQuery {
    limit: u32,
    is_newest_first: bool,
    range: Range,
    /// The page before.
    after: Option<Cursor>,
    /// Its messages say which version of which message they are; true, unless that is switched off.
    pub has_versions: bool,
}

/// What a history is of; the words differ a little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Messages.
    Messages,
    /// Members that came, changed and left.
    Presence,
}

/// What a page says about its bounds beside what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bounds {
    /// Nothing.
    Asked,
    /// Whether it ends where its subscription was attached, and where that was.
    Attached(Option<Serial>),
}

/// What a page says about a message beside the message itself.
struct Kept<'a> {
    name: &'a str,
    data_bytes: usize,
    /// When it was published.
    at: UnixMillis,
}

impl<'a> Kept<'a> {
    fn of(event: &'a Event) -> Option<Self> {
        let bytes = |data: &Payload| data.0.len();
        match &event.happening {
            Happening::Message { name, data, .. } => {
                Some(Self { name, data_bytes: bytes(data), at: event.at })
            }
            Happening::Mutated(it) => Some(Self {
                name: it.name.as_deref().unwrap_or_else(|| versions::frame_name(it.action)),
                data_bytes: it.data.as_ref().map_or(0, bytes),
                at: it.message.id.at(),
            }),
            _ => None,
        }
    }
}

impl HistoryQuery {
    /// Reads the parameters; the error is a sentence that names the wrong one.
    pub fn read(
        apps: &Apps,
        app: &App,
        channel: &str,
        page_max: u32,
        value: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let number = |name: &str| match value(name) {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(format!("{name} is not a whole number from 0")),
            },
        };
        let either = |name, alias| match number(name)? {
            None => number(alias),
            found => Ok::<_, String>(found),
        };
        let limit = match number("limit")? {
            Some(0) => return Err("History limit must be greater than 0".into()),
            Some(limit) => u32::try_from(limit).unwrap_or(u32::MAX).min(page_max),
            None => page_max.min(100),
        };
        let direction = match value("direction").as_deref() {
            None => None,
            Some("newest_first" | "backwards" | "reverse") => Some(true),
            Some("oldest_first" | "forwards" | "forward") => Some(false),
            Some(_) => {
                return Err("direction is newest_first (backwards, reverse) or oldest_first \
                     (forwards, forward)"
                    .into());
            }
        };
        let range = Range {
            start_serial: number("start_serial")?,
            end_serial: number("end_serial")?,
            start_ms: either("start_time_ms", "start")?,
            end_ms: either("end_time_ms", "end")?,
        };
        let Some(cursor) = value("cursor") else {
            let is_newest_first = direction.unwrap_or(true);
            return Ok(Self { limit, is_newest_first, range, after: None, has_versions: true });
        };
        let cursor =
            Cursor::read(&cursor, apps, app, channel).map_err(|error| error.to_string())?;
        let is_newest_first = cursor.is_newest_first;
        if direction.is_some_and(|it| it != is_newest_first) || !range.is_part_of(&cursor.range) {
            return Err(CursorError::OtherQuery.to_string());
        }
        let range = cursor.range;
        Ok(Self { limit, is_newest_first, range, after: Some(cursor), has_versions: true })
    }

    /// What the broker is asked; nothing that came after `until`.
    pub fn page(&self, until: Option<Serial>) -> PageQuery {
        let mut from = self.range.start_serial.unwrap_or(1).max(1);
        let mut to = [self.range.end_serial, until.map(|it| it.0)].into_iter().flatten().min();
        // Serials only grow, so what was published or trimmed since moves nothing.
        if let Some(Cursor { serial: Serial(last), .. }) = self.after {
            if self.is_newest_first {
                let before = last.saturating_sub(1);
                to = Some(to.map_or(before, |it| it.min(before)));
            } else {
                from = from.max(last.saturating_add(1));
            }
        }
        PageQuery {
            epoch: self.after.map(|it| it.epoch),
            from: Serial(from),
            to: to.map(Serial),
            from_at: self.range.start_ms.map(UnixMillis),
            to_at: self.range.end_ms.map(UnixMillis),
            is_newest_first: self.is_newest_first,
            events_max: self.limit,
            bytes_max: PAGE_BYTES_MAX,
            is_latest: true,
        }
    }

    /// Appends a page as one JSON object.
    pub fn write(&self, app: &App, channel: &str, page: &Page, bounds: Bounds, out: &mut Vec<u8>) {
        let view = View::Two { shown: Shown::Whole, has_versions: self.has_versions };
        let stream = &page.stream;
        let sizes = page.events.iter().filter_map(|event| Kept::of(event));
        let sizes = sizes.map(|it| it.name.len() * 2 + it.data_bytes);
        // Once, so that a page is not moved again and again while it grows.
        out.reserve(
            PAGE_BYTES + (EVENT_BYTES + channel.len()) * page.events.len() + sizes.sum::<usize>(),
        );
        out.extend_from_slice(b"{\"items\":[");
        let mut first = true;
        for event in &page.events {
            let Some(Kept { name, data_bytes, at }) = Kept::of(event) else { continue };
            out.extend_from_slice(if first { b"{\"stream_id\":\"" } else { b",{\"stream_id\":\"" });
            first = false;
            // Formatting took a third of a page's time here, so these are written by hand.
            out.extend_from_slice(&event.epoch.unwrap_or(stream.epoch).to_text());
            out.extend_from_slice(b"\",\"serial\":");
            write_decimal(out, event.serial.0);
            out.extend_from_slice(b",\"published_at_ms\":");
            write_decimal(out, at.0);
            out.extend_from_slice(b",\"message_id\":");
            frames::write_id(event, out);
            out.extend_from_slice(b",\"event_name\":");
            json::write_str(out, name);
            out.extend_from_slice(b",\"operation_kind\":\"append\",\"payload_size_bytes\":");
            write_decimal(out, data_bytes as u64);
            out.extend_from_slice(b",\"message\":");
            // As its live subscribers had it, if they did.
            if !frames::render(view, event, out) {
                out.extend_from_slice(b"null");
            }
            out.push(b'}');
        }
        out.push(b']');
        self.write_asked(app, channel, page, out);
        if let Bounds::Attached(until) = bounds {
            frames::append(out, format_args!(",\"until_attach\":{}", until.is_some()));
            number(",\"attach_serial\":", until.map(|it| it.0), out);
        }
        out.extend_from_slice(b"},\"continuity\":{");
        write_retained(stream, Of::Messages, out);
        let is_cut = self.is_cut(stream);
        let complete = !is_cut && !page.has_more;
        frames::append(
            out,
            format_args!(",\"complete\":{complete},\"truncated_by_retention\":{is_cut}}}"),
        );
        out.extend_from_slice(b",\"stream_state\":");
        write_state(stream, Of::Messages, out);
        out.push(b'}');
    }

    /// Appends the members that say what was asked, where the next page begins, and the bounds, whose object stays
    /// open.
    pub fn write_asked(&self, app: &App, channel: &str, page: &Page, out: &mut Vec<u8>) {
        let direction = if self.is_newest_first { "newest_first" } else { "oldest_first" };
        frames::append(
            out,
            format_args!(
                ",\"direction\":\"{direction}\",\"limit\":{},\"has_more\":{},\"next_cursor\":",
                self.limit, page.has_more
            ),
        );
        match page.events.last().filter(|_| page.has_more) {
            Some(last) => {
                json::write_str(out, &self.cursor(&page.stream, last).write(app, channel));
            }
            None => out.extend_from_slice(b"null"),
        }
        number(",\"bounds\":{\"start_serial\":", self.range.start_serial, out);
        number(",\"end_serial\":", self.range.end_serial, out);
        number(",\"start_time_ms\":", self.range.start_ms, out);
        number(",\"end_time_ms\":", self.range.end_ms, out);
    }

    fn cursor(&self, stream: &Stream, last: &Event) -> Cursor {
        Cursor {
            epoch: last.epoch.unwrap_or(stream.epoch),
            serial: last.serial,
            is_newest_first: self.is_newest_first,
            range: self.range,
        }
    }

    /// Whether what was asked for begins before the oldest event kept.
    pub fn is_cut(&self, stream: &Stream) -> bool {
        let first = self.range.start_serial.unwrap_or(1).max(1);
        let begins_later = match (self.range.start_ms, stream.oldest_at) {
            (Some(start), Some(oldest)) => start >= oldest.0,
            // Nothing is kept: what there was is older than anything.
            (Some(_), None) | (None, _) => false,
        };
        stream.oldest.0 > first && !begins_later
    }
}

/// Appends a stream's state for operators: `{stream_id, next_serial, retained, state}`.
pub(super) fn write_stream(stream: &Stream, out: &mut Vec<u8>) {
    write_stream_of(stream, Of::Messages, out);
}

/// The same, of what is kept.
pub(super) fn write_stream_of(stream: &Stream, of: Of, out: &mut Vec<u8>) {
    let next = stream.newest.0.saturating_add(1);
    frames::append(
        out,
        format_args!("{{\"stream_id\":\"{}\",\"next_serial\":{next},\"retained\":{{", stream.epoch),
    );
    write_retained(stream, of, out);
    out.extend_from_slice(b"},\"state\":");
    write_state(stream, of, out);
    out.push(b'}');
}

/// Appends the members that say what is kept.
pub(super) fn write_retained(stream: &Stream, of: Of, out: &mut Vec<u8>) {
    frames::append(out, format_args!("\"stream_id\":\"{}\"", stream.epoch));
    let kept = (stream.events() > 0).then_some(stream);
    number(",\"oldest_available_serial\":", kept.map(|it| it.oldest.0), out);
    number(",\"newest_available_serial\":", kept.map(|it| it.newest.0), out);
    let millis = |at: Option<UnixMillis>| at.map(|it| it.0);
    number(",\"oldest_available_published_at_ms\":", millis(stream.oldest_at), out);
    number(",\"newest_available_published_at_ms\":", millis(stream.newest_at), out);
    let events = match of {
        Of::Messages => ",\"retained_messages\":",
        Of::Presence => ",\"retained_events\":",
    };
    number(events, Some(stream.events()), out);
    number(",\"retained_bytes\":", Some(stream.bytes), out);
}

/// Appends whether a stream can be trusted. One that could not would not be told: its store says so instead.
pub(super) fn write_state(stream: &Stream, of: Of, out: &mut Vec<u8>) {
    let allowed = match of {
        Of::Messages => "recovery_allowed",
        Of::Presence => "continuity_proven",
    };
    let (epoch, mode) = (stream.epoch, stream.mode.as_str());
    frames::append(
        out,
        format_args!(
            "{{\"stream_id\":\"{epoch}\",\"durable_state\":\"healthy\",\"{allowed}\":true,\
             \"reset_required\":false,\"reason\":null,\"node_id\":null,\"last_transition_at_ms\":null,\
             \"authoritative_source\":\"{mode}\",\"observed_source\":\"{mode}\"}}"
        ),
    );
}

/// Appends a number, or null, behind what is finished text.
pub(super) fn number(before: &str, number: Option<u64>, out: &mut Vec<u8>) {
    match number {
        Some(number) => frames::append(out, format_args!("{before}{number}")),
        None => frames::append(out, format_args!("{before}null")),
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
