use super::*;

fn compile(go: &str) -> Result<Expression, &'static str> {
    Expression::new(go, COMPILED_BYTES_MAX)
}

/// Expression, what it matches, what it does not. RE2 itself says the same of every line.
const CASES: &[(&str, &[&str], &[&str])] = &[
    ("", &["", "a", "é"], &[]),
    ("room", &["room", "my room 1"], &["rom", "Room", ""]),
    ("^room$", &["room"], &["room1", "a room", "room\n"]),
    ("^room|hall$", &["room1", "my hall"], &["a room", "halls"]),
    ("^(room|hall)$", &["room", "hall"], &["rooms"]),
    (r"\Aa\z", &["a"], &["ab", "ba", "a\n"]),
    (r"^room\.\d+$", &["room.1", "room.042"], &["room.", "room.x", "room.٣", "roomx1"]),
    (r"^\w+$", &["a_Z9"], &["é", "a-b", "ſ", ""]),
    (r"^\s$", &[" ", "\t", "\n", "\u{c}", "\r"], &["\u{b}", "\u{a0}", "\u{85}", "\u{2028}"]),
    (r"^\S\D\W$", &["é,-", "\u{b}é٣"], &["a1-", " a-", "aaa"]),
    (r"\bcat\b", &["a cat", "écaté", "cat", "-cat-"], &["cats", "_cat"]),
    (r"\Bat\B", &["bate"], &["at", "bat", "éatb"]),
    (r"^a.c$", &["abc", "aéc", "a👍c"], &["a\nc", "ac", "abbc"]),
    (r"(?s)^a.c$", &["a\nc"], &["ac"]),
    (r"(?m)^b$", &["a\nb\nc", "b"], &["ab"]),
    (r"(?i)straße", &["STRAßE", "straße", "Straẞe"], &["strasse"]),
    (r"(?i)^[a-c]\w$", &["Bx", "BK", "b\u{212a}"], &["dx"]),
    (r"(?i:a)b", &["Ab", "ab"], &["aB"]),
    (r"a(?i)b|c", &["ab", "aB", "C"], &["Ab"]),
    (r"(a(?i)b)c", &["aBc"], &["aBC"]),
    (r"(?i-s)A", &["a"], &["b"]),
    (r"(?U)^a+$", &["aaa"], &["b"]),
    (r"(?P<name>a)(?<other>b)", &["ab"], &["a"]),
    ("(?:a|b)+?c", &["abac"], &["c"]),
    ("^a{2}$", &["aa"], &["a", "aaa"]),
    ("^a{2,}$", &["aa", "aaaa"], &["a"]),
    ("^a{1,2}$", &["a", "aa"], &["", "aaa"]),
    ("^a{0}b$", &["b"], &["ab"]),
    ("^a{,2}$", &["a{,2}"], &["a", "aa"]),
    ("^a{01}$", &["a{01}"], &["a"]),
    ("^{a}$", &["{a}"], &["a"]),
    ("a{", &["a{"], &["a"]),
    ("}]", &["}]"], &["}"]),
    ("^[abc-]$", &["a", "-"], &["d"]),
    ("^[-a]$", &["-"], &["b"]),
    ("^[]a]$", &["]", "a"], &["b"]),
    ("^[^]a]$", &["b", "\n", "é"], &["]", "a"]),
    ("^[[a]$", &["[", "a"], &["]"]),
    ("^[a&&b]$", &["a", "&", "b"], &["c"]),
    ("^[a~~b]$", &["a", "~", "b"], &["c"]),
    ("^[--/]$", &["-", ".", "/"], &["a"]),
    (r"^[\d\-x]+$", &["1-x", "9"], &["y", "٣"]),
    (r"^[\d-z]$", &["1", "-", "z"], &["y"]),
    (r"^[^\W]$", &["a", "_"], &["-", "é"]),
    (r"^[\S\n]$", &["a", "\n", "\u{b}"], &[" "]),
    (r"^[[:alpha:]]+$", &["aZ"], &["1", "é"]),
    (r"^[[:^digit:]_]+$", &["a-é_"], &["1"]),
    (r"^[[:word:]-]+$", &["a_1-"], &["."]),
    (r"^[[:punct:][:space:]]+$", &["!\u{b} ~"], &["a"]),
    (r"^[[:alpha]$", &["[", ":", "a", "h"], &["b", "]"]),
    (r"^\pL\p{Lu}\p{Greek}$", &["aÄω", "éBΩ"], &["1AΩ", "aaΩ", "aAA"]),
    (r"^\PL\P{Greek}\p{^Greek}$", &["1aa", "-é1"], &["aaa", "1Ωa", "1aΩ"]),
    (r"^[\p{Greek}\d]$", &["ω", "1"], &["a"]),
    (r"^\x41\x{e9}\101\07\n\t\f\v\a\r$", &["AéA\u{7}\n\t\u{c}\u{b}\u{7}\r"], &["A"]),
    (r"^[\x41-\x{43}\060]$", &["A", "B", "C", "0"], &["D", "1"]),
    (r"^\.\*\-\_\ \<\>\#\&\~\/\!$", &[".*-_ <>#&~/!"], &["a"]),
    (r"^\Qa.b*\E+$", &["a.b*", "a.b***"], &["aabb"]),
    (r"^\Qa.b", &["a.b"], &["aab"]),
    (r"\Q\E^a$", &["a"], &["b"]),
    (r"^a||b$", &["", "x", "a"], &[]),
    ("^()$", &[""], &["a"]),
    ("a# b", &["a# b"], &["a"]),
    ("é+", &["éé"], &["e"]),
    ("^$", &[""], &["\n", "a"]),
];

