//! As much of Redis' protocol as publishing takes.

use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};

/// Appends a command.
pub fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// One who publishes now and then, and waits for the answer.
pub struct Redis(TcpStream);

impl Redis {
    pub fn open(to: SocketAddrV4) -> io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Gives the answer of one line.
    pub fn ask(&mut self, words: &[&[u8]]) -> io::Result<String> {
        let mut out = Vec::new();
        command(&mut out, words);
        self.0.write_all(&out)?;
        let (mut line, mut piece) = (Vec::new(), [0; 256]);
        while !line.ends_with(b"\r\n") {
            match self.0.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                got => line.extend_from_slice(&piece[..got]),
            }
        }
        Ok(String::from_utf8_lossy(&line).trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_list_of_words_with_their_sizes() {
        let mut out = Vec::new();
        command(&mut out, &[b"PUBLISH", b"timeline:1", b"x\r\n"]);
        let want = b"*3\r\n$7\r\nPUBLISH\r\n$10\r\ntimeline:1\r\n$3\r\nx\r\n\r\n";
        assert_eq!(out, want);
    }
}
