//! Reads an answer's head, for the command line's own requests.

use super::grammar::{is_token, list_holds, trim, value_len};
use super::head::{BodyKind, decimal};

/// An answer's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    /// Bytes it took, blank line included.
    pub len: usize,
    /// The status.
    pub status: u16,
    /// The fields in order, names as they came, values trimmed.
    pub fields: Vec<super::Field<'a>>,
    /// What follows; None: everything until the connection closes.
    pub body: Option<BodyKind>,
}

impl<'a> ResponseHead<'a> {
    /// The values of a field, by its name in any case.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }
}

/// The answer is not HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotHttp;

impl std::fmt::Display for NotHttp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer is not HTTP/1.1")
    }
}

impl std::error::Error for NotHttp {}

/// Reads an answer's head from the start of `bytes`; None: more bytes are needed. The caller bounds
/// how many it collects.
pub fn parse_response_head(bytes: &[u8]) -> Result<Option<ResponseHead<'_>>, NotHttp> {
    let shape = b"HTTP/1.";
    if !bytes.iter().zip(shape).all(|(got, want)| got == want) {
        return Err(NotHttp);
    }
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let mut lines = memchr::memmem::find_iter(&bytes[..end + 2], b"\r\n").scan(0, |start, end| {
        let line = &bytes[*start..end];
        *start = end + 2;
        Some(line)
    });
    let status = match lines.next() {
        Some([b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', status @ ..]) => {
            let digits = status.get(..3).ok_or(NotHttp)?;
            if !matches!(status.get(3), None | Some(b' ')) {
                return Err(NotHttp);
            }
            decimal(digits).filter(|&status| status >= 100).ok_or(NotHttp)? as u16
        }
        _ => return Err(NotHttp),
    };
    let mut fields = Vec::new();
    for line in lines {
        let colon = memchr::memchr(b':', line).filter(|&at| at > 0).ok_or(NotHttp)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if !name.iter().all(|&byte| is_token(byte)) || value_len(value) != value.len() {
            return Err(NotHttp);
        }
        fields.push((std::str::from_utf8(name).map_err(|_| NotHttp)?, trim(value)));
    }
    let mut head = ResponseHead { len: end + 4, status, fields, body: None };
    head.body = if status < 200 || status == 204 || status == 304 {
        Some(BodyKind::None)
    } else if head.values("transfer-encoding").any(|value| list_holds(value, "chunked")) {
        Some(BodyKind::Chunked)
    } else {
        match head.values("content-length").next() {
            None => None,
            Some(length) => match decimal(length).ok_or(NotHttp)? {
                0 => Some(BodyKind::None),
                length => Some(BodyKind::Length(length)),
            },
        }
    };
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX:  y \r\n\r\nhi";
        for end in 0..text.len() - 2 {
            assert_eq!(parse_response_head(&text[..end]), Ok(None), "{end}");
        }
        let head = parse_response_head(text).unwrap().unwrap();
        assert_eq!(
            (head.status, head.len, head.body),
            (200, text.len() - 2, Some(BodyKind::Length(2)))
        );
        assert_eq!(head.values("x").collect::<Vec<_>>(), [b"y"]);
    }

    #[test]
    fn odd_answers_are_refused() {
        for bad in [
            "SSH-2.0-x",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 20\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 +20 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        ] {
            assert_eq!(parse_response_head(bad.as_bytes()), Err(NotHttp), "{bad:?}");
        }
    }
}
