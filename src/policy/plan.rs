//! Which pieces a document has, and in what order they are read.

use crate::finding::Problem;
use crate::policy::outline::{Item, Member};

/// The members of a document, and the brackets in which their items stand. The order is that in which they are read:
/// names are defined before they are used.
pub(super) const MEMBERS: [(&str, What, &str); 15] = [
    ("apiVersion", What::ApiVersion, ""),
    ("name", What::Name, ""),
    ("revision", What::Revision, ""),
    ("metadata", What::Metadata, ""),
    ("$schema", What::Schema, ""),
    ("fractional", What::Fractional, ""),
    ("keys", What::Key, "{"),
    ("flagKey", What::FlagKey, ""),
    ("attributes", What::Attribute, "{"),
    ("$evaluators", What::Evaluator, "{"),
    ("cohorts", What::Cohort, "{"),
    ("layers", What::Layer, "{"),
    ("holdouts", What::Holdout, "["),
    ("flags", What::Flag, "{["),
    ("rollouts", What::Rollout, "["),
];

/// The members that a document has, by their numbers in [`MEMBERS`].
pub(super) type Members = [Option<Member>; MEMBERS.len()];

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    ApiVersion,
    Name,
    Revision,
    Metadata,
    Schema,
    Fractional,
    Key,
    FlagKey,
    Attribute,
    Evaluator,
    Cohort,
    Layer,
    Holdout,
    Rollout,
    Flag,
}

impl What {
    /// What there may be too many of.
    pub(super) fn items(self) -> &'static str {
        if self == What::Rollout { "rollouts" } else { "items" }
    }
}

/// The number of a member in [`MEMBERS`].
pub(super) fn slot(name: &str) -> Option<usize> {
    MEMBERS.iter().position(|(known, ..)| *known == name)
}

/// That a document has a member that nobody knows.
pub(super) fn unknown_member() -> Problem {
    let names: Vec<String> = MEMBERS.iter().map(|(name, ..)| format!("`{name}`")).collect();
    Problem::UnknownMember { expected: format!("one of {}", names.join(", ")) }
}

/// One piece, and what it is.
#[derive(Debug)]
pub(super) struct Piecework {
    pub(super) what: What,
    pub(super) name: Box<str>,
    pub(super) at: usize,
    pub(super) end: usize,
    /// Which of its container's items it is.
    pub(super) item: usize,
}

/// The pieces of a document that are still to be read.
#[derive(Debug, Default)]
pub(super) struct Plan {
    members: Members,
    slot: usize,
    item: usize,
}

impl Plan {
    pub(super) fn new(members: Members) -> Plan {
        Plan { members, slot: 0, item: 0 }
    }

    /// How many items of a kind there are.
    pub(super) fn count_of(&self, what: What) -> usize {
        self.items(what).len()
    }

    /// The names of so many items of a kind, from one on.
    pub(super) fn names(&self, what: What, from: usize, count: usize) -> impl Iterator<Item = &str> {
        self.items(what).iter().skip(from).take(count).map(|item| item.name.as_deref().unwrap_or_default())
    }

    fn items(&self, what: What) -> &[Item] {
        let mut members = self.members.iter().zip(MEMBERS);
        let found = members.find(|(_, (_, it, _))| *it == what).and_then(|(member, _)| member.as_ref());
        found.map_or(&[], |member| &member.items)
    }
}

impl Iterator for Plan {
    type Item = Piecework;

    /// The next piece. What was refused unread stands nowhere, and is none.
    fn next(&mut self) -> Option<Piecework> {
        loop {
            let (_, what, brackets) = *MEMBERS.get(self.slot)?;
            let member = self.members.get_mut(self.slot).and_then(Option::as_mut);
            let item = self.item;
            let found = match member {
                Some(member) if brackets.is_empty() && item == 0 => {
                    Some((Box::default(), member.value.clone()))
                }
                Some(member) => member
                    .items
                    .get_mut(item)
                    .map(|item| (item.name.take().unwrap_or_default(), item.value.clone())),
                None => None,
            };
            let Some((name, value)) = found else {
                (self.slot, self.item) = (self.slot + 1, 0);
                continue;
            };
            self.item += 1;
            if !value.is_empty() {
                return Some(Piecework { what, name, at: value.start, end: value.end, item });
            }
        }
    }
}
