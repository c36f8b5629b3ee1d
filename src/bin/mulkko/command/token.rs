//! `mulkko token`: permission to read and to push.

use anyhow::{Result, anyhow};
use base64ct::{Base64UrlUnpadded, Encoding};
use clap::Args;
use serde_json::json;

use super::Outcome;
use super::moments::{instant, told};
use super::output::Output;
use super::serve::tokens::{Entry, Right, hash};

/// Make a token that may read policies, push them, or both.
///
/// Prints the token, for the environment of whom it is for; and on standard error its entry in the file of `mulkko serve
/// --tokens`, a JSON array, which has nothing but the token's hash.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  export MULKKO_TOKEN=\"$(mulkko token --name shop-team --policy 'shop' --policy 'cart-*')\"
  mulkko token --name proxies --policy shop --may read --expires 2027-01-01T00:00:00Z")]
pub struct Token {
    /// Whose it is: what the audit says
    #[arg(long)]
    name: String,

    /// A policy that it is good for, again for more; `*` stands for any text
    #[arg(long = "policy", value_name = "PATTERN", required = true)]
    policies: Vec<String>,

    /// What it allows, again for more; `read` and `push` where none is given
    #[arg(long, value_name = "RIGHT", value_enum)]
    may: Vec<Right>,

    /// The proxies that are believed with it, as a pattern of their node names, again for more; by default all
    #[arg(long = "node", value_name = "PATTERN")]
    nodes: Vec<String>,

    /// From when on it allows nothing any more (RFC 3339)
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    expires: Option<i64>,
}

/// A list that was given; `None` for one that was not.
fn given<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

impl Token {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| anyhow!("no randomness: {error}"))?;
        let token = format!("mulkko_{}", Base64UrlUnpadded::encode_string(&secret));
        let entry = Entry {
            name: self.name.clone(),
            sha256: Some(hash(&token)),
            subject: None,
            policies: self.policies.clone(),
            nodes: given(&self.nodes),
            may: given(&self.may),
            expires: self.expires.map(told),
        };
        if !output.is_json() {
            anstream::eprintln!("{}", serde_json::to_string(&entry)?);
        }
        output.tell(&json!({ "token": token, "entry": entry }), || format!("{token}\n"))?;
        Ok(Outcome::Good)
    }
}
