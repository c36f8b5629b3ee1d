//! What two policies say otherwise, by rollout and flag: which branches, compiled to see who takes them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use mulkko::decide::{Request, Values};
use mulkko::finding::{Findings, Path};
use mulkko::flag::FlagId;
use mulkko::json::Json;
use mulkko::logic::{Compiler, Condition, Data, Library};
use mulkko::ofrep::Context;
use mulkko::policy::{Policy, RolloutId};
use mulkko::wire::Rollout;

use super::super::explain::conditions::compiler;
use super::Side;
use super::branches::{self, Branch, Part, Then};
use super::meaning::Meaning;
use super::names::What;

/// All that is different.
pub struct Changes<'d> {
    pub meanings: [Meaning<'d>; 2],
    list: BTreeMap<(What, String), Changed<'d>>,
}

/// What is different about a rollout or a flag.
pub struct Changed<'d> {
    /// What each policy says, where it has it.
    pub sides: [Option<Said<'d>>; 2],
    /// Whether it matches other requests than before.
    pub is_matched_otherwise: bool,
    /// Whether other keys are held out than before.
    pub is_held_out_otherwise: bool,
    pub parts: Vec<Part>,
}

/// What one of the policies says of a rollout or a flag.
pub struct Said<'d> {
    pub id: Id,
    pub branches: Vec<Branch<'d>>,
    /// What hosts, paths and the like it matches, and what its variants are, as the document writes it.
    matches: String,
    variants: String,
    seed: &'d str,
    compiled: Vec<Compiled>,
}

/// A rollout or a flag, by its number in its policy.
#[derive(Clone, Copy, Debug)]
pub enum Id {
    Rollout(RolloutId),
    Flag(FlagId),
}

/// A branch, compiled.
struct Compiled {
    conditions: Vec<Condition>,
    /// The value that follows.
    value: Option<Condition>,
    /// Whether something of the request is hashed for it.
    is_hashed: bool,
}

/// The compiled expressions of all that is different, of both policies.
pub struct Libraries([Library; 2]);

/// A request under one of the policies.
pub struct Asked<'a> {
    pub policy: &'a Policy,
    pub request: Request<'a>,
    pub values: Values<'a>,
    /// What somebody says who asks for flags.
    pub context: Option<&'a Context>,
}

impl<'a> Asked<'a> {
    pub fn new(policy: &'a Policy, request: Request<'a>, context: Option<&'a Context>) -> Asked<'a> {
        Asked { policy, request, values: Values::new(policy, request), context }
    }
}

impl<'d> Changes<'d> {
    /// What two policies say otherwise, with what it takes to decide it.
    ///
    /// # Errors
    /// When an expression does not compile that the engine took.
    pub fn between(sides: [&'d Side; 2]) -> Result<(Changes<'d>, Libraries)> {
        let meanings = sides.map(|side| Meaning::new(&side.document));
        let mut said: BTreeMap<(What, &'d str), [Option<Said<'d>>; 2]> = BTreeMap::new();
        for (i, (side, meaning)) in sides.iter().zip(&meanings).enumerate() {
            for (name, of) in all_said(side, meaning) {
                if let Some(slot) = said.entry(name).or_default().get_mut(i) {
                    *slot = Some(of);
                }
            }
        }
        let [old, new] = meanings.each_ref().map(branches::of_holdouts);
        let changed = said.into_iter().filter_map(|((what, name), sides)| {
            Some(((what, name.to_owned()), Changed::of(sides, old != new)?))
        });
        let mut list: BTreeMap<_, _> = changed.collect();
        let [old, new] = [0, 1].map(|side| {
            let meaning = meanings.get(side)?;
            let said = list.values_mut().filter_map(|it: &mut Changed<'_>| it.sides.get_mut(side)?.as_mut());
            compile(said, meaning)
        });
        let problem = "an expression that the engine took";
        let libraries = Libraries([old.context(problem)?, new.context(problem)?]);
        Ok((Changes { meanings, list }, libraries))
    }

    /// The keys of the flags that are different.
    pub fn flags(&self) -> BTreeSet<&str> {
        self.list.keys().filter(|(what, _)| *what == What::Flag).map(|(_, key)| key.as_str()).collect()
    }

    /// The rollouts that come as others go that are alike, but that deal keys anew: by their names, with those of the others.
    pub fn renamed(&self) -> BTreeMap<&str, &str> {
        let alone = |side: usize| {
            let rollouts = self.list.iter().filter(|((what, _), _)| *what == What::Rollout);
            rollouts.filter_map(move |((_, name), it)| {
                let other = it.sides.get(1 - side)?;
                Some((name.as_str(), it.sides.get(side)?.as_ref().filter(|_| other.is_none())?))
            })
        };
        let gone: BTreeMap<_, _> =
            alone(0).map(|(name, said)| ((&said.matches, &said.variants), (name, said.seed))).collect();
        let come = alone(1).filter_map(|(name, said)| {
            let (before, seed) = gone.get(&(&said.matches, &said.variants))?;
            (*seed != said.seed).then_some((name, *before))
        });
        come.collect()
    }

    /// What is different about a rollout or a flag, if anything is.
    pub fn of(&self, what: What, name: &str) -> Option<&Changed<'d>> {
        self.list.get(&(what, name.to_owned()))
    }
}

/// What a policy says of each of its rollouts and flags.
fn all_said<'d>(side: &'d Side, meaning: &Meaning<'d>) -> Vec<((What, &'d str), Said<'d>)> {
    let policy = &side.run.policy;
    let rollouts = side.document.rollouts.iter().flatten().filter_map(|rollout| {
        let (id, compiled) = policy.rollout_named(&rollout.name)?;
        let branches = branches::of_rollout(rollout, compiled.held_out, meaning);
        let variants = format!("{:?}", (&rollout.variants, &rollout.default));
        let seed = rollout.seed.as_ref().unwrap_or(&rollout.name);
        let said = Said { matches: matches(rollout), variants, seed, ..Said::of(Id::Rollout(id), branches) };
        Some(((What::Rollout, &*rollout.name), said))
    });
    let flags = (0..).zip(side.document.flags.iter().flat_map(|flags| &flags.0)).map(|(id, (key, flag))| {
        ((What::Flag, &**key), Said::of(Id::Flag(id), branches::of_flag(flag, meaning)))
    });
    rollouts.chain(flags).collect()
}

