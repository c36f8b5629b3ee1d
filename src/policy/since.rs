//! Since which version of the plugin each member of a policy is known: older ones refuse a policy that has it.
//!
//! Whoever adds a member raises the minor version, and adds a row to `SINCE`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::finding::Path;

/// The members that came with each version, the oldest first; `*` stands for any name and any item.
const SINCE: &[(Version, &[&str])] = &[(Version(0, 1, 0), &FIRST)];

/// The members of the first version.
#[rustfmt::skip]
const FIRST: [&str; 132] = [
    "$evaluators",
    "$schema",
    "apiVersion",
    "attributes",
    "attributes.*.*.cookie",
    "attributes.*.*.filterState",
    "attributes.*.*.header",
    "attributes.*.*.metadata",
    "attributes.*.*.property",
    "attributes.*.*.query",
    "cohorts",
    "flagKey",
    "flags",
    "flags.*.defaultVariant",
    "flags.*.key",
    "flags.*.metadata",
    "flags.*.state",
    "flags.*.targeting",
    "flags.*.variants",
    "fractional",
    "holdouts",
    "holdouts.*.key",
    "holdouts.*.name",
    "holdouts.*.percent",
    "keys",
    "keys.*.from",
    "keys.*.from.*.cookie",
    "keys.*.from.*.filterState",
    "keys.*.from.*.header",
    "keys.*.from.*.metadata",
    "keys.*.from.*.property",
    "keys.*.from.*.query",
    "keys.*.mint",
    "keys.*.mint.cookie",
    "keys.*.mint.maxAge",
    "layers",
    "layers.*.key",
    "metadata",
    "name",
    "revision",
    "rollouts",
    "rollouts.*.default",
    "rollouts.*.force",
    "rollouts.*.force.*.variant",
    "rollouts.*.force.*.when",
    "rollouts.*.guard",
    "rollouts.*.guard.alpha",
    "rollouts.*.guard.errors",
    "rollouts.*.guard.errors.floor",
    "rollouts.*.guard.errors.grpcStatuses",
    "rollouts.*.guard.errors.minEvents",
    "rollouts.*.guard.errors.statuses",
    "rollouts.*.guard.latency",
    "rollouts.*.guard.latency.minBaseline",
    "rollouts.*.guard.latency.minDelta",
    "rollouts.*.guard.latency.quantiles",
    "rollouts.*.guard.margin",
    "rollouts.*.guard.onBreach",
    "rollouts.*.guard.warmup",
    "rollouts.*.guard.window",
    "rollouts.*.holdout",
    "rollouts.*.hostnames",
    "rollouts.*.key",
    "rollouts.*.layer",
    "rollouts.*.layer.from",
    "rollouts.*.layer.name",
    "rollouts.*.layer.to",
    "rollouts.*.matches",
    "rollouts.*.matches.*.headers",
    "rollouts.*.matches.*.headers.*.name",
    "rollouts.*.matches.*.headers.*.type",
    "rollouts.*.matches.*.headers.*.value",
    "rollouts.*.matches.*.method",
    "rollouts.*.matches.*.path",
    "rollouts.*.matches.*.path.type",
    "rollouts.*.matches.*.path.value",
    "rollouts.*.matches.*.queryParams",
    "rollouts.*.matches.*.queryParams.*.name",
    "rollouts.*.matches.*.queryParams.*.type",
    "rollouts.*.matches.*.queryParams.*.value",
    "rollouts.*.name",
    "rollouts.*.seed",
    "rollouts.*.shadow",
    "rollouts.*.shadow.cluster",
    "rollouts.*.shadow.compare",
    "rollouts.*.shadow.compare.arrays",
    "rollouts.*.shadow.compare.headers",
    "rollouts.*.shadow.compare.ignorePaths",
    "rollouts.*.shadow.compare.secondary",
    "rollouts.*.shadow.compare.secondary.cluster",
    "rollouts.*.shadow.compare.secondary.percent",
    "rollouts.*.shadow.compare.showValues",
    "rollouts.*.shadow.credentials",
    "rollouts.*.shadow.key",
    "rollouts.*.shadow.largeBodies",
    "rollouts.*.shadow.maxBodyBytes",
    "rollouts.*.shadow.maxInFlight",
    "rollouts.*.shadow.methods",
    "rollouts.*.shadow.mode",
    "rollouts.*.shadow.percent",
    "rollouts.*.shadow.timeout",
    "rollouts.*.shadow.when",
    "rollouts.*.state",
    "rollouts.*.strategy",
    "rollouts.*.strategy.ab",
    "rollouts.*.strategy.ab.end",
    "rollouts.*.strategy.ab.split",
    "rollouts.*.strategy.ab.split.*.percent",
    "rollouts.*.strategy.ab.split.*.variant",
    "rollouts.*.strategy.ab.start",
    "rollouts.*.strategy.blueGreen",
    "rollouts.*.strategy.blueGreen.active",
    "rollouts.*.strategy.blueGreen.at",
    "rollouts.*.strategy.blueGreen.previous",
    "rollouts.*.strategy.canary",
    "rollouts.*.strategy.canary.percent",
    "rollouts.*.strategy.canary.start",
    "rollouts.*.strategy.canary.steps",
    "rollouts.*.strategy.canary.steps.*.hold",
    "rollouts.*.strategy.canary.steps.*.percent",
    "rollouts.*.strategy.canary.variant",
    "rollouts.*.strategy.dark",
    "rollouts.*.strategy.dark.variant",
    "rollouts.*.strategy.rolling",
    "rollouts.*.strategy.rolling.batches",
    "rollouts.*.strategy.rolling.every",
    "rollouts.*.strategy.rolling.start",
    "rollouts.*.strategy.rolling.variant",
    "rollouts.*.variants",
    "rollouts.*.variants.*.cluster",
    "rollouts.*.variants.*.headers",
    "rollouts.*.when",
];

