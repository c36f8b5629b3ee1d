//! The policy, compiled: what is true of a document that was taken whole.
//!
//! [`Loading`] makes one from a document, a piece at a time. What stands here needs no checks any more: names are
//! resolved to numbers, percentages to thresholds, header names to bytes as Envoy has them.

mod compile;
mod flag;
mod guard;
mod keys;
mod loading;
mod locate;
mod names;
mod nearest;
mod outline;
mod parts;
mod patterns;
mod plan;
mod refusals;
mod rollout;
mod shadow;
pub(crate) mod shape;
pub mod since;
mod strategy;
mod texts;

use std::collections::HashMap;
use std::sync::Arc;

use crate::bucket::{Seed, Threshold};
use crate::flag::{Flag, FlagId};
use crate::guard::Guard;
use crate::logic::{Condition, Library, Way};
use crate::matches::Index;
use crate::pattern::Pattern;
use crate::schedule::{Schedule, Split, VariantId};
use crate::shadow::Shadow;

pub use loading::Loading;
pub use locate::{Located, Places, locate};
#[cfg(feature = "schema")]
pub(crate) use names::{NOT_FOR_VARIANTS, RESERVED};
pub use names::{check_name, is_name};
pub use nearest::nearest_variable;
pub use outline::{MAX_BYTES, MAX_ITEM_BYTES, MAX_ITEM_VALUES, MAX_ITEMS, MAX_NESTING, MAX_VALUES};
pub(crate) use parts::FEW;
pub use parts::Parts;
pub use refusals::parse_thoroughly;

/// The highest revision that a policy may have: the last whole number that every reader of JSON has exactly.
pub const MAX_REVISION: u64 = (1 << 53) - 1;

/// A map by names that stand in the policy.
pub(crate) type NameMap<T> = HashMap<Box<str>, T, foldhash::fast::RandomState>;

/// A rollout, by its place in the document.
pub type RolloutId = u32;

/// Everything that a document says, ready to decide.
#[derive(Debug, Default)]
pub struct Policy {
    /// The document's name, where it has one.
    pub name: Option<Box<str>>,
    /// Which state of the document this is: a lower one never replaces a higher one.
    pub revision: u64,
    /// When it was signed, in unix milliseconds, where its signature says so.
    pub signed_ms: Option<i64>,
    /// The targeting keys; the first is the built-in `request`.
    pub keys: Vec<Key>,
    /// Where each attribute comes from, in the order in which conditions number them.
    pub attributes: Vec<Attribute>,
    /// The named conditions.
    pub library: Library,
    /// What keeps keys out of every canary and experiment.
    pub holdouts: Vec<Holdout>,
    /// The rollouts in document order.
    pub rollouts: Vec<Rollout>,
    /// Those of them that have a guard.
    pub guarded: Vec<RolloutId>,
    /// The flags in document order.
    pub flags: Vec<Flag>,
    /// The targeting key under which flags are evaluated for a request.
    pub flag_key: Option<KeyId>,
    /// The flags whose values requests carry upstream.
    pub exported_flags: Vec<FlagId>,
    /// What is told about all flags: a JSON object, or empty.
    pub metadata: Box<str>,
    flags_by_key: NameMap<FlagId>,
    by_name: HashMap<Arc<str>, RolloutId, foldhash::fast::RandomState>,
    by_guard: HashMap<u64, RolloutId, foldhash::fast::RandomState>,
    index: Index,
    /// The patterns of conditions and matches, which have them too: as long as they are here, who drops a condition frees
    /// little.
    patterns: Vec<Pattern>,
}

impl Policy {
    /// Reads a document at once.
    ///
    /// # Errors
    /// Everything that is wrong with it, if anything is.
    pub fn parse(document: &[u8], clusters: &Clusters) -> Result<Policy, Vec<crate::finding::Finding>> {
        Loading::thorough(document.to_vec(), clusters.clone()).finish()
    }

    /// The rollout of that name.
    #[must_use]
    pub fn rollout_named(&self, name: &str) -> Option<(RolloutId, &Rollout)> {
        let id = *self.by_name.get(name)?;
        Some((id, self.rollout(id)?))
    }

