//! `mulkko push`: a policy to the server, and from there to all proxies.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use mulkko::jws;
use serde::Serialize;

use super::Outcome;
use super::arrival::{Arrival, Wait};
use super::document::{Document, taken};
use super::output::{ERROR, GOOD, Output, STRONG, WARNING, painted};
use super::remote::{Answer, Connection, Remote, Replaces};
use super::serve::{Problem, VersionItem};
use super::signing::KeyEnv;
use super::verified::Believed;

/// Push a policy to the server, signed if there is a key.
///
/// What a plugin would refuse is not pushed, nor is a `revision` that is not above the newest version's, nor a JWS that
/// none of the keys of `--verify` or `--plugin` has signed. With `--wait` it shows the proxies arriving.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mulkko push policies/shop.json --server https://config.example.com --wait
  mulkko sign policies/shop.json | mulkko push - --server https://config.example.com

It takes a token from MULKKO_TOKEN, and signs with the key in MULKKO_SIGNING_KEY where that is set.")]
pub struct Push {
    /// The policy, or a JWS of it; `-` reads it from standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// What the policy is called, where it does not say so itself
    #[arg(long)]
    name: Option<String>,

    /// Only if this is the ETag of the newest version
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,

    #[command(flatten)]
    believed: Believed,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    key: KeyEnv,

    #[command(flatten)]
    wait: Wait,
}

/// What is told of a push.
#[derive(Serialize)]
pub struct Told {
    policy: String,
    #[serde(flatten)]
    version: VersionItem,
    /// Whether it is a new version.
    new: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    arrival: Option<Arrival>,
}

impl Push {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        let document = Document::read(&self.file)?;
        let verifier = self.believed.verifier(None)?;
        let is_signed = jws::is_token(&document.text);
        let text = match is_signed {
            true if verifier.has_keys() => {
                verifier.open(&document.text).with_context(|| document.name.clone())?.1
            }
            true => jws::unverified(&document.text).map_err(|finding| anyhow::anyhow!("{finding}"))?.1,
            false => document.text.clone(),
        };
        let policy = taken(&Document { name: document.name.clone(), text }, &verifier.configuration)?;
        let name = match (policy.name.as_deref(), self.name.as_deref()) {
            (Some(its), Some(asked)) if its != asked => {
                bail!("{}: its name is {its}, not {asked}", document.name)
            }
            (Some(name), _) | (None, Some(name)) => name.to_owned(),
            (None, None) => bail!("{}: it has no `name`; `--name` gives it one", document.name),
        };
        let text = match self.key.key()? {
            Some(key) if !is_signed => {
                ensure!(policy.name.is_some(), "{}: a signed policy must have a `name`", document.name);
                key.sign(&document.text).into_bytes()
            }
            _ => document.text,
        };
        self.remote.run(async |connection| {
            let replaces = match &self.if_match {
                Some(etag) => Replaces::Version(etag.clone()),
                None => match connection.newest(&name).await? {
                    Some(newest) => Replaces::Version(newest.etag),
                    None => Replaces::Nothing,
                },
            };
            let answer = connection.push(&name, text, &replaces).await?;
            tell(connection, &name, answer, &self.wait, output).await
        })
    }
}

/// Tells what has become of a push, and of the proxies that are waited for.
pub async fn tell(
    connection: &Connection,
    name: &str,
    answer: Answer,
    wait: &Wait,
    output: &Output,
) -> Result<Outcome> {
    let (version, new) = match answer {
        Answer::Stored(version) => (version, true),
        Answer::Unchanged(version) => (version, false),
        Answer::Changed => bail!("{name} has changed meanwhile: look at it, and push again"),
        Answer::Refused(problem) => return refused(name, &problem, output),
    };
    if !output.is_json() {
        let revision = painted(STRONG, format!("revision {}", version.revision));
        let (signed, done) =
            (signature(&version), if new { painted(GOOD, "pushed") } else { "is there already".to_owned() });
        anstream::println!("{name}: {revision} {done}, version {}{signed}", version.version);
        for warning in &version.warnings {
            anstream::eprintln!("{}: {warning}", painted(WARNING, "warning"));
        }
    }
    let arrival = match wait.is_wanted() {
        true => Some(wait.arrival(connection, name, version.revision).await?),
        false => None,
    };
    let outcome = match &arrival {
        Some(arrival) if !arrival.is_whole() => Outcome::Findings,
        _ => Outcome::Good,
    };
    let text = arrival.as_ref().map(Arrival::told).unwrap_or_default();
    output.tell(&Told { policy: name.to_owned(), version, new, arrival }, || text)?;
    Ok(outcome)
}

/// What is known of a version's signature: nothing is signed by a key that the server has not verified it with.
fn signature(version: &VersionItem) -> String {
    match (&version.signed_by, &version.claimed_by) {
        (Some(key), _) => format!(", signed by {key}"),
        (None, Some(key)) => format!(", its signature ({key}) not verified by the server"),
        (None, None) => String::new(),
    }
}

fn refused(name: &str, problem: &Problem, output: &Output) -> Result<Outcome> {
    output.tell(problem, || {
        let findings = problem.findings.iter().map(|it| format!("  {}: {}\n", it.place, it.message));
        format!("{name}: {}: {}\n{}", painted(ERROR, "refused"), problem.detail, findings.collect::<String>())
    })?;
    Ok(Outcome::Findings)
}
