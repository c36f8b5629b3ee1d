//! The shape of guards.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected};

use super::{ObjectOnly, some};
use crate::json::Json;

objects!(Guard, Errors, Latency);

/// What takes the traffic back. Where neither `errors` nor `latency` stands, both are judged.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Guard {
    /// How likely a healthy variant may be given up, ever.
    #[serde(deserialize_with = "some")]
    pub alpha: Option<f64>,
    /// How many times the default's odds of a bad request are tolerated.
    #[serde(deserialize_with = "some")]
    pub margin: Option<f64>,
    /// How errors are judged.
    #[serde(deserialize_with = "some")]
    pub errors: Option<Errors>,
    /// How latency is judged.
    #[serde(deserialize_with = "some")]
    pub latency: Option<Latency>,
    /// How long requests are gathered before they are judged.
    #[serde(deserialize_with = "some")]
    pub window: Option<String>,
    /// How long a variant's first requests do not count.
    #[serde(deserialize_with = "some")]
    pub warmup: Option<String>,
    /// What a breach leads to.
    #[serde(default)]
    pub on_breach: OnBreach,
}

/// What a breach leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnBreach {
    /// The variant gives way to the default.
    #[default]
    Rollback,
    /// It is told.
    Report,
}

/// How errors are judged.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Errors {
    /// The share of errors that is tolerated whatever the default's is.
    #[serde(deserialize_with = "some")]
    pub floor: Option<f64>,
    /// Which outcomes are errors.
    #[serde(deserialize_with = "some")]
    pub statuses: Option<Statuses>,
    /// Which of gRPC's are.
    #[serde(deserialize_with = "some")]
    pub grpc_statuses: Option<Vec<u64>>,
    /// How many a variant must have had.
    #[serde(deserialize_with = "some")]
    pub min_events: Option<u64>,
}

/// The most statuses that are read: one more than a guard may have.
const MOST_READ: usize = 101;

/// Statuses and ends of requests: numbers and texts in a list, or texts between commas.
#[derive(Clone, Debug)]
pub struct Statuses(pub Vec<Box<str>>);

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = |found: &Json| {
            D::Error::invalid_type(Unexpected::Other(found.kind()), &"statuses in a list or a text")
        };
        match Json::deserialize(deserializer)? {
            Json::Text(text) => {
                Ok(Statuses(text.split(',').take(MOST_READ).map(|text| text.trim().into()).collect()))
            }
            Json::List(items) => {
                let text = |item: Json| match item {
                    Json::Text(text) => Ok(text),
                    Json::Number(number) => Ok(number.to_string().into()),
                    other => Err(expected(&other)),
                };
                items.into_iter().map(text).collect::<Result<_, _>>().map(Statuses)
            }
            other => Err(expected(&other)),
        }
    }
}

/// How latency is judged.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Latency {
    /// The quantiles of the default's latency above which a response is slow.
    #[serde(deserialize_with = "some")]
    pub quantiles: Option<Vec<f64>>,
    /// How much slower than the default's median a slow response is at least.
    #[serde(deserialize_with = "some")]
    pub min_delta: Option<String>,
    /// How many responses of the default the 99th percentile needs.
    #[serde(deserialize_with = "some")]
    pub min_baseline: Option<u64>,
}
