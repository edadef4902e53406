//! `ringmain token`: makes tokens like those that a back end gives its users, to try things out with.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, ArgMatches, Command};
use ringmain::auth::keyring::KeySlot;
use ringmain::config::Secret;
use ringmain::dialects::hotsock::claims::{Claims, ClaimsError};
use ringmain::dialects::hotsock::patterns::REGEX;
use ringmain::dialects::hotsock::settings::Settings;
use ringmain::wire::base64::{self, Alphabet};
use ringmain::wire::json::{self, Kind, Raw, write_str};

use super::{Failure, settings};

/// A token is good for so long, unless told.
const TTL_SECONDS: &str = "3600";
/// And for no longer than this: ten years.
const TTL_SECONDS_MAX: u64 = 10 * 366 * 86_400;

const EXAMPLES: &str = "\
Examples:
  ringmain token hotsock --subscribe 'chat.*'
  ringmain token hotsock --uid ada --umd '{\"name\":\"Ada\"}' --subscribe presence.room --publish 'presence.room:chat'
  ringmain token hotsock --subscribe game.1 --storage 'game.1:*' --history --ttl 60
  ringmain token hotsock --scope subscribe --uid ada --subscribe vip
  ringmain token hotsock --claims '{\"channels\":{\"news\":{\"autoSubscribe\":true}}}'
  TOKEN=$(ringmain token hotsock --config ringmain.toml --subscribe news)";

/// The command's arguments.
pub fn command() -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).allow_hyphen_values(true).help(help)
    };
    let many = |name, value, help| text(name, value, help).action(ArgAction::Append);
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    let hotsock = Command::new("hotsock")
        .about("A token of the Hotsock protocol, signed with the first secret of the configuration")
        .arg(text("uid", "ID", "Who its bearer is"))
        .arg(text("umd", "JSON", "What others may know about them"))
        .arg(many("subscribe", "PATTERN", "Channels it may subscribe to, may be repeated"))
        .arg(many(
            "publish",
            "PATTERN:PATTERN",
            "Channels and events it may publish there, may be repeated",
        ))
        .arg(many(
            "storage",
            "PATTERN:PATTERN",
            "Channels and keys it may get, set and observe there, may be repeated",
        ))
        .arg(switch("history", "It may read all kept messages of the channels of --subscribe"))
        .arg(text("ttl", "SECONDS", "How long it is good").default_value(TTL_SECONDS))
        .arg(
            text("scope", "WORDS", "What it is for: connect, subscribe, umd")
                .default_value("connect"),
        )
        .arg(switch("single-use", "It is good once"))
        .arg(text("claims", "JSON", "Further claims; they replace what the other options say"))
        .args(settings::sources())
        .after_help(EXAMPLES);
    Command::new("token")
        .about("Make a token, to try a protocol out with")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help("Example:\n  ringmain token hotsock --uid ada --subscribe 'chat.*'")
        .subcommand(hotsock)
}

/// Makes a token and prints it; what else there is to know goes to stderr.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let Some((_, matches)) = matches.subcommand() else {
        return Err(Failure::new(2, "no protocol is named", "name one: ringmain token hotsock"));
    };
    let config = settings::load(matches)?.config;
    let settings = Settings::of(&config);
    let slot = slot(&settings)?;
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let claims = claims(matches, &settings, since_1970.as_secs())?;
    let parsed = Claims::parse(&claims).map_err(|error| refused(&error))?;
    let token = slot.sign(&claims).ok_or_else(|| no_secret(&settings))?;
    writeln!(io::stdout().lock(), "{token}")?;

    let url = format!("ws://{}/v1?token={token}", reachable(&config.listen));
    let mut stderr = io::stderr().lock();
    // For people: a script wants the token.
    let _ = writeln!(stderr, "# good until {}", parsed.expires.to_civil());
    if !parsed.opens() {
        let _ = writeln!(stderr, "# not to connect with: give it with a subscribe or an update");
        return Ok(());
    }
    let _ = writeln!(stderr, "# url: {url}");
    let _ = writeln!(stderr, "# try: websocat '{url}'");
    let first = matches.get_many::<String>("subscribe").and_then(|mut all| all.next());
    if let Some(channel) = first.and_then(|it| example(it)) {
        let mut frame = br#"{"event":"hotsock.subscribe","channel":"#.to_vec();
        write_str(&mut frame, &channel);
        let _ = writeln!(stderr, "# then: {}}}", String::from_utf8_lossy(&frame));
    }
    Ok(())
}

