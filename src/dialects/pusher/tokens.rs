//! Capability tokens: who a connection is and what it may do, as its app has signed.
//!
//! A token comes with the request for a WebSocket or later, in a message, which is also how one is replaced before its
//! time is over. Whoever bears one is a subscriber of two channels of the engine's own, one for the token and one for
//! its client: they hold what was revoked, and there the bearers hear of a revocation ([`super::revoking`]). A token
//! counts once both subscriptions stand, so that none comes in beside a revocation. Source: Sockudo, "Capability tokens".

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::capabilities::{Capabilities, ClaimError, Op};
use super::fault::{Ending, Fault};
use super::frames::{self, Version};
use super::names::{Access, Kind};
use super::session::{PusherSession, field, object};
use crate::auth::App;
use crate::base::ids::Ticket;
use crate::base::name::Name;
use crate::base::time::{Millis, Now, UnixMillis};
use crate::broker::state::{AdmitKey, Keys};
use crate::broker::{Command, Member, Reply, Subscribe, companion};
use crate::dialects::{Output, TimerKind};
use crate::wire::base64::{self, Alphabet};
use crate::wire::http::query::{self, Plus};
use crate::wire::json::{self, Kind as JsonKind, Raw};

/// The token's time is over, or the time to bring another.
pub(super) const TOKEN: TimerKind = TimerKind(1);

/// Bytes of a token, at most.
const TOKEN_BYTES_MAX: usize = 8 << 10;
/// Bytes of a token's name or a client's, at most.
pub(super) const ID_BYTES_MAX: usize = 128;
/// How long a token may be good for, in seconds.
const LIFETIME_MAX: i64 = 24 * 60 * 60;
/// How far the clocks of those who issue tokens may be from ours, in seconds.
const SKEW: i64 = 30;
/// How long a peer has to bring another token once its own is over.
const GRACE: Millis = Millis(30_000);

/// A token that is what it must be; whether it was revoked is another question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Who bears it.
    pub client_id: Name,
    /// Its own name.
    pub jti: Name,
    /// Until when it is good, in seconds since 1970.
    pub expires: i64,
    /// What it allows.
    pub capabilities: Capabilities,
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It is too long.
    TooLong,
    /// Its header is none.
    Header,
    /// It is signed in another way.
    Algorithm,
    /// It is for another key.
    KeyId,
    /// It is not signed with the app's secret, or a claim is missing or of another type.
    Invalid,
    /// Its client's name is empty or too long.
    ClientId,
    /// Its own name is empty or too long.
    Jti,
    /// It was issued later than now.
    IssuedLater,
    /// Its time is over.
    Expired,
    /// It is good for longer than one may be.
    Lifetime,
    /// Its time has not come.
    NotYet,
    /// What it allows makes no sense.
    Claim(String),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "capability token exceeds 8 KiB",
            Self::Header => "capability token has an invalid header",
            Self::Algorithm => "capability token must use HS256",
            Self::KeyId => "capability token kid does not match app key",
            Self::Invalid => "capability token signature or claims are invalid",
            Self::ClientId => "x-sockudo-client-id must be 1..=128 bytes",
            Self::Jti => "jti must be 1..=128 bytes",
            Self::IssuedLater => "capability token iat is too far in the future",
            Self::Expired => "capability token is expired",
            Self::Lifetime => "capability token lifetime exceeds 24 hours",
            Self::NotYet => "capability token is not active yet",
            Self::Claim(text) => text,
        })
    }
}

impl From<ClaimError> for TokenError {
    fn from(error: ClaimError) -> Self {
        Self::Claim(error.to_string())
    }
}

