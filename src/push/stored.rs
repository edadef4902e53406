//! Records as bytes for the store, and back: a byte for the layout, then the record. Source: postcard's wire format.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::publish::Intent;

const LAYOUT: u8 = 1;

/// A record as it is stored.
pub fn encode<T: Serialize>(record: &T) -> Bytes {
    let out = postcard::to_extend(record, vec![LAYOUT]);
    // Fails for sequences of unknown length alone; no record has any.
    out.map(Bytes::from).unwrap_or_default()
}

/// The record that was stored so; none: these bytes are none, or of a layout this version does not know.
pub fn decode<T: DeserializeOwned>(stored: &[u8]) -> Option<T> {
    let (&LAYOUT, rest) = stored.split_first()? else { return None };
    match postcard::take_from_bytes(rest) {
        Ok((record, [])) => Some(record),
        _ => None,
    }
}

/// What waits on [`Shelf::PushQueue`](crate::store::Shelf::PushQueue): put there by a home, in one commit with what it
/// goes with, and taken from there in one commit with what comes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Queued {
    /// The time of a publish has come.
    Due {
        /// The id of its app.
        app: String,
        /// What it is called.
        publish_id: String,
    },
    /// An event was published that a notification goes with.
    Publish {
        /// The id of the app.
        app: String,
        /// The notification.
        intent: Box<Intent>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_else_is() {
        let due = Queued::Due { app: "a".into(), publish_id: "p".into() };
        let stored = encode(&due);
        assert_eq!(decode(&stored), Some(due));
        for end in 0..stored.len() {
            assert_eq!(decode::<Queued>(&stored[..end]), None, "{end}");
        }
        assert_eq!(decode::<Queued>(&[&stored[..], b"x"].concat()), None);
        assert_eq!(decode::<Queued>(&[&[LAYOUT + 1], &stored[1..]].concat()), None);
    }
}
