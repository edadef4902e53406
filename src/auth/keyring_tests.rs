use super::*;

const SECRET: &str = "0123456789012345678901234567890123456789012345678901234567890123";
const RSA: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA0kZZrvmHTHdkZwspb694\n\
wQFcnXN4BCjYSV6Oo3MIJqTSKjjMrWPB3nX7n1/dorHtlDJVJlGxJNk7IN6KYFBp\n\
KEsdOHtU75wg8OpOglDFzUFlCc1wXNeQkgErKwv57f/ian7uijMK3ylM9qxSq6pO\n\
tWEFfe+h2G9mvstDXUnSruS+NKLoc2PQSeY5zZ9ywrQDGtbihRjVX0FUIptE6Epr\n\
ipo/CAoa0X/PJQ3wad9q4YWCneS6Bk7llef0Sfv4Nwws3nd09qKJ/4txA3bP17m3\n\
omAUKzy8mtUwn1NicGwXVXJ1jqjYn7ljzhH2LBkbXAdjvuAwgfVfPjCIPk+ss5iY\n\
6wIDAQAB\n\
-----END PUBLIC KEY-----";
const RSA_1024: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDepVMRv5JucHyrERCj4ZDR6M/L\n\
k0wgZ/6jyrBLciYF+X6uUSI1GJ3vecTzpMR3XdhJvMDTjCf4RNBUqLZW0/WN3Nte\n\
Z8soK41zdDoBnBtn6KfSOm3+y0FssseHv9xqRszAyxLRXMA3D/X+XDBhgJWhslmH\n\
EluILt6mTymypGaPfQIDAQAB\n\
-----END PUBLIC KEY-----";
const P256: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEfHKIfy7yy84HnmIGY+wKebB/2/bp\n\
CSWA6cW+huNoX/eb+OxfYq8gj4WvRYo6uC558lbp/8r32a/a78Pfr+xHog==\n\
-----END PUBLIC KEY-----";
const P384: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEl9MAAdAgG68eQHpaU4dowR/KjgsKBcLw\n\
NvfKvLtYxkCRboSu9cmeRBD0o5OqsHUOTzUDy/uZ6FUsKqaT6a+QiZd08jzibemQ\n\
wDWPLNZOPQNujESdEMz3UDoX2nBb4rtT\n\
-----END PUBLIC KEY-----";
const P521: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQAr+ogYsLsSmcKqqUgfdTm272+NScj\n\
VO8fr8xl3e+2ZatKKobrXvKPVqej0r6N7+SlbH/Iqb9R/1M61bw22xTfRS0AYPtb\n\
vBopMPTbMZM/MZ+d9Gj1aPsUU+5yEr+zhLNgPjIYbQVlSKGLCGBJ3zm3FBs7yPVn\n\
xPxvDPiNPtXytsGBL+U=\n\
-----END PUBLIC KEY-----";
const ED25519: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MCowBQYDK2VwAyEAC9x0heRtmwDGWbrT8qWko1s6OjSvAu4xPsgiNYYIkO8=\n\
-----END PUBLIC KEY-----";

