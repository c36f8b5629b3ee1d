//! Makes a policy from a document, a part at a time: [`Loading`].

use crate::finding::{Finding, Findings, Path, Problem};
use crate::policy::compile::Work;
use crate::policy::outline::{Lines, MAX_BYTES, Outline};
use crate::policy::parts::Parts;
use crate::policy::plan::{Plan, What};
use crate::policy::{Clusters, Policy};

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
        let mut progress = Progress::Outline(Outline::default());
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
}
