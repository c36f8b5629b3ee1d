//! `mulkko completions`: for shells.

use std::io::{self, Write};

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::{Cli, Outcome};

/// Print the completions for a shell.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  mulkko completions bash > ~/.local/share/bash-completion/completions/mulkko"
)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub fn run(&self) -> Result<Outcome> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "mulkko", &mut script);
        io::stdout().write_all(&script)?;
        Ok(Outcome::Good)
    }
}
