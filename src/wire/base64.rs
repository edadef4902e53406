//! Base64 in both of its alphabets. Source: RFC 4648, sections 4 and 5.

/// Which 64 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// With `+` and `/`.
    Standard,
    /// With `-` and `_`: for addresses and tokens.
    Url,
}

impl Alphabet {
    fn last(self) -> [u8; 2] {
        match self {
            Self::Standard => *b"+/",
            Self::Url => *b"-_",
        }
    }

    fn character(self, digit: u32) -> u8 {
        let digit = (digit & 63) as u8;
        match digit {
            0..26 => b'A' + digit,
            26..52 => b'a' + (digit - 26),
            52..62 => b'0' + (digit - 52),
            _ => self.last()[usize::from(digit - 62)],
        }
    }

    /// The characters of up to three bytes, one more than there are bytes.
    fn characters(self, group: &[u8]) -> impl Iterator<Item = u8> + use<> {
        let word = group.iter().fold(0, |word, &byte| word << 8 | u32::from(byte))
            << (8 * (3 - group.len()));
        (0..=group.len()).map(move |i| self.character(word >> (18 - 6 * i)))
    }

    fn digit(self, character: u8) -> Option<u32> {
        let digit = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            _ => 62 + self.last().iter().position(|it| *it == character)? as u8,
        };
        Some(u32::from(digit))
    }
}

/// Appends bytes in Base64, without padding.
pub fn encode(out: &mut String, bytes: &[u8], alphabet: Alphabet) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        out.extend(alphabet.characters(group).map(char::from));
    }
}

/// Writes bytes in Base64 of the standard alphabet into `out`, whose padding the caller has put there.
pub fn fill(out: &mut [u8], bytes: &[u8]) {
    for (group, out) in bytes.chunks(3).zip(out.chunks_mut(4)) {
        for (digit, character) in out.iter_mut().zip(Alphabet::Standard.characters(group)) {
            *digit = character;
        }
    }
}

/// The bytes that a text without padding stands for. Nothing but its alphabet may be in it, and bits that belong to
/// no byte are zero, so that each run of bytes has one spelling.
pub fn decode(text: &[u8], alphabet: Alphabet) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let bytes_of = |group: &[u8]| {
        let word = group.iter().try_fold(0, |word, &it| Some(word << 6 | alphabet.digit(it)?))?;
        let [_, bytes @ ..] = (word << (6 * (4 - group.len()))).to_be_bytes();
        Some(bytes)
    };
    let (groups, end) = text.as_chunks::<4>();
    for group in groups {
        out.extend_from_slice(&bytes_of(group)?);
    }
    if !end.is_empty() {
        let bytes = bytes_of(end)?;
        let (whole, rest) = bytes.split_at(end.len() - 1);
        if whole.is_empty() || rest.iter().any(|&byte| byte != 0) {
            return None;
        }
        out.extend_from_slice(whole);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes() {
        for (bytes, standard, url) in [
            (&b""[..], "", ""),
            (b"f", "Zg", "Zg"),
            (b"fo", "Zm8", "Zm8"),
            (b"foo", "Zm9v", "Zm9v"),
            (b"foob", "Zm9vYg", "Zm9vYg"),
            (b"\xfb\xff\xfe", "+//+", "-__-"),
        ] {
            for (alphabet, text) in [(Alphabet::Standard, standard), (Alphabet::Url, url)] {
                let mut out = String::new();
                encode(&mut out, bytes, alphabet);
                assert_eq!(out, text);
                assert_eq!(decode(text.as_bytes(), alphabet).as_deref(), Some(bytes), "{text}");
            }
        }
    }

    #[test]
    fn base64_of_the_specification() {
        // RFC 4648, section 10.
        for (text, want) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = vec![b'='; want.len()];
            fill(&mut out, text.as_bytes());
            assert_eq!(out, want.as_bytes());
        }
    }

    #[test]
    fn each_run_of_bytes_has_one_spelling() {
        for text in ["Z", "Zg==", "Zh", "Zm9", "Zm9vY", "Zm 9v", "Zm9v\n", "Zm9+", "Zm9.", "é"] {
            assert_eq!(decode(text.as_bytes(), Alphabet::Url), None, "{text}");
        }
        assert_eq!(decode(b"-__-", Alphabet::Standard), None);
    }
}
