//! To come: shard.
