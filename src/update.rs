//! The life of a policy in one root context: fetched, loaded a piece at a time, taken or refused, published.
//!
//! State machines without I/O: time, replies and what lies in shared data go in; what to do comes out.

mod polling;
mod published;

use std::rc::Rc;

use crate::configuration::{Configuration, Source};
use crate::finding::{Finding, Problem};
use crate::policy::{Loading, MAX_BYTES, Policy};

pub use polling::{News, Polling};
pub use published::{Published, Stamp};

/// The longest ETag in bytes that is kept.
const MAX_ETAG_BYTES: usize = 1_024;

/// The policy of one root context, and the document that may replace it.
#[derive(Debug, Default)]
pub struct Update {
    policy: Option<Rc<Policy>>,
    candidate: Option<Candidate>,
    /// The ETag of the last document that was read whole, taken or refused.
    etag: Option<Box<str>>,
    /// The ETag of the last document that was refused, while it is the newest.
    refused: Option<Box<str>>,
    verify: bool,
    /// Policies that were in force before; streams may still hold them.
    retired: Vec<Rc<Policy>>,
    /// One that nobody holds any more.
    freeing: Option<Policy>,
}

/// A document that is being loaded.
#[derive(Debug)]
struct Candidate {
    loading: Loading,
    origin: Origin,
}

/// Where a document came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This root context fetched it.
    Fetched,
    /// Another root context published it, under this stamp.
    Published(Stamp),
}

/// How loading ended.
#[derive(Debug)]
pub enum Outcome {
    /// The document is in force, and stands here as it came.
    Taken {
        /// The policy.
        policy: Rc<Policy>,
        /// The document.
        document: Vec<u8>,
        /// Where it came from.
        origin: Origin,
    },
    /// The document is not taken, and nothing has changed.
    Refused {
        /// The first thing that is wrong with it.
        finding: Finding,
        /// Where it came from.
        origin: Origin,
    },
}

impl Update {
    /// Starts with the inline policy, if there is one.
    #[must_use]
    pub fn new(inline: Option<Rc<Policy>>, verify: bool) -> Update {
        Update { policy: inline, verify, ..Update::default() }
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Option<&Rc<Policy>> {
        self.policy.as_ref()
    }

    /// The ETag of the last document that was read whole.
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// What a fetch asks with, besides method, authority and path.
    pub fn headers<'u>(
        &'u self,
        source: &Source,
        node: Option<&'u str>,
    ) -> Vec<(&'static str, std::borrow::Cow<'u, str>)> {
        let mut headers: Vec<(&'static str, std::borrow::Cow<'u, str>)> = Vec::new();
        let revision = self.policy.as_ref().map(|policy| policy.revision.to_string());
        headers.extend(self.etag.as_deref().map(|etag| ("if-none-match", etag.into())));
        headers.extend((source.wait_s > 0).then(|| ("prefer", format!("wait={}", source.wait_s).into())));
        headers.extend(node.map(|node| ("x-mulkko-node", node.into())));
        headers.extend(revision.map(|revision| ("x-mulkko-revision", revision.into())));
        headers.extend(self.refused.as_deref().map(|etag| ("x-mulkko-refused", etag.into())));
        headers
    }

    /// Whether a document is being loaded.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.candidate.is_some()
    }

    /// Whether the newest document that this root context has seen is refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Takes an ETag down as that of the last document that was read whole.
    pub fn read_whole(&mut self, etag: Option<&[u8]>) {
        self.etag = etag.and_then(etag_text);
    }

    /// Starts to load a document; one that is being loaded is dropped for it.
    pub fn load(&mut self, document: Vec<u8>, origin: Origin, configuration: &Configuration) {
        let loading = Loading::new(document, configuration.clusters.clone());
        self.candidate = Some(Candidate { loading, origin });
    }

    /// Loads one more piece; an outcome when it was the last.
    pub fn step(&mut self) -> Option<Outcome> {
        let candidate = self.candidate.as_mut()?;
        // The policy is refused by its first finding: the rest need not be read.
        if candidate.loading.step() && !candidate.loading.is_refused() {
            return None;
        }
        let Candidate { loading, origin } = self.candidate.take()?;
        Some(self.settle(loading, origin))
    }

    fn settle(&mut self, mut loading: Loading, origin: Origin) -> Outcome {
        let document = loading.take_document();
        let floor = self.policy.as_ref().map_or(0, |policy| policy.revision);
        let problem = match loading.finish() {
            Err(found) => found.into_iter().next(),
            Ok(_) if self.verify => Some(place("verify", Problem::NotSupportedYet)),
            Ok(policy) if policy.revision < floor => {
                let problem = Problem::expected(format!("at least {floor}"), policy.revision);
                Some(place("revision", problem))
            }
            Ok(policy) => {
                let policy = Rc::new(policy);
                self.take(Rc::clone(&policy));
                return Outcome::Taken { policy, document, origin };
            }
        };
        let finding = problem.unwrap_or_else(|| place("", Problem::NotSupportedYet));
        if origin == Origin::Fetched {
            self.refuse();
        }
        Outcome::Refused { finding, origin }
    }

    /// Takes a policy that is compiled already, in place of one that is being loaded.
    pub fn take(&mut self, policy: Rc<Policy>) {
        self.candidate = None;
        self.retired.extend(self.policy.replace(policy));
        self.refused = None;
    }

    /// Frees a part of a policy that nobody uses any more; `false` where there is none. Twenty thousand rollouts freed
    /// at once would stall streams.
    pub fn free(&mut self) -> bool {
        if self.freeing.is_none() {
            let unused = self.retired.iter().position(|policy| Rc::strong_count(policy) == 1);
            self.freeing = unused.and_then(|i| Rc::into_inner(self.retired.swap_remove(i)));
        }
        let Some(policy) = &mut self.freeing else { return false };
        if !policy.shrink() {
            self.freeing = None;
        }
        true
    }

    /// Refuses a document of which only the size was read.
    pub fn refuse_unread(&mut self, bytes: usize) -> Finding {
        self.refuse();
        place("", Problem::over_limit("bytes", MAX_BYTES, bytes))
    }

    fn refuse(&mut self) {
        // A document without an ETag is refused all the same.
        self.refused = Some(self.etag.clone().unwrap_or_default());
    }
}

fn place(place: &str, problem: Problem) -> Finding {
    Finding { place: place.to_owned(), problem }
}

/// An ETag that can be sent back as it came.
fn etag_text(etag: &[u8]) -> Option<Box<str>> {
    let fits = (1..=MAX_ETAG_BYTES).contains(&etag.len()) && etag.iter().all(|b| matches!(b, b' '..=b'~'));
    str::from_utf8(etag).ok().filter(|_| fits).map(Box::from)
}
