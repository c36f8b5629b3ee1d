//! Where a targeting key lands, and what share of the keys a percentage reaches.

use std::fmt;
use std::hash::Hasher;

use fnv::FnvHasher;

use crate::finding::Problem;

/// The hash of what stands before every key: a rollout's, a layer's or a holdout's seed and a colon.
///
/// Made once when a policy is compiled, so that a request pays for its key alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub(crate) u64);

impl Seed {
    /// The seed of this text.
    ///
    /// A text with a colon would meet the keys of another seed; the compiler refuses it.
    #[must_use]
    pub fn new(seed: &str) -> Seed {
        let mut hasher = FnvHasher::default();
        hasher.write(seed.as_bytes());
        hasher.write(b":");
        Seed(hasher.finish())
    }

    /// Where `key` lands: the upper half of `fmix64(fnv1a64(seed ":" key))`.
    ///
    /// Any bytes are a key, none at all too.
    #[must_use]
    pub fn bucket(self, key: &[u8]) -> Bucket {
        let [a, b, c, d, ..] = self.hash(key).to_be_bytes();
        Bucket(u32::from_be_bytes([a, b, c, d]))
    }

    fn hash(self, key: &[u8]) -> u64 {
        let mut hasher = FnvHasher::with_key(self.0);
        hasher.write(key);
        fmix64(hasher.finish())
    }
}

/// MurmurHash3's finaliser of 64 bits: every bit of `h` reaches every bit of the result, which FNV-1a alone does not do
/// for the last bytes of a key.
pub(crate) fn fmix64(mut h: u64) -> u64 {
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

/// The place of a key among all keys: one of 2³², each as likely as the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(pub u32);

impl Bucket {
    /// Whether this bucket is among the first `threshold` ones.
    #[must_use]
    pub fn is_below(self, threshold: Threshold) -> bool {
        u64::from(self.0) < threshold.0
    }
}

/// How many buckets a percentage reaches, from the lowest: 0 to 2³², both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Threshold(pub u64);

impl Threshold {
    /// None of the buckets.
    pub const NOBODY: Threshold = Threshold(0);
    /// All of them.
    pub const EVERYBODY: Threshold = Threshold(1 << 32);

    /// The buckets of so many parts per million: `floor(ppm · 2³² / 10⁶)`, all from a million on.
    #[must_use]
    pub fn of_ppm(ppm: u64) -> Threshold {
        Threshold((ppm.min(1_000_000) << 32) / 1_000_000)
    }

    /// The buckets of the first `moved` of `batches`, where batch `floor(u·n / 2³²)` has the bucket `u`; none of none.
    #[must_use]
    pub fn of_batches(moved: u64, batches: u64) -> Threshold {
        let moved = u128::from(moved.min(batches)) << 32;
        // Never above 2³², so it fits.
        Threshold(u64::try_from(moved.div_ceil(u128::from(batches.max(1)))).unwrap_or(0))
    }
}

/// A percentage from 0 to 100 with at most four decimals, held exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

impl Percent {
    /// 0: nobody.
    pub const NOBODY: Percent = Percent(0);
    /// 100: everybody.
    pub const EVERYBODY: Percent = Percent(1_000_000);

    /// Reads a number as the JSON document writes it: `5`, `33.3333`.
    ///
    /// # Errors
    /// `expected a number, found "5"` for what is no JSON number, `expected a number without exponent, found 1e1`,
    /// `expected 0 to 100, found 140` (and for all with a sign, `-0` too), `expected at most four decimals, found
    /// 0.00001` (and for `5.00000`, so that nobody has to ask which digits count).
    pub fn parse(text: &str) -> Result<Percent, Problem> {
        let refused = |expected: &'static str| Problem::expected(expected, text);
        let number = Written::read(text).ok_or_else(|| refused("a number"))?;
        if number.has_exponent {
            return Err(refused("a number without exponent"));
        }
        // A whole part that overflows is over 100 as well.
        let whole = number.whole.parse().ok().filter(|whole| !number.is_negative && *whole <= 100u32);
        let whole = whole.ok_or_else(|| refused("0 to 100"))?;
        if number.decimals.len() > DECIMALS {
            return Err(refused("at most four decimals"));
        }
        let digits = number.decimals.bytes().chain(std::iter::repeat(b'0')).take(DECIMALS);
        let parts = Percent(digits.fold(whole, |parts, digit| parts * 10 + u32::from(digit - b'0')));
        if parts > Percent::EVERYBODY { Err(refused("0 to 100")) } else { Ok(parts) }
    }

    /// In parts per million: 0 to 1,000,000.
    #[must_use]
    pub fn parts_per_million(self) -> u32 {
        self.0
    }

    /// The number of buckets that this percentage reaches: `floor(ppm · 2³² / 10⁶)`.
    #[must_use]
    pub fn threshold(self) -> Threshold {
        Threshold::of_ppm(u64::from(self.0))
    }
}

impl fmt::Display for Percent {
    /// The shortest text that reads as this percentage: `5`, `0.25`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, mut decimals, mut width) = (self.0 / 10_000, self.0 % 10_000, DECIMALS);
        if decimals == 0 {
            return write!(f, "{whole}");
        }
        while decimals.is_multiple_of(10) {
            decimals /= 10;
            width -= 1;
        }
        write!(f, "{whole}.{decimals:0width$}")
    }
}

