//! Flags that can only give one value.
//!
//! One without targeting is a switch, turned by the next policy: that is what it is for, unless all its values are one.

use std::collections::BTreeSet;

use super::expressions::Truths;
use super::subjects::Asker;
use super::{Lint, Warnings};
use crate::finding::Path;
use crate::json::Json;
use crate::logic::operation;
use crate::wire::{Document, Flag, State};

/// What targeting can come to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The variant of that name.
    Named(Box<str>),
    /// Null: the default.
    Default,
    /// What takes more than a look.
    Any,
}

pub fn lint(document: &Document, truths: &Truths<'_>, warnings: &mut Warnings) {
    let flags = Path::Root.field("flags");
    for (i, (key, flag)) in document.flags.iter().flat_map(|flags| &flags.0).enumerate() {
        let place = if flag.key.is_some() { flags.item(i) } else { flags.field(key) };
        if flag.state == State::Disabled {
            continue;
        }
        if let [(_, first), others @ ..] = &flag.variants.0[..]
            && others.iter().all(|(_, other)| other.value == first.value)
        {
            let message =
                if others.is_empty() { "has one variant only" } else { "all its variants have one value" };
            warnings.report(Lint::ConstantFlag, &place.field("variants"), message);
        } else if let Some(only) = only_outcome(flag, key, truths) {
            let message = format!("can only come to {only}");
            warnings.report(Lint::ConstantFlag, &place.field("targeting"), message);
        }
    }
}

/// The only variant to which the targeting of a flag can come, as a phrase.
fn only_outcome(flag: &Flag, key: &str, truths: &Truths<'_>) -> Option<String> {
    let targeting = flag.targeting.as_ref()?;
    operation(targeting)?;
    let mut outcomes = BTreeSet::new();
    let asker = Asker { caller: true, key: true, flag: Some(flag.key.as_deref().unwrap_or(key)) };
    collect(targeting, &|json| truths.of(json, asker), &mut outcomes);
    let default = flag.default_variant.as_deref().filter(|name| !name.is_empty());
    let named = |outcome| match outcome {
        Outcome::Named(name) => Some(format!("`{name}`")),
        Outcome::Default => {
            Some(default.map_or("the caller's own default".to_owned(), |name| format!("`{name}`")))
        }
        Outcome::Any => None,
    };
    let outcomes: BTreeSet<String> = outcomes.into_iter().map(named).collect::<Option<_>>()?;
    let mut outcomes = outcomes.into_iter();
    outcomes.next().filter(|_| outcomes.next().is_none())
}

/// Collects what an expression can come to.
fn collect(json: &Json, truth_of: &dyn Fn(&Json) -> Option<bool>, into: &mut BTreeSet<Outcome>) {
    // Which is all that there is to know.
    if into.contains(&Outcome::Any) {
        return;
    }
    let mut go_on = |json: &Json| collect(json, truth_of, into);
    match operation(json) {
        None => {
            into.insert(match json {
                Json::Text(name) => Outcome::Named(name.clone()),
                Json::Bool(value) => Outcome::Named(value.to_string().into()),
                Json::Null => Outcome::Default,
                _ => Outcome::Any,
            });
        }
        Some(("if" | "?:", operands)) => {
            let mut operands = operands;
            while let [condition, then, rest @ ..] = operands {
                let truth = truth_of(condition);
                if truth != Some(false) {
                    go_on(then);
                }
                if truth == Some(true) {
                    return;
                }
                operands = rest;
            }
            go_on(operands.first().unwrap_or(&Json::Null));
        }
        Some(("fractional", operands)) if operands.iter().all(|it| matches!(it, Json::List(_))) => {
            for bucket in operands {
                match bucket {
                    Json::List(items) if matches!(&items[..], [_, Json::Number(weight)] if *weight == 0.0) => {
                    }
                    Json::List(items) => go_on(items.first().unwrap_or(&Json::Null)),
                    _ => {}
                }
            }
        }
        Some(_) => {
            into.insert(Outcome::Any);
        }
    }
}
