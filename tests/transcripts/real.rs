//! The real binary, one shard, over real sockets.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringmain::base::time::{Millis, UnixMillis};
use ringmain::wire::http::Chunked;
use ringmain::wire::http::chunked::ChunkProgress;
use tungstenite::error::ProtocolError;
use tungstenite::{Error, Message, WebSocket};

use crate::script::{self, Answer, Heard, Lines, World};
use crate::simulated::{answer_of, is_stream};

/// How long an expected message may take; only a failing transcript waits that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a ping says that is sent to hear, by its pong, that everything before it was acted on.
const FENCE: &str = "fence";

/// A running server and the peers of one transcript.
pub struct Real {
    server: Child,
    directory: PathBuf,
    address: SocketAddr,
    peers: BTreeMap<String, Peer>,
    streams: BTreeMap<String, Stream>,
}

/// An event stream, read by a client of its own.
struct Stream {
    socket: TcpStream,
    /// None: it comes as it stands.
    chunked: Option<Chunked>,
    lines: Lines,
    heard: VecDeque<Heard>,
    has_ended: bool,
}

impl Stream {
    /// Reads until something came.
    fn read(&mut self) -> Option<Heard> {
        while self.heard.is_empty() && !self.has_ended {
            let mut bytes = [0; 4096];
            // A time-out is nothing that came; a transcript that expected something fails.
            let read = self.socket.read(&mut bytes).ok()?;
            let mut piece = Vec::new();
            match &mut self.chunked {
                None => piece.extend_from_slice(&bytes[..read]),
                Some(_) if read == 0 => panic!("the stream ended within"),
                Some(chunked) => {
                    let progress = chunked.read(&bytes[..read], &mut piece, usize::MAX);
                    let progress = progress.expect("chunks are well-formed");
                    self.has_ended = matches!(progress, ChunkProgress::Done { .. });
                }
            }
            self.has_ended |= read == 0;
            self.heard.extend(self.lines.take(&piece));
            if self.has_ended {
                self.heard.push_back(self.lines.end());
            }
        }
        self.heard.pop_front()
    }
}

struct Peer {
    socket: WebSocket<TcpStream>,
    heard: VecDeque<Heard>,
    is_open: bool,
    /// Something was sent that may not have been read yet.
    is_ahead: bool,
}

impl Real {
    /// Starts the binary with a transcript's configuration.
    pub fn start(name: &str, text: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("ringmain-transcript-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory can be made");
        let mut lines: Vec<String> =
            text.lines().filter_map(|line| line.strip_prefix("| ")).map(str::to_owned).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmain"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--data"])
            .arg(&directory);
        let consulted = script::consulted(text);
        let application = (!consulted.is_empty()).then(|| application(consulted));
        if let Some(address) = application {
            // The port is not known when the transcript is written.
            let url = format!("url = \"http://{address}/\"");
            lines
                .iter_mut()
                .for_each(|line| *line = line.replace("url = \"http://consult/\"", &url));
        }
        if !lines.is_empty() {
            let file = directory.join("ringmain.toml");
            std::fs::write(&file, lines.join("\n")).expect("a file can be written");
            command.arg("--config").arg(file);
        }
        let mut server = command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary was built for this test");
        let banner = BufReader::new(server.stdout.take().expect("it was asked for"));
        let address = banner.lines().map_while(Result::ok).find_map(|line| {
            let at = line.find("127.0.0.1:")?;
            let end = line[at + 10..].find(|it: char| !it.is_ascii_digit());
            let end = end.map_or(line.len(), |it| at + 10 + it);
            line[at..end].parse().ok().filter(|it: &SocketAddr| it.port() > 0)
        });
        let address = address.expect("the banner names the address");
        Self { server, directory, address, peers: BTreeMap::new(), streams: BTreeMap::new() }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        stream.set_nodelay(true).expect("it can be set");
        stream
    }

    /// Waits until everything the peers have sent was acted on.
    fn catch_up(&mut self) {
        self.peers.values_mut().filter(|peer| peer.is_ahead).for_each(Peer::fence);
    }
}

/// Reads the head of an answer, byte by byte: what follows it is read otherwise.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a whole head comes");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("a head is text")
}

/// The answer with this head.
fn read_rest(stream: &mut TcpStream, mut head: String) -> Answer {
    let length = answer_of(&head).headers.into_iter();
    let length = length.rev().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|(_, it)| it.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a whole answer comes");
    head += std::str::from_utf8(&body).expect("answers are text");
    answer_of(&head)
}

/// Starts an application that answers questions about tokens; it ends with the process.
fn application(consulted: HashMap<String, (u16, String)>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let mut length = 0;
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("the whole question comes");
            let question = String::from_utf8(body).expect("a question is text");
            let (status, body) = script::consult(&consulted, &question).expect("it answers");
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
            );
            let mut stream = reader.into_inner();
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    address
}

