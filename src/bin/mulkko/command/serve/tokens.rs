//! Who may do what: a file of tokens, of which it holds nothing but the hashes, and of clients' certificates.

use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use clap::ValueEnum;
use mulkko::finding::{Finding, Problem as Wrong};
use mulkko::moment::Instant;
use mulkko::policy::matches_glob;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::asker::Asker;
use super::problem::Problem;
use crate::command::moments::now_ms;

/// The most bytes that the file may have.
const MOST_BYTES: usize = 4 << 20;
/// The most bytes of a name: it stands in every record.
const MOST_NAME_BYTES: usize = 256;

/// What an entry allows.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Read policies and proxies; a proxy with it is believed.
    Read,
    /// Report what a proxy has seen.
    Report,
    /// Take traffic back: pause and abort.
    Back,
    /// Say how far rollouts have come.
    Progress,
    /// Pass over what holds progress back.
    Force,
    /// Push policies.
    Push,
}

/// What an entry allows that does not say it.
const UNSAID: [Right; 2] = [Right::Read, Right::Push];

/// A token or a certificate, as the file has it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Whose it is: what the audit says.
    pub name: String,
    /// SHA-256 of the token, in hex.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// A pattern of the names in a client's certificate.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The policies that it is good for; `*` stands for any text.
    pub policies: Vec<String>,
    /// The proxies that are believed with it, as patterns of their node names.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<String>>,
    /// What it allows; `read` and `push` where absent.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub may: Option<Vec<Right>>,
    /// From when on it allows nothing any more.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// Where an optional member stands, it must be a `T`.
fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// An entry whose members are what they should be.
#[derive(Debug)]
pub struct Holder {
    entry: Entry,
    expires_ms: Option<i64>,
}

impl Holder {
    fn compile(entry: Entry) -> Result<Holder, Finding> {
        let wrong = |place: &str, expected: &'static str, found: &str| Finding {
            place: place.to_owned(),
            problem: Wrong::expected(expected, found),
        };
        let Entry { name, sha256, subject, expires, .. } = &entry;
        if !(1..=MOST_NAME_BYTES).contains(&name.len()) || name.contains(char::is_control) {
            return Err(wrong("name", "1 to 256 bytes without control characters", name));
        }
        match (sha256, subject) {
            (Some(hash), None) if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {}
            (Some(_), None) => return Err(wrong("sha256", "64 hexadecimal digits", "another text")),
            (None, Some(subject)) if !subject.is_empty() => {}
            (None, Some(_)) => return Err(wrong("subject", "a name, or a pattern of names", "")),
            (Some(_), Some(_)) => return Err(wrong("", "`sha256` or `subject`", "both")),
            (None, None) => return Err(wrong("", "`sha256` or `subject`", "neither")),
        }
        let expires_ms = match expires.as_deref().map(Instant::parse) {
            None => None,
            Some(Ok(at)) => Some(at.unix_ms()),
            Some(Err(problem)) => return Err(Finding { place: "expires".to_owned(), problem }),
        };
        Ok(Holder { entry, expires_ms })
    }

    /// Whether it is what a request shows. Hashes are compared in constant time.
    fn is_shown(&self, asker: &Asker) -> bool {
        let Entry { sha256, subject, .. } = &self.entry;
        let by_token = sha256
            .as_ref()
            .zip(asker.token.as_ref())
            .is_some_and(|(own, shown)| own.to_ascii_lowercase().as_bytes().ct_eq(shown.as_bytes()).into());
        let fits = |pattern: &String| asker.names.iter().any(|name| matches_glob(pattern, name));
        by_token || subject.as_ref().is_some_and(fits)
    }

    fn has_expired(&self) -> bool {
        self.expires_ms.is_some_and(|at_ms| now_ms() >= at_ms)
    }

    fn may(&self, right: Right) -> bool {
        self.entry.may.as_deref().unwrap_or(&UNSAID).contains(&right)
    }

    fn concerns(&self, policy: &str) -> bool {
        self.entry.policies.iter().any(|pattern| matches_glob(pattern, policy))
    }

    /// Whether the proxy `node` is believed with it. A certificate speaks for the proxy that it names.
    fn speaks_for(&self, node: &str, asker: &Asker) -> bool {
        match &self.entry.nodes {
            Some(patterns) => patterns.iter().any(|pattern| matches_glob(pattern, node)),
            None if self.entry.sha256.is_some() => true,
            None => asker.names.iter().any(|name| name == node),
        }
    }

    /// What it lacks to do something with a policy.
    fn lacks(&self, right: Right, policy: &str) -> String {
        let (what, name) =
            (if self.entry.sha256.is_some() { "token" } else { "certificate" }, &self.entry.name);
        match right {
            _ if self.has_expired() => format!("the {what} of {name} has expired"),
            _ if !self.concerns(policy) => {
                format!("the {what} of {name} is not good for the policy {policy}")
            }
            right => {
                let right = right.to_possible_value();
                format!("the {what} of {name} may not {}", right.as_ref().map_or("", |it| it.get_name()))
            }
        }
    }
}

