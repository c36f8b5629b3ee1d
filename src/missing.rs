//! Clusters of variants that the proxy does not have: found by how requests end, known to all workers of the process.
//!
//! What one worker learns lies in shared data ([`Sightings`]). A request that ends without its cluster tells nothing of it
//! where another has just reached that cluster: some other route may have sent it astray.

/// How long a cluster that was reached counts as there, and one that was not as missing, in milliseconds.
const KNOWN_MS: i64 = 30_000;
/// How often it is written down that a cluster was reached, in milliseconds.
const WRITTEN_EVERY_MS: i64 = 10_000;
/// How often it is told that one is missing, in milliseconds.
const TOLD_EVERY_MS: i64 = 60_000;
/// The most clusters that are remembered.
const MOST_CLUSTERS: usize = 256;
/// The numbers that are kept of one.
const WORDS: usize = 4;

/// What is known of the clusters of one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sightings {
    /// The policy's revision: another policy begins anew.
    revision: u64,
    clusters: Vec<Cluster>,
}

/// What is known of a cluster. Instants are unix milliseconds, 0: never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cluster {
    /// Its name, hashed.
    hash: u64,
    reached_ms: i64,
    missing_until_ms: i64,
    told_ms: i64,
}

/// Whether requests may be sent to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Yes, as far as anybody knows.
    There,
    /// No.
    Missing,
    /// It was missing; one request may try.
    Due,
}

/// What becomes of a request that ended without its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// The cluster is there: something else sent the request astray.
    Astray,
    /// The cluster is missing, which is to be told or was told just now.
    Missing {
        /// Whether it is to be told.
        tell: bool,
    },
}

impl Sightings {
    /// What is written in `bytes` of the clusters of the policy of that revision; nothing where it is about another.
    #[must_use]
    pub fn read(bytes: &[u8], revision: u64) -> Sightings {
        let nothing = Sightings { revision, clusters: Vec::new() };
        let (words, []) = bytes.as_chunks::<8>() else { return nothing };
        let Some((of, words)) = words.split_first() else { return nothing };
        let (clusters, []) = words.as_chunks::<WORDS>() else { return nothing };
        if u64::from_le_bytes(*of) != revision || clusters.len() > MOST_CLUSTERS {
            return nothing;
        }
        let clusters = clusters.iter().map(|[hash, reached, until, told]| Cluster {
            hash: u64::from_le_bytes(*hash),
            reached_ms: i64::from_le_bytes(*reached),
            missing_until_ms: i64::from_le_bytes(*until),
            told_ms: i64::from_le_bytes(*told),
        });
        Sightings { revision, clusters: clusters.collect() }
    }

