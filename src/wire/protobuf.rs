//! Protobuf, field by field: numbers, wire types and values are read and written; what fields mean is the caller's.
//!
//! Groups are refused: they left the language with its second version. Source: Protocol Buffers, "Encoding".

/// Why bytes are not Protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtobufError {
    /// They end inside a field.
    Unfinished,
    /// A field that cannot be, `at` bytes from the start: of number 0, of a wire type that is not spoken here, or with a
    /// number of more than 64 bits.
    Field {
        /// Where.
        at: usize,
    },
}

impl std::fmt::Display for ProtobufError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unfinished => f.write_str("unfinished Protobuf"),
            Self::Field { at } => write!(f, "not Protobuf at byte {at}"),
        }
    }
}

impl std::error::Error for ProtobufError {}

/// A field's value, as its wire type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number of as many bytes as it needs.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Text, bytes, or another message.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32(u32),
}

/// Takes one field after another from a message.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// Of this message.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), ProtobufError> {
        let at = self.at;
        let wrong = ProtobufError::Field { at };
        let key = u32::try_from(self.varint()?).map_err(|_| wrong)?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| wrong)?;
                let rest = self.bytes.get(self.at..).unwrap_or_default();
                let bytes = rest.get(..length).ok_or(ProtobufError::Unfinished)?;
                self.at += length;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.take()?)),
            _ => return Err(wrong),
        };
        if key >> 3 == 0 { Err(wrong) } else { Ok((key >> 3, value)) }
    }

    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let at = self.at;
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(ProtobufError::Field { at });
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(ProtobufError::Field { at })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let bytes = rest.first_chunk().ok_or(ProtobufError::Unfinished)?;
        self.at += N;
        Ok(*bytes)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), ProtobufError>;

    /// The next field's number and value. Nothing follows an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.at = self.bytes.len();
        }
        Some(field)
    }
}

/// Appends a number of as many bytes as it needs.
pub fn write_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a field that is a number.
pub fn write_u64(out: &mut Vec<u8>, field: u32, number: u64) {
    write_varint(out, u64::from(field) << 3);
    write_varint(out, number);
}

/// Appends a field that is true or false.
pub fn write_bool(out: &mut Vec<u8>, field: u32, value: bool) {
    write_u64(out, field, u64::from(value));
}

/// Appends a field that is a number of floating point.
pub fn write_f64(out: &mut Vec<u8>, field: u32, number: f64) {
    write_varint(out, u64::from(field) << 3 | 1);
    out.extend_from_slice(&number.to_le_bytes());
}

/// Appends a field that is text, bytes, or another message.
pub fn write_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    write_varint(out, u64::from(field) << 3 | 2);
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, ProtobufError> {
        Fields::new(bytes).collect()
    }

    #[test]
    fn fields_are_read_as_the_specification_writes_them() {
        for (bytes, field) in [
            (&b"\x08\x96\x01"[..], (1, Value::Varint(150))),
            (b"\x12\x07testing", (2, Value::Bytes(b"testing"))),
            (b"\x19\0\0\0\0\0\0\xf8\x3f", (3, Value::Fixed64(1.5f64.to_bits()))),
            (b"\x25\x01\0\0\0", (4, Value::Fixed32(1))),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", (1, Value::Varint(u64::MAX))),
            (b"\xfa\xff\xff\xff\x0f\x00", ((1 << 29) - 1, Value::Bytes(b""))),
        ] {
            assert_eq!(read(bytes), Ok(vec![field]), "{bytes:x?}");
            for short in 1..bytes.len() {
                assert_eq!(read(&bytes[..short]), Err(ProtobufError::Unfinished), "{bytes:x?}");
            }
        }
        assert_eq!(read(b""), Ok(vec![]));
        for wrong in [
            &b"\x00\x00"[..],
            b"\x0b",
            b"\x0c",
            b"\x0e",
            b"\x0f",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x82\x80\x80\x80\x10\x00",
        ] {
            assert!(matches!(read(wrong), Err(ProtobufError::Field { .. })), "{wrong:x?}");
        }
        assert_eq!(
            read(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
            Err(ProtobufError::Unfinished)
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            write_u64(&mut out, 15, number);
            write_u64(&mut out, 16, number);
            let value = Value::Varint(number);
            assert_eq!(read(&out), Ok(vec![(15, value), (16, value)]));
        }
        let mut out = Vec::new();
        write_bool(&mut out, 1, true);
        write_f64(&mut out, 2, -0.5);
        write_bytes(&mut out, 3, &[7; 200]);
        assert_eq!(
            read(&out),
            Ok(vec![
                (1, Value::Varint(1)),
                (2, Value::Fixed64((-0.5f64).to_bits())),
                (3, Value::Bytes(&[7; 200])),
            ])
        );
    }
}
