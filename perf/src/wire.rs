//! The least of HTTP, WebSocket and Pusher that the comparison servers need to carry the generator's load.
//!
//! None of it validates. It trusts the generator, so that what is compared is the input and output.

use sha1::{Digest, Sha1};

/// A whole request at the start of a buffer.
pub struct Request<'a> {
    /// Bytes of head and body together.
    pub len: usize,
    pub head: &'a [u8],
    pub body: &'a [u8],
}

pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

/// The value of a header whose name is given in lower case with its colon.
fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let line = std::str::from_utf8(line).ok()?;
        let (start, value) = line.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The first request in `bytes`, once it is whole.
pub fn request(bytes: &[u8]) -> Option<Request<'_>> {
    let head_len = find(bytes, b"\r\n\r\n")? + 4;
    let head = &bytes[..head_len];
    let body_len = header(head, "content-length:").and_then(|v| v.parse().ok()).unwrap_or(0);
    let body = bytes.get(head_len..head_len + body_len)?;
    Some(Request { len: head_len + body_len, head, body })
}

/// The whole answer to an upgrade, without the frame that follows it; `None` if `head` asks for none.
pub fn upgrade(head: &[u8]) -> Option<String> {
    let key = header(head, "sec-websocket-key:")?;
    let mut digest = Sha1::new();
    digest.update(key.as_bytes());
    digest.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    Some(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        base64(&digest.finalize())
    ))
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut word = 0u32;
        for at in 0..3 {
            word = word << 8 | u32::from(*group.get(at).unwrap_or(&0));
        }
        for at in 0..4 {
            let sign = SIGNS[(word >> (18 - 6 * at)) as usize & 63] as char;
            text.push(if at <= group.len() { sign } else { '=' });
        }
    }
    text
}

/// Where the first chunk in `bytes` starts, and how long it is, once its size line is whole.
pub fn chunk(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut len = 0usize;
    for (at, byte) in bytes.iter().enumerate().take(16) {
        match byte {
            b'\r' => return (bytes.get(at + 1) == Some(&b'\n')).then_some((at + 2, len)),
            digit => len = len << 4 | (char::from(*digit).to_digit(16)? as usize),
        }
    }
    None
}

/// The answer to an accepted publish.
pub const OK: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// `pusher:connection_established`, as text.
pub const ESTABLISHED: &str = r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1.1\",\"activity_timeout\":120}"}"#;

/// The answer to a subscribe, as text.
pub fn succeeded(channel: &str) -> String {
    format!(
        r#"{{"event":"pusher_internal:subscription_succeeded","channel":"{channel}","data":"{{}}"}}"#
    )
}

/// The channel a `pusher:subscribe` names.
pub fn subscribed(text: &[u8]) -> Option<&str> {
    find(text, b"pusher:subscribe")?;
    let rest = &text[find(text, b"\"channel\":\"")? + 11..];
    std::str::from_utf8(&rest[..find(rest, b"\"")?]).ok()
}

/// The events of a publish or a batch as the generator spells them: channel, and payload as JSON.
pub fn events(body: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let channel = &rest[find(rest, b"\"channel\":\"")? + 11..];
        let (name, after) = channel.split_at(find(channel, b"\"")?);
        let payload = &after[find(after, b"\"data\":")? + 7..];
        let end = 1 + payload.get(1..)?.iter().position(|byte| *byte == b'"')? + 1;
        rest = &payload[end..];
        Some((std::str::from_utf8(name).ok()?, &payload[..end]))
    })
}

