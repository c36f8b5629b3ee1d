//! Decides, for one request, which variant of each rollout it gets, and why.
//!
//! There is one evaluator: the plugin, the command and the tests all call [`decide`]. It knows no proxy: what a request
//! holds is read through [`Request`], what only the host knows through [`Proxy`], lazily. A decision cannot fail.

mod followed;
mod values;

use std::fmt;

use crate::bucket::{Bucket, Seed, Threshold};
use crate::flag::{FlagId, Resolution};
use crate::guard::{Exposure, RolledBack};
use crate::headers::Headers;
use crate::logic::Condition;
use crate::mesh::Macs;
use crate::pass::{Forced, Passes};
use crate::policy::{KeyId, Policy, Rollout, RolloutId, TargetingKey};
use crate::schedule::{Split, VariantId};
use crate::shadow::{self, Shadow};

pub use values::{Minted, Values};

/// Steps that deciding a rollout takes beside what it asks.
const ROLLOUT: usize = 20;

/// Whether what the request says of earlier decisions is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// No: requests come from outside.
    #[default]
    Edge,
    /// Yes: requests come from proxies that decide as this one does.
    Mesh,
}

/// What only the host of the engine knows. Asked only when something depends on it.
pub trait Proxy {
    /// The property of that name, as bytes; `None` where there is none.
    fn property(&self, path: &[Box<str>]) -> Option<Vec<u8>>;
    /// The address of the client, after the proxy's own rule for trusted hops, with its port.
    fn client_address(&self) -> Option<Vec<u8>>;
    /// The wall clock, in unix milliseconds.
    fn now_ms(&self) -> i64;
    /// A fresh random id of at most 64 visible ASCII characters that may stand in a cookie.
    fn draw_id(&self) -> String;
    /// Whether a cluster is known to be missing, so that nobody is to be sent there.
    fn lacks_cluster(&self, _cluster: &str) -> bool {
        false
    }
}

/// The proxy that decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: Option<Box<str>>,
    /// The region that it runs in.
    pub region: Option<Box<str>>,
    /// The zone that it runs in.
    pub zone: Option<Box<str>>,
}

/// One request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Its headers, which know whether they are believed.
    pub headers: &'a Headers<'a>,
    /// The passes that it carries.
    pub passes: &'a Passes<'a>,
    /// What vouches for decisions, where keys for that are configured: only what it vouches for is followed.
    pub macs: Option<&'a Macs>,
    /// The proxy that decides.
    pub node: &'a Node,
    /// What only the host knows.
    pub proxy: &'a dyn Proxy,
    /// The variants that the guard has given up, where there are any.
    pub rolled_back: Option<&'a RolledBack>,
}

impl Request<'_> {
    /// Whether it is believed.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.headers.trust()
    }
}

/// Why a request got its variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The rollout is switched off.
    Disabled,
    /// A pass or a `force` entry.
    TargetingMatch,
    /// A decision of an earlier hop.
    Followed,
    /// `when` is not met, or there is no targeting key.
    Default,
    /// The key is held out.
    Holdout,
    /// The key is outside the rollout's slice of its layer.
    Layer,
    /// One variant has all of the split.
    Static,
    /// The bucket of the key.
    Split,
    /// The guard has given up the variant that it would have been.
    RolledBack,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Reason; 9] = [
        Reason::Disabled,
        Reason::TargetingMatch,
        Reason::Followed,
        Reason::Default,
        Reason::Holdout,
        Reason::Layer,
        Reason::Static,
        Reason::Split,
        Reason::RolledBack,
    ];

    /// Its name in headers, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Disabled => "DISABLED",
            Reason::TargetingMatch => "TARGETING_MATCH",
            Reason::Followed => "FOLLOWED",
            Reason::Default => "DEFAULT",
            Reason::Holdout => "HOLDOUT",
            Reason::Layer => "LAYER",
            Reason::Static => "STATIC",
            Reason::Split => "SPLIT",
            Reason::RolledBack => "ROLLED_BACK",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which variant of a rollout a request gets, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The rollout.
    pub rollout: RolloutId,
    /// Its variant.
    pub variant: VariantId,
    /// Why.
    pub reason: Reason,
    /// Where the key lies in the split, where that was asked.
    pub bucket: Option<Bucket>,
    /// Whether the rollout matches the request; otherwise the decision is only handed on.
    pub applies: bool,
}

