//! Finished outbound bytes, shared by everyone they are sent to and never edited.

use std::ops::Deref;
use std::rc::Rc;

use bytes::Bytes;

/// Finished bytes within one shard. A clone is one plain (non-atomic) increment.
///
/// Across shards the same bytes travel as [`Bytes`]; a shard wraps them once per event, so the
/// atomic count is touched once per shard and not once per recipient.
#[derive(Clone, Debug)]
pub struct Frame(Rc<Bytes>);

impl Frame {
    /// Wraps bytes for one shard.
    pub fn new(bytes: Bytes) -> Self {
        Self(Rc::new(bytes))
    }

    /// True when no outbox and no send in flight holds it any more: everyone has been sent it.
    pub fn is_last(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(Bytes::from(bytes))
    }
}

impl Deref for Frame {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}
