use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::exchange_tests::{Bench, dialect, published};
use crate::base::event_id::EventId;
use crate::broker::{Command, Refusal, Reply};
use crate::dialects::Input;

const ARN: &str = "arn%3Aaws%3Alambda%3Aus-east-1%3A1%3Afunction%3Apublish";
const TIME: &str = "20270115T080000Z";
const MESSAGE: &str = r#"{"channel":"c","event":"e","eagerIdGeneration":true}"#;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

/// What an SDK writes into `Authorization`, of a request without a query.
fn authorization(path: &str, body: &str, id: &str, secret: &str) -> String {
    let mac = |key: &[u8], text: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    };
    let path = path.replace('%', "%25");
    let digest = hex(&Sha256::digest(body));
    let fields = "host;x-amz-date";
    let canonical = format!("POST\n{path}\n\nhost:h\nx-amz-date:{TIME}\n\n{fields}\n{digest}");
    let (day, scope) = (&TIME[..8], "us-east-1/lambda/aws4_request");
    let hash = hex(&Sha256::digest(canonical));
    let text = format!("AWS4-HMAC-SHA256\n{TIME}\n{day}/{scope}\n{hash}");
    let key = mac(format!("AWS4{secret}").as_bytes(), day);
    let key = scope.split('/').fold(key, |key, part| mac(&key, part));
    let signature = hex(&mac(&key, &text));
    format!(
        "AWS4-HMAC-SHA256 Credential={id}/{day}/{scope}, SignedHeaders={fields}, Signature={signature}"
    )
}

/// An invocation of a function, signed with the development key.
fn invoke(function: &str, kind: Option<&str>, body: &str) -> Bench {
    let path = format!("/2015-03-31/functions/{function}/invocations");
    let authorization = authorization(&path, body, "app-key", "app-secret");
    send(&path, kind, body, &authorization)
}

fn send(path: &str, kind: Option<&str>, body: &str, authorization: &str) -> Bench {
    let mut headers = vec![("Host", &b"h"[..]), ("X-Amz-Date", TIME.as_bytes())];
    headers.push(("authorization", authorization.as_bytes()));
    headers.extend(kind.map(|it| ("X-Amz-Invocation-Type", it.as_bytes())));
    let dialect = dialect(|_| {});
    let mut bench = Bench::open(&dialect, ("POST", path), &headers, false).unwrap();
    bench.input(Input::Body(body.as_bytes()));
    bench
}

/// Status, kind and words of a refusal.
fn refused(bench: &Bench) -> (u16, String, String) {
    let (status, body) = bench.told();
    let kind = bench.header("x-amzn-ErrorType").expect("SDKs read it").to_owned();
    assert_eq!(body["Type"], if status < 500 { "User" } else { "Service" });
    (status, kind, body["Message"].as_str().unwrap().to_owned())
}

#[test]
fn an_invocation_publishes() {
    for function in ["publish", ARN] {
        let bench = invoke(function, None, MESSAGE);
        assert_eq!(&*bench.publishes().channel.name, "#hotsock:c");
        let bench = bench.reply(published(3));
        let id = EventId(3).to_string();
        assert_eq!(bench.told(), (200, json!({"channel":"c","event":"e","id":id})));
        assert_eq!(bench.header("X-Amz-Executed-Version"), Some("$LATEST"));
        assert_eq!(bench.header("X-Amz-Function-Error"), None);
        assert!(bench.header("X-Amzn-RequestId").is_some_and(|it| !it.is_empty()));
    }
    let bench = invoke("publish", Some("RequestResponse"), MESSAGE).reply(published(3));
    assert_eq!(bench.told().0, 200);
    let bench = invoke("publish", Some("Event"), MESSAGE).reply(published(3));
    assert_eq!(bench.told(), (202, Value::Null));
    let bench = invoke("publish", Some("DryRun"), MESSAGE);
    assert_eq!((bench.told(), bench.asked.len()), ((204, Value::Null), 0));
    let set = r#"{"channel":"c","event":"hotsock.channelStorageSet","key":"k","data":1}"#;
    let bench = invoke("publish", None, set);
    assert!(matches!(bench.command(), Command::SetValue(_)));
    let told = bench.reply(Reply::Done).told();
    assert_eq!(told, (200, json!({"channel":"c","event":"hotsock.channelStorageSet"})));
}

