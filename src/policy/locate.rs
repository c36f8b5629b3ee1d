//! Finds places in the text of a document, for whoever shows a refusal with its line.
//!
//! A place (`rollouts[2].strategy.canary.steps[1].percent`) is followed from bracket to bracket by the scanner that cuts
//! documents, so this works where a piece of the document is no JSON at all. Names may hold dots and brackets: among the
//! members of an object those are tried that the rest of the place begins with.

use std::ops::Range;

use crate::finding::{Finding, Problem};
use crate::policy::outline::Scan;

/// Where a place is: all in bytes of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The name of the member, quotes included, unless it is an item or the document.
    pub name: Option<Range<usize>>,
    /// The value.
    pub value: Range<usize>,
    /// What is left of the place where it leads on to what is not there: this is the last that is there.
    pub rest: String,
}

/// Which of the members of one name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    First,
    Last,
}

/// Where `place` is in `document`, or the nearest to it that is there.
#[must_use]
pub fn locate(document: &[u8], place: &str) -> Located {
    located(document, place, Which::First)
}

fn located(document: &[u8], place: &str, which: Which) -> Located {
    let mut scan = Scan::new(document, 0);
    scan.space();
    let value = value_at(scan).unwrap_or(0..document.len());
    let root = Located { name: None, value, rest: place.to_owned() };
    follow(document, root, which)
}

/// Follows what is left of a place, as far as it leads.
fn follow(document: &[u8], from: Located, which: Which) -> Located {
    if from.rest.is_empty() {
        return from;
    }
    let mut best: Option<Located> = None;
    for next in steps(document, &from, which) {
        let end = follow(document, next, which);
        if end.rest.is_empty() {
            return end;
        }
        if best.as_ref().is_none_or(|best| end.rest.len() < best.rest.len()) {
            best = Some(end);
        }
    }
    best.unwrap_or(from)
}

/// What the next step may lead to: the likeliest first.
fn steps(document: &[u8], from: &Located, which: Which) -> Vec<Located> {
    let mut scan = Scan::new(document, from.value.start);
    match scan.peek() {
        Some(b'{') => {
            let rest = from.rest.strip_prefix('.').unwrap_or(&from.rest);
            let mut found: Vec<(usize, Located)> = Vec::new();
            for (name, at, value) in members(scan) {
                let Some(left) = rest.strip_prefix(&*name) else { continue };
                if left.is_empty() || left.starts_with(['.', '[']) {
                    found.push((name.len(), Located { name: Some(at), value, rest: left.to_owned() }));
                }
            }
            if which == Which::Last {
                found.reverse();
            }
            found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
            found.into_iter().map(|(_, located)| located).collect()
        }
        open => {
            let Some((i, rest)) = from.rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
                return Vec::new();
            };
            let Ok(i) = i.parse::<usize>() else { return Vec::new() };
            let value = match open {
                Some(b'[') => items(&mut scan).into_iter().nth(i),
                // One operand needs no list around it.
                _ => (i == 0).then(|| from.value.clone()),
            };
            value.map(|value| Located { name: None, value, rest: rest.to_owned() }).into_iter().collect()
        }
    }
}

/// The members of the object here: name, where that stands, where the value stands.
fn members(mut scan: Scan<'_>) -> Vec<(Box<str>, Range<usize>, Range<usize>)> {
    let mut members = Vec::new();
    scan.at += 1;
    scan.space();
    while let Ok(true) = scan.another(b'}', !members.is_empty(), "") {
        let start = scan.at;
        let mut text = scan;
        let (Ok(name), Ok(())) = (scan.name(), text.text()) else { break };
        let Some(value) = value_at(scan) else { break };
        scan.at = value.end;
        scan.space();
        members.push((name, start..text.at, value));
    }
    members
}

/// The names in the object that is the member `name` of a document; of flags in an array there are none.
pub(super) fn names_in(document: &[u8], name: &str) -> Vec<Box<str>> {
    let Located { value, rest, .. } = locate(document, name);
    let scan = Scan::new(document, value.start);
    match scan.peek() {
        Some(b'{') if rest.is_empty() => members(scan).into_iter().map(|(name, ..)| name).collect(),
        _ => Vec::new(),
    }
}

/// Where the items of the array here stand.
fn items(scan: &mut Scan<'_>) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    scan.at += 1;
    scan.space();
    while let Ok(true) = scan.another(b']', !items.is_empty(), "") {
        let Some(value) = value_at(*scan) else { break };
        scan.at = value.end;
        scan.space();
        items.push(value);
    }
    items
}

/// Where the value here stands, without the space after it.
fn value_at(mut scan: Scan<'_>) -> Option<Range<usize>> {
    let value = scan.value(0).ok()?;
    Some(value.start..value.start + scan.trimmed(value))
}