    /// The rollout of that number.
    #[must_use]
    pub fn rollout(&self, id: RolloutId) -> Option<&Rollout> {
        self.rollouts.get(usize::try_from(id).ok()?)
    }

    /// The rollout with the guard of that identity.
    #[must_use]
    pub fn guarded_as(&self, identity: u64) -> Option<(RolloutId, &Rollout, &Guard)> {
        let id = *self.by_guard.get(&identity)?;
        let rollout = self.rollout(id)?;
        Some((id, rollout, rollout.guard.as_deref()?))
    }

    /// The flag of that key.
    #[must_use]
    pub fn flag_keyed(&self, key: &str) -> Option<&Flag> {
        self.flag(*self.flags_by_key.get(key)?)
    }

    /// The flag of that number.
    #[must_use]
    pub fn flag(&self, id: FlagId) -> Option<&Flag> {
        self.flags.get(usize::try_from(id).ok()?)
    }

    /// All of it, to be freed a part at a time.
    pub(crate) fn into_parts(self) -> Parts {
        let mut parts = Parts::default();
        // What is added last is freed first.
        parts.add(self.patterns, 1);
        parts.add(self.keys, 10);
        parts.add(self.attributes, 10);
        self.library.into_parts(&mut parts);
        parts.add(self.rollouts, 1);
        parts.add(self.flags, 1);
        parts.add(self.flags_by_key, parts::FEW);
        parts.add(self.by_name, parts::FEW);
        self.index.into_parts(&mut parts);
        parts
    }

    /// Which rollouts apply to which requests.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }
}

/// A targeting key, by its place in [`Policy::keys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(pub usize);

impl KeyId {
    /// The built-in key `request`: Envoy's request id.
    pub const REQUEST: KeyId = KeyId(0);
}

/// Where a targeting key comes from.
#[derive(Debug)]
pub struct Key {
    /// Sources in order: the first that is present and not empty wins.
    pub from: Box<[Source]>,
    /// What to do where none is.
    pub mint: Option<Mint>,
}

/// A named value of a request, for conditions.
#[derive(Debug)]
pub struct Attribute {
    /// Its name, as a way into the context of a flag.
    pub way: Way,
    /// Sources in order: the first that is present and not empty wins.
    pub from: Box<[Source]>,
}

/// A cookie that keeps a minted id.
#[derive(Debug, PartialEq, Eq)]
pub struct Mint {
    /// Its name.
    pub cookie: Box<str>,
    /// How long browsers keep it, in seconds.
    pub max_age_s: u64,
}

/// Where a value comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// A header, by the name under which the proxy keeps it.
    Header(Box<str>),
    /// A cookie.
    Cookie(Box<str>),
    /// A query parameter.
    Query(Box<str>),
    /// A property of the host, name by name: dynamic metadata and filter state are below it too.
    Property(Box<[Box<str>]>),
}

/// Keys that are kept out of every canary and experiment.
#[derive(Debug)]
pub struct Holdout {
    /// What is hashed before the key: its name.
    pub seed: Seed,
    /// What is hashed.
    pub key: KeyId,
    /// Buckets below it are held out.
    pub end: Threshold,
}

/// One named decision about which version answers.
#[derive(Debug)]
pub struct Rollout {
    /// Its name.
    pub name: Arc<str>,
    /// How others call it.
    pub called: Called,
    /// Whether it is evaluated at all.
    pub enabled: bool,
    /// What `targetingKey` is, and what is hashed.
    pub key: TargetingKey,
    /// Who is eligible; nobody is asked where there is none.
    pub when: Option<Condition>,
    /// Who gets a variant whatever the split says; the first that holds wins.
    pub force: Box<[(Condition, VariantId)]>,
    /// The variants in document order.
    pub variants: Box<[Variant]>,
    /// The variant of everyone who is not elsewhere.
    pub default: VariantId,
    /// What is hashed before the key.
    pub seed: Seed,
    /// How the split moves with time.
    pub schedule: Schedule,
    /// The slice of a layer outside which keys stay at the default.
    pub slice: Option<Box<Slice>>,
    /// Whether holdouts concern it.
    pub held_out: bool,
    /// What takes the traffic back.
    pub guard: Option<Box<Guard>>,
    /// Which requests are copied.
    pub shadow: Option<Box<Shadow>>,
}

