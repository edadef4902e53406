//! `ringmain publish` and `ringmain listen` against a server that this test plays itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};

use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocket};

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    (listener, url)
}

fn start(arguments: &[&str], url: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ringmain"))
        .args(arguments)
        .args(["--url", url])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built for this test")
}

fn end(child: Child) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it can be waited for");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

/// Takes one request and answers it; returns the head and the body.
fn answer(listener: &TcpListener, answer: &str) -> (String, String) {
    let (stream, _) = listener.accept().expect("the client connects");
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a whole head comes");
        if let Some(text) = line.strip_prefix("Content-Length: ") {
            length = text.trim().parse().expect("a number");
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a whole body comes");
    reader.get_mut().write_all(answer.as_bytes()).expect("the client reads");
    (head, String::from_utf8(body).expect("JSON is UTF-8"))
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

#[test]
fn publish_posts_a_signed_event_and_prints_the_answer() {
    let (server, url) = listener();
    let child = start(
        &["publish", "--channel", "a", "--channel", "b", "--event", "e", "--data", "{\"x\":1}"],
        &url,
    );
    let (head, body) = answer(&server, OK);
    assert!(head.starts_with("POST /apps/app-id/events?auth_key=app-key&"), "{head}");
    assert!(head.contains("&auth_signature=") && head.contains("&body_md5="), "{head}");
    assert_eq!(body, r#"{"name":"e","channels":["a","b"],"data":"{\"x\":1}"}"#);
    assert_eq!(end(child), (Some(0), "{}\n".to_owned(), String::new()));
}

#[test]
fn publish_reads_data_from_stdin() {
    let (server, url) = listener();
    let mut child = start(&["publish", "--channel", "a", "--data", "-"], &url);
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(b"from a pipe").expect("the client reads");
    drop(stdin);
    let (_, body) = answer(&server, OK);
    assert_eq!(body, r#"{"name":"message","channels":["a"],"data":"from a pipe"}"#);
    assert_eq!(end(child).0, Some(0));
}

#[test]
fn publish_sends_a_sample_of_a_status() {
    let (server, url) = listener();
    let child = start(&["publish", "--mastodon", "--data", "a < b"], &url);
    let (head, body) = answer(&server, "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}");
    assert!(head.starts_with("POST /apps/app-id/mastodon/events?auth_key=app-key&"), "{head}");
    assert!(body.starts_with(r#"{"event":"update","channels":["timeline:public","#), "{body}");
    assert!(body.contains("<p>a &lt; b "), "{body}");
    assert_eq!(end(child), (Some(0), "{}\n".to_owned(), String::new()));
    let (code, _, stderr) = end(start(&["publish", "--mastodon", "--channel", "a"], &url));
    assert_eq!(code, Some(2), "{stderr}");
}

#[test]
fn publish_says_why_it_was_refused() {
    let (server, url) = listener();
    let child = start(&["publish", "--channel", "a"], &url);
    answer(&server, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\nbad");
    let (code, _, stderr) = end(child);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("401 Unauthorized: bad"), "{stderr}");
    assert!(stderr.lines().last().unwrap_or("").contains("--secret"), "{stderr}");
}

#[test]
fn nobody_there_is_told_at_once() {
    let (server, url) = listener();
    drop(server);
    for arguments in [["publish", "--channel", "a"], ["listen", "--channel", "a"]] {
        let (code, _, stderr) = end(start(&arguments, &url));
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("cannot reach 127.0.0.1:"), "{stderr}");
        assert!(stderr.lines().last().unwrap_or("").contains("start the server"), "{stderr}");
    }
    let (code, _, stderr) = end(start(&["publish", "--channel", "a"], "https://example.com"));
    assert_eq!(code, Some(2), "{stderr}");
}

/// Takes a listener's connection, greets it and takes its subscriptions.
fn greet(server: &TcpListener, channels: usize) -> (WebSocket<TcpStream>, Vec<String>) {
    let (stream, _) = server.accept().expect("the client connects");
    let mut socket = tungstenite::accept(stream).expect("the client opens a WebSocket");
    send(
        &mut socket,
        r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1.2\",\"activity_timeout\":120}"}"#,
    );
    let subscribed = (0..channels)
        .map(|_| socket.read().expect("it subscribes").into_text().expect("text").to_string())
        .collect();
    (socket, subscribed)
}

fn send(socket: &mut WebSocket<TcpStream>, text: &str) {
    socket.send(Message::text(text)).expect("the client reads");
}

#[test]
fn listen_prints_events_until_it_has_enough() {
    let (server, url) = listener();
    let channels = ["news", "private-a", "presence-b"];
    let mut arguments = vec!["listen", "--count", "3", "--secret", "s", "--key", "k"];
    arguments.extend(channels.iter().flat_map(|channel| ["--channel", channel]));
    let child = start(&arguments, &url);
    let (mut socket, subscribed) = greet(&server, 3);
    assert_eq!(subscribed[0], r#"{"event":"pusher:subscribe","data":{"channel":"news"}}"#);
    assert!(subscribed[1].contains(r#""channel":"private-a","auth":"k:"#), "{}", subscribed[1]);
    assert!(subscribed[2].contains(r#""channel_data":"{\"user_id\":\"ringmain-listen\"}""#));
    send(
        &mut socket,
        r#"{"event":"pusher_internal:subscription_succeeded","channel":"news","data":"{}"}"#,
    );
    send(
        &mut socket,
        r#"{"event":"pusher_internal:subscription_count","channel":"news","data":"{}"}"#,
    );
    send(&mut socket, r#"{"event":"pusher:ping","data":{}}"#);
    let pong = socket.read().expect("it answers").into_text().expect("text");
    assert!(pong.contains("pusher:pong"));
    socket.send(Message::Ping("x".into())).expect("the client reads");
    assert_eq!(socket.read().expect("it answers"), Message::Pong("x".into()));
    send(&mut socket, r#"{"event":"one","channel":"news","data":"{\"a\":1}"}"#);
    send(&mut socket, r#"{"event":"two","channel":"news","data":{"a": 2}}"#);
    send(&mut socket, r#"{"event":"three","channel":"private-a","data":"x\ny"}"#);
    send(&mut socket, r#"{"event":"four","channel":"news","data":""}"#);
    assert!(
        matches!(socket.read(), Ok(Message::Close(Some(frame))) if frame.code == CloseCode::Normal)
    );
    let (code, stdout, stderr) = end(child);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(
        stdout,
        "news\tone\t{\"a\":1}\nnews\ttwo\t{\"a\": 2}\nprivate-a\tthree\t\"x\\ny\"\n"
    );
    assert!(stderr.contains("as 1.2") && stderr.contains("listening to news"), "{stderr}");
}

#[test]
fn listen_comes_back_when_it_is_told_to() {
    let (server, url) = listener();
    let child = start(&["listen", "--channel", "a", "--count", "1"], &url);
    let (mut socket, _) = greet(&server, 1);
    let code = CloseCode::from(4200);
    socket.close(Some(CloseFrame { code, reason: "drain".into() })).expect("the client reads");
    let (mut socket, subscribed) = greet(&server, 1);
    assert!(subscribed[0].contains("pusher:subscribe"));
    send(&mut socket, r#"{"event":"e","channel":"a","data":"d"}"#);
    let (code, stdout, stderr) = end(child);
    assert_eq!((code, stdout.as_str()), (Some(0), "a\te\td\n"), "{stderr}");
    assert!(stderr.contains("closed with 4200 drain"), "{stderr}");
}

#[test]
fn listen_gives_up_where_coming_back_is_no_use() {
    let (server, url) = listener();
    let child = start(&["listen", "--channel", "a"], &url);
    let (stream, _) = server.accept().expect("the client connects");
    let mut socket = tungstenite::accept(stream).expect("the client opens a WebSocket");
    let frame = CloseFrame { code: CloseCode::from(4001), reason: "no such app".into() };
    socket.close(Some(frame)).expect("the client reads");
    let (code, _, stderr) = end(child);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("4001: no such app"), "{stderr}");
    assert!(stderr.lines().last().unwrap_or("").contains("check --key"), "{stderr}");

    let child = start(&["listen", "--channel", "private-a"], &url);
    let (mut socket, _) = greet(&server, 1);
    let refusal =
        r#"{"event":"pusher:subscription_error","channel":"private-a","data":{"status":401}}"#;
    send(&mut socket, refusal);
    let (code, _, stderr) = end(child);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("private-a was refused: {\"status\":401}"), "{stderr}");

    let child = start(&["listen", "--channel", "private-a"], &url);
    let (mut socket, _) = greet(&server, 1);
    send(
        &mut socket,
        r#"{"event":"pusher:error","data":{"code":4009,"message":"Invalid signature"}}"#,
    );
    let (code, _, stderr) = end(child);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("refused with 4009: Invalid signature"), "{stderr}");
    assert!(stderr.lines().last().unwrap_or("").contains("--secret"), "{stderr}");
}
