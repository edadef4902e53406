use super::*;

fn identity(scopes: &[&str]) -> Identity {
    let permissions = scopes.iter().map(|it| Name::from(*it)).collect();
    Identity { permissions, ..Identity::named("7") }
}

fn found(text: &str, scopes: &[&str]) -> Result<(Vec<String>, Option<String>), Fault> {
    let bridge = ["cats".to_owned(), "Größe".to_owned()];
    let asked = Asked::of_message(json::parse_str(text).unwrap());
    let stream = Stream::grant(&asked, &identity(scopes), &bridge)?;
    let channels = stream.channels.iter().map(|it| it.to_string()).collect();
    Ok((channels, stream.label.map(Into::into)))
}

#[test]
fn streams_are_made_of_channels() {
    let all = &["read"][..];
    for (text, scopes, channels, label) in [
        (r#"{"stream":"user"}"#, all, &["#timeline:7", "#timeline:7:notifications"][..], None),
        (r#"{"stream":"user"}"#, &["read:statuses"], &["#timeline:7"], None),
        (
            r#"{"stream":"user:notification"}"#,
            &["read:notifications"],
            &["#timeline:7:notifications"],
            Some(r#"["user:notification"]"#),
        ),
        (r#"{"stream":"public"}"#, all, &["#timeline:public"], None),
        (r#"{"stream":["public:local:media","x"]}"#, all, &["#timeline:public:local:media"], None),
        (r#"{"stream":"direct","tag":7}"#, all, &["#timeline:direct:7"], None),
        (r#"{"stream":"list","list":"05"}"#, all, &["#timeline:list:05"], None),
        (r#"{"stream":"list","list":5}"#, all, &["#timeline:list:5"], Some(r#"["list",5]"#)),
        (r#"{"stream":"hashtag","tag":"dogs"}"#, all, &["#timeline:hashtag:dogs"], None),
        (
            r#"{"stream":"hashtag","tag":"Fó \"O\""}"#,
            all,
            &["#timeline:hashtag:foo"],
            Some(r#"["hashtag","Fó \"O\""]"#),
        ),
        (
            r#"{"stream":"hashtag:local","tag":"Cats"}"#,
            all,
            &["#timeline:hashtag:cats:local"],
            Some(r#"["hashtag:local","Cats"]"#),
        ),
        (r#"{"stream":"hashtag","tag":"cats"}"#, all, &["#timeline:hashtag:cats", "cats"], None),
        (
            r#"{"stream":"hashtag","tag":"GRÖSSE"}"#,
            all,
            &["#timeline:hashtag:grosse"],
            Some(r#"["hashtag","GRÖSSE"]"#),
        ),
        (
            r#"{"stream":"hashtag","tag":"größe"}"#,
            all,
            &["#timeline:hashtag:große", "Größe"],
            Some(r#"["hashtag","größe"]"#),
        ),
    ] {
        let channels = channels.iter().map(|it| (*it).to_owned()).collect();
        let expected = Ok((channels, label.map(str::to_owned)));
        assert_eq!(found(text, scopes), expected, "{text}");
    }
}

#[test]
fn what_is_missing_is_told() {
    for (text, fault) in [
        ("{}", Fault::UnknownStream),
        (r#"{"stream":null}"#, Fault::UnknownStream),
        (r#"{"stream":[]}"#, Fault::UnknownStream),
        (r#"{"stream":["x"]}"#, Fault::UnknownStream),
        (r#"{"stream":{"a":"user"}}"#, Fault::UnknownStream),
        (r#"{"stream":"system"}"#, Fault::UnknownStream),
        (r#"{"stream":"hashtag"}"#, Fault::MissingTag),
        (r#"{"stream":"hashtag","tag":null}"#, Fault::MissingTag),
        (r#"{"stream":"hashtag","tag":""}"#, Fault::MissingTag),
        (r#"{"stream":"hashtag","tag":0}"#, Fault::MissingTag),
        (r#"{"stream":"hashtag","tag":false}"#, Fault::MissingTag),
        (r#"{"stream":"hashtag","tag":["a"]}"#, Fault::Unexpected),
        (r#"{"stream":"hashtag","tag":5}"#, Fault::Unexpected),
        (r#"{"stream":"list"}"#, Fault::MissingList),
        (r#"{"stream":"list","list":""}"#, Fault::MissingList),
        (r#"{"stream":"list","list":[5]}"#, Fault::ForeignList),
        (r#"{"stream":"list","list":true}"#, Fault::ForeignList),
    ] {
        assert_eq!(found(text, &["read"]), Err(fault), "{text}");
        // Who may not read is told nothing else.
        assert_eq!(found(text, &["write"]), Err(Fault::Scopes), "{text}");
    }
}

#[test]
fn paths_lead_to_streams() {
    let of = |path: &str, only_media| {
        kind_of_path(&format!("/api/v1/streaming/{path}"), only_media).map(Kind::name)
    };
    for (path, all, media) in [
        ("user", Some("user"), Some("user")),
        ("user/notification", Some("user:notification"), Some("user:notification")),
        ("public", Some("public"), Some("public:media")),
        ("public/local", Some("public:local"), Some("public:local:media")),
        ("public/remote", Some("public:remote"), Some("public:remote:media")),
        ("hashtag", Some("hashtag"), Some("hashtag")),
        ("hashtag/local", Some("hashtag:local"), Some("hashtag:local")),
        ("list", Some("list"), Some("list")),
        ("direct", Some("direct"), Some("direct")),
        ("", None, None),
        ("user/", None, None),
        ("public/media", None, None),
        ("public:media", None, None),
        ("health", None, None),
        ("%75ser", None, None),
    ] {
        assert_eq!((of(path, false), of(path, true)), (all, media), "{path}");
    }
    assert_eq!(kind_of_path("/api/v1/user", false), None);
}

#[test]
fn switches_say_yes_unless_they_say_no() {
    for no in ["", "0", "f", "F", "false", "FALSE", "off", "OFF"] {
        assert!(!is_truthy(no), "{no}");
    }
    for yes in ["1", "true", "no", "False", "Off", " ", "null"] {
        assert!(is_truthy(yes), "{yes}");
    }
}
