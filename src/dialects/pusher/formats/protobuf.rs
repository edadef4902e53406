//! Frames as Protobuf: one message with a field for each member.

use super::{DecodeError, Header, texts, write_bytes, write_json, write_number};
use crate::wire::json::{self, Kind, Raw};
use crate::wire::protobuf::{self, Fields, Value};

/// Fields of a frame that are text.
const TEXTS: [(u32, &str); 9] = [
    (1, "event"),
    (2, "channel"),
    (4, "name"),
    (5, "user_id"),
    (8, "conflation_key"),
    (9, "message_id"),
    (10, "stream_id"),
    (12, "idempotency_key"),
    (15, "__conflation_key"),
];

/// Those that are numbers.
const NUMBERS: [(u32, &str); 3] = [(7, "sequence"), (11, "serial"), (14, "__delta_seq")];

const DATA: u32 = 3;
const TAGS: u32 = 6;
const EXTRAS: u32 = 13;

/// Appends a frame. Of extras only what has a field is told.
pub fn encode(frame: Raw<'_>, out: &mut Vec<u8>) {
    let number_of = |names: &[(u32, &str)], name: &str| {
        names.iter().find(|(_, it)| *it == name).map(|(number, _)| *number)
    };
    for (name, value) in frame.members() {
        if value.is_null() && name != "data" {
            continue;
        }
        if let (Some(number), Some(text)) = (number_of(&TEXTS, &name), value.as_str()) {
            protobuf::write_bytes(out, number, text.as_bytes());
        } else if let (Some(number), Some(value)) = (number_of(&NUMBERS, &name), value.as_u64()) {
            protobuf::write_u64(out, number, value);
        } else {
            match &*name {
                "data" => write_message(out, DATA, |out| match value.as_str() {
                    Some(text) => protobuf::write_bytes(out, 1, text.as_bytes()),
                    None => protobuf::write_bytes(out, 3, value.text().as_bytes()),
                }),
                "tags" => write_texts(out, TAGS, value),
                "extras" => write_message(out, EXTRAS, |out| write_extras(value, out)),
                _ => {}
            }
        }
    }
}

/// Appends a field that is a message.
fn write_message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut message = Vec::new();
    write(&mut message);
    protobuf::write_bytes(out, field, &message);
}

/// Appends a field that is a map of texts: a message for each.
fn write_texts(out: &mut Vec<u8>, field: u32, map: Raw<'_>) {
    for (name, value) in texts(map) {
        write_message(out, field, |out| {
            protobuf::write_bytes(out, 1, name.as_bytes());
            protobuf::write_bytes(out, 2, value.as_bytes());
        });
    }
}

fn write_extras(extras: Raw<'_>, out: &mut Vec<u8>) {
    for (name, value) in extras.members() {
        match (&*name, value.as_bool(), value.as_str()) {
            ("headers", ..) => value.members().for_each(|(name, value)| {
                write_message(out, 1, |out| {
                    protobuf::write_bytes(out, 1, name.as_bytes());
                    write_message(out, 2, |out| match Header::of(value) {
                        Header::Text(text) => protobuf::write_bytes(out, 1, text.as_bytes()),
                        Header::Number(number) => protobuf::write_f64(out, 2, number),
                        Header::Bool(value) => protobuf::write_bool(out, 3, value),
                    });
                });
            }),
            ("ephemeral", Some(value), _) => protobuf::write_bool(out, 2, value),
            ("idempotencyKey" | "idempotency_key", _, Some(key)) => {
                protobuf::write_bytes(out, 3, key.as_bytes());
            }
            ("echo", Some(value), _) => protobuf::write_bool(out, 4, value),
            ("ai", ..) if value.kind() == Kind::Object => write_message(out, 5, |out| {
                for (name, value) in value.members() {
                    match &*name {
                        "transport" => write_texts(out, 1, value),
                        "codec" => write_texts(out, 2, value),
                        _ => {}
                    }
                }
            }),
            _ => {}
        }
    }
}

/// Reads a message. Fields that are not known are passed over.
pub fn decode(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Object::new();
    let mut tags = Object::new();
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match (number, value) {
            (DATA, Value::Bytes(data)) => {
                out.name("data");
                read_data(data, &mut out.json)?;
            }
            (TAGS, Value::Bytes(entry)) => read_entry(entry, &mut tags, write_text)?,
            (EXTRAS, Value::Bytes(extras)) => {
                out.name("extras");
                read_extras(extras, &mut out.json)?;
            }
            (number, Value::Bytes(text)) => {
                if let Some((_, name)) = TEXTS.iter().find(|(it, _)| *it == number) {
                    out.name(name);
                    write_text(&mut out.json, text)?;
                }
            }
            (number, Value::Varint(value)) => {
                if let Some((_, name)) = NUMBERS.iter().find(|(it, _)| *it == number) {
                    out.name(name);
                    crate::wire::write_decimal(&mut out.json, value);
                }
            }
            _ => {}
        }
    }
    out.object("tags", tags);
    Ok(out.finish())
}