/// A version of the plugin: major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// The version before plugins told theirs: of one that tells none, no more is known.
    pub const UNTOLD: Version = Version(0, 1, 0);

    /// Reads `0.1.0`; what follows a `-` or `+` does not count.
    #[must_use]
    pub fn parse(text: &str) -> Option<Version> {
        let numbers = text.split(['-', '+']).next()?;
        let mut numbers = numbers.split('.').map(|number| number.parse().ok());
        let version = Version(numbers.next()??, numbers.next()??, numbers.next()??);
        numbers.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A member of a policy that plugins before a version do not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The version.
    pub since: Version,
    /// Where the first such member stands.
    pub place: String,
}

/// What a policy needs, the oldest version first: for each version the first member that came with it. Nothing of what is
/// no JSON.
#[must_use]
pub fn needs(policy: &[u8]) -> Vec<Need> {
    let mut known = Known::default();
    for (since, members) in SINCE {
        members.iter().for_each(|member| known.add(member, *since));
    }
    let mut found = Vec::new();
    let walk = Walk { known: &known, place: &Path::Root, found: &mut found };
    let mut reader = serde_json::Deserializer::from_slice(policy);
    if walk.deserialize(&mut reader).is_err() {
        return Vec::new();
    }
    found.sort_by_key(|need| need.since);
    found
}

/// The members of a member, and since when it is known.
#[derive(Debug, Default)]
struct Known {
    since: Option<Version>,
    members: BTreeMap<&'static str, Known>,
}

impl Known {
    fn add(&mut self, member: &'static str, since: Version) {
        let place = member.split('.').fold(self, |known, name| known.members.entry(name).or_default());
        place.since = Some(since);
    }

    fn member(&self, name: &str) -> Option<&Known> {
        self.members.get(name).or_else(|| self.members.get("*"))
    }
}

/// Goes over the value at a place, and keeps none of it.
struct Walk<'a> {
    known: &'a Known,
    place: &'a Path<'a>,
    found: &'a mut Vec<Need>,
}

