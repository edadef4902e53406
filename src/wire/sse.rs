//! Server-sent events: the `text/event-stream` framing. Source: HTML Living Standard, section 9.2.

/// Appends one event.
///
/// `event` and `id` are fields of one line: line breaks in them are left out, and so is a NUL in
/// `id`, which would make readers ignore it. `data` may hold line breaks of any of the three kinds;
/// the reader sees each as LF.
pub fn write_event(out: &mut Vec<u8>, event: Option<&str>, id: Option<&str>, data: &str) {
    if let Some(event) = event {
        write_field(out, b"event: ", event);
    }
    if let Some(id) = id {
        write_field(out, b"id: ", id);
    }
    let mut rest = data.as_bytes();
    loop {
        out.extend_from_slice(b"data: ");
        let Some(end) = memchr::memchr2(b'\r', b'\n', rest) else {
            out.extend_from_slice(rest);
            break;
        };
        out.extend_from_slice(&rest[..end]);
        out.push(b'\n');
        let after = if rest[end..].starts_with(b"\r\n") { end + 2 } else { end + 1 };
        rest = &rest[after..];
    }
    out.extend_from_slice(b"\n\n");
}

/// Appends a comment, which readers skip: a sign of life. Line breaks in `text` are left out.
pub fn write_comment(out: &mut Vec<u8>, text: &str) {
    write_field(out, b":", text);
    out.push(b'\n');
}

/// Appends how long a reader should wait before it reconnects.
pub fn write_retry(out: &mut Vec<u8>, millis: u64) {
    out.extend_from_slice(format!("retry: {millis}\n\n").as_bytes());
}

fn write_field(out: &mut Vec<u8>, name: &[u8], value: &str) {
    out.extend_from_slice(name);
    out.extend(value.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_framed() {
        let cases: &[(Option<&str>, Option<&str>, &str, &str)] = &[
            (None, None, "", "data: \n\n"),
            (None, None, "x", "data: x\n\n"),
            (Some("update"), None, "{}", "event: update\ndata: {}\n\n"),
            (
                Some("up\ndata: forged"),
                Some("4\r\n\0"),
                "x",
                "event: updata: forged\nid: 4\ndata: x\n\n",
            ),
            (None, None, "a\nb\r\nc\rd\n", "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
            (None, None, "a\r\rb", "data: a\ndata: \ndata: b\n\n"),
        ];
        for (event, id, data, want) in cases {
            let mut out = Vec::new();
            write_event(&mut out, *event, *id, data);
            assert_eq!(std::str::from_utf8(&out), Ok(*want), "{data:?}");
        }
    }

    #[test]
    fn comments_and_retries_are_framed() {
        let mut out = Vec::new();
        write_comment(&mut out, "thump\n");
        write_comment(&mut out, "");
        write_retry(&mut out, 1500);
        assert_eq!(out, b":thump\n\n:\n\nretry: 1500\n\n");
    }
}
