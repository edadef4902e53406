//! Signed requests of the Pusher HTTP API, and the marked payloads they carry.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

/// What opens the marked part of a payload.
pub const MARK: &[u8; 4] = b"~RM~";
/// The marked part: mark, sequence (12 hex digits), stream (4), slot (4), send time (16).
pub const MARKED_BYTES: usize = 4 + 12 + 4 + 4 + 16;

/// What a payload says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Position in its stream, from 0.
    pub sequence: u64,
    /// Which of the receiver's streams it belongs to.
    pub stream: u16,
    /// The in-flight publish it came with.
    pub slot: u16,
    /// When it was, or should have been, sent.
    pub sent_ns: u64,
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn put_hex(out: &mut Vec<u8>, value: u64, digits: u32) {
    for at in (0..digits).rev() {
        out.push(HEX[(value >> (4 * at)) as usize & 15]);
    }
}

fn hex(bytes: &[u8]) -> u64 {
    // '0'..'9' end in 0..9, 'a'..'f' in 1..6 with bit 6 set: nine more.
    bytes.iter().fold(0, |sum, byte| sum << 4 | u64::from((byte & 15) + 9 * (byte >> 6)))
}

impl Marked {
    /// Appends a JSON string of so many bytes, quotes beside, which begins with the mark.
    pub fn write_string(self, out: &mut Vec<u8>, size: usize) {
        out.push(b'"');
        let start = out.len();
        self.write(out);
        out.resize(start + size.max(MARKED_BYTES), b'x');
        out.push(b'"');
    }

    /// Appends the mark.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(MARK);
        put_hex(out, self.sequence, 12);
        put_hex(out, self.stream.into(), 4);
        put_hex(out, self.slot.into(), 4);
        put_hex(out, self.sent_ns, 16);
    }

    /// Reads the [`MARKED_BYTES`] that start with [`MARK`].
    #[inline]
    pub fn read(bytes: &[u8; MARKED_BYTES]) -> Self {
        Self {
            sequence: hex(&bytes[4..16]),
            stream: hex(&bytes[16..20]) as u16,
            slot: hex(&bytes[20..24]) as u16,
            sent_ns: hex(&bytes[24..40]),
        }
    }
}

/// The app to publish to.
#[derive(Clone)]
pub struct Credentials {
    pub app: String,
    pub key: String,
    pub secret: String,
}

