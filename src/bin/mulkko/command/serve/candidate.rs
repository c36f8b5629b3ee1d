//! A document that is pushed: read by the engine before it is stored, and stored as it came.

use std::rc::Rc;

use axum::http::StatusCode;
use bytes::Bytes;
use mulkko::configuration::Configuration;
use mulkko::finding;
use mulkko::jws;
use mulkko::policy::since::{self, Need};
use mulkko::policy::{MAX_BYTES, Places, Policy, parse_thoroughly};

use super::difference;
use super::problem::{Finding, Problem};
use super::store::Change;
use crate::command::findings::Told;

/// The most findings that are told.
const MOST_FINDINGS: usize = 100;

/// How far a revision may be above the newest version's: nobody shall use up all there are.
const MOST_STEP: u64 = 1_000_000;

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
    /// Whether that is so.
    pub verified: bool,
    /// What the policy needs of plugins.
    pub needs: Vec<Need>,
}

impl Candidate {
    /// Reads a document that is pushed as the policy `name`, for some plugins.
    ///
    /// # Errors
    /// 413 for one that no plugin reads, 422 with all findings for one that one of them would refuse.
    pub fn read(name: &str, document: Bytes, plugins: &[Configuration]) -> Result<Candidate, Problem> {
        if document.len() > MAX_BYTES {
            let detail = format!("expected at most {MAX_BYTES} bytes, found {}", document.len());
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        let mut verified = false;
        for keys in plugins.iter().filter_map(|plugin| plugin.verify.as_ref()) {
            jws::open(document.to_vec(), Rc::clone(keys)).map_err(|found| refused(&document, &[found]))?;
            verified = true;
        }
        let (signed_by, policy) = opened(&document).map_err(|found| refused(&document, &[found]))?;
        let any = [Configuration::default()];
        let mut compiled = Policy::default();
        for plugin in if plugins.is_empty() { &any } else { plugins } {
            compiled =
                parse_thoroughly(&policy, &plugin.clusters).map_err(|found| refused(&policy, &found))?;
            let own = plugin.verify.as_ref().map(|_| &*plugin.name);
            if let Some(own) = own.filter(|own| compiled.name.as_deref() != Some(own)) {
                return Err(refused(
                    &policy,
                    &[at("name", own, compiled.name.as_deref().unwrap_or_default())],
                ));
            }
        }
        let its_name = compiled.name.as_deref();
        if its_name.is_some_and(|it| it != name) || (signed_by.is_some() && its_name.is_none()) {
            return Err(refused(&policy, &[at("name", name, its_name.unwrap_or_default())]));
        }
        let (revision, needs) = (compiled.revision, since::needs(&policy));
        Ok(Candidate { document, policy, revision, signed_by, verified, needs })
    }

    /// Refuses a revision that is not above that of the newest version, since plugins would not take it, or not all; and one
    /// that is far above it.
    ///
    /// # Errors
    /// 422.
    pub fn follows(&self, newest: u64) -> Result<(), Problem> {
        let most = newest.saturating_add(MOST_STEP);
        let expected = match self.revision {
            revision if revision <= newest => format!("more than {newest}, the newest version's"),
            revision if revision > most => format!("at most {most}, {MOST_STEP} above the newest version's"),
            _ => return Ok(()),
        };
        Err(refused(&self.policy, &[at("revision", &expected, &self.revision.to_string())]))
    }

    /// What it changes in the version before.
    pub fn change(&self, before: Option<&Bytes>) -> Change {
        match before.and_then(|document| opened(document).ok()) {
            Some((_, before)) => difference::change(&before, &self.policy),
            None => Change::default(),
        }
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
