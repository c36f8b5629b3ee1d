//! How a rollout's split moves with time: every strategy compiles to it.

use crate::bucket::{Bucket, Threshold};

/// A variant of a rollout, by its place in the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariantId(pub u8);

/// A variant and the upper end of its buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The first bucket that is not its own any more.
    pub end: Threshold,
    /// The variant that owns the buckets below `end` that no earlier cut owns.
    pub variant: VariantId,
}

/// How the variants divide the buckets at one instant.
///
/// Every bucket belongs to exactly one variant. The first variant owns the lowest buckets, so raising its percentage
/// only ever adds keys to it: nobody who has seen the canary is thrown out while it grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split<'a> {
    /// One variant has all of them: no key is needed.
    Whole(VariantId),
    /// Those below the cut are its variant's, all others belong to `rest`.
    Cut(Cut, VariantId),
    /// Consecutive ranges, ends ascending; what is left belongs to the variant beside them.
    Cuts(&'a [Cut], VariantId),
}

impl Split<'_> {
    /// How many of the 2³² buckets `variant` owns.
    #[must_use]
    pub fn width(&self, variant: VariantId) -> u64 {
        let of = |cuts: &[Cut], rest: VariantId| {
            let mut from = Threshold::NOBODY;
            let last = Cut { end: Threshold::EVERYBODY, variant: rest };
            let mut width = 0;
            for cut in cuts.iter().chain([&last]) {
                let end = cut.end.max(from);
                width += if cut.variant == variant { end.0 - from.0 } else { 0 };
                from = end;
            }
            width
        };
        match self {
            Split::Whole(owner) => of(&[], *owner),
            Split::Cut(cut, rest) => of(&[*cut], *rest),
            Split::Cuts(cuts, rest) => of(cuts, *rest),
        }
    }

    /// The variant that owns `bucket`.
    #[must_use]
    pub fn variant(&self, bucket: Bucket) -> VariantId {
        match self {
            Split::Whole(variant) => *variant,
            Split::Cut(cut, rest) => {
                if bucket.is_below(cut.end) {
                    cut.variant
                } else {
                    *rest
                }
            }
            Split::Cuts(cuts, rest) => {
                cuts.iter().find(|cut| bucket.is_below(cut.end)).map_or(*rest, |cut| cut.variant)
            }
        }
    }
}

/// A variant's share from an instant on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// From when, in unix milliseconds, inclusive.
    pub from_ms: i64,
    /// Its share of the buckets.
    pub end: Threshold,
}

/// The split of a rollout as a function of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// The variant owns the lowest buckets, as many as the step says that rules; before the first, none. `rest` owns
    /// the others. Canary, blue-green and dark launch are of this form.
    Steps {
        /// The variant that moves.
        variant: VariantId,
        /// Steps, ascending in time.
        steps: Box<[Step]>,
        /// The variant of all other buckets.
        rest: VariantId,
    },
    /// Batch `i` of `batches` moves to the variant at `start_ms + i · every_ms`.
    Batches {
        /// The variant to which instances move.
        variant: VariantId,
        /// When batch 0 moves, in unix milliseconds.
        start_ms: i64,
        /// How many batches, 1 to 1,000.
        batches: u64,
        /// The time between two of them, above 0.
        every_ms: i64,
        /// The variant of instances that have not moved.
        rest: VariantId,
    },
    /// A fixed split between two instants, the default variant outside.
    Between {
        /// From when, in unix milliseconds, inclusive.
        start_ms: i64,
        /// Until when, exclusive.
        end_ms: i64,
        /// The shares: every variant but the last.
        cuts: Box<[Cut]>,
        /// The last variant of the split.
        last: VariantId,
        /// The default variant.
        outside: VariantId,
    },
}

impl Schedule {
    /// A schedule in which `variant` has everything at any time.
    #[must_use]
    pub fn always(variant: VariantId) -> Schedule {
        Schedule::Steps { variant, steps: Box::default(), rest: variant }
    }

