//! The life of a policy in one root context: fetched, loaded a piece at a time, taken or refused, published, freed.
//!
//! State machines without I/O: time, replies and what lies in shared data go in; what to do comes out.

mod polling;
mod published;
mod retired;

use std::borrow::Cow;
use std::rc::Rc;

use crate::configuration::Source;
use crate::finding::{Finding, Problem};
use crate::jws::{Opening, VerifyKeys};
use crate::policy::{Clusters, Loading, MAX_BYTES, Parts, Policy};

pub use polling::{News, Polling};
pub use published::{Published, Stamp};
pub use retired::Retired;

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
    /// That document itself, where it has no ETag to know it by.
    refused_document: Option<Vec<u8>>,
    rules: Rules,
    /// What is left of documents that are not wanted any more.
    dropped: Parts,
}

/// What a document must be, besides a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Where it may route to.
    pub clusters: Clusters,
    /// How it must be signed, if it must.
    pub signed: Option<Signed>,
}

/// How a document must be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// By one of these keys.
    pub keys: Rc<VerifyKeys>,
    /// For the plugin of this name: what was signed for another must not be replayed here.
    pub name: Box<str>,
}

/// A document that is being loaded.
#[derive(Debug)]
struct Candidate {
    stage: Stage,
    origin: Origin,
    etag: Option<Box<str>>,
}

/// How far loading has come.
#[derive(Debug)]
enum Stage {
    /// The signature is being verified.
    Opening(Box<Opening>),
    /// The policy is being read; beside it the signed document that it stands in.
    Loading(Box<Loading>, Option<SignedDocument>),
}

impl Stage {
    fn of(document: Vec<u8>, rules: &Rules, fetched_ms: Option<i64>) -> Stage {
        match &rules.signed {
            Some(signed) => {
                Stage::Opening(Box::new(Opening::new(document, Rc::clone(&signed.keys), fetched_ms)))
            }
            None => Stage::Loading(Box::new(Loading::new(document, rules.clusters.clone())), None),
        }
    }
}

/// A signed document, and when it was signed (unix milliseconds), if it says so.
#[derive(Debug)]
struct SignedDocument {
    document: Vec<u8>,
    signed_ms: Option<i64>,
}

/// A document that was read as far as need be: what it says, or what is wrong with it.
type Read = (Vec<u8>, Result<Policy, Vec<Finding>>);

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
        /// The policy that was in force before.
        replaced: Option<Rc<Policy>>,
        /// The document.
        document: Vec<u8>,
        /// Where it came from.
        origin: Origin,
    },
    /// The document is not taken, and nothing has changed.
    Refused {
        /// What is wrong with it, the first first.
        found: Vec<Finding>,
        /// Where it came from.
        origin: Origin,
    },
}

impl Update {
    /// Starts with the inline policy, if there is one.
    #[must_use]
    pub fn new(inline: Option<Rc<Policy>>, rules: Rules) -> Update {
        Update { policy: inline, rules, ..Update::default() }
    }

    /// What documents must be.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
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

