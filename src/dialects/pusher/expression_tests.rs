use super::*;
use crate::base::prng::Prng;
use crate::wire::json;

fn ask(expression: &str, document: &str) -> Result<String, Unanswered> {
    let expression = Expression::new(expression).unwrap_or_else(|it| panic!("{expression}: {it}"));
    let document = Value::new(json::parse_str(document).unwrap());
    let answer = expression.ask(document)?;
    let mut out = Vec::new();
    answer.write(&mut out, &mut value::Steps(STEPS_MAX))?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn answers_are_those_of_the_specification() {
    let document = r#"{"a":{"b":{"c":1},"d":"text","list":[1,2,3,4,5],"none":null,"x y":7},
        "people":[{"name":"ann","age":30,"tags":["x","y"]},{"name":"bob","age":25,"tags":[]},{"name":"cy","age":35}],
        "nested":[[1,[2]],[3],4],"empty":{},"yes":true,"no":false,"e":"\u00e9\n\"","big":9007199254740991,"f":1.5}"#;
    for (expression, expected) in [
        ("a.b.c", "1"),
        ("a.missing.more", "null"),
        ("a.\"x y\"", "7"),
        ("a.list[0]", "1"),
        ("a.list[-1]", "5"),
        ("a.list[9]", "null"),
        ("a.list[1:3]", "[2,3]"),
        ("a.list[::-1]", "[5,4,3,2,1]"),
        ("a.list[::2]", "[1,3,5]"),
        ("a.list[-2:]", "[4,5]"),
        ("a.list[4:0:-2]", "[5,3]"),
        ("people[*].name", r#"["ann","bob","cy"]"#),
        ("people[].tags[]", r#"["x","y"]"#),
        ("people[*].tags", r#"[["x","y"],[]]"#),
        ("people[?age > `26`].name", r#"["ann","cy"]"#),
        ("people[?name == 'bob'] | [0].age", "25"),
        ("people[?tags && age < `40`].name | [0]", r#""ann""#),
        ("nested[]", "[1,[2],3,4]"),
        ("nested[][]", "[1,2,3,4]"),
        ("a.b.*", "[1]"),
        ("*.c", "[]"),
        ("*.b.c", "[1]"),
        ("a.*.c", "[1]"),
        ("{n: a.d, \"l\": length(people)}", r#"{"n":"text","l":3}"#),
        ("[a.d, yes]", r#"["text",true]"#),
        ("a.[d, b.c]", r#"["text",1]"#),
        ("missing.[d]", "null"),
        ("yes && no", "false"),
        ("empty || a.d", r#""text""#),
        ("!no && !empty", "true"),
        ("no || yes && no", "false"),
        ("(no || yes) && a.d == 'text'", "true"),
        ("a.b == `{\"c\": 1.0}`", "true"),
        ("a.b != `{\"c\": 2}`", "true"),
        ("a.d < `3`", "null"),
        ("f >= `1.5`", "true"),
        ("'it\\'s' == `\"it's\"`", "true"),
        ("'a\\b'", r#""a\\b""#),
        ("`\"\\`\"`", r#""`""#),
        ("e", r#""é\n\"""#),
        ("big", "9007199254740991"),
        ("@.yes", "true"),
        ("abs(`-2`)", "2"),
        ("avg(a.list)", "3"),
        ("avg(`[]`)", "null"),
        ("ceil(f)", "2"),
        ("floor(f)", "1"),
        ("contains(a.d, 'ex')", "true"),
        ("contains(a.list, `3`)", "true"),
        ("contains(a.d, `3`)", "false"),
        ("starts_with(a.d, 'te')", "true"),
        ("ends_with(a.d, 'te')", "false"),
        ("join('-', people[].name)", r#""ann-bob-cy""#),
        ("keys(a.b)", r#"["c"]"#),
        ("values(a.b)", "[1]"),
        ("length(e)", "3"),
        ("map(&age, people)", "[30,25,35]"),
        ("map(&missing, people)", "[null,null,null]"),
        ("max(a.list)", "5"),
        ("min(people[].name)", r#""ann""#),
        ("max_by(people, &age).name", r#""cy""#),
        ("min_by(people, &age).name", r#""bob""#),
        ("sort_by(people, &age)[].name", r#"["bob","ann","cy"]"#),
        ("sort(`[3,1,2]`)", "[1,2,3]"),
        ("reverse(a.list)", "[5,4,3,2,1]"),
        ("reverse(a.d)", r#""txet""#),
        ("merge(a.b, `{\"c\":2,\"d\":3}`)", r#"{"c":2,"d":3}"#),
        ("not_null(a.none, a.missing, a.d)", r#""text""#),
        ("sum(a.list)", "15"),
        ("to_array(a.d)", r#"["text"]"#),
        ("to_number('12.5')", "12.5"),
        ("to_number('x')", "null"),
        ("to_string(a.b)", r#""{\"c\":1}""#),
        ("type(a.none)", r#""null""#),
        ("type(people)", r#""array""#),
    ] {
        assert_eq!(ask(expression, document).as_deref(), Ok(expected), "{expression}");
    }
}

#[test]
fn what_makes_no_sense_of_a_document_is_not_answered() {
    for expression in [
        "abs(a)",
        "length(`3`)",
        "sum(['a'])",
        "sort([`1`, 'a'])",
        "keys(`[]`)",
        "join('-', [`1`])",
        "starts_with(a, 'x')",
        "max_by(`[{\"a\":1},{\"a\":\"b\"}]`, &a)",
    ] {
        assert_eq!(ask(expression, r#"{"a":"x","a":{}}"#), Err(Unanswered), "{expression}");
    }
}

#[test]
fn what_is_no_expression_is_refused() {
    for (text, part) in [
        ("", "unfinished"),
        ("a.", "unfinished"),
        ("a..b", "byte 2"),
        ("a b", "byte 2"),
        ("a = b", "unexpected character at byte 2"),
        ("a[", "byte 1"),
        ("a[1", "unfinished"),
        ("a[b]", "byte"),
        ("a[1:2:3:4]", "byte"),
        ("a[::0]", "step"),
        ("a[?b", "unfinished"),
        ("(a", "unfinished"),
        ("a)", "byte 1"),
        ("{a}", "byte"),
        ("{a: }", "byte"),
        ("[]a", "byte 2"),
        ("'a", "unclosed"),
        ("\"a", "unclosed"),
        ("`a", "unclosed"),
        ("`a`", "not JSON"),
        ("\"\\x\"", "no JSON string"),
        ("nothing(a)", "unknown function 'nothing'"),
        ("length()", "does not take"),
        ("length(a, b)", "does not take"),
        ("length(&a)", "does not take"),
        ("map(a, b)", "does not take"),
        ("&a", "byte 0"),
        ("\"length\"(a)", "byte"),
        ("a && ", "unfinished"),
        ("-", "no number"),
        ("99999999999999999999", "no number"),
        ("é", "unexpected character"),
    ] {
        let error = Expression::new(text).expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    let deep = |n: usize| format!("{}a{}", "!".repeat(n), "");
    assert!(Expression::new(&deep(31)).is_ok());
    assert!(Expression::new(&deep(32)).is_err());
    for deep in ["(", "[", "!", "{a:", "a[?", "abs(", "a.["] {
        let error = Expression::new(&deep.repeat(4000 / deep.len())).unwrap_err().to_string();
        assert!(error.contains("deeper") || error.contains("unfinished"), "{deep}: {error}");
    }
    let wide = format!("[{}a]", "a,".repeat(NODES_MAX));
    assert!(Expression::new(&wide).unwrap_err().to_string().contains("parts"));
    let long = format!("'{}'", "a".repeat(BYTES_MAX));
    assert!(Expression::new(&long).unwrap_err().to_string().contains("longer"));
}

/// A few characters could ask for work without end.
#[test]
fn no_question_takes_longer_than_its_steps() {
    let doubling = "[@,@][] | ".repeat(14) + "@";
    assert_eq!(ask(&doubling, "[1,2,3,4,5,6,7,8]"), Err(Unanswered));
    let items = format!("[{}1]", "1,".repeat(3000));
    assert_eq!(
        ask("map(&map(&sort(@), [@,@]), [@,@,@])[][][] | length(@)", &items),
        Err(Unanswered)
    );
    assert_eq!(ask("[?contains(to_string(@), 'x')] | length(@)", &items).as_deref(), Ok("0"));
    let text = format!("\"{}\"", "a".repeat(60_000));
    assert!(ask("join(@, [@,@,@,@,@,@,@,@,@,@,@])", &text).is_err());
}

#[test]
fn it_is_known_what_is_looked_at() {
    for (text, looks) in [
        ("tags.kind == 'a'", false),
        ("data.total > `3`", true),
        ("[*].a", false),
        ("*", true),
        ("keys(@)", true),
        ("contains(tags.a, 'b') && !starts_with(event, 'x')", false),
    ] {
        assert_eq!(Expression::new(text).unwrap().looks_at("data"), looks, "{text}");
    }
}

/// Against another implementation, on expressions put together by chance.
#[test]
fn another_implementation_answers_the_same() {
    let document = r#"{"a":{"b":[1,2,{"c":"x"}],"d":"text"},"b":[{"a":1,"c":[1,[2,3]]},{"a":2,"c":[]},{"a":-3.5}],
        "c":null,"d":"","e":true,"f":[[1,2],[3]],"g":{}}"#;
    let (mut answered, mut seen) = (0, 0);
    for seed in 0..4000 {
        let mut prng = Prng::new(seed);
        let text = random(&mut prng, 4);
        let theirs = jmespath::compile(&text);
        let ours = Expression::new(&text);
        let theirs = match (&ours, theirs) {
            (Ok(_), Ok(theirs)) => theirs,
            // Functions and their arguments are looked at when an expression is read.
            (Err(_), _) => continue,
            (Ok(_), Err(error)) => panic!("seed {seed}: {text}: {error}"),
        };
        seen += 1;
        let theirs = theirs.search(jmespath::Variable::from_json(document).unwrap());
        let ours = ask(&text, document);
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                answered += 1;
                let normal = |text: &str| floats(serde_json::from_str(text).unwrap());
                assert_eq!(normal(&ours), normal(&theirs.to_string()), "seed {seed}: {text}");
            }
            (Err(_), Err(_)) => {}
            (ours, theirs) => panic!("seed {seed}: {text}: {ours:?}, {theirs:?}"),
        }
    }
    assert!(answered > 500 && seen > 1000, "{answered} of {seen}");
}

/// Every number as a float, members in order.
fn floats(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value::{Array, Number, Object};
    match value {
        Number(number) => serde_json::json!(number.as_f64()),
        Array(items) => Array(items.into_iter().map(floats).collect()),
        Object(members) => {
            Object(members.into_iter().map(|(name, value)| (name, floats(value))).collect())
        }
        other => other,
    }
}

fn random(prng: &mut Prng, depth: u32) -> String {
    let name = |prng: &mut Prng| ["a", "b", "c", "d", "e", "f", "g"][prng.below(7) as usize];
    let simple = |prng: &mut Prng| match prng.below(10) {
        0 => "@".to_owned(),
        1 => "`1`".to_owned(),
        2 => "`[1,2,3]`".to_owned(),
        3 => "'text'".to_owned(),
        _ => name(prng).to_owned(),
    };
    if depth == 0 {
        return simple(prng);
    }
    let inner = |prng: &mut Prng| random(prng, depth - 1);
    match prng.below(22) {
        0..4 => format!("{}.{}", inner(prng), name(prng)),
        4 => format!("{}[{}]", inner(prng), prng.below(5) as i64 - 2),
        5 => format!("{}[{}:{}:{}]", inner(prng), prng.below(4), prng.below(5), 1 + prng.below(2)),
        6 => format!("{}[::-{}]", inner(prng), 1 + prng.below(2)),
        7 => format!("{}[*]", inner(prng)),
        8 => format!("{}.*", inner(prng)),
        9 => format!("{}[]", inner(prng)),
        10 => format!("{}[?{}]", inner(prng), inner(prng)),
        11 => format!("{} | {}", inner(prng), inner(prng)),
        12 => format!("{} || {}", inner(prng), inner(prng)),
        13 => format!("{} && {}", inner(prng), inner(prng)),
        14 => format!("!{}", inner(prng)),
        15 => format!("({})", inner(prng)),
        16 => format!("[{}, {}]", inner(prng), inner(prng)),
        17 => format!("{{x: {}, y: {}}}", inner(prng), inner(prng)),
        18 => {
            let comparison = ["==", "!=", "<", "<=", ">", ">="][prng.below(6) as usize];
            format!("{} {comparison} {}", inner(prng), inner(prng))
        }
        19 => {
            let names = ["length", "type", "keys", "sort", "to_array", "sum", "reverse", "max"];
            format!("{}({})", names[prng.below(8) as usize], inner(prng))
        }
        20 => format!("map(&{}, {})", inner(prng), inner(prng)),
        _ => format!("contains({}, {})", inner(prng), inner(prng)),
    }
}
