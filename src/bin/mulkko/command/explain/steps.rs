//! The steps of each decision, as the engine takes them.

use std::cell::RefCell;

use mulkko::bucket::Bucket;
use mulkko::decide::{Shadowing, Step, Values, Watch};
use mulkko::policy::{Policy, Rollout, RolloutId, TargetingKey};
use mulkko::schedule::{Split, VariantId};
use mulkko::shadow::Shadow;
use serde::Serialize;

use super::super::shares::{self, percent};
use super::conditions::{self, Conditions};
use super::timeline::{self, Change};

/// A step on the way to a decision.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// What was asked: `pass`, `state`, `followed`, `force`, `when`, `holdout`, `layer`, `split`, `key`, `bucket`, `guard`, `shadow`.
    pub step: &'static str,
    /// How it ended.
    pub ended: String,
    /// Whether it held, or the request was inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holds: Option<bool>,
    /// Where the key lies among the 2³² buckets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<u32>,
    /// The condition that was asked, with its parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<conditions::Told>,
}

/// What is told of one rollout.
#[derive(Clone, Debug, Default)]
pub struct OfRollout {
    pub steps: Vec<Told>,
    /// When the key moves from one variant to another, where there is a key.
    pub timeline: Vec<Change>,
}

/// Notes the steps of all decisions for a request.
pub struct Notes<'p> {
    pub policy: &'p Policy,
    pub conditions: &'p Conditions,
    pub has_passes: bool,
    /// The names of the targeting keys.
    pub key_names: &'p [Box<str>],
    /// The id that stands for one that a proxy would draw.
    pub drawn: &'p str,
    pub noted: RefCell<Vec<(RolloutId, OfRollout)>>,
}

impl Watch for Notes<'_> {
    fn took(&self, id: RolloutId, step: Step<'_>, values: &Values<'_>) {
        let Some(rollout) = self.policy.rollout(id) else { return };
        let told = values.budget().apart(|| self.told(rollout, step, values));
        let mut noted = self.noted.borrow_mut();
        let at = noted.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
            noted.push((id, OfRollout::default()));
            noted.len() - 1
        });
        let Some((_, of)) = noted.get_mut(at) else { return };
        of.steps.extend(told);
        let key = || values.budget().apart(|| values.known_key(rollout.key));
        if let (Step::Split(_), Some(key)) = (step, key()) {
            of.timeline = timeline::of(rollout, rollout.seed.bucket(key));
        }
    }
}

