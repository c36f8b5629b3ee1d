//! `mulkko explain`: what a request gets, and every step on the way to it.

pub mod conditions;
pub mod expression;
mod shown;
mod steps;
mod timeline;
pub mod unmatched;

use std::cell::RefCell;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use mulkko::cases::Asked;
use mulkko::command::curl;
use mulkko::decide::{Decision, Decisions, Request, Values, decide, decide_watched};
use mulkko::dry_run::DryRun;
use mulkko::effects::{self, Edit};
use mulkko::flag::FlagId;
use mulkko::ofrep::Context;
use mulkko::policy::Policy;
use mulkko::wire;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Outcome;
use super::document::{Document, Input};
use super::moments;
use super::output::Output;
use super::request::{At, Options, Proxy, plain};
use conditions::Conditions;
use steps::{Notes, OfRollout};
use timeline::Change;
use unmatched::Unmatched;

/// Tell what a request gets, and every step on the way to it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mulkko explain policies/canary.json --host shop.example.com --path /checkout -H 'x-user-id: user-17'
  mulkko explain policies/canary.json --at 2026-12-01T09:45:00Z --curl \"curl https://shop.example.com/checkout -H 'x-user-id: user-17'\"")]
pub struct Explain {
    #[command(flatten)]
    input: Input,

    #[command(flatten)]
    request: Options,

    /// A command line of curl, as browsers copy it; the other options add to it
    #[arg(long, value_name = "COMMAND", help_heading = "The request")]
    curl: Option<String>,

    #[command(flatten)]
    at: At,

    /// Tell of this rollout only; may be given many times
    #[arg(long = "rollout", value_name = "NAME")]
    rollouts: Vec<String>,

    /// Tell of this flag too, beside those that are exported; may be given many times
    #[arg(long = "flag", value_name = "KEY")]
    flags: Vec<String>,

    /// For whom `--flag` is asked, as a client of OFREP says it: `{"targetingKey": "user-17"}`
    #[arg(long, value_name = "JSON", value_parser = context)]
    context: Option<Context>,

    #[command(flatten)]
    proxy: Proxy,
}

fn context(text: &str) -> Result<Context, String> {
    Context::read(format!("{{\"context\": {text}}}").as_bytes())
}

/// Everything that is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    revision: u64,
    at: String,
    #[serde(skip)]
    at_ms: i64,
    request: Asked,
    decisions: Vec<OfDecision>,
    /// The rollouts that do not match.
    unmatched: Vec<Unmatched>,
    flags: Vec<OfFlag>,
    /// What happens to the request's headers, in order.
    headers: Vec<OfHeader>,
    /// The filter state, by name.
    filter_state: Vec<(String, String)>,
    /// The values of `set-cookie` of the response.
    cookies: Vec<String>,
    /// The value of `x-mulkko-explain`, for who may ask for it.
    explain: String,
}

/// A decision, and how it came about.
#[derive(Debug, Serialize)]
struct OfDecision {
    rollout: String,
    variant: String,
    reason: &'static str,
    /// Where the key lies among the 2³² buckets.
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket: Option<u32>,
    /// Whether host and path match, or the decision is only handed on.
    applies: bool,
    steps: Vec<steps::Told>,
    /// The variants of this key over time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    schedule: Vec<Change>,
}

/// What a flag resolves to.
#[derive(Debug, Serialize)]
struct OfFlag {
    flag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    /// Without one the caller's own default applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    reason: &'static str,
    exported: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    targeting: Option<conditions::Told>,
}

/// A change of a header.
#[derive(Debug, Serialize)]
struct OfHeader {
    name: String,
    /// `None`: it is removed.
    value: Option<String>,
}

impl Explain {
    pub fn run(self, output: &Output) -> Result<Outcome> {
        let base = match &self.curl {
            Some(line) => curl::asked(line).context("--curl")?,
            None => plain(),
        };
        let asked = self.request.asked(base);
        let taken = self.input.taken()?;
        let document = taken.document.clone();
        let run = self.proxy.run(taken, self.at.at)?;
        for name in &self.rollouts {
            run.policy.rollout_named(name).with_context(|| format!("the policy has no rollout `{name}`"))?;
        }
        let explanation = self.explanation(&document, &run, asked)?;
        output.tell(&explanation, || shown::text(&explanation))?;
        Ok(Outcome::Good)
    }

