//! Reads a chunked body: [`Chunked`]; writes one, chunk by chunk: [`Builder`]. Source: RFC 9112, section 7.1.

use bytes::Bytes;

use super::grammar::{is_token, is_value};

/// Bytes of chunk extensions in one body: nobody uses them, so they only cost.
const EXTENSION_BYTES_MAX: u16 = 4096;
/// Bytes of trailer fields after the last chunk; they are read and dropped.
const TRAILER_BYTES_MAX: u16 = 8192;
/// Hex digits of a chunk size: enough for every `u64`.
const SIZE_DIGITS_MAX: u8 = 16;

/// Why a body was refused. The connection is closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// A chunk size that is not a hexadecimal number.
    ChunkSize,
    /// A chunk extension with a control byte in it, or too many of them.
    ChunkExtension,
    /// A chunk line or its bytes do not end in CRLF.
    ChunkEnd,
    /// A trailer that is no header field, or too long.
    Trailer,
    /// More body than the limit.
    TooLarge,
}

impl BodyError {
    /// The status sent before closing.
    pub fn status(self) -> u16 {
        match self {
            Self::TooLarge => 413,
            _ => 400,
        }
    }

    /// What is wrong, for the answer's body.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChunkSize => "A chunk size is not a hexadecimal number.",
            Self::ChunkExtension => "A chunk extension is malformed or too long.",
            Self::ChunkEnd => "A chunk does not end in CR LF.",
            Self::Trailer => "The trailer is malformed or too long.",
            Self::TooLarge => "The request body is too large.",
        }
    }
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for BodyError {}

/// Where in a chunked body we are.
#[derive(Clone, Debug, Default)]
pub struct Chunked {
    state: State,
    /// While a size is read: the size so far. While a chunk is read: its bytes to come.
    left: u64,
    size_digits: u8,
    extension_bytes: u16,
    trailer_bytes: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// White space before an extension's semicolon, which must be read (RFC 9112, section 7.1.1).
    SizeSpace,
    Extension,
    SizeLf,
    Bytes,
    BytesCr,
    BytesLf,
    /// At the start of a trailer line.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// How far a chunked body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkProgress {
    /// All of the input was used and more is needed.
    More,
    /// The body is whole; `used` bytes of this input belonged to it, the rest is the next request.
    Done {
        /// Bytes of the input that belonged to the body.
        used: usize,
    },
}

impl Chunked {
    /// At the start of a body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on: appends what `input` holds of the body to `out`, which may not grow above
    /// `body_bytes_max` bytes. How the input is cut changes nothing.
    pub fn read(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        body_bytes_max: usize,
    ) -> Result<ChunkProgress, BodyError> {
        let mut rest = input;
        while self.state != State::Done {
            if self.state == State::Bytes {
                let here = rest.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                out.extend_from_slice(&rest[..here]);
                rest = &rest[here..];
                self.left -= here as u64;
                if self.left > 0 {
                    return Ok(ChunkProgress::More);
                }
                self.state = State::BytesCr;
            }
            let [byte, after @ ..] = rest else { return Ok(ChunkProgress::More) };
            rest = after;
            let room = body_bytes_max.saturating_sub(out.len());
            self.state = self.step(*byte, room)?;
        }
        Ok(ChunkProgress::Done { used: input.len() - rest.len() })
    }

