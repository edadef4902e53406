//! Bytes to values and values to bytes: HTTP/1.1, WebSocket, server-sent events, JSON.
//!
//! Everything here is sans-io: it is handed bytes and appends to buffers the caller owns. It never
//! opens a socket, reads a clock or keeps a connection. "Not enough bytes yet" is progress, not an
//! error; errors know the status or close code that the peer is told. Read [`http::head`] first,
//! then [`websocket::decode`].

pub mod http;
pub mod json;
pub mod sse;
pub mod websocket;
