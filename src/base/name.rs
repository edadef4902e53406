//! Names that came from a peer and are kept: shared, never edited.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::ids::AppIndex;

/// A shared string: a channel's name, a user's id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// A named stream of events of one app: the key of everything in the broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Channel {
    /// Whose channel it is; the same name in two apps is two channels.
    pub app: AppIndex,
    /// Its name, exactly as the peers spell it.
    pub name: Name,
}
