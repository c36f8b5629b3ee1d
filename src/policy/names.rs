//! What names, header names and header values a policy may use.

use crate::finding::{Findings, Path, Problem};
use crate::headers::is_token;

/// Rollout names whose headers (`x-mulkko-<name>`) or members (`mulkko.<name>`) mean something else.
pub(crate) const RESERVED: [&str; 18] = [
    "boot",
    "cluster",
    "explain",
    "flags",
    "guard",
    "mirror",
    "mk",
    "node",
    "outcomes",
    "pass",
    "progress",
    "refused",
    "refused-why",
    "revision",
    "rolled-back",
    "server",
    "shadow",
    "version",
];

/// Headers that a variant must not set: they frame the message, name its host, or belong to others.
pub(crate) const NOT_FOR_VARIANTS: [&str; 8] =
    ["host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "baggage", "cookie"];

/// Whether `name` is 1 to 63 of `a-z 0-9 -`, a letter first.
#[must_use]
pub fn is_name(name: &str) -> bool {
    matches!(name.len(), 1..=63)
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Reports at `place` what is no name.
pub fn check_name(name: &str, place: &Path<'_>, findings: &mut Findings) {
    if !is_name(name) {
        findings.report(
            place,
            Problem::expected("1 to 63 of `a-z 0-9 -`, a letter first", format_args!("\"{name}\"")),
        );
    }
}

/// Reports at `place` what cannot be a rollout's name.
pub fn check_rollout_name(name: &str, place: &Path<'_>, findings: &mut Findings) {
    check_name(name, place, findings);
    if RESERVED.contains(&name) {
        findings.report(
            place,
            Problem::expected("a name that no `x-mulkko-` header has", format_args!("`{name}`")),
        );
    }
}

/// The header name as Envoy has it, in lower case; reports at `place` one that a variant must not set.
pub fn variant_header(name: &str, place: &Path<'_>, findings: &mut Findings) -> Option<Box<str>> {
    let lower = name.to_ascii_lowercase();
    if !is_token(&lower) {
        findings.report(place, Problem::expected("a header name", format_args!("\"{name}\"")));
        return None;
    }
    if NOT_FOR_VARIANTS.contains(&lower.as_str()) || lower.starts_with("x-mulkko-") {
        findings.report(place, Problem::expected("a header that variants may set", format_args!("`{name}`")));
        return None;
    }
    Some(lower.into())
}

/// Reports at `place` a header value that is not visible ASCII, space and tab.
pub fn check_header_value(value: &str, place: &Path<'_>, findings: &mut Findings) {
    if !value.bytes().all(|b| matches!(b, b'\t' | b' '..=b'~')) {
        findings
            .report(place, Problem::expected("visible ASCII, space and tab", format_args!("\"{value}\"")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_lower_case_and_start_with_a_letter() {
        let longest = "a".repeat(63);
        for (name, expected) in [
            ("a", true),
            ("checkout-v2", true),
            ("a-", true),
            (&longest, true),
            ("", false),
            ("2a", false),
            ("-a", false),
            ("A", false),
            ("a_b", false),
            ("a.b", false),
            ("é", false),
            (&"a".repeat(64), false),
        ] {
            assert_eq!(is_name(name), expected, "{name}");
        }
    }
}