/// What PyJWT 2.15 made of `{"exp":1800000000,"scope":"connect","uid":"Ada"}` with each method: method, key to check it
/// with, token.
const TOKENS: &[(&str, &str, &str)] = &[
    (
        "HS256",
        SECRET,
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE4MDAwMDAwMDAsInNjb3BlIjoiY29ubmVjdCIsInVpZCI6IkFkYSJ9.riQR9J3efQePJgr0rnD1poAj4sxtcIaEc72zpmuVzbI",
    ),
    (
        "HS384",
        SECRET,
        "eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9.eyJleHAiOjE4MDAwMDAwMDAsInNjb3BlIjoiY29ubmVjdCIsInVpZCI6IkFkYSJ9.pC4ocCT9hnTs1zBMlv31PZqZQul3hSz4xd_eIAVjPgxkNv_HGFL0QYxdjMqkTYK_",
    ),
    (
        "HS512",
        SECRET,
        "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE4MDAwMDAwMDAsInNjb3BlIjoiY29ubmVjdCIsInVpZCI6IkFkYSJ9.lB2cGrUQ2UZbWOJcJT9Kf1b9R6GGWMY0Rn3xJbdlHNNIxpRqX4pTLDqCaSq7isMg63sqLZGxlQXGih9cuyUupQ",
    ),
    (
        "RS256",
        RSA,
        "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE4MDAwMDAwMDAsInNjb3BlIjoiY29ubmVjdCIsInVpZCI6IkFkYSJ9.Z9X1-L3gjvQ2hUTvr6DhTGxt95wu_FAfIElluKnLvMFLxF4VZCnINrY7oWXc0KOeb8kJ9MpL-z1iHn7q2_Lo_LXHHbfKYpQsQeu5g7HpKfq4dunN8GJEm_RRnULvpq9mHbzzluvYsOSYMBhTAflsmjN-gtM7ARxWc4YwQAMXbEFotnFa-981GUwIVYtfj8G-Y7M-Uz6VSP25xDc84b_BKgMx0hH2Udsu-Fdivo2AWFev-hxsXIQS0Y5LJungfuHGRK1XogmKc_-5b7WZDgtWsaIqJx6-45ZhtIPHWODBkYtA8A17FPbO_VtxuPzdM88h4RYccXqxBZz0TGkwsGbzKQ",
    ),
    (
        "RS384",
        RSA,
        "eyJhbGciOiJSUzM4NCIsInR5cCI6IkpXVCJ9.eyJleHAiOjE4MDAwMDAwMDAsInNjb3BlIjoiY29ubmVjdCIsInVpZCI6IkFkYSJ9.j4e11I_kNqzn46_J8-XI5zDWZ5YNZOTA5vPbVpRbznArJyEH9Xu04W6xxWowuElqs3qh1VkMszOxq9u-oGJaGtPz-x4mLadKa5iW4i9ipG_8R0P4OZ3rI7l2gOI35d51BBfDxINA2W1_4vMtfK4AyZrDzLWOTAbwqlzUHgchckvs5WyLdICF6WQnFrG2zbLCMDSMwMjDPZ3_1UMcxnsQzXaMxBD1V52DakyZze9wz2S-aKwjon9OtwP2xRLhyX0tR94UpZdicpNg2BCSTUpGcIAKxKzs1pT_C9L_B5hv1d29Yvt3k36alQXaCa7YKoe1SYqNdlA4sKOoTqbcvp7hGg",
    ),
    (
        "RS512",
        RSA,
        "eyJhbGciOiJSUzUxMiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE4MDAwMDAwMDAsInNjb3BlIjoiY29ubmVjdCIsInVpZCI6IkFkYSJ9.jBDBIRdwLTvwE1rHsXfGeiXKfARLwczHoTZpgHi5AffLYY7MfaTRzZR6nF_WRTuHfq6pyzxzhWcC2sSnsjcm6133IvZVuni7UGJzVPxAwbxMIq9nm01G1eQ8iN1We-G8Zdv-dr8kuOLpI8XqfQGOO6Lw6-sxKxvZq5yDttck6LebJdoqjPBZh1afSZNDXSMXjequzjs-kTVW8S4ozwHmXp7Jjg9lj33KA1scAbGvmmoP0gOpxvrF4OhOavrrRrd7nwm1vqnmTezJRBMnm8KZOpM9Yn6XJpz3EPIRfJ7cKdJRVnuHxNaBMHmIm9rIFd7SSgBJkaXg7PuVQ12K6OJSwQ",
    ),
    (
        "PS256",
        RSA,
        "eyJhbGciOiJQUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE4MDAwMDAwMDAsInNjb3BlIjoiY29ubmVjdCIsInVpZCI6IkFkYSJ9.ID1kqN91oX5SagCWNjVzFsRu34ut8D7_XXaSqhlBUdEdv4-ggO0jQfd4dVNgOeaGjEaojZGw8obVENwms6XCJYk8gmKJPoSt6DvkIYu-SEbkpyY67m7y2sqLt9onLJ42sNiqzAEoCACaGgrPboYRR3COOnzLcbOsz_REsGbmie_63OOI6_guQS12H-GjXAamovwnz0FZJojOR-uLa5-UGk7fw0GHTeqO3gT7pZ7c0ufovclvwJOc6XjZHFMzpZLgWwSWkCKnVDufvZZL48eZl2EKJHyGrLnaBpw6aFQRYyQE51PKkBx2Vo6NMQFdmcCt2YIUcfq-3T5v7mvWKo2b9w",
    ),
    (
        "PS384",
        RSA,
        "eyJhbGciOiJQUzM4NCIsInR5cCI6IkpXVCJ9.eyJleHAiOjE4MDAwMDAwMDAsInNjb3BlIjoiY29ubmVjdCIsInVpZCI6IkFkYSJ9.Ajx8Fby-raN0Q6YXSYpYXWes8MGTt8jL3KuqQGz5h1R4OfScm7laGOVHmTQrKp9nFcTSSS2BJhXH9UrjqLzVzhaAVWmRpAHIhY38GdIMUBk7gyylU23ec5cDRo_wN6aiO2IuE-9Ysqao10emf2QYPpbyEYlDTp4vKyNzzPb_3ZDxiXK8VyMYO1inZ2tJeGjAGO2W7m5Vfe39cyZLwU-ZFCYtJUJV6D3l2XgxMlelpv55qp74ePfgJ2xSRvWferIiNoFW_42aQJlSQ8rCZT_MBGVl80mAxU91If89vPxN87fDWwo-nQ1_gPwj2uxma21ens0T29Z4coES1RP8HtjFsw",
    ),
    (
        "PS512",
        RSA,
        "eyJhbGciOiJQUzUxMiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE4MDAwMDAwMDAsInNjb3BlIjoiY29ubmVjdCIsInVpZCI6IkFkYSJ9.DvvlH1-lA1t7Pw0oiB3zv9moU5xAEfv5MUc1UhRdx-dgNTCA6P8aWyih2kiXeWYYWB1Mbc5WAkfKOO5A_3kLVLSZ2dGiUNcN9VkMB8iT_SK96wBJnYz47SUN3MXaKzq1dLZn1LZ5iXmdSBU2SzDMk1TOcJhjLFIt8trF0X0X0_9W96ql-b-pWIcKCngxJ2V-KeuVydcrYu8QjbeT5fll_ZQygveYEqzyAxAXIUWjYVI8w3pP5Pcn7U2AJAh8YCINd1BA_DLBDOGur2pgBtaQfesLNfKMF97LxooQEWmtjBUnHSQ_ho96ReCGdK8O29et6ZcZoozhJQdw8unyKcCSLQ",
    ),
    (
        "ES256",
        P256,
        "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE4MDAwMDAwMDAsInNjb3BlIjoiY29ubmVjdCIsInVpZCI6IkFkYSJ9.x6OXOBzTMFB12ykOqDZhGfaskqx3visRC6j-mUp8_FuPI2KbDnuEWLYZ0EHNjeVXCZdEWYuQc00REciwci0Bzw",
    ),
    (
        "ES384",
        P384,
        "eyJhbGciOiJFUzM4NCIsInR5cCI6IkpXVCJ9.eyJleHAiOjE4MDAwMDAwMDAsInNjb3BlIjoiY29ubmVjdCIsInVpZCI6IkFkYSJ9.CD0_JDgcyPq7hLaXTPPqMnE9uAAlOZHwMuI-zcNf7DsT0r2GAENqAHdDPz4iymZ9BZz7z0UT0CmK-txqToH2bdidRdribEzXXLUTsgD5nl36naF6KaVfWyuZ7fz7xKy2",
    ),
    (
        "ES512",
        P521,
        "eyJhbGciOiJFUzUxMiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE4MDAwMDAwMDAsInNjb3BlIjoiY29ubmVjdCIsInVpZCI6IkFkYSJ9.ATlImdjZE2d8IwiUWZHagYGgoY0E7paiSoEKKrPyuFSyi0gDudndw9AS8jlUvctb_FtN-ewK37wpzRIb-aNNgv0DAOWmu-DLXucIu22seT2fSfzUMoICukfByuwE_gDouyyBWE2Em875GLgsOxl8XCtwaGoJ-Vv1WAiDgspqisv7g07_",
    ),
    (
        "EdDSA",
        ED25519,
        "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJleHAiOjE4MDAwMDAwMDAsInNjb3BlIjoiY29ubmVjdCIsInVpZCI6IkFkYSJ9.wPKn4W_0ODS3pdN9we_cSvwZEAagmxD5uCtWBfoeSdz7KH32KM7nrqJD3iA0Ne3HZDaewwfgr47-0NatdA1sDw",
    ),
];

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn slot(method: &'static str, key: &str) -> KeySlot {
    let mut key_base64 = String::new();
    base64::encode(&mut key_base64, key.as_bytes(), Alphabet::Standard);
    KeySlot { method, id: None, key_base64: Secret(key_base64) }
}

