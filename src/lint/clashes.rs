//! Conditions that exclude each other: an `and` of them never holds, an `or` of their opposites always does.

use std::collections::{BTreeMap, BTreeSet};

use super::expressions::{Truths, holds_for};
use crate::json::Json;
use crate::logic::{Data, Value, Var, operation};

/// The most values of one variable that are tried.
const MOST_TRIED: usize = 50;

/// What one variable is asked for, by operands that ask for nothing else.
#[derive(Default)]
struct Asked<'j> {
    /// The texts that it must be one of.
    allowed: Option<BTreeSet<&'j str>>,
    /// The numbers that it is compared with, unless it is asked for other things, too.
    numbers: Option<Vec<f64>>,
    operands: Vec<&'j Json>,
}

/// Whether no request makes all operands of an `and` hold, or all of an `or` fail.
pub fn clash(truths: &Truths<'_>, operator: &str, operands: &[Json]) -> bool {
    let wanted = operator == "and";
    let mut all = Vec::new();
    flatten(operator, operands, &mut all);
    let mut seen = BTreeSet::new();
    let mut asked: BTreeMap<&str, Asked<'_>> = BTreeMap::new();
    for operand in all {
        let (inner, is_plain) = bare(operand);
        // As it is written: two that are written alike are one.
        let written = format!("{inner:?}");
        if operation(inner).is_some() && seen.contains(&(written.clone(), !is_plain)) {
            return true;
        }
        seen.insert((written, is_plain));
        let operand = truths.resolved(operand);
        let Some(name) = only_variable(operand) else { continue };
        let numbers = numbers(operand);
        let of = asked.entry(name).or_insert_with(|| Asked { numbers: Some(Vec::new()), ..Asked::default() });
        if let Some(texts) = one_of(operand, wanted) {
            of.allowed = Some(match &of.allowed {
                Some(before) => before.intersection(&texts).copied().collect(),
                None => texts,
            });
        }
        of.numbers = of.numbers.take().zip(numbers).map(|(before, more)| [before, more].concat());
        of.operands.push(operand);
    }
    asked.values().any(|it| it.operands.len() > 1 && it.excludes(truths, wanted))
}

impl Asked<'_> {
    /// Whether no value makes all operands come to `wanted`.
    fn excludes(&self, truths: &Truths<'_>, wanted: bool) -> bool {
        let texts: Vec<String> = match (&self.allowed, &self.numbers) {
            (Some(allowed), _) => allowed.iter().map(|text| (*text).to_owned()).collect(),
            (None, Some(numbers)) if !numbers.is_empty() => around(numbers),
            _ => return false,
        };
        if texts.len() > MOST_TRIED {
            return false;
        }
        // Of numbers what is absent, or none, is a case of its own.
        let absent = self.allowed.is_none().then_some(None);
        if !truths.spend(self.operands.len().saturating_mul(texts.len() + 1)) {
            return false;
        }
        let mut tried = texts.iter().map(|text| Some(&**text)).chain(absent);
        let fits =
            |text| self.operands.iter().all(|it| holds_for(it, &Only(text)).is_none_or(|it| it == wanted));
        !tried.any(fits)
    }
}

/// Texts of these numbers, of those between them and around them, and one that is none.
fn around(numbers: &[f64]) -> Vec<String> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let between = sorted.windows(2).filter_map(|it| match it {
        [a, b] => Some(a + (b - a) / 2.0),
        _ => None,
    });
    let ends = [sorted.first().map(|it| it - 1.0), sorted.last().map(|it| it + 1.0)];
    let all = sorted.iter().copied().chain(between).chain(ends.into_iter().flatten());
    all.map(|number| number.to_string()).chain(["none".to_owned()]).collect()
}

/// A request in which every variable is this text.
struct Only<'t>(Option<&'t str>);

impl Data for Only<'_> {
    fn var<'s>(&'s self, _: &Var) -> Value<'s> {
        self.0.map_or(Value::Null, Value::from)
    }
}

/// The operands, with those of the same operator among them.
fn flatten<'j>(operator: &str, operands: &'j [Json], into: &mut Vec<&'j Json>) {
    for operand in operands {
        match operation(operand) {
            Some((inner, operands)) if inner == operator => flatten(operator, operands, into),
            _ => into.push(operand),
        }
    }
}

/// What is below all `!` and `!!`, and whether it is wanted as it is.
fn bare(mut json: &Json) -> (&Json, bool) {
    let mut is_plain = true;
    loop {
        match operation(json) {
            Some(("!", [inner])) => (json, is_plain) = (inner, !is_plain),
            Some(("!!", [inner])) => json = inner,
            _ => return (json, is_plain),
        }
    }
}

/// The only variable for which an expression asks, without a default; nothing where it asks for anything else.
fn only_variable(json: &Json) -> Option<&str> {
    let mut names = BTreeSet::new();
    let mut is_simple = true;
    each_owned(json, &mut |operator, operands| match (operator, operands) {
        ("var", [Json::Text(name)]) => _ = names.insert(&**name),
        (
            "var" | "missing" | "missing_some" | "flag" | "cohort" | "$ref" | "fractional" | "map" | "filter"
            | "all" | "none" | "some" | "reduce",
            _,
        ) => is_simple = false,
        _ => {}
    });
    let mut names = names.into_iter();
    names.next().filter(|_| is_simple && names.next().is_none())
}

fn each_owned<'j>(json: &'j Json, look: &mut dyn FnMut(&'j str, &'j [Json])) {
    match json {
        Json::List(items) => items.iter().for_each(|item| each_owned(item, look)),
        Json::Object(members) => {
            if let Some((operator, operands)) = operation(json) {
                look(operator, operands);
            }
            members.iter().for_each(|(_, inner)| each_owned(inner, look));
        }
        _ => {}
    }
}

/// The texts that its variable must be one of for `json` to come to `wanted`, if they are few.
fn one_of(json: &Json, wanted: bool) -> Option<BTreeSet<&str>> {
    let (json, is_plain) = bare(json);
    let (operator, [first, second]) = operation(json)? else { return None };
    let is_equal = match operator {
        "in" | "==" | "===" => true,
        "!=" | "!==" => false,
        _ => return None,
    };
    if is_equal != (wanted == is_plain) {
        return None;
    }
    match (operator, second) {
        ("in", Json::List(items)) if is_variable(first) => items.iter().map(text).collect(),
        ("in", _) => None,
        _ if is_variable(first) => Some(BTreeSet::from([text(second)?])),
        _ if is_variable(second) => Some(BTreeSet::from([text(first)?])),
        _ => None,
    }
}

/// The numbers with which `json` compares its variable, if it does nothing else.
fn numbers(json: &Json) -> Option<Vec<f64>> {
    let (operator, operands) = operation(bare(json).0)?;
    if !matches!(operator, "<" | "<=" | ">" | ">=" | "==" | "!=") {
        return None;
    }
    let mut found = Vec::new();
    for operand in operands {
        match operand {
            Json::Number(number) => found.push(*number),
            operand if is_variable(operand) => {}
            _ => return None,
        }
    }
    Some(found)
}

fn text(json: &Json) -> Option<&str> {
    if let Json::Text(text) = json { Some(text) } else { None }
}

fn is_variable(json: &Json) -> bool {
    matches!(operation(json), Some(("var", [Json::Text(_)])))
}
