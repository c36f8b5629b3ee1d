//! What can be told of `$evaluators` that no condition uses: flags may, and these are compiled with them.
//!
//! Only names are looked at: cohorts that nobody defines, and evaluators that reach themselves. A `$ref` to nothing is a
//! flag's own affair, which flagd tells when it evaluates the flag.

use std::collections::BTreeMap;

use crate::finding::{Findings, Path, Problem};
use crate::json::Json;

/// The names that evaluators may refer to, by their numbers.
pub(super) struct Known<'n> {
    /// Cohorts.
    pub(super) cohorts: &'n BTreeMap<Box<str>, usize>,
    /// Evaluators.
    pub(super) evaluators: &'n BTreeMap<Box<str>, usize>,
}

/// Reports what is wrong with those of `evaluators` for which `is_used` does not hold; whether nothing is.
pub(super) fn check(
    evaluators: &[(Box<str>, Json)],
    is_used: impl Fn(usize) -> bool,
    known: &Known<'_>,
    findings: &mut Findings,
) -> bool {
    let mut found = Findings::default();
    let place = Path::Root.field("$evaluators");
    let mut uses: Vec<Vec<usize>> = Vec::with_capacity(evaluators.len());
    for (i, (name, json)) in evaluators.iter().enumerate() {
        let mut used = Vec::new();
        if !is_used(i) {
            names_in(json, &place.field(name), known, &mut used, &mut found);
        }
        uses.push(used);
    }
    for circle in circles(&uses) {
        if let Some((name, _)) = evaluators.get(circle) {
            found.report(&place.field(name), Problem::ReachesItself(name.to_string()));
        }
    }
    let sound = found.is_empty();
    findings.adopt(&Path::Root, found.into_vec());
    sound
}

/// The evaluators that `json` refers to; unknown cohorts are reported. A document nests at most 64 levels.
fn names_in(
    json: &Json,
    place: &Path<'_>,
    known: &Known<'_>,
    used: &mut Vec<usize>,
    findings: &mut Findings,
) {
    match json {
        Json::List(items) => {
            for (i, item) in items.iter().enumerate() {
                names_in(item, &place.item(i), known, used, findings);
            }
        }
        Json::Object(members) => {
            for (operator, operand) in members {
                let place = place.field(operator);
                match (&**operator, operand) {
                    ("$ref", Json::Text(name)) => used.extend(known.evaluators.get(name)),
                    ("cohort", Json::Text(name)) if !known.cohorts.contains_key(name) => {
                        findings.report(&place, Problem::unknown("cohort", name));
                    }
                    _ => names_in(operand, &place, known, used, findings),
                }
            }
        }
        _ => {}
    }
}

/// One node of each circle that is met, the first on the way.
fn circles(uses: &[Vec<usize>]) -> Vec<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        Never,
        Open,
        Done,
    }
    let mut visits = vec![Visit::Never; uses.len()];
    let mut found = Vec::new();
    for root in 0..uses.len() {
        // Nodes on the way down, each with the next of its uses to follow.
        let mut way = vec![(root, 0)];
        while let Some((node, next)) = way.last_mut() {
            let (node, followed) = (*node, *next);
            *next += 1;
            let Some(visit) = visits.get_mut(node) else { break };
            if followed == 0 && *visit == Visit::Done {
                way.pop();
                continue;
            }
            *visit = Visit::Open;
            match uses.get(node).and_then(|uses| uses.get(followed)) {
                None => {
                    *visit = Visit::Done;
                    way.pop();
                }
                Some(used) => match visits.get(*used) {
                    Some(Visit::Open) if !found.contains(used) => found.push(*used),
                    Some(Visit::Never) => way.push((*used, 0)),
                    _ => {}
                },
            }
        }
    }
    found
}
