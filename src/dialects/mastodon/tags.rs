//! How a tag is spelled in the name of its channel.
//!
//! Source: Mastodon's streaming server as observed; its Rails side names the channels the same way.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::decompose_canonical;

/// The characters beside letters and numbers that a tag may have: the middle dot of Catalan and the non-joiner of
/// Persian are inside words.
const BESIDE: [char; 3] = ['_', '\u{b7}', '\u{200c}'];

/// A tag as its channel spells it: compatibility forms composed (NFKC), in lower case, without the diacritics of Latin-1
/// and Latin Extended-A, and only with letters, numbers and what else a tag may have. Perhaps nothing is left.
pub fn normalize(tag: &str) -> String {
    let is_spelled =
        |&byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if tag.as_bytes().iter().all(is_spelled) {
        return tag.to_owned();
    }
    // Not by character: a sigma at the end of a word has a form of its own.
    let lower = tag.nfkc().collect::<String>().to_lowercase();
    lower.chars().map(fold).filter(|&it| is_kept(it)).collect()
}

/// A letter of U+00C0 to U+017F without what is added to it. After lower case none of the capitals is left.
fn fold(letter: char) -> char {
    match letter {
        'ð' | 'đ' => 'd',
        'ħ' => 'h',
        'ı' => 'i',
        'ĸ' => 'k',
        'ł' => 'l',
        'ŋ' => 'n',
        'ø' => 'o',
        'ŧ' => 't',
        '\u{c0}'..='\u{17f}' => {
            let mut first = None;
            decompose_canonical(letter, |it| first = first.or(Some(it)));
            first.filter(char::is_ascii_alphabetic).unwrap_or(letter)
        }
        _ => letter,
    }
}

fn is_kept(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_alphanumeric() || character == '_';
    }
    // `char::is_alphabetic` has marks that are no letters.
    let find = |(start, end): &(char, char)| match (*start > character, *end < character) {
        (true, _) => std::cmp::Ordering::Greater,
        (_, true) => std::cmp::Ordering::Less,
        _ => std::cmp::Ordering::Equal,
    };
    BESIDE.contains(&character) || WORDS.binary_search_by(find).is_ok()
}

/// Letters and numbers: first and last of each run, in order.
static WORDS: LazyLock<Vec<(char, char)>> = LazyLock::new(|| {
    let class = regex_syntax::parse(r"[\p{L}\p{N}]").map(|it| it.into_kind());
    match class {
        Ok(HirKind::Class(Class::Unicode(class))) => {
            class.iter().map(|it| (it.start(), it.end())).collect()
        }
        _ => unreachable!("a constant that is a class of characters"),
    }
});

#[cfg(test)]
#[path = "tags_tests.rs"]
mod tests;
