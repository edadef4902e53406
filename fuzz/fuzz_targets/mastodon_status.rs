//! Statuses and keywords: whatever was published is judged or broken, results are JSON, and looking for everyone's
//! keywords in one pass finds what looking for one account's does.
//!
//! The input: keywords in lines, an empty line, and a message.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use ringmain::base::name::Name;
use ringmain::base::time::UnixMillis;
use ringmain::dialects::mastodon::envelope::Envelope;
use ringmain::dialects::mastodon::judge::{KeywordFilter, Keywords, Status, judge};
use ringmain::wire::json;

/// Enough accounts that they are not looked at one by one.
const ACCOUNTS: usize = 70;
const WALL: UnixMillis = UnixMillis(1);

fn filters(keywords: &str, whole: bool) -> Vec<KeywordFilter> {
    vec![KeywordFilter {
        id: "1".into(),
        title: keywords.to_owned(),
        context: vec![keywords.to_owned()],
        expires: None,
        hides: whole,
        keywords: keywords.lines().take(12).map(|it| (it.to_owned(), whole)).collect(),
    }]
}

fuzz_target!(|text: &str| {
    let (keywords, message) = text.split_once("\n\n").unwrap_or(("a\nb", text));
    let Ok(envelope) = Envelope::read(message.as_bytes()) else { return };
    let Some(status) = envelope.payload.and_then(Status::read) else { return };
    let hidden = HashSet::from([status.author.clone()]);
    let mut all = Keywords::default();
    for account in 0..ACCOUNTS {
        all.set(&Name::from(&*account.to_string()), filters(keywords, account % 2 == 0));
    }
    let together = judge(&status, 1, hidden.clone(), &all, WALL);
    for account in 0..4 {
        let account = Name::from(&*account.to_string());
        let mut one = Keywords::default();
        one.set(&account, filters(keywords, account.ends_with(['0', '2'])));
        let alone = judge(&status, 1, hidden.clone(), &one, WALL);
        assert_eq!(alone.filtered.get(&account), together.filtered.get(&account));
        if let Some(list) = alone.filtered.get(&account) {
            let list = json::parse_str(list).expect("results are JSON");
            assert_eq!(list.items().count(), 1);
        }
    }
});
