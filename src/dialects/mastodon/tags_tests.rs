use super::*;
use crate::wire::json;

#[test]
fn tags_are_spelled_as_their_channels_are() {
    for (tag, expected) in [
        ("", ""),
        ("foo", "foo"),
        ("Foo_1", "foo_1"),
        ("FóO Bar", "foobar"),
        ("#Ringmain!", "ringmain"),
        ("a-b.c/d", "abcd"),
        ("Æßþœ ÐĐØĦŁŊŦ", "æßþœddohlnt"),
        ("ǎ", "ǎ"),
        ("a\u{200c}b\u{200d}c·d", "a\u{200c}bc·d"),
    ] {
        assert_eq!(normalize(tag), expected, "{tag}");
    }
}

/// What JavaScript makes of tags in all scripts; made by `tests/data/mastodon.mjs`.
#[test]
fn tags_of_all_scripts_are_spelled_as_upstream_does() {
    let oracle = json::parse_str(include_str!("../../../tests/data/mastodon.json")).unwrap();
    let mut cases = 0;
    for case in oracle.member("tags").unwrap().items() {
        let mut sides = case.items().map(|it| it.as_str().unwrap());
        let (tag, expected) = (sides.next().unwrap(), sides.next().unwrap());
        assert_eq!(normalize(&tag), expected, "{tag:?}");
        cases += 1;
    }
    assert!(cases > 150);
}

#[test]
fn what_is_spelled_so_stays() {
    for character in '\0'..='\u{1ffff}' {
        let once = normalize(&character.to_string());
        assert!(once.chars().all(is_kept), "{character:?}");
        // Letters that were one character may fall apart, and then be joined otherwise.
        let again = normalize(&once);
        assert_eq!(normalize(&again), again, "{character:?}");
    }
}
