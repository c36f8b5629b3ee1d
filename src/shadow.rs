//! Shadows: copies of requests for a new version, whose responses nobody sees.
//!
//! In mode `mirror` the proxy copies. In mode `compare` the plugin does, and compares the answer with the one that the
//! user got.

mod copy;
mod difference;
mod exchange;
mod field;
mod ignored;
pub mod json;
mod print;
mod record;
mod report;
mod sketch;
mod watch;

use std::sync::Arc;

use crate::bucket::{Seed, Threshold};
use crate::headers::Headers;
use crate::logic::Condition;
use crate::policy::KeyId;

pub use copy::{Begun, Cause};
pub use exchange::{Call, Copied, Event, Shadows};
pub use field::Kind;
pub use ignored::Ignored;
pub use json::Items;
pub use print::{Printing, Whose};
pub use record::Change;
pub use report::{answer, asked};

/// The header of copies: they have no copies of their own, and count for no guard.
pub const MARK: &str = "x-mulkko-shadow";

/// Which requests are copied, and where to. Of those that get the rollout's default only: what the new version answers
/// anyway needs no copy.
#[derive(Debug)]
pub struct Shadow {
    /// Where the copy goes.
    pub cluster: Arc<str>,
    /// What is hashed.
    pub key: KeyId,
    /// What is hashed before it.
    pub seed: Seed,
    /// The buckets below this are copied.
    pub end: Threshold,
    /// Which requests are copied, where not all are.
    pub when: Option<Condition>,
    /// With which methods.
    pub methods: Box<[Box<str>]>,
    /// How the answers are compared; where they are not, the proxy copies.
    pub comparison: Option<Arc<Comparison>>,
}

impl Shadow {
    /// Whether the proxy is to copy requests: all of them, or those that are too long to be compared.
    #[must_use]
    pub fn mirrors(&self) -> bool {
        self.comparison.as_ref().is_none_or(|comparison| comparison.mirrors_large)
    }
}

/// How answers are compared.
#[derive(Debug)]
pub struct Comparison {
    /// The longest body of a request that is copied, and the longest of a response that is compared whole, in bytes.
    pub max_body_bytes: usize,
    /// Whether requests with longer bodies are mirrored; otherwise they have no copy.
    pub mirrors_large: bool,
    /// The most copies at once, in one VM.
    pub max_in_flight: usize,
    /// How long a copy may take, in milliseconds.
    pub timeout_ms: u64,
    /// The headers (patterns of names, in lower case) that do not go along beside `cookie` and `authorization`; `None`: all
    /// go along.
    pub credentials: Option<Box<[Box<str>]>>,
    /// The headers that are compared, in lower case.
    pub headers: Box<[Box<str>]>,
    /// The parts of JSON that are not.
    pub ignored: Ignored,
    /// How the items of arrays are called.
    pub items: Items,
    /// Another copy of the stable version.
    pub secondary: Option<Secondary>,
    /// Whether values may be seen where differences are.
    pub shows_values: bool,
    /// What tells it from a comparison that is made otherwise.
    pub identity: u64,
}

/// Another copy of the stable version.
#[derive(Debug)]
pub struct Secondary {
    /// Its cluster.
    pub cluster: Arc<str>,
    /// What is hashed before the request's id.
    pub seed: Seed,
    /// The buckets below this go there too.
    pub end: Threshold,
}

/// Whether a request is a copy.
#[must_use]
pub fn is_copy(headers: &Headers<'_>) -> bool {
    headers.count(MARK) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn comparison() -> Comparison {
        Comparison {
            max_body_bytes: 1_000,
            mirrors_large: false,
            max_in_flight: 10,
            timeout_ms: 1_000,
            credentials: Some(Box::new(["x-api-*".into()])),
            headers: Box::new(["content-type".into(), "x-a".into(), "set-cookie".into()]),
            ignored: Ignored::new(&["/meta".to_owned()]),
            items: Items::Any,
            secondary: None,
            shows_values: false,
            identity: 0,
        }
    }
}
