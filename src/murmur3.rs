//! MurmurHash3 of 32 bits, with which flagd buckets.

/// A hash in the making: bytes go in, in any pieces.
///
/// By Austin Appleby's `MurmurHash3_x86_32`, which is in the public domain.
#[derive(Clone, Copy, Debug)]
pub struct Murmur3 {
    hash: u32,
    /// Bytes that do not fill a block yet, the first the lowest.
    rest: u32,
    /// How many bytes went in, as far as 32 bits count them.
    len: u32,
}

impl Murmur3 {
    /// The hash of nothing so far.
    #[must_use]
    pub fn new(seed: u32) -> Murmur3 {
        Murmur3 { hash: seed, rest: 0, len: 0 }
    }

    /// Hashes `bytes` too.
    pub fn write(&mut self, bytes: &[u8]) {
        let missing = usize::try_from((4 - self.len % 4) % 4).unwrap_or(0);
        let (head, blocks) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        head.iter().for_each(|byte| self.write_byte(*byte));
        let (blocks, tail) = blocks.as_chunks::<4>();
        for block in blocks {
            self.mix(u32::from_le_bytes(*block));
            self.len = self.len.wrapping_add(4);
        }
        tail.iter().for_each(|byte| self.write_byte(*byte));
    }

    fn write_byte(&mut self, byte: u8) {
        self.rest |= u32::from(byte) << (8 * (self.len % 4));
        self.len = self.len.wrapping_add(1);
        if self.len.is_multiple_of(4) {
            self.mix(self.rest);
            self.rest = 0;
        }
    }

    fn mix(&mut self, block: u32) {
        self.hash = (self.hash ^ scrambled(block)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }

    /// The hash of all that went in.
    #[must_use]
    pub fn finish(self) -> u32 {
        let mut h = self.hash ^ scrambled(self.rest) ^ self.len;
        h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
        h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
        h ^ (h >> 16)
    }
}

fn scrambled(block: u32) -> u32 {
    block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(seed: u32, pieces: &[&[u8]]) -> u32 {
        let mut hash = Murmur3::new(seed);
        pieces.iter().for_each(|piece| hash.write(piece));
        hash.finish()
    }

    #[test]
    fn all_rows_of_the_suite_hold() {
        let folder = std::env::var("MULKKO_SUITES").unwrap_or_else(|_| "../shared/suites".to_owned());
        let Ok(text) = std::fs::read_to_string(format!("{folder}/murmur3/sample-1000.csv")) else {
            println!("suite absent, skipped");
            return;
        };
        let mut count = 0;
        for row in text.lines().filter(|row| !row.is_empty()) {
            let [seed, key, expected, _] = row.split(',').collect::<Vec<_>>().try_into().unwrap();
            assert_eq!(
                hash(seed.parse().unwrap(), &[key.as_bytes()]),
                expected.parse::<u32>().unwrap(),
                "{row}"
            );
            count += 1;
        }
        assert!(count >= 1_000, "only {count} rows");
    }

    #[test]
    fn known_hashes() {
        for (seed, text, expected) in [
            (0, "", 0),
            (1, "", 0x514e_28b7),
            (0xffff_ffff, "", 0x81f1_6f39),
            (0, "\0\0\0\0", 0x2362_f9de),
            (0x9747_b28c, "aaaa", 0x5a97_808a),
            (0x9747_b28c, "abc", 0xc84a_62dd),
            (0x9747_b28c, "Hello, world!", 0x2488_4cba),
            (0x9747_b28c, "ππππππππ", 0xd580_63c1),
        ] {
            assert_eq!(hash(seed, &[text.as_bytes()]), expected, "{seed} {text:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(seed: u32, pieces: Vec<Vec<u8>>) {
            let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(hash(seed, &slices), hash(seed, &[&pieces.concat()]));
        }
    }
}
