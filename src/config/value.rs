//! What one setting may hold, how it is spelled and how it is checked.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::base::time::Millis;

/// A day in milliseconds.
const DAY: u64 = 24 * 3_600_000;

/// When a change of a setting is felt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// At the next start.
    AtStart,
    /// While running.
    WhileRunning,
}

/// What a plain number of a setting counts. Within, time is in milliseconds (or microseconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Things, as many as a power of two.
    PowerOfTwo,
    /// Bytes; `KiB`, `MiB`, `GiB` are understood.
    Bytes,
    /// Bytes, as many as a power of two.
    BytesPowerOfTwo,
    /// Seconds; `ms`, `s`, `min`, `h`, `d` are understood. Kept in milliseconds.
    Seconds,
    /// Microseconds; `us`, `ms` are understood.
    Micros,
}

/// What a setting of `T` holds, with its default and bounds; `put` is handed checked values only.
pub enum Kind<T: 'static> {
    /// A number.
    Number {
        /// What it counts.
        unit: Unit,
        /// Unless told otherwise.
        default: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
        /// What 0 means, where it is special; allowed beside `min..=max`.
        zero: Option<&'static str>,
        /// Writes it.
        put: fn(&mut T, u64),
        /// Reads it.
        read: fn(&T) -> u64,
    },
    /// `true` or `false`.
    Switch {
        /// Unless told otherwise.
        default: bool,
        /// Writes it.
        put: fn(&mut T, bool),
        /// Reads it.
        read: fn(&T) -> bool,
    },
    /// One of a few words.
    Choice {
        /// Unless told otherwise.
        default: &'static str,
        /// The words.
        words: &'static [&'static str],
        /// Writes it.
        put: fn(&mut T, &str),
        /// Reads it.
        read: fn(&T) -> &'static str,
    },
    /// A path in the file system.
    Path {
        /// Unless told otherwise.
        default: &'static str,
        /// Writes it.
        put: fn(&mut T, PathBuf),
        /// Reads it.
        read: fn(&T) -> &PathBuf,
    },
    /// Addresses with ports, and paths of Unix sockets.
    Addresses {
        /// Unless told otherwise.
        default: &'static [&'static str],
        /// Writes them.
        put: fn(&mut T, Vec<SocketAddr>, Vec<PathBuf>),
        /// Reads them.
        read: fn(&T) -> (&Vec<SocketAddr>, &Vec<PathBuf>),
    },
    /// A text that must be given, of these characters: letters, digits, `_`, `-`, `.`.
    Word {
        /// The longest, in bytes.
        bytes_max: usize,
        /// Writes it.
        put: fn(&mut T, String),
        /// Reads it.
        read: fn(&T) -> &String,
    },
    /// A text that may be absent, which is the empty one. Without line ends.
    Text {
        /// What it is, in words that follow "allowed: ".
        what: &'static str,
        /// Writes it.
        put: fn(&mut T, String),
        /// Reads it.
        read: fn(&T) -> &String,
    },
    /// Texts, none by default.
    Texts {
        /// Writes them.
        put: fn(&mut T, Vec<String>),
        /// Reads them.
        read: fn(&T) -> &Vec<String>,
    },
    /// A secret, never printed.
    Secret {
        /// What its text is.
        from: SecretFrom,
        /// Writes it.
        put: fn(&mut T, String),
    },
}

/// What the text of a secret's setting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretFrom {
    /// The secret.
    Text,
    /// The name of a file that holds it.
    File,
    /// The name of an environment variable that holds it.
    Environment,
}

/// A value as it was given, before its setting is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// One text; numbers and switches as they are spelled.
    One(String),
    /// A list, which only files have; elsewhere a text with commas is one.
    Many(Vec<String>),
}

impl Given {
    fn one(&self) -> Option<&str> {
        match self {
            Self::One(text) => Some(text.trim()),
            Self::Many(texts) if texts.len() == 1 => texts.first().map(|text| text.trim()),
            Self::Many(_) => None,
        }
    }

    fn many(&self) -> Vec<&str> {
        match self {
            Self::One(text) => {
                text.split(',').map(str::trim).filter(|text| !text.is_empty()).collect()
            }
            Self::Many(texts) => texts.iter().map(|text| text.trim()).collect(),
        }
    }

    /// As it was spelled, for messages.
    pub fn spelled(&self) -> String {
        match self {
            Self::One(text) => text.clone(),
            Self::Many(texts) => format!("[{}]", texts.join(", ")),
        }
    }
}

