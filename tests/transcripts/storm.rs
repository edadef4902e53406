//! A seeded storm on the authrequest dialect, with a model beside it.
//!
//! Peers send whole, mutated and cut lines of all transcripts, good and bad tokens, binary messages; a back end
//! publishes and revokes; time passes. Every message is answered exactly once, unless it ends the connection;
//! events come only while their stream is on, and then every one of them.

use ringmain::auth::{Apps, sign};
use ringmain::base::prng::Prng;
use ringmain::base::time::Millis;
use ringmain::config::Config;
use ringmain::wire::json;

use crate::bare::Bare;
use crate::script::{self, Heard, World};

const CONFIG: &str = r#"
| [authrequest]
| app = "app-id"
| extensions = true
| login = true
| consult_url = "http://consult/"
| requests_per_second_max = 20
| [[authrequest.tokens]]
| token = "ann"
| user = "ann"
| account = "acme"
| permissions = ["account_events"]
| [[authrequest.tokens]]
| token = "ann-less"
| user = "ann"
| account = "acme"
| [[apps]]
| id = "app-id"
| key = "app-key"
| secret = "app-secret"
| bridge = ["hello", "again"]
consult bob = 200 {"user":"bob","account":"acme","permissions":["account_events"]}
consult far = 200 {"user":"bob","account":"far","permissions":["account_events"]}
consult down = 500
"#;

/// What a token is: user, account, and whether it allows the account's events.
fn identity_of(token: &str) -> Option<(&'static str, &'static str, bool)> {
    Some(match token {
        "ann" => ("ann", "acme", true),
        "ann-less" => ("ann", "acme", false),
        "bob" => ("bob", "acme", true),
        "far" => ("bob", "far", true),
        _ => return None,
    })
}

const TOKENS: [&str; 7] = ["ann", "ann-less", "bob", "far", "down", "nobody", ""];
const COMMANDS: [&str; 6] = [
    "startuserevent",
    "startaccountevent",
    "stopuserevent",
    "stopaccountevent",
    "ping",
    "liststreams",
];

/// A peer as it should be.
#[derive(Clone, Default)]
struct Model {
    is_open: bool,
    identity: Option<(&'static str, &'static str, bool)>,
    user: bool,
    account: bool,
}

impl Model {
    /// Takes what came in answer to a message.
    fn take(&mut self, sent: &str, reply: &str) {
        let reply = json::parse_str(reply).expect("what we send is JSON");
        let kind = reply.member("type").and_then(json::Raw::as_str).expect("it has a type");
        let success =
            reply.member("success").and_then(json::Raw::as_bool).expect("it succeeds or not");
        assert_eq!(success, reply.member("error").is_none() && reply.member("message").is_none());
        match (&*kind, success) {
            ("authresponse", true) => {
                let token = json::parse_str(sent).ok().and_then(|it| it.member("token")?.as_str());
                let identity =
                    token.as_deref().and_then(identity_of).expect("only good tokens open");
                let is_same =
                    self.identity.is_some_and(|it| (it.0, it.1) == (identity.0, identity.1));
                self.identity = Some(identity);
                self.user &= is_same;
                self.account &= is_same && identity.2;
            }
            ("startusereventresponse", true) => self.user = true,
            ("startaccounteventresponse", true) => {
                assert!(self.identity.is_some_and(|it| it.2), "it may");
                self.account = true;
            }
            ("stopusereventresponse", true) => self.user = false,
            ("stopaccounteventresponse", true) => self.account = false,
            (kind, _) => assert!(kind.ends_with("response"), "{kind}"),
        }
    }
}

#[test]
fn no_input_breaks_an_authrequest_session() {
    let lines: Vec<_> = crate::transcripts()
        .iter()
        .flat_map(|(_, text)| text.lines())
        .filter_map(|it| it.split_once(" > ").map(|it| it.1.to_owned()))
        .collect();
    let config = script::configuration(CONFIG);
    for seed in 0..60 {
        storm(seed, &lines, &config);
    }
}

