//! A PostgreSQL, and what a test says to it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Ground, Process, free_port, wait_until};

/// Starts of a server that found its port taken.
const STARTS_MAX: usize = 5;
/// Where Debian puts the versions of PostgreSQL.
const DEBIAN: &str = "/usr/lib/postgresql";
/// The part of Mastodon's schema that is read, with a few people.
pub const MASTODON: &str = include_str!("../../data/mastodon.sql");
/// A setting that makes it fast and forgetful.
const SETTINGS: &str = "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n\
    shared_buffers = 16MB\nmax_connections = 60\nlisten_addresses = '127.0.0.1'\nautovacuum = off\n\
    dynamic_shared_memory_type = mmap\nlog_destination = 'stderr'\n";

/// A PostgreSQL of the test's own.
pub struct Postgres {
    ground: Ground,
    programs: PathBuf,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    process: Option<Process>,
}

impl Postgres {
    /// Starts one with this in its database `mastodon`, whose owner `mastodon` has the password `a secret`.
    pub fn start(schema: &str) -> Self {
        Self::with("", schema)
    }

    /// Starts one with further lines of its configuration.
    pub fn with(settings: &str, schema: &str) -> Self {
        let mut postgres =
            Self { ground: Ground::new("pg"), programs: programs(), port: 0, process: None };
        let ground = &postgres.ground;
        ground.write("password", "a secret\n");
        let mut initdb = ground.command(postgres.programs.join("initdb"));
        initdb.args(["--pgdata", "data", "--no-sync", "--encoding=UTF8", "--locale=C"]);
        // Passwords over TCP as on a real site, none on the Unix socket, which the tests' own commands use.
        initdb.args(["--auth-host=scram-sha-256", "--auth-local=trust"]);
        initdb.args(["--username=mastodon", "--pwfile=password"]);
        let made = initdb.status();
        assert!(made.is_ok_and(|it| it.success()), "initdb failed: {}", ground.log());
        postgres.set(SETTINGS);
        postgres.set(settings);
        for _ in 0..STARTS_MAX {
            postgres.port = free_port();
            if postgres.try_start() {
                postgres.psql("postgres", "CREATE DATABASE mastodon");
                postgres.run(schema);
                return postgres;
            }
        }
        panic!("postgres does not start: {}", postgres.ground.log());
    }

    /// Starts one with Mastodon's tables.
    pub fn mastodon() -> Self {
        Self::start(MASTODON)
    }

    fn try_start(&mut self) -> bool {
        let mut command = self.ground.command(self.programs.join("postgres"));
        command.args(["-D", "data", "-p", &self.port.to_string()]);
        command.arg("-k").arg(&self.ground.path);
        let Ok(child) = command.spawn() else { return false };
        let mut process = Process(child);
        let mut is_up = false;
        wait_until("postgres to start", || {
            is_up = self.try_psql("postgres", "SELECT 1").is_ok();
            is_up || !process.is_alive()
        });
        if is_up {
            self.process = Some(process);
        }
        is_up
    }

    /// Stops it at once; what it holds stays.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.end("INT");
        }
    }

    /// Starts it again where it was.
    pub fn start_again(&mut self) {
        assert!(self.try_start(), "postgres does not start again: {}", self.ground.log());
    }

    /// Its address as `DATABASE_URL` says it.
    pub fn url(&self) -> String {
        format!("postgres://mastodon:a%20secret@127.0.0.1:{}/mastodon", self.port)
    }

    /// The same by its Unix socket.
    pub fn socket_url(&self) -> String {
        let folder = self.ground.path.to_string_lossy().replace('/', "%2F");
        format!("postgres://mastodon@{folder}:{}/mastodon", self.port)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.ground.path
    }

    /// Adds lines to its configuration, which count when it is started again.
    pub fn set(&self, settings: &str) {
        let file = self.ground.at("data/postgresql.conf");
        let text = fs::read_to_string(&file).expect("it is there");
        fs::write(&file, format!("{text}\n{settings}\n")).expect("it can be written");
    }

    /// Starts it again with this certificate and key, for those who want TLS.
    pub fn serve_tls(&mut self, certificate: &Path, key: &Path) {
        self.stop();
        let text = |path| fs::read_to_string(path).expect("it was made");
        let file = self.ground.write("server.crt", &text(certificate));
        let key = self.ground.write("server.key", &text(key));
        let (file, key) = (file.display(), key.display());
        self.set(&format!("ssl = on\nssl_cert_file = '{file}'\nssl_key_file = '{key}'\n"));
        self.start_again();
    }

    /// Runs statements in the database, and gives back what they found: a row a line, `|` between its cells.
    pub fn run(&self, sql: &str) -> String {
        self.psql("mastodon", sql)
    }

    /// Makes every question to these tables wait for as long as the lock is held.
    pub fn lock(&self, tables: &str) -> Lock {
        let mut command = self.command("mastodon");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("psql starts");
        let mut input = child.stdin.take().expect("piped");
        let sql = format!("BEGIN; LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE;\n");
        input.write_all(sql.as_bytes()).expect("psql reads");
        let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted \
                    AND relation IS NOT NULL";
        wait_until("a lock", || self.run(held).trim() != "0");
        Lock { _input: input, process: Process(child) }
    }

    fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql).unwrap_or_else(|why| panic!("psql: {why}"))
    }

    fn command(&self, database: &str) -> Command {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-U", "mastodon", "-d", database]);
        command.args(["-v", "ON_ERROR_STOP=1", "-p", &self.port.to_string()]);
        command.arg("-h").arg(&self.ground.path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut child = self.command(database).spawn().map_err(|it| it.to_string())?;
        let mut input = child.stdin.take().expect("piped");
        // Fails if it could not connect; what it says tells why.
        let _ = input.write_all(sql.as_bytes());
        drop(input);
        let output = child.wait_with_output().map_err(|it| it.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Killed, it would leave its shared memory behind.
        self.stop();
    }
}

/// A lock on tables, released when it is dropped.
pub struct Lock {
    _input: std::process::ChildStdin,
    process: Process,
}

impl Lock {
    /// Releases it, and waits until that is so.
    pub fn release(self) {
        let Self { _input: input, mut process } = self;
        drop(input);
        wait_until("psql to end", || !process.is_alive());
    }
}

/// Where the newest PostgreSQL of this machine has its programs.
fn programs() -> PathBuf {
    let versions = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let number = |name: &str| name.parse::<u32>().ok();
    let newest = versions
        .filter_map(|it| Some((number(&it.file_name().to_string_lossy())?, it.path().join("bin"))))
        .filter(|(_, path)| path.join("initdb").exists())
        .max();
    newest.map(|(_, path)| path).expect("postgresql is installed")
}

#[test]
fn a_postgres_starts_stops_and_starts_again() {
    let mut postgres = Postgres::mastodon();
    assert_eq!(
        postgres.run("SELECT username, domain FROM accounts WHERE id = 8"),
        "hal|bad.example\n"
    );
    postgres.run("INSERT INTO lists (account_id, title) VALUES (1, 'more')");
    postgres.stop();
    postgres.start_again();
    assert_eq!(postgres.run("SELECT id FROM lists WHERE title = 'more'"), "1001\n");
    postgres.lock("lists").release();
    assert_eq!(postgres.run("SELECT count(*) FROM lists"), "3\n");
}
