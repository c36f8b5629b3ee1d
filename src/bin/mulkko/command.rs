//! What can be asked for, and who answers: each subcommand is a file of its name.

mod arrival;
mod changes;
mod check;
mod completions;
mod diff;
mod document;
mod edit;
mod explain;
mod findings;
mod istio;
mod keygen;
mod man;
mod moments;
mod output;
mod pass;
mod proxies;
mod push;
mod remote;
mod request;
mod schema;
mod serve;
mod shares;
mod sign;
mod signing;
mod simulate;
mod tables;
mod test;
mod token;
mod traffic;
mod verified;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{ColorChoice, Parser, Subcommand};

use output::{Format, Output};

/// Write, test and understand a mulkko policy before it is pushed.
///
/// It decides with the proxy's own engine: the same code, the same decisions to the bit.
#[derive(Debug, Parser)]
#[command(name = "mulkko", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    asked: Asked,

    /// How to tell it: for people or for machines
    #[arg(long, global = true, value_enum, default_value_t)]
    format: Format,

    /// When to use colours; `auto`: on a terminal
    #[arg(long, global = true, value_name = "WHEN", default_value_t)]
    color: ColorChoice,
}

#[derive(Debug, Subcommand)]
enum Asked {
    Check(check::Check),
    Explain(explain::Explain),
    Simulate(simulate::Simulate),
    Diff(diff::Diff),
    Test(test::Test),
    Schema(schema::Schema),
    Istio(istio::Istio),
    Pass(pass::Pass),
    Keygen(keygen::Keygen),
    Sign(sign::Sign),
    Verify(verify::Verify),
    Serve(serve::Serve),
    Token(token::Token),
    Push(push::Push),
    Proxies(proxies::Proxies),
    Versions(proxies::Versions),
    Rollback(edit::Rollback),
    Pause(edit::Pause),
    Promote(edit::Promote),
    Completions(completions::Completions),
    Man(man::Man),
}

/// How it went, where it could be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing is wrong.
    Good,
    /// Something was found to be wrong.
    Findings,
}

/// Does what the command line asks for. The exit code: 0 good, 1 findings, 2 usage, or what could not be read.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let choice = match cli.color {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    };
    choice.write_global();
    let output = Output { format: cli.format };
    let done = match cli.asked {
        Asked::Check(check) => check.run(&output),
        Asked::Explain(explain) => explain.run(&output),
        Asked::Simulate(simulate) => simulate.run(&output),
        Asked::Diff(diff) => diff.run(&output),
        Asked::Test(test) => test.run(&output),
        Asked::Schema(schema) => schema.run(),
        Asked::Istio(istio) => istio.run(&output),
        Asked::Pass(pass) => pass.run(&output),
        Asked::Keygen(keygen) => keygen.run(&output),
        Asked::Sign(sign) => sign.run(&output),
        Asked::Verify(verify) => verify.run(&output),
        Asked::Serve(serve) => serve.run(&output),
        Asked::Token(token) => token.run(&output),
        Asked::Push(push) => push.run(&output),
        Asked::Proxies(proxies) => proxies.run(&output),
        Asked::Versions(versions) => versions.run(&output),
        Asked::Rollback(rollback) => rollback.run(&output),
        Asked::Pause(pause) => pause.run(&output),
        Asked::Promote(promote) => promote.run(&output),
        Asked::Completions(completions) => completions.run(),
        Asked::Man(man) => man.run(),
    };
    ExitCode::from(exit_code(done))
}

fn exit_code(done: Result<Outcome>) -> u8 {
    match done {
        Ok(Outcome::Good) => 0,
        Ok(Outcome::Findings) => 1,
        // Whoever reads has enough: `mulkko check … | head`.
        Err(error) if output::is_broken_pipe(&error) => 0,
        Err(error) => {
            anstream::eprintln!("{}: {error:#}", output::painted(output::ERROR, "error"));
            2
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
