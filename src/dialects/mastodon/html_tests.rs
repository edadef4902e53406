use super::*;

#[test]
fn html_becomes_text() {
    for (html, expected) in [
        ("<p>a</p>", "a"),
        ("a &amp; b &lt;c&gt; &#39;&quot;", "a & b <c> '\""),
        ("I <3 you", "I <3 you"),
    ] {
        assert_eq!(text_of(html), expected, "{html}");
    }
}
