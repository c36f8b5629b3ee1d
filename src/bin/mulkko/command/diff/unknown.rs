//! What is not known of who moves: what too little of the traffic gets to, and what it lacks for that.

use std::collections::{BTreeMap, BTreeSet};

use mulkko::json::Json;
use mulkko::policy::{Policy, Rollout, TargetingKey};
use mulkko::schedule::Split;
use serde::Serialize;

use super::super::explain::expression::{self, short};
use super::super::explain::unmatched;
use super::super::tables::grouped;
use super::Side;
use super::asks::{Ask, key_told};
use super::branches::{Branch, Part, Then};
use super::changes::{Changed, Id};
use super::meaning::Meaning;
use super::reach::{Lack, Reach, Reached};

/// Something that two policies say otherwise, and that less than one in a hundred of the traffic gets to.
#[derive(Debug, Serialize)]
pub struct Unknown {
    /// How much of the traffic gets there.
    pub reached: u64,
    /// Of how much.
    pub of: u64,
    /// What it lacks, for people.
    pub lacks: String,
}

/// Tells what is not known, of this traffic.
pub struct Telling<'t> {
    pub sides: [&'t Side; 2],
    pub meanings: &'t [Meaning<'t>; 2],
    pub is_log: bool,
    pub count: u64,
    pub at_ms: i64,
}

impl Unknown {
    /// Of a rollout that comes as another goes that is alike.
    pub fn renamed(before: &str, of: u64) -> Unknown {
        let lacks = format!(
            "it is as {before}, which goes, but for its seed: keys that had one variant get another; \
             \"seed\": \"{before}\" keeps them"
        );
        Unknown { reached: 0, of, lacks }
    }
}

