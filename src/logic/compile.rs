//! From JSON to compiled expressions: what every operator takes, and what is refused.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::library::{Named, Unknown, Use};
use super::tree::{Binary, Each, Expr, Many, Order, Texts, Unary, joined};
use super::var::Attributes;
use crate::finding::{Finding, Findings, Path, Problem};
use crate::json::Json;

/// How deep operators and lists may stand inside each other in one expression, as it is written.
pub(super) const DEEPEST_WRITTEN: usize = 64;

/// What `var` looks into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// The request, or the flag's context.
    Data,
    /// The item, in a body of `map` and its like.
    Item,
}

/// What an expression is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// A cohort or a `force` entry: literals that an operator cannot read are refused.
    Condition,
    /// A rollout's `when`: a condition that may ask for flags too.
    When,
    /// A flag's targeting, which is taken as flagd takes it: such literals give null when it is evaluated.
    Targeting,
}

impl Scope {
    /// The first and the last, in their order.
    pub(super) const ALL: (Scope, Scope) = (Scope::Data, Scope::Item);
}

impl Part {
    /// The first and the last, in their order.
    pub(super) const ALL: (Part, Part) = (Part::Condition, Part::Targeting);

    /// What an evaluator is part of that is used in this one.
    pub(super) fn of_evaluator(self) -> Part {
        if self == Part::When { Part::Condition } else { self }
    }
}

/// The names that expressions may use.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) attributes: Attributes,
    pub(super) cohorts: BTreeMap<Box<str>, usize>,
    pub(super) evaluators: BTreeMap<Box<str>, usize>,
    pub(super) flags: BTreeMap<Box<str>, u32>,
}

impl Names {
    /// Reports a variable that no request has.
    pub(super) fn report(&self, Unknown { name, place }: &Unknown, findings: &mut Findings) {
        if let Some(problem) = self.attributes.unknown(name) {
            findings.adopt(&Path::Root, vec![Finding { place: place.to_string(), problem }]);
        }
    }
}

/// Things that some expression uses, numbered in the order in which they were first wanted.
#[derive(Debug)]
pub(super) struct Wanted<T> {
    ids: BTreeMap<T, usize>,
    list: Vec<T>,
}

/// An evaluator, and how it is used: it is compiled once for every way.
pub(super) type EvaluatorUse = (usize, Scope, Part);

impl<T> Default for Wanted<T> {
    fn default() -> Self {
        Wanted { ids: BTreeMap::new(), list: Vec::new() }
    }
}

impl<T: Copy + Ord> Wanted<T> {
    /// The number of `thing`, which is wanted now.
    pub(super) fn id(&mut self, thing: T) -> usize {
        *self.ids.entry(thing).or_insert_with(|| {
            self.list.push(thing);
            self.list.len() - 1
        })
    }

    /// Whether one of `things` is wanted.
    pub(super) fn has_any(&self, things: RangeInclusive<T>) -> bool {
        self.ids.range(things).next().is_some()
    }

    /// What number `id` is.
    pub(super) fn get(&self, id: usize) -> Option<T> {
        self.list.get(id).copied()
    }
}

/// Compiles one expression, with what it may refer to and whom it tells.
pub(super) struct Expressions<'c> {
    pub(super) names: &'c Names,
    pub(super) wanted: &'c mut Wanted<EvaluatorUse>,
    pub(super) findings: &'c mut Findings,
    pub(super) uses: Vec<Use>,
    pub(super) unknown: Option<Unknown>,
    levels: usize,
}

/// Where in the document an expression stands, and under what.
#[derive(Clone, Copy)]
pub(super) struct At<'p> {
    pub(super) path: &'p Path<'p>,
    pub(super) scope: Scope,
    pub(super) part: Part,
    pub(super) level: usize,
}

impl<'p> At<'p> {
    pub(super) fn path<'q>(self, path: &'q Path<'q>) -> At<'q> {
        At { path, scope: self.scope, part: self.part, level: self.level }
    }

    pub(super) fn deeper(self) -> At<'p> {
        At { level: self.level + 1, ..self }
    }
}

