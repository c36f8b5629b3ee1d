//! The shape of a plugin configuration.

use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::value::RawValue;

use super::{ObjectOnly, some};

objects!(Plugin, PluginSource, Verify, Secret, Ofrep);

/// The plugin configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Plugin {
    /// What tells policies of one process apart.
    #[serde(deserialize_with = "some")]
    pub name: Option<String>,
    /// Where policies come from.
    #[serde(deserialize_with = "some")]
    pub source: Option<PluginSource>,
    /// A policy that is in force until the first fetch, or for good.
    #[serde(deserialize_with = "some")]
    pub policy: Option<Box<RawValue>>,
    /// Whether requests are believed.
    #[serde(deserialize_with = "some")]
    pub trust: Option<Trust>,
    /// Where policies may route to.
    #[serde(deserialize_with = "some")]
    pub clusters: Option<Vec<String>>,
    /// Who signs policies.
    #[serde(deserialize_with = "some")]
    pub verify: Option<Vec<Verify>>,
    /// Who signs passes.
    pub pass_keys: Vec<Secret>,
    /// Whom passes must be for, where that is asked.
    #[serde(deserialize_with = "some")]
    pub pass_audience: Option<String>,
    /// Whether passes go on upstream from the edge.
    pub forward_passes: bool,
    /// By which keys proxies vouch for their decisions, if they do.
    #[serde(deserialize_with = "some")]
    pub mesh_keys: Option<Vec<Secret>>,
    /// What becomes of users whose variant has a cluster that the proxy does not.
    pub missing_cluster: MissingCluster,
    /// How OFREP is answered, if it is.
    #[serde(deserialize_with = "some")]
    pub ofrep: Option<Ofrep>,
}

/// What becomes of users whose variant has a cluster that the proxy does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingCluster {
    /// They get the default variant.
    #[default]
    Default,
    /// Their requests fail.
    Fail,
}

/// The config cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields)]
pub struct PluginSource {
    /// Envoy's name of it.
    pub cluster: String,
    /// The host that is asked for; the cluster's name where absent.
    #[serde(default, deserialize_with = "some")]
    pub authority: Option<String>,
    /// The path of the policy.
    pub path: String,
    /// How often it is asked for.
    #[serde(default, deserialize_with = "some")]
    pub poll: Option<String>,
    /// How long the server may wait for news, in whole seconds.
    #[serde(default, deserialize_with = "some")]
    pub wait: Option<String>,
    /// How long an answer may take beyond `wait`.
    #[serde(default, deserialize_with = "some")]
    pub timeout: Option<String>,
    /// The token that it is asked with.
    #[serde(default, deserialize_with = "some")]
    pub token: Option<Secret>,
}

/// Whether requests are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// No.
    Edge,
    /// Yes.
    Mesh,
}

/// A key that signs policies.
#[derive(Clone, Debug, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields)]
pub struct Verify {
    /// Its name.
    pub kid: String,
    /// The public key, in base64url.
    pub ed25519: String,
    /// How old its signatures may be when a document is fetched.
    #[serde(default, deserialize_with = "some")]
    pub max_age: Option<String>,
}

/// How OFREP is answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields)]
pub struct Ofrep {
    /// The path below which everything is OFREP's.
    pub prefix: String,
    /// The token that clients must have.
    #[serde(default, deserialize_with = "some")]
    pub bearer: Option<Secret>,
    /// The origins whose scripts may read the answers.
    #[serde(default)]
    pub allow_origins: Vec<String>,
    /// How large a body may be.
    #[serde(default, deserialize_with = "some")]
    pub max_body_bytes: Option<usize>,
}

/// Something that only the environment says.
#[derive(Clone, Debug, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Secret {
    /// The environment variable that holds it.
    pub env: String,
}
