//! The compiled form of an expression: every operator has as many operands as it takes, every name is resolved.

use super::fractional::Fractional;
use super::networks::Networks;
use super::sem_ver::{Comparison, Written};
use super::var::{Var, Way};
use crate::json::Json;
use crate::pattern::Pattern;

/// A compiled expression.
#[derive(Clone, Debug)]
pub(super) enum Expr {
    /// A value with no operator in it.
    Literal(Json),
    /// A list with operators in it.
    List(Box<[Expr]>),
    /// `var` outside of a body.
    Var(Var),
    /// `var` in a body: the way into the item.
    Item(Way),
    /// `var` of a name that is computed.
    Computed(Box<Expr>),
    /// The first, or the second where that is null: `var` with a default.
    Default(Box<[Expr; 2]>),
    /// `missing`, of names or of one list of names.
    Missing(Box<[Expr]>),
    /// `missing_some`: how many are needed, of which names.
    MissingSome(Box<[Expr; 2]>),
    /// `and`: the first that is not true, or the last.
    And(Box<[Expr]>),
    /// `or`: the first that is true, or the last.
    Or(Box<[Expr]>),
    /// `if` and `?:`: condition, value, condition, value …, else.
    If(Box<[Expr]>),
    /// `!` and `-` of one operand, `!!`, `log`.
    Unary(Unary, Box<Expr>),
    /// Operators of two operands.
    Binary(Binary, Box<[Expr; 2]>),
    /// `<` and its like between each two of three.
    Between(Order, Box<[Expr; 3]>),
    /// Operators of any number of operands.
    Many(Many, Box<[Expr]>),
    /// `in` a literal list of many texts.
    InTexts(Box<Expr>, Texts),
    /// `substr`: of what, from where, how much.
    Substring(Box<Expr>, Box<Expr>, Option<Box<Expr>>),
    /// `map` and its like: a list, and the body that sees its items one by one.
    Each(Each, Box<[Expr; 2]>),
    /// `reduce`: a list, a body, the first accumulator.
    Reduce(Box<[Expr; 3]>),
    /// `sem_ver`
    SemVer(Box<SemVer>),
    /// `cidr`
    InNetworks(Box<Expr>, Networks),
    /// `matches`
    Matches(Box<Expr>, Pattern),
    /// A cohort, by number.
    Cohort(usize),
    /// A named expression of `$evaluators`, by number, as if it stood here.
    Evaluator(usize),
    /// A `$ref` to nothing, as only a flag may have it.
    UnknownEvaluator,
    /// `fractional`
    Fractional(Box<Fractional>),
    /// The value of a flag, by number.
    Flag(u32),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Unary {
    Not,
    Truth,
    Negate,
    Log,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Binary {
    Equal,
    Unequal,
    Same,
    Different,
    Order(Order),
    Subtract,
    Divide,
    Remainder,
    In,
    StartsWith,
    EndsWith,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Many {
    Max,
    Min,
    Add,
    Multiply,
    Cat,
    Merge,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Each {
    Map,
    Filter,
    All,
    None,
    Some,
}

#[derive(Clone, Debug)]
pub(super) struct SemVer {
    pub(super) version: Given<Written>,
    pub(super) comparison: Given<Comparison>,
    pub(super) target: Given<Written>,
    /// What an `and` asks of the same version next, so that a range reads it once.
    pub(super) also: Vec<(Comparison, Written)>,
}

impl SemVer {
    /// Takes over what `next` asks, if it asks the same variable, and only literals.
    fn and(&mut self, next: &SemVer) -> bool {
        let (Given::Computed(Expr::Var(own)), Given::Computed(Expr::Var(other))) =
            (&self.version, &next.version)
        else {
            return false;
        };
        match (&next.comparison, &next.target) {
            (Given::Literal(comparison), Given::Literal(target)) if own == other => {
                self.also.push((*comparison, target.clone()));
                true
            }
            _ => false,
        }
    }
}

/// The operands of `and`, with the comparisons of one version in one.
pub(super) fn joined(operands: Box<[Expr]>) -> Box<[Expr]> {
    let mut joined: Vec<Expr> = Vec::with_capacity(operands.len());
    for operand in operands {
        let is_taken = match (joined.last_mut(), &operand) {
            (Some(Expr::SemVer(last)), Expr::SemVer(next)) => last.and(next),
            _ => false,
        };
        if !is_taken {
            joined.push(operand);
        }
    }
    joined.into()
}

/// An operand that is read when compiling where it is a literal.
#[derive(Clone, Debug)]
pub(super) enum Given<T> {
    Literal(T),
    Computed(Expr),
}

/// Many texts, most of which are told apart by a number each.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    /// In ascending order.
    heads: Box<[u64]>,
    /// The texts with these heads.
    texts: Box<[Box<str>]>,
}

impl Texts {
    /// From here on looking at the heads first beats comparing one by one.
    const MANY: usize = 5;
    /// Up to here going through all heads beats searching in halves: it has no branches to guess.
    const FEW: usize = 32;

    /// The items of a list, if they are many and all of them texts.
    pub(super) fn of(items: &[Json]) -> Option<Texts> {
        if items.len() < Texts::MANY {
            return None;
        }
        let text = |item: &Json| match item {
            Json::Text(text) => Some((Texts::head(text), text.clone())),
            _ => None,
        };
        let mut texts: Vec<(u64, Box<str>)> = items.iter().map(text).collect::<Option<_>>()?;
        texts.sort_unstable();
        let (heads, texts): (Vec<_>, Vec<_>) = texts.into_iter().unzip();
        Some(Texts { heads: heads.into(), texts: texts.into() })
    }

    pub(super) fn contain(&self, text: &str) -> bool {
        let head = Texts::head(text);
        // A head says all of a short text.
        let is_short = text.len() < 8;
        if self.heads.len() <= Texts::FEW {
            let is_found = self.heads.iter().fold(false, |found, other| found | (*other == head));
            if is_short || !is_found {
                return is_found;
            }
        }
        let from = self.heads.partition_point(|other| *other < head);
        let to = self.heads.partition_point(|other| *other <= head);
        let same = self.texts.get(from..to).unwrap_or_default();
        if is_short { !same.is_empty() } else { same.binary_search_by(|other| (**other).cmp(text)).is_ok() }
    }

    /// The first seven bytes, and how long it is.
    fn head(text: &str) -> u64 {
        let first = text.bytes().take(7).fold(0, |head, byte| head << 8 | u64::from(byte));
        first << 8 | u64::try_from(text.len().min(255)).unwrap_or(255)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_however_many_and_long_they_are() {
        for count in [5, 32, 33, 1_000] {
            let name = |i: usize| format!("{}{i}", "long-".repeat(i % 4));
            let items: Vec<Json> = (0..count).map(|i| Json::Text(name(i).into())).collect();
            let texts = Texts::of(&items).unwrap();
            for i in 0..count {
                assert!(texts.contain(&name(i)), "{}", name(i));
                assert!(!texts.contain(&format!("{}x", name(i))));
                assert!(!texts.contain(&format!("x{}", name(i))));
            }
            assert!(!texts.contain(""));
        }
    }
}
