//! What the JSON of a policy and of a plugin configuration may look like: shapes only, no logic.
//!
//! Every type refuses members that it does not know. What the values must be is said by the compiled types, which are
//! made from these. `null` is a value like any other and stands for an absent member nowhere but in flags.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

use crate::json::Json;

/// An object whose members are names: in document order, and with the names that stand twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Entries<T>(pub Vec<(Box<str>, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Entries(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
            type Value = Entries<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Entries<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = members.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

/// A number as it is written, so that percentages never go through a float.
#[derive(Clone, Debug)]
pub struct Number(pub Box<RawValue>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Number)
    }
}

/// A JSON value, and how it is written.
#[derive(Clone, Debug)]
pub struct Value {
    /// What it is.
    pub value: Json,
    /// How it is written.
    pub json: Box<RawValue>,
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let value = serde_json::from_str(json.get()).map_err(D::Error::custom)?;
        Ok(Value { value, json })
    }
}

/// A boolean, a number or a text: what metadata is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// A boolean.
    Bool(bool),
    /// A number, as it is written.
    Number(Box<str>),
    /// A text.
    Text {
        /// What it says.
        value: Box<str>,
        /// How it is written.
        json: Box<str>,
    },
}

impl Scalar {
    /// It as JSON.
    #[must_use]
    pub fn json(&self) -> &str {
        match self {
            Scalar::Bool(true) => "true",
            Scalar::Bool(false) => "false",
            Scalar::Number(json) | Scalar::Text { json, .. } => json,
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Value { value, json } = Value::deserialize(deserializer)?;
        match value {
            Json::Bool(value) => Ok(Scalar::Bool(value)),
            Json::Number(_) => Ok(Scalar::Number(json.get().into())),
            Json::Text(value) => Ok(Scalar::Text { value, json: json.get().into() }),
            other => {
                Err(D::Error::invalid_type(Unexpected::Other(other.kind()), &"a boolean, a number or a text"))
            }
        }
    }
}

/// For an optional member: where it stands, it must be a `T`; `null` is not "absent".
pub(crate) fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Has the types read objects only: by itself serde reads an array as a struct too, member by member.
macro_rules! objects {
    ($($name:ident),* $(,)?) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $name::deserialize(ObjectOnly(deserializer))
            }
        }
    )*};
}

mod document;
mod guard;
mod matches;
mod plugin;
#[cfg(feature = "schema")]
pub mod schema;
mod shadow;
mod strategy;

pub use document::{Document, Flags};
pub use guard::{Errors, Guard, Latency, OnBreach, Statuses};
pub use matches::{Match, PathMatch, PathMatchType, ValueMatch, ValueMatchType};
pub use plugin::{MissingCluster, Ofrep, Plugin, PluginSource, Secret, Trust, Verify};
pub use shadow::{Arrays, Compare, Credentials, LargeBodies, Secondary, Shadow, ShadowMode};
pub use strategy::{Ab, BlueGreen, Canary, Dark, Rolling, Share, Step, Strategy};

objects!(Key, Mint, Source, Layer, Holdout, Rollout, Variant, Force, Slice, Flag);

struct ObjectOnly<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for ObjectOnly<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A targeting key: where it comes from, and whether a missing one is minted.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Key {
    /// Sources in order: the first that is present and not empty wins.
    pub from: Vec<Source>,
    /// Draw an id, and keep it in a cookie, where no source has one.
    #[serde(default, deserialize_with = "some")]
    pub mint: Option<Mint>,
}

/// The cookie that keeps a minted id.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields)]
pub struct Mint {
    /// Its name.
    pub cookie: String,
    /// How long browsers keep it.
    pub max_age: String,
}

