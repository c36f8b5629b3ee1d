//! Reads a piece of a document into a wire type, and words what the reader finds as the house does.

use serde::Deserialize;
use serde_json::error::Category;
use serde_path_to_error::Segment;

use crate::finding::{Findings, Path, Problem};
use crate::policy::outline::Lines;

/// A piece of the document: the bytes from `at` to `end`.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'d> {
    /// The whole document.
    pub document: &'d [u8],
    /// Its lines, as far as they are known.
    pub lines: &'d Lines,
    /// Where the piece starts.
    pub at: usize,
    /// Where it ends.
    pub end: usize,
}

impl<'d> Piece<'d> {
    /// A document that is one piece.
    #[must_use]
    pub fn whole(document: &'d [u8]) -> Piece<'d> {
        Piece { document, lines: Lines::NONE, at: 0, end: document.len() }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &'d [u8] {
        self.document.get(self.at..self.end).unwrap_or_default()
    }

    /// Reads it as a `T`; reports, and gives `None`, when it is none.
    pub fn read<T: Deserialize<'d>>(&self, place: &Path<'_>, findings: &mut Findings) -> Option<T> {
        let mut deserializer = serde_json::Deserializer::from_slice(self.bytes());
        let mut track = serde_path_to_error::Track::new();
        let read = T::deserialize(serde_path_to_error::Deserializer::new(&mut deserializer, &mut track));
        match read.and_then(|value| deserializer.end().map(|()| value)) {
            Ok(value) => Some(value),
            Err(error) if error.classify() == Category::Data => {
                report(&error.to_string(), &track.path(), place, findings);
                None
            }
            Err(error) => {
                let at = self.at + offset(self.bytes(), &error);
                let problem = self.lines.syntax(without_position(&error.to_string()), self.document, at);
                findings.report(&Path::Root, problem);
                None
            }
        }
    }
}

/// The byte that a position in lines and columns means.
fn offset(text: &[u8], error: &serde_json::Error) -> usize {
    let lines = text.split_inclusive(|b| *b == b'\n').take(error.line().saturating_sub(1));
    lines.map(<[u8]>::len).sum::<usize>() + error.column().saturating_sub(1)
}

fn without_position(message: &str) -> &str {
    message.rsplit_once(" at line ").map_or(message, |(problem, _)| problem)
}

/// Takes a message of serde's apart: their wording is part of its interface (`serde::de::Error`).
fn report(message: &str, inner: &serde_path_to_error::Path, place: &Path<'_>, findings: &mut Findings) {
    let message = without_position(message);
    let problem = if let Some(unknown) = message.strip_prefix("unknown field ") {
        let expected = unknown.rsplit_once("`, expected ").map_or("", |(_, expected)| expected);
        Problem::UnknownMember { expected: expected.to_owned() }
    } else if let Some(name) = quoted_after(message, "missing field ") {
        Problem::MissingMember(name.to_owned().into())
    } else if let Some(name) = quoted_after(message, "duplicate field ") {
        Problem::twice(name)
    } else if let Some((found, expected)) = found_and_expected(message) {
        Problem::expected(words(expected), words(found))
    } else {
        Problem::expected("another value", message)
    };
    let segments: Vec<&Segment> = inner.iter().collect();
    report_below(&segments, place, problem, findings);
}

/// Reports at the place to which `segments` lead from `place`.
fn report_below(segments: &[&Segment], place: &Path<'_>, problem: Problem, findings: &mut Findings) {
    let Some((segment, segments)) = segments.split_first() else { return findings.report(place, problem) };
    let place = match segment {
        Segment::Seq { index } => place.item(*index),
        Segment::Map { key: name } | Segment::Enum { variant: name } => place.field(name),
        Segment::Unknown => place.field("?"),
    };
    report_below(segments, &place, problem, findings);
}

fn quoted_after<'m>(message: &'m str, prefix: &str) -> Option<&'m str> {
    message.strip_prefix(prefix).map(|name| name.trim_matches('`'))
}

fn found_and_expected(message: &str) -> Option<(&str, &str)> {
    let rest = ["invalid type: ", "invalid value: ", "unknown variant "];
    rest.iter().find_map(|prefix| message.strip_prefix(prefix)?.rsplit_once(", expected "))
}

/// serde's name of a kind of value, in the words that JSON has for it.
fn words(serde: &str) -> String {
    for (prefix, plain) in
        [("integer `", true), ("floating point `", true), ("boolean `", true), ("string \"", false)]
    {
        if let Some(value) = serde.strip_prefix(prefix) {
            return if plain { value.trim_end_matches('`').to_owned() } else { format!("\"{value}") };
        }
    }
    match serde {
        "map" | "a map" => "an object".to_owned(),
        "sequence" | "a sequence" => "an array".to_owned(),
        "u64" => "a whole number".to_owned(),
        "f64" => "a number".to_owned(),
        "a string" => "a text".to_owned(),
        _ if serde.starts_with("struct ") => "an object".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[track_caller]
    fn refusal<'d, T: Deserialize<'d>>(text: &'d str) -> String {
        let mut findings = Findings::default();
        assert!(
            Piece::whole(text.as_bytes()).read::<T>(&Path::Field(&Path::Root, "x"), &mut findings).is_none()
        );
        findings.into_vec().first().unwrap().to_string()
    }

    #[test]
    fn refusals_name_the_place_and_the_problem() {
        for (text, expected) in [
            (r#"{"variant": "a", "percnt": 5}"#, "x.percnt: unknown member, expected `variant` or `percent`"),
            (r#"{"variant": "a"}"#, "x: missing member `percent`"),
            (r#"{"variant": "a", "variant": "b"}"#, "x: `variant` stands twice"),
            (r#"{"variant": 5, "percent": 5}"#, "x.variant: expected a text, found 5"),
            (r#"{"variant": null, "percent": 5}"#, "x.variant: expected a text, found null"),
            (r#"{"variant": ["a"], "percent": 5}"#, "x.variant: expected a text, found an array"),
            (r#"7"#, "x: expected an object, found 7"),
            (r#""a""#, "x: expected an object, found \"a\""),
            (r#"{"variant" "a"}"#, "document: expected `:` at line 1 column 12"),
            ("{\"variant\": \"a\",\n \"percent\": 5x}", "document: expected `,` or `}` at line 2 column 14"),
            (r#"{"variant": "a", "percent": 5} 6"#, "document: trailing characters at line 1 column 32"),
        ] {
            assert_eq!(refusal::<wire::Share>(text), expected, "{text}");
        }
        for (text, expected) in [
            (
                r#"{"from": [{"header": "a"}, {"heder": "b"}]}"#,
                "x.from[1].heder: unknown member, expected one of `header`, `cookie`, `query`, `metadata`, `property`, `filterState`",
            ),
            (r#"{"from": {}}"#, "x.from: expected an array, found an object"),
        ] {
            assert_eq!(refusal::<wire::Key>(text), expected, "{text}");
        }
        assert_eq!(
            refusal::<wire::Match>(r#"{"path": {"type": "Prefix", "value": "/"}}"#),
            "x.path.type: expected one of `Exact`, `PathPrefix`, `RegularExpression`, found `Prefix`"
        );
        assert_eq!(
            refusal::<wire::Entries<wire::Variant>>(r#"{"stable": {"cluster": null}}"#),
            "x.stable.cluster: expected a text, found null"
        );
    }
}