    /// How the variants divide the buckets at `now_ms` (unix milliseconds).
    #[must_use]
    pub fn at(&self, now_ms: i64) -> Split<'_> {
        match self {
            Schedule::Steps { variant, steps, rest } => {
                let ruling = steps.partition_point(|step| step.from_ms <= now_ms).checked_sub(1);
                let end = ruling.and_then(|i| steps.get(i)).map_or(Threshold::NOBODY, |step| step.end);
                one_cut(Cut { end, variant: *variant }, *rest)
            }
            Schedule::Batches { variant, start_ms, batches, every_ms, rest } => {
                let since_ms = now_ms.saturating_sub(*start_ms);
                let moved = u64::try_from(since_ms).map_or(0, |ms| ms / every_ms.unsigned_abs().max(1) + 1);
                one_cut(Cut { end: Threshold::of_batches(moved, *batches), variant: *variant }, *rest)
            }
            Schedule::Between { start_ms, end_ms, cuts, last, outside } => {
                if now_ms < *start_ms || now_ms >= *end_ms {
                    return Split::Whole(*outside);
                }
                whole(cuts, *last).map_or(Split::Cuts(cuts, *last), Split::Whole)
            }
        }
    }

    /// The instants at which it changes, ascending, in unix milliseconds.
    #[must_use]
    pub fn changes(&self) -> Vec<i64> {
        let mut instants: Vec<i64> = match self {
            Schedule::Steps { steps, .. } => steps.iter().map(|step| step.from_ms).collect(),
            Schedule::Batches { start_ms, batches, every_ms, .. } => {
                let after = |i| every_ms.saturating_mul(i64::try_from(i).unwrap_or(i64::MAX));
                (0..*batches).map(|i| start_ms.saturating_add(after(i))).collect()
            }
            Schedule::Between { start_ms, end_ms, .. } => vec![*start_ms, *end_ms],
        };
        instants.retain(|ms| *ms != i64::MIN && *ms != i64::MAX);
        instants
    }

    /// Whether the split never changes with time.
    #[must_use]
    pub fn is_timeless(&self) -> bool {
        match self {
            Schedule::Steps { steps, .. } => steps.iter().all(|step| step.from_ms == i64::MIN),
            Schedule::Batches { .. } => false,
            Schedule::Between { start_ms, end_ms, .. } => *start_ms == i64::MIN && *end_ms == i64::MAX,
        }
    }
}

fn one_cut(cut: Cut, rest: VariantId) -> Split<'static> {
    match cut.end {
        Threshold::NOBODY => Split::Whole(rest),
        Threshold::EVERYBODY => Split::Whole(cut.variant),
        _ => Split::Cut(cut, rest),
    }
}