    fn step(&mut self, byte: u8, room: usize) -> Result<State, BodyError> {
        Ok(match (self.state, byte) {
            (State::Size, _) if byte.is_ascii_hexdigit() => {
                self.size_digits += 1;
                if self.size_digits > SIZE_DIGITS_MAX {
                    return Err(BodyError::ChunkSize);
                }
                let digit = (byte & 0x0f) + if byte.is_ascii_alphabetic() { 9 } else { 0 };
                self.left = self.left << 4 | u64::from(digit);
                State::Size
            }
            (State::Size, _) if self.size_digits == 0 => return Err(BodyError::ChunkSize),
            (State::Size, b'\r') => State::SizeLf,
            (State::Size | State::SizeSpace, b';') => State::Extension,
            (State::Size | State::SizeSpace, b' ' | b'\t') => {
                self.count_extension()?;
                State::SizeSpace
            }
            (State::Size | State::SizeSpace, _) => return Err(BodyError::ChunkSize),
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, _) => {
                self.count_extension()?;
                if !is_value(byte) {
                    return Err(BodyError::ChunkExtension);
                }
                State::Extension
            }
            (State::SizeLf, b'\n') => {
                self.size_digits = 0;
                match self.left {
                    0 => State::Trailer,
                    left if left > room as u64 => return Err(BodyError::TooLarge),
                    _ => State::Bytes,
                }
            }
            (State::BytesCr, b'\r') => State::BytesLf,
            (State::BytesLf, b'\n') => State::Size,
            (State::SizeLf | State::BytesCr | State::BytesLf | State::Bytes, _) => {
                return Err(BodyError::ChunkEnd);
            }
            (State::Trailer, b'\r') => State::EndLf,
            (State::EndLf, b'\n') | (State::Done, _) => State::Done,
            (_, _) => {
                self.trailer_bytes += 1;
                if self.trailer_bytes > TRAILER_BYTES_MAX {
                    return Err(BodyError::Trailer);
                }
                match (self.state, byte) {
                    (State::Trailer | State::TrailerName, _) if is_token(byte) => {
                        State::TrailerName
                    }
                    (State::TrailerName, b':') => State::TrailerValue,
                    (State::TrailerValue, b'\r') => State::TrailerLf,
                    (State::TrailerValue, _) if is_value(byte) => State::TrailerValue,
                    (State::TrailerLf, b'\n') => State::Trailer,
                    _ => return Err(BodyError::Trailer),
                }
            }
        })
    }

    fn count_extension(&mut self) -> Result<(), BodyError> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            Err(BodyError::ChunkExtension)
        } else {
            Ok(())
        }
    }
}

/// Ends a chunked body: the last chunk, and no trailer.
pub const END: &[u8] = b"0\r\n\r\n";

/// The most bytes in front of a chunk: its size in hexadecimal and CR LF.
const HEADROOM: usize = SIZE_DIGITS_MAX as usize + 2;

/// A chunk whose bytes are written in place, with its size put in front of them afterwards.
///
/// ```
/// use ringmain::wire::http::chunked::Builder;
/// let mut builder = Builder::with_capacity(64);
/// builder.payload().extend_from_slice(b"hi");
/// assert_eq!(&builder.finish()[..], b"2\r\nhi\r\n");
/// ```
#[derive(Debug)]
pub struct Builder(Vec<u8>);

