//! What tags have in common that are one tag.

/// A tag as channels have it.
pub fn normalize(tag: &str) -> String {
    tag.to_lowercase()
}
