//! `ringmain store`: copies, checks and counts durable state, of a running server or of none.
//!
//! Whether a server runs is told by its control socket. Where none answers, the store is opened here; if a server
//! has it after all, that says so.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command};
use ringmain::server::control::{self, AskError, Pace};
use ringmain::server::store_path;
use ringmain::store::open::Refusal;
use ringmain::store::tools::{self, ToolError};

use super::{Failure, settings};

const EXAMPLES: &str = "\
Examples:
  ringmain store stats                               of the data directory ./ringmain-data
  ringmain store check --data /var/lib/ringmain
  ringmain store backup --to /backups/today --config ringmain.toml

Each works on a running server, too. The data directory is that of --data, else of the configuration.";

/// The command's arguments.
pub fn command() -> Command {
    let under = |name: &'static str, about: &'static str, examples: &'static str| {
        Command::new(name).about(about).args(settings::data_arguments()).after_help(examples)
    };
    let to = Arg::new("to")
        .long("to")
        .value_name("DIR")
        .required(true)
        .help("The data directory to make; it must be empty or not be there");
    Command::new("store")
        .about("Copy, check and count durable state")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(EXAMPLES)
        .subcommand(
            under(
                "backup",
                "Copy durable state into a new data directory, as it is at this moment",
                "Examples:\n  ringmain store backup --to /backups/today\n  ringmain --data /backups/today --listen 127.0.0.1:7000    serve the copy",
            )
            .arg(to),
        )
        .subcommand(under(
            "check",
            "Read all of durable state and name what is wrong",
            "Example:\n  ringmain store check --data /var/lib/ringmain && echo sound\n\nExit codes: 0 sound, 1 damaged, 2 wrong arguments or configuration, 3 the machine refuses.",
        ))
        .subcommand(under(
            "stats",
            "Count streams, events and bytes, and list the largest streams",
            "Example:\n  ringmain store stats --data /var/lib/ringmain",
        ))
}

/// Does what was asked, through the server if one runs.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let (name, matches) = matches.subcommand().expect("one is required");
    let data = settings::data(matches)?;
    match name {
        "backup" => {
            let to = matches.get_one::<String>("to").expect("it is required");
            backup(&data, Path::new(to))
        }
        "check" => check(&data),
        _ => stats(&data),
    }
}

fn backup(data: &Path, to: &Path) -> Result<(), Failure> {
    let to = target(data, to)?;
    let mut request = format!("{} ", control::BACKUP).into_bytes();
    request.extend_from_slice(to.as_os_str().as_bytes());
    let keys = match through_server(data, &request)? {
        Some((keys, _)) => keys,
        None => {
            tools::backup(&store_path(data), &to, &follower()).map_err(|it| refused(data, it))?
        }
    };
    let made = to.parent().unwrap_or(&to).display();
    writeln!(io::stdout().lock(), "copied {keys} keys; {made} is a data directory now")?;
    Ok(())
}

/// The store to be made, by its whole name: the server is somewhere else.
fn target(data: &Path, to: &Path) -> Result<PathBuf, Failure> {
    let change = "name a directory with --to that is empty or not there yet";
    let refuse = |what: &dyn std::fmt::Display| {
        Failure::new(3, format_args!("cannot make a copy in {}: {what}", to.display()), change)
    };
    let whole = std::path::absolute(to).map_err(|error| refuse(&error))?;
    if whole.as_os_str().as_bytes().contains(&b'\n') {
        return Err(refuse(&"a name with a line break"));
    }
    // Made here, so that a relative or linked name is known by its true one.
    std::fs::create_dir_all(&whole).map_err(|error| refuse(&error))?;
    let whole = whole.canonicalize().map_err(|error| refuse(&error))?;
    let mut entries = std::fs::read_dir(&whole).map_err(|error| refuse(&error))?;
    if store_path(data).canonicalize().is_ok_and(|store| whole.starts_with(store)) {
        let _ = std::fs::remove_dir(&whole);
        return Err(refuse(&"it is within the store"));
    }
    // What lies in the root of a file system of its own is none of our business.
    if entries.any(|entry| entry.map_or(true, |entry| entry.file_name() != "lost+found")) {
        return Err(refuse(&"it is not empty"));
    }
    Ok(store_path(&whole))
}

