//! Regular expressions with bounds: for paths, headers, query parameters and conditions.

use std::fmt;

use regex_lite::{Regex, RegexBuilder};

mod literals;

use literals::Literals;

use crate::budget::{Budget, Exhausted};
use crate::finding::{Findings, Problem};

/// The longest pattern in bytes.
const LONGEST_PATTERN_BYTES: usize = 1_024;
/// The longest text in bytes that is matched.
const LONGEST_TEXT_BYTES: usize = 4_096;
/// The most states of a program: room for any pattern without counted repetitions. It bounds the time to compile and,
/// times the text's length, to match.
const MOST_STATES: usize = 4_096;
/// What a pattern takes at least of the room that all have, in KiB: more than its program, with all that is around it.
const LEAST_KIB: usize = 2;
/// How many states a KiB of program has.
const STATES_OF_A_KIB: usize = 64;
/// How many states the smallest programs have.
const FEWEST_STATES: usize = 16;
/// What the matcher takes for a byte of text, in steps of a budget: so many, and one for so many states.
const STEPS_OF_A_BYTE: usize = 2;
const STATES_OF_A_STEP: usize = 6;
/// The most capturing groups: the matcher keeps two offsets for every group in every state.
const MOST_GROUPS: usize = 32;

/// A regular expression that matches whole texts.
///
/// The syntax is that of `regex-lite`: no look-around, no back-references, classes like `\w` are ASCII. Matching takes
/// time in proportion to the length of the text, whatever pattern and text are.
#[derive(Clone)]
pub struct Pattern {
    regex: Regex,
    /// How many states its program has, rounded up to a power of two.
    states: usize,
    /// What is looked for before the matcher is asked.
    literals: Option<Literals>,
}

impl Pattern {
    /// Compiles `pattern`.
    ///
    /// # Errors
    ///
    /// A pattern over 1,024 bytes; one that is no regular expression (`a(`); one of which the program is too large
    /// (`(a{1000}){1000}`), or has more than 32 capturing groups; one for which the document's other patterns leave no
    /// room.
    pub fn compile(pattern: &str, findings: &mut Findings) -> Result<Pattern, Problem> {
        // Once there is no room left none is compiled any more.
        findings.spend_on_pattern(0)?;
        let prepared = findings.prepared_pattern(pattern);
        let compiled = prepared.unwrap_or_else(|| Pattern::compile_alone(pattern))?;
        findings.spend_on_pattern(compiled.size_kib())?;
        Ok(compiled)
    }

    /// As [`Pattern::compile`], whatever room there is.
    pub(crate) fn compile_alone(pattern: &str) -> Result<Pattern, Problem> {
        if pattern.len() > LONGEST_PATTERN_BYTES {
            return Err(Problem::over_limit("bytes", LONGEST_PATTERN_BYTES, pattern.len()));
        }
        // By itself first: in parentheses `a)|(b` would pass.
        let alone = build(pattern, MOST_STATES).map_err(|error| problem(pattern, &error))?;
        let groups = alone.captures_len().saturating_sub(1);
        if groups > MOST_GROUPS {
            return Err(Problem::over_limit("capturing groups", MOST_GROUPS, groups));
        }
        // A comment at the end (`(?x) a # b`) swallows the parenthesis; only then a new line means nothing.
        let whole = Pattern::whole(&format!(r"\A(?:{pattern})\z")).or_else(|error| {
            Pattern::whole(&format!("\\A(?:{pattern}\n)\\z")).map_err(|_| problem(pattern, &error))
        });
        whole.map(|whole| Pattern { literals: Literals::of(pattern), ..whole })
    }

    fn whole(pattern: &str) -> Result<Pattern, regex_lite::Error> {
        let mut states = FEWEST_STATES;
        loop {
            match build(pattern, states) {
                Ok(regex) => return Ok(Pattern { regex, states, literals: None }),
                Err(error) if states >= MOST_STATES => return Err(error),
                Err(_) => states *= 2,
            }
        }
    }

    /// What it takes of the room that all patterns have, in KiB.
    pub(crate) fn size_kib(&self) -> usize {
        (self.states / STATES_OF_A_KIB).max(LEAST_KIB)
    }