/// How many decimals a percentage may have.
const DECIMALS: usize = 4;

/// The parts of a JSON number.
struct Written<'a> {
    is_negative: bool,
    whole: &'a str,
    decimals: &'a str,
    has_exponent: bool,
}

impl Written<'_> {
    /// Takes a number apart; `None` for a text that is no JSON number.
    fn read(text: &str) -> Option<Written<'_>> {
        let magnitude = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, exponent) = split_at(magnitude, &['e', 'E']);
        let (whole, decimals) = split_at(mantissa, &['.']);
        let exponent_is_number = exponent.is_none_or(|e| is_digits(e.strip_prefix(['+', '-']).unwrap_or(e)));
        let has_leading_zero = whole.len() > 1 && whole.starts_with('0');
        let is_number =
            is_digits(whole) && !has_leading_zero && decimals.is_none_or(is_digits) && exponent_is_number;
        is_number.then_some(Written {
            is_negative: magnitude.len() < text.len(),
            whole,
            decimals: decimals.unwrap_or_default(),
            has_exponent: exponent.is_some(),
        })
    }
}

fn split_at<'a>(text: &'a str, mark: &[char]) -> (&'a str, Option<&'a str>) {
    text.split_once(mark).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Number;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[test]
    fn a_key_lands_where_another_implementation_puts_it() {
        for (seed, key, hash) in [
            ("", &b""[..], 0x6fb5_654d_28b3_ff2d_u64),
            ("paddy", b"", 0x9df1_8e98_1327_a140),
            ("paddy", b"rice-1", 0x293c_43d0_b9e3_30f8),
            ("paddy", b"rice-2", 0x07bb_4e4a_9616_4acf),
            ("paddy", b"\xff\x00\xfe", 0xc690_b496_6d0a_f31a),
            ("paddy", b"a:b", 0x82cc_e9e5_d0c1_97ca),
            ("물꼬", "논".as_bytes(), 0x0453_3e9e_a59a_7ec1),
            ("paddy", &[b'k'; 1_024], 0xf880_541d_7e69_078c),
        ] {
            assert_eq!(Seed::new(seed).hash(key), hash, "{seed}:{key:?}");
            assert_eq!(u64::from(Seed::new(seed).bucket(key).0), hash >> 32, "{seed}:{key:?}");
        }
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Vector {
        seed: String,
        key: String,
        hash: String,
        bucket: u32,
        percent_at_which_it_enters: Number,
    }

    #[derive(Deserialize)]
    struct Suite {
        vectors: Vec<Vector>,
    }

    #[test]
    fn all_vectors_of_the_suite_hold() {
        let folder = std::env::var("MULKKO_SUITES").unwrap_or_else(|_| "../shared/suites".to_owned());
        let Ok(text) = std::fs::read_to_string(format!("{folder}/bucket-vectors.json")) else {
            eprintln!("suite absent, skipped");
            return;
        };
        let suite: Suite = serde_json::from_str(&text).unwrap();
        assert!(!suite.vectors.is_empty());
        for vector in suite.vectors {
            let seed = Seed::new(&vector.seed);
            let name = format!("{}:{}", vector.seed, vector.key);
            assert_eq!(format!("{:016x}", seed.hash(vector.key.as_bytes())), vector.hash, "{name}");
            let bucket = seed.bucket(vector.key.as_bytes());
            assert_eq!(bucket, Bucket(vector.bucket), "{name}");
            let enters = Percent::parse(vector.percent_at_which_it_enters.0.get()).unwrap();
            assert!(bucket.is_below(enters.threshold()), "{name}");
            assert!(!bucket.is_below(Percent(enters.0 - 1).threshold()), "{name}");
        }
    }

    #[test]
    fn a_percentage_reaches_its_share_of_the_buckets() {
        for (text, threshold) in [
            ("0", 0),
            ("0.0001", 4_294),
            ("1", 42_949_672),
            ("33.3333", 1_431_654_333),
            ("50", 1 << 31),
            ("99.9999", 4_294_963_001),
            ("100", 1 << 32),
        ] {
            assert_eq!(Percent::parse(text).unwrap().threshold(), Threshold(threshold), "{text}");
        }
    }

    #[test]
    fn nobody_is_below_0_and_everybody_below_100() {
        for bucket in [Bucket(0), Bucket(1), Bucket(u32::MAX)] {
            assert!(!bucket.is_below(Percent::NOBODY.threshold()));
            assert!(bucket.is_below(Percent::EVERYBODY.threshold()));
        }
    }

    #[test]
    fn percentages_are_read_as_they_are_written() {
        for (text, parts) in [
            ("0", 0),
            ("0.0", 0),
            ("0.0001", 1),
            ("0.25", 2_500),
            ("5.50", 55_000),
            ("29.97", 299_700),
            ("99.9999", 999_999),
            ("100", 1_000_000),
            ("100.0000", 1_000_000),
        ] {
            assert_eq!(Percent::parse(text).map(Percent::parts_per_million), Ok(parts), "{text}");
        }
    }

    #[test]
    fn refusals_say_what_was_expected_and_what_was_found() {
        for (text, refusal) in [
            ("140", "expected 0 to 100, found 140"),
            ("100.0001", "expected 0 to 100, found 100.0001"),
            ("140.00001", "expected 0 to 100, found 140.00001"),
            ("99999999999999999999", "expected 0 to 100, found 99999999999999999999"),
            ("-1", "expected 0 to 100, found -1"),
            ("-0", "expected 0 to 100, found -0"),
            ("0.00001", "expected at most four decimals, found 0.00001"),
            ("5.00000", "expected at most four decimals, found 5.00000"),
            ("1e1", "expected a number without exponent, found 1e1"),
            ("1.5E-2", "expected a number without exponent, found 1.5E-2"),
            (r#""5""#, r#"expected a number, found "5""#),
            ("null", "expected a number, found null"),
            ("[5]", "expected a number, found [5]"),
            ("", "expected a number, found nothing"),
            ("-", "expected a number, found -"),
            ("05", "expected a number, found 05"),
            ("5.", "expected a number, found 5."),
            (".5", "expected a number, found .5"),
            ("+5", "expected a number, found +5"),
            ("5e", "expected a number, found 5e"),
            ("5 ", "expected a number, found 5 "),
            ("٥", "expected a number, found ٥"),
        ] {
            assert_eq!(Percent::parse(text).unwrap_err().to_string(), refusal);
        }
    }

    #[test]
    fn every_percentage_reads_back_from_its_text() {
        for parts in 0..=1_000_000 {
            let percent = Percent(parts);
            assert_eq!(Percent::parse(&percent.to_string()), Ok(percent));
        }
    }

    proptest! {
        #![proptest_config(crate::laws::config(256))]

        #[test]
        fn no_text_makes_the_reader_panic(text in "[-+0-9.eE \"]{0,12}|\\PC{0,40}") {
            let _ = Percent::parse(&text);
        }

        #[test]
        fn raising_a_percentage_only_adds_keys(
            key in proptest::collection::vec(any::<u8>(), 0..64),
            low in 0u32..=1_000_000,
            high in 0u32..=1_000_000,
        ) {
            let (low, high) = (Percent(low.min(high)), Percent(low.max(high)));
            let bucket = Seed::new("checkout-v2").bucket(&key);
            prop_assert!(!bucket.is_below(low.threshold()) || bucket.is_below(high.threshold()));
        }
    }
}