impl Peer {
    /// Reads one message.
    fn read(&mut self) -> Option<Heard> {
        if !self.is_open {
            return None;
        }
        let heard = match self.socket.read() {
            Ok(Message::Text(text)) => return Some(Heard::Text(text.as_str().to_owned())),
            Ok(Message::Binary(bytes)) => return Some(Heard::Binary(bytes.to_vec())),
            Ok(Message::Close(Some(frame))) => {
                Some(Heard::Closed(frame.code.into(), frame.reason.as_str().to_owned()))
            }
            Ok(Message::Close(None)) => Some(Heard::Closed(1005, String::new())),
            Ok(Message::Pong(_)) => return Some(Heard::Text(FENCE.to_owned())),
            Ok(other) => panic!("nothing here sends {other:?}"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Some(Heard::Cut),
            Err(_) => None,
        };
        self.is_open = false;
        // The answer to the close frame.
        let _ = self.socket.flush();
        heard
    }

    /// Sends a ping and keeps what comes before its answer.
    fn fence(&mut self) {
        self.is_ahead = false;
        if self.is_open && self.socket.send(Message::Ping(FENCE.into())).is_err() {
            self.is_open = false;
        }
        while let Some(heard) = self.read() {
            if heard == Heard::Text(FENCE.into()) {
                return;
            }
            self.heard.push_back(heard);
        }
    }
}

impl World for Real {
    fn open(
        &mut self,
        peer: &str,
        target: &str,
        headers: &[(String, String)],
    ) -> Result<Option<String>, Answer> {
        self.catch_up();
        let mut stream = self.connect();
        let fields: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let host = self.address;
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{fields}\r\n"
        );
        stream.write_all(request.as_bytes()).expect("it is open");
        let head = read_head(&mut stream);
        if !head.starts_with("HTTP/1.1 101 ") {
            return Err(read_rest(&mut stream, head));
        }
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        let socket = WebSocket::from_raw_socket(stream, tungstenite::protocol::Role::Client, None);
        let mut opened = Peer { socket, heard: VecDeque::new(), is_open: true, is_ahead: false };
        // Only Pusher greets.
        let first = if target.starts_with("/app/") { opened.read() } else { None };
        let socket_id = first.as_ref().and_then(script::greeted);
        opened.heard.extend(first);
        self.peers.insert(peer.into(), opened);
        Ok(socket_id)
    }

    fn stream(
        &mut self,
        peer: &str,
        target: &str,
        headers: &[(String, String)],
        takes_chunks: bool,
    ) -> Result<Answer, Answer> {
        self.catch_up();
        let mut socket = self.connect();
        let fields: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (host, version) = (self.address, if takes_chunks { "1.1" } else { "1.0" });
        let request = format!("GET {target} HTTP/{version}\r\nHost: {host}\r\n{fields}\r\n");
        socket.write_all(request.as_bytes()).expect("it is open");
        let head = read_head(&mut socket);
        let answer = answer_of(&head);
        if !is_stream(&answer) {
            return Err(read_rest(&mut socket, head));
        }
        let chunked = head.contains("Transfer-Encoding: chunked").then(Chunked::new);
        assert_eq!(chunked.is_some(), takes_chunks, "{head}");
        let (lines, heard) = (Lines::default(), VecDeque::new());
        let stream = Stream { socket, chunked, lines, heard, has_ended: false };
        self.streams.insert(peer.into(), stream);
        Ok(answer)
    }

    fn send(&mut self, peer: &str, text: &str) {
        // What another peer did comes first.
        for (name, other) in &mut self.peers {
            if name != peer && other.is_ahead {
                other.fence();
            }
        }
        let peer = self.peers.get_mut(peer).expect("it was opened");
        peer.is_ahead = true;
        peer.socket.send(Message::text(text)).expect("it is open");
    }

    fn send_binary(&mut self, peer: &str, bytes: &[u8]) {
        let peer = self.peers.get_mut(peer).expect("it was opened");
        peer.is_ahead = true;
        peer.socket.send(Message::binary(bytes.to_vec())).expect("it is open");
    }

    fn mute(&mut self, _: &str) {
        panic!("a peer is mute only where time passes when told to");
    }

    fn next(&mut self, peer: &str) -> Option<Heard> {
        if let Some(stream) = self.streams.get_mut(peer) {
            return stream.read();
        }
        let peer = self.peers.get_mut(peer).expect("it was opened");
        peer.heard.pop_front().or_else(|| peer.read())
    }

    fn rest(&mut self, peer: &str) -> Option<Heard> {
        if let Some(stream) = self.streams.get_mut(peer) {
            // There is no way to ask whether everything came: the other worlds see what is late.
            stream.socket.set_nonblocking(true).expect("it can be set");
            return stream.read();
        }
        let peer = self.peers.get_mut(peer)?;
        peer.fence();
        peer.heard.pop_front()
    }

    fn go(&mut self, peer: &str) {
        self.catch_up();
        if self.streams.remove(peer).is_some() {
            return;
        }
        let mut gone = self.peers.remove(peer).expect("it was opened");
        let _ = gone.socket.close(None);
        while gone.read().is_some() {}
    }

    fn lose(&mut self, peer: &str) {
        self.catch_up();
        if self.streams.remove(peer).is_some() {
            return;
        }
        // Dropped, its socket is closed without a close frame.
        self.peers.remove(peer).expect("it was opened");
    }

    fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(String, String)],
        body: &str,
    ) -> Answer {
        self.catch_up();
        let mut stream = self.connect();
        let length = body.len();
        let host = self.address;
        let fields: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("it is open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("a whole answer comes");
        answer_of(&answer)
    }

    fn wait(&mut self, _: Millis) {
        panic!("real time does not pass when told to");
    }

    fn host(&self) -> String {
        self.address.to_string()
    }

    fn wall(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        UnixMillis(since.as_millis() as u64)
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