    /// What a fetch asks with, besides method, authority and path: as the proxy `node`, with the source's `token`.
    pub fn headers<'u>(
        &'u self,
        source: &Source,
        node: Option<&'u str>,
        token: Option<&'u str>,
    ) -> Vec<(&'static str, Cow<'u, str>)> {
        let mut headers: Vec<(&'static str, Cow<'u, str>)> = Vec::new();
        let revision = self.policy.as_ref().map(|policy| policy.revision.to_string());
        headers.extend(self.etag.as_deref().map(|etag| ("if-none-match", etag.into())));
        headers.extend((source.wait_s > 0).then(|| ("prefer", format!("wait={}", source.wait_s).into())));
        headers.extend(token.map(|token| ("authorization", format!("Bearer {token}").into())));
        headers.push(("x-mulkko-version", env!("CARGO_PKG_VERSION").into()));
        headers.extend(node.map(|node| ("x-mulkko-node", node.into())));
        headers.extend(revision.map(|revision| ("x-mulkko-revision", revision.into())));
        let refused = self.refused.as_deref().filter(|etag| !etag.is_empty());
        headers.extend(refused.map(|etag| ("x-mulkko-refused", etag.into())));
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

    /// Which published document is being loaded, if one is, and its ETag.
    #[must_use]
    pub fn awaited(&self) -> Option<(Stamp, Option<&str>)> {
        match self.candidate.as_ref()? {
            Candidate { origin: Origin::Published(stamp), etag, .. } => Some((*stamp, etag.as_deref())),
            _ => None,
        }
    }

    /// Whether `document`, which came without an ETag, is the one that was refused last.
    #[must_use]
    pub fn is_refused_document(&self, document: &[u8]) -> bool {
        self.refused_document.as_deref() == Some(document)
    }

    /// Starts to load a document that was fetched at `now_ms` (unix milliseconds): its ETag counts as read, whatever comes
    /// of it.
    pub fn load_fetched(&mut self, document: Vec<u8>, etag: Option<Box<str>>, now_ms: i64) {
        self.etag.clone_from(&etag);
        let stage = Stage::of(document, &self.rules, Some(now_ms));
        self.candidate = Some(Candidate { stage, origin: Origin::Fetched, etag });
    }

    /// Starts to load a document that another root context has published. Its ETag counts as read when it is taken: what
    /// this root context refuses it must fetch itself, to tell so. How old its signature is does not matter any more: it was
    /// young enough when it was fetched.
    pub fn load_published(&mut self, published: Published) {
        self.drop_candidate();
        let stage = Stage::of(published.document, &self.rules, None);
        let origin = Origin::Published(published.stamp);
        self.candidate = Some(Candidate { stage, origin, etag: published.etag });
    }

    /// A document that was not read to its end was not read.
    fn drop_candidate(&mut self) {
        let Some(Candidate { stage, origin, .. }) = self.candidate.take() else { return };
        if origin == Origin::Fetched {
            self.etag = None;
        }
        if let Stage::Loading(loading, _) = stage {
            self.dropped.append(loading.into_parts());
        }
    }

    /// Frees a part of what is left of documents that are not wanted any more; `false` where there is nothing.
    pub fn free(&mut self) -> bool {
        self.dropped.free()
    }

    /// Verifies or loads one more piece; an outcome when it was the last.
    pub fn step(&mut self) -> Option<Outcome> {
        let Candidate { stage, origin, etag } = self.candidate.take()?;
        match advance(stage, &self.rules) {
            Err(stage) => {
                self.candidate = Some(Candidate { stage, origin, etag });
                None
            }
            Ok((document, read)) => Some(self.settle(document, read, origin, etag)),
        }
    }

    fn settle(
        &mut self,
        document: Vec<u8>,
        read: Result<Policy, Vec<Finding>>,
        origin: Origin,
        etag: Option<Box<str>>,
    ) -> Outcome {
        match read.and_then(|policy| self.fitting(policy)) {
            Ok(policy) => {
                let policy = Rc::new(policy);
                let replaced = self.take(Rc::clone(&policy), etag);
                Outcome::Taken { policy, replaced, document, origin }
            }
            Err(found) => {
                if origin == Origin::Fetched {
                    self.refuse();
                    self.refused_document = self.etag.is_none().then_some(document);
                }
                Outcome::Refused { found, origin }
            }
        }
    }

    /// The policy, if it is one for this plugin, and not older than the one in force.
    fn fitting(&mut self, policy: Policy) -> Result<Policy, Vec<Finding>> {
        match self.misfit(&policy) {
            None => Ok(policy),
            Some(finding) => {
                self.dropped.append(policy.into_parts());
                Err(vec![finding])
            }
        }
    }

    fn misfit(&self, policy: &Policy) -> Option<Finding> {
        let floor = self.policy.as_ref().map_or(0, |policy| policy.revision);
        let name = self.rules.signed.as_ref().map(|signed| &*signed.name);
        if let Some(name) = name.filter(|name| policy.name.as_deref() != Some(name)) {
            let found = policy.name.as_deref().unwrap_or_default();
            return Some(place("name", Problem::expected(name.to_owned(), found)));
        }
        let problem = || Problem::expected(format!("at least {floor}"), policy.revision);
        (policy.revision < floor).then(|| place("revision", problem()))
    }

    /// Takes a policy that is compiled already, in place of one that is being loaded; gives the one before.
    pub fn take(&mut self, policy: Rc<Policy>, etag: Option<Box<str>>) -> Option<Rc<Policy>> {
        self.drop_candidate();
        self.etag = etag;
        self.refused = None;
        self.refused_document = None;
        self.policy.replace(policy)
    }

    /// Refuses a document of which only the size was read; its ETag counts as read.
    pub fn refuse_unread(&mut self, etag: Option<Box<str>>, bytes: usize) -> Finding {
        self.etag = etag;
        self.refuse();
        place("", Problem::over_limit("bytes", MAX_BYTES, bytes))
    }

    fn refuse(&mut self) {
        // A document without an ETag is refused all the same.
        self.refused = Some(self.etag.clone().unwrap_or_default());
    }
}

/// Takes one step with a document: how far it is then, or what was read.
fn advance(stage: Stage, rules: &Rules) -> Result<Read, Stage> {
    match stage {
        Stage::Opening(mut opening) => match opening.step() {
            Ok(true) => Err(Stage::Opening(opening)),
            Ok(false) => {
                let signed_ms = opening.signed_ms();
                let (document, policy) = opening.into_parts();
                let loading = Loading::new(policy, rules.clusters.clone());
                Err(Stage::Loading(Box::new(loading), Some(SignedDocument { document, signed_ms })))
            }
            Err(finding) => Ok((opening.into_parts().0, Err(vec![finding]))),
        },
        Stage::Loading(mut loading, signed) => {
            if loading.step() {
                return Err(Stage::Loading(loading, signed));
            }
            let (document, signed_ms) = match signed {
                Some(SignedDocument { document, signed_ms }) => (document, signed_ms),
                None => (loading.take_document(), None),
            };
            let read = loading.finish().map(|mut policy| {
                policy.signed_ms = signed_ms;
                policy
            });
            Ok((document, read))
        }
    }
}

fn place(place: &str, problem: Problem) -> Finding {
    Finding { place: place.to_owned(), problem }
}

/// A token as a header can carry it, without the white space around it; `None` for one that none can.
#[must_use]
pub fn token_text(secret: &[u8]) -> Option<Box<str>> {
    let token = secret.trim_ascii();
    let is_visible = !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
    str::from_utf8(token).ok().filter(|_| is_visible).map(Box::from)
}

/// An ETag that can be sent back as it came; `None` for one that cannot be.
#[must_use]
pub fn etag_text(etag: &[u8]) -> Option<Box<str>> {
    let fits = (1..=MAX_ETAG_BYTES).contains(&etag.len()) && etag.iter().all(|b| matches!(b, b' '..=b'~'));
    str::from_utf8(etag).ok().filter(|_| fits).map(Box::from)
}

#[cfg(test)]
mod tests;
