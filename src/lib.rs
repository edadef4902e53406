//! Ringmain: one self-hosted realtime event engine that speaks several realtime protocols natively.
//!
//! This page is the map. Rooms, lowest layer first; imports point down only:
//!
//! | layer | rooms |
//! | --- | --- |
//! | 0 | [`base`] |
//! | 1 | [`wire`], [`reactor`], [`config`], [`observe`] |
//! | 2 | [`broker`], [`auth`] |
//! | 3 | [`dialects`] |
//! | 4 | [`shard`] |
//! | 5 | [`server`] |

pub mod auth;
pub mod base;
pub mod broker;
pub mod config;
pub mod dialects;
pub mod observe;
pub mod reactor;
pub mod server;
pub mod shard;
pub mod wire;
