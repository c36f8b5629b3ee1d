//! The lease: which of a process's root contexts fetches policies for all of them.
//!
//! It lies in shared data, where anything may be written by anybody; whatever is found there, some root context takes
//! over before long. No I/O: what was found goes in, what to write comes out.

/// How long a lease lasts that is not renewed, in milliseconds.
pub const LASTS_MS: i64 = 3_000;
/// A lease that ends later than this, in milliseconds from now, was not written by this clock.
const BELIEVED_MS: i64 = 10_000;
/// The bytes of a lease.
const BYTES: usize = 32;

/// A root context, as a lease names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// A random number of its own.
    pub id: u64,
    /// Its plugin configuration, hashed.
    pub configuration: u64,
    /// When it was configured, in unix milliseconds.
    pub born_ms: i64,
}

/// What lies in shared data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lease {
    holder: Holder,
    ends_ms: i64,
}

/// What to do about the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// There is none: write this whatever happens, and look again. A missing entry has no version to compare, so that
    /// of two who write first both would think that they hold it; this record belongs to nobody.
    Seed([u8; BYTES]),
    /// Write this if nobody else has written since: then the lease is held.
    Write([u8; BYTES]),
    /// Another holds it.
    Leave,
}

impl Holder {
    /// What this root context does about the lease that it found at `now_ms`.
    #[must_use]
    pub fn claim(&self, found: Option<&[u8]>, now_ms: i64) -> Claim {
        let Some(found) = found else { return Claim::Seed([0; BYTES]) };
        let free = Lease::read(found).is_none_or(|lease| lease.is_free_for(self, now_ms));
        if !free {
            return Claim::Leave;
        }
        Claim::Write(Lease { holder: *self, ends_ms: now_ms.saturating_add(LASTS_MS) }.bytes())
    }

    /// What to write to give the lease up, where `found` says that this root context holds it.
    #[must_use]
    pub fn release(&self, found: &[u8]) -> Option<[u8; BYTES]> {
        let lease = Lease::read(found)?;
        (lease.holder.id == self.id).then_some([0; BYTES])
    }
}

impl Lease {
    /// Free to its holder, which renews it; to everybody when it was not renewed or cannot be true; and to a root
    /// context with a newer plugin configuration: the older one's listener drains for minutes, and its poll interval
    /// is not the one asked for any more.
    fn is_free_for(&self, asking: &Holder, now_ms: i64) -> bool {
        let superseded =
            self.holder.configuration != asking.configuration && self.holder.born_ms < asking.born_ms;
        self.holder.id == asking.id
            || self.ends_ms <= now_ms
            || self.ends_ms > now_ms.saturating_add(BELIEVED_MS)
            || superseded
    }

    fn read(bytes: &[u8]) -> Option<Lease> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let (numbers, _) = bytes.as_chunks::<8>();
        let [id, configuration, born, ends] = numbers else { return None };
        let holder = Holder {
            id: u64::from_le_bytes(*id),
            configuration: u64::from_le_bytes(*configuration),
            born_ms: i64::from_le_bytes(*born),
        };
        Some(Lease { holder, ends_ms: i64::from_le_bytes(*ends) })
    }

    fn bytes(&self) -> [u8; BYTES] {
        let Holder { id, configuration, born_ms } = self.holder;
        let numbers = [
            id.to_le_bytes(),
            configuration.to_le_bytes(),
            born_ms.to_le_bytes(),
            self.ends_ms.to_le_bytes(),
        ];
        let mut bytes = [0; BYTES];
        for (to, from) in bytes.iter_mut().zip(numbers.iter().flatten()) {
            *to = *from;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn holder(id: u64) -> Holder {
        Holder { id, configuration: 7, born_ms: NOW - 60_000 }
    }

    fn written(claim: Claim) -> Option<[u8; BYTES]> {
        match claim {
            Claim::Write(bytes) => Some(bytes),
            _ => None,
        }
    }

    #[test]
    fn the_first_write_belongs_to_nobody() {
        let Claim::Seed(seed) = holder(1).claim(None, NOW) else { panic!("expected a seed") };
        assert!(written(holder(2).claim(Some(&seed), NOW)).is_some());
    }

    #[test]
    fn a_lease_is_free_when_it_is_not_renewed_or_cannot_be_true() {
        let lease = |ends_ms| Lease { holder: holder(1), ends_ms }.bytes().to_vec();
        for (found, who, free) in [
            (lease(NOW + LASTS_MS), 2, false),
            (lease(NOW + 1), 2, false),
            (lease(NOW), 2, true),
            (lease(NOW - 1), 2, true),
            (lease(NOW + 10_000), 2, false),
            (lease(NOW + 10_001), 2, true),
            (lease(i64::MAX), 2, true),
            (lease(NOW + 1), 1, true),
            (b"".to_vec(), 2, true),
            (b"not a lease".to_vec(), 2, true),
            (vec![0xff; 33], 2, true),
        ] {
            assert_eq!(written(holder(who).claim(Some(&found), NOW)).is_some(), free, "{found:?}");
        }
    }

    #[test]
    fn a_held_lease_is_renewed_for_three_seconds() {
        let bytes = written(holder(1).claim(Some(b""), NOW)).unwrap();
        assert_eq!(Lease::read(&bytes).unwrap().ends_ms, NOW + 3_000);
        assert!(written(holder(2).claim(Some(&bytes), NOW + 2_999)).is_none());
        assert!(written(holder(2).claim(Some(&bytes), NOW + 3_000)).is_some());
    }

    #[test]
    fn a_newer_plugin_configuration_takes_over() {
        let bytes = written(holder(1).claim(Some(b""), NOW)).unwrap();
        let newer = Holder { id: 2, configuration: 8, born_ms: NOW };
        let taken = written(newer.claim(Some(&bytes), NOW)).unwrap();
        assert_eq!(holder(1).claim(Some(&taken), NOW), Claim::Leave);
        let reloaded = Holder { id: 3, configuration: 7, born_ms: NOW };
        assert_eq!(reloaded.claim(Some(&bytes), NOW), Claim::Leave, "same configuration");
    }

    #[test]
    fn only_the_holder_releases() {
        let bytes = written(holder(1).claim(Some(b""), NOW)).unwrap();
        assert_eq!(holder(2).release(&bytes), None);
        let released = holder(1).release(&bytes).unwrap();
        assert!(written(holder(2).claim(Some(&released), NOW)).is_some());
    }
}
