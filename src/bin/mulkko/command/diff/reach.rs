//! How much of the traffic gets to what two policies say otherwise, and what the rest lacks.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::hash::{DefaultHasher, Hash, Hasher};

use mulkko::logic::{Data, Key, Value, Var};
use mulkko::policy::{Rollout, TargetingKey};
use mulkko::schedule::Split;

use super::branches::Then;
use super::changes::{Asked, Changed, Id, Libraries, Said};
use super::meaning::written;

/// The most things that are noted of what one request lacks.
const MOST_LACKS: usize = 8;

/// How much of the traffic gets to one rollout or flag.
#[derive(Debug, Default)]
pub struct Reach {
    /// The requests that it concerns, before or after.
    pub matched: u64,
    pub parts: Vec<Reached>,
}

/// How much of it gets to a part of what is different.
#[derive(Debug, Default)]
pub struct Reached {
    /// The requests that take its branches.
    pub taken: u64,
    /// Those of them that tell all that is asked for there.
    pub reached: u64,
    /// What the others lack: under which policy, and how many of them.
    pub lacks: Vec<(usize, Lack, u64)>,
    pub hashed: Majority,
}

/// What a request may lack.
#[derive(Clone, Debug, PartialEq)]
pub enum Lack {
    Key(TargetingKey),
    Var(Var),
}

/// Whether one of many is most of them: the majority vote of Boyer and Moore.
#[derive(Clone, Copy, Debug, Default)]
pub struct Majority {
    all: u64,
    most: u64,
    /// By how many more it is there than all others together; at least.
    lead: u64,
}

impl Reach {
    /// Counts a request that a rollout or a flag concerns: under the policies for which it is asked.
    pub fn add(&mut self, changed: &Changed<'_>, libraries: &Libraries, asked: [Option<&Asked<'_>>; 2]) {
        self.matched += 1;
        self.parts.resize_with(changed.parts.len(), Reached::default);
        let taken = asked.into_iter().enumerate().filter_map(|(side, asked)| {
            let (said, asked) = (changed.sides.get(side)?.as_ref()?, asked?);
            Some(Taken { side, said, asked, branch: libraries.taken(side, said, asked)? })
        });
        let taken: Vec<Taken<'_, '_>> = taken.collect();
        for (part, reached) in changed.parts.iter().zip(&mut self.parts) {
            let is_of =
                |it: &&Taken<'_, '_>| part.get(it.side).is_some_and(|branches| branches.contains(&it.branch));
            let mut looked = None;
            for taken in taken.iter().filter(is_of) {
                looked.get_or_insert_with(Looked::default).at(changed, libraries, taken);
            }
            looked.into_iter().for_each(|looked| reached.add(looked));
        }
    }

    /// Adds that of others.
    pub fn merge(&mut self, other: Reach) {
        self.matched += other.matched;
        self.parts.resize_with(self.parts.len().max(other.parts.len()), Reached::default);
        for (ours, theirs) in self.parts.iter_mut().zip(other.parts) {
            ours.taken += theirs.taken;
            ours.reached += theirs.reached;
            ours.hashed.merge(theirs.hashed);
            for (side, lack, count) in theirs.lacks {
                ours.lack(side, lack, count);
            }
        }
    }
}

impl Reached {
    fn add(&mut self, looked: Looked) {
        self.taken += 1;
        if !looked.lacks.is_empty() {
            looked.lacks.into_iter().for_each(|(side, lack)| self.lack(side, lack, 1));
            return;
        }
        self.reached += 1;
        if let Some(hasher) = looked.hashed {
            self.hashed.add(hasher.finish());
        }
    }

    fn lack(&mut self, side: usize, lack: Lack, count: u64) {
        match self.lacks.iter_mut().find(|(s, known, _)| *s == side && *known == lack) {
            Some((_, _, known)) => *known += count,
            None => self.lacks.push((side, lack, count)),
        }
    }
}

impl Majority {
    fn add(&mut self, one: u64) {
        self.merge(Majority { all: 1, most: one, lead: 1 });
    }

    fn merge(&mut self, other: Majority) {
        self.all += other.all;
        if self.most == other.most {
            self.lead += other.lead;
        } else if other.lead > self.lead {
            (self.most, self.lead) = (other.most, other.lead - self.lead);
        } else {
            self.lead -= other.lead;
        }
    }

    /// Whether all but one in a hundred are the same, of `Some` many.
    pub fn is_one(self) -> Option<u64> {
        // Each that is another takes one from the lead, so that two are missing for it.
        let others = (self.all - self.lead) / 2;
        (self.all > 0 && others.saturating_mul(100) < self.all).then_some(self.all)
    }
}

/// The branch that a request takes under one of the policies.
struct Taken<'t, 'a> {
    side: usize,
    said: &'t Said<'t>,
    asked: &'t Asked<'a>,
    branch: usize,
}