    /// It as it is stored.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.revision.to_le_bytes().to_vec();
        for cluster in &self.clusters {
            bytes.extend_from_slice(&cluster.hash.to_le_bytes());
            for ms in [cluster.reached_ms, cluster.missing_until_ms, cluster.told_ms] {
                bytes.extend_from_slice(&ms.to_le_bytes());
            }
        }
        bytes
    }

    /// Whether nothing is missing: then nobody need be asked.
    #[must_use]
    pub fn has_missing(&self) -> bool {
        self.clusters.iter().any(|cluster| cluster.missing_until_ms != 0)
    }

    /// Whether requests may be sent to a cluster.
    #[must_use]
    pub fn standing(&self, hash: u64, now_ms: i64) -> Standing {
        match self.clusters.iter().find(|cluster| cluster.hash == hash) {
            Some(cluster) if cluster.missing_until_ms != 0 => {
                // A clock that was set back makes nothing missing for longer.
                let left_ms = cluster.missing_until_ms.saturating_sub(now_ms);
                if (1..=KNOWN_MS).contains(&left_ms) { Standing::Missing } else { Standing::Due }
            }
            _ => Standing::There,
        }
    }

    /// Whether it is worth writing down that a cluster was reached.
    #[must_use]
    pub fn is_news(&self, hash: u64, now_ms: i64) -> bool {
        self.clusters.iter().find(|cluster| cluster.hash == hash).is_none_or(|cluster| {
            let since_ms = now_ms.saturating_sub(cluster.reached_ms);
            cluster.missing_until_ms != 0 || !(0..WRITTEN_EVERY_MS).contains(&since_ms)
        })
    }

    /// A request has reached a cluster.
    pub fn reached(&mut self, hash: u64, now_ms: i64) {
        let cluster = self.cluster(hash);
        (cluster.reached_ms, cluster.missing_until_ms) = (now_ms, 0);
    }

    /// A request has ended without its cluster.
    pub fn missed(&mut self, hash: u64, now_ms: i64) -> Missed {
        let cluster = self.cluster(hash);
        if (0..KNOWN_MS).contains(&now_ms.saturating_sub(cluster.reached_ms)) {
            return Missed::Astray;
        }
        cluster.missing_until_ms = now_ms.saturating_add(KNOWN_MS);
        let tell = !(0..TOLD_EVERY_MS).contains(&now_ms.saturating_sub(cluster.told_ms));
        if tell {
            cluster.told_ms = now_ms;
        }
        Missed::Missing { tell }
    }

    /// Gives one request leave to try a cluster that was missing; `false` where another has it.
    pub fn try_again(&mut self, hash: u64, now_ms: i64) -> bool {
        let is_due = self.standing(hash, now_ms) == Standing::Due;
        if is_due {
            self.cluster(hash).missing_until_ms = now_ms.saturating_add(KNOWN_MS);
        }
        is_due
    }

    /// What is known of a cluster; of too many the one is forgotten of which nothing was heard for longest.
    fn cluster(&mut self, hash: u64) -> &mut Cluster {
        let known = self.clusters.iter().position(|cluster| cluster.hash == hash);
        let i = known.unwrap_or_else(|| {
            let fresh = Cluster { hash, reached_ms: 0, missing_until_ms: 0, told_ms: 0 };
            if self.clusters.len() < MOST_CLUSTERS {
                self.clusters.push(fresh);
                return self.clusters.len() - 1;
            }
            let age = |(_, cluster): &(usize, &Cluster)| cluster.reached_ms.max(cluster.missing_until_ms);
            let oldest = self.clusters.iter().enumerate().min_by_key(age).map_or(0, |(i, _)| i);
            if let Some(cluster) = self.clusters.get_mut(oldest) {
                *cluster = fresh;
            }
            oldest
        });
        #[expect(clippy::indexing_slicing, reason = "`i` is the place of a cluster that is there")]
        &mut self.clusters[i]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn sightings() -> Sightings {
        Sightings { revision: 3, clusters: Vec::new() }
    }

    #[test]
    fn what_was_missed_is_missing_for_half_a_minute_and_then_tried_once() {
        let mut known = sightings();
        assert_eq!(known.standing(1, NOW_MS), Standing::There);
        assert_eq!(known.missed(1, NOW_MS), Missed::Missing { tell: true });
        for (after_ms, standing) in
            [(0, Standing::Missing), (29_999, Standing::Missing), (30_000, Standing::Due)]
        {
            assert_eq!(known.standing(1, NOW_MS + after_ms), standing, "{after_ms}");
            assert_eq!(known.standing(2, NOW_MS + after_ms), Standing::There);
        }
        assert!(!known.try_again(1, NOW_MS + 29_999));
        assert!(known.try_again(1, NOW_MS + 30_000));
        assert!(!known.try_again(1, NOW_MS + 30_001));
        assert_eq!(known.standing(1, NOW_MS + 59_999), Standing::Missing);
        assert_eq!(known.missed(1, NOW_MS + 30_100), Missed::Missing { tell: false });
        assert_eq!(known.missed(1, NOW_MS + 60_100), Missed::Missing { tell: true });
        known.reached(1, NOW_MS + 90_000);
        assert_eq!(known.standing(1, NOW_MS + 90_000), Standing::There);
        // A clock that is set back by a day.
        assert_eq!(known.missed(1, NOW_MS - 86_400_000), Missed::Missing { tell: true });
        assert_eq!(known.standing(1, NOW_MS - 86_400_000 - 1), Standing::Due);
    }

    #[test]
    fn who_goes_astray_says_nothing_of_a_cluster_that_others_reach() {
        let mut known = sightings();
        known.reached(1, NOW_MS);
        assert_eq!(known.missed(1, NOW_MS + 29_999), Missed::Astray);
        assert_eq!(known.standing(1, NOW_MS + 29_999), Standing::There);
        assert_eq!(known.missed(1, NOW_MS + 30_000), Missed::Missing { tell: true });
    }

    #[test]
    fn that_a_cluster_is_reached_is_written_down_now_and_then() {
        let mut known = sightings();
        assert!(known.is_news(1, NOW_MS));
        known.reached(1, NOW_MS);
        for (after_ms, expected) in [(0, false), (9_999, false), (10_000, true), (-1, true)] {
            assert_eq!(known.is_news(1, NOW_MS + after_ms), expected, "{after_ms}");
        }
        known.missed(1, NOW_MS + 40_000);
        assert!(known.is_news(1, NOW_MS + 40_001));
    }

    #[test]
    fn what_is_written_is_read_for_the_same_policy() {
        let mut known = sightings();
        known.reached(1, NOW_MS);
        known.missed(2, NOW_MS);
        assert_eq!(Sightings::read(&known.bytes(), 3), known);
        assert_eq!(Sightings::read(&known.bytes(), 4), Sightings { revision: 4, clusters: Vec::new() });
        assert!(known.has_missing() && !sightings().has_missing());
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let mut known = sightings();
        for i in 0..1_000 {
            known.reached(i, NOW_MS + i64::try_from(i).unwrap());
        }
        assert_eq!(known.clusters.len(), MOST_CLUSTERS);
        assert!(!known.is_news(999, NOW_MS + 999) && known.is_news(0, NOW_MS + 999));
        assert_eq!(Sightings::read(&known.bytes(), 3), known);
    }

    proptest! {
        #![proptest_config(crate::laws::config(256))]

        #[test]
        fn any_bytes_can_lie_there(bytes in prop::collection::vec(any::<u8>(), 0..200), now_ms: i64, hash: u64) {
            let mut known = Sightings::read(&bytes, 0);
            let _ = (known.standing(hash, now_ms), known.is_news(hash, now_ms));
            let _ = (known.missed(hash, now_ms), known.try_again(hash, now_ms));
            known.reached(hash, now_ms);
            prop_assert_eq!(known.standing(hash, now_ms), Standing::There);
        }
    }
}