impl Walk<'_> {
    fn enter(&mut self, known: &Known, place: &Path<'_>) {
        if let Some(since) = known.since.filter(|since| self.found.iter().all(|need| need.since != *since)) {
            self.found.push(Need { since, place: place.to_string() });
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.known.members.is_empty() {
            true => deserializer.deserialize_ignored_any(IgnoredAny).map(drop),
            false => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Walk { known, place, found } = self;
        let Some(known) = known.member("*") else {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        let mut i = 0;
        while items.next_element_seed(Walk { known, place: &place.item(i), found: &mut *found })?.is_some() {
            i += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            let Some(known) = self.known.member(&name) else {
                members.next_value::<IgnoredAny>()?;
                continue;
            };
            let place = self.place.field(&name);
            self.enter(known, &place);
            members.next_value_seed(Walk { known, place: &place, found: &mut *self.found })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_three_numbers() {
        for (text, expected) in [
            ("0.1.0", Some(Version(0, 1, 0))),
            ("1.20.300", Some(Version(1, 20, 300))),
            ("0.2.0-rc.1", Some(Version(0, 2, 0))),
            ("0.2.0+build", Some(Version(0, 2, 0))),
            ("0.2", None),
            ("0.2.0.1", None),
            ("", None),
            ("x", None),
            ("99999999999.0.0", None),
        ] {
            assert_eq!(Version::parse(text), expected, "{text}");
        }
        assert!(Version(0, 10, 0) > Version(0, 9, 9));
    }

    #[test]
    fn the_first_member_of_each_version_is_what_a_policy_needs() {
        let mut known = Known::default();
        for (member, since) in [
            ("rollouts", Version(0, 1, 0)),
            ("rollouts.*.name", Version(0, 1, 0)),
            ("rollouts.*.new", Version(0, 3, 0)),
            ("keys.*.new", Version(0, 2, 0)),
        ] {
            known.add(member, since);
        }
        for (policy, expected) in [
            ("{}", &[][..]),
            (r#"{"metadata": {"new": 1}, "flags": {"new": {"new": 1}}}"#, &[]),
            (r#"{"rollouts": 7}"#, &["0.1.0 rollouts"]),
            (
                r#"{"rollouts": [{"name": "a"}, {"when": {"new": 1}, "new": {"new": 2}}, {"new": 1}]}"#,
                &["0.1.0 rollouts", "0.3.0 rollouts[1].new"],
            ),
            (r#"{"keys": {"new": {"from": []}, "b": {"new": null}}}"#, &["0.2.0 keys.b.new"]),
        ] {
            let mut found = Vec::new();
            let walk = Walk { known: &known, place: &Path::Root, found: &mut found };
            walk.deserialize(&mut serde_json::Deserializer::from_str(policy)).unwrap();
            let found: Vec<_> = found.iter().map(|need| format!("{} {}", need.since, need.place)).collect();
            assert_eq!(found, expected, "{policy}");
        }
        assert_eq!(needs(b"{"), []);
    }

    #[test]
    fn no_member_is_newer_than_the_plugin() {
        let own = Version::parse(env!("CARGO_PKG_VERSION")).unwrap();
        assert!(SINCE.is_sorted_by_key(|(since, _)| since));
        assert!(SINCE.last().is_some_and(|(since, _)| *since <= own));
    }

    #[test]
    #[cfg(feature = "schema")]
    fn every_member_of_the_schema_has_its_version() {
        fn walk(
            schema: &serde_json::Value,
            whole: &serde_json::Value,
            place: &str,
            depth: usize,
            all: &mut Vec<String>,
        ) {
            if depth > 20 {
                return;
            }
            if let Some(pointer) = schema["$ref"].as_str().and_then(|it| it.strip_prefix('#')) {
                walk(whole.pointer(pointer).unwrap(), whole, place, depth + 1, all);
            }
            for one in ["allOf", "anyOf", "oneOf"].iter().filter_map(|it| schema[it].as_array()).flatten() {
                walk(one, whole, place, depth + 1, all);
            }
            for (name, member) in schema["properties"].as_object().into_iter().flatten() {
                let place = [place, name].join(if place.is_empty() { "" } else { "." });
                all.push(place.clone());
                walk(member, whole, &place, depth + 1, all);
            }
            for items in ["items", "additionalProperties"] {
                walk(&schema[items], whole, &format!("{place}.*"), depth + 1, all);
            }
        }
        let schema = schemars::schema_for!(crate::wire::Document).to_value();
        let mut all = Vec::new();
        walk(&schema, &schema, "", 0, &mut all);
        let known: Vec<_> = SINCE.iter().flat_map(|(_, members)| *members).copied().collect();
        let missing: Vec<_> = all.iter().filter(|member| !known.contains(&&***member)).collect();
        assert!(all.len() > 100, "{all:?}");
        assert!(missing.is_empty(), "a new minor version, and a row of `SINCE`, for {missing:?}");
    }
}
