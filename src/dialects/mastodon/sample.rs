//! A status to try things out with: what `ringmain publish --mastodon` sends.

use super::settings::{DEVELOPMENT_ACCOUNT, DEVELOPMENT_LIST};
use crate::base::time::UnixMillis;
use crate::wire::json::write_str;

/// What it says, unless told.
pub const TEXT: &str = "Hello from Ringmain";
/// The tag that it has.
pub const TAG: &str = "ringmain";

/// The body of a signed request to `/apps/ID/mastodon/events`: a public status with a tag, on the channels of the
/// streams `public`, `public:local`, `hashtag`, `hashtag:local`, `user` and `list` that hear of it.
///
/// `text` is plain text, `wall` when it was written. Its author is another account than the one that hears it.
pub fn body(text: &str, wall: UnixMillis) -> Vec<u8> {
    let mut out = b"{\"event\":\"update\",\"channels\":[".to_vec();
    let channels = [
        "timeline:public".to_owned(),
        "timeline:public:local".to_owned(),
        format!("timeline:hashtag:{TAG}"),
        format!("timeline:hashtag:{TAG}:local"),
        format!("timeline:{DEVELOPMENT_ACCOUNT}"),
        format!("timeline:list:{DEVELOPMENT_LIST}"),
    ];
    for (i, channel) in channels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_str(&mut out, channel);
    }
    out.extend_from_slice(b"],\"payload\":");
    write_status(text, wall, &mut out);
    out.push(b'}');
    out
}

/// Appends a status in JSON. Source: Mastodon's documentation, "Status" and "Account".
pub fn write_status(text: &str, wall: UnixMillis, out: &mut Vec<u8>) {
    // Mastodon's ids: milliseconds, and sixteen bits of a sequence.
    let id = wall.0 << 16;
    let at = wall.to_civil();
    let content = format!(
        "<p>{} <a href=\"https://example.com/tags/{TAG}\" class=\"mention hashtag\" rel=\"tag\">#<span>{TAG}</span></a></p>",
        escape(text)
    );
    let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
    put(&format!(
        r#"{{"id":"{id}","created_at":"{at}","in_reply_to_id":null,"in_reply_to_account_id":null,"sensitive":false,"spoiler_text":"","visibility":"public","language":"en","uri":"https://example.com/users/ringmain/statuses/{id}","url":"https://example.com/@ringmain/{id}","replies_count":0,"reblogs_count":0,"favourites_count":0,"edited_at":null,"content":"#
    ));
    write_str(out, &content);
    let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
    put(r#","reblog":null,"application":{"name":"Ringmain","website":null},"account":"#);
    put(r#"{"id":"2","username":"ringmain","acct":"ringmain","display_name":"Ringmain","#);
    put(r#""locked":false,"bot":true,"discoverable":true,"group":false,"#);
    put(r#""created_at":"2026-01-01T00:00:00.000Z","note":"<p>A sample account.</p>","#);
    put(r#""url":"https://example.com/@ringmain","uri":"https://example.com/users/ringmain","#);
    put(
        r#""avatar":"https://example.com/avatar.png","avatar_static":"https://example.com/avatar.png","#,
    );
    put(
        r#""header":"https://example.com/header.png","header_static":"https://example.com/header.png","#,
    );
    put(r#""followers_count":0,"following_count":0,"statuses_count":1,"last_status_at":null,"#);
    put(r#""emojis":[],"fields":[]},"media_attachments":[],"mentions":[],"tags":[{"name":""#);
    put(&format!(r#"{TAG}","url":"https://example.com/tags/{TAG}"}}"#));
    put(r#"],"emojis":[],"card":null,"poll":null}"#);
}

/// Text within HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;

    #[test]
    fn a_sample_is_json_whatever_it_says() {
        for text in [TEXT, "", "\"\\\n<b>&\u{7}ü"] {
            let body = body(text, UnixMillis(1_700_000_000_000));
            let body = json::parse(&body).unwrap();
            let status = body.member("payload").unwrap();
            let content = status.member("content").unwrap().as_str().unwrap();
            assert!(content.starts_with(&format!("<p>{} ", escape(text))), "{content}");
            assert_eq!(status.member("id").unwrap().as_str().unwrap(), "111411200000000000");
            assert_eq!(body.member("channels").unwrap().items().count(), 6);
        }
    }
}
