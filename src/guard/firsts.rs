//! Which targeting keys have had a bad event already: only a key's first one counts.
//!
//! Whose requests fail again and again, because a client retries or because a user hammers a broken page, says once that
//! the variant is bad. The bitmap is process-wide; each VM keeps a copy, which lacks bits, or has too many after the
//! process's was emptied: both lose events of all variants alike.
//!
//! A bitmap serves for an epoch. It ends when half of the bits are set, or when the guard has gone blind because all keys
//! that fail at times have failed once. Neither looks at variants, so that each epoch's evidence is as good as the first's;
//! but keys that fail for ever count anew in each, so that evidence does not go on from one to the next.

use crate::bucket::{Bucket, Seed, fmix64};

const BITS: usize = 8_192;
const BYTES: usize = BITS / 8;
const HEAD: usize = 16;
/// So many bits may be set before another is noted.
const MOST_SET: usize = BITS / 2;
/// An epoch is over after so many bad events in a row, in one VM, of keys that had one before: in retry storms there are
/// fewer...
const MOST_LOST: u32 = 64;
/// ...but not before this time, in milliseconds.
const EPOCH_MS: i64 = 600_000;

/// One bit per targeting key; keys that share one count as one, which loses events of all variants alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firsts {
    seed: u64,
    since_ms: i64,
    bits: Box<[u8; BYTES]>,
    lost: u32,
}

impl Firsts {
    /// Nobody has had any in an epoch that begins now.
    pub fn new(seed: Seed, now_ms: i64) -> Firsts {
        Firsts { seed: seed.0, since_ms: now_ms.max(1), bits: Box::new([0; BYTES]), lost: 0 }
    }

    /// As it lies in shared data; of another seed, or damaged, it counts as empty. So does one with more bits than are
    /// ever noted: with it no event would be a key's first again.
    pub fn read(seed: Seed, bytes: &[u8], now_ms: i64) -> Firsts {
        let read = || {
            let (head, bits) = bytes.split_first_chunk::<HEAD>()?;
            let (of, since_ms) = head.split_first_chunk::<8>()?;
            let since_ms = i64::from_le_bytes(since_ms.try_into().ok()?);
            let bits = Box::new(<[u8; BYTES]>::try_from(bits).ok()?);
            (*of == seed.0.to_le_bytes() && since_ms > 0).then_some(Firsts {
                seed: seed.0,
                since_ms,
                bits,
                lost: 0,
            })
        };
        read().filter(|firsts| firsts.set() <= MOST_SET + 1).unwrap_or_else(|| Firsts::new(seed, now_ms))
    }

    /// What lies in shared data.
    pub fn bytes(&self) -> Vec<u8> {
        [&self.seed.to_le_bytes()[..], &self.since_ms.to_le_bytes(), &*self.bits].concat()
    }

    /// When the epoch began, in unix milliseconds, above 0: tells it from the one before and the one after.
    pub fn since_ms(&self) -> i64 {
        self.since_ms
    }

    /// Whether the key in this bucket has had one.
    pub fn has(&self, bucket: Bucket) -> bool {
        let (at, mask) = self.place(bucket);
        self.bits.get(at).is_some_and(|byte| byte & mask != 0)
    }

    /// Notes that it has. With more than half of the bits set most events would be lost: then another epoch begins.
    pub fn note(&mut self, bucket: Bucket, now_ms: i64) {
        if self.set() > MOST_SET {
            self.restart(now_ms);
        }
        let (at, mask) = self.place(bucket);
        if let Some(byte) = self.bits.get_mut(at) {
            *byte |= mask;
        }
        self.lost = 0;
    }

    /// Notes that so many events in a row have been of keys that had one.
    pub fn lose(&mut self, lost: u32) {
        self.lost = lost;
    }

    /// How many events in a row have been so.
    pub fn lost(&self) -> u32 {
        self.lost
    }

    /// Whether the epoch should end. A clock that was set back ends it, too.
    pub fn is_worn(&self, now_ms: i64) -> bool {
        self.lost >= MOST_LOST && !(0..EPOCH_MS).contains(&now_ms.saturating_sub(self.since_ms))
    }

