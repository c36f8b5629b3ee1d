//! How long responses took, coarsely: sixteen buckets per doubling, so that a quantile is at most 6.25 % too high.

/// The number of buckets; the last takes all that is longer than some two minutes.
const BUCKETS: usize = 384;

/// Times in microseconds, counted.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Box<[u32; BUCKETS]>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: Box::new([0; BUCKETS]), count: 0 }
    }
}

impl Histogram {
    /// Counts one time.
    pub fn record(&mut self, us: u64) {
        if let Some(bucket) = self.buckets.get_mut(index(us).min(BUCKETS - 1)) {
            *bucket = bucket.saturating_add(1);
            self.count = self.count.saturating_add(1);
        }
    }

    /// How many times were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest time of the bucket in which the quantile lies that is `millionths` of 1.
    #[must_use]
    pub fn quantile(&self, millionths: u32) -> Option<u64> {
        let rank = (u128::from(self.count) * u128::from(millionths)).div_ceil(1_000_000).max(1);
        let mut below = 0_u128;
        let at = self.buckets.iter().position(|bucket| {
            below += u128::from(*bucket);
            below >= rank
        });
        at.map(upper_edge)
    }

    /// The quantile, or what lies so many microseconds above the median, if that is more.
    #[must_use]
    pub fn above(&self, millionths: u32, median_and_us: u64) -> Option<u64> {
        let least = self.quantile(500_000)?.saturating_add(median_and_us);
        self.quantile(millionths).map(|us| us.max(least))
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.buckets.fill(0);
        self.count = 0;
    }
}

/// The bucket of a time in microseconds.
fn index(us: u64) -> usize {
    if us < 16 {
        return usize::try_from(us).unwrap_or(0);
    }
    let e = us.ilog2();
    let within = usize::try_from((us >> (e - 4)) & 15).unwrap_or(0);
    (usize::try_from(e - 3).unwrap_or(0) << 4) + within
}

/// The longest time of a bucket, in microseconds.
fn upper_edge(index: usize) -> u64 {
    let index = u64::try_from(index).unwrap_or(u64::MAX);
    if index < 16 {
        return index;
    }
    let shift = ((index >> 4) + 3).saturating_sub(4);
    ((17 + (index & 15)) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_lies_in_its_bucket() {
        for (us, i, edge) in [
            (0, 0, 0),
            (1, 1, 1),
            (15, 15, 15),
            (16, 16, 16),
            (31, 31, 31),
            (32, 32, 33),
            (33, 32, 33),
            (1_000, 111, 1_023),
            (1_000_000, 270, 1_015_807),
            (60_000_000, 364, 60_817_407),
        ] {
            assert_eq!((index(us), upper_edge(i)), (i, edge), "{us}");
        }
        for us in (0..100_000).chain([u64::MAX >> 20]) {
            let edge = upper_edge(index(us));
            assert!(edge >= us && (edge - us) * 16 <= us, "{us} {edge}");
        }
    }

    #[test]
    fn quantiles_are_found() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(900_000), None);
        (1..=100).for_each(|ms| histogram.record(ms * 1_000));
        for (millionths, ms) in [(500_000, 50), (900_000, 90), (990_000, 99), (0, 1), (1_000_000, 100)] {
            let us = histogram.quantile(millionths).unwrap();
            assert_eq!(index(us), index(ms * 1_000), "{millionths}");
        }
        histogram.record(u64::MAX);
        assert!(histogram.quantile(1_000_000).is_some());
        histogram.clear();
        assert_eq!(histogram.count(), 0);
    }
}
