//! The command `mulkko`: write, test and understand a policy before it is pushed.
//!
//! Native only. Cargo builds it beside the engine's tests for wasm too, where it is nothing.

#[cfg(not(target_arch = "wasm32"))]
mod command;

/// Good, findings, or not what was asked for: 0, 1, 2.
#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    command::run()
}

#[cfg(target_arch = "wasm32")]
fn main() {}
