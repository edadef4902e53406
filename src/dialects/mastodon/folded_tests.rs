use std::collections::BTreeMap;

use super::*;
use crate::wire::json;

#[test]
fn what_was_folded_is_known_as_it_was() {
    // U+0250 has a capital that is longer, U+1E9E is its own.
    let text = "aɐß-ɐÉ";
    let folded = Folded::new(text);
    assert_eq!(folded.folded, "AⱯß-ⱯÉ");
    let boundaries =
        |text: &str| text.char_indices().map(|it| it.0).chain([text.len()]).collect::<Vec<_>>();
    for (a, b) in boundaries(&folded.folded).into_iter().zip(boundaries(text)) {
        assert_eq!(folded.original(a, folded.folded.len()), &text[b..]);
    }
}

/// Which characters JavaScript takes for the same; made by `tests/data/mastodon.mjs`.
#[test]
fn characters_are_the_same_as_in_javascript() {
    let oracle = json::parse_str(include_str!("../../../tests/data/mastodon.json")).unwrap();
    let mut expected = BTreeMap::new();
    for same in oracle.member("same").unwrap().items() {
        let mut same: Vec<_> = same.as_str().unwrap().chars().collect();
        same.sort_unstable();
        expected.insert(same[0], same);
    }
    let mut classes = BTreeMap::<char, Vec<char>>::new();
    for character in '\0'..='\u{ffff}' {
        classes.entry(fold(character)).or_default().push(character);
    }
    let classes = classes.into_values().filter(|it| it.len() > 1).map(|it| (it[0], it));
    let classes: BTreeMap<_, _> = classes.collect();
    let surplus: Vec<_> = classes.values().filter(|it| expected.get(&it[0]) != Some(it)).collect();
    let missing: Vec<_> = expected.values().filter(|it| classes.get(&it[0]) != Some(it)).collect();
    assert!(surplus.is_empty() && missing.is_empty(), "{surplus:?} {missing:?}");
}
