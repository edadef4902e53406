//! What we start ourselves, towards the world outside: questions to an application, and events told to it.
//!
//! Runs on the back shard, one thread beside the shards, and never makes one of them wait. What is
//! decided is sans-io ([`desk`] and [`tokens`] for questions, [`hooks`] for events); what meets the network is [`client`].

pub mod client;
pub mod desk;
pub mod hooks;
pub mod tokens;