    /// Whether it matches `text` from start to end. A text over 4,096 bytes is not matched.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        text.len() <= LONGEST_TEXT_BYTES && self.told(text).unwrap_or_else(|| self.regex.is_match(text))
    }

    /// As [`Pattern::is_match`], out of a budget: time goes with the size of both text and pattern.
    ///
    /// # Errors
    /// The budget has not enough left.
    pub fn find(&self, text: &str, budget: &Budget) -> Result<bool, Exhausted> {
        if text.len() > LONGEST_TEXT_BYTES {
            return Ok(false);
        }
        budget.spend(self.literals.as_ref().map_or(0, |literals| literals.steps(text.len())))?;
        if let Some(told) = self.told(text) {
            return Ok(told);
        }
        budget.spend(text.len() * (STEPS_OF_A_BYTE + self.states / STATES_OF_A_STEP))?;
        Ok(self.regex.is_match(text))
    }

    /// Whether it matches, where its literals tell.
    fn told(&self, text: &str) -> Option<bool> {
        self.literals.as_ref()?.tell(text)
    }

    /// These bytes as patterns read them: none that are not UTF-8 or are over 4,096 bytes, which no pattern matches.
    #[must_use]
    pub fn text(bytes: &[u8]) -> Option<&str> {
        if bytes.len() > LONGEST_TEXT_BYTES { None } else { str::from_utf8(bytes).ok() }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.regex.as_str()).finish()
    }
}

fn build(pattern: &str, states: usize) -> Result<Regex, regex_lite::Error> {
    // A state takes as many bytes as pointers have it: what a native compiler takes, the plugin takes.
    RegexBuilder::new(pattern).size_limit(states * 4 * size_of::<usize>()).build()
}

/// The reason stands first, since a long pattern is cut off.
fn problem(pattern: &str, error: &regex_lite::Error) -> Problem {
    let reason = error.to_string();
    let reason = reason.strip_prefix("found ").unwrap_or(&reason);
    Problem::expected(format!("a regular expression ({reason})"), pattern)
}

/// A text with which every text that `pattern` matches as a whole begins. Less than there is, down to nothing, where
/// that takes more than a look; `pattern` is one that compiles.
pub(crate) fn leading_text(pattern: &str) -> String {
    let mut lead = String::new();
    if has_flags_or_names(pattern) || may_alternate(pattern) {
        return lead;
    }
    let mut chars = pattern.strip_prefix('^').unwrap_or(pattern).chars().peekable();
    while let Some(c) = chars.next() {
        let literal = match c {
            '\\' => chars.next().filter(|c| matches!(c, '.' | '-' | '/')),
            '.' | '+' | '*' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' | '|' => None,
            c => Some(c),
        };
        match (literal, chars.peek()) {
            (None, _) | (_, Some('?' | '*' | '+' | '{')) => break,
            (Some(literal), _) => lead.push(literal),
        }
    }
    lead
}

/// Flags change what letters and spaces mean; names may hold brackets.
fn has_flags_or_names(pattern: &str) -> bool {
    pattern.split("(?").skip(1).any(|rest| !rest.starts_with(':'))
}