fn named(method: &'static str, key: &str, id: &str) -> KeySlot {
    KeySlot { id: Some(id.into()), ..slot(method, key) }
}

fn ring(slots: &[KeySlot]) -> Keyring {
    Keyring::new(slots, "", "", Millis(0)).unwrap()
}

fn verify(slots: &[KeySlot], token: &str) -> Result<(), TokenError> {
    ring(slots).verify(token, NOW).map(|_| ())
}

/// A token of any header and claims, signed with HMAC-SHA256 whatever the header says.
fn signed(head: &str, claims: &[u8], secret: &str) -> String {
    let mut token = String::new();
    base64::encode(&mut token, head.as_bytes(), Alphabet::Url);
    token.push('.');
    base64::encode(&mut token, claims, Alphabet::Url);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), token.as_bytes());
    token.push('.');
    base64::encode(&mut token, tag.as_ref(), Alphabet::Url);
    token
}

const HEAD: &str = r#"{"alg":"HS256"}"#;
const CLAIMS: &[u8] = br#"{"exp":1800000000}"#;

fn malformed(what: &'static str) -> Result<(), TokenError> {
    Err(TokenError::Malformed { what })
}

#[test]
fn tokens_of_every_method_verify_with_their_key_only() {
    assert_eq!(TOKENS.iter().map(|it| it.0).collect::<Vec<_>>(), METHODS);
    let claims = r#"{"exp":1800000000,"scope":"connect","uid":"Ada"}"#;
    for (method, key, token) in TOKENS {
        let own = ring(&[slot(method, key)]);
        assert_eq!(own.verify(token, NOW).as_deref(), Ok(claims), "{method}");
        // Every other slot, the one with the same key too.
        for (other, key, _) in TOKENS.iter().filter(|(other, ..)| other != method) {
            assert_eq!(
                verify(&[slot(other, key)], token),
                Err(TokenError::NoKey),
                "{method} {other}"
            );
        }
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (head, claims) = signed.split_once('.').unwrap();
        let swap = |text: &str, at: usize| {
            let old = &text[at..=at];
            format!("{}{}{}", &text[..at], if old == "A" { "B" } else { "A" }, &text[at + 1..])
        };
        for (at, tampered) in [
            ("claims", format!("{head}.{}.{signature}", swap(claims, 9))),
            ("signature's start", format!("{signed}.{}", swap(signature, 0))),
            ("signature's middle", format!("{signed}.{}", swap(signature, 30))),
            ("signature, missing", format!("{signed}.")),
            ("signature, shortened", format!("{signed}.{}", &signature[..signature.len() / 8 * 4])),
            ("signature, lengthened", format!("{signed}.AAAA{signature}")),
        ] {
            let refused = own.verify(&tampered, NOW).unwrap_err();
            assert_eq!(refused, TokenError::Signature, "{method} {at}");
        }
        if method.starts_with("HS") {
            let refused = Err(TokenError::Signature);
            assert_eq!(verify(&[slot(method, "another secret")], token), refused);
        }
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let forged = signed(r#"{"alg":"HS256","typ":"JWT"}"#, CLAIMS, RSA);
    for method in ["RS256", "PS256"] {
        assert_eq!(verify(&[slot(method, RSA)], &forged), Err(TokenError::NoKey));
    }
    // Under the name of the method it is no signature of it.
    let forged = signed(r#"{"alg":"RS256","typ":"JWT"}"#, CLAIMS, RSA);
    assert_eq!(verify(&[slot("RS256", RSA)], &forged), Err(TokenError::Signature));
    // Nor is it with a secret beside it that is right.
    let ring = [slot("RS256", RSA), slot("HS256", SECRET)];
    assert_eq!(verify(&ring, &forged), Err(TokenError::Signature));
}

#[test]
fn none_is_no_method() {
    for name in ["none", "None", "NONE", "", "hs256", "HS256 "] {
        let head = format!(r#"{{"alg":"{name}"}}"#);
        let token = signed(&head, CLAIMS, SECRET);
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        for token in [token, unsigned] {
            assert_eq!(verify(&[slot("HS256", SECRET)], &token), Err(TokenError::NoKey), "{name}");
        }
    }
    let none = KeySlot { method: "none", ..slot("HS256", SECRET) };
    assert_eq!(
        Keyring::new(&[none], "", "", Millis(0)).err(),
        Some((0, "no method is called none".into()))
    );
    assert_eq!(verify(&[], &signed(HEAD, CLAIMS, SECRET)), Err(TokenError::NoKey));
}

#[test]
fn a_key_id_chooses_among_slots_that_have_one() {
    let with = |kid: &str| signed(&format!(r#"{{"alg":"HS256","kid":{kid}}}"#), CLAIMS, SECRET);
    let without = signed(HEAD, CLAIMS, SECRET);
    let unnamed = [slot("HS256", SECRET)];
    let blank = [named("HS256", SECRET, "")];
    let ours = [named("HS256", SECRET, "a")];
    let both = [named("HS256", "old", "old"), named("HS256", SECRET, "a")];
    for (slots, token, expected) in [
        (&unnamed[..], &without, Ok(())),
        (&unnamed, &with(r#""anything""#), Ok(())),
        (&blank, &with(r#""anything""#), Ok(())),
        (&ours, &without, Ok(())),
        (&ours, &with(r#""a""#), Ok(())),
        (&ours, &with(r#""\u0061""#), Ok(())),
        (&ours, &with(r#""A""#), Err(TokenError::NoKey)),
        (&ours, &with(r#""""#), Err(TokenError::NoKey)),
        (&ours, &with("1"), malformed("the token's kid must be a string")),
        (&ours, &with("null"), malformed("the token's kid must be a string")),
        (&both, &with(r#""a""#), Ok(())),
        (&both, &with(r#""old""#), Err(TokenError::Signature)),
        (&both, &without, Ok(())),
    ] {
        assert_eq!(verify(slots, token), expected, "{token}");
    }
}

#[test]
fn keys_can_be_changed_while_tokens_are_about() {
    let token = |secret| signed(HEAD, CLAIMS, secret);
    let ring = [slot("HS256", "new"), slot("HS256", "old"), slot("RS256", RSA)];
    assert_eq!(verify(&ring, &token("old")), Ok(()));
    assert_eq!(verify(&ring, &token("new")), Ok(()));
    assert_eq!(verify(&ring, &token("older")), Err(TokenError::Signature));
    assert_eq!(verify(&ring, TOKENS[3].2), Ok(()));
    assert_eq!(verify(&ring[..2], TOKENS[3].2), Err(TokenError::NoKey));
}

#[test]
fn the_form_is_kept_strictly() {
    let slots = [slot("HS256", SECRET)];
    let good = signed(HEAD, CLAIMS, SECRET);
    let (signed_part, signature) = good.rsplit_once('.').unwrap();
    let (head, claims) = signed_part.split_once('.').unwrap();
    let parts = malformed("the token is not three parts with dots between");
    let header = malformed("the token's header is not Base64url of a text");
    let base64 = malformed("the token's signature is not Base64url");
    assert_eq!(verify(&slots, &good), Ok(()));
    // A character of the last group that differs in bits which belong to no byte.
    let loose = format!("{}{}", &good[..good.len() - 1], {
        let last = good.as_bytes()[good.len() - 1];
        char::from(last + 1)
    });
    for (token, expected) in [
        ("", parts),
        (".", parts),
        ("..", header),
        ("a.b", parts),
        (&format!("{good}."), parts),
        (&format!(".{good}"), parts),
        (&format!("{good}.{signature}"), parts),
        (&format!("{head}..{claims}.{signature}"), parts),
        (&format!("{head}=.{claims}.{signature}"), header),
        (&format!("{head} .{claims}.{signature}"), header),
        (&format!("{signed_part}.{signature}="), base64),
        (&format!("{signed_part}.{signature}\n"), base64),
        (&format!("{signed_part}.+/{signature}"), base64),
        (&loose, base64),
        (&format!(" {good}"), header),
        (&format!("{good} "), base64),
        (
            &format!(".{claims}.{signature}"),
            malformed("the token's header is not Base64url of a text"),
        ),
    ] {
        let found = verify(&slots, token);
        // An empty header is Base64 of an empty text.
        let empty = malformed("the token's header is no JSON object");
        assert!(
            found == expected || token.starts_with('.') && found == empty,
            "{token}: {found:?}"
        );
    }
    // Padding inside of what was signed.
    let padded = format!("{head}.{claims}==");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), padded.as_bytes());
    let mut token = padded + ".";
    base64::encode(&mut token, tag.as_ref(), Alphabet::Url);
    assert_eq!(verify(&slots, &token), malformed("the token's claims are not Base64url"));
}

#[test]
fn a_header_says_what_it_must_and_nothing_that_must_be_understood() {
    let object = malformed("the token's header is no JSON object");
    let typ = malformed("the token's typ must be JWT");
    let crit = malformed("the token's crit names what is not understood");
    for (head, expected) in [
        (r#"{"alg":"HS256","typ":"JWT"}"#, Ok(())),
        (r#"{"typ":"jwt","alg":"HS256"}"#, Ok(())),
        (r#"{"alg":"HS256","x5t":[],"jku":"http://a","jwk":{}}"#, Ok(())),
        (" {\"alg\" : \"HS256\"}\n", Ok(())),
        (r#"{"alg":"HS256","typ":"JWS"}"#, typ),
        (r#"{"alg":"HS256","typ":null}"#, typ),
        (r#"{"alg":"HS256","crit":["exp"]}"#, crit),
        (r#"{"alg":"HS256","crit":[]}"#, crit),
        (r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#, crit),
        (r#"{"typ":"JWT"}"#, malformed("the token has no alg")),
        (r#"{"alg":["HS256"]}"#, malformed("the token has no alg")),
        ("[]", object),
        ("null", object),
        ("{", object),
        (r#"{"alg":"HS256"}{}"#, object),
    ] {
        assert_eq!(
            verify(&[slot("HS256", SECRET)], &signed(head, CLAIMS, SECRET)),
            expected,
            "{head}"
        );
    }
}

#[test]
fn claims_are_checked_against_our_clock() {
    let check = |leeway, audience, issuer, claims: &str| {
        let ring =
            Keyring::new(&[slot("HS256", SECRET)], audience, issuer, Millis(leeway)).unwrap();
        ring.verify(&signed(HEAD, claims.as_bytes(), SECRET), NOW).map(|_| ())
    };
    let plain = |claims| check(0, "", "", claims);
    let no_exp = malformed("the token has no exp");
    let bad_exp = malformed("exp must be a number of seconds");
    let expired = |at_seconds| Err(TokenError::Expired { at_seconds });
    for (claims, expected) in [
        (r#"{"exp":1700000001}"#, Ok(())),
        (r#"{"exp":1700000000.001}"#, Ok(())),
        (r#"{"exp":17e8}"#, expired(1_700_000_000)),
        (r#"{"exp":1e300}"#, Ok(())),
        (r#"{"exp":1700000000}"#, expired(1_700_000_000)),
        (r#"{"exp":1699999999.999}"#, expired(1_699_999_999)),
        (r#"{"exp":-1}"#, expired(0)),
        (r#"{"exp":1800000000,"exp":1}"#, expired(1)),
        (r#"{"exp":1e999}"#, bad_exp),
        (r#"{"exp":"1800000000"}"#, bad_exp),
        (r#"{"exp":null}"#, no_exp),
        (r#"{"nbf":1}"#, no_exp),
        ("{}", no_exp),
        ("[]", malformed("the token's claims are no JSON object")),
        ("", malformed("the token's claims are no JSON object")),
        (r#"{"exp":1800000000,"nbf":1700000000}"#, Ok(())),
        (r#"{"exp":1800000000,"nbf":0,"iat":1800000000}"#, Ok(())),
        (r#"{"exp":1800000000,"nbf":null}"#, Ok(())),
        (
            r#"{"exp":1800000000,"nbf":1700000000.5}"#,
            Err(TokenError::NotYet { at_seconds: 1_700_000_000 }),
        ),
        (r#"{"exp":1800000000,"nbf":"0"}"#, malformed("nbf must be a number of seconds")),
        (r#"{"exp":1800000000,"aud":7,"iss":[]}"#, Ok(())),
    ] {
        assert_eq!(plain(claims), expected, "{claims}");
    }
    assert_eq!(check(2000, "", "", r#"{"exp":1699999998.001}"#), Ok(()));
    assert_eq!(check(2000, "", "", r#"{"exp":1699999998}"#), expired(1_699_999_998));
    assert_eq!(check(2000, "", "", r#"{"exp":1800000000,"nbf":1700000002}"#), Ok(()));
    assert!(check(2000, "", "", r#"{"exp":1800000000,"nbf":1700000002.001}"#).is_err());
    for (claims, expected) in [
        (r#""aud":"us","iss":"them""#, Ok(())),
        (r#""aud":["others","us"],"iss":"them""#, Ok(())),
        (r#""aud":["others"],"iss":"them""#, Err(TokenError::Audience)),
        (r#""aud":[["us"]],"iss":"them""#, Err(TokenError::Audience)),
        (r#""aud":{"us":"us"},"iss":"them""#, Err(TokenError::Audience)),
        (r#""aud":"US","iss":"them""#, Err(TokenError::Audience)),
        (r#""aud":null,"iss":"them""#, Err(TokenError::Audience)),
        (r#""iss":"them""#, Err(TokenError::Audience)),
        (r#""aud":"us","iss":["them"]"#, Err(TokenError::Issuer)),
        (r#""aud":"us""#, Err(TokenError::Issuer)),
    ] {
        let claims = format!(r#"{{"exp":1800000000,{claims}}}"#);
        assert_eq!(check(0, "us", "them", &claims), expected, "{claims}");
    }
    // Text that is none.
    let token = signed(HEAD, b"{\"exp\":1800000000,\"uid\":\"\xff\"}", SECRET);
    let refused = malformed("the token's claims are not Base64url");
    assert_eq!(verify(&[slot("HS256", SECRET)], &token), refused);
}

#[test]
fn what_is_too_long_is_refused_unread() {
    let slots = [slot("HS256", SECRET)];
    let of = |bytes: usize| {
        signed(HEAD, format!(r#"{{"exp":1800000000,"a":"{:1$}"}}"#, "", bytes).as_bytes(), SECRET)
    };
    assert_eq!(verify(&slots, &of(12_000)), Ok(()));
    assert_eq!(verify(&slots, &of(12_500)), Err(TokenError::TooLong));
    for token in ["a".repeat(10 << 20), ".".repeat(10 << 20)] {
        assert_eq!(verify(&slots, &token), Err(TokenError::TooLong));
    }
    assert!(verify(&slots, &".".repeat(TOKEN_BYTES_MAX)).is_err());
}

#[test]
fn a_wrong_key_is_refused_with_what_is_wrong() {
    let private = RSA.replace("PUBLIC", "PRIVATE");
    let pkcs1 = RSA.replace("PUBLIC", "RSA PUBLIC");
    let cut = RSA.replace("MIIB", "");
    let framed = format!("{RSA}\n{RSA}");
    for (method, key, error) in [
        ("HS256", "", "the key is empty"),
        ("RS256", SECRET, "the key is not PEM from BEGIN PUBLIC KEY to END PUBLIC KEY"),
        ("RS256", &pkcs1, "the key is not PEM from BEGIN PUBLIC KEY to END PUBLIC KEY"),
        ("RS256", &private, "the key is a private key; its public key is what belongs here"),
        ("RS256", &framed, "what the PEM holds is not Base64"),
        ("RS256", &cut, "the key is no public key for RS256"),
        ("RS256", RSA_1024, "the key has 1024 bits, at least 2048 are needed"),
        ("PS512", RSA_1024, "the key has 1024 bits, at least 2048 are needed"),
        ("PS512", P256, "the key is no public key for PS512"),
        ("ES256", P384, "the key is no public key for ES256"),
        ("ES256", RSA, "the key is no public key for ES256"),
        ("ES384", P521, "the key is no public key for ES384"),
        ("ES512", P256, "the key is no public key for ES512"),
        ("EdDSA", P256, "the key is no public key for EdDSA"),
        ("ES256", ED25519, "the key is no public key for ES256"),
    ] {
        let slots = [slot("HS256", SECRET), slot(method, key)];
        let made = Keyring::new(&slots, "", "", Millis(0));
        assert_eq!(made.err(), Some((1, error.to_owned())), "{method}");
    }
    for (text, is_good) in [
        ("c2Vj\ncmV0", true),
        (" c2VjcmU= ", true),
        ("c2VjcmU", true),
        ("c2VjcmU==", false),
        ("c2Vj=cmV0", false),
        ("secret!", false),
        ("====", false),
    ] {
        let slot = KeySlot { method: "HS256", id: None, key_base64: Secret(text.into()) };
        assert_eq!(Keyring::new(&[slot], "", "", Millis(0)).is_ok(), is_good, "{text}");
    }
    // PEM as files have it: other line ends, white space around it.
    let key = format!("\n {}\r\n", P256.replace('\n', "\r\n"));
    assert_eq!(verify(&[slot("ES256", &key)], TOKENS[9].2), Ok(()));
}

#[test]
fn what_a_slot_signs_verifies() {
    for method in ["HS256", "HS384", "HS512"] {
        let slot = named(method, SECRET, "a\"b");
        let token = slot.sign(r#"{"exp":1800000000}"#).unwrap();
        assert_eq!(verify(&[slot], &token), Ok(()), "{method}");
    }
    assert_eq!(slot("RS256", RSA).sign("{}"), None);
}
