//! Evaluation: what every operator does.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::Library;
use super::coerce;
use super::networks::{Networks, parse_address};
use super::sem_ver::{Comparison, Version};
use super::tree::{Binary, Expr, Given, Many, Order, SemVer, Texts, Unary};
use super::value::Value;
use super::var::{Data, Truth, Var, Way};
use crate::budget::{Budget, Exhausted};

pub(super) type Outcome<T> = Result<T, Failure>;

/// Steps that a level of a name takes that is computed.
const NAME_STEPS: usize = 4;

/// Bytes of a text that are searched for another one in one step.
const SEARCHED_BYTES: usize = 16;

/// Bytes of a version that are read in one step.
const VERSION_BYTES: usize = 4;

/// Bytes of a version that are compared with one more target in one step.
const COMPARED_BYTES: usize = 2;

/// Steps that reading an address takes.
const ADDRESS: usize = 6;

/// Steps that keeping the truth of a cohort takes.
const KEPT_COHORT: usize = 4;

/// Why an evaluation has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It used up its budget.
    Exhausted,
    /// It reached a `$ref` to nothing.
    UnknownEvaluator,
}

impl From<Exhausted> for Failure {
    fn from(_: Exhausted) -> Self {
        Failure::Exhausted
    }
}

/// What `var` looks into.
#[derive(Clone, Copy)]
pub(super) enum Scope<'s, 'a> {
    /// The request, or the flag's context.
    Data,
    /// The item, in a body of `map` and its like.
    Item(&'s Value<'a>),
}

/// One evaluation: it keeps nothing and changes nothing but its budget.
pub(super) struct Evaluation<'a, 'b> {
    pub(super) library: &'a Library,
    pub(super) data: &'a dyn Data,
    pub(super) budget: &'b Budget,
    /// Whether a targeting key was to be hashed that is not there.
    pub(super) lacks_key: bool,
    /// Whether the key of the flag was asked for: what came of it holds for this evaluation alone.
    pub(super) sees_flag: bool,
    /// The cohorts that hold for this evaluation alone.
    own_cohorts: BTreeMap<usize, Truth>,
}

impl<'a, 'b> Evaluation<'a, 'b> {
    pub(super) fn new(library: &'a Library, data: &'a dyn Data, budget: &'b Budget) -> Evaluation<'a, 'b> {
        Evaluation { library, data, budget, lacks_key: false, sees_flag: false, own_cohorts: BTreeMap::new() }
    }
}

