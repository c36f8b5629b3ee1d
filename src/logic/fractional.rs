//! `fractional`: divides targeting keys among values, by weights, in one of flagd's arithmetics.

use super::cbor;
use super::coerce;
use super::compile::{At, Expressions, Part, operands_of};
use super::eval::{Evaluation, Outcome, Scope};
use super::tree::Expr;
use super::value::Value;
use super::var::{Data, Key, Var};
use crate::budget::Budget;
use crate::finding::Problem;
use crate::json::Json;
use crate::murmur3::Murmur3;
use crate::wire;

/// The most that the weights of one `fractional` may add up to: flagd's limit.
const MOST_WEIGHT: u32 = i32::MAX.unsigned_abs();
/// Steps that hashing a key takes, and finding whose its bucket is.
const HASHED: usize = 10;

/// A compiled `fractional`.
#[derive(Clone, Debug)]
pub(super) struct Fractional {
    /// What is hashed; without one the flag's key and the targeting key are.
    by: Option<Expr>,
    /// Who gets what.
    values: Box<[Expr]>,
    weights: Weights,
}

#[derive(Clone, Debug)]
enum Weights {
    /// The sums of the weights up to each value; not all of them are zero.
    Sums(Box<[u32]>),
    /// Weights, some of which are computed.
    Computed(Box<[Weight]>),
}

#[derive(Clone, Debug)]
enum Weight {
    Literal(u32),
    Computed(Expr),
}

/// One of the values, and its weight where it has one.
type Entry<'j> = (&'j Json, Option<&'j Json>);

impl Expressions<'_> {
    pub(super) fn fractional(&mut self, operands: &Json, at: At<'_>) -> Option<Expr> {
        let (by, entries) = match operands_of(operands).split_first() {
            Some((by @ Json::Object(_), entries)) => (Some(by), entries),
            _ => (None, operands_of(operands)),
        };
        // The place of the first entry.
        let first = usize::from(by.is_some());
        if entries.is_empty() {
            return self.refuse(at.path, Problem::expected("at least one value with its weight", "none"));
        }
        let entries = self.entries(entries, first, at)?;
        let is_weight = |(_, weight): &Entry<'_>| weight.is_none_or(may_be_weight);
        if at.part == Part::Targeting && !entries.iter().all(is_weight) {
            return self.null(operands, at);
        }
        let by = match by {
            Some(by) => Some(self.expression(by, at.path(&at.path.item(0)))?),
            None => None,
        };
        let mut values = Vec::with_capacity(entries.len());
        let mut weights = Vec::with_capacity(entries.len());
        for (i, (value, weight)) in entries.iter().enumerate() {
            let path = at.path.item(first + i);
            let value = self.expression(value, at.path(&path.item(0)).deeper());
            let weight = match weight {
                None => Some(Weight::Literal(1)),
                Some(weight) => self.weight(weight, at.path(&path.item(1)).deeper()),
            };
            values.push(value?);
            weights.push(weight?);
        }
        let weights = self.weights(weights, at)?;
        Some(Expr::Fractional(Box::new(Fractional { by, values: values.into(), weights })))
    }

    fn entries<'j>(&mut self, entries: &'j [Json], first: usize, at: At<'_>) -> Option<Vec<Entry<'j>>> {
        let mut read = Vec::with_capacity(entries.len());
        for (i, entry) in entries.iter().enumerate() {
            let found = match entry {
                Json::List(items) => match items.as_slice() {
                    [value, weight @ ..] if weight.len() < 2 => {
                        read.push((value, weight.first()));
                        continue;
                    }
                    _ => items.len().to_string(),
                },
                _ => entry.kind().to_owned(),
            };
            return self.refuse(&at.path.item(first + i), Problem::expected("a value and its weight", found));
        }
        Some(read)
    }

    fn weight(&mut self, json: &Json, at: At<'_>) -> Option<Weight> {
        let found = match json {
            Json::Object(_) => return self.expression(json, at).map(Weight::Computed),
            Json::Number(number) => match weight(*number) {
                Some(weight) if *number >= 0.0 || at.part == Part::Targeting => {
                    return Some(Weight::Literal(weight));
                }
                _ => coerce::number_text(*number),
            },
            _ => json.kind().to_owned(),
        };
        self.refuse(at.path, Problem::expected("a whole number of at least 0", found))
    }

    /// Weights, with their sums where they are all literals. Sums that cannot be leave a flag's `fractional` null.
    fn weights(&mut self, weights: Vec<Weight>, at: At<'_>) -> Option<Weights> {
        let literal =
            |weight: &Weight| if let Weight::Literal(weight) = weight { Some(*weight) } else { None };
        let Some(literals) = weights.iter().map(literal).collect::<Option<Vec<_>>>() else {
            return Some(Weights::Computed(weights.into()));
        };
        match sums(literals.iter().copied()) {
            Some(sums) => Some(Weights::Sums(sums.into())),
            None if at.part == Part::Targeting => Some(Weights::Computed(weights.into())),
            None => {
                let total: u64 = literals.iter().copied().map(u64::from).sum();
                let expected = format!("weights that add up to 1 to {MOST_WEIGHT}");
                self.refuse(at.path, Problem::expected(expected, total))
            }
        }
    }
}

