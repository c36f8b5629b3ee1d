//! The shape of shadows.

use std::fmt;

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::{Number, ObjectOnly, some};
use crate::json::Json;

objects!(Shadow, Compare, Secondary);

/// A copy of some requests, whose response nobody sees.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields)]
pub struct Shadow {
    /// The cluster that gets the copy.
    pub cluster: String,
    /// The share of keys whose requests are copied.
    pub percent: Number,
    /// The targeting key; `request` where absent, so that each request is drawn for itself.
    #[serde(default, deserialize_with = "some")]
    pub key: Option<String>,
    /// Which requests are copied.
    #[serde(default, deserialize_with = "some")]
    pub when: Option<Json>,
    /// With which methods; `GET` and `HEAD` where absent.
    #[serde(default, deserialize_with = "some")]
    pub methods: Option<Vec<String>>,
    /// Who copies.
    #[serde(default)]
    pub mode: ShadowMode,
    /// The longest body that is copied to be compared, and the longest of a response that is compared whole.
    #[serde(default, deserialize_with = "some")]
    pub max_body_bytes: Option<u64>,
    /// What becomes of requests whose bodies are longer, or as long as nobody knows.
    #[serde(default)]
    pub large_bodies: LargeBodies,
    /// The most copies at once, in one worker.
    #[serde(default, deserialize_with = "some")]
    pub max_in_flight: Option<u64>,
    /// How long a copy may take.
    #[serde(default, deserialize_with = "some")]
    pub timeout: Option<String>,
    /// Whether the user's credentials go along, or which headers beside `cookie` and `authorization` they are.
    #[serde(default)]
    pub credentials: Credentials,
    /// What of the responses is compared.
    #[serde(default, deserialize_with = "some")]
    pub compare: Option<Compare>,
}

/// What becomes of the user's credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(untagged))]
pub enum Credentials {
    /// Whether they go along.
    GoAlong(bool),
    /// They do not, and these are some as well: names of headers, `*` at the end of one stands for any text.
    Are(Vec<String>),
}

impl Default for Credentials {
    fn default() -> Self {
        Credentials::GoAlong(false)
    }
}

impl<'de> Deserialize<'de> for Credentials {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CredentialsVisitor;
        impl<'de> Visitor<'de> for CredentialsVisitor {
            type Value = Credentials;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a boolean or an array of names")
            }
            fn visit_bool<E: Error>(self, goes_along: bool) -> Result<Credentials, E> {
                Ok(Credentials::GoAlong(goes_along))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, names: A) -> Result<Credentials, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(names)).map(Credentials::Are)
            }
        }
        deserializer.deserialize_any(CredentialsVisitor)
    }
}

/// Who copies requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ShadowMode {
    /// Envoy, which throws the response away.
    #[default]
    Mirror,
    /// The plugin, which compares it.
    Compare,
}

/// What becomes of requests whose bodies are too long to be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LargeBodies {
    /// They have no copy.
    #[default]
    Skip,
    /// Envoy copies them.
    Mirror,
}

/// What of the responses is compared.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Compare {
    /// Which headers.
    #[serde(deserialize_with = "some")]
    pub headers: Option<Vec<String>>,
    /// Which parts of JSON are not.
    pub ignore_paths: Vec<String>,
    /// How the items of arrays are called.
    pub arrays: Arrays,
    /// Another copy of the stable version, whose answers tell what differs anyway.
    #[serde(deserialize_with = "some")]
    pub secondary: Option<Secondary>,
    /// Whether values may be seen where differences are.
    pub show_values: bool,
}

/// How the items of arrays are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Arrays {
    /// By their index.
    #[default]
    Index,
    /// All of them `*`, in whatever order they stand.
    Any,
}

/// Another copy of the stable version.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields)]
pub struct Secondary {
    /// Its cluster.
    pub cluster: String,
    /// The share of copied requests that it gets too.
    pub percent: Number,
}
