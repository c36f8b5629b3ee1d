//! What keys get of flags.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use mulkko::decide::{Request, Values};
use mulkko::flag::{FlagId, Resolution};
use mulkko::ofrep::Context;
use mulkko::policy::Policy;
use serde::Serialize;

use super::counts::Counts;

/// The flags of which it is told.
#[derive(Debug)]
pub struct Told {
    flags: Vec<FlagId>,
    exported: BTreeSet<FlagId>,
}

/// What the keys got of one flag.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfFlag {
    pub flag: String,
    /// Whether requests carry it upstream.
    pub exported: bool,
    /// Whether those have a targeting key for it: the policy has a `flagKey`.
    #[serde(skip)]
    pub has_key: bool,
    pub variants: Vec<Share>,
    /// How many keys for each reason.
    pub reasons: BTreeMap<&'static str, u64>,
}

/// How many keys get a variant.
#[derive(Debug, Serialize)]
pub struct Share {
    /// `null`: the caller's own default.
    pub variant: Option<String>,
    pub keys: u64,
    /// Of all keys, 0 to 1.
    pub share: f64,
}

impl Told {
    /// The flags of these keys; where there are none and `all`, all of the policy.
    ///
    /// # Errors
    /// When the policy has no such flag.
    pub fn of(policy: &Policy, keys: &[String], all: bool) -> Result<Told> {
        for key in keys {
            policy.flag_keyed(key).with_context(|| format!("the policy has no flag `{key}`"))?;
        }
        let is_told = |key: &str| if keys.is_empty() { all } else { keys.iter().any(|it| it == key) };
        let flags = (0..).zip(&policy.flags).filter(|(_, flag)| is_told(&flag.key)).map(|(id, _)| id);
        Ok(Told { flags: flags.collect(), exported: policy.exported_flags.iter().copied().collect() })
    }

    pub fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    /// Counts what they resolve to for a client that asks with a request in this context.
    pub fn count(&self, counts: &mut Counts, policy: &Policy, request: &Request<'_>, context: &Context) {
        let context = context.clone().without_known(&Values::new(policy, *request));
        let values = Values::new(policy, *request);
        for id in &self.flags {
            let Some(flag) = policy.flag(*id) else { continue };
            *counts.flags.entry((*id, values.resolve(flag, Some(&context)))).or_default() += 1;
        }
    }

    /// What was counted.
    pub fn counted(&self, policy: &Policy, counts: &Counts) -> Vec<OfFlag> {
        let mut resolved: BTreeMap<FlagId, Vec<(Resolution, u64)>> = BTreeMap::new();
        for ((id, resolution), keys) in &counts.flags {
            resolved.entry(*id).or_default().push((*resolution, *keys));
        }
        let of = |id: &FlagId| {
            let (flag, found) = (policy.flag(*id)?, resolved.get(id)?);
            let sum = |is: &dyn Fn(&Resolution) -> bool| -> u64 {
                found.iter().filter(|(resolution, _)| is(resolution)).map(|(_, keys)| keys).sum()
            };
            let share = |name: Option<&str>| {
                let variant = |it: &Resolution| it.variant.and_then(|it| flag.variant(it));
                let keys = sum(&|it| variant(it).map(|it| &*it.name) == name);
                Share { variant: name.map(str::to_owned), keys, share: keys as f64 / counts.keys as f64 }
            };
            let mut variants: Vec<Share> = flag.variants.iter().map(|it| share(Some(&it.name))).collect();
            variants.extend(Some(share(None)).filter(|it| it.keys > 0));
            let mut reasons = BTreeMap::new();
            for (resolution, keys) in found {
                let reason = match resolution.why {
                    Ok(reason) => reason.as_str(),
                    Err(error) => error.code(),
                };
                *reasons.entry(reason).or_default() += keys;
            }
            let exported = self.exported.contains(id);
            let has_key = policy.flag_key.is_some();
            Some(OfFlag { flag: flag.key.to_string(), exported, has_key, variants, reasons })
        };
        self.flags.iter().filter_map(of).collect()
    }
}
