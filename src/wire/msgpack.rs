//! MessagePack, value by value: heads and scalars are read and written; what they make up is the caller's.
//!
//! A container's head says how many values follow; nothing is allocated for what it promises. Extension types are
//! refused: nothing spoken here has any. Source: the MessagePack specification, "Formats".

/// Why bytes are not MessagePack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsgpackError {
    /// They end inside a value.
    Unfinished,
    /// A head that means nothing here, `at` bytes from the start.
    Head {
        /// Where.
        at: usize,
    },
    /// A text that is not UTF-8, whose head is `at` bytes from the start.
    Utf8 {
        /// Where.
        at: usize,
    },
}

impl std::fmt::Display for MsgpackError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unfinished => f.write_str("unfinished MessagePack"),
            Self::Head { at } => write!(f, "not MessagePack at byte {at}"),
            Self::Utf8 { at } => write!(f, "MessagePack text at byte {at} is not UTF-8"),
        }
    }
}

impl std::error::Error for MsgpackError {}

/// A value, or the head of one that others follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Nothing.
    Nil,
    /// True or false.
    Bool(bool),
    /// A whole number from 0.
    Unsigned(u64),
    /// A whole number below 0.
    Signed(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Str(&'a str),
    /// Bytes.
    Bin(&'a [u8]),
    /// So many values follow.
    Array(u32),
    /// So many pairs of values follow.
    Map(u32),
}

/// Takes one value after another from bytes. A copy looks ahead.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// At the start of these.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How far it has come.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The next value; of a container its head.
    pub fn read(&mut self) -> Result<Value<'a>, MsgpackError> {
        let at = self.at;
        let [head] = self.take()?;
        Ok(match head {
            0x00..=0x7f => Value::Unsigned(u64::from(head)),
            0x80..=0x8f => Value::Map(u32::from(head & 0x0f)),
            0x90..=0x9f => Value::Array(u32::from(head & 0x0f)),
            0xa0..=0xbf => self.str(at, usize::from(head & 0x1f))?,
            0xc0 => Value::Nil,
            0xc2 | 0xc3 => Value::Bool(head == 0xc3),
            0xc4..=0xc6 => {
                let length = self.length(head - 0xc4)?;
                Value::Bin(self.bytes(length)?)
            }
            0xca => Value::Float(f64::from(f32::from_be_bytes(self.take()?))),
            0xcb => Value::Float(f64::from_be_bytes(self.take()?)),
            0xcc => Value::Unsigned(u64::from(u8::from_be_bytes(self.take()?))),
            0xcd => Value::Unsigned(u64::from(u16::from_be_bytes(self.take()?))),
            0xce => Value::Unsigned(u64::from(u32::from_be_bytes(self.take()?))),
            0xcf => Value::Unsigned(u64::from_be_bytes(self.take()?)),
            0xd0 => signed(i64::from(i8::from_be_bytes(self.take()?))),
            0xd1 => signed(i64::from(i16::from_be_bytes(self.take()?))),
            0xd2 => signed(i64::from(i32::from_be_bytes(self.take()?))),
            0xd3 => signed(i64::from_be_bytes(self.take()?)),
            0xd9..=0xdb => {
                let length = self.length(head - 0xd9)?;
                self.str(at, length)?
            }
            0xdc => Value::Array(u32::from(u16::from_be_bytes(self.take()?))),
            0xdd => Value::Array(u32::from_be_bytes(self.take()?)),
            0xde => Value::Map(u32::from(u16::from_be_bytes(self.take()?))),
            0xdf => Value::Map(u32::from_be_bytes(self.take()?)),
            0xe0..=0xff => Value::Signed(i64::from(head as i8)),
            // Never used, and the extension types.
            0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => return Err(MsgpackError::Head { at }),
        })
    }

    /// A length of one, two or four bytes.
    fn length(&mut self, size: u8) -> Result<usize, MsgpackError> {
        Ok(match size {
            0 => usize::from(u8::from_be_bytes(self.take()?)),
            1 => usize::from(u16::from_be_bytes(self.take()?)),
            _ => u32::from_be_bytes(self.take()?) as usize,
        })
    }

    fn str(&mut self, at: usize, length: usize) -> Result<Value<'a>, MsgpackError> {
        let bytes = self.bytes(length)?;
        std::str::from_utf8(bytes).map(Value::Str).map_err(|_| MsgpackError::Utf8 { at })
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], MsgpackError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let bytes = rest.get(..length).ok_or(MsgpackError::Unfinished)?;
        self.at += length;
        Ok(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], MsgpackError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let bytes = rest.first_chunk().ok_or(MsgpackError::Unfinished)?;
        self.at += N;
        Ok(*bytes)
    }
}

