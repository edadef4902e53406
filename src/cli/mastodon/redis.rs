//! Where Mastodon's Redis is.

use ringmain::config::value::Given;

use super::variables::{Said, Variables, Wrong, encoded, host};

const PORT_DEFAULT: u16 = 6379;
const SENTINEL_PORT_DEFAULT: u16 = 26379;
const SCHEMES: [&str; 3] = ["redis://", "rediss://", "unix://"];

/// The settings of it.
pub fn settings(variables: &Variables<'_>, said: &mut Said) -> Result<(), Wrong> {
    if let Some((namespace, origin)) = variables.given("REDIS_NAMESPACE") {
        said.set(origin, "mastodon.redis_namespace", namespace);
        said.notes.push(
            "REDIS_NAMESPACE is in force: Mastodon 4.4 and later have none, and do not start with it".into(),
        );
    }
    // It says it all: the other variables are not looked at.
    if let Some((url, origin)) = variables.given("REDIS_URL") {
        if !SCHEMES.iter().any(|it| url.starts_with(it)) {
            // A path alone is understood there, too.
            if url.starts_with('/') {
                said.set(origin, "mastodon.redis_url", format!("unix://{url}"));
                return Ok(());
            }
            let what = "it is no address of a Redis";
            let allowed = "redis://, rediss:// or unix:// and what follows";
            return Err(Wrong::new("REDIS_URL", origin, what, allowed));
        }
        said.set(origin, "mastodon.redis_url", url);
        return Ok(());
    }
    // 4.3.0 alone called it so.
    let user = variables.text("REDIS_USER").or_else(|| variables.text("REDIS_USERNAME"));
    let password = variables.text("REDIS_PASSWORD");
    let number = variables.number("REDIS_DB", u32::from(u16::MAX))?.unwrap_or(0);
    let port = variables.port("REDIS_PORT", PORT_DEFAULT)?;
    let name = host(variables.text("REDIS_HOST").unwrap_or("127.0.0.1"));
    let credentials = match (user, password) {
        (None, None) => String::new(),
        (user, None) => format!("{}@", encoded(user.unwrap_or_default())),
        (user, Some(password)) => {
            format!("{}:{}@", encoded(user.unwrap_or_default()), encoded(password))
        }
    };
    let origin = variables.origin(&[
        "REDIS_HOST",
        "REDIS_PORT",
        "REDIS_DB",
        "REDIS_PASSWORD",
        "REDIS_USER",
        "REDIS_USERNAME",
    ]);
    said.set(origin, "mastodon.redis_url", format!("redis://{credentials}{name}:{port}/{number}"));
    sentinels(variables, said, user, password)
}

fn sentinels(
    variables: &Variables<'_>,
    said: &mut Said,
    user: Option<&str>,
    password: Option<&str>,
) -> Result<(), Wrong> {
    let Some((list, origin)) = variables.given("REDIS_SENTINELS") else { return Ok(()) };
    let Some((master, master_origin)) = variables.given("REDIS_SENTINEL_MASTER") else {
        said.notes.push(
            "REDIS_SENTINELS is not looked at without REDIS_SENTINEL_MASTER, as in Mastodon".into(),
        );
        return Ok(());
    };
    let port = variables.port("REDIS_SENTINEL_PORT", SENTINEL_PORT_DEFAULT)?;
    let mut sentinels = Vec::new();
    for text in list.split(',').map(str::trim).filter(|it| !it.is_empty()) {
        let is_numbered = text.rsplit_once(':').is_some_and(|(before, port)| {
            port.parse::<u16>().is_ok() && (!before.contains(':') || before.ends_with(']'))
        });
        let is_name_alone = !text.contains(':') || text.ends_with(']');
        match (is_numbered, is_name_alone) {
            (true, _) => sentinels.push(text.to_owned()),
            (false, true) => sentinels.push(format!("{text}:{port}")),
            (false, false) => {
                let what = format!("`{text}` is not allowed");
                let allowed = "hosts with or without a port, with commas between them";
                return Err(Wrong::new("REDIS_SENTINELS", origin, what, allowed));
            }
        }
    }
    said.settings.push((origin.clone(), "mastodon.redis_sentinels", Given::Many(sentinels)));
    said.set(master_origin, "mastodon.redis_sentinel_master", master);
    if let Some(user) = variables.text("REDIS_SENTINEL_USERNAME").or(user) {
        let origin = variables.origin(&["REDIS_SENTINEL_USERNAME", "REDIS_USER"]);
        said.set(origin, "mastodon.redis_sentinel_user", user);
    }
    if let Some(password) = variables.text("REDIS_SENTINEL_PASSWORD").or(password) {
        let origin = variables.origin(&["REDIS_SENTINEL_PASSWORD", "REDIS_PASSWORD"]);
        said.set(origin, "mastodon.redis_sentinel_password", password);
    }
    Ok(())
}
