//! What is wrong with a document, shown where it stands: the line, and a mark below it.

use std::ops::Range;

use ariadne::{CharSet, Color, Config, IndexType, Label, Report, ReportKind, Source};
use mulkko::finding::Finding;
use mulkko::policy::mark;
use serde::Serialize;

use super::document::Document;

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
pub struct Told {
    pub severity: Severity,
    /// What kind of finding: `refused`, or the name of a lint.
    pub code: &'static str,
    pub place: String,
    pub message: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The bytes to mark.
    #[serde(skip)]
    pub at: Range<usize>,
}

impl Told {
    /// A finding that refuses the document.
    pub fn refusal(document: &[u8], finding: &Finding) -> Told {
        let at = mark(document, finding);
        let message = finding.problem.to_string();
        Told::new(document, Severity::Error, "refused", finding.place.clone(), message, at)
    }

    pub fn new(
        document: &[u8],
        severity: Severity,
        code: &'static str,
        place: String,
        message: String,
        at: Range<usize>,
    ) -> Told {
        let before = document.get(..at.start).unwrap_or(document);
        let line = before.split(|byte| *byte == b'\n').count();
        let column = String::from_utf8_lossy(before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default());
        Told { severity, code, place, message, line, column: column.chars().count() + 1, at }
    }
}

/// The findings of a document as its author reads them.
pub fn shown(document: &Document, told: &[Told]) -> String {
    let text = String::from_utf8_lossy(&document.text);
    let name = document.name.as_str();
    let mut cache = (name, Source::from(text.as_ref()));
    let mut out = Vec::new();
    for it in told {
        let (kind, color) = match it.severity {
            Severity::Error => (ReportKind::Custom("refused", Color::Red), Color::Red),
            Severity::Warning => (ReportKind::Custom(it.code, Color::Yellow), Color::Yellow),
        };
        let at = it.at.clone();
        let config = Config::new().with_index_type(IndexType::Byte).with_char_set(CharSet::Unicode);
        let place = if it.place.is_empty() { "document" } else { it.place.as_str() };
        let report = Report::build(kind, (name, at.clone()))
            .with_config(config)
            .with_message(format!("{place}: {}", it.message))
            .with_label(Label::new((name, at)).with_color(color))
            .finish();
        // Into memory: it cannot fail.
        let _ = report.write(&mut cache, &mut out);
    }
    String::from_utf8_lossy(&out).into_owned()
}
