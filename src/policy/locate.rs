//! Finds places in the text of a document, for whoever shows a refusal with its line.
//!
//! A place (`rollouts[2].strategy.canary.steps[1].percent`) is followed from bracket to bracket by the scanner that cuts
//! documents, so this works where a piece of the document is no JSON at all. Names may hold dots and brackets, and long ones
//! are cut: among the members of an object those are tried that the rest of the place begins with.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use crate::finding::{Finding, Problem, cut, is_held};
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
    Places::of(document).locate(place)
}

/// The places of one document. An object or array is gone through once, however many places are looked for in it.
#[derive(Debug)]
pub struct Places<'d> {
    document: &'d [u8],
    root: Range<usize>,
    /// Objects by where they start.
    objects: HashMap<usize, Rc<Object>>,
    /// The items of arrays, by where those start.
    arrays: HashMap<usize, Rc<[Range<usize>]>>,
    /// Line and column, both from 1, of every so many bytes.
    positions: OnceCell<Vec<(usize, usize)>>,
}

/// The members of an object.
#[derive(Debug, Default)]
struct Object {
    /// Where the name stands, where the value stands.
    members: Vec<(Range<usize>, Range<usize>)>,
    /// Their numbers by names, as places have those.
    by_name: HashMap<Box<str>, Vec<usize>>,
}

impl<'d> Places<'d> {
    /// Those of `document`.
    #[must_use]
    pub fn of(document: &'d [u8]) -> Places<'d> {
        let mut scan = Scan::new(document, 0);
        scan.space();
        let root = value_at(scan).unwrap_or(0..document.len());
        let (objects, arrays) = (HashMap::new(), HashMap::new());
        Places { document, root, objects, arrays, positions: OnceCell::new() }
    }

    /// Where `place` is, or the nearest to it that is there.
    pub fn locate(&mut self, place: &str) -> Located {
        self.located(place, Which::First)
    }

    fn located(&mut self, place: &str, which: Which) -> Located {
        let root = Located { name: None, value: self.root.clone(), rest: place.to_owned() };
        self.follow(root, which)
    }

    /// Follows what is left of a place, as far as it leads.
    fn follow(&mut self, from: Located, which: Which) -> Located {
        if from.rest.is_empty() {
            return from;
        }
        let mut best: Option<Located> = None;
        for next in self.steps(&from, which) {
            let end = self.follow(next, which);
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
    fn steps(&mut self, from: &Located, which: Which) -> Vec<Located> {
        let open = self.document.get(from.value.start);
        if open == Some(&b'{') {
            let rest = from.rest.strip_prefix('.').unwrap_or(&from.rest);
            let object = self.object(from.value.start);
            let ends = rest.match_indices(['.', '[']).map(|(end, _)| end).chain([rest.len()]);
            let mut found = Vec::new();
            for (name, left) in ends.filter_map(|end| rest.split_at_checked(end)) {
                let numbers = object.by_name.get(name).map_or(&[][..], |numbers| numbers);
                let members = numbers.iter().filter_map(|number| object.members.get(*number));
                let start = found.len();
                found.extend(members.map(|(name, value)| Located {
                    name: Some(name.clone()),
                    value: value.clone(),
                    rest: left.to_owned(),
                }));
                if which == Which::First {
                    found.get_mut(start..).unwrap_or_default().reverse();
                }
            }
            // The longest name first.
            found.reverse();
            return found;
        }
        let Some((i, rest)) = from.rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
            return Vec::new();
        };
        let Ok(i) = i.parse::<usize>() else { return Vec::new() };
        let value = match open {
            Some(b'[') => self.array(from.value.start).get(i).cloned(),
            // One operand needs no list around it.
            _ => (i == 0).then(|| from.value.clone()),
        };
        value.map(|value| Located { name: None, value, rest: rest.to_owned() }).into_iter().collect()
    }

    fn object(&mut self, start: usize) -> Rc<Object> {
        let document = self.document;
        Rc::clone(
            self.objects.entry(start).or_insert_with(|| Rc::new(Object::at(Scan::new(document, start)))),
        )
    }

    fn array(&mut self, start: usize) -> Rc<[Range<usize>]> {
        let document = self.document;
        Rc::clone(self.arrays.entry(start).or_insert_with(|| items(Scan::new(document, start)).into()))
    }

    /// What to mark for a finding: the bytes that its reader should look at first.
    pub fn mark(&mut self, finding: &Finding) -> Range<usize> {
        let (document, place) = (self.document, &finding.place);
        match &finding.problem {
            Problem::Syntax { line, column, .. } => {
                let lines = document.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1));
                let at =
                    (lines.map(<[u8]>::len).sum::<usize>() + column.saturating_sub(1)).min(document.len());
                at..(at + 1).min(document.len())
            }
            Problem::Twice(name) => {
                let last = self.located(place, Which::Last);
                let itself = last.name.clone().filter(|at| is_text(document, at, name));
                // Of the place itself there are two, or of a member of what is there.
                let object = self.object(last.value.start);
                let number = object.by_name.get(&**name).and_then(|numbers| numbers.last());
                let member = number.and_then(|number| object.members.get(*number)).map(|(at, _)| at.clone());
                itself.or(member).unwrap_or(last.value)
            }
            Problem::MissingMember(_) => {
                let start = self.locate(place).value.start;
                start..start + 1
            }
            Problem::UnknownMember { .. } | Problem::UnknownName { what: "operator", .. } => {
                let located = self.locate(place);
                located.name.filter(|_| located.rest.is_empty()).unwrap_or(located.value)
            }
            Problem::Expected { expected, found } => {
                let located = self.locate(place);
                let found = found.trim_matches(['"', '`']);
                match located.name {
                    Some(name) if is_text(document, &name, found) || expected.starts_with("no `") => name,
                    _ => located.value,
                }
            }
            _ => self.locate(place).value,
        }
    }

