//! What we start ourselves, towards the world outside: questions to an application and its servers, and events told to it.
//!
//! Runs on the back shard, one thread beside the shards, and never makes one of them wait. What is
//! decided is sans-io ([`desk`] and [`tokens`] for questions, [`hooks`] for events); what meets the network is [`client`], for
//! providers of push notifications [`lines`], and for dialects that stand in for another server [`redis`] and [`postgres`].

pub mod client;
pub mod desk;
pub mod hooks;
pub mod lines;
pub mod postgres;
pub mod push;
pub mod redis;
mod tls;
pub mod tokens;
