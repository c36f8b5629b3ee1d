//! Operators that say the same for every request.

use super::expressions::plainly;
use super::subjects::{Asker, MOST_SECONDS, Subject, Text, Why, World};
use crate::json::Json;
use crate::logic::operation;
use crate::pattern;

/// The most values of one operand that are compared with each of another.
const MOST_PAIRS: usize = 400;

/// What an expression says for every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub holds: bool,
    pub why: Why,
}

/// What comes of two pieces of subjects.
enum Outcome {
    Never(Why),
    Always,
    Open,
}

/// A part of what a subject can be.
#[derive(Clone, Copy)]
enum Piece<'p> {
    Text(Text),
    Number(f64, f64),
    Is(&'p Json),
}

const KINDS: Why = "a text is never the same as a number or a boolean";
const NO_TEXT: Why = "it is no text";

/// What an operator says for every request by what its operands can be; nothing where that depends.
pub fn verdict(world: &World<'_>, json: &Json, asker: Asker<'_>, absent: Option<&str>) -> Option<Verdict> {
    let (operator, operands) = operation(json)?;
    let of = |json| world.subject(json, asker, absent);
    match (operator, operands) {
        ("==" | "===", [a, b]) => related(operator, &of(a)?, &of(b)?),
        ("!=", [a, b]) => related("==", &of(a)?, &of(b)?).map(Verdict::not),
        ("!==", [a, b]) => related("===", &of(a)?, &of(b)?).map(Verdict::not),
        ("<" | "<=" | ">" | ">=", [a, b]) => related(operator, &of(a)?, &of(b)?),
        ("<" | "<=" | ">" | ">=", [a, b, c]) => {
            let (a, b, c) = (of(a), of(b), of(c));
            let both = |a: &Option<Subject<'_>>, b: &Option<Subject<'_>>| {
                related(operator, a.as_ref()?, b.as_ref()?)
            };
            let (low, high) = (both(&a, &b), both(&b, &c));
            let never = [low, high].into_iter().flatten().find(|it| !it.holds);
            never.or_else(|| low.zip(high).map(|(low, _)| low))
        }
        ("in", [item, Json::List(items)]) => in_list(&of(item)?, items),
        ("in", [item, all]) => in_text(item, &of(all)?),
        ("starts_with", [text, Json::Text(with)]) => affix(&of(text)?, |kind| kind.start(with)),
        ("ends_with", [text, Json::Text(with)]) => affix(&of(text)?, |kind| kind.end(with)),
        ("matches", [text, Json::Text(pattern)]) => affix(&of(text)?, |kind| no_match(kind, pattern)),
        ("cidr", [address, _]) => {
            affix(&of(address)?, |kind| kind.is_no_address().then_some("it is no address"))
        }
        ("all" | "some" | "map" | "filter" | "none", [list, _]) => {
            let list = of(list)?;
            let may_have_items =
                list.others.iter().any(|it| matches!(&**it, Json::List(_) | Json::Object(_)));
            let why = "a text has no items";
            (!may_have_items && list.text.is_some()).then_some(Verdict { holds: operator == "none", why })
        }
        ("var", _) => truth(&of(json)?),
        _ => None,
    }
}

impl Verdict {
    fn not(self) -> Verdict {
        Verdict { holds: !self.holds, ..self }
    }
}

/// Whether an operand by itself always counts as true, or never.
fn truth(subject: &Subject<'_>) -> Option<Verdict> {
    if subject.text.is_some_and(|kind| kind.whole("").is_none()) {
        return None;
    }
    let texts = subject.text.map(|_| true);
    let numbers = subject.number.map(|(from, to)| from > 0.0 || to < 0.0);
    let others = subject.others.iter().map(|it| plainly(it).unwrap_or(false));
    let mut all = texts.into_iter().chain(numbers).chain(others);
    let holds = all.next()?;
    all.all(|it| it == holds)
        .then_some(Verdict { holds, why: if holds { "every request has it" } else { "" } })
}