impl<T> Kind<T> {
    /// Writes the default, if there is one.
    pub fn put_default(&self, target: &mut T) {
        match *self {
            Self::Number { default, put, .. } => put(target, default),
            Self::Switch { default, put, .. } => put(target, default),
            Self::Choice { default, put, .. } => put(target, default),
            Self::Path { default, put, .. } => put(target, PathBuf::from(default)),
            // A default that does not parse is a mistake of ours, found by the test of the table.
            Self::Addresses { default, put, .. } => {
                put(target, default.iter().filter_map(|text| address(text)).collect(), Vec::new());
            }
            Self::Word { .. } | Self::Text { .. } | Self::Texts { .. } | Self::Secret { .. } => {}
        }
    }

    /// Checks a value and writes it; false if it is not allowed.
    ///
    /// A secret's text must be the secret itself by now, whatever its row says.
    pub fn try_put(&self, target: &mut T, given: &Given) -> bool {
        match *self {
            Self::Number { unit, min, max, zero, put, .. } => {
                let Some(number) = given.one().and_then(|text| number(text, unit)) else {
                    return false;
                };
                let is_special = number == 0 && zero.is_some();
                let fits = (min..=max).contains(&number) && unit.takes(number);
                if is_special || fits {
                    put(target, number);
                }
                is_special || fits
            }
            Self::Switch { put, .. } => {
                let value = match given.one() {
                    Some("true" | "on" | "yes" | "1") => true,
                    Some("false" | "off" | "no" | "0") => false,
                    _ => return false,
                };
                put(target, value);
                true
            }
            Self::Choice { words, put, .. } => match given.one() {
                Some(word) if words.contains(&word) => {
                    put(target, word);
                    true
                }
                _ => false,
            },
            Self::Path { put, .. } => match given.one() {
                Some(text) if !text.is_empty() && !text.contains('\0') => {
                    put(target, PathBuf::from(text));
                    true
                }
                _ => false,
            },
            Self::Addresses { put, .. } => {
                let texts = given.many();
                let addresses: Vec<_> = texts.iter().filter_map(|text| address(text)).collect();
                let paths: Vec<_> = texts.iter().filter_map(|text| local_path(text)).collect();
                let is_good = !texts.is_empty() && addresses.len() + paths.len() == texts.len();
                if is_good {
                    put(target, addresses, paths);
                }
                is_good
            }
            Self::Word { bytes_max, put, .. } => match given.one() {
                Some(text) if is_word(text) && text.len() <= bytes_max => {
                    put(target, text.to_owned());
                    true
                }
                _ => false,
            },
            Self::Text { put, .. } => match given.one() {
                Some(text) if !text.contains(char::is_control) => {
                    put(target, text.to_owned());
                    true
                }
                _ => false,
            },
            Self::Texts { put, .. } => {
                put(target, given.many().into_iter().map(str::to_owned).collect());
                true
            }
            Self::Secret { put, .. } => match given.one() {
                Some(text) if !text.is_empty() => {
                    put(target, text.to_owned());
                    true
                }
                _ => false,
            },
        }
    }

    /// The default, as one would spell it.
    pub fn default_text(&self) -> String {
        match *self {
            Self::Number { default: 0, zero: Some(meaning), .. } => format!("0 ({meaning})"),
            Self::Number { unit, default, .. } => unit.spell(default),
            Self::Switch { default, .. } => default.to_string(),
            Self::Choice { default, .. } | Self::Path { default, .. } => default.to_owned(),
            Self::Addresses { default, .. } => default.join(", "),
            Self::Word { .. } => "none: must be given".to_owned(),
            Self::Text { .. } | Self::Texts { .. } | Self::Secret { .. } => "none".to_owned(),
        }
    }

    /// What is allowed, in words that follow "allowed: ".
    pub fn range_text(&self) -> String {
        match *self {
            Self::Number { unit, min, max, zero, .. } => {
                let kind = match unit {
                    Unit::PowerOfTwo | Unit::BytesPowerOfTwo => "a power of two, ",
                    _ => "",
                };
                let zero = match zero {
                    Some(_) if min > 0 => "0, or ",
                    _ => "",
                };
                format!("{zero}{kind}{} to {}", unit.spell(min), unit.spell(max))
            }
            Self::Switch { .. } => "true or false".to_owned(),
            Self::Choice { words, .. } => words.join(", "),
            Self::Path { .. } => "a path".to_owned(),
            Self::Addresses { .. } => "one or more of IP:PORT and unix:PATH".to_owned(),
            Self::Word { bytes_max, .. } => {
                format!("letters, digits, _ - . (at most {bytes_max} bytes)")
            }
            Self::Text { what, .. } => what.to_owned(),
            Self::Texts { .. } => "texts".to_owned(),
            Self::Secret { from: SecretFrom::Text, .. } => "a text that is not empty".to_owned(),
            Self::Secret { from: SecretFrom::File, .. } => "a file that can be read".to_owned(),
            Self::Secret { from: SecretFrom::Environment, .. } => {
                "an environment variable that is set".to_owned()
            }
        }
    }

