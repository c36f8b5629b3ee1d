//! The command as its users see it: a process, and what it prints.
//!
//! `TRYCMD=overwrite cargo test --features golden --test command` writes down what is printed now; read the difference.

#![expect(
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by them"
)]

mod check;
mod istio;
mod schema;
mod sessions;
mod traffic;
