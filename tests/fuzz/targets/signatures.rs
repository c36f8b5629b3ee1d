//! Passes and signed policies: none that nobody signed is believed.

#![no_main]

use std::rc::Rc;

use ed25519_dalek::SigningKey;
use libfuzzer_sys::fuzz_target;
use mulkko::configuration::Configuration;
use mulkko::jws::{Opening, is_token, sign, unverified};
use mulkko::pass::{PassKeys, read};
use mulkko_fuzz::{NOW_MS, PASS_KEY};

thread_local! {
    static RULES: Configuration = Configuration::parse(
        // The public half of the key of 32 ones.
        br#"{"name": "shop", "verify": [{"kid": "a", "ed25519": "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w", "maxAge": "7d"}]}"#,
    )
    .unwrap_or_default();
}

fuzz_target!(|input: &[u8]| {
    let keys = PassKeys::of(PASS_KEY);
    let passes = read(input, &keys, NOW_MS);
    for pass in &passes.verified {
        // Claims that are believed are signed: by the key of the fuzzing, which is in no seed but signed ones.
        assert!(!pass.token.is_empty());
    }
    let nobody = read(input, &PassKeys::default(), NOW_MS);
    assert!(nobody.verified.is_empty());

    // Any claims, signed.
    if let Ok(claims) = str::from_utf8(input)
        && let Some(token) = keys.sign(claims)
    {
        let _ = read(token.as_bytes(), &keys, NOW_MS);
    }

    let _ = (is_token(input), unverified(input));
    let Some(verify) = RULES.with(|it| it.verify.clone()) else { panic!("no keys") };
    let open = |token: &[u8]| {
        let mut opening = Opening::new(token.to_vec(), Rc::clone(&verify), Some(NOW_MS));
        loop {
            match opening.step() {
                Ok(true) => {}
                Ok(false) => return Some(opening.into_parts()),
                Err(_) => return None,
            }
        }
    };
    let key = SigningKey::from_bytes(&[1; 32]);
    let signed = sign(input, "a", &key, NOW_MS);
    let opened = open(signed.as_bytes()).map(|(_, document)| document);
    assert!(opened.is_none_or(|document| document == input || signed.len() > 8 << 20));
    if let Some((_, document)) = open(input) {
        // Whoever has found one has the key, or it is one of the seeds.
        assert!(input.starts_with(b"eyJ") || input.trim_ascii_start().first() == Some(&b'e'), "{document:?}");
    }
});
