//! What Mastodon's database is asked, and how its rows are read.
//!
//! Only tables and columns that every Mastodon since 4.3 has. Times are in UTC, without a zone.

use std::collections::HashSet;
use std::sync::Arc;

use crate::auth::source::Feeds;
use crate::auth::upstream::{Cell, Parameter, Rows, Statement, cell};
use crate::auth::{Following, Identity};
use crate::base::name::Name;
use crate::dialects::mastodon::judge::KeywordFilter;

/// The permission of a role that shows closed feeds: bit 20. Source: Mastodon's `UserRole`, `view_feeds`.
const ROLE_VIEWS_FEEDS: i64 = 1 << 20;
/// What an identity may do with it.
pub const VIEW_FEEDS: &str = "view_feeds";
/// What a setting says of a feed that is closed. Anything else leaves it open.
const CLOSED: &str = "--- disabled\n";

pub(super) const TOKEN: &str = "SELECT token.id, member.account_id, member.chosen_languages, token.scopes, role.permissions \
     FROM oauth_access_tokens AS token \
     JOIN users AS member ON member.id = token.resource_owner_id \
     JOIN accounts AS account ON account.id = member.account_id \
     LEFT JOIN user_roles AS role ON role.id = member.role_id \
     WHERE token.token = $1 AND token.revoked_at IS NULL AND NOT member.disabled \
     AND account.suspended_at IS NULL LIMIT 1";

/// The same, and when it ends. A text of its own: where nobody asks for that, its columns are not looked at.
const TOKEN_THAT_ENDS: &str = "SELECT token.id, member.account_id, member.chosen_languages, token.scopes, role.permissions, \
     token.created_at + token.expires_in * interval '1 second' \
     FROM oauth_access_tokens AS token \
     JOIN users AS member ON member.id = token.resource_owner_id \
     JOIN accounts AS account ON account.id = member.account_id \
     LEFT JOIN user_roles AS role ON role.id = member.role_id \
     WHERE token.token = $1 AND token.revoked_at IS NULL AND NOT member.disabled \
     AND account.suspended_at IS NULL LIMIT 1";

/// Which of these tokens still let their owners in.
pub(super) const TOKENS_GOOD: &str = "SELECT token.id FROM oauth_access_tokens AS token \
     JOIN users AS member ON member.id = token.resource_owner_id \
     JOIN accounts AS account ON account.id = member.account_id \
     WHERE token.id = ANY($1) AND token.revoked_at IS NULL AND NOT member.disabled \
     AND account.suspended_at IS NULL";

pub(super) const LIST: &str = "SELECT id FROM lists WHERE id = $1 AND account_id = $2";

pub(super) const FEEDS: &str = "SELECT var, value FROM settings WHERE var = ANY($1)";

/// Viewers ($1) who block or mute one of the people of a status ($2: its author and whom it mentions), whom its author
/// ($3) blocks, or who block its author's domain ($4).
pub(super) const RELATIONS: &str = "SELECT account_id FROM blocks WHERE account_id = ANY($1) AND target_account_id = ANY($2) \
     UNION SELECT account_id FROM mutes WHERE account_id = ANY($1) AND target_account_id = ANY($2) \
     UNION SELECT target_account_id FROM blocks WHERE account_id = $3 AND target_account_id = ANY($1) \
     UNION SELECT account_id FROM account_domain_blocks WHERE account_id = ANY($1) AND domain = $4";

pub(super) const FILTERS: &str = "SELECT filter.account_id, filter.id, filter.phrase, filter.context, filter.expires_at, filter.action, \
     keyword.keyword, keyword.whole_word \
     FROM custom_filters AS filter \
     JOIN custom_filter_keywords AS keyword ON keyword.custom_filter_id = filter.id \
     WHERE filter.account_id = ANY($1) \
     AND (filter.expires_at IS NULL OR filter.expires_at > now() AT TIME ZONE 'UTC') \
     ORDER BY filter.account_id, filter.id, keyword.id";

pub(super) const PROBE: &str = "SELECT 1";

/// The number in an id of someone or something here, as it is written in no other way; none: the database has no such
/// row, so that there is nothing to ask about it.
pub fn number(id: &str) -> Option<i64> {
    let first = id.bytes().next().filter(u8::is_ascii_digit)?;
    id.parse().ok().filter(|_| first != b'0' || id.len() == 1)
}

/// The number in an id that a status says, however it is written: that of the site's own account is below zero.
pub fn number_said(id: &str) -> Option<i64> {
    id.parse().ok()
}

/// Whose token this is. None: it is nobody's, whatever the database has: no text there has a zero byte.
pub fn token(token: &str, enforces_expiry: bool) -> Option<Statement> {
    let sql = if enforces_expiry { TOKEN_THAT_ENDS } else { TOKEN };
    let statement = || Statement { sql, parameters: vec![Parameter::Text(token.into())] };
    (!token.is_empty() && !token.contains('\0')).then(statement)
}

/// A token that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its row.
    pub id: i64,
    /// Whose it is.
    pub account: i64,
    /// What it tells.
    pub identity: Arc<Identity>,
}

