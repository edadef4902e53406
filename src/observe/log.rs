//! Log lines for changes of state: `key=value`, one line each, repeats summed.
//!
//! A line is named by one stable word; what varies are its fields. No payloads, tokens or people.
//! Errors and warnings of one name within a second are one line with `repeated=n`, so that a storm
//! fills no disk; info is rare by its nature, and who asks for debug wants every line. Each thread sums its own repeats and writes whole lines, so nothing is locked beyond stderr.

use std::cell::RefCell;
use std::fmt::{self, Display, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::base::time::UnixMillis;

/// How much a line matters; a higher level is more talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Wants a person now.
    Error,
    /// Wants a person this week.
    Warn,
    /// The life of the process.
    Info,
    /// The life of a connection.
    Debug,
}

impl Level {
    /// As it stands in a line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// A field of a line: its key and anything that can be printed.
pub type Field<'a> = (&'static str, &'a dyn Display);

/// Repeats of a line within this long become one line.
const REPEAT_MILLIS: u64 = 1000;
/// Names of lines remembered to sum their repeats; there are few per thread.
const NAMES_MAX: usize = 32;
/// A value's bytes; longer ones are cut.
const VALUE_BYTES_MAX: usize = 512;

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Sets the level for the whole process: lines above it are not written. Info if never called.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// True if lines of this level are written: for a caller whose fields are dear to make.
pub fn is_on(level: Level) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

/// Writes what wants a person now.
pub fn error(at: UnixMillis, name: &'static str, fields: &[Field<'_>]) {
    write(Level::Error, at, name, fields);
}

/// Writes what wants a person this week.
pub fn warn(at: UnixMillis, name: &'static str, fields: &[Field<'_>]) {
    write(Level::Warn, at, name, fields);
}

/// Writes what belongs to the life of the process.
pub fn info(at: UnixMillis, name: &'static str, fields: &[Field<'_>]) {
    write(Level::Info, at, name, fields);
}

/// Writes what belongs to the life of a connection.
pub fn debug(at: UnixMillis, name: &'static str, fields: &[Field<'_>]) {
    write(Level::Debug, at, name, fields);
}

/// Writes the sums of repeats that have waited long enough. Call it now and then (each second, and
/// at the end with a time far away); without it a sum waits for the next line of its name.
pub fn flush(at: UnixMillis) {
    LINES.with_borrow_mut(|lines| {
        lines.flush(at);
        lines.write_out();
    });
}

thread_local! {
    static LINES: RefCell<Lines> = const { RefCell::new(Lines::new()) };
}

fn write(level: Level, at: UnixMillis, name: &'static str, fields: &[Field<'_>]) {
    if !is_on(level) {
        return;
    }
    // A field that itself logs while it is printed finds the lines taken; its line is left out.
    LINES.with(|lines| {
        if let Ok(mut lines) = lines.try_borrow_mut() {
            lines.line(level, at, name, fields);
            lines.write_out();
        }
    });
}

/// Makes the lines of one thread and sums repeats.
#[derive(Debug)]
struct Lines {
    text: String,
    recent: Vec<Recent>,
}

/// A line written a moment ago.
#[derive(Debug)]
struct Recent {
    level: Level,
    name: &'static str,
    written: UnixMillis,
    repeated: u64,
}

impl Lines {
    const fn new() -> Self {
        Self { text: String::new(), recent: Vec::new() }
    }

    /// Appends the line, or counts it as a repeat.
    fn line(&mut self, level: Level, at: UnixMillis, name: &'static str, fields: &[Field<'_>]) {
        let repeated = match level {
            Level::Error | Level::Warn => self.repeats(level, at, name),
            Level::Info | Level::Debug => Some(0),
        };
        let Some(repeated) = repeated else { return };
        self.head(level, at, name);
        for (key, value) in fields {
            self.field(key, value);
        }
        if repeated > 0 {
            self.field("repeated", &repeated);
        }
        self.text.push('\n');
    }

    /// Whether to write a line of this name now, and how many like it were not written before.
    fn repeats(&mut self, level: Level, at: UnixMillis, name: &'static str) -> Option<u64> {
        let known = self.recent.iter_mut().find(|known| known.name == name && known.level == level);
        if let Some(known) = known {
            if at.0.saturating_sub(known.written.0) < REPEAT_MILLIS {
                known.repeated += 1;
                return None;
            }
            known.written = at;
            return Some(std::mem::take(&mut known.repeated));
        }
        if self.recent.len() == NAMES_MAX {
            let eldest = self.recent.remove(0);
            self.sum(at, &eldest);
        }
        self.recent.push(Recent { level, name, written: at, repeated: 0 });
        Some(0)
    }

    /// Appends the sums that are due.
    fn flush(&mut self, at: UnixMillis) {
        let mut recent = std::mem::take(&mut self.recent);
        recent.retain(|known| {
            let is_due = at.0.saturating_sub(known.written.0) >= REPEAT_MILLIS;
            if is_due {
                self.sum(at, known);
            }
            !is_due
        });
        self.recent = recent;
    }

    fn sum(&mut self, at: UnixMillis, known: &Recent) {
        if known.repeated > 0 {
            self.head(known.level, at, known.name);
            self.field("repeated", &known.repeated);
            self.text.push('\n');
        }
    }

    fn head(&mut self, level: Level, at: UnixMillis, name: &str) {
        self.field("at", &at.to_civil());
        self.field("level", &level.as_str());
        self.field("what", &name);
    }

    fn field(&mut self, key: &str, value: &dyn Display) {
        if self.text.as_bytes().last().is_some_and(|&byte| byte != b'\n') {
            self.text.push(' ');
        }
        self.text.push_str(key);
        self.text.push('=');
        let mut bounded = Bounded { text: String::new(), is_cut: false };
        // An error here is the bound, reached.
        let _ = write!(bounded, "{value}");
        if bounded.is_cut {
            bounded.text.push('…');
        }
        let value = bounded.text;
        let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=');
        if !value.is_empty() && value.chars().all(is_plain) {
            self.text.push_str(&value);
        } else {
            // Rust's escapes keep a value on its line, whatever a peer put into it.
            let _ = write!(self.text, "{value:?}");
        }
    }

    /// Hands the lines to stderr, whole. Nobody can be told if that fails.
    fn write_out(&mut self) {
        if !self.text.is_empty() {
            let _ = std::io::stderr().lock().write_all(self.text.as_bytes());
            self.text.clear();
        }
    }
}

