//! `mulkko schema`: the JSON Schema of a policy.

use anyhow::Result;
use clap::Args;

use super::Outcome;
use super::output::{Format, Output};

/// Print the JSON Schema of a policy document, for editors.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mulkko schema > mulkko.schema.json")]
pub struct Schema {}

impl Schema {
    pub fn run(&self) -> Result<Outcome> {
        Output { format: Format::Json }.tell(&mulkko::wire::schema::policy(), String::new)?;
        Ok(Outcome::Good)
    }
}
