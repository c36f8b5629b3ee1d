//! `mulkko man`: the manual pages.

use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_mangen::Man as Page;

use super::{Cli, Outcome};

/// Print a manual page.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  mulkko man | man -l -\n  mulkko man explain > mulkko-explain.1")]
pub struct Man {
    /// The subcommand that it is about; by default it is about all of them
    #[arg(value_name = "COMMAND")]
    subcommand: Option<String>,
}

impl Man {
    pub fn run(&self) -> Result<Outcome> {
        let mut command = Cli::command();
        // So that subcommands know what they are called in full, and the options that all have.
        command.build();
        if let Some(name) = &self.subcommand {
            let found = command.find_subcommand(name);
            command = found.with_context(|| format!("there is no subcommand `{name}`"))?.clone();
        }
        let mut page = Vec::new();
        Page::new(command).render(&mut page)?;
        io::stdout().write_all(&page)?;
        Ok(Outcome::Good)
    }
}
