use super::*;
use crate::base::time::UnixMillis;

fn text(text: &str) -> Cell {
    Cell::Text(text.into())
}

fn texts(texts: &[&str]) -> Cell {
    Cell::Texts(texts.iter().map(|it| Box::from(*it)).collect())
}

#[test]
fn an_id_is_a_number_in_one_way() {
    for (id, expected) in [
        ("1", Some(1)),
        ("113000000000000001", Some(113_000_000_000_000_001)),
        ("9223372036854775807", Some(i64::MAX)),
        ("9223372036854775808", None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1 ", None),
        ("ann", None),
        ("0", Some(0)),
        ("007", None),
    ] {
        assert_eq!(number(id), expected, "{id}");
    }
}

#[test]
fn a_token_is_asked_for_only_if_a_text_of_the_database_can_be_it() {
    let asked = token("abc", false).unwrap();
    assert_eq!(asked.parameters, [Parameter::Text("abc".into())]);
    assert!(!asked.sql.contains("expires_in"));
    assert!(token("abc", true).unwrap().sql.contains("expires_in"));
    assert_eq!((token("", false), token("a\0", false)), (None, None));
}

#[test]
fn a_row_of_a_token_tells_who_it_is() {
    let row = |languages: Cell, scopes: Cell, role: Cell| {
        let rows = vec![vec![Cell::Integer(5), Cell::Integer(7), languages, scopes, role]];
        let token = read_token(&rows).unwrap();
        assert_eq!((token.id, token.account, &*token.identity.user), (5, 7, "7"));
        assert_eq!(token.identity.token.as_deref(), Some("5"));
        let names = |names: &[Name]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let permissions = names(&token.identity.permissions).join(" ");
        (permissions, token.identity.languages.as_deref().map(names))
    };
    let strings = |it: &[&str]| Some(it.iter().map(ToString::to_string).collect::<Vec<_>>());
    for (languages, scopes, role, expected) in [
        (Cell::Null, text("read write:media"), Cell::Null, ("read", None)),
        (texts(&["de", "en"]), text("read"), Cell::Integer(0), ("read", strings(&["de", "en"]))),
        (texts(&[]), text("read"), Cell::Integer(1 << 19), ("read", strings(&[]))),
        (Cell::Null, text("read"), Cell::Integer(1 << 20 | 1), ("read view_feeds", None)),
        (Cell::Null, text(" read  view_feeds "), Cell::Integer(0), ("read", None)),
        (Cell::Null, Cell::Null, Cell::Null, ("", None)),
    ] {
        assert_eq!(row(languages, scopes, role), (expected.0.to_owned(), expected.1));
    }
    for rows in [vec![], vec![vec![]], vec![vec![Cell::Integer(1), Cell::Null]]] {
        assert_eq!(read_token(&rows), None);
    }
    let ends = vec![vec![
        Cell::Integer(5),
        Cell::Integer(7),
        Cell::Null,
        Cell::Null,
        Cell::Null,
        Cell::Time(UnixMillis(9)),
    ]];
    assert_eq!(read_token(&ends).unwrap().identity.expires, Some(UnixMillis(9)));
}

#[test]
fn only_one_exact_value_closes_a_feed() {
    for (value, open) in [
        (text("--- disabled\n"), false),
        (text("--- public\n"), true),
        (text("--- authenticated\n"), true),
        (text("--- disabled"), true),
        (text("disabled"), true),
        (Cell::Null, true),
    ] {
        let rows = vec![vec![text("local_live_feed_access"), value.clone()]];
        let read = read_feeds(Feeds::Live, &rows, 3);
        assert_eq!(read, Following { judged_from: 3, local: open, remote: true }, "{value:?}");
        assert!(read_feeds(Feeds::Topic, &rows, 3).local);
    }
    let rows = vec![vec![text("remote_topic_feed_access"), text("--- disabled\n")]];
    let read = read_feeds(Feeds::Topic, &rows, 1);
    assert_eq!((read.local, read.remote), (true, false));
}

#[test]
fn rows_of_keywords_make_filters() {
    let row = |account, id, keyword: Cell, whole| {
        vec![
            Cell::Integer(account),
            Cell::Integer(id),
            text("title"),
            texts(&["home", "public"]),
            Cell::Null,
            Cell::Integer(1),
            keyword,
            Cell::Bool(whole),
        ]
    };
    let rows = vec![
        row(1, 10, text("a"), true),
        row(1, 10, text("b"), false),
        row(1, 11, text("c"), true),
        row(1, 12, Cell::Null, true),
        row(1, 13, text(""), true),
        row(2, 20, text("d"), true),
        vec![],
    ];
    let read = read_filters(&rows);
    let shape: Vec<_> = read
        .iter()
        .map(|(account, it)| {
            let keywords: Vec<_> = it.keywords.iter().map(|(text, is)| (&**text, *is)).collect();
            (*account, it.id.to_string(), keywords)
        })
        .collect();
    assert_eq!(
        shape,
        [
            (1, "10".to_owned(), vec![("a", true), ("b", false)]),
            (1, "11".to_owned(), vec![("c", true)]),
            (2, "20".to_owned(), vec![("d", true)]),
        ]
    );
    let first = &read[0].1;
    assert_eq!((&*first.title, first.hides, first.expires), ("title", true, None));
    assert_eq!(first.context, ["home", "public"]);
    let mut warns = row(3, 30, text("e"), true);
    (warns[4], warns[5]) = (Cell::Time(UnixMillis(5)), Cell::Integer(0));
    let read = read_filters(&vec![warns]);
    assert_eq!((read[0].1.hides, read[0].1.expires), (false, Some(UnixMillis(5))));
}

#[test]
fn a_domain_that_no_text_can_be_is_asked_about_as_none() {
    for (domain, asked) in [("a.example", "a.example"), ("", ""), ("a\0", "")] {
        let statement = relations(vec![1], vec![2], 2, domain);
        assert_eq!(statement.parameters[3], Parameter::Text(asked.into()));
    }
}
