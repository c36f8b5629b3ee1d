use proptest::prelude::*;

use super::*;

/// The key pair of RFC 8037, appendix A.1.
const SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const NOW_MS: i64 = 1_800_000_000_000;
const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

#[test]
fn the_example_of_rfc_8037_verifies() {
    // Appendix A.4, whose header has no `kid`: the pieces are put together without it.
    let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let written = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let key = public_key(PUBLIC).unwrap();
    let mut fits = verifier(&key, &signature(written).unwrap()).unwrap();
    fits(Some(signed.as_bytes()));
    assert!(fits(None));
    let token = format!("{signed}.{written}");
    refuses(token.as_bytes(), "jws.header: missing member `kid`");
}

#[test]
fn what_is_signed_is_opened_by_its_key() {
    let policy = br#"{"name": "shop", "revision": 3}"#;
    for (kid, seed) in [("a", 1), ("b", 2)] {
        let token = sign(policy, kid, &key(seed), NOW_MS);
        let opened = open(token.clone().into_bytes(), keys(&[("a", 1), ("b", 2)]));
        assert_eq!(opened.unwrap(), policy);
        assert_eq!(unverified(token.as_bytes()).unwrap(), (kid.into(), policy.to_vec()));
    }
}

#[test]
fn a_large_policy_is_opened_in_many_steps() {
    for length in [0, 1, 2, 3, 49_150, 49_151, 49_152, 49_153, 98_304, 500_000] {
        let policy: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let token = sign(&policy, "a", &key(1), NOW_MS);
        let mut opening = Opening::new(token.clone().into_bytes(), keys(&[("a", 1)]), None);
        let mut steps = 0;
        while opening.step().unwrap() {
            steps += 1;
        }
        assert!(steps >= length / 50_000, "{length}: {steps}");
        assert_eq!(opening.into_parts(), (token.into_bytes(), policy));
    }
}

