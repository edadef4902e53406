//! What a token says, checked whole: a token of which one part is wrong is wrong.
//!
//! Claims and directives that nobody knows are passed over; one that is `null` counts as absent, but for `uid` and
//! `umd`, which it takes away. Of a name that repeats the last counts. What it all adds up to for a channel is said by
//! [`super::rights`].

use std::fmt;

use bytes::Bytes;

use super::expression::{COMPILED_BYTES_MAX, Scratch};
use super::names;
use super::patterns::{Pattern, REGEX};
use crate::auth::keyring::{TOKEN_BYTES_MAX, date};
use crate::base::name::Name;
use crate::base::time::{Millis, UnixMillis};
use crate::broker::Payload;
use crate::broker::state::Keep;
use crate::wire::json::{self, Kind, Raw};

/// Patterns in one token, on all levels together, at most.
pub const PATTERNS_MAX: usize = 256;
/// Bytes that the expressions of one token may take when they are compiled, at most.
pub const EXPRESSIONS_BYTES_MAX: usize = 4 * COMPILED_BYTES_MAX;
/// Characters of one pattern that an error shows, at most.
const SHOWN_CHARS_MAX: usize = 48;

/// Why claims are refused: where, and what is allowed there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimsError {
    /// Names from the outermost in, with dots: `channels.room.*.messages.chat.store`.
    pub path: String,
    /// What is allowed.
    pub allowed: &'static str,
}

impl fmt::Display for ClaimsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.allowed)
    }
}

impl std::error::Error for ClaimsError {}

/// A token's claims.
#[derive(Debug, Default)]
pub struct Claims {
    /// It may open a connection, by its scope: see [`Claims::opens`].
    pub connects: bool,
    /// It may come with a subscription, by its scope.
    pub subscribes: bool,
    /// It may change what is known about a user, by its scope.
    pub updates_umd: bool,
    /// It is good on this connection only.
    pub connection_id: Option<Box<str>>,
    /// Who its bearer is.
    pub uid: Option<Name>,
    /// `uid` is there, perhaps as `null`.
    pub has_uid: bool,
    /// What others may know about them, compact JSON; none if it is absent or `null`.
    pub umd: Option<Payload>,
    /// `umd` is there, perhaps as `null`.
    pub has_umd: bool,
    /// What the token is called.
    pub jti: Option<Name>,
    /// It is good once; it has a `jti` then.
    pub single_use: bool,
    /// When it stops being good.
    pub expires: UnixMillis,
    /// The connection wants to hear that it lives.
    pub keep_alive: bool,
    /// How often the peer must say that it lives.
    pub heartbeat: Option<Millis>,
    /// It may change what is known about the connection's user.
    pub umd_update: bool,
    /// And of every subscription with that.
    pub umd_propagate: bool,
    pub(super) channels: Box<[ChannelRule]>,
    held_bytes: usize,
}

/// What is said about the channels of one pattern.
#[derive(Debug)]
pub(super) struct ChannelRule {
    pub(super) pattern: Pattern,
    pub(super) subscribe: Option<bool>,
    pub(super) auto_subscribe: bool,
    pub(super) alias: Option<Box<str>>,
    pub(super) history_start: Option<UnixMillis>,
    pub(super) get_info: Option<bool>,
    pub(super) omit_from_sub_count: Option<bool>,
    pub(super) umd_update: Option<bool>,
    pub(super) messages: Box<[MessageRule]>,
    pub(super) storage: Box<[StorageRule]>,
}

/// What is said about the events of one pattern.
#[derive(Debug)]
pub(super) struct MessageRule {
    pub(super) pattern: Pattern,
    pub(super) publish: Option<bool>,
    pub(super) broadcast: Option<bool>,
    pub(super) echo: Option<bool>,
    /// The inner none: not at all.
    pub(super) store: Option<Option<Keep>>,
    pub(super) emits: Option<bool>,
    pub(super) schedule_before: Option<UnixMillis>,
    pub(super) react: Option<React>,
}

/// Which reactions are said to be good.
#[derive(Debug)]
pub(super) enum React {
    All(bool),
    Some(Box<[Box<str>]>),
}

