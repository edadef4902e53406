use super::*;
use crate::push::publish::{Content, Intent, Target};

fn text(title: &str) -> Text {
    Text { title: Some(title.to_owned()), ..Text::default() }
}

fn spec(content: Content, locales: &[(&str, &str)]) -> Spec {
    let template = (!locales.is_empty()).then(|| Template {
        id: "t".into(),
        default_locale: "en".into(),
        locales: locales.iter().map(|(tag, title)| ((*tag).to_owned(), text(title))).collect(),
        overrides: Vec::new(),
        updated_at: 0,
    });
    let intent = Intent {
        id: None,
        key: None,
        key_span: None,
        fingerprint: [0; 16],
        targets: vec![Target::Channel("c".into())],
        content,
        credential_id: None,
        not_before: None,
        expires_at: None,
        skip_connected: false,
        passes_quota: false,
        is_sync: false,
    };
    Spec { intent, template }
}

fn values(template_data: &str) -> Content {
    Content { template_data: template_data.into(), ..Content::default() }
}

#[test]
fn places_are_filled_in_either_spelling() {
    let title = |place: &str, data: &str| {
        let spec = spec(values(data), &[("en", place)]);
        message(&spec, "", Provider::Fcm).map(|it| it.text.title.unwrap_or_default())
    };
    for (place, data, wanted) in [
        ("Hi {{name}}!", r#"{"name":"Ann"}"#, Ok("Hi Ann!")),
        ("Hi {{ data.name }}!", r#"{"name":"Ann"}"#, Ok("Hi Ann!")),
        ("{{user.name}} {{data.user.name}}", r#"{"user":{"name":"Ann"}}"#, Ok("Ann Ann")),
        ("{{data.a}}", r#"{"data":{"a":1},"a":2}"#, Ok("1")),
        ("{{n}} {{t}}", r#"{"n":1.50,"t":true}"#, Ok("1.50 true")),
        ("{{open", r#"{"open":1}"#, Ok("{{open")),
        ("}}{{a}}", r#"{"a":"{{a}}"}"#, Ok("}}{{a}}")),
        ("Hi {{name}}", r#"{"nam":"Ann"}"#, Err("name")),
        ("Hi {{data.name}}", "", Err("data.name")),
        ("Hi {{name}}", r#"{"name":null}"#, Err("name")),
    ] {
        match (title(place, data), wanted) {
            (Ok(title), Ok(wanted)) => assert_eq!(title, wanted, "{place}"),
            (Err(refused), Err(name)) => {
                assert_eq!((refused.status, refused.code), (400, "invalid_input"));
                assert!(refused.text.contains(&format!("\"{name}\"")), "{}", refused.text);
            }
            (is, wanted) => panic!("{place}: {is:?}, wanted {wanted:?}"),
        }
    }
}

#[test]
fn languages_fall_back_and_a_publish_may_ask_for_one() {
    let locales = [("de", "Hallo"), ("de-CH", "Grüezi"), ("en", "Hello"), ("fr", "Bonjour")];
    for (device, data, wanted) in [
        ("de-AT", "", "Hallo"),
        ("de_ch", "", "Grüezi"),
        ("DE-CH-1996", "", "Grüezi"),
        ("it", "", "Hello"),
        ("", "", "Hello"),
        ("de", r#"{"locale":"fr-CA"}"#, "Bonjour"),
        ("de", r#"{"locale":" "}"#, "Hallo"),
        ("de", r#"{"locale":"ja"}"#, "Hello"),
    ] {
        let spec = spec(values(data), &locales);
        let mut messages = Messages::default();
        let made = messages.of(&spec, device, Provider::WebPush);
        assert_eq!(made.text.title.as_deref(), Some(wanted), "{device} {data}");
        assert!(Arc::ptr_eq(&made, &messages.of(&spec, device, Provider::WebPush)), "made once");
    }
}

#[test]
fn values_are_what_devices_get_where_nothing_else_is() {
    let of = |content| message(&spec(content, &[]), "", Provider::Fcm).unwrap().data;
    assert_eq!(of(values(r#"{"a":1}"#)), r#"{"a":1}"#);
    assert_eq!(of(Content { data: r#"{"b":2}"#.into(), ..values(r#"{"a":1}"#) }), r#"{"b":2}"#);
    assert_eq!(of(Content::default()), "");
}