impl Token {
    /// Reads a token of an app.
    pub fn read(text: &str, app: &App, wall: UnixMillis) -> Result<Self, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Header)?;
        let (head, claims) = signed.split_once('.').ok_or(TokenError::Header)?;
        let head = decoded(head).ok_or(TokenError::Header)?;
        let head = object_of(&head).ok_or(TokenError::Header)?;
        if head.member("alg").and_then(Raw::as_str).as_deref() != Some("HS256") {
            return Err(TokenError::Algorithm);
        }
        // What must be understood is not. Source: RFC 7515, section 4.1.11.
        if head.member("crit").is_some() {
            return Err(TokenError::Header);
        }
        let kid = head.member("kid").and_then(Raw::as_str);
        if kid.as_deref() != Some(&*app.settings.key) {
            return Err(TokenError::KeyId);
        }
        let signature = base64::decode(signature.as_bytes(), Alphabet::Url);
        let signature = signature.filter(|it| it.len() == 32).ok_or(TokenError::Invalid)?;
        let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        if !app.signing_key.verify(&[signed.as_bytes()], &hex) {
            return Err(TokenError::Invalid);
        }
        let claims = decoded(claims).ok_or(TokenError::Invalid)?;
        Self::read_claims(object_of(&claims).ok_or(TokenError::Invalid)?, wall)
    }

    fn read_claims(claims: Raw<'_>, wall: UnixMillis) -> Result<Self, TokenError> {
        let given = |name: &str| claims.member(name).filter(|it| !it.is_null());
        let text = |name: &str| given(name).and_then(Raw::as_str).ok_or(TokenError::Invalid);
        let seconds = |name: &str| given(name).map(|it| seconds_of(it).ok_or(TokenError::Invalid));
        let client_id = text("x-sockudo-client-id")?;
        let jti = text("jti")?;
        let issued = seconds("iat").ok_or(TokenError::Invalid)??;
        let expires = seconds("exp").ok_or(TokenError::Invalid)??;
        let not_before = seconds("nbf").transpose()?;
        let claim = given("x-sockudo-capability").ok_or(TokenError::Invalid)?;
        let is_id = |id: &str| (1..=ID_BYTES_MAX).contains(&id.len());
        if !is_id(&client_id) {
            return Err(TokenError::ClientId);
        }
        if !is_id(&jti) {
            return Err(TokenError::Jti);
        }
        let now = i64::try_from(wall.0 / 1000).unwrap_or(i64::MAX);
        if issued > now.saturating_add(SKEW) {
            return Err(TokenError::IssuedLater);
        }
        if expires <= now.saturating_sub(SKEW) {
            return Err(TokenError::Expired);
        }
        if expires.saturating_sub(issued) > LIFETIME_MAX {
            return Err(TokenError::Lifetime);
        }
        if not_before.is_some_and(|it| it > now.saturating_add(SKEW)) {
            return Err(TokenError::NotYet);
        }
        Ok(Self {
            client_id: Name::from(&*client_id),
            jti: Name::from(&*jti),
            expires,
            capabilities: Capabilities::read(claim)?,
        })
    }

    /// How long it is good from now on.
    fn left(&self, wall: UnixMillis) -> Millis {
        let expires = u64::try_from(self.expires).unwrap_or(0).saturating_mul(1000);
        Millis(expires.saturating_sub(wall.0))
    }

    /// The channels that hold what was revoked of it.
    fn channels(&self) -> [Name; 2] {
        [token_channel(&self.jti), client_channel(&self.client_id)]
    }

    fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.client_id.len() + self.jti.len() + self.capabilities.held_bytes()
    }
}

const OF_TOKEN: &str = "#token:";
const OF_CLIENT: &str = "#client:";

/// Whether a channel is a token's or a client's.
pub(super) fn is_own(name: &str) -> bool {
    name.starts_with(OF_TOKEN) || name.starts_with(OF_CLIENT)
}

/// The channel of a token's own.
pub(super) fn token_channel(jti: &str) -> Name {
    Name::from(format!("{OF_TOKEN}{jti}").as_str())
}

/// The channel of everyone who bears a client's tokens.
pub(super) fn client_channel(client_id: &str) -> Name {
    Name::from(format!("{OF_CLIENT}{client_id}").as_str())
}

fn decoded(part: &str) -> Option<String> {
    String::from_utf8(base64::decode(part.as_bytes(), Alphabet::Url)?).ok()
}

fn object_of(text: &str) -> Option<Raw<'_>> {
    json::parse_str(text).ok().filter(|it| it.kind() == JsonKind::Object)
}

/// A time of a token. Source: RFC 7519, "NumericDate", which may have a fraction.
fn seconds_of(value: Raw<'_>) -> Option<i64> {
    let seconds = value.as_f64().filter(|it| it.abs() < 1e15)?;
    Some(seconds.floor() as i64)
}

/// The token in the query of a request for a WebSocket; an empty one is none.
pub(super) fn in_query(query: &str) -> Option<Cow<'_, str>> {
    let (_, token) = query::pairs_raw(query).find(|(key, _)| *key == "token")?;
    Some(query::decode_lossy(token, Plus::Literal)).filter(|token| !token.is_empty())
}

/// What a connection knows of its tokens.
#[derive(Default)]
pub(super) struct Tokens {
    /// The one that counts.
    current: Option<Token>,
    /// Its time is over; the peer may bring another.
    is_over: bool,
    /// One of which it is not known yet whether it was revoked.
    next: Option<Next>,
}

struct Next {
    token: Token,
    /// It came with the request for the WebSocket, which waits.
    is_first: bool,
    /// Answers that are missing.
    asked: Vec<Ticket>,
    /// It will not count.
    ending: Option<Ending>,
}

impl Tokens {
    /// Memory they hold for the peer.
    pub fn held_bytes(&self) -> usize {
        let next = self.next.as_ref().map(|it| &it.token);
        self.current.iter().chain(next).map(Token::held_bytes).sum()
    }
}

