//! Starting, saying the truth about it, refusing to start, stopping.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::peer::Peer;
use crate::server::{APP, Directory, PATIENCE, Server, Talker, ringmain, run};

fn serve(file: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let directory = Directory::new();
    let path = directory.write("ringmain.toml", file);
    let mut command = ringmain();
    command.arg("serve").arg("--config").arg(path).args(arguments);
    command.current_dir(&directory.0);
    run(command)
}

fn one_app() -> String {
    let (id, key, secret) = APP;
    format!("[[apps]]\nid = \"{id}\"\nkey = \"{key}\"\nsecret = \"{secret}\"\n")
}

#[test]
fn the_banner_is_short_and_names_the_real_address() {
    let mut server = Server::development();
    assert_eq!(server.fetch("/up").status, 200);
    assert!(server.stop("TERM").success());
    let lines: Vec<_> = server.said.iter().take_while(|line| !line.contains("level=")).collect();
    assert!(lines.len() <= 12 + 4, "{lines:#?}");
    let all = server.said.join("\n");
    assert!(all.contains(env!("CARGO_PKG_VERSION")), "{all}");
    assert!(!all.contains("127.0.0.1:0 ") && !all.contains("127.0.0.1:0\n"), "{all}");
}

#[test]
fn the_commands_in_the_banner_work_as_printed() {
    for (mut server, secret) in [(Server::development(), None), (Server::start(""), Some(APP.2))] {
        server.listen_until(|line| line.contains(" listen "));
        server.listen_until(|line| line.contains(" publish "));
        let shell = |word: &str| {
            let line = server.said.iter().find(|line| line.contains(word)).expect("just heard");
            // A line is a label and the command.
            let command = line.trim_start().split_once(' ').expect("two columns").1;
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("exec {command}")]);
            shell.envs(secret.map(|secret| ("RINGMAIN_APP_SECRET", secret)));
            shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            shell
        };
        let mut listener = Talker::spawn(shell(" listen "));
        listener.until(|line| line.contains("listening to"));
        let (code, said) = run(shell(" publish "));
        assert_eq!(code, Some(0), "{said}");
        listener.until(|line| line.contains("greeting") && line.contains("hi"));
    }
}

#[test]
fn sigterm_and_sigint_end_it_with_0_and_tell_peers_to_come_back() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start("");
        let mut peer = Peer::open(&server);
        peer.subscribe("room");
        let status = server.stop(signal);
        assert_eq!(status.code(), Some(0), "{signal}");
        assert_eq!(peer.end(), Some(4200), "{signal}");
    }
}

#[test]
fn a_second_signal_does_not_make_it_fail() {
    let mut server = Server::start("drain.deadline_s = 1\n");
    let _held = crate::peer::Rude::open(&server);
    server.signal("TERM");
    let status = server.stop("TERM");
    assert!(matches!(status.code(), Some(0) | Some(1)), "{status:?}");
}

#[test]
fn a_unix_socket_is_as_good_as_a_port() {
    for driver in ["auto", "epoll"] {
        let place = Directory::new();
        let path = place.0.join("s");
        let listen = format!("unix:{}", path.display());
        let start = || {
            let directory = Directory::new();
            let file = directory.write("ringmain.toml", &format!("driver = \"{driver}\"\n"));
            let mut command = ringmain();
            command.arg("serve").arg("--config").arg(file).args(["--listen", "127.0.0.1:0"]);
            command.args(["--listen", &listen, "--shards", "2"]).arg("--data").arg(&directory.0);
            Server::spawn(command, directory)
        };
        let mut server = start();
        server.listen_until(|line| line.contains(&listen));
        for _ in 0..8 {
            let mut stream = UnixStream::connect(&path).expect("it listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
            let request = "GET /up HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).expect("it is open");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer, then the end");
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        let (code, said) = serve(&one_app(), &["--listen", &listen]);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains("cannot listen on unix:"), "{said}");
        // One that is killed leaves its path behind, and the next takes it over.
        server.stop("KILL");
        assert!(path.exists());
        let mut server = start();
        assert!(UnixStream::connect(&path).is_ok());
        assert!(server.stop("TERM").success());
        assert!(!path.exists());
    }
}

#[test]
fn a_taken_port_is_the_machines_refusal() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let (code, said) = serve(&one_app(), &["--listen", &address]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.lines().last().is_some_and(|line| line.contains(&address)), "{said}");
}

