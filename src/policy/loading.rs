//! Makes a policy from a document, a piece at a time: [`Loading`].

use crate::finding::{Finding, Path, Problem};
use crate::policy::compile::Work;
use crate::policy::outline::{MAX_BYTES, Member, Outline, syntax};
use crate::policy::plan::{Piecework, plan};
use crate::policy::{Clusters, Policy};

/// How much is read as UTF-8 at a time: far less than a turn.
const TEXT_BYTES: usize = 256 << 10;

/// A policy in the making.
///
/// Each [`step`](Loading::step) reads one piece of the document (a rollout, a cohort, a flag), so that a plugin can
/// spread a large policy over many ticks. A step that finds something goes on all the same: who wants the first finding
/// only stops stepping.
#[derive(Debug)]
pub struct Loading {
    document: Vec<u8>,
    progress: Progress,
    work: Work,
}

#[derive(Debug)]
enum Progress {
    /// Its bytes are being read as UTF-8, up to here so far.
    Text(usize),
    /// The document is being cut.
    Outline(Outline),
    /// Its pieces are being read, in this order; the number is the next.
    Pieces(Vec<Piecework>, usize),
    /// All is read.
    Done,
}

impl Loading {
    /// Starts on `document`, which may route to `clusters`.
    #[must_use]
    pub fn new(document: Vec<u8>, clusters: Clusters) -> Loading {
        let mut work = Work::new(clusters);
        let mut progress = Progress::Text(0);
        if document.len() > MAX_BYTES {
            work.findings.report(&Path::Root, Problem::over_limit("bytes", MAX_BYTES, document.len()));
            progress = Progress::Done;
        }
        Loading { document, progress, work }
    }

    /// Reads one more piece; `false` when there is no more.
    pub fn step(&mut self) -> bool {
        match &mut self.progress {
            Progress::Text(at) => {
                match read_text(&self.document, *at) {
                    Ok(next) if next < self.document.len() => *at = next,
                    Ok(_) => self.progress = Progress::Outline(Outline::default()),
                    Err(at) => {
                        let problem = syntax("invalid unicode code point", &self.document, at);
                        self.work.findings.report(&Path::Root, problem);
                        self.progress = Progress::Done;
                    }
                }
                true
            }
            Progress::Outline(outline) => {
                if !outline.step(&self.document, &mut self.work.findings) {
                    let members = std::mem::take(outline).into_members();
                    self.progress = self.begin(members);
                }
                true
            }
            Progress::Pieces(pieces, next) => {
                let Some(piece) = pieces.get(*next) else {
                    if self.work.compile_unused() {
                        return true;
                    }
                    self.work.close();
                    self.progress = Progress::Done;
                    return false;
                };
                *next += 1;
                self.work.read(&self.document, piece);
                true
            }
            Progress::Done => false,
        }
    }

    /// Plans what to read, unless the document is no JSON.
    fn begin(&mut self, members: Vec<Member>) -> Progress {
        if self.is_refused() {
            return Progress::Done;
        }
        let pieces = plan(&self.document, members, &mut self.work.findings);
        self.work.begin(&pieces);
        Progress::Pieces(pieces, 0)
    }

    /// Whether something was found already, so that the document will be refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        !self.work.findings.is_empty()
    }

    /// The document; there is nothing left to load after it is taken out.
    #[must_use]
    pub fn take_document(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.document)
    }

    /// The policy, once all is read.
    ///
    /// # Errors
    /// What was found, in the order in which it was found; never empty.
    pub fn finish(self) -> Result<Policy, Vec<Finding>> {
        match self.work.findings.is_empty() {
            true => Ok(self.work.policy),
            false => Err(self.work.findings.into_vec()),
        }
    }
}

