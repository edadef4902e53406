use super::*;

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