    /// Begins another epoch.
    pub fn restart(&mut self, now_ms: i64) {
        self.since_ms = if now_ms == self.since_ms { now_ms.saturating_add(1) } else { now_ms.max(1) };
        self.bits.fill(0);
        self.lost = 0;
    }

    fn set(&self) -> usize {
        self.bits.iter().map(|byte| usize::try_from(byte.count_ones()).unwrap_or(0)).sum()
    }

    /// The key's byte and bit: from another hash than the one that gave it its variant, so that the few keys of a
    /// canary do not share few bits.
    fn place(&self, bucket: Bucket) -> (usize, u8) {
        let bit = usize::try_from(fmix64(u64::from(bucket.0) ^ self.seed) >> 51).unwrap_or(0);
        (bit / 8, 1 << (bit % 8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn seed() -> Seed {
        Seed::new("checkout-v2")
    }

    #[test]
    fn a_key_is_first_once() {
        let mut firsts = Firsts::new(seed(), NOW);
        let bucket = seed().bucket(b"alice");
        assert!(!firsts.has(bucket));
        firsts.note(bucket, NOW);
        assert!(firsts.has(bucket) && !firsts.has(seed().bucket(b"bob")));
        assert_eq!(Firsts::read(seed(), &firsts.bytes(), NOW + 1), firsts);
    }

    #[test]
    fn what_is_damaged_or_of_another_seed_is_empty() {
        let mut firsts = Firsts::new(seed(), NOW);
        firsts.note(Bucket(7), NOW);
        let bytes = firsts.bytes();
        let full = [&bytes[..HEAD], &[0xff; BYTES]].concat();
        let timeless = [&bytes[..8], &[0xff; 8], &bytes[HEAD..]].concat();
        let (short, long) = (&bytes[..bytes.len() - 1], &[&bytes[..], &[0]].concat());
        for found in [&[][..], &[0; 7], short, long, &full, &timeless] {
            assert_eq!(Firsts::read(seed(), found, NOW), Firsts::new(seed(), NOW));
        }
        assert_eq!(Firsts::read(Seed::new("other"), &bytes, NOW), Firsts::new(Seed::new("other"), NOW));
    }

    #[test]
    fn the_keys_of_a_canary_are_spread_over_all_bits_and_a_full_bitmap_is_emptied() {
        let mut firsts = Firsts::new(seed(), NOW);
        let mut lost = 0;
        // The lowest one percent of the buckets.
        for i in 0..1_000 {
            let bucket = Bucket(i * 42_949);
            lost += u32::from(firsts.has(bucket));
            firsts.note(bucket, NOW);
        }
        assert!((20..120).contains(&lost), "{lost} of 1,000 keys share a bit; 61 are expected of 8,192 bits");
        let mut epochs = vec![firsts.since_ms()];
        for i in 0..20_000 {
            firsts.note(Bucket(i << 16), NOW);
            assert!(firsts.set() <= MOST_SET + 1, "{}", firsts.set());
            assert_eq!(Firsts::read(seed(), &firsts.bytes(), NOW), firsts);
            epochs.push(firsts.since_ms());
        }
        epochs.dedup();
        assert_eq!(epochs, [NOW, NOW + 1, NOW, NOW + 1], "each has another time than the one before");
    }

    #[test]
    fn an_epoch_ends_when_nothing_is_seen_any_more() {
        let mut firsts = Firsts::new(seed(), NOW);
        firsts.lose(MOST_LOST - 1);
        assert!(!firsts.is_worn(NOW + EPOCH_MS));
        firsts.lose(MOST_LOST);
        assert!(!firsts.is_worn(NOW + EPOCH_MS - 1));
        assert!(firsts.is_worn(NOW + EPOCH_MS) && firsts.is_worn(NOW - 1));
        firsts.note(Bucket(7), NOW);
        assert!(!firsts.is_worn(NOW + EPOCH_MS), "something is seen");
    }
}
