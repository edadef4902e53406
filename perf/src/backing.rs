//! The Redis and the PostgreSQL behind a server that follows a Mastodon: started on free ports, gone with their owner.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::sys;

const PATIENCE: Duration = Duration::from_secs(20);
/// The role and the database of it.
const ROLE: &str = "mastodon";
const DATABASE: &str = "mastodon_production";

/// Both, with accounts 1 to so many in the database. They run on the cores of this process.
pub struct Backing {
    _redis: Daemon,
    postgres: Daemon,
    pub redis_at: SocketAddrV4,
    postgres_at: SocketAddrV4,
    _folder: Folder,
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        sys::interrupt(self.0.id());
        let _ = self.0.wait();
    }
}

/// A directory, which goes last.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn failed(what: impl Into<String>) -> io::Error {
    io::Error::other(what.into())
}

fn free_address() -> io::Result<SocketAddrV4> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, listener.local_addr()?.port()))
}

/// Waits until somebody listens.
fn wait_for(what: &str, at: SocketAddrV4) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(at).is_err() {
        if Instant::now() > deadline {
            return Err(failed(format!("{what} never listened")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Where the newest PostgreSQL of this machine has its programs.
fn postgres_folder() -> io::Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")?;
    let newest = versions.filter_map(|it| it.ok()?.file_name().to_str()?.parse::<u32>().ok()).max();
    let newest = newest.ok_or_else(|| failed("no PostgreSQL"))?;
    Ok(format!("/usr/lib/postgresql/{newest}/bin").into())
}

/// Whom PostgreSQL runs as, where this process is root: it refuses root.
fn unprivileged() -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok().filter(|_| sys::is_root())?;
    let of = |name: &str| {
        let line = users.lines().find(|it| it.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2).map_while(|it| it.parse().ok());
        Some((fields.next()?, fields.next()?))
    };
    of("postgres").or_else(|| of("nobody"))
}

fn program(path: &Path, folder: &Path) -> Command {
    let mut command = Command::new(path);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some((user, group)) = unprivileged() {
        command.uid(user).gid(group);
    }
    command
}

impl Backing {
    pub fn start(accounts: usize) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("ringmain-perf-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        if let Some((user, group)) = unprivileged() {
            chown(&folder, Some(user), Some(group))?;
        }
        let (redis_at, postgres_at) = (free_address()?, free_address()?);
        let mut redis = program(Path::new("redis-server"), &folder);
        redis.args(["--port", &redis_at.port().to_string(), "--bind", "127.0.0.1"]);
        redis.args(["--save", "", "--appendonly", "no", "--maxclients", "1000"]);
        // Nobody is cut off for reading slowly: that would be one more thing that is measured.
        redis.args(["--client-output-buffer-limit", "pubsub", "0", "0", "0"]);
        let redis =
            Daemon(redis.spawn().map_err(|error| failed(format!("redis-server: {error}")))?);
        let bin = postgres_folder()?;
        let database = folder.join("database");
        let made = program(&bin.join("initdb"), &folder)
            .args(["-A", "trust", "-U", ROLE, "-E", "UTF8", "--no-sync", "-D"])
            .arg(&database)
            .status()?;
        if !made.success() {
            return Err(failed("initdb failed"));
        }
        let mut postgres = program(&bin.join("postgres"), &folder);
        postgres.arg("-D").arg(&database).arg("-k").arg(&folder);
        postgres.args(["-h", "127.0.0.1", "-p", &postgres_at.port().to_string(), "-F"]);
        let postgres = Daemon(postgres.spawn()?);
        wait_for("redis-server", redis_at)?;
        wait_for("postgres", postgres_at)?;
        let backing =
            Self { _redis: redis, postgres, redis_at, postgres_at, _folder: Folder(folder) };
        backing.sql("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
        backing.sql(DATABASE, SCHEMA)?;
        backing.sql(DATABASE, &people(accounts))?;
        Ok(backing)
    }

    fn sql(&self, database: &str, text: &str) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut psql = Command::new("psql");
            psql.args(["-q", "-X", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", ROLE]);
            psql.args(["-p", &self.postgres_at.port().to_string(), "-d", database]);
            let pipes = psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = pipes.spawn()?;
            if let Some(mut input) = child.stdin.take() {
                let _ = input.write_all(text.as_bytes());
            }
            let done = child.wait_with_output()?;
            if done.status.success() {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            // It listens before it lets anybody in.
            if !said.contains("starting up") || Instant::now() > deadline {
                return Err(failed(said));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The variables that an administrator would have set.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("NODE_ENV", "production".to_owned()),
            ("BIND", "127.0.0.1".to_owned()),
            ("PORT", "0".to_owned()),
            ("REDIS_HOST", "127.0.0.1".to_owned()),
            ("REDIS_PORT", self.redis_at.port().to_string()),
            ("DB_HOST", "127.0.0.1".to_owned()),
            ("DB_PORT", self.postgres_at.port().to_string()),
            ("DB_USER", ROLE.to_owned()),
            ("DB_NAME", DATABASE.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Time on a core of the processes that serve the database's connections, of those that are alive.
    pub fn database_ns(&self) -> u64 {
        let Ok(processes) = fs::read_dir("/proc") else { return 0 };
        let own = self.postgres.0.id().to_string();
        let of_ours = |folder: &Path| {
            let stat = fs::read_to_string(folder.join("stat")).ok()?;
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.to_owned();
            let spent = fs::read_to_string(folder.join("schedstat")).ok()?;
            let spent: u64 = spent.split_whitespace().next()?.parse().ok()?;
            (parent == own).then_some(spent)
        };
        processes.filter_map(|it| of_ours(&it.ok()?.path())).sum()
    }
}

/// What a streaming server reads of Mastodon's tables.
const SCHEMA: &str = "
CREATE TABLE accounts (id bigint PRIMARY KEY, suspended_at timestamp);
CREATE TABLE user_roles (id bigint PRIMARY KEY, permissions bigint NOT NULL DEFAULT 0);
CREATE TABLE users (id bigint PRIMARY KEY, account_id bigint NOT NULL, disabled boolean NOT NULL DEFAULT false,
  chosen_languages varchar[], role_id bigint);
CREATE TABLE oauth_access_tokens (id bigint PRIMARY KEY, token varchar NOT NULL UNIQUE, revoked_at timestamp,
  scopes varchar, resource_owner_id bigint, expires_in integer, created_at timestamp NOT NULL DEFAULT now());
CREATE TABLE lists (id bigint PRIMARY KEY, account_id bigint NOT NULL);
CREATE TABLE settings (id bigint PRIMARY KEY, var varchar NOT NULL UNIQUE, value text);
CREATE TABLE blocks (id bigserial PRIMARY KEY, account_id bigint NOT NULL, target_account_id bigint NOT NULL,
  UNIQUE (account_id, target_account_id));
CREATE INDEX ON blocks (target_account_id);
CREATE TABLE mutes (id bigserial PRIMARY KEY, account_id bigint NOT NULL, target_account_id bigint NOT NULL,
  hide_notifications boolean NOT NULL DEFAULT true, expires_at timestamp, UNIQUE (account_id, target_account_id));
CREATE INDEX ON mutes (target_account_id);
CREATE TABLE account_domain_blocks (id bigserial PRIMARY KEY, account_id bigint NOT NULL, domain varchar NOT NULL,
  UNIQUE (account_id, domain));
CREATE TABLE custom_filters (id bigint PRIMARY KEY, account_id bigint NOT NULL, phrase text NOT NULL DEFAULT '',
  context varchar[] NOT NULL DEFAULT '{}', expires_at timestamp, action integer NOT NULL DEFAULT 0);
CREATE INDEX ON custom_filters (account_id);
CREATE TABLE custom_filter_keywords (id bigserial PRIMARY KEY, custom_filter_id bigint NOT NULL,
  keyword text NOT NULL DEFAULT '', whole_word boolean NOT NULL DEFAULT true);
CREATE INDEX ON custom_filter_keywords (custom_filter_id);
";

/// Keywords of each account.
pub const KEYWORDS: usize = 5;
/// One account in so many has a keyword that every status has in it.
pub const MATCHING: usize = 20;

/// Account n has the token `token-n`, [`KEYWORDS`] keywords of a few thousand that there are, 10 blocks and 10 mutes of
/// accounts nobody hears from, and a blocked domain.
fn people(accounts: usize) -> String {
    let mut text = format!(
        "INSERT INTO accounts (id) SELECT n FROM generate_series(1, {accounts}) n;
INSERT INTO users (id, account_id) SELECT n, n FROM generate_series(1, {accounts}) n;
INSERT INTO oauth_access_tokens (id, token, scopes, resource_owner_id)
  SELECT n, 'token-' || n, 'read write follow', n FROM generate_series(1, {accounts}) n;
INSERT INTO custom_filters (id, account_id, phrase, context)
  SELECT n, n, 'tired of', '{{home,public}}' FROM generate_series(1, {accounts}) n;
INSERT INTO custom_filter_keywords (custom_filter_id, keyword, whole_word)
  SELECT n, 'topic' || (n * {KEYWORDS} + k) % 3000, k % 2 = 0
  FROM generate_series(1, {accounts}) n, generate_series(1, {KEYWORDS}) k
  WHERE n % {MATCHING} > 0 OR k > 1;
INSERT INTO custom_filter_keywords (custom_filter_id, keyword)
  SELECT n, 'railway' FROM generate_series({MATCHING}, {accounts}, {MATCHING}) n;
INSERT INTO account_domain_blocks (account_id, domain)
  SELECT n, 'blocked' || n % 100 || '.example' FROM generate_series(1, {accounts}) n;\n"
    );
    for table in ["blocks", "mutes"] {
        let _ = writeln!(
            text,
            "INSERT INTO {table} (account_id, target_account_id)
  SELECT n, 900000000 + n * 10 + k FROM generate_series(1, {accounts}) n, generate_series(1, 10) k;"
        );
    }
    text + "ANALYZE;\n"
}
