//! What is wrong with a document, and where: the one place that words refusals.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write};

use crate::pattern::Pattern;

/// A place in a document.
///
/// Lives on the stack while a compiler walks down, and is rendered only when something is wrong there: a policy that
/// compiles pays nothing for it.
#[derive(Clone, Copy, Debug)]
pub enum Path<'a> {
    /// The whole document.
    Root,
    /// A member of an object.
    Field(&'a Path<'a>, &'a str),
    /// An item of an array, from 0.
    Item(&'a Path<'a>, usize),
    /// What a document that stands here calls a place.
    Inner(&'a Path<'a>, &'a str),
}

impl<'a> Path<'a> {
    /// The place of the member `name` of the object at this place.
    #[must_use]
    pub fn field(&'a self, name: &'a str) -> Path<'a> {
        Path::Field(self, name)
    }

    /// The place of item `i` of the array at this place.
    #[must_use]
    pub fn item(&'a self, i: usize) -> Path<'a> {
        Path::Item(self, i)
    }

    fn render(&self, text: &mut String) {
        match self {
            Path::Root => {}
            Path::Field(parent, name) => {
                parent.render_before_name(text);
                text.push_str(&cut(name));
            }
            Path::Item(parent, i) => {
                parent.render(text);
                // Writing to a text cannot fail.
                let _ = write!(text, "[{i}]");
            }
            Path::Inner(parent, "") => parent.render(text),
            Path::Inner(parent, place) => {
                parent.render_before_name(text);
                text.push_str(place);
            }
        }
    }

    fn render_before_name(&self, text: &mut String) {
        self.render(text);
        if !matches!(self, Path::Root) {
            text.push('.');
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.render(&mut text);
        f.write_str(&text)
    }
}

/// The most bytes of a name or another text of the document that a finding holds: a hostile one may be megabytes long.
const LONGEST_BYTES: usize = 80;

/// The longest place that a refusal shows, in characters.
const LONGEST_PLACE_CHARS: usize = 80;

/// Stands where a text was cut.
const CUT: char = '…';

/// A name or another text of the document as findings hold it: its first 80 bytes and `…` where it is longer.
#[must_use]
pub fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST_BYTES {
        return Cow::Borrowed(text);
    }
    let (start, _) = text.split_at(text.floor_char_boundary(LONGEST_BYTES));
    Cow::Owned([start, CUT.encode_utf8(&mut [0; 4])].concat())
}

/// Whether a finding that holds `held` of a text may mean `text`.
#[must_use]
pub fn is_held(held: &str, text: &str) -> bool {
    held == text
        || held.strip_suffix(CUT).is_some_and(|start| text.len() > LONGEST_BYTES && text.starts_with(start))
}

/// Takes as much of what is written as a finding holds: the rest is not even made.
#[derive(Default)]
struct Held(String);

impl Held {
    fn of(text: impl fmt::Display) -> String {
        let mut held = Held::default();
        // An error says that there is no room left.
        let _ = write!(held, "{text}");
        cut(&held.0).into_owned()
    }
}

impl Write for Held {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // One more than is shown tells that there is more.
        let room = (LONGEST_BYTES + 1).saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        let (start, _) = text.split_at(text.ceil_char_boundary(room));
        self.0.push_str(start);
        Err(fmt::Error)
    }
}

/// What can be wrong at a place. Its `Display` is the only wording of each kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Problem {
    /// Something else stands there: `expected 0 to 100, found 140`.
    Expected {
        /// What may stand there.
        expected: Cow<'static, str>,
        /// What stands there.
        found: String,
    },
    /// A member that the object does not have: ``unknown member, expected `variant` or `percent` ``.
    UnknownMember {
        /// The members that it has, as a phrase; empty where it has none.
        expected: String,
    },
    /// A member that the object must have is not there.
    MissingMember(Cow<'static, str>),
    /// A name that nothing in the document defines.
    UnknownName {
        /// What the name should be of: `a variant`, `a cohort`.
        what: &'static str,
        /// The name.
        name: String,
        /// The name that was meant, likely.
        near: Option<String>,
    },
    /// A name that stands a second time.
    Twice(String),
    /// A named condition that reaches itself.
    ReachesItself(String),
    /// More than a limit allows, with the limit and what was found.
    OverLimit {
        /// What is limited, with its unit: `bytes`, `rollouts`.
        what: &'static str,
        /// The most that is taken.
        limit: u64,
        /// How many there are.
        found: u64,
    },
    /// Not JSON.
    Syntax {
        /// What the reader of JSON says.
        problem: String,
        /// The line in the document, from 1.
        line: usize,
        /// The column in bytes, from 1.
        column: usize,
    },
}

impl Problem {
    /// `expected …, found …`
    #[must_use]
    pub fn expected(expected: impl Into<Cow<'static, str>>, found: impl fmt::Display) -> Problem {
        Problem::Expected { expected: expected.into(), found: Held::of(found) }
    }

    /// `expected at most 100 variants, found 101`
    #[must_use]
    pub fn over_limit(what: &'static str, limit: usize, found: usize) -> Problem {
        let [limit, found] = [limit, found].map(|count| u64::try_from(count).unwrap_or(u64::MAX));
        Problem::OverLimit { what, limit, found }
    }