/// The variant that has all of a split, if one has.
fn whole(cuts: &[Cut], last: VariantId) -> Option<VariantId> {
    match cuts.iter().find(|cut| cut.end > Threshold::NOBODY) {
        None => Some(last),
        Some(cut) => (cut.end == Threshold::EVERYBODY).then_some(cut.variant),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bucket::Percent;

    const A: VariantId = VariantId(0);
    const B: VariantId = VariantId(1);
    const C: VariantId = VariantId(2);

    fn threshold(percent: &str) -> Threshold {
        Percent::parse(percent).unwrap().threshold()
    }

    fn cut(percent: &str, variant: VariantId) -> Cut {
        Cut { end: threshold(percent), variant }
    }

    #[test]
    fn a_step_rules_from_its_instant_until_the_next() {
        let step = |from_ms, percent| Step { from_ms, end: threshold(percent) };
        let steps = [step(1_000, "1"), step(2_000, "25"), step(3_000, "0"), step(4_000, "100")];
        let schedule = Schedule::Steps { variant: B, steps: steps.into(), rest: A };
        for (now_ms, expected) in [
            (i64::MIN, Split::Whole(A)),
            (999, Split::Whole(A)),
            (1_000, Split::Cut(cut("1", B), A)),
            (1_999, Split::Cut(cut("1", B), A)),
            (2_000, Split::Cut(cut("25", B), A)),
            (3_500, Split::Whole(A)),
            (4_000, Split::Whole(B)),
            (i64::MAX, Split::Whole(B)),
        ] {
            assert_eq!(schedule.at(now_ms), expected, "{now_ms}");
        }
    }

    #[test]
    fn batches_move_one_by_one() {
        let schedule = Schedule::Batches { variant: B, start_ms: 1_000, batches: 4, every_ms: 100, rest: A };
        for (now_ms, moved) in
            [(999, 0), (1_000, 1), (1_099, 1), (1_100, 2), (1_299, 3), (1_300, 4), (i64::MAX, 4)]
        {
            for u in [0, 1, (1 << 30) - 1, 1 << 30, 1 << 31, (3 << 30) - 1, 3 << 30, u32::MAX] {
                let batch = (u64::from(u) * 4) >> 32;
                let expected = if batch < moved { B } else { A };
                assert_eq!(schedule.at(now_ms).variant(Bucket(u)), expected, "{now_ms} {u}");
            }
        }
    }

    #[test]
    fn an_experiment_runs_from_start_until_before_end() {
        let cuts: Box<[Cut]> = [cut("20", A), cut("50", B)].into();
        let schedule = Schedule::Between { start_ms: 10, end_ms: 20, cuts, last: C, outside: A };
        for (now_ms, running) in [(9, false), (10, true), (19, true), (20, false)] {
            assert_eq!(schedule.at(now_ms) == Split::Whole(A), !running, "{now_ms}");
        }
        for (percent, variant) in [("0", A), ("20", B), ("50", C)] {
            let first = u32::try_from(threshold(percent).0).unwrap();
            assert_eq!(schedule.at(10).variant(Bucket(first)), variant, "{percent}");
        }
        assert_eq!(schedule.at(10).variant(Bucket(u32::MAX)), C);
    }

    #[test]
    fn a_variant_with_all_of_the_split_needs_no_key() {
        for (cuts, expected) in [
            (vec![cut("100", A)], Some(A)),
            (vec![cut("0", A)], Some(B)),
            (vec![cut("0", A), cut("100", C)], Some(C)),
            (vec![cut("1", A), cut("100", C)], None),
            (vec![cut("99.9999", A)], None),
        ] {
            assert_eq!(whole(&cuts, B), expected, "{cuts:?}");
        }
    }

    proptest! {
        #![proptest_config(crate::laws::config(256))]

        #[test]
        fn batches_are_floor_of_u_times_n(u: u32, batches in 1..=1_000_u64, moved in 0..1_100_u64) {
            let end = Threshold::of_batches(moved, batches);
            prop_assert_eq!(Bucket(u).is_below(end), (u64::from(u) * batches) >> 32 < moved);
        }

        #[test]
        fn steps_equal_a_plain_table_of_percentages(
            holds in prop::collection::vec((1..1_000_i64, 0..=1_000_000_u32), 1..20),
            now_ms in -100..20_000_i64,
            u: u32,
        ) {
            let mut from_ms = 0;
            let mut table = vec![0_u32; 20_200];
            let mut steps = Vec::new();
            for (hold_ms, ppm) in &holds {
                steps.push(Step { from_ms, end: Threshold((u64::from(*ppm) << 32) / 1_000_000) });
                for entry in table.iter_mut().skip(usize::try_from(from_ms).unwrap()) {
                    *entry = *ppm;
                }
                from_ms += hold_ms;
            }
            let schedule = Schedule::Steps { variant: B, steps: steps.into(), rest: A };
            let ppm = usize::try_from(now_ms).map_or(0, |i| table[i]);
            let in_percent = u64::from(u) < (u64::from(ppm) << 32) / 1_000_000;
            prop_assert_eq!(schedule.at(now_ms).variant(Bucket(u)) == B, in_percent);
        }
    }
}