#[test]
fn a_function_that_fails_is_an_answer() {
    let bench = invoke("publish", None, r#"{"channel":"c","event":"*"}"#);
    let (status, body) = bench.told();
    assert_eq!((status, &body["errorType"]), (200, &json!("INVALID_EVENT")));
    assert!(body["errorMessage"].as_str().unwrap().contains('*'));
    assert_eq!(bench.header("X-Amz-Function-Error"), Some("Unhandled"));
    assert_eq!(bench.header("X-Amz-Executed-Version"), Some("$LATEST"));
    assert_eq!(invoke("publish", None, "7").told().1["errorType"], "INVALID_MESSAGE");
    // Nobody would ever hear of these.
    for kind in ["Event", "DryRun"] {
        let (status, kind, text) = refused(&invoke("p", Some(kind), r#"{"channel":"c"}"#));
        assert_eq!((status, &*kind), (400, "InvalidRequestContentException"));
        assert!(text.starts_with("INVALID_MESSAGE: "), "{text}");
    }
    let id = EventId(1);
    let react = format!(
        r#"{{"channel":"c","event":"hotsock.messageReaction","meta":{{"uid":"1"}},"data":{{"messageId":"{id}","reaction":"x","action":"add"}}}}"#
    );
    let bench = invoke("p", None, &react).reply(Reply::Refused(Refusal::NotFound));
    assert_eq!((bench.told().0, &bench.told().1["errorType"]), (200, &json!("MESSAGE_NOT_FOUND")));
    for kind in [None, Some("Event")] {
        let bench = invoke("p", kind, MESSAGE).reply(Reply::Refused(Refusal::StoreBusy));
        let (status, kind, _) = refused(&bench);
        assert_eq!((status, &*kind), (503, "ServiceException"));
        assert!(bench.header("Retry-After").is_some());
    }
}

#[test]
fn what_is_not_an_invocation_is_refused_as_sdks_expect_it() {
    let path = "/2015-03-31/functions/publish/invocations";
    let good = |body| authorization(path, body, "app-key", "app-secret");
    for (authorization, kind) in [
        (authorization(path, MESSAGE, "app-key", "another"), "InvalidSignatureException"),
        (authorization(path, "{}", "app-key", "app-secret"), "InvalidSignatureException"),
        (authorization("/x", MESSAGE, "app-key", "app-secret"), "InvalidSignatureException"),
        (authorization(path, MESSAGE, "app-id", "app-secret"), "UnrecognizedClientException"),
        ("Bearer app-secret".to_owned(), "IncompleteSignatureException"),
    ] {
        let bench = send(path, None, MESSAGE, &authorization);
        let (status, told, _) = refused(&bench);
        assert_eq!((status, &*told), (403, kind));
        assert!(bench.asked.is_empty());
    }
    let (status, kind, _) = refused(&send(path, None, "{", &good("{")));
    assert_eq!((status, &*kind), (400, "InvalidRequestContentException"));
    let dialect = dialect(|_| {});
    let open = |method, path, headers: &[(&str, &[u8])], draining| {
        Bench::open(&dialect, (method, path), headers, draining).unwrap()
    };
    let mut bench = open("POST", path, &[], false);
    bench.input(Input::Body(b"{}"));
    assert_eq!(
        (refused(&bench).0, &*refused(&bench).1),
        (403, "MissingAuthenticationTokenException")
    );
    for (path, status, kind) in [
        ("/2015-03-31/functions/", 404, "ResourceNotFoundException"),
        ("/2015-03-31/functions//invocations", 404, "ResourceNotFoundException"),
        ("/2015-03-31/functions/f", 404, "ResourceNotFoundException"),
        ("/2015-03-31/functions/f/code", 404, "ResourceNotFoundException"),
        ("/2015-03-31/functions/f/g/invocations", 404, "ResourceNotFoundException"),
    ] {
        let told = refused(&open("POST", path, &[], false));
        assert_eq!((told.0, &*told.1), (status, kind), "{path}");
    }
    let told = refused(&open("POST", path, &[("x-amz-invocation-type", b"Later")], false));
    assert_eq!((told.0, &*told.1), (400, "InvalidParameterValueException"));
    let told = refused(&open("POST", path, &[], true));
    assert_eq!((told.0, &*told.1), (503, "ServiceException"));
    assert_eq!(open("GET", path, &[], false).header("Allow"), Some("POST, OPTIONS"));
    assert_eq!(open("OPTIONS", path, &[], false).told().0, 204);
}
