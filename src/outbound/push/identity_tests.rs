use super::*;

/// Made with openssl 3, with a key on P-256, for a hundred years: `new` as it does, `small` with AES-128 and an empty
/// password, `plain` not encrypted, `old` with `-legacy`.
macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("../../../tests/data/certificates/", $name))
    };
}

#[test]
fn a_certificate_and_its_key_are_found() {
    for (file, password, wanted) in [
        (file!("new.p12.txt"), "secret", Ok(2)),
        (file!("small.p12.txt"), "", Ok(1)),
        (file!("plain.p12.txt"), "x", Ok(1)),
        (file!("chain-first.pem"), "", Ok(2)),
        (file!("new.p12.txt"), "another", Err("the password is not that of the file")),
        (file!("old.p12.txt"), "secret", Err("the file is encrypted with RC2")),
        (file!("other.pem"), "", Err("the private key is not that of the certificate")),
        ("MAA=", "", Err("it is no PKCS #12 file in DER")),
        ("\u{e9}", "", Err("it is neither PEM nor base64")),
        ("", "", Err("it is no PKCS #12 file in DER")),
        ("-----BEGIN X-----", "", Err("the PEM text")),
    ] {
        match (open(file, password), wanted) {
            (Ok(identity), Ok(chain)) => assert_eq!(identity.chain.len(), chain),
            (Err(error), Err(wanted)) => assert!(error.starts_with(wanted), "{error}: {wanted}"),
            (got, wanted) => panic!("{:?} is not {wanted:?}", got.map(|it| it.chain.len())),
        }
    }
}

#[test]
fn what_is_cut_or_bent_is_none_and_no_harm() {
    let packed: String = file!("plain.p12.txt").split_whitespace().collect();
    let whole = sign::any_base64(&packed).unwrap();
    for end in 0..whole.len() {
        let _ = p12::open(&whole[..end], "x");
        let mut bent = whole.clone();
        bent[end] ^= 0x81;
        let _ = p12::open(&bent, "x");
    }
}
