//! The real binary: started on a port the kernel chooses, ended by its own handle.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::http::{Answer, Tcp};
use crate::sign;

/// What one wait may take; only a failing test gets near it.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The app of the tests' configuration: id, key, secret.
pub const APP: (&str, &str, &str) = ("1001", "app-key-1", "app-secret-1");

/// The binary with no arguments yet.
pub fn ringmain() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmain"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // The variables of whoever runs the tests are none of the tests' settings.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RINGMAIN_") {
            command.env_remove(name);
        }
    }
    command
}

/// A directory of its own for each test, removed when the test is over.
pub struct Directory(pub PathBuf);

impl Directory {
    /// Makes one.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("ringmain-process-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary directory can be made");
        Self(path)
    }

    /// Writes `text` into a file here.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a temporary file can be written");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process and what it says.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary starts");
        let (sender, lines) = channel();
        let pipes: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("piped")),
            Box::new(child.stderr.take().expect("piped")),
        ];
        for pipe in pipes {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines }
    }

    /// Waits for the end, which closes both pipes; adds what it said meanwhile.
    fn wait(&mut self, said: &mut Vec<String>) -> ExitStatus {
        loop {
            match self.lines.recv_timeout(PATIENCE * 2) {
                Ok(line) => said.push(line),
                Err(RecvTimeoutError::Disconnected) => {
                    return self.child.wait().expect("it is our child");
                }
                Err(RecvTimeoutError::Timeout) => panic!("the process did not end: {said:#?}"),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command that ends by itself: its exit code and all it said.
pub fn run(command: Command) -> (Option<i32>, String) {
    let mut said = Vec::new();
    let status = Process::spawn(command).wait(&mut said);
    (status.code(), said.join("\n"))
}

/// A command that goes on talking; ended when dropped.
pub struct Talker(Process);

impl Talker {
    /// Starts it.
    pub fn spawn(command: Command) -> Self {
        Self(Process::spawn(command))
    }

    /// Reads until it has said that.
    pub fn until(&mut self, wanted: impl Fn(&str) -> bool) {
        let mut said = Vec::new();
        loop {
            match self.0.lines.recv_timeout(PATIENCE) {
                Ok(line) if wanted(&line) => return,
                Ok(line) => said.push(line),
                Err(_) => panic!("it said something else: {said:#?}"),
            }
        }
    }
}

/// A running server.
pub struct Server {
    process: Process,
    /// What it has said so far.
    pub said: Vec<String>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its configuration and data are, until it is dropped.
    _directory: Directory,
}

impl Server {
    /// Starts with one app and these settings (lines of the configuration file).
    pub fn start(settings: &str) -> Self {
        let (id, key, secret) = APP;
        Self::configured(&format!(
            "{settings}\n[[apps]]\nid = \"{id}\"\nkey = \"{key}\"\nsecret = \"{secret}\"\n\
             client_events = true\nuser_authentication = true\n"
        ))
    }

    /// One server on each driver there is a choice of, with these settings.
    pub fn on_each_driver(settings: &str) -> Vec<Self> {
        let start = |driver| Self::start(&format!("driver = \"{driver}\"\n{settings}"));
        ["auto", "epoll"].into_iter().map(start).collect()
    }

    /// Starts with this configuration file.
    pub fn configured(file: &str) -> Self {
        let directory = Directory::new();
        let file = directory.write("ringmain.toml", file);
        let mut command = ringmain();
        command.arg("serve").arg("--config").arg(file).args(["--listen", "127.0.0.1:0"]);
        command.arg("--data").arg(directory.0.join("data"));
        Self::spawn(command, directory)
    }

    /// Starts with one app and these settings on data that outlives it.
    pub fn on_data(settings: &str, data: &Path) -> Self {
        let (id, key, secret) = APP;
        let directory = Directory::new();
        let file = directory.write(
            "ringmain.toml",
            &format!(
                "{settings}\n[[apps]]\nid = \"{id}\"\nkey = \"{key}\"\nsecret = \"{secret}\"\n"
            ),
        );
        let mut command = ringmain();
        command.arg("serve").arg("--config").arg(file).args(["--listen", "127.0.0.1:0"]);
        command.arg("--data").arg(data);
        Self::spawn(command, directory)
    }

    /// Starts without any configuration, as the development server.
    pub fn development() -> Self {
        let directory = Directory::new();
        let mut command = ringmain();
        // No configuration file lies there.
        command.current_dir(&directory.0).args(["serve", "--listen", "127.0.0.1:0"]);
        Self::spawn(command, directory)
    }

    /// Starts by this command.
    pub fn spawn(command: Command, directory: Directory) -> Self {
        let process = Process::spawn(command);
        let mut said = Vec::new();
        let address = loop {
            let Ok(line) = process.lines.recv_timeout(PATIENCE) else {
                panic!("no address in the banner: {said:#?}");
            };
            let address = address_in(&line);
            said.push(line);
            if let Some(address) = address {
                break address;
            }
        };
        Self { process, said, address, _directory: directory }
    }

    /// Asks the process to stop by `signal` and waits for it.
    pub fn stop(&mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.wait()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let pid = self.process.child.id().to_string();
        // A shell's own `kill` is everywhere, and a system call from here would be unsafe code.
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{signal} {pid}");
    }

    /// Waits until the process has ended.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait(&mut self.said)
    }

    /// Collects what it says until one line satisfies `enough`.
    pub fn listen_until(&mut self, enough: impl Fn(&str) -> bool) {
        while !self.said.iter().any(|line| enough(line)) {
            match self.process.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.said.push(line),
                Err(_) => panic!("it never said that: {:#?}", self.said),
            }
        }
    }

    /// A new connection.
    pub fn connect(&self) -> Tcp {
        Tcp::connect(self.address)
    }

    /// An answer to a plain GET.
    pub fn fetch(&self, path: &str) -> Answer {
        let mut tcp = self.connect();
        tcp.send(
            format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").as_bytes(),
        );
        tcp.answer()
    }

    /// An answer to a signed GET.
    pub fn get(&self, route: &str, query: &[(&str, &str)]) -> Answer {
        let mut tcp = self.connect();
        tcp.send(sign::get(APP, route, query).as_bytes());
        tcp.answer()
    }

    /// An answer to a signed POST.
    pub fn post(&self, route: &str, body: &str) -> Answer {
        let mut tcp = self.connect();
        tcp.send(sign::post(APP, route, body.as_bytes()).as_bytes());
        tcp.answer()
    }

    /// Publishes a signed event of one channel.
    pub fn publish(&self, channel: &str, event: &str, data: &str) -> Answer {
        let body = format!(r#"{{"name":"{event}","channels":["{channel}"],"data":"{data}"}}"#);
        let mut tcp = self.connect();
        tcp.send(sign::post(APP, "events", body.as_bytes()).as_bytes());
        tcp.answer()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            self.said.extend(self.process.lines.try_iter());
            eprintln!("the server said: {:#?}", self.said);
        }
    }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let from = line.find("127.0.0.1:")?;
    let rest = &line[from..];
    let until = rest[10..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |at| at + 10);
    let address: SocketAddr = rest[..until].parse().ok()?;
    (address.port() != 0).then_some(address)
}
