//! Who moves: from which variant to which, for each rollout and each exported flag.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;

use mulkko::decide::{Request, Values};
use mulkko::ofrep::Context;
use mulkko::policy::Policy;
use serde::Serialize;

use super::super::moments;
use super::changes::{Asked, Changed, Libraries};
use super::meaning::hash;
use super::names::{Name, Names, What};
use super::reach::Reach;
use super::unknown::{Telling, Unknown};

/// The most keys that are told apart for each move.
const MOST_KEYS: usize = 1_000_000;

/// What requests are counted with.
pub struct Counting<'c> {
    pub policies: [&'c Policy; 2],
    pub names: &'c Names,
    /// What the policies say otherwise, by number.
    pub changed: Vec<Option<&'c Changed<'c>>>,
    pub libraries: &'c Libraries,
}

/// From and to: `None` where the rollout does not concern the request.
type Way = (Option<String>, Option<String>);

/// What is counted. It grows with the policies; of keys, at most a million are told apart for each way.
#[derive(Debug)]
pub struct Moves {
    pub count: u64,
    pub unread: u64,
    unchanged: Vec<u64>,
    moved: Vec<BTreeMap<Way, Moved>>,
    reach: Vec<Reach>,
}

#[derive(Debug, Default)]
struct Moved {
    count: u64,
    /// The keys of requests, where one may have many.
    keys: HashSet<u64>,
}

impl Moves {
    pub fn new(names: &Names) -> Moves {
        let moved = names.all.iter().map(|_| BTreeMap::new()).collect();
        let reach = names.all.iter().map(|_| Reach::default()).collect();
        Moves { count: 0, unread: 0, unchanged: vec![0; names.all.len()], moved, reach }
    }

    /// Counts what a request gets before and after. `of` are the numbers of which it tells; without, it tells of all and its
    /// keys are told apart: one may have many requests.
    pub fn add(
        &mut self,
        counting: &Counting<'_>,
        [old, new]: [&Request<'_>; 2],
        context: Option<&Context>,
        of: Option<&HashSet<usize>>,
    ) {
        let [of_old, of_new] = counting.policies;
        // What the request says itself goes before what a client says.
        let said = |policy: &Policy, request: &Request<'_>| {
            context.map(|it| it.clone().without_known(&Values::new(policy, *request)))
        };
        let (said_of_old, said_of_new) = (said(of_old, old), said(of_new, new));
        let old = Asked::new(of_old, *old, said_of_old.as_ref());
        let new = Asked::new(of_new, *new, said_of_new.as_ref());
        let (before, after) = (counting.names.got(0, &old), counting.names.got(1, &new));
        let added = after.keys().filter(|number| !before.contains_key(number));
        let is_told = |number: &&usize| of.is_none_or(|of| of.contains(number));
        for number in before.keys().chain(added).filter(is_told) {
            let (from, to) = (before.get(number), after.get(number));
            let changed = counting.changed.get(*number).copied().flatten();
            if let Some((changed, reach)) = changed.zip(self.reach.get_mut(*number)) {
                reach.add(changed, counting.libraries, [from.map(|_| &old), to.map(|_| &new)]);
            }
            let way = (from.copied().flatten(), to.copied().flatten());
            let key = |name: &Name| {
                let key = |asked| of.map_or_else(|| key_of(asked, &name.name), |_| None);
                key(&new).or_else(|| key(&old))
            };
            self.add_way(counting, *number, way, key);
        }
    }

    fn add_way(
        &mut self,
        counting: &Counting<'_>,
        number: usize,
        (from, to): (Option<&str>, Option<&str>),
        key: impl FnOnce(&Name) -> Option<u64>,
    ) {
        if from == to {
            self.unchanged.get_mut(number).into_iter().for_each(|unchanged| *unchanged += 1);
            return;
        }
        let name = counting.names.all.get(number);
        let Some((ways, name)) = self.moved.get_mut(number).zip(name) else { return };
        let moved = ways.entry((from.map(str::to_owned), to.map(str::to_owned))).or_default();
        moved.count += 1;
        if moved.keys.len() < MOST_KEYS {
            moved.keys.extend(key(name));
        }
    }

    /// Adds others of the same names.
    pub fn merge(&mut self, other: Moves) {
        self.count += other.count;
        self.unread += other.unread;
        for (ours, theirs) in self.unchanged.iter_mut().zip(other.unchanged) {
            *ours += theirs;
        }
        for (ours, theirs) in self.reach.iter_mut().zip(other.reach) {
            ours.merge(theirs);
        }
        for (ours, theirs) in self.moved.iter_mut().zip(other.moved) {
            for (way, moved) in theirs {
                let ours = ours.entry(way).or_default();
                ours.count += moved.count;
                ours.keys.extend(moved.keys);
            }
        }
    }