/// All decisions for one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// One for each rollout that applies, in order of precedence, then those that are handed on.
    pub list: Vec<Decision>,
    /// What the exported flags resolve to, in document order.
    pub flags: Vec<(FlagId, Resolution)>,
    /// The ids that were drawn, each to be kept in a cookie.
    pub minted: Vec<Minted>,
    /// How many passes ask for a variant that their rollout lacks.
    pub passes_refused: usize,
    /// Those of the decisions that count for a guard.
    pub exposures: Vec<Exposure>,
    /// Whose shadow has the request copied.
    pub shadow: Option<Shadowed>,
    /// Whether the request asked more of the policy than its budget holds.
    pub is_exhausted: bool,
}

/// That a request is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shadowed {
    /// The rollout whose shadow picked it.
    pub rollout: RolloutId,
    /// Whether another copy of the stable version gets it too.
    pub has_secondary: bool,
}

/// A step on the way to a decision, and how it ended.
#[derive(Clone, Copy, Debug)]
pub enum Step<'s> {
    /// Whether the rollout is switched on.
    Enabled(bool),
    /// The variant of a pass.
    Passed(Option<VariantId>),
    /// The variant of an earlier hop.
    Followed(Option<VariantId>),
    /// Whether entry so of `force` holds.
    Forced(usize, bool),
    /// Whether `when` is met.
    When(bool),
    /// The key's bucket in holdout so, and whether it is held.
    Holdout(usize, Option<Bucket>, bool),
    /// The key's bucket in the layer, and whether it is in the slice.
    Layer(Option<Bucket>, bool),
    /// How the variants divide the buckets now.
    Split(Split<'s>),
    /// What is hashed, and its bucket.
    Hashed(Option<(&'s [u8], Bucket)>),
    /// Whether the guard has given up the variant.
    RolledBack(bool),
    /// The variant's cluster is missing.
    Missing,
    /// The budget of the request is used up: nothing more is asked.
    Exhausted,
    /// Whether the request is copied, and what of the shadow says so.
    Shadow(Shadowing),
}

/// Whether a request is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shadowing {
    /// No: it gets another variant than the default, or the rollout is disabled.
    NotDefault,
    /// No: not with its method.
    Method,
    /// No: `when` is not met.
    When,
    /// No: it has no key.
    NoKey,
    /// No: its key is outside the share.
    Outside(Bucket),
    /// Yes, by its key or, where all are copied, without.
    Copied(Option<Bucket>),
}

/// Who is told of the steps of decisions: whoever explains them. [`decide`] tells nobody, and pays nothing for it.
pub trait Watch {
    /// A step was taken for a rollout, with these values at hand.
    fn took(&self, _rollout: RolloutId, _step: Step<'_>, _values: &Values<'_>) {}

    /// All was decided.
    fn decided(&self, _values: &Values<'_>) {}
}

impl Watch for () {}

/// Decides for `request` under `policy`.
#[must_use]
pub fn decide(policy: &Policy, request: Request<'_>) -> Decisions {
    decide_watched(policy, request, &())
}

/// As [`decide`], telling `watch` of every step.
#[must_use]
pub fn decide_watched<W: Watch>(policy: &Policy, request: Request<'_>, watch: &W) -> Decisions {
    let values = Values::new(policy, request);
    let followed = match request.trust() {
        Trust::Edge => Vec::new(),
        Trust::Mesh => followed::decisions(policy, &values),
    };
    let deciding =
        Deciding { policy, values: &values, followed: &followed, rolled_back: request.rolled_back, watch };
    let list = deciding.all();
    let is_copy = request.trust() == Trust::Mesh && shadow::is_copy(request.headers);
    let (exposures, shadow) = if is_copy {
        (Vec::new(), None)
    } else {
        (list.iter().filter_map(|decision| deciding.exposure(decision)).collect(), deciding.shadow(&list))
    };
    let flags = exported(policy, &values);
    let passes_refused = request.passes.forced().filter(|forced| asks_in_vain(policy, forced)).count();
    let is_exhausted = values.budget().is_exhausted();
    watch.decided(&values);
    Decisions { list, flags, minted: values.into_minted(), passes_refused, exposures, shadow, is_exhausted }
}

/// The flags that every request carries upstream.
fn exported(policy: &Policy, values: &Values<'_>) -> Vec<(FlagId, Resolution)> {
    policy.exported_flags.iter().filter_map(|id| Some((*id, values.exported(*id)?))).collect()
}

/// Whether a pass is for a variant that its rollout lacks; of a rollout that is not here another hop may know.
fn asks_in_vain(policy: &Policy, forced: &Forced) -> bool {
    let rollout = policy.rollout_named(&forced.rollout);
    rollout.is_some_and(|(_, rollout)| rollout.variant_named(&forced.variant).is_none())
}

/// What the decisions for one request share.
struct Deciding<'d, 'a, W> {
    policy: &'a Policy,
    values: &'d Values<'a>,
    followed: &'d [(RolloutId, VariantId)],
    rolled_back: Option<&'d RolledBack>,
    watch: &'d W,
}

impl<W: Watch> Deciding<'_, '_, W> {
    fn took(&self, id: RolloutId, step: Step<'_>) {
        self.watch.took(id, step, self.values);
    }

    /// The rollouts that apply, in order of precedence, then those that are only handed on.
    fn all(&self) -> Vec<Decision> {
        let mut applying = Vec::new();
        self.policy.index().find(&self.values.target(&|name| self.values.query(name)), &mut applying);
        let handed_on = self.followed.iter().filter(|(id, _)| !applying.contains(id));
        let handed_on = handed_on.filter_map(|(id, _)| self.handed_on(*id));
        applying.iter().filter_map(|id| self.applying(*id)).chain(handed_on).collect()
    }

    /// A rollout that matches the request.
    fn applying(&self, id: RolloutId) -> Option<Decision> {
        let rollout = self.policy.rollout(id)?;
        let passed = self.passed(rollout).filter(|_| rollout.enabled);
        self.took(id, Step::Passed(passed));
        let (variant, reason, bucket) = match passed {
            Some(variant) => (variant, Reason::TargetingMatch, None),
            None => {
                let (variant, reason, bucket) = self.variant(id, rollout);
                let (variant, reason) = self.guarded(id, rollout, variant, reason);
                let (variant, reason) = self.reachable(id, rollout, variant, reason);
                (variant, reason, bucket)
            }
        };
        Some(Decision { rollout: id, variant, reason, bucket, applies: true })
    }

    /// A rollout that does not match the request, but that an earlier hop decided.
    fn handed_on(&self, id: RolloutId) -> Option<Decision> {
        let rollout = self.policy.rollout(id)?;
        let (variant, reason) = match self.followed(id) {
            Some(variant) if rollout.enabled => self.guarded(id, rollout, variant, Reason::Followed),
            _ => (rollout.default, Reason::Disabled),
        };
        Some(Decision { rollout: id, variant, reason, bucket: None, applies: false })
    }

    /// A variant that the guard has given up gives way to the default, however it was found.
    fn guarded(
        &self,
        id: RolloutId,
        rollout: &Rollout,
        variant: VariantId,
        reason: Reason,
    ) -> (VariantId, Reason) {
        match self.rolled_back {
            Some(rolled_back) if rolled_back.has(id, variant) => {
                self.took(id, Step::RolledBack(true));
                (rollout.default, Reason::RolledBack)
            }
            _ => (variant, reason),
        }
    }

    /// A variant whose cluster is missing gives way to the default: nobody is sent to nowhere.
    fn reachable(
        &self,
        id: RolloutId,
        rollout: &Rollout,
        variant: VariantId,
        reason: Reason,
    ) -> (VariantId, Reason) {
        let cluster = rollout.variant(variant).and_then(|variant| variant.cluster.as_deref());
        let is_missing =
            variant != rollout.default && cluster.is_some_and(|it| self.values.lacks_cluster(it));
        if !is_missing {
            return (variant, reason);
        }
        self.took(id, Step::Missing);
        (rollout.default, Reason::Default)
    }

    /// What a decision is for the rollout's guard. A pass, an earlier hop or a `force` entry was not drawn, so it says
    /// nothing about whose requests fail.
    fn exposure(&self, decision: &Decision) -> Option<Exposure> {
        let Decision { rollout, variant, reason, bucket, .. } = *decision;
        let rollout = self.policy.rollout(rollout)?;
        let guard = rollout.guard.as_ref()?;
        let counts = match reason {
            Reason::Split => guard.is_relative(),
            // A switch has nothing else.
            Reason::Static => !guard.is_relative() && guard.compared.contains(&variant),
            _ => false,
        };
        counts.then(|| Exposure::new(rollout, guard, variant, bucket, || self.now_ms(rollout)))
    }

    /// Whose shadow has the request copied: the first that picks it.
    fn shadow(&self, decisions: &[Decision]) -> Option<Shadowed> {
        decisions.iter().filter(|decision| decision.applies).find_map(|decision| {
            let rollout = self.policy.rollout(decision.rollout)?;
            let shadow = rollout.shadow.as_ref()?;
            let shadowing = self.shadowing(rollout, shadow, decision);
            self.took(decision.rollout, Step::Shadow(shadowing));
            matches!(shadowing, Shadowing::Copied(_))
                .then(|| Shadowed { rollout: decision.rollout, has_secondary: self.has_secondary(shadow) })
        })
    }

    /// Whether another copy of the stable version gets it too: drawn for each request, whoever's it is.
    fn has_secondary(&self, shadow: &Shadow) -> bool {
        let comparison = shadow.comparison.as_ref();
        comparison.and_then(|it| it.secondary.as_ref()).is_some_and(|secondary| {
            let key = || self.values.known_key(TargetingKey::Key(KeyId::REQUEST));
            secondary.end == Threshold::EVERYBODY
                || key().is_some_and(|key| secondary.seed.bucket(key).is_below(secondary.end))
        })
    }

    fn shadowing(&self, rollout: &Rollout, shadow: &Shadow, decision: &Decision) -> Shadowing {
        if decision.variant != rollout.default || !rollout.enabled {
            return Shadowing::NotDefault;
        }
        if !shadow.methods.iter().any(|method| method.as_bytes() == self.values.method()) {
            return Shadowing::Method;
        }
        if shadow.when.as_ref().is_some_and(|when| !self.holds(when, rollout)) {
            return Shadowing::When;
        }
        if shadow.end == Threshold::EVERYBODY {
            return Shadowing::Copied(None);
        }
        // Who is only looked at is given no id for it.
        match self.values.known_key(TargetingKey::Key(shadow.key)).map(|key| shadow.seed.bucket(key)) {
            None => Shadowing::NoKey,
            Some(bucket) if bucket.is_below(shadow.end) => Shadowing::Copied(Some(bucket)),
            Some(bucket) => Shadowing::Outside(bucket),
        }
    }

    /// A decision after its passes. What the budget has nothing left for is the default.
    fn variant(&self, id: RolloutId, rollout: &Rollout) -> (VariantId, Reason, Option<Bucket>) {
        let default = |reason| (rollout.default, reason, None);
        self.took(id, Step::Enabled(rollout.enabled));
        if !rollout.enabled {
            return default(Reason::Disabled);
        }
        let followed = self.followed(id);
        self.took(id, Step::Followed(followed));
        if let Some(variant) = followed {
            return (variant, Reason::Followed, None);
        }
        let budget = self.values.budget();
        let found = budget.spend(ROLLOUT).is_ok().then(|| self.drawn(id, rollout));
        match found.filter(|_| !budget.is_exhausted()) {
            Some(found) => found,
            None => {
                self.took(id, Step::Exhausted);
                default(Reason::Default)
            }
        }
    }

    /// What is asked of the request, in the order in which it is.
    fn drawn(&self, id: RolloutId, rollout: &Rollout) -> (VariantId, Reason, Option<Bucket>) {
        let default = |reason| (rollout.default, reason, None);
        for (i, (when, variant)) in rollout.force.iter().enumerate() {
            let holds = self.holds(when, rollout);
            self.took(id, Step::Forced(i, holds));
            if holds {
                return (*variant, Reason::TargetingMatch, None);
            }
        }
        if let Some(when) = &rollout.when {
            let holds = self.holds(when, rollout);
            self.took(id, Step::When(holds));
            if !holds {
                return default(Reason::Default);
            }
        }
        if rollout.held_out && self.is_held_out(id) {
            return default(Reason::Holdout);
        }
        if !self.is_in_slice(id, rollout) {
            return default(Reason::Layer);
        }
        let split = rollout.schedule.at(self.now_ms(rollout));
        self.took(id, Step::Split(split));
        if let Split::Whole(variant) = split {
            return (variant, Reason::Static, None);
        }
        let Some(key) = self.values.key_to_hash(rollout.key) else {
            self.took(id, Step::Hashed(None));
            return default(Reason::Default);
        };
        let bucket = self.bucket(rollout.seed, key);
        self.took(id, Step::Hashed(Some((key, bucket))));
        (split.variant(bucket), Reason::Split, Some(bucket))
    }

    /// Where a key lies. That is the same when the budget is used up by it: nobody asks then.
    fn bucket(&self, seed: Seed, key: &[u8]) -> Bucket {
        let _ = self.values.budget().make(key.len());
        seed.bucket(key)
    }

    /// The time at which a rollout is decided; a clock that would change nothing is not read.
    fn now_ms(&self, rollout: &Rollout) -> i64 {
        if rollout.schedule.is_timeless() { 0 } else { self.values.now_ms() }
    }

    fn passed(&self, rollout: &Rollout) -> Option<VariantId> {
        let mut forced = self.values.passes().forced().filter(|forced| *forced.rollout == *rollout.name);
        forced.find_map(|forced| rollout.variant_named(&forced.variant))
    }

    fn followed(&self, id: RolloutId) -> Option<VariantId> {
        let at = self.followed.binary_search_by_key(&id, |(rollout, _)| *rollout).ok()?;
        self.followed.get(at).map(|(_, variant)| *variant)
    }

    fn holds(&self, condition: &Condition, rollout: &Rollout) -> bool {
        condition.holds(&self.policy.library, &self.values.seen_with(rollout.key))
    }

    /// A holdout whose key the request lacks holds nobody.
    fn is_held_out(&self, id: RolloutId) -> bool {
        let mut holdouts = self.policy.holdouts.iter().enumerate();
        let is_left = |_: &(usize, _)| !self.values.budget().is_exhausted();
        holdouts.by_ref().take_while(is_left).any(|(i, holdout)| {
            let bucket = self.values.key_or_mint(holdout.key).map(|key| self.bucket(holdout.seed, key));
            let is_held = bucket.is_some_and(|bucket| bucket.is_below(holdout.end));
            self.took(id, Step::Holdout(i, bucket, is_held));
            is_held
        })
    }

    /// A request without the layer's key is in no slice of it.
    fn is_in_slice(&self, id: RolloutId, rollout: &Rollout) -> bool {
        rollout.slice.as_ref().is_none_or(|slice| {
            let bucket = self.values.key_or_mint(slice.key).map(|key| self.bucket(slice.seed, key));
            let is_inside =
                bucket.is_some_and(|bucket| bucket.is_below(slice.to) && !bucket.is_below(slice.from));
            self.took(id, Step::Layer(bucket, is_inside));
            is_inside
        })
    }
}
