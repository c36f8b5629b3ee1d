//! Documents and requests at large: what is refused and how, what is taken, and laws that hold for all of them.

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by them")]

use std::fs;
use std::path::{Path, PathBuf};

use mulkko::decide::{Decision, Node, Proxy, Reason, Request, Trust, decide};
use mulkko::effects::effects;
use mulkko::headers::Headers;
use mulkko::pass::{self, PassKeys};
use mulkko::policy::{Clusters, Policy};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A proxy that knows nothing but an instant.
struct At(i64);

impl Proxy for At {
    fn property(&self, _: &[Box<str>]) -> Option<Vec<u8>> {
        None
    }

    fn client_address(&self) -> Option<Vec<u8>> {
        Some(b"127.0.0.1:4711".to_vec())
    }

    fn now_ms(&self) -> i64 {
        self.0
    }

    fn draw_id(&self) -> String {
        "minted".to_owned()
    }
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|it| it == extension));
    files.sort();
    assert!(!files.is_empty(), "{folder} is empty");
    files
}

fn parse(document: &[u8]) -> Result<Policy, String> {
    let clusters = Clusters::matching(vec!["checkout-*".into(), "search-*".into()]);
    Policy::parse(document, &clusters).map_err(|found| found[0].to_string())
}

fn policy(document: &Value) -> Policy {
    parse(document.to_string().as_bytes()).unwrap()
}

