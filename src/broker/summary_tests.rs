//! Summaries in words, and against what is counted again from the beginning.

use std::collections::BTreeSet;

use super::*;
use crate::base::event_id::EventId;
use crate::base::ids::Serial;
use crate::base::prng::Prng;
use crate::broker::versioned::MessageRef;
use crate::wire::json;

const ALL: [Summarizer; 5] = [
    Summarizer::Total,
    Summarizer::Flag,
    Summarizer::Distinct,
    Summarizer::Unique,
    Summarizer::Multiple,
];

/// In words: `ann:like`, `ann:like*3`, `:like` of nobody, `-ann:like` taken back.
fn annotated(summarizer: Summarizer, words: &str) -> Annotated {
    let (is_back, words) = words.strip_prefix('-').map_or((false, words), |it| (true, it));
    let (words, count) = words.split_once('*').map_or((words, None), |it| (it.0, Some(it.1)));
    let (client, name) = words.split_once(':').unwrap_or((words, ""));
    let text = |it: &str| (!it.is_empty()).then(|| Name::from(it));
    let annotation = Annotation {
        message: MessageRef { id: EventId(1), serial: Serial(1) },
        kind: "k".into(),
        summarizer,
        name: text(name),
        client_id: text(client),
        count: count.map(|it| it.parse().unwrap()),
        data: None,
        encoding: None,
    };
    Annotated { annotation, takes_back: is_back.then_some(EventId(2)) }
}

fn text(payload: &Payload) -> &str {
    std::str::from_utf8(&payload.0).unwrap()
}

fn summary(summarizer: Summarizer, words: &str) -> Summary {
    let mut it = Summary::new(summarizer);
    for words in words.split_whitespace() {
        it.apply(&annotated(summarizer, words));
    }
    it
}

