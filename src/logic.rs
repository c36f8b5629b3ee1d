//! Conditions: JsonLogic as flagd defines it, compiled once into a tree that evaluates without touching JSON.
//!
//! What is refused, is refused when compiling, with the place: unknown operators and names, a wrong number of operands,
//! literals that an operator cannot read, expressions that reach themselves. Evaluating a condition cannot fail. An
//! operator that cannot do with what a request brings gives null, as flagd's do.
//!
//! # Overview
//! * A [`Compiler`] takes the expressions of a policy one by one, so that loading can pause between them. Cohorts and
//!   `$evaluators` may refer to each other in any order; [`Compiler::close`] sees that all of it comes to an end.
//! * A [`Condition`] is one compiled expression. It is evaluated with the [`Library`] of the policy's named expressions
//!   and with [`Data`], which answers for variables.
//! * A [`Value`] borrows from policy and request. Comparing, searching and matching texts copies none.
//!
//! # Operators
//! All of JsonLogic's and flagd's (`fractional`, `sem_ver`, `starts_with`, `ends_with`, `$ref`), and
//! * `{"cohort": NAME}`: whether the request is in the cohort;
//! * `{"cidr": [IP, NETWORK or [NETWORK…]]}`: whether the address is in one of the networks, or is one of the addresses;
//!   bits beyond a prefix do not count; null where IP is none. IPv4 addresses mapped into IPv6 are IPv4 addresses;
//! * `{"matches": [TEXT, PATTERN]}`: whether the pattern matches the whole text; null where TEXT is none;
//! * `{"flag": KEY}`: the flag's value, in a rollout's `when` alone.
//!
//! A flag's targeting is taken as flagd takes it ([`Compiler::targeting`]): what it has that cannot work is null when it
//! is evaluated, where a condition would be refused. `fractional` without a bucketing value hashes the flag's key (none,
//! in a condition) and the targeting key.
//!
//! In the body of `map`, `filter`, `all`, `none`, `some` and `reduce`, `var` looks into the item. A `cohort` there still
//! asks the request; a `$ref` is as if its expression stood there. `log` is its operand: nothing is logged.
//!
//! # Where JsonLogic's implementations differ
//! * Texts turn into numbers whole, as by JavaScript's `Number`, in `+` and `*` too: `"1px"` is not a number.
//! * Null is absent: `var` gives its default for it; it is the empty text in `cat` and `substr`, and in no text for `in`.
//! * Two lists, or two objects, are never equal to each other.
//! * `>` and `>=` take three operands as `<` and `<=` do: each must stand so to the next.
//! * `substr` counts Unicode scalar values; `<` and its like compare texts by them.
//! * An object is an operator and has exactly one member.
//!
//! # Untrusted input
//! Expressions stand at most 64 deep in each other as they are written, 256 with every name replaced by its expression,
//! so no evaluation fills the stack: it takes less than 512 KiB, and a flag's is on top of that of the `when` that asks
//! for it. All that a request asks has one [`Budget`], in which what is read and made counts by size; what uses it up gives
//! null. A cohort's truth is found once for each targeting key; where it sees `$flagd.flagKey`, once an evaluation. What an operator makes may nest 64 deep, else likewise.

use std::collections::BTreeSet;

use crate::budget::Budget;
use crate::finding::{Findings, Path, Problem};
use crate::json::Json;
use crate::policy::{FEW, Parts};
use crate::wire;

mod cbor;
mod coerce;
mod compile;
mod eval;
mod fractional;
mod library;
mod lists;
mod literals;
mod networks;
mod sem_ver;
mod tree;
mod value;
mod var;

use compile::{EvaluatorUse, Expressions, Names, Part, Scope, Wanted};
use eval::Evaluation;
use library::{Check, DEEPEST_EXPANDED, Fault, Graph, Named, Reach, Use};
use tree::Expr;
use var::Attributes;

pub use compile::operation;
pub use eval::Failure;
pub(crate) use literals::MOST_LEVELS;
pub use value::{List, Object, Value};
pub use var::{Data, Key, Truth, Var, Way, unknown};

/// Steps that an evaluation takes beside those of its operators.
const EVALUATION: usize = 3;

