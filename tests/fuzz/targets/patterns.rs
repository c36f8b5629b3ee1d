//! Patterns: the literals of one say what its matcher does. The first line is the pattern.

#![no_main]

use fuzz::timed;
use libfuzzer_sys::fuzz_target;
use mulkko::budget::Budget;
use mulkko::finding::Findings;
use mulkko::pattern::Pattern;

fuzz_target!(|input: &str| timed(|| {
    let (pattern, text) = input.split_once('\n').unwrap_or((input, ""));
    let Ok(compiled) = Pattern::compile(pattern, &mut Findings::default()) else { return };
    // With a name in it nothing is plain to see any more.
    if let Ok(plain) = Pattern::compile(&format!("(?<n>{pattern})"), &mut Findings::default()) {
        assert_eq!(compiled.is_match(text), plain.is_match(text), "{pattern} {text:?}");
    }
    if let Ok(found) = compiled.find(text, &Budget::default()) {
        assert_eq!(found, compiled.is_match(text));
    }
}));