/// Reads a piece of a document as UTF-8: up to where it is so, or the byte at which it is not.
fn read_text(document: &[u8], at: usize) -> Result<usize, usize> {
    let end = document.len().min(at.saturating_add(TEXT_BYTES));
    match str::from_utf8(document.get(at..end).unwrap_or_default()) {
        Ok(_) => Ok(end),
        // A character may stand across the end of a piece, but not across that of the document.
        Err(error) if error.error_len().is_none() && end < document.len() => Ok(at + error.valid_up_to()),
        Err(error) => Err(at + error.valid_up_to()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(document: &[u8]) -> String {
        Policy::parse(document, &Clusters::default()).unwrap_err().first().unwrap().to_string()
    }

    #[test]
    fn what_is_not_utf8_is_refused_wherever_it_stands() {
        for (document, column) in [
            (&b"{\"name\": \"a\xff\"}"[..], 12),
            (b"{\"\xff\": 1}", 3),
            (b"{\"metadata\": {\"a\": \"\xed\xa0\x80\"}}", 21),
            (b"{\"flags\": {\"a\": {\"state\": \"ENABLED\", \"variants\": {\"x\": 1}, \"other\": \"\xc3(\"}}}", 70),
            (b"{\"flags\": {\"a\": {\"state\": \"ENABLED\", \"variants\": {\"x\": 1}, \"\xc0\xaf\": 1}}}", 61),
            (b"{} \xe2\x82", 4),
            (b"\xef\xbb\xff{}", 1),
        ] {
            let expected = format!("document: invalid unicode code point at line 1 column {column}");
            assert_eq!(refusal(document), expected, "{}", document.escape_ascii());
        }
    }

    #[test]
    fn a_character_may_stand_anywhere() {
        let text = "€".repeat(TEXT_BYTES);
        for shift in 0..3 {
            let space = " ".repeat(shift);
            let document = format!("{space}{{\"metadata\": {{\"a\": \"{text}\"}}}}");
            let mut at = 0;
            while at < document.len() {
                at = read_text(document.as_bytes(), at).unwrap();
            }
            let cut = document.as_bytes().get(..document.len() - 5).unwrap();
            assert!(read_text(cut, 0).is_ok());
            assert_eq!(read_text(cut, cut.len() - 2), Err(cut.len() - 2));
        }
    }

    #[test]
    fn a_flag_has_nothing_that_some_reader_of_json_cannot_read() {
        for (other, problem) in [
            (r#""\ud800""#, "unexpected end of hex escape"),
            (r#""\ud800\u0041""#, "lone leading surrogate in hex escape"),
            (r#"{"a": ["\udc00"]}"#, "lone leading surrogate in hex escape"),
            (r#"{"\ud800x": 1}"#, "unexpected end of hex escape"),
            ("[1e999]", "number out of range"),
        ] {
            let flag = format!(r#"{{"state": "ENABLED", "variants": {{"x": 1}}, "other": {other}}}"#);
            for document in [
                format!(r#"{{"flags": {{"a": {flag}}}}}"#),
                format!(r#"{{"flags": [{}]}}"#, flag.replacen('{', r#"{"key": "a", "#, 1)),
            ] {
                let found = refusal(document.as_bytes());
                assert!(found.starts_with(&format!("document: {problem} at line 1 column ")), "{found}");
                assert!(serde_json::from_str::<serde_json::Value>(&document).is_err(), "{document}");
            }
        }
        let fine = r#"{"flags": {"a": {"state": "ENABLED", "variants": {"x": 1}, "other": [null, true, -1, 1.5, "\ud83d\ude00", {}]}}}"#;
        assert!(Policy::parse(fine.as_bytes(), &Clusters::default()).is_ok());
    }

    #[test]
    fn a_revision_is_a_number_that_every_reader_has_exactly() {
        for revision in ["0", "9007199254740991", "9007199254740991 "] {
            let document = format!("{{\"revision\": {revision}}}");
            let policy = Policy::parse(document.as_bytes(), &Clusters::default()).unwrap();
            assert_eq!(policy.revision.to_string(), revision.trim());
        }
        for revision in ["9007199254740992", "18446744073709551615", "18446744073709551616", &"9".repeat(60)]
        {
            let expected = format!("revision: expected at most 9007199254740991, found {revision}");
            assert_eq!(refusal(format!("{{\"revision\": {revision}}}").as_bytes()), expected);
        }
    }
}
