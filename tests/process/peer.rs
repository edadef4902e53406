//! WebSocket peers: a proper one (tungstenite) and one that frames by hand.

use std::net::TcpStream;

use tungstenite::{Message, WebSocket};

use crate::http::Tcp;
use crate::server::{APP, PATIENCE, Server};

/// A well-behaved peer.
pub struct Peer {
    socket: WebSocket<TcpStream>,
    /// What the server called it.
    pub greeting: String,
}

impl Peer {
    /// Connects and is greeted.
    pub fn open(server: &Server) -> Self {
        Self::of(server, APP.1)
    }

    /// Connects and speaks this version of the protocol.
    pub fn speaking(server: &Server, version: u8) -> Self {
        Self::connect(server, APP.1, version)
    }

    /// Connects to the app of this key.
    pub fn of(server: &Server, key: &str) -> Self {
        Self::connect(server, key, 7)
    }

    fn connect(server: &Server, key: &str, version: u8) -> Self {
        let stream = TcpStream::connect(server.address).expect("the server accepts");
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        let url = format!("ws://{}/app/{key}?protocol={version}&client=test", server.address);
        let (socket, _) = tungstenite::client(url, stream).expect("the upgrade");
        let mut peer = Self { socket, greeting: String::new() };
        let prefix = if version == 2 { "sockudo" } else { "pusher" };
        peer.greeting = peer.next(&format!("{prefix}:connection_established"));
        peer
    }

    /// Sends a text message.
    pub fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).expect("the server reads");
    }

    /// Subscribes and waits for the answer.
    pub fn subscribe(&mut self, channel: &str) {
        self.say(&format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"}}}}"#));
        self.next("pusher_internal:subscription_succeeded");
    }

    /// The next message of that event; others are skipped.
    pub fn next(&mut self, event: &str) -> String {
        let wanted = format!(r#""event":"{event}""#);
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) if text.contains(&wanted) => return text.to_string(),
                Ok(Message::Close(frame)) => panic!("closed while waiting for {event}: {frame:?}"),
                Ok(_) => {}
                Err(error) => panic!("waiting for {event}: {error}"),
            }
        }
    }

    /// Reads to the end; the close code, if one came.
    pub fn end(mut self) -> Option<u16> {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

/// A peer that frames by hand.
pub struct Rude(pub Tcp);

/// A client's frame: `first` is FIN, RSV and opcode as one byte.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        n @ 0..=125 => bytes.push(0x80 | n as u8),
        n @ 126..=65_535 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    let key = [0x37, 0xfa, 0x21, 0x3d];
    bytes.extend_from_slice(&key);
    bytes.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
    bytes
}

impl Rude {
    /// Connects, upgrades and is greeted.
    pub fn open(server: &Server) -> Self {
        let mut tcp = server.connect();
        tcp.send(handshake(&format!("/app/{}?protocol=7", APP.1)).as_bytes());
        let head = tcp.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        let mut rude = Self(tcp);
        let (first, greeting) = rude.frame().expect("a greeting");
        assert_eq!(first, 0x81);
        assert!(String::from_utf8_lossy(&greeting).contains("connection_established"));
        rude
    }

    /// The server's next frame: its first byte and payload; none at the end.
    pub fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let head = self.0.take(2);
        let [first, second] = head[..] else { return None };
        assert!(second & 0x80 == 0, "a server does not mask");
        let length = match second {
            126 => u16::from_be_bytes(self.0.take(2).try_into().ok()?) as usize,
            127 => u64::from_be_bytes(self.0.take(8).try_into().ok()?) as usize,
            n => n as usize,
        };
        Some((first, self.0.take(length)))
    }

    /// Reads to the end; the close code, if one came.
    pub fn end(&mut self) -> Option<u16> {
        let mut code = None;
        while let Some((first, payload)) = self.frame() {
            if first == 0x88 {
                code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            }
        }
        code
    }
}

/// The handshake of RFC 6455, section 1.3.
pub fn handshake(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}
