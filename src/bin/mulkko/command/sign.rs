//! `mulkko sign`: a policy as a JWS.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::Outcome;
use super::document::{Document, Plugin, taken};
use super::output::Output;
use super::signing::KeyEnv;

/// Sign a policy, for plugins that `verify`.
///
/// Prints a compact JWS (EdDSA) of the file's bytes. What a plugin would refuse is not signed.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mulkko sign policies/shop.json > www/shop.jws")]
pub struct Sign {
    /// The policy; `-` reads it from standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    key: KeyEnv,

    #[command(flatten)]
    plugin: Plugin,
}

impl Sign {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        let key = self.key.required()?;
        let document = Document::read(&self.file)?;
        let policy = taken(&document, &self.plugin.configuration()?)?;
        anyhow::ensure!(policy.name.is_some(), "{}: a signed policy must have a `name`", document.name);
        let token = key.sign(&document.text);
        output.tell(&json!({ "jws": token }), || format!("{token}\n"))?;
        Ok(Outcome::Good)
    }
}
