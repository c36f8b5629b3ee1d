//! Passes and signed policies: as they come, and with any header and content under a signature that fits.

#![no_main]

use std::rc::Rc;
use std::sync::LazyLock;

use base64ct::{Base64UrlUnpadded, Encoding};
use ed25519_dalek::{Signer, SigningKey};
use fuzz::{NOW_MS, cut, pass_keys, pass_secret, timed};
use hmac_sha256::HMAC;
use libfuzzer_sys::fuzz_target;
use mulkko::configuration::Configuration;
use mulkko::jws::{self, Opening, VerifyKeys};
use mulkko::pass::{self, PassKeys};

static SIGNING: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[7; 32]));
static OTHERS: LazyLock<PassKeys> = LazyLock::new(|| PassKeys::of(b"another key, which has signed nothing"));

thread_local! {
    static KEYS: Rc<VerifyKeys> = {
        let public = Base64UrlUnpadded::encode_string(SIGNING.verifying_key().as_bytes());
        let text = format!(
            r#"{{"name": "shop", "source": {{"cluster": "c", "path": "/p"}},
            "verify": [{{"kid": "k", "ed25519": "{public}", "maxAge": "1h"}}]}}"#
        );
        Configuration::parse(text.as_bytes()).expect("a configuration").verify.expect("with keys")
    };
}

fuzz_target!(|input: &[u8]| timed(|| {
    let came = pass::read(input, pass_keys(), NOW_MS);
    assert!(came.verified.len() <= 8);
    let (header, content) = cut(input, b'\n');
    signed_pass(header, content);
    KEYS.with(|keys| {
        let opened = open(input.to_vec(), keys, Some(NOW_MS));
        assert!(opened.is_err() || jws::unverified(input).is_ok(), "what is verified can be read");
        signed_policy(header, content, keys);
        own_policy(input, keys);
    });
}));

/// A pass with this header and these claims under a signature that fits.
fn signed_pass(header: &[u8], claims: &[u8]) {
    let signed = parts(header, claims);
    let token = format!("{signed}.{}", Base64UrlUnpadded::encode_string(&HMAC::mac(&signed, pass_secret())));
    let passes = pass::read(token.as_bytes(), pass_keys(), NOW_MS);
    assert_eq!(passes.verified.len() + passes.refused, 1);
    if passes.verified.is_empty() {
        return;
    }
    assert_eq!(passes.header().as_deref(), Some(&*token), "it goes on as it came");
    let read = |json: &[u8]| serde_json::from_slice::<serde_json::Value>(json).ok();
    let (header, claims) = (read(header), read(claims));
    assert!(header.is_none_or(|header| header["alg"] == "HS256" && header.get("crit").is_none()));
    if let Some(exp) = claims.as_ref().and_then(|claims| claims["exp"].as_f64()) {
        let left_s = exp - NOW_MS as f64 / 1_000.0;
        assert!((-30.001..=366.0 * 86_400.0 + 0.001).contains(&left_s), "it is in time");
    }
    assert_eq!(pass::read(token.as_bytes(), &OTHERS, NOW_MS).refused, 1, "by another key it is none");
}

/// A policy with this header under a signature that fits.
fn signed_policy(header: &[u8], policy: &[u8], keys: &Rc<VerifyKeys>) {
    let signed = parts(header, policy);
    let signature = Base64UrlUnpadded::encode_string(&SIGNING.sign(signed.as_bytes()).to_bytes());
    let token = format!("{signed}.{signature}").into_bytes();
    if let Ok(opened) = open(token.clone(), keys, Some(NOW_MS)) {
        assert_eq!(opened, policy);
        assert_eq!(jws::open(token.clone(), Rc::clone(keys)).ok().as_deref(), Some(policy));
        assert_eq!(jws::unverified(&token).ok().map(|it| it.1).as_deref(), Some(policy));
        // A bit of it is another, anywhere.
        let at =
            policy.iter().fold(0_usize, |at, b| at.wrapping_mul(31).wrapping_add((*b).into())) % token.len();
        let mut other = token;
        other[at] ^= 1;
        assert!(open(other, keys, Some(NOW_MS)).is_err(), "byte {at}");
    }
}

/// What the command signs is opened, and what is in it is what was signed.
fn own_policy(policy: &[u8], keys: &Rc<VerifyKeys>) {
    let token = jws::sign(policy, "k", &SIGNING, NOW_MS).into_bytes();
    assert!(jws::is_token(&token));
    assert_eq!(open(token, keys, Some(NOW_MS)).ok().as_deref(), Some(policy));
}

fn open(token: Vec<u8>, keys: &Rc<VerifyKeys>, fetched_ms: Option<i64>) -> Result<Vec<u8>, String> {
    let mut opening = Opening::new(token, Rc::clone(keys), fetched_ms);
    while opening.step().map_err(|finding| finding.to_string())? {}
    Ok(opening.into_parts().1)
}

fn parts(header: &[u8], content: &[u8]) -> String {
    [header, content].map(Base64UrlUnpadded::encode_string).join(".")
}
