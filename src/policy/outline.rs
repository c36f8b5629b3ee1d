//! Cuts a policy document into its members and their items, a part at a time, without reading what is in them.
//!
//! Loading has a budget: a document of 8 MiB must not stall a worker. So the document is first cut into pieces that are
//! small (a rollout, a cohort, a flag), and each piece is then read on its own. What a piece may have is limited, in
//! bytes and in values: whatever is done with one piece ends soon.

use std::ops::Range;

use crate::finding::{Findings, Path, Problem};
use crate::policy::plan::{MEMBERS, Members, slot, unknown_member};

/// The most bytes that a document may have.
pub const MAX_BYTES: usize = 8 << 20;
/// The most rollouts that a policy may have, and of flags, cohorts and all else that has names as many.
pub const MAX_ITEMS: usize = 20_000;
/// The most containers that may stand in one another, the document itself included.
pub const MAX_NESTING: u64 = 64;
/// The most bytes of one item (a rollout, a cohort, a flag), its name included, and of a member that has no items.
pub const MAX_ITEM_BYTES: usize = 256 << 10;
/// The most values in one of these: a million bytes of zeros between commas would be half a million of them.
pub const MAX_ITEM_VALUES: usize = 20_000;
/// The most values of a document: each takes more memory than it takes bytes in the document.
pub const MAX_VALUES: usize = 1_000_000;

/// How much of a document is cut in one step, in bytes, but for the rest of an item.
const STEP_BYTES: usize = 64 << 10;

/// A member of the document.
#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    /// Where its value stands.
    pub value: Range<usize>,
    /// The value's own members or items, where it has such that are read one by one; no more than may be.
    pub items: Vec<Item>,
    /// How many there are.
    count: usize,
}

/// An item of a container.
#[derive(Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name, in an object.
    pub name: Option<Box<str>>,
    /// Where its value stands.
    pub value: Range<usize>,
}

/// Goes over a document piece by piece.
#[derive(Debug, Default)]
pub struct Outline {
    at: usize,
    state: State,
    members: Members,
    lines: Lines,
    values: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    /// Between members.
    Members(After),
    /// Inside the member with this number, which this bracket closes.
    Items(usize, u8, After),
    /// Behind the document.
    End,
    /// There is no reading on.
    Broken,
}

/// What stands before a place between members or items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The bracket that opens.
    Open,
    Value,
    Comma,
}

/// Not JSON: what was expected, and where.
#[derive(Debug)]
pub(super) struct Unreadable {
    problem: &'static str,
    at: usize,
}

/// Why there is no reading on.
enum Stop {
    Unreadable(Unreadable),
    /// It was reported.
    Reported,
}

impl From<Unreadable> for Stop {
    fn from(unreadable: Unreadable) -> Stop {
        Stop::Unreadable(unreadable)
    }
}

impl Outline {
    /// Reads on for a step. `false`: there is no more to read, or there is no reading on.
    pub fn step(&mut self, document: &[u8], findings: &mut Findings) -> bool {
        let start = self.at;
        while !self.is_over(document) && !findings.is_full() && self.at.saturating_sub(start) < STEP_BYTES {
            self.advance(document, findings);
        }
        self.lines.pass(document, start..self.at);
        !self.is_over(document)
    }

    /// The members, unless the document is no JSON, and its lines.
    #[must_use]
    pub fn into_parts(self) -> (Option<Members>, Lines) {
        ((self.state != State::Broken).then_some(self.members), self.lines)
    }

    fn is_over(&self, document: &[u8]) -> bool {
        match self.state {
            State::Broken => true,
            State::End => self.at >= document.len(),
            _ => false,
        }
    }

    /// Goes past space, and past a bracket, a comma, or a name and its value.
    fn advance(&mut self, document: &[u8], findings: &mut Findings) {
        let mut space = Scan::within(document, self.at, STEP_BYTES);
        space.space();
        // One more than may be: whoever comes to it has had too many.
        let mut scan = Scan::within(document, space.at, MAX_ITEM_BYTES + 1);
        let read = match self.state {
            state if space.is_cut_off() => Ok(state),
            State::Start => match scan.token(b'{', "expected an object") {
                Ok(()) => Ok(State::Members(After::Open)),
                Err(unreadable) => Err(unreadable.into()),
            },
            State::Members(after) => self.member(&mut scan, after, findings),
            State::Items(slot, close, after) => self.item(&mut scan, (slot, close), after, findings),
            State::End if scan.peek().is_some() => {
                Err(scan.unreadable("expected the end of the document").into())
            }
            state => Ok(state),
        };
        self.at = scan.at;
        self.state = read.unwrap_or_else(|stop| {
            match stop {
                Stop::Reported => {}
                Stop::Unreadable(_) if scan.nesting_exceeded => {
                    let (what, limit) = ("levels of nesting", MAX_NESTING);
                    findings.report(&Path::Root, Problem::OverLimit { what, limit, found: limit + 1 });
                }
                Stop::Unreadable(Unreadable { problem, at }) => {
                    findings.report(&Path::Root, self.lines.syntax(problem, document, at));
                }
            }
            State::Broken
        });
    }

