//! Byte classes of RFC 9110 and RFC 3986 as one table, and the lists that header fields hold.

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const TARGET: u8 = 4;
const HOST: u8 = 8;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let byte = i as u8;
        let alphanumeric = byte.is_ascii_alphanumeric();
        if alphanumeric || holds(b"!#$%&'*+-.^_`|~", byte) {
            table[i] |= TOKEN;
        }
        // Field values: visible, space, tab and obs-text (RFC 9110, section 5.5).
        if byte == b'\t' || (byte >= b' ' && byte != 0x7f) {
            table[i] |= VALUE;
        }
        // More than RFC 3986 allows: browsers leave some of `"<>\^`{|}` bare, and nothing here reads
        // them two ways. A fragment never belongs into a request.
        if byte > b' ' && byte < 0x7f && byte != b'#' {
            table[i] |= TARGET;
        }
        if alphanumeric || holds(b"-._~!$&'()*+;=:[]%", byte) {
            table[i] |= HOST;
        }
        i += 1;
    }
    table
}

const fn holds(set: &[u8], byte: u8) -> bool {
    let mut i = 0;
    while i < set.len() {
        if set[i] == byte {
            return true;
        }
        i += 1;
    }
    false
}

fn is(class: u8, byte: u8) -> bool {
    CLASS[usize::from(byte)] & class != 0
}

/// May this byte stand in a token: a method or a field name? Source: RFC 9110, section 5.6.2.
pub fn is_token(byte: u8) -> bool {
    is(TOKEN, byte)
}

/// May this byte stand in a field value? Source: RFC 9110, section 5.5.
pub fn is_value(byte: u8) -> bool {
    is(VALUE, byte)
}

/// May this byte stand in a request target? All visible ASCII but `#`.
pub fn is_target(byte: u8) -> bool {
    is(TARGET, byte)
}

/// May this byte stand in a `Host` value? A comma or a slash there is two hosts or a path.
pub fn is_host(byte: u8) -> bool {
    is(HOST, byte)
}

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = ONES << 7;

/// How many bytes at the start of `bytes` may stand in a request target.
pub fn target_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        // As in `value_len`, with bytes from 0x80 marked themselves.
        let low = word.wrapping_sub(ONES * 0x21);
        let delete = (word ^ (ONES * 0x7f)).wrapping_sub(ONES);
        let hash = (word ^ (ONES * 0x23)).wrapping_sub(ONES);
        let marks = ((low | delete | hash) & !word | word) & HIGHS;
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < bytes.len() && is_target(bytes[at]) {
        at += 1;
    }
    at
}

/// How many bytes at the start of `bytes` may stand in a field value.
pub fn value_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        // The highest bit of each byte below 0x20 or equal to 0x7f; bytes from 0x80 are left out by
        // `!word`. A borrow can only start at such a byte and only mark bytes after it, so the first
        // mark is exact. Tab is marked too and sorted out below.
        let low = word.wrapping_sub(ONES * 0x20);
        let delete = (word ^ (ONES * 0x7f)).wrapping_sub(ONES);
        let marks = (low | delete) & !word & HIGHS;
        if marks == 0 {
            at += 8;
            continue;
        }
        at += (marks.trailing_zeros() / 8) as usize;
        if bytes[at] != b'\t' {
            return at;
        }
        at += 1;
    }
    while at < bytes.len() && is_value(bytes[at]) {
        at += 1;
    }
    at
}

/// Leaves out spaces and tabs at both ends (OWS, RFC 9110, section 5.6.3).
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The members of a comma-separated list, trimmed, empty ones left out (RFC 9110, section 5.6.1.2).
/// Quoted commas are not looked for: no list this is used for may hold one.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// Does a comma-separated list hold `token`, in any case?
pub fn list_holds(value: &[u8], token: &str) -> bool {
    list(value).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_the_table_says() {
        // Every byte at every place of two words.
        for byte in 0..=255u8 {
            for at in 0..20 {
                let mut text = [b'a'; 20];
                text[at] = byte;
                let plain = text.iter().position(|&b| !is_value(b)).unwrap_or(20);
                assert_eq!(value_len(&text), plain, "byte {byte} at {at}");
                let plain = text.iter().position(|&b| !is_target(b)).unwrap_or(20);
                assert_eq!(target_len(&text), plain, "byte {byte} at {at}");
            }
        }
        for text in [
            &b""[..],
            b"a\tb\t\tc\td\re",
            b"\x7f",
            b"\xff\xfe\x80\x81\x7e\x7f\x80\x1f",
            b"\t\t\t\t\t\t\t\t\t\n",
        ] {
            assert_eq!(
                value_len(text),
                text.iter().position(|&b| !is_value(b)).unwrap_or(text.len()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn lists_are_split() {
        let cases: &[(&str, &[&str])] =
            &[("", &[]), (",, ,", &[]), ("a", &["a"]), (" a ,b\t, c d ", &["a", "b", "c d"])];
        for (value, want) in cases {
            let got: Vec<&[u8]> = list(value.as_bytes()).collect();
            assert_eq!(got, want.iter().map(|s| s.as_bytes()).collect::<Vec<_>>(), "{value:?}");
        }
        assert!(list_holds(b"keep-alive, Upgrade", "upgrade"));
        assert!(!list_holds(b"keep-alive, Upgrades", "upgrade"));
    }
}
