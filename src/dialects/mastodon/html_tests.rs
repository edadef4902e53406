use super::*;
use crate::wire::json;

#[test]
fn html_becomes_text() {
    for (html, expected) in [
        ("", ""),
        ("<p>a</p>", "a"),
        ("a &amp; b &lt;c&gt; &#39;&quot;", "a & b <c> '\""),
        ("I <3 you", "I <3 you"),
        ("a<", "a<"),
        ("a</", "a</"),
        ("a<b", "a"),
        ("a<b c='>", "a"),
        ("a<!--b", "a"),
        ("a<!b>c", "ac"),
        ("a&amp", "a&"),
        ("a&", "a&"),
        ("&#", "&#"),
        ("&#x", "&#x"),
    ] {
        assert_eq!(text_of(html), expected, "{html}");
    }
}

/// What jsdom says; made by `tests/data/mastodon.mjs`.
#[test]
fn text_is_what_a_browser_takes_for_it() {
    let oracle = json::parse_str(include_str!("../../../tests/data/mastodon.json")).unwrap();
    let mut cases = 0;
    for case in oracle.member("html").unwrap().items() {
        let mut sides = case.items().map(|it| it.as_str().unwrap());
        let (html, expected) = (sides.next().unwrap(), sides.next().unwrap());
        assert_eq!(text_of(&html), expected, "{html:?}");
        cases += 1;
    }
    assert!(cases > 600);
}

#[test]
fn breaks_and_paragraphs_become_lines() {
    for (html, expected) in [
        ("<p>a</p><p>b<br>c<br/>d<br />e<br\n\u{a0}/>f</p>", "<p>a\n\nb\nc\nd\ne\nf</p>"),
        ("a<br class>b<BR>c</p> <p><br", "a<br class>b<BR>c</p> <p><br"),
        ("<<br>", "<\n"),
    ] {
        assert_eq!(with_lines(html), expected);
    }
}

#[test]
fn all_names_are_known() {
    assert_eq!(NAMES.len(), 2125);
    assert_eq!(NAMES.values().filter(|it| it.1).count(), 106);
    assert!(NAMES.keys().all(|it| (2..=NAME_BYTES_MAX).contains(&it.len())));
    assert!(NAMES.values().all(|it| it.0[0].is_some()));
    assert!(NAMES.keys().any(|it| it.len() == NAME_BYTES_MAX));
}

#[test]
fn what_never_ends_takes_no_longer() {
    let bytes = 1 << 17;
    for piece in [
        "<",
        "</",
        "<a ",
        "<a b='",
        "<!--",
        "-",
        "&",
        "&a",
        "&#",
        "<script>",
        "<textarea></",
        "<br",
        "<template>",
    ] {
        let html = piece.repeat(bytes / piece.len());
        assert!(text_of(&with_lines(&html)).len() <= html.len());
        let html = format!("<!-- {}", html);
        assert!(text_of(&with_lines(&html)).len() <= html.len());
    }
}
