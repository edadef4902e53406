//! Texts of notifications by language, with places for values.

use serde::{Deserialize, Serialize};

use super::Provider;

/// What a notification says. Each part may be absent; in a template each may hold places `{{name}}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// One line.
    pub title: Option<String>,
    /// More.
    pub body: Option<String>,
    /// An https address.
    pub icon: Option<String>,
    /// What the device plays.
    pub sound: Option<String>,
    /// A later notification with the same takes this one's place.
    pub collapse_key: Option<String>,
}

/// A template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// What it is called.
    pub id: String,
    /// The language of those whose own it has not; one of `locales`.
    pub default_locale: String,
    /// Texts by language, at least one, in the order of their tags.
    pub locales: Vec<(String, Text)>,
    /// What is sent as it is to one provider's devices: a JSON object each.
    pub overrides: Vec<(Provider, String)>,
    /// When it was last written, in milliseconds since 1970.
    pub updated_at: u64,
}
