use super::*;

/// A request as text, as it was on the wire.
struct Wire {
    text: String,
    body: String,
}

impl Wire {
    fn new(text: &str, body: &str) -> Self {
        Self { text: text.to_owned(), body: body.to_owned() }
    }

    fn replace(&self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "{from}");
        Self::new(&self.text.replace(from, to), &self.body)
    }

    fn verify(
        &self,
        keys: &[AccessKey],
        service: &str,
        wall: UnixMillis,
    ) -> Result<String, SignatureError> {
        let mut lines = self.text.lines();
        let line = lines.next().unwrap();
        let (method, rest) = line.split_once(' ').unwrap();
        let target = rest.strip_suffix(" HTTP/1.1").unwrap();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let headers: Vec<(&str, &[u8])> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name, value.trim().as_bytes()))
            .collect();
        let request =
            Request { method, path, query, headers: &headers, body: self.body.as_bytes() };
        verify(keys, service, &request, wall).map(|key| key.id.clone())
    }
}

fn key(id: &str, secret: &str) -> AccessKey {
    AccessKey { id: id.into(), secret: Secret(secret.into()) }
}

/// AWS's Signature Version 4 test suite: method, target, further headers, signed ones, body, signature.
const SUITE: &[(&str, &str, &str, &str, &str, &str)] = &[
    ("GET", "/", "", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    (
        "GET",
        "/",
        "My-Header1:value2\nMy-Header1:value2\nMy-Header1:value1\n",
        "my-header1;",
        "",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    ),
    (
        "GET",
        "/",
        "My-Header1: value1\nMy-Header2: \"a   b   c\"\n",
        "my-header1;my-header2;",
        "",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    (
        "GET",
        "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        "",
        "",
        "",
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    ("GET", "/ሴ", "", "", "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    (
        "GET",
        "/?Param1=value1",
        "",
        "",
        "",
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    (
        "GET",
        "/?Param2=value2&Param1=value1",
        "",
        "",
        "",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    (
        "GET",
        "/?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        "",
        "",
        "",
        "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    ),
    (
        "GET",
        "/example/..",
        "",
        "",
        "",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    ("GET", "//", "", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    (
        "GET",
        "/example space/",
        "",
        "",
        "",
        "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
    ),
    ("POST", "/", "", "", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    (
        "POST",
        "/",
        "Content-Type:application/x-www-form-urlencoded\n",
        "content-type;",
        "Param1=value1",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
];

#[test]
fn the_published_examples_verify() {
    let keys = [key("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")];
    for (method, target, headers, signed, body, signature) in SUITE {
        // What is signed beside host and date sorts before `host` or between them.
        let signed = match *signed {
            "content-type;" => "content-type;host;x-amz-date".to_owned(),
            signed => format!("host;{signed}x-amz-date"),
        };
        let wire = Wire::new(
            &format!(
                "{method} {target} HTTP/1.1\n{headers}Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z\n\
                 Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders={signed}, Signature={signature}"
            ),
            body,
        );
        let wall = UnixMillis(1_440_938_160_000);
        assert_eq!(wire.verify(&keys, "service", wall), Ok("AKIDEXAMPLE".into()), "{target}");
    }
}

/// What botocore 1.44.8 sent, by way of boto3, for a function named by its ARN.
const BOTOCORE: &str = "\
POST /2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-3%3A123456789012%3Afunction%3AHotsock-Publish/invocations?Qualifier=live HTTP/1.1
Host: 127.0.0.1:33929
Accept-Encoding: identity
X-Amz-Invocation-Type: Event
User-Agent: Boto3/1.44.8 md/Botocore#1.44.8 ua/2.1 os/linux#6.18 md/arch#x86_64 lang/python#3.11.7
X-Amz-Date: 20261127T143642Z
Authorization: AWS4-HMAC-SHA256 Credential=app-key/20261127/eu-west-3/lambda/aws4_request, SignedHeaders=host;x-amz-date;x-amz-invocation-type, Signature=f891a60fbc0b6fce10f95ae5c5d4482cc0ab7a99d6fe87fea77bfc94558cebee
amz-sdk-invocation-id: de7e5fb3-c7da-4735-af23-c535a661627b
amz-sdk-request: attempt=1; max=1
Content-Length: 52";
const BOTOCORE_BODY: &str = "{\"channel\": \"room.1\", \"event\": \"tick\", \"data\": \"é\"}";
const BOTOCORE_AT: UnixMillis = UnixMillis(1_795_790_202_000);

#[test]
fn what_an_sdk_sends_verifies_and_nothing_else() {
    let keys = [key("other", "another-secret"), key("app-key", "app-secret")];
    let sent = Wire::new(BOTOCORE, BOTOCORE_BODY);
    let check = |wire: &Wire, wall| wire.verify(&keys, "lambda", wall);
    assert_eq!(check(&sent, BOTOCORE_AT), Ok("app-key".into()));
    // What is not signed may change on the way, and so may the spelling of what is.
    for (from, to) in [
        ("identity", "gzip"),
        ("Host:", "hOST: "),
        ("Type: Event", "Type:   Event  "),
        ("aws4_request, Signed", "aws4_request,Signed"),
    ] {
        assert_eq!(check(&sent.replace(from, to), BOTOCORE_AT), Ok("app-key".into()), "{to}");
    }
    let digest = "\nX-Amz-Content-Sha256: d57e9b0cbc9b1ee7a8bf5a7d7ac6f9f2f9a5f3c1";
    let (malformed, missing) =
        (|what| SignatureError::Malformed { what }, |field| SignatureError::Missing { field });
    let form = "the credential must be ID/DAY/REGION/SERVICE/aws4_request";
    for (from, to, refused) in [
        ("POST", "PUT", SignatureError::Mismatch),
        ("%3Aaws", ":aws", SignatureError::Mismatch),
        ("Publish/", "Other/", SignatureError::Mismatch),
        ("?Qualifier=live", "", SignatureError::Mismatch),
        ("?Qualifier=live", "?Qualifier=live&a=b", SignatureError::Mismatch),
        (": Event", ": DryRun", SignatureError::Mismatch),
        ("Host: 127", "Host: 128", SignatureError::Mismatch),
        ("Signature=f", "Signature=e", SignatureError::Mismatch),
        ("Signature=f", "Signature=F", SignatureError::Mismatch),
        ("Signature=f", "Signature=", SignatureError::Mismatch),
        ("eu-west-3/lambda", "eu-west-4/lambda", SignatureError::Mismatch),
        ("=app-key/", "=other/", SignatureError::Mismatch),
        ("X-Amz-Date: 20261127T143642Z", "X-Amz-Date: 20261127T143643Z", SignatureError::Mismatch),
        ("=app-key/", "=nobody/", SignatureError::UnknownKey),
        ("\namz-sdk-request", &format!("{digest}\namz-sdk-request"), SignatureError::Body),
        (
            "\namz-sdk-request",
            "\nX-Amz-Content-Sha256: UNSIGNED-PAYLOAD\namz-sdk-request",
            SignatureError::Body,
        ),
        ("Authorization: ", "X-Other: ", missing("Authorization")),
        ("X-Amz-Date: ", "Date: ", missing("X-Amz-Date")),
        (
            "lambda/aws4",
            "s3/aws4",
            malformed("the credential's date or service is not the request's"),
        ),
        (
            "key/20261127",
            "key/20261126",
            malformed("the credential's date or service is not the request's"),
        ),
        ("=app-key/20261127/", "=20261127/", malformed("the credential must have five parts")),
        ("aws4_request", "aws5_request", malformed(form)),
        ("=app-key/", "=/", malformed(form)),
        (
            "20261127T143642Z",
            "2026-11-27T14:36:42Z",
            malformed("X-Amz-Date must be like 20260131T120000Z"),
        ),
        ("AWS4-HMAC-SHA256", "Bearer", malformed("Authorization must start with AWS4-HMAC-SHA256")),
        (
            ", Signature=",
            ", Sig=",
            malformed("Authorization must have Credential, SignedHeaders and Signature"),
        ),
        (
            "SignedHeaders=host;x-amz-date;",
            "SignedHeaders=host;",
            malformed("SignedHeaders must have host and x-amz-date"),
        ),
        (
            "SignedHeaders=host;",
            "SignedHeaders=",
            malformed("SignedHeaders must have host and x-amz-date"),
        ),
        (
            "=host;x-amz-date;x-amz-invocation-type",
            "=x-amz-date;host;x-amz-invocation-type",
            malformed("SignedHeaders must be at most 64 names, lower case and sorted"),
        ),
        (
            "=host;x-amz-date;",
            "=host;nothing;x-amz-date;",
            malformed("SignedHeaders has a header that is not there"),
        ),
        (
            "\nUser-Agent",
            "\nX-Amz-Date: 20261127T143642Z\nUser-Agent",
            malformed("a header field of the signature is wrong"),
        ),
    ] {
        assert_eq!(check(&sent.replace(from, to), BOTOCORE_AT), Err(refused), "{from} -> {to}");
    }
    let changed = Wire::new(BOTOCORE, "{}");
    assert_eq!(check(&changed, BOTOCORE_AT), Err(SignatureError::Mismatch));
    assert_eq!(sent.verify(&[], "lambda", BOTOCORE_AT), Err(SignatureError::UnknownKey));
    let wrong = [key("app-key", "app-secreT")];
    assert_eq!(sent.verify(&wrong, "lambda", BOTOCORE_AT), Err(SignatureError::Mismatch));
}

#[test]
fn a_signature_is_good_for_five_minutes_either_way() {
    let keys = [key("app-key", "app-secret")];
    let sent = Wire::new(BOTOCORE, BOTOCORE_BODY);
    for (wall, is_good) in [
        (BOTOCORE_AT.0 - 300_001, false),
        (BOTOCORE_AT.0 - 300_000, true),
        (BOTOCORE_AT.0 + 300_000, true),
        (BOTOCORE_AT.0 + 300_001, false),
        (0, false),
    ] {
        let refused = SignatureError::Expired { server_seconds: wall / 1000 };
        let expected = if is_good { Ok("app-key".into()) } else { Err(refused) };
        assert_eq!(sent.verify(&keys, "lambda", UnixMillis(wall)), expected, "{wall}");
    }
}

#[test]
fn times_are_read_as_they_are_written() {
    for seconds_since_1970 in
        [0, 951_782_399, 951_782_400, 951_868_800, 1_795_790_202, 4_107_542_400]
    {
        let civil = UnixMillis(seconds_since_1970 * 1000).to_civil().to_string();
        let text: String = civil.split('.').next().unwrap().replace(['-', ':'], "") + "Z";
        assert_eq!(seconds(&text), Some(seconds_since_1970), "{text}");
    }
    for text in ["", "20260131T120000", "20261331T120000Z", "20260100T120000Z", "2026013１T12000Z"]
    {
        assert_eq!(seconds(text), None, "{text}");
    }
}

#[test]
fn what_is_too_long_is_refused() {
    let keys = [key("app-key", "app-secret")];
    let names = "host;".to_owned() + &"a;".repeat(FIELDS_MAX) + "x-amz-date;";
    let sent = Wire::new(BOTOCORE, BOTOCORE_BODY).replace("host;x-amz-date;", &names);
    let what = "SignedHeaders must be at most 64 names, lower case and sorted";
    let refused = SignatureError::Malformed { what };
    assert_eq!(sent.verify(&keys, "lambda", BOTOCORE_AT), Err(refused));
}
