//! Who someone is and whether they may: apps, signatures made with an app's secret, tokens and whose they are.
//!
//! Sans-io. Which bytes a signature covers is the dialect's rule or, for what every Pusher-style
//! protocol shares, a function of [`sign`]. What only the world outside knows is asked by an
//! [`Inquiry`]. Never here: what a peer is told about it. Start with [`apps`], then [`source`].

pub mod apps;
pub mod identity;
pub mod jwt;
pub mod keyring;
pub mod sign;
pub mod sigv4;
pub mod source;
pub mod upstream;

pub use apps::{App, Apps, Seat};
pub use identity::Identity;
pub use source::{
    Checked, Denied, Feeds, Finding, Follow, Following, Inquiry, Need, Source, TokenSettings, What,
};
