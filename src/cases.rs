//! Decision cases: requests that are written down with what is expected of them, beside a policy or with it.
//!
//! The same files run through the engine (`mulkko test`, `cargo test`, natively and as wasm) and through a real proxy.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::configuration::Configuration;
use crate::decide::{Decisions, Node};
use crate::dry_run::{self, DryRun, Pair};
use crate::finding::Finding;
use crate::guard::RolledBack;
use crate::mesh::MeshKeys;
use crate::moment::Instant;
use crate::policy::Policy;
use crate::wire::some;

/// When a request is made that does not say when: 2026-11-22T12:00:00Z, long after 2020 and long before 2999, as real clocks
/// are.
const SOME_DAY_MS: i64 = 1_795_348_800_000;
/// What the passes of cases are signed with: nobody else's.
const PASS_KEY: &[u8] = b"a key for the passes of decision cases";
/// What decisions of cases are vouched for with, where their plugin has `meshKeys`: nobody else's either.
const MESH_KEY: &[u8] = b"a key for the mesh of decision cases";
/// How long passes are good that do not say it.
const PASS_S: i64 = 3_600;

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct File {
    /// What the cases have in common, for who reads them.
    #[serde(default)]
    pub about: String,
    /// The policy: a document, or the name of its file.
    pub policy: Box<RawValue>,
    /// When the requests are made.
    #[serde(default, deserialize_with = "some")]
    at: Option<At>,
    /// The plugin configuration.
    #[serde(default)]
    plugin: Map<String, Value>,
    /// The proxy.
    #[serde(default, deserialize_with = "some")]
    node: Option<NodeWire>,
    /// Properties of the host: the way down, and the value.
    #[serde(default)]
    properties: Vec<(Vec<String>, String)>,
    /// The variants that the guard has given up, with their rollouts.
    #[serde(default)]
    rolled_back: Vec<(String, String)>,
    /// The cases.
    pub cases: Vec<Case>,
}

/// An instant, in unix milliseconds; written as in RFC 3339.
#[derive(Clone, Copy, Debug)]
struct At(i64);

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<At, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Instant::parse(&text).map(|at| At(at.unix_ms())).map_err(D::Error::custom)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeWire {
    id: Option<Box<str>>,
    region: Option<Box<str>>,
    zone: Option<Box<str>>,
}

/// A request, and what is expected of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// When it is made, where not when the file says.
    #[serde(default, deserialize_with = "some")]
    at: Option<At>,
    /// The request.
    pub request: Asked,
    /// The claims of the passes that it carries.
    #[serde(default)]
    passes: Vec<Map<String, Value>>,
    expect: Expected,
}

/// A request as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// `GET`
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Names and values, `host` among them.
    pub headers: Vec<(String, String)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// Rollout, variant and reason, in order of precedence.
    decisions: Vec<[String; 3]>,
    /// Headers as they go on upstream; repeated ones joined by `,`, `null` for an absent one.
    #[serde(default)]
    upstream: BTreeMap<String, Option<String>>,
}

/// What is different from what a case expects.
#[derive(Debug, PartialEq, Serialize)]
pub struct Difference {
    /// `decisions`, or the name of a header.
    pub what: String,
    /// What was expected, as the file of cases writes it.
    pub expected: Value,
    /// What was found.
    pub found: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.what, self.expected, self.found)
    }
}

/// A file's policy in force on its proxy.
#[derive(Debug)]
pub struct Stage {
    /// The proxy.
    pub run: DryRun,
}