/// What is said about the storage keys of one pattern.
#[derive(Debug)]
pub(super) struct StorageRule {
    pub(super) pattern: Pattern,
    pub(super) get: Option<bool>,
    pub(super) set: Option<bool>,
    pub(super) observe: Option<bool>,
    pub(super) store: Option<Keep>,
    pub(super) emits: Option<bool>,
    pub(super) schedule_before: Option<UnixMillis>,
}

impl Claims {
    /// Reads the claims of a token whose signature and times are good.
    pub fn parse(json: &str) -> Result<Self, ClaimsError> {
        let fault = |path: &str, allowed| Err(ClaimsError { path: path.into(), allowed });
        if json.len() > TOKEN_BYTES_MAX {
            return fault("the claims", "must be at most 16384 bytes");
        }
        let all = json::parse_str(json).ok().filter(|it| it.kind() == Kind::Object);
        let Some(all) = all else { return fault("the claims", "must be a JSON object") };
        let mut claims = Self::default();
        let (mut expires, mut scope) = (None, None);
        let mut reader = Reader::default();
        for (name, value) in all.members() {
            let at = At::Claim(&name);
            match &*name {
                "exp" => expires = time(value, at)?,
                "scope" => scope = text(value, at)?,
                "singleUse" => claims.single_use = switch(value, at)?.unwrap_or(false),
                "jti" => claims.jti = text(value, at)?.map(|it| Name::from(&*it)),
                "connectionId" => claims.connection_id = text(value, at)?.map(Box::from),
                "uid" => {
                    let uid = text(value, at)?;
                    let is_good = uid.as_deref().is_none_or(|it| names::uid_fault(it).is_ok());
                    at.check(is_good, "must have at most 128 characters")?;
                    (claims.has_uid, claims.uid) = (true, uid.map(|it| Name::from(&*it)));
                }
                "umd" => {
                    let umd = names::compact(value.text());
                    at.check(umd.len() <= names::UMD_BYTES_MAX, "must be at most 1024 bytes")?;
                    claims.has_umd = true;
                    claims.umd = (!value.is_null()).then(|| Payload(Bytes::from(umd)));
                }
                "keepAlive" => claims.keep_alive = switch(value, at)?.unwrap_or(false),
                "heartbeatTimeout" => claims.heartbeat = heartbeat(value, at)?,
                "umdUpdate" => claims.umd_update = switch(value, at)?.unwrap_or(false),
                "umdPropagate" => claims.umd_propagate = switch(value, at)?.unwrap_or(false),
                "channels" => claims.channels = reader.channels(value, at)?,
                _ => {}
            }
        }
        let Some(expires) = expires else { return fault("exp", "is missing") };
        claims.expires = expires;
        let Some(scope) = scope else { return fault("scope", "is missing") };
        for word in scope.split(' ') {
            match word {
                "connect" => claims.connects = true,
                "subscribe" => claims.subscribes = true,
                "umd" => claims.updates_umd = true,
                _ => {}
            }
        }
        if claims.single_use && claims.jti.as_deref().is_none_or(str::is_empty) {
            return fault("singleUse", "needs a jti that no other token has");
        }
        claims.check_aliases()?;
        claims.held_bytes = claims.count_bytes();
        Ok(claims)
    }

    /// Whether it may open a connection.
    pub fn opens(&self) -> bool {
        self.connects && self.connection_id.is_none()
    }

    /// Whether it may be used on a connection that is open: it names it, or its user. Of the scopes nothing is said.
    pub fn is_for(&self, connection_id: &str, uid: Option<&str>) -> bool {
        match &self.connection_id {
            Some(only) => **only == *connection_id,
            None => {
                let own = self.uid.as_deref().filter(|it| !it.is_empty());
                own.is_some() && own == uid
            }
        }
    }

    /// The channels to subscribe at once, in the order of the claims.
    pub fn auto_subscribe(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().filter(|it| it.auto_subscribe).map(|it| it.pattern.text())
    }

    /// The channels that are named in full, in the order of the claims.
    pub fn literal_channels(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(|it| &it.pattern).filter(|it| it.is_literal()).map(Pattern::text)
    }

