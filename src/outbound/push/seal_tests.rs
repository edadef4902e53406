use super::*;
use crate::push::Provider;

const TEXT: &str = "0123456789abcdef0123456789abcdef";

fn facts(id: &str) -> CredentialFacts {
    CredentialFacts { provider: Provider::Hms, id: id.into(), version: 3, updated_at: 7 }
}

fn material() -> Material {
    Material::Hms { app_id: "1".into(), client_secret: "a secret".into() }
}

#[test]
fn a_key_has_many_spellings_and_a_short_one_is_none() {
    let bytes = b"\xff\xfe2 bytes in many spellings, all in";
    let bytes: [u8; 32] = bytes[..32].try_into().expect("32 bytes");
    let hex: String = bytes.iter().map(|it| format!("{it:02X}")).collect();
    let (mut standard, mut url) = (String::new(), String::new());
    base64::encode(&mut standard, &bytes, base64::Alphabet::Standard);
    base64::encode(&mut url, &bytes, base64::Alphabet::Url);
    let sealed = Key::parse(&hex).unwrap().seal("a", facts("i"), &material(), [1; 12]).unwrap();
    for (text, is_same) in [
        (hex.to_lowercase(), true),
        (format!("{hex}\n"), true),
        (standard.clone(), true),
        (format!("{standard}="), true),
        (url, true),
        (TEXT.to_owned(), false),
        (format!("{hex}0"), false),
    ] {
        let opened = Key::parse(&text).unwrap().open("a", &sealed);
        assert_eq!(opened, is_same.then(material), "{text}");
    }
    for text in ["", "short", &TEXT[1..], &format!("   {}   ", &TEXT[1..])] {
        assert!(Key::parse(text).is_none(), "{text}");
    }
}

#[test]
fn what_is_sealed_opens_for_whom_it_was_sealed_and_shows_nothing() {
    let key = Key::parse(TEXT).unwrap();
    let sealed = key.seal("app", facts("id"), &material(), [7; 12]).unwrap();
    assert_eq!(key.open("app", &sealed), Some(material()));
    assert_eq!(key.open("other", &sealed), None);
    for facts in [
        CredentialFacts { provider: Provider::Wns, ..facts("id") },
        CredentialFacts { version: 4, ..facts("id") },
        CredentialFacts { updated_at: 8, ..facts("id") },
        facts("another"),
    ] {
        assert_eq!(key.open("app", &Sealed { facts, ..sealed.clone() }), None);
    }
    let stored = stored::encode(&sealed);
    let secret = b"a secret";
    assert!(!stored.windows(secret.len()).any(|it| it == secret));
    assert_eq!(stored::decode(&stored), Some(sealed.clone()));
    for at in 0..sealed.sealed.len() {
        let mut torn = sealed.clone();
        torn.sealed[at] ^= 1;
        assert_eq!(key.open("app", &torn), None);
        torn.sealed.truncate(at);
        assert_eq!(key.open("app", &torn), None);
    }
    assert_eq!(format!("{key:?}"), "***");
}
