//! mulkko: progressive delivery decided inside the proxy.

pub mod authority;
pub mod baggage;
pub mod bucket;
pub mod configuration;
pub mod cookie;
pub mod decide;
pub mod effects;
pub mod finding;
pub mod headers;
pub mod json;
pub mod lease;
pub mod logic;
pub mod matches;
pub mod moment;
pub mod pass;
pub mod pattern;
pub mod policy;
pub mod query;
pub mod schedule;
pub mod update;
pub mod wire;

#[cfg(all(target_arch = "wasm32", feature = "plugin"))]
mod plugin;
