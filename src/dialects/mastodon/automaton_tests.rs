use super::*;
use crate::base::prng::Prng;

/// What is found, by trying every word at every place.
fn find_plainly(words: &[&[u8]], text: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for end in 1..=text.len() {
        let mut here: Vec<_> =
            (0..words.len()).filter(|it| text[..end].ends_with(words[*it])).collect();
        here.sort_by_key(|it| std::cmp::Reverse(words[*it].len()));
        found.extend(here.into_iter().map(|it| (it, end)));
    }
    found
}

fn find(words: &[&[u8]], text: &[u8], words_max: usize) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    Automaton::new(words).find(text, words_max, |word, end| found.push((word, end)));
    found
}

#[test]
fn every_word_is_found_everywhere() {
    assert_eq!(find(&[], b"abc", 9), []);
    for seed in 0..300 {
        let mut chance = Prng::new(seed);
        // Few letters, so that words are inside each other.
        let letters = 2 + chance.below(3);
        let mut text = |bytes: u64| -> Vec<u8> {
            let bytes = 1 + chance.below(bytes);
            (0..bytes).map(|_| b'a' + chance.below(letters) as u8).collect()
        };
        let mut words: Vec<_> = (0..40).map(|_| text(8)).collect();
        words.sort();
        words.dedup();
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let text = text(200);
        let expected = find_plainly(&words, &text);
        assert_eq!(find(&words, &text, usize::MAX), expected, "seed {seed}");
        let some = expected.len() / 2;
        assert_eq!(find(&words, &text, some), expected[..some], "seed {seed}");
    }
}

#[test]
fn words_inside_each_other_take_no_more_memory() {
    let text = vec![b'a'; 1448];
    let words: Vec<_> = (1..=text.len()).map(|bytes| &text[..bytes]).collect();
    assert!(Automaton::new(&words).bytes() < 17 * (text.len() + 1) + 2000);
}
