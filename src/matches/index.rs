//! The index: finds the rollouts that apply to a request, in their order.

use std::cmp::Reverse;
use std::hash::Hasher;

use fnv::FnvHasher;

use super::hostname::{Hostname, Hosts};
use super::path::Filed;
use super::tiers::Tiers;
use super::{BELOW_HOSTNAME, CompiledEntry, Entry, Target};
use crate::budget::Exhausted;
use crate::finding::{Findings, Path, Problem};
use crate::pattern::Pattern;
use crate::policy::Parts;
use crate::wire;

/// The most pairs of a hostname and a match that one rollout may have: four times what an HTTPRoute rule may. It bounds
/// the time of one [`Index::insert`].
const MOST_PAIRS_OF_A_ROLLOUT: usize = 4_096;
/// The most such pairs of a policy, which a document of some MiB could have billions of. It bounds the memory, to some
/// 50 MB: 20,000 rollouts may have 25 pairs each.
const MOST_PAIRS: usize = 500_000;

/// Steps that looking into a slot takes.
const SLOT: usize = 2;
/// Steps that looking at an entry takes.
const FILING: usize = 1;
/// Steps that putting one in its place takes that holds.
const FOUND: usize = 10;

/// The rollouts of a policy by what requests they are about. Empty by default.
#[derive(Debug, Default)]
pub struct Index {
    hosts: Hosts,
    /// For each host by number, the length in bytes of the longest text below which something is filed.
    longest: Vec<usize>,
    /// The first filing in each slot. Filings in one slot form a list.
    slots: Tiers<Slot, u32>,
    filings: Vec<Filing>,
    entries: Vec<Entry>,
}

/// Where filings lie. Different texts may share a slot: an entry decides for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Slot {
    /// The number of the host.
    host: u32,
    /// Whether the text is the whole path, or followed by a `/` or nothing.
    whole: bool,
    /// FNV-1a of the text.
    hash: u64,
}

/// An entry of a rollout for one of its hostnames.
#[derive(Debug)]
struct Filing {
    /// The Gateway API's precedence: the higher comes first. From the highest bit down: hostname, path, method, headers,
    /// query.
    rank: u64,
    rollout: u32,
    entry: u32,
    /// The next in the slot, or [`END`].
    next: u32,
}

/// Ends a list of filings. No filing has this number: [`MOST_PAIRS`] is far below.
const END: u32 = u32::MAX;

impl Index {
    /// Compiles and adds the rollout written at `place`. `rollout` is its number in document order.
    ///
    /// Reports what it refuses, at `hostnames` and `matches` below `place`, and adds nothing then.
    pub fn insert(
        &mut self,
        rollout: u32,
        hostnames: &[String],
        matches: &[wire::Match],
        place: &Path<'_>,
        findings: &mut Findings,
    ) {
        let pairs = hostnames.len().max(1).saturating_mul(matches.len().max(1));
        if let Err(problem) = self.room_for(pairs) {
            return findings.report(place, problem);
        }
        let hostnames = Hostname::compile_all(hostnames, &place.field("hostnames"), findings);
        let entries = compile_entries(matches, &place.field("matches"), findings);
        let (Some(hostnames), Some(entries)) = (hostnames, entries) else { return };
        let hosts: Vec<_> =
            hostnames.iter().map(|hostname| (self.hosts.number(hostname), hostname.rank())).collect();
        for CompiledEntry { entry, rank, filed } in entries {
            let number = number(self.entries.len());
            self.entries.push(entry);
            for (host, host_rank) in &hosts {
                let rank = host_rank << BELOW_HOSTNAME | rank;
                self.file(*host, filed, Filing { rank, rollout, entry: number, next: END });
            }
        }
    }

    /// Fills `found` with the rollouts that apply to `target`, each once, in their order. What was in it is gone; whoever
    /// uses it again spares the allocation.
    pub fn find(&self, target: &Target<'_>, found: &mut Vec<u32>) {
        found.clear();
        let text = Pattern::text(target.path);
        for host in self.hosts.find(target.host) {
            let _ = self.find_below(host, target, |slot| {
                let held = self
                    .filings_in(slot)
                    .map_while(|number| Some((number, self.holds(number, target, text).ok()?)));
                found.extend(held.filter(|(_, holds)| *holds).map(|(number, _)| number));
            });
        }
        self.put_in_order(found);
    }

    /// Makes room for so many rollouts with an entry each.
    pub(crate) fn reserve(&mut self, rollouts: usize) {
        self.slots.reserve(rollouts);
        self.filings.reserve(rollouts);
        self.entries.reserve(rollouts);
    }

