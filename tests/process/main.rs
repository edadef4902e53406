//! The real binary as its users and its enemies meet it: over sockets, signals and exit codes.
//!
//! `bridge` is one event in every protocol, `durable` what is acknowledged as on disk while the process is
//! killed. `life` is how it starts and stops, `speech` what a well-behaved peer gets, `hostile_http` and
//! `hostile_websocket` what the others get. The hostile tests keep a witness connected: whatever is
//! done to the server, the witness goes on hearing what is published.

mod bridge;
mod durable;
mod hostile_http;
mod hostile_websocket;
mod http;
mod life;
mod peer;
mod pipelining;
mod server;
mod sign;
mod speech;
