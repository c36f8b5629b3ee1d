//! What no request has: headers that never arrive, and variables that nothing is called.

use std::collections::BTreeSet;

use super::expressions::{Name, Truths, each, each_asking, each_named, each_root, has_body, named, reached};
use super::subjects::hop_by_hop;
use super::{Lint, Warnings};
use crate::finding::{Path, Problem};
use crate::json::Json;
use crate::logic::{Var, unknown};
use crate::policy::nearest_variable;
use crate::wire::{Document, Source};

/// The first parts of names that have a meaning for requests, so that a context is unlikely to have them.
const OURS: [&str; 5] = ["request", "client", "node", "targetingKey", "$flagd"];

pub fn lint(document: &Document, truths: &Truths<'_>, warnings: &mut Warnings) {
    for (name, key) in document.keys.iter().flat_map(|it| &it.0) {
        let place = Path::Root.field("keys");
        let place = place.field(name);
        of_sources(&key.from, &place.field("from"), warnings);
    }
    for (name, sources) in document.attributes.iter().flat_map(|it| &it.0) {
        let place = Path::Root.field("attributes");
        of_sources(sources, &place.field(name), warnings);
    }
    let of_asked = of_asked_flags(document);
    each_named(document, &mut |member, name, json, place| {
        let caller = truths.asker_of((member, name)).caller;
        let asked = of_asked.named.contains(&(member, name));
        of_expression(json, place, &Names { truths, caller, asked }, warnings);
    });
    each_root(document, &mut |root, place| {
        let asked = root.asker.flag.is_some_and(|key| of_asked.keys.contains(key));
        of_expression(root.json, place, &Names { truths, caller: root.asker.caller, asked }, warnings);
    });
}

fn of_sources(sources: &[Source], place: &Path<'_>, warnings: &mut Warnings) {
    for (i, source) in sources.iter().enumerate() {
        if let Some(header) = &source.header
            && let Some(why) = hop_by_hop(header)
        {
            let place = place.item(i);
            warnings.report(Lint::Absent, &place.field("header"), format!("`{header}` {why}"));
        }
    }
}

/// The flags that rollouts ask for, and what those reach: no caller's context answers there.
struct OfAskedFlags<'d> {
    keys: BTreeSet<Box<str>>,
    named: BTreeSet<Name<'d>>,
}

fn of_asked_flags(document: &Document) -> OfAskedFlags<'_> {
    let (mut keys, mut expressions) = (BTreeSet::new(), Vec::new());
    each_root(document, &mut |root, _| {
        each(root.json, &Path::Root, &mut |operator, operands, _| {
            if let ("flag", [Json::Text(key)]) = (operator, operands) {
                keys.insert(key.clone());
            }
        });
    });
    each_root(document, &mut |root, _| {
        if root.asker.flag.is_some_and(|key| keys.contains(key)) {
            expressions.push(root.json);
        }
    });
    OfAskedFlags { keys, named: reached(&named(document), expressions) }
}

/// What there is to know about the names in an expression.
struct Names<'n, 'd> {
    truths: &'n Truths<'d>,
    /// Whether a caller's context may answer.
    caller: bool,
    /// Whether it is of a flag for which a rollout asks.
    asked: bool,
}

fn of_expression(json: &Json, place: &Path<'_>, names: &Names<'_, '_>, warnings: &mut Warnings) {
    each_asking(json, place, &mut |operator, written, place| match (operator, written) {
        ("var", Json::List(operands)) => {
            if let Some(name) = operands.first() {
                names.look_at(name, &place.item(0), warnings);
            }
        }
        ("missing", Json::List(operands)) => match operands.first() {
            Some(Json::List(inner)) => names.look_at_all(inner, &place.item(0), warnings),
            _ => names.look_at_all(operands, place, warnings),
        },
        ("missing_some", Json::List(operands)) => {
            if let Some(Json::List(inner)) = operands.get(1) {
                names.look_at_all(inner, &place.item(1), warnings);
            }
        }
        ("var" | "missing", name) => names.look_at(name, place, warnings),
        (operator, Json::List(operands)) if has_body(operator) => {
            if let Some(body) = operands.get(1) {
                names.look_at_body(operator, body, &place.item(1), warnings);
            }
        }
        _ => {}
    });
}

impl Names<'_, '_> {
    fn look_at_all(&self, names: &[Json], place: &Path<'_>, warnings: &mut Warnings) {
        for (i, name) in names.iter().enumerate() {
            self.look_at(name, &place.item(i), warnings);
        }
    }

    fn look_at(&self, name: &Json, place: &Path<'_>, warnings: &mut Warnings) {
        let Json::Text(name) = name else { return };
        if let Some(Var::Header(header)) = Var::built_in(name)
            && let Some(why) = hop_by_hop(&header)
        {
            warnings.report(Lint::Absent, place, format!("`{header}` {why}"));
        } else if let Some(message) = self.unknown(name) {
            warnings.report(Lint::Absent, place, message);
        }
    }

    /// Why no request has a name, unless it is one that only callers are asked for, and likely have.
    fn unknown(&self, name: &str) -> Option<String> {
        if name.is_empty() || !self.caller || self.truths.world.is_attribute(name) {
            return None;
        }
        let mut problem = unknown(name)?;
        let first = name.split('.').next().unwrap_or_default();
        let attributes = self.truths.world.attributes();
        let meant = self.truths.spend(attributes.len() + 1).then(|| nearest_variable(name, attributes));
        let meant = meant.flatten();
        if meant.is_none() && !OURS.contains(&first) && !self.asked {
            return None;
        }
        if let Problem::UnknownName { near, .. } = &mut problem {
            *near = meant;
        }
        let whose =
            if self.asked { "and a rollout asks for this flag" } else { "only a caller's context may" };
        Some(format!("{problem}: no request has it, {whose}"))
    }

    /// Tells of what is asked of an item, though a request has it.
    fn look_at_body(&self, operator: &str, body: &Json, place: &Path<'_>, warnings: &mut Warnings) {
        each(body, place, &mut |inner, operands, place| {
            if let ("var", [Json::Text(name), ..]) = (inner, operands) {
                let is_of_requests = (Var::built_in(name).is_some() && unknown(name).is_none())
                    || (!self.caller && self.truths.world.is_attribute(name));
                if is_of_requests {
                    let message = format!(
                        "no item has `{name}`: in the body of `{operator}`, `var` looks into the item"
                    );
                    warnings.report(Lint::Absent, place, message);
                }
            }
        });
    }
}
