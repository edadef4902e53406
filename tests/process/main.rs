//! The real binary as its users and its enemies meet it: over sockets, signals and exit codes.
//!
//! `bridge` is one event in every protocol, `hotsock` what that one keeps and what it bears, `mastodon` its heads and
//! ends, `durable` what is
//! acknowledged as on disk while the process is killed. `life` is how it starts and stops, `speech` what a well-behaved peer gets, `hostile_http` and
//! `hostile_websocket` what the others get. The hostile tests keep a witness connected: whatever is
//! done to the server, the witness goes on hearing what is published. `routes` calls every route of the HTTP API for every status it names. `store_tools` is what an operator does with
//! durable state, `store_faults` what it may have suffered at a start, `store_disk` a disk without room.
//! `streams` is how event streams are framed and ended.
//! `push` is what devices are told while the process is killed, `push_live` what they are told beside sockets.
//! `mastodon_dropin` is that protocol in the place of its own server, with the Redis and PostgreSQL of `upstream`.
//! `webhooks` is what receivers are told while they, or the process, are gone, `webhooks_signed` what an app's own are
//! told, and what becomes of it when they do not behave.

mod bridge;
mod durable;
mod hostile_http;
mod hostile_websocket;
mod hotsock;
mod http;
mod keeping;
mod life;
mod mastodon;
mod mastodon_dropin;
#[path = "../transcripts/mint.rs"]
mod mint;
mod peer;
mod pipelining;
mod push;
mod push_live;
mod routes;
mod routes_push;
mod server;
mod sign;
mod speech;
mod store_disk;
mod store_faults;
mod store_tools;
mod streams;
mod talk;
// What a test may say to either is more than any one says.
#[allow(dead_code)]
mod upstream;
mod webhooks;
mod webhooks_signed;
