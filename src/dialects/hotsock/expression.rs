//! Regular expressions as Go writes them, run by a linear-time engine.
//!
//! The two syntaxes are close, but what they share in letters they do not always share in meaning, so an expression
//! is read whole and written anew: `\d`, `\w`, `\s` and `\b` are about ASCII, `[a&&b]` and `[[a]` are classes of
//! single characters, `{` may stand for itself, and groups only group. Source: Go's package `regexp/syntax`, with
//! the flags of `regexp.Compile`.

use std::fmt::Write;

use regex_automata::nfa::thompson::pikevm::{Cache, PikeVM};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::syntax;

/// Bytes that one expression may take when it is compiled, at most.
pub const COMPILED_BYTES_MAX: usize = 256 << 10;
/// Go repeats nothing more often.
const REPEAT_MAX: u32 = 1000;
/// Groups and classes nest no deeper: the compiler is recursive.
const NEST_MAX: u32 = 250;

/// An expression, ready to search.
#[derive(Clone, Debug)]
pub struct Expression(PikeVM);

/// What searches need in passing. It serves every expression, so one is enough for a run of them.
#[derive(Debug, Default)]
pub struct Scratch(Option<Cache>);

impl Expression {
    /// Reads and compiles; the result takes up to `bytes_max`. The error says what is wrong.
    pub fn new(go: &str, bytes_max: usize) -> Result<Self, &'static str> {
        let ours = Translator { rest: go, out: String::new(), names: Vec::new() }.translate()?;
        let bytes_max = bytes_max.min(COMPILED_BYTES_MAX);
        let compiled = PikeVM::builder()
            .syntax(syntax::Config::new().nest_limit(NEST_MAX))
            .thompson(
                thompson::Config::new()
                    .nfa_size_limit(Some(bytes_max))
                    .which_captures(WhichCaptures::None),
            )
            .build(&ours);
        match compiled {
            Ok(it) => Ok(Self(it)),
            Err(error) if error.size_limit().is_some() => Err("is too large when compiled"),
            Err(_) => Err("is no regular expression"),
        }
    }

    /// Whether it matches anywhere in `text`. Takes time in proportion to the product of both lengths at worst.
    pub fn matches(&self, text: &str, scratch: &mut Scratch) -> bool {
        let cache = match &mut scratch.0 {
            Some(cache) => {
                cache.reset(&self.0);
                cache
            }
            empty => empty.insert(self.0.create_cache()),
        };
        self.0.is_match(cache, text)
    }

    /// Memory that it holds.
    pub fn held_bytes(&self) -> usize {
        self.0.get_nfa().memory_usage()
    }
}

struct Translator<'a> {
    rest: &'a str,
    out: String,
    /// Of groups, to find one twice.
    names: Vec<&'a str>,
}

/// A class or a character in one.
enum Item {
    Char(char),
    /// Written as it may stand within brackets.
    Class(String),
}

impl<'a> Translator<'a> {
    fn translate(mut self) -> Result<String, &'static str> {
        // Whether the last thing read was a repetition: Go refuses two in a row.
        let mut is_repeated = false;
        while let Some(c) = self.rest.chars().next() {
            let was_repeated = std::mem::take(&mut is_repeated);
            match c {
                '*' | '+' | '?' => {
                    self.skip(1);
                    self.out.push(c);
                    is_repeated = true;
                }
                '{' => match self.repeat()? {
                    true => is_repeated = true,
                    false => {
                        self.skip(1);
                        self.literal('{');
                    }
                },
                '(' => self.group()?,
                ')' | '|' | '.' | '^' | '$' => {
                    self.skip(1);
                    self.out.push(c);
                }
                '[' => {
                    self.skip(1);
                    self.class()?;
                }
                '\\' => self.escape()?,
                c => {
                    self.skip(c.len_utf8());
                    self.literal(c);
                }
            }
            if is_repeated {
                if was_repeated {
                    return Err("repeats a repetition");
                }
                if self.take("?") {
                    self.out.push('?');
                }
            }
        }
        Ok(self.out)
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn take(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.skip(c.len_utf8());
        Some(c)
    }

    fn literal(&mut self, c: char) {
        write_char(&mut self.out, c);
    }

