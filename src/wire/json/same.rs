//! When two JSON texts are the same value.
//!
//! Source: RFC 8259 for what a value is; that objects are compared without regard to the order of their members, and
//! numbers by what they are worth, is our decision.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::{Kind, Raw, parse};

/// Whether two texts are the same JSON value: the order of members does not matter, of a name that repeats the last one
/// counts, numbers are compared by value and exactly, strings by what they say. Text that is not JSON is only the same as
/// itself, byte for byte.
///
/// Takes as long as sorting the members of every object does. As deep as [`DEPTH_MAX`](super::DEPTH_MAX), which bounds
/// what is parsed, and no deeper.
pub fn same_value(a: &[u8], b: &[u8]) -> bool {
    // Mostly nothing but the bytes has to be looked at.
    a == b || matches!((parse(a), parse(b)), (Ok(a), Ok(b)) if same(a, b))
}

fn same(a: Raw<'_>, b: Raw<'_>) -> bool {
    match (a.kind(), b.kind()) {
        (Kind::Object, Kind::Object) => {
            let (a, b) = (members(a), members(b));
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && same(a.1, b.1))
        }
        (Kind::Array, Kind::Array) => {
            let (mut a, mut b) = (a.items(), b.items());
            loop {
                match (a.next(), b.next()) {
                    (Some(a), Some(b)) if same(a, b) => {}
                    (None, None) => return true,
                    _ => return false,
                }
            }
        }
        (Kind::String, Kind::String) => a.as_escaped() == b.as_escaped() || units(a) == units(b),
        (Kind::Number, Kind::Number) => {
            a.text() == b.text() || Decimal::of(a.text()) == Decimal::of(b.text())
        }
        (a_kind, b_kind) => a_kind == b_kind && a.text() == b.text(),
    }
}

/// Members by their names; of those with the same name the last.
fn members(object: Raw<'_>) -> Vec<(Cow<'_, str>, Raw<'_>)> {
    let mut members: Vec<_> = object.members().collect();
    members.sort_by(|a, b| a.0.cmp(&b.0));
    // The sort is stable, so that the last of a name is the last of its run.
    members.dedup_by(|later, kept| {
        let is_again = later.0 == kept.0;
        if is_again {
            kept.1 = later.1;
        }
        is_again
    });
    members
}

/// What a string says. Surrogates without their other half would all become the same character, and are
/// what they are here: they may be told apart by whoever reads them.
fn units(string: Raw<'_>) -> Vec<u16> {
    let Some(escaped) = string.as_escaped() else { return Vec::new() };
    let mut units = Vec::with_capacity(escaped.len());
    let mut chars = escaped.chars();
    while let Some(letter) = chars.next() {
        if letter != '\\' {
            units.extend_from_slice(letter.encode_utf16(&mut [0; 2]));
            continue;
        }
        units.push(match chars.next() {
            Some('b') => 8,
            Some('f') => 12,
            Some('n') => 10,
            Some('r') => 13,
            Some('t') => 9,
            Some('u') => chars.by_ref().take(4).fold(0, |unit: u16, digit| {
                unit << 4 | digit.to_digit(16).unwrap_or_default() as u16
            }),
            // A quote, a slash or a backslash; a good string has nothing else there.
            Some(other) => other as u16,
            None => break,
        });
    }
    units
}

/// A number as its digits, without zeros at either end, and the power of ten that the first of them stands for.
#[derive(Debug)]
struct Decimal<'a> {
    is_negative: bool,
    /// Before and behind the point.
    digits: [&'a [u8]; 2],
    exponent: Exponent<'a>,
}

/// The exponent as written, and what is to be added to it.
#[derive(Debug)]
struct Exponent<'a> {
    is_negative: bool,
    /// Without leading zeros.
    digits: &'a [u8],
    shift: i64,
}

