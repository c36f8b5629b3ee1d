//! What is wrong with a document, shown where it stands: the line, and a mark below it.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use mulkko::finding::Finding;
use mulkko::lint::Warning;
use mulkko::policy::Places;
use serde::Serialize;

use super::document::Document;

/// The most findings of a document that are shown to people.
const MOST_SHOWN: usize = 100;

/// Where a line is longer before its mark, in characters, none of it is shown: a document may be one line of megabytes.
const MOST_COLUMNS: usize = 2_000;
/// How much of a line is shown from its mark on, in bytes.
const MOST_MARKED_BYTES: usize = 1_000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The document is refused.
    Error,
    /// It is taken, and likely not what was meant.
    Warning,
}

/// Something to be told of a document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    pub severity: Severity,
    /// What kind of problem, or the name of a lint.
    pub code: &'static str,
    pub place: String,
    pub message: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The first that is not marked any more.
    pub end_line: usize,
    pub end_column: usize,
    /// The bytes to mark.
    #[serde(skip)]
    pub at: Range<usize>,
}

impl Told {
    /// A finding that refuses the document of these places.
    pub fn refusal(places: &mut Places<'_>, finding: &Finding) -> Told {
        let at = places.mark(finding);
        let message = finding.problem.to_string();
        Told::new(places, Severity::Error, finding.problem.kind(), finding.place.clone(), message, at)
    }

    /// What a lint has found in the document of these places.
    pub fn warning(document: &[u8], places: &mut Places<'_>, warning: Warning) -> Told {
        let located = places.locate(&warning.place);
        let Warning { lint, place, message } = warning;
        let is_short = |at: &Range<usize>| {
            at.len() < 60 && !document.get(at.clone()).unwrap_or_default().contains(&b'\n')
        };
        let at = if is_short(&located.value) { located.value } else { located.name.unwrap_or(located.value) };
        Told::new(places, Severity::Warning, lint.as_str(), place, message, at)
    }

    fn new(
        places: &Places<'_>,
        severity: Severity,
        code: &'static str,
        place: String,
        message: String,
        at: Range<usize>,
    ) -> Told {
        let ((line, column), (end_line, end_column)) = (places.position(at.start), places.position(at.end));
        Told { severity, code, place, message, line, column, end_line, end_column, at }
    }
}

/// The findings of a document as its author reads them.
pub fn shown(document: &Document, told: &[Told]) -> String {
    let mut text: String = told.iter().take(MOST_SHOWN).map(|it| one(document, it) + "\n\n").collect();
    if let Some(more @ 1..) = told.len().checked_sub(MOST_SHOWN) {
        text += &format!("and {more} more (`--format json` has all)\n\n");
    }
    text
}

fn one(document: &Document, told: &Told) -> String {
    let level = match told.severity {
        Severity::Error => Level::ERROR.with_name("refused"),
        Severity::Warning => Level::WARNING.with_name(told.code),
    };
    let place = if told.place.is_empty() { "document" } else { told.place.as_str() };
    let title = level.primary_title(format!("{place}: {}", told.message));
    if told.column > MOST_COLUMNS {
        let origin = Origin::path(document.name.as_str()).line(told.line).char_column(told.column);
        return Renderer::styled().render(&[title.element(origin)]);
    }
    let (line, mark) = marked_line(&document.text, &told.at);
    let snippet = Snippet::source(line).line_start(told.line).path(document.name.as_str());
    Renderer::styled().render(&[title.element(snippet.annotation(AnnotationKind::Primary.span(mark)))])
}

/// The line in which the mark begins, and the mark in it: a mark of many lines ends with the first.
fn marked_line(document: &[u8], at: &Range<usize>) -> (String, Range<usize>) {
    let (before, after) = document.split_at_checked(at.start).unwrap_or((document, b""));
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let before = before.get(start..).unwrap_or_default();
    let after = after.get(..MOST_MARKED_BYTES).unwrap_or(after);
    let after = after.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    let (marked, after) = after.split_at_checked(at.len()).unwrap_or((after, b""));
    // What is no UTF-8 takes other room when it is shown.
    let [before, marked, after] = [before, marked, after].map(String::from_utf8_lossy);
    let mark = before.len()..before.len() + marked.len();
    (format!("{before}{marked}{after}"), mark)
}