impl Builder {
    /// Room for about this many bytes.
    pub fn with_capacity(payload_len: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADROOM + payload_len + 2);
        bytes.extend_from_slice(&[0; HEADROOM]);
        Self(bytes)
    }

    /// Where the bytes are appended. The first few are the size's.
    pub fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// The finished chunk, without a copy; empty if nothing was appended, because a chunk without bytes would end
    /// the body.
    ///
    /// # Panics
    /// If the headroom was cut off.
    pub fn finish(self) -> Bytes {
        let mut bytes = self.0;
        assert!(bytes.len() >= HEADROOM, "the headroom was cut off");
        let mut left = bytes.len() - HEADROOM;
        if left == 0 {
            return Bytes::new();
        }
        let mut start = HEADROOM - 2;
        bytes[start..HEADROOM].copy_from_slice(b"\r\n");
        while left > 0 {
            start -= 1;
            bytes[start] = b"0123456789abcdef"[left & 15];
            left >>= 4;
        }
        bytes.extend_from_slice(b"\r\n");
        Bytes::from(bytes).slice(start..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;

    type Outcome = Result<Option<(Vec<u8>, usize)>, BodyError>;

    fn read(input: &[u8], cuts: &mut dyn FnMut(usize) -> usize, max: usize) -> Outcome {
        let (mut chunked, mut out, mut at) = (Chunked::new(), Vec::new(), 0);
        while at < input.len() {
            let end = at + cuts(input.len() - at).clamp(1, input.len() - at);
            match chunked.read(&input[at..end], &mut out, max)? {
                ChunkProgress::More => at = end,
                ChunkProgress::Done { used } => return Ok(Some((out, at + used))),
            }
        }
        Ok(None)
    }

    fn cases() -> Vec<(Vec<u8>, Outcome)> {
        let good = |text: &str, used: usize| Ok(Some((text.as_bytes().to_vec(), used)));
        let mut cases: Vec<(Vec<u8>, Outcome)> = [
            ("0\r\n\r\n", good("", 5)),
            ("5\r\nhello\r\n0\r\n\r\nGET /", good("hello", 15)),
            ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", good("hello world", 26)),
            ("A\r\n0123456789\r\n000\r\n\r\n", good("0123456789", 22)),
            ("1;a=b;c=\"d\"\r\nx\r\n0;last\r\n\r\n", good("x", 26)),
            ("1 ;a\r\nx\r\n0\r\n\r\n", good("x", 14)),
            ("1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\n", good("x", 21)),
            ("1\r\nx\r\n0\r\n", Ok(None)),
            ("5\r\nhel", Ok(None)),
            ("\r\n", Err(BodyError::ChunkSize)),
            (";a\r\n", Err(BodyError::ChunkSize)),
            ("-1\r\n", Err(BodyError::ChunkSize)),
            ("+1\r\n", Err(BodyError::ChunkSize)),
            ("0x1\r\n", Err(BodyError::ChunkSize)),
            (" 1\r\n", Err(BodyError::ChunkSize)),
            ("1 \r\nx", Err(BodyError::ChunkSize)),
            ("g\r\n", Err(BodyError::ChunkSize)),
            ("1\nx\r\n", Err(BodyError::ChunkSize)),
            ("00000000000000001\r\n", Err(BodyError::ChunkSize)),
            ("1\rx\r\n", Err(BodyError::ChunkEnd)),
            ("1\r\nxy\r\n", Err(BodyError::ChunkEnd)),
            ("1\r\nx\n", Err(BodyError::ChunkEnd)),
            ("1\r\nx\r\r", Err(BodyError::ChunkEnd)),
            ("1;\x01\r\n", Err(BodyError::ChunkExtension)),
            ("1;a\nx\r\n", Err(BodyError::ChunkExtension)),
            ("0\r\n\n", Err(BodyError::Trailer)),
            ("0\r\n: b\r\n", Err(BodyError::Trailer)),
            ("0\r\nA b\r\n", Err(BodyError::Trailer)),
            ("0\r\n A: b\r\n", Err(BodyError::Trailer)),
            ("0\r\nA: \x01\r\n", Err(BodyError::Trailer)),
            ("0\r\nA: b\n", Err(BodyError::Trailer)),
            ("15\r\n", Err(BodyError::TooLarge)),
            ("ffffffffffffffff\r\n", Err(BodyError::TooLarge)),
            ("14\r\n01234567890123456789\r\n1\r\nx", Err(BodyError::TooLarge)),
        ]
        .into_iter()
        .map(|(text, want)| (text.as_bytes().to_vec(), want))
        .collect();
        cases
            .push((format!("1;{}", "a".repeat(5000)).into_bytes(), Err(BodyError::ChunkExtension)));
        cases.push((format!("1{}", " ".repeat(5000)).into_bytes(), Err(BodyError::ChunkExtension)));
        cases.push((
            format!("0\r\n{}", "A: b\r\n".repeat(2000)).into_bytes(),
            Err(BodyError::Trailer),
        ));
        cases
    }

    #[test]
    fn bodies_are_read_and_refused_however_they_are_cut() {
        let mut prng = Prng::new(11);
        for (input, want) in cases() {
            let shown = String::from_utf8_lossy(&input[..input.len().min(40)]).into_owned();
            assert_eq!(read(&input, &mut |all| all, 20), want, "{shown:?}");
            assert_eq!(read(&input, &mut |_| 1, 20), want, "{shown:?} by single bytes");
            for _ in 0..20 {
                assert_eq!(
                    read(&input, &mut |all| 1 + prng.below(all as u64) as usize, 20),
                    want,
                    "{shown:?} cut at random"
                );
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 15, 16, 255, 256, 4096, 70_000] {
            let mut builder = Builder::with_capacity(10);
            builder.payload().extend((0..length).map(|n| n as u8));
            let chunk = builder.finish();
            assert_eq!(chunk.is_empty(), length == 0);
            let whole = [&chunk[..], END].concat();
            let mut out = Vec::new();
            let done = Chunked::new().read(&whole, &mut out, 100_000);
            assert_eq!(done, Ok(ChunkProgress::Done { used: whole.len() }), "{length}");
            assert!(out.iter().copied().eq((0..length).map(|n| n as u8)), "{length}");
        }
    }

    #[test]
    fn a_finished_chunk_is_not_copied() {
        let mut builder = Builder::with_capacity(100);
        builder.payload().extend_from_slice(&[7; 100]);
        let at = builder.payload()[HEADROOM..].as_ptr();
        let chunk = builder.finish();
        assert_eq!((&chunk[..4], chunk[4..].as_ptr()), (&b"64\r\n"[..], at));
    }
}