/// What to mark of a document for a finding: the bytes that its reader should look at first.
#[must_use]
pub fn mark(document: &[u8], finding: &Finding) -> Range<usize> {
    let place = &finding.place;
    match &finding.problem {
        Problem::Syntax { line, column, .. } => {
            let lines = document.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1));
            let at = (lines.map(<[u8]>::len).sum::<usize>() + column.saturating_sub(1)).min(document.len());
            at..(at + 1).min(document.len())
        }
        Problem::Twice(name) => {
            let last = located(document, place, Which::Last);
            // Of the place itself there are two, or of a member of what is there.
            let within = members(Scan::new(document, last.value.start));
            let member =
                within.iter().rev().find(|(member, ..)| **member == **name).map(|(_, at, _)| at.clone());
            let itself = last.name.clone().filter(|at| is_text(document, at, name));
            itself.or(member).unwrap_or(last.value)
        }
        Problem::MissingMember(_) => {
            let start = locate(document, place).value.start;
            start..start + 1
        }
        Problem::UnknownMember { .. } | Problem::UnknownName { what: "operator", .. } => {
            name_or_value(document, place)
        }
        Problem::Expected { expected, found } => {
            let located = locate(document, place);
            let found = found.trim_matches(['"', '`']);
            match located.name {
                Some(name) if is_text(document, &name, found) || expected.starts_with("no `") => name,
                _ => located.value,
            }
        }
        _ => locate(document, place).value,
    }
}

fn name_or_value(document: &[u8], place: &str) -> Range<usize> {
    let located = locate(document, place);
    located.name.filter(|_| located.rest.is_empty()).unwrap_or(located.value)
}

/// Whether the text at `at` says `text`.
fn is_text(document: &[u8], at: &Range<usize>, text: &str) -> bool {
    let written = document.get(at.clone()).unwrap_or_default();
    serde_json::from_slice::<Box<str>>(written).is_ok_and(|written| *written == *text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::{Clusters, Policy};

    #[test]
    fn places_are_found_where_they_stand() {
        let document = br#"{"a": {"b.c": [1, {"d": 2 }], "b": {"c": 3}}, "f": {"": {"x[0]": "y" }}, "e" : "\"", "a.b": 7}"#;
        for (place, name, value, rest) in [
            ("", None, std::str::from_utf8(document).unwrap(), ""),
            ("a.b.c[1].d", Some(r#""d""#), "2", ""),
            ("a.b.c", Some(r#""b.c""#), r#"[1, {"d": 2 }]"#, ""),
            ("a.b", Some(r#""a.b""#), "7", ""),
            ("f..x[0]", Some(r#""x[0]""#), r#""y""#, ""),
            ("e", Some(r#""e""#), r#""\"""#, ""),
            ("e[0]", None, r#""\"""#, ""),
            ("a.b.c[7].d", Some(r#""b.c""#), r#"[1, {"d": 2 }]"#, "[7].d"),
            ("nothing", None, std::str::from_utf8(document).unwrap(), "nothing"),
        ] {
            let found = locate(document, place);
            let text = |range: Range<usize>| std::str::from_utf8(&document[range]).unwrap();
            assert_eq!(
                (found.name.map(text), text(found.value), &*found.rest),
                (name, value, rest),
                "{place}"
            );
        }
    }

    /// The kinds of problems, one after the other: a new one does not compile before it stands here.
    fn next(problem: Option<&Problem>) -> Option<Problem> {
        let text = String::new;
        Some(match problem {
            None => Problem::expected("", ""),
            Some(Problem::Expected { .. }) => Problem::UnknownMember { expected: text() },
            Some(Problem::UnknownMember { .. }) => Problem::MissingMember("".into()),
            Some(Problem::MissingMember(_)) => Problem::unknown("", ""),
            Some(Problem::UnknownName { .. }) => Problem::Twice(text()),
            Some(Problem::Twice(_)) => Problem::ReachesItself(text()),
            Some(Problem::ReachesItself(_)) => Problem::over_limit("", 0, 0),
            Some(Problem::OverLimit { .. }) => Problem::Syntax { problem: text(), line: 0, column: 0 },
            Some(Problem::Syntax { .. }) => return None,
        })
    }

    /// What `mulkko check` shows of each refusal is in `tests/refusals.txt`.
    #[test]
    fn refusals_of_every_kind_have_a_document_that_shows_their_place() {
        let clusters = Clusters::matching(vec!["checkout-*".into(), "search-*".into()]);
        let mut kinds = BTreeSet::new();
        for entry in std::fs::read_dir("tests/refusals").unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_none_or(|it| it != "json") {
                continue;
            }
            let document = std::fs::read(&file).unwrap();
            for finding in Policy::parse(&document, &clusters).unwrap_err() {
                kinds.insert(finding.problem.kind());
                let at = mark(&document, &finding);
                assert!(at.start <= at.end && at.end <= document.len(), "{}: {finding}", file.display());
            }
        }
        let all: BTreeSet<_> =
            std::iter::successors(next(None), |it| next(Some(it))).map(|it| it.kind()).collect();
        assert_eq!(kinds, all);
    }

    proptest! {
        #![proptest_config(crate::laws::config(256))]

        #[test]
        fn no_document_and_no_place_panic(document: Vec<u8>, json in r#"[\[\]{}:,"a0 \\]{0,40}"#, place in r"[a.\[\]0]{0,12}") {
            for document in [&document[..], json.as_bytes()] {
                for problem in std::iter::successors(next(None), |it| next(Some(it))) {
                    let at = mark(document, &Finding { place: place.clone(), problem });
                    prop_assert!(at.end <= document.len().max(1));
                }
            }
        }
    }
}
