//! tungstenite as the other end: an implementation that shares nothing with ours.

use std::io::{self, Read, Write};

use tungstenite::protocol::{Role as TheirRole, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use super::client::{self, Opened};
use super::encode::{
    Builder, Compression, close_frame, masked_close_frame, masked_frame, ping_frame, pong_frame,
    text_frame,
};
use super::handshake::write_accept;
use super::{Decoder, Opcode, Role, Step};
use crate::base::prng::Prng;
use crate::wire::http::{HeadLimits, HeadScan, Progress, parse_head};

/// A connection in memory, seen from tungstenite's end; `answer` is asked when it reads and nothing is there.
struct Wire<F> {
    to_them: Vec<u8>,
    from_them: Vec<u8>,
    answer: F,
}

impl<F: FnMut(&mut Vec<u8>) -> Vec<u8>> Read for Wire<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.to_them.is_empty() {
            self.to_them = (self.answer)(&mut self.from_them);
        }
        if self.to_them.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = out.len().min(self.to_them.len());
        out[..len].copy_from_slice(&self.to_them[..len]);
        self.to_them.drain(..len);
        Ok(len)
    }
}

impl<F> Write for Wire<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.from_them.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One that has nothing more to say.
type Silent = fn(&mut Vec<u8>) -> Vec<u8>;

fn silent(_: &mut Vec<u8>) -> Vec<u8> {
    Vec::new()
}

fn wire(to_them: Vec<u8>) -> Wire<Silent> {
    Wire { to_them, from_them: Vec::new(), answer: silent }
}

/// What we hear in `bytes`, in tungstenite's words.
fn hear(bytes: &mut [u8], role: Role) -> Vec<Message> {
    let (mut decoder, mut assembly, mut heard) =
        (Decoder::new(role, 1 << 20, false), Vec::new(), Vec::new());
    // In two pieces, so that both ways of putting a message together are used.
    let (first, second) = bytes.split_at_mut(bytes.len() / 2);
    for mut input in [first, second] {
        loop {
            heard.push(match decoder.next(&mut input, &mut assembly).unwrap() {
                Step::NeedMore => break,
                Step::Text(text) => Message::text(text),
                Step::Binary(bytes) => Message::binary(bytes.to_vec()),
                Step::Ping(bytes) => Message::Ping(bytes.to_vec().into()),
                Step::Pong(bytes) => Message::Pong(bytes.to_vec().into()),
                Step::Close { .. } => Message::Close(None),
                Step::Deflated(..) => panic!("nothing was compressed"),
            });
        }
    }
    heard
}

fn messages(prng: &mut Prng) -> Vec<Message> {
    let lens = [0, 1, 125, 126, 127, 1000, 65535, 65536, 100_000];
    let mut messages = Vec::new();
    for len in lens {
        let text: String = "aé€😀".chars().cycle().take(len / 3).collect();
        messages.push(Message::text(text));
        let bytes: Vec<u8> = (0..len).map(|_| prng.next_u32() as u8).collect();
        messages.push(Message::Ping(bytes[..len.min(125)].to_vec().into()));
        messages.push(Message::Pong(bytes[..len.min(3)].to_vec().into()));
        messages.push(Message::binary(bytes));
    }
    messages
}

#[test]
fn we_hear_what_tungstenite_says() {
    for (theirs, ours) in [(TheirRole::Client, Role::Server), (TheirRole::Server, Role::Client)] {
        let sent = messages(&mut Prng::new(1));
        let mut socket = WebSocket::from_raw_socket(wire(Vec::new()), theirs, None);
        for message in &sent {
            socket.send(message.clone()).unwrap();
        }
        socket.close(None).unwrap();
        let mut heard = hear(&mut socket.get_mut().from_them, ours);
        assert!(heard.pop().is_some_and(|last| last.is_close()));
        assert_eq!(heard, sent);
    }
}

#[test]
fn tungstenite_hears_what_we_say() {
    let key = [0x12, 0x34, 0x56, 0x78];
    for (theirs, masked) in [(TheirRole::Client, false), (TheirRole::Server, true)] {
        let sent = messages(&mut Prng::new(2));
        let mut bytes = Vec::new();
        for message in &sent {
            let (opcode, payload) = match message {
                Message::Text(text) => (Opcode::Text, text.as_bytes()),
                Message::Binary(bytes) => (Opcode::Binary, &bytes[..]),
                Message::Ping(bytes) => (Opcode::Ping, &bytes[..]),
                Message::Pong(bytes) => (Opcode::Pong, &bytes[..]),
                _ => unreachable!(),
            };
            bytes.extend(match (masked, opcode) {
                (true, _) => masked_frame(opcode, Compression::Plain, payload, key),
                (_, Opcode::Text) => text_frame(payload),
                (_, Opcode::Ping) => ping_frame(payload),
                (_, Opcode::Pong) => pong_frame(payload),
                _ => {
                    let mut builder = Builder::with_capacity(0);
                    builder.payload().extend_from_slice(payload);
                    builder.finish(opcode, Compression::Plain).to_vec()
                }
            });
        }
        bytes.extend(if masked {
            masked_close_frame(4200, "again", key)
        } else {
            close_frame(4200, "again")
        });
        let mut socket =
            WebSocket::from_raw_socket(wire(bytes), theirs, Some(WebSocketConfig::default()));
        for message in &sent {
            assert_eq!(&socket.read().unwrap(), message);
        }
        let Message::Close(Some(close)) = socket.read().unwrap() else { panic!("no close frame") };
        assert_eq!((u16::from(close.code), &*close.reason), (4200, "again"));
    }
}

#[test]
fn handshakes_meet() {
    // Their client, our server.
    let answer = |from_them: &mut Vec<u8>| {
        let request = std::mem::take(from_them);
        let limits =
            HeadLimits { target_bytes_max: 100, head_bytes_max: 1000, head_fields_max: 10 };
        let mut fields = Vec::new();
        let Ok(Progress::Complete(head)) =
            parse_head(&request, &mut HeadScan::default(), &limits, &mut fields)
        else {
            panic!("refused: {}", String::from_utf8_lossy(&request))
        };
        let mut out = Vec::new();
        write_accept(&mut out, &head.websocket.unwrap().unwrap(), None, None, [("X", "y")]);
        out.extend(text_frame(b"hi"));
        out
    };
    let wire_to_us = Wire { to_them: Vec::new(), from_them: Vec::new(), answer };
    let Ok((mut socket, response)) =
        tungstenite::client("ws://localhost/app?protocol=7", wire_to_us)
    else {
        panic!("no handshake")
    };
    assert_eq!(response.headers()["x"], "y");
    assert_eq!(socket.read().unwrap(), Message::text("hi"));

    // Our client, their server.
    let (mut request, key) = (Vec::new(), client::key([5; 16]));
    client::write_request(&mut request, "localhost", "/app", &key, false, []);
    let Ok(mut socket) = tungstenite::accept(wire(request)) else { panic!("no handshake") };
    let answer = std::mem::take(&mut socket.get_mut().from_them);
    assert_eq!(
        client::parse_accept(&answer, &key),
        Ok(Some(Opened { len: answer.len(), deflate: false }))
    );
}
