//! RESP2, the protocol of Redis: values out of a stream of bytes, commands into one.
//!
//! Only what a client of pub/sub needs. A bulk string above [`BULK_BYTES_MAX`] is passed over and comes as an empty one:
//! whoever published it does not cost the link. Source: "Redis serialization protocol specification".

use super::write_decimal;

/// A bulk string may be this long.
pub const BULK_BYTES_MAX: usize = 2 << 20;
/// A line (a status, an error, a number) may be this long.
const LINE_BYTES_MAX: usize = 4096;
/// A list may have so many values.
const LIST_MAX: usize = 1024;
/// Lists may lie in each other so deep.
const DEPTH_MAX: usize = 4;
/// A buffer that grew beyond this is given back once it is empty.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// There is none.
    Nil,
    /// A number.
    Integer(i64),
    /// A status or a bulk string.
    Text(&'a [u8]),
    /// A refusal; its first word says which.
    Error(&'a [u8]),
    /// Several.
    List(Vec<Value<'a>>),
}

/// What stands in a buffer is not RESP2, or beyond a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// How far a value got.
enum Step<'a> {
    /// It ends here.
    Whole(Value<'a>, usize),
    /// It goes on after what there is.
    More,
    /// It ends after so many bytes from here, which nobody needs.
    Skip(Value<'a>, usize, usize),
}

/// Takes values out of bytes that come in pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Where what was not taken begins.
    start: usize,
    /// Bytes still to come that nobody needs.
    skip: usize,
}

impl Decoder {
    /// Takes the next piece.
    pub fn feed(&mut self, mut piece: &[u8]) {
        let skipped = self.skip.min(piece.len());
        self.skip -= skipped;
        piece = &piece[skipped..];
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
            if self.bytes.capacity() > KEPT_BYTES_MAX {
                self.bytes = Vec::new();
            }
        } else if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(piece);
    }

    /// The next whole value; none: more has to come.
    // Not an iterator: values lie in the decoder.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Value<'_>>, Malformed> {
        let rest = &self.bytes[self.start..];
        match read(rest, 0)? {
            Step::More => Ok(None),
            Step::Whole(value, used) => {
                self.start += used;
                Ok(Some(value))
            }
            Step::Skip(value, used, skip) => {
                let here = skip.min(rest.len() - used);
                self.start += used + here;
                self.skip = skip - here;
                Ok(Some(value))
            }
        }
    }
}

fn read(bytes: &[u8], depth: usize) -> Result<Step<'_>, Malformed> {
    let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(LINE_BYTES_MAX)]) else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(Step::More) } else { Err(Malformed) };
    };
    let (line, used) = (&bytes[..end], end + 1);
    let line = line.strip_suffix(b"\r").ok_or(Malformed)?;
    let (kind, line) = line.split_first().ok_or(Malformed)?;
    let number = || {
        let text = std::str::from_utf8(line).map_err(|_| Malformed)?;
        text.parse::<i64>().map_err(|_| Malformed)
    };
    match kind {
        b'+' => Ok(Step::Whole(Value::Text(line), used)),
        b'-' => Ok(Step::Whole(Value::Error(line), used)),
        b':' => Ok(Step::Whole(Value::Integer(number()?), used)),
        b'$' | b'*' if number()? == -1 => Ok(Step::Whole(Value::Nil, used)),
        b'$' => {
            let length = usize::try_from(number()?).map_err(|_| Malformed)?;
            let all = length.checked_add(2).ok_or(Malformed)?;
            if length > BULK_BYTES_MAX {
                return Ok(Step::Skip(Value::Text(b""), used, all));
            }
            let Some(text) = bytes[used..].get(..all) else { return Ok(Step::More) };
            let text = text.strip_suffix(b"\r\n").ok_or(Malformed)?;
            Ok(Step::Whole(Value::Text(text), used + all))
        }
        b'*' => {
            let length = usize::try_from(number()?).map_err(|_| Malformed)?;
            if length > LIST_MAX || depth == DEPTH_MAX {
                return Err(Malformed);
            }
            let (mut list, mut at) = (Vec::with_capacity(length), used);
            for nth in 0..length {
                match read(&bytes[at..], depth + 1)? {
                    Step::More => return Ok(Step::More),
                    Step::Whole(value, used) => {
                        list.push(value);
                        at += used;
                    }
                    // What is too long is a payload, which comes last; elsewhere nobody sends it.
                    Step::Skip(value, used, skip) if nth + 1 == length => {
                        list.push(value);
                        return Ok(Step::Skip(Value::List(list), at + used, skip));
                    }
                    Step::Skip(..) => return Err(Malformed),
                }
            }
            Ok(Step::Whole(Value::List(list), at))
        }
        _ => Err(Malformed),
    }
}

