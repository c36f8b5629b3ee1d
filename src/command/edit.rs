//! Edits of a policy's text: where it must be, and nowhere else. The order of variants, for one, says who has which.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::policy::{MAX_REVISION, Policy, Rollout, locate};

/// A policy in the making.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its text, which may say another revision yet.
    pub text: String,
    /// Its revision, above the newest version's.
    pub revision: u64,
}

/// The revision after another.
///
/// # Errors
/// When there is none.
pub fn next(revision: u64) -> Result<u64> {
    let next = revision.checked_add(1).filter(|next| *next <= MAX_REVISION);
    next.with_context(|| format!("revision {revision} is the last that there is"))
}

impl Draft {
    /// The text, saying its revision.
    ///
    /// # Errors
    /// When it is no text of a policy.
    pub fn with_revision(&self) -> Result<String> {
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
pub struct Canary<'t> {
    text: &'t str,
    policy: &'t Policy,
    rollout: usize,
    strategy: Value,
}

impl<'t> Canary<'t> {
    /// The canary of that name in the text of a policy.
    ///
    /// # Errors
    /// When there is no such rollout, or it is no canary.
    pub fn of(text: &'t str, policy: &'t Policy, name: &str) -> Result<Canary<'t>> {
        let rollout = policy.rollouts.iter().position(|rollout| *rollout.name == *name);
        let rollout = rollout.with_context(|| format!("there is no rollout {name}"))?;
        let whole: Value = serde_json::from_str(text)?;
        let strategy = whole.pointer(&format!("/rollouts/{rollout}/strategy/canary")).cloned();
        let strategy =
            strategy.with_context(|| format!("{name} is no canary: only those have a percentage"))?;
        Ok(Canary { text, policy, rollout, strategy })
    }

    /// Whether it has a fixed percentage already.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.strategy.get("percent").is_some()
    }

    /// The percentage that it has at an instant (unix milliseconds).
    #[must_use]
    pub fn percent(&self, at_ms: i64) -> String {
        let variant = self.strategy.get("variant").and_then(Value::as_str).unwrap_or_default();
        let shares = self.policy.rollouts.get(self.rollout).map(|rollout: &Rollout| rollout.shares(at_ms));
        let share =
            shares.into_iter().flatten().find(|(name, _)| *name == variant).map_or(0, |(_, share)| share);
        let text = format!("{}.{:04}", share / 10_000, share % 10_000);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }

    /// The policy with a fixed percentage.
    ///
    /// # Errors
    /// When there is no revision left for it.
    pub fn fixed_at(&self, percent: &str) -> Result<Draft> {
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
    use super::*;
    use crate::policy::Clusters;

    /// 2026-11-23T00:00:00Z.
    const NOW_MS: i64 = 1_795_392_000_000;

    const POLICY: &str = r#"{ "name": "shop", "rollouts": [
  { "name": "a", "key": "request", "default": "z", "variants": { "z": {}, "b": {} }, "strategy": { "canary": {
      "variant": "b", "start": "2026-01-01T00:00:00Z", "steps": [{ "percent": 33.3333 }] } } },
  { "name": "d", "default": "z", "variants": { "z": {}, "b": {} }, "strategy": { "dark": { "variant": "b" } } }
] }"#;

    #[test]
    fn a_canary_is_fixed_at_its_percentage_and_nothing_else_changes() {
        let policy = parsed(POLICY);
        let canary = Canary::of(POLICY, &policy, "a").unwrap();
        assert!(!canary.is_fixed());
        assert_eq!(canary.percent(NOW_MS), "33.3333");
        let text = canary.fixed_at(&canary.percent(NOW_MS)).unwrap().with_revision().unwrap();
        let (before, after) = POLICY.split_once("{\n      \"variant\"").unwrap();
        let (_, after) = after.split_once("}] }").unwrap();
        let expected = format!("{before}{{ \"variant\": \"b\", \"percent\": 33.3333 }}{after}");
        assert_eq!(text, expected.replacen('{', "{\n  \"revision\": 1,", 1));
        assert!(Canary::of(&text, &parsed(&text), "a").unwrap().is_fixed());
    }

    #[test]
    fn what_is_no_canary_is_not_edited() {
        for (name, refusal) in
            [("d", "d is no canary: only those have a percentage"), ("x", "there is no rollout x")]
        {
            assert_eq!(Canary::of(POLICY, &parsed(POLICY), name).err().unwrap().to_string(), refusal);
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
            assert_eq!(parsed(expected).revision, 7);
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

    fn parsed(text: &str) -> Policy {
        Policy::parse(text.as_bytes(), &Clusters::default()).unwrap()
    }
}
