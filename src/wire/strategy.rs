//! The shape of strategies.

use serde::Deserialize;
use serde::de::Deserializer;

use super::{Number, ObjectOnly, some};

objects!(Strategy, Canary, Step, BlueGreen, Rolling, Ab, Share, Dark);

/// How the split moves with time: exactly one member.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Strategy {
    /// A growing share for one variant.
    #[serde(deserialize_with = "some")]
    pub canary: Option<Canary>,
    /// All for one variant, then all for another.
    #[serde(deserialize_with = "some")]
    pub blue_green: Option<BlueGreen>,
    /// Proxy instances move over batch by batch.
    #[serde(deserialize_with = "some")]
    pub rolling: Option<Rolling>,
    /// A fixed split.
    #[serde(deserialize_with = "some")]
    pub ab: Option<Ab>,
    /// Nobody but by pass or `force`.
    #[serde(deserialize_with = "some")]
    pub dark: Option<Dark>,
}

/// `percent`, or `start` and `steps`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Canary {
    /// The variant that grows.
    pub variant: String,
    /// Its share, turned by hand.
    #[serde(default, deserialize_with = "some")]
    pub percent: Option<Number>,
    /// When the first step begins.
    #[serde(default, deserialize_with = "some")]
    pub start: Option<String>,
    /// Its shares by the clock.
    #[serde(default, deserialize_with = "some")]
    pub steps: Option<Vec<Step>>,
}

/// One step of a canary.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Step {
    /// The share.
    pub percent: Number,
    /// How long; absent on the last.
    #[serde(default, deserialize_with = "some")]
    pub hold: Option<String>,
}

/// Before `at` `previous`, from then on `active`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct BlueGreen {
    /// The new variant.
    pub active: String,
    /// The old one.
    pub previous: String,
    /// When; absent: since ever.
    #[serde(default, deserialize_with = "some")]
    pub at: Option<String>,
}

/// Batch `i` of `batches` moves at `start` + `i` · `every`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Rolling {
    /// The variant to which instances move.
    pub variant: String,
    /// When the first batch moves.
    pub start: String,
    /// How many batches.
    pub batches: u64,
    /// How long between two of them.
    pub every: String,
}

/// A fixed split between `start` and `end`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Ab {
    /// The shares.
    pub split: Vec<Share>,
    /// From when, inclusive.
    #[serde(default, deserialize_with = "some")]
    pub start: Option<String>,
    /// Until when, exclusive.
    #[serde(default, deserialize_with = "some")]
    pub end: Option<String>,
}

/// A variant's share.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Share {
    /// The variant.
    pub variant: String,
    /// How much of the split.
    pub percent: Number,
}

/// A variant that only passes and `force` reach.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Dark {
    /// The variant.
    pub variant: String,
}
