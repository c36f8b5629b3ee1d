//! Edits of the newest version, for when there is no time: `mulkko rollback`, `pause` and `promote`.
//!
//! The text is edited where it must be and nowhere else: the order of variants, for one, says who has which.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use mulkko::policy::{MAX_REVISION, Policy, Rollout, locate};
use serde_json::{Value, json};

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

/// A policy in the making.
struct Draft {
    text: String,
    /// Its revision, above the newest version's.
    revision: u64,
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
            let canary = Canary::of(newest, &self.rollout)?;
            if canary.is_fixed() {
                return Ok(None);
            }
            canary.fixed_at(&canary.percent()).map(Some)
        })
    }
}

impl Promote {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        self.edit.run(output, async |_, _, newest| {
            Canary::of(newest, &self.rollout)?.fixed_at(&self.percent.to_string()).map(Some)
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

/// The revision after another.
fn next(revision: u64) -> Result<u64> {
    let next = revision.checked_add(1).filter(|next| *next <= MAX_REVISION);
    next.with_context(|| format!("revision {revision} is the last that there is"))
}

impl Verified {
    /// What an edit of it changes.
    fn changed(&self, name: &str, text: &str, revision: u64) -> String {
        let signed = self.kid.as_ref().map(|kid| format!(", signed by {kid}")).unwrap_or_default();
        let before = format!("{name}, revision {}{signed}", self.policy.revision);
        shown((&before, &self.text), (&format!("{name}, revision {revision}"), text))
    }
}

impl Draft {
    /// The text, saying its revision.
    fn with_revision(&self) -> Result<String> {
        let located = locate(self.text.as_bytes(), "revision");
        if located.rest.is_empty() {
            return replaced(&self.text, located.value, &self.revision.to_string());
        }
        // `{`, and no comma where nothing follows.
        let after = located.value.start + 1;
        let rest = self.text.get(after..).unwrap_or_default();
        let comma = if rest.trim_ascii_start().starts_with('}') { "" } else { "," };
        replaced(&self.text, after..after, &format!("\n  \"revision\": {}{comma}", self.revision))
    }
}

/// A canary of a policy, and its place in the text.
struct Canary<'t> {
    text: &'t str,
    policy: &'t Policy,
    rollout: usize,
    strategy: Value,
}

impl<'t> Canary<'t> {
    fn of(Verified { text, policy, .. }: &'t Verified, name: &str) -> Result<Canary<'t>> {
        let rollout = policy.rollouts.iter().position(|rollout| *rollout.name == *name);
        let rollout = rollout.with_context(|| format!("there is no rollout {name}"))?;
        let whole: Value = serde_json::from_str(text)?;
        let strategy = whole.pointer(&format!("/rollouts/{rollout}/strategy/canary")).cloned();
        let strategy =
            strategy.with_context(|| format!("{name} is no canary: only those have a percentage"))?;
        Ok(Canary { text, policy, rollout, strategy })
    }

    fn is_fixed(&self) -> bool {
        self.strategy.get("percent").is_some()
    }

    /// The percentage that it has now.
    fn percent(&self) -> String {
        let variant = self.strategy.get("variant").and_then(Value::as_str).unwrap_or_default();
        let shares = self.policy.rollouts.get(self.rollout).map(|rollout: &Rollout| rollout.shares(now_ms()));
        let share =
            shares.into_iter().flatten().find(|(name, _)| *name == variant).map_or(0, |(_, share)| share);
        let text = format!("{}.{:04}", share / 10_000, share % 10_000);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }

    /// The policy with a fixed percentage.
    fn fixed_at(&self, percent: &str) -> Result<Draft> {
        let place = format!("rollouts[{}].strategy.canary", self.rollout);
        let located = locate(self.text.as_bytes(), &place);
        ensure!(located.rest.is_empty(), "{place} is not where it should be");
        let variant = self.strategy.get("variant").cloned().unwrap_or_default();
        let canary = format!("{{ \"variant\": {variant}, \"percent\": {percent} }}");
        let text = replaced(self.text, located.value, &canary)?;
        Ok(Draft { text, revision: next(self.policy.revision)? })
    }
}

/// The text with something else at `at`.
fn replaced(text: &str, at: Range<usize>, with: &str) -> Result<String> {
    let (Some(before), Some(after)) = (text.get(..at.start), text.get(at.end..)) else {
        bail!("no place to edit");
    };
    Ok([before, with, after].concat())
}

#[cfg(test)]
mod tests {
    use mulkko::policy::Clusters;

    use super::*;

    const POLICY: &str = r#"{ "name": "shop", "rollouts": [
  { "name": "a", "key": "request", "default": "z", "variants": { "z": {}, "b": {} }, "strategy": { "canary": {
      "variant": "b", "start": "2026-01-01T00:00:00Z", "steps": [{ "percent": 33.3333 }] } } },
  { "name": "d", "default": "z", "variants": { "z": {}, "b": {} }, "strategy": { "dark": { "variant": "b" } } }
] }"#;

    #[test]
    fn a_canary_is_fixed_at_its_percentage_and_nothing_else_changes() {
        let verified = verified(POLICY);
        let canary = Canary::of(&verified, "a").unwrap();
        assert!(!canary.is_fixed());
        assert_eq!(canary.percent(), "33.3333");
        let text = canary.fixed_at(&canary.percent()).unwrap().with_revision().unwrap();
        let (before, after) = POLICY.split_once("{\n      \"variant\"").unwrap();
        let (_, after) = after.split_once("}] }").unwrap();
        let expected = format!("{before}{{ \"variant\": \"b\", \"percent\": 33.3333 }}{after}");
        assert_eq!(text, expected.replacen('{', "{\n  \"revision\": 1,", 1));
        assert!(Canary::of(&self::verified(&text), "a").unwrap().is_fixed());
    }

    #[test]
    fn what_is_no_canary_is_not_edited() {
        for (name, refusal) in
            [("d", "d is no canary: only those have a percentage"), ("x", "there is no rollout x")]
        {
            assert_eq!(Canary::of(&verified(POLICY), name).err().unwrap().to_string(), refusal);
        }
    }

    #[test]
    fn a_revision_is_replaced_where_it_stands() {
        for (text, expected) in [
            (r#"{"revision": 1, "name": "a"}"#, r#"{"revision": 7, "name": "a"}"#),
            (r#"{ "name": "a" }"#, "{\n  \"revision\": 7, \"name\": \"a\" }"),
            ("{}", "{\n  \"revision\": 7}"),
            (" { \n } ", " {\n  \"revision\": 7 \n } "),
        ] {
            let draft = Draft { text: text.to_owned(), revision: 7 };
            assert_eq!(draft.with_revision().unwrap(), expected);
            assert_eq!(verified(expected).policy.revision, 7);
        }
    }

    #[test]
    fn no_revision_follows_the_last() {
        assert_eq!(next(0).unwrap(), 1);
        for last in [MAX_REVISION, u64::MAX] {
            let refusal = format!("revision {last} is the last that there is");
            assert_eq!(next(last).unwrap_err().to_string(), refusal);
        }
    }

    fn verified(text: &str) -> Verified {
        let policy = Policy::parse(text.as_bytes(), &Clusters::default()).unwrap();
        Verified { text: text.to_owned(), policy, kid: None }
    }
}