/// Whether there is a `|` outside of groups and classes, or something that makes it hard to tell.
fn may_alternate(pattern: &str) -> bool {
    let (mut groups, mut in_class) = (0_usize, false);
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => _ = chars.next(),
            '[' if in_class || matches!(chars.as_str().trim_start_matches('^').chars().next(), Some(']')) => {
                return true;
            }
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => groups += 1,
            ')' if !in_class => groups = groups.saturating_sub(1),
            '|' if !in_class && groups == 0 => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_text() {
        let longest = "a".repeat(LONGEST_TEXT_BYTES);
        for (pattern, text, expected) in [
            ("a|ab", "ab", true),
            ("a|ab", "abc", false),
            ("a", "a\n", false),
            ("^a$", "a", true),
            ("(?m)a$", "a\nb", false),
            ("", "", true),
            ("", "a", false),
            ("(?i)a", "A", true),
            ("(?x) a # b", "a", true),
            ("(?x) a # b", "a\n", false),
            ("a #", "a #", true),
            (r"\d", "٣", false),
            (".", "é", true),
            ("a*", &longest, true),
            ("a*", &format!("{longest}a"), false),
        ] {
            assert_eq!(
                Pattern::compile(pattern, &mut Findings::default()).unwrap().is_match(text),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        for (pattern, refusal) in [
            ("a(", "expected a regular expression (open group without closing ')'), found a("),
            ("a)|(b", "expected a regular expression (closing ')' without matching '('), found a)|(b"),
            ("(?=a)", "expected a regular expression (look-around is not supported), found (?=a)"),
            (
                "(a{999}){999}",
                "expected a regular expression (compiled regex exceeded size limit), found (a{999}){999}",
            ),
            (&"()".repeat(33), "expected at most 32 capturing groups, found 33"),
            (&"a".repeat(1025), "expected at most 1024 bytes, found 1025"),
        ] {
            assert_eq!(Pattern::compile(pattern, &mut Findings::default()).unwrap_err().to_string(), refusal);
        }
    }

    #[test]
    fn patterns_of_any_length_fit_without_counted_repetitions() {
        for part in ["a", "a?", "a*", "(?i)k", r"\w", r"\W", "[^a]", "a|", "(?:)?", "(?:a|b)?", "한"] {
            let pattern = part.repeat(LONGEST_PATTERN_BYTES / part.len());
            assert!(Pattern::compile(&pattern, &mut Findings::default()).is_ok(), "{part}");
        }
    }

    #[test]
    fn the_leading_text_ends_where_there_is_a_choice() {
        for (pattern, lead) in [
            ("/api/v1", "/api/v1"),
            ("^/api/.*$", "/api/"),
            (r"/a\.b\-c\/d", "/a.b-c/d"),
            (r"/a\d", "/a"),
            ("/ab?c", "/a"),
            ("/ab{0}c", "/a"),
            ("/a(b|c)", "/a"),
            ("/a(b|c)|d", ""),
            ("/a[(]|b", ""),
            ("/a[|]b", "/a"),
            (r"/a\(|b", ""),
            ("/a[)(|]b", "/a"),
            ("/a[]|]b", ""),
            ("/a[^]|]b", ""),
            ("/a[[:alpha:]]", ""),
            ("(?i)/a", ""),
            ("/a(?i:b)", ""),
            ("/a(?<n[>b)|c", ""),
            ("/a(?:b|c)", "/a"),
            ("^*/a", ""),
            ("한/글", "한/글"),
        ] {
            assert!(
                Pattern::compile(pattern, &mut Findings::default()).is_ok() || pattern.contains("n["),
                "{pattern}"
            );
            assert_eq!(leading_text(pattern), lead, "{pattern}");
        }
    }

    proptest! {
        #![proptest_config(crate::laws::config(4096))]

        #[test]
        fn no_pattern_panics(pattern in r"([\[\](){}?*+|^$\\:,<>Pxbims0-9 #&~=!/u\n.-]|start|end|alpha|한){0,24}", text in ".{0,16}") {
            if let Ok(pattern) = Pattern::compile(&pattern, &mut Findings::default()) {
                let _ = pattern.is_match(&text);
            }
        }

        #[test]
        fn literals_tell_what_the_matcher_does(
            pattern in r"(\(\?i\))?(\.\*){0,2}([abAB/]{1,3}|\\.|\\\\|\.\*?|\?|\*|\+|\||\(|\(\?:|\)|\[[ab^]{1,2}\]|\^|\$|\{0\}|\{2\}|\{,|\\d|\\<|\\n|é|K|\u{212a}){0,8}(\.\*){0,2}",
            text in "[abAB/.kK\u{212a}\n]{0,6}",
        ) {
            if let Ok(compiled) = Pattern::compile(&pattern, &mut Findings::default())
                && let Some(told) = compiled.told(&text)
            {
                prop_assert_eq!(told, compiled.regex.is_match(&text), "{} {:?}", pattern, text);
            }
        }

        #[test]
        fn what_a_pattern_matches_begins_with_its_leading_text(
            pattern in r"\^?(/|a|b|\\.|\.|\?|\*|\+|\||\(|\(\?:|\(\?i:|\)|\[|\]|\[\^|#| |\{0\}|\$|\^){0,10}",
            text in "[/abAB.# |]{0,6}",
        ) {
            if let Ok(compiled) = Pattern::compile(&pattern, &mut Findings::default()) && compiled.is_match(&text) {
                prop_assert!(text.starts_with(&leading_text(&pattern)), "{} {}", pattern, text);
            }
        }
    }
}
