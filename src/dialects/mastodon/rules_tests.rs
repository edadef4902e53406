use super::super::brief::{Fate, Viewer};
use super::*;
use crate::wire::json;

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|it| (*it).to_owned()).collect()
}

fn account(id: &str) -> AccountRow {
    AccountRow { id: id.to_owned(), ..AccountRow::default() }
}

fn filter(account: &str, keywords: &[&str]) -> FilterRow {
    FilterRow {
        account: account.to_owned(),
        title: "t".to_owned(),
        context: texts(&["public"]),
        keywords: texts(keywords),
        ..FilterRow::default()
    }
}

#[test]
fn what_is_hidden_from_whom() {
    let rules = Rules::new(
        &[
            AccountRow { blocks: texts(&["10"]), lists: texts(&["5"]), ..account("1") },
            AccountRow { mutes: texts(&["10"]), ..account("2") },
            AccountRow { domain_blocks: texts(&["b.example"]), ..account("3") },
            AccountRow { languages: texts(&["de", "en"]), ..account("4") },
            AccountRow { blocks: texts(&["4"]), mutes: texts(&["3"]), ..account("10") },
        ],
        &[filter("1", &["dog"]), filter("1", &["cat"]), filter("9", &["cat"])],
    );
    for (status, hidden) in [
        // Who blocks or mutes the author, and whom the author blocks; not whom they mute.
        (r#"{"account":{"id":"10","acct":"a"}}"#, &["1", "2", "4"][..]),
        // Who blocks or mutes someone mentioned; whom they block, not.
        (r#"{"account":{"id":"11","acct":"a"},"mentions":[{"id":10}]}"#, &["1", "2"]),
        (r#"{"account":{"id":"11","acct":"a@b.example"}}"#, &["3"]),
        (r#"{"account":{"id":"11","acct":"a@c.b.example"}}"#, &[]),
        (r#"{"account":{"id":"11","acct":"a@B.example"}}"#, &[]),
    ] {
        let status = Status::read(json::parse_str(status).unwrap()).unwrap();
        let brief = rules.judge(&status, 1, UnixMillis(0));
        assert_eq!(brief.hidden_from, hidden.iter().map(|it| Name::from(*it)).collect());
    }
    assert!(rules.owns("1", "5") && !rules.owns("2", "5") && !rules.owns("1", "6"));
    assert!(!rules.owns("9", "5"));
    assert_eq!(rules.languages("4"), Some(vec!["de".into(), "en".into()]));
    assert_eq!((rules.languages("1"), rules.languages("9")), (None, None));

    let status = r#"{"account":{"id":"11","acct":"a"},"content":"Dogs and cats"}"#;
    let status = Status::read(json::parse_str(status).unwrap()).unwrap();
    let brief = rules.judge(&status, 1, UnixMillis(0));
    let fate = |account: &str| {
        let account = account.into();
        brief.fate(&Viewer { account, languages: None, judged_from: 0, local: true, remote: true })
    };
    assert_eq!(fate("4"), Fate::Plain);
    for (account, expected) in [("1", &["1", "2"][..]), ("9", &["3"])] {
        let Fate::Filtered(list) = fate(account) else { panic!("{account} looks for cats") };
        let list = json::parse_str(&list).unwrap();
        let mut ids = Vec::new();
        for result in list.items() {
            let id = result.member("filter").and_then(|it| it.member("id"));
            ids.extend(id.and_then(json::Raw::as_str).map(|it| it.into_owned()));
        }
        assert_eq!(ids, expected);
    }
}

#[test]
fn rows_that_contradict_are_faults() {
    let until = |at: &str| FilterRow { expires_at: at.to_owned(), ..filter("1", &["a"]) };
    assert_eq!(until("2023-11-14T22:13:20.5Z").expires(), Ok(Some(UnixMillis(1_700_000_000_500))));
    assert_eq!(
        until("2023-11-14T23:13:20+01:00").expires(),
        Ok(Some(UnixMillis(1_700_000_000_000)))
    );
    assert_eq!(until("").expires(), Ok(None));
    for (accounts, filters, expected) in [
        (&[account("1"), account("2")][..], &[filter("3", &["a"]), until("")][..], &[][..]),
        (&[account("1"), account("1")], &[], &["accounts"]),
        (&[], &[until("tomorrow"), until("1969-12-31T23:59:59Z")], &["filters", "filters"]),
        (&[], &[filter("1", &[]), filter("1", &["a", ""])], &["filters", "filters"]),
    ] {
        let faults = faults(accounts, filters);
        assert_eq!(faults.iter().map(|it| it.0).collect::<Vec<_>>(), expected, "{faults:?}");
    }
}
