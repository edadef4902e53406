//! Mastodon's statuses without sockets: what it costs to read one and to judge it for everyone.
//!
//! `cargo bench --bench mastodon`; nanoseconds per call, the least of several rounds.

use std::collections::HashSet;
use std::hint::black_box;
use std::time::Instant;

use ringmain::base::name::Name;
use ringmain::base::time::UnixMillis;
use ringmain::dialects::mastodon::judge::{KeywordFilter, Keywords, Status, judge};
use ringmain::dialects::mastodon::tags;
use ringmain::wire::json;

/// Accounts with filters.
const VIEWERS: usize = 4000;
/// Keywords of each.
const KEYWORDS: usize = 5;
const WALL: UnixMillis = UnixMillis(1_700_000_000_000);

fn main() {
    let text = status();
    println!("a status of {} bytes, {VIEWERS} viewers with {KEYWORDS} keywords each", text.len());
    let payload = json::parse_str(&text).expect("the status is JSON");
    report("parse", 1, || {
        black_box(json::parse_str(black_box(&text)).is_ok());
    });
    report("read", 1, || {
        black_box(Status::read(black_box(payload)));
    });
    let status = Status::read(payload).expect("the status has an author");
    report("its text", 1, || {
        black_box(status.text());
    });
    for (what, popular) in [("nobody finds it", 0), ("40 find it", 100), ("400 find it", 10)] {
        let keywords = keywords(popular);
        let brief = judge(&status, 1, HashSet::new(), &keywords, WALL);
        let found = VIEWERS.checked_div(popular).unwrap_or(0);
        assert_eq!(brief.filtered.len(), found, "{what}");
        report(&format!("judge, {what}"), VIEWERS, || {
            black_box(judge(black_box(&status), 1, HashSet::new(), &keywords, WALL));
        });
    }
    let keywords = keywords(0);
    println!("{:<44} {:>9} B", "memory of the keywords", keywords.bytes());
    report("one account comes and goes, judged between", 1, || {
        let mut few = Keywords::default();
        few.set(&"1".into(), filters(1, 0));
        black_box(judge(&status, 1, HashSet::new(), &few, WALL));
    });
    let begun = Instant::now();
    black_box(self::keywords(0));
    println!(
        "{:<44} {:>9} ns per account",
        "all of them come",
        begun.elapsed().as_nanos() as usize / VIEWERS
    );
    for tag in ["ringmain", "FóO", "日本語タグ"] {
        report(&format!("spell the tag {tag}"), 1, || {
            black_box(tags::normalize(black_box(tag)));
        });
    }
}

/// Words that look like those of a language.
fn word(mut seed: usize) -> String {
    const SYLLABLES: [&str; 16] = [
        "ka", "lo", "mi", "ter", "un", "sta", "re", "vo", "chi", "ner", "ba", "li", "gro", "en",
        "du", "fi",
    ];
    let mut word = String::new();
    seed = seed.wrapping_mul(2_654_435_761) & 0xffff_ffff;
    for _ in 0..2 + seed % 3 {
        seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12_345) & 0xffff_ffff;
        word.push_str(SYLLABLES[(seed >> 16) % 16]);
    }
    word
}

fn filters(account: usize, popular: usize) -> Vec<KeywordFilter> {
    let mut keywords: Vec<_> = (0..KEYWORDS)
        .map(|i| (format!("{}{}", word(account * 31 + i), word(i)), i % 2 == 0))
        .collect();
    if popular != 0 && account.is_multiple_of(popular) {
        keywords[0] = ("Ringmain".to_owned(), true);
    }
    vec![KeywordFilter {
        id: Name::from(&*account.to_string()),
        title: "not today".to_owned(),
        context: vec!["home".to_owned(), "public".to_owned()],
        expires: None,
        hides: false,
        keywords,
    }]
}

/// Everyone's keywords; one account of so many, if any, looks for a word of the status.
fn keywords(popular: usize) -> Keywords {
    let mut keywords = Keywords::default();
    for account in 0..VIEWERS {
        keywords.set(&Name::from(&*account.to_string()), filters(account, popular));
    }
    keywords
}

/// A status as Mastodon publishes it, 2.8 kB with 500 characters of content.
fn status() -> String {
    let words: Vec<_> = (0..70).map(|i| word(i + 7)).collect();
    let url = "https://social.example";
    let account = format!(
        r##"{{"id":"109302436954721982","username":"ann","acct":"ann","display_name":"Ann","locked":false,"bot":false,"discoverable":true,"group":false,"created_at":"2022-11-07T00:00:00.000Z","note":"<p>{}</p>","url":"{url}/@ann","uri":"{url}/users/ann","avatar":"{url}/system/accounts/avatars/109/302/436/954/721/982/original/1e9b4a8d8d4b1c4e.png","avatar_static":"{url}/system/accounts/avatars/109/302/436/954/721/982/original/1e9b4a8d8d4b1c4e.png","header":"{url}/headers/original/missing.png","header_static":"{url}/headers/original/missing.png","followers_count":1200,"following_count":340,"statuses_count":5120,"last_status_at":"2026-01-31","noindex":false,"emojis":[],"roles":[],"fields":[{{"name":"Pronouns","value":"she/her","verified_at":null}},{{"name":"Site","value":"<a href=\"{url}\" rel=\"me\">{url}</a>","verified_at":"2022-11-08T10:00:00.000+00:00"}}]}}"##,
        words[..60].join(" ")
    );
    let content = format!(
        r##"<p>{} &amp; ringmain</p><p>{}<br />{} <a href=\"{url}/tags/ringmain\" class=\"mention hashtag\" rel=\"tag\">#<span>ringmain</span></a></p>"##,
        words[20..40].join(" "),
        words[40..55].join(" "),
        words[55..].join(" ")
    );
    format!(
        r##"{{"id":"115000000000000001","created_at":"2026-01-31T12:00:00.000Z","in_reply_to_id":null,"in_reply_to_account_id":null,"sensitive":false,"spoiler_text":"","visibility":"public","language":"en","uri":"{url}/users/ann/statuses/115000000000000001","url":"{url}/@ann/115000000000000001","replies_count":0,"reblogs_count":0,"favourites_count":0,"edited_at":null,"content":"{content}","reblog":null,"application":{{"name":"Web","website":null}},"account":{account},"media_attachments":[],"mentions":[{{"id":"109302436954721983","username":"bob","url":"{url}/@bob","acct":"bob"}}],"tags":[{{"name":"ringmain","url":"{url}/tags/ringmain"}}],"emojis":[],"card":null,"poll":null}}"##
    )
}

/// Prints the least time of several rounds, and what it is for each of `shares`.
fn report(what: &str, shares: usize, mut call: impl FnMut()) {
    const ROUNDS: usize = 20;
    let mut least = f64::MAX;
    for _ in 0..ROUNDS {
        let calls = 50;
        let begun = Instant::now();
        for _ in 0..calls {
            call();
        }
        least = least.min(begun.elapsed().as_nanos() as f64 / f64::from(calls));
    }
    if shares == 1 {
        println!("{what:<44} {least:>9.0} ns");
    } else {
        println!("{what:<44} {least:>9.0} ns, {:.2} ns per viewer", least / shares as f64);
    }
}