impl<'a> Decimal<'a> {
    /// Of a good number's text; none: it is zero, of which there is one.
    fn of(text: &'a str) -> Option<Self> {
        let (text, is_negative) = match text.strip_prefix('-') {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, ""));
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let whole = whole.trim_start_matches('0');
        let (whole, part, shift) = match (whole, part.trim_end_matches('0')) {
            ("", part) => {
                let digits = part.trim_start_matches('0');
                (digits, "", whole.len() as i64 - (part.len() - digits.len()) as i64)
            }
            (whole, "") => (whole.trim_end_matches('0'), "", whole.len() as i64),
            (whole, part) => (whole, part, whole.len() as i64),
        };
        if whole.is_empty() && part.is_empty() {
            return None;
        }
        let (digits, is_small) = match exponent.strip_prefix('-') {
            Some(digits) => (digits, true),
            None => (exponent.strip_prefix('+').unwrap_or(exponent), false),
        };
        let digits = digits.trim_start_matches('0').as_bytes();
        let exponent = Exponent { is_negative: is_small, digits, shift };
        Some(Self { is_negative, digits: [whole.as_bytes(), part.as_bytes()], exponent })
    }

    fn all_digits(&self) -> impl Iterator<Item = &u8> {
        self.digits.iter().copied().flatten()
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.is_negative == other.is_negative
            && self.all_digits().eq(other.all_digits())
            && self.exponent.cmp(&other.exponent) == Ordering::Equal
    }
}