    fn member(&mut self, scan: &mut Scan<'_>, after: After, findings: &mut Findings) -> Result<State, Stop> {
        match after {
            After::Open | After::Value if scan.passes(b'}') => {
                if self.values > MAX_VALUES {
                    findings.report(&Path::Root, Problem::over_limit("values", MAX_VALUES, self.values));
                }
                return Ok(State::End);
            }
            After::Value => {
                scan.token(b',', "expected `,` or `}`")?;
                return Ok(State::Members(After::Comma));
            }
            After::Open | After::Comma => {}
        }
        let name = name(scan, &Path::Root, findings)?;
        let place = Path::Root.field(&name);
        let Some(slot) = slot(&name) else {
            self.values += value(scan, 1, &place, findings)?.1;
            findings.report(&place, unknown_member());
            return Ok(State::Members(After::Value));
        };
        if self.members.get(slot).is_some_and(Option::is_some) {
            self.values += value(scan, 1, &place, findings)?.1;
            findings.report(&place, Problem::twice(&name));
            return Ok(State::Members(After::Value));
        }
        let brackets = MEMBERS.get(slot).map_or("", |(.., brackets)| brackets);
        let (open, start) = (scan.peek().unwrap_or(b' '), scan.at);
        let mut member = Member { value: start..start, items: Vec::new(), count: 0 };
        let is_cut = brackets.contains(char::from(open));
        if is_cut {
            scan.at += 1;
        } else {
            let (range, values) = value(scan, 1, &place, findings)?;
            self.values += values;
            match expected_brackets(brackets) {
                None => member.value = range,
                Some(expected) => {
                    let found = if open == b'{' { "an object" } else { "another value" };
                    findings.report(&place, Problem::expected(expected, found));
                }
            }
        }
        if let Some(known) = self.members.get_mut(slot) {
            *known = Some(member);
        }
        // `{` and `[` stand two before their closing brackets.
        Ok(if is_cut { State::Items(slot, open + 2, After::Open) } else { State::Members(After::Value) })
    }

    fn item(
        &mut self,
        scan: &mut Scan<'_>,
        (slot, close): (usize, u8),
        after: After,
        findings: &mut Findings,
    ) -> Result<State, Stop> {
        let Some((container, what, _)) = MEMBERS.get(slot) else { return Ok(State::Broken) };
        let Some(Some(member)) = self.members.get_mut(slot) else { return Ok(State::Broken) };
        let place = Path::Root.field(container);
        match after {
            After::Open | After::Value if scan.passes(close) => {
                if member.count > MAX_ITEMS {
                    findings.report(&place, Problem::over_limit(what.items(), MAX_ITEMS, member.count));
                }
                return Ok(State::Members(After::Value));
            }
            After::Value => {
                let expected = if close == b'}' { "expected `,` or `}`" } else { "expected `,` or `]`" };
                scan.token(b',', expected)?;
                return Ok(State::Items(slot, close, After::Comma));
            }
            After::Open | After::Comma => {}
        }
        let name = if close == b'}' { Some(name(scan, &place, findings)?) } else { None };
        let place = match &name {
            Some(name) => place.field(name),
            None => place.item(member.count),
        };
        let (range, values) = value(scan, 2, &place, findings)?;
        self.values += values;
        let is_named = name.as_deref() != Some("");
        if !is_named {
            findings.report(&place, Problem::expected("a name", ""));
        }
        if member.count < MAX_ITEMS {
            let value = if is_named { range } else { 0..0 };
            member.items.push(Item { name, value });
        }
        member.count += 1;
        Ok(State::Items(slot, close, After::Value))
    }
}

fn expected_brackets(brackets: &str) -> Option<&'static str> {
    Some(match brackets {
        "" => return None,
        "{" => "an object",
        "[" => "an array",
        _ => "an object or an array",
    })
}

/// A member's name and its colon; reports at `place` that there is no end of it.
fn name(scan: &mut Scan<'_>, place: &Path<'_>, findings: &mut Findings) -> Result<Box<str>, Stop> {
    let name = scan.name();
    refuse_cut_off(scan, place, findings)?;
    Ok(name?)
}

