//! `mulkko pass`: signed permission to be forced into a variant, or to be told why.

use anyhow::{Context, Result, anyhow, bail};
use clap::{ArgGroup, Args};
use mulkko::moment::Duration;
use mulkko::pass::{LONGEST_MS, PassKeys};
use serde_json::{Map, json};

use super::Outcome;
use super::moments::{duration, now_ms};
use super::output::Output;

/// Sign a pass, for the header `x-mulkko-pass`.
///
/// The key comes from an environment variable: the bytes that the plugin's `passKeys` name.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("what").required(true).multiple(true).args(["rollout", "explain"]),
    after_help = "Example:\n  curl -H \"x-mulkko-pass: $(mulkko pass --rollout checkout-v2 --variant canary --for 1h)\" https://shop.example.com/"
)]
pub struct Pass {
    /// The rollout whose variant it forces
    #[arg(long, requires = "variant")]
    rollout: Option<String>,

    /// The variant
    #[arg(long, requires = "rollout")]
    variant: Option<String>,

    /// How long it is good
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    lasts: Duration,

    /// Whom it is for: the plugin's `passAudience`, where it has one
    #[arg(long, value_name = "TEXT")]
    audience: Option<String>,

    /// Let the response tell why, in `x-mulkko-explain`
    #[arg(long)]
    explain: bool,

    /// The environment variable that holds the key, of at least 32 bytes
    #[arg(long, value_name = "NAME", default_value = "MULKKO_PASS_KEY")]
    key_env: String,
}

impl Pass {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        let secret = std::env::var(&self.key_env)
            .with_context(|| format!("the environment variable {}", self.key_env))?;
        let mut keys = PassKeys::default();
        keys.add(secret.as_bytes()).map_err(|problem| anyhow!("{}: {problem}", self.key_env))?;
        if self.lasts.as_ms() > LONGEST_MS {
            bail!("--for: a pass is good for at most 366 days");
        }
        let exp = now_ms().unsigned_abs().saturating_add(self.lasts.as_ms()) / 1_000;
        let mut claims = Map::from_iter([("exp".to_owned(), json!(exp))]);
        for (name, value) in [("rollout", &self.rollout), ("variant", &self.variant), ("aud", &self.audience)]
        {
            claims.extend(value.iter().map(|value| (name.to_owned(), json!(value))));
        }
        if self.explain {
            claims.insert("explain".to_owned(), json!(true));
        }
        let token = keys.sign(&serde_json::to_string(&claims)?).context("no key")?;
        let told = json!({ "pass": token, "claims": claims });
        output.tell(&told, || format!("{token}\n"))?;
        Ok(Outcome::Good)
    }
}