/// Where a value comes from: exactly one member.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Source {
    /// A request header.
    #[serde(deserialize_with = "some")]
    pub header: Option<String>,
    /// A cookie.
    #[serde(deserialize_with = "some")]
    pub cookie: Option<String>,
    /// A query parameter.
    #[serde(deserialize_with = "some")]
    pub query: Option<String>,
    /// Dynamic metadata: the filter's namespace, then the way down.
    #[serde(deserialize_with = "some")]
    pub metadata: Option<Vec<String>>,
    /// A property (an Envoy attribute), name by name.
    #[serde(deserialize_with = "some")]
    pub property: Option<Vec<String>>,
    /// A filter state object.
    #[serde(deserialize_with = "some")]
    pub filter_state: Option<String>,
}

/// A layer: rollouts in slices of it never meet in a user.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Layer {
    /// The targeting key that is hashed.
    pub key: String,
}

/// Keys that are kept out of every canary and experiment.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Holdout {
    /// Its name, and what is hashed with the key.
    pub name: String,
    /// The targeting key that is hashed.
    pub key: String,
    /// How many.
    pub percent: Number,
}

/// One named decision about which version answers.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollout {
    /// Its name.
    pub name: String,
    /// Whether anybody is elsewhere than at `default`.
    #[serde(default)]
    pub state: State,
    /// Hosts; none matches all.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// Alternatives; none matches all.
    #[serde(default)]
    pub matches: Vec<Match>,
    /// The targeting key.
    #[serde(default, deserialize_with = "some")]
    pub key: Option<String>,
    /// Who is eligible.
    #[serde(default, deserialize_with = "some")]
    pub when: Option<Json>,
    /// What a variant does, by name.
    pub variants: Entries<Variant>,
    /// The variant of everyone who is not elsewhere.
    pub default: String,
    /// How the split moves with time.
    pub strategy: Strategy,
    /// Who gets a variant whatever the split says.
    #[serde(default)]
    pub force: Vec<Force>,
    /// Replaces the name in the hash.
    #[serde(default, deserialize_with = "some")]
    pub seed: Option<String>,
    /// The part of a layer that this rollout has.
    #[serde(default, deserialize_with = "some")]
    pub layer: Option<Slice>,
    /// Whether holdouts concern this canary.
    #[serde(default, deserialize_with = "some")]
    pub holdout: Option<bool>,
    /// What takes the traffic back.
    #[serde(default, deserialize_with = "some")]
    pub guard: Option<Guard>,
    /// A copy of some requests, whose response nobody sees.
    #[serde(default, deserialize_with = "some")]
    pub shadow: Option<Shadow>,
}

/// Whether a rollout or a flag is evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// It is.
    #[default]
    Enabled,
    /// It is not.
    Disabled,
}

/// What a variant does to a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", deny_unknown_fields, default)]
pub struct Variant {
    /// The cluster that answers.
    #[serde(deserialize_with = "some")]
    pub cluster: Option<String>,
    /// Request headers that are set.
    pub headers: Entries<String>,
}

/// Who gets a variant whatever the split says.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Force {
    /// The condition.
    pub when: Json,
    /// The variant.
    pub variant: String,
}

/// The part of a layer that a rollout has: keys from `from` up to, not including, `to` percent.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Slice {
    /// The layer.
    pub name: String,
    /// The lower end.
    pub from: Number,
    /// The upper end.
    pub to: Number,
}

/// Which of flagd's arithmetics `fractional` uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Fractional {
    /// That of flagd.
    #[default]
    V2,
    /// That of its later libraries.
    V3,
}

/// A flag, by its shape. Members that stand here for nobody are flagd's to add.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct Flag {
    /// Its name, where flags are an array.
    #[serde(default, deserialize_with = "some")]
    pub key: Option<String>,
    /// Whether it is evaluated.
    pub state: State,
    /// Its values by name.
    pub variants: Entries<Value>,
    /// The variant where targeting names none; `null` and absent: the caller's own default.
    #[serde(default)]
    pub default_variant: Option<String>,
    /// Which variant.
    #[serde(default)]
    pub targeting: Option<Json>,
    /// What is told about it.
    #[serde(default, deserialize_with = "some")]
    pub metadata: Option<Entries<Scalar>>,
}