/// Everything that the channel of a token or a client keeps says that it was revoked.
struct Anything;

impl AdmitKey for Anything {
    fn admit(&self, _: &str) -> bool {
        true
    }
}

impl PusherSession {
    /// Whether this connection may do something in a channel, beside what the channel's own rules say (signatures,
    /// the app's switches): as its token says, else as its sign-in says.
    pub(super) fn may(&self, op: Op, channel: &str) -> bool {
        let Some(two) = &self.two else { return op.is_ordinary() };
        let of_token = two.tokens.as_ref().and_then(|it| it.current.as_ref());
        match (of_token, &two.signed_in) {
            (Some(token), _) => token.capabilities.may(op, channel),
            (None, Some(capabilities)) => capabilities.may(op, channel),
            (None, None) => op.is_ordinary(),
        }
    }

    /// The same, in words for the peer.
    pub(super) fn allow(&self, op: Op, channel: &str) -> Result<(), Fault> {
        if self.may(op, channel) {
            return Ok(());
        }
        let channel = channel.chars().take(200).collect();
        Err(match op {
            Op::AnnotationSubscribe => Fault::AnnotationsNotAllowed(channel),
            _ => Fault::Denied { op: op.as_str(), channel },
        })
    }

    /// The client that this connection speaks for: its token's, else the user who is signed in.
    pub(super) fn client_id(&self) -> Option<Name> {
        let of_token = self.token().map(|it| it.client_id.clone());
        of_token.or_else(|| self.user.as_ref().map(|it| it.member.user_id.clone()))
    }

    fn token(&self) -> Option<&Token> {
        self.two.as_ref()?.tokens.as_ref()?.current.as_ref()
    }

    fn tokens(&mut self) -> Option<&mut Tokens> {
        self.two.as_mut()?.tokens.as_deref_mut()
    }

    /// Takes the token that came with the request for the WebSocket: the session is to be asked for it.
    pub(super) fn bring(&mut self, token: Token) {
        let next = Next { token, is_first: true, asked: Vec::new(), ending: None };
        if let Some(two) = &mut self.two {
            two.tokens = Some(Box::new(Tokens { next: Some(next), ..Tokens::default() }));
        }
    }

    /// Whether the WebSocket is to wait for what this session asks first.
    pub(super) fn has_to_ask(&self) -> bool {
        let tokens = self.two.as_ref().and_then(|two| two.tokens.as_ref());
        tokens.is_some_and(|it| it.next.is_some())
    }

    /// The WebSocket is asked for: it comes when the token counts, or will not.
    pub(super) fn asked(&mut self, out: &mut Vec<Output>) {
        if self.tokens().is_some_and(|it| it.next.is_some()) {
            return self.check_revoked(out);
        }
        out.push(Output::Accept);
    }

    /// Why the connection that is open now is to be ended, if its token does not count; else its time runs.
    pub(super) fn entered(&mut self, now: Now, out: &mut Vec<Output>) -> Option<Ending> {
        let tokens = self.tokens()?;
        if let Some(next) = tokens.next.take_if(|it| it.is_first) {
            return next.ending;
        }
        if let Some(token) = &tokens.current {
            out.push(Output::Arm(TOKEN, token.left(now.wall)));
        }
        None
    }

