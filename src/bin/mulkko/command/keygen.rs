//! `mulkko keygen`: a key that signs policies.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::Outcome;
use super::output::Output;
use super::signing::{KeyEnv, PrivateKey};

/// Make a key that signs policies.
///
/// Prints the private key, a JWK on one line, for the environment of who signs; and on standard error its public half,
/// for `verify` in the plugin configuration. Two keys can stand there, so that one can replace another.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  export MULKKO_SIGNING_KEY=\"$(mulkko keygen --kid 2026-11)\"
  mulkko keygen --public")]
pub struct Keygen {
    /// The name of the key
    #[arg(long, value_name = "NAME", required_unless_present = "public", value_parser = kid)]
    kid: Option<String>,

    /// Make none: print the public half of the key in the environment
    #[arg(long, conflicts_with = "kid")]
    public: bool,

    #[command(flatten)]
    key: KeyEnv,
}

fn kid(text: &str) -> Result<String, &'static str> {
    let fits = (1..=63).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| text.to_owned()).ok_or("expected 1 to 63 visible ASCII characters")
}

impl Keygen {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        let Some(kid) = &self.kid else {
            let public = self.key.required()?.public();
            output.tell(&public, || format!("{}\n", json!(public)))?;
            return Ok(Outcome::Good);
        };
        let key = PrivateKey::generate(kid)?;
        let (jwk, verify) = (key.jwk(), json!(key.public()));
        if !output.is_json() {
            anstream::eprintln!("verify: {verify}");
        }
        output.tell(&json!({ "private": jwk, "verify": verify }), || format!("{jwk}\n"))?;
        Ok(Outcome::Good)
    }
}