    /// The value in force, as one would spell it; a secret as `***`.
    pub fn value_text(&self, of: &T) -> String {
        match *self {
            Self::Number { unit, read, .. } => unit.spell(read(of)),
            Self::Switch { read, .. } => read(of).to_string(),
            Self::Choice { read, .. } => read(of).to_owned(),
            Self::Path { read, .. } => read(of).display().to_string(),
            Self::Addresses { read, .. } => {
                let (addresses, paths) = read(of);
                let addresses = addresses.iter().map(SocketAddr::to_string);
                let paths = paths.iter().map(|path| format!("{LOCAL}{}", path.display()));
                addresses.chain(paths).collect::<Vec<_>>().join(", ")
            }
            Self::Word { read, .. } | Self::Text { read, .. } => read(of).clone(),
            Self::Texts { read, .. } => read(of).join(", "),
            Self::Secret { .. } => "***".to_owned(),
        }
    }

    /// What a plain value counts, in one word; empty where that says nothing.
    pub fn unit_text(&self) -> &'static str {
        match self {
            Self::Number { unit: Unit::Count | Unit::PowerOfTwo, .. } => "number",
            Self::Number { unit: Unit::Bytes | Unit::BytesPowerOfTwo, .. } => "bytes",
            Self::Number { unit: Unit::Seconds, .. } => "seconds",
            Self::Number { unit: Unit::Micros, .. } => "microseconds",
            Self::Switch { .. } => "switch",
            Self::Choice { .. } => "word",
            Self::Path { .. } => "path",
            Self::Addresses { .. } => "addresses",
            Self::Word { .. } | Self::Text { .. } => "text",
            Self::Texts { .. } => "texts",
            Self::Secret { from: SecretFrom::Text, .. } => "secret",
            Self::Secret { from: SecretFrom::File, .. } => "path",
            Self::Secret { from: SecretFrom::Environment, .. } => "variable",
        }
    }
}

impl Unit {
    fn takes(self, number: u64) -> bool {
        !matches!(self, Self::PowerOfTwo | Self::BytesPowerOfTwo) || number.is_power_of_two()
    }

    /// Suffixes and what one of each is worth within, largest first; the plain number's is last.
    fn suffixes(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::Count | Self::PowerOfTwo => &[("", 1)],
            Self::Bytes | Self::BytesPowerOfTwo => {
                &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1), ("", 1)]
            }
            Self::Seconds => &[
                ("d", DAY),
                ("h", 3_600_000),
                ("min", 60_000),
                ("ms", 1),
                ("s", 1_000),
                ("", 1_000),
            ],
            Self::Micros => &[("us", 1), ("ms", 1_000), ("", 1)],
        }
    }

    /// Spells a number with the largest suffix that leaves it whole.
    pub fn spell(self, number: u64) -> String {
        let spelled = match self {
            Self::Count | Self::PowerOfTwo => return number.to_string(),
            Self::Bytes | Self::BytesPowerOfTwo => {
                [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)].as_slice()
            }
            Self::Seconds => {
                [("d", DAY), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)].as_slice()
            }
            Self::Micros => [("us", 1)].as_slice(),
        };
        let fit = spelled.iter().find(|(_, worth)| number > 0 && number.is_multiple_of(*worth));
        match fit {
            Some((suffix, worth)) => format!("{}{suffix}", number / worth),
            None => number.to_string(),
        }
    }
}

/// Reads a number in a unit: digits (with `_` between them), perhaps a fraction that is whole in what
/// the setting is kept in (`0.3` seconds, not half a byte) and, perhaps after spaces, a suffix.
pub fn number(text: &str, unit: Unit) -> Option<u64> {
    let digits_end =
        |text: &str| text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(digits_end(text))?;
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at_checked(digits_end(rest))?,
        None => ("0", rest),
    };
    let suffix = suffix.trim();
    let (_, worth) =
        unit.suffixes().iter().find(|(known, _)| known.eq_ignore_ascii_case(suffix))?;
    let whole: u64 = digits.replace('_', "").parse().ok()?;
    let parts = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction = fraction.parse::<u64>().ok()?.checked_mul(*worth)?;
    if !fraction.is_multiple_of(parts) {
        return None;
    }
    whole.checked_mul(*worth)?.checked_add(fraction / parts)
}