    /// Gives `parts` all of it.
    pub(crate) fn into_parts(self, parts: &mut Parts) {
        parts.add(self.entries, 4);
        self.hosts.into_parts(parts);
    }

    fn room_for(&self, pairs: usize) -> Result<(), Problem> {
        let policy_pairs = self.filings.len().saturating_add(pairs);
        if pairs > MOST_PAIRS_OF_A_ROLLOUT {
            return Err(Problem::over_limit(
                "pairs of a hostname and a match",
                MOST_PAIRS_OF_A_ROLLOUT,
                pairs,
            ));
        }
        if policy_pairs > MOST_PAIRS {
            return Err(Problem::over_limit(
                "pairs of a hostname and a match up to here",
                MOST_PAIRS,
                policy_pairs,
            ));
        }
        Ok(())
    }

    fn file(&mut self, host: u32, filed: Filed, filing: Filing) {
        let at = host as usize;
        if self.longest.len() <= at {
            self.longest.resize(at + 1, 0);
        }
        if let Some(longest) = self.longest.get_mut(at) {
            *longest = filed.length.max(*longest);
        }
        let slot = Slot { host, whole: filed.whole, hash: filed.hash };
        let next = self.slots.insert(slot, number(self.filings.len())).unwrap_or(END);
        self.filings.push(Filing { next, ..filing });
    }

    /// Visits every slot of `host` in which something may lie that matches the path: one pass over as much of it as the
    /// longest text below which something is filed there.
    fn find_below(
        &self,
        host: u32,
        target: &Target<'_>,
        mut visit: impl FnMut(Slot),
    ) -> Result<(), Exhausted> {
        let Target { path, budget, .. } = *target;
        let Some(longest) = self.longest.get(host as usize) else { return Ok(()) };
        budget.make(path.len().min(*longest))?;
        let mut hasher = FnvHasher::default();
        let mut visit = |whole, hasher: &FnvHasher| {
            visit(Slot { host, whole, hash: hasher.finish() });
            budget.spend(SLOT)
        };
        visit(false, &hasher)?;
        for (length, byte) in path.iter().enumerate().take(longest.saturating_add(1)) {
            if *byte == b'/' && length > 0 {
                visit(false, &hasher)?;
            }
            hasher.write(&[*byte]);
        }
        if (1..=*longest).contains(&path.len()) {
            visit(false, &hasher)?;
            visit(true, &hasher)?;
        }
        Ok(())
    }

    /// The numbers of the filings in a slot.
    fn filings_in(&self, slot: Slot) -> impl Iterator<Item = u32> {
        let first = self.slots.get(&slot).copied();
        std::iter::successors(first, |number| {
            self.filing(*number).map(|filing| filing.next).filter(|next| *next != END)
        })
    }

    fn holds(&self, filing: u32, target: &Target<'_>, text: Option<&str>) -> Result<bool, Exhausted> {
        target.budget.spend(FILING)?;
        let entry = self.filing(filing).and_then(|filing| self.entries.get(filing.entry as usize));
        let Some(entry) = entry else { return Ok(false) };
        let holds = entry.is_match(target, text)?;
        if holds {
            target.budget.spend(FOUND)?;
        }
        // What there was nothing left to look up counted as absent.
        if target.budget.is_exhausted() { Err(Exhausted) } else { Ok(holds) }
    }

    /// Of numbers of filings makes rollouts, each by its best filing.
    fn put_in_order(&self, found: &mut Vec<u32>) {
        let rank = |number: &u32| Reverse(self.filing(*number).map(|filing| filing.rank));
        let rollout = |number: &u32| self.filing(*number).map_or(END, |filing| filing.rollout);
        found.sort_unstable_by_key(|number| (rollout(number), rank(number)));
        found.dedup_by_key(|number| rollout(number));
        found.sort_unstable_by_key(|number| (rank(number), rollout(number)));
        for number in found {
            *number = rollout(number);
        }
    }

    fn filing(&self, number: u32) -> Option<&Filing> {
        self.filings.get(number as usize)
    }
}

/// The number of the item that comes next in a list of `length`. Lists are bounded far below.
fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(END)
}

/// Compiles the entries written at `place`; none is one that matches all. Reports what it refuses, and gives `None`
/// then.
fn compile_entries(
    matches: &[wire::Match],
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Vec<CompiledEntry>> {
    let all = [wire::Match::default()];
    let matches = if matches.is_empty() { &all } else { matches };
    let mut entries = Vec::with_capacity(matches.len());
    for (i, entry) in matches.iter().enumerate() {
        entries.extend(Entry::compile(entry, &place.item(i), findings));
    }
    (entries.len() == matches.len()).then_some(entries)
}