/// The first key that is a secret.
fn slot(settings: &Settings) -> Result<KeySlot, Failure> {
    if settings.app.is_empty() {
        return Err(Failure::new(
            2,
            "hotsock.app is not set: the protocol is off",
            "set hotsock.app to the id of an app, and give it a key",
        ));
    }
    let row = settings.keys.iter().find(|it| it.method.starts_with("HS"));
    let row = row.ok_or_else(|| no_secret(settings))?;
    Ok(KeySlot {
        method: row.method,
        id: (!row.id.is_empty()).then(|| row.id.clone()),
        key_base64: row.key_base64.clone().unwrap_or(Secret(String::new())),
    })
}

fn no_secret(settings: &Settings) -> Failure {
    let methods: Vec<_> = settings.keys.iter().map(|it| it.method).collect();
    Failure::new(
        2,
        format_args!("no key of hotsock.keys is a secret: {}", methods.join(", ")),
        "sign with the private key where it is, or add a key of method HS256",
    )
}

fn refused(error: &ClaimsError) -> Failure {
    let option = match error.path.split('.').next().unwrap_or_default() {
        "uid" => "--uid",
        "umd" => "--umd",
        "channels" => "--subscribe, --publish, --storage or --claims",
        _ => "--claims",
    };
    Failure::new(2, error, format_args!("correct it in {option}"))
}

/// What is allowed in channels of one pattern.
#[derive(Default)]
struct Channel<'a> {
    pattern: &'a str,
    subscribes: bool,
    events: Vec<&'a str>,
    keys: Vec<&'a str>,
}

/// The claims that the arguments make together.
fn claims(matches: &ArgMatches, settings: &Settings, now: u64) -> Result<String, Failure> {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let more = text("claims").unwrap_or("{}");
    let more =
        json::parse_str(more).ok().filter(|it| it.kind() == Kind::Object).ok_or_else(|| {
            Failure::new(
                2,
                format_args!("--claims {more}: no JSON object"),
                "write it like --claims '{\"keepAlive\":true}'",
            )
        })?;
    let mut own: Vec<(&str, String)> = Vec::new();
    own.push(("exp", now.saturating_add(ttl(text("ttl").unwrap_or_default())?).to_string()));
    own.push(("iat", now.to_string()));
    own.push(("scope", quoted(&scope(text("scope").unwrap_or_default())?)));
    for (name, value) in [("aud", &settings.audience), ("iss", &settings.issuer)] {
        if !value.is_empty() {
            own.push((name, quoted(value)));
        }
    }
    if let Some(uid) = text("uid") {
        own.push(("uid", quoted(uid)));
    }
    if let Some(umd) = text("umd") {
        let umd = json::parse_str(umd).map_err(|error| {
            let change = "write it like --umd '{\"name\":\"Ada\"}', a text in double quotes";
            Failure::new(2, format_args!("--umd {umd}: {error}"), change)
        })?;
        own.push(("umd", umd.text().to_owned()));
    }
    if matches.get_flag("single-use") {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| {
            let change = "see why the machine has no randomness";
            Failure::new(3, format_args!("no random name for --single-use: {error}"), change)
        })?;
        let mut name = String::new();
        base64::encode(&mut name, &random, Alphabet::Url);
        own.push(("singleUse", "true".to_owned()));
        own.push(("jti", quoted(&name)));
    }
    let channels = channels(matches)?;
    let theirs = more.member("channels").filter(|it| it.kind() == Kind::Object);
    if theirs.is_some() || more.member("channels").is_none() {
        own.push(("channels", channels_json(&channels, theirs, matches.get_flag("history"))));
    }

    let mut members = Vec::new();
    for (name, value) in own {
        if name == "channels" || more.member(name).is_none() {
            members.push((name.to_owned(), value));
        }
    }
    for (name, value) in more.members() {
        if name != "channels" || theirs.is_none() {
            members.push((name.into_owned(), value.text().to_owned()));
        }
    }
    Ok(object(&members))
}

fn ttl(text: &str) -> Result<u64, Failure> {
    let seconds = text.parse().ok().filter(|it| (1..=TTL_SECONDS_MAX).contains(it));
    seconds.ok_or_else(|| {
        Failure::new(
            2,
            format_args!("--ttl {text}: no number of seconds from 1 to {TTL_SECONDS_MAX}"),
            format_args!("write it like --ttl {TTL_SECONDS}"),
        )
    })
}

