//! Loads a whole server over real sockets and measures what it costs.
//!
//! Read `load` first: one thread, one epoll, thousands of subscribers. `scenarios` says what is done with
//! them, `compare` runs several servers in turn, `curve` one server under more and more sockets. The comparison servers in `bin/` share `wire`.

pub mod args;
pub mod compare;
pub mod curve;
pub mod fanout;
pub mod histogram;
pub mod load;
pub mod process;
pub mod publish;
pub mod report;
pub mod scenarios;
pub mod sys;
pub mod wire;
