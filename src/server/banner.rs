//! The few lines a start prints: true, short, and something to copy.

use std::io::{self, Write};
use std::net::IpAddr;

use super::start::Started;
use crate::config::history::History;
use crate::config::push::{Enabled, PushSettings};

/// What the command to copy publishes: the README's subscribers read its `text`.
const DATA: &str = r#"{"text":"hi"}"#;

/// Writes the banner.
pub fn write(started: &Started, out: &mut dyn Write) -> io::Result<()> {
    about(started, out)?;
    let paths = started.local.iter().map(|it| it.path().display().to_string());
    for address in started.addresses.iter().map(ToString::to_string).chain(paths) {
        for line in started.dialects.iter().filter_map(|it| it.listening(&address)) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

fn about(started: &Started, out: &mut dyn Write) -> io::Result<()> {
    let config = &started.config;
    let limits = &config.limits;
    let plural = if config.shards == 1 { "" } else { "s" };
    writeln!(out, "ringmain {} (pid {})", env!("CARGO_PKG_VERSION"), std::process::id())?;
    writeln!(out, "  shards      {} thread{plural}, {}", config.shards, started.driver)?;
    for address in &started.addresses {
        writeln!(out, "  listens     http://{address}")?;
    }
    for listener in &started.local {
        writeln!(out, "  listens     unix:{}", listener.path().display())?;
    }
    writeln!(out, "  store       {}", store(started))?;
    writeln!(out, "  push        {}", push(started))?;
    writeln!(
        out,
        "  limits      {} connections, {} per outbox, {} of outboxes per shard",
        limits.connections_max,
        bytes(limits.outbox_bytes_high_water),
        bytes(limits.outbox_bytes_per_shard_max),
    )?;
    let Some(address) = started.addresses.first() else { return Ok(()) };
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(ip) if ip.is_unspecified() => "[::1]".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let url = if (host.as_str(), address.port()) == ("127.0.0.1", 6001) {
        String::new()
    } else {
        // Quoted where a shell could take the brackets for a pattern.
        let quote = if address.is_ipv6() { "'" } else { "" };
        format!(" --url {quote}http://{host}:{}{quote}", address.port())
    };
    let at = format!("{host}:{}", address.port());
    let is_in_place = started.dialects.iter().any(|it| it.listening(&at).is_some());
    for dialect in started.dialects.iter() {
        // Who starts it in another server's place speaks its protocol, and publishes as there.
        let is_wanted =
            !is_in_place || dialect.listening(&at).is_some() || dialect.name() == "admin";
        if let Some(welcome) = dialect.welcome(&at).filter(|_| is_wanted) {
            let name = dialect.name();
            writeln!(out, "  {name:<11} {welcome}")?;
        }
    }
    if is_in_place {
        return Ok(());
    }
    let me = std::env::args().next().unwrap_or_else(|| "ringmain".into());
    if config.development {
        writeln!(
            out,
            "  app         app-id / app-key / app-secret, for development; configure [[apps]] for more"
        )?;
        writeln!(out, "  hear        {me} listen{url} --channel hello")?;
        writeln!(
            out,
            "  publish     {me} publish{url} --channel hello --event greeting --data '{DATA}'"
        )?;
    } else {
        let Some(app) = config.apps.iter().find(|app| app.enabled) else {
            return writeln!(out, "  apps        {}, none of them enabled", config.apps.len());
        };
        let count = config.apps.len();
        writeln!(
            out,
            "  apps        {count}; below is {}: put its secret in RINGMAIN_APP_SECRET to publish",
            app.id
        )?;
        writeln!(out, "  hear        {me} listen{url} --key {} --channel hello", app.key)?;
        writeln!(
            out,
            "  publish     {me} publish{url} --app-id {} --key {} --channel hello --event greeting --data '{DATA}'",
            app.id, app.key
        )?;
    }
    for dialect in started.dialects.iter() {
        let Some(sample) = dialect.sample() else { continue };
        let id = dialect.pane().and_then(|it| it.app).unwrap_or_default();
        let app = config.apps.iter().find(|it| it.id == id && !config.development);
        let app = app.map(|it| format!(" --app-id {} --key {}", it.id, it.key)).unwrap_or_default();
        writeln!(out, "  sample      {me} publish{url}{app} {sample}")?;
    }
    Ok(())
}

/// Who gets push notifications, or why nobody does.
fn push(started: &Started) -> &'static str {
    let settings = PushSettings::of(&started.config);
    let has_key = settings.encryption_key.is_some();
    match (started.pushes, settings.is_logged(false), has_key) {
        (false, ..) if settings.enabled == Enabled::Off => "off: push.enabled",
        (false, ..) => "off: nothing is kept on disk; push.enabled = \"on\" opens the store for it",
        (true, true, false) => {
            "notifications are logged, here and in the console; docs/push.md says how devices get them"
        }
        (true, true, true) => "notifications without credentials for their provider are logged",
        (true, false, true) => "devices get notifications through the providers with credentials",
        (true, false, false) => "no credentials are taken before push.encryption_key is set",
    }
}

/// What is kept, and where.
fn store(started: &Started) -> String {
    let config = &started.config;
    let history = History::of(config);
    let rows = |mode: &str| {
        let of_mode = history.channels.iter().filter(|row| row.mode == mode);
        of_mode.map(|row| row.pattern.as_str()).collect::<Vec<_>>().join(" ")
    };
    let keepers = started.dialects.iter().filter(|it| it.needs_store()).map(|it| it.name());
    let keepers = keepers.chain(started.pushes.then_some("push"));
    let keepers = keepers.collect::<Vec<_>>().join(" ");
    let on_disk = match (rows("durable"), keepers) {
        (durable, keepers) if durable.is_empty() => keepers,
        (durable, keepers) if keepers.is_empty() => durable,
        (durable, keepers) => format!("{durable} and {keepers}"),
    };
    match (on_disk.as_str(), rows("memory").as_str()) {
        ("", "") => "none: nothing is kept; [[history.channels]] says what is".into(),
        ("", memory) => format!("none: {memory} in memory, which ends with the process"),
        (durable, memory) => {
            let in_memory = if memory.is_empty() { "" } else { "; in memory: " };
            let path = super::keep::path(&config.data);
            let path = std::path::absolute(&path).unwrap_or(path);
            format!("{} for {durable}{in_memory}{memory}", path.display())
        }
    }
}

fn bytes(n: usize) -> String {
    match n {
        n if n >= 1 << 30 && n.is_multiple_of(1 << 30) => format!("{} GiB", n >> 30),
        n if n >= 1 << 20 => format!("{} MiB", n >> 20),
        n if n >= 1 << 10 => format!("{} KiB", n >> 10),
        n => format!("{n} bytes"),
    }
}