/// The file of tokens, read anew for each request: who is taken out of it is out at once.
#[derive(Debug)]
pub struct Tokens {
    file: Option<PathBuf>,
    /// Whether everybody may read.
    anonymous: bool,
    /// What the file had when it was last read, and what that means.
    last: Mutex<(Vec<u8>, Arc<[Holder]>)>,
}

/// Who reads, and what it may be believed.
#[derive(Debug)]
pub enum Reader {
    /// No token that may read this policy is known: everybody is believed.
    Anybody,
    /// One who has shown what it may read with.
    Known(Box<[usize]>, Arc<[Holder]>),
    /// One who has not, where others have: served, and not believed.
    Stranger,
}

impl Reader {
    /// Whether it has shown what it may read with.
    pub fn is_known(&self) -> bool {
        matches!(self, Reader::Known(..))
    }

    /// Whether it is believed to be the proxy `node`.
    pub fn is_believed(&self, node: &str, asker: &Asker) -> bool {
        match self {
            Reader::Anybody => true,
            Reader::Known(which, holders) => {
                which.iter().filter_map(|i| holders.get(*i)).any(|holder| holder.speaks_for(node, asker))
            }
            Reader::Stranger => false,
        }
    }
}

impl Tokens {
    /// The tokens of a file; without one nobody may push. With `anonymous` everybody may read.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn open(file: Option<PathBuf>, anonymous: bool) -> Result<Tokens> {
        let tokens = Tokens { file, anonymous, last: Mutex::new((Vec::new(), Arc::new([]))) };
        tokens.holders().map(|_| tokens)
    }

    /// Who pushes a policy, or looks at who has.
    ///
    /// # Errors
    /// 401 without a known token or certificate, 403 for one that does not allow it, 503 when the file cannot be read.
    pub fn pusher(&self, asker: &Asker, policy: &str) -> Result<String, Problem> {
        let holders = self.holders().map_err(|error| Problem::unavailable(&error))?;
        let found = shown(&holders, asker);
        match found.iter().find(|holder| allows(holder, Right::Push, policy)) {
            Some(holder) => Ok(holder.entry.name.clone()),
            None => Err(match found.iter().find(|holder| !holder.has_expired()).or(found.first()) {
                None => Problem::unauthorized(None),
                Some(holder) if holder.has_expired() => {
                    Problem::unauthorized(Some(holder.lacks(Right::Push, policy)))
                }
                Some(holder) => Problem::forbidden(holder.lacks(Right::Push, policy)),
            }),
        }
    }

    /// Who reads a policy.
    ///
    /// # Errors
    /// Where not everybody may: 401 without a token or a certificate that allows it, 503 when the file cannot be read.
    pub fn reader(&self, asker: &Asker, policy: &str) -> Result<Reader, Problem> {
        let holders = match self.holders() {
            Ok(holders) => holders,
            Err(error) if self.anonymous => {
                tracing::error!(error = format!("{error:#}"), "who reads is not believed");
                return Ok(Reader::Stranger);
            }
            Err(error) => return Err(Problem::unavailable(&error)),
        };
        let named = |holder: &Holder| holder.may(Right::Read) && holder.concerns(policy);
        let which = |(i, holder): (usize, &Holder)| {
            (holder.is_shown(asker) && allows(holder, Right::Read, policy)).then_some(i)
        };
        let found: Box<[usize]> = holders.iter().enumerate().filter_map(which).collect();
        if !found.is_empty() {
            return Ok(Reader::Known(found, holders));
        }
        match self.anonymous {
            true if !holders.iter().any(named) => Ok(Reader::Anybody),
            true => Ok(Reader::Stranger),
            false => {
                let lacks = shown(&holders, asker).first().map(|holder| holder.lacks(Right::Read, policy));
                Err(Problem::unauthorized(lacks))
            }
        }
    }

    /// Which of some policies who asks may read.
    ///
    /// # Errors
    /// Where not everybody may: 401 without a token or a certificate that allows reading anything, 503 when the file cannot
    /// be read.
    pub fn readable<'p>(
        &self,
        asker: &Asker,
        policies: impl IntoIterator<Item = &'p str>,
    ) -> Result<Vec<&'p str>, Problem> {
        if self.anonymous {
            return Ok(policies.into_iter().collect());
        }
        let holders = self.holders().map_err(|error| Problem::unavailable(&error))?;
        let readers: Vec<_> = shown(&holders, asker)
            .into_iter()
            .filter(|it| it.may(Right::Read) && !it.has_expired())
            .collect();
        match readers.is_empty() {
            true => Err(Problem::unauthorized(None)),
            false => {
                let may = |policy: &&str| readers.iter().any(|holder| holder.concerns(policy));
                Ok(policies.into_iter().filter(may).collect())
            }
        }
    }

    fn holders(&self) -> Result<Arc<[Holder]>> {
        let Some(file) = &self.file else { return Ok(Arc::new([])) };
        let text = std::fs::read(file).with_context(|| file.display().to_string())?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != text {
            let holders = compile(&text, file)?;
            *last = (text, holders);
        }
        Ok(Arc::clone(&last.1))
    }
}

