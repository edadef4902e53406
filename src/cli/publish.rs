//! `ringmain publish`: signs an event and posts it to a running server.

use std::io::{self, Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use ringmain::auth::sign::sign_request;
use ringmain::base::ids::AppIndex;
use ringmain::base::time::UnixMillis;
use ringmain::dialects::mastodon::sample;
use ringmain::wire::http::response::{reason, write_field};
use ringmain::wire::json::write_str;

use super::Failure;
use super::client::{Url, app_id_argument, apps, arguments, exchange, plainly};

const EXAMPLES: &str = "\
Examples:
  ringmain publish --channel news --event headline --data '{\"text\":\"hello\"}'
  ringmain publish --channel a --channel b --event tick --data 1
  date | ringmain publish --channel clock --event tick --data -
  ringmain publish --mastodon --data 'a status on the sample streams'
  ringmain publish --url http://10.0.0.5:6001 --app-id shop --key shop-key --channel orders --event new";

/// The command's arguments.
pub fn command() -> Command {
    Command::new("publish")
        .about("Sign an event and post it to a running server")
        .arg(
            Arg::new("channel")
                .long("channel")
                .value_name("CHANNEL")
                .required_unless_present("mastodon")
                .action(ArgAction::Append)
                .help("Where to publish, may be repeated"),
        )
        .arg(
            Arg::new("mastodon")
                .long("mastodon")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["channel", "event", "socket-id"])
                .help("Publish a sample status of Mastodon's, on the streams public, user and list of account 1 and the tag ringmain; --data is its text"),
        )
        .arg(
            Arg::new("event")
                .long("event")
                .value_name("NAME")
                .default_value("message")
                .help("The event's name"),
        )
        .arg(
            Arg::new("data")
                .long("data")
                .value_name("TEXT")
                .default_value("{}")
                .allow_hyphen_values(true)
                .help("The event's data, commonly JSON; - reads it from stdin"),
        )
        .arg(
            Arg::new("socket-id")
                .long("socket-id")
                .value_name("ID")
                .help("The one connection that does not receive it"),
        )
        .args(arguments())
        .arg(app_id_argument())
        .after_help(EXAMPLES)
}

/// Publishes, and prints the answer.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let url = Url::parse(text("url").unwrap_or_default())?;
    let is_sample = matches.get_flag("mastodon");
    let is_told = matches.value_source("data") == Some(ValueSource::CommandLine);
    let data = match text("data") {
        _ if is_sample && !is_told => sample::TEXT.to_owned(),
        Some("-") => {
            let mut data = String::new();
            io::stdin().lock().read_to_string(&mut data).map_err(|error| {
                Failure::new(
                    2,
                    format_args!("cannot read stdin: {error}"),
                    "pipe UTF-8 text into it",
                )
            })?;
            data
        }
        data => data.unwrap_or_default().to_owned(),
    };
    let channels: Vec<&str> =
        matches.get_many::<String>("channel").into_iter().flatten().map(String::as_str).collect();
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall = UnixMillis(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX));
    let body = match is_sample {
        true => sample::body(&data, wall),
        false => body(text("event").unwrap_or_default(), &channels, &data, text("socket-id")),
    };

    let apps = apps(matches);
    let app = apps.app(AppIndex(0)).expect("the table was built of one app");
    let route = if is_sample { "mastodon/events" } else { "events" };
    let path = format!("/apps/{}/{route}", app.settings.id);
    let query = sign_request(app, "POST", &path, &[], &body, wall);
    let mut request = format!("POST {}{path}?{query} HTTP/1.1\r\n", url.prefix).into_bytes();
    write_field(&mut request, "Host", &url.authority);
    write_field(&mut request, "Content-Type", "application/json");
    write_field(&mut request, "Content-Length", &body.len().to_string());
    write_field(&mut request, "Connection", "close");
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(&body);

    let mut stream = url.connect().map_err(|error| url.unreachable(&error))?;
    let answer = exchange(&mut stream, &request).map_err(|error| {
        Failure::new(
            1,
            format_args!("no answer from {}: {}", url.authority, plainly(&error)),
            "see whether what listens there is ringmain, and its log",
        )
    })?;
    let said = String::from_utf8_lossy(&answer.body);
    let said = said.trim_end();
    if matches!(answer.status, 200 | 202) {
        writeln!(io::stdout().lock(), "{said}")?;
        if let Some(mode) = answer.acknowledged {
            // For people: what it stands for is no part of the answer's body.
            let _ = writeln!(io::stderr().lock(), "# acknowledged: {mode}");
        }
        return Ok(());
    }
    let change = match answer.status {
        401 | 403 => "check --app-id, --key and --secret, and that both clocks agree",
        404 if is_sample => "check --app-id and --url, and that mastodon.app names that app",
        404 => "check --app-id and --url",
        413 => "publish less data, or raise the app's event_payload_bytes_max",
        429 | 503 => "see to what the answer names, or try again later",
        500.. => "see the server's log",
        _ => "correct what the answer names",
    };
    let status = answer.status;
    Err(Failure::new(1, format_args!("refused with {status} {}: {said}", reason(status)), change))
}

/// The event as the HTTP API takes it: data always travels as a string.
fn body(event: &str, channels: &[&str], data: &str, socket_id: Option<&str>) -> Vec<u8> {
    let mut body = b"{\"name\":".to_vec();
    write_str(&mut body, event);
    body.extend_from_slice(b",\"channels\":[");
    for (i, channel) in channels.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        write_str(&mut body, channel);
    }
    body.extend_from_slice(b"],\"data\":");
    write_str(&mut body, data);
    if let Some(socket_id) = socket_id {
        body.extend_from_slice(b",\"socket_id\":");
        write_str(&mut body, socket_id);
    }
    body.push(b'}');
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_json_whatever_is_in_it() {
        assert_eq!(
            body("e\"", &["a", "b"], "{\"x\":1}\n", Some("1.2")),
            br#"{"name":"e\"","channels":["a","b"],"data":"{\"x\":1}\n","socket_id":"1.2"}"#
        );
        assert_eq!(body("e", &["a"], "", None), br#"{"name":"e","channels":["a"],"data":""}"#);
    }
}
