//! Rollouts that set the same of one request: the first in precedence wins, and the other has no effect.

use std::collections::BTreeMap;

use super::{Lint, Warnings};
use crate::finding::{Findings, Path};
use crate::headers::kept_name;
use crate::pattern::{Pattern, leading_text};
use crate::wire::{Document, Match, PathMatch, PathMatchType, Rollout, State, ValueMatch, ValueMatchType};

/// That a variant of a rollout sets something.
struct Setting<'d> {
    rollout: usize,
    variant: &'d str,
    is_default: bool,
    /// The header's name, as the document writes it; of a cluster there is none.
    header: &'d str,
    value: &'d str,
}

pub fn lint(document: &Document, warnings: &mut Warnings) {
    let rollouts: Vec<&Rollout> = document.rollouts.iter().flatten().collect();
    let mut set: BTreeMap<(Lint, String), Vec<Setting<'_>>> = BTreeMap::new();
    for (i, rollout) in rollouts.iter().enumerate() {
        for (lint, setting) in settings(i, rollout) {
            set.entry((lint, setting.header.to_ascii_lowercase())).or_default().push(setting);
        }
    }
    for ((lint, _), settings) in &set {
        let mut earlier = Earlier::default();
        for later in settings {
            let Some(rollout) = rollouts.get(later.rollout) else { continue };
            let heads = heads(rollout);
            let found = earlier.beside(heads.as_deref()).find_map(|other| {
                let of_other = rollouts.get(other.rollout)?;
                // The same value leads nowhere else; but of a cluster nobody can tell then who led there.
                let differ = *lint == Lint::SameCluster || other.value != later.value;
                let meet =
                    other.rollout != later.rollout && differ && may_meet(of_other, rollout, other, later);
                meet.then_some(of_other)
            });
            if let Some(other) = found {
                report(*lint, later, &other.name, warnings);
            }
            earlier.push(later, heads);
        }
    }
}

fn report(lint: Lint, setting: &Setting<'_>, other: &str, warnings: &mut Warnings) {
    let rollouts = Path::Root.field("rollouts");
    let place = rollouts.item(setting.rollout);
    let place = place.field("variants");
    let place = place.field(setting.variant);
    let what = if lint == Lint::SameCluster { "the cluster" } else { "this header" };
    let message = format!(
        "`{other}` sets {what} of the same requests: the rollout with the more specific match wins, of equals the first"
    );
    match lint {
        Lint::SameCluster => warnings.report(lint, &place.field("cluster"), message),
        _ => warnings.report(lint, &place.field("headers").field(setting.header), message),
    }
}

/// The settings of earlier rollouts by the first segments of their paths, so that not every two are compared.
#[derive(Default)]
struct Earlier<'s> {
    all: Vec<&'s Setting<'s>>,
    by_head: BTreeMap<String, Vec<&'s Setting<'s>>>,
    /// Those whose paths may begin with anything.
    anywhere: Vec<&'s Setting<'s>>,
}

impl<'s> Earlier<'s> {
    fn push(&mut self, setting: &'s Setting<'s>, heads: Option<Vec<String>>) {
        self.all.push(setting);
        match heads {
            None => self.anywhere.push(setting),
            Some(heads) => {
                for head in heads {
                    self.by_head.entry(head).or_default().push(setting);
                }
            }
        }
    }

    /// Those whose paths may begin with one of these segments.
    fn beside(&self, heads: Option<&[String]>) -> Box<dyn Iterator<Item = &'s Setting<'s>> + '_> {
        match heads {
            None => Box::new(self.all.iter().copied()),
            Some(heads) => {
                let same = heads.iter().flat_map(|head| heads_of(&self.by_head, head));
                // By document order, which is that of their rollouts.
                let mut beside: Vec<_> = same.chain(self.anywhere.iter().copied()).collect();
                beside.sort_by_key(|setting| setting.rollout);
                Box::new(beside.into_iter())
            }
        }
    }
}

fn heads_of<'e, 's>(
    by_head: &'e BTreeMap<String, Vec<&'s Setting<'s>>>,
    head: &str,
) -> impl Iterator<Item = &'s Setting<'s>> + 'e {
    by_head.get(head).into_iter().flatten().copied()
}

/// The first segments with which the paths of a rollout begin; `None` where that may be any.
fn heads(rollout: &Rollout) -> Option<Vec<String>> {
    let head = |entry: &Match| {
        let path = entry.path.as_ref()?;
        let value = path.value.as_deref()?;
        let is_pattern = path.kind == PathMatchType::RegularExpression;
        let text = if is_pattern { leading_text(value) } else { value.to_owned() };
        let rest = text.strip_prefix('/')?;
        match rest.split_once('/') {
            Some((segment, _)) => Some(segment.to_owned()),
            // The segment of a pattern may go on.
            None => (!is_pattern && !rest.is_empty()).then(|| rest.to_owned()),
        }
    };
    if rollout.matches.is_empty() { None } else { rollout.matches.iter().map(head).collect() }
}