/// What a rollout is called in headers and filter state: in one text, since a policy may have many rollouts.
#[derive(Debug)]
pub struct Called {
    /// `x-mulkko-<name>`, and `mulkko.<name>.reason` behind it.
    text: Box<str>,
}

impl Called {
    const HEADER: &str = "x-mulkko-";
    const STATE: &str = "mulkko.";
    const REASON: &str = ".reason";

    fn of(name: &str) -> Called {
        Called { text: [Called::HEADER, name, Called::STATE, name, Called::REASON].concat().into() }
    }

    /// Where the first half ends.
    fn middle(&self) -> usize {
        let texts = Called::HEADER.len() + Called::STATE.len() + Called::REASON.len();
        Called::HEADER.len() + self.text.len().saturating_sub(texts) / 2
    }

    /// The header that holds the variant: `x-mulkko-<name>`.
    #[must_use]
    pub fn header(&self) -> &str {
        self.text.get(..self.middle()).unwrap_or_default()
    }

    /// The filter state that holds the variant: `mulkko.<name>`, which Envoy keeps as `wasm.mulkko.<name>`.
    #[must_use]
    pub fn state(&self) -> &str {
        self.reason_state().strip_suffix(Called::REASON).unwrap_or_default()
    }

    /// The filter state that holds the reason: `mulkko.<name>.reason`.
    #[must_use]
    pub fn reason_state(&self) -> &str {
        self.text.get(self.middle()..).unwrap_or_default()
    }
}

impl Rollout {
    /// Whether its split leaves nothing to compare at `now_ms` (unix milliseconds).
    #[must_use]
    pub fn is_idle(&self, now_ms: i64) -> bool {
        let split = self.schedule.at(now_ms);
        let is_absolute = self.guard.as_ref().is_some_and(|guard| !guard.is_relative());
        match split {
            Split::Whole(variant) => !is_absolute || variant == self.default,
            Split::Cut(..) | Split::Cuts(..) => false,
        }
    }

    /// What share of the keys the strategy intends for each variant at `now_ms` (unix milliseconds), in millionths. Of a
    /// rolling update they are shares of the proxies. A rollout that is disabled gives its default to all.
    #[must_use]
    pub fn shares(&self, now_ms: i64) -> Vec<(&str, u64)> {
        let split = if self.enabled { self.schedule.at(now_ms) } else { Split::Whole(self.default) };
        let share = |i: usize| {
            let buckets = u8::try_from(i).map_or(0, |i| split.width(VariantId(i)));
            (u128::from(buckets) * 1_000_000 + (1 << 31)) >> 32
        };
        let named = self.variants.iter().enumerate();
        named.map(|(i, variant)| (&*variant.name, u64::try_from(share(i)).unwrap_or(0))).collect()
    }

    /// The member of `baggage` that tells later hops of a variant: `mulkko.<rollout>=<variant>`.
    #[must_use]
    pub fn member(&self, variant: &Variant) -> String {
        [self.called.state(), "=", &*variant.name].concat()
    }

    /// The variant of that name.
    #[must_use]
    pub fn variant_named(&self, name: &str) -> Option<VariantId> {
        let i = self.variants.iter().position(|variant| &*variant.name == name)?;
        u8::try_from(i).ok().map(VariantId)
    }

    /// The variant of that number.
    #[must_use]
    pub fn variant(&self, id: VariantId) -> Option<&Variant> {
        self.variants.get(usize::from(id.0))
    }
}

/// What a rollout hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetingKey {
    /// Nothing.
    None,
    /// A key of the request.
    Key(KeyId),
    /// The id of the proxy that decides.
    Node,
}

/// A named outcome of a rollout.
#[derive(Debug)]
pub struct Variant {
    /// Its name.
    pub name: Arc<str>,
    /// The cluster that answers.
    pub cluster: Option<Arc<str>>,
    /// Request headers that are set; names in lower case.
    pub headers: Box<[(Arc<str>, Arc<str>)]>,
}