impl Notes<'_> {
    fn told(&self, rollout: &Rollout, step: Step<'_>, values: &Values<'_>) -> Option<Told> {
        let plain = |step, ended: String| Told { step, ended, holds: None, bucket: None, condition: None };
        let name = |variant: VariantId| rollout.variant(variant).map_or("", |it| &it.name);
        Some(match step {
            Step::Passed(Some(variant)) => plain("pass", format!("forces {}", name(variant))),
            Step::Passed(None) if self.has_passes => plain("pass", "forces nothing here".to_owned()),
            Step::Passed(None) | Step::Enabled(true) | Step::Followed(None) | Step::RolledBack(false) => {
                return None;
            }
            Step::Enabled(false) => plain("state", "DISABLED".to_owned()),
            Step::Followed(Some(variant)) => {
                plain("followed", format!("an earlier hop gave {}", name(variant)))
            }
            Step::Forced(i, holds) => {
                let variant = rollout.force.get(i).map_or("", |(_, variant)| name(*variant));
                let ended = if holds {
                    format!("holds: {variant}")
                } else {
                    format!("does not hold (it is for {variant})")
                };
                let condition = self.conditions.force(&rollout.name, i, rollout.key, values);
                Told { holds: Some(holds), condition, ..plain("force", ended) }
            }
            Step::When(holds) => {
                let ended = if holds { "is met" } else { "is not met" };
                let condition = self.conditions.when(&rollout.name, rollout.key, values);
                Told { holds: Some(holds), condition, ..plain("when", ended.to_owned()) }
            }
            Step::Holdout(i, bucket, is_held) => {
                let end = self.policy.holdouts.get(i).map_or(0, |it| it.end.0);
                within(plain("holdout", String::new()), bucket, is_held, 0, end)
            }
            Step::Layer(bucket, is_inside) => {
                let (from, to) = rollout.slice.as_ref().map_or((0, 0), |it| (it.from.0, it.to.0));
                within(plain("layer", String::new()), bucket, is_inside, from, to)
            }
            Step::Split(split) => plain("split", shares::told(rollout, split)),
            Step::Hashed(None) => {
                plain("key", format!("the request has none: {}", self.sources(rollout.key)))
            }
            Step::Hashed(Some((key, bucket))) => {
                let owner = owner(rollout, rollout.schedule.at(values.now_ms()), bucket);
                let key = self.key(rollout.key, key);
                let ended = format!("{key} lies at {} {owner}", percent(bucket.0.into()));
                Told { bucket: Some(bucket.0), ..plain("key", ended) }
            }
            Step::RolledBack(true) => {
                plain("guard", format!("has rolled the variant back to {}", name(rollout.default)))
            }
            Step::Missing => plain("cluster", format!("is missing: {}", name(rollout.default))),
            Step::Exhausted => plain("budget", format!("is used up: {}", name(rollout.default))),
            Step::Shadow(shadowing) => self.shadow(rollout.shadow.as_deref()?, shadowing),
        })
    }

    fn shadow(&self, shadow: &Shadow, shadowing: Shadowing) -> Told {
        let within = |bucket: Bucket, side| {
            format!("the key lies at {}, {side} 0 % to {}", percent(bucket.0.into()), percent(shadow.end.0))
        };
        let (ended, bucket) = match shadowing {
            Shadowing::NotDefault => ("no copy: the variant is not the default".to_owned(), None),
            Shadowing::Method => (format!("no copy: only of {}", shadow.methods.join(", ")), None),
            Shadowing::When => ("no copy: its `when` is not met".to_owned(), None),
            Shadowing::NoKey => (
                format!("no copy: the request has none: {}", self.sources(TargetingKey::Key(shadow.key))),
                None,
            ),
            Shadowing::Outside(bucket) => (format!("no copy: {}", within(bucket, "outside")), Some(bucket)),
            Shadowing::Copied(None) => (format!("a copy goes to {}", shadow.cluster), None),
            Shadowing::Copied(Some(bucket)) => {
                (format!("a copy goes to {}: {}", shadow.cluster, within(bucket, "within")), Some(bucket))
            }
        };
        let holds = Some(matches!(shadowing, Shadowing::Copied(_)));
        Told { step: "shadow", ended, holds, bucket: bucket.map(|bucket| bucket.0), condition: None }
    }

    /// A key, and what it is called: `user "user-17"`.
    fn key(&self, of: TargetingKey, key: &[u8]) -> String {
        let name = match of {
            TargetingKey::None => "",
            TargetingKey::Node => "the proxy's id",
            TargetingKey::Key(id) => self.key_names.get(id.0).map_or("", |name| name),
        };
        let key = String::from_utf8_lossy(key);
        if key == self.drawn {
            format!("{name}, drawn here as an example,")
        } else {
            format!("{name} \"{key}\"")
        }
    }

    /// Where a key comes from.
    fn sources(&self, of: TargetingKey) -> String {
        match of {
            TargetingKey::None => "the rollout has no key".to_owned(),
            TargetingKey::Node => "the proxy has no id".to_owned(),
            TargetingKey::Key(id) => {
                format!(
                    "no {}",
                    self.policy.keys.get(id.0).map_or_else(String::new, |key| shares::sources(&key.from))
                )
            }
        }
    }
}

fn within(told: Told, bucket: Option<Bucket>, holds: bool, from: u64, to: u64) -> Told {
    let lies = bucket.map_or("without its key the request is".to_owned(), |bucket| {
        format!("the key lies at {},", percent(bucket.0.into()))
    });
    let side = if holds { "within" } else { "outside" };
    let ended = format!("{lies} {side} {} to {}", percent(from), percent(to));
    Told { ended, holds: Some(holds), bucket: bucket.map(|bucket| bucket.0), ..told }
}

/// Whose buckets those around a bucket are.
fn owner(rollout: &Rollout, split: Split<'_>, bucket: Bucket) -> String {
    let owned = shares::ranges(split).into_iter().find(|(_, range)| range.contains(&u64::from(bucket.0)));
    let Some((variant, range)) = owned else { return String::new() };
    let name = rollout.variant(variant).map_or("", |it| &it.name);
    format!("({name} has {} to {})", percent(range.start), percent(range.end))
}