/// The text a subscriber gets.
pub fn rendered(channel: &str, payload: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(payload.len() + channel.len() + 40);
    text.extend_from_slice(br#"{"event":"e","channel":""#);
    text.extend_from_slice(channel.as_bytes());
    text.extend_from_slice(br#"","data":"#);
    text.extend_from_slice(payload);
    text.push(b'}');
    text
}

/// A whole unmasked text frame.
pub fn text_frame(text: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(text.len() + 10);
    frame.push(0x81);
    match text.len() {
        len @ 0..=125 => frame.push(len as u8),
        len @ 126..=65_535 => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(text);
    frame
}

/// A whole masked text frame, as a client sends it.
pub fn masked_frame(opcode: u8, text: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = Vec::with_capacity(text.len() + 14);
    frame.push(0x80 | opcode);
    if text.len() <= 125 {
        frame.push(0x80 | text.len() as u8);
    } else {
        assert!(text.len() <= 65_535, "the generator sends short messages");
        frame.push(0x80 | 126);
        frame.extend_from_slice(&(text.len() as u16).to_be_bytes());
    }
    frame.extend_from_slice(&KEY);
    frame.extend(text.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// The first masked frame in `bytes`, once it is whole: its length, opcode and plain payload.
pub fn client_frame(bytes: &[u8]) -> Option<(usize, u8, Vec<u8>)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (start, len) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => return None,
        len => (2, usize::from(len)),
    };
    let key: [u8; 4] = bytes.get(start..start + 4)?.try_into().ok()?;
    let masked = bytes.get(start + 4..start + 4 + len)?;
    let plain = masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Some((start + 4 + len, first & 0x0f, plain))
}

/// What the bytes of one connection ask for; the same for every raw comparison server.
pub enum Asked {
    /// Send these bytes back.
    Reply(Vec<u8>),
    /// The connection joined a channel; send these bytes back.
    Subscribe(String, Vec<u8>),
    /// Hand these frames to the subscribers of their channels, then answer with [`OK`].
    Publish(Vec<(String, Vec<u8>)>),
    /// The peer said goodbye.
    Close,
}

/// The input side of one connection.
#[derive(Default)]
pub struct Peer {
    websocket: bool,
    held: Vec<u8>,
}

impl Peer {
    /// Takes what was received and appends what it asks for.
    pub fn handle(&mut self, bytes: &[u8], out: &mut Vec<Asked>) {
        self.held.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            if self.websocket {
                let Some((len, opcode, text)) = client_frame(&self.held[at..]) else { break };
                at += len;
                match opcode {
                    8 => out.push(Asked::Close),
                    _ => {
                        if let Some(channel) = subscribed(&text) {
                            let reply = text_frame(succeeded(channel).as_bytes());
                            out.push(Asked::Subscribe(channel.to_owned(), reply));
                        }
                    }
                }
                continue;
            }
            let Some(request) = request(&self.held[at..]) else { break };
            if let Some(head) = upgrade(request.head) {
                self.websocket = true;
                let mut reply = head.into_bytes();
                reply.extend(text_frame(ESTABLISHED.as_bytes()));
                out.push(Asked::Reply(reply));
            } else {
                let frames = events(request.body)
                    .map(|(channel, payload)| {
                        (channel.to_owned(), text_frame(&rendered(channel, payload)))
                    })
                    .collect();
                out.push(Asked::Publish(frames));
            }
            at += request.len;
        }
        self.held.drain(..at);
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }
}

/// `--listen ADDR` from the command line, 127.0.0.1:0 without it.
pub fn listen_argument() -> String {
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--listen"
            && let Some(address) = words.next()
        {
            return address;
        }
    }
    "127.0.0.1:0".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn the_accept_key_is_the_one_in_the_rfc() {
        let head = b"GET / HTTP/1.1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        assert!(upgrade(head).unwrap().contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn chunks_are_found_by_their_sizes() {
        for (bytes, want) in [
            (&b"3\r\n:)\n\r\n"[..], Some((3, 3))),
            (b"0af0\r\n", Some((6, 0xaf0))),
            (b"0\r\n\r\n", Some((3, 0))),
            (b"12", None),
            (b"12\r", None),
            (b"", None),
        ] {
            assert_eq!(chunk(bytes), want, "{bytes:?}");
        }
    }

    #[test]
    fn a_batch_yields_every_event() {
        let body = br#"{"batch":[{"name":"e","channel":"a","data":"1"},{"name":"e","channel":"b","data":"22"}]}"#;
        let got: Vec<_> = events(body).collect();
        assert_eq!(got, [("a", &b"\"1\""[..]), ("b", &b"\"22\""[..])]);
    }

    #[test]
    fn a_masked_frame_comes_back_plain_wherever_it_is_cut() {
        let frame = masked_frame(1, br#"{"event":"pusher:subscribe","data":{"channel":"c"}}"#);
        for cut in 0..frame.len() {
            assert!(client_frame(&frame[..cut]).is_none());
        }
        let (len, opcode, text) = client_frame(&frame).unwrap();
        assert_eq!((len, opcode, subscribed(&text)), (frame.len(), 1, Some("c")));
    }
}