fn signed(number: i64) -> Value<'static> {
    u64::try_from(number).map_or(Value::Signed(number), Value::Unsigned)
}

/// Appends nothing, as a value.
pub fn write_nil(out: &mut Vec<u8>) {
    out.push(0xc0);
}

/// Appends true or false.
pub fn write_bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { 0xc3 } else { 0xc2 });
}

/// Appends a whole number from 0, as short as it can be.
pub fn write_u64(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=0x7f => out.push(number as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, number as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(number as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(number as u32).to_be_bytes());
        }
        _ => {
            out.push(0xcf);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// Appends a whole number, as short as it can be.
pub fn write_i64(out: &mut Vec<u8>, number: i64) {
    if let Ok(number) = u64::try_from(number) {
        return write_u64(out, number);
    }
    if number >= -32 {
        out.push(number as i8 as u8);
    } else if let Ok(number) = i8::try_from(number) {
        out.extend_from_slice(&[0xd0, number as u8]);
    } else if let Ok(number) = i16::try_from(number) {
        out.push(0xd1);
        out.extend_from_slice(&number.to_be_bytes());
    } else if let Ok(number) = i32::try_from(number) {
        out.push(0xd2);
        out.extend_from_slice(&number.to_be_bytes());
    } else {
        out.push(0xd3);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// Appends a number as eight bytes of floating point.
pub fn write_f64(out: &mut Vec<u8>, number: f64) {
    out.push(0xcb);
    out.extend_from_slice(&number.to_be_bytes());
}

/// Appends a text.
pub fn write_str(out: &mut Vec<u8>, text: &str) {
    if text.len() < 32 {
        out.push(0xa0 | text.len() as u8);
    } else {
        write_length(out, [0xd9, 0xda, 0xdb], text.len());
    }
    out.extend_from_slice(text.as_bytes());
}

/// Appends bytes.
pub fn write_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    write_length(out, [0xc4, 0xc5, 0xc6], bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends the head of an array; `length` values must follow.
pub fn write_array(out: &mut Vec<u8>, length: usize) {
    match length {
        0..16 => out.push(0x90 | length as u8),
        _ => write_count(out, [0xdc, 0xdd], length),
    }
}

/// Appends the head of a map; `length` pairs must follow.
pub fn write_map(out: &mut Vec<u8>, length: usize) {
    match length {
        0..16 => out.push(0x80 | length as u8),
        _ => write_count(out, [0xde, 0xdf], length),
    }
}

fn write_length(out: &mut Vec<u8>, [byte, two, four]: [u8; 3], length: usize) {
    match u8::try_from(length) {
        Ok(length) => out.extend_from_slice(&[byte, length]),
        Err(_) => write_count(out, [two, four], length),
    }
}

fn write_count(out: &mut Vec<u8>, [two, four]: [u8; 2], length: usize) {
    if let Ok(length) = u16::try_from(length) {
        out.push(two);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        // What is sent is far shorter than four gigabytes.
        let length = u32::try_from(length).expect("a length has 32 bits");
        out.push(four);
        out.extend_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads one value that is all there is.
    fn read(bytes: &[u8]) -> Result<Value<'_>, MsgpackError> {
        let mut reader = Reader::new(bytes);
        let value = reader.read()?;
        assert!(reader.is_empty(), "{bytes:x?}");
        Ok(value)
    }

    #[test]
    fn values_are_read_as_the_specification_writes_them() {
        for (bytes, value) in [
            (&b"\xc0"[..], Value::Nil),
            (b"\xc2", Value::Bool(false)),
            (b"\xc3", Value::Bool(true)),
            (b"\x7f", Value::Unsigned(127)),
            (b"\xcc\x05", Value::Unsigned(5)),
            (b"\xcd\x01\x00", Value::Unsigned(256)),
            (b"\xce\x00\x01\x00\x00", Value::Unsigned(65536)),
            (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", Value::Unsigned(u64::MAX)),
            (b"\xff", Value::Signed(-1)),
            (b"\xe0", Value::Signed(-32)),
            (b"\xd0\x80", Value::Signed(-128)),
            (b"\xd0\x05", Value::Unsigned(5)),
            (b"\xd1\xff\x00", Value::Signed(-256)),
            (b"\xd2\xff\xff\x00\x00", Value::Signed(-65536)),
            (b"\xd3\x80\0\0\0\0\0\0\0", Value::Signed(i64::MIN)),
            (b"\xca\x3f\x80\x00\x00", Value::Float(1.0)),
            (b"\xcb\x3f\xf8\0\0\0\0\0\0", Value::Float(1.5)),
            (b"\xa2ab", Value::Str("ab")),
            (b"\xd9\x02ab", Value::Str("ab")),
            (b"\xda\x00\x02ab", Value::Str("ab")),
            (b"\xdb\x00\x00\x00\x02ab", Value::Str("ab")),
            (b"\xc4\x01\xff", Value::Bin(b"\xff")),
            (b"\xc5\x00\x01\xff", Value::Bin(b"\xff")),
            (b"\xc6\x00\x00\x00\x01\xff", Value::Bin(b"\xff")),
            (b"\x9f", Value::Array(15)),
            (b"\xdc\x00\x10", Value::Array(16)),
            (b"\xdd\xff\xff\xff\xff", Value::Array(u32::MAX)),
            (b"\x81", Value::Map(1)),
            (b"\xde\x00\x10", Value::Map(16)),
            (b"\xdf\x00\x01\x00\x00", Value::Map(65536)),
        ] {
            assert_eq!(read(bytes), Ok(value), "{bytes:x?}");
            for short in 0..bytes.len() {
                assert_eq!(read(&bytes[..short]), Err(MsgpackError::Unfinished), "{bytes:x?}");
            }
        }
        for head in [0xc1, 0xc7, 0xc8, 0xc9, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8] {
            assert_eq!(read(&[head, 0, 0]), Err(MsgpackError::Head { at: 0 }), "{head:x}");
        }
        assert_eq!(read(b"\xa1\xff"), Err(MsgpackError::Utf8 { at: 0 }));
    }

    #[test]
    fn what_is_written_is_short_and_read_again() {
        let written = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            out
        };
        for (number, bytes) in [
            (0, 1),
            (127, 1),
            (128, 2),
            (255, 2),
            (256, 3),
            (65_535, 3),
            (65_536, 5),
            (u64::from(u32::MAX), 5),
            (1 << 32, 9),
            (u64::MAX, 9),
        ] {
            let out = written(&|out| write_u64(out, number));
            assert_eq!((read(&out), out.len()), (Ok(Value::Unsigned(number)), bytes));
        }
        for (number, bytes) in [
            (-1, 1),
            (-32, 1),
            (-33, 2),
            (-128, 2),
            (-129, 3),
            (-32_769, 5),
            (i64::from(i32::MIN) - 1, 9),
            (i64::MIN, 9),
        ] {
            let out = written(&|out| write_i64(out, number));
            assert_eq!((read(&out), out.len()), (Ok(Value::Signed(number)), bytes));
        }
        for length in [0, 1, 31, 32, 255, 256, 65_535, 65_536] {
            let text = "x".repeat(length);
            assert_eq!(read(&written(&|out| write_str(out, &text))), Ok(Value::Str(&text)));
            let bytes = text.as_bytes();
            assert_eq!(read(&written(&|out| write_bin(out, bytes))), Ok(Value::Bin(bytes)));
            let count = length as u32;
            assert_eq!(read(&written(&|out| write_array(out, length))), Ok(Value::Array(count)));
            assert_eq!(read(&written(&|out| write_map(out, length))), Ok(Value::Map(count)));
        }
        assert_eq!(read(&written(&|out| write_f64(out, -0.5))), Ok(Value::Float(-0.5)));
        assert_eq!(read(&written(&|out| write_bool(out, true))), Ok(Value::Bool(true)));
        assert_eq!(read(&written(&write_nil)), Ok(Value::Nil));
    }
}
