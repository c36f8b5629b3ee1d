//! The flag, its rule, and the users it is evaluated for: the same for every engine.
//!
//! A user from one of ten countries, with a version of at least 1.2.0 and below 2.0.0, is on by ten percent; everybody
//! else is off.

/// The flag's key.
pub const FLAG: &str = "new-checkout";

/// The countries that the rule lets in.
pub const COUNTRIES: [&str; 10] = ["AT", "BE", "CH", "DE", "DK", "FR", "LU", "NL", "NO", "SE"];

/// The first version that the rule lets in.
pub const FROM: &str = "1.2.0";

/// The first version that it no longer does.
pub const BELOW: &str = "2.0.0";

/// The share of the users whom the rule lets in that the flag is on for.
pub const PERCENT: u32 = 10;

const OTHER_COUNTRIES: [&str; 10] = ["AU", "BR", "CA", "GB", "IN", "JP", "KR", "MX", "US", "ZA"];

/// Who asks for the flag.
pub struct User {
    /// The targeting key: a UUID, as long as session and user ids usually are.
    pub key: String,
    pub country: &'static str,
    pub version: String,
    /// Whether the rule lets the user in, known without any engine.
    pub matches: bool,
}

/// So many users, the same ones at every call; the rule lets about half of them in.
pub fn users(count: usize) -> Vec<User> {
    let mut draws = Draws(0);
    (0..count).map(|_| user(&mut draws)).collect()
}

fn user(draws: &mut Draws) -> User {
    let key = format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        draws.below(1 << 32),
        draws.below(1 << 16),
        draws.below(1 << 12),
        draws.below(1 << 12),
        draws.below(1 << 48),
    );
    let inside = draws.below(4) > 0;
    let country = if inside { draws.one_of(COUNTRIES) } else { draws.one_of(OTHER_COUNTRIES) };
    // Minor versions of two digits, so that an engine which compares versions as text fails the check.
    let version = (draws.one_of([0, 1, 1, 1, 1, 1, 1, 2]), draws.below(20), draws.below(10));
    let matches = inside && ((1, 2, 0)..(2, 0, 0)).contains(&version);
    let (major, minor, patch) = version;
    User { key, country, version: format!("{major}.{minor}.{patch}"), matches }
}

/// SplitMix64: even draws from a seed, without a dependency.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut draw = self.0;
        draw = (draw ^ (draw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        draw = (draw ^ (draw >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        draw ^ (draw >> 31)
    }

    /// One of 0 to `bound` - 1; what the remainder favours is below a millionth.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_of<T: Copy, const N: usize>(&mut self, items: [T; N]) -> T {
        items[self.below(N as u64) as usize]
    }
}
