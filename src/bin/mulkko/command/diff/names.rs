//! What two policies can have differently: rollouts and flags, numbered.

use std::collections::{BTreeMap, BTreeSet};

use mulkko::decide::decide;
use mulkko::flag::FlagId;
use mulkko::policy::Policy;
use serde::Serialize;

use super::changes::{Asked, Changed, Changes};

/// What can change: the rollouts and the flags of both policies, numbered. Of flags those that are exported, and those that
/// the policies say otherwise.
#[derive(Debug)]
pub struct Names {
    pub all: Vec<Name>,
    numbers: BTreeMap<(What, String), usize>,
    sides: [Side; 2],
}

/// The numbers of what one of the policies has.
#[derive(Debug, Default)]
struct Side {
    /// By the rollout's own.
    rollouts: Vec<usize>,
    /// By the flag's own.
    flags: BTreeMap<FlagId, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Rollout,
    Flag,
}

#[derive(Debug)]
pub struct Name {
    pub what: What,
    pub name: String,
    /// The default variants, before and after.
    pub defaults: [Option<String>; 2],
}

impl Names {
    pub fn of([old, new]: [&Policy; 2], changed: &BTreeSet<&str>) -> Names {
        let mut names = Names { all: Vec::new(), numbers: BTreeMap::new(), sides: Default::default() };
        names.sides = [names.side(0, old, changed), names.side(1, new, changed)];
        names
    }

    fn side(&mut self, side: usize, policy: &Policy, changed: &BTreeSet<&str>) -> Side {
        let rollouts = policy.rollouts.iter().map(|rollout| {
            let default = rollout.variant(rollout.default).map(|it| it.name.to_string());
            self.insert(What::Rollout, &rollout.name, side, default)
        });
        let rollouts = rollouts.collect();
        let exported: BTreeSet<FlagId> = policy.exported_flags.iter().copied().collect();
        let flags = (0..).zip(&policy.flags);
        let flags = flags.filter(|(id, flag)| exported.contains(id) || changed.contains(&*flag.key));
        let flags = flags.map(|(id, flag)| {
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

    /// What the policies say otherwise, by number.
    pub fn changed<'c, 'd>(&self, changes: &'c Changes<'d>) -> Vec<Option<&'c Changed<'d>>> {
        self.all.iter().map(|name| changes.of(name.what, &name.name)).collect()
    }

    /// The rollouts: numbers and names.
    pub fn rollouts(&self) -> impl Iterator<Item = (usize, &str)> {
        let rollouts = self.all.iter().enumerate().filter(|(_, it)| it.what == What::Rollout);
        rollouts.map(|(number, it)| (number, it.name.as_str()))
    }

    /// The numbers of the flags.
    pub fn flags(&self) -> impl Iterator<Item = usize> {
        self.all.iter().enumerate().filter(|(_, it)| it.what == What::Flag).map(|(number, _)| number)
    }

    /// What a request gets under one of the policies, by number, with the names of the variants.
    pub fn got<'a>(&self, side: usize, asked: &Asked<'a>) -> BTreeMap<usize, Option<&'a str>> {
        let Some(side) = self.sides.get(side) else { return BTreeMap::new() };
        let policy = asked.policy;
        let decisions = decide(policy, asked.request);
        let rollouts = decisions.list.iter().filter(|it| it.applies).filter_map(|it| {
            let number = side.rollouts.get(usize::try_from(it.rollout).ok()?)?;
            Some((*number, Some(&*policy.rollout(it.rollout)?.variant(it.variant)?.name)))
        });
        let flags = side.flags.iter().filter_map(|(id, number)| {
            let flag = policy.flag(*id)?;
            let variant = asked.values.resolve(flag, asked.context).variant.and_then(|it| flag.variant(it));
            Some((*number, variant.map(|it| &*it.name)))
        });
        rollouts.chain(flags).collect()
    }
}
