//! Edits of the newest version, for when there is no time: `mulkko rollback`, `pause` and `promote`.

use anyhow::{Context, Result, bail};
use clap::Args;
use mulkko::command::edit::{Canary, Draft, next};
use mulkko::policy::Policy;
use serde_json::json;

use super::Outcome;
use super::arrival::Wait;
use super::changes::{Ask, shown};
use super::moments::now_ms;
use super::output::Output;
use super::push::tell;
use super::remote::{Answer, Connection, Remote, Replaces};
use super::signing::KeyEnv;
use super::verified::{Believed, Verified, Verifier};

/// How often an edit is made anew that another push has overtaken.
const MOST_TRIES: usize = 5;

/// What all edits need.
#[derive(Args, Clone, Debug)]
pub struct Edit {
    /// The policy
    #[arg(value_name = "POLICY")]
    policy: String,

    /// Print the edited policy, and push nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    key: KeyEnv,

    #[command(flatten)]
    believed: Believed,

    #[command(flatten)]
    ask: Ask,

    #[command(flatten)]
    wait: Wait,
}

/// Bring an older version of a policy back, as the newest.
///
/// Its content is pushed under a higher revision: proxies take no older one.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  mulkko rollback shop --to 117 --server https://config.example.com --wait"
)]
pub struct Rollback {
    /// The revision that comes back; by default the one before the newest
    #[arg(long, value_name = "REVISION")]
    to: Option<u64>,

    #[command(flatten)]
    edit: Edit,
}

/// Keep a canary at the percentage that it has now.
///
/// Its steps give way to a fixed percentage. `mulkko promote` goes on, and `mulkko rollback` brings the steps back.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  mulkko pause shop --rollout checkout-v2 --server https://config.example.com"
)]
pub struct Pause {
    /// The rollout
    #[arg(long, value_name = "NAME")]
    rollout: String,

    #[command(flatten)]
    edit: Edit,
}

/// Give a canary to everybody, or to a fixed percentage.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  mulkko promote shop --rollout checkout-v2 --percent 50 --server https://config.example.com")]
pub struct Promote {
    /// The rollout
    #[arg(long, value_name = "NAME")]
    rollout: String,

    /// Of 100, with up to four decimals
    #[arg(long, default_value = "100")]
    percent: serde_json::Number,

    #[command(flatten)]
    edit: Edit,
}

impl Rollback {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        let name = &self.edit.policy;
        self.edit.run(output, async |connection, verifier, newest| {
            let revision = newest.policy.revision;
            let to = match self.to {
                Some(to) => to,
                None => {
                    let versions = connection.versions(name, 2).await?;
                    versions
                        .get(1)
                        .with_context(|| format!("{name} has no version before {revision}"))?
                        .revision
                }
            };
            let older = connection.version(name, to).await?;
            let older = older.with_context(|| format!("{name} has no version of revision {to}"))?;
            let older = verifier.policy(name, Some(to), &older.document)?;
            Ok(Some(Draft { text: older.text, revision: next(revision)? }))
        })
    }
}

impl Pause {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        self.edit.run(output, async |_, _, newest| {
            let canary = Canary::of(&newest.text, &newest.policy, &self.rollout)?;
            if canary.is_fixed() {
                return Ok(None);
            }
            canary.fixed_at(&canary.percent(now_ms())).map(Some)
        })
    }
}

impl Promote {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        self.edit.run(output, async |_, _, newest| {
            Canary::of(&newest.text, &newest.policy, &self.rollout)?
                .fixed_at(&self.percent.to_string())
                .map(Some)
        })
    }
}

impl Edit {
    /// Edits the newest version and pushes it; anew where somebody else was faster.
    fn run(
        &self,
        output: &Output,
        edit: impl AsyncFn(&Connection, &Verifier, &Verified) -> Result<Option<Draft>>,
    ) -> Result<Outcome> {
        let name = &self.policy;
        let key = self.key.key()?;
        let verifier = self.believed.verifier(key.as_ref())?;
        self.remote.run(async |connection| {
            for _ in 0..MOST_TRIES {
                let fetched =
                    connection.newest(name).await?.with_context(|| format!("there is no policy {name}"))?;
                let newest = verifier.policy(name, None, &fetched.document)?;
                let Some(draft) = edit(connection, &verifier, &newest).await? else {
                    output.tell(&json!({ "policy": name, "new": false }), || {
                        format!("{name}: nothing to change\n")
                    })?;
                    return Ok(Outcome::Good);
                };
                let text = draft.with_revision()?;
                if let Err(found) = Policy::parse(text.as_bytes(), &verifier.configuration.clusters) {
                    bail!(
                        "the edited policy is refused: {}",
                        found.first().map(ToString::to_string).unwrap_or_default()
                    );
                }
                if self.dry_run {
                    output.tell(&json!({ "policy": text }), || text.clone())?;
                    return Ok(Outcome::Good);
                }
                if key.is_none() && newest.kid.is_some() {
                    bail!("{name} is signed, and there is no key to sign it with");
                }
                let act = if key.is_some() { "Sign and push this?" } else { "Push this?" };
                self.ask.about(&newest.changed(name, &text, draft.revision), act)?;
                let document = key.as_ref().map_or_else(|| text.clone(), |key| key.sign(text.as_bytes()));
                let replaces = Replaces::Version(fetched.etag.clone());
                match connection.push(name, document.into_bytes(), &replaces).await? {
                    Answer::Changed => {}
                    answer => return tell(connection, name, answer, &self.wait, output).await,
                }
            }
            bail!("{name} changes faster than it can be edited")
        })
    }
}

impl Verified {
    /// What an edit of it changes.
    fn changed(&self, name: &str, text: &str, revision: u64) -> String {
        let signed = self.kid.as_ref().map(|kid| format!(", signed by {kid}")).unwrap_or_default();
        let before = format!("{name}, revision {}{signed}", self.policy.revision);
        shown((&before, &self.text), (&format!("{name}, revision {revision}"), text))
    }
}