fn scope(text: &str) -> Result<String, Failure> {
    let words: Vec<&str> = text.split([' ', ',']).filter(|it| !it.is_empty()).collect();
    if words.is_empty() || words.iter().any(|it| !["connect", "subscribe", "umd"].contains(it)) {
        return Err(Failure::new(
            2,
            format_args!("--scope {text}: not of the words connect, subscribe and umd"),
            "write it like --scope connect or --scope 'connect subscribe'",
        ));
    }
    Ok(words.join(" "))
}

fn channels(matches: &ArgMatches) -> Result<Vec<Channel<'_>>, Failure> {
    fn of<'c, 'a>(all: &'c mut Vec<Channel<'a>>, pattern: &'a str) -> &'c mut Channel<'a> {
        let at = all.iter().position(|it| it.pattern == pattern).unwrap_or_else(|| {
            all.push(Channel { pattern, ..Channel::default() });
            all.len() - 1
        });
        &mut all[at]
    }
    let many = |name: &str| matches.get_many::<String>(name).into_iter().flatten();
    let mut all = Vec::new();
    for pattern in many("subscribe") {
        of(&mut all, pattern).subscribes = true;
    }
    for name in ["publish", "storage"] {
        for text in many(name) {
            // An expression's own colons are before the last one.
            let pair = text.rsplit_once(':').filter(|(a, b)| !a.is_empty() && !b.is_empty());
            let (pattern, inside) =
                pair.filter(|(a, _)| *a != REGEX.trim_end_matches(':')).ok_or_else(|| {
                    Failure::new(
                        2,
                        format_args!(
                            "--{name} {text}: there is no channel or nothing behind its colon"
                        ),
                        format_args!(
                            "write it like --{name} 'chat.*:NAME', or say it with --claims"
                        ),
                    )
                })?;
            let channel = of(&mut all, pattern);
            match name {
                "publish" => channel.events.push(inside),
                _ => channel.keys.push(inside),
            }
        }
    }
    Ok(all)
}

/// Our channels, then theirs; of a pattern that both have, theirs.
fn channels_json(ours: &[Channel<'_>], theirs: Option<Raw<'_>>, has_history: bool) -> String {
    let is_theirs = |name: &str| theirs.is_some_and(|it| it.member(name).is_some());
    let mut members: Vec<(String, String)> = Vec::new();
    for channel in ours.iter().filter(|it| !is_theirs(it.pattern)) {
        let mut directives = Vec::new();
        if channel.subscribes {
            directives.push(("subscribe".to_owned(), "true".to_owned()));
            if has_history {
                directives.push(("historyStart".to_owned(), "0".to_owned()));
            }
        }
        for (name, patterns, rights) in [
            ("messages", &channel.events, r#"{"publish":true}"#),
            ("storage", &channel.keys, r#"{"get":true,"set":true,"observe":true}"#),
        ] {
            if !patterns.is_empty() {
                let all = patterns.iter().map(|it| ((*it).to_owned(), rights.to_owned()));
                directives.push((name.to_owned(), object(&all.collect::<Vec<_>>())));
            }
        }
        members.push((channel.pattern.to_owned(), object(&directives)));
    }
    let more = theirs.into_iter().flat_map(Raw::members);
    members.extend(more.map(|(name, value)| (name.into_owned(), value.text().to_owned())));
    object(&members)
}

/// An object of names and JSON values.
fn object(members: &[(String, String)]) -> String {
    let mut out = Vec::new();
    for (i, (name, value)) in members.iter().enumerate() {
        out.push(if i == 0 { b'{' } else { b',' });
        write_str(&mut out, name);
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(if members.is_empty() { b"{}" } else { b"}" });
    String::from_utf8(out).expect("JSON of texts is text")
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    write_str(&mut out, text);
    String::from_utf8(out).expect("JSON of a text is text")
}

/// An address that leads to the server from here.
fn reachable(listen: &[SocketAddr]) -> SocketAddr {
    let first = listen.first().copied().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 6001)));
    let ip = match first.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, first.port())
}

/// A channel of a pattern; an expression's is not known.
fn example(pattern: &str) -> Option<String> {
    (!pattern.starts_with(REGEX)).then(|| pattern.replace('*', "1"))
}
