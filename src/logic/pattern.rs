//! Regular expressions over whole texts.

use regex_lite::{Regex, RegexBuilder};

use crate::finding::{Findings, Path, Problem};

/// The longest pattern, in bytes.
pub const LONGEST_PATTERN: usize = 1_024;

/// The longest text that a pattern can match, in bytes.
pub const LONGEST_TEXT: usize = 4_096;

/// What a compiled pattern may take, in KiB: room for any pattern without counted repetitions. Time goes with it too.
const LARGEST_KIB: usize = 128;

/// What most patterns need, in KiB.
const USUAL_KIB: usize = 4;

/// A regular expression that must match the whole of a text.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    /// Its size in KiB, rounded up to a power of two.
    size_kib: usize,
}

impl Pattern {
    /// Compiles `pattern`, which is written at `path`.
    ///
    /// Reports, and gives `None` for, what is no regular expression, what is longer than [`LONGEST_PATTERN`], and
    /// repetitions that would need too much memory, as `(a{99}){99}`.
    pub fn compile(pattern: &str, path: &Path<'_>, findings: &mut Findings) -> Option<Pattern> {
        if pattern.len() > LONGEST_PATTERN {
            let (limit, found) = (LONGEST_PATTERN as u64, pattern.len() as u64);
            findings.report(path, Problem::OverLimit { what: "bytes", limit, found });
            return None;
        }
        match Pattern::build(pattern) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                findings.report(path, Problem::expected(format!("a regular expression ({error})"), pattern));
                None
            }
        }
    }

    /// Whether it matches the whole of `text`. One over [`LONGEST_TEXT`] it does not.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        text.len() <= LONGEST_TEXT && self.regex.is_match(text)
    }

    /// What matching a text of so many bytes costs: time goes with the size of both.
    pub(super) fn steps(&self, text_bytes: usize) -> usize {
        if text_bytes > LONGEST_TEXT { 0 } else { text_bytes * self.size_kib / 16 }
    }

    fn build(pattern: &str) -> Result<Pattern, regex_lite::Error> {
        // On its own first: what is around it must not complete it, as in `a)|(b`.
        build(pattern, LARGEST_KIB)?;
        let whole = format!(r"\A(?:{pattern})\z");
        let mut size_kib = USUAL_KIB;
        loop {
            match build(&whole, size_kib) {
                Ok(regex) => return Ok(Pattern { regex, size_kib }),
                Err(error) if size_kib == LARGEST_KIB => return Err(error),
                Err(_) => size_kib *= 2,
            }
        }
    }
}

fn build(pattern: &str, size_kib: usize) -> Result<Regex, regex_lite::Error> {
    RegexBuilder::new(pattern).size_limit(size_kib * 1_024).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_texts_only() {
        for (pattern, text, expected) in [
            ("a|ab", "ab", true),
            ("a|b", "ab", false),
            ("b", "abc", false),
            ("", "", true),
            ("", "a", false),
            ("a", "a\n", false),
            (".*", "a\nb", false),
            ("(?s).*", "a\nb", true),
            ("(?i)ÄB?", "Äb", true),
            ("[0-9]{1,3}", "123", true),
        ] {
            let regex = Pattern::compile(pattern, &Path::Root, &mut Findings::default()).unwrap();
            assert_eq!(regex.matches(text), expected, "{pattern} {text:?}");
        }
    }

    #[test]
    fn a_long_text_matches_no_pattern() {
        let any = Pattern::compile("a*", &Path::Root, &mut Findings::default()).unwrap();
        assert!(any.matches(&"a".repeat(LONGEST_TEXT)));
        assert!(!any.matches(&"a".repeat(LONGEST_TEXT + 1)));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for (pattern, refusal) in [
            (
                "a)|(b",
                "p: expected a regular expression (found closing ')' without matching '('), found a)|(b",
            ),
            ("a{99", ""),
            ("(a{99}){99}", ""),
            ("(?x)a # no end", ""),
            (&"(".repeat(1_024), ""),
            (&"a".repeat(1_025), "p: expected at most 1024 bytes, found 1025"),
        ] {
            let mut findings = Findings::default();
            assert!(Pattern::compile(pattern, &Path::Root.field("p"), &mut findings).is_none(), "{pattern}");
            let found = findings.into_vec().remove(0).to_string();
            assert!(refusal.is_empty() || found == refusal, "{found}");
        }
        let largest = "a".repeat(LONGEST_PATTERN);
        assert!(Pattern::compile(&largest, &Path::Root, &mut Findings::default()).is_some());
    }
}