/// Reads `IP:PORT`; `localhost` is 127.0.0.1.
pub fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

/// What a Unix socket's path is written behind.
const LOCAL: &str = "unix:";
/// The longest path that a Unix socket may have. Source: unix(7), `sun_path`.
const LOCAL_BYTES_MAX: usize = 107;

/// Reads `unix:PATH`.
fn local_path(text: &str) -> Option<PathBuf> {
    let path = text.strip_prefix(LOCAL)?;
    let is_good = !path.is_empty() && path.len() <= LOCAL_BYTES_MAX && !path.contains('\0');
    is_good.then(|| PathBuf::from(path))
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// Numbers a setting may be kept as; ranges make sure that nothing is lost.
pub trait Amount: Copy {
    /// From a checked number; saturates.
    fn from_checked(number: u64) -> Self;
    /// Back again.
    fn to_number(self) -> u64;
}

macro_rules! amount {
    ($($type:ty),*) => {$(
        impl Amount for $type {
            fn from_checked(number: u64) -> Self {
                Self::try_from(number).unwrap_or(Self::MAX)
            }
            fn to_number(self) -> u64 {
                u64::try_from(self).unwrap_or(u64::MAX)
            }
        }
    )*};
}
amount!(u16, u32, u64, usize);

impl Amount for Millis {
    fn from_checked(number: u64) -> Self {
        Self(number)
    }
    fn to_number(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_the_suffixes_of_their_unit() {
        let cases = [
            ("0", Unit::Count, Some(0)),
            ("1_000", Unit::Count, Some(1000)),
            ("18446744073709551615", Unit::Count, Some(u64::MAX)),
            ("18446744073709551616", Unit::Count, None),
            ("1KiB", Unit::Count, None),
            ("", Unit::Count, None),
            ("-1", Unit::Count, None),
            ("_1", Unit::Count, None),
            ("1.5", Unit::Count, None),
            ("64KiB", Unit::Bytes, Some(65536)),
            ("64 kib", Unit::Bytes, Some(65536)),
            ("4MiB", Unit::Bytes, Some(4 << 20)),
            ("7", Unit::Bytes, Some(7)),
            ("7b", Unit::Bytes, Some(7)),
            ("1KB", Unit::Bytes, None),
            ("18446744073709551615KiB", Unit::Bytes, None),
            ("10", Unit::Seconds, Some(10_000)),
            ("10s", Unit::Seconds, Some(10_000)),
            ("250ms", Unit::Seconds, Some(250)),
            ("0.3", Unit::Seconds, Some(300)),
            ("1.5 min", Unit::Seconds, Some(90_000)),
            ("0.0005", Unit::Seconds, None),
            ("1.", Unit::Seconds, None),
            ("1.5.5", Unit::Seconds, None),
            ("1.5MiB", Unit::Bytes, Some(3 << 19)),
            ("2min", Unit::Seconds, Some(120_000)),
            ("1h", Unit::Seconds, Some(3_600_000)),
            ("1d", Unit::Seconds, Some(86_400_000)),
            ("30", Unit::Micros, Some(30)),
            ("1ms", Unit::Micros, Some(1000)),
            ("é", Unit::Micros, None),
            ("1é", Unit::Micros, None),
        ];
        for (text, unit, expected) in cases {
            assert_eq!(number(text, unit), expected, "{text} {unit:?}");
        }
    }

    #[test]
    fn a_spelled_number_reads_back() {
        for unit in [Unit::Count, Unit::PowerOfTwo, Unit::Bytes, Unit::Micros] {
            for value in [0, 1, 999, 1024, 65536, 4 << 20, 3 << 30, u64::from(u32::MAX)] {
                assert_eq!(number(&unit.spell(value), unit), Some(value), "{value} {unit:?}");
            }
        }
        for value in [1, 999, 1000, 60_000, 90_000, 3_600_000] {
            assert_eq!(number(&Unit::Seconds.spell(value), Unit::Seconds), Some(value), "{value}");
        }
    }

    #[test]
    fn addresses_are_ip_and_port() {
        for good in ["127.0.0.1:6001", "[::1]:0", "0.0.0.0:80", "localhost:6001"] {
            assert!(address(good).is_some(), "{good}");
        }
        for bad in ["", "6001", ":6001", "127.0.0.1", "example.com:80", "127.0.0.1:65536"] {
            assert!(address(bad).is_none(), "{bad}");
        }
    }
}