    /// The channel behind an alias.
    pub fn alias_target(&self, alias: &str) -> Option<&str> {
        let named = self.channels.iter().find(|it| it.alias.as_deref() == Some(alias));
        named.map(|it| it.pattern.text())
    }

    /// Memory that it holds beside itself, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// What is said about a channel, in the order of the claims.
    pub(super) fn of_channel<'a>(
        &'a self,
        channel: &str,
        scratch: &mut Scratch,
        mut each: impl FnMut(&'a ChannelRule, &mut Scratch),
    ) {
        for rule in &self.channels {
            if rule.pattern.matches(channel, scratch) {
                each(rule, scratch);
            }
        }
    }

    fn check_aliases(&self) -> Result<(), ClaimsError> {
        for (i, rule) in self.channels.iter().enumerate() {
            let Some(alias) = rule.alias.as_deref() else { continue };
            let channel = At::Claim("channels");
            let at = At::Within(&channel, rule.pattern.text());
            let at = At::Within(&at, "alias");
            at.check(rule.pattern.is_literal(), "needs a channel without * and #regex:")?;
            at.check(names::channel_fault(alias).is_ok(), "must be the name of a channel")?;
            let is_taken = self.channels[..i].iter().any(|it| it.alias.as_deref() == Some(alias));
            at.check(!is_taken, "must not be the alias of another channel, too")?;
            let is_name = self.literal_channels().any(|it| it == alias);
            at.check(!is_name, "must not be the name of a channel in this token")?;
        }
        Ok(())
    }

    fn count_bytes(&self) -> usize {
        let texts = [self.connection_id.as_deref(), self.uid.as_deref(), self.jti.as_deref()];
        let mut held: usize = texts.into_iter().flatten().map(str::len).sum();
        held += self.umd.as_ref().map_or(0, |it| it.0.len());
        for rule in &self.channels {
            held += size_of_val(rule) + rule.pattern.held_bytes();
            held += rule.alias.as_deref().map_or(0, str::len);
            for rule in &rule.messages {
                held += size_of_val(rule) + rule.pattern.held_bytes();
                if let Some(React::Some(all)) = &rule.react {
                    held += all.iter().map(|it| size_of_val(it) + it.len()).sum::<usize>();
                }
            }
            for rule in &rule.storage {
                held += size_of_val(rule) + rule.pattern.held_bytes();
            }
        }
        held
    }
}

/// Where in the claims something is.
#[derive(Clone, Copy)]
enum At<'a> {
    Claim(&'a str),
    Within(&'a At<'a>, &'a str),
}

impl At<'_> {
    fn fault(self, allowed: &'static str) -> ClaimsError {
        ClaimsError { path: self.path(), allowed }
    }

    fn check(self, is_good: bool, allowed: &'static str) -> Result<(), ClaimsError> {
        if is_good { Ok(()) } else { Err(self.fault(allowed)) }
    }

    fn path(self) -> String {
        let (mut path, name) = match self {
            Self::Claim(name) => (String::new(), name),
            Self::Within(above, name) => (above.path() + ".", name),
        };
        match name.char_indices().nth(SHOWN_CHARS_MAX) {
            None => path.push_str(name),
            Some((end, _)) => {
                path.push_str(&name[..end]);
                path.push('…');
            }
        }
        path
    }
}

/// What is left of what a token's patterns may take.
struct Reader {
    patterns: usize,
    bytes: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Self { patterns: PATTERNS_MAX, bytes: EXPRESSIONS_BYTES_MAX }
    }
}

impl Reader {
    fn channels(&mut self, value: Raw<'_>, at: At<'_>) -> Result<Box<[ChannelRule]>, ClaimsError> {
        self.rules(value, at, |reader, pattern, value, at| {
            let mut rule = ChannelRule {
                pattern,
                subscribe: None,
                auto_subscribe: false,
                alias: None,
                history_start: None,
                get_info: None,
                omit_from_sub_count: None,
                umd_update: None,
                messages: Box::default(),
                storage: Box::default(),
            };
            directives(value, at, |name, value, at| {
                match name {
                    "subscribe" => rule.subscribe = switch(value, at)?,
                    "autoSubscribe" => rule.auto_subscribe = switch(value, at)?.unwrap_or(false),
                    "alias" => rule.alias = text(value, at)?.map(Box::from),
                    "historyStart" => rule.history_start = time(value, at)?,
                    "getInfo" => rule.get_info = switch(value, at)?,
                    "omitFromSubCount" => rule.omit_from_sub_count = switch(value, at)?,
                    "umdUpdate" => rule.umd_update = switch(value, at)?,
                    "messages" => rule.messages = reader.rules(value, at, message)?,
                    "storage" => rule.storage = reader.rules(value, at, storage)?,
                    _ => {}
                }
                Ok(())
            })?;
            let is_good = !rule.auto_subscribe || rule.pattern.is_literal();
            let automatic = At::Within(&at, "autoSubscribe");
            automatic.check(is_good, "needs a channel without * and #regex:")?;
            Ok(rule)
        })
    }