    /// `{n}`, `{n,}` or `{n,m}`; false if the brace stands for itself.
    fn repeat(&mut self) -> Result<bool, &'static str> {
        let Some((inside, rest)) = self.rest[1..].split_once('}') else { return Ok(false) };
        let (min, max) = match inside.split_once(',') {
            None => (inside, Some(inside)),
            Some((min, "")) => (min, None),
            Some((min, max)) => (min, Some(max)),
        };
        let is_number = |it: &str| {
            let is_plain = !it.starts_with('0') || it == "0";
            is_plain && !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit())
        };
        if !is_number(min) || !max.is_none_or(is_number) {
            return Ok(false);
        }
        let number = |it: &str| it.parse().ok().filter(|it: &u32| *it <= REPEAT_MAX);
        let least = number(min).ok_or("repeats more than 1000 times")?;
        if let Some(max) = max {
            let most = number(max).ok_or("repeats more than 1000 times")?;
            if most < least {
                return Err("has a repetition that ends before it starts");
            }
        }
        // Of what can be counted, the text is the same.
        let _ = write!(self.out, "{{{inside}}}");
        self.rest = rest;
        Ok(true)
    }

    /// What an opening parenthesis opens, or flags.
    fn group(&mut self) -> Result<(), &'static str> {
        self.skip(1);
        if !self.rest.starts_with('?') {
            self.out.push_str("(?:");
            return Ok(());
        }
        if self.take("?P<") || self.take("?<") {
            let (name, rest) = self.rest.split_once('>').ok_or("has a group without a name")?;
            let is_word = |it: u8| it.is_ascii_alphanumeric() || it == b'_';
            if name.is_empty() || !name.bytes().all(is_word) || self.names.contains(&name) {
                return Err("has a group whose name is wrong or taken");
            }
            self.names.push(name);
            self.rest = rest;
            self.out.push_str("(?:");
            return Ok(());
        }
        self.skip(1);
        let end = self.rest.find([':', ')']).ok_or("has an unfinished group")?;
        let (flags, end_char) = (&self.rest[..end], &self.rest[end..=end]);
        let (on, off) = match flags.split_once('-') {
            None => (flags, None),
            Some((on, off)) => (on, Some(off)),
        };
        let are_flags = |it: &str| it.bytes().all(|it| b"imsU".contains(&it));
        if !are_flags(on) || off.is_some_and(|off| off.is_empty() || !are_flags(off)) {
            return Err("has a group or a flag that does not exist");
        }
        self.skip(end + 1);
        if flags.is_empty() && end_char == ")" {
            return Ok(());
        }
        self.out.push_str("(?");
        // The engine refuses a flag given twice.
        let mut seen = String::new();
        for c in flags.chars() {
            let is_new = !seen.contains(c);
            if is_new {
                seen.push(c);
                self.out.push(c);
            } else if !(on.contains(c) && off.is_some_and(|off| off.contains(c))) {
                continue;
            } else {
                return Err("turns a flag on and off at once");
            }
        }
        self.out.push_str(end_char);
        Ok(())
    }

    /// What a backslash outside of brackets begins.
    fn escape(&mut self) -> Result<(), &'static str> {
        if self.take(r"\Q") {
            let (text, rest) = self.rest.split_once(r"\E").unwrap_or((self.rest, ""));
            text.chars().for_each(|c| self.literal(c));
            self.rest = rest;
            return Ok(());
        }
        for (theirs, ours) in
            [(r"\A", r"\A"), (r"\z", r"\z"), (r"\b", r"(?-u:\b)"), (r"\B", r"(?-u:\B)")]
        {
            if self.take(theirs) {
                self.out.push_str(ours);
                return Ok(());
            }
        }
        match self.escaped()? {
            Item::Char(c) => self.literal(c),
            Item::Class(class) => {
                let _ = write!(self.out, "[{class}]");
            }
        }
        Ok(())
    }

    /// A class or a character that a backslash begins, in brackets or not.
    fn escaped(&mut self) -> Result<Item, &'static str> {
        const WRONG: &str = "has an escape that does not exist";
        self.skip(1);
        let c = self.next().ok_or("ends in a backslash")?;
        let number = |digits: &str, radix| {
            let code = u32::from_str_radix(digits, radix).ok();
            code.and_then(char::from_u32).map(Item::Char).ok_or(WRONG)
        };
        Ok(match c {
            'd' | 's' | 'w' => Item::Class(perl(c).to_owned()),
            'D' | 'S' | 'W' => Item::Class(format!("[^{}]", perl(c.to_ascii_lowercase()))),
            'p' | 'P' => Item::Class(self.unicode(c == 'P')?),
            'a' => Item::Char('\x07'),
            'f' => Item::Char('\x0c'),
            'n' => Item::Char('\n'),
            'r' => Item::Char('\r'),
            't' => Item::Char('\t'),
            'v' => Item::Char('\x0b'),
            'x' if self.take("{") => {
                let (digits, rest) = self.rest.split_once('}').ok_or(WRONG)?;
                self.rest = rest;
                if !digits.bytes().all(|it| it.is_ascii_hexdigit()) {
                    return Err(WRONG);
                }
                number(digits, 16)?
            }
            'x' => {
                let digits = self.rest.get(..2).ok_or(WRONG)?;
                if !digits.bytes().all(|it| it.is_ascii_hexdigit()) {
                    return Err(WRONG);
                }
                self.skip(2);
                number(digits, 16)?
            }
            '0'..='7' => {
                let more = self.rest.bytes().take(2).take_while(|it| matches!(it, b'0'..=b'7'));
                let more = more.count();
                if c != '0' && more == 0 {
                    return Err("refers back to a group, which takes more than linear time");
                }
                let digits = format!("{c}{}", &self.rest[..more]);
                self.skip(more);
                number(&digits, 8)?
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Item::Char(c),
            _ => return Err(WRONG),
        })
    }

    /// What stands behind `\p` or, if negated, `\P`.
    fn unicode(&mut self, is_negated: bool) -> Result<String, &'static str> {
        const WRONG: &str = "has a Unicode class that does not exist";
        let mut name = match self.next() {
            Some('{') => {
                let (name, rest) = self.rest.split_once('}').ok_or(WRONG)?;
                self.rest = rest;
                name.to_owned()
            }
            Some(c) => c.to_string(),
            None => return Err(WRONG),
        };
        let mut is_negated = is_negated;
        if name.starts_with('^') {
            name.remove(0);
            is_negated = !is_negated;
        }
        let is_name = |it: u8| it.is_ascii_alphanumeric() || it == b'_';
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(WRONG);
        }
        Ok(format!("\\{}{{{name}}}", if is_negated { 'P' } else { 'p' }))
    }

    /// A class in brackets, of which the first is behind us.
    fn class(&mut self) -> Result<(), &'static str> {
        const UNFINISHED: &str = "has an unfinished class";
        self.out.push('[');
        if self.take("^") {
            self.out.push('^');
        }
        let mut is_first = true;
        while is_first || !self.take("]") {
            is_first = false;
            if let Some(class) = self.named()? {
                self.out.push_str(&class);
                continue;
            }
            let low = match self.item(UNFINISHED)? {
                Item::Class(class) => {
                    self.out.push_str(&class);
                    continue;
                }
                Item::Char(c) => c,
            };
            write_char(&mut self.out, low);
            // A hyphen before the closing bracket stands for itself.
            if self.rest.len() >= 2 && self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.skip(1);
                match self.item(UNFINISHED)? {
                    Item::Char(high) if high >= low => {
                        self.out.push('-');
                        write_char(&mut self.out, high);
                    }
                    _ => return Err("has a range that ends before it starts"),
                }
            }
        }
        self.out.push(']');
        Ok(())
    }

    fn item(&mut self, unfinished: &'static str) -> Result<Item, &'static str> {
        if self.rest.starts_with('\\') {
            return self.escaped();
        }
        self.next().map(Item::Char).ok_or(unfinished)
    }

    /// `[:alpha:]` and its like.
    fn named(&mut self) -> Result<Option<String>, &'static str> {
        let Some(inside) = self.rest.strip_prefix("[:") else { return Ok(None) };
        let Some((name, rest)) = inside.split_once(":]") else { return Ok(None) };
        let (is_negated, name) = match name.strip_prefix('^') {
            Some(name) => (true, name),
            None => (false, name),
        };
        let ranges = match name {
            "alnum" => "0-9A-Za-z",
            "alpha" => "A-Za-z",
            "ascii" => r"\x00-\x7F",
            "blank" => r"\x09\x20",
            "cntrl" => r"\x00-\x1F\x7F",
            "digit" => "0-9",
            "graph" => r"\x21-\x7E",
            "lower" => "a-z",
            "print" => r"\x20-\x7E",
            "punct" => r"\x21-\x2F\x3A-\x40\x5B-\x60\x7B-\x7E",
            "space" => r"\x09-\x0D\x20",
            "upper" => "A-Z",
            "word" => "0-9A-Za-z_",
            "xdigit" => "0-9A-Fa-f",
            _ => return Err("has a named class that does not exist"),
        };
        self.rest = rest;
        Ok(Some(if is_negated { format!("[^{ranges}]") } else { ranges.to_owned() }))
    }
}

/// The characters of `\d`, `\s` and `\w`, in brackets. A vertical tab is no `\s` in Go.
fn perl(letter: char) -> &'static str {
    match letter {
        'd' => "0-9",
        's' => r"\x09\x0A\x0C\x0D\x20",
        _ => "0-9A-Za-z_",
    }
}

/// Writes a character so that it stands for itself wherever it is.
fn write_char(out: &mut String, c: char) {
    if c.is_ascii() && !c.is_ascii_alphanumeric() {
        let _ = write!(out, "\\x{:02X}", u32::from(c));
    } else {
        out.push(c);
    }
}

#[cfg(test)]
#[path = "expression_tests.rs"]
mod tests;
