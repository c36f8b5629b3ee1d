//! The engine as a whole: documents, decisions and flags, natively and as wasm under Node.
//!
//! `cargo test --no-default-features --test engine` needs nothing of what the command depends on.

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by them")]

mod decisions;
mod flags;
#[path = "../../src/laws.rs"]
mod laws;
mod policies;