    fn explanation(&self, document: &Document, run: &DryRun, asked: Asked) -> Result<Explanation> {
        run.asked(&asked.pairs(&[]), |request| {
            let policy = &run.policy;
            // Asked once plainly, to learn which conditions are worth telling.
            let matched = decide(policy, *request);
            let flags = self.told_flags(policy)?;
            let names: Vec<&str> = self.named(policy, &matched).map(|(_, rollout)| rollout).collect();
            let whole: wire::Document = serde_json::from_slice(&document.text)?;
            let keys = whole.keys.iter().flat_map(|keys| &keys.0).map(|(name, _)| name.clone());
            let key_names: Vec<_> = std::iter::once("request".into()).chain(keys).collect();
            let conditions =
                Conditions::of(whole, &names, &flags).context("a condition that the engine took")?;
            let has_passes = !request.passes.verified.is_empty();
            let notes = Notes {
                policy,
                conditions: &conditions,
                has_passes,
                key_names: &key_names,
                drawn: &run.host.drawn,
                noted: RefCell::default(),
            };
            let decisions = decide_watched(policy, *request, &notes);
            let noted = notes.noted.into_inner();
            let effects = effects::effects(Some(policy), &decisions, request);
            let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
            let headers = effects.edits.iter().map(|edit| match edit {
                Edit::Remove(name) => OfHeader { name: text(name), value: None },
                Edit::Set(name, value) => OfHeader { name: (*name).to_owned(), value: Some(text(value)) },
            });
            let told =
                self.named(policy, &decisions).map(|(decision, _)| of_decision(policy, decision, &noted));
            Ok(Explanation {
                policy: policy.name.as_deref().map(str::to_owned),
                revision: policy.revision,
                at: moments::told(run.host.now_ms),
                at_ms: run.host.now_ms,
                decisions: told.collect(),
                unmatched: self.unmatched(document, run, &decisions, &asked)?,
                flags: flags
                    .iter()
                    .filter_map(|id| self.of_flag(*id, request, policy, &conditions, &decisions))
                    .collect(),
                headers: headers.collect(),
                filter_state: effects
                    .states
                    .iter()
                    .map(|(name, value)| (format!("wasm.{name}"), (*value).to_owned()))
                    .collect(),
                cookies: effects.response.cookies,
                explain: effects::explain(policy, &decisions),
                request: asked,
            })
        })
    }

    /// The decisions of which is told, with the names of their rollouts.
    fn named<'p>(
        &self,
        policy: &'p Policy,
        decisions: &Decisions,
    ) -> impl Iterator<Item = (Decision, &'p str)> {
        let named = decisions.list.iter().filter_map(|it| Some((*it, &*policy.rollout(it.rollout)?.name)));
        named.filter(|(_, name)| self.is_told(name)).collect::<Vec<_>>().into_iter()
    }

    fn is_told(&self, rollout: &str) -> bool {
        self.rollouts.is_empty() || self.rollouts.iter().any(|name| name == rollout)
    }

    /// The flags of which is told: those asked for, and those that are exported.
    fn told_flags(&self, policy: &Policy) -> Result<Vec<FlagId>> {
        let mut flags = Vec::new();
        for key in &self.flags {
            let Some(id) = policy.flags.iter().position(|flag| *flag.key == **key) else {
                bail!("the policy has no flag `{key}`");
            };
            flags.push(FlagId::try_from(id)?);
        }
        flags.extend(&policy.exported_flags);
        let mut seen = Vec::new();
        flags.retain(|id| {
            !seen.contains(id) && {
                seen.push(*id);
                true
            }
        });
        Ok(flags)
    }

    fn of_flag(
        &self,
        id: FlagId,
        request: &Request<'_>,
        policy: &Policy,
        conditions: &Conditions,
        decisions: &Decisions,
    ) -> Option<OfFlag> {
        let flag = policy.flag(id)?;
        // Of those that go upstream nobody asks: no context concerns them.
        let context = self.context.clone().filter(|_| self.flags.iter().any(|key| **key == *flag.key));
        let context = context.map(|it| it.without_known(&Values::new(policy, *request)));
        let values = Values::new(policy, *request);
        let exported = decisions.flags.iter().find(|(exported, _)| *exported == id && context.is_none());
        let resolution =
            exported.map_or_else(|| values.resolve(flag, context.as_ref()), |(_, resolution)| *resolution);
        let variant = resolution.variant.and_then(|variant| flag.variant(variant));
        Some(OfFlag {
            flag: flag.key.to_string(),
            variant: variant.map(|it| it.name.to_string()),
            value: variant.and_then(|it| RawValue::from_string(it.json.to_string()).ok()),
            reason: match resolution.why {
                Ok(reason) => reason.as_str(),
                Err(error) => error.code(),
            },
            exported: policy.exported_flags.contains(&id),
            targeting: values
                .budget()
                .apart(|| conditions.targeting(id, &values, context.as_ref()))
                .filter(|_| flag.enabled),
        })
    }

    fn unmatched(
        &self,
        document: &Document,
        run: &DryRun,
        decisions: &Decisions,
        asked: &Asked,
    ) -> Result<Vec<Unmatched>> {
        let document: serde_json::Value = serde_json::from_slice(&document.text)?;
        let rollouts = document.get("rollouts").and_then(serde_json::Value::as_array).into_iter().flatten();
        let unmatched = rollouts.filter(|rollout| {
            let name = rollout["name"].as_str().unwrap_or_default();
            let applies = |it: &Decision| {
                it.applies && run.policy.rollout(it.rollout).is_some_and(|it| *it.name == *name)
            };
            self.is_told(name) && !decisions.list.iter().any(applies)
        });
        Ok(unmatched.map(|rollout| unmatched::why(rollout, asked, run.trust)).collect())
    }
}

fn of_decision(policy: &Policy, decision: Decision, noted: &[(u32, OfRollout)]) -> OfDecision {
    let rollout = policy.rollout(decision.rollout);
    let variant = rollout.and_then(|it| it.variant(decision.variant));
    let of =
        noted.iter().find(|(id, _)| *id == decision.rollout).map(|(_, of)| of.clone()).unwrap_or_default();
    OfDecision {
        rollout: rollout.map_or_else(String::new, |it| it.name.to_string()),
        variant: variant.map_or_else(String::new, |it| it.name.to_string()),
        reason: decision.reason.as_str(),
        bucket: decision.bucket.map(|bucket| bucket.0),
        applies: decision.applies,
        steps: of.steps,
        schedule: of.timeline,
    }
}