impl<'c> Expressions<'c> {
    pub(super) fn new(
        names: &'c Names,
        wanted: &'c mut Wanted<EvaluatorUse>,
        findings: &'c mut Findings,
    ) -> Expressions<'c> {
        Expressions { names, wanted, findings, uses: Vec::new(), unknown: None, levels: 0 }
    }

    /// Compiles an expression that stands in nothing else. Reports all that is wrong in it.
    pub(super) fn compile(mut self, json: &Json, path: &Path<'_>, scope: Scope, part: Part) -> Option<Named> {
        let expr = self.expression(json, At { path, scope, part, level: 1 })?;
        Some(Named { expr, levels: self.levels, uses: self.uses, unknown: self.unknown })
    }

    pub(super) fn expression(&mut self, json: &Json, at: At<'_>) -> Option<Expr> {
        if self.findings.is_full() {
            return None;
        }
        if at.level > DEEPEST_WRITTEN {
            return self.refuse(at.path, too_deep(DEEPEST_WRITTEN, at.level));
        }
        self.levels = self.levels.max(at.level);
        match json {
            Json::Object(members) => match members.as_slice() {
                [(name, operands)] => self.operator(name, operands, at.path(&at.path.field(name)).deeper()),
                members => {
                    let found = format!("{} members", members.len());
                    self.refuse(at.path, Problem::expected("an operator: an object with one member", found))
                }
            },
            Json::List(items) if !is_literal(json, DEEPEST_WRITTEN - at.level) => {
                self.each_of(items, at.deeper(), None).map(|items| Expr::List(items.into()))
            }
            _ => Some(Expr::Literal(json.clone())),
        }
    }

    fn operator(&mut self, name: &str, operands: &Json, at: At<'_>) -> Option<Expr> {
        match name {
            "var" => self.var(operands, at),
            "missing" => self.missing(operands, at),
            "missing_some" => self.missing_some(operands, at),
            "if" | "?:" => self.any(operands, at).map(Expr::If),
            "!" => self.unary(Unary::Not, operands, at),
            "!!" => self.unary(Unary::Truth, operands, at),
            "log" => self.unary(Unary::Log, operands, at),
            "-" if operands_of(operands).len() == 1 => self.unary(Unary::Negate, operands, at),
            "-" => self.binary(Binary::Subtract, operands, at),
            "==" => self.binary(Binary::Equal, operands, at),
            "!=" => self.binary(Binary::Unequal, operands, at),
            "===" => self.binary(Binary::Same, operands, at),
            "!==" => self.binary(Binary::Different, operands, at),
            "<" => self.order(Order::Less, operands, at),
            "<=" => self.order(Order::LessOrEqual, operands, at),
            ">" => self.order(Order::Greater, operands, at),
            ">=" => self.order(Order::GreaterOrEqual, operands, at),
            "/" => self.binary(Binary::Divide, operands, at),
            "%" => self.binary(Binary::Remainder, operands, at),
            "and" => self.some(operands, at).map(|operands| Expr::And(joined(operands))),
            "or" => self.some(operands, at).map(Expr::Or),
            "max" => self.many(Many::Max, operands, at),
            "min" => self.many(Many::Min, operands, at),
            "+" => self.many(Many::Add, operands, at),
            "*" => self.many(Many::Multiply, operands, at),
            "cat" => self.many(Many::Cat, operands, at),
            "merge" => self.any(operands, at).map(|operands| Expr::Many(Many::Merge, operands)),
            "in" => self.contained(operands, at),
            "substr" => self.substring(operands, at),
            "map" => self.each(Each::Map, operands, at),
            "filter" => self.each(Each::Filter, operands, at),
            "all" => self.each(Each::All, operands, at),
            "none" => self.each(Each::None, operands, at),
            "some" => self.each(Each::Some, operands, at),
            "reduce" => self.with_body(operands, at).map(Expr::Reduce),
            "starts_with" => self.affix(Binary::StartsWith, operands, at),
            "ends_with" => self.affix(Binary::EndsWith, operands, at),
            "sem_ver" => self.sem_ver(operands, at),
            "cidr" => self.cidr(operands, at),
            "matches" => self.matches(operands, at),
            "cohort" => self.cohort(operands, at),
            "$ref" => self.evaluator(operands, at),
            "fractional" => self.fractional(operands, at),
            "flag" => self.flag(operands, at),
            _ => self.refuse_unknown("operator", name, at),
        }
    }

    fn unary(&mut self, operator: Unary, operands: &Json, at: At<'_>) -> Option<Expr> {
        let [operand] = *self.exactly(operands, at)?;
        Some(Expr::Unary(operator, operand.into()))
    }

    pub(super) fn binary(&mut self, operator: Binary, operands: &Json, at: At<'_>) -> Option<Expr> {
        self.exactly(operands, at).map(|operands| Expr::Binary(operator, operands))
    }

    fn order(&mut self, order: Order, operands: &Json, at: At<'_>) -> Option<Expr> {
        match operands_of(operands).len() {
            2 => self.binary(Binary::Order(order), operands, at),
            3 => self.exactly(operands, at).map(|operands| Expr::Between(order, operands)),
            found => self.refuse_count("2 or 3 operands", found, at),
        }
    }

    fn many(&mut self, operator: Many, operands: &Json, at: At<'_>) -> Option<Expr> {
        self.some(operands, at).map(|operands| Expr::Many(operator, operands))
    }

    fn contained(&mut self, operands: &Json, at: At<'_>) -> Option<Expr> {
        if let [item, Json::List(items)] = operands_of(operands)
            && let Some(texts) = Texts::of(items)
        {
            let path = at.path.item(0);
            return Some(Expr::InTexts(self.expression(item, at.path(&path))?.into(), texts));
        }
        self.binary(Binary::In, operands, at)
    }

    fn substring(&mut self, operands: &Json, at: At<'_>) -> Option<Expr> {
        match operands_of(operands).len() {
            2 => {
                let [text, start] = *self.exactly(operands, at)?;
                Some(Expr::Substring(text.into(), start.into(), None))
            }
            3 => {
                let [text, start, length] = *self.exactly(operands, at)?;
                Some(Expr::Substring(text.into(), start.into(), Some(length.into())))
            }
            found => self.refuse_count("2 or 3 operands", found, at),
        }
    }

    fn each(&mut self, each: Each, operands: &Json, at: At<'_>) -> Option<Expr> {
        self.with_body(operands, at).map(|operands| Expr::Each(each, operands))
    }

    /// Any number of operands.
    pub(super) fn any(&mut self, operands: &Json, at: At<'_>) -> Option<Box<[Expr]>> {
        match operands {
            Json::List(items) => self.each_of(items, at, None).map(Into::into),
            operand => Some(Box::new([self.expression(operand, at)?])),
        }
    }

    /// One operand or more.
    fn some(&mut self, operands: &Json, at: At<'_>) -> Option<Box<[Expr]>> {
        match operands_of(operands).len() {
            0 => self.refuse_count("at least 1 operand", 0, at),
            _ => self.any(operands, at),
        }
    }

    /// Exactly `N` operands, or one that is not in a list.
    pub(super) fn exactly<const N: usize>(&mut self, operands: &Json, at: At<'_>) -> Option<Box<[Expr; N]>> {
        self.counted(operands, at, None)
    }

    /// Exactly `N` operands, the second of which is evaluated for each item of the first.
    fn with_body<const N: usize>(&mut self, operands: &Json, at: At<'_>) -> Option<Box<[Expr; N]>> {
        self.counted(operands, at, Some(1))
    }

    fn counted<const N: usize>(
        &mut self,
        operands: &Json,
        at: At<'_>,
        body: Option<usize>,
    ) -> Option<Box<[Expr; N]>> {
        let found = operands_of(operands).len();
        if found != N {
            let expected = if N == 1 { "1 operand".to_owned() } else { format!("{N} operands") };
            return self.refuse(at.path, Problem::expected(expected, found));
        }
        let operands: Box<[Expr]> = match operands {
            Json::List(items) => self.each_of(items, at, body)?.into(),
            operand => Box::new([self.expression(operand, at)?]),
        };
        operands.try_into().ok()
    }

    /// Every one of `items`, so that all that is wrong in them is reported.
    pub(super) fn each_of(&mut self, items: &[Json], at: At<'_>, body: Option<usize>) -> Option<Vec<Expr>> {
        let mut exprs = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let path = at.path.item(i);
            let scope = if body == Some(i) { Scope::Item } else { at.scope };
            exprs.extend(self.expression(item, At { path: &path, scope, ..at }));
        }
        (exprs.len() == items.len()).then_some(exprs)
    }

    pub(super) fn refuse_count<T>(&mut self, expected: &'static str, found: usize, at: At<'_>) -> Option<T> {
        self.refuse(at.path, Problem::expected(expected, found))
    }

    pub(super) fn refuse_unknown<T>(&mut self, what: &'static str, name: &str, at: At<'_>) -> Option<T> {
        self.refuse(at.path, Problem::unknown(what, name))
    }

    pub(super) fn refuse<T>(&mut self, path: &Path<'_>, problem: Problem) -> Option<T> {
        self.findings.report(path, problem);
        None
    }
}

/// That expressions stand too deep in each other.
pub(super) fn too_deep(limit: usize, found: usize) -> Problem {
    Problem::OverLimit { what: "levels of expressions", limit: limit as u64, found: found as u64 }
}

/// The operator of an expression, and what it is applied to; `None` for a literal.
#[must_use]
pub fn operation(json: &Json) -> Option<(&str, &[Json])> {
    let Json::Object(members) = json else { return None };
    let [(operator, operands)] = &members[..] else { return None };
    Some((operator, operands_of(operands)))
}

/// What an operator is applied to: one operand needs no list around it.
pub(super) fn operands_of(json: &Json) -> &[Json] {
    match json {
        Json::List(items) => items,
        operand => std::slice::from_ref(operand),
    }
}

/// Whether there is no operator in it; not looking deeper than `levels`.
fn is_literal(json: &Json, levels: usize) -> bool {
    match json {
        Json::Object(_) => false,
        Json::List(_) if levels == 0 => false,
        Json::List(items) => items.iter().all(|item| is_literal(item, levels - 1)),
        _ => true,
    }
}
