//! The Hotsock protocol: what its tokens allow.

pub mod at;
pub mod claims;
mod expression;
pub mod names;
pub mod patterns;
pub mod rights;
