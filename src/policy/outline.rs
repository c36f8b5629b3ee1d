//! Cuts a policy document into its members and their items, one at a time, without reading what is in them.
//!
//! Loading has a budget: a document of 8 MiB must not stall a worker. So the document is first cut into pieces that are
//! small (a rollout, a cohort, a flag), and each piece is then read on its own.

use std::ops::Range;

use crate::finding::{Findings, Path, Problem};

/// The most bytes that a document may have.
pub const MAX_BYTES: usize = 8 << 20;
/// The most rollouts that a policy may have, and of flags, cohorts and all else that has names as many.
pub const MAX_ITEMS: usize = 20_000;
/// The most containers that may stand in one another, the document itself included.
pub const MAX_NESTING: u64 = 64;

/// The members whose items are cut apart too.
const CONTAINERS: [&str; 8] =
    ["keys", "attributes", "$evaluators", "cohorts", "layers", "holdouts", "rollouts", "flags"];

/// A member of the document.
#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: Box<str>,
    /// Where its value stands.
    pub value: Range<usize>,
    /// The value's own members or items, where it is one of the containers; no more than may be.
    pub items: Vec<Item>,
    /// How many there are.
    pub count: usize,
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
    members: Vec<Member>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    /// Between members: the flag says whether one stands before.
    Members(bool),
    /// Inside a container of the last member, which this bracket closes.
    Items(u8, bool),
    End,
}

/// Not JSON: what was expected, and where.
#[derive(Debug)]
pub(super) struct Unreadable {
    problem: &'static str,
    at: usize,
}

impl Outline {
    /// Reads one more piece. `false`: there is no more to read, or there is a finding.
    pub fn step(&mut self, document: &[u8], findings: &mut Findings) -> bool {
        let mut scan = Scan::new(document, self.at);
        let stepped = self.advance(&mut scan);
        self.at = scan.at;
        if scan.nesting_exceeded {
            findings.report(
                &Path::Root,
                Problem::OverLimit { what: "levels of nesting", limit: MAX_NESTING, found: MAX_NESTING + 1 },
            );
            return false;
        }
        match stepped {
            Ok(more) => more,
            Err(unreadable) => {
                findings.report(&Path::Root, syntax(unreadable.problem, document, unreadable.at));
                false
            }
        }
    }

    /// The members, in document order, once all is read.
    #[must_use]
    pub fn into_members(self) -> Vec<Member> {
        self.members
    }

    fn advance(&mut self, scan: &mut Scan<'_>) -> Result<bool, Unreadable> {
        scan.space();
        match self.state {
            State::Start => {
                scan.byte(b'{', "expected an object")?;
                self.state = State::Members(false);
            }
            State::Members(after) => return self.member(scan, after),
            State::Items(close, after) => self.item(scan, close, after)?,
            State::End if scan.peek().is_some() => {
                return Err(scan.unreadable("expected the end of the document"));
            }
            State::End => return Ok(false),
        }
        Ok(true)
    }

    fn member(&mut self, scan: &mut Scan<'_>, after: bool) -> Result<bool, Unreadable> {
        if !scan.another(b'}', after, "expected `,` or `}`")? {
            self.state = State::End;
            return Ok(true);
        }
        let name = scan.name()?;
        let start = scan.at;
        let container = CONTAINERS.contains(&&*name);
        let mut member = Member { name, value: start..start, items: Vec::new(), count: 0 };
        self.state = State::Members(true);
        match scan.peek() {
            Some(open @ (b'{' | b'[')) if container => {
                scan.at += 1;
                // `{` and `[` stand two before their closing brackets.
                self.state = State::Items(open + 2, false);
            }
            _ => member.value = scan.value(1)?,
        }
        self.members.push(member);
        Ok(true)
    }

    fn item(&mut self, scan: &mut Scan<'_>, close: u8, after: bool) -> Result<(), Unreadable> {
        let expected = if close == b'}' { "expected `,` or `}`" } else { "expected `,` or `]`" };
        let Some(member) = self.members.last_mut() else { return Ok(()) };
        if !scan.another(close, after, expected)? {
            member.value.end = scan.at;
            self.state = State::Members(true);
            return Ok(());
        }
        let name = if close == b'}' { Some(scan.name()?) } else { None };
        let value = scan.value(2)?;
        member.count += 1;
        if member.items.len() < MAX_ITEMS {
            member.items.push(Item { name, value });
        }
        self.state = State::Items(close, true);
        Ok(())
    }
}

/// The refusal of a document that is not JSON at the byte `at`.
#[must_use]
pub fn syntax(problem: &str, document: &[u8], at: usize) -> Problem {
    let before = document.get(..at).unwrap_or(document);
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    Problem::Syntax { problem: problem.to_owned(), line, column }
}

/// A place in the document that moves forward.
#[derive(Clone, Copy)]
pub(super) struct Scan<'a> {
    document: &'a [u8],
    pub(super) at: usize,
    nesting_exceeded: bool,
}

impl<'a> Scan<'a> {
    /// At the byte `at` of the document.
    pub(super) fn new(document: &'a [u8], at: usize) -> Scan<'a> {
        Scan { document, at, nesting_exceeded: false }
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

    fn byte(&mut self, byte: u8, problem: &'static str) -> Result<(), Unreadable> {
        self.space();
        if self.peek() != Some(byte) {
            return Err(self.unreadable(problem));
        }
        self.at += 1;
        self.space();
        Ok(())
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
        loop {
            match self.peek() {
                Some(b'"') => self.text()?,
                Some(b'{' | b'[') => {
                    nesting += 1;
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
                Some(_) => {
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
        for member in outline.into_members() {
            if member.items.is_empty() {
                pieces.push(format!("{}={}", member.name, text(member.value)));
                continue;
            }
            for item in member.items {
                pieces.push(format!(
                    "{}.{}={}",
                    member.name,
                    item.name.unwrap_or_default(),
                    text(item.value)
                ));
            }
        }
        Ok(pieces)
    }

    #[test]
    fn members_and_items_are_cut_where_they_end() {
        for (document, expected) in [
            ("{}", vec![]),
            (r#" { "name" : "a\"}b" , "revision": 12 } "#, vec![r#"name="a\"}b""#, "revision=12"]),
            (r#"{"rollouts":[]}"#, vec!["rollouts=[]"]),
            (r#"{"rollouts":[ {"a":[1]} , 5 ]}"#, vec![r#"rollouts.={"a":[1]}"#, "rollouts.=5"]),
            (r#"{"cohorts":{"x":{"y":"]"},"z":null}}"#, vec![r#"cohorts.x={"y":"]"}"#, "cohorts.z=null"]),
            (
                r#"{"rollouts":7,"metadata":{"rollouts":[1,2]}}"#,
                vec!["rollouts=7", r#"metadata={"rollouts":[1,2]}"#],
            ),
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
            ("{\"a\"}", "document: expected `:` at line 1 column 5"),
            ("{\"a\":}", "document: expected a value at line 1 column 6"),
            ("{\"a\":1,}", "document: expected a member's name at line 1 column 8"),
            ("{\n\"a\":[]\n\"b\":2}", "document: expected `,` or `}` at line 3 column 1"),
            ("{\"a\":[1", "document: expected the rest of the document at line 1 column 8"),
            ("{\"rollouts\":[1", "document: expected `,` or `]` at line 1 column 15"),
            ("{\"a\":\"b", "document: expected the end of a text at line 1 column 8"),
            ("{} {", "document: expected the end of the document at line 1 column 4"),
        ] {
            assert_eq!(outline(document), Err(refusal.to_owned()), "{document}");
        }
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
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