impl Exponent<'_> {
    /// Its value, if it has so few digits that it fits.
    fn value(&self) -> Option<i128> {
        if self.digits.len() > 30 {
            return None;
        }
        let value =
            self.digits.iter().fold(0i128, |value, digit| value * 10 + i128::from(digit - b'0'));
        let value = if self.is_negative { -value } else { value };
        Some(value + i128::from(self.shift))
    }

    fn cmp(&self, other: &Self) -> Ordering {
        match (self.value(), other.value()) {
            (Some(a), Some(b)) => a.cmp(&b),
            // Longer than any text shifts: equal if they are written the same way. Two that differ by exactly what
            // their points are apart are taken for two values.
            (None, None)
                if (self.is_negative, self.digits, self.shift)
                    == (other.is_negative, other.digits, other.shift) =>
            {
                Ordering::Equal
            }
            _ => Ordering::Less,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;

    #[test]
    fn values_are_the_same_however_they_are_written() {
        for (a, b, is_same) in [
            ("1", "1.0", true),
            ("1", "1e0", true),
            ("1", "10e-1", true),
            ("1", "0.1E+1", true),
            ("1", "-1", false),
            ("1", "\"1\"", false),
            ("0", "-0.0e5", true),
            ("0", "false", false),
            ("100", "1e2", true),
            ("100", "1e3", false),
            ("0.001", "1e-3", true),
            ("12.50", "125e-1", true),
            ("9007199254740993", "9007199254740992", false),
            ("9007199254740993", "9007199254740993.0", true),
            ("123456789012345678901234567890", "1.2345678901234567890123456789e29", true),
            ("123456789012345678901234567891", "1.2345678901234567890123456789e29", false),
            ("0.1", "0.10000000000000000001", false),
            ("1e400", "1e401", false),
            ("1e400", "10e399", true),
            ("1e99999999999999999999", "1E+099999999999999999999", true),
            ("1e99999999999999999999", "1e-99999999999999999999", false),
            (
                "1e99999999999999999999999999999999999999",
                "1e99999999999999999999999999999999999998",
                false,
            ),
            ("\"a\"", "\"\\u0061\"", true),
            ("\"a/b\"", "\"a\\/b\"", true),
            ("\"é\"", "\"\\u00E9\"", true),
            ("\"\u{1f600}\"", "\"\\ud83d\\ude00\"", true),
            ("\"\\ud83d\"", "\"\\ud83e\"", false),
            ("\"\\n\"", "\"\\u000a\"", true),
            ("\"a\"", "\"A\"", false),
            ("[1,2]", " [ 1.0 , 2 ] ", true),
            ("[1,2]", "[2,1]", false),
            ("[1,2]", "[1,2,3]", false),
            ("[]", "{}", false),
            ("{}", " { } ", true),
            ("null", "null", true),
            ("true", "false", false),
            (r#"{"a":1,"b":[2]}"#, r#"{"b":[2.0],"a":1}"#, true),
            (r#"{"a":1}"#, r#"{"a":1,"b":null}"#, false),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#, true),
            (r#"{"a":2,"a":1}"#, r#"{"a":2}"#, false),
            (r#"{"\u0061":1}"#, r#"{"a":1}"#, true),
            (r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"c":2,"b":1}}"#, true),
            ("nonsense", "nonsense", true),
            ("nonsense", "1", false),
        ] {
            assert_eq!(same_value(a.as_bytes(), b.as_bytes()), is_same, "{a} {b}");
            assert_eq!(same_value(b.as_bytes(), a.as_bytes()), is_same, "{b} {a}");
        }
        let deep = |depth: usize, space: &str| {
            format!("{}{space}{}", "[".repeat(depth), "]".repeat(depth)).into_bytes()
        };
        assert!(same_value(
            &deep(super::super::DEPTH_MAX, ""),
            &deep(super::super::DEPTH_MAX, " ")
        ));
        assert!(!same_value(&deep(200, ""), &deep(200, " ")));
    }

    /// A small value, so that two of them are often the same.
    fn value(chance: &mut Prng, depth: u32) -> serde_json::Value {
        use serde_json::{Map, Value, json};
        match chance.below(if depth == 0 { 5 } else { 7 }) {
            0 => Value::Null,
            1 => json!(chance.below(2) == 0),
            2 => json!(chance.below(3) as i64 - 1),
            3 => json!(chance.below(3) as f64 + 0.5),
            4 => json!(["", "a", "é\n", "\u{1f600}\""][chance.below(4) as usize]),
            5 => (0..chance.below(3)).map(|_| value(chance, depth - 1)).collect(),
            _ => {
                let mut members = Map::new();
                for _ in 0..chance.below(4) {
                    let name = ["a", "b", "c\u{7}"][chance.below(3) as usize];
                    members.insert(name.into(), value(chance, depth - 1));
                }
                Value::Object(members)
            }
        }
    }

    /// The same value in other words: spaces, escapes, exponents, another order of members, and some twice.
    fn write(it: &serde_json::Value, chance: &mut Prng, out: &mut String) {
        use serde_json::Value;
        let mut space =
            |out: &mut String| out.push_str(["", " ", "\n\t"][chance.below(3) as usize]);
        space(out);
        match it {
            Value::String(text) => string(text, chance, out),
            Value::Number(number)
                if number.as_i64().is_some_and(|it| it != 0) && chance.below(2) == 0 =>
            {
                out.push_str(&format!(
                    "{number}{}",
                    [".0", "e0", "0e-1", ".00E+0"][chance.below(4) as usize]
                ));
            }
            Value::Array(items) => {
                out.push('[');
                for (n, item) in items.iter().enumerate() {
                    out.push_str(if n > 0 { "," } else { "" });
                    write(item, chance, out);
                }
                out.push(']');
            }
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                let by = chance.below(members.len().max(1) as u64) as usize;
                members.rotate_left(by);
                if let Some(&first) = members.first()
                    && chance.below(3) == 0
                {
                    members.push(first);
                }
                out.push('{');
                let last = members.len();
                for (n, (name, member)) in members.into_iter().enumerate() {
                    out.push_str(if n > 0 { "," } else { "" });
                    string(name, chance, out);
                    out.push(':');
                    // An earlier one of the same name does not count.
                    let nothing = serde_json::json!([0]);
                    let is_void = n == 0 && last > it.as_object().map_or(0, |it| it.len());
                    write(if is_void { &nothing } else { member }, chance, out);
                }
                out.push('}');
            }
            other => out.push_str(&other.to_string()),
        }
        out.push_str(["", " "][chance.below(2) as usize]);
    }

    fn string(text: &str, chance: &mut Prng, out: &mut String) {
        if chance.below(2) == 0 {
            out.push_str(&serde_json::json!(text).to_string());
            return;
        }
        out.push('"');
        text.encode_utf16().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        out.push('"');
    }

    #[test]
    fn it_agrees_with_trees() {
        let mut chance = Prng::new(7);
        let (mut same, mut other) = (0, 0);
        for _ in 0..20_000 {
            let (a, b) = (value(&mut chance, 2), value(&mut chance, 2));
            let (mut a_text, mut b_text) = (String::new(), String::new());
            write(&a, &mut chance, &mut a_text);
            write(&b, &mut chance, &mut b_text);
            let is_same = same_value(a_text.as_bytes(), b_text.as_bytes());
            // The trees tell integers from fractions; those here are never both.
            assert_eq!(is_same, a == b, "{a_text}\n{b_text}");
            *(if is_same { &mut same } else { &mut other }) += 1;
            let mut again = String::new();
            write(&a, &mut chance, &mut again);
            assert!(same_value(a_text.as_bytes(), again.as_bytes()), "{a_text}\n{again}");
        }
        assert!(same > 1_000 && other > 1_000, "{same} {other}");
    }
}
