//! A WebSocket client that reads every message as JSON.

use ringmain::reactor::sim::SimClient;
use ringmain::wire::websocket::encode::{Compression, masked_frame};
use ringmain::wire::websocket::{Decoder, Opcode, Role, Step};
use serde_json::Value;

use crate::universe::Universe;

/// One WebSocket connection.
pub struct Link {
    pub socket: SimClient,
    /// What its user remembers of it.
    pub is_subscribed: bool,
    decoder: Decoder,
    assembly: Vec<u8>,
    head: Vec<u8>,
    is_open: bool,
}

impl Link {
    /// Asks for a WebSocket.
    pub fn open(universe: &Universe, target: &str) -> Self {
        let socket = universe.connect();
        socket.send(
            format!(
                "GET {target} HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            .as_bytes(),
        );
        Self {
            socket,
            is_subscribed: false,
            decoder: Decoder::new(Role::Client, 1 << 20, false),
            assembly: Vec::new(),
            head: Vec::new(),
            is_open: false,
        }
    }

    /// Sends a message.
    pub fn say(&self, message: &Value) {
        let text = message.to_string();
        let frame = masked_frame(Opcode::Text, Compression::Plain, text.as_bytes(), [7; 4]);
        self.socket.send(&frame);
    }

    /// What came since the last time.
    pub fn messages(&mut self) -> Vec<Value> {
        let mut bytes = self.socket.received();
        if !self.is_open {
            self.head.extend_from_slice(&bytes);
            let end = self.head.windows(4).position(|it| it == b"\r\n\r\n");
            let Some(end) = end else { return Vec::new() };
            assert!(self.head.starts_with(b"HTTP/1.1 101 "), "every handshake is taken");
            self.is_open = true;
            bytes = self.head.split_off(end + 4);
        }
        let (mut input, mut messages) = (&mut bytes[..], Vec::new());
        loop {
            match self.decoder.next(&mut input, &mut self.assembly) {
                Ok(Step::NeedMore) => return messages,
                Ok(Step::Text(text)) => messages.push(serde_json::from_str(text).expect("JSON")),
                Ok(Step::Ping(_)) => {}
                other => panic!("nobody sends {other:?}"),
            }
        }
    }
}
