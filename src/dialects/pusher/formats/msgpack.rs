//! Frames as MessagePack: an array of fifteen places, nothing where there is nothing.

use super::{DEPTH_MAX, DecodeError, Header, texts, write_bytes, write_json, write_number};
use crate::wire::json::{self, Kind, Raw};
use crate::wire::msgpack::{self, Reader, Value};

/// What stands in which place.
const PLACES: [&str; 15] = [
    "event",
    "channel",
    "data",
    "name",
    "user_id",
    "tags",
    "sequence",
    "conflation_key",
    "message_id",
    "stream_id",
    "serial",
    "idempotency_key",
    "extras",
    "__delta_seq",
    "__conflation_key",
];

/// What stands in which place of extras that are an array.
const EXTRAS_PLACES: [&str; 5] = ["headers", "ephemeral", "idempotencyKey", "echo", "ai"];

/// Appends a frame.
pub fn encode(frame: Raw<'_>, out: &mut Vec<u8>) {
    let mut places: [Option<Raw<'_>>; PLACES.len()] = [None; PLACES.len()];
    for (name, value) in frame.members() {
        if let Some(at) = PLACES.iter().position(|place| *place == name) {
            places[at] = Some(value);
        }
    }
    msgpack::write_array(out, PLACES.len());
    for (place, value) in PLACES.into_iter().zip(places) {
        match (place, value) {
            (_, None) => msgpack::write_nil(out),
            ("data", Some(data)) => write_data(data, out),
            ("tags", Some(tags)) => {
                msgpack::write_map(out, texts(tags).count());
                for (name, value) in texts(tags) {
                    msgpack::write_str(out, &name);
                    msgpack::write_str(out, &value);
                }
            }
            ("extras", Some(extras)) => write_extras(extras, out),
            (_, Some(value)) => write_value(value, out),
        }
    }
}

/// Data says what it is: text, or a text that holds JSON.
fn write_data(data: Raw<'_>, out: &mut Vec<u8>) {
    msgpack::write_array(out, 2);
    match data.as_str() {
        Some(text) => {
            msgpack::write_str(out, "string");
            msgpack::write_str(out, &text);
        }
        None => {
            msgpack::write_str(out, "json");
            msgpack::write_str(out, data.text());
        }
    }
}

fn write_extras(extras: Raw<'_>, out: &mut Vec<u8>) {
    if extras.kind() != Kind::Object {
        return write_value(extras, out);
    }
    msgpack::write_map(out, extras.members().count());
    for (name, value) in extras.members() {
        if name == "headers" && value.kind() == Kind::Object {
            msgpack::write_str(out, &name);
            msgpack::write_map(out, value.members().count());
            for (name, value) in value.members() {
                msgpack::write_str(out, &name);
                write_header(Header::of(value), out);
            }
            continue;
        }
        let name = if name == "idempotencyKey" { "idempotency_key" } else { &*name };
        msgpack::write_str(out, name);
        write_value(value, out);
    }
}

/// A header's value says what it is.
fn write_header(value: Header<'_>, out: &mut Vec<u8>) {
    msgpack::write_array(out, 2);
    match value {
        Header::Text(text) => {
            msgpack::write_str(out, "string");
            msgpack::write_str(out, &text);
        }
        Header::Number(number) => {
            msgpack::write_str(out, "number");
            msgpack::write_f64(out, number);
        }
        Header::Bool(value) => {
            msgpack::write_str(out, "bool");
            msgpack::write_bool(out, value);
        }
    }
}

/// Any value. It was read as JSON, so it nests no deeper than JSON may.
fn write_value(value: Raw<'_>, out: &mut Vec<u8>) {
    match value.kind() {
        Kind::Null => msgpack::write_nil(out),
        Kind::Bool => msgpack::write_bool(out, value.as_bool().unwrap_or_default()),
        Kind::Number => match (value.as_u64(), value.as_i64()) {
            (Some(number), _) => msgpack::write_u64(out, number),
            (None, Some(number)) => msgpack::write_i64(out, number),
            (None, None) => msgpack::write_f64(out, value.as_f64().unwrap_or_default()),
        },
        Kind::String => msgpack::write_str(out, &value.as_str().unwrap_or_default()),
        Kind::Array => {
            msgpack::write_array(out, value.items().count());
            value.items().for_each(|it| write_value(it, out));
        }
        Kind::Object => {
            msgpack::write_map(out, value.members().count());
            for (name, value) in value.members() {
                msgpack::write_str(out, &name);
                write_value(value, out);
            }
        }
    }
}

/// Reads a message: an array of places, or a map of them by name.
pub fn decode(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut out = b"{".to_vec();
    match reader.read()? {
        Value::Array(length) => {
            for at in 0..length {
                place(PLACES.get(at as usize).copied(), &mut reader, &mut out)?;
            }
        }
        Value::Map(length) => {
            for _ in 0..length {
                let Value::Str(name) = reader.read()? else { return Err(DecodeError::Key) };
                let name = PLACES.into_iter().find(|it| *it == name);
                place(name, &mut reader, &mut out)?;
            }
        }
        _ => return Err(DecodeError::NotAnEnvelope),
    }
    if !reader.is_empty() {
        return Err(DecodeError::Trailing);
    }
    out.push(b'}');
    Ok(out)
}

/// Reads one place's value and appends it as a member; one that is nothing, or of a place that is none, is passed over.
fn place(
    name: Option<&str>,
    reader: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let before = out.len();
    if before > 1 {
        out.push(b',');
    }
    json::write_str(out, name.unwrap_or_default());
    out.push(b':');
    let mut ahead = *reader;
    let is_nil = ahead.read()? == Value::Nil;
    match name {
        Some("data") => read_tagged(reader, 1, out)?,
        Some("extras") => read_extras(reader, out)?,
        _ => read_value(reader, 1, out)?,
    }
    if is_nil || name.is_none() {
        out.truncate(before);
    }
    Ok(())
}

/// Reads a value that may say what it is: two places, a word and then the value.
fn read_tagged(
    reader: &mut Reader<'_>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let mut ahead = *reader;
    let tag = match (ahead.read()?, ahead.read()) {
        (Value::Array(2), Ok(Value::Str(tag))) => tag,
        _ => return read_value(reader, depth, out),
    };
    match tag {
        "string" | "number" | "bool" | "binary" => read_value(&mut ahead, depth + 1, out)?,
        "json" => match ahead.read()? {
            Value::Str(text) => write_json(out, text),
            _ => return read_value(reader, depth, out),
        },
        "structured" => read_structured(&mut ahead, depth + 1, out)?,
        _ => return read_value(reader, depth, out),
    }
    *reader = ahead;
    Ok(())
}

/// Reads the data of a subscribe or a sign-in as some clients write it: three members by place, then the others, each a
/// text that holds JSON; or all of them by name.
fn read_structured(
    reader: &mut Reader<'_>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let mut ahead = *reader;
    let Value::Array(length) = ahead.read()? else { return read_value(reader, depth, out) };
    let start = out.len();
    out.push(b'{');
    for at in 0..length {
        let name = ["channel_data", "channel", "user_data"].get(at as usize);
        let mut value = ahead;
        match (name, value.read()?) {
            (_, Value::Nil) => ahead = value,
            (Some(name), _) => {
                separate(start, out);
                json::write_str(out, name);
                out.push(b':');
                read_value(&mut ahead, depth, out)?;
            }
            (None, Value::Map(length)) => {
                ahead = value;
                for _ in 0..length {
                    let Value::Str(name) = ahead.read()? else { return Err(DecodeError::Key) };
                    separate(start, out);
                    json::write_str(out, name);
                    out.push(b':');
                    let mut value = ahead;
                    match value.read()? {
                        Value::Str(text) => {
                            write_json(out, text);
                            ahead = value;
                        }
                        _ => read_value(&mut ahead, depth, out)?,
                    }
                }
            }
            (None, _) => read_value(&mut ahead, depth, &mut Vec::new())?,
        }
    }
    out.push(b'}');
    *reader = ahead;
    Ok(())
}

/// A comma, unless nothing came since the bracket at `start`.
fn separate(start: usize, out: &mut Vec<u8>) {
    if out.len() > start + 1 {
        out.push(b',');
    }
}

/// Reads extras: a map, or an array of places. What stands in them may say what it is.
fn read_extras(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let mut ahead = *reader;
    let Value::Array(length) = ahead.read()? else { return read_nested(reader, 1, true, out) };
    let start = out.len();
    out.push(b'{');
    for at in 0..length {
        let before = out.len();
        let name = EXTRAS_PLACES.get(at as usize);
        separate(start, out);
        json::write_str(out, name.copied().unwrap_or_default());
        out.push(b':');
        let mut value = ahead;
        let is_nil = value.read()? == Value::Nil;
        read_nested(&mut ahead, 2, true, out)?;
        if is_nil || name.is_none() {
            out.truncate(before);
        }
    }
    out.push(b'}');
    *reader = ahead;
    Ok(())
}

/// Reads any value as it stands.
fn read_value(reader: &mut Reader<'_>, depth: usize, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    read_nested(reader, depth, false, out)
}

/// Reads any value; `is_tagged`: those in it may say what they are.
fn read_nested(
    reader: &mut Reader<'_>,
    depth: usize,
    is_tagged: bool,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    if depth > DEPTH_MAX {
        return Err(DecodeError::TooDeep);
    }
    let read = |reader: &mut Reader<'_>, out: &mut Vec<u8>| {
        if is_tagged && is_tag(*reader) {
            read_tagged(reader, depth + 1, out)
        } else {
            read_nested(reader, depth + 1, is_tagged, out)
        }
    };
    match reader.read()? {
        Value::Nil => out.extend_from_slice(b"null"),
        Value::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Value::Unsigned(number) => crate::wire::write_decimal(out, number),
        Value::Signed(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Float(number) => write_number(out, number),
        Value::Str(text) => json::write_str(out, text),
        Value::Bin(bytes) => write_bytes(out, bytes),
        Value::Array(length) => {
            out.push(b'[');
            for i in 0..length {
                if i > 0 {
                    out.push(b',');
                }
                read(reader, out)?;
            }
            out.push(b']');
        }
        Value::Map(length) => {
            out.push(b'{');
            for i in 0..length {
                if i > 0 {
                    out.push(b',');
                }
                let Value::Str(name) = reader.read()? else { return Err(DecodeError::Key) };
                // What JSON calls it.
                let is_key = is_tagged && depth == 1 && name == "idempotency_key";
                json::write_str(out, if is_key { "idempotencyKey" } else { name });
                out.push(b':');
                read(reader, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn is_tag(mut reader: Reader<'_>) -> bool {
    matches!(reader.read(), Ok(Value::Array(2)))
        && matches!(reader.read(), Ok(Value::Str("string" | "number" | "bool")))
}