/// Compiles all expressions of one policy.
///
/// First every cohort, by [`Compiler::cohort`], and the conditions that use them, by [`Compiler::condition`], in any
/// order; then [`Compiler::compile_unused`] and [`Compiler::close`].
#[derive(Debug, Default)]
pub struct Compiler {
    names: Names,
    cohort_names: Vec<Box<str>>,
    evaluator_sources: Vec<(Box<str>, Json)>,
    cohorts: Vec<Option<Named>>,
    wanted: Wanted<EvaluatorUse>,
    evaluators: Vec<Option<Named>>,
    /// The named expressions that conditions of rollouts use.
    of_rollouts: BTreeSet<Use>,
    /// How many of the evaluators have been looked at for being unused.
    looked_at: usize,
    check: Check,
    reach: Reach,
    fractional: wire::Fractional,
}

/// The named expressions of a policy, which its conditions refer to.
#[derive(Debug, Default)]
pub struct Library {
    attributes: Attributes,
    cohorts: Vec<Option<Named>>,
    evaluators: Vec<Option<Named>>,
    fractional: wire::Fractional,
}

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Condition(Expr);

/// How an evaluation ended.
#[derive(Clone, Debug)]
pub struct Evaluated<'a> {
    /// The value, or why there is none.
    pub value: Result<Value<'a>, Failure>,
    /// Whether `fractional` was to hash a targeting key that is not there. It is null then.
    pub lacks_key: bool,
}

impl Compiler {
    /// A compiler for a policy with these attributes, `$evaluators` and cohorts. Of a name that stands twice the caller
    /// tells; here the last attribute or cohort and the last evaluator of the name count.
    #[must_use]
    pub fn new(
        attributes: Vec<Box<str>>,
        evaluators: Vec<(Box<str>, Json)>,
        cohorts: Vec<Box<str>>,
        fractional: wire::Fractional,
    ) -> Compiler {
        let mut compiler = Compiler::default();
        attributes.iter().for_each(|name| compiler.declare_attribute(name));
        evaluators.into_iter().for_each(|(name, json)| compiler.declare_evaluator(&name, json));
        cohorts.iter().for_each(|name| compiler.declare_cohort(name));
        compiler.hash_as(fractional);
        compiler
    }

    /// Takes down the name of an attribute; its number is how many there were before.
    pub(crate) fn declare_attribute(&mut self, name: &str) {
        self.names.attributes.add(name);
    }

    /// Takes down an evaluator, which is compiled when something refers to it.
    pub(crate) fn declare_evaluator(&mut self, name: &str, json: Json) {
        self.names.evaluators.insert(name.into(), self.evaluator_sources.len());
        self.evaluator_sources.push((name.into(), json));
    }

    /// Takes down the name of a cohort; its number is how many there were before.
    pub(crate) fn declare_cohort(&mut self, name: &str) {
        self.names.cohorts.insert(name.into(), self.cohorts.len());
        self.cohorts.push(None);
        self.cohort_names.push(name.into());
    }

    /// Which of flagd's arithmetics `fractional` uses.
    pub(crate) fn hash_as(&mut self, fractional: wire::Fractional) {
        self.fractional = fractional;
    }

    /// Lets the conditions that are compiled from now on ask for flag `id` as `key`.
    pub fn flag(&mut self, key: &str, id: u32) {
        self.names.flags.insert(key.into(), id);
    }

    /// Compiles the expression of cohort `index` (its place among the names given to [`Compiler::new`]), written at
    /// `path`.
    pub fn cohort(&mut self, index: usize, json: &Json, path: &Path<'_>, findings: &mut Findings) {
        let compiled = self.compile(json, path, Part::Condition, findings);
        if let Some(cohort) = self.cohorts.get_mut(index) {
            *cohort = compiled;
        }
    }

    /// Compiles a rollout's condition that is written at `path`; `None` if anything in it was reported.
    ///
    /// It is evaluated for requests alone: a variable that no request has is refused, here and, by [`Compiler::close`], in
    /// the cohorts and evaluators that it reaches.
    pub fn condition(&mut self, json: &Json, path: &Path<'_>, findings: &mut Findings) -> Option<Condition> {
        self.of_rollout(json, path, Part::Condition, findings)
    }

    /// As [`Compiler::condition`], of a rollout's `when`: it may ask for flags too.
    pub fn when(&mut self, json: &Json, path: &Path<'_>, findings: &mut Findings) -> Option<Condition> {
        self.of_rollout(json, path, Part::When, findings)
    }