/// Reads the answer to [`token`]; none: it is nobody's.
pub fn read_token(rows: &Rows) -> Option<Token> {
    let row = rows.first()?;
    let (id, account) = (cell(row, 0).as_integer()?, cell(row, 1).as_integer()?);
    let names = |texts: &[Box<str>]| texts.iter().map(|it| Name::from(&**it)).collect::<Vec<_>>();
    let languages = match cell(row, 2) {
        Cell::Texts(languages) => Some(names(languages)),
        _ => None,
    };
    // Upstream fails at a token without scopes; here it just may do nothing.
    let scopes = cell(row, 3).as_text().unwrap_or_default();
    // All others are for more than to listen, and would only be kept, connection by connection.
    let scopes = scopes.split_whitespace().filter(|it| it.starts_with(READ));
    let role = cell(row, 4).as_integer().unwrap_or_default();
    let views_feeds = (role & ROLE_VIEWS_FEEDS != 0).then_some(VIEW_FEEDS);
    let mut permissions: Vec<_> = scopes.chain(views_feeds).map(Name::from).collect();
    permissions.shrink_to_fit();
    let expires = match cell(row, 5) {
        Cell::Time(at) => Some(*at),
        _ => None,
    };
    let identity = Identity {
        permissions,
        languages,
        token: Some(Name::from(&*id.to_string())),
        expires,
        ..Identity::named(&account.to_string())
    };
    Some(Token { id, account, identity: Arc::new(identity) })
}

/// What the names of scopes to read begin with.
const READ: &str = "read";

/// Which of these tokens are good.
pub fn tokens_good(ids: Vec<i64>) -> Statement {
    Statement { sql: TOKENS_GOOD, parameters: vec![Parameter::Integers(ids)] }
}

/// Whether the list is the account's: a row.
pub fn list(list: i64, account: i64) -> Statement {
    let parameters = vec![Parameter::Integer(list), Parameter::Integer(account)];
    Statement { sql: LIST, parameters }
}

/// The settings of what is written here, and of what is written elsewhere.
fn feed_settings(feeds: Feeds) -> [&'static str; 2] {
    match feeds {
        Feeds::Live => ["local_live_feed_access", "remote_live_feed_access"],
        Feeds::Topic => ["local_topic_feed_access", "remote_topic_feed_access"],
    }
}

/// Whether feeds are open.
pub fn feeds(feeds: Feeds) -> Statement {
    let names = feed_settings(feeds).into_iter().map(Box::from).collect();
    Statement { sql: FEEDS, parameters: vec![Parameter::Texts(names)] }
}

/// Reads the answer to [`feeds`].
pub fn read_feeds(feeds: Feeds, rows: &Rows, judged_from: u64) -> Following {
    let closed = |name: &str| {
        rows.iter().any(|row| {
            cell(row, 0).as_text() == Some(name) && cell(row, 1).as_text() == Some(CLOSED)
        })
    };
    let [local, remote] = feed_settings(feeds);
    Following { judged_from, local: !closed(local), remote: !closed(remote) }
}

/// Which of `viewers` may not have a status of `author`, who may be one of `people`: those it is about.
pub fn relations(viewers: Vec<i64>, people: Vec<i64>, author: i64, domain: &str) -> Statement {
    // Nobody can block a domain with a zero byte, nor ask for one; nobody is without a domain's name either.
    let domain = if domain.contains('\0') { "" } else { domain };
    let parameters = vec![
        Parameter::Integers(viewers),
        Parameter::Integers(people),
        Parameter::Integer(author),
        Parameter::Text(domain.into()),
    ];
    Statement { sql: RELATIONS, parameters }
}

/// Reads numbers: the answer to [`relations`] or [`tokens_good`].
pub fn read_numbers(rows: &Rows) -> HashSet<i64> {
    rows.iter().filter_map(|row| cell(row, 0).as_integer()).collect()
}

/// The keyword filters of accounts.
pub fn filters(accounts: Vec<i64>) -> Statement {
    Statement { sql: FILTERS, parameters: vec![Parameter::Integers(accounts)] }
}

/// Reads the answer to [`filters`]: each filter that has keywords, with its account. What is half there is passed over.
pub fn read_filters(rows: &Rows) -> Vec<(i64, KeywordFilter)> {
    let mut filters: Vec<(i64, i64, KeywordFilter)> = Vec::new();
    for row in rows {
        let (Some(account), Some(id)) = (cell(row, 0).as_integer(), cell(row, 1).as_integer())
        else {
            continue;
        };
        // The column takes null, which nobody writes.
        let keyword = cell(row, 6).as_text().filter(|it| !it.is_empty());
        let Some(keyword) = keyword else { continue };
        let is_whole = *cell(row, 7) == Cell::Bool(true);
        if !matches!(filters.last(), Some((of, last, _)) if (*of, *last) == (account, id)) {
            let context = match cell(row, 3) {
                Cell::Texts(context) => context.iter().map(|it| it.to_string()).collect(),
                _ => Vec::new(),
            };
            let expires = match cell(row, 4) {
                Cell::Time(at) => Some(*at),
                _ => None,
            };
            let filter = KeywordFilter {
                id: Name::from(&*id.to_string()),
                title: cell(row, 2).as_text().unwrap_or_default().to_owned(),
                context,
                expires,
                hides: cell(row, 5).as_integer() == Some(1),
                keywords: Vec::new(),
            };
            filters.push((account, id, filter));
        }
        if let Some((_, _, filter)) = filters.last_mut() {
            filter.keywords.push((keyword.to_owned(), is_whole));
        }
    }
    filters.into_iter().map(|(account, _, filter)| (account, filter)).collect()
}

/// A question whose answer says nothing but that there is one.
pub fn probe() -> Statement {
    Statement { sql: PROBE, parameters: Vec::new() }
}

#[cfg(test)]
#[path = "queries_tests.rs"]
mod tests;