/// A part of a layer.
#[derive(Debug)]
pub struct Slice {
    /// What is hashed before the key: the layer's name.
    pub seed: Seed,
    /// What is hashed: the layer's key.
    pub key: KeyId,
    /// The first bucket of the slice.
    pub from: Threshold,
    /// The first bucket after it.
    pub to: Threshold,
}

/// Which clusters a policy may route to: patterns in which `*` stands for any text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clusters(Option<std::rc::Rc<[Box<str>]>>);

impl Clusters {
    /// Those that match one of `patterns`.
    #[must_use]
    pub fn matching(patterns: Vec<Box<str>>) -> Clusters {
        Clusters(Some(patterns.into()))
    }

    /// Whether a policy may route anywhere: nobody has said where to.
    #[must_use]
    pub fn allow_all(&self) -> bool {
        self.0.is_none()
    }

    /// Whether a policy may route to `cluster`.
    #[must_use]
    pub fn allow(&self, cluster: &str) -> bool {
        self.0.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| matches_glob(pattern, cluster)))
    }
}

/// Whether `text` is `pattern` with some text for each `*`. The leftmost place for each part will do, so this is linear
/// in the number of parts.
#[must_use]
pub fn matches_glob(pattern: &str, text: &str) -> bool {
    let Some((first, others)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let (middle, last) = others.rsplit_once('*').unwrap_or(("", others));
    for part in middle.split('*') {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::Instant;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("checkout-*", "checkout-v2", true),
            ("checkout-*", "checkout-", true),
            ("checkout-*", "search-v2", false),
            ("checkout", "checkout", true),
            ("checkout", "checkout-v2", false),
            ("*", "", true),
            ("outbound|*|v2|*.local", "outbound|80|v2|a.ns.svc.cluster.local", true),
            ("outbound|*|v2|*.local", "outbound|80|v1|a.ns.svc.cluster.local", false),
            ("a*a", "a", false),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(Clusters::matching(vec![pattern.into()]).allow(text), expected, "{pattern} {text}");
        }
        assert!(Clusters::default().allow("anything"));
    }

    #[test]
    fn a_rollout_is_called_by_its_name() {
        for name in ["a", "checkout-v2"] {
            let called = Called::of(name);
            assert_eq!(called.header(), format!("x-mulkko-{name}"));
            assert_eq!(called.state(), format!("mulkko.{name}"));
            assert_eq!(called.reason_state(), format!("mulkko.{name}.reason"));
        }
    }

    #[test]
    fn shares_are_those_of_the_schedule() {
        let of = |file: &str, now_ms| {
            let document = std::fs::read(format!("policies/{file}.json")).unwrap();
            let policy = Policy::parse(&document, &Clusters::default()).unwrap();
            let told = policy.rollouts[0].shares(now_ms);
            told.into_iter().map(|(name, share)| (name.to_owned(), share)).collect::<Vec<_>>()
        };
        let begins_ms = Instant::parse("2026-12-01T09:00:00Z").unwrap().unix_ms();
        for (file, minutes, expected) in [
            ("canary", -1, [("stable", 1_000_000), ("canary", 0)].as_slice()),
            ("canary", 0, &[("stable", 990_000), ("canary", 10_000)]),
            ("canary", 15, &[("stable", 950_000), ("canary", 50_000)]),
            ("canary", 1_000, &[("stable", 0), ("canary", 1_000_000)]),
            ("layers-and-holdout", 0, &[("small", 500_000), ("big", 500_000)]),
        ] {
            let expected: Vec<_> =
                expected.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect();
            assert_eq!(of(file, begins_ms + minutes * 60_000), expected, "{file} {minutes}");
        }
        let off = br#"{"apiVersion": "mulkko/v1", "revision": 1, "rollouts": [{"name": "a", "state": "DISABLED", "key": "request",
            "variants": {"x": {}, "y": {}}, "default": "x", "strategy": {"canary": {"variant": "y", "percent": 30}}}]}"#;
        let policy = Policy::parse(off, &Clusters::default()).unwrap();
        assert_eq!(policy.rollouts[0].shares(0), [("x", 1_000_000), ("y", 0)]);
    }
}
