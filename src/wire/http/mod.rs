//! HTTP/1.1 as a server reads and writes it: strict heads, chunked bodies, answers, queries.
//!
//! Anything ambiguous is refused (RFC 9112, section 11.2: two readings of one message are how
//! requests are smuggled). Start with [`head::parse_head`].

pub mod chunked;
pub mod client;
pub mod date;
pub mod grammar;
pub mod head;
pub mod query;
pub mod response;

pub use chunked::{BodyError, Chunked};
pub use date::DateText;
pub use head::{
    BodyKind, Field, FieldsSpare, Head, HeadError, HeadLimits, HeadScan, Progress, Version,
    parse_head,
};
