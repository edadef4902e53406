//! `ringmain webhooks`: how the receivers of a running server are, and what became of events they did not take.

use std::io::{self, Write};

use clap::{Arg, ArgMatches, Command};
use ringmain::server::control::{self, AskError};

use super::{Failure, settings};

const EXAMPLES: &str = "\
Examples:
  ringmain webhooks                          how each receiver is
  ringmain webhooks dead --receiver crm      what it did not take
  ringmain webhooks retry 17                 send dead letter 17 again
  ringmain webhooks retry all                send all of them again
  ringmain webhooks drop all --receiver crm  forget what crm did not take

The server must run; it is found by its data directory: that of --data, else of the configuration.";

/// The command's arguments.
pub fn command() -> Command {
    let under = |name: &'static str, about: &'static str| {
        let receiver = Arg::new("receiver").long("receiver").value_name("NAME");
        let help = "Only those of this receiver";
        Command::new(name).about(about).args(settings::data_arguments()).arg(receiver.help(help))
    };
    let which = || {
        let help = "The number of a dead letter, or all";
        Arg::new("which").value_name("ID|all").required(true).help(help)
    };
    Command::new("webhooks")
        .about("Say how receivers of webhooks are; list, retry and drop dead letters")
        .args(settings::data_arguments())
        .args_conflicts_with_subcommands(true)
        .after_help(EXAMPLES)
        .subcommand(under("dead", "List dead letters, the oldest first"))
        .subcommand(
            under("retry", "Send dead letters again, once each; what fails is dead again")
                .arg(which()),
        )
        .subcommand(under("drop", "Forget dead letters").arg(which()))
}

/// Does what was asked, through the server.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let mut request = control::WEBHOOKS.to_owned();
    let mut word = |word: &str| {
        request.push(' ');
        request.push_str(word);
    };
    let (name, matches) = matches.subcommand().unwrap_or(("", matches));
    if !name.is_empty() {
        word(name);
    }
    if matches!(name, "retry" | "drop") {
        let which = matches.get_one::<String>("which").expect("it is required");
        if which != "all" && which.parse::<u64>().is_err() {
            let change = "give the number that `ringmain webhooks dead` shows, or all";
            return Err(Failure::new(2, format_args!("\"{which}\" is no dead letter"), change));
        }
        word(which);
    }
    if !name.is_empty()
        && let Some(receiver) = matches.get_one::<String>("receiver")
    {
        if receiver.is_empty() || receiver.contains(char::is_whitespace) {
            let change = "give a name as `ringmain webhooks` shows it";
            return Err(Failure::new(2, format_args!("\"{receiver}\" is no receiver"), change));
        }
        let is_one = request.rsplit(' ').next().is_some_and(|it| it.parse::<u64>().is_ok());
        // A number says whose it is.
        if !is_one {
            request.push(' ');
            request.push_str(receiver);
        }
    }
    let data = settings::data(matches)?;
    let mut text = String::new();
    let says = &mut |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    match control::ask(&data, request.as_bytes(), &mut |_| {}, says) {
        Ok(_) => {}
        Err(AskError::NoServer) => {
            return Err(Failure::new(
                1,
                format_args!("no server with durable state runs on {}", data.display()),
                "start it first, or name its data directory with --data DIR; only a running server tells",
            ));
        }
        Err(AskError::Refused(what)) => {
            return Err(Failure::new(
                1,
                format_args!("the running server says: {what}"),
                "do as it says, or see the server's log",
            ));
        }
        Err(AskError::Lost(error)) => {
            return Err(Failure::new(
                1,
                format_args!("the running server did not answer to the end: {error}"),
                "try again when no other command of this kind runs, or see the server's log",
            ));
        }
    }
    if text.is_empty() && name == "dead" {
        text.push_str("no dead letters\n");
    }
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