    /// Of what kind it is, for machines.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Problem::Expected { .. } => "expected",
            Problem::UnknownMember { .. } => "unknown-member",
            Problem::MissingMember(_) => "missing-member",
            Problem::UnknownName { .. } => "unknown-name",
            Problem::Twice(_) => "twice",
            Problem::ReachesItself(_) => "reaches-itself",
            Problem::OverLimit { .. } => "over-limit",
            Problem::Syntax { .. } => "syntax",
        }
    }

    /// ``unknown variant `blue` ``
    #[must_use]
    pub fn unknown(what: &'static str, name: &str) -> Problem {
        Problem::UnknownName { what, name: cut(name).into_owned(), near: None }
    }

    /// `` `blue` stands twice``
    #[must_use]
    pub fn twice(name: &str) -> Problem {
        Problem::Twice(cut(name).into_owned())
    }

    /// `` `staff` reaches itself``
    #[must_use]
    pub fn reaches_itself(name: &str) -> Problem {
        Problem::ReachesItself(cut(name).into_owned())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Expected { expected, found } => write!(f, "expected {expected}, found {}", shown(found)),
            Problem::UnknownMember { expected } if expected.is_empty() => f.write_str("unknown member"),
            Problem::UnknownMember { expected } => write!(f, "unknown member, expected {expected}"),
            Problem::MissingMember(name) => write!(f, "missing member `{name}`"),
            Problem::UnknownName { what, name, near: None } => write!(f, "unknown {what} `{}`", shown(name)),
            Problem::UnknownName { what, name, near: Some(near) } => {
                write!(f, "unknown {what} `{}` (did you mean `{}`?)", shown(name), shown(near))
            }
            Problem::Twice(name) => write!(f, "`{}` stands twice", shown(name)),
            Problem::ReachesItself(name) => write!(f, "`{}` reaches itself", shown(name)),
            Problem::OverLimit { what, limit, found } => {
                write!(f, "expected at most {limit} {what}, found {found}")
            }
            Problem::Syntax { problem, line, column } => {
                write!(f, "{problem} at line {line} column {column}")
            }
        }
    }
}

/// A text that a finding holds, as a refusal shows it: on one line.
fn shown(text: &str) -> Cow<'_, str> {
    if text.is_empty() {
        return Cow::Borrowed("nothing");
    }
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().flat_map(escape_control).collect())
}

fn escape_control(c: char) -> impl Iterator<Item = char> {
    let (plain, escaped) = if c.is_control() { (None, Some(c.escape_default())) } else { (Some(c), None) };
    plain.into_iter().chain(escaped.into_iter().flatten())
}

/// One thing that is wrong with a document. Its `Display` is the refusal, one line, the place first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// Where: members by dot, items by `[i]`; empty for the whole document.
    pub place: String,
    /// What.
    pub problem: Problem,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => write!(f, "document: {}", self.problem),
            place => match place.char_indices().nth(LONGEST_PLACE_CHARS) {
                Some((end, _)) => {
                    write!(f, "{}{CUT}: {}", shown(place.get(..end).unwrap_or(place)), self.problem)
                }
                None => write!(f, "{}: {}", shown(place), self.problem),
            },
        }
    }
}

/// Collects what compilers find. They report and go on, so that one reading shows everything.
#[derive(Debug)]
pub struct Findings {
    found: Vec<Finding>,
    /// The same again: what is compiled in several ways is wrong in all of them, and told once.
    known: HashSet<Finding, foldhash::fast::RandomState>,
    /// How many are taken down.
    most: usize,
    /// What the document's patterns take, in KiB: each is limited, and there may be many.
    pattern_kib: usize,
    /// Patterns that were compiled before they are asked for.
    patterns: HashMap<Box<str>, Result<Pattern, Problem>, foldhash::fast::RandomState>,
    /// What these take.
    prepared_kib: usize,
}

/// The most that all patterns of a document may take, in KiB.
const MOST_PATTERN_KIB: usize = 32 << 10;

impl Default for Findings {
    /// For whoever wants all. Beyond a thousand nobody reads on, and a hostile document could be made of nothing else.
    fn default() -> Findings {
        Findings::of_most(1_000)
    }
}

impl Findings {
    /// For whoever refuses a document by the first.
    #[must_use]
    pub fn first() -> Findings {
        Findings::of_most(1)
    }

    fn of_most(most: usize) -> Findings {
        Findings {
            found: Vec::new(),
            known: HashSet::default(),
            most,
            pattern_kib: 0,
            patterns: HashMap::default(),
            prepared_kib: 0,
        }
    }

    /// Takes down that `problem` is at `place`, unless there is enough.
    pub fn report(&mut self, place: &Path<'_>, problem: Problem) {
        if !self.is_full() {
            self.add(Finding { place: place.to_string(), problem });
        }
    }

    /// Takes a finding over as it is, unless it is known, or there is enough.
    pub fn add(&mut self, finding: Finding) {
        if !self.is_full() && self.known.insert(finding.clone()) {
            self.found.push(finding);
        }
    }

