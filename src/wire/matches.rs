//! The shape of matches: the Gateway API's `HTTPRouteMatch`.

use serde::Deserialize;
use serde::de::Deserializer;

use super::{ObjectOnly, some};

objects!(Match, PathMatch, ValueMatch);

/// What requests a rollout is about, as in the Gateway API's `HTTPRouteMatch`: all members must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Match {
    /// The path.
    #[serde(deserialize_with = "some")]
    pub path: Option<PathMatch>,
    /// The method.
    #[serde(deserialize_with = "some")]
    pub method: Option<String>,
    /// Headers.
    pub headers: Vec<ValueMatch>,
    /// Query parameters.
    pub query_params: Vec<ValueMatch>,
}

/// How a path is matched.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct PathMatch {
    /// In which way.
    #[serde(rename = "type", default)]
    pub kind: PathMatchType,
    /// What is matched; `/` when absent.
    #[serde(default, deserialize_with = "some")]
    pub value: Option<String>,
}

/// The Gateway API's path match types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PathMatchType {
    /// The whole path.
    Exact,
    /// Whole segments from the start.
    #[default]
    PathPrefix,
    /// A regular expression over the whole path.
    RegularExpression,
}

/// How a header or a query parameter is matched.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct ValueMatch {
    /// In which way.
    #[serde(rename = "type", default)]
    pub kind: ValueMatchType,
    /// Of which header or parameter.
    pub name: String,
    /// The value or pattern.
    pub value: String,
}

/// The Gateway API's match types of headers and query parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ValueMatchType {
    /// The whole value.
    #[default]
    Exact,
    /// A regular expression over the whole value.
    RegularExpression,
}