/// What the branches of one request ask for.
#[derive(Default)]
struct Looked {
    lacks: Vec<(usize, Lack)>,
    /// What is hashed.
    hashed: Option<DefaultHasher>,
}

impl Looked {
    fn at(&mut self, changed: &Changed<'_>, libraries: &Libraries, taken: &Taken<'_, '_>) {
        let Taken { side, said, asked, branch } = *taken;
        match (said.branches.get(branch).map(|branch| branch.then), said.id) {
            (Some(Then::Split), Id::Rollout(id)) => {
                let Some(rollout) = asked.policy.rollout(id) else { return };
                for key in keys(rollout, changed, asked) {
                    match asked.values.known_key(key) {
                        None => self.lacks.push((side, Lack::Key(key))),
                        Some(key) => key.hash(self.hashed.get_or_insert_default()),
                    }
                }
            }
            (Some(Then::Value(_)), id) => {
                let Some(seen) = id.seen(asked) else { return };
                let watched = Watched { seen: &seen, lacks: RefCell::default(), saw: Cell::default() };
                if libraries.look(side, said, branch, &watched) {
                    watched.saw.get().hash(self.hashed.get_or_insert_default());
                }
                self.lacks.extend(watched.lacks.into_inner().into_iter().map(|lack| (side, lack)));
            }
            _ => {}
        }
    }
}

/// What is hashed where a request comes to a rollout's split now. Whom the same holdouts hold under both policies does not move.
fn keys(rollout: &Rollout, changed: &Changed<'_>, asked: &Asked<'_>) -> Vec<TargetingKey> {
    let is_split = !matches!(rollout.schedule.at(asked.values.now_ms()), Split::Whole(_));
    let slice = rollout.slice.iter().map(|slice| TargetingKey::Key(slice.key));
    let holdouts = asked.policy.holdouts.iter().filter(|_| rollout.held_out && changed.is_held_out_otherwise);
    let holdouts = holdouts.map(|holdout| TargetingKey::Key(holdout.key));
    let own = is_split.then_some(rollout.key).into_iter().chain(slice).chain(holdouts);
    let mut keys: Vec<TargetingKey> = Vec::new();
    own.for_each(|key| {
        if !keys.contains(&key) {
            keys.push(key);
        }
    });
    keys
}

/// What an expression sees, noting what it asks for.
struct Watched<'s> {
    seen: &'s dyn Data,
    lacks: RefCell<Vec<Lack>>,
    /// The hash of all that is there.
    saw: Cell<u64>,
}

impl Watched<'_> {
    fn note(&self, lack: impl FnOnce() -> Lack, value: &Value<'_>) {
        if matches!(value, Value::Null) {
            return self.lack(lack());
        }
        let mut hasher = DefaultHasher::new();
        self.saw.get().hash(&mut hasher);
        written(value, &mut hasher);
        self.saw.set(hasher.finish());
    }

    fn lack(&self, lack: Lack) {
        let mut lacks = self.lacks.borrow_mut();
        if lacks.len() < MOST_LACKS && !lacks.contains(&lack) {
            lacks.push(lack);
        }
    }
}

impl Data for Watched<'_> {
    fn var<'s>(&'s self, var: &Var) -> Value<'s> {
        let value = self.seen.var(var);
        self.note(|| Lack::Var(var.clone()), &value);
        value
    }

    fn text<'s>(&'s self, var: &Var) -> Option<Cow<'s, str>> {
        let text = self.seen.text(var);
        self.note(|| Lack::Var(var.clone()), &text.clone().map_or(Value::Null, Value::Text));
        text
    }

    fn key(&self) -> Key<'_> {
        // One that is drawn now was not the request's.
        let known = self.seen.var(&Var::TargetingKey);
        let is_none = Key::is_none(&known);
        self.note(|| Lack::Var(Var::TargetingKey), if is_none { &Value::Null } else { &known });
        self.seen.key()
    }

    fn flag(&self, id: u32) -> Value<'_> {
        self.seen.flag(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_found_in_any_order() {
        for (keys, expected) in [
            (vec![], None),
            (vec![7], Some(1)),
            (vec![7; 2], Some(2)),
            (vec![7, 8], None),
            ([vec![7; 198], vec![8], vec![7]].concat(), Some(200)),
            ([vec![8, 9, 8, 9], vec![7; 196]].concat(), None),
            ((0..100).collect(), None),
        ] {
            let count = |keys: &[u64]| {
                let mut majority = Majority::default();
                keys.iter().for_each(|key| majority.add(*key));
                majority
            };
            assert_eq!(count(&keys).is_one(), expected, "{keys:?}");
            let (left, right) = keys.split_at(keys.len() / 3);
            let mut merged = count(left);
            merged.merge(count(right));
            assert_eq!(merged.is_one(), expected, "{keys:?}");
        }
    }
}
