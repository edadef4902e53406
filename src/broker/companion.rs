//! Channels that go with another one: what is told about it is told there. Their home is that one's, so that it tells
//! them without asking anyone.

use crate::base::name::Name;

const PRESENCE_HISTORY: &str = "#presence-history:";
const META: &str = "[meta]";

/// Where the history of who came to a channel, changed and left is kept.
pub fn presence_history(name: &str) -> Name {
    Name::from(format!("{PRESENCE_HISTORY}{name}").as_str())
}

/// Where it is told that a channel is occupied or vacated, by how many, and who its members are.
pub fn meta(name: &str) -> Name {
    Name::from(format!("{META}{name}").as_str())
}

/// The channel whose history of presence this is.
pub fn of_presence_history(name: &str) -> Option<&str> {
    name.strip_prefix(PRESENCE_HISTORY)
}

/// The channel that this one tells about.
pub fn of_meta(name: &str) -> Option<&str> {
    name.strip_prefix(META)
}

/// The channel that this one goes with; itself if it goes with none.
pub fn base(name: &str) -> &str {
    match name.as_bytes().first() {
        // Most names are passed over by their first byte: every ask looks at one.
        Some(b'#') => of_presence_history(name).unwrap_or(name),
        Some(b'[') => of_meta(name).unwrap_or(name),
        _ => name,
    }
}

/// Whether others hear of who comes and goes here: not of the engine's own channels, nor of those that tell of others.
pub fn is_watchable(name: &str) -> bool {
    !name.starts_with('#') && of_meta(name).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_companion_knows_its_channel() {
        for name in ["presence-r", "r", "[meta", "#x"] {
            assert_eq!(base(&presence_history(name)), name);
            assert_eq!(of_presence_history(&presence_history(name)), Some(name));
            assert_eq!(base(&meta(name)), name);
            assert_eq!(of_meta(&meta(name)), Some(name));
            assert_eq!((base(name), of_meta(name), of_presence_history(name)), (name, None, None));
        }
        for (name, watchable) in
            [("r", true), ("#r", false), ("[meta]r", false), ("#presence-history:r", false)]
        {
            assert_eq!(is_watchable(name), watchable, "{name}");
        }
    }
}
