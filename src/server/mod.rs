//! To come: server.