/// Appends one event as the comparison servers expect it spelt: channel before data, data last.
pub fn event(out: &mut Vec<u8>, channel: &str, marked: Marked, size: usize) {
    out.extend_from_slice(br#"{"name":"e","channel":""#);
    out.extend_from_slice(channel.as_bytes());
    out.extend_from_slice(br#"","data":"#);
    marked.write_string(out, size);
    out.push(b'}');
}

/// The group of every annotation.
pub const GROUP: &str = "__world__";

/// Where a document is. Always as long, so that marks stay in their place.
pub fn document_uri(document: usize) -> String {
    format!("https://example.com/doc/{document:05}")
}

/// Appends the creation of an annotation of about `size` bytes, with the members the `h` API gives one.
pub fn annotation(out: &mut Vec<u8>, document: usize, marked: Marked, size: usize) {
    const USER: &str = "acct:perf@example.com";
    const AT: &str = "2026-11-27T08:00:00.000000+00:00";
    let uri = document_uri(document);
    out.extend_from_slice(br#"{"action":"create","annotation":"#);
    let start = out.len();
    let head = format!(
        r#"{{"id":"perf{:018x}","created":"{AT}","updated":"{AT}","user":"{USER}","uri":"{uri}","text":""#,
        marked.sequence
    );
    let tail = format!(
        r#"","tags":["perf"],"group":"{GROUP}","permissions":{{"read":["group:{GROUP}"],"admin":["{USER}"],"update":["{USER}"],"delete":["{USER}"]}},"target":[{{"source":"{uri}","selector":[{{"type":"TextQuoteSelector","exact":"ring main","prefix":"the ","suffix":" of a town"}}]}}],"document":{{"title":["Document {document:05}"]}},"links":{{"html":"{uri}#annotations"}},"mentions":[],"user_info":{{"display_name":null}},"flagged":false,"hidden":false}}"#
    );
    out.extend_from_slice(head.as_bytes());
    let text = out.len();
    marked.write(out);
    let end = (start + size).saturating_sub(tail.len());
    out.resize(end.max(text + MARKED_BYTES), b'x');
    out.extend_from_slice(tail.as_bytes());
    out.push(b'}');
}

/// Signs and frames requests.
pub struct Signer {
    credentials: Credentials,
    keyed: Hmac<Sha256>,
}

impl Signer {
    pub fn new(credentials: Credentials) -> Self {
        let keyed = Hmac::new_from_slice(credentials.secret.as_bytes())
            .expect("HMAC takes keys of any length");
        Self { credentials, keyed }
    }

    /// Appends a whole `GET /apps/{app}/{path}` to `out`. `parameters` are in order of their names, all of which
    /// come after `auth_`.
    pub fn question(&self, out: &mut Vec<u8>, path: &str, parameters: &str) {
        let Credentials { app, key, .. } = &self.credentials;
        let now = seconds_now();
        let query = format!("auth_key={key}&auth_timestamp={now}&auth_version=1.0&{parameters}");
        let signature = self.signature(&format!("GET\n/apps/{app}/{path}\n{query}"));
        let request = format!(
            "GET /apps/{app}/{path}?{query}&auth_signature={signature} HTTP/1.1\r\n\
             Host: 127.0.0.1\r\n\r\n"
        );
        out.extend_from_slice(request.as_bytes());
    }

    /// The signature of a text, in hex.
    pub fn signature(&self, text: &str) -> String {
        let mut mac = self.keyed.clone();
        mac.update(text.as_bytes());
        hex_text(&mac.finalize().into_bytes())
    }

    /// Appends a whole `POST /apps/{app}/{path}` to `out`.
    pub fn request(&self, out: &mut Vec<u8>, path: &str, body: &[u8]) {
        let now = seconds_now();
        let md5: String = hex_text(&Md5::digest(body));
        let Credentials { app, key, .. } = &self.credentials;
        let query = format!("auth_key={key}&auth_timestamp={now}&auth_version=1.0&body_md5={md5}");
        let signature = self.signature(&format!("POST\n/apps/{app}/{path}\n{query}"));
        out.extend_from_slice(
            format!(
                "POST /apps/{app}/{path}?{query}&auth_signature={signature} HTTP/1.1\r\n\
                 Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )
            .as_bytes(),
        );
        out.extend_from_slice(body);
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn hex_text(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len() * 2);
    bytes.iter().for_each(|byte| put_hex(&mut text, u64::from(*byte), 2));
    String::from_utf8(text).expect("hex digits are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_marked_reads_back() {
        let marked =
            Marked { sequence: 0xabc_def0_1234, stream: 0xffff, slot: 63, sent_ns: u64::MAX - 7 };
        let mut out = Vec::new();
        marked.write(&mut out);
        let bytes: &[u8; MARKED_BYTES] = out.as_slice().try_into().unwrap();
        assert_eq!(Marked::read(bytes), marked);
    }

    #[test]
    fn an_annotation_has_its_size_and_its_mark() {
        let marked = Marked { sequence: 7, stream: 0, slot: 1, sent_ns: 9 };
        let mut out = Vec::new();
        annotation(&mut out, 42, marked, 1024);
        let event: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(event["annotation"]["uri"], "https://example.com/doc/00042");
        assert_eq!(out.len(), 1024 + r#"{"action":"create","annotation":}"#.len());
        let text = event["annotation"]["text"].as_str().unwrap().as_bytes();
        assert_eq!(Marked::read(text.first_chunk().unwrap()), marked);
    }

    #[test]
    fn the_signature_is_the_documented_example() {
        let credentials = Credentials {
            app: "3".into(),
            key: "278d425bdf160c739803".into(),
            secret: "7ad3773142a6692b25b8".into(),
        };
        let mut mac = Signer::new(credentials).keyed;
        mac.update(
            b"POST\n/apps/3/events\nauth_key=278d425bdf160c739803&auth_timestamp=1353088179&\
              auth_version=1.0&body_md5=ec365a775a4cd0599faeb73354201b6f",
        );
        assert_eq!(
            hex_text(&mac.finalize().into_bytes()),
            "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
        );
    }
}
