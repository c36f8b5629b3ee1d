//! mulkko: progressive delivery decided inside the proxy.

pub mod finding;
pub mod headers;
pub mod json;
pub mod logic;
pub mod wire;
