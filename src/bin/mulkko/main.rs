//! The command `mulkko`: write, test and understand a policy before it is pushed.

mod command;

/// Good, findings, or not what was asked for: 0, 1, 2.
fn main() -> std::process::ExitCode {
    command::run()
}