    /// What is said under each pattern of an object.
    fn rules<T>(
        &mut self,
        value: Raw<'_>,
        at: At<'_>,
        mut rule: impl FnMut(&mut Self, Pattern, Raw<'_>, At<'_>) -> Result<T, ClaimsError>,
    ) -> Result<Box<[T]>, ClaimsError>
    where
        T: Patterned,
    {
        let mut rules: Vec<T> = Vec::new();
        if value.is_null() {
            return Ok(Box::default());
        }
        at.check(value.kind() == Kind::Object, "must be an object")?;
        for (name, value) in value.members() {
            let at = At::Within(&at, &name);
            let more = self.patterns.checked_sub(1);
            self.patterns = more.ok_or_else(|| {
                At::Claim("channels").fault("must have at most 256 patterns on all levels together")
            })?;
            let pattern = Pattern::new(&name, self.bytes).map_err(|what| at.fault(what))?;
            if name.starts_with(REGEX) {
                self.bytes = self.bytes.saturating_sub(pattern.held_bytes());
            }
            at.check(value.kind() == Kind::Object, "must be an object")?;
            rules.push(rule(self, pattern, value, at)?);
        }
        merge_repeated(&mut rules);
        Ok(rules.into())
    }
}

/// Leaves of the rules with one pattern only the last, in the place of the first.
fn merge_repeated<T: Patterned>(rules: &mut Vec<T>) {
    // Looking back for each would cost a token of many patterns more than everything else in it.
    let mut order: Vec<usize> = (0..rules.len()).collect();
    order.sort_by(|&a, &b| rules[a].pattern().text().cmp(rules[b].pattern().text()));
    let (mut moved, mut gone) = (Vec::new(), Vec::new());
    for alike in order.chunk_by(|&a, &b| rules[a].pattern().text() == rules[b].pattern().text()) {
        if let [first, .., last] = *alike {
            // The sort keeps those that are alike in their order.
            moved.push((first, last));
            gone.extend(alike.iter().skip(1));
        }
    }
    for (first, last) in moved {
        rules.swap(first, last);
    }
    gone.sort_unstable();
    for at in gone.into_iter().rev() {
        rules.remove(at);
    }
}

/// Something said under a pattern.
pub(super) trait Patterned {
    /// Which.
    fn pattern(&self) -> &Pattern;
}

impl Patterned for ChannelRule {
    fn pattern(&self) -> &Pattern {
        &self.pattern
    }
}

impl Patterned for MessageRule {
    fn pattern(&self) -> &Pattern {
        &self.pattern
    }
}

impl Patterned for StorageRule {
    fn pattern(&self) -> &Pattern {
        &self.pattern
    }
}

