//! Who moves: from which variant to which, for each rollout and each exported flag.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use mulkko::decide::{Decisions, Request, Values};
use mulkko::flag::FlagId;
use mulkko::policy::Policy;
use serde::Serialize;

/// The most keys that are told apart for each move.
const MOST_KEYS: usize = 1_000_000;

/// What can change: the rollouts and the exported flags of both policies, numbered.
#[derive(Debug)]
pub struct Names {
    all: Vec<Name>,
    numbers: BTreeMap<(What, String), usize>,
    sides: [Side; 2],
}

/// The numbers of what one of the policies has.
#[derive(Debug, Default)]
struct Side {
    /// By the rollout's own.
    rollouts: Vec<usize>,
    /// By the flag's own; flags that are not exported have none.
    flags: BTreeMap<FlagId, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Rollout,
    Flag,
}

#[derive(Debug)]
struct Name {
    what: What,
    name: String,
    /// The default variants, before and after.
    defaults: [Option<String>; 2],
}

impl Names {
    pub fn of(old: &Policy, new: &Policy) -> Names {
        let mut names = Names { all: Vec::new(), numbers: BTreeMap::new(), sides: Default::default() };
        names.sides = [names.side(0, old), names.side(1, new)];
        names
    }

    fn side(&mut self, side: usize, policy: &Policy) -> Side {
        let rollouts = policy.rollouts.iter().map(|rollout| {
            let default = rollout.variant(rollout.default).map(|it| it.name.to_string());
            self.insert(What::Rollout, &rollout.name, side, default)
        });
        let rollouts = rollouts.collect();
        let exported = policy.exported_flags.iter().filter_map(|id| Some((*id, policy.flag(*id)?)));
        let flags = exported.map(|(id, flag)| {
            let default = flag.default.and_then(|it| flag.variant(it)).map(|it| it.name.to_string());
            (id, self.insert(What::Flag, &flag.key, side, default))
        });
        Side { flags: flags.collect(), rollouts }
    }

    fn insert(&mut self, what: What, name: &str, side: usize, default: Option<String>) -> usize {
        let number = *self.numbers.entry((what, name.to_owned())).or_insert_with(|| {
            self.all.push(Name { what, name: name.to_owned(), defaults: [None, None] });
            self.all.len() - 1
        });
        if let Some(slot) = self.all.get_mut(number).and_then(|it| it.defaults.get_mut(side)) {
            *slot = default;
        }
        number
    }

    /// The names of the rollouts.
    pub fn rollouts(&self) -> impl Iterator<Item = &str> {
        self.all.iter().filter(|it| it.what == What::Rollout).map(|it| it.name.as_str())
    }

    /// The numbers of these rollouts, and of all flags or none.
    pub fn numbers(&self, rollouts: &[String], flags: bool) -> HashSet<usize> {
        let is_told = |what, name: &String| match what {
            What::Rollout => rollouts.contains(name),
            What::Flag => flags,
        };
        self.numbers
            .iter()
            .filter(|((what, name), _)| is_told(*what, name))
            .map(|(_, number)| *number)
            .collect()
    }

    /// What a request gets under one of the policies, by number, with the names of the variants.
    fn got<'p>(side: &Side, (policy, decisions): Decided<'p>) -> BTreeMap<usize, &'p str> {
        let rollouts = decisions.list.iter().filter(|it| it.applies).filter_map(|it| {
            let number = side.rollouts.get(usize::try_from(it.rollout).ok()?)?;
            Some((*number, &*policy.rollout(it.rollout)?.variant(it.variant)?.name))
        });
        let flags = decisions.flags.iter().filter_map(|(id, resolution)| {
            Some((*side.flags.get(id)?, &*policy.flag(*id)?.variant(resolution.variant?)?.name))
        });
        rollouts.chain(flags).collect()
    }
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
}

