//! A Redis, and what a test says to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use super::{Ground, Process, START_MAX, free_port, wait_until};

/// Starts of a server that found its port taken.
const STARTS_MAX: usize = 5;

/// A Redis of the test's own.
pub struct Redis {
    ground: Ground,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    options: Vec<String>,
    password: Option<String>,
    process: Option<Process>,
}

/// What a Redis answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    Nil,
    /// A number.
    Integer(i64),
    /// A text, or the word of a status.
    Text(String),
    /// Several.
    List(Vec<Answer>),
    /// A refusal.
    Error(String),
}

impl Answer {
    /// The number.
    pub fn integer(&self) -> i64 {
        match self {
            Self::Integer(number) => *number,
            other => panic!("no number: {other:?}"),
        }
    }

    /// All texts in it, in order.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text.clone()],
            Self::List(list) => list.iter().flat_map(Self::texts).collect(),
            _ => Vec::new(),
        }
    }
}

impl Redis {
    /// Starts one that takes everyone.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with further options of its command line.
    pub fn with(options: &[&str]) -> Self {
        let password = options.iter().position(|it| *it == "--requirepass");
        let password = password.and_then(|at| options.get(at + 1)).map(|it| (*it).to_owned());
        let mut redis = Self {
            ground: Ground::new("redis"),
            port: 0,
            options: options.iter().map(|it| (*it).to_owned()).collect(),
            password,
            process: None,
        };
        for _ in 0..STARTS_MAX {
            redis.port = free_port();
            if redis.try_start() {
                return redis;
            }
        }
        panic!("redis-server does not start (is it installed?): {}", redis.ground.log());
    }

    /// Starts a sentinel that watches `master` and calls it `name`.
    pub fn sentinel(master: &Redis, name: &str) -> Self {
        let ground = Ground::new("sentinel");
        let mut file = format!("sentinel monitor {name} 127.0.0.1 {} 1\n", master.port);
        if let Some(password) = &master.password {
            file += &format!("sentinel auth-pass {name} \"{password}\"\n");
        }
        ground.write("sentinel.conf", &file);
        let options = vec!["sentinel".to_owned()];
        let mut redis = Self { ground, port: 0, options, password: None, process: None };
        for _ in 0..STARTS_MAX {
            redis.port = free_port();
            if redis.try_start() {
                return redis;
            }
        }
        panic!("redis-server does not start as a sentinel: {}", redis.ground.log());
    }