#[test]
fn expressions_mean_what_they_mean_in_go() {
    // One for all, in turns, as it is used.
    let mut scratch = Scratch::default();
    for (go, matching, others) in CASES {
        let expression = compile(go).unwrap_or_else(|error| panic!("{go}: {error}"));
        for (texts, expected) in [(matching, true), (others, false)] {
            for text in *texts {
                assert_eq!(expression.matches(text, &mut scratch), expected, "{go} {text:?}");
            }
        }
    }
}

#[test]
fn expressions_that_go_has_not_are_refused() {
    for (go, error) in [
        ("(", "is no regular expression"),
        (")", "is no regular expression"),
        ("*", "is no regular expression"),
        ("a|*", "is no regular expression"),
        ("(+)", "is no regular expression"),
        ("{2}", "is no regular expression"),
        ("a**", "repeats a repetition"),
        ("a*+", "repeats a repetition"),
        ("a??*", "repeats a repetition"),
        ("a{2}{3}", "repeats a repetition"),
        ("a{1001}", "repeats more than 1000 times"),
        ("a{0,1001}", "repeats more than 1000 times"),
        ("a{99999999999}", "repeats more than 1000 times"),
        ("a{3,2}", "has a repetition that ends before it starts"),
        ("[", "has an unfinished class"),
        ("[]", "has an unfinished class"),
        ("[a-", "has an unfinished class"),
        ("[a-]", ""),
        ("[b-a]", "has a range that ends before it starts"),
        ("[a~~b--c]", "has a range that ends before it starts"),
        (r"[a-\d]", "has a range that ends before it starts"),
        ("[[:nothing:]]", "has a named class that does not exist"),
        (r"\", "ends in a backslash"),
        (r"[\b]", "has an escape that does not exist"),
        (r"[\Q]\E]", "has an escape that does not exist"),
        (r"\C", "has an escape that does not exist"),
        (r"\Z", "has an escape that does not exist"),
        (r"\G", "has an escape that does not exist"),
        (r"\E", "has an escape that does not exist"),
        (r"\k<a>", "has an escape that does not exist"),
        (r"\u0041", "has an escape that does not exist"),
        (r"\é", "has an escape that does not exist"),
        (r"\x4", "has an escape that does not exist"),
        (r"\x4é", "has an escape that does not exist"),
        (r"\x{}", "has an escape that does not exist"),
        (r"\x{110000}", "has an escape that does not exist"),
        (r"\x{d800}", "has an escape that does not exist"),
        (r"\x{+1}", "has an escape that does not exist"),
        (r"(a)\1", "refers back to a group, which takes more than linear time"),
        (r"\8", "has an escape that does not exist"),
        (r"\p", "has a Unicode class that does not exist"),
        (r"\p{}", "has a Unicode class that does not exist"),
        (r"\p{Nothing}", "is no regular expression"),
        (r"\p{sc=Greek}", "has a Unicode class that does not exist"),
        ("(?=a)", "has a group or a flag that does not exist"),
        ("(?!a)", "has a group or a flag that does not exist"),
        ("(?<=a)", "has a group without a name"),
        ("(?<!a)b>", "has a group whose name is wrong or taken"),
        ("(?>a:)", "has a group or a flag that does not exist"),
        ("(?x)a", "has a group or a flag that does not exist"),
        ("(?u)a", "has a group or a flag that does not exist"),
        ("(?R)a", "has a group or a flag that does not exist"),
        ("(?i-)a", "has a group or a flag that does not exist"),
        ("(?--i)a", "has a group or a flag that does not exist"),
        ("(?é)a", "has a group or a flag that does not exist"),
        ("(?i", "has an unfinished group"),
        ("(?P<a", "has a group without a name"),
        ("(?P<>a)", "has a group whose name is wrong or taken"),
        ("(?P<a-b>a)", "has a group whose name is wrong or taken"),
        ("(?P<a>a)(?P<a>b)", "has a group whose name is wrong or taken"),
        ("(?P=a)", "has a group or a flag that does not exist"),
    ] {
        assert_eq!(compile(go).err().unwrap_or_default(), error, "{go}");
    }
}

#[test]
fn what_an_expression_costs_is_bounded() {
    let mut scratch = Scratch::default();
    // What takes others exponential time.
    for go in ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "(.*)*b", "(?i)(x+x+)+y"] {
        let expression = compile(go).unwrap();
        assert!(!expression.matches(&("a".repeat(1000) + "!"), &mut scratch), "{go}");
    }
    for go in ["(a{1000}){1000}", "((a{100}){100}){100}", r"(\pL{1000}){10}", "(.{500}x){50}"] {
        assert_eq!(compile(go).err(), Some("is too large when compiled"), "{go}");
    }
    assert!(compile(&"(".repeat(1000)).is_err());
    assert!(compile(&format!("{}{}", "(".repeat(500), ")".repeat(500))).is_err());
    assert!(compile(&format!("{}{}", "(".repeat(50), ")".repeat(50))).is_ok());
    for go in ["a", r"^room\.\d+$", r"^\pL+$", r"(?i)[\pL\d]{1,3}"] {
        let held = compile(go).unwrap().held_bytes();
        assert!(held < COMPILED_BYTES_MAX, "{go}: {held}");
        assert!(Expression::new(go, 64).is_err(), "{go}");
    }
}