#[derive(Debug, Default)]
struct Moved {
    count: u64,
    /// The keys of requests, where one may have many.
    keys: HashSet<u64>,
}

/// A policy, and what it decided.
type Decided<'s> = (&'s Policy, &'s Decisions);

impl Moves {
    pub fn new(names: &Names) -> Moves {
        let moved = names.all.iter().map(|_| BTreeMap::new()).collect();
        Moves { count: 0, unread: 0, unchanged: vec![0; names.all.len()], moved }
    }

    /// Counts what one request gets before and after. `key_of` is the hash of its targeting key for a rollout.
    pub fn add(
        &mut self,
        names: &Names,
        [before, after]: [Decided<'_>; 2],
        is_told: impl Fn(usize) -> bool,
        key_of: impl Fn(&str) -> Option<u64>,
    ) {
        let [old, new] = &names.sides;
        let (before, after) = (Names::got(old, before), Names::got(new, after));
        let added = after.keys().filter(|number| !before.contains_key(number));
        for number in before.keys().chain(added).filter(|number| is_told(**number)) {
            let (from, to) = (before.get(number).copied(), after.get(number).copied());
            if from == to {
                if let Some(unchanged) = self.unchanged.get_mut(*number) {
                    *unchanged += 1;
                }
                continue;
            }
            let Some((ways, name)) = self.moved.get_mut(*number).zip(names.all.get(*number)) else {
                continue;
            };
            let moved = ways.entry((from.map(str::to_owned), to.map(str::to_owned))).or_default();
            moved.count += 1;
            if moved.keys.len() < MOST_KEYS {
                moved.keys.extend(key_of(&name.name));
            }
        }
    }

    /// Adds others of the same names.
    pub fn merge(&mut self, other: Moves) {
        self.count += other.count;
        self.unread += other.unread;
        for (ours, theirs) in self.unchanged.iter_mut().zip(other.unchanged) {
            *ours += theirs;
        }
        for (ours, theirs) in self.moved.iter_mut().zip(other.moved) {
            for (way, moved) in theirs {
                let ours = ours.entry(way).or_default();
                ours.count += moved.count;
                ours.keys.extend(moved.keys);
            }
        }
    }

    /// What changes, for each rollout and flag.
    pub fn changes(&self, names: &Names) -> Vec<Change> {
        let all = names.all.iter().zip(&self.unchanged).zip(&self.moved);
        all.map(|((name, unchanged), moved)| Change::of(name, *unchanged, moved)).collect()
    }
}

/// The hash of a request's key for a rollout.
pub fn key_of(policy: &Policy, request: &Request<'_>, rollout: &str) -> Option<u64> {
    let (_, rollout) = policy.rollout_named(rollout)?;
    let values = Values::new(policy, *request);
    let mut hasher = DefaultHasher::new();
    values.known_key(rollout.key)?.hash(&mut hasher);
    Some(hasher.finish())
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
}

/// How keys move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// None of this traffic concerns it.
    Untouched,
    /// Nobody moves.
    Unchanged,
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

impl Kind {
    /// Whether people see one version, and then another, for no good.
    pub fn is_alarming(self) -> bool {
        matches!(self, Kind::Shifts | Kind::Reshuffles)
    }
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
    fn of(name: &Name, unchanged: u64, moved: &BTreeMap<Way, Moved>) -> Change {
        let moves = moved.iter().map(|((from, to), it)| Move {
            from: from.clone(),
            to: to.clone(),
            count: it.count,
            keys: (!it.keys.is_empty()).then_some(it.keys.len()),
        });
        let kind = kind(name, unchanged, moved);
        Change { what: name.what, name: name.name.clone(), kind, unchanged, moves: moves.collect() }
    }
}

fn kind(name: &Name, unchanged: u64, moved: &BTreeMap<Way, Moved>) -> Kind {
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
    } else if unchanged > 0 {
        Kind::Unchanged
    } else {
        Kind::Untouched
    }
}
