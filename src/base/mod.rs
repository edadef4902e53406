//! Nouns and structures that every other room may use: ids, time as a value, frames, names, slab,
//! timer wheel, mailbox, generator.
//!
//! Nothing here opens a socket or reads a clock. Start with [`ids`].

pub mod address;
pub mod driver;
pub mod event_id;
pub mod frame;
pub mod ids;
#[allow(unsafe_code)]
pub mod mailbox;
pub mod name;
pub mod pattern;
pub mod prng;
pub mod slab;
pub mod time;
pub mod wheel;
