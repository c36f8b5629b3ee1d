//! Path matches, and the text below which the index files them.

use std::hash::Hasher;

use fnv::FnvHasher;

use super::saturated;
use crate::budget::{Budget, Exhausted};
use crate::finding::{Findings, Path, Problem};
use crate::pattern::{self, Pattern};
use crate::wire::{self, PathMatchType};

/// How many bits [`CompiledPath::rank`] has: two for the type, the others for the length.
pub(super) const RANK_BITS: u32 = 2 + LENGTH_BITS;
const LENGTH_BITS: u32 = 24;

/// What a path must be.
#[derive(Debug)]
pub(super) enum PathRule {
    /// This text.
    Exact(Box<str>),
    /// This text, or it and then a `/`; empty for every path.
    Prefix(Box<str>),
    /// Matched by this.
    Pattern(Pattern),
}

/// A path match with what the index needs to file it.
#[derive(Debug)]
pub(super) struct CompiledPath {
    pub(super) rule: PathRule,
    /// The Gateway API's precedence among path matches: type, then characters as they are written.
    pub(super) rank: u64,
    pub(super) filed: Filed,
}

/// Where a path match is filed: below a text with which every path that it matches begins, up to its end or a `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filed {
    /// Whether the paths are the text, with nothing after it.
    pub(super) whole: bool,
    /// The length of the text in bytes.
    pub(super) length: usize,
    /// FNV-1a of the text.
    pub(super) hash: u64,
}

impl Filed {
    fn new(text: &str, whole: bool) -> Filed {
        let mut hasher = FnvHasher::default();
        hasher.write(text.as_bytes());
        Filed { whole, length: text.len(), hash: hasher.finish() }
    }
}

impl PathRule {
    /// Whether it matches `path`; `text` is what [`Pattern::text`] makes of it.
    pub(super) fn is_match(
        &self,
        path: &[u8],
        text: Option<&str>,
        budget: &Budget,
    ) -> Result<bool, Exhausted> {
        Ok(match self {
            PathRule::Exact(exact) => exact.as_bytes() == path,
            PathRule::Prefix(prefix) if prefix.is_empty() => true,
            PathRule::Prefix(prefix) => {
                path.strip_prefix(prefix.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
            }
            PathRule::Pattern(pattern) => match text {
                Some(text) => pattern.find(text, budget)?,
                None => false,
            },
        })
    }
}

/// Compiles the path match written at `place`; none is the prefix `/`, which every path has.
///
/// Reports, and gives `None` for, exact paths and prefixes without `/` at the start, and what [`Pattern::compile`]
/// refuses.
pub(super) fn compile(
    path: Option<&wire::PathMatch>,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<CompiledPath> {
    let kind = path.map_or_else(PathMatchType::default, |path| path.kind);
    let value = path.and_then(|path| path.value.as_deref()).unwrap_or("/");
    let compiled = compile_value(kind, value, findings);
    findings.reported(compiled, &place.field("value"))
}

fn compile_value(kind: PathMatchType, value: &str, findings: &mut Findings) -> Result<CompiledPath, Problem> {
    if kind != PathMatchType::RegularExpression && !value.starts_with('/') {
        return Err(Problem::expected("a path that begins with `/`", value));
    }
    let (rule, kind_rank, written, filed) = match kind {
        PathMatchType::Exact => (PathRule::Exact(value.into()), 2, value, Filed::new(value, true)),
        PathMatchType::RegularExpression => (
            PathRule::Pattern(Pattern::compile(value, findings)?),
            1,
            value,
            Filed::new(&whole_segments(value), false),
        ),
        PathMatchType::PathPrefix => {
            let prefix = value.strip_suffix('/').unwrap_or(value);
            (PathRule::Prefix(prefix.into()), 0, prefix, Filed::new(prefix, false))
        }
    };
    // At least 1: what is left of `/` is empty, but it counts as it is written.
    let length = saturated(written.chars().count().max(1), LENGTH_BITS);
    Ok(CompiledPath { rule, rank: kind_rank << LENGTH_BITS | length, filed })
}

/// What every path that `pattern` matches has before a certain `/`; empty where that is not plain to see.
fn whole_segments(pattern: &str) -> String {
    let mut lead = pattern::leading_text(pattern);
    lead.truncate(lead.rfind('/').unwrap_or(0));
    lead
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: PathMatchType, value: &str, path: &str, expected: bool) {
        let compiled = compile_value(kind, value, &mut Findings::default()).unwrap();
        let is_match = compiled.rule.is_match(path.as_bytes(), Some(path), &Budget::default());
        assert_eq!(is_match, Ok(expected), "{kind:?} {value} {path}");
    }

    #[test]
    fn prefixes_match_whole_segments() {
        for (prefix, path, expected) in [
            ("/", "/", true),
            ("/", "/a/b", true),
            ("/", "", true),
            ("/", "*", true),
            ("/a", "/a", true),
            ("/a", "/a/", true),
            ("/a", "/a/b", true),
            ("/a", "/ab", false),
            ("/a", "/", false),
            ("/a", "/A", false),
            ("/a/", "/a", true),
            ("/a/", "/a/b", true),
            ("/a/", "/ab", false),
            ("/a//", "/a", false),
            ("/a//", "/a/", true),
            ("/a/b", "/a/b/c", true),
            ("/a/b", "/a/bc", false),
        ] {
            check(PathMatchType::PathPrefix, prefix, path, expected);
        }
    }

    #[test]
    fn exact_paths_and_patterns_match_the_whole_path() {
        for (path, expected) in [("/a/", true), ("/a", false), ("/a/b", false), ("", false)] {
            check(PathMatchType::Exact, "/a/", path, expected);
        }
        for (path, expected) in [("/v1/x", true), ("/v12/x", true), ("/v1/x/y", false), ("/a/v1/x", false)] {
            check(PathMatchType::RegularExpression, "/v[0-9]+/x", path, expected);
        }
    }

    #[test]
    fn patterns_are_filed_below_their_whole_segments() {
        for (pattern, segments) in [
            ("/api/v[0-9]+/x", "/api"),
            ("/api/users", "/api"),
            ("^/api/users/.*$", "/api/users"),
            ("/api/?", ""),
            ("/api/x/?", "/api"),
            ("/api", ""),
            (".*", ""),
            ("a/b/c", "a/b"),
        ] {
            assert_eq!(whole_segments(pattern), segments, "{pattern}");
        }
    }

    #[test]
    fn the_rank_is_type_then_characters() {
        use PathMatchType::{Exact, PathPrefix, RegularExpression};
        let ranks = [
            (PathPrefix, "/"),
            (PathPrefix, "/가나"),
            (PathPrefix, "/abc/"),
            (RegularExpression, ""),
            (RegularExpression, "/a+"),
            (Exact, "/"),
            (Exact, "/a/"),
        ]
        .map(|(kind, value)| compile_value(kind, value, &mut Findings::default()).unwrap().rank);
        assert!(ranks.is_sorted_by(|a, b| a < b), "{ranks:?}");
    }
}
