//! Decides for requests that somebody wrote down, on a proxy that is written down too: for the command and the tests.
//!
//! What answers is the engine itself, with the same edits of headers that a plugin would carry out.

use std::sync::Arc;

use crate::configuration::Configuration;
use crate::decide::{Decisions, Node, Proxy, Request, Trust, decide};
use crate::effects::{Edit, Effects, effects};
use crate::guard::RolledBack;
use crate::headers::{Headers, kept_name};
use crate::mesh::Macs;
use crate::pass::{self, PassKeys};
use crate::policy::Policy;

/// A header's name, in lower case, and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// A policy in force on a proxy that is written down.
#[derive(Debug)]
pub struct DryRun {
    /// The policy.
    pub policy: Policy,
    /// Whether requests are believed.
    pub trust: Trust,
    /// The proxy that decides.
    pub node: Node,
    /// What passes are verified with.
    pub pass_keys: PassKeys,
    /// What vouches for decisions, where keys for that are configured.
    pub macs: Option<Macs>,
    /// What only a host knows.
    pub host: Host,
    /// The variants that the guard has given up.
    pub rolled_back: RolledBack,
}

impl DryRun {
    /// A policy on a proxy that is configured so, with nothing else known of it.
    #[must_use]
    pub fn new(policy: Policy, configuration: &Configuration, now_ms: i64) -> DryRun {
        DryRun {
            policy,
            trust: configuration.trust,
            node: Node::default(),
            pass_keys: configuration.passes(),
            macs: configuration.macs(&Arc::default()),
            host: Host { now_ms, ..Host::default() },
            rolled_back: RolledBack::default(),
        }
    }

    /// Gives `look` the decisions for a request with these headers, pseudo headers among them, and their effects.
    pub fn decided<T>(&self, pairs: &[Pair], look: impl FnOnce(&Decisions, Effects<'_>) -> T) -> T {
        self.asked(pairs, |request| {
            let decisions = decide(&self.policy, *request);
            look(&decisions, effects(Some(&self.policy), &decisions, request))
        })
    }

    /// Gives `look` the request with these headers.
    pub fn asked<T>(&self, pairs: &[Pair], look: impl FnOnce(&Request<'_>) -> T) -> T {
        let pairs = pairs.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let headers = Headers::of_request(pairs, self.trust);
        let header = headers.came("x-mulkko-pass").unwrap_or_default();
        look(&Request {
            headers: &headers,
            passes: &pass::read(&header, &self.pass_keys, self.host.now_ms),
            macs: self.macs.as_ref(),
            node: &self.node,
            proxy: &self.host,
            rolled_back: Some(&self.rolled_back),
        })
    }
}

/// A host of which everything is written down.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// The wall clock, in unix milliseconds.
    pub now_ms: i64,
    /// The address of the client, with or without its port; empty: it has none.
    pub client: String,
    /// Properties: the way down, and the value.
    pub properties: Vec<(Vec<String>, String)>,
    /// The id that is drawn where a key is minted.
    pub drawn: String,
}

impl Proxy for Host {
    fn property(&self, path: &[Box<str>]) -> Option<Vec<u8>> {
        let names = || path.iter().map(|name| &**name);
        let found = self.properties.iter().find(|(way, _)| way.iter().map(String::as_str).eq(names()));
        found.map(|(_, value)| value.clone().into_bytes())
    }

    fn client_address(&self) -> Option<Vec<u8>> {
        (!self.client.is_empty()).then(|| self.client.clone().into_bytes())
    }

    fn now_ms(&self) -> i64 {
        self.now_ms
    }

    fn draw_id(&self) -> String {
        self.drawn.clone()
    }
}

/// The headers of a request as Envoy hands them over: names in lower case, `host` as `:authority`. Of a pseudo header the last
/// counts.
#[must_use]
pub fn request<'h>(
    method: &str,
    path: &str,
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
) -> Vec<Pair> {
    let pair =
        |name: &str, value: &str| (kept_name(name).into_string().into_bytes(), value.as_bytes().to_vec());
    let mut pairs = vec![pair(":method", method), pair(":path", path), pair(":scheme", "http")];
    for (name, value) in headers {
        let pair = pair(name, value);
        match pairs.iter_mut().find(|(known, _)| known.starts_with(b":") && *known == pair.0) {
            Some(known) => *known = pair,
            None => pairs.push(pair),
        }
    }
    pairs
}

/// The headers after the edits, carried out as Envoy does: setting replaces the first of a name.
#[must_use]
pub fn applied(pairs: &[Pair], edits: &[Edit<'_>]) -> Vec<Pair> {
    let mut pairs = pairs.to_vec();
    for edit in edits {
        match edit {
            Edit::Remove(name) => pairs.retain(|(n, _)| n != name),
            Edit::Set(name, value) => match pairs.iter_mut().find(|(n, _)| n == name.as_bytes()) {
                Some((_, old)) => *old = value.to_vec(),
                None => pairs.push((name.as_bytes().to_vec(), value.to_vec())),
            },
        }
    }
    pairs
}

/// The value of a header, repeated ones joined by `,`.
#[must_use]
pub fn header(pairs: &[Pair], name: &str) -> Option<String> {
    let values = pairs.iter().filter(|(n, _)| n == name.as_bytes());
    let values: Vec<_> = values.map(|(_, value)| String::from_utf8_lossy(value)).collect();
    (!values.is_empty()).then(|| values.join(","))
}
