//! `mulkko check`: everything that is wrong with a policy.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use mulkko::policy::Policy;
use serde::Serialize;

use super::Outcome;
use super::document::{Document, Plugin};
use super::findings::{Told, shown};
use super::output::{GOOD, Output, painted};

/// Tell everything that is wrong with policies, with its line.
///
/// The plugin refuses a document for the first of these findings.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mulkko check policies/*.json")]
pub struct Check {
    /// The policies; `-` reads one from standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    plugin: Plugin,
}

/// What is told of one file.
#[derive(Serialize)]
struct Checked {
    file: String,
    findings: Vec<Told>,
}

impl Check {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        let configuration = self.plugin.configuration()?;
        let (mut all, mut text, mut outcome) = (Vec::new(), String::new(), Outcome::Good);
        for file in &self.files {
            let document = Document::read(file)?;
            let findings: Vec<Told> = match Policy::parse(&document.text, &configuration.clusters) {
                Ok(_) => Vec::new(),
                Err(found) => found.iter().map(|it| Told::refusal(&document.text, it)).collect(),
            };
            if findings.is_empty() {
                text += &format!("{}: {}\n", document.name, painted(GOOD, "good"));
            } else {
                outcome = Outcome::Findings;
                text += &shown(&document, &findings);
            }
            all.push(Checked { file: document.name, findings });
        }
        output.tell(&all, || text)?;
        Ok(outcome)
    }
}