fn matches(rollout: &Rollout) -> String {
    format!("{:?}", (&rollout.hostnames, &rollout.matches))
}

/// Compiles the branches of all of these; gives what they use.
fn compile<'s, 'd: 's>(
    said: impl Iterator<Item = &'s mut Said<'d>>,
    meaning: &Meaning<'d>,
) -> Option<Library> {
    let mut findings = Findings::default();
    let mut compiler = compiler(meaning.document, &mut findings);
    for said in said {
        let compile = match said.id {
            Id::Rollout(_) => Compiler::when,
            Id::Flag(_) => Compiler::targeting,
        };
        let mut one = |json: &Json| compile(&mut compiler, json, &Path::Root, &mut findings);
        for branch in &said.branches {
            let conditions = branch.conditions.iter().map(|json| one(json)).collect::<Option<_>>()?;
            let Then::Value(json) = branch.then else {
                said.compiled.push(Compiled { conditions, value: None, is_hashed: false });
                continue;
            };
            let mut is_hashed = false;
            meaning.each(json, &mut |operator, _| is_hashed |= operator == "fractional");
            said.compiled.push(Compiled { conditions, value: Some(one(json)?), is_hashed });
        }
    }
    while compiler.compile_unused(&mut findings) {}
    compiler.close(&mut findings)
}

impl<'d> Changed<'d> {
    fn of(sides: [Option<Said<'d>>; 2], is_held_out_otherwise: bool) -> Option<Changed<'d>> {
        let (parts, is_matched_otherwise) = match &sides {
            [Some(old), Some(new)] => {
                (branches::parts(&old.branches, &new.branches), old.matches != new.matches)
            }
            [Some(old), None] => (branches::whole(&old.branches, 0), false),
            [None, Some(new)] => (branches::whole(&new.branches, 1), false),
            [None, None] => return None,
        };
        let is_changed = is_matched_otherwise || !parts.is_empty();
        is_changed.then_some(Changed { sides, is_matched_otherwise, is_held_out_otherwise, parts })
    }
}

impl<'d> Said<'d> {
    fn of(id: Id, branches: Vec<Branch<'d>>) -> Said<'d> {
        Said { id, branches, matches: String::new(), variants: String::new(), seed: "", compiled: Vec::new() }
    }
}

impl Id {
    /// What the conditions of it see.
    pub fn seen<'v, 'a>(self, asked: &'v Asked<'a>) -> Option<impl Data + use<'v, 'a>> {
        match self {
            Id::Rollout(id) => Some(asked.values.seen_with(asked.policy.rollout(id)?.key)),
            Id::Flag(id) => asked.values.seen_for(id, asked.context),
        }
    }
}

impl Libraries {
    /// Which branch a request takes, under the policy of that side.
    pub fn taken(&self, side: usize, said: &Said<'_>, asked: &Asked<'_>) -> Option<usize> {
        let (library, seen) = (self.0.get(side)?, said.id.seen(asked)?);
        let budget = asked.values.budget();
        let holds = |condition: &Condition| budget.apart(|| condition.holds(library, &seen));
        said.compiled.iter().position(|branch| branch.conditions.iter().all(holds))
    }

    /// Has `data` see what the value of a branch asks for; whether something of it is hashed.
    pub fn look(&self, side: usize, said: &Said<'_>, branch: usize, data: &dyn Data) -> bool {
        let compiled = said.compiled.get(branch);
        let Some((library, branch)) = self.0.get(side).zip(compiled) else { return false };
        if let Some(value) = &branch.value {
            let _ = value.evaluate(library, data);
        }
        branch.is_hashed
    }
}
