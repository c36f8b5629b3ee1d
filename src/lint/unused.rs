//! What nothing uses.

use std::collections::BTreeSet;

use super::expressions::{each, each_root};
use super::{Lint, Warnings};
use crate::finding::Path;
use crate::json::Json;
use crate::wire::{Document, Entries, ShadowMode};

/// The names that are used.
#[derive(Default)]
struct Used {
    cohorts: BTreeSet<Box<str>>,
    evaluators: BTreeSet<Box<str>>,
    attributes: BTreeSet<Box<str>>,
    /// A name of a variable is worked out: it may be any.
    any_attribute: bool,
    /// Cohorts and evaluators that were found since they were last looked into.
    new: Vec<(&'static str, Box<str>)>,
}

impl Used {
    fn look(&mut self, json: &Json) {
        each(json, &Path::Root, &mut |operator, operands, _| match (operator, operands) {
            ("cohort", [Json::Text(name)]) => self.found("cohorts", name),
            ("$ref", [Json::Text(name)]) => self.found("$evaluators", name),
            ("var", [Json::Text(name), ..]) => _ = self.attributes.insert(name.clone()),
            ("missing", names) => names.iter().for_each(|it| self.name(it)),
            ("missing_some", [_, name]) | ("var", [name, ..]) => self.name(name),
            _ => {}
        });
    }

    fn name(&mut self, json: &Json) {
        match json {
            Json::Text(name) => _ = self.attributes.insert(name.clone()),
            Json::List(names) => names.iter().for_each(|it| self.name(it)),
            Json::Object(_) => self.any_attribute = true,
            _ => {}
        }
    }

    fn found(&mut self, of: &'static str, name: &str) {
        let set = if of == "cohorts" { &mut self.cohorts } else { &mut self.evaluators };
        if set.insert(name.into()) {
            self.new.push((of, name.into()));
        }
    }

    fn attribute(&self, name: &str) -> bool {
        let below = format!("{name}.");
        let next = self.attributes.range(Box::from(below.as_str())..).next();
        self.any_attribute
            || self.attributes.contains(name)
            || next.is_some_and(|used| used.starts_with(&below))
    }
}

pub fn lint(document: &Document, warnings: &mut Warnings) {
    let mut used = Used::default();
    each_root(document, &mut |root, _| used.look(root.json));
    while let Some((of, name)) = used.new.pop() {
        let entries = if of == "cohorts" { &document.cohorts } else { &document.evaluators };
        let named = entries.iter().flat_map(|entries| &entries.0).find(|(entry, _)| *entry == name);
        if let Some((_, json)) = named {
            used.look(json);
        }
    }
    let rollouts = || document.rollouts.iter().flatten();
    let layers = || document.layers.iter().flat_map(|it| &it.0);
    let keys: BTreeSet<&str> = rollouts()
        .filter_map(|it| it.key.as_deref())
        .chain(layers().map(|(_, layer)| layer.key.as_str()))
        .chain(document.holdouts.iter().flatten().map(|it| it.key.as_str()))
        .chain(rollouts().filter_map(|it| it.shadow.as_ref()?.key.as_deref()))
        .chain(document.flag_key.as_deref())
        .collect();
    let in_layers: BTreeSet<&str> =
        rollouts().filter_map(|it| Some(it.layer.as_ref()?.name.as_str())).collect();
    report(
        "keys",
        &document.keys,
        |name| keys.contains(name),
        "no rollout, layer, holdout, shadow or `flagKey` uses it",
        warnings,
    );
    report("attributes", &document.attributes, |name| used.attribute(name), "no condition uses it", warnings);
    report(
        "cohorts",
        &document.cohorts,
        |name| used.cohorts.contains(name),
        "no rollout or flag uses it",
        warnings,
    );
    report("layers", &document.layers, |name| in_layers.contains(name), "no rollout uses it", warnings);
    report(
        "$evaluators",
        &document.evaluators,
        |name| used.evaluators.contains(name),
        "no rollout or flag uses it",
        warnings,
    );
    compared_by_nobody(document, warnings);
}

/// What is said of a comparison where Envoy copies, as it does by default.
fn compared_by_nobody(document: &Document, warnings: &mut Warnings) {
    for (i, rollout) in document.rollouts.iter().flatten().enumerate() {
        let Some(shadow) = &rollout.shadow else { continue };
        if shadow.mode == ShadowMode::Mirror && shadow.compare.is_some() {
            let place = Path::Root.field("rollouts");
            let place = place.item(i);
            let place = place.field("shadow");
            warnings.report(Lint::Unused, &place.field("compare"), "mode `mirror` compares nothing");
        }
    }
}

fn report<T>(
    member: &str,
    entries: &Option<Entries<T>>,
    is_used: impl Fn(&str) -> bool,
    message: &str,
    warnings: &mut Warnings,
) {
    let place = Path::Root.field(member);
    for (name, _) in entries.iter().flat_map(|entries| &entries.0).filter(|(name, _)| !is_used(name)) {
        warnings.report(Lint::Unused, &place.field(name), message);
    }
}