/// What an operator of two operands says for all that they can be.
fn related(operator: &str, a: &Subject<'_>, b: &Subject<'_>) -> Option<Verdict> {
    if a.others.len().saturating_mul(b.others.len()) > MOST_PAIRS {
        return None;
    }
    let outcome = |a, b| match operator {
        "==" | "===" => equality(operator, a, b),
        _ => order(operator, a, b),
    };
    let (b, mut all) = (pieces(b).collect::<Vec<_>>(), None::<Verdict>);
    for a in pieces(a) {
        for b in &b {
            let found = match outcome(a, *b) {
                Outcome::Open => return None,
                Outcome::Always => Verdict { holds: true, why: "" },
                Outcome::Never(why) => Verdict { holds: false, why },
            };
            all = match all {
                None => Some(found),
                Some(before) if before.holds != found.holds => return None,
                Some(before) => Some(if before.why.is_empty() { found } else { before }),
            };
        }
    }
    all
}

fn pieces<'s>(subject: &'s Subject<'_>) -> impl Iterator<Item = Piece<'s>> {
    let text = subject.text.into_iter().map(Piece::Text);
    let number = subject.number.into_iter().map(|(from, to)| Piece::Number(from, to));
    text.chain(number).chain(subject.others.iter().map(|it| Piece::Is(it)))
}

fn equality(operator: &str, a: Piece<'_>, b: Piece<'_>) -> Outcome {
    let is_strict = operator == "===";
    match (a, b) {
        (Piece::Is(a), Piece::Is(b)) if is_strict => match (a, b) {
            (Json::List(_) | Json::Object(_), _) => Outcome::Never(""),
            _ if a == b => Outcome::Always,
            _ => Outcome::Never(""),
        },
        (Piece::Is(a), Piece::Is(b)) => evaluated(operator, &[a, b], ""),
        (Piece::Text(_), Piece::Text(_)) | (Piece::Number(..), Piece::Number(..)) => Outcome::Open,
        (Piece::Text(_), Piece::Number(..)) | (Piece::Number(..), Piece::Text(_)) if is_strict => {
            Outcome::Never(KINDS)
        }
        (Piece::Text(kind), Piece::Is(value)) | (Piece::Is(value), Piece::Text(kind)) => match value {
            Json::Text(text) => never(kind.whole(text)),
            Json::Null => Outcome::Never(""),
            _ if is_strict => Outcome::Never(KINDS),
            Json::Number(_) | Json::Bool(_) => never(kind.is_no_number().then_some("it is no number")),
            _ => Outcome::Open,
        },
        (Piece::Text(kind), Piece::Number(..)) | (Piece::Number(..), Piece::Text(kind)) => {
            never(kind.is_no_number().then_some("it is no number"))
        }
        (Piece::Number(from, to), Piece::Is(value)) | (Piece::Is(value), Piece::Number(from, to)) => {
            match value {
                Json::Null => Outcome::Never(""),
                Json::Number(_) => within(from, to, value),
                Json::Text(_) | Json::Bool(_) if is_strict => Outcome::Never(KINDS),
                Json::Text(_) | Json::Bool(_) => within(from, to, value),
                _ => Outcome::Open,
            }
        }
    }
}

fn order(operator: &str, a: Piece<'_>, b: Piece<'_>) -> Outcome {
    match (a, b) {
        (Piece::Is(a), Piece::Is(b)) => evaluated(operator, &[a, b], ""),
        (Piece::Text(kind), Piece::Number(..) | Piece::Is(Json::Number(_)))
        | (Piece::Number(..) | Piece::Is(Json::Number(_)), Piece::Text(kind)) => {
            never(kind.is_no_number().then_some("it is no number"))
        }
        (Piece::Number(from, to), Piece::Is(value)) => ends(
            evaluated(operator, &[&Json::Number(from), value], ""),
            evaluated(operator, &[&Json::Number(to), value], ""),
            value,
        ),
        (Piece::Is(value), Piece::Number(from, to)) => ends(
            evaluated(operator, &[value, &Json::Number(from)], ""),
            evaluated(operator, &[value, &Json::Number(to)], ""),
            value,
        ),
        _ => Outcome::Open,
    }
}

