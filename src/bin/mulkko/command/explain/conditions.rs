//! Conditions with the value of each of their parts: which of them decided, and what it saw.
//!
//! There is no evaluator here. Each part is compiled by itself, by the engine's own compiler, and evaluated with the request's
//! values. Parts in the body of `map` and its like see items, and have no value of their own.

use mulkko::decide::Values;
use mulkko::finding::{Findings, Path};
use mulkko::flag::FlagId;
use mulkko::json::Json;
use mulkko::logic::{Compiler, Condition, Data, Library, Value, operation};
use mulkko::ofrep::Context;
use mulkko::policy::TargetingKey;
use mulkko::wire::{Document, Entries, Rollout};
use serde::Serialize;
use serde_json::json;

use super::expression::text;

/// The most parts of one condition that are told.
const MOST_PARTS: usize = 500;

/// The conditions of some rollouts and flags.
pub struct Conditions {
    library: Library,
    rollouts: Vec<(String, OfRollout)>,
    flags: Vec<(FlagId, Part)>,
}

struct OfRollout {
    when: Option<Part>,
    force: Vec<Part>,
}

/// A part of a condition.
struct Part {
    text: String,
    /// It is what it says.
    is_literal: bool,
    condition: Condition,
    decides: Decides,
    /// The conditions that it is made of.
    parts: Vec<Part>,
    /// What else it is made of, with their texts.
    operands: Vec<(String, Condition)>,
}

/// Which of its parts decide a part.
#[derive(Clone, Copy)]
enum Decides {
    /// Those that fail, or all.
    And,
    /// The first that holds, or all.
    Or,
    /// Conditions and what follows from them, in turns, up to the first that holds.
    If,
    /// All.
    All,
}

/// A part of a condition, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    pub condition: String,
    pub value: serde_json::Value,
    /// What it saw, with the values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub saw: Vec<(String, serde_json::Value)>,
    /// The parts that decided.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<Told>,
}

impl Conditions {
    /// The conditions of the rollouts of these names, and the targeting of these flags.
    ///
    /// `None` where the document was not taken.
    pub fn of(document: Document, rollouts: &[&str], flags: &[FlagId]) -> Option<Conditions> {
        let mut findings = Findings::default();
        let compiler = compiler(&document, &mut findings);
        let evaluators = document.evaluators.unwrap_or_default().0;
        let cohorts = document.cohorts.unwrap_or_default().0;
        let mut compiling = Compiling {
            compiler,
            findings,
            evaluators: &evaluators,
            cohorts: &cohorts,
            compile: Compiler::when,
            left: 0,
        };
        let all_flags = document.flags.unwrap_or_default().0;
        let told = document.rollouts.unwrap_or_default().into_iter();
        let told = told.filter(|rollout| rollouts.contains(&rollout.name.as_str()));
        let rollouts = told.map(|rollout| Some((rollout.name.clone(), compiling.rollout(&rollout)?)));
        let rollouts = rollouts.collect::<Option<_>>()?;
        compiling.compile = Compiler::targeting;
        let told = (0..).zip(&all_flags).filter(|(id, _)| flags.contains(id));
        let told = told.filter_map(|(id, (_, flag))| {
            Some((id, flag.targeting.as_ref().filter(|json| operation(json).is_some())?))
        });
        let flags = told.map(|(id, json)| Some((id, compiling.whole(json)?))).collect::<Option<_>>()?;
        let Compiling { mut compiler, mut findings, .. } = compiling;
        while compiler.compile_unused(&mut findings) {}
        Some(Conditions { library: compiler.close(&mut findings)?, rollouts, flags })
    }

    /// What came of a rollout's `when` for these values.
    pub fn when(&self, rollout: &str, key: TargetingKey, values: &Values<'_>) -> Option<Told> {
        Some(self.told(self.rollout(rollout)?.when.as_ref()?, &values.seen_with(key)))
    }

    /// What came of entry `i` of a rollout's `force`.
    pub fn force(&self, rollout: &str, i: usize, key: TargetingKey, values: &Values<'_>) -> Option<Told> {
        Some(self.told(self.rollout(rollout)?.force.get(i)?, &values.seen_with(key)))
    }

    /// What came of the targeting of a flag.
    pub fn targeting<'a>(
        &self,
        flag: FlagId,
        values: &Values<'a>,
        context: Option<&'a Context>,
    ) -> Option<Told> {
        let (_, part) = self.flags.iter().find(|(id, _)| *id == flag)?;
        Some(self.told(part, &values.seen_for(flag, context)?))
    }

    fn rollout(&self, name: &str) -> Option<&OfRollout> {
        self.rollouts.iter().find(|(rollout, _)| rollout == name).map(|(_, rollout)| rollout)
    }

    fn told(&self, part: &Part, seen: &dyn Data) -> Told {
        let holds = |part: &&Part| part.condition.holds(&self.library, seen);
        let deciding: Vec<&Part> = match part.decides {
            Decides::And if !holds(&part) => part.parts.iter().filter(|part| !holds(part)).collect(),
            Decides::Or if holds(&part) => part.parts.iter().find(holds).into_iter().collect(),
            Decides::If => up_to_the_chosen(&part.parts, |part| holds(&part)),
            _ => part.parts.iter().collect(),
        };
        let deciding = deciding.into_iter().filter(|part| !part.is_literal);
        let value = |condition: &Condition| told(&condition.evaluate(&self.library, seen));
        Told {
            condition: part.text.clone(),
            value: value(&part.condition),
            saw: part.operands.iter().map(|(text, operand)| (text.clone(), value(operand))).collect(),
            because: deciding.map(|part| self.told(part, seen)).collect(),
        }
    }
}