    /// What changes, for each rollout and flag; `problems` are what is known not to be known beside it.
    pub fn changes(
        &self,
        counting: &Counting<'_>,
        telling: &Telling<'_>,
        mut problems: BTreeMap<&str, Vec<Unknown>>,
    ) -> Vec<Change> {
        let all = counting.names.all.iter().zip(&counting.changed).enumerate();
        let change = |(number, (name, changed)): (usize, (&Name, &Option<&Changed<'_>>))| {
            let unchanged = *self.unchanged.get(number)?;
            let moved = self.moved.get(number)?;
            let mut unknown = Vec::new();
            if let Some(changed) = changed {
                unknown = telling.unknown(&name.name, changed, self.reach.get(number)?);
            }
            if name.what == What::Rollout {
                unknown.extend(problems.remove(&*name.name).unwrap_or_default());
            }
            let mut change = Change::of(name, unchanged, moved, unknown);
            if change.kind == Kind::Unchanged && name.what == What::Rollout && changed.is_some() {
                change.later = telling.later(&name.name).map(moments::told);
            }
            Some(change)
        };
        all.filter_map(change).collect()
    }
}

/// The hash of a request's key for a rollout.
fn key_of(asked: &Asked<'_>, rollout: &str) -> Option<u64> {
    let (_, rollout) = asked.policy.rollout_named(rollout)?;
    let key = asked.values.known_key(rollout.key)?;
    Some(hash(|hasher| key.hash(hasher)))
}

/// What becomes of one rollout or flag.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    pub what: What,
    pub name: String,
    pub kind: Kind,
    pub unchanged: u64,
    pub moves: Vec<Move>,
    /// What is different about it, and not known of whom it moves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<Unknown>,
    /// When its shares begin to be others, where they are not now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub later: Option<String>,
}

/// How keys move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Nobody moves: both policies say the same of it, or the traffic shows it.
    Unchanged,
    /// Of this traffic nobody moves, but too little of it gets to what is different.
    Unknown,
    /// It concerns requests that it did not.
    Added,
    /// It concerns requests no more.
    Removed,
    /// Keys leave the default, and none comes back.
    Grows,
    /// Keys go back to the default, and none leaves it.
    Shrinks,
    /// Keys move from one variant to another, neither of them the default.
    Shifts,
    /// Keys move both ways between the same variants.
    Reshuffles,
}

/// How many move from a variant to another.
#[derive(Debug, Serialize)]
pub struct Move {
    /// `null`: it did not concern them.
    pub from: Option<String>,
    /// `null`: it does not concern them.
    pub to: Option<String>,
    /// Keys, or requests of an access log.
    pub count: u64,
    /// Of how many keys these requests are; at least, from a million on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<usize>,
}

impl Change {
    fn of(name: &Name, unchanged: u64, moved: &BTreeMap<Way, Moved>, unknown: Vec<Unknown>) -> Change {
        let moves = moved.iter().map(|((from, to), it)| Move {
            from: from.clone(),
            to: to.clone(),
            count: it.count,
            keys: (!it.keys.is_empty()).then_some(it.keys.len()),
        });
        let kind = if moved.is_empty() && !unknown.is_empty() { Kind::Unknown } else { kind(name, moved) };
        let moves = moves.collect();
        Change { what: name.what, name: name.name.clone(), kind, unchanged, moves, unknown, later: None }
    }

    /// Whether it is a finding: that people see one version and then another for no reason, or that it is not known.
    pub fn is_finding(&self) -> bool {
        matches!(self.kind, Kind::Shifts | Kind::Reshuffles) || !self.unknown.is_empty()
    }
}

fn kind(name: &Name, moved: &BTreeMap<Way, Moved>) -> Kind {
    let [old_default, new_default] = &name.defaults;
    let back = |(from, to): &Way| moved.contains_key(&(to.clone(), from.clone()));
    let between: Vec<&Way> = moved.keys().filter(|(from, to)| from.is_some() && to.is_some()).collect();
    let from_default = |way: &&&Way| way.0 == *old_default;
    let to_default = |way: &&&Way| way.1 == *new_default;
    if between.iter().any(|way| back(way)) {
        Kind::Reshuffles
    } else if between.iter().any(|way| !from_default(&way) && !to_default(&way)) {
        Kind::Shifts
    } else if !between.is_empty() && between.iter().all(|way| to_default(&way)) {
        Kind::Shrinks
    } else if !between.is_empty() && between.iter().all(|way| from_default(&way)) {
        Kind::Grows
    } else if !between.is_empty() {
        // Some leave the default, others come: of different variants.
        Kind::Shifts
    } else if moved.keys().any(|(from, _)| from.is_none()) {
        Kind::Added
    } else if !moved.is_empty() {
        Kind::Removed
    } else {
        Kind::Unchanged
    }
}