fn message(
    _: &mut Reader,
    pattern: Pattern,
    value: Raw<'_>,
    at: At<'_>,
) -> Result<MessageRule, ClaimsError> {
    let mut rule = MessageRule {
        pattern,
        publish: None,
        broadcast: None,
        echo: None,
        store: None,
        emits: None,
        schedule_before: None,
        react: None,
    };
    directives(value, at, |name, value, at| {
        match name {
            "publish" => rule.publish = switch(value, at)?,
            "broadcast" => rule.broadcast = switch(value, at)?,
            "echo" => rule.echo = switch(value, at)?,
            "store" => rule.store = seconds(value, at)?.map(keep),
            "emitPubSubEvent" => rule.emits = switch(value, at)?,
            "scheduleBefore" => rule.schedule_before = time(value, at)?,
            "react" => rule.react = react(value, at)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(rule)
}

fn storage(
    _: &mut Reader,
    pattern: Pattern,
    value: Raw<'_>,
    at: At<'_>,
) -> Result<StorageRule, ClaimsError> {
    let mut rule = StorageRule {
        pattern,
        get: None,
        set: None,
        observe: None,
        store: None,
        emits: None,
        schedule_before: None,
    };
    directives(value, at, |name, value, at| {
        match name {
            "get" => rule.get = switch(value, at)?,
            "set" => rule.set = switch(value, at)?,
            "observe" => rule.observe = switch(value, at)?,
            "store" => {
                const ALLOWED: &str = "must be -1 or 1 to 3155695200";
                let seconds = seconds(value, at).map_err(|_| at.fault(ALLOWED))?;
                at.check(seconds != Some(0), ALLOWED)?;
                rule.store = seconds.and_then(keep);
            }
            "emitPubSubEvent" => rule.emits = switch(value, at)?,
            "scheduleBefore" => rule.schedule_before = time(value, at)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(rule)
}

fn directives(
    value: Raw<'_>,
    at: At<'_>,
    mut each: impl FnMut(&str, Raw<'_>, At<'_>) -> Result<(), ClaimsError>,
) -> Result<(), ClaimsError> {
    for (name, value) in value.members() {
        each(&name, value, At::Within(&at, &name))?;
    }
    Ok(())
}

/// What a value is, unless it is `null`.
fn typed<'v, T>(
    value: Raw<'v>,
    at: At<'_>,
    read: impl FnOnce(Raw<'v>) -> Option<T>,
    allowed: &'static str,
) -> Result<Option<T>, ClaimsError> {
    if value.is_null() {
        return Ok(None);
    }
    read(value).map(Some).ok_or_else(|| at.fault(allowed))
}

fn switch(value: Raw<'_>, at: At<'_>) -> Result<Option<bool>, ClaimsError> {
    typed(value, at, Raw::as_bool, "must be true or false")
}

fn text(value: Raw<'_>, at: At<'_>) -> Result<Option<String>, ClaimsError> {
    typed(value, at, |it| it.as_str().map(|it| it.into_owned()), "must be a string")
}

fn time(value: Raw<'_>, at: At<'_>) -> Result<Option<UnixMillis>, ClaimsError> {
    typed(value, at, date, "must be a number of seconds since 1970")
}

/// A whole number, also spelled with a fraction of zeros.
fn whole(value: Raw<'_>) -> Option<i64> {
    let rounded = || {
        let number = value.as_f64()?;
        // So far every whole number is one of these.
        (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
    };
    value.as_i64().or_else(rounded)
}

fn seconds(value: Raw<'_>, at: At<'_>) -> Result<Option<i64>, ClaimsError> {
    let read = |it| whole(it).filter(|it| (-1..=names::STORE_SECONDS_MAX).contains(it));
    typed(value, at, read, "must be -1, 0 or up to 3155695200")
}

fn keep(seconds: i64) -> Option<Keep> {
    match seconds {
        0 => None,
        seconds => Some(match u64::try_from(seconds) {
            Ok(seconds) => Keep::For(Millis(seconds.saturating_mul(1000))),
            Err(_) => Keep::Forever,
        }),
    }
}

fn heartbeat(value: Raw<'_>, at: At<'_>) -> Result<Option<Millis>, ClaimsError> {
    let read =
        |it| whole(it).filter(|it| (5..=600).contains(it)).map(|it| Millis(it as u64 * 1000));
    typed(value, at, read, "must be a whole number of seconds from 5 to 600")
}

fn react(value: Raw<'_>, at: At<'_>) -> Result<Option<React>, ClaimsError> {
    let read = |it: Raw<'_>| match it.kind() {
        Kind::Array => {
            let all = it.items().map(|it| it.as_str().map(|it| Box::from(&*it)));
            Some(React::Some(all.collect::<Option<_>>()?))
        }
        _ => it.as_bool().map(React::All),
    };
    typed(value, at, read, "must be true, false or an array of strings")
}

#[cfg(test)]
#[path = "claims_tests.rs"]
mod tests;