/// A compiler for more expressions of a document, its cohorts compiled.
pub fn compiler(document: &Document, findings: &mut Findings) -> Compiler {
    fn named<T: Clone>(entries: Option<&Entries<T>>) -> Vec<(Box<str>, T)> {
        entries.cloned().unwrap_or_default().0
    }
    fn names<T>(entries: Option<&Entries<T>>) -> Vec<Box<str>> {
        entries.iter().flat_map(|entries| &entries.0).map(|(name, _)| name.clone()).collect()
    }
    let (attributes, cohorts) = (document.attributes.as_ref(), document.cohorts.as_ref());
    let evaluators = named(document.evaluators.as_ref());
    let fractional = document.fractional.unwrap_or_default();
    let mut compiler = Compiler::new(names(attributes), evaluators, names(cohorts), fractional);
    for (i, (_, json)) in cohorts.iter().flat_map(|cohorts| &cohorts.0).enumerate() {
        compiler.cohort(i, json, &Path::Root, findings);
    }
    for (id, (key, _)) in (0..).zip(document.flags.iter().flat_map(|flags| &flags.0)) {
        compiler.flag(key, id);
    }
    compiler
}

/// The parts of an `if` that were looked at: conditions that do not hold, then the first that does with what follows from it.
fn up_to_the_chosen(parts: &[Part], holds: impl Fn(&Part) -> bool) -> Vec<&Part> {
    let mut looked_at = Vec::new();
    for pair in parts.chunks(2) {
        match pair {
            [condition, then] if holds(condition) => {
                looked_at.extend([condition, then]);
                break;
            }
            [first, ..] => looked_at.push(first),
            [] => {}
        }
    }
    looked_at
}

/// Compiles parts.
struct Compiling<'d> {
    compiler: Compiler,
    findings: Findings,
    evaluators: &'d [(Box<str>, Json)],
    cohorts: &'d [(Box<str>, Json)],
    /// As what the parts are compiled.
    compile: fn(&mut Compiler, &Json, &Path<'_>, &mut Findings) -> Option<Condition>,
    /// How many parts of this condition may still be told.
    left: usize,
}

impl Compiling<'_> {
    fn rollout(&mut self, rollout: &Rollout) -> Option<OfRollout> {
        let when = match &rollout.when {
            Some(when) => Some(self.whole(when)?),
            None => None,
        };
        let force = rollout.force.iter().map(|force| self.whole(&force.when)).collect::<Option<_>>()?;
        Some(OfRollout { when, force })
    }

    fn whole(&mut self, json: &Json) -> Option<Part> {
        self.left = MOST_PARTS;
        self.part(json)
    }

    fn condition(&mut self, json: &Json) -> Option<Condition> {
        (self.compile)(&mut self.compiler, json, &Path::Root, &mut self.findings)
    }

    fn part(&mut self, json: &Json) -> Option<Part> {
        let condition = self.condition(json)?;
        self.left = self.left.saturating_sub(1);
        let (text, is_literal) = (text(json), operation(json).is_none());
        let mut part = Part {
            text,
            is_literal,
            condition,
            decides: Decides::All,
            parts: Vec::new(),
            operands: Vec::new(),
        };
        let Some((operator, operands)) = operation(json) else { return Some(part) };
        let inner: Vec<&Json> = match operator {
            "and" | "or" | "!" | "!!" | "if" | "?:" => operands.iter().collect(),
            "cohort" => named(self.cohorts, operands).into_iter().collect(),
            "$ref" => named(self.evaluators, operands).into_iter().collect(),
            _ => {
                // What an operator without parts of its own saw.
                let computed = operands.iter().filter(|operand| operation(operand).is_some());
                part.operands = self.seen(computed, operator);
                return Some(part);
            }
        };
        part.decides = match operator {
            "and" => Decides::And,
            "or" => Decides::Or,
            "if" | "?:" => Decides::If,
            _ => Decides::All,
        };
        if self.left > inner.len() {
            part.parts = inner.into_iter().map(|json| self.part(json)).collect::<Option<_>>()?;
        }
        Some(part)
    }

    fn seen<'j>(
        &mut self,
        operands: impl Iterator<Item = &'j Json>,
        operator: &str,
    ) -> Vec<(String, Condition)> {
        // The second operand of these is a body, which sees items.
        let has_body = matches!(operator, "map" | "filter" | "all" | "none" | "some" | "reduce");
        let seen = operands.take(if has_body { 1 } else { usize::MAX });
        seen.filter_map(|json| Some((text(json), self.condition(json)?))).collect()
    }
}

fn named<'d>(entries: &'d [(Box<str>, Json)], operands: &[Json]) -> Option<&'d Json> {
    let Some(Json::Text(name)) = operands.first() else { return None };
    entries.iter().find(|(entry, _)| entry == name).map(|(_, json)| json)
}

/// A value as JSON. A number that is none, as JSON has it, is told as a text.
fn told(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::Null => json!(null),
        Value::Bool(value) => json!(value),
        Value::Number(number) => super::expression::number(*number),
        Value::Text(text) => json!(text),
        Value::List(list) => list.iter().map(|item| told(&item)).collect(),
        Value::Object(object) => object.iter().map(|(name, value)| (name.to_owned(), told(&value))).collect(),
    }
}
