//! A policy document at once, for who looks at the whole: the command's schema, lints and explanations.

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::value::RawValue;

use super::{Entries, Flag, Fractional, Holdout, Key, Layer, Rollout, Scalar, Source, some};
use crate::json::Json;
#[cfg(feature = "schema")]
use crate::policy::MAX_REVISION;

/// A policy document as a whole. The plugin never reads one so: it reads a piece at a time.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(
    feature = "schema",
    schemars(
        title = "mulkko policy",
        description = "Decides, for each request, which variant of a rollout answers and which values flags have."
    )
)]
pub struct Document {
    /// The format: `mulkko/v1`.
    #[cfg_attr(feature = "schema", schemars(extend("const" = "mulkko/v1")))]
    #[serde(deserialize_with = "some")]
    pub api_version: Option<String>,
    /// What the policy is called.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[a-z][a-z0-9-]{0,62}$")))]
    #[serde(deserialize_with = "some")]
    pub name: Option<String>,
    /// Which state of the document this is: a lower one never replaces a higher one.
    #[cfg_attr(feature = "schema", schemars(range(max = MAX_REVISION)))]
    #[serde(deserialize_with = "some")]
    pub revision: Option<u64>,
    /// What is told about all flags.
    #[serde(deserialize_with = "some")]
    pub metadata: Option<Entries<Scalar>>,
    /// The schema.
    #[serde(rename = "$schema")]
    #[serde(deserialize_with = "some")]
    pub schema: Option<String>,
    /// Which of flagd's arithmetics `fractional` uses.
    #[serde(deserialize_with = "some")]
    pub fractional: Option<Fractional>,
    /// Targeting keys by name.
    #[serde(deserialize_with = "some")]
    pub keys: Option<Entries<Key>>,
    /// The targeting key under which flags are evaluated for a request.
    #[serde(deserialize_with = "some")]
    pub flag_key: Option<String>,
    /// Named values of a request, for conditions.
    #[serde(deserialize_with = "some")]
    pub attributes: Option<Entries<Vec<Source>>>,
    /// Named expressions, as flagd has them.
    #[serde(rename = "$evaluators")]
    #[serde(deserialize_with = "some")]
    pub evaluators: Option<Entries<Json>>,
    /// Named conditions.
    #[serde(deserialize_with = "some")]
    pub cohorts: Option<Entries<Json>>,
    /// Layers by name.
    #[serde(deserialize_with = "some")]
    pub layers: Option<Entries<Layer>>,
    /// What keeps keys out of every canary and experiment.
    #[serde(deserialize_with = "some")]
    pub holdouts: Option<Vec<Holdout>>,
    /// Flags, by key or with their keys.
    #[serde(deserialize_with = "some")]
    pub flags: Option<Flags>,
    /// Rollouts.
    #[serde(deserialize_with = "some")]
    pub rollouts: Option<Vec<Rollout>>,
}

/// Flags, by key or each with its key.
#[derive(Clone, Debug, Default)]
pub struct Flags(pub Vec<(Box<str>, Flag)>);

impl<'de> Deserialize<'de> for Flags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        if !json.get().starts_with('[') {
            return serde_json::from_str::<Entries<Flag>>(json.get())
                .map(|it| Flags(it.0))
                .map_err(D::Error::custom);
        }
        let flags: Vec<Flag> = serde_json::from_str(json.get()).map_err(D::Error::custom)?;
        let keyed = flags.into_iter().map(|flag| Some((flag.key.as_deref()?.into(), flag)));
        keyed.collect::<Option<_>>().map(Flags).ok_or_else(|| D::Error::missing_field("key"))
    }
}
