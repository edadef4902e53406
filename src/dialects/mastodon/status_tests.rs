use super::*;
use crate::wire::json;

#[test]
fn a_status_is_read() {
    let status = r#"{"id":"1","account":{"id":2,"username":"a","acct":"a"},"mentions":[{"id":"3"}],"language":"en"}"#;
    let status = Status::read(json::parse_str(status).unwrap()).unwrap();
    assert_eq!((&*status.author, status.is_local, status.domain), ("2", true, None));
    assert_eq!(status.mentions, ["3".into()]);
}