    /// Whether nothing more is taken down: whoever looks for findings can stop.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.found.len() >= self.most
    }

    /// The value, or what is wrong with it reported at `place`.
    pub fn reported<T>(&mut self, value: Result<T, Problem>, place: &Path<'_>) -> Option<T> {
        value.map_err(|problem| self.report(place, problem)).ok()
    }

    /// Takes over what was found in a document that stands at `place` of this one.
    pub fn adopt(&mut self, place: &Path<'_>, found: Vec<Finding>) {
        for Finding { place: inner, problem } in found {
            self.report(&Path::Inner(place, &inner), problem);
        }
    }

    /// Compiles a pattern that is about to be asked for, unless all may take no more.
    pub fn prepare_pattern(&mut self, pattern: Box<str>) {
        if self.prepared_kib <= MOST_PATTERN_KIB && !self.patterns.contains_key(&pattern) {
            let compiled = Pattern::compile_alone(&pattern);
            self.prepared_kib += compiled.as_ref().map_or(0, Pattern::size_kib);
            self.patterns.insert(pattern, compiled);
        }
    }

    /// The pattern, if it was compiled before.
    #[must_use]
    pub fn prepared_pattern(&self, pattern: &str) -> Option<Result<Pattern, Problem>> {
        self.patterns.get(pattern).cloned()
    }

    /// Takes out the patterns that were compiled before: whoever drops them last has much to free.
    pub fn take_patterns(&mut self) -> Vec<Pattern> {
        std::mem::take(&mut self.patterns).into_values().filter_map(Result::ok).collect()
    }

    /// Takes down that a pattern takes so many KiB.
    ///
    /// # Errors
    /// When all of the document take more than 32 MiB.
    pub fn spend_on_pattern(&mut self, kib: usize) -> Result<(), Problem> {
        self.pattern_kib = self.pattern_kib.saturating_add(kib);
        match self.pattern_kib {
            0..=MOST_PATTERN_KIB => Ok(()),
            found => Err(Problem::over_limit("KiB of compiled patterns", MOST_PATTERN_KIB, found)),
        }
    }

    /// Whether nothing was found: the document can be taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All findings in the order in which they were made.
    #[must_use]
    pub fn as_slice(&self) -> &[Finding] {
        &self.found
    }

    /// All findings in the order in which they were made.
    #[must_use]
    pub fn into_vec(self) -> Vec<Finding> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_holds_of_a_text_what_a_line_shows() {
        let long = |bytes: usize| "x".repeat(bytes);
        let (hangul, cut_hangul) = ("가".repeat(100), format!("{}…", "가".repeat(26)));
        for (text, held) in [
            (long(80), long(80)),
            (long(81), long(80) + "…"),
            (long(1 << 20), long(80) + "…"),
            (hangul, cut_hangul),
            (String::new(), String::new()),
        ] {
            let place = Path::Root.field("flags");
            let place = place.field(&text);
            assert_eq!(place.field("targeting").item(3).to_string(), format!("flags.{held}.targeting[3]"));
            let Problem::Expected { found, .. } = Problem::expected("a name", &text) else {
                panic!("another")
            };
            assert_eq!(found, held);
            for problem in
                [Problem::twice(&text), Problem::reaches_itself(&text), Problem::unknown("key", &text)]
            {
                let (Problem::Twice(name) | Problem::ReachesItself(name) | Problem::UnknownName { name, .. }) =
                    problem
                else {
                    panic!("another")
                };
                assert_eq!(name, held);
            }
            assert!(is_held(&held, &text));
        }
        assert!(!is_held("a…", "ab") && !is_held("a", "ab"));
    }

    #[test]
    fn a_text_is_not_made_beyond_what_is_held() {
        struct Endless<'c>(&'c std::cell::Cell<usize>);
        impl fmt::Display for Endless<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("text ")?;
                    self.0.set(self.0.get() + 1);
                }
            }
        }
        let written = std::cell::Cell::new(0);
        let _ = Problem::expected("an end", Endless(&written));
        assert_eq!(written.get(), 16);
    }

    #[test]
    fn places_in_a_document_within_another_keep_their_dots() {
        let mut findings = Findings::default();
        let inner = |place: &str| Finding { place: place.to_owned(), problem: Problem::twice("a") };
        findings.adopt(
            &Path::Root.field("policy"),
            vec![inner(""), inner("rollouts[2].name"), inner(&"x.".repeat(60))],
        );
        let places: Vec<_> = findings.into_vec().into_iter().map(|it| it.place).collect();
        assert_eq!(places, ["policy", "policy.rollouts[2].name", &format!("policy.{}", "x.".repeat(60))]);
    }

    #[test]
    fn each_finding_is_taken_down_once_and_no_more_than_are_wanted() {
        for (mut findings, most) in [(Findings::first(), 1), (Findings::default(), 1_000)] {
            for i in 0..3_000_usize {
                assert_eq!(findings.is_full(), i.div_ceil(2) >= most);
                findings.report(&Path::Root.item(i / 2), Problem::twice("a"));
            }
            assert_eq!(findings.into_vec().len(), most);
        }
    }
}