fn storm(seed: u64, lines: &[String], config: &Config) {
    let apps = Apps::new(&config.apps);
    let app = apps.iter().next().expect("there is one");
    let mut random = Prng::new(seed);
    let mut world = Bare::new(config);
    world.consulted = script::consulted(CONFIG);
    let mut peers = vec![Model::default(); 4];
    let mut published = 0;
    for step in 0..400 {
        let mut below = |n: usize| random.below(n as u64) as usize;
        let at = below(4);
        let name = format!("p{at}");
        let place = format!("seed {seed}, step {step}");
        if !peers[at].is_open {
            world.open(&name, ["/", "/realtime"][below(2)], &[]).expect("it is let in");
            peers[at] = Model { is_open: true, ..Model::default() };
        }
        let text = match below(16) {
            0 => {
                world.send_binary(&name, &[0, 1, 2]);
                assert!(matches!(world.next(&name), Some(Heard::Closed(1003, _))), "{place}");
                peers[at].is_open = false;
                continue;
            }
            1 => {
                world.go(&name);
                peers[at].is_open = false;
                continue;
            }
            2 => {
                world.wait(Millis(random.below(20_000)));
                for (at, peer) in peers.iter_mut().enumerate().filter(|(_, it)| it.is_open) {
                    if let Some(heard) = world.next(&format!("p{at}")) {
                        assert!(matches!(heard, Heard::Closed(1008, _)), "{place}: {heard:?}");
                        assert!(peer.identity.is_none(), "{place}: only who is nobody times out");
                        peer.is_open = false;
                    }
                }
                continue;
            }
            3..=6 => {
                let (user, account) = (["ann", "bob"][below(2)], ["acme", "far"][below(2)]);
                let bridged = ["voice", "hello", "again"][below(3)];
                let (verb, body) = if below(12) == 0 {
                    ("revoke", format!(r#"{{"userId":"{user}","accountId":"{account}"}}"#))
                } else {
                    published += 1;
                    let event = format!(
                        r#"{{"accountId":"{account}","userId":"{user}","category":"channel","subCategory":"{bridged}","eventName":"e{published}"}}"#
                    );
                    ("events", event)
                };
                let path = format!("/apps/app-id/authrequest/{verb}");
                let query =
                    sign::sign_request(app, "POST", &path, &[], body.as_bytes(), world.wall());
                let status = world.request("POST", &format!("{path}?{query}"), &[], &body).status;
                assert_eq!(status, 202, "{place}");
                for (at, peer) in peers.iter_mut().enumerate().filter(|(_, it)| it.is_open) {
                    let mut heard = Vec::new();
                    while let Some(it) = world.next(&format!("p{at}")) {
                        heard.push(match it {
                            Heard::Text(text) => {
                                assert!(
                                    text.contains(&format!("\"e{published}\"")),
                                    "{place}: {text}"
                                );
                                text[9..13].to_owned()
                            }
                            Heard::Closed(code, text) => format!("{code} {text}"),
                            other => panic!("{place}: {other:?}"),
                        });
                    }
                    heard.sort();
                    let is_theirs = peer.identity.is_some_and(|it| (it.0, it.1) == (user, account));
                    let is_account = peer.identity.is_some_and(|it| it.1 == account);
                    let expected = match (verb, bridged) {
                        ("revoke", _) if is_theirs => {
                            peer.is_open = false;
                            vec!["1008 session revoked"]
                        }
                        ("revoke", _) => vec![],
                        (_, "voice") => {
                            [(peer.account && is_account, "acco"), (peer.user && is_theirs, "user")]
                                .iter()
                                .filter_map(|(is_heard, word)| is_heard.then_some(*word))
                                .collect()
                        }
                        _ if peer.account => vec!["acco"],
                        _ => vec![],
                    };
                    assert_eq!(heard, expected, "{place}, p{at}: {body}");
                }
                continue;
            }
            7..=9 => {
                format!(r#"{{"type":"authrequest","token":"{}"}}"#, TOKENS[below(TOKENS.len())])
            }
            10..=13 => format!(r#"{{"type":"{}request"}}"#, COMMANDS[below(COMMANDS.len())]),
            _ => {
                let mut text = lines[below(lines.len())].clone().into_bytes();
                for _ in 0..below(3) {
                    let i = below(text.len() + 1);
                    match below(3) {
                        0 => text.truncate(i),
                        1 => text.insert(i, below(128) as u8),
                        _ if i < text.len() => text[i] = below(128) as u8,
                        _ => {}
                    }
                }
                String::from_utf8_lossy(&text).into_owned()
            }
        };
        world.send(&name, &text);
        match world.next(&name) {
            Some(Heard::Text(reply)) => peers[at].take(&text, &reply),
            other => panic!("{place}: {text} is answered by {other:?}"),
        }
        match world.next(&name) {
            None => {}
            Some(Heard::Closed(1007 | 1008, _)) => peers[at].is_open = false,
            other => panic!("{place}: {text} is answered twice, by {other:?}"),
        }
    }
    assert_eq!(world.held_by_nobody(), 0, "seed {seed}: something is still held");
}
