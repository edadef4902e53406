//! One who asks and waits for the answer: a WebSocket, or a keep-alive connection for requests.

use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

use crate::wire;

const PATIENCE: Duration = Duration::from_secs(20);
const PIECE_BYTES: usize = 64 << 10;

fn connect(to: SocketAddrV4) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Reads more behind what is held.
fn read_on(stream: &mut TcpStream, held: &mut Vec<u8>) -> io::Result<()> {
    let start = held.len();
    held.resize(start + PIECE_BYTES, 0);
    let got = stream.read(&mut held[start..])?;
    held.truncate(start + got);
    if got == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Requests, one after the other.
pub struct Http {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Http {
    pub fn open(to: SocketAddrV4) -> io::Result<Self> {
        Ok(Self { stream: connect(to)?, held: Vec::new() })
    }

    /// Sends a whole request and gives the body of the answer, which must be a success.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<String> {
        self.stream.write_all(request)?;
        loop {
            if let Some(answer) = wire::request(&self.held) {
                let body = String::from_utf8_lossy(answer.body).into_owned();
                let is_good = answer.head.starts_with(b"HTTP/1.1 20");
                let (head, len) = (String::from_utf8_lossy(answer.head).into_owned(), answer.len);
                self.held.drain(..len);
                let refused = || io::Error::other(format!("{head}{body}"));
                return if is_good { Ok(body) } else { Err(refused()) };
            }
            read_on(&mut self.stream, &mut self.held)?;
        }
    }
}

/// A WebSocket.
pub struct Socket {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Socket {
    /// Opens one, and gives the first text.
    pub fn open(to: SocketAddrV4, target: &str) -> io::Result<(Self, String)> {
        let mut stream = connect(to)?;
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut held = Vec::new();
        let head = loop {
            if let Some(end) = wire::find(&held, b"\r\n\r\n") {
                break end + 4;
            }
            read_on(&mut stream, &mut held)?;
        };
        if !held.starts_with(b"HTTP/1.1 101") {
            return Err(io::Error::other(String::from_utf8_lossy(&held).into_owned()));
        }
        held.drain(..head);
        let mut socket = Self { stream, held };
        let first = socket.hear()?;
        Ok((socket, first))
    }

    /// Sends texts, all at once.
    pub fn say(&mut self, texts: &[String]) -> io::Result<()> {
        let frames: Vec<u8> =
            texts.iter().flat_map(|it| wire::masked_frame(1, it.as_bytes())).collect();
        self.stream.write_all(&frames)
    }

    /// The next text; pings are answered meanwhile.
    pub fn hear(&mut self) -> io::Result<String> {
        loop {
            let Some((first, start, len)) = frame(&self.held) else {
                read_on(&mut self.stream, &mut self.held)?;
                continue;
            };
            let payload: Vec<u8> = self.held.drain(..start + len).skip(start).collect();
            match first & 15 {
                1 => return Ok(String::from_utf8_lossy(&payload).into_owned()),
                9 => self.stream.write_all(&wire::masked_frame(10, &payload))?,
                8 => return Err(io::Error::other("the server closed")),
                _ => {}
            }
        }
    }
}

/// The first whole frame: its first byte, where its payload starts, and how long that is.
fn frame(held: &[u8]) -> Option<(u8, usize, usize)> {
    let (&first, &second) = (held.first()?, held.get(1)?);
    let (start, len) = match second {
        126 => (4, usize::from(u16::from_be_bytes(held.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(held.get(2..10)?.try_into().ok()?) as usize),
        len => (2, usize::from(len)),
    };
    held.get(start..start + len).map(|_| (first, start, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_when_it_is_whole() {
        let bytes = wire::text_frame(&[b'x'; 300]);
        for cut in 0..bytes.len() {
            assert_eq!(frame(&bytes[..cut]), None);
        }
        assert_eq!(frame(&bytes), Some((0x81, 4, 300)));
    }
}
