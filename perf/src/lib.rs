//! Loads a whole server over real sockets and measures what it costs.
//!
//! Read `load` first: one thread, one epoll, thousands of subscribers. `scenarios` says what is done with
//! them, `compare` runs several servers in turn, and `curve` one server under more and more sockets. `durable` holds
//! what is kept on disk against what `bare` says the disk can do, `hotsock` and `sockudo` one protocol
//! against another in the same server, `push` what is sent beside what is heard, and `mastodon` one that follows a `backing` against the server that Mastodon has
//! for it; all of them start servers by `bench` and say what came of it in `lines`. The comparison servers in `bin/`
//! share `wire`.

pub mod args;
mod ask;
pub mod backing;
pub mod bare;
mod bench;
pub mod compare;
pub mod curve;
pub mod durable;
pub mod fanout;
pub mod histogram;
pub mod hotsock;
mod lines;
pub mod load;
pub mod mastodon;
pub mod process;
pub mod publish;
pub mod push;
pub mod redis;
pub mod report;
pub mod scenarios;
pub mod sockudo;
pub mod sys;
pub mod token;
pub mod wire;