fn check(data: &Path) -> Result<(), Failure> {
    let faults = match through_server(data, control::CHECK.as_bytes())? {
        Some((faults, text)) => {
            io::stdout().lock().write_all(text.as_bytes())?;
            faults
        }
        None => {
            let report = tools::check(&store_path(data), &follower());
            let report = report.map_err(|error| Failure {
                code: if is_damage(&error) { 1 } else { refused_code(&error) },
                ..refused(data, error)
            })?;
            write!(io::stdout().lock(), "{report}")?;
            report.faults_total
        }
    };
    match faults {
        0 => Ok(()),
        faults => Err(Failure::new(
            1,
            format_args!("{} has {faults} faults", store_path(data).display()),
            "check the disk, and restore a backup",
        )),
    }
}

fn stats(data: &Path) -> Result<(), Failure> {
    let text = match through_server(data, control::STATS.as_bytes())? {
        Some((_, text)) => text,
        None => tools::stats(&store_path(data), &follower())
            .map_err(|it| refused(data, it))?
            .to_string(),
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// The number and the text that the running server answered; none: no server listens.
fn through_server(data: &Path, request: &[u8]) -> Result<Option<(u64, String)>, Failure> {
    let mut text = String::new();
    let says = &mut |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    match control::ask(data, request, &mut show, says) {
        Ok(number) => Ok(Some((number, text))),
        Err(AskError::NoServer) => Ok(None),
        Err(AskError::Refused(what)) => Err(Failure::new(
            1,
            format_args!("the running server says: {what}"),
            "do as it says, or see the server's log",
        )),
        Err(AskError::Lost(error)) => Err(Failure::new(
            1,
            format_args!("the running server did not answer to the end: {error}"),
            "try again when no other command of this kind runs, or see the server's log",
        )),
    }
}

/// Shows what is being done, once it has taken a moment.
fn follower() -> impl Fn(&str) -> ControlFlow<()> + Sync {
    let pace = Pace::new();
    move |what| {
        if pace.is_due() {
            show(what);
        }
        ControlFlow::Continue(())
    }
}

fn show(what: &str) {
    // Nobody watching is no reason to stop.
    let _ = writeln!(io::stderr().lock(), "{what}");
}

/// True if what lies on disk is not what was written.
fn is_damage(error: &ToolError) -> bool {
    match error {
        ToolError::Open(error) => matches!(
            error.refusal,
            Refusal::DamagedJournal { .. } | Refusal::Damaged(_) | Refusal::Unfinished
        ),
        ToolError::Database(_) => true,
        ToolError::NoStore(_) | ToolError::Unavailable => false,
    }
}

fn refused_code(error: &ToolError) -> u8 {
    match error {
        ToolError::NoStore(_) => 2,
        ToolError::Open(_) => 3,
        ToolError::Database(_) | ToolError::Unavailable => 1,
    }
}

fn refused(data: &Path, error: ToolError) -> Failure {
    let code = refused_code(&error);
    match &error {
        ToolError::Open(it) if matches!(it.refusal, Refusal::InUse) => Failure::new(
            code,
            format_args!(
                "{} is in use by a process that no control socket leads to",
                it.path.display()
            ),
            format_args!(
                "stop the server first, or wait for the other command; {} is where its socket would be",
                control::path(data).display()
            ),
        ),
        ToolError::NoStore(_) => Failure::new(
            code,
            format_args!("{} has no durable state", data.display()),
            "name the server's data directory with --data DIR",
        ),
        // It says itself what to change.
        ToolError::Open(_) => Failure { code, lines: vec![format!("error: {error}")] },
        ToolError::Database(_) | ToolError::Unavailable => Failure::new(
            code,
            format_args!("{}: {error}", store_path(data).display()),
            "check the disk and its room, and restore a backup if the store is damaged",
        ),
    }
}