/// Text that stops growing at a bound.
struct Bounded {
    text: String,
    is_cut: bool,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = VALUE_BYTES_MAX - self.text.len();
        if more.len() <= room {
            self.text.push_str(more);
            return Ok(());
        }
        self.text.push_str(&more[..more.floor_char_boundary(room)]);
        self.is_cut = true;
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: UnixMillis = UnixMillis(1_700_000_000_123);

    fn line(fields: &[Field<'_>]) -> String {
        let mut lines = Lines::new();
        lines.line(Level::Info, AT, "started", fields);
        lines.text
    }

    #[test]
    fn values_are_quoted_where_they_must_be() {
        let head = "at=2023-11-14T22:13:20.123Z level=info what=started";
        for (value, expected) in [
            ("plain", "plain"),
            ("127.0.0.1:6001", "127.0.0.1:6001"),
            ("", "\"\""),
            ("two words", "\"two words\""),
            ("a=b", "\"a=b\""),
            ("quo\"te", "\"quo\\\"te\""),
            ("line\nlevel=error", "\"line\\nlevel=error\""),
            ("\u{1b}[31m", "\"\\u{1b}[31m\""),
        ] {
            assert_eq!(line(&[("k", &value), ("n", &7)]), format!("{head} k={expected} n=7\n"));
        }
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let text = line(&[("k", &"ä".repeat(1000)), ("x", &"y".repeat(VALUE_BYTES_MAX))]);
        assert!(text.contains(&format!("k={}… x=y", "ä".repeat(VALUE_BYTES_MAX / 2))), "{text}");
        assert!(text.ends_with("y\n"), "a value of exactly the bound is whole");
    }

    #[test]
    fn repeats_are_summed() {
        let at = |millis| UnixMillis(AT.0 + millis);
        let mut lines = Lines::new();
        let count = |lines: &mut Lines| {
            let text = std::mem::take(&mut lines.text);
            text.lines()
                .map(|line| line.split_once("what=").unwrap().1.to_owned())
                .collect::<Vec<_>>()
        };
        for millis in [0, 10, 999] {
            lines.line(Level::Warn, at(millis), "disk_full", &[("try", &millis)]);
        }
        lines.line(Level::Warn, at(999), "link_lost", &[]);
        assert_eq!(count(&mut lines), ["disk_full try=0", "link_lost"]);
        lines.line(Level::Warn, at(1000), "disk_full", &[("try", &1000)]);
        assert_eq!(count(&mut lines), ["disk_full try=1000 repeated=2"]);
        lines.line(Level::Warn, at(1500), "disk_full", &[]);
        lines.flush(at(1999));
        assert_eq!(count(&mut lines), [""; 0]);
        lines.flush(at(2000));
        assert_eq!(count(&mut lines), ["disk_full repeated=1"]);
        assert!(lines.recent.is_empty());
    }

    #[test]
    fn info_is_never_summed() {
        let mut lines = Lines::new();
        for port in [6001, 6002] {
            lines.line(Level::Info, AT, "listening", &[("port", &port)]);
        }
        assert_eq!(lines.text.lines().count(), 2);
    }

    #[test]
    fn names_are_remembered_within_a_bound() {
        let mut lines = Lines::new();
        for n in 0..2 * NAMES_MAX {
            let name: &'static str = Box::leak(n.to_string().into_boxed_str());
            lines.line(Level::Error, AT, name, &[]);
            lines.line(Level::Error, AT, name, &[]);
        }
        assert_eq!(lines.recent.len(), NAMES_MAX);
        let sums = lines.text.lines().filter(|line| line.ends_with("repeated=1")).count();
        assert_eq!(sums, NAMES_MAX, "what is forgotten is summed first");
    }
}