/// Those that a request shows.
fn shown<'h>(holders: &'h [Holder], asker: &Asker) -> Vec<&'h Holder> {
    holders.iter().filter(|holder| holder.is_shown(asker)).collect()
}

fn allows(holder: &Holder, right: Right, policy: &str) -> bool {
    !holder.has_expired() && holder.may(right) && holder.concerns(policy)
}

fn compile(text: &[u8], file: &FilePath) -> Result<Arc<[Holder]>> {
    let file = file.display();
    ensure!(text.len() <= MOST_BYTES, "{file}: expected at most {MOST_BYTES} bytes, found {}", text.len());
    let entries: Vec<Entry> = serde_json::from_slice(text).with_context(|| file.to_string())?;
    let holders = entries.into_iter().enumerate().map(|(i, entry)| {
        Holder::compile(entry).map_err(|mut finding| {
            let member = if finding.place.is_empty() { "" } else { "." };
            finding.place = format!("[{i}]{member}{}", finding.place);
            anyhow!("{file}: {finding}")
        })
    });
    holders.collect()
}

/// What the file has of a token.
pub fn hash(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

    fn refusal(entries: &str) -> String {
        format!("{:#}", compile(entries.as_bytes(), FilePath::new("tokens.json")).unwrap_err())
    }

    #[test]
    fn refusals_name_the_place_and_the_problem() {
        for (entries, expected) in [
            (
                r#"[{"name": "a", "policies": []}]"#,
                "tokens.json: [0]: expected `sha256` or `subject`, found neither",
            ),
            (
                r#"[{"name": "a", "sha256": "x", "policies": []}]"#,
                "tokens.json: [0].sha256: expected 64 hexadecimal digits, found another text",
            ),
            (
                r#"[{"name": "", "subject": "x", "policies": []}]"#,
                "tokens.json: [0].name: expected 1 to 256 bytes without control characters, found nothing",
            ),
            (
                r#"[{"name": "a", "subject": "x", "policies": [], "expires": "soon"}]"#,
                "tokens.json: [0].expires: expected an instant such as 2026-12-01T09:00:00Z, found soon",
            ),
        ] {
            assert_eq!(refusal(entries), expected, "{entries}");
        }
        for entries in [
            r#"[{"name": "a", "subject": "x", "policies": [], "rollouts": []}]"#,
            r#"[{"name": "a", "subject": "x", "policies": [], "may": ["write"]}]"#,
            r#"[{"name": "a", "subject": "x", "policies": [], "may": null}]"#,
            r#"[{"name": "a", "subject": "x"}]"#,
            "{}",
        ] {
            assert!(compile(entries.as_bytes(), FilePath::new("tokens.json")).is_err(), "{entries}");
        }
    }

    #[test]
    fn an_entry_allows_what_it_says_until_it_expires() {
        let entry = |members: &str| {
            let text = format!(r#"[{{"name": "a", "sha256": "{HASH}", "policies": ["shop*"]{members}}}]"#);
            compile(text.as_bytes(), FilePath::new("tokens.json")).unwrap()
        };
        for (members, read, push) in [
            ("", true, true),
            (r#", "may": ["read"]"#, true, false),
            (r#", "may": ["report", "back", "progress", "force", "push"]"#, false, true),
            (r#", "may": []"#, false, false),
            (r#", "expires": "2000-01-01T00:00:00Z""#, false, false),
            (r#", "expires": "2900-01-01T00:00:00Z""#, true, true),
        ] {
            let holders = entry(members);
            let allowed = |right| allows(&holders[0], right, "shop");
            assert_eq!((allowed(Right::Read), allowed(Right::Push)), (read, push), "{members}");
            assert!(!allows(&holders[0], Right::Read, "cart"));
        }
    }
}
