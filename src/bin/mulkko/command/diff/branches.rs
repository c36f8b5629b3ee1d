//! How rollouts and flags come to a variant: a list of branches, of which a request takes the first whose conditions it meets.

use std::collections::BTreeMap;
use std::hash::Hash;

use mulkko::json::Json;
use mulkko::logic::operation;
use mulkko::wire::{Flag, Rollout, State};

use super::meaning::{Meaning, hash, written};

/// The most branches of one flag; what is inside of one more is not told apart.
const MOST_BRANCHES: usize = 200;

/// What follows where nothing is said.
static NULL: Json = Json::Null;

/// A branch.
#[derive(Debug)]
pub struct Branch<'d> {
    /// Where its condition stands: `when`, `force[0]`; empty in a flag.
    pub place: String,
    /// All of them must hold. Without any it is for whoever is left.
    pub conditions: Vec<&'d Json>,
    pub then: Then<'d>,
    meaning: u64,
}

/// What follows for whoever takes a branch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Then<'d> {
    /// A variant.
    Variant,
    /// The split of a rollout.
    Split,
    /// The value of an expression.
    Value(&'d Json),
}

/// What two lists have differently: branches of the first, and of the second.
pub type Part = [Vec<usize>; 2];

/// The branches of a rollout.
pub fn of_rollout<'d>(rollout: &'d Rollout, is_held_out: bool, meaning: &Meaning<'d>) -> Vec<Branch<'d>> {
    let variant = |place: String, conditions: Vec<&'d Json>, variant: &str| {
        let then = hash(|hasher| variant.hash(hasher));
        Branch { place, meaning: of_branch(&conditions, then, meaning), conditions, then: Then::Variant }
    };
    let default = || variant(String::new(), Vec::new(), &rollout.default);
    if rollout.state == State::Disabled {
        return vec![default()];
    }
    let force = rollout.force.iter().enumerate();
    let force = force.map(|(i, it)| variant(format!("force[{i}]"), vec![&it.when], &it.variant));
    let mut branches: Vec<Branch<'d>> = force.collect();
    let conditions: Vec<&Json> = rollout.when.iter().collect();
    branches.push(Branch {
        place: "when".to_owned(),
        meaning: of_branch(&conditions, of_split(rollout, is_held_out, meaning), meaning),
        conditions,
        then: Then::Split,
    });
    branches.extend(rollout.when.as_ref().map(|_| default()));
    branches
}

fn of_branch(conditions: &[&Json], then: u64, meaning: &Meaning<'_>) -> u64 {
    hash(|hasher| {
        conditions.iter().for_each(|json| meaning.of(json).hash(hasher));
        then.hash(hasher);
    })
}

fn of_split(rollout: &Rollout, is_held_out: bool, meaning: &Meaning<'_>) -> u64 {
    let mut layers = meaning.document.layers.iter().flat_map(|layers| &layers.0);
    hash(|hasher| {
        written((&rollout.strategy, &rollout.default, &rollout.layer), hasher);
        rollout.seed.as_ref().unwrap_or(&rollout.name).hash(hasher);
        meaning.of_key(rollout.key.as_deref()).hash(hasher);
        if let Some(slice) = &rollout.layer {
            let layer = layers.find(|(name, _)| **name == *slice.name);
            meaning.of_key(layer.map(|(_, layer)| &*layer.key)).hash(hasher);
        }
        is_held_out.then(|| of_holdouts(meaning)).hash(hasher);
    })
}

/// What the holdouts mean.
pub fn of_holdouts(meaning: &Meaning<'_>) -> u64 {
    hash(|hasher| {
        for holdout in meaning.document.holdouts.iter().flatten() {
            written((&holdout.name, &holdout.percent), hasher);
            meaning.of_key(Some(&holdout.key)).hash(hasher);
        }
    })
}

/// The branches of a flag: its targeting, as far as it is made of `if`.
pub fn of_flag<'d>(flag: &'d Flag, meaning: &Meaning<'d>) -> Vec<Branch<'d>> {
    let mut leaves = Vec::new();
    if flag.state == State::Enabled {
        spread(flag.targeting.as_ref().unwrap_or(&NULL), &mut Vec::new(), &mut leaves, meaning);
    } else {
        leaves.push((Vec::new(), None));
    }
    let branch = |(conditions, value): (Vec<&'d Json>, Option<&'d Json>)| {
        let then = hash(|hasher| {
            value.map(|json| meaning.of(json)).hash(hasher);
            // What names no variant gives the default.
            if !matches!(value, None | Some(Json::Text(_))) {
                flag.default_variant.hash(hasher);
                meaning.of_key(meaning.document.flag_key.as_deref()).hash(hasher);
            }
        });
        let meaning = of_branch(&conditions, then, meaning);
        Branch { place: String::new(), conditions, then: value.map_or(Then::Variant, Then::Value), meaning }
    };
    leaves.into_iter().map(branch).collect()
}

/// The values that come of an expression, each with the conditions on the way to it.
fn spread<'d>(
    json: &'d Json,
    above: &mut Vec<&'d Json>,
    leaves: &mut Vec<(Vec<&'d Json>, Option<&'d Json>)>,
    meaning: &Meaning<'d>,
) {
    let named = |operands: &'d [Json]| match operands {
        [Json::Text(name)] => meaning.evaluator(name),
        _ => None,
    };
    match operation(json) {
        Some(("if" | "?:", operands)) if leaves.len() < MOST_BRANCHES => {
            for pair in operands.chunks(2) {
                match pair {
                    [condition, then] => {
                        above.push(condition);
                        spread(then, above, leaves, meaning);
                        above.pop();
                    }
                    [otherwise] => spread(otherwise, above, leaves, meaning),
                    _ => {}
                }
            }
            if operands.len() % 2 == 0 {
                leaves.push((above.clone(), Some(&NULL)));
            }
        }
        Some(("$ref", operands)) if leaves.len() < MOST_BRANCHES && named(operands).is_some() => {
            spread(named(operands).unwrap_or(&NULL), above, leaves, meaning);
        }
        _ => leaves.push((above.clone(), Some(json))),
    }
}

