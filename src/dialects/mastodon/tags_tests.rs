use super::*;

#[test]
fn tags_are_spelled_as_their_channels_are() {
    for (tag, expected) in [
        ("", ""),
        ("foo", "foo"),
        ("Foo_1", "foo_1"),
        ("FóO Bar", "foobar"),
        ("#Ringmain!", "ringmain"),
        ("a-b.c/d", "abcd"),
    ] {
        assert_eq!(normalize(tag), expected, "{tag}");
    }
}
