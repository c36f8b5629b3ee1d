//! What no request can reach.

use super::expressions::Truths;
use super::{Lint, Warnings};
use crate::bucket::Threshold;
use crate::finding::Path;
use crate::pattern;
use crate::policy::Policy;
use crate::wire::{Document, Match, PathMatchType, Rollout, State, ValueMatch, ValueMatchType};

pub fn lint(document: &Document, policy: &Policy, warnings: &mut Warnings) {
    let truths = Truths::new(document);
    let rollouts = Path::Root.field("rollouts");
    for (i, rollout) in document.rollouts.iter().flatten().enumerate() {
        // Nobody is meant to reach one that is switched off.
        if rollout.state == State::Enabled {
            of_rollout(rollout, &truths, &rollouts.item(i), warnings);
        }
    }
    let holdouts = Path::Root.field("holdouts");
    let everybody =
        policy.holdouts.iter().enumerate().filter(|(_, holdout)| holdout.end == Threshold::EVERYBODY);
    for (i, _) in everybody {
        let message =
            "every key is held out: no request reaches a canary or an experiment that heeds holdouts";
        warnings.report(Lint::Unreachable, &holdouts.item(i).field("percent"), message);
    }
}

fn of_rollout(rollout: &Rollout, truths: &Truths<'_>, place: &Path<'_>, warnings: &mut Warnings) {
    let matches = place.field("matches");
    let impossible = rollout.matches.iter().filter(|entry| fault(entry, &matches).is_some()).count();
    for (i, entry) in rollout.matches.iter().enumerate() {
        if let Some((place, why)) = fault(entry, &matches.item(i)) {
            let who = if impossible == rollout.matches.len() { "this rollout" } else { "this match" };
            warnings.0.push(super::Warning {
                lint: Lint::Unreachable,
                place,
                message: format!("{why}: no request can reach {who}"),
            });
        }
    }
    if rollout.when.as_ref().is_some_and(|when| truths.of(when) == Some(false)) {
        let message = "never holds: no request can reach another variant by the split";
        warnings.report(Lint::Unreachable, &place.field("when"), message);
    }
    let force = place.field("force");
    for (i, entry) in rollout.force.iter().enumerate() {
        let message = match truths.of(&entry.when) {
            None => continue,
            Some(false) => "never holds: no request can reach this entry",
            Some(true) => "always holds: no request can reach what is asked after it",
        };
        warnings.report(Lint::Unreachable, &force.item(i).field("when"), message);
    }
}

/// Why no request fits a match, if none does, and where that stands.
fn fault(entry: &Match, place: &Path<'_>) -> Option<(String, &'static str)> {
    if let Some(path) = &entry.path
        && let Some(why) = path_fault(path.kind, path.value.as_deref().unwrap_or("/"))
    {
        return Some((place.field("path").field("value").to_string(), why));
    }
    let is_padded = |it: &ValueMatch| it.kind == ValueMatchType::Exact && it.value.trim() != it.value;
    let padded = entry.headers.iter().position(is_padded)?;
    let place = place.field("headers").item(padded).field("value").to_string();
    Some((place, "headers arrive without spaces around them"))
}

fn path_fault(kind: PathMatchType, value: &str) -> Option<&'static str> {
    if kind == PathMatchType::RegularExpression {
        let lead = pattern::leading_text(value);
        return (!lead.is_empty() && !lead.starts_with('/')).then_some("every path begins with `/`");
    }
    if value.contains('?') {
        return Some("the path has no query (`queryParams` matches that)");
    }
    if value.contains('#') {
        return Some("the path has no fragment");
    }
    value.contains(|c: char| c == ' ' || c.is_control()).then_some("a path has no spaces")
}
