//! A document that is pushed: read by the engine before it is stored, and stored as it came.

use axum::http::StatusCode;
use bytes::Bytes;
use mulkko::finding;
use mulkko::jws;
use mulkko::policy::{Clusters, MAX_BYTES, Places, parse_thoroughly};
use serde_json::Value;

use super::problem::{Finding, Problem};
use super::store::{Change, MOST_RECORD_BYTES};
use crate::command::findings::Told;

/// The most findings that are told.
const MOST_FINDINGS: usize = 100;

/// A document that plugins would take.
#[derive(Debug)]
pub struct Candidate {
    /// As it came.
    pub document: Bytes,
    /// The policy in it.
    pub policy: Bytes,
    pub revision: u64,
    /// The key that signed it, as it says itself.
    pub signed_by: Option<String>,
}

impl Candidate {
    /// Reads a document that is pushed as the policy `name`.
    ///
    /// # Errors
    /// 413 for one that no plugin reads, 422 with all findings for one that it would refuse.
    pub fn read(name: &str, document: Bytes) -> Result<Candidate, Problem> {
        if document.len() > MAX_BYTES {
            let detail = format!("expected at most {MAX_BYTES} bytes, found {}", document.len());
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        let (signed_by, policy) = opened(&document).map_err(|found| refused(&document, &[found]))?;
        let compiled =
            parse_thoroughly(&policy, &Clusters::default()).map_err(|found| refused(&policy, &found))?;
        let its_name = compiled.name.as_deref();
        if its_name.is_some_and(|it| it != name) || (signed_by.is_some() && its_name.is_none()) {
            let found = its_name.unwrap_or_default();
            return Err(refused(&policy, &[at("name", name, found)]));
        }
        Ok(Candidate { document, policy, revision: compiled.revision, signed_by })
    }

    /// Refuses a revision that is not above that of the newest version: plugins would not take it, or not all.
    ///
    /// # Errors
    /// 422.
    pub fn follows(&self, newest: u64) -> Result<(), Problem> {
        if self.revision > newest {
            return Ok(());
        }
        let expected = format!("more than {newest}, the newest version's");
        Err(refused(&self.policy, &[at("revision", &expected, &self.revision.to_string())]))
    }

    /// What it changes in the version before.
    pub fn change(&self, before: Option<&Bytes>) -> Change {
        let Some((_, before)) = before.and_then(|document| opened(document).ok()) else {
            return Change::default();
        };
        let read = |text: &Bytes| serde_json::from_slice::<Value>(text).unwrap_or_default();
        let patch = json_patch::diff(&read(&before), &read(&self.policy));
        let (places, patch) = (patch.0.len(), serde_json::to_value(patch).ok());
        // Room is left for the rest of the record.
        let fits = |patch: &Value| patch.to_string().len() <= MOST_RECORD_BYTES / 2;
        Change { places, patch: patch.filter(fits) }
    }
}

/// The key and the policy of a document, signed or not.
fn opened(document: &Bytes) -> Result<(Option<String>, Bytes), finding::Finding> {
    if !jws::is_token(document) {
        return Ok((None, document.clone()));
    }
    let (kid, policy) = jws::unverified(document)?;
    Ok((Some(kid.into()), policy.into()))
}

fn at(place: &str, expected: &str, found: &str) -> finding::Finding {
    let problem = finding::Problem::expected(expected.to_owned(), found);
    finding::Finding { place: place.to_owned(), problem }
}

fn refused(policy: &[u8], found: &[finding::Finding]) -> Problem {
    let mut places = Places::of(policy);
    let told = found.iter().take(MOST_FINDINGS).map(|finding| {
        let Told { code, place, message, line, column, .. } = Told::refusal(&mut places, finding);
        Finding { code: code.to_owned(), place, message, line, column }
    });
    let first = found.first().map(ToString::to_string).unwrap_or_default();
    Problem::refused(format!("the policy is refused: {first}"), told.collect())
}
