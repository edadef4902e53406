//! Where Mastodon's PostgreSQL is.

use super::variables::{Said, Variables, Wrong, decoded, encoded, environment, host};

const PORT_DEFAULT: u16 = 5432;
/// The most connections that may be asked for here; the setting has a range of its own.
const POOL_MAX: u32 = u32::MAX;

/// A database, as plain texts. Not printable: there is a password in it.
#[derive(Default)]
struct Database {
    user: String,
    password: String,
    /// A name, an address or, from `/` on, the folder of a Unix socket.
    host: String,
    port: Option<u16>,
    name: String,
    /// Told to the server at the start of each connection.
    options: String,
    tls: &'static str,
}

const OFF: &str = "off";
const UNVERIFIED: &str = "unverified";
const VERIFIED: &str = "verified";

/// The settings of it.
pub fn settings(variables: &Variables<'_>, said: &mut Said) -> Result<(), Wrong> {
    let pool = variables.number("DB_POOL", POOL_MAX)?;
    if let Some(pool) = pool {
        let origin = variables.origin(&["DB_POOL"]);
        said.set(origin, "mastodon.database_connections_max", pool.to_string());
    }
    let (database, origin, tls_origin) = match variables.given("DATABASE_URL") {
        Some((url, origin)) => {
            let mut database = Database::of_url(url, said).map_err(|(what, allowed)| {
                Wrong::new("DATABASE_URL", origin.clone(), what, allowed)
            })?;
            if let (true, Some(password)) =
                (database.password.is_empty(), variables.text("DB_PASS"))
            {
                password.clone_into(&mut database.password);
            }
            if let (true, Some(user)) = (database.user.is_empty(), variables.text("USER")) {
                user.clone_into(&mut database.user);
            }
            (database, origin.clone(), origin)
        }
        None => {
            let origin = variables.origin(&["DB_HOST", "DB_NAME", "DB_USER", "DB_PORT", "DB_PASS"]);
            (Database::of_parts(variables)?, origin, variables.origin(&["DB_SSLMODE"]))
        }
    };
    said.set(origin, "mastodon.database_url", database.url());
    said.set(tls_origin, "mastodon.database_tls", database.tls);
    Ok(())
}

impl Database {
    fn of_parts(variables: &Variables<'_>) -> Result<Self, Wrong> {
        let text = |name: &str, default: &str| variables.text(name).unwrap_or(default).to_owned();
        let (user, name) = match environment(variables) {
            "production" => ("mastodon", "mastodon_production"),
            "development" => (variables.text("USER").unwrap_or("postgres"), "mastodon_development"),
            _ => {
                return Err(Wrong::new(
                    "NODE_ENV",
                    variables.origin(&["NODE_ENV"]),
                    "there is no database for such an environment",
                    "production or development; or set DATABASE_URL",
                ));
            }
        };
        Ok(Self {
            user: text("DB_USER", user),
            password: text("DB_PASS", ""),
            host: text("DB_HOST", "localhost"),
            port: Some(variables.port("DB_PORT", PORT_DEFAULT)?),
            name: text("DB_NAME", name),
            options: String::new(),
            tls: match variables.text("DB_SSLMODE") {
                None | Some("disable") => OFF,
                Some("no-verify") => UNVERIFIED,
                Some(_) => VERIFIED,
            },
        })
    }

    /// Reads an address as `pg-connection-string` does. The error is what is wrong and what is allowed; neither holds
    /// the address, which may hold a password.
    fn of_url(url: &str, said: &mut Said) -> Result<Self, (&'static str, &'static str)> {
        const ALLOWED: &str = "postgres://user:password@host:port/database";
        let mut database = Self { tls: OFF, ..Self::default() };
        // The folder of a Unix socket, a space, a name.
        if url.starts_with('/') {
            let (folder, name) = url.split_once(' ').unwrap_or((url, ""));
            (database.host, database.name) = (folder.to_owned(), name.to_owned());
            return Ok(database);
        }
        let (scheme, rest) = url.split_once(':').ok_or(("it is no address", ALLOWED))?;
        if !["postgres", "postgresql", "socket"].contains(&scheme) {
            return Err(("it is no PostgreSQL's address", ALLOWED));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let is_socket = scheme == "socket";
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (authority, path) = match (rest.find('/'), is_socket) {
            // The credentials of a socket's address stand before its folder.
            (Some(at), _) => rest.split_at(at),
            (None, _) => (rest, ""),
        };
        let (credentials, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        (database.user, database.password) = (decoded(user), decoded(password));
        let is_address = place.ends_with(']');
        let (name, port) = match place.rsplit_once(':').filter(|_| !is_address) {
            Some((name, "")) => (name, None),
            Some((name, port)) => (name, Some(port)),
            None => (place, None),
        };
        let bare = name.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(name);
        database.host = decoded(bare);
        if is_socket {
            database.host = decoded(path);
        } else {
            database.name = decoded(path.strip_prefix('/').unwrap_or(path));
        }
        let mut port = port.map(str::to_owned);
        for (name, value) in query.split('&').filter_map(|it| it.split_once('=')) {
            let value = decoded(&value.replace('+', " "));
            match (name, value.as_str()) {
                ("host", _) => database.host = value,
                ("port", _) => port = Some(value),
                ("user", _) => database.user = value,
                ("password", _) => database.password = value,
                ("db", _) if is_socket => database.name = value,
                ("options", _) => database.options = value,
                ("sslmode", "disable") | ("ssl", "false" | "0") => database.tls = OFF,
                ("sslmode", "no-verify") | ("ssl", "no-verify") => database.tls = UNVERIFIED,
                ("sslmode" | "ssl", _) => database.tls = VERIFIED,
                ("sslrootcert" | "sslcert" | "sslkey", _) => said.notes.push(format!(
                    "{name} in DATABASE_URL is not looked at: the machine's own authorities are"
                )),
                _ => {}
            }
        }
        if let Some(port) = port {
            let number = port.parse().map_err(|_| ("its port is no number", ALLOWED))?;
            database.port = Some(number);
        }
        Ok(database)
    }

    fn url(&self) -> String {
        let mut url = String::from("postgres://");
        if !self.user.is_empty() || !self.password.is_empty() {
            url.push_str(&encoded(&self.user));
            if !self.password.is_empty() {
                url.push(':');
                url.push_str(&encoded(&self.password));
            }
            url.push('@');
        }
        let place = if self.host.is_empty() { "localhost" } else { &self.host };
        url.push_str(&host(place));
        url.push_str(&format!(":{}", self.port.unwrap_or(PORT_DEFAULT)));
        url.push_str(&format!("/{}", encoded(&self.name)));
        if !self.options.is_empty() {
            url.push_str(&format!("?options={}", encoded(&self.options)));
        }
        url
    }
}
