//! The decision cases of `tests/cases/*.json`, run through the engine: natively, and as wasm under Node.
//!
//! `tests/envoy/test_cases.py` sends the same cases through a real Envoy. A file with `at`, `node`, `properties`
//! or `rolledBack` is about a moment or a proxy that the real one is not, and runs here alone.
//! `MULKKO_CASES=rolling cargo test every_case` runs the files alone whose names have that in them.

use std::fs;

use mulkko::cases::{Asked, File, Found, Stage};
use mulkko::decide::{
    Decision, Decisions, Node, Reason, Request, Step, Trust, Values, Watch, decide, decide_watched,
};
use mulkko::dry_run::{Host, applied};
use mulkko::effects::{Edit, Effects, effects};
use mulkko::headers::Headers;
use mulkko::pass::Passes;
use serde_json::{Value, json};

/// The folder, as Cargo runs tests natively (in the package's folder) and as `wasi.mjs` shows it to wasm.
const CASES: &str = "tests/cases";
#[test]
fn every_case_is_decided_as_it_says() {
    let mut files: Vec<_> = fs::read_dir(CASES).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let asked = std::env::var("MULKKO_CASES").unwrap_or_default();
    files.retain(|file| file.file_stem().unwrap().to_string_lossy().contains(&asked));
    let mut count = 0;
    let mut wrong = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let file: File = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let name = path.file_stem().unwrap().to_string_lossy();
        count += file.cases.len();
        wrong.extend(run(&file).into_iter().map(|difference| format!("{name}: {difference}")));
    }
    assert!(wrong.is_empty(), "{} differences in {count} cases:\n{}", wrong.len(), wrong.join("\n"));
    let least = if asked.is_empty() { 150 } else { 0 };
    assert!(count > least, "only {count} cases were found");
}

/// What is different from what the cases of a file say.
fn run(file: &File) -> Vec<String> {
    let mut stage = match Stage::of(file, file.policy.get().as_bytes()) {
        Ok(stage) => stage,
        Err(found) => return vec![format!("refused: {}", found[0])],
    };
    let checked = file.cases.iter().map(|case| (case, stage.check(case).1));
    checked.flat_map(|(case, wrong)| wrong.into_iter().map(|it| format!("{}: {it}", case.name))).collect()
}

