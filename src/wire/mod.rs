//! Bytes to values and values to bytes: HTTP/1.1, WebSocket, server-sent events, JSON, MessagePack, Protobuf, RESP.
//!
//! Everything here is sans-io: it is handed bytes and appends to buffers the caller owns. It never
//! opens a socket, reads a clock or keeps a connection. "Not enough bytes yet" is progress, not an
//! error; errors know the status or close code that the peer is told. Read [`http::head`] first,
//! then [`websocket::decode`].

pub mod base64;
pub mod delta;
pub mod http;
pub mod json;
pub mod msgpack;
pub mod protobuf;
pub mod resp;
pub mod sse;
pub mod websocket;

/// Appends a number's digits.
pub fn write_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written() {
        for number in [0, 9, 10, 12345, u64::MAX] {
            let mut out = Vec::new();
            write_decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
