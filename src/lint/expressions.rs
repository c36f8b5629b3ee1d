//! The expressions of a document: where they stand, and which of them say the same to every request.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::finding::{Findings, Path};
use crate::json::Json;
use crate::logic::{Compiler, Data, Library, Value, Var, operation};
use crate::wire::{Document, Entries};

/// Shows `look` every operator below `json`, with its operands and its place.
pub fn each(json: &Json, place: &Path<'_>, look: &mut dyn FnMut(&str, &[Json], &Path<'_>)) {
    match json {
        Json::List(items) => {
            for (i, item) in items.iter().enumerate() {
                each(item, &place.item(i), look);
            }
        }
        Json::Object(members) => {
            for (name, inner) in members {
                let place = place.field(name);
                if let Some((operator, operands)) = operation(json) {
                    look(operator, operands, &place);
                }
                each(inner, &place, look);
            }
        }
        _ => {}
    }
}

/// Shows `look` every expression of rollouts and flags, which all others serve, with its place.
pub fn each_root(document: &Document, look: &mut dyn FnMut(&Json, &Path<'_>)) {
    let rollouts = Path::Root.field("rollouts");
    for (i, rollout) in document.rollouts.iter().flatten().enumerate() {
        let place = rollouts.item(i);
        if let Some(when) = &rollout.when {
            look(when, &place.field("when"));
        }
        let force = place.field("force");
        for (i, entry) in rollout.force.iter().enumerate() {
            look(&entry.when, &force.item(i).field("when"));
        }
        if let Some(when) = rollout.shadow.as_ref().and_then(|shadow| shadow.when.as_ref()) {
            look(when, &place.field("shadow").field("when"));
        }
    }
    let flags = Path::Root.field("flags");
    for (i, (key, flag)) in document.flags.iter().flat_map(|flags| &flags.0).enumerate() {
        let place = if flag.key.is_some() { flags.item(i) } else { flags.field(key) };
        if let Some(targeting) = &flag.targeting {
            look(targeting, &place.field("targeting"));
        }
    }
}

/// Shows `look` every expression of the document.
pub fn each_whole(document: &Document, look: &mut dyn FnMut(&Json, &Path<'_>)) {
    for (member, entries) in [("cohorts", &document.cohorts), ("$evaluators", &document.evaluators)] {
        let place = Path::Root.field(member);
        for (name, json) in entries.iter().flat_map(|entries| &entries.0) {
            look(json, &place.field(name));
        }
    }
    each_root(document, look);
}

/// What conditions say whatever the request is.
pub struct Truths<'d> {
    cohorts: BTreeMap<&'d str, &'d Json>,
    evaluators: BTreeMap<&'d str, &'d Json>,
    /// Of named expressions it is found once: they may refer to each other.
    known: RefCell<BTreeMap<*const Json, Option<bool>>>,
}

impl<'d> Truths<'d> {
    pub fn new(document: &'d Document) -> Truths<'d> {
        fn named(entries: &Option<Entries<Json>>) -> BTreeMap<&str, &Json> {
            entries.iter().flat_map(|entries| &entries.0).map(|(name, json)| (&**name, json)).collect()
        }
        let (cohorts, evaluators) = (named(&document.cohorts), named(&document.evaluators));
        Truths { cohorts, evaluators, known: RefCell::default() }
    }

    /// Whether `json` holds for every request, or for none; `None` where it depends.
    pub fn of(&self, json: &Json) -> Option<bool> {
        let Some((operator, operands)) = operation(json) else { return plainly(json) };
        match operator {
            "and" if contradicts(operands) => Some(false),
            // One that never holds decides an `and`, one that always does an `or`.
            "and" | "or" => {
                let decisive = operator == "or";
                let inner: Vec<Option<bool>> = operands.iter().map(|operand| self.of(operand)).collect();
                let is_decided = inner.contains(&Some(decisive));
                let is_even = inner.iter().all(|it| *it == Some(!decisive));
                is_decided.then_some(decisive).or(is_even.then_some(!decisive))
            }
            "!" => self.of(operands.first()?).map(|it| !it),
            "!!" => self.of(operands.first()?),
            "cohort" => self.named(&self.cohorts, operands),
            "$ref" => self.named(&self.evaluators, operands),
            _ => plainly(json),
        }
    }

    fn named(&self, named: &BTreeMap<&str, &'d Json>, operands: &[Json]) -> Option<bool> {
        let [Json::Text(name)] = operands else { return None };
        let json: &Json = named.get(&**name)?;
        if let Some(known) = self.known.borrow().get(&std::ptr::from_ref(json)) {
            return *known;
        }
        let truth = self.of(json);
        self.known.borrow_mut().insert(json, truth);
        truth
    }
}

/// Whether an expression holds that asks for nothing of the request.
fn plainly(json: &Json) -> Option<bool> {
    let mut asks = false;
    each(json, &Path::Root, &mut |operator, _, _| {
        asks |= matches!(
            operator,
            "var" | "missing" | "missing_some" | "flag" | "cohort" | "$ref" | "fractional"
        );
    });
    if asks {
        return None;
    }
    let mut compiler = Compiler::new(Vec::new(), Vec::new(), Vec::new(), crate::wire::Fractional::default());
    // As targeting, which takes the most.
    let condition = compiler.targeting(json, &Path::Root, &mut Findings::default())?;
    Some(condition.holds(&Library::default(), &Nothing))
}

/// A request of which nothing is known.
struct Nothing;

impl Data for Nothing {
    fn var<'s>(&'s self, _: &Var) -> Value<'s> {
        Value::Null
    }
}

/// Whether all of these cannot hold together: one and the same variable is to be different texts.
fn contradicts(operands: &[Json]) -> bool {
    let mut allowed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, texts) in operands.iter().filter_map(one_of) {
        let left = match allowed.get(name) {
            Some(before) => before.intersection(&texts).copied().collect(),
            None => texts,
        };
        if left.is_empty() {
            return true;
        }
        allowed.insert(name, left);
    }
    false
}

/// A variable and the texts that it must be one of.
fn one_of(json: &Json) -> Option<(&str, BTreeSet<&str>)> {
    let (operator, [first, second]) = operation(json)? else { return None };
    match (operator, second) {
        ("in", Json::List(items)) => Some((variable(first)?, items.iter().map(text).collect::<Option<_>>()?)),
        ("==" | "===", _) => {
            let (name, value) = match variable(first) {
                Some(name) => (name, second),
                None => (variable(second)?, first),
            };
            Some((name, BTreeSet::from([text(value)?])))
        }
        _ => None,
    }
}

fn text(json: &Json) -> Option<&str> {
    if let Json::Text(text) = json { Some(text) } else { None }
}

/// The name of a variable; one with a default of its own is none here.
fn variable(json: &Json) -> Option<&str> {
    match operation(json)? {
        ("var", [Json::Text(name)]) => Some(name),
        _ => None,
    }
}
