use super::*;
use crate::wire::json;

fn read(status: &str) -> Option<Status<'_>> {
    Status::read(json::parse_str(status).expect("JSON"))
}

#[test]
fn a_status_is_read_or_broken() {
    for (status, expected) in [
        (r#"{"account":{"id":"2","username":"a","acct":"a"}}"#, Some(("2", true, None, &[][..]))),
        (r#"{"account":{"id":2,"username":"a","acct":"a"}}"#, Some(("2", true, None, &[]))),
        (r#"{"account":{"id":-99,"acct":"a"}}"#, Some(("-99", false, None, &[]))),
        (
            r#"{"account":{"id":"2","username":"a","acct":"a@b.example"},"mentions":[{"id":"9"},{"id":3},{"id":"3"}]}"#,
            Some(("2", false, Some("b.example"), &["3", "9"])),
        ),
        (
            r#"{"account":{"id":"2","acct":"a@b@c"},"mentions":null}"#,
            Some(("2", false, Some("b"), &[])),
        ),
        (
            r#"{"account":{"id":"2","username":"a@","acct":"a@"},"mentions":[]}"#,
            Some(("2", true, None, &[])),
        ),
        // The last of a name counts.
        (
            r#"{"account":null,"account":{"id":1,"id":"2","acct":""}}"#,
            Some(("2", false, None, &[])),
        ),
        ("null", None),
        ("[]", None),
        ("{}", None),
        (r#""{}""#, None),
        (r#"{"account":null}"#, None),
        (r#"{"account":[]}"#, None),
        (r#"{"account":"2"}"#, None),
        (r#"{"account":{"acct":"a"}}"#, None),
        (r#"{"account":{"id":null,"acct":"a"}}"#, None),
        (r#"{"account":{"id":"","acct":"a"}}"#, None),
        (r#"{"account":{"id":1.5,"acct":"a"}}"#, None),
        (r#"{"account":{"id":99999999999999999999,"acct":"a"}}"#, None),
        (r#"{"account":{"id":{},"acct":"a"}}"#, None),
        (r#"{"account":{"id":"2"}}"#, None),
        (r#"{"account":{"id":"2","acct":null}}"#, None),
        (r#"{"account":{"id":"2","acct":["a"]}}"#, None),
        (r#"{"account":{"id":"2","acct":"a"},"mentions":{}}"#, None),
        (r#"{"account":{"id":"2","acct":"a"},"mentions":"3"}"#, None),
        (r#"{"account":{"id":"2","acct":"a"},"mentions":[null]}"#, None),
        (r#"{"account":{"id":"2","acct":"a"},"mentions":[{}]}"#, None),
        (r#"{"account":{"id":"2","acct":"a"},"mentions":[{"id":null}]}"#, None),
        (r#"{"account":{"id":"2","acct":"a"},"mentions":["3"]}"#, None),
    ] {
        let read = read(status);
        let read = read.as_ref().map(|it| {
            let mentions: Vec<_> = it.mentions.iter().map(|it| &**it).collect();
            (&*it.author, it.is_local, it.domain.as_deref(), mentions)
        });
        let expected = expected.map(|it| (it.0, it.1, it.2, it.3.to_vec()));
        assert_eq!(read, expected, "{status}");
    }
}

/// A status with more members.
fn with(members: &str) -> String {
    format!(r#"{{"account":{{"id":"2","acct":"a"}},{members}}}"#)
}

#[test]
fn members_that_are_not_needed_may_be_anything() {
    for (members, language, has_filtered) in [
        (r#""language":"de""#, Some("de"), false),
        (r#""language":null"#, None, false),
        (r#""language":["de"]"#, None, false),
        (r#""filtered":null"#, None, true),
        (r#""filtered":[]"#, None, true),
        (r#""Filtered":[]"#, None, false),
        (r#""f\u0069ltered":[]"#, None, true),
    ] {
        let status = with(members);
        let status = read(&status).expect("a status");
        assert_eq!((status.language.as_deref(), status.has_filtered), (language, has_filtered));
    }
}

#[test]
fn keywords_are_looked_for_in_all_text() {
    for (members, expected) in [
        (r#""spoiler_text":"cw","content":"<p>a</p>""#, "cw\n\na"),
        (r#""spoiler_text":null,"content":null"#, "\n\n"),
        (r#""content":"<p>a</p><p>b<br>c &lt;3</p>""#, "\n\na\n\nb\nc <3"),
        (
            r#""content":"a","poll":{"options":[{"title":"x &amp; y"},{"title":null},null]}"#,
            "\n\na\n\nx & y\n\n\n\n",
        ),
        (
            r#""content":"a","media_attachments":[{"description":"<d>e"},{"description":5}]"#,
            "\n\na\n\ne\n\n5",
        ),
        (r#""content":{},"poll":[],"media_attachments":"x""#, "\n\n"),
        (r#""content":"a","poll":{"options":"x"},"media_attachments":[[]]"#, "\n\na\n\n"),
        (r#""content":"\ud83d\ude00\ud83d""#, "\n\n\u{1f600}\u{fffd}"),
    ] {
        let status = with(members);
        assert_eq!(read(&status).expect("a status").text(), expected, "{members}");
    }
}

#[test]
fn large_and_deep_ones_are_read_too() {
    let mentions = |many: usize| {
        let ids: Vec<_> = (0..many).map(|it| format!("{{\"id\":\"{it}\"}}")).collect();
        with(&format!("\"mentions\":[{}]", ids.join(",")))
    };
    let most = mentions(MENTIONS_MAX);
    assert_eq!(read(&most).map(|it| it.mentions.len()), Some(MENTIONS_MAX));
    assert!(read(&mentions(MENTIONS_MAX + 1)).is_none());
    let content = with(&format!("\"content\":\"{}\"", "<p>a</p>".repeat(1 << 17)));
    assert_eq!(read(&content).map(|it| it.text().len()), Some(2 + (1 << 17) + 2 * ((1 << 17) - 1)));
    let depth = json::DEPTH_MAX - 2;
    let deep = with(&format!("\"poll\":{}{}", "[".repeat(depth), "]".repeat(depth)));
    assert_eq!(read(&deep).map(|it| it.text()).as_deref(), Some("\n\n"));
}
