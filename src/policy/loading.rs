//! Makes a policy from a document, a part at a time: [`Loading`].

use crate::finding::{Finding, Findings, Path, Problem};
use crate::policy::compile::Work;
use crate::policy::outline::{Lines, MAX_BYTES, Outline};
use crate::policy::parts::Parts;
use crate::policy::plan::{Plan, What};
use crate::policy::{Clusters, Policy};

/// How much is read as UTF-8 at a time: far less than a turn.
const TEXT_BYTES: usize = 256 << 10;

/// A policy in the making.
///
/// Each [`step`](Loading::step) does a part of the work (cuts some of the document, reads or compiles a rollout, frees
/// what is not needed any more), so that a plugin can spread a large policy over many ticks. No step goes over more of
/// the document than one item may have: what a step costs has a bound, whatever the document is.
#[derive(Debug)]
pub struct Loading {
    document: Vec<u8>,
    lines: Lines,
    progress: Progress,
    work: Work,
    findings: Findings,
    policy: Option<Policy>,
}

#[derive(Debug)]
enum Progress {
    /// Its bytes are being read as UTF-8, up to here so far.
    Text(usize),
    /// The document is being cut.
    Outline(Outline),
    /// The names of cohorts are taken down; the number is the next.
    Cohorts(Plan, usize),
    /// The pieces are being read and compiled.
    Pieces(Plan),
    /// What nothing uses is being compiled.
    Unused,
    /// What can be checked only when all is compiled is being checked.
    Checks,
    /// What is not needed any more is being freed.
    Freeing(Parts),
    /// All is done.
    Done,
}

impl Loading {
    /// Starts on `document`, which may route to `clusters`. Ends with the first finding.
    #[must_use]
    pub fn new(document: Vec<u8>, clusters: Clusters) -> Loading {
        Loading::with(document, clusters, Findings::first())
    }

    /// As [`Loading::new`], but goes on when something was found: for whoever has to put it right.
    #[must_use]
    pub fn thorough(document: Vec<u8>, clusters: Clusters) -> Loading {
        Loading::with(document, clusters, Findings::default())
    }

    fn with(document: Vec<u8>, clusters: Clusters, findings: Findings) -> Loading {
        let mut work = Work::new(clusters, findings);
        let mut progress = Progress::Text(0);
        if document.len() > MAX_BYTES {
            work.findings.report(&Path::Root, Problem::over_limit("bytes", MAX_BYTES, document.len()));
            progress = Progress::Checks;
        }
        let findings = Findings::default();
        Loading { document, lines: Lines::default(), progress, work, findings, policy: None }
    }

    /// Does one more part; `false` when there is no more to do.
    pub fn step(&mut self) -> bool {
        let progress = std::mem::replace(&mut self.progress, Progress::Done);
        self.progress = match progress {
            Progress::Freeing(mut parts) => match parts.free() {
                true => Progress::Freeing(parts),
                false => Progress::Done,
            },
            Progress::Done => Progress::Done,
            _ if self.work.findings.is_full() => Progress::Freeing(self.end()),
            progress => self.go_on(progress),
        };
        !matches!(self.progress, Progress::Done)
    }

    fn go_on(&mut self, progress: Progress) -> Progress {
        match progress {
            Progress::Text(at) => match read_text(&self.document, at) {
                Ok(next) if next < self.document.len() => Progress::Text(next),
                Ok(_) => Progress::Outline(Outline::default()),
                Err(at) => {
                    let problem = Lines::default().syntax("invalid unicode code point", &self.document, at);
                    self.work.findings.report(&Path::Root, problem);
                    Progress::Freeing(self.end())
                }
            },
            Progress::Outline(mut outline) => {
                if outline.step(&self.document, &mut self.work.findings) {
                    return Progress::Outline(outline);
                }
                let members;
                (members, self.lines) = outline.into_parts();
                let Some(members) = members else { return Progress::Freeing(self.end()) };
                let plan = Plan::new(members);
                self.work.begin(&plan);
                Progress::Cohorts(plan, 0)
            }
            Progress::Cohorts(plan, next) => {
                const MOST: usize = 100;
                if next >= plan.count_of(What::Cohort) {
                    return Progress::Pieces(plan);
                }
                plan.names(What::Cohort, next, MOST).for_each(|name| self.work.declare_cohort(name));
                Progress::Cohorts(plan, next + MOST)
            }
            Progress::Pieces(mut plan) => {
                if !self.work.compile() {
                    let Some(piece) = plan.next() else { return Progress::Unused };
                    self.work.read(&self.document, &self.lines, piece);
                }
                Progress::Pieces(plan)
            }
            Progress::Unused if self.work.compile() || self.work.want_unused() => Progress::Unused,
            Progress::Checks if self.work.check() => Progress::Checks,
            Progress::Unused => Progress::Checks,
            Progress::Checks | Progress::Freeing(_) | Progress::Done => Progress::Freeing(self.end()),
        }
    }

