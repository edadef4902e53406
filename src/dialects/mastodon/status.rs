//! A status as it was published: what of it decides who gets it, and its text as a reader sees it.

use std::borrow::Cow;

use super::html;
use crate::base::name::Name;
use crate::wire::json::{Kind, Raw};

/// Accounts that a status may mention; with more it is taken for broken.
pub const MENTIONS_MAX: usize = 10_000;

/// What of a status matters here.
#[derive(Clone, Debug)]
pub struct Status<'a> {
    /// Its author's id.
    pub author: Name,
    /// The author's domain; none: their name has none, they are of this site.
    pub domain: Option<Name>,
    /// Ids of the accounts that it mentions, each once.
    pub mentions: Vec<Name>,
    /// It was written here.
    pub is_local: bool,
    /// Its language, if it says one.
    pub language: Option<Name>,
    /// It has a member `filtered` already, whatever that is.
    pub has_filtered: bool,
    spoiler: Option<Raw<'a>>,
    content: Option<Raw<'a>>,
    poll: Option<Raw<'a>>,
    media: Option<Raw<'a>>,
}

impl<'a> Status<'a> {
    /// Reads a status; none if it has not the shape of one, or not enough of it to tell whom it is hidden from.
    pub fn read(payload: Raw<'a>) -> Option<Self> {
        if payload.kind() != Kind::Object {
            return None;
        }
        let (mut account, mut mentions, mut language, mut has_filtered) = (None, None, None, false);
        let (mut spoiler, mut content, mut poll, mut media) = (None, None, None, None);
        for (name, value) in payload.members() {
            match &*name {
                "account" => account = Some(value),
                "mentions" => mentions = Some(value),
                "language" => language = Some(value),
                "filtered" => has_filtered = true,
                "spoiler_text" => spoiler = Some(value),
                "content" => content = Some(value),
                "poll" => poll = Some(value),
                "media_attachments" => media = Some(value),
                _ => {}
            }
        }
        let (mut id, mut acct, mut username) = (None, None, None);
        for (name, value) in account?.members() {
            match &*name {
                "id" => id = Some(value),
                "acct" => acct = Some(value),
                "username" => username = Some(value),
                _ => {}
            }
        }
        let acct = acct?.as_str()?;
        let domain = acct.split('@').nth(1).filter(|it| !it.is_empty());
        Some(Self {
            author: read_id(id?)?,
            domain: domain.map(Name::from),
            mentions: read_mentions(mentions)?,
            is_local: username.and_then(Raw::as_str).is_some_and(|it| it == acct),
            language: language.and_then(Raw::as_str).map(|it| Name::from(&*it)),
            has_filtered,
            spoiler,
            content,
            poll,
            media,
        })
    }

    /// What keywords are looked for in: its warning, its content, what can be voted for and what its media are said to
    /// show, with blank lines between them, as text.
    pub fn text(&self) -> String {
        let mut pieces = vec![as_text(self.spoiler), as_text(self.content)];
        let parts = |whole: Option<Raw<'a>>, part: &'static str| {
            let items = whole.into_iter().flat_map(Raw::items);
            items.map(move |it| as_text(it.member(part)))
        };
        pieces.extend(parts(self.poll.and_then(|it| it.member("options")), "title"));
        pieces.extend(parts(self.media, "description"));
        html::text_of(&html::with_lines(&pieces.join("\n\n")))
    }
}

/// A string's content, a number's text; anything else counts as empty.
fn as_text(value: Option<Raw<'_>>) -> Cow<'_, str> {
    match value {
        Some(it) if it.kind() == Kind::Number => Cow::Borrowed(it.text()),
        Some(it) => it.as_str().unwrap_or_default(),
        None => Cow::Borrowed(""),
    }
}

/// An id, which is a string or a whole number; that of the site's own account is below zero.
fn read_id(value: Raw<'_>) -> Option<Name> {
    match value.kind() {
        Kind::String => value.as_str().filter(|it| !it.is_empty()).map(|it| Name::from(&*it)),
        Kind::Number => value.as_i64().map(|it| Name::from(&*it.to_string())),
        _ => None,
    }
}

/// The ids of those mentioned; none if one of them cannot be told.
fn read_mentions(mentions: Option<Raw<'_>>) -> Option<Vec<Name>> {
    let Some(mentions) = mentions.filter(|it| !it.is_null()) else { return Some(Vec::new()) };
    if mentions.kind() != Kind::Array {
        return None;
    }
    let mut ids = Vec::new();
    for mention in mentions.items() {
        if ids.len() == MENTIONS_MAX {
            return None;
        }
        ids.push(read_id(mention.member("id")?)?);
    }
    if ids.len() > 1 {
        ids.sort_unstable();
        ids.dedup();
    }
    Some(ids)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
