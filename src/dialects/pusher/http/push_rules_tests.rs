use super::*;
use crate::base::time::{Millis, Nanos, UnixMillis};

fn rules(rows: Vec<PushRule>) -> PushRules {
    PushRules::new(&PushSettings { rules: rows, ..PushSettings::default() }, Millis(1_000))
}

fn row(pattern: &str, events: &[&str]) -> PushRule {
    PushRule {
        pattern: pattern.into(),
        events: events.iter().map(|it| (*it).to_owned()).collect(),
        includes_rest: true,
        per_second_max: 100,
        ..PushRule::default()
    }
}

fn now(millis: u64) -> Now {
    Now { steady: Nanos(0) + Millis(millis), wall: UnixMillis(millis) }
}

/// Title, body, data, template and what that is given, of what goes with an event of `news-1` called `done`.
fn told(row: PushRule, data: &str) -> Option<[String; 5]> {
    let intent = rules(vec![row]).notification("app", "news-1", "done", data.as_bytes(), now(0))?;
    let Content { template_id, template_data, text, data, .. } = intent.content;
    assert_eq!(intent.targets, [Target::Channel("news-1".into())]);
    let or = Option::unwrap_or_default;
    Some([or(text.title), or(text.body), data, or(template_id), template_data])
}

#[test]
fn an_event_becomes_what_its_rule_says() {
    let plain = || row("news-*", &["done", "over*"]);
    let cases: [(PushRule, &str, Option<[&str; 5]>); 11] = [
        (plain(), r#"{"title":"T","body":"B"}"#, Some(["T", "B", "", "", ""])),
        // As back ends of Pusher's protocol send it: JSON in a text.
        (plain(), r#""{\"title\":\"T\",\"n\":1}""#, Some(["T", "", r#"{"n":1}"#, "", ""])),
        (
            plain(),
            r#"{"body":"B","data":{"a":1,"b":2},"b":3,"c":[4]}"#,
            Some(["", "B", r#"{"a":1,"b":2,"c":[4]}"#, "", ""]),
        ),
        (
            PushRule { includes_rest: false, ..plain() },
            r#"{"body":"B","data":{"a":1},"c":4}"#,
            Some(["", "B", r#"{"a":1}"#, "", ""]),
        ),
        (
            PushRule { title_field: "head".into(), body_field: "text".into(), ..plain() },
            r#"{"head":"H","text":"X","title":"T"}"#,
            Some(["H", "X", r#"{"title":"T"}"#, "", ""]),
        ),
        (
            PushRule { template: "greeting".into(), ..plain() },
            r#"{"name":"Ann"}"#,
            Some(["", "", "", "greeting", r#"{"name":"Ann"}"#]),
        ),
        (plain(), r#"{"n":1}"#, None),
        (plain(), r#"{"title":7,"body":""}"#, None),
        (plain(), r#""words""#, None),
        (plain(), "[1]", None),
        (PushRule { app: "other".into(), ..plain() }, r#"{"title":"T"}"#, None),
    ];
    for (row, data, expected) in cases {
        let expected = expected.map(|it| it.map(str::to_owned));
        assert_eq!(told(row, data), expected, "{data}");
    }
    for (pattern, event) in [("other-*", "done"), ("news-*", "begun")] {
        assert_eq!(told(row(pattern, &[event]), r#"{"title":"T"}"#), None, "{pattern} {event}");
    }
}

#[test]
fn what_is_too_long_is_cut() {
    let long = "ä".repeat(2_000);
    let data = format!(r#"{{"title":"{long}","body":"{long}","small":1,"large":"{long}","z":2}}"#);
    let [title, body, data, ..] = told(row("news-*", &["*"]), &data).expect("one");
    assert!(title.len() <= TITLE_BYTES_MAX && title.starts_with('ä') && title.ends_with("ä…"));
    assert!(body.len() <= BODY_BYTES_MAX && body.len() > BODY_BYTES_MAX - 3);
    assert_eq!(data, r#"{"small":1,"z":2}"#);
}

#[test]
fn the_first_rule_counts_and_each_has_its_pace() {
    let per_second_max = 10;
    let first = PushRule { per_second_max, ..row("news-*", &["done"]) };
    let rules = rules(vec![first, row("*", &["*"])]);
    let told = |channel: &str, at: u64| {
        rules.notification("app", channel, "done", br#"{"title":"T"}"#, now(at)).is_some()
    };
    let count = |at: u64| (0..50).filter(|_| told("news-1", at)).count();
    assert_eq!(count(1_000), 10, "a second's worth at once");
    assert_eq!(count(1_050), 0);
    assert_eq!(count(1_300), 3);
    assert_eq!(count(60_000), 10, "what was not used is gone");
    assert!(told("else", 60_000), "another rule has another");
}