/// What is different about the branches of two lists, in pairs where there are as many.
pub fn parts(old: &[Branch<'_>], new: &[Branch<'_>]) -> Vec<Part> {
    let alone = |ours: &[Branch<'_>], theirs: &[Branch<'_>]| -> Vec<usize> {
        let mut known: BTreeMap<u64, usize> = BTreeMap::new();
        theirs.iter().for_each(|branch| *known.entry(branch.meaning).or_default() += 1);
        let ours = ours.iter().enumerate().filter(|(_, branch)| match known.get_mut(&branch.meaning) {
            Some(left @ 1..) => {
                *left -= 1;
                false
            }
            _ => true,
        });
        ours.map(|(i, _)| i).collect()
    };
    let (mut left, mut right) = (alone(old, new), alone(new, old));
    if left.is_empty() && right.is_empty() {
        // Only their order may be another.
        let pairs = old.iter().zip(new).enumerate().filter(|(_, (old, new))| old.meaning != new.meaning);
        left = pairs.map(|(i, _)| i).collect();
        right.clone_from(&left);
    }
    let part = |i: usize| [&left, &right].map(|side| side.get(i).copied().into_iter().collect());
    (0..left.len().max(right.len())).map(part).collect()
}

/// The one part of a list that another policy lacks: its branches but that of whoever is left at the default.
pub fn whole(branches: &[Branch<'_>], side: usize) -> Vec<Part> {
    let is_default = |branch: &Branch<'_>| branch.then == Then::Variant && branch.conditions.is_empty();
    let all = (0..branches.len()).collect::<Vec<_>>();
    let own = branches.iter().enumerate().filter(|(_, branch)| !is_default(branch)).map(|(i, _)| i);
    let own: Vec<usize> = own.collect();
    let mut part = Part::default();
    if let Some(slot) = part.get_mut(side) {
        *slot = if own.is_empty() { all } else { own };
    }
    vec![part]
}

#[cfg(test)]
mod tests {
    use mulkko::wire::Document;

    use super::*;

    /// What is different about the flag `f` of two policies, with these targetings: the branches of each part.
    fn of_targeting(old: &str, new: &str) -> Vec<Part> {
        let document = |targeting: &str| -> Document {
            let text = format!(
                r#"{{"flags": {{"f": {{"state": "ENABLED", "variants": {{"on": true, "off": false}}, "targeting": {targeting}}}}},
                    "cohorts": {{"kr": {{"==": [{{"var": "region"}}, "kr"]}}}}, "$evaluators": {{"rest": "off"}}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let (old, new) = (document(old), document(new));
        let (old, new) = (Meaning::new(&old), Meaning::new(&new));
        parts(&of_flag(old.flags["f"], &old), &of_flag(new.flags["f"], &new))
    }

    #[test]
    fn parts_are_what_is_said_otherwise() {
        let (kr, jp) = (r#"{"==": [{"var": "region"}, "kr"]}"#, r#"{"==": [{"var": "region"}, "jp"]}"#);
        for (old, new, expected) in [
            (r#""on""#.to_owned(), r#""on""#.to_owned(), vec![]),
            (r#""on""#.to_owned(), r#""off""#.to_owned(), vec![[vec![0], vec![0]]]),
            (r#"{"$ref": "rest"}"#.to_owned(), r#""off""#.to_owned(), vec![]),
            // The condition of a branch, what follows from it, and what follows else.
            (
                format!(r#"{{"if": [{kr}, "on", "off"]}}"#),
                format!(r#"{{"if": [{jp}, "on", "off"]}}"#),
                vec![[vec![0], vec![0]]],
            ),
            (
                format!(r#"{{"if": [{kr}, "on", "off"]}}"#),
                format!(r#"{{"if": [{kr}, "off", "off"]}}"#),
                vec![[vec![0], vec![0]]],
            ),
            (
                format!(r#"{{"if": [{kr}, "on", "off"]}}"#),
                format!(r#"{{"if": [{kr}, "on"]}}"#),
                vec![[vec![1], vec![1]]],
            ),
            // One more, in front; and in another order.
            (
                format!(r#"{{"if": [{kr}, "on", "off"]}}"#),
                format!(r#"{{"if": [{jp}, "off", {kr}, "on", "off"]}}"#),
                vec![[vec![], vec![0]]],
            ),
            (
                format!(r#"{{"if": [{kr}, "on", {jp}, "off"]}}"#),
                format!(r#"{{"if": [{jp}, "off", {kr}, "on"]}}"#),
                vec![[vec![0], vec![0]], [vec![1], vec![1]]],
            ),
            // Inside of another, and by name.
            (
                format!(r#"{{"if": [{kr}, {{"if": [{jp}, "on"]}}, "off"]}}"#),
                format!(r#"{{"if": [{kr}, {{"if": [{jp}, "off"]}}, "off"]}}"#),
                vec![[vec![0], vec![0]]],
            ),
            (
                r#"{"if": [{"cohort": "kr"}, {"fractional": [["on", 10], ["off", 90]]}]}"#.to_owned(),
                r#"{"if": [{"cohort": "kr"}, {"fractional": [["on", 80], ["off", 20]]}]}"#.to_owned(),
                vec![[vec![0], vec![0]]],
            ),
        ] {
            assert_eq!(of_targeting(&old, &new), expected, "{old} {new}");
        }
    }
}