/// Where a value that stands in `outside` containers is, and how many values it has; nowhere where those are too many,
/// which is reported at `place`.
fn value(
    scan: &mut Scan<'_>,
    outside: u64,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Result<(Range<usize>, usize), Stop> {
    let value = scan.value(outside);
    refuse_cut_off(scan, place, findings)?;
    let range = value?;
    if scan.values > MAX_ITEM_VALUES {
        findings.report(place, Problem::over_limit("values", MAX_ITEM_VALUES, scan.values));
        return Ok((0..0, scan.values));
    }
    Ok((range, scan.values))
}

fn refuse_cut_off(scan: &Scan<'_>, place: &Path<'_>, findings: &mut Findings) -> Result<(), Stop> {
    if !scan.is_cut_off() {
        return Ok(());
    }
    findings.report(place, Problem::over_limit("bytes", MAX_ITEM_BYTES, MAX_ITEM_BYTES + 1));
    Err(Stop::Reported)
}

/// Where lines begin, as far as a document was read: nobody wants to count those of 8 MiB at once.
#[derive(Debug, Default)]
pub struct Lines(Vec<Mark>);

/// What is known of a byte of the document.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: usize,
    /// Its line, from 1.
    line: usize,
    /// Where that begins.
    line_start: usize,
}

impl Mark {
    const START: Mark = Mark { at: 0, line: 1, line_start: 0 };

    /// What is known of a byte further on.
    fn moved(self, document: &[u8], to: usize) -> Mark {
        let passed = document.get(self.at..to).unwrap_or_default();
        let mut mark = Mark { at: to, ..self };
        for (i, _) in passed.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            mark.line += 1;
            mark.line_start = self.at + i + 1;
        }
        mark
    }
}

impl Lines {
    /// Of a document of which nothing is known.
    pub const NONE: &Lines = &Lines(Vec::new());

    fn pass(&mut self, document: &[u8], passed: Range<usize>) {
        let mark = self.before(passed.start).moved(document, passed.end.min(document.len()));
        self.0.push(mark);
    }

    fn before(&self, at: usize) -> Mark {
        let after = self.0.partition_point(|mark| mark.at <= at);
        after.checked_sub(1).and_then(|i| self.0.get(i)).copied().unwrap_or(Mark::START)
    }

    /// The refusal of a document that is not JSON at the byte `at`.
    #[must_use]
    pub fn syntax(&self, problem: &str, document: &[u8], at: usize) -> Problem {
        let at = at.min(document.len());
        let Mark { line, line_start, .. } = self.before(at).moved(document, at);
        Problem::Syntax { problem: problem.to_owned(), line, column: at - line_start + 1 }
    }
}

/// A place in the document that moves forward.
#[derive(Clone, Copy)]
pub(super) struct Scan<'a> {
    document: &'a [u8],
    pub(super) at: usize,
    /// Whether the document goes on behind what is looked at.
    goes_on: bool,
    nesting_exceeded: bool,
    /// How many values were gone past.
    values: usize,
}

