use super::super::annotations::Saying;
use super::*;
use crate::auth::apps::tests::settings;
use crate::base::ids::AppIndex;

const SERIAL: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV-12";

fn channel() -> Channel {
    Channel { app: AppIndex(0), name: Name::from("c") }
}

fn read(action: Action, body: &str) -> Result<Mutation, Refusal> {
    let mut app = settings("1", "k", "s");
    app.event_payload_bytes_max = 1024;
    Mutation::read(body.as_bytes(), action, channel(), SERIAL, &app)
}

#[test]
fn changes_are_refused_for_what_is_wrong_with_them() {
    use Action::{Append, Delete, Update};
    let large = format!(r#"{{"data":"{}"}}"#, "x".repeat(1025));
    let long = format!(r#"{{"op_id":"{}","data":1}}"#, "k".repeat(65));
    for (action, body, status, part) in [
        (Update, "nope", 400, "not JSON"),
        (Update, "[]", 422, "not an object"),
        (Update, "{}", 400, "at least one patch field or operation metadata"),
        (Update, r#"{"op_id":"a","socket_id":"1.1"}"#, 400, "at least one patch field"),
        (Update, r#"{"clear_fields":[]}"#, 400, "at least one patch field"),
        (Update, r#"{"clear_fields":"data"}"#, 422, "clear_fields is a list"),
        (Update, r#"{"clear_fields":["tags"]}"#, 422, "clear_fields is a list"),
        (Update, r#"{"data":1,"clear_fields":["data"]}"#, 400, "data cannot be both"),
        (Update, r#"{"name":""}"#, 400, "name is empty"),
        (Update, r#"{"name":7}"#, 422, "name is not a string"),
        (Update, r#"{"extras":[]}"#, 422, "extras is not an object"),
        (Update, &large, 413, "exceeds limit"),
        (Update, &long, 400, "op_id has 1 to 64 bytes"),
        (Update, r#"{"data":1,"client_id":""}"#, 400, "client_id has 1 to 128 bytes"),
        (Update, r#"{"data":1,"socket_id":"x"}"#, 401, "socket 'x' is not connected"),
        (Delete, r#"{"clear_fields":["name"]}"#, 422, "clear_fields is a list out of data, extras"),
        (Append, "{}", 422, "data is missing"),
        (Append, r#"{"data":{}}"#, 422, "data is not a string"),
        (Append, r#"{"data":""}"#, 400, "append request data must not be empty"),
    ] {
        let refusal = read(action, body).unwrap_err();
        assert_eq!(refusal.status, status, "{body}: {}", refusal.text);
        assert!(refusal.text.contains(part), "{body}: {}", refusal.text);
    }
    let app = settings("1", "k", "s");
    let missing = Mutation::read(b"{\"data\":1}", Update, channel(), "x", &app).unwrap_err();
    assert_eq!((missing.status, &*missing.text), (404, "Message 'x' was not found in channel 'c'"));
}

#[test]
fn a_change_says_what_becomes_of_each_part() {
    let body = r#"{"name":"n","data":{"a" : 1},"clear_fields":["extras"],"metadata":[1],"clientId":"ann",
        "description":"why","idempotency_key":"k"}"#;
    let it = read(Action::Update, body).unwrap().mutate;
    assert_eq!(it.name, Patch::Set(Name::from("n")));
    assert_eq!(it.data, Patch::Set(Payload(Bytes::from_static(b"{\"a\" : 1}"))));
    assert_eq!(it.extras, Patch::Clear);
    assert_eq!(it.about.client_id.as_deref(), Some("ann"));
    assert_eq!(it.about.description.as_deref(), Some("why"));
    assert_eq!(it.about.metadata, Some(Payload(Bytes::from_static(b"[1]"))));
    let key = it.key.unwrap();
    assert_eq!(*key.name, *format!("o:{SERIAL}:k"));
    // The documented name of the key counts before the other.
    let both = read(Action::Update, r#"{"data":1,"op_id":"a","idempotency_key":"b"}"#).unwrap();
    let both = both.mutate.key.unwrap();
    assert_eq!(*both.name, *format!("o:{SERIAL}:a"));
    // Another change under the same key is another one; its key does not say which.
    let other = read(Action::Update, r#"{"data":2,"op_id":"a"}"#).unwrap().mutate.key.unwrap();
    assert_eq!(other.name, both.name);
    assert_ne!(other.fingerprint, both.fingerprint);
    let kept = read(Action::Delete, "{}").unwrap().mutate;
    assert_eq!((kept.data, kept.name), (Patch::Stay, Patch::Stay));
}

#[test]
fn annotations_are_refused_for_what_is_wrong_with_them() {
    let app = settings("1", "k", "s");
    let said = |body: &str| Saying::read(body.as_bytes(), channel(), SERIAL, &app);
    for (body, status, part) in [
        ("{}", 422, "type is missing"),
        (r#"{"type":"likes"}"#, 400, "must use namespace:summarizer.version"),
        (r#"{"type":":total.v1"}"#, 400, "must use namespace:summarizer.version"),
        (r#"{"type":"a b:total.v1"}"#, 400, "whitespace"),
        (r#"{"type":"a:foo.v1"}"#, 400, "unsupported annotation summarizer: foo"),
        (r#"{"type":"a:total.v2"}"#, 400, "unsupported annotation summarizer version: 2"),
        (r#"{"type":"a:multiple.v1"}"#, 400, "name is required"),
        (r#"{"type":"a:flag.v1"}"#, 400, "client_id is required"),
        (r#"{"type":"a:distinct.v1","name":"n"}"#, 400, "client_id is required"),
        (r#"{"type":"a:total.v1","count":0}"#, 400, "must be greater than 0"),
        (r#"{"type":"a:total.v1","count":"1"}"#, 422, "count is not a whole number"),
    ] {
        let refusal = said(body).unwrap_err();
        assert_eq!(refusal.status, status, "{body}: {}", refusal.text);
        assert!(refusal.text.contains(part), "{body}: {}", refusal.text);
    }
    for body in [
        r#"{"type":"a:total.v1","data":{"x":1},"encoding":"json"}"#,
        r#"{"type":"a:flag.v1","clientId":"ann"}"#,
        r#"{"type":"reactions:distinct.v1","name":"like","client_id":"user-1","count":1}"#,
        r#"{"type":"a:unique.v1","name":"n","socketId":"1.1"}"#,
        r#"{"type":"a:multiple.v1","name":"n"}"#,
    ] {
        assert!(said(body).is_ok(), "{body}");
    }
}

#[test]
fn a_cursor_of_versions_is_a_versions_serial() {
    let message: MessageRef = SERIAL.parse().unwrap();
    assert_eq!(read_version(SERIAL, message), Ok(message.id));
    assert_eq!(read_version("01ARZ3NDEKTSV4RRFFQ69G5FAW", message).unwrap().0, message.id.0 + 1);
    for wrong in ["", "x", "01ARZ3NDEKTSV4RRFFQ69G5FAV-13"] {
        assert_eq!(read_version(wrong, message).unwrap_err().status, 400, "{wrong}");
    }
}