    fn try_start(&mut self) -> bool {
        let mut command = self.ground.command("redis-server");
        let is_sentinel = self.options == ["sentinel"];
        if is_sentinel {
            command.arg(self.ground.at("sentinel.conf")).arg("--sentinel");
        } else {
            // Nothing is kept: a Redis that lost everything is what its clients have to bear.
            command.args(["--save", "", "--appendonly", "no"]);
            command.arg("--unixsocket").arg(self.socket()).args(["--unixsocketperm", "777"]);
            command.args(&self.options);
        }
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string()]);
        command.args(["--dir", &self.ground.path.to_string_lossy()]);
        let Ok(child) = command.spawn() else { return false };
        let mut process = Process(child);
        let mut is_up = false;
        wait_until("redis-server to start", || {
            is_up = self.try_say(&["PING"]).is_some_and(|it| it == Answer::Text("PONG".into()));
            is_up || !process.is_alive()
        });
        // Someone else's may have answered.
        if is_up && process.is_alive() {
            self.process = Some(process);
            return true;
        }
        false
    }

    /// Stops it; what it held is lost.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.end("KILL");
        }
    }

    /// Starts it again where it was.
    pub fn start_again(&mut self) {
        assert!(self.try_start(), "redis-server does not start again: {}", self.ground.log());
    }

    /// Makes it stand still: connections stay, nothing is answered.
    pub fn pause(&self) {
        self.process.as_ref().expect("it runs").signal("STOP");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.process.as_ref().expect("it runs").signal("CONT");
    }

    /// Its address as `REDIS_URL` says it.
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}/0", self.port),
            None => format!("redis://127.0.0.1:{}/0", self.port),
        }
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.ground.at("redis.sock")
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.ground.log()
    }

    /// Says one command on a connection of its own.
    pub fn say(&self, words: &[&str]) -> Answer {
        self.try_say(words).expect("redis-server answers")
    }

    fn try_say(&self, words: &[&str]) -> Option<Answer> {
        self.try_connect()?.try_say(words)
    }

    /// A connection that stays.
    pub fn connect(&self) -> Talk {
        self.try_connect().expect("redis-server listens")
    }

    fn try_connect(&self) -> Option<Talk> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(START_MAX)).ok()?;
        stream.set_nodelay(true).ok()?;
        let mut talk = Talk(BufReader::new(stream));
        if let Some(password) = &self.password {
            talk.try_say(&["AUTH", password])?;
        }
        Some(talk)
    }

    /// Publishes, and says how many heard it.
    pub fn publish(&self, channel: &str, message: &str) -> i64 {
        self.say(&["PUBLISH", channel, message]).integer()
    }

    /// How many subscriptions a channel has.
    pub fn subscribers(&self, channel: &str) -> i64 {
        match self.say(&["PUBSUB", "NUMSUB", channel]) {
            Answer::List(list) => list.last().map_or(0, Answer::integer),
            other => panic!("no list: {other:?}"),
        }
    }

    /// Waits until a channel has so many subscriptions.
    pub fn wait_for_subscribers(&self, channel: &str, wanted: i64) {
        wait_until(&format!("{wanted} subscribers of {channel}"), || {
            self.subscribers(channel) == wanted
        });
    }

    /// For how many seconds a key is kept; -2: there is none.
    pub fn ttl(&self, key: &str) -> i64 {
        self.say(&["TTL", key]).integer()
    }
}

/// A connection to a Redis.
pub struct Talk(BufReader<TcpStream>);

impl Talk {
    /// Says one command.
    pub fn say(&mut self, words: &[&str]) -> Answer {
        self.try_say(words).expect("redis-server answers")
    }

    fn try_say(&mut self, words: &[&str]) -> Option<Answer> {
        self.send(words)?;
        self.read()
    }

    fn send(&mut self, words: &[&str]) -> Option<()> {
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.get_mut().write_all(text.as_bytes()).ok()
    }

    /// The next answer.
    pub fn read(&mut self) -> Option<Answer> {
        let mut line = String::new();
        if self.0.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1)?;
        Some(match kind {
            "+" => Answer::Text(rest.to_owned()),
            "-" => Answer::Error(rest.to_owned()),
            ":" => Answer::Integer(rest.parse().ok()?),
            "$" => {
                let Ok(length) = rest.parse::<usize>() else { return Some(Answer::Nil) };
                let mut bytes = vec![0; length + 2];
                self.0.read_exact(&mut bytes).ok()?;
                Answer::Text(String::from_utf8_lossy(&bytes[..length]).into_owned())
            }
            "*" => {
                let length = rest.parse::<usize>().unwrap_or(0);
                Answer::List((0..length).map(|_| self.read()).collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }
}

#[test]
fn a_redis_starts_stops_and_starts_again() {
    let mut redis = Redis::with(&["--requirepass", "a secret"]);
    assert_eq!(redis.say(&["SET", "key", "1", "EX", "100"]), Answer::Text("OK".into()));
    assert!((99..=100).contains(&redis.ttl("key")));
    assert_eq!(redis.subscribers("there"), 0);
    let mut talk = redis.connect();
    talk.say(&["SUBSCRIBE", "there"]);
    assert_eq!(redis.publish("there", "hello"), 1);
    assert_eq!(
        talk.read().map(|it| it.texts()),
        Some(vec!["message".to_owned(), "there".to_owned(), "hello".to_owned()])
    );
    redis.stop();
    assert_eq!(talk.read(), None);
    redis.start_again();
    assert_eq!(redis.ttl("key"), -2);
    let sentinel = Redis::sentinel(&redis, "main");
    let told = sentinel.say(&["SENTINEL", "get-master-addr-by-name", "main"]);
    assert_eq!(told.texts(), ["127.0.0.1".to_owned(), redis.port.to_string()]);
}
