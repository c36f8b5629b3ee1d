//! `mulkko man`: the manual page.

use std::io::{self, Write};

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_mangen::Man as Page;

use super::{Cli, Outcome};

/// Print the manual page.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mulkko man | man -l -")]
pub struct Man {}

impl Man {
    pub fn run(&self) -> Result<Outcome> {
        let mut page = Vec::new();
        Page::new(Cli::command()).render(&mut page)?;
        io::stdout().write_all(&page)?;
        Ok(Outcome::Good)
    }
}
