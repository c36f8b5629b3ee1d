//! What one VM knows of a shadow, until it has told the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::guard::Shared;
use crate::policy::{Policy, Rollout};
use crate::shadow::difference::compare;
use crate::shadow::exchange::Event;
use crate::shadow::field::{Field, Kind};
use crate::shadow::print::{Print, Seen};
use crate::shadow::record::{Batch, Change, Record, Seeing, Tally, Totals};
use crate::shadow::sketch::Paths;
use crate::shadow::{Comparison, Shadow};

/// How far ahead a record may have begun, in milliseconds: clocks move a little, and what claims more is made up.
const AHEAD_MS: i64 = 10_000;

/// What one VM knows of a shadow.
#[derive(Debug)]
pub(super) struct Watch {
    pub rollout: Arc<str>,
    pub cluster: Arc<str>,
    pub comparison: Arc<Comparison>,
    pub paths: Paths,
    pub in_flight: usize,
    began_ms: i64,
    pub totals: Totals,
    fields: BTreeMap<Field, (Tally, [Seen; 2])>,
}

impl Watch {
    /// Of a shadow that is first met now.
    pub fn new(rollout: &Rollout, shadow: &Shadow, comparison: &Arc<Comparison>, now_ms: i64) -> Watch {
        Watch {
            rollout: Arc::clone(&rollout.name),
            cluster: Arc::clone(&shadow.cluster),
            comparison: Arc::clone(comparison),
            paths: Paths::default(),
            in_flight: 0,
            began_ms: now_ms,
            totals: Totals::default(),
            fields: BTreeMap::new(),
        }
    }

    /// Whether a policy still has the shadow.
    pub fn is_of(&self, policy: &Policy) -> bool {
        let shadow = policy.rollout_named(&self.rollout).and_then(|(_, rollout)| rollout.shadow.as_ref());
        let comparison = shadow.and_then(|shadow| shadow.comparison.as_ref());
        comparison.is_some_and(|it| it.identity == self.comparison.identity)
    }

    /// Compares the answers to a request and its copies.
    pub fn compare(
        &mut self,
        primary: &Print,
        candidate: &Print,
        secondary: Option<&Print>,
    ) -> impl Iterator<Item = Event> + use<> {
        let raw = compare(primary, candidate);
        let noise = secondary.map(|secondary| compare(primary, secondary));
        let is_paired = noise.is_some();
        let noise = noise.unwrap_or_default();
        self.totals.compared += 1;
        self.totals.paired += u64::from(is_paired);
        self.totals.equal += u64::from(raw.fields.is_empty());
        self.totals.unknown_bodies += u64::from(raw.is_body_unknown);
        for field in raw.fields.iter().chain(noise.fields.iter().filter(|field| !raw.has(**field))) {
            let (tally, example) = self.fields.entry(*field).or_default();
            let (is_raw, is_noise) = (raw.has(*field), noise.has(*field));
            tally.raw += u64::from(is_raw);
            tally.both += u64::from(is_raw && is_noise);
            tally.only_candidate += u64::from(is_paired && is_raw && !is_noise);
            tally.only_secondary += u64::from(is_noise && !is_raw);
            if is_raw {
                *example = [primary.seen(*field), candidate.seen(*field)];
            }
        }
        let mut kinds: Vec<Kind> = raw.fields.iter().map(|field| field.kind()).collect();
        kinds.dedup();
        [Event::Compared(kinds.is_empty())].into_iter().chain(kinds.into_iter().map(Event::Differs))
    }

    /// Adds what was compared to what the process knows: how many fields are reported there now, and the verdicts that
    /// have changed. Where that cannot be written it is tried again.
    pub fn tell(&mut self, shared: Shared<'_>, now_ms: i64) -> Option<(u64, Vec<Change>)> {
        let identity = self.comparison.identity;
        let named = self.fields.iter().map(|(field, (tally, example))| Seeing {
            kind: field.kind(),
            name: field.name(&self.comparison, &self.paths).into(),
            tally: *tally,
            example: example.clone(),
        });
        let known = 2 + self.comparison.headers.len() + self.paths.len();
        let batch =
            Batch { totals: self.totals, fields: named.collect(), known: u64::try_from(known).unwrap_or(0) };
        let has_secondary = self.comparison.secondary.is_some();
        let mut is_replaced = false;
        let told = shared.update(&record_key(shared.place, &self.rollout), |bytes| {
            let new = || Record::new(identity, self.began_ms);
            let mut record = Record::read(bytes).unwrap_or_else(new);
            if record.identity != identity {
                // Of two policies that are both in force for a while the older one has nothing to say any more.
                let began = self.began_ms.saturating_add(1)..=now_ms.saturating_add(AHEAD_MS);
                is_replaced = began.contains(&record.began_ms);
                if is_replaced {
                    return None;
                }
                record = new();
            }
            let changed = record.take(&batch, has_secondary);
            Some((record.bytes(), (changed, record.reported(), record.totals.compared)))
        });
        if told.is_some() || is_replaced {
            (self.totals, self.fields) = (Totals::default(), BTreeMap::new());
        }
        let (changed, reported, compared) = told?;
        let rollout = &self.rollout;
        let change = |found| Change { rollout: (**rollout).into(), found, compared, has_secondary };
        Some((reported, changed.into_iter().map(change).collect()))
    }
}

/// Where the record of a rollout's shadow lies.
pub(super) fn record_key(place: &str, rollout: &str) -> String {
    format!("{place}shadow/{rollout}")
}
