use super::*;
use crate::base::event_id::EventId;
use crate::base::ids::{AppIndex, ConnectionId, Epoch, Serial, ShardId};
use crate::base::name::Channel;
use crate::base::prng::Prng;
use crate::base::time::{Nanos, UnixMillis};
use crate::broker::versioned::{About, Action, MessageRef, Mutated};
use crate::broker::{Meta, Payload, Sender, Tag, Tags};
use crate::wire::json;

fn payload(text: &str) -> Payload {
    Payload(text.to_owned().into())
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    let tag = |&(name, value): &(&str, &str)| Tag { name: name.into(), value: value.into() };
    pairs.iter().map(tag).collect::<Vec<_>>().into()
}

fn message(name: &str, data: &str, pairs: &[(&str, &str)]) -> Event {
    Event {
        channel: Channel { app: AppIndex(0), name: "orders".into() },
        serial: Serial(7),
        epoch: Some(Epoch(1)),
        id: EventId(9),
        at: UnixMillis(0),
        arrived: Nanos(0),
        tags: tags(pairs),
        meta: None,
        guarded: false,
        happening: Happening::Message { name: name.into(), data: payload(data), sender: None },
    }
}

fn read(text: &str) -> Result<Predicate, String> {
    Predicate::read(json::parse_str(text).unwrap())
}

fn admits(filter: &str, event: &Event) -> bool {
    read(filter).unwrap_or_else(|it| panic!("{filter}: {it}")).admits(event)
}

