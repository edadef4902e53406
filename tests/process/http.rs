//! HTTP by hand: bytes out, one parsed answer in.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::server::PATIENCE;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head, as it came.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header field's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection without manners.
pub struct Tcp {
    /// The socket.
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Tcp {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        Self { stream, read: Vec::new() }
    }

    /// Writes; a peer that hung up meanwhile is seen when reading.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Writes byte by byte.
    pub fn trickle(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send(&[*byte]);
        }
    }

    fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(n) => {
                self.read.extend_from_slice(&buffer[..n]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}; so far: {:?}", String::from_utf8_lossy(&self.read)),
        }
    }

    /// Whether anything comes, or has come and was not taken, within a twentieth of a second.
    pub fn hears(&mut self) -> bool {
        let mut byte = [0];
        let brief = Some(std::time::Duration::from_millis(50));
        self.stream.set_read_timeout(brief).expect("a socket option");
        let heard = !self.read.is_empty() || matches!(self.stream.peek(&mut byte), Ok(1));
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        heard
    }

    /// The next `n` bytes, or fewer at the end.
    pub fn take(&mut self, n: usize) -> Vec<u8> {
        while self.read.len() < n && self.more() {}
        let n = n.min(self.read.len());
        self.read.drain(..n).collect()
    }

    /// Whatever comes until the server closes.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.read)
    }

    /// The next head.
    pub fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                return String::from_utf8(self.read.drain(..at + 4).collect())
                    .expect("a head is ASCII");
            }
            assert!(self.more(), "closed within a head: {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// The next answer.
    pub fn answer(&mut self) -> Answer {
        let answer = self.answer_without_body();
        let length = answer.header("content-length").and_then(|text| text.parse().ok());
        let body = self.take(length.unwrap_or(0));
        Answer { body, ..answer }
    }

    /// The next answer, unless the connection ends before it is whole.
    pub fn try_answer(&mut self) -> Option<Answer> {
        while !self.read.windows(4).any(|four| four == b"\r\n\r\n") {
            if !self.more() {
                return None;
            }
        }
        let answer = self.answer_without_body();
        let length = answer.header("content-length").and_then(|text| text.parse().ok());
        let length: usize = length.unwrap_or(0);
        let body = self.take(length);
        (body.len() == length).then_some(Answer { body, ..answer })
    }

    /// The next answer, whose body is not sent (to a HEAD).
    pub fn answer_without_body(&mut self) -> Answer {
        let head = self.head();
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status in {head:?}"));
        Answer { status, head, body: Vec::new() }
    }
}
