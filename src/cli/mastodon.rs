//! `ringmain mastodon`: in the place of Mastodon's own streaming server, started as it is, with its variables.

mod database;
mod dotenv;
mod redis;
mod variables;

use std::io;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command};
use ringmain::config::load::{Loaded, Presets};
use ringmain::config::problem::Origin;
use ringmain::config::value::Given;
use ringmain::config::{App, Secret};
use ringmain::dialects::mastodon;
use ringmain::observe::log;
use ringmain::outbound::postgres::Database;
use ringmain::outbound::redis::Place;
use ringmain::server;

use self::variables::{Said, Variable, Variables, Wrong};
use super::{Failure, settings};

/// Where what no variable says comes from.
pub(super) const ORIGIN: Origin = Origin::Command("mastodon");
/// The id of the app whose events these are.
const APP: &str = "mastodon";
/// Bytes of credentials that nobody can guess.
const RANDOM_BYTES: usize = 16;
/// A file of variables; a larger one is none.
const FILE_BYTES_MAX: u64 = 1 << 20;

const EXAMPLES: &str = "\
Examples:
  cd /home/mastodon/live && NODE_ENV=production ringmain mastodon
  ringmain mastodon --env-file /etc/mastodon.env --shards 2
  ringmain check --mastodon --env-file /home/mastodon/live/.env.production

Variables: PORT, BIND, SOCKET, NODE_ENV, LOG_LEVEL, DATABASE_URL, DB_*, REDIS_URL, REDIS_*; the environment's, then the
file's. Without --env-file that is .env.production with NODE_ENV=production, else .env, here or one folder up, if there.
Settings of Ringmain's own (RINGMAIN_..., --set, ringmain.toml) go over them.";

/// The command's arguments.
pub fn command() -> Command {
    Command::new("mastodon")
        .about("Serve Mastodon's streaming API in the place of its own streaming server, with its environment variables")
        .arg(env_file_argument())
        .args(settings::arguments())
        .after_help(EXAMPLES)
}

/// `--env-file`.
pub fn env_file_argument() -> Arg {
    Arg::new("env-file")
        .long("env-file")
        .value_name("FILE")
        .help("Mastodon's variables, a line each; what is in the environment counts more")
}

/// Serves until it is told to stop.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let (loaded, said) = load(matches)?;
    log::set_level(said.level);
    for note in &said.notes {
        eprintln!("note: {note}");
    }
    server::run(loaded.config, &mut io::stdout()).map_err(|error| Failure {
        code: error.exit_code(),
        lines: vec![format!("error: {error}")],
    })
}

/// The configuration that the variables and whatever goes over them make.
pub fn load(matches: &ArgMatches) -> Result<(Loaded, Said), Failure> {
    let (variables, note) = variables(matches)?;
    let mut said = variables::read(&Variables(&variables)).map_err(|wrong| refused(&wrong))?;
    said.notes.extend(note);
    for (key, value) in [
        ("mastodon.app", APP),
        ("mastodon.takes_everything", "true"),
        // As there, where whoever reaches the port reads them.
        ("admin.remote", "true"),
        // Mastodon's own processes are on the same cores.
        ("pin", "false"),
        ("limits.spin_us", "0"),
    ] {
        said.settings.push((ORIGIN, key, Given::One(value.to_owned())));
    }
    let app = App::with(APP.to_owned(), random()?, Secret(random()?));
    let presets = Presets { settings: said.settings.clone(), app: Some(app) };
    let environment = variables.into_iter().map(|(name, value, _)| (name, value)).collect();
    let loaded = settings::load_over(presets, matches, environment)?;
    check_addresses(&loaded)?;
    Ok((loaded, said))
}

/// What it would follow, in words without a password.
pub fn follows(loaded: &Loaded) -> Option<String> {
    let follows = mastodon::Settings::of(&loaded.config).follows();
    Some(follows.strip_prefix("; ")?.to_owned())
}

/// Whether the addresses can be gone to; the words about one that cannot have nothing of it, for it may hold a password.
fn check_addresses(loaded: &Loaded) -> Result<(), Failure> {
    let Some(servers) = mastodon::Settings::of(&loaded.config).servers() else { return Ok(()) };
    let redis = Place::new(&servers.redis).err().map(|why| ("mastodon.redis_url", why));
    let database = Database::new(&servers.postgres).err();
    let wrong = redis.or(database.map(|why| ("mastodon.database_url", why)));
    let Some((key, why)) = wrong else { return Ok(()) };
    let origin = loaded.origins.get(key).map(|it| format!(" ({it})")).unwrap_or_default();
    let change = "write the address anew; what is not a letter or a digit in a password is percent-encoded, and a \
                  value with # in a file stands in quotes";
    Err(Failure::new(2, format_args!("the address {key}{origin} cannot be used: {why}"), change))
}

fn refused(wrong: &[Wrong]) -> Failure {
    let lines = wrong.iter().flat_map(|it| {
        let place = match &it.origin {
            Origin::File { .. } => format!(" ({})", it.origin),
            _ => String::new(),
        };
        [
            format!("error: {}{place}: {}", it.name, it.what),
            format!("  change: set {} to another value{place}; allowed: {}", it.name, it.allowed),
        ]
    });
    Failure { code: 2, lines: lines.collect() }
}

/// What nobody can guess: nobody but this process publishes in that app, unless one is configured.
fn random() -> Result<String, Failure> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        let what = format_args!("the kernel gives no random bytes: {error}").to_string();
        Failure::new(3, what, "configure [[apps]] and mastodon.app")
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The environment's variables, then those of the file that are not among them.
/// And what should be known about where they were looked for.
fn variables(matches: &ArgMatches) -> Result<(Vec<Variable>, Option<String>), Failure> {
    let mut variables: Vec<Variable> = settings::environment()
        .into_iter()
        .map(|(name, value)| {
            let origin = Origin::Environment(name.clone());
            (name, value, origin)
        })
        .collect();
    let Some(path) = env_file(matches, &variables) else {
        let name = file_name(&variables);
        let note = format!(
            "there is no {name} here or one folder up, so only the environment's variables count \
             (NODE_ENV=production looks for .env.production; --env-file names another)"
        );
        return Ok((variables, Some(note)));
    };
    let entries = dotenv::read(&read(&path)?);
    // Of several with one name in the file, the last counts.
    for entry in entries.into_iter().rev() {
        if !variables.iter().any(|(name, ..)| *name == entry.name) {
            let origin = Origin::File { path: path.clone(), line: entry.line };
            variables.push((entry.name, entry.value, origin));
        }
    }
    Ok((variables, None))
}

fn file_name(variables: &[Variable]) -> &'static str {
    match variables::environment(&Variables(variables)) {
        "production" => ".env.production",
        _ => ".env",
    }
}

fn env_file(matches: &ArgMatches, variables: &[Variable]) -> Option<PathBuf> {
    if let Some(path) = matches.get_one::<String>("env-file") {
        return Some(path.into());
    }
    let name = file_name(variables);
    let paths = [PathBuf::from(name), Path::new("..").join(name)];
    paths.into_iter().find(|path| path.exists())
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |why: String| {
        let what = format_args!("cannot read {}: {why}", path.display()).to_string();
        Failure::new(2, what, "name a file of NAME=value lines with --env-file")
    };
    let length = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(failed(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))
}
