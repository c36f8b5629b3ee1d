use ed25519_dalek::SigningKey;

use super::*;
use crate::configuration::Configuration;
use crate::jws::sign;

const NAME: &str = "shop";
const NOW_MS: i64 = 1_800_000_000_000;

#[test]
fn a_policy_signed_for_this_plugin_is_taken() {
    let mut update = update();
    assert_eq!(fetch(&mut update, &signed(NAME, 5, "a", 1)), Ok(5));
    // The keys are rotated: the next document is signed with the other one.
    assert_eq!(fetch(&mut update, &signed(NAME, 6, "b", 2)), Ok(6));
}

#[test]
fn what_is_taken_is_published_as_it_was_signed() {
    let mut update = update();
    let token = signed(NAME, 5, "a", 1);
    update.load_fetched(token.clone(), None, NOW_MS);
    let Outcome::Taken { document, .. } = settled(&mut update) else { panic!("refused") };
    assert_eq!(document, token);
}

#[test]
fn what_was_not_signed_for_this_plugin_changes_nothing() {
    for (document, refusal) in [
        (policy(NAME, 9), "jws: expected a signed policy (compact JWS), found a document without signature"),
        (signed("cart", 9, "a", 1), "name: expected shop, found cart"),
        (
            sign(br#"{"revision": 9}"#, "a", &key(1), NOW_MS).into_bytes(),
            "name: expected shop, found nothing",
        ),
        (signed(NAME, 4, "a", 1), "revision: expected at least 5, found 4"),
        (signed(NAME, 9, "c", 1), "jws.header.kid: unknown key `c`"),
        (
            signed(NAME, 9, "a", 2),
            "jws.signature: expected a signature of this text by the key `a`, found another",
        ),
        (sign(b"[]", "a", &key(1), NOW_MS).into_bytes(), "document: expected an object at line 1 column 1"),
    ] {
        let mut update = update();
        assert_eq!(fetch(&mut update, &signed(NAME, 5, "a", 1)), Ok(5));
        assert_eq!(fetch(&mut update, &document), Err(refusal.to_owned()));
        assert!(update.is_refused());
        assert_eq!(update.policy().map(|policy| policy.revision), Some(5));
        assert_eq!(fetch(&mut update, &signed(NAME, 6, "a", 1)), Ok(6));
        assert!(!update.is_refused());
    }
}

#[test]
fn a_fetch_says_who_asks() {
    let configuration = |text: &str| Configuration::parse(text.as_bytes()).unwrap();
    let source = configuration(r#"{"source": {"cluster": "c", "path": "/"}}"#).source.unwrap();
    let waiting =
        configuration(r#"{"source": {"cluster": "c", "path": "/", "wait": "30s"}}"#).source.unwrap();
    let version = ("x-mulkko-version", env!("CARGO_PKG_VERSION"));
    let mut update = update();
    let asked = |update: &Update, source, node, token| {
        let headers = update.headers(source, node, token);
        headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    let shown = |headers: &[(&str, &str)]| {
        headers.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    assert_eq!(asked(&update, &source, None, None), shown(&[version]));
    assert_eq!(fetch(&mut update, &signed(NAME, 5, "a", 1)), Ok(5));
    assert_eq!(
        asked(&update, &waiting, Some("edge-1"), Some("mulkko_x")),
        shown(&[
            ("prefer", "wait=30"),
            ("authorization", "Bearer mulkko_x"),
            version,
            ("x-mulkko-node", "edge-1"),
            ("x-mulkko-revision", "5"),
        ])
    );
}

#[test]
fn a_token_is_sent_only_as_a_header_can_carry_it() {
    for (secret, expected) in [
        (&b"mulkko_x"[..], Some("mulkko_x")),
        (b"mulkko_x\n", Some("mulkko_x")),
        (b"", None),
        (b" \n", None),
        (b"a b", None),
        (b"a\r\nx-mulkko-node: b", None),
        (b"\xff", None),
        ("é".as_bytes(), None),
    ] {
        assert_eq!(token_text(secret).as_deref(), expected, "{}", secret.escape_ascii());
    }
}

#[test]
fn what_others_publish_is_verified_too() {
    let mut update = update();
    let stamp = Stamp { id: 1, revision: 9 };
    for (document, taken) in [(policy(NAME, 9), false), (signed(NAME, 9, "a", 1), true)] {
        update.load_published(Published { stamp, etag: None, document });
        assert_eq!(matches!(settled(&mut update), Outcome::Taken { .. }), taken);
    }
}

#[test]
fn what_is_fetched_must_be_signed_lately_where_a_key_says_so() {
    let max_age_s = 7 * 86_400;
    let refused = |age: &str| {
        Err(format!("jws.header.iat: expected at most 604800 s before now, 30 s after it, found {age}"))
    };
    for (age_s, taken) in [
        (0, Ok(9)),
        (max_age_s, Ok(9)),
        (max_age_s + 1, refused("604801 s before")),
        (-30, Ok(9)),
        (-31, refused("31 s after")),
        (i64::MAX / 1_000, refused("9223372036854776 s before")),
    ] {
        let document =
            sign(&policy(NAME, 9), "b", &key(2), NOW_MS.saturating_sub(age_s * 1_000)).into_bytes();
        let mut update = update();
        assert_eq!(fetch(&mut update, &signed(NAME, 5, "b", 2)), Ok(5));
        assert_eq!(fetch(&mut update, &document), taken, "{age_s}");
        // One that another root context has fetched in time, or that is in force, is good.
        let stamp = Stamp { id: 1, revision: 9 };
        update.load_published(Published { stamp, etag: None, document });
        assert!(matches!(settled(&mut update), Outcome::Taken { .. }), "{age_s}");
        // The other key says nothing of it.
        let old = sign(&policy(NAME, 9), "a", &key(1), 0).into_bytes();
        assert_eq!(fetch(&mut update, &old), Ok(9));
    }
}

#[test]
fn a_policy_tells_when_it_was_signed() {
    let mut update = update();
    assert_eq!(fetch(&mut update, &signed(NAME, 5, "a", 1)), Ok(5));
    assert_eq!(update.policy().and_then(|policy| policy.signed_ms), Some(NOW_MS));
}

#[test]
fn what_is_not_wanted_any_more_is_freed_in_parts() {
    let flags: Vec<String> =
        (0..300).map(|i| format!(r#""{i}": {{"state": "ENABLED", "variants": {{"on": true}}}}"#)).collect();
    let text =
        |revision| format!(r#"{{"name": "cart", "revision": {revision}, "flags": {{{}}}}}"#, flags.join(","));
    let freed =
        |update: &mut Update| std::iter::repeat_with(|| update.free()).take_while(|more| *more).count();
    // Compiled, and not for this plugin.
    let mut update = self::update();
    assert!(fetch(&mut update, sign(text(1).as_bytes(), "a", &key(1), NOW_MS).as_bytes()).is_err());
    assert!(freed(&mut update) > 300);
    // Half read when another root context publishes.
    let mut update = Update::new(None, Rules::default());
    update.load_fetched(text(1).into_bytes(), None, NOW_MS);
    for _ in 0..500 {
        assert!(update.step().is_none());
    }
    let document = text(2).into_bytes();
    update.load_published(Published { stamp: Stamp { id: 1, revision: 2 }, etag: None, document });
    assert!(freed(&mut update) > 200);
    assert!(matches!(settled(&mut update), Outcome::Taken { .. }));
    assert_eq!(freed(&mut update), 0);
}

#[test]
fn without_keys_names_are_free() {
    let mut update = Update::new(None, Rules::default());
    assert_eq!(fetch(&mut update, &policy("cart", 1)), Ok(1));
}

fn update() -> Update {
    let public = |seed| {
        use base64ct::{Base64UrlUnpadded, Encoding};
        Base64UrlUnpadded::encode_string(key(seed).verifying_key().as_bytes())
    };
    let text = serde_json::json!({
        "name": NAME,
        "verify": [{ "kid": "a", "ed25519": public(1) }, { "kid": "b", "ed25519": public(2), "maxAge": "7d" }],
    });
    let configuration = Configuration::parse(text.to_string().as_bytes()).unwrap();
    Update::new(None, configuration.rules())
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn policy(name: &str, revision: u64) -> Vec<u8> {
    serde_json::json!({ "name": name, "revision": revision }).to_string().into_bytes()
}

fn signed(name: &str, revision: u64, kid: &str, seed: u8) -> Vec<u8> {
    sign(&policy(name, revision), kid, &key(seed), NOW_MS).into_bytes()
}

/// Loads a document; its revision, or why it is refused.
fn fetch(update: &mut Update, document: &[u8]) -> Result<u64, String> {
    update.load_fetched(document.to_vec(), None, NOW_MS);
    match settled(update) {
        Outcome::Taken { policy, .. } => Ok(policy.revision),
        Outcome::Refused { found, .. } => Err(found[0].to_string()),
    }
}

fn settled(update: &mut Update) -> Outcome {
    std::iter::repeat_with(|| update.step()).find_map(|outcome| outcome).unwrap()
}
