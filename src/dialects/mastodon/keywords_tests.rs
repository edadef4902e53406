use super::*;
use crate::base::prng::Prng;

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

/// What JavaScript finds; made by `tests/data/mastodon.mjs`.
#[test]
fn keywords_are_found_as_javascript_does() {
    let oracle = json::parse_str(include_str!("../../../tests/data/mastodon.json")).unwrap();
    let (mut cases, mut found) = (0, 0);
    for case in oracle.member("keywords").unwrap().items() {
        let parts: Vec<_> = case.items().collect();
        let keywords = parts[0].items().map(|it| {
            let mut sides = it.items();
            let keyword = sides.next().and_then(json::Raw::as_str).unwrap();
            (keyword.into_owned(), sides.next().and_then(json::Raw::as_bool).unwrap())
        });
        let keywords: Vec<_> = keywords.collect();
        let keywords: Vec<_> = keywords.iter().map(|it| (&*it.0, it.1)).collect();
        let text = parts[1].as_str().unwrap();
        let expected = parts[2].as_str();
        assert_eq!(
            match_of(&keywords, &text).as_deref(),
            expected.as_deref(),
            "{keywords:?} in {text:?}"
        );
        (cases, found) = (cases + 1, found + usize::from(expected.is_some()));
    }
    assert!(cases > 700 && found > 150, "{found} of {cases}");
}

/// Everyone by themselves.
fn find_plainly(
    accounts: &HashMap<Name, Vec<KeywordFilter>>,
    text: &str,
    except: &HashSet<Name>,
) -> HashMap<Name, Arc<str>> {
    let mut results = HashMap::new();
    for (account, filters) in accounts {
        let mut alone = Keywords::default();
        alone.set(account, filters.clone());
        assert!(alone.runs.is_empty(), "few keywords are looked for one by one");
        results.extend(alone.find(text, except, UnixMillis(5)));
    }
    results
}

#[test]
fn many_accounts_find_what_each_would_find_alone() {
    for seed in 0..12 {
        let mut chance = Prng::new(seed);
        let mut all = Keywords::default();
        let mut plain = HashMap::new();
        let text = |chance: &mut Prng, length: u64| -> String {
            let pieces = ["a", "A", "b", "ɐ", "Ɐ", " ", "_", "ß", "σ", "ς", "-", "😀", "ab a"];
            (0..1 + chance.below(length)).map(|_| pieces[chance.below(13) as usize]).collect()
        };
        for step in 0..400 {
            let account = Name::from(&*chance.below(60).to_string());
            if chance.chance(1, 4) {
                all.remove(&account);
                plain.remove(&account);
            } else {
                let filters = (0..chance.below(4)).map(|i| {
                    let mut made = filter(&(10 - i).to_string(), &[]);
                    made.expires = chance.chance(1, 5).then(|| UnixMillis(chance.below(10)));
                    made.keywords = (0..chance.below(5))
                        .map(|_| (text(&mut chance, 5), chance.chance(1, 2)))
                        .collect();
                    made
                });
                let filters: Vec<_> = filters.collect();
                assert_eq!(all.set(&account, filters.clone()), 0);
                plain.insert(account, filters);
            }
            if step % 20 == 0 {
                let text = text(&mut chance, 60);
                let except = HashSet::from([chance.below(60).to_string().as_str().into()]);
                let found = all.find(&text, &except, UnixMillis(5));
                assert_eq!(found, find_plainly(&plain, &text, &except), "seed {seed}, step {step}");
            }
            assert!(plain.keys().all(|it| all.knows(it)));
            check(&all);
        }
        for account in plain.keys() {
            all.remove(account);
        }
        check(&all);
        assert!(all.is_empty() && all.places.is_empty() && all.bytes() == 0, "seed {seed}");
    }
}

/// Every place is at one account, free, or held by a run.
fn check(all: &Keywords) {
    let held = all.runs.iter().flat_map(|it| &it.members);
    let mut places: Vec<_> = held.chain(&all.young).chain(&all.free).copied().collect();
    places.sort_unstable();
    assert!(places.into_iter().eq(0..all.accounts.len() as u32), "each place once");
    assert!(all.young_keywords <= YOUNG_KEYWORDS_MAX);
    for run in &all.runs {
        let members = run.members.iter().filter_map(|it| all.accounts[*it as usize].as_ref());
        let lives: usize = members.map(|it| it.bytes).sum();
        assert_eq!(run.bytes - run.bytes_forgotten, lives);
        assert!(run.bytes_forgotten * 2 <= run.bytes);
    }
}

#[test]
fn runs_stay_few() {
    let mut all = Keywords::default();
    for account in 0..3000 {
        let account = Name::from(&*account.to_string());
        let keywords: Vec<_> = (0..5).map(|i| format!("{account} keyword {i}")).collect();
        let keywords: Vec<_> = keywords.iter().map(|it| (&**it, true)).collect();
        all.set(&account, vec![filter("1", &keywords)]);
        assert!(all.runs.len() <= 6, "{} runs", all.runs.len());
    }
    let found =
        all.find("A 77 keyword 3, 78 KEYWORD 4 and 79 keyword 5", &HashSet::new(), UnixMillis(0));
    let mut found: Vec<_> = found.keys().map(|it| &**it).collect();
    found.sort_unstable();
    assert_eq!(found, ["77", "78"]);
}

#[test]
fn too_many_keywords_are_left_out_and_counted() {
    let mut all = Keywords::default();
    let long = "x".repeat(1000);
    let keywords = vec![(&*long, false); 300];
    let left_out = all.set(&"1".into(), vec![filter("1", &keywords), filter("2", &[("y", false)])]);
    assert_eq!(left_out, 300 - ACCOUNT_BYTES_MAX / 1000);
    assert_eq!(all.find("y", &HashSet::new(), UnixMillis(0)).len(), 1);
}

#[test]
fn words_inside_each_other_end_in_time() {
    let mut all = Keywords::default();
    let words: Vec<_> = (1..600).map(|it| "a".repeat(it)).collect();
    let keywords: Vec<_> = words.iter().map(|it| (&**it, true)).collect();
    for account in ["1", "2"] {
        all.set(&account.into(), vec![filter("1", &keywords)]);
    }
    let text = "a".repeat(1 << 16);
    assert!(all.find(&text, &HashSet::new(), UnixMillis(0)).is_empty());
}