/// What the variants of a rollout set.
fn settings(i: usize, rollout: &Rollout) -> Vec<(Lint, Setting<'_>)> {
    let mut settings = Vec::new();
    for (name, variant) in &rollout.variants.0 {
        let is_default = **name == *rollout.default;
        if rollout.state == State::Disabled && !is_default {
            continue;
        }
        let mut add = |lint, header, value| {
            settings.push((lint, Setting { rollout: i, variant: name, is_default, header, value }));
        };
        if let Some(cluster) = &variant.cluster {
            add(Lint::SameCluster, "", cluster);
        }
        for (header, value) in &variant.headers.0 {
            add(Lint::SameHeader, header, value);
        }
    }
    settings
}

/// Whether one request may have both variants.
fn may_meet(a: &Rollout, b: &Rollout, of_a: &Setting<'_>, of_b: &Setting<'_>) -> bool {
    let in_one_layer = a.layer.as_ref().zip(b.layer.as_ref()).is_some_and(|(a, b)| a.name == b.name);
    // A key is in one slice of a layer: in the other rollout it has the default.
    if in_one_layer && !of_a.is_default && !of_b.is_default {
        return false;
    }
    let meet = |a: &Match| b.matches.is_empty() || b.matches.iter().any(|b| matches_meet(a, b));
    hosts_meet(&a.hostnames, &b.hostnames) && (a.matches.is_empty() || a.matches.iter().any(meet))
}

fn hosts_meet(a: &[String], b: &[String]) -> bool {
    let fits = |a: &str, b: &str| match a.strip_prefix('*') {
        Some(suffix) => b.ends_with(suffix),
        None => a == b,
    };
    let meet = |a: &String| b.iter().any(|b| fits(a, b) || fits(b, a));
    a.is_empty() || b.is_empty() || a.iter().any(meet)
}

fn matches_meet(a: &Match, b: &Match) -> bool {
    let methods_meet = a.method.is_none() || b.method.is_none() || a.method == b.method;
    methods_meet
        && values_meet(&a.headers, &b.headers, |name| kept_name(name).into())
        && values_meet(&a.query_params, &b.query_params, str::to_owned)
        && paths_meet(a.path.as_ref(), b.path.as_ref())
}

/// Whether no name must have two values.
fn values_meet(a: &[ValueMatch], b: &[ValueMatch], normal: impl Fn(&str) -> String) -> bool {
    let exact = |it: &&ValueMatch| it.kind == ValueMatchType::Exact;
    a.iter().filter(exact).all(|a| {
        let mut same = b.iter().filter(exact).filter(|b| normal(&a.name) == normal(&b.name));
        same.all(|b| a.value == b.value)
    })
}

fn paths_meet(a: Option<&PathMatch>, b: Option<&PathMatch>) -> bool {
    use PathMatchType::{Exact, PathPrefix, RegularExpression};
    let of = |path: Option<&PathMatch>| {
        let value = path.and_then(|it| it.value.clone()).unwrap_or_else(|| "/".to_owned());
        (path.map(|it| it.kind).unwrap_or_default(), value)
    };
    let begins = |text: &str, with: &str| text.starts_with(with) || with.starts_with(text);
    match (of(a), of(b)) {
        ((Exact, a), (Exact, b)) => a == b,
        ((Exact, path), (PathPrefix, prefix)) | ((PathPrefix, prefix), (Exact, path)) => {
            covers(&prefix, &path)
        }
        ((PathPrefix, a), (PathPrefix, b)) => covers(&a, &b) || covers(&b, &a),
        ((Exact, path), (RegularExpression, pattern)) | ((RegularExpression, pattern), (Exact, path)) => {
            Pattern::compile(&pattern, &mut Findings::default()).is_ok_and(|pattern| pattern.is_match(&path))
        }
        // What a pattern may match takes more than a look: what can be told is how it begins.
        ((PathPrefix, prefix), (RegularExpression, pattern))
        | ((RegularExpression, pattern), (PathPrefix, prefix)) => {
            begins(&leading_text(&pattern), prefix.trim_end_matches('/'))
        }
        ((RegularExpression, a), (RegularExpression, b)) => begins(&leading_text(&a), &leading_text(&b)),
    }
}

/// Whether `prefix` has all of the segments at the start of `path`.
fn covers(prefix: &str, path: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