    /// As [`Compiler::condition`], of a flag's targeting. It is taken as flagd takes it: literals that `sem_ver`,
    /// `starts_with`, `ends_with` or `fractional` cannot read make them null, and a `$ref` to nothing is
    /// [`Failure::UnknownEvaluator`] when it is reached.
    pub fn targeting(&mut self, json: &Json, path: &Path<'_>, findings: &mut Findings) -> Option<Condition> {
        self.compile(json, path, Part::Targeting, findings).map(|named| Condition(named.expr))
    }

    /// Compiles one more evaluator: one that something refers to, or one that nothing uses, so that what is wrong in it is
    /// reported too. `false` when there is none left. To be called before [`Compiler::close`].
    pub fn compile_unused(&mut self, findings: &mut Findings) -> bool {
        self.compile_wanted(findings) || self.want_unused()
    }

    /// Looks at one more evaluator, and wants it compiled if nothing else does; `false` when all were looked at.
    pub(crate) fn want_unused(&mut self) -> bool {
        let evaluator = self.looked_at;
        if evaluator == self.evaluator_sources.len() {
            return false;
        }
        self.looked_at += 1;
        let uses = (evaluator, Scope::ALL.0, Part::ALL.0)..=(evaluator, Scope::ALL.1, Part::ALL.1);
        if !self.wanted.has_any(uses) {
            self.wanted.id((evaluator, Scope::Data, Part::Targeting));
        }
        true
    }

    /// The evaluator that is compiled next.
    pub(crate) fn wanted(&self) -> Option<&Json> {
        let (evaluator, ..) = self.wanted.get(self.evaluators.len())?;
        self.evaluator_sources.get(evaluator).map(|(_, json)| json)
    }

    /// Compiles an evaluator that something refers to; `false` when none is left.
    pub(crate) fn compile_wanted(&mut self, findings: &mut Findings) -> bool {
        let Some((evaluator, scope, part)) = self.wanted.get(self.evaluators.len()) else { return false };
        let Compiler { names, wanted, evaluator_sources, evaluators, .. } = self;
        let Some((name, json)) = evaluator_sources.get(evaluator) else { return false };
        let path = Path::Root.field("$evaluators");
        let path = path.field(name);
        evaluators.push(Expressions::new(names, wanted, findings).compile(json, &path, scope, part));
        true
    }

    /// Does a part of what [`Compiler::close`] does; `false` when all cohorts and evaluators were looked at.
    pub(crate) fn check(&mut self, findings: &mut Findings) -> bool {
        let mut check = std::mem::take(&mut self.check);
        let goes_on =
            check.step(&Graph { cohorts: &self.cohorts, evaluators: &self.evaluators }, |node, fault| {
                let (whose, name) = self.name(node);
                let problem = match fault {
                    Fault::ReachesItself => Problem::reaches_itself(name),
                    Fault::TooDeep(levels) => compile::too_deep(DEEPEST_EXPANDED, levels),
                };
                findings.report(&Path::Root.field(whose).field(name), problem);
            });
        self.check = check;
        goes_on || self.check_rollouts(findings)
    }

    /// Does a part of looking for what conditions of rollouts ask that no request has; `false` when all was looked at.
    fn check_rollouts(&mut self, findings: &mut Findings) -> bool {
        let graph = Graph { cohorts: &self.cohorts, evaluators: &self.evaluators };
        let roots = self.of_rollouts.iter().copied();
        self.reach.step(&graph, roots, |unknown| self.names.report(unknown, findings))
    }

    /// Ends compiling: reports cohorts and evaluators that reach themselves (one in each circle), and those that stand
    /// too deep in each other, at `cohorts.NAME` and `$evaluators.NAME`; and what no request has of that which those ask
    /// that conditions of rollouts reach, the first in each.
    ///
    /// `None` if there are any, or if a cohort or an evaluator that is used was not compiled or was refused.
    pub fn close(mut self, findings: &mut Findings) -> Option<Library> {
        while self.check(findings) {}
        let is_sound =
            self.check.is_sound() && self.cohorts.iter().chain(&self.evaluators).all(Option::is_some);
        is_sound.then(|| self.into_parts(&mut Parts::default()))
    }

