//! What a status means for the accounts that may hear it, found out once.

use std::collections::{HashMap, HashSet};

use super::brief::Brief;
pub use super::keywords::{KeywordFilter, Keywords};
pub use super::status::Status;
use crate::base::name::Name;
use crate::base::time::UnixMillis;

/// Judges a status, at a moment of the wall clock: `hidden_from` is who may not have it by relations.
pub fn judge(
    status: &Status<'_>,
    number: u64,
    hidden_from: HashSet<Name>,
    keywords: &Keywords,
    wall: UnixMillis,
) -> Brief {
    let filtered = if status.has_filtered || keywords.is_empty() {
        HashMap::new()
    } else {
        keywords.find(&status.text(), &hidden_from, wall)
    };
    Brief {
        number,
        is_local: status.is_local,
        language: status.language.clone(),
        hidden_from,
        filtered,
        has_filtered: status.has_filtered,
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
