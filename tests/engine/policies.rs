//! Documents and requests at large: what is refused and how, what is taken, and laws that hold for all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mulkko::decide::{Decision, Node, Proxy, Reason, Request, Trust, decide};
use mulkko::effects::effects;
use mulkko::headers::Headers;
use mulkko::mesh::{Macs, MeshKeys};
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
    let clusters = Clusters::matching(vec![
        "checkout-*".into(),
        "search-*".into(),
        "*|checkout.shop.svc.cluster.local".into(),
    ]);
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
    let pairs: Vec<(&[u8], &[u8])> = vec![
        (b":authority", b"shop.example.com"),
        (b":path", b"/checkout"),
        (b":method", b"GET"),
        (b"x-user-id", user.as_bytes()),
    ];
    let headers = Headers::of_request(pairs, Trust::Edge);
    let (passes, node) = (pass::Passes::default(), Node::default());
    let proxy = At(now_ms);
    let request = Request {
        headers: &headers,
        passes: &passes,
        macs: None,
        node: &node,
        proxy: &proxy,
        rolled_back: None,
    };
    decide(policy, request).list
}

#[test]
fn refusals_are_as_written_down() {
    let mut wrong = Vec::new();
    for file in files("tests/refusals", "json") {
        let expected = fs::read_to_string(file.with_extension("txt")).unwrap_or_default();
        let found = parse(&fs::read(&file).unwrap()).err();
        if found.as_deref() != Some(expected.trim_end()) {
            wrong.push(format!("{}: expected {expected:?}, found {found:?}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
fn the_example_of_the_contract_is_taken() {
    assert_eq!(parse(CONTRACT.as_bytes()).err(), None);
}

#[test]
fn guards_may_say_little_or_much() {
    for guard in [
        json!({}),
        json!({ "errors": {}, "latency": {} }),
        json!({ "alpha": 0.01, "margin": 1, "window": "500ms", "warmup": "0s", "onBreach": "report" }),
        json!({ "errors": { "floor": 0.005, "statuses": ">=500,reset,timeout", "grpcStatuses": [14], "minEvents": 5 } }),
        json!({ "errors": { "statuses": [429, "500-503", "5xx", "reset", "timeout"], "grpcStatuses": [] } }),
        json!({ "latency": { "quantiles": [0.9], "minDelta": "10ms", "minBaseline": 500 } }),
    ] {
        for (strategy, key) in [
            (json!({ "canary": { "variant": "canary", "percent": 5 } }), "request"),
            (
                json!({ "ab": { "split": [
                { "variant": "stable", "percent": 50 }, { "variant": "canary", "percent": 50 },
            ] } }),
                "user",
            ),
        ] {
            let document = json!({
                "keys": { "user": { "from": [{ "header": "x-user-id" }] } },
                "rollouts": [{
                    "name": "shop", "key": key, "default": "stable", "variants": { "stable": {}, "canary": {} },
                    "strategy": strategy, "guard": guard,
                }],
            });
            assert_eq!(parse(document.to_string().as_bytes()).err(), None, "{document}");
        }
    }
}

#[test]
fn what_the_contract_allows_is_taken() {
    let rollout = |more: &str| {
        format!(
            r#"{{"name": "a", "key": "user", "variants": {{"x": {{}}, "y": {{}}}}, "default": "x",
                "strategy": {{"canary": {{"variant": "y", "percent": 5}}}}{more}}}"#
        )
    };
    let keyed = |members: &str, rollouts: &[String]| {
        format!(
            r#"{{"keys": {{"user": {{"from": [{{"header": "x"}}]}}}}{members}, "rollouts": [{}]}}"#,
            rollouts.join(", ")
        )
    };
    let one = |more: &str| keyed("", &[rollout(more)]);
    let named = |name: &str, more: &str| rollout(more).replacen(r#""a""#, &format!("\"{name}\""), 1);
    let strategy = |text: &str| one("").replace(r#"{"canary": {"variant": "y", "percent": 5}}"#, text);
    let layers = r#", "layers": {"l": {"key": "user"}, "m": {"key": "request"}}"#;
    let slice = |from: &str, to: &str| format!(r#", "layer": {{"name": "l", "from": {from}, "to": {to}}}"#);
    for document in [
        "{}".to_owned(),
        r#" {"$schema": "https://flagd.dev/schema/v0/flags.json", "flags": {}} "#.to_owned(),
        r#"{"metadata": {"anything": "goes", "rollouts": 5, "deep.er": true}, "name": "shop", "revision": 0}"#.to_owned(),
        r#"{"flags": {"Any Name/1": {"state": "DISABLED", "variants": {"on": {"a": [1]}}, "defaultVariant": null, "new": 1}}}"#.to_owned(),
        r#"{"flags": [{"key": "a", "state": "ENABLED", "variants": {"on": 1.0}, "defaultVariant": "on", "metadata": {"x": 1}}]}"#.to_owned(),
        // Unknown when it is evaluated, not when it is taken.
        r#"{"flags": {"a": {"state": "ENABLED", "variants": {"on": 1}, "defaultVariant": "on", "targeting": {"$ref": "x"}}}}"#.to_owned(),
        // What no request has, the context of a caller may have, and then its cohorts see it too.
        r#"{"flags": {"a": {"state": "ENABLED", "variants": {"on": 1}, "defaultVariant": "on", "targeting": {"if": [{"cohort": "pro"}, {"var": ""}]}}},
            "cohorts": {"pro": {"$ref": "is-pro"}, "of-nobody": {"missing": "plan"}}, "$evaluators": {"is-pro": {"==": [{"var": "plan"}, "pro"]}}}"#.to_owned(),
        one(r#", "when": {"some": [["a"], {"==": [{"var": ""}, {"var": "whatever"}]}]}"#),
        r#"{"fractional": "v3", "rollouts": [], "holdouts": [], "cohorts": {}, "layers": {}, "attributes": {}, "keys": {}, "$evaluators": {}}"#.to_owned(),
        r#"{"flagKey": "request", "attributes": {"requests": [{"header": "X"}], "a.b": [{"filterState": "s"}]}}"#.to_owned(),
        one(r#", "holdout": false"#),
        one(r#", "holdout": true, "state": "DISABLED", "hostnames": [], "matches": [], "force": []"#),
        one(r#", "seed": "Any text, but a colon""#),
        one(r#", "hostnames": ["*.example.com", "a.b", "a_b.svc.cluster.local"]"#),
        one(r#", "matches": [{}, {"path": {}}, {"method": "OPTIONS"}, {"queryParams": [{"name": "A b", "value": ""}]}]"#),
        one("").replace(r#""y": {}"#, "\"y\": {\"headers\": {\"X-A\": \"a\\tb ~!\"}}"),
        one("").replace(r#""percent": 5"#, r#""percent": 5.0000"#),
        one("").replace(r#""percent": 5"#, r#""percent": 0.0001"#),
        one("").replace(r#""percent": 5"#, r#""percent": 100.0000"#),
        strategy(r#"{"canary": {"variant": "y", "start": "2026-12-01T09:00:00.5+09:00", "steps": [{"percent": 100, "hold": "1d2h3m4s5ms"}, {"percent": 0}]}}"#),
        strategy(r#"{"ab": {"split": [{"variant": "y", "percent": 33.3333}, {"variant": "x", "percent": 66.6667}]}}"#),
        strategy(r#"{"ab": {"split": [{"variant": "y", "percent": 0}, {"variant": "x", "percent": 100}]}}"#),
        strategy(r#"{"blueGreen": {"active": "y", "previous": "x"}}"#),
        strategy(r#"{"dark": {"variant": "y"}}"#),
        strategy(r#"{"rolling": {"variant": "y", "start": "2026-12-01T09:00:00Z", "batches": 1000, "every": "1ms"}}"#)
            .replace(r#""key": "user", "variants""#, r#""variants""#),
        keyed("", &[named("a", r#", "seed": "same""#), named("b", r#", "seed": "same""#), named("same", "")]),
        keyed(layers, &[named("a", &slice("0", "33.3333")), named("b", &slice("33.3333", "100"))]),
        keyed(layers, &[named("a", &slice("99.9999", "100"))]),
        keyed("", &[named(&"a".repeat(63), ""), named("flag", ""), named("pass-2", "")]),
    ] {
        assert_eq!(parse(document.as_bytes()).err(), None, "{document}");
    }
}

#[test]
fn names_that_headers_of_ours_have_are_no_rollouts() {
    for name in "cluster explain flags guard mirror node pass refused revision rolled-back shadow".split(' ')
    {
        let mut document = canary("5");
        document["rollouts"][0]["name"] = name.into();
        let refusal = parse(document.to_string().as_bytes()).unwrap_err();
        assert!(refusal.starts_with("rollouts[0].name: "), "{name}: {refusal}");
    }
}

#[test]
fn what_the_contract_allows_at_the_edges_is_taken() {
    let mut early = canary("5");
    early["rollouts"][0]["strategy"]["canary"] =
        json!({"variant": "new", "start": "1969-12-31T23:59:59Z", "steps": [{"percent": 1}]});
    let refused: Vec<String> = [
        // An unreadable IP gives null, wherever it comes from.
        json!({"cohorts": {"c": {"cidr": ["ten", "10.0.0.0/8"]}}}),
        json!({"cohorts": {"c": {"cidr": [null, "10.0.0.0/8"]}}}),
        // An instant of RFC 3339, if an early one.
        early,
    ]
    .iter()
    .filter_map(|document| parse(document.to_string().as_bytes()).err())
    .collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn what_the_contract_refuses_at_the_edges_is_refused() {
    let flag = r#""state": "ENABLED", "variants": {"on": 1}, "defaultVariant": "on""#;
    let mut taken = Vec::new();
    for (document, place) in [
        // A `$ref` that reaches itself, whoever uses it.
        (r#"{"$evaluators": {"a": {"$ref": "a"}}}"#.to_owned(), "$evaluators.a"),
        (r#"{"$evaluators": {"a": {"$ref": "b"}, "b": {"!": [{"$ref": "a"}]}}}"#.to_owned(), "$evaluators.a"),
        (
            format!(r#"{{"$evaluators": {{"a": {{"$ref": "a"}}}}, "flags": {{"f": {{{flag}, "targeting": {{"$ref": "a"}}}}}}}}"#),
            "$evaluators.a",
        ),
        // Unknown names anywhere, except a `$ref` inside a flag.
        (r#"{"$evaluators": {"a": {"cohort": "nobody"}}}"#.to_owned(), "$evaluators.a.cohort"),
        // A name twice.
        (r#"{"flags": {"f": {"state": "ENABLED", "variants": {"on": 1, "on": 2}, "defaultVariant": "on"}}}"#.to_owned(), "flags.f.variants.on"),
        // A flag's name is a name, if an empty one, and not an item.
        (format!(r#"{{"flags": {{"": {{{flag}}}}}}}"#), "flags."),
    ] {
        match parse(document.as_bytes()) {
            Err(refusal) if refusal.starts_with(&format!("{place}: ")) => {}
            found => taken.push(format!("{document}: {:?}, expected one at {place}", found.err())),
        }
    }
    assert!(taken.is_empty(), "{}", taken.join("\n"));
}

/// The contract's arithmetic a second time.
mod arithmetic {
    /// The bucket of a key.
    pub fn bucket(seed: &str, key: &str) -> u32 {
        let bytes = seed.bytes().chain([b':']).chain(key.bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        u32::try_from((hash ^ (hash >> 33)) >> 32).unwrap()
    }

    /// Where the first so many parts per million of the buckets end.
    pub fn threshold(ppm: u32) -> u64 {
        u64::from(ppm) * (1 << 32) / 1_000_000
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
        // Above it are the document, its flags, one flag and that one's variants.
        for _ in 3..n {
            value = json!({ "x": value });
        }
        json!({"flags": {"a": {"state": "ENABLED", "variants": {"on": value}}}})
    };
    let values = |n: usize| {
        let values: serde_json::Map<_, _> = (0..n).map(|i| (format!("v{i}"), json!(i))).collect();
        json!({"flags": {"a": {"state": "ENABLED", "variants": values}}})
    };
    let metadata = |n: usize, flags: usize, value: &str| {
        let members: serde_json::Map<_, _> = (0..n).map(|i| (format!("m{i}"), json!(value))).collect();
        let flags: serde_json::Map<_, _> = (0..flags)
            .map(|i| (format!("f{i}"), json!({"state": "ENABLED", "variants": {"on": true}})))
            .collect();
        json!({"metadata": members, "flags": flags})
    };
    let kib = "x".repeat(1_024 - "m0".len() - 2);
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
    let listed = |n: usize| json!({"cohorts": {"c": {"in": [1, vec![0; n - 4]]}}});
    let many = |n: usize| {
        let lists: serde_json::Map<_, _> =
            (0..50).map(|i| (format!("c{i}"), json!({"in": [1, vec![0; 19_996]]}))).collect();
        let mut document = json!({ "cohorts": lists });
        document["cohorts"]["more"] = json!(vec![0; n]);
        document
    };
    let filler = |n: usize| json!({"metadata": {"filler": "x".repeat(n - r#"{"filler":""}"#.len())}});
    // Each takes 32 KiB.
    let patterns =
        |n: usize| json!({"cohorts": {"c": {"or": vec![json!({"matches": ["x", "[a-z]{999}"]}); n]}}});
    for (taken, refused, refusal) in [
        (metadata(100, 1, ""), metadata(101, 1, ""), "metadata: expected at most 100 members, found 101"),
        (
            metadata(1, 8_192, &kib),
            metadata(1, 8_193, &kib),
            "metadata: expected at most 8388608 bytes with all flags, found 8389632",
        ),
        (values(1_000), values(1_001), "flags.a.variants: expected at most 1000 variants, found 1001"),
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
        (listed(20_000), listed(20_001), "cohorts.c: expected at most 20000 values, found 20001"),
        (listed(20_000), many(0), "document: expected at most 1000000 values, found 1000002"),
        (
            filler(262_144 - r#""metadata":"#.len()),
            filler(262_145 - r#""metadata":"#.len()),
            "metadata: expected at most 262144 bytes, found 262145",
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

proptest! {
    #![proptest_config(crate::laws::config(512))]

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
        vouches: bool,
        now_ms: i64,
    ) {
        let policy = parse(&document.1).unwrap();
        let pairs = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let headers = Headers::of_request(pairs, if mesh { Trust::Mesh } else { Trust::Edge });
        let pass = headers.came("x-mulkko-pass").unwrap_or_default();
        let mut keys = PassKeys::default();
        keys.add(&[7; 32]).unwrap();
        let passes = pass::read(&pass, &keys, now_ms);
        let mut mesh_keys = MeshKeys::default();
        mesh_keys.add(&[7; 32]).unwrap();
        let macs = vouches.then(|| Macs::new("shop", Arc::new(mesh_keys)));
        let (node, proxy) = (Node::default(), At(now_ms));
        let request = Request { headers: &headers, passes: &passes, macs: macs.as_ref(), node: &node, proxy: &proxy, rolled_back: None };
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
    fn every_key_has_the_variant_that_the_contract_says(
        shares in prop::collection::vec(0..=1_000_000_u32, 1..6), user: u32, turn in 0..6_usize,
    ) {
        // The gaps between points on a line of a million are shares that add up to it.
        let mut ends = shares;
        ends.sort_unstable();
        ends.push(1_000_000);
        let starts = [0].iter().chain(&ends);
        let percents: Vec<u32> = ends.iter().zip(starts).map(|(end, start)| end - start).collect();
        let name = |i: usize| format!("v{}", (i + turn) % percents.len());
        let split: Vec<String> = percents.iter().enumerate().map(|(i, ppm)| {
            format!(r#"{{"variant": "{}", "percent": {}.{:04}}}"#, name(i), ppm / 10_000, ppm % 10_000)
        }).collect();
        let variants: Vec<String> = (0..percents.len()).map(|i| format!(r#""v{i}": {{}}"#)).collect();
        let document = format!(
            r#"{{"keys": {{"user": {{"from": [{{"header": "x-user-id"}}]}}}}, "rollouts": [{{"name": "button",
                "key": "user", "variants": {{{}}}, "default": "v0", "strategy": {{"ab": {{"split": [{}]}}}}}}]}}"#,
            variants.join(", "), split.join(", ")
        );
        let policy = parse(document.as_bytes()).unwrap();
        let user = format!("user-{user}");
        let bucket = u64::from(arithmetic::bucket("button", &user));
        let owner = ends.iter().position(|end| bucket < arithmetic::threshold(*end)).unwrap();
        let decision = decisions(&policy, &user, 0)[0];
        let rollout = policy.rollout(decision.rollout).unwrap();
        prop_assert_eq!(&*rollout.variant(decision.variant).unwrap().name, name(owner));
        let is_whole = percents.contains(&1_000_000);
        prop_assert_eq!(decision.reason, if is_whole { Reason::Static } else { Reason::Split });
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

/// The policy that the contract shows.
const CONTRACT: &str = r#"{
  "apiVersion": "mulkko/v1",
  "name": "shop",
  "revision": 118,
  "flagKey": "user",
  "keys": {
    "user":   { "from": [{ "metadata": ["envoy.filters.http.jwt_authn", "payload", "sub"] }, { "header": "x-user-id" }] },
    "device": { "from": [{ "cookie": "mulkko_id" }], "mint": { "cookie": "mulkko_id", "maxAge": "365d" } }
  },
  "attributes": {
    "region": [{ "header": "x-region" }, { "property": ["xds", "node", "locality", "region"] }]
  },
  "cohorts": {
    "staff":     { "ends_with": [{ "var": "request.headers.x-user-email" }, "@example.com"] },
    "kr-mobile": { "and": [{ "==": [{ "var": "region" }, "kr"] }, { "in": ["Mobile", { "var": "request.headers.user-agent" }] }] }
  },
  "layers":   { "checkout-layer": { "key": "user" } },
  "holdouts": [{ "name": "q4", "key": "user", "percent": 2 }],
  "rollouts": [
    {
      "name": "checkout-v2",
      "hostnames": ["shop.example.com"],
      "matches": [{ "path": { "type": "PathPrefix", "value": "/checkout" } }],
      "key": "user",
      "when": { "cohort": "kr-mobile" },
      "variants": {
        "stable": {},
        "canary": { "cluster": "checkout-v2", "headers": { "x-checkout-version": "v2" } }
      },
      "default": "stable",
      "strategy": {
        "canary": {
          "variant": "canary",
          "start": "2026-12-01T09:00:00Z",
          "steps": [{ "percent": 1, "hold": "10m" }, { "percent": 5, "hold": "30m" }, { "percent": 25, "hold": "2h" }, { "percent": 100 }]
        }
      },
      "force": [{ "when": { "cohort": "staff" }, "variant": "canary" }],
      "layer": { "name": "checkout-layer", "from": 0, "to": 50 },
      "guard": { "errors": {}, "latency": {} }
    }
  ],
  "flags": {
    "new-cart": {
      "state": "ENABLED",
      "variants": { "on": true, "off": false },
      "defaultVariant": "off",
      "targeting": { "if": [{ "cohort": "staff" }, "on", { "fractional": [["on", 10], ["off", 90]] }] }
    }
  }
}"#;
