//! Who someone is and whether they may: apps, and signatures made with an app's secret.
//!
//! Sans-io. Which bytes a signature covers is the dialect's rule or, for what every Pusher-style
//! protocol shares, a function of [`sign`]. Never here: what a peer is told about it. Start with
//! [`apps`].

pub mod apps;
pub mod sign;

pub use apps::{App, Apps, Seat};