impl Stage {
    /// The stage of a file, with this text as the policy.
    ///
    /// # Errors
    /// What is wrong with its policy or plugin configuration.
    pub fn of(file: &File, policy: &[u8]) -> Result<Stage, Vec<Finding>> {
        let plugin = Value::Object(file.plugin.clone()).to_string();
        let configuration = Configuration::parse(plugin.as_bytes())?;
        let policy = Policy::parse(policy, &configuration.clusters)?;
        let mut run = DryRun::new(policy, &configuration, file.at.map_or(SOME_DAY_MS, |At(ms)| ms));
        run.node = match &file.node {
            Some(NodeWire { id, region, zone }) => {
                Node { id: id.clone(), region: region.clone(), zone: zone.clone() }
            }
            None => Node { id: Some("edge-1".into()), region: None, zone: None },
        };
        // Long enough.
        let _ = run.pass_keys.add(PASS_KEY);
        let mut mesh_keys = MeshKeys::default();
        // Long enough.
        let _ = mesh_keys.add(MESH_KEY);
        run.macs = configuration.macs(&Arc::new(mesh_keys));
        run.host.client = "127.0.0.1:1".to_owned();
        run.host.drawn = "drawn-id".to_owned();
        run.host.properties.clone_from(&file.properties);
        let names = file.rolled_back.iter().map(|(rollout, variant)| (&**rollout, &**variant));
        run.rolled_back = RolledBack::named(&run.policy, names);
        Ok(Stage { run })
    }

    /// What comes of a case's request, and what of that is different from what is expected.
    #[must_use]
    pub fn check(&mut self, case: &Case) -> (Found, Vec<Difference>) {
        let usual_ms = self.run.host.now_ms;
        self.run.host.now_ms = case.at.map_or(usual_ms, |At(ms)| ms);
        let found = self.send(&case.request, &case.passes);
        self.run.host.now_ms = usual_ms;
        let mut differences = Vec::new();
        let mut compare = |what: &str, expected: Value, found: Value| {
            if expected != found {
                differences.push(Difference { what: what.to_owned(), expected, found });
            }
        };
        compare("decisions", json!(case.expect.decisions), json!(found.decisions));
        for (name, value) in &case.expect.upstream {
            compare(name, json!(value), json!(found.header(name)));
        }
        (found, differences)
    }

    /// Sends a request with passes of these claims, and one that asks for an explanation.
    #[must_use]
    pub fn send(&self, asked: &Asked, passes: &[Map<String, Value>]) -> Found {
        let explain = Map::from_iter([("explain".to_owned(), Value::Bool(true))]);
        let tokens: Vec<String> = passes.iter().chain([&explain]).filter_map(|it| self.sign(it)).collect();
        let pairs = asked.pairs(&tokens);
        self.run.decided(&pairs, |decisions, effects| Found {
            decisions: self.names(decisions),
            explain: effects.response.explain.clone(),
            upstream: dry_run::applied(&pairs, &effects.edits),
        })
    }

    /// A pass of these claims, good for an hour unless they say otherwise.
    #[must_use]
    pub fn sign(&self, claims: &Map<String, Value>) -> Option<String> {
        let mut claims = claims.clone();
        claims.entry("exp").or_insert_with(|| (self.run.host.now_ms / 1_000 + PASS_S).into());
        self.run.pass_keys.sign(&Value::Object(claims).to_string())
    }

    /// Rollout, variant and reason of each decision.
    fn names(&self, decisions: &Decisions) -> Vec<[String; 3]> {
        let named = decisions.list.iter().filter_map(|decision| {
            let rollout = self.run.policy.rollout(decision.rollout)?;
            let variant = rollout.variant(decision.variant)?;
            Some([rollout.name.to_string(), variant.name.to_string(), decision.reason.to_string()])
        });
        named.collect()
    }
}

impl Asked {
    /// The headers as Envoy hands them over, with these passes.
    #[must_use]
    pub fn pairs(&self, tokens: &[String]) -> Vec<Pair> {
        let headers = self.headers.iter().map(|(name, value)| (&**name, &**value));
        let mut pairs = dry_run::request(&self.method, &self.path, headers);
        if !tokens.is_empty() {
            pairs.push((b"x-mulkko-pass".to_vec(), tokens.join(", ").into_bytes()));
        }
        pairs
    }
}

/// What came of a request.
#[derive(Debug, Default)]
pub struct Found {
    /// Rollout, variant and reason, in order of precedence.
    pub decisions: Vec<[String; 3]>,
    /// The response's `x-mulkko-explain`.
    pub explain: Option<String>,
    /// The headers as they go on upstream.
    pub upstream: Vec<Pair>,
}

impl Found {
    /// The value of a header as it goes on upstream, repeated ones joined by `,`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        dry_run::header(&self.upstream, name)
    }
}
