//! `mulkko verify`: whether a plugin would take a signed policy.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use mulkko::jws;
use mulkko::update::{Outcome as Settled, Update};
use serde_json::json;

use super::Outcome;
use super::document::{Document, Plugin};
use super::moments::now_ms;
use super::output::{ERROR, GOOD, Output, painted};

/// Tell whether the plugin would take a signed policy, and why not.
///
/// The keys and the name are those of the plugin configuration.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mulkko verify --plugin plugin.json www/shop.jws
  mulkko verify --plugin plugin.json --policy www/shop.jws | mulkko check -")]
pub struct Verify {
    /// The signed policy; `-` reads it from standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    plugin: Plugin,

    /// Print the policy itself
    #[arg(long)]
    policy: bool,
}

impl Verify {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        let configuration = self.plugin.configuration()?;
        ensure!(
            configuration.verify.is_some(),
            "there are no keys: `--plugin` names a configuration with `verify`"
        );
        let document = Document::read(&self.file)?;
        let mut update = Update::new(None, configuration.rules());
        update.load_fetched(document.text.clone(), None, now_ms());
        let settled = std::iter::repeat_with(|| update.step()).find_map(|outcome| outcome);
        let name = &document.name;
        match settled {
            Some(Settled::Taken { policy, .. }) => {
                let (kid, text) =
                    jws::unverified(&document.text).map_err(|finding| anyhow::anyhow!("{finding}"))?;
                if self.policy {
                    std::io::stdout().write_all(&text)?;
                    return Ok(Outcome::Good);
                }
                let (shop, revision) = (policy.name.as_deref().unwrap_or_default(), policy.revision);
                let told = json!({ "file": name, "kid": &*kid, "policy": shop, "revision": revision });
                let good = painted(GOOD, "good");
                output.tell(&told, || {
                    format!("{name}: {good}: {shop}, revision {revision}, signed by {kid}\n")
                })?;
                Ok(Outcome::Good)
            }
            Some(Settled::Refused { found, .. }) => {
                let refusal = found.first().map(ToString::to_string).unwrap_or_default();
                let told = json!({ "file": name, "refusal": refusal });
                let refused = painted(ERROR, "refused");
                output.tell(&told, || format!("{name}: {refused}: {refusal}\n"))?;
                Ok(Outcome::Findings)
            }
            None => Ok(Outcome::Findings),
        }
    }
}
