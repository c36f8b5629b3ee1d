//! mulkko: progressive delivery decided inside the proxy.

pub mod authority;
pub mod baggage;
pub mod bucket;
pub mod cookie;
pub mod finding;
pub mod headers;
pub mod json;
pub mod moment;
pub mod pass;
pub mod query;
pub mod wire;
