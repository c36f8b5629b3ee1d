//! What a proxy says of itself.

use std::sync::Arc;

use mulkko::policy::since::Version;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A proxy's process, as it asks for one policy.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Proxy {
    pub policy: String,
    pub node: String,
    /// What is in force there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The ETag of the document that it refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The variants that its guards have rolled back, `checkout-v2/canary`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rolled_back: Vec<String>,
    /// The version of its plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether it is believed.
    #[serde(default)]
    pub verified: bool,
}

/// A proxy, and when it was last heard of, in unix milliseconds.
#[derive(Clone, Debug)]
pub struct Seen {
    pub proxy: Arc<Proxy>,
    pub seen_ms: i64,
}

/// How a proxy stands to the newest version of its policy.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It runs it.
    Current,
    /// It runs an older one, or none.
    Behind,
    /// It has refused it.
    Refused,
    /// It says so without the token or the certificate that others show: nobody believes it.
    Unverified,
}

impl State {
    pub const ALL: [State; 4] = [State::Current, State::Behind, State::Refused, State::Unverified];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            State::Current => "current",
            State::Behind => "behind",
            State::Refused => "refused",
            State::Unverified => "unverified",
        }
    }
}

impl Proxy {
    /// How it stands to a version.
    pub fn state(&self, revision: u64, etag: &str) -> State {
        match &self.refused {
            _ if !self.verified => State::Unverified,
            Some(refused) if refused.trim_matches('"') == etag => State::Refused,
            _ if self.revision.is_some_and(|its| its >= revision) => State::Current,
            _ => State::Behind,
        }
    }

    /// The version of its plugin; of one that does not tell it, the last that did not.
    pub fn plugin(&self) -> Version {
        self.version.as_deref().and_then(Version::parse).unwrap_or(Version::UNTOLD)
    }

    /// By what it is sorted and told from others: one that is believed never stands for one that is not.
    pub fn place(&self) -> (&str, bool, &str) {
        (&self.policy, !self.verified, &self.node)
    }
}
