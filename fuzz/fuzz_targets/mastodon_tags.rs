//! Tags: whatever a peer calls one, its channel's name has only what names may have, and is spelled the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmain::dialects::mastodon::tags;

fuzz_target!(|tag: &str| {
    let once = tags::normalize(tag);
    assert!(!once.contains([':', ' ', '#', '\n', '\0']), "no part of a channel's name");
    assert!(!once.bytes().any(|it| it.is_ascii_uppercase()));
    // What was dropped may have kept apart what is then composed, or what a final sigma follows.
    let again = tags::normalize(&once);
    let thrice = tags::normalize(&again);
    assert_eq!(tags::normalize(&thrice), thrice);
});