    /// What was compiled, and `parts` of what is not needed for it.
    pub(crate) fn into_parts(self, parts: &mut Parts) -> Library {
        let Compiler { names, cohorts, evaluators, fractional, .. } = self;
        let Names { attributes, cohorts: by_name, evaluators: evaluators_by_name, flags } = names;
        parts.add(self.evaluator_sources, 1);
        parts.add(self.cohort_names, FEW);
        parts.add(by_name, FEW);
        parts.add(evaluators_by_name, FEW);
        parts.add(flags, FEW);
        Library { attributes, cohorts, evaluators, fractional }
    }

    fn of_rollout(
        &mut self,
        json: &Json,
        path: &Path<'_>,
        part: Part,
        findings: &mut Findings,
    ) -> Option<Condition> {
        let Named { expr, uses, unknown, .. } = self.compile(json, path, part, findings)?;
        // Where they stand does not matter here.
        let named = |used| match used {
            Use::Cohort { id, .. } => Use::Cohort { id, above: 0 },
            Use::Evaluator { id, .. } => Use::Evaluator { id, above: 0 },
        };
        self.of_rollouts.extend(uses.into_iter().map(named));
        match unknown {
            None => Some(Condition(expr)),
            Some(unknown) => {
                self.names.report(&unknown, findings);
                None
            }
        }
    }

    fn compile(
        &mut self,
        json: &Json,
        path: &Path<'_>,
        part: Part,
        findings: &mut Findings,
    ) -> Option<Named> {
        let Compiler { names, wanted, .. } = self;
        Expressions::new(names, wanted, findings).compile(json, path, Scope::Data, part)
    }

    /// Where node `node` of the graph is defined, and its name.
    fn name(&self, node: usize) -> (&'static str, &str) {
        match node.checked_sub(self.cohort_names.len()) {
            None => ("cohorts", self.cohort_names.get(node).map_or("", |name| name)),
            Some(id) => {
                let source = self.wanted.get(id).and_then(|(id, ..)| self.evaluator_sources.get(id));
                ("$evaluators", source.map_or("", |(name, _)| name))
            }
        }
    }
}

impl Library {
    fn cohort(&self, id: usize) -> Option<&Expr> {
        self.cohorts.get(id)?.as_ref().map(|named| &named.expr)
    }

    fn evaluator(&self, id: usize) -> Option<&Expr> {
        self.evaluators.get(id)?.as_ref().map(|named| &named.expr)
    }

    /// Gives `parts` all of it.
    pub(crate) fn into_parts(self, parts: &mut Parts) {
        parts.add(self.cohorts, 1);
        parts.add(self.evaluators, 1);
    }
}

impl Condition {
    /// Whether it holds: whether its value counts as true ([`Value::is_truthy`]).
    ///
    /// `library` is that of the same compiler; of another one the wrong cohorts answer.
    #[must_use]
    pub fn holds(&self, library: &Library, data: &dyn Data) -> bool {
        evaluating(library, data, |evaluation| evaluation.truth(&self.0, eval::Scope::Data)).unwrap_or(false)
    }

    /// Its value; null where the budget is used up.
    #[must_use]
    pub fn evaluate<'a>(&'a self, library: &'a Library, data: &'a dyn Data) -> Value<'a> {
        self.evaluated(library, data).value.unwrap_or(Value::Null)
    }

    /// Its value, and what there is to know about how it came about.
    #[must_use]
    pub fn evaluated<'a>(&'a self, library: &'a Library, data: &'a dyn Data) -> Evaluated<'a> {
        let mut lacks_key = false;
        let value = evaluating(library, data, |evaluation| {
            let value = evaluation.value(&self.0, eval::Scope::Data);
            lacks_key = evaluation.lacks_key;
            value
        });
        Evaluated { value, lacks_key }
    }
}

/// Evaluates on the budget of `data`. What the data had no steps left to look up it gave as absent: no value of that
/// stands.
fn evaluating<'a, T>(
    library: &'a Library,
    data: &'a dyn Data,
    evaluate: impl FnOnce(&mut Evaluation<'a, '_>) -> eval::Outcome<T>,
) -> eval::Outcome<T> {
    let own = Budget::default();
    let budget = data.budget().unwrap_or(&own);
    budget.spend(EVALUATION)?;
    let value = evaluate(&mut Evaluation::new(library, data, budget))?;
    if budget.is_exhausted() { Err(Failure::Exhausted) } else { Ok(value) }
}

#[cfg(test)]
mod tests;
