//! Matches of headers and query parameters.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::budget::{Budget, Exhausted};
use crate::finding::{Findings, Path, Problem};
use crate::headers::{is_token, kept_name};
use crate::pattern::Pattern;
use crate::wire::{ValueMatch, ValueMatchType};

/// What the value of a header or query parameter must be. One that is absent does not hold.
#[derive(Debug)]
pub(super) struct ValueRule {
    name: Box<str>,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Exact(Box<[u8]>),
    Pattern(Pattern),
}

impl ValueRule {
    /// Of which header, as the proxy keeps it, or parameter.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether `found`, the value of that name, is what it must be.
    pub(super) fn is_match(&self, found: Option<Cow<'_, [u8]>>, budget: &Budget) -> Result<bool, Exhausted> {
        budget.spend(1)?;
        let Some(found) = found else { return Ok(false) };
        match &self.value {
            Value::Exact(exact) => Ok(**exact == *found),
            Value::Pattern(pattern) => {
                Pattern::text(&found).map_or(Ok(false), |text| pattern.find(text, budget))
            }
        }
    }
}

impl Value {
    fn compile(rule: &ValueMatch, findings: &mut Findings) -> Result<Value, Problem> {
        Ok(match rule.kind {
            ValueMatchType::Exact => Value::Exact(rule.value.as_bytes().into()),
            ValueMatchType::RegularExpression => Value::Pattern(Pattern::compile(&rule.value, findings)?),
        })
    }
}

/// Compiles the header matches written at `place`; names are compared without regard to case, and `host` is `:authority`.
///
/// Reports, and gives `None` for, names that are no tokens (RFC 9110, section 5.6.2; so pseudo headers), names that
/// stand twice, and what [`Pattern::compile`] refuses.
pub(super) fn compile_headers(
    headers: &[ValueMatch],
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Box<[ValueRule]>> {
    compile_all(headers, place, findings, |name| match is_token(name) {
        true => Ok(kept_name(name)),
        false => Err(Problem::expected("the name of a header", name)),
    })
}

/// Compiles the matches of query parameters written at `place`.
///
/// Reports, and gives `None` for, empty names, names that stand twice, and what [`Pattern::compile`] refuses.
pub(super) fn compile_query(
    parameters: &[ValueMatch],
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Box<[ValueRule]>> {
    compile_all(parameters, place, findings, |name| match name {
        "" => Err(Problem::expected("the name of a query parameter", name)),
        name => Ok(name.into()),
    })
}

fn compile_all(
    rules: &[ValueMatch],
    place: &Path<'_>,
    findings: &mut Findings,
    compile_name: impl Fn(&str) -> Result<Box<str>, Problem>,
) -> Option<Box<[ValueRule]>> {
    let mut seen = BTreeSet::new();
    let mut compiled = Vec::with_capacity(rules.len());
    for (i, rule) in rules.iter().enumerate() {
        let place = place.item(i);
        let name = compile_name(&rule.name).and_then(|name| match seen.insert(name.clone()) {
            true => Ok(name),
            false => Err(Problem::twice(&rule.name)),
        });
        let name = findings.reported(name, &place.field("name"));
        let value = Value::compile(rule, findings);
        let value = findings.reported(value, &place.field("value"));
        compiled.extend(name.zip(value).map(|(name, value)| ValueRule { name, value }));
    }
    (compiled.len() == rules.len()).then(|| compiled.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_by_bytes_or_matched_as_text() {
        use ValueMatchType::{Exact, RegularExpression};
        for (kind, value, found, expected) in [
            (Exact, "a", Some(&b"a"[..]), true),
            (Exact, "a", Some(b"A"), false),
            (Exact, "a", Some(b"a,b"), false),
            (Exact, "", Some(b""), true),
            (Exact, "", None, false),
            (RegularExpression, "a|ab", Some(b"ab"), true),
            (RegularExpression, "a", Some(b"xax"), false),
            (RegularExpression, ".*", Some(b"\xff"), false),
            (RegularExpression, ".*", Some("é".as_bytes()), true),
            (RegularExpression, ".*", Some(&[b'a'; 4096]), true),
            (RegularExpression, ".*", Some(&[b'a'; 4097]), false),
            (RegularExpression, ".*", None, false),
        ] {
            let rule = ValueMatch { kind, name: String::new(), value: value.to_owned() };
            let rule = ValueRule {
                name: "x".into(),
                value: Value::compile(&rule, &mut Findings::default()).unwrap(),
            };
            let is_match = rule.is_match(found.map(Cow::Borrowed), &Budget::default());
            assert_eq!(is_match, Ok(expected), "{value} {found:?}");
        }
    }
}
