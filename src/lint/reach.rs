//! What no request can reach.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::expressions::{Root, Truths, each_root};
use super::subjects::{Text, Why, never_arrives, of_header};
use super::verdicts::{no_match, verdict};
use super::{Lint, Warnings};
use crate::authority;
use crate::bucket::Threshold;
use crate::finding::Path;
use crate::headers::kept_name;
use crate::policy::Policy;
use crate::wire::{Document, Match, PathMatchType, Rollout, State, ValueMatch, ValueMatchType};

pub fn lint(document: &Document, policy: &Policy, truths: &Truths<'_>, warnings: &mut Warnings) {
    let rollouts = Path::Root.field("rollouts");
    for (i, rollout) in document.rollouts.iter().flatten().enumerate() {
        // Nobody is meant to reach one that is switched off.
        if rollout.state == State::Enabled {
            of_matches(rollout, &rollouts.item(i), warnings);
        }
    }
    each_root(document, &mut |root, place| of_condition(root, truths, place, warnings));
    let holdouts = Path::Root.field("holdouts");
    let everybody =
        policy.holdouts.iter().enumerate().filter(|(_, holdout)| holdout.end == Threshold::EVERYBODY);
    for (i, _) in everybody {
        let message =
            "every key is held out: no request reaches a canary or an experiment that heeds holdouts";
        warnings.report(Lint::Unreachable, &holdouts.item(i).field("percent"), message);
    }
}

fn of_matches(rollout: &Rollout, place: &Path<'_>, warnings: &mut Warnings) {
    let matches = place.field("matches");
    let hosts: BTreeSet<&str> = rollout.hostnames.iter().map(String::as_str).collect();
    let faults: Vec<_> =
        rollout.matches.iter().enumerate().map(|(i, entry)| fault(entry, &hosts, &matches.item(i))).collect();
    let who = if faults.iter().all(Option::is_some) { "this rollout" } else { "this match" };
    for (place, why) in faults.into_iter().flatten() {
        let message = format!("{why}: no request can reach {who}");
        warnings.push(super::Warning { lint: Lint::Unreachable, place, message });
    }
}

/// Tells of a condition that says the same for every request, where that leaves something without any.
fn of_condition(root: Root<'_>, truths: &Truths<'_>, place: &Path<'_>, warnings: &mut Warnings) {
    let Some(holds) = truths.of(root.json, root.asker).filter(|it| root.told.contains(it)) else { return };
    let why = match verdict(&truths.world, root.json, root.asker, None) {
        Some(verdict) if !verdict.why.is_empty() => format!(" ({})", verdict.why),
        _ => String::new(),
    };
    let message = match (holds, root.told) {
        (true, _) => format!("always holds{why}: no request can reach what is asked after it"),
        (false, [false]) => format!("never holds{why}: no request can reach another variant by the split"),
        (false, _) => format!("never holds{why}: no request can reach this entry"),
    };
    warnings.report(Lint::Unreachable, place, message);
}

/// Why no request fits a match, if none does, and where that stands.
fn fault(entry: &Match, hosts: &BTreeSet<&str>, place: &Path<'_>) -> Option<(String, Cow<'static, str>)> {
    if let Some(path) = &entry.path
        && let Some(why) = path_fault(path.kind, path.value.as_deref().unwrap_or("/"))
    {
        return Some((place.field("path").field("value").to_string(), why.into()));
    }
    let headers = place.field("headers");
    entry.headers.iter().enumerate().find_map(|(i, rule)| {
        let place = headers.item(i);
        if never_arrives(&rule.name) {
            let why = format!("`{}` never arrives", rule.name);
            return Some((place.field("name").to_string(), why.into()));
        }
        let kind = of_header(&kept_name(&rule.name));
        let why = match rule.kind {
            ValueMatchType::RegularExpression => no_match(kind, &rule.value),
            ValueMatchType::Exact => kind.whole(&rule.value).or_else(|| host_fault(rule, hosts)),
        };
        Some((place.field("value").to_string(), why?.into()))
    })
}

fn path_fault(kind: PathMatchType, value: &str) -> Option<Why> {
    match kind {
        PathMatchType::RegularExpression => no_match(Text::Path, value),
        PathMatchType::Exact => Text::Path.whole(value),
        PathMatchType::PathPrefix => Text::Path.start(value),
    }
}

/// Why a rule on the header `host` holds for none of a rollout's hostnames.
fn host_fault(rule: &ValueMatch, hosts: &BTreeSet<&str>) -> Option<Why> {
    if hosts.is_empty() || !rule.name.eq_ignore_ascii_case("host") {
        return None;
    }
    let host = authority::host(rule.value.as_bytes())?;
    let above = host.match_indices('.').filter_map(|(at, _)| host.get(at..)).map(|rest| format!("*{rest}"));
    let fits = hosts.contains(&*host) || above.into_iter().any(|wildcard| hosts.contains(&*wildcard));
    (!fits).then_some("none of `hostnames` is this host")
}
