//! Requests for made-up keys: for every rollout of both policies some that it matches.

use std::collections::{BTreeMap, HashSet};

use mulkko::cases::Asked;
use mulkko::wire::Rollout;

use super::super::request::{Options, plain};
use super::super::traffic::{applies, candidates};
use super::Side;
use super::moves::Counting;
use super::unknown::Unknown;

/// Requests, and the rollouts for which none was found.
#[derive(Debug, Default)]
pub struct Requests {
    /// Each with the numbers of the rollouts and flags of which it tells.
    pub list: Vec<(Asked, HashSet<usize>)>,
    pub without: Vec<String>,
    /// The rollouts that match others than before, where no request was found of which that is true.
    alike: Vec<String>,
}

impl Requests {
    /// Requests for all rollouts of both policies.
    pub fn of(sides: [&Side; 2], counting: &Counting<'_>, options: &Options) -> Requests {
        let mut requests = Requests::default();
        // Flags go with any request.
        let flags: HashSet<usize> = counting.names.flags().collect();
        requests.list.extend((!flags.is_empty()).then(|| (options.asked(plain()), flags)));
        let rollouts = sides.map(|side| {
            let rollouts = side.document.rollouts.iter().flatten();
            rollouts.map(|rollout| (rollout.name.as_str(), rollout)).collect::<BTreeMap<_, _>>()
        });
        for (number, name) in counting.names.rollouts() {
            let changed = counting.changed.get(number).copied().flatten();
            let is_otherwise = changed.is_some_and(|changed| changed.is_matched_otherwise);
            let rollouts = rollouts.iter().filter_map(|side| side.get(name).copied());
            let [shared, of_old, of_new] = found(sides, rollouts, name, options, is_otherwise);
            if is_otherwise
                && shared.is_some()
                && of_old.is_none()
                && of_new.is_none()
                && !options.says_where()
            {
                requests.alike.push(name.to_owned());
            }
            let found: Vec<Asked> = [shared, of_old, of_new].into_iter().flatten().collect();
            if found.is_empty() {
                requests.without.push(name.to_owned());
            }
            for asked in found {
                match requests.list.iter_mut().find(|(known, _)| *known == asked) {
                    Some((_, numbers)) => numbers.extend([number]),
                    None => requests.list.push((asked, HashSet::from([number]))),
                }
            }
        }
        requests
    }

    /// What is not known for want of a request, of so much traffic.
    pub fn problems(&self, count: u64) -> BTreeMap<&str, Vec<Unknown>> {
        let lacks = "it matches others than before, and no request was found that only one of both policies matches; \
                     say one by --host, --path and -H";
        let problem = || vec![Unknown { reached: 0, of: count, lacks: lacks.to_owned() }];
        self.alike.iter().map(|name| (name.as_str(), problem())).collect()
    }
}

/// A request that a rollout matches under both policies; and where there is none, or it matches others than before, one for
/// each policy that matches under that alone.
fn found<'d>(
    sides: [&Side; 2],
    rollouts: impl Iterator<Item = &'d Rollout>,
    name: &str,
    options: &Options,
    is_otherwise: bool,
) -> [Option<Asked>; 3] {
    let candidates = rollouts.flat_map(|rollout| candidates(rollout, options));
    let mut found = [None, None, None];
    for asked in candidates {
        let slot = match sides.map(|side| applies(&side.run, &asked, name)) {
            [true, true] => 0,
            [true, false] => 1,
            [false, true] => 2,
            [false, false] => continue,
        };
        if let Some(slot) = found.get_mut(slot) {
            slot.get_or_insert(asked);
        }
        if found[0].is_some() && (!is_otherwise || found.iter().all(Option::is_some)) {
            break;
        }
    }
    found
}