impl<'a> Evaluation<'a, '_> {
    /// The value of an expression. Every operator has a function of its own, which keeps this one's stack frame small:
    /// it is there once for every level.
    pub(super) fn value(&mut self, expr: &'a Expr, scope: Scope<'_, 'a>) -> Outcome<Value<'a>> {
        self.budget.spend(1)?;
        match expr {
            Expr::Literal(json) => self.read(Value::from(json)),
            Expr::Var(var) => self.var(var),
            Expr::Binary(operator, operands) => self.binary(*operator, operands, scope),
            Expr::And(operands) => self.first(operands, |value| !value.is_truthy(), scope),
            Expr::Or(operands) => self.first(operands, Value::is_truthy, scope),
            Expr::Many(operator, operands) => self.many(*operator, operands, scope),
            Expr::Unary(operator, operand) => self.unary(*operator, operand, scope),
            Expr::If(branches) => self.branch(branches, scope),
            Expr::Cohort(id) => self.cohort(*id),
            Expr::Evaluator(id) => self.evaluator(*id, scope),
            Expr::UnknownEvaluator => Err(Failure::UnknownEvaluator),
            Expr::Fractional(of) => self.fractional(of, scope),
            Expr::Flag(slot) => self.read(self.data.flag(*slot)),
            Expr::InTexts(item, texts) => Ok(Value::Bool(self.in_texts(item, texts, scope)?)),
            Expr::List(items) => self.list(items, scope),
            Expr::Item(way) => self.item(way, scope),
            Expr::Computed(name) => self.computed(name, scope),
            Expr::Default(operands) => self.default(operands, scope),
            Expr::Missing(names) => self.missing(names, scope),
            Expr::MissingSome(operands) => self.missing_some(operands, scope),
            Expr::Between(order, operands) => self.between(*order, operands, scope),
            Expr::Substring(text, start, length) => self.substring(text, start, length.as_deref(), scope),
            Expr::Each(each, operands) => self.each(*each, operands, scope),
            Expr::Reduce(operands) => self.reduce(operands, scope),
            Expr::SemVer(versions) => Ok(self.sem_ver(versions, scope)?.map_or(Value::Null, Value::Bool)),
            Expr::InNetworks(address, networks) => self.in_networks(address, networks, scope),
            Expr::Matches(text, pattern) => match self.value(text, scope)? {
                Value::Text(text) => Ok(Value::Bool(pattern.find(&text, self.budget)?)),
                _ => Ok(Value::Null),
            },
        }
    }

    /// Whether an expression counts as true: its value is not made where only that is asked.
    pub(super) fn truth(&mut self, expr: &'a Expr, scope: Scope<'_, 'a>) -> Outcome<bool> {
        let truth = match expr {
            Expr::And(operands) => self.all(operands, true, scope)?,
            Expr::Or(operands) => !self.all(operands, false, scope)?,
            Expr::Unary(Unary::Not, operand) => !self.truth(operand, scope)?,
            Expr::Unary(Unary::Truth, operand) => self.truth(operand, scope)?,
            Expr::InTexts(item, texts) => self.in_texts(item, texts, scope)?,
            Expr::SemVer(versions) => self.sem_ver(versions, scope)? == Some(true),
            _ => return Ok(self.value(expr, scope)?.is_truthy()),
        };
        self.budget.spend(1)?;
        Ok(truth)
    }

    /// Whether every operand counts as `wanted`.
    fn all(&mut self, operands: &'a [Expr], wanted: bool, scope: Scope<'_, 'a>) -> Outcome<bool> {
        for operand in operands {
            if self.truth(operand, scope)? != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A value that somebody will read. All that operators do with an operand, they do in time that goes with its size.
    fn read(&mut self, value: Value<'a>) -> Outcome<Value<'a>> {
        if let Value::Text(text) = &value {
            self.budget.read(text.len())?;
        }
        Ok(value)
    }

    fn var(&mut self, var: &Var) -> Outcome<Value<'a>> {
        self.sees_flag |= matches!(var, Var::FlagKey);
        self.read(self.data.var(var))
    }

    /// A value that was cloned: what was made by an operator is copied, what is borrowed is not.
    pub(super) fn copied(&mut self, value: Value<'a>) -> Outcome<Value<'a>> {
        if let Value::Text(text) = &value {
            self.budget.make(text.len())?;
        }
        Ok(value)
    }

    fn cohort(&mut self, id: usize) -> Outcome<Value<'a>> {
        let Some(expr) = self.library.cohort(id) else { return Ok(Value::Null) };
        let own = self.own_cohorts.get(&id).copied();
        let truth = match own.or_else(|| self.data.cohort(id)) {
            Some(truth) => truth,
            None => self.truth_of_cohort(id, expr)?,
        };
        self.lacks_key |= truth.lacks_key;
        self.sees_flag |= own.is_some();
        Ok(Value::Bool(truth.holds))
    }

    /// Finds whether a cohort holds, and keeps it for as long as it stays so.
    fn truth_of_cohort(&mut self, id: usize, expr: &'a Expr) -> Outcome<Truth> {
        let before = (self.lacks_key, self.sees_flag);
        (self.lacks_key, self.sees_flag) = (false, false);
        let holds = self.truth(expr, Scope::Data)?;
        // What there were no steps left to look up counted as absent.
        self.budget.spend(KEPT_COHORT)?;
        let truth = Truth { holds, lacks_key: self.lacks_key };
        if self.sees_flag {
            self.own_cohorts.insert(id, truth);
        } else {
            self.data.keep_cohort(id, truth);
        }
        (self.lacks_key, self.sees_flag) = (self.lacks_key | before.0, self.sees_flag | before.1);
        Ok(truth)
    }

    fn evaluator(&mut self, id: usize, scope: Scope<'_, 'a>) -> Outcome<Value<'a>> {
        self.library.evaluator(id).map_or(Ok(Value::Null), |expr| self.value(expr, scope))
    }

    /// What `name` stands for where it is not known before.
    pub(super) fn named(&mut self, name: &str, scope: Scope<'_, 'a>) -> Outcome<Value<'a>> {
        self.budget.make(name.len())?;
        self.budget.spend(NAME_STEPS * name.bytes().filter(|byte| *byte == b'.').count())?;
        match scope {
            Scope::Data => self.var(&self.library.attributes.var(name)),
            Scope::Item(_) => self.item(&Way::new(name), scope),
        }
    }

    fn item(&mut self, way: &Way, scope: Scope<'_, 'a>) -> Outcome<Value<'a>> {
        match scope {
            Scope::Item(item) => {
                self.budget.spend(way.len())?;
                let (value, scanned) = item.found_along(way);
                self.budget.scan(scanned)?;
                self.copied(value)
            }
            Scope::Data => Ok(Value::Null),
        }
    }

    fn computed(&mut self, name: &'a Expr, scope: Scope<'_, 'a>) -> Outcome<Value<'a>> {
        let name = self.value(name, scope)?;
        let name = coerce::text(&name, self.budget)?;
        self.named(&name, scope)
    }

    fn default(&mut self, operands: &'a [Expr; 2], scope: Scope<'_, 'a>) -> Outcome<Value<'a>> {
        let [expr, default] = operands;
        match self.value(expr, scope)? {
            Value::Null => self.value(default, scope),
            value => Ok(value),
        }
    }

    /// The first operand that is as `wanted`, or the last.
    fn first(
        &mut self,
        operands: &'a [Expr],
        wanted: impl Fn(&Value<'a>) -> bool,
        scope: Scope<'_, 'a>,
    ) -> Outcome<Value<'a>> {
        let mut last = Value::Null;
        for operand in operands {
            last = self.value(operand, scope)?;
            if wanted(&last) {
                break;
            }
        }
        Ok(last)
    }

    fn branch(&mut self, branches: &'a [Expr], scope: Scope<'_, 'a>) -> Outcome<Value<'a>> {
        for branch in branches.chunks(2) {
            match branch {
                [condition, value] if self.truth(condition, scope)? => {
                    return self.value(value, scope);
                }
                [otherwise] => return self.value(otherwise, scope),
                _ => {}
            }
        }
        Ok(Value::Null)
    }

    fn unary(&mut self, operator: Unary, operand: &'a Expr, scope: Scope<'_, 'a>) -> Outcome<Value<'a>> {
        match operator {
            Unary::Not => Ok(Value::Bool(!self.truth(operand, scope)?)),
            Unary::Truth => Ok(Value::Bool(self.truth(operand, scope)?)),
            Unary::Negate => Ok(Value::Number(-coerce::number(&self.value(operand, scope)?))),
            Unary::Log => self.value(operand, scope),
        }
    }

    fn binary(
        &mut self,
        operator: Binary,
        operands: &'a [Expr; 2],
        scope: Scope<'_, 'a>,
    ) -> Outcome<Value<'a>> {
        let [a, b] = operands;
        let (a, b) = (self.value(a, scope)?, self.value(b, scope)?);
        let budget = self.budget;
        Ok(match operator {
            Binary::Equal => Value::Bool(coerce::equal(&a, &b, budget)?),
            Binary::Unequal => Value::Bool(!coerce::equal(&a, &b, budget)?),
            Binary::Same => Value::Bool(coerce::same(&a, &b)),
            Binary::Different => Value::Bool(!coerce::same(&a, &b)),
            Binary::Order(order) => Value::Bool(holds(order, &a, &b, budget)?),
            Binary::Subtract => Value::Number(coerce::number(&a) - coerce::number(&b)),
            Binary::Divide => Value::Number(coerce::number(&a) / coerce::number(&b)),
            Binary::Remainder => Value::Number(coerce::number(&a) % coerce::number(&b)),
            Binary::In => Value::Bool(contained(&a, &b, budget)?),
            Binary::StartsWith => affix(&a, &b, |text, affix| text.starts_with(affix)),
            Binary::EndsWith => affix(&a, &b, |text, affix| text.ends_with(affix)),
        })
    }

    fn between(&mut self, order: Order, operands: &'a [Expr; 3], scope: Scope<'_, 'a>) -> Outcome<Value<'a>> {
        let [low, middle, high] = operands;
        let (low, middle) = (self.value(low, scope)?, self.value(middle, scope)?);
        if !holds(order, &low, &middle, self.budget)? {
            return Ok(Value::Bool(false));
        }
        let high = self.value(high, scope)?;
        Ok(Value::Bool(holds(order, &middle, &high, self.budget)?))
    }

    fn many(&mut self, operator: Many, operands: &'a [Expr], scope: Scope<'_, 'a>) -> Outcome<Value<'a>> {
        match operator {
            Many::Max => self.fold(operands, f64::NEG_INFINITY, |a, b| either_nan(a, b, f64::max), scope),
            Many::Min => self.fold(operands, f64::INFINITY, |a, b| either_nan(a, b, f64::min), scope),
            Many::Add => self.fold(operands, 0.0, |a, b| a + b, scope),
            Many::Multiply => self.fold(operands, 1.0, |a, b| a * b, scope),
            Many::Cat => self.cat(operands, scope),
            Many::Merge => self.merge(operands, scope),
        }
    }

    fn fold(
        &mut self,
        operands: &'a [Expr],
        start: f64,
        step: fn(f64, f64) -> f64,
        scope: Scope<'_, 'a>,
    ) -> Outcome<Value<'a>> {
        let mut number = start;
        for operand in operands {
            number = step(number, coerce::number(&self.value(operand, scope)?));
        }
        Ok(Value::Number(number))
    }

    fn cat(&mut self, operands: &'a [Expr], scope: Scope<'_, 'a>) -> Outcome<Value<'a>> {
        let mut text = String::new();
        for operand in operands {
            let value = self.value(operand, scope)?;
            coerce::append(&mut text, &value, self.budget)?;
        }
        Ok(Value::from(text))
    }

    fn substring(
        &mut self,
        text: &'a Expr,
        start: &'a Expr,
        length: Option<&'a Expr>,
        scope: Scope<'_, 'a>,
    ) -> Outcome<Value<'a>> {
        let text = self.value(text, scope)?;
        let start = coerce::number(&self.value(start, scope)?);
        let length = match length {
            Some(length) => Some(coerce::number(&self.value(length, scope)?)),
            None => None,
        };
        if let Value::Text(std::borrow::Cow::Borrowed(text)) = text {
            return Ok(Value::from(coerce::substring(text, start, length)));
        }
        let text = coerce::text(&text, self.budget)?;
        let part = coerce::substring(&text, start, length).to_owned();
        self.copied(Value::from(part))
    }

    /// Whether two versions stand to each other as is said; nothing where one of them is none.
    fn sem_ver(&mut self, versions: &'a SemVer, scope: Scope<'_, 'a>) -> Outcome<Option<bool>> {
        let comparison = match &versions.comparison {
            Given::Literal(comparison) => Some(*comparison),
            Given::Computed(expr) => match self.value(expr, scope)? {
                Value::Text(text) => Comparison::parse(&text),
                _ => None,
            },
        };
        let (version, target);
        // Of a version that is a literal there is nothing else to ask.
        let mut length = 0;
        let version = match &versions.version {
            Given::Literal(written) => Some(written.version()),
            Given::Computed(expr) => {
                version = self.version_text(expr, scope)?;
                length = version.as_deref().map_or(0, str::len);
                version.as_deref().and_then(Version::parse)
            }
        };
        let target = match &versions.target {
            Given::Literal(written) => Some(written.version()),
            Given::Computed(expr) => {
                target = self.version_text(expr, scope)?;
                target.as_deref().and_then(Version::parse)
            }
        };
        Ok(match (version, comparison, target) {
            (Some(version), Some(comparison), Some(target)) => {
                let mut holds = comparison.holds(&version, &target);
                for (comparison, target) in &versions.also {
                    if !holds {
                        break;
                    }
                    self.budget.spend(1 + length / COMPARED_BYTES)?;
                    holds = comparison.holds(&version, &target.version());
                }
                Some(holds)
            }
            _ => None,
        })
    }

    /// An operand that may be a version: a text, or a number's.
    fn version_text(&mut self, expr: &'a Expr, scope: Scope<'_, 'a>) -> Outcome<Option<Cow<'a, str>>> {
        let text = match self.text_of_var(expr)? {
            Some(text) => text,
            None => match self.value(expr, scope)? {
                Value::Text(text) => text,
                Value::Number(number) => Cow::Owned(coerce::number_text(number)),
                _ => return Ok(None),
            },
        };
        self.budget.spend(text.len() / VERSION_BYTES)?;
        Ok(Some(text))
    }

    /// The text of a variable, without the way over a [`Value`]; nothing for other expressions and values.
    fn text_of_var(&mut self, expr: &'a Expr) -> Outcome<Option<Cow<'a, str>>> {
        let Expr::Var(var) = expr else { return Ok(None) };
        let data: &'a dyn Data = self.data;
        let text = data.text(var);
        if let Some(text) = &text {
            self.budget.spend(1)?;
            self.budget.read(text.len())?;
        }
        Ok(text)
    }

    fn in_networks(
        &mut self,
        address: &'a Expr,
        networks: &Networks,
        scope: Scope<'_, 'a>,
    ) -> Outcome<Value<'a>> {
        let Value::Text(text) = self.value(address, scope)? else { return Ok(Value::Null) };
        self.budget.spend(ADDRESS)?;
        let address = parse_address(&text);
        Ok(address.map_or(Value::Null, |address| Value::Bool(networks.contain(address))))
    }

    fn in_texts(&mut self, item: &'a Expr, texts: &Texts, scope: Scope<'_, 'a>) -> Outcome<bool> {
        let text = match self.text_of_var(item)? {
            Some(text) => text,
            None => match self.value(item, scope)? {
                Value::Text(text) => text,
                _ => return Ok(false),
            },
        };
        // It is compared with several that may begin as it does.
        self.budget.make(text.len())?;
        Ok(texts.contain(&text))
    }
}

fn holds(order: Order, a: &Value<'_>, b: &Value<'_>, budget: &Budget) -> Outcome<bool> {
    let ordering = coerce::order(a, b, budget)?;
    Ok(ordering.is_some_and(|ordering| match order {
        Order::Less => ordering == Ordering::Less,
        Order::LessOrEqual => ordering != Ordering::Greater,
        Order::Greater => ordering == Ordering::Greater,
        Order::GreaterOrEqual => ordering != Ordering::Less,
    }))
}

/// Whether `item` is in a list, as `===` has it, or part of a text. Null is part of no text, and
/// nothing is part of the empty text.
fn contained(item: &Value<'_>, all: &Value<'_>, budget: &Budget) -> Outcome<bool> {
    match (item, all) {
        (_, Value::List(list)) => {
            budget.spend(list.len())?;
            Ok(list.iter().any(|other| coerce::same(item, &other)))
        }
        (Value::Null, _) => Ok(false),
        (_, Value::Text(text)) => {
            // Searching takes longer than reading.
            budget.spend(text.len() / SEARCHED_BYTES)?;
            Ok(!text.is_empty() && text.contains(&*coerce::text(item, budget)?))
        }
        _ => Ok(false),
    }
}

fn affix<'a>(text: &Value<'a>, affix: &Value<'a>, holds: fn(&str, &str) -> bool) -> Value<'a> {
    match (text, affix) {
        (Value::Text(text), Value::Text(affix)) => Value::Bool(holds(text, affix)),
        _ => Value::Null,
    }
}

/// NaN wins, as in JavaScript's `Math.max`.
fn either_nan(a: f64, b: f64, pick: fn(f64, f64) -> f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { pick(a, b) }
}
