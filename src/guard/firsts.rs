//! Which targeting keys have had a bad event already: only a key's first one counts.
//!
//! Whose requests fail again and again, because a client retries or because a user hammers a broken page, says once that
//! the variant is bad. The bitmap is process-wide; each VM keeps a copy, which lacks bits, or has too many after the
//! process's was emptied: both lose events of all variants alike.

use crate::bucket::{Bucket, Seed, fmix64};

const BITS: usize = 8_192;
const BYTES: usize = BITS / 8;
const HEAD: usize = 8;
/// So many bits may be set before another is noted.
const MOST_SET: usize = BITS / 2;

/// One bit per targeting key; keys that share one count as one, which loses events of all variants alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firsts {
    seed: u64,
    bits: Box<[u8; BYTES]>,
}

impl Firsts {
    /// Nobody has had any.
    pub fn new(seed: Seed) -> Firsts {
        Firsts { seed: seed.0, bits: Box::new([0; BYTES]) }
    }

    /// As it lies in shared data; of another seed, or damaged, it counts as empty. So does one with more bits than are
    /// ever noted: with it no event would be a key's first again.
    pub fn read(seed: Seed, bytes: &[u8]) -> Firsts {
        let found = bytes.split_first_chunk::<HEAD>().filter(|(head, _)| **head == seed.0.to_le_bytes());
        let bits = found.and_then(|(_, bits)| <[u8; BYTES]>::try_from(bits).ok());
        let firsts = bits.map(|bits| Firsts { seed: seed.0, bits: Box::new(bits) });
        firsts.filter(|firsts| firsts.set() <= MOST_SET + 1).unwrap_or_else(|| Firsts::new(seed))
    }

    /// What lies in shared data.
    pub fn bytes(&self) -> Vec<u8> {
        [&self.seed.to_le_bytes()[..], &*self.bits].concat()
    }

    /// Whether the key in this bucket has had one.
    pub fn has(&self, bucket: Bucket) -> bool {
        let (at, mask) = self.place(bucket);
        self.bits.get(at).is_some_and(|byte| byte & mask != 0)
    }

    /// Notes that it has. Where more than half of the bits are set, all others are forgotten: else most events would
    /// be lost.
    pub fn note(&mut self, bucket: Bucket) {
        if self.set() > MOST_SET {
            self.bits.fill(0);
        }
        let (at, mask) = self.place(bucket);
        if let Some(byte) = self.bits.get_mut(at) {
            *byte |= mask;
        }
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

    #[test]
    fn a_key_is_first_once() {
        let seed = Seed::new("checkout-v2");
        let mut firsts = Firsts::new(seed);
        let bucket = seed.bucket(b"alice");
        assert!(!firsts.has(bucket));
        firsts.note(bucket);
        assert!(firsts.has(bucket) && !firsts.has(seed.bucket(b"bob")));
        assert_eq!(Firsts::read(seed, &firsts.bytes()), firsts);
    }

    #[test]
    fn what_is_damaged_or_of_another_seed_is_empty() {
        let seed = Seed::new("checkout-v2");
        let mut firsts = Firsts::new(seed);
        firsts.note(Bucket(7));
        let bytes = firsts.bytes();
        let full = [&bytes[..HEAD], &[0xff; BYTES]].concat();
        for found in [&[][..], &[0; 7], &bytes[..bytes.len() - 1], &[&bytes[..], &[0]].concat(), &full] {
            assert_eq!(Firsts::read(seed, found), Firsts::new(seed));
        }
        assert_eq!(Firsts::read(Seed::new("other"), &bytes), Firsts::new(Seed::new("other")));
    }

    #[test]
    fn the_keys_of_a_canary_are_spread_over_all_bits_and_a_full_bitmap_is_emptied() {
        let mut firsts = Firsts::new(Seed::new("checkout-v2"));
        let mut lost = 0;
        // The lowest one percent of the buckets.
        for i in 0..1_000 {
            let bucket = Bucket(i * 42_949);
            lost += u32::from(firsts.has(bucket));
            firsts.note(bucket);
        }
        assert!((20..120).contains(&lost), "{lost} of 1,000 keys share a bit; 61 are expected of 8,192 bits");
        for i in 0..10_000 {
            firsts.note(Bucket(i << 16));
            assert!(firsts.set() <= MOST_SET + 1, "{}", firsts.set());
            assert_eq!(Firsts::read(Seed::new("checkout-v2"), &firsts.bytes()), firsts);
        }
    }
}
