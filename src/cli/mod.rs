//! The command line: arguments in, an exit code out.
//!
//! 0 stopped as asked, 1 failed while running, 2 wrong arguments or configuration, 3 the machine
//! refuses. The last line on stderr says what to change.

mod client;
mod listen;
mod mastodon;
mod migrate;
mod publish;
mod push;
mod settings;
mod store;
mod token;
mod webhooks;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use ringmain::config::{Config, describe::describe, reference};
use ringmain::dialects::{SECTIONS, pusher};
use ringmain::server;

/// Why a command ended badly, and what to do about it.
#[derive(Debug)]
struct Failure {
    code: u8,
    /// Lines for stderr, the last of which says what to change.
    lines: Vec<String>,
}

impl Failure {
    /// What went wrong, and what to change.
    fn new(code: u8, what: impl std::fmt::Display, change: impl std::fmt::Display) -> Self {
        Self { code, lines: vec![format!("error: {what}"), format!("  change: {change}")] }
    }
}

impl From<io::Error> for Failure {
    /// Printing failed: whoever reads our output is gone.
    fn from(error: io::Error) -> Self {
        Self::new(1, format_args!("cannot write to stdout: {error}"), "keep its reader open")
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help goes to stdout with 0, mistakes to stderr with 2; if nobody reads them, so be it.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let outcome = match matches.subcommand() {
        None => serve(&matches),
        Some(("serve", matches)) => serve(matches),
        Some(("check", matches)) => check(matches),
        Some(("mastodon", matches)) => mastodon::run(matches),
        Some(("publish", matches)) => publish::run(matches),
        Some(("listen", matches)) => listen::run(matches),
        Some(("store", matches)) => store::run(matches),
        Some(("webhooks", matches)) => webhooks::run(matches),
        Some(("push", matches)) => push::run(matches),
        Some(("token", matches)) => token::run(matches),
        Some(("settings", matches)) => print_settings(matches),
        Some(("routes", matches)) => print_routes(matches),
        Some((_, _)) => version(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let mut stderr = io::stderr().lock();
            for line in &failure.lines {
                let _ = writeln!(stderr, "{line}");
            }
            ExitCode::from(failure.code)
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  ringmain                                     serve on 127.0.0.1:6001 with the development app
  ringmain --listen 127.0.0.1:0 --shards 2     on a port of the kernel's choice, with two shards
  ringmain check --config ringmain.toml        say what would run
  ringmain check --from config.json            a configuration of Sockudo, Soketi or Reverb as ours
  ringmain mastodon                            in the place of Mastodon's streaming server
  ringmain listen --channel news               print what is published there
  ringmain publish --channel news --data hi    publish something
  ringmain store backup --to DIR               copy what is kept on disk, also while serving
  ringmain webhooks                            how receivers of webhooks are, while serving
  ringmain push keys                           make keys for push notifications
  ringmain token --help                        make a token to try a protocol out with
  ringmain settings                            list every setting
  ringmain routes                              describe the HTTP API (OpenAPI)

Exit codes: 0 stopped as asked, 1 failed while running, 2 wrong arguments or configuration,
3 the machine refuses.";

fn command() -> Command {
    Command::new("ringmain")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Self-hosted realtime event engine: one publish reaches every subscriber")
        .after_help(EXAMPLES)
        .args(settings::arguments())
        .args_conflicts_with_subcommands(true)
        .subcommand(
            Command::new("serve")
                .about("Run the server (also without a command)")
                .args(settings::arguments())
                .after_help("Example:\n  ringmain serve --listen 127.0.0.1:7000 --set limits.spin_us=0"),
        )
        .subcommand(
            Command::new("check")
                .about("Check the configuration and say what would run")
                .args(settings::arguments())
                .arg(
                    Arg::new("from")
                        .long("from")
                        .value_name("FILE")
                        .exclusive(true)
                        .help("A configuration of Sockudo, Soketi or Reverb (JSON, TOML, .env): print it as one of ours"),
                )
                .arg(
                    Arg::new("mastodon")
                        .long("mastodon")
                        .action(ArgAction::SetTrue)
                        .help("Check what `ringmain mastodon` would run"),
                )
                .arg(mastodon::env_file_argument().requires("mastodon"))
                .after_help(
                    "Examples:\n  ringmain check --config ringmain.toml && echo good\n  \
                     ringmain check --from config.json > ringmain.toml\n  \
                     ringmain check --mastodon --env-file .env.production",
                ),
        )
        .subcommand(mastodon::command())
        .subcommand(publish::command())
        .subcommand(listen::command())
        .subcommand(store::command())
        .subcommand(webhooks::command())
        .subcommand(push::command())
        .subcommand(token::command())
        .subcommand(
            Command::new("settings")
                .about("List every setting: default, range, what it does")
                .arg(
                    Arg::new("markdown")
                        .long("markdown")
                        .action(ArgAction::SetTrue)
                        .help("As docs/settings.md has it"),
                )
                .after_help(
                    "Examples:\n  ringmain settings\n  ringmain settings --markdown > docs/settings.md",
                ),
        )
        .subcommand(
            Command::new("routes")
                .about("Describe every route of the HTTP API, as an OpenAPI document")
                .arg(
                    Arg::new("markdown")
                        .long("markdown")
                        .action(ArgAction::SetTrue)
                        .help("As docs/http-api.md has it"),
                )
                .after_help(
                    "Examples:\n  ringmain routes > openapi.json\n  ringmain routes --markdown > docs/http-api.md",
                ),
        )
        .subcommand(
            Command::new("version")
                .about("Print the version")
                .after_help("Example:\n  ringmain version"),
        )
}

fn serve(matches: &ArgMatches) -> Result<(), Failure> {
    let config: Config = settings::load(matches)?.config;
    server::run(config, &mut io::stdout()).map_err(|error| Failure {
        code: error.exit_code(),
        lines: vec![format!("error: {error}")],
    })
}

fn check(matches: &ArgMatches) -> Result<(), Failure> {
    if let Some(file) = matches.get_one::<String>("from") {
        return migrate::run(file.as_ref());
    }
    let loaded = if matches.get_flag("mastodon") {
        let (loaded, said) = mastodon::load(matches)?;
        for note in &said.notes {
            eprintln!("note: {note}");
        }
        if let Some(follows) = mastodon::follows(&loaded) {
            println!("{follows}");
        }
        loaded
    } else {
        settings::load(matches)?
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(describe(&loaded, SECTIONS).as_bytes())?;
    writeln!(stdout, "The configuration is good.")?;
    Ok(())
}

fn print_settings(matches: &ArgMatches) -> Result<(), Failure> {
    let text = if matches.get_flag("markdown") {
        reference::markdown(SECTIONS)
    } else {
        reference::text(SECTIONS)
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

fn print_routes(matches: &ArgMatches) -> Result<(), Failure> {
    let text = if matches.get_flag("markdown") {
        pusher::http::page::markdown().into_bytes()
    } else {
        let mut text = pusher::http::openapi::document();
        text.push(b'\n');
        text
    };
    io::stdout().lock().write_all(&text)?;
    Ok(())
}

fn version() -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "ringmain {}", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