impl Telling<'_> {
    /// What is not known of a rollout or a flag.
    pub fn unknown(&self, name: &str, changed: &Changed<'_>, reach: &Reach) -> Vec<Unknown> {
        if self.is_few(reach.matched) {
            let lacks = self.unmatched(name, reach.matched);
            return vec![Unknown { reached: reach.matched, of: self.count, lacks }];
        }
        let nothing = Reached::default();
        let reached = (0..).map(|i: usize| reach.parts.get(i).unwrap_or(&nothing));
        let unknown = changed.parts.iter().zip(reached).filter_map(|(part, reached)| {
            let (count, lacks) = self.of_part(changed, part, reached, reach.matched)?;
            Some(Unknown { reached: count, of: self.count, lacks })
        });
        let mut told = BTreeSet::new();
        unknown.filter(|it| told.insert(it.lacks.clone())).collect()
    }

    /// The first instant from which on shares are others, where they are not now.
    pub fn later(&self, name: &str) -> Option<i64> {
        let [old, new] = self.sides.map(|side| side.run.policy.rollout_named(name));
        let ((_, old), (_, new)) = (old?, new?);
        let mut instants = [old.schedule.changes(), new.schedule.changes()].concat();
        instants.retain(|instant| *instant > self.at_ms);
        instants.sort_unstable();
        let shares = |rollout: &Rollout, at_ms| {
            let shares = rollout.shares(at_ms).into_iter().filter(|(_, share)| *share > 0);
            shares.map(|(name, share)| (name.to_owned(), share)).collect::<BTreeMap<_, _>>()
        };
        instants.into_iter().find(|instant| shares(old, *instant) != shares(new, *instant))
    }

    /// Whether it is none of the traffic, or less than one in a hundred.
    fn is_few(&self, count: u64) -> bool {
        count.saturating_mul(100) < self.count || count == 0
    }

    fn unmatched(&self, name: &str, matched: u64) -> String {
        if !self.is_log {
            return NO_REQUEST.to_owned();
        }
        let rollout = self.sides.iter().rev().find_map(|side| side.written(name));
        let what = rollout.map(unmatched::told).unwrap_or_default();
        let lacking = lacking(self.count - matched, self.count, "matches", "do not match");
        format!("{lacking} it ({})", short(&what))
    }

    /// How much of the traffic gets to a part, and what it lacks, where that is too little.
    fn of_part(
        &self,
        changed: &Changed<'_>,
        part: &Part,
        reached: &Reached,
        matched: u64,
    ) -> Option<(u64, String)> {
        if self.is_few(reached.taken) {
            return Some((reached.taken, self.not_taken(changed, part, matched - reached.taken, matched)));
        }
        if self.is_few(reached.reached) {
            let (side, lack, count) = reached.lacks.iter().max_by_key(|(.., count)| count)?;
            return Some((reached.reached, self.lack(*side, lack, *count, reached.taken)));
        }
        if let Some(change) = self.other_keys(changed, part) {
            return Some((0, change));
        }
        let all = reached.hashed.is_one()?;
        let key = self.hashed(changed, part).map_or_else(String::new, |key| format!(" ({key})"));
        let requests =
            if all == 1 { "1 request has".to_owned() } else { format!("all {} requests have", grouped(all)) };
        Some((reached.reached, format!("{requests} one key{key}")))
    }

    fn not_taken(&self, changed: &Changed<'_>, part: &Part, without: u64, of: u64) -> String {
        let branches = |side: usize| {
            let branches = changed.sides.get(side).and_then(Option::as_ref).map(|said| &said.branches);
            let indices = part.get(side).into_iter().flatten();
            indices.filter_map(move |i| branches?.get(*i)).collect::<Vec<_>>()
        };
        let conditions: BTreeSet<String> =
            [0, 1].into_iter().flat_map(branches).filter_map(condition).collect();
        if conditions.is_empty() {
            return lacking(without, of, "gets past", "do not get past") + " the conditions before it";
        }
        let conditions = conditions.into_iter().collect::<Vec<_>>().join(" or ");
        let is_flag = changed.sides.iter().flatten().any(|said| matches!(said.id, Id::Flag(_)));
        let mut asks = BTreeSet::new();
        for (side, meaning) in self.meanings.iter().enumerate() {
            let Some(policy) = self.policy(side) else { continue };
            for json in branches(side).into_iter().flat_map(|branch| &branch.conditions) {
                asks.extend(Ask::all(json, policy, meaning, is_flag));
            }
        }
        let asks = asks.into_iter().map(|it| if self.is_log { it.told } else { it.option });
        let asks = asks.filter(|it| !it.is_empty()).collect::<Vec<_>>().join(", ");
        let hint = match asks.as_str() {
            "" => String::new(),
            asks if self.is_log => format!("; it asks for {asks}"),
            asks => format!("; add {asks}"),
        };
        format!("{} {conditions}{hint}", lacking(without, of, "meets", "do not meet"))
    }

    fn lack(&self, side: usize, lack: &Lack, count: u64, of: u64) -> String {
        let Some(policy) = self.policy(side) else { return String::new() };
        let what = match lack {
            Lack::Key(TargetingKey::Node) => return "the proxy has no id; add --node ID".to_owned(),
            Lack::Key(key) => format!("key ({})", key_told(policy, *key)),
            Lack::Var(var) => Ask::of(var, policy, true).told,
        };
        format!("{} of {} requests tell no {what}", grouped(count), grouped(of))
    }

    /// That another key is hashed than before, where the traffic is keys: whoever has one may have any other.
    fn other_keys(&self, changed: &Changed<'_>, part: &Part) -> Option<String> {
        if self.is_log {
            return None;
        }
        let [old, new] = [0, 1].map(|side| self.keys(changed, part, side));
        let (old, new) = (old?, new?);
        let (before, after) = old.iter().find_map(|(what, before)| {
            let after = new.get(what)?;
            (before != after).then_some((before, after))
        })?;
        Some(format!(
            "its key is another ({after}, before {before}); made-up keys are the same in both, --access-log tells who moves"
        ))
    }

    /// What is hashed under one of the policies, and where it comes from.
    fn keys(&self, changed: &Changed<'_>, part: &Part, side: usize) -> Option<BTreeMap<String, String>> {
        let policy = self.policy(side)?;
        let said = changed.sides.get(side)?.as_ref()?;
        let thens: Vec<Then<'_>> =
            part.get(side)?.iter().filter_map(|i| Some(said.branches.get(*i)?.then)).collect();
        let told = |what: String, key| (what, key_told(policy, key));
        match said.id {
            Id::Rollout(id) if thens.contains(&Then::Split) => {
                let rollout = policy.rollout(id)?;
                let is_split = !matches!(rollout.schedule.at(self.at_ms), Split::Whole(_));
                let own = is_split.then(|| told(String::new(), rollout.key));
                let layer =
                    rollout.slice.iter().map(|it| told("layer".to_owned(), TargetingKey::Key(it.key)));
                let names = self.meanings.get(side)?.document.holdouts.iter().flatten();
                let holdouts = names.zip(&policy.holdouts).filter(|_| rollout.held_out);
                let holdouts = holdouts.map(|(it, holdout)| {
                    told(format!("holdout {}", it.name), TargetingKey::Key(holdout.key))
                });
                Some(own.into_iter().chain(layer).chain(holdouts).collect())
            }
            Id::Flag(_) if thens.iter().any(|then| matches!(then, Then::Value(Json::Object(_)))) => {
                let key = policy.flag_key.map(TargetingKey::Key);
                Some(key.map(|key| told(String::new(), key)).into_iter().collect())
            }
            _ => None,
        }
    }

    /// Where that comes from that is hashed.
    fn hashed(&self, changed: &Changed<'_>, part: &Part) -> Option<String> {
        let keys = [1, 0].into_iter().find_map(|side| self.keys(changed, part, side))?;
        keys.into_values().next()
    }

    fn policy(&self, side: usize) -> Option<&Policy> {
        self.sides.get(side).map(|side| &side.run.policy)
    }
}

/// That no request could be made up.
pub const NO_REQUEST: &str = "no request was found that it matches; say one by --host, --path and -H";

/// `no request meets`, `990 of 1,000 requests do not meet`
fn lacking(without: u64, of: u64, one: &str, many: &str) -> String {
    if without == of {
        format!("no request {one}")
    } else {
        format!("{} of {} requests {many}", grouped(without), grouped(of))
    }
}

/// The conditions of a branch: `when (cohort staff)`.
fn condition(branch: &Branch<'_>) -> Option<String> {
    let texts: Vec<String> = branch.conditions.iter().map(|json| expression::text(json)).collect();
    let text = short(&texts.join(" and "));
    match branch.place.as_str() {
        _ if texts.is_empty() => None,
        "" => Some(text),
        place => Some(format!("{place} ({text})")),
    }
}
