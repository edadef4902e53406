//! Settings as arguments, and the loading of a configuration from them, the environment and a file.

use std::path::{Path, PathBuf};

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, ArgMatches};
use ringmain::config::Machine;
use ringmain::config::load::{
    CONFIG_VARIABLE, Flag, Loaded, Presets, Sources, load_over as load_sources,
};
use ringmain::config::table::{SETTINGS, Setting};
use ringmain::config::value::Kind;
use ringmain::dialects::SECTIONS;
use ringmain::reactor::machine;

use super::Failure;

/// The file that is read if it is there and no other is named.
const FILE_DEFAULT: &str = "ringmain.toml";
/// The setting that says where durable state is.
const DATA: &str = "data";

/// `--config`, `--set` and a flag for each setting whose name has no dot.
pub fn arguments() -> Vec<Arg> {
    let mut arguments = sources().to_vec();
    arguments.extend(named().map(argument));
    arguments
}

/// `--config`, `--set` and `--data`: for who only needs to know where durable state is.
pub fn data_arguments() -> Vec<Arg> {
    let mut arguments = sources().to_vec();
    arguments.extend(named().filter(|setting| setting.key == DATA).map(argument));
    arguments
}

/// `--config` and `--set`: for who only needs to know what is configured.
pub fn sources() -> [Arg; 2] {
    [
        Arg::new("config").long("config").value_name("FILE").help(
            "The configuration file; without it RINGMAIN_CONFIG names one, or ./ringmain.toml is read if present",
        ),
        Arg::new("set")
            .long("set")
            .value_name("SETTING=VALUE")
            .action(ArgAction::Append)
            .help("Any setting by its name, may be repeated; `ringmain settings` lists them"),
    ]
}

fn named() -> impl Iterator<Item = &'static Setting<ringmain::config::Config>> {
    SETTINGS.iter().filter(|setting| !setting.key.contains('.'))
}

fn argument<T>(setting: &Setting<T>) -> Arg {
    let (name, action) = match setting.kind {
        Kind::Addresses { .. } => ("ADDR:PORT", ArgAction::Append),
        Kind::Number { .. } => ("N", ArgAction::Set),
        Kind::Switch { .. } => ("true|false", ArgAction::Set),
        Kind::Path { .. } => ("DIR", ArgAction::Set),
        _ => ("WORD", ArgAction::Set),
    };
    let repeatable = if matches!(action, ArgAction::Append) { ", may be repeated" } else { "" };
    let help = format!(
        "{} [default: {}; allowed: {}{repeatable}]",
        setting.help.trim_end_matches('.'),
        setting.kind.default_text(),
        setting.kind.range_text(),
    );
    // A negative number is a value, not a flag: the table says what is allowed instead.
    Arg::new(setting.key)
        .long(setting.key)
        .value_name(name)
        .action(action)
        .allow_negative_numbers(true)
        .help(StyledStr::from(help))
}

/// The data directory that the arguments, the environment and the file make together.
pub fn data(matches: &ArgMatches) -> Result<PathBuf, Failure> {
    // Who names it needs no configuration that is good in all else: its secrets may be in another shell.
    match matches.get_one::<String>(DATA) {
        Some(data) => Ok(data.into()),
        None => Ok(load(matches)?.config.data),
    }
}

/// Loads the configuration that the arguments, the environment and the file make together.
pub fn load(matches: &ArgMatches) -> Result<Loaded, Failure> {
    load_over(Presets::default(), matches, environment())
}

/// The environment of the process.
pub fn environment() -> Vec<(String, String)> {
    let text = |it: std::ffi::OsString| it.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// The same with this environment, over what a command says itself.
pub fn load_over(
    presets: Presets,
    matches: &ArgMatches,
    environment: Vec<(String, String)>,
) -> Result<Loaded, Failure> {
    let variable = environment.iter().find(|(name, _)| name == CONFIG_VARIABLE);
    let file = match (matches.get_one::<String>("config"), variable) {
        (Some(path), _) => Some((PathBuf::from(path), format!("--config {path}"))),
        (None, Some((name, path))) => Some((PathBuf::from(path), format!("{name}={path}"))),
        (None, None) => {
            let path = Path::new(FILE_DEFAULT);
            path.exists().then(|| (path.to_owned(), format!("./{FILE_DEFAULT}")))
        }
    };
    let file = match file {
        Some((path, named)) => match std::fs::read_to_string(&path) {
            Ok(text) => Some((path, text)),
            Err(error) => {
                return Err(Failure::new(
                    2,
                    format_args!("cannot read the configuration file {}: {error}", path.display()),
                    format_args!("name a file that can be read instead of {named}"),
                ));
            }
        },
        None => None,
    };
    let mut flags = Vec::new();
    for setting in named() {
        // A command need not have them all.
        let given = matches.try_get_many::<String>(setting.key).ok().flatten();
        let values: Vec<String> = given.into_iter().flatten().cloned().collect();
        if !values.is_empty() {
            let spelled = format!("--{} {}", setting.key, values.join(" "));
            flags.push(Flag { spelled, key: setting.key.to_owned(), values });
        }
    }
    for text in matches.get_many::<String>("set").into_iter().flatten() {
        let Some((key, value)) = text.split_once('=') else {
            return Err(Failure::new(
                2,
                format_args!("--set {text} has no value"),
                format_args!("write --set {text}=VALUE; `ringmain settings` lists the settings"),
            ));
        };
        let (key, value) = (key.trim().to_owned(), value.to_owned());
        // The value stays out of messages: it could be a secret in the wrong place.
        flags.push(Flag { spelled: format!("--set {key}"), key, values: vec![value] });
    }
    let sources = Sources { file, environment, flags, machine: here(), sections: SECTIONS };
    load_sources(presets, &sources).map_err(|problems| Failure {
        code: 2,
        lines: problems
            .iter()
            .flat_map(|it| [format!("error: {it}"), format!("  change: {}", it.remedy())])
            .collect(),
    })
}

/// What this machine allows. Raises the descriptor limit first, so that the numbers are those of the
/// server that would run.
pub fn here() -> Machine {
    Machine {
        // Knows of a container's share, too, which the set of allowed cores does not.
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        descriptors_max: machine::raise_descriptors_max()
            .unwrap_or_else(|_| Machine::small().descriptors_max),
        memory_bytes: machine::memory_bytes(),
    }
}