fn examples() -> Vec<(PathBuf, Vec<u8>)> {
    files("policies", "json").into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

/// The decisions for a user's `GET /checkout` at an instant.
fn decisions(policy: &Policy, user: &str, now_ms: i64) -> Vec<Decision> {
    let headers = Headers::new(vec![
        (b":authority", b"shop.example.com"),
        (b":path", b"/checkout"),
        (b":method", b"GET"),
        (b"x-user-id", user.as_bytes()),
    ]);
    let (passes, node) = (pass::Passes::default(), Node::default());
    let proxy = At(now_ms);
    let request =
        Request { headers: &headers, passes: &passes, trust: Trust::Edge, node: &node, proxy: &proxy };
    decide(policy, request).list
}

#[test]
fn refusals_are_as_written_down() {
    for file in files("tests/refusals", "json") {
        let expected = fs::read_to_string(file.with_extension("txt")).unwrap_or_default();
        let found = parse(&fs::read(&file).unwrap()).expect_err(&file.display().to_string());
        assert_eq!(found, expected.trim_end(), "{}", file.display());
    }
}

#[test]
fn examples_are_taken() {
    for (file, document) in examples() {
        if let Err(refusal) = parse(&document) {
            panic!("{}: {refusal}", file.display());
        }
    }
}

#[test]
fn what_is_over_a_limit_is_refused_with_its_number() {
    let rollout = |i: usize| {
        json!({"name": format!("r-{i}"), "variants": {"a": {}, "b": {}}, "default": "a",
               "strategy": {"dark": {"variant": "b"}}})
    };
    let rollouts = |n: usize| json!({"rollouts": (0..n).map(rollout).collect::<Vec<_>>()});
    let variants = |n: usize| {
        let variants: serde_json::Map<_, _> = (0..n).map(|i| (format!("v{i}"), json!({}))).collect();
        json!({"rollouts": [{"name": "r", "variants": variants, "default": "v0",
                             "strategy": {"dark": {"variant": "v1"}}}]})
    };
    let nested = |n: usize| {
        let mut value = json!(1);
        for _ in 1..n {
            value = json!([value]);
        }
        json!({"metadata": {"deep": value}})
    };
    let cohort = |n: usize| json!({"cohorts": {"c": {"matches": [{"var": "x"}, "a".repeat(n)]}}});
    let path = |n: usize| {
        let mut document = rollouts(1);
        document["rollouts"][0]["matches"] =
            json!([{"path": {"type": "RegularExpression", "value": "a".repeat(n)}}]);
        document
    };
    let headers = |n: usize| {
        let mut document = rollouts(1);
        let headers: serde_json::Map<_, _> = (0..n).map(|i| (format!("x-{i}"), json!("1"))).collect();
        document["rollouts"][0]["variants"]["a"] = json!({"headers": headers});
        document
    };
    let force = |n: usize| {
        let mut document = rollouts(1);
        document["rollouts"][0]["force"] = vec![json!({"when": true, "variant": "b"}); n].into();
        document
    };
    // Each takes 32 KiB.
    let patterns =
        |n: usize| json!({"cohorts": {"c": {"or": vec![json!({"matches": ["x", "[a-z]{999}"]}); n]}}});
    for (taken, refused, refusal) in [
        (
            headers(100),
            headers(101),
            "rollouts[0].variants.a.headers: expected at most 100 headers, found 101",
        ),
        (force(1_000), force(1_001), "rollouts[0].force: expected at most 1000 entries, found 1001"),
        (
            patterns(1_024),
            patterns(1_025),
            "cohorts.c.or[1024].matches[1]: expected at most 32768 KiB of compiled patterns, found 32800",
        ),
        (rollouts(20_000), rollouts(20_001), "rollouts: expected at most 20000 rollouts, found 20001"),
        (variants(100), variants(101), "rollouts[0].variants: expected at most 100 variants, found 101"),
        (nested(63), nested(64), "document: expected at most 64 levels of nesting, found 65"),
        (cohort(1_024), cohort(1_025), "cohorts.c.matches[1]: expected at most 1024 bytes, found 1025"),
        (
            path(1_024),
            path(1_025),
            "rollouts[0].matches[0].path.value: expected at most 1024 bytes, found 1025",
        ),
    ] {
        assert_eq!(parse(taken.to_string().as_bytes()).err(), None);
        assert_eq!(parse(refused.to_string().as_bytes()).err().as_deref(), Some(refusal));
    }
    let mut document = b"{}".to_vec();
    document.resize(8 << 20, b' ');
    assert!(parse(&document).is_ok());
    document.push(b' ');
    let refusal = parse(&document).unwrap_err();
    assert_eq!(refusal, "document: expected at most 8388608 bytes, found 8388609");
}

fn canary(percent: &str) -> Value {
    json!({"keys": {"user": {"from": [{"header": "x-user-id"}]}},
           "rollouts": [{"name": "checkout-v2", "key": "user", "variants": {"old": {}, "new": {}},
                         "default": "old",
                         "strategy": {"canary": {"variant": "new",
                                                 "percent": serde_json::from_str::<Value>(percent).unwrap()}}}]})
}

#[test]
fn slices_of_a_layer_never_overlap_in_a_user() {
    let rollout = |name: &str, from: u32, to: u32| {
        json!({"name": name, "key": "user", "variants": {"a": {}, "b": {}}, "default": "a",
               "layer": {"name": "shared", "from": from, "to": to},
               "strategy": {"ab": {"split": [{"variant": "a", "percent": 50}, {"variant": "b", "percent": 50}]}}})
    };
    let policy = policy(&json!({
        "keys": {"user": {"from": [{"header": "x-user-id"}]}}, "layers": {"shared": {"key": "user"}},
        "rollouts": [rollout("one", 0, 30), rollout("two", 30, 70), rollout("three", 70, 100)]}));
    for user in 0..10_000 {
        let decided = decisions(&policy, &format!("user-{user}"), 0);
        let inside = decided.iter().filter(|decision| decision.reason == Reason::Split).count();
        assert_eq!(inside, 1, "the three slices cover everybody, once");
    }
}

/// Bytes that look like a policy: an example, with some bytes changed, or cut off.
fn almost_policies() -> impl Strategy<Value = Vec<u8>> {
    let examples: Vec<Vec<u8>> = examples().into_iter().map(|(_, document)| document).collect();
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (prop::sample::select(examples), changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut document, changes, end, cut)| {
            for (at, byte) in changes {
                let at = at.index(document.len());
                document[at] = byte;
            }
            if cut {
                document.truncate(end.index(document.len()));
            }
            document
        },
    )
}

