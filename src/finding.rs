//! What is wrong with a document, and where: the one place that words refusals.

use std::borrow::Cow;
use std::fmt;

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
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Item(parent, i) => write!(f, "{parent}[{i}]"),
        }
    }
}

/// What can be wrong at a place. Its `Display` is the only wording of each kind.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        Problem::Expected { expected: expected.into(), found: found.to_string() }
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
        Problem::UnknownName { what, name: name.to_owned(), near: None }
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

/// A text of the document as a refusal shows it: on one line and not longer than a line.
fn shown(text: &str) -> Cow<'_, str> {
    const LONGEST: usize = 80;
    if text.is_empty() {
        return Cow::Borrowed("nothing");
    }
    if text.len() <= LONGEST && !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut line: String = text.chars().take(LONGEST).flat_map(escape_control).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    Cow::Owned(line)
}

fn escape_control(c: char) -> impl Iterator<Item = char> {
    let (plain, escaped) = if c.is_control() { (None, Some(c.escape_default())) } else { (Some(c), None) };
    plain.into_iter().chain(escaped.into_iter().flatten())
}

/// One thing that is wrong with a document. Its `Display` is the refusal, one line, the place first.
#[derive(Clone, Debug, PartialEq, Eq)]
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
            place => write!(f, "{}: {}", shown(place), self.problem),
        }
    }
}

/// Collects what compilers find. They report and go on, so that one reading shows everything.
#[derive(Debug, Default)]
pub struct Findings {
    found: Vec<Finding>,
    /// What the document's patterns take, in KiB: each is limited, and there may be many.
    pattern_kib: usize,
}

/// The most that all patterns of a document may take, in KiB.
const MOST_PATTERN_KIB: usize = 32 << 10;

impl Findings {
    /// Takes down that `problem` is at `place`.
    ///
    /// Beyond a thousand nobody reads on, and a hostile document could be made of nothing else.
    pub fn report(&mut self, place: &Path<'_>, problem: Problem) {
        const MOST: usize = 1_000;
        if self.found.len() >= MOST {
            return;
        }
        let finding = Finding { place: place.to_string(), problem };
        // What is compiled in several ways is wrong in all of them, and told once.
        if !self.found.contains(&finding) {
            self.found.push(finding);
        }
    }

    /// The value, or what is wrong with it reported at `place`.
    pub fn reported<T>(&mut self, value: Result<T, Problem>, place: &Path<'_>) -> Option<T> {
        value.map_err(|problem| self.report(place, problem)).ok()
    }

    /// Takes over what was found in a document that stands at `place` of this one.
    pub fn adopt(&mut self, place: &Path<'_>, found: Vec<Finding>) {
        for Finding { place: inner, problem } in found {
            match inner.as_str() {
                "" => self.report(place, problem),
                inner => self.report(&place.field(inner), problem),
            }
        }
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
    pub fn into_vec(self) -> Vec<Finding> {
        self.found
    }
}
