use super::*;
use crate::wire::json;

#[test]
fn a_status_is_judged_for_everyone() {
    let status = r#"{"account":{"id":"2","username":"a","acct":"a@b.example"},"language":"de","content":"<p>A Cat</p>"}"#;
    let status = Status::read(json::parse_str(status).unwrap()).unwrap();
    let mut keywords = Keywords::default();
    let filter = KeywordFilter {
        id: "7".into(),
        title: "\"pets\"".to_owned(),
        context: vec!["home".to_owned(), "public".to_owned()],
        expires: Some(UnixMillis(1_700_000_000_000)),
        hides: true,
        keywords: vec![("cat".to_owned(), true)],
    };
    keywords.set(&"1".into(), vec![filter.clone()]);
    keywords.set(&"3".into(), vec![filter]);
    let hidden = HashSet::from(["3".into()]);
    let brief = judge(&status, 4, hidden.clone(), &keywords, UnixMillis(1_700_000_000_000));
    let list = r#"[{"filter":{"id":"7","title":"\"pets\"","context":["home","public"],"expires_at":"2023-11-14T22:13:20.000Z","filter_action":"hide"},"keyword_matches":["Cat"],"status_matches":null}]"#;
    let expected = Brief {
        number: 4,
        is_local: false,
        language: Some("de".into()),
        hidden_from: hidden.clone(),
        filtered: HashMap::from([("1".into(), list.into())]),
        has_filtered: false,
    };
    assert_eq!(brief, expected);
    let later = judge(&status, 4, hidden, &keywords, UnixMillis(1_700_000_000_001));
    assert!(later.filtered.is_empty(), "it has expired");
}
