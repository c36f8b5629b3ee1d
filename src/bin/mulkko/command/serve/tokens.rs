//! Who may push which policies: a file of tokens, of which it holds nothing but the hashes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use mulkko::policy::matches_glob;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::problem::Problem;

/// A token, as the file has it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Whose it is: what the audit says.
    pub name: String,
    /// SHA-256 of the token, in hex.
    pub sha256: String,
    /// The policies that it is good for; `*` stands for any text.
    pub policies: Vec<String>,
}

/// The file of tokens, read anew for each push: who is taken out of it is out at once.
#[derive(Clone, Debug)]
pub struct Tokens(Option<PathBuf>);

impl Tokens {
    /// The tokens of a file; without one nobody may push.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn open(file: Option<PathBuf>) -> Result<Tokens> {
        if let Some(file) = &file {
            read(file)?;
        }
        Ok(Tokens(file))
    }

    /// Whose token a request has, if it is good for the policy.
    ///
    /// # Errors
    /// 401 without a known token, 403 for one that is not good for this policy, 503 when the file cannot be read.
    pub fn holder(&self, headers: &HeaderMap, policy: &str) -> Result<String, Problem> {
        let entries = match &self.0 {
            Some(file) => read(file).map_err(|error| Problem::unavailable(&error))?,
            None => Vec::new(),
        };
        let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
        let hash = hash(token.ok_or_else(Problem::unauthorized)?);
        // All are compared, each in constant time.
        let found = entries.iter().fold(None, |found, entry| {
            let same: bool = entry.sha256.as_bytes().ct_eq(hash.as_bytes()).into();
            if same { Some(entry) } else { found }
        });
        let entry = found.ok_or_else(Problem::unauthorized)?;
        match entry.policies.iter().any(|pattern| matches_glob(pattern, policy)) {
            true => Ok(entry.name.clone()),
            false => Err(Problem::forbidden(&entry.name, policy)),
        }
    }
}

fn read(file: &Path) -> Result<Vec<Entry>> {
    let text = std::fs::read(file).with_context(|| file.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| file.display().to_string())
}

/// The token of an `authorization` header; the scheme in any case.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// What the file has of a token.
pub fn hash(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
