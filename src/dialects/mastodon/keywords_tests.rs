use super::*;

fn filter(id: &str, keywords: &[(&str, bool)]) -> KeywordFilter {
    KeywordFilter {
        id: id.into(),
        title: "t".to_owned(),
        context: vec!["public".to_owned()],
        expires: None,
        hides: false,
        keywords: keywords.iter().map(|(it, whole)| ((*it).to_owned(), *whole)).collect(),
    }
}

/// What one account with one filter finds.
fn match_of(keywords: &[(&str, bool)], text: &str) -> Option<String> {
    let mut all = Keywords::default();
    all.set(&"1".into(), vec![filter("5", keywords)]);
    let results = all.find(text, &HashSet::new(), UnixMillis(0));
    let list = json::parse_str(results.get("1")?).expect("a list");
    let matches = list.items().next()?.member("keyword_matches")?;
    Some(matches.items().next()?.as_str()?.into_owned())
}

#[test]
fn keywords_are_found() {
    for (keywords, text, expected) in [
        (&[("cat", false)][..], "a Concatenation", Some("cat")),
        (&[("cat", true)], "a Concatenation", None),
        (&[("cat", true)], "a Cat.", Some("Cat")),
        (&[("c++", true)], "c++x", Some("c++")),
        (&[("c++", true)], "xc++", None),
        (&[("b", false), ("a", false)], "xab", Some("a")),
    ] {
        assert_eq!(match_of(keywords, text).as_deref(), expected, "{keywords:?} in {text}");
    }
}