#[test]
fn a_port_of_another_ringmain_is_taken_too() {
    let first = Server::start("");
    let address = first.address.to_string();
    let (code, said) = serve(&one_app(), &["--listen", &address]);
    assert_eq!(code, Some(3), "{said}");
}

#[test]
fn a_wrong_configuration_is_refused_by_name() {
    let app = one_app();
    let cases: &[(&str, String, &[&str], &str)] = &[
        ("an unknown key", format!("nonsense = 1\n{app}"), &[], "nonsense"),
        ("an unknown key in a table", format!("[http]\nnonsense = 1\n{app}"), &[], "http.nonsense"),
        ("out of range", format!("http.target_bytes_max = 1\n{app}"), &[], "http.target_bytes_max"),
        ("a wrong type", format!("shards = \"many\"\n{app}"), &[], "shards"),
        ("not TOML", "= = =".into(), &[], "ringmain.toml"),
        ("an app without a secret", "[[apps]]\nid = \"1\"\nkey = \"k\"\n".into(), &[], "secret"),
        ("two apps with one key", format!("{app}{app}"), &[], "app"),
        ("an address that is none", app.clone(), &["--listen", "nowhere"], "nowhere"),
        ("an unknown driver", app.clone(), &["--driver", "steam"], "steam"),
        ("an unknown flag", app.clone(), &["--nonsense"], "--nonsense"),
    ];
    for (name, file, arguments, named) in cases {
        let (code, said) = serve(file, arguments);
        assert_eq!(code, Some(2), "{name}: {said}");
        assert!(said.contains(named), "{name} does not name {named}: {said}");
        assert!(!said.contains(APP.2), "{name} prints the secret: {said}");
    }
}

#[test]
fn a_missing_configuration_file_is_refused() {
    let mut command = ringmain();
    command.args(["serve", "--config", "/nonexistent/ringmain.toml"]);
    let (code, said) = run(command);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("/nonexistent/ringmain.toml"), "{said}");
}

#[test]
fn development_credentials_stay_on_loopback() {
    let directory = Directory::new();
    let mut command = ringmain();
    command.args(["serve", "--listen", "0.0.0.0:0"]).current_dir(&directory.0);
    let (code, said) = run(command);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("app"), "it names what to set: {said}");
}

#[test]
fn the_other_commands_answer_and_end() {
    for (arguments, expected) in [
        (&["version"][..], env!("CARGO_PKG_VERSION")),
        (&["--version"], env!("CARGO_PKG_VERSION")),
        (&["settings"], "limits.outbox_bytes_high_water"),
        (&["--help"], "serve"),
        (&["serve", "--help"], "--listen"),
        (&["publish", "--help"], "publish"),
        (&["listen", "--help"], "listen"),
        (&["check", "--help"], "check"),
    ] {
        let mut command = ringmain();
        command.args(arguments);
        let (code, said) = run(command);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn check_reads_the_configuration_without_serving() {
    let directory = Directory::new();
    for (file, expected) in [(one_app(), 0), (format!("shards = -1\n{}", one_app()), 2)] {
        let path = directory.write("ringmain.toml", &file);
        let mut command = ringmain();
        command.arg("check").arg("--config").arg(path);
        let (code, said) = run(command);
        assert_eq!(code, Some(expected), "{said}");
        assert!(!said.contains(APP.2), "{said}");
    }
}

#[test]
fn environment_and_flags_reach_the_server() {
    let directory = Directory::new();
    let (id, key, secret) = APP;
    let mut command = ringmain();
    command.args(["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--driver", "epoll"]);
    command.current_dir(&directory.0);
    command.envs([
        ("RINGMAIN_APP_ID", id),
        ("RINGMAIN_APP_KEY", key),
        ("RINGMAIN_APP_SECRET", secret),
    ]);
    let mut server = Server::spawn(command, directory);
    let mut peer = Peer::open(&server);
    peer.subscribe("room");
    assert_eq!(server.publish("room", "e", "x").status, 200);
    peer.next("e");
    assert!(server.stop("TERM").success());
    let all = server.said.join("\n");
    assert!(all.contains("epoll"), "the banner names the driver: {all}");
    assert!(!all.contains(secret), "{all}");
}