/// Whether a weight, as it is written, is one that flagd takes.
fn may_be_weight(json: &Json) -> bool {
    match json {
        Json::Object(_) => true,
        Json::Number(number) => weight(*number).is_some(),
        _ => false,
    }
}

/// A number as a weight: a negative one is 0, as rollouts that are computed from the clock need it. Too large a one
/// stays too large.
fn weight(number: f64) -> Option<u32> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` takes what is negative as 0 and what is too large as the largest"
    )]
    (number.fract() == 0.0).then_some(number as u32)
}

/// The sums up to each weight; nothing where all are zero, or where they are too much.
fn sums(weights: impl Iterator<Item = u32>) -> Option<Vec<u32>> {
    let mut sum = 0u32;
    let sums: Option<Vec<u32>> = weights
        .map(|weight| {
            sum = sum.checked_add(weight).filter(|sum| *sum <= MOST_WEIGHT)?;
            Some(sum)
        })
        .collect();
    sums.filter(|_| sum > 0)
}

impl<'a> Evaluation<'a, '_> {
    pub(super) fn fractional(&mut self, of: &'a Fractional, scope: Scope<'_, 'a>) -> Outcome<Value<'a>> {
        self.budget.spend(HASHED)?;
        let hash = match &of.by {
            Some(by) => {
                let by = self.value(by, scope)?;
                hash_of(&by, self.library.fractional, self.budget)?
            }
            None => self.hash_of_key()?,
        };
        let Some(hash) = hash else { return Ok(Value::Null) };
        let computed;
        let sums = match &of.weights {
            Weights::Sums(sums) => &**sums,
            Weights::Computed(weights) => match self.computed_sums(weights, scope)? {
                Some(sums) => {
                    computed = sums;
                    &*computed
                }
                None => return Ok(Value::Null),
            },
        };
        let total = sums.last().copied().unwrap_or(0);
        let bucket = (u64::from(hash) * u64::from(total)) >> 32;
        let owner = sums.partition_point(|sum| u64::from(*sum) <= bucket);
        let Some(value) = of.values.get(owner) else { return Ok(Value::Null) };
        match self.value(value, scope)? {
            // flagd takes what has no name for no variant.
            Value::List(_) | Value::Object(_) => Ok(Value::Null),
            value => Ok(value),
        }
    }

    fn computed_sums(&mut self, weights: &'a [Weight], scope: Scope<'_, 'a>) -> Outcome<Option<Vec<u32>>> {
        self.budget.make(weights.len())?;
        let mut computed = Vec::with_capacity(weights.len());
        for weight in weights {
            computed.push(match weight {
                Weight::Literal(weight) => *weight,
                Weight::Computed(expr) => match self.value(expr, scope)? {
                    Value::Number(number) => match self::weight(number) {
                        Some(weight) => weight,
                        None => return Ok(None),
                    },
                    _ => return Ok(None),
                },
            });
        }
        Ok(sums(computed.into_iter()))
    }

    /// The hash of the flag's key and the targeting key. Where there is no targeting key, that is noted.
    fn hash_of_key(&mut self) -> Outcome<Option<u32>> {
        let data: &'a dyn Data = self.data;
        let flag_key = data.var(&Var::FlagKey);
        self.sees_flag |= !matches!(flag_key, Value::Null);
        let flag_key = if let Value::Text(text) = &flag_key { text } else { "" };
        let key = data.key();
        if key.is_missing() {
            self.lacks_key = true;
            return Ok(None);
        }
        if let Some(text) = key.as_text() {
            self.budget.read(text.len())?;
        }
        let mut hash = Murmur3::new(0);
        match (self.library.fractional, &key) {
            (wire::Fractional::V2, Key::Bytes(key)) => {
                hash.write(flag_key.as_bytes());
                hash.write(key);
            }
            (wire::Fractional::V2, Key::Value(key)) if key.is_truthy() => {
                hash.write(flag_key.as_bytes());
                hash.write(coerce::text(key, self.budget)?.as_bytes());
            }
            (wire::Fractional::V2, Key::Value(_)) => return Ok(None),
            (wire::Fractional::V3, key) => {
                let Some(key) = key.as_text() else { return Ok(None) };
                let mut out = |bytes: &[u8]| hash.write(bytes);
                cbor::array(2, &mut out);
                cbor::text(flag_key, &mut out);
                cbor::text(key, &mut out);
            }
        }
        Ok(Some(hash.finish()))
    }
}

/// The hash of a value: in v2 only texts have one, in v3 everything but null.
fn hash_of(value: &Value<'_>, version: wire::Fractional, budget: &Budget) -> Outcome<Option<u32>> {
    let mut hash = Murmur3::new(0);
    match (version, value) {
        (wire::Fractional::V2, Value::Text(text)) => hash.write(text.as_bytes()),
        (wire::Fractional::V2, _) | (wire::Fractional::V3, Value::Null) => return Ok(None),
        (wire::Fractional::V3, value) => cbor::encode(value, budget, &mut |bytes| hash.write(bytes))?,
    }
    Ok(Some(hash.finish()))
}