#[test]
fn refusals_name_the_part_and_the_problem() {
    let policy = br#"{"name":"shop"}"#;
    let token = sign(policy, "a", &key(1), NOW_MS);
    let (text, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = text.split_once('.').unwrap();
    let (_, other) =
        sign(b"{}", "a", &key(1), NOW_MS).rsplit_once('.').map(|(a, b)| (a.len(), b.to_owned())).unwrap();
    let unsigned = "jws: expected a signed policy (compact JWS), found a document without signature";
    let signed_otherwise = "jws.signature: expected a signature of this text by the key `a`, found another";
    let no_signature = "jws.signature: expected an Ed25519 signature in base64url, found something else";
    let no_header =
        "jws.header: expected a JOSE header with `alg` and `kid`, in base64url, found something else";
    for (document, refusal) in [
        (String::new(), unsigned),
        (String::from_utf8(policy.to_vec()).unwrap(), unsigned),
        (text.to_owned(), unsigned),
        (format!("{text}."), unsigned),
        (format!("{payload}.{signature}"), unsigned),
        (format!("{header}..{signature}"), signed_otherwise),
        (
            format!("{header}.{payload}.{payload}.{signature}"),
            "jws.payload: expected base64url, found something else",
        ),
        (format!("{header}.{payload}=.{signature}"), "jws.payload: expected base64url, found something else"),
        (format!("{text}.{other}"), signed_otherwise),
        (format!("{text}.{}", "A".repeat(86)), signed_otherwise),
        (format!("{text}.{}", "_".repeat(86)), no_signature),
        (format!("{text}.{}=", &signature[..85]), no_signature),
        (format!("{header}A.{payload}.{signature}"), no_header),
        (format!("{text}.{signature} x"), unsigned),
        (sign(policy, "b", &key(1), NOW_MS), "jws.header.kid: unknown key `b`"),
        (sign(policy, "a", &key(2), NOW_MS), signed_otherwise),
        (with_header(r#"{"alg":"none","kid":"a"}"#), "jws.header.alg: expected EdDSA, found none"),
        (with_header(r#"{"alg":"HS256","kid":"a"}"#), "jws.header.alg: expected EdDSA, found HS256"),
        (with_header(r#"{"alg":"Ed25519","kid":"a"}"#), "jws.header.alg: expected EdDSA, found Ed25519"),
        (with_header(r#"{"alg":"EdDSA"}"#), "jws.header: missing member `kid`"),
        (
            with_header(r#"{"alg":"EdDSA","kid":"a","crit":["exp"]}"#),
            "jws.header: expected no member `crit`, found one",
        ),
        (
            with_header(r#"{"alg":"EdDSA","kid":"a","crit":null}"#),
            "jws.header: expected no member `crit`, found one",
        ),
        (with_header(r#"{"alg":"EdDSA","kid":1}"#), no_header),
        (with_header(r#"{"alg":"EdDSA","alg":"EdDSA","kid":"a"}"#), no_header),
        (with_header(r#"{"kid":"a"}"#), no_header),
        (with_header(r#"["EdDSA","a"]"#), no_header),
        (with_header(&format!(r#"{{"alg":"EdDSA","kid":"a","x":"{}"}}"#, "x".repeat(800))), unsigned),
    ] {
        refuses(document.as_bytes(), refusal);
    }
}

#[test]
fn a_header_tells_when_it_was_signed() {
    for (iat, signed) in [
        ("1800000000", Some(NOW_MS)),
        ("1800000000.25", Some(NOW_MS + 250)),
        ("1.8e9", Some(NOW_MS)),
        ("-1", Some(-1_000)),
        ("1e300", Some(i64::MAX)),
        ("-1e300", Some(i64::MIN)),
        ("null", None),
        ("\"1800000000\"", None),
        ("[1800000000]", None),
        ("1800000000,\"iat\":1800000001", None),
    ] {
        let token = with_header(&format!(r#"{{"alg":"EdDSA","kid":"a","iat":{iat}}}"#));
        let mut opening = Opening::new(token.into_bytes(), keys(&[("a", 1)]), Some(NOW_MS));
        while opening.step().unwrap() {}
        assert_eq!(opening.signed_ms(), signed, "{iat}");
    }
}

#[test]
fn white_space_at_the_end_is_a_files() {
    let token = sign(b"{}", "a", &key(1), NOW_MS);
    for end in ["\n", "\r\n", " \n\n"] {
        assert_eq!(open(format!("{token}{end}").into_bytes(), keys(&[("a", 1)])).unwrap(), b"{}");
    }
}

#[test]
fn a_changed_character_makes_a_signature_invalid() {
    let token = sign(br#"{"name":"shop"}"#, "a", &key(1), NOW_MS);
    for place in 0..token.len() {
        for byte in [b'A', b'B', b'.', b'-', 0, 0xff] {
            let mut changed = token.clone().into_bytes();
            if std::mem::replace(&mut changed[place], byte) != byte {
                assert!(open(changed, keys(&[("a", 1)])).is_err(), "{place} {byte}");
            }
        }
    }
}

#[test]
fn keys_under_which_anybody_can_sign_are_refused() {
    for (written, refusal) in [
        (vec![], "verify: expected at least one key, found nothing"),
        (vec![("", PUBLIC)], "verify[0].kid: expected the name of a key, found nothing"),
        (vec![("a", PUBLIC), ("a", PUBLIC)], "verify[1].kid: `a` stands twice"),
        (vec![("a", PUBLIC); 9], "verify: expected at most 8 keys, found 9"),
        (
            vec![("a", "AAAA")],
            "verify[0].ed25519: expected an Ed25519 public key, 32 bytes in base64url, found \"AAAA\"",
        ),
        // The identity, and a point of order 8: small orders, under which one signature fits any text.
        (
            vec![("a", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")],
            "verify[0].ed25519: expected an Ed25519 public key, 32 bytes in base64url, found \"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"",
        ),
        (
            vec![("a", "xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5Kses0")],
            "verify[0].ed25519: expected an Ed25519 public key, 32 bytes in base64url, found \"xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5Kses0\"",
        ),
    ] {
        let mut findings = Findings::default();
        let written: Vec<_> = written
            .into_iter()
            .map(|(kid, ed25519)| wire::Verify {
                kid: kid.to_owned(),
                ed25519: ed25519.to_owned(),
                max_age: None,
            })
            .collect();
        let _ = VerifyKeys::compile(&written, &Path::Root.field("verify"), &mut findings);
        assert_eq!(findings.into_vec()[0].to_string(), refusal);
    }
}

proptest! {
    #![proptest_config(crate::laws::config(256))]

    #[test]
    fn no_document_makes_the_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..256),
        text in "[a-zA-Z0-9_.=-]{0,256}",
    ) {
        let keys = keys(&[("a", 1)]);
        for document in [bytes, text.into_bytes()] {
            let opened = open(document.clone(), Rc::clone(&keys));
            prop_assert!(opened.is_err());
            let _ = unverified(&document);
        }
    }

    #[test]
    fn no_signed_bytes_make_the_reader_panic(
        header in prop::collection::vec(any::<u8>(), 0..64),
        payload in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let part = Base64UrlUnpadded::encode_string;
        let text = format!("{}.{}", part(&header), part(&payload));
        let token = format!("{text}.{}", part(&key(1).sign(text.as_bytes()).to_bytes()));
        let opened = open(token.into_bytes(), keys(&[("a", 1)]));
        prop_assert!(opened.is_err());
    }
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn keys(written: &[(&str, u8)]) -> Rc<VerifyKeys> {
    let keys = written.iter().map(|(kid, seed)| VerifyKey {
        kid: Box::from(*kid),
        public: key(*seed).verifying_key(),
        max_age_ms: None,
    });
    Rc::new(VerifyKeys(keys.collect()))
}

/// A token with this header, signed all the same.
fn with_header(header: &str) -> String {
    let part = Base64UrlUnpadded::encode_string;
    let text = format!("{}.{}", part(header.as_bytes()), part(br#"{"name":"shop"}"#));
    let signature = part(&key(1).sign(text.as_bytes()).to_bytes());
    format!("{text}.{signature}")
}

#[track_caller]
fn refuses(document: &[u8], refusal: &str) {
    let found = open(document.to_vec(), keys(&[("a", 1)])).unwrap_err();
    assert_eq!(found.to_string(), refusal, "{}", document.escape_ascii());
}

#[test]
fn the_seed_of_rfc_8037_is_of_its_public_key() {
    let seed: [u8; 32] = Base64UrlUnpadded::decode_vec(SEED).unwrap().try_into().unwrap();
    assert_eq!(Some(SigningKey::from_bytes(&seed).verifying_key()), public_key(PUBLIC));
}
