//! The lanes of this dialect: who gets which bytes.

use super::formats::Format;
use super::frames::{self, Version, View};
use super::tokens;
use super::versions::Shown;
use crate::broker::{Event, Happening};
use crate::dialects::LaneKind;

/// Everyone who speaks version 7.
pub(super) const SEVEN_TEXT: usize = 0;
/// The same, compressed.
pub(super) const SEVEN_DEFLATE: usize = 1;
/// Those who watch a user: subscribed to the user's channel, told when the user comes and goes.
pub(super) const SEVEN_WATCH: usize = 2;
/// The first of version 2's lanes.
const TWO: usize = 3;
/// The first of its lanes for those who watch a user.
const TWO_WATCH: usize = TWO + 4 * CARRIERS.len();

/// How frames of version 2 travel.
const CARRIERS: [(Format, bool, LaneKind); 4] = [
    (Format::Json, false, LaneKind::Text),
    (Format::Json, true, LaneKind::TextDeflate),
    (Format::MessagePack, false, LaneKind::Binary),
    (Format::Protobuf, false, LaneKind::Binary),
];

/// A lane of version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Two {
    /// What frames are written in.
    pub format: Format,
    /// Compressed; JSON only.
    pub deflate: bool,
    /// Appends show all of the data, not what was added.
    pub shows_all: bool,
    /// Each annotation is told, not only what they come to.
    pub shows_annotations: bool,
}

impl Two {
    /// Its number.
    pub fn number(self) -> usize {
        let is_it = |(format, deflate, _): &(Format, bool, LaneKind)| {
            *format == self.format && (*deflate == self.deflate || self.format != Format::Json)
        };
        let carrier = CARRIERS.iter().position(is_it).unwrap_or(0);
        TWO + 4 * carrier + 2 * usize::from(self.shows_all) + usize::from(self.shows_annotations)
    }

    /// The lane of this number, if it is one of version 2's for what happens in channels.
    pub fn of(number: usize) -> Option<Self> {
        let at = number.checked_sub(TWO)?;
        let (format, deflate, _) = *CARRIERS.get(at / 4)?;
        Some(Self { format, deflate, shows_all: at & 2 != 0, shows_annotations: at & 1 != 0 })
    }

    /// The lane for who wants to hear each annotation, too.
    pub fn with_annotations(self) -> Self {
        Self { shows_annotations: true, ..self }
    }

    /// How its events are shown.
    pub fn view(self, has_versions: bool) -> View {
        let shown = if self.shows_all { Shown::Whole } else { Shown::Added };
        View::Two { shown, has_versions }
    }

    fn render(self, has_versions: bool, event: &Event, out: &mut Vec<u8>) -> bool {
        if let Happening::Annotated(_) = event.happening
            && !self.shows_annotations
        {
            return false;
        }
        encoded(self.format, out, |out| frames::render(self.view(has_versions), event, out))
    }
}

/// The lane of those who watch a user in version 2.
pub(super) fn two_watch(format: Format) -> usize {
    TWO_WATCH
        + match format {
            Format::Json => 0,
            Format::MessagePack => 1,
            Format::Protobuf => 2,
        }
}

/// How each lane travels.
pub(super) static KINDS: [LaneKind; TWO_WATCH + 3] = {
    let mut kinds = [LaneKind::Text; TWO_WATCH + 3];
    kinds[SEVEN_DEFLATE] = LaneKind::TextDeflate;
    let mut at = 0;
    while at < 4 * CARRIERS.len() {
        kinds[TWO + at] = CARRIERS[at / 4].2;
        at += 1;
    }
    kinds[TWO_WATCH + 1] = LaneKind::Binary;
    kinds[TWO_WATCH + 2] = LaneKind::Binary;
    kinds
};

/// Appends an event as a lane shows it; false, and nothing appended, if it does not. Where messages have versions they
/// say which one they are.
pub(super) fn render(lane: usize, has_versions: bool, event: &Event, out: &mut Vec<u8>) -> bool {
    // Who bears a token subscribes channels that are for the session alone.
    if tokens::is_own(&event.channel.name) {
        return false;
    }
    if let Some(two) = Two::of(lane) {
        return two.render(has_versions, event, out);
    }
    let watched = |format, out: &mut Vec<u8>| {
        encoded(format, out, |out| frames::render_watched(Version::Two, event, out))
    };
    match lane {
        SEVEN_TEXT | SEVEN_DEFLATE => frames::render(View::Seven, event, out),
        SEVEN_WATCH => frames::render_watched(Version::Seven, event, out),
        TWO_WATCH => watched(Format::Json, out),
        it if it == TWO_WATCH + 1 => watched(Format::MessagePack, out),
        _ => watched(Format::Protobuf, out),
    }
}

/// Appends, in a format, the frame that `write` gives as JSON.
fn encoded(format: Format, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
    if format == Format::Json {
        return write(out);
    }
    let mut json = Vec::new();
    write(&mut json) && {
        format.encode(&json, out);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_of_version_two_has_its_number() {
        for number in TWO..TWO_WATCH {
            assert_eq!(Two::of(number).map(Two::number), Some(number));
        }
        assert_eq!(Two::of(TWO_WATCH), None);
        assert_eq!(Two::of(SEVEN_WATCH), None);
    }
}