    /// Line and column of a byte, both from 1; columns are characters.
    #[must_use]
    pub fn position(&self, at: usize) -> (usize, usize) {
        const EVERY: usize = 4_096;
        let at = at.min(self.document.len());
        let known = self.positions.get_or_init(|| {
            let mut known = vec![(1, 1)];
            known.extend(self.document.chunks(EVERY).scan((1, 1), |position, part| {
                *position = moved(*position, part);
                Some(*position)
            }));
            known
        });
        let part = at / EVERY;
        let rest = self.document.get(part * EVERY..at).unwrap_or_default();
        moved(known.get(part).copied().unwrap_or((1, 1)), rest)
    }
}

/// The position behind these bytes.
fn moved((line, column): (usize, usize), bytes: &[u8]) -> (usize, usize) {
    let is_char = |byte: &&u8| **byte & 0b1100_0000 != 0b1000_0000;
    let last = bytes.iter().rposition(|byte| *byte == b'\n');
    let chars =
        bytes.get(last.map_or(0, |last| last + 1)..).unwrap_or_default().iter().filter(is_char).count();
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    (line + lines, if last.is_some() { 1 + chars } else { column + chars })
}

impl Object {
    /// The object here; none has no members.
    fn at(mut scan: Scan<'_>) -> Object {
        let mut object = Object::default();
        if scan.peek() != Some(b'{') {
            return object;
        }
        scan.at += 1;
        scan.space();
        while let Ok(true) = scan.another(b'}', !object.members.is_empty(), "") {
            let start = scan.at;
            let mut text = scan;
            let (Ok(name), Ok(())) = (scan.name(), text.text()) else { break };
            let Some(value) = value_at(scan) else { break };
            scan.at = value.end;
            scan.space();
            object.by_name.entry(cut(&name).into()).or_default().push(object.members.len());
            object.members.push((start..text.at, value));
        }
        object
    }
}

/// The names in the object that is the member `name` of a document; of flags in an array there are none.
pub(super) fn names_in(document: &[u8], name: &str) -> Vec<Box<str>> {
    let Located { value, rest, .. } = locate(document, name);
    let scan = Scan::new(document, value.start);
    let mut names: Vec<Box<str>> = match scan.peek() {
        Some(b'{') if rest.is_empty() => Object::at(scan).by_name.into_keys().collect(),
        _ => Vec::new(),
    };
    names.sort_unstable();
    names
}

/// Where the items of the array here stand.
fn items(mut scan: Scan<'_>) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    scan.at += 1;
    scan.space();
    while let Ok(true) = scan.another(b']', !items.is_empty(), "") {
        let Some(value) = value_at(scan) else { break };
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

/// Whether the text at `at` is the one of which a finding holds this.
fn is_text(document: &[u8], at: &Range<usize>, held: &str) -> bool {
    let written = document.get(at.clone()).unwrap_or_default();
    serde_json::from_slice::<Box<str>>(written).is_ok_and(|written| is_held(held, &written))
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

    #[test]
    fn long_names_are_found_by_what_places_hold_of_them() {
        let (long, other) = ("x".repeat(1_000), "y".repeat(1_000));
        let document = format!(r#"{{"flags": {{"{other}": 1, "{long}": {{"a": [2, 3]}}, "{long}": 4}}}}"#);
        let mut places = Places::of(document.as_bytes());
        let mut text = |place: String| document[places.locate(&place).value].to_owned();
        assert_eq!(text(format!("flags.{}…", "y".repeat(80))), "1");
        assert_eq!(text(format!("flags.{}….a[1]", "x".repeat(80))), "3");
        let place = format!("flags.{}…", "x".repeat(80));
        let twice = Finding { place, problem: Problem::twice(&long) };
        let second = document.rfind(&long).unwrap() - 1;
        assert_eq!(places.mark(&twice), second..second + long.len() + 2);
    }

    #[test]
    fn positions_are_lines_and_characters() {
        let document = format!("{}\n가나다 x\n{}y", "line\n".repeat(5_000), "é".repeat(10_000));
        let places = Places::of(document.as_bytes());
        for (at, expected) in [
            (0, (1, 1)),
            (7, (2, 3)),
            (25_001 + 10, (5_002, 5)),
            (document.len() - 1, (5_003, 10_001)),
            (document.len() + 7, (5_003, 10_002)),
        ] {
            assert_eq!(places.position(at), expected, "{at}");
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
                let at = Places::of(&document).mark(&finding);
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
                    let at = Places::of(document).mark(&Finding { place: place.clone(), problem });
                    prop_assert!(at.end <= document.len().max(1));
                }
            }
        }
    }
}