impl<'a> Scan<'a> {
    /// At the byte `at` of the document.
    pub(super) fn new(document: &'a [u8], at: usize) -> Scan<'a> {
        Scan { document, at, goes_on: false, nesting_exceeded: false, values: 0 }
    }

    /// The same, looking at no more than so many bytes.
    fn within(document: &'a [u8], at: usize, bytes: usize) -> Scan<'a> {
        let end = at.saturating_add(bytes).min(document.len());
        let goes_on = end < document.len();
        Scan { goes_on, ..Scan::new(document.get(..end).unwrap_or(document), at) }
    }

    /// Whether it has come to the end of what is looked at, and the document goes on.
    fn is_cut_off(&self) -> bool {
        self.goes_on && self.at >= self.document.len()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.document.get(self.at).copied()
    }

    pub(super) fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// How long a value is without the space after it.
    pub(super) fn trimmed(&self, value: Range<usize>) -> usize {
        self.document.get(value).map_or(0, |bytes| bytes.trim_ascii_end().len())
    }

    fn unreadable(&self, problem: &'static str) -> Unreadable {
        Unreadable { problem, at: self.at }
    }

    /// Goes past `byte` and the space around it.
    fn byte(&mut self, byte: u8, problem: &'static str) -> Result<(), Unreadable> {
        self.space();
        self.token(byte, problem)?;
        self.space();
        Ok(())
    }

    /// Goes past `byte`, which must stand here.
    fn token(&mut self, byte: u8, problem: &'static str) -> Result<(), Unreadable> {
        if self.passes(byte) { Ok(()) } else { Err(self.unreadable(problem)) }
    }

    /// Goes past `byte`, if it stands here.
    fn passes(&mut self, byte: u8) -> bool {
        let is_here = self.peek() == Some(byte);
        self.at += usize::from(is_here);
        is_here
    }

    /// Whether another member or item follows; otherwise goes past `close`.
    pub(super) fn another(
        &mut self,
        close: u8,
        after: bool,
        expected: &'static str,
    ) -> Result<bool, Unreadable> {
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(false);
        }
        if after {
            self.byte(b',', expected)?;
        }
        Ok(true)
    }

    /// A member's name and its colon.
    pub(super) fn name(&mut self) -> Result<Box<str>, Unreadable> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.unreadable("expected a member's name"));
        }
        self.text()?;
        let text = self.document.get(start..self.at).unwrap_or_default();
        let name = serde_json::from_slice::<Box<str>>(text)
            .map_err(|_| Unreadable { problem: "expected a member's name", at: start })?;
        self.byte(b':', "expected `:`")?;
        Ok(name)
    }

    /// Goes past a text, which starts here.
    pub(super) fn text(&mut self) -> Result<(), Unreadable> {
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(self.unreadable("expected the end of a text")),
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Goes past a value that stands in `outside` containers. Brackets and texts are looked at, the rest is left to
    /// whoever reads the piece.
    pub(super) fn value(&mut self, outside: u64) -> Result<Range<usize>, Unreadable> {
        let start = self.at;
        let mut nesting = outside;
        self.values += 1;
        loop {
            match self.peek() {
                Some(b'"') => self.text()?,
                Some(b'{' | b'[') => {
                    nesting += 1;
                    self.values += 1;
                    self.at += 1;
                    if nesting > MAX_NESTING {
                        self.nesting_exceeded = true;
                        return Err(self.unreadable("expected less"));
                    }
                    continue;
                }
                Some(b'}' | b']') if nesting > outside => {
                    nesting -= 1;
                    self.at += 1;
                }
                None | Some(b'}' | b']' | b',') if nesting == outside => break,
                None => return Err(self.unreadable("expected the rest of the document")),
                Some(byte) => {
                    self.values += usize::from(byte == b',');
                    self.at += 1;
                    continue;
                }
            }
            if nesting == outside {
                break;
            }
        }
        if start == self.at {
            return Err(self.unreadable("expected a value"));
        }
        Ok(start..self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(document: &str) -> Result<Vec<String>, String> {
        let mut outline = Outline::default();
        let mut findings = Findings::default();
        while outline.step(document.as_bytes(), &mut findings) {}
        if let Some(finding) = findings.into_vec().first() {
            return Err(finding.to_string());
        }
        let text = |range: Range<usize>| document[range].trim_end().to_owned();
        let mut pieces = Vec::new();
        let members = outline.into_parts().0.unwrap();
        for ((name, ..), member) in MEMBERS.into_iter().zip(members) {
            let Some(member) = member else { continue };
            if !member.value.is_empty() {
                pieces.push(format!("{name}={}", text(member.value)));
            }
            for item in member.items {
                pieces.push(format!("{name}.{}={}", item.name.unwrap_or_default(), text(item.value)));
            }
        }
        Ok(pieces)
    }

    #[test]
    fn members_and_items_are_cut_where_they_end() {
        for (document, expected) in [
            ("{}", vec![]),
            (r#" { "name" : "a\"}b" , "revision": 12 } "#, vec![r#"name="a\"}b""#, "revision=12"]),
            (r#"{"rollouts":[]}"#, vec![]),
            (r#"{"rollouts":[ {"a":[1]} , 5 ]}"#, vec![r#"rollouts.={"a":[1]}"#, "rollouts.=5"]),
            (r#"{"cohorts":{"x":{"y":"]"},"z":null}}"#, vec![r#"cohorts.x={"y":"]"}"#, "cohorts.z=null"]),
            (r#"{"metadata":{"rollouts":[1,2]}}"#, vec![r#"metadata={"rollouts":[1,2]}"#]),
            (r#"{"\u006eame":1}"#, vec!["name=1"]),
        ] {
            assert_eq!(
                outline(document),
                Ok(expected.into_iter().map(str::to_owned).collect()),
                "{document}"
            );
        }
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        for (document, refusal) in [
            ("", "document: expected an object at line 1 column 1"),
            ("[]", "document: expected an object at line 1 column 1"),
            ("{", "document: expected a member's name at line 1 column 2"),
            ("{\"name\"}", "document: expected `:` at line 1 column 8"),
            ("{\"name\":}", "document: expected a value at line 1 column 9"),
            ("{\"name\":1,}", "document: expected a member's name at line 1 column 11"),
            ("{\n\"name\":[]\n\"b\":2}", "document: expected `,` or `}` at line 3 column 1"),
            ("{\"name\":[1", "document: expected the rest of the document at line 1 column 11"),
            ("{\"rollouts\":[1", "document: expected `,` or `]` at line 1 column 15"),
            ("{\"name\":\"b", "document: expected the end of a text at line 1 column 11"),
            ("{} {", "document: expected the end of the document at line 1 column 4"),
        ] {
            assert_eq!(outline(document), Err(refusal.to_owned()), "{document}");
        }
    }

    #[test]
    fn an_item_is_limited_in_bytes_and_values() {
        let text =
            |bytes: usize| format!(r#"{{"cohorts":{{"a":"{}"}}}}"#, "x".repeat(bytes - r#""a":"""#.len()));
        let list = |values: usize| format!(r#"{{"holdouts":[1,[{}0]]}}"#, "0,".repeat(values - 2));
        let spaced = |bytes: usize| format!("{{{0}\"name\"{0}:{0}1{0}}}", " ".repeat(bytes));
        for (taken, refused, refusal) in [
            (text(262_144), text(262_145), "cohorts.a: expected at most 262144 bytes, found 262145"),
            (text(262_144), text(4_000_000), "cohorts.a: expected at most 262144 bytes, found 262145"),
            (list(20_000), list(20_001), "holdouts[1]: expected at most 20000 values, found 20001"),
            (spaced(80_000), spaced(300_000), "document: expected at most 262144 bytes, found 262145"),
            (
                r#"{"flags":{}}"#.to_owned(),
                format!(r#"{{"flags":{{"{}":1}}}}"#, "x".repeat(300_000)),
                "flags: expected at most 262144 bytes, found 262145",
            ),
        ] {
            assert_eq!(outline(&taken).err(), None);
            assert_eq!(outline(&refused), Err(refusal.to_owned()));
        }
    }

    #[test]
    fn the_values_of_all_items_are_limited() {
        let document = |more: usize| {
            let list = format!("[{}0]", "0,".repeat(19_998));
            format!(r#"{{"holdouts":[{},[{}0]]}}"#, vec![list; 50].join(","), "0,".repeat(more))
        };
        // With the list itself, and what it is in.
        assert_eq!(
            outline(&document(0)),
            Err("document: expected at most 1000000 values, found 1000002".to_owned())
        );
        assert!(outline(&document(0).replacen("0,0,", "", 1)).is_ok());
    }

    #[test]
    fn a_step_goes_over_no_more_than_a_part_and_an_item() {
        let space = " ".repeat(1 << 20);
        let lines = "\n".repeat(1 << 20);
        let names: String = (0..100_000).map(|i| format!("\"{i}\":0,")).collect();
        for document in [
            format!("{{{space}}}{space}"),
            format!("{{\"name\":[{space}"),
            format!("{{\"cohorts\":{{{names}\"a\":1}}}}"),
            format!("{{{names}\"name\":1}}"),
            format!("{{{lines}\"name\"{lines}x"),
        ] {
            let (mut outline, mut findings) = (Outline::default(), Findings::first());
            let mut at = 0;
            while outline.step(document.as_bytes(), &mut findings) && findings.is_empty() {
                assert!(
                    (at + 1..=at + STEP_BYTES + MAX_ITEM_BYTES + 1).contains(&outline.at),
                    "{at} {}",
                    outline.at
                );
                at = outline.at;
            }
        }
    }

    #[test]
    fn lines_are_counted_wherever_a_document_is_wrong() {
        let (mut outline, mut findings) = (Outline::default(), Findings::default());
        let document = format!("{{{}\"name\":\n\n  7 x \"", "\n".repeat(200_000));
        while outline.step(document.as_bytes(), &mut findings) {}
        let found = findings.into_vec();
        assert_eq!(found[0].to_string(), "document: expected the end of a text at line 200003 column 8");
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |levels: usize| format!("{{\"metadata\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(outline(&nested(63)).is_ok());
        assert_eq!(
            outline(&nested(64)),
            Err("document: expected at most 64 levels of nesting, found 65".to_owned())
        );
        let inside = |levels: usize| format!("{{\"flags\":[{}{}]}}", "[".repeat(levels), "]".repeat(levels));
        assert!(outline(&inside(62)).is_ok());
        assert!(outline(&inside(63)).is_err());
    }
}