/// Appends the head of a command of so many words; the words follow by [`write_word`].
pub fn write_command(out: &mut Vec<u8>, words: usize) {
    out.push(b'*');
    write_decimal(out, words as u64);
    out.extend_from_slice(b"\r\n");
}

/// Appends one word of a command.
pub fn write_word(out: &mut Vec<u8>, word: &[u8]) {
    out.push(b'$');
    write_decimal(out, word.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

/// Appends a whole command.
pub fn write(out: &mut Vec<u8>, words: &[&[u8]]) {
    write_command(out, words.len());
    for word in words {
        write_word(out, word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything in `bytes`, however it is cut: as text.
    fn values(bytes: &[u8], piece: usize) -> Result<Vec<String>, Malformed> {
        let (mut decoder, mut all) = (Decoder::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            decoder.feed(piece);
            while let Some(value) = decoder.next()? {
                all.push(show(&value));
            }
        }
        Ok(all)
    }

    fn show(value: &Value<'_>) -> String {
        match value {
            Value::Nil => "nil".to_owned(),
            Value::Integer(number) => number.to_string(),
            Value::Text(text) => format!("'{}'", String::from_utf8_lossy(text)),
            Value::Error(text) => format!("!{}", String::from_utf8_lossy(text)),
            Value::List(list) => {
                format!("{list:?}", list = list.iter().map(show).collect::<Vec<_>>())
                    .replace('"', "")
            }
        }
    }

    #[test]
    fn values_are_read_however_they_are_cut() {
        let message = "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\na\r\nb\r\n";
        for (bytes, expected) in [
            ("", Ok(vec![])),
            ("+OK\r\n", Ok(vec!["'OK'"])),
            ("+OK\r\n:1", Ok(vec!["'OK'"])),
            (":-7\r\n:0\r\n", Ok(vec!["-7", "0"])),
            ("-ERR no\r\n", Ok(vec!["!ERR no"])),
            ("$-1\r\n*-1\r\n$0\r\n\r\n*0\r\n", Ok(vec!["nil", "nil", "''", "[]"])),
            (message, Ok(vec![r"['message', 'c', 'a\r\nb']"])),
            ("*2\r\n*1\r\n:1\r\n$-1\r\n", Ok(vec!["[[1], nil]"])),
            ("x\r\n", Err(Malformed)),
            ("\r\n", Err(Malformed)),
            ("+OK\n", Err(Malformed)),
            (":one\r\n", Err(Malformed)),
            ("$-2\r\n", Err(Malformed)),
            ("$1\r\nabc", Err(Malformed)),
            ("*1025\r\n", Err(Malformed)),
            ("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", Err(Malformed)),
            ("$9223372036854775807\r\n", Ok(vec!["''"])),
        ] {
            for piece in 1..=bytes.len().max(1) {
                let read = values(bytes.as_bytes(), piece);
                let expected = expected
                    .clone()
                    .map(|it: Vec<&str>| it.into_iter().map(str::to_owned).collect::<Vec<_>>());
                assert_eq!(read, expected, "{bytes:?} in pieces of {piece}");
            }
        }
        assert_eq!(values(&[b'+'; LINE_BYTES_MAX], 100), Err(Malformed));
    }

    #[test]
    fn what_is_too_long_is_passed_over() {
        let long = BULK_BYTES_MAX + 1;
        let mut bytes = format!("*2\r\n$1\r\nc\r\n${long}\r\n").into_bytes();
        bytes.resize(bytes.len() + long, b'x');
        bytes.extend_from_slice(b"\r\n+next\r\n");
        for piece in [1000, 65536, bytes.len()] {
            assert_eq!(values(&bytes, piece).expect("well formed"), ["['c', '']", "'next'"]);
        }
        let mut decoder = Decoder::default();
        decoder.feed(&bytes);
        while decoder.next().expect("well formed").is_some() {}
        decoder.feed(b"+");
        assert!(decoder.bytes.capacity() <= KEPT_BYTES_MAX, "memory is given back");
    }

    #[test]
    fn commands_are_written() {
        let mut out = Vec::new();
        write(&mut out, &[b"SET", b"k", b""]);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
    }
}
