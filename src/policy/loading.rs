//! Makes a policy from a document, a piece at a time: [`Loading`].

use crate::finding::{Finding, Path, Problem};
use crate::policy::compile::Work;
use crate::policy::outline::{MAX_BYTES, Member, Outline};
use crate::policy::plan::{Piecework, plan};
use crate::policy::{Clusters, Policy};

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
        let mut progress = Progress::Outline(Outline::default());
        if document.len() > MAX_BYTES {
            work.findings.report(&Path::Root, Problem::over_limit("bytes", MAX_BYTES, document.len()));
            progress = Progress::Done;
        }
        Loading { document, progress, work }
    }

    /// Reads one more piece; `false` when there is no more.
    pub fn step(&mut self) -> bool {
        match &mut self.progress {
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