    /// Takes the policy, or what was found instead; gives what is not needed any more.
    fn end(&mut self) -> Parts {
        let parts;
        (self.findings, self.policy, parts) = std::mem::take(&mut self.work).into_parts();
        parts
    }

    /// The document; there is nothing left to load after it is taken out.
    #[must_use]
    pub fn take_document(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.document)
    }

    /// The policy.
    ///
    /// # Errors
    /// What was found, in the order in which it was found; never empty.
    pub fn finish(mut self) -> Result<Policy, Vec<Finding>> {
        while self.step() {}
        self.policy.ok_or_else(|| self.findings.into_vec())
    }

    /// What there is of it, to be freed a part at a time: another document is wanted instead.
    pub(crate) fn into_parts(mut self) -> Parts {
        let mut parts = match std::mem::replace(&mut self.progress, Progress::Done) {
            Progress::Freeing(parts) => parts,
            Progress::Done => Parts::default(),
            _ => self.end(),
        };
        if let Some(policy) = self.policy {
            parts.append(policy.into_parts());
        }
        parts
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

    fn steps(document: &str) -> (usize, Result<Policy, Vec<Finding>>) {
        let mut loading = Loading::new(document.as_bytes().to_vec(), Clusters::default());
        let steps = std::iter::repeat_with(|| loading.step()).take_while(|goes_on| *goes_on).count();
        (steps, loading.finish())
    }

    fn flag(targeting: &str) -> String {
        format!(r#"{{"state": "ENABLED", "variants": {{"on": true}}, "targeting": {targeting}}}"#)
    }

    #[test]
    fn loading_ends_with_the_first_finding() {
        let operators: Vec<String> = (0..1_000).map(|i| format!(r#"{{"x{i}": 1}}"#)).collect();
        let wrong = format!(r#"{{"and": [{}]}}"#, operators.join(","));
        let flags: Vec<String> = (0..200).map(|i| format!("\"{i}\": {}", flag(&wrong))).collect();
        let document =
            format!(r#"{{"flags": {{"{}": {}, {}}}}}"#, "k".repeat(100_000), flag(&wrong), flags.join(","));
        let (steps, loaded) = steps(&document);
        let found = loaded.unwrap_err();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, format!("flags.{}….targeting.and[0].x0", "k".repeat(80)));
        // The outline, the first flag, and what is freed: none of the flags after it.
        assert!(steps < 200, "{steps}");
        let all = Policy::parse(document.as_bytes(), &Clusters::default()).unwrap_err();
        assert_eq!(all.len(), 1_000);
    }

    #[test]
    fn each_item_is_a_step_of_its_own_whoever_refers_to_it() {
        let evaluators = |count: usize| {
            let each = |i: usize| format!(r#""e{i}": {{"!": {{"$ref": "e{}"}}}}"#, i + 1);
            let list: Vec<String> = (0..count).map(each).collect();
            format!(
                r#"{{"$evaluators": {{{}, "e{count}": true}}, "flags": {{"f": {}}}}}"#,
                list.join(","),
                flag(r#"{"$ref": "e0"}"#)
            )
        };
        let ((few, first), (many, second)) = (steps(&evaluators(10)), steps(&evaluators(110)));
        assert!(first.is_ok() && second.is_ok());
        assert!(many >= few + 4 * 100, "read, looked at for patterns, compiled, freed: {few} {many}");
    }

    #[test]
    fn each_pattern_is_a_step_of_its_own() {
        let patterns = |count: usize| {
            let list: Vec<String> =
                (0..count).map(|i| format!(r#"{{"matches": [{{"var": "x"}}, "a{i}"]}}"#)).collect();
            format!(r#"{{"cohorts": {{"c": {{"or": [{}]}}}}}}"#, list.join(","))
        };
        let paths = |count: usize| {
            let list: Vec<String> = (0..count)
                .map(|i| format!(r#"{{"path": {{"type": "RegularExpression", "value": "/{i}.*"}}}}"#))
                .collect();
            format!(
                r#"{{"rollouts": [{{"name": "r", "matches": [{}], "variants": {{"a": {{}}, "b": {{}}}}, "default": "a",
                    "strategy": {{"dark": {{"variant": "b"}}}}}}]}}"#,
                list.join(",")
            )
        };
        for document in [&patterns as &dyn Fn(usize) -> String, &paths] {
            let ((few, first), (many, second)) = (steps(&document(1)), steps(&document(101)));
            assert!(first.is_ok() && second.is_ok());
            assert!(many >= few + 100, "{few} {many}");
        }
    }

    #[test]
    fn what_is_left_of_a_document_is_freed_in_parts() {
        let flags: Vec<String> = (0..300).map(|i| format!("\"{i}\": {}", flag("null"))).collect();
        let document = format!(r#"{{"flags": {{{}}}}}"#, flags.join(","));
        let mut loading = Loading::new(document.into_bytes(), Clusters::default());
        for _ in 0..500 {
            assert!(loading.step());
        }
        let mut parts = loading.into_parts();
        let freed = std::iter::repeat_with(|| parts.free()).take_while(|goes_on| *goes_on).count();
        assert!(freed > 200, "{freed}");
    }

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