/// Headers of any bytes, with names that mean something.
fn headers() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    let names = prop::sample::select(vec![
        ":path",
        ":authority",
        ":method",
        "cookie",
        "baggage",
        "x-user-id",
        "x-user-email",
        "user-agent",
        "x-mulkko-pass",
        "x-mulkko-cluster",
        "x-mulkko-checkout-v2",
    ]);
    let values = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        "[a-z/=;,.%&? -]{0,40}".prop_map(String::into_bytes),
        "/checkout(/[a-z]{0,3}){0,3}".prop_map(String::into_bytes),
        Just(b"mulkko.checkout-v2=canary,mulkko.buy-button=large;x,=,;".to_vec()),
        Just(vec![b'x'; 5_000]),
    ];
    prop::collection::vec((names.prop_map(|name| name.as_bytes().to_vec()), values), 0..12)
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, cases, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn any_bytes_are_a_policy_or_a_refusal(document in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&document);
    }

    #[test]
    fn a_refusal_is_one_line(document in almost_policies()) {
        if let Err(refusal) = parse(&document) {
            prop_assert!(!refusal.contains(char::is_control) && refusal.contains(": "), "{refusal:?}");
        }
    }

    #[test]
    fn a_decision_never_panics(
        document in prop::sample::select(examples()),
        headers in headers(),
        mesh: bool,
        now_ms: i64,
    ) {
        let policy = parse(&document.1).unwrap();
        let pairs = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let headers = Headers::new(pairs);
        let pass = headers.value("x-mulkko-pass").unwrap_or_default();
        let mut keys = PassKeys::default();
        keys.add(&[7; 32]).unwrap();
        let passes = pass::read(&pass, &keys, now_ms);
        let trust = if mesh { Trust::Mesh } else { Trust::Edge };
        let (node, proxy) = (Node::default(), At(now_ms));
        let request = Request { headers: &headers, passes: &passes, trust, node: &node, proxy: &proxy };
        let decisions = decide(&policy, request);
        let _ = effects(Some(&policy), &decisions, &request);
    }

    #[test]
    fn growing_a_canary_only_adds_keys(low in 0..=1_000_000_u32, more in 0..=1_000_000_u32, user: u32) {
        let high = low.saturating_add(more).min(1_000_000);
        let percent = |ppm: u32| format!("{}.{:04}", ppm / 10_000, ppm % 10_000);
        let user = format!("user-{user}");
        let [before, after] = [low, high].map(|ppm| decisions(&policy(&canary(&percent(ppm))), &user, 0)[0]);
        // A `Value` sorts members: 0 is `new`.
        prop_assert!(before.variant.0 == 1 || after.variant.0 == 0, "{before:?} {after:?}");
    }

    #[test]
    fn raising_the_first_of_a_split_only_adds_keys_and_every_key_has_one_variant(
        low in 0..=100_u32, high in 0..=100_u32, user: u32,
    ) {
        let (low, high) = (low.min(high), low.max(high));
        let split = |first: u32| {
            let second = (100 - first) / 2;
            policy(&json!({
                "keys": {"user": {"from": [{"header": "x-user-id"}]}},
                "rollouts": [{"name": "button", "key": "user", "variants": {"a": {}, "b": {}, "c": {}}, "default": "c",
                              "strategy": {"ab": {"split": [{"variant": "a", "percent": first},
                                                            {"variant": "b", "percent": second},
                                                            {"variant": "c", "percent": 100 - first - second}]}}}]}))
        };
        let user = format!("user-{user}");
        let [before, after] = [low, high].map(|first| decisions(&split(first), &user, 0)[0]);
        prop_assert!(before.variant.0 != 0 || after.variant.0 == 0, "{before:?} {after:?}");
    }
}

#[test]
fn refusals_have_a_pair() {
    for text in files("tests/refusals", "txt") {
        assert!(Path::new(&text).with_extension("json").exists(), "{}", text.display());
    }
}