/// What an operator says for a range by what it says for its ends.
fn ends(from: Outcome, to: Outcome, value: &Json) -> Outcome {
    match (from, to) {
        (Outcome::Always, Outcome::Always) => Outcome::Always,
        (Outcome::Never(_), Outcome::Never(_)) => Outcome::Never(range_fault(value)),
        _ => Outcome::Open,
    }
}

fn within(from: f64, to: f64, value: &Json) -> Outcome {
    match evaluated("<=", &[&Json::Number(from), value, &Json::Number(to)], range_fault(value)) {
        Outcome::Always => Outcome::Open,
        outcome => outcome,
    }
}

/// Why a number that has a range, the clock, never is where `value` is.
fn range_fault(value: &Json) -> Why {
    match value {
        Json::Number(number) if *number > MOST_SECONDS => "the clock counts seconds, not milliseconds",
        Json::Number(_) => "that instant is over",
        _ => "it is no number",
    }
}

fn never(why: Option<Why>) -> Outcome {
    why.map_or(Outcome::Open, Outcome::Never)
}

/// What the engine says of values.
fn evaluated(operator: &str, values: &[&Json], why: Why) -> Outcome {
    if values.iter().any(|it| matches!(it, Json::Object(_))) {
        return Outcome::Open;
    }
    let operands = Json::List(values.iter().map(|it| (*it).clone()).collect());
    match plainly(&Json::Object(vec![(operator.into(), operands)])) {
        Some(true) => Outcome::Always,
        Some(false) => Outcome::Never(why),
        None => Outcome::Open,
    }
}

/// What `in` says of a list.
fn in_list(item: &Subject<'_>, items: &[Json]) -> Option<Verdict> {
    let mut why = "";
    for other in items {
        let other = never_in(item, other)?;
        why = if why.is_empty() { other } else { why };
    }
    Some(Verdict { holds: false, why })
}

/// Why `item` never is `other`, an item of a list.
pub fn never_in(item: &Subject<'_>, other: &Json) -> Option<Why> {
    let mut why = "";
    for piece in pieces(item) {
        match equality("===", piece, Piece::Is(other)) {
            Outcome::Never(reason) => why = if why.is_empty() { reason } else { why },
            _ => return None,
        }
    }
    Some(why)
}

/// What `in` says of a literal and a text.
fn in_text(item: &Json, all: &Subject<'_>) -> Option<Verdict> {
    let never = |why| Some(Verdict { holds: false, why });
    if all.others.iter().any(|it| matches!(**it, Json::Text(_) | Json::List(_))) {
        return None;
    }
    let Some(kind) = all.text else { return never(NO_TEXT) };
    match item {
        Json::Text(text) => kind.part(text).and_then(never),
        Json::Null => never("null is part of no text"),
        _ => None,
    }
}

/// What an operator says that takes texts alone.
fn affix(text: &Subject<'_>, fault: impl Fn(Text) -> Option<Why>) -> Option<Verdict> {
    if text.others.iter().any(|it| matches!(**it, Json::Text(_))) {
        return None;
    }
    let why = text.text.map_or(Some(NO_TEXT), fault)?;
    Some(Verdict { holds: false, why })
}

/// Why a pattern matches no text of a kind.
pub fn no_match(kind: Text, pattern: &str) -> Option<Why> {
    match alternatives(pattern) {
        Some(texts) => {
            let faults: Option<Vec<Why>> = texts.iter().map(|text| kind.whole(text)).collect();
            faults?.first().copied()
        }
        None => {
            let lead = pattern::leading_text(pattern);
            if lead.is_empty() { None } else { kind.start(&lead) }
        }
    }
}

/// The texts that a pattern matches, where it does nothing but list them.
fn alternatives(pattern: &str) -> Option<Vec<String>> {
    let inner = pattern.strip_prefix('^').unwrap_or(pattern);
    let inner = inner.strip_suffix('$').unwrap_or(inner);
    let inner = match inner.strip_prefix('(').and_then(|it| it.strip_suffix(')')) {
        Some(group) => group.strip_prefix("?:").unwrap_or(group),
        None => inner,
    };
    inner.split('|').map(super::patterns::literal).collect()
}