/// The start of a JSON object.
struct Object {
    json: Vec<u8>,
}

impl Object {
    fn new() -> Self {
        Self { json: vec![b'{'] }
    }

    /// Begins a member: its value must follow.
    fn name(&mut self, name: &str) {
        if self.json.len() > 1 {
            self.json.push(b',');
        }
        json::write_str(&mut self.json, name);
        self.json.push(b':');
    }

    /// A member that is an object, unless that is empty.
    fn object(&mut self, name: &str, object: Object) {
        if object.json.len() > 1 {
            self.name(name);
            self.json.extend_from_slice(&object.finish());
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.json.push(b'}');
        self.json
    }
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8)
}

fn write_text(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), DecodeError> {
    json::write_str(out, text(bytes)?);
    Ok(())
}

fn write_json_text(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), DecodeError> {
    write_json(out, text(bytes)?);
    Ok(())
}

/// Reads data, of whichever kind; the last one counts.
fn read_data(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let start = out.len();
    out.extend_from_slice(b"null");
    for field in Fields::new(bytes) {
        let (number @ 1..=4, Value::Bytes(value)) = field? else { continue };
        out.truncate(start);
        match number {
            1 => write_text(out, value)?,
            2 => read_structured(value, out)?,
            3 => write_json_text(out, value)?,
            _ => write_bytes(out, value),
        }
    }
    Ok(())
}

/// Reads the data of a subscribe or a sign-in as some clients write it; what has no field of its own is a text that
/// holds JSON.
fn read_structured(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let mut object = Object::new();
    for field in Fields::new(bytes) {
        let (number, Value::Bytes(value)) = field? else { continue };
        match number {
            1..=3 => {
                object.name(["channel_data", "channel", "user_data"][number as usize - 1]);
                write_text(&mut object.json, value)?;
            }
            4 => read_entry(value, &mut object, write_json_text)?,
            _ => {}
        }
    }
    out.extend_from_slice(&object.finish());
    Ok(())
}

/// Reads a map's entry as a member. What is missing of it is empty.
fn read_entry(
    bytes: &[u8],
    object: &mut Object,
    write: impl Fn(&mut Vec<u8>, &[u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let (mut name, mut value) = (&b""[..], &b""[..]);
    for field in Fields::new(bytes) {
        match field? {
            (1, Value::Bytes(it)) => name = it,
            (2, Value::Bytes(it)) => value = it,
            _ => {}
        }
    }
    object.name(text(name)?);
    write(&mut object.json, value)
}

fn read_extras(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let mut object = Object::new();
    let mut headers = Object::new();
    for field in Fields::new(bytes) {
        match field? {
            (1, Value::Bytes(entry)) => read_entry(entry, &mut headers, read_header)?,
            (number @ (2 | 4), Value::Varint(value)) => {
                object.name(if number == 2 { "ephemeral" } else { "echo" });
                object.json.extend_from_slice(if value != 0 { b"true" } else { b"false" });
            }
            (3, Value::Bytes(key)) => {
                object.name("idempotencyKey");
                write_text(&mut object.json, key)?;
            }
            (5, Value::Bytes(ai)) => {
                let (mut transport, mut codec) = (Object::new(), Object::new());
                for field in Fields::new(ai) {
                    match field? {
                        (1, Value::Bytes(entry)) => read_entry(entry, &mut transport, write_text)?,
                        (2, Value::Bytes(entry)) => read_entry(entry, &mut codec, write_text)?,
                        _ => {}
                    }
                }
                let mut ai = Object::new();
                ai.object("transport", transport);
                ai.object("codec", codec);
                object.name("ai");
                object.json.extend_from_slice(&ai.finish());
            }
            _ => {}
        }
    }
    object.object("headers", headers);
    out.extend_from_slice(&object.finish());
    Ok(())
}

/// Reads a header's value, of whichever kind; the last one counts.
fn read_header(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), DecodeError> {
    let start = out.len();
    out.extend_from_slice(b"\"\"");
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match (number, value) {
            (1, Value::Bytes(_)) | (2, Value::Fixed64(_)) | (3, Value::Varint(_)) => {
                out.truncate(start);
            }
            _ => continue,
        }
        match value {
            Value::Bytes(text) => write_text(out, text)?,
            Value::Fixed64(bits) => write_number(out, f64::from_bits(bits)),
            Value::Varint(0) => out.extend_from_slice(b"false"),
            _ => out.extend_from_slice(b"true"),
        }
    }
    Ok(())
}