#[test]
fn each_summarizer_counts_as_it_says() {
    let (total, flag, distinct, unique, multiple) = (ALL[0], ALL[1], ALL[2], ALL[3], ALL[4]);
    for (summarizer, words, expected) in [
        (total, "", r#"{"total":0}"#),
        (total, "ann bob : ann*5 -ann", r#"{"total":3}"#),
        (flag, "", r#"{"total":0,"clientIds":[],"clipped":false}"#),
        (flag, "bob ann bob", r#"{"total":2,"clientIds":["ann","bob"],"clipped":false}"#),
        (flag, "bob ann bob -bob", r#"{"total":1,"clientIds":["ann"],"clipped":false}"#),
        (distinct, ":like", "{}"),
        (
            distinct,
            "ann:like ann:love bob:like ann:like",
            r#"{"like":{"total":2,"clientIds":["ann","bob"],"clipped":false},"love":{"total":1,"clientIds":["ann"],"clipped":false}}"#,
        ),
        (distinct, "ann:like -ann:like", "{}"),
        (
            distinct,
            "-ann:like ann:x -bob:x",
            r#"{"x":{"total":1,"clientIds":["ann"],"clipped":false}}"#,
        ),
        (
            unique,
            "ann:like bob:like ann:love",
            r#"{"like":{"total":1,"clientIds":["bob"],"clipped":false},"love":{"total":1,"clientIds":["ann"],"clipped":false}}"#,
        ),
        // What they have moved on from can be taken back; what they say now stands.
        (
            unique,
            "ann:like ann:love -ann:like",
            r#"{"love":{"total":1,"clientIds":["ann"],"clipped":false}}"#,
        ),
        (unique, "ann:like ann:love -ann:love", "{}"),
        (
            unique,
            "ann:like -ann:like ann:x",
            r#"{"x":{"total":1,"clientIds":["ann"],"clipped":false}}"#,
        ),
        (
            multiple,
            "ann:up*3 ann:up bob:up*2 :up*4",
            r#"{"up":{"total":10,"clientCounts":{"ann":4,"bob":2},"totalUnidentified":4,"totalClientIds":2,"clipped":false}}"#,
        ),
        (
            multiple,
            "ann:up*3 ann:up :up*4 -ann:up -:up*4",
            r#"{"up":{"total":4,"clientCounts":{},"totalUnidentified":4,"totalClientIds":0,"clipped":false}}"#,
        ),
        (
            multiple,
            "ann:up -ann:up",
            r#"{"up":{"total":0,"clientCounts":{},"totalUnidentified":0,"totalClientIds":0,"clipped":false}}"#,
        ),
    ] {
        let written = summary(summarizer, words).write(usize::MAX);
        assert_eq!(text(&written), expected, "{summarizer:?} {words}");
    }
}

#[test]
fn lists_of_clients_are_cut_to_fit() {
    let words: Vec<_> = (0..100).map(|n| format!("client-{n:02}:up")).collect();
    let words = words.join(" ");
    for summarizer in &ALL[1..] {
        let full = summary(*summarizer, &words);
        let whole = full.write(usize::MAX);
        let bytes = whole.0.len();
        assert_eq!(full.write(bytes), whole);
        let listed = |bytes_max| {
            let written = full.write(bytes_max);
            assert!(written.0.len() <= bytes_max, "{summarizer:?} {bytes_max}");
            assert!(text(&written).contains(r#""clipped":true"#));
            assert!(text(&written).contains(r#""total":100"#));
            text(&written).matches("client-").count()
        };
        assert_eq!(listed(bytes - 1), 64, "{summarizer:?}");
        let fits = |max: &usize| {
            let written = full.write(*max);
            written.0.len() <= *max && text(&written).contains("total")
        };
        let least = (0..bytes).find(fits).unwrap();
        let counts: BTreeSet<_> = (least..bytes).map(listed).collect();
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), [0, 1, 2, 4, 8, 16, 32, 64]);
    }
    // The least said goes first, and what is cut to nothing is still an object.
    let names = summary(Summarizer::Distinct, "a:one a:two b:two c:three b:three a:three");
    let one = text(&names.write(60)).to_owned();
    assert_eq!(one, r#"{"three":{"total":3,"clientIds":[],"clipped":true}}"#);
    assert_eq!(text(&names.write(10)), "{}");
    // Where there are no names, this is the least there is.
    let flag = summary(Summarizer::Flag, "ann");
    assert_eq!(text(&flag.write(0)), r#"{"total":1,"clientIds":[],"clipped":true}"#);
    assert_eq!(text(&summary(Summarizer::Total, "ann").write(0)), r#"{"total":1}"#);
}

/// What clients read, counted from all that was said: another way than the summary's own.
fn recounted(summarizer: Summarizer, all: &[Annotated]) -> String {
    let is_of = |it: &Annotated, name: Option<&Name>, client: Option<&Name>| {
        (name.is_none() || it.annotation.name.as_ref() == name)
            && it.annotation.client_id.as_ref() == client
    };
    let clients: BTreeSet<_> =
        all.iter().filter_map(|it| it.annotation.client_id.clone()).collect();
    let names: BTreeSet<_> = all.iter().filter_map(|it| it.annotation.name.clone()).collect();
    // What a client did last stands.
    let stands = |name: Option<&Name>, client: &Name| {
        let last = all.iter().rev().find(|it| is_of(it, name, Some(client)));
        last.filter(|it| it.takes_back.is_none())
    };
    let list = |clients: &[&Name]| {
        let quoted: Vec<_> = clients.iter().map(|it| format!("{:?}", &***it)).collect();
        let total = clients.len();
        format!(r#"{{"total":{total},"clientIds":[{}],"clipped":false}}"#, quoted.join(","))
    };
    let of_names = |of: &dyn Fn(&Name) -> Option<String>| {
        let parts = names.iter().filter_map(|name| Some(format!("{:?}:{}", &**name, of(name)?)));
        format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
    };
    match summarizer {
        Summarizer::Total => {
            let back = all.iter().filter(|it| it.takes_back.is_some()).count();
            format!(r#"{{"total":{}}}"#, all.len() - 2 * back)
        }
        Summarizer::Flag => {
            list(&clients.iter().filter(|it| stands(None, it).is_some()).collect::<Vec<_>>())
        }
        Summarizer::Distinct => of_names(&|name| {
            let who: Vec<_> =
                clients.iter().filter(|it| stands(Some(name), it).is_some()).collect();
            (!who.is_empty()).then(|| list(&who))
        }),
        Summarizer::Unique => of_names(&|name| {
            // The newest name that was said, unless that name was taken back since.
            let says = |client: &&Name| {
                let said =
                    |it: &&Annotated| it.takes_back.is_none() && is_of(it, None, Some(client));
                let newest = all.iter().rposition(|it| said(&it));
                newest.is_some_and(|at| {
                    let is_back = |it: &Annotated| {
                        it.takes_back.is_some() && is_of(it, Some(name), Some(client))
                    };
                    all[at].annotation.name.as_ref() == Some(name) && !all[at..].iter().any(is_back)
                })
            };
            let who: Vec<_> = clients.iter().filter(says).collect();
            (!who.is_empty()).then(|| list(&who))
        }),
        Summarizer::Multiple => of_names(&|name| {
            let count = |it: &Annotated| it.annotation.count.unwrap_or(1);
            let of_client = |client: &Name| {
                let own = all.iter().rev().filter(|it| is_of(it, Some(name), Some(client)));
                own.take_while(|it| it.takes_back.is_none()).map(count).sum::<u64>()
            };
            let counts: Vec<_> =
                clients.iter().map(|it| (it, of_client(it))).filter(|it| it.1 > 0).collect();
            let nobodys = all.iter().filter(|it| is_of(it, Some(name), None));
            let nobodys: u64 = nobodys.filter(|it| it.takes_back.is_none()).map(count).sum();
            let total = nobodys + counts.iter().map(|it| it.1).sum::<u64>();
            let listed: Vec<_> =
                counts.iter().map(|(it, count)| format!("{:?}:{count}", &***it)).collect();
            Some(format!(
                r#"{{"total":{total},"clientCounts":{{{}}},"totalUnidentified":{nobodys},"totalClientIds":{},"clipped":false}}"#,
                listed.join(","),
                counts.len()
            ))
        }),
    }
}

#[test]
fn a_summary_is_what_is_counted_from_the_beginning() {
    for seed in 0..400 {
        let mut chance = Prng::new(seed);
        for summarizer in ALL {
            let mut it = Summary::new(summarizer);
            let mut all: Vec<Annotated> = Vec::new();
            let mut standing: Vec<usize> = Vec::new();
            for _ in 0..60 {
                let next = if !standing.is_empty() && chance.below(3) == 0 {
                    let at = standing.swap_remove(chance.below(standing.len() as u64) as usize);
                    Annotated { takes_back: Some(EventId(at as u128)), ..all[at].clone() }
                } else {
                    let client = ["ann", "bob", "zoë\"x", ""][chance.below(4) as usize];
                    let client = match (client, summarizer) {
                        ("", Summarizer::Total | Summarizer::Multiple) => "",
                        ("", _) => "cy",
                        _ => client,
                    };
                    let name = ["up", "down", "\u{1f44f}"][chance.below(3) as usize];
                    let count = [1, 9, 10, 12_345][chance.below(4) as usize];
                    standing.push(all.len());
                    annotated(summarizer, &format!("{client}:{name}*{count}"))
                };
                it.apply(&next);
                all.push(next);
                let written = it.write(usize::MAX);
                assert_eq!(text(&written), recounted(summarizer, &all), "seed {seed}");
                assert_eq!(written.0.len(), it.written_bytes(), "seed {seed}");
                assert!(json::parse(&written.0).is_ok());
                let mut stored = BytesMut::new();
                it.encode(&mut stored);
                let mut stored = stored.freeze();
                let end = chance.below(stored.len() as u64) as usize;
                assert_eq!(Summary::decode(&mut stored.slice(..end)), None, "seed {seed}");
                assert_eq!(Summary::decode(&mut stored).as_ref(), Some(&it), "seed {seed}");
                assert!(stored.is_empty());
            }
            for at in standing {
                it.apply(&Annotated { takes_back: Some(EventId(1)), ..all[at].clone() });
            }
            let names = if summarizer == Summarizer::Multiple { 3 * (ENTRY_BYTES + 4) } else { 0 };
            assert!(it.bytes() <= ENTRY_BYTES + names, "seed {seed}: {it:?}");
        }
    }
}