#[test]
fn tags_are_compared_as_documented() {
    let event = message("e", "1", &[("kind", "order"), ("n", "10"), ("empty", ""), ("kind", "x")]);
    for (node, holds) in [
        (r#"{"key":"kind","cmp":"eq","val":"order"}"#, true),
        (r#"{"key":"kind","cmp":"eq","val":"x"}"#, false),
        (r#"{"key":"kind","cmp":"neq","val":"order"}"#, false),
        (r#"{"key":"none","cmp":"neq","val":"order"}"#, true),
        (r#"{"key":"none","cmp":"eq","val":"order"}"#, false),
        (r#"{"key":"kind","cmp":"in","vals":["a","order"]}"#, true),
        (r#"{"key":"kind","cmp":"nin","vals":["a","order"]}"#, false),
        (r#"{"key":"none","cmp":"nin","vals":["a"]}"#, true),
        (r#"{"key":"none","cmp":"in","vals":["a"]}"#, false),
        (r#"{"key":"n","cmp":"in","vals":[9,10]}"#, true),
        (r#"{"key":"empty","cmp":"ex"}"#, true),
        (r#"{"key":"empty","cmp":"nex"}"#, false),
        (r#"{"key":"none","cmp":"ex"}"#, false),
        (r#"{"key":"none","cmp":"nex"}"#, true),
        (r#"{"key":"kind","cmp":"sw","val":"ord"}"#, true),
        (r#"{"key":"kind","cmp":"ew","val":"der"}"#, true),
        (r#"{"key":"kind","cmp":"ct","val":"rde"}"#, true),
        (r#"{"key":"kind","cmp":"ct","val":"zz"}"#, false),
        (r#"{"key":"none","cmp":"ct","val":"zz"}"#, false),
        (r#"{"key":"n","cmp":"gt","val":"9.5"}"#, true),
        (r#"{"key":"n","cmp":"gte","val":10}"#, true),
        (r#"{"key":"n","cmp":"lt","val":"10"}"#, false),
        (r#"{"key":"n","cmp":"lte","val":"1e1"}"#, true),
        (r#"{"key":"kind","cmp":"gt","val":"1"}"#, false),
        (r#"{"key":"n","cmp":"gt","val":"one"}"#, false),
        (r#"{"key":"none","cmp":"lt","val":"1"}"#, false),
        (r#"{"op":"and","nodes":[{"key":"n","cmp":"ex"},{"key":"kind","cmp":"ex"}]}"#, true),
        (r#"{"op":"and","nodes":[{"key":"n","cmp":"ex"},{"key":"none","cmp":"ex"}]}"#, false),
        (r#"{"op":"or","nodes":[{"key":"none","cmp":"ex"},{"key":"n","cmp":"ex"}]}"#, true),
        (r#"{"op":"not","nodes":[{"key":"none","cmp":"ex"}]}"#, true),
    ] {
        assert_eq!(admits(node, &event), holds, "{node}");
        assert_eq!(admits(&format!("{{\"tags\":{node}}}"), &event), holds, "{node}");
    }
}

#[test]
fn all_parts_of_a_filter_count() {
    let event = message("order.paid", r#"{"total":125}"#, &[("kind", "order")]);
    for (filter, holds) in [
        (r#"{"events":["order.paid","x"]}"#, true),
        (r#"{"events":["x"]}"#, false),
        (r#"{"events":[]}"#, true),
        (r#"{"events":["order.paid"],"tags":{"key":"kind","cmp":"eq","val":"y"}}"#, false),
        (r#"{"events":["order.paid"],"expression":"data.total > `100`"}"#, true),
        (r#"{"events":["order.paid"],"expression":"data.total > `200`","tags":null}"#, false),
        (r#"{"expression":{"language":"jmespath","source":"tags.kind == 'order'"}}"#, true),
        (r#"{"expression":{"source":"abs(event)"}}"#, false),
    ] {
        assert_eq!(admits(filter, &event), holds, "{filter}");
    }
}

#[test]
fn expressions_see_what_subscribers_are_told() {
    let mut event =
        message("e", r#""{\"total\":3,\"list\":[1]}""#, &[("kind", "a"), ("kind", "b")]);
    event.meta = Some(Arc::new(Meta {
        extras: Some(payload(r#"{"headers":{"priority":"high","sockudo_action":"no"},"x":1}"#)),
        ..Meta::default()
    }));
    for expression in [
        "event == 'e' && channel == 'orders' && action == 'create'",
        "data.total == `3` && data.list[0] == `1`",
        "tags == `{\"kind\":\"a\"}`",
        "headers == `{\"priority\":\"high\"}`",
        "messageId == '00000000000000000000000009' && serial == `7` && type(streamId) == 'string'",
        "type(name) == 'null' && type(userId) == 'null'",
        "sort(keys(@)) == ['action', 'channel', 'data', 'event', 'headers', 'messageId', 'name', 'serial', \
         'streamId', 'tags', 'userId']",
    ] {
        let filter = json_filter(expression);
        assert!(admits(&filter, &event), "{expression}");
    }
    // Text that is no JSON stays text, and what a peer sent keeps its type.
    assert!(admits(&json_filter("data == 'plain'"), &message("e", "\"plain\"", &[])));
    event.happening = Happening::Message {
        name: "client-e".into(),
        data: payload(r#"{"n":1}"#),
        sender: Some(Sender {
            connection: ConnectionId { shard: ShardId(0), slot: 0, generation: 0 },
            user_id: Some("ann".into()),
        }),
    };
    assert!(admits(&json_filter("data.n == `1` && userId == 'ann'"), &event));
    let large = message("e", &format!("\"{}\"", "a".repeat(65 << 10)), &[]);
    assert!(!admits(&json_filter("event == 'e'"), &large));
}

fn json_filter(expression: &str) -> String {
    let mut text = b"{\"expression\":".to_vec();
    json::write_str(&mut text, expression);
    text.push(b'}');
    String::from_utf8(text).unwrap()
}

#[test]
fn versions_are_filtered_and_nothing_else_is() {
    let mut event = message("order.paid", "1", &[("kind", "order")]);
    event.happening = Happening::Mutated(Arc::new(Mutated {
        message: MessageRef { id: EventId(4), serial: Serial(1) },
        action: Action::Update,
        name: Some("order.paid".into()),
        data: Some(payload(r#"{"total":5}"#)),
        fragment: None,
        keeps_type: true,
        about: About::default(),
    }));
    for (filter, holds) in [
        (r#"{"events":["order.paid"]}"#, true),
        (r#"{"events":["sockudo:message.update"]}"#, true),
        (r#"{"events":["sockudo:message.delete"]}"#, false),
        (r#"{"key":"kind","cmp":"eq","val":"order"}"#, true),
        (r#"{"key":"kind","cmp":"eq","val":"x"}"#, false),
        (
            r#"{"expression":"action == 'update' && name == 'order.paid' && data.total == `5`"}"#,
            true,
        ),
        (r#"{"expression":"messageId == '00000000000000000000000004'"}"#, true),
    ] {
        assert_eq!(admits(filter, &event), holds, "{filter}");
    }
    event.happening = Happening::SubscriptionCount(3);
    event.tags = Tags::default();
    assert!(admits(r#"{"events":["x"],"tags":{"key":"kind","cmp":"ex"}}"#, &event));
}

#[test]
fn what_is_no_filter_is_refused_in_words() {
    let leaf = r#"{"key":"a","cmp":"ex"}"#;
    let many = |n: usize| vec![leaf; n].join(",");
    let deep =
        |n: usize| format!("{}{leaf}{}", r#"{"op":"not","nodes":["#.repeat(n), "]}".repeat(n));
    let names = |n: usize| vec!["\"e\""; n].join(",");
    let text = |n: usize| "a".repeat(n);
    for (filter, error) in [
        (
            r#"{"key":"a","cmp":"zz","val":"b"}"#.to_owned(),
            "Invalid tags filter: unknown comparison operator: zz",
        ),
        ("{}".into(), "Invalid tags filter: Leaf node requires a non-empty key"),
        ("[]".into(), "Invalid tags filter: a node is an object"),
        (r#"{"key":"a"}"#.into(), "Invalid tags filter: Leaf node requires a comparison operator"),
        (
            r#"{"key":"a","cmp":"eq"}"#.into(),
            "Invalid tags filter: eq operation requires a non-empty val",
        ),
        (
            r#"{"key":"a","cmp":"eq","val":""}"#.into(),
            "Invalid tags filter: eq operation requires a non-empty val",
        ),
        (
            r#"{"key":"a","cmp":"in","vals":[]}"#.into(),
            "Invalid tags filter: in operation requires at least one value in vals",
        ),
        (
            r#"{"key":"a","cmp":"in","vals":[{}]}"#.into(),
            "Invalid tags filter: a value is a string, a number or a boolean",
        ),
        (
            r#"{"key":"a","cmp":"ex","nodes":[{}]}"#.into(),
            "Invalid tags filter: comparison node contains child nodes",
        ),
        (r#"{"op":"xor","nodes":[]}"#.into(), "Invalid tags filter: unknown logical operator: xor"),
        (
            r#"{"op":"and","nodes":[]}"#.into(),
            "Invalid tags filter: and operation requires at least one child node",
        ),
        (
            format!(r#"{{"op":"not","nodes":[{}]}}"#, many(2)),
            "Invalid tags filter: not operation requires exactly one child node, got 2",
        ),
        (
            r#"{"op":"and","key":"a","nodes":[]}"#.into(),
            "Invalid tags filter: logical node contains comparison fields",
        ),
        (r#"{"op":1}"#.into(), "Invalid tags filter: op is not a string"),
        (
            format!(r#"{{"op":"and","nodes":[{}]}}"#, many(128)),
            "Invalid subscription filter: tag filter exceeds the node limit of 128",
        ),
        (deep(16), "Invalid subscription filter: tag filter exceeds the depth limit of 16"),
        (
            format!(r#"{{"key":"{}","cmp":"ex"}}"#, text(257)),
            "Invalid subscription filter: tag filter key exceeds the byte limit of 256",
        ),
        (
            format!(r#"{{"key":"a","cmp":"eq","val":"{}"}}"#, text(1025)),
            "Invalid subscription filter: tag filter value exceeds the byte limit of 1024",
        ),
        (
            format!(r#"{{"key":"a","cmp":"in","vals":[{}]}}"#, names(129)),
            "Invalid subscription filter: tag filter value list exceeds the limit of 128",
        ),
        (r#"{"events":"e"}"#.into(), "filter.events must be an array of non-empty strings"),
        (r#"{"events":[""]}"#.into(), "filter.events must contain only non-empty strings"),
        (
            format!(r#"{{"events":[{}]}}"#, names(51)),
            "filter.events exceeds maximum of 50 event names",
        ),
        (
            format!(r#"{{"events":["{}"]}}"#, text(201)),
            &format!("Event name '{}...' exceeds maximum length of 200 characters", text(40)),
        ),
        (r#"{"expression":""}"#.into(), "filter.expression must be a JMESPath string or object"),
        (r#"{"expression":5}"#.into(), "filter.expression must be a JMESPath string or object"),
        (
            r#"{"expression":{"language":"cel","source":"a"}}"#.into(),
            "Unsupported filter expression language 'cel'",
        ),
        (r#"{"expression":{}}"#.into(), "filter.expression.source must be a non-empty string"),
        (
            r#"{"expression":"a ="}"#.into(),
            "Invalid subscription filter: invalid JMESPath expression: unexpected character at byte 2",
        ),
        (
            json_filter(&format!("'{}'", text(4096))),
            "Invalid subscription filter: JMESPath expression exceeds the byte limit of 4096",
        ),
    ] {
        assert_eq!(read(&filter).map(|_| ()), Err(error.to_owned()), "{filter}");
    }
    assert!(read(&deep(15)).is_ok());
    assert!(read(&format!(r#"{{"op":"and","nodes":[{}]}}"#, many(127))).is_ok());
    assert!(read(&format!(r#"{{"events":[{}]}}"#, names(50))).is_ok());
}

/// Whoever is not found by a tag is not admitted.
#[test]
fn tags_find_everyone_who_is_admitted() {
    let mut found = 0;
    for seed in 0..3000 {
        let mut prng = Prng::new(seed);
        let node = random(&mut prng, 3);
        let filter = read(&node).unwrap();
        let Some(any_of) = filter.tags.as_ref().and_then(Node::any_of) else { continue };
        found += 1;
        for _ in 0..20 {
            let names = ["a", "b", "c"];
            let values = ["1", "2", "3"];
            let mut pairs = Vec::new();
            for _ in 0..prng.below(4) {
                pairs.push((names[prng.below(3) as usize], values[prng.below(3) as usize]));
            }
            let event = message("e", "1", &pairs);
            let is_found = event.tags.as_slice().iter().any(|tag| any_of.contains(tag));
            assert!(is_found || !filter.admits(&event), "seed {seed}: {node} {pairs:?}");
        }
    }
    assert!(found > 500, "{found}");
}

fn random(prng: &mut Prng, depth: u64) -> String {
    let name = ["a", "b", "c"][prng.below(3) as usize];
    let value = 1 + prng.below(3);
    match prng.below(3 + 3 * depth.min(1)) {
        0 => format!(r#"{{"key":"{name}","cmp":"eq","val":{value}}}"#),
        1 => format!(r#"{{"key":"{name}","cmp":"in","vals":[{value},2]}}"#),
        2 => format!(r#"{{"key":"{name}","cmp":"neq","val":{value}}}"#),
        n => {
            let op = ["and", "or", "not"][n as usize - 3];
            let below = if op == "not" { 1 } else { 1 + prng.below(3) };
            let below: Vec<_> = (0..below).map(|_| random(prng, depth - 1)).collect();
            format!(r#"{{"op":"{op}","nodes":[{}]}}"#, below.join(","))
        }
    }
}
