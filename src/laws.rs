//! How laws are tried: properties that hold for all input, by examples that proptest draws.

use proptest::test_runner::Config;

/// A configuration with `cases` examples, or as many times more as `PROPTEST_CASES` is over proptest's own 256
/// (`make test-simulations`).
///
/// As wasm with an eighth: laws are shown natively, and there that a `usize` of 32 bits changes nothing.
pub fn config(cases: u32) -> Config {
    let drawn = Config::default();
    let cases = if cfg!(target_arch = "wasm32") { cases / 8 } else { cases * drawn.cases / 256 };
    Config { cases, failure_persistence: None, ..drawn }
}