#[test]
fn the_explanation_tells_the_bucket_where_one_was_computed() {
    let policy = json!({
        "keys": { "user": { "from": [{ "header": "x-user-id" }] } },
        "rollouts": [
            canary("checkout-v2", 33, "/"),
            canary("search", 100, "/"),
            canary("cart", 0, "/cart"),
        ],
    });
    let stage = stage(&policy, json!({}));
    for (path, user, expected) in [
        (
            "/",
            "user-1",
            r#"checkout-v2="stable";reason=SPLIT;bucket=1432957083, search="canary";reason=STATIC"#,
        ),
        (
            "/",
            "user-2",
            r#"checkout-v2="stable";reason=SPLIT;bucket=2278733825, search="canary";reason=STATIC"#,
        ),
        ("/", "", r#"checkout-v2="stable";reason=DEFAULT, search="canary";reason=STATIC"#),
        (
            "/cart",
            "user-1",
            r#"cart="stable";reason=STATIC, checkout-v2="stable";reason=SPLIT;bucket=1432957083, search="canary";reason=STATIC"#,
        ),
    ] {
        let asked = get(path, &[("x-user-id", user)]);
        assert_eq!(stage.send(&asked, &[]).explain.as_deref(), Some(expected), "{path} {user}");
    }
}

#[test]
fn without_a_rollout_that_applies_nothing_changes() {
    let policy = json!({
        "keys": { "user": { "from": [{ "header": "x-user-id" }] } },
        "rollouts": [canary("checkout-v2", 50, "/checkout")],
    });
    for trust in ["edge", "mesh"] {
        let stage = stage(&policy, json!({ "trust": trust }));
        let asked = get("/elsewhere", &[("x-user-id", "u1"), ("baggage", " a=1;p , b = 2,"), ("x-a", "1")]);
        stage.run.decided(&asked.pairs(&[]), |decisions, effects| {
            assert_eq!(decisions, &Decisions::default(), "{trust}");
            assert_eq!(effects, Effects::default(), "{trust}");
        });
    }
}

#[test]
fn filter_state_says_variant_and_reason() {
    let policy = json!({
        "keys": { "user": { "from": [{ "header": "x-user-id" }] } },
        "rollouts": [canary("checkout-v2", 100, "/"), canary("cart", 0, "/cart")],
    });
    let stage = stage(&policy, json!({}));
    stage.run.decided(&get("/", &[]).pairs(&[]), |_, effects| {
        let expected = [("mulkko.checkout-v2", "canary"), ("mulkko.checkout-v2.reason", "STATIC")];
        assert_eq!(effects.states, expected);
    });
}

#[test]
fn a_baggage_member_that_would_pass_8192_bytes_is_left_out_and_counted() {
    let policy = json!({
        "keys": { "user": { "from": [{ "header": "x-user-id" }] } },
        "rollouts": [canary("checkout-v2", 100, "/")],
    });
    let stage = stage(&policy, json!({}));
    let member = "mulkko.checkout-v2=canary";
    for (room, dropped) in [(member.len() + 1, 0), (member.len(), 1)] {
        let inbound = format!("a={}", "x".repeat(8_192 - room - 2));
        let expected = if dropped == 0 { format!("{member},{inbound}") } else { member.to_owned() };
        let sent = get("/", &[("baggage", &inbound)]).pairs(&[]);
        stage.run.decided(&sent, |_, effects| assert_eq!(effects.baggage_members_dropped, dropped));
        let found = stage.send(&get("/", &[("baggage", &inbound)]), &[]);
        assert_eq!(found.header("baggage"), Some(expected), "{room}");
    }
}

#[test]
fn a_request_gets_sixty_headers_and_those_of_mulkko_first() {
    let rollouts: Vec<Value> = (0..80)
        .map(|i| {
            let mut rollout = canary(&format!("r{i}"), 100, "/");
            rollout["variants"]["canary"] = json!({
                "headers": { format!("x-of-{i}"): "1", "x-shared": "1" },
                "cluster": format!("c{i}"),
            });
            rollout
        })
        .collect();
    let policy = json!({ "keys": { "user": { "from": [{ "header": "x-user-id" }] } }, "rollouts": rollouts });
    let stage = stage(&policy, json!({ "trust": "mesh" }));
    let inbound = [("x-mulkko-r70", "gone"), ("x-mulkko-r71", "canary"), ("x-of-0", "client")];
    stage.run.decided(&get("/", &inbound).pairs(&[]), |decisions, effects| {
        assert_eq!((decisions.list.len(), effects.states.len()), (80, 160));
        let set: Vec<&str> = effects
            .edits
            .iter()
            .filter_map(|edit| if let Edit::Set(name, _) = edit { Some(*name) } else { None })
            .collect();
        // Two are mulkko's own, three are the first rollout's, and each other has two.
        assert_eq!(set.len(), 60);
        for name in
            ["baggage", "x-mulkko-cluster", "x-mulkko-r0", "x-of-0", "x-shared", "x-of-27", "x-mulkko-r28"]
        {
            assert!(set.contains(&name), "{name}: {set:?}");
        }
        assert!(!set.contains(&"x-of-28") && !set.contains(&"x-mulkko-r29"), "{set:?}");
        // Two of the last that has a header, and three of each after it.
        assert_eq!(effects.headers_dropped, 2 + 51 * 3);
        // What an earlier hop said otherwise does not stay.
        let removed = |name: &str| effects.edits.contains(&Edit::Remove(name.as_bytes()));
        assert!(removed("x-mulkko-r70") && !removed("x-mulkko-r71"));
    });
}

/// A condition that takes more steps than a request has.
fn endless() -> Value {
    let sixty: Vec<u32> = (0..60).collect();
    let within = |body: Value| json!({ "all": [sixty, body] });
    within(within(within(json!({ "!=": [{ "var": "" }, -1] }))))
}

#[test]
fn entries_of_matches_spend_the_budget_first() {
    let dear: Vec<Value> = (0..40)
        .map(|i| {
            let pattern = format!("((a*)*(a*)*(a*)*(a*)*)*[bc]{{1,{}}}", i + 1);
            let mut rollout = canary(&format!("r{i}"), 100, "/");
            rollout["matches"] = json!([
                { "path": { "value": "/a" }, "headers": [{ "name": "x-a", "type": "RegularExpression", "value": pattern }] },
                { "path": { "value": "/" } },
            ]);
            rollout
        })
        .collect();
    let policy = json!({ "keys": { "user": { "from": [{ "header": "x-user-id" }] } }, "rollouts": dear });
    let stage = stage(&policy, json!({}));
    let long = "a".repeat(4_000);
    for (path, is_exhausted) in [("/b", false), ("/a", true)] {
        stage.run.decided(&get(path, &[("x-a", &long), ("x-user-id", "u")]).pairs(&[]), |decisions, _| {
            assert_eq!(decisions.is_exhausted, is_exhausted, "{path}");
            // What was found before it was used up is the default.
            let is_default = |it: &Decision| it.reason == Reason::Default;
            assert_eq!(decisions.list.iter().all(is_default), is_exhausted, "{path}: {:?}", decisions.list);
            assert_eq!(decisions.list.len(), 40, "{path}");
        });
    }
}

#[test]
fn a_cohort_is_found_once_for_each_targeting_key() {
    // A quarter of the budget, for each time that it is found.
    let eighty: Vec<u32> = (0..80).collect();
    let body = json!({ "all": [eighty, { "==": [{ "var": "" }, { "var": "" }] }] });
    let dear = json!({ "all": [eighty, body] });
    let rollouts = |when: &Value, keys: &[&str]| -> Vec<Value> {
        (0..8)
            .map(|i| {
                let mut rollout = canary(&format!("r{i}"), 100, "/");
                rollout["when"] = when.clone();
                rollout["key"] = json!(keys[i % keys.len()]);
                rollout
            })
            .collect()
    };
    let policy = |rollouts: &[Value]| {
        json!({
            "keys": { "user": { "from": [{ "header": "x-user-id" }] }, "other": { "from": [{ "header": "x-other" }] },
                      "third": { "from": [{ "header": "x-third" }] } , "fourth": { "from": [{ "header": "x-third" }] },
                      "fifth": { "from": [{ "header": "x-third" }] } },
            "cohorts": { "dear": dear },
            "rollouts": rollouts,
        })
    };
    let cohort = json!({ "cohort": "dear" });
    for (when, keys, is_exhausted) in [
        (&dear, &["user"][..], true),
        (&cohort, &["user"], false),
        (&json!({ "and": [cohort, cohort, cohort, cohort, cohort] }), &["user"], false),
        (&cohort, &["user", "other", "third", "fourth", "fifth"], true),
    ] {
        let stage = stage(&policy(&rollouts(when, keys)), json!({}));
        stage.run.decided(&get("/", &[("x-user-id", "u")]).pairs(&[]), |decisions, _| {
            assert_eq!(decisions.is_exhausted, is_exhausted, "{when} {keys:?}");
        });
    }
}

#[test]
fn a_request_that_uses_up_its_budget_keeps_its_id() {
    let mut rollout = canary("r", 50, "/");
    rollout["force"] = json!([{ "when": endless(), "variant": "canary" }]);
    rollout["key"] = json!("id");
    let policy = json!({
        "keys": { "id": { "from": [{ "cookie": "id" }], "mint": { "cookie": "id", "maxAge": "1d" } } },
        "holdouts": [{ "name": "h", "key": "id", "percent": 1 }],
        "layers": { "l": { "key": "id" } },
        "rollouts": [rollout],
    });
    let stage = stage(&policy, json!({}));
    for (cookies, path) in [(&[("cookie", "id=known")][..], "/"), (&[], "/")] {
        stage.run.decided(&get(path, cookies).pairs(&[]), |decisions, effects| {
            assert!(decisions.is_exhausted);
            assert!(decisions.minted.is_empty() && effects.response.cookies.is_empty(), "{decisions:?}");
        });
    }
}

#[test]
fn what_only_an_explanation_looks_at_spends_nothing() {
    struct Looks;
    impl Watch for Looks {
        fn took(&self, _: u32, _: Step<'_>, values: &Values<'_>) {
            values.budget().apart(|| assert!(values.budget().spend(90_000).is_ok()));
        }
    }
    let mut rollout = canary("r", 100, "/");
    rollout["when"] = endless();
    let policy = json!({
        "keys": { "user": { "from": [{ "header": "x-user-id" }] } },
        "rollouts": [canary("before", 100, "/"), rollout],
    });
    let stage = stage(&policy, json!({}));
    stage.run.asked(&get("/", &[("x-user-id", "u")]).pairs(&[]), |request| {
        let watched = decide_watched(&stage.run.policy, *request, &Looks);
        assert_eq!(watched, decide(&stage.run.policy, *request));
        assert!(watched.is_exhausted);
        let reasons: Vec<&str> = watched.list.iter().map(|it| it.reason.as_str()).collect();
        assert_eq!(reasons, ["STATIC", "DEFAULT"]);
    });
}

#[test]
fn bytes_that_are_no_text_are_null_in_conditions_and_hashed_as_a_key() {
    let mut rollout = canary("checkout-v2", 50, "/");
    rollout["force"] =
        json!([{ "when": { "==": [{ "var": "request.headers.x-a" }, null] }, "variant": "canary" }]);
    let policy = json!({
        "keys": { "user": { "from": [{ "header": "x-user-id" }] } },
        "rollouts": [rollout],
    });
    let stage = stage(&policy, json!({}));
    // The bucket of `checkout-v2:` and the byte FF, from an implementation of its own.
    for (value, expected) in [
        (&b"\xff"[..], r#"checkout-v2="canary";reason=TARGETING_MATCH"#),
        (b"text", r#"checkout-v2="canary";reason=SPLIT;bucket=2061175776"#),
    ] {
        let explain = stage.sign(json!({ "explain": true }).as_object().unwrap()).unwrap();
        let mut sent = get("/", &[]).pairs(&[explain]);
        sent.push((b"x-user-id".to_vec(), b"\xff".to_vec()));
        sent.push((b"x-a".to_vec(), value.to_vec()));
        let found = stage.run.decided(&sent, |_, effects| effects.response.explain.clone());
        assert_eq!(found.as_deref(), Some(expected));
    }
}

#[test]
fn without_a_policy_the_edge_removes_what_is_ours_all_the_same() {
    let asked = get(
        "/",
        &[("x-mulkko-a", "1"), ("x-mulkko-cluster", "b"), ("baggage", "a=1,mulkko.a=b"), ("x-b", "2")],
    );
    let sent = asked.pairs(&[]);
    for (trust, own, baggage) in [(Trust::Edge, None, "a=1"), (Trust::Mesh, Some("1"), "a=1,mulkko.a=b")] {
        let pairs = sent.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let (headers, passes, node) = (Headers::of_request(pairs, trust), Passes::default(), Node::default());
        let host = Host::default();
        let request = Request {
            headers: &headers,
            passes: &passes,
            macs: None,
            node: &node,
            proxy: &host,
            rolled_back: None,
        };
        let effects = effects(None, &Decisions::default(), &request);
        let found = Found { upstream: applied(&sent, &effects.edits), ..Found::default() };
        for (name, value) in
            [("x-mulkko-a", own), ("x-mulkko-cluster", None), ("baggage", Some(baggage)), ("x-b", Some("2"))]
        {
            assert_eq!(found.header(name).as_deref(), value, "{trust:?} {name}");
        }
    }
}

#[test]
fn a_decision_that_is_handed_on_has_its_filter_state() {
    let policy = json!({
        "keys": { "user": { "from": [{ "header": "x-user-id" }] } },
        "rollouts": [canary("checkout-v2", 50, "/checkout")],
    });
    let stage = stage(&policy, json!({ "trust": "mesh" }));
    let sent = get("/elsewhere", &[("baggage", "mulkko.checkout-v2=canary")]).pairs(&[]);
    stage.run.decided(&sent, |_, effects| {
        let expected = [("mulkko.checkout-v2", "canary"), ("mulkko.checkout-v2.reason", "FOLLOWED")];
        assert_eq!(effects.states, expected);
    });
}

#[test]
fn a_minted_id_is_set_in_the_browser_for_as_long_as_the_policy_says() {
    let mut rollout = canary("checkout-v2", 50, "/");
    rollout["key"] = json!("device");
    let policy = json!({
        "keys": { "device": { "from": [{ "cookie": "id" }], "mint": { "cookie": "id", "maxAge": "365d" } } },
        "rollouts": [rollout],
    });
    for (trust, cookie, expected) in [("edge", "a=1", 1), ("edge", "id=mine", 0), ("mesh", "a=1", 0)] {
        let stage = stage(&policy, json!({ "trust": trust }));
        stage.run.decided(&get("/", &[("cookie", cookie)]).pairs(&[]), |_, effects| {
            let cookies = &effects.response.cookies;
            assert_eq!(cookies.len(), expected, "{trust} {cookie}: {cookies:?}");
            for cookie in cookies {
                assert!(
                    cookie.starts_with("id=drawn-id;") && cookie.contains("Max-Age=31536000"),
                    "{cookie}"
                );
            }
        });
    }
}

/// A canary of the header `x-user-id` below a path.
fn canary(name: &str, percent: u32, path: &str) -> Value {
    json!({
        "name": name,
        "matches": [{ "path": { "type": "PathPrefix", "value": path } }],
        "key": "user",
        "variants": { "stable": {}, "canary": {} },
        "default": "stable",
        "strategy": { "canary": { "variant": "canary", "percent": percent } },
    })
}

fn stage(policy: &Value, plugin: Value) -> Stage {
    let file = json!({ "policy": policy, "plugin": plugin, "cases": [] }).to_string();
    let file: File = serde_json::from_str(&file).unwrap();
    Stage::of(&file, file.policy.get().as_bytes()).unwrap()
}

fn get(path: &str, headers: &[(&str, &str)]) -> Asked {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Asked { method: "GET".to_owned(), path: path.to_owned(), headers }
}
