//! The compiled form of an expression: every operator has as many operands as it takes, every name is resolved.

use super::fractional::Fractional;
use super::networks::Networks;
use super::sem_ver::{Comparison, Version};
use super::var::{FlagSlot, Var};
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
    Item(Box<str>),
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
    /// The value of a flag.
    Flag(FlagSlot),
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
    pub(super) version: Given<Version<'static>>,
    pub(super) comparison: Given<Comparison>,
    pub(super) target: Given<Version<'static>>,
}

/// An operand that is read when compiling where it is a literal.
#[derive(Clone, Debug)]
pub(super) enum Given<T> {
    Literal(T),
    Computed(Expr),
}

/// Many texts, in an order in which most comparisons are of lengths only.
#[derive(Clone, Debug)]
pub(super) struct Texts(Box<[Box<str>]>);

impl Texts {
    /// From here on searching in halves beats comparing one by one.
    const MANY: usize = 9;

    /// The items of a list, if they are many and all of them texts.
    pub(super) fn of(items: &[Json]) -> Option<Texts> {
        if items.len() < Texts::MANY {
            return None;
        }
        let text = |item: &Json| if let Json::Text(text) = item { Some(text.clone()) } else { None };
        let mut texts: Vec<Box<str>> = items.iter().map(text).collect::<Option<_>>()?;
        texts.sort_unstable_by(|a, b| Texts::key(a).cmp(&Texts::key(b)));
        Some(Texts(texts.into()))
    }

    pub(super) fn contain(&self, text: &str) -> bool {
        self.0.binary_search_by(|probe| Texts::key(probe).cmp(&Texts::key(text))).is_ok()
    }

    fn key(text: &str) -> (usize, &str) {
        (text.len(), text)
    }
}
