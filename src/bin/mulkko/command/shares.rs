//! Shares of the keys as people read them.

use std::ops::Range;

use mulkko::bucket::Threshold;
use mulkko::policy::{Rollout, Source};
use mulkko::schedule::{Cut, Split, VariantId};

/// So many of the 2³² buckets, as a percentage: `25 %`, `33.3333 %`.
pub fn percent(buckets: u64) -> String {
    // To the ten-thousandth of a percent, the finest that a policy can say.
    let ppm = (u128::from(buckets) * 1_000_000 + (1 << 31)) >> 32;
    let (whole, decimals) = (ppm / 10_000, format!("{:04}", ppm % 10_000));
    match decimals.trim_end_matches('0') {
        "" => format!("{whole} %"),
        decimals => format!("{whole}.{decimals} %"),
    }
}

/// The buckets of each variant, ascending, empty ranges left out.
pub fn ranges(split: Split<'_>) -> Vec<(VariantId, Range<u64>)> {
    let of = |cuts: &[Cut], rest: VariantId| {
        let last = Cut { end: Threshold::EVERYBODY, variant: rest };
        let mut from = 0;
        let mut ranges = Vec::new();
        for cut in cuts.iter().chain([&last]).filter(|cut| cut.end.0 > 0) {
            if cut.end.0 > from {
                ranges.push((cut.variant, from..cut.end.0));
                from = cut.end.0;
            }
        }
        ranges
    };
    match split {
        Split::Whole(variant) => of(&[], variant),
        Split::Cut(cut, rest) => of(&[cut], rest),
        Split::Cuts(cuts, rest) => of(cuts, rest),
    }
}

/// `canary 25 %, stable 75 %`
pub fn told(rollout: &Rollout, split: Split<'_>) -> String {
    let name = |variant| rollout.variant(variant).map_or("", |it| &it.name);
    let shares = ranges(split)
        .into_iter()
        .map(|(variant, range)| format!("{} {}", name(variant), percent(range.end - range.start)));
    shares.collect::<Vec<_>>().join(", ")
}

/// Where a key or an attribute comes from: `header x-user-id or cookie id`.
pub fn sources(from: &[Source]) -> String {
    let sources = from.iter().map(|source| match source {
        Source::Header(name) => format!("header {name}"),
        Source::Cookie(name) => format!("cookie {name}"),
        Source::Query(name) => format!("query parameter {name}"),
        Source::Property(path) => format!("property {}", path.join("/")),
    });
    sources.collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_as_short_as_they_can_be() {
        for (ppm, expected) in [
            (0, "0 %"),
            (1, "0.0001 %"),
            (10_000, "1 %"),
            (333_333, "33.3333 %"),
            (250_000, "25 %"),
            (999_999, "99.9999 %"),
            (1_000_000, "100 %"),
        ] {
            assert_eq!(percent(Threshold::of_ppm(ppm).0), expected);
        }
    }
}