    /// `sockudo:auth`.
    pub(super) fn auth(
        &mut self,
        data: Option<Raw<'_>>,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        if self.two.is_none() {
            return Err(Fault::AuthVersion);
        }
        let mut buffer = String::new();
        let data = object("auth", data, &mut buffer)?;
        let token = field(data, "auth", "token")?;
        if self.tokens().is_some_and(|it| it.next.is_some()) {
            return Err(Fault::AuthUnderway);
        }
        let token = match Token::read(&token, self.app(), now.wall) {
            Ok(token) => token,
            Err(error) => {
                out.push(self.end(&Ending::Token(error)));
                return Ok(());
            }
        };
        // Whoever it was stays it: what it is subscribed to and what it published were granted to that one.
        if self.client_id().is_some_and(|it| it != token.client_id) {
            out.push(self.end(&Ending::TokenClient));
            return Ok(());
        }
        let Some(two) = &mut self.two else { return Ok(()) };
        let tokens = two.tokens.get_or_insert_default();
        tokens.next = Some(Next { token, is_first: false, asked: Vec::new(), ending: None });
        let before = tokens.current.as_ref().map(Token::channels);
        // In the same order as what follows, so that one of them names the new token alone.
        for channel in before.into_iter().flatten() {
            let (ticket, channel) = (self.ticket(), self.channel(channel));
            out.push(Output::Ask(ticket, Command::Unsubscribe(channel)));
        }
        self.check_revoked(out);
        Ok(())
    }

    /// Asks for the subscriptions that say whether the next token was revoked.
    fn check_revoked(&mut self, out: &mut Vec<Output>) {
        let Some(token) = self.tokens().and_then(|it| Some(&it.next.as_ref()?.token)) else {
            return;
        };
        let channels = token.channels();
        // The members of a client's channel are its tokens.
        let member = Arc::new(Member { user_id: token.jti.clone(), info: None });
        let is_durable = self.shared.revocations_are_durable;
        for channel in channels {
            let ticket = self.ticket();
            let subscribe = Subscribe {
                member: Some(member.clone()),
                members_max: u32::MAX,
                values: is_durable.then(|| Keys(Arc::new(Anything))),
                ..Subscribe::new(self.channel(channel), self.lane())
            };
            out.push(Output::Ask(ticket, Command::Subscribe(Box::new(subscribe))));
            if let Some(next) = self.tokens().and_then(|it| it.next.as_mut()) {
                next.asked.push(ticket);
            }
        }
    }

    /// Takes a reply if it is about a token.
    pub(super) fn token_reply(
        &mut self,
        ticket: Ticket,
        reply: &Reply,
        now: Now,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(tokens) = self.tokens() else { return false };
        let Some(next) = &mut tokens.next else { return false };
        let Some(at) = next.asked.iter().position(|it| *it == ticket) else { return false };
        next.asked.swap_remove(at);
        let ending = match reply {
            Reply::Subscribed(it) if it.values.is_empty() && it.description.last.is_none() => None,
            Reply::Subscribed(_) => Some(Ending::TokenRevoked),
            // Nobody comes in unchecked.
            _ => Some(Ending::TokenUnchecked),
        };
        next.ending = next.ending.take().or(ending);
        if !next.asked.is_empty() {
            return true;
        }
        match tokens.next.take() {
            Some(next) if next.is_first => {
                match next.ending {
                    Some(_) => tokens.next = Some(next),
                    None => tokens.current = Some(next.token),
                }
                out.push(Output::Accept);
            }
            Some(Next { ending: Some(ending), .. }) => out.push(self.end(&ending)),
            Some(next) => self.renewed(next.token, now, out),
            None => {}
        }
        true
    }

    /// Another token counts from here on.
    fn renewed(&mut self, token: Token, now: Now, out: &mut Vec<Output>) {
        let mut frame = format!(
            "{{\"event\":\"{}auth_success\",\"data\":{{\"client_id\":",
            Version::Two.prefix()
        )
        .into_bytes();
        json::write_str(&mut frame, &token.client_id);
        frame.extend_from_slice(b",\"jti\":");
        json::write_str(&mut frame, &token.jti);
        frames::append(&mut frame, format_args!(",\"exp\":{}}}}}", token.expires));
        out.push(Output::Arm(TOKEN, token.left(now.wall)));
        if let Some(tokens) = self.tokens() {
            tokens.current = Some(token);
            tokens.is_over = false;
        }
        self.say(frame, out);
        self.leave_denied(out);
    }

    /// Ends the subscriptions that are not allowed any more.
    pub(super) fn leave_denied(&mut self, out: &mut Vec<Output>) {
        let is_denied = |name: &str| {
            let is_member = Kind::of(name).access == Access::Presence;
            !self.may(Op::Subscribe, companion::of_meta(name).unwrap_or(name))
                || is_member && !self.may(Op::Presence, name)
        };
        let names = self.subscriptions.iter().map(|it| it.name.clone());
        let denied: Vec<_> = names.filter(|name| is_denied(name)).collect();
        for name in denied {
            self.leave(&name, out);
            self.fault(&Fault::NotAllowed(name.to_string()), out);
        }
    }

    /// The token's time is over; or the time to bring another.
    pub(super) fn token_timer(&mut self, out: &mut Vec<Output>) {
        let Some(tokens) = self.tokens().filter(|it| it.current.is_some()) else { return };
        if !std::mem::replace(&mut tokens.is_over, true) {
            self.say(token_expired(40142, "expired"), out);
            out.push(Output::Arm(TOKEN, GRACE));
        } else if tokens.next.is_some() {
            // The answer is on its way.
            out.push(Output::Arm(TOKEN, GRACE));
        } else {
            out.push(self.end(&Ending::TokenExpired));
        }
    }

    /// The token was revoked.
    pub(super) fn revoked(&mut self, out: &mut Vec<Output>) {
        self.say(token_expired(40160, "revoked"), out);
        out.push(self.end(&Ending::Revoked));
    }
}

fn token_expired(code: u16, reason: &str) -> Vec<u8> {
    let prefix = Version::Two.prefix();
    format!("{{\"event\":\"{prefix}token_expired\",\"data\":{{\"code\":{code},\"reason\":\"{reason}\"}}}}")
        .into_bytes()
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
