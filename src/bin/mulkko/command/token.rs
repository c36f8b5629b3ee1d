//! `mulkko token`: permission to push.

use anyhow::{Result, anyhow};
use base64ct::{Base64UrlUnpadded, Encoding};
use clap::Args;
use serde_json::json;

use super::Outcome;
use super::output::Output;
use super::serve::tokens::{Entry, hash};

/// Make a token that may push policies.
///
/// Prints the token, for the environment of who pushes; and on standard error its entry in the file of `mulkko serve
/// --tokens`, a JSON array, which has nothing but the token's hash.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  export MULKKO_TOKEN=\"$(mulkko token --name shop-team --policy 'shop' --policy 'cart-*')\"")]
pub struct Token {
    /// Whose it is: what the audit says
    #[arg(long)]
    name: String,

    /// A policy that it is good for, again for more; `*` stands for any text
    #[arg(long = "policy", value_name = "PATTERN", required = true)]
    policies: Vec<String>,
}

impl Token {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| anyhow!("no randomness: {error}"))?;
        let token = format!("mulkko_{}", Base64UrlUnpadded::encode_string(&secret));
        let entry = Entry { name: self.name.clone(), sha256: hash(&token), policies: self.policies.clone() };
        if !output.is_json() {
            anstream::eprintln!("{}", serde_json::to_string(&entry)?);
        }
        output.tell(&json!({ "token": token, "entry": entry }), || format!("{token}\n"))?;
        Ok(Outcome::Good)
    }
}
