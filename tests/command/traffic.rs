//! `mulkko simulate` and `mulkko diff` over much traffic: shares, moves, and memory.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};

const MULKKO: &str = env!("CARGO_BIN_EXE_mulkko");
const AT: &str = "2026-12-01T09:45:00Z";

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn run(arguments: &[&str]) -> Output {
    Command::new(MULKKO).args(arguments).args(["--format", "json", "--at", AT]).output().unwrap()
}

fn answer(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// Whether a count is what a share says, but for five standard deviations: one of two million healthy ones is not.
#[track_caller]
fn assert_likely(count: u64, total: u64, share: f64) {
    let (count, total) = (count as f64, total as f64);
    let deviation = (total * share * (1.0 - share)).sqrt();
    assert!((count - total * share).abs() <= 5.0 * deviation, "{count} of {total}, intended {share}");
}

#[test]
fn shares_are_as_intended() {
    let mut splits = 0;
    for file in ["ab", "canary", "canary-by-hand", "layers-and-holdout", "mint", "rolling", "shop"] {
        let output = run(&["simulate", &format!("policies/{file}.json"), "--keys", "100000"]);
        assert_eq!(output.status.code(), Some(0), "{file}");
        for rollout in answer(&output)["rollouts"].as_array().unwrap() {
            let variants = rollout["variants"].as_array().unwrap();
            let total: u64 = variants.iter().map(|it| it["split"].as_u64().unwrap()).sum();
            for it in variants.iter().filter(|_| total > 0) {
                assert_likely(it["split"].as_u64().unwrap(), total, it["intended"].as_f64().unwrap());
                splits += 1;
            }
        }
    }
    assert!(splits >= 18, "only {splits}");
}

#[test]
fn overlaps_are_as_chance_has_it_and_none_in_a_layer() {
    let simulated = |file: &str| answer(&run(&["simulate", file, "--keys", "100000"]));
    let shop = simulated("policies/shop.json");
    let overlaps = shop["overlaps"].as_array().unwrap();
    assert!(overlaps.len() >= 3, "{overlaps:?}");
    for it in overlaps {
        assert_likely(it["keys"].as_u64().unwrap(), 100_000, it["independent"].as_f64().unwrap() / 100_000.0);
    }
    let layers = simulated("policies/layers-and-holdout.json");
    assert_eq!(layers["overlaps"][0]["keys"], 0);
    assert!(layers["overlaps"][0]["independent"].as_f64().unwrap() > 1_000.0);
}

#[test]
fn the_svg_is_one() {
    let svg = scratch("canary.svg");
    let arguments = [
        "simulate",
        "policies/canary.json",
        "--keys",
        "1000",
        "--over",
        "4h",
        "--svg",
        svg.to_str().unwrap(),
    ];
    assert_eq!(run(&arguments).status.code(), Some(0));
    let svg = fs::read_to_string(svg).unwrap();
    assert!(
        svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("checkout-v2"),
        "{svg}"
    );
}

/// A policy with one canary, and what is different about it.
fn policy(name: &str, percent: f64, seed: &str) -> PathBuf {
    let policy = json!({
        "keys": { "user": { "from": [{ "header": "x-user-id" }] } },
        "rollouts": [{
            "name": "a", "key": "user", "seed": seed, "variants": { "stable": {}, "canary": {} }, "default": "stable",
            "strategy": { "canary": { "variant": "canary", "percent": percent } },
        }],
    });
    let file = scratch(name);
    fs::write(&file, policy.to_string()).unwrap();
    file
}

#[test]
fn a_ramp_moves_nobody_out_and_a_new_seed_moves_both_ways() {
    for (i, (old, new, seed, kind)) in [
        (0.0, 1.0, "a", "grows"),
        (1.0, 1.02, "a", "grows"),
        (5.0, 25.0, "a", "grows"),
        (25.0, 100.0, "a", "grows"),
        (25.0, 5.0, "a", "shrinks"),
        (100.0, 0.0, "a", "shrinks"),
        (10.0, 10.0, "a", "unchanged"),
        (10.0, 10.0, "b", "reshuffles"),
        (10.0, 90.0, "b", "reshuffles"),
    ]
    .into_iter()
    .enumerate()
    {
        let [before, after] =
            [policy(&format!("old-{i}.json"), old, "a"), policy(&format!("new-{i}.json"), new, seed)];
        let keys = 100_000;
        let output =
            run(&["diff", before.to_str().unwrap(), after.to_str().unwrap(), "--keys", &keys.to_string()]);
        let change = answer(&output)["changes"][0].clone();
        assert_eq!(change["kind"], kind, "{old} {new} {seed}");
        assert_eq!(output.status.code(), Some(i32::from(kind == "reshuffles")));
        for it in change["moves"].as_array().unwrap() {
            let (old, new) = (old / 100.0, new / 100.0);
            let share = match (it["from"].as_str().unwrap(), kind) {
                ("stable", "reshuffles") => (1.0 - old) * new,
                ("canary", "reshuffles") => old * (1.0 - new),
                ("stable", _) => new - old,
                _ => old - new,
            };
            assert_likely(it["count"].as_u64().unwrap(), keys, share);
        }
    }
}

#[test]
fn a_log_tells_where_clients_are() {
    let office = |cohort: &str| {
        json!({ "rollouts": [{
            "name": "a", "variants": { "b": {}, "c": {} }, "default": "b", "strategy": { "dark": { "variant": "c" } },
            "force": [{ "when": { "cidr": [{ "var": "client.ip" }, cohort] }, "variant": "c" }],
        }] })
    };
    let [old, new, log] = ["office-old.json", "office-new.json", "office.log"].map(scratch);
    fs::write(&old, office("10.1.0.0/16").to_string()).unwrap();
    fs::write(&new, office("10.2.0.0/16").to_string()).unwrap();
    // As Istio writes them, and as somebody's own format does.
    let line = |client: &str| {
        json!({ "method": "GET", "path": "/", "authority": "a", "user_agent": null, "response_code": 200,
                "downstream_remote_address": format!("{client}:4711") })
    };
    let lines =
        [line("10.1.0.7"), line("10.2.0.7"), line("10.2.0.8"), line("10.3.0.7"), json!({ "path": null })];
    let (old, new, log_file) = (old.to_str().unwrap(), new.to_str().unwrap(), log.to_str().unwrap());
    fs::write(&log, lines.map(|it| it.to_string() + "\n").concat()).unwrap();
    let json = run(&["diff", old, new, "--access-log", log_file]);
    fs::write(&log, "10.1.0.7:4711|/\n10.2.0.7:1|/\n10.2.0.8:1|/\n10.3.0.7:1|/\nno line\n").unwrap();
    let format = "%DOWNSTREAM_REMOTE_ADDRESS%|%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%";
    let text = run(&["diff", old, new, "--access-log", log_file, "--log-format", format]);
    for output in [json, text] {
        let told = answer(&output);
        assert_eq!((told["count"].as_u64(), told["unread"].as_u64()), (Some(4), Some(1)));
        let moves = json!([{ "from": "b", "to": "c", "count": 2 }, { "from": "c", "to": "b", "count": 1 }]);
        assert_eq!(told["changes"][0]["moves"], moves);
    }
}

/// What `diff` says of two policies, for the traffic of a log or of 2,000 keys.
fn difference(case: &str, [old, new]: [&Value; 2], log: Option<&str>, options: &[&str]) -> Output {
    let [old_file, new_file, log_file] =
        ["old.json", "new.json", "log"].map(|file| scratch(&format!("unknown-{case}-{file}")));
    fs::write(&old_file, old.to_string()).unwrap();
    fs::write(&new_file, new.to_string()).unwrap();
    fs::write(&log_file, log.unwrap_or_default()).unwrap();
    let mut arguments = vec!["diff", old_file.to_str().unwrap(), new_file.to_str().unwrap()];
    arguments.extend(match log {
        Some(_) => ["--access-log", log_file.to_str().unwrap()],
        None => ["--keys", "2000"],
    });
    run(&[&arguments[..], options].concat())
}

/// A policy whose rollout `a` has these members, beside others or instead of them.
fn with(members: &Value) -> Value {
    let mut rollout = json!({
        "name": "a", "key": "user", "variants": { "stable": {}, "canary": {} }, "default": "stable",
        "strategy": { "canary": { "variant": "canary", "percent": 10 } },
    });
    rollout.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    json!({
        "keys": { "user": { "from": [{ "header": "x-user-id" }] }, "device": { "from": [{ "cookie": "uid" }] } },
        "attributes": { "region": [{ "header": "x-region" }] },
        "cohorts": { "staff": { "ends_with": [{ "var": "request.headers.x-user-email" }, "@example.com"] } },
        "layers": { "pages": { "key": "device" } },
        "rollouts": [rollout],
    })
}

/// That percent.
fn canary(percent: f64) -> Value {
    json!({ "canary": { "variant": "canary", "percent": percent } })
}

/// 500 requests, each with these members beside its path.
fn lines(members: impl Fn(usize) -> Value) -> String {
    let line = |i| {
        let mut line = json!({ "method": "GET", "path": "/checkout", "code": 200 });
        line.as_object_mut().unwrap().extend(members(i).as_object().unwrap().clone());
        line.to_string() + "\n"
    };
    (0..500).map(line).collect()
}

/// A log without data says so: a reshuffle that nobody would see in it is no good news.
#[test]
fn what_a_log_does_not_tell_is_not_known() {
    let (old, reseeded) = (with(&json!({})), with(&json!({ "seed": "another" })));
    let grown = |path: &str, percent| {
        with(&json!({ "matches": [{ "path": { "value": path } }], "strategy": canary(percent) }))
    };
    let by_device = with(&json!({ "key": "device" }));
    let in_layer = |percent| {
        with(&json!({ "layer": { "name": "pages", "from": 0, "to": 50 }, "strategy": canary(percent) }))
    };
    let held_out = |percent: u32| {
        let mut policy = with(&json!({}));
        policy["holdouts"] = json!([{ "name": "nobody", "key": "device", "percent": percent }]);
        policy
    };
    let minted = |percent| {
        let mut policy = with(&json!({ "key": "device", "strategy": canary(percent) }));
        policy["keys"]["device"]["mint"] = json!({ "cookie": "uid", "maxAge": "30d" });
        policy
    };
    let rolling = |batches| {
        with(&json!({ "key": null, "strategy": { "rolling": {
            "variant": "canary", "batches": batches, "every": "1h", "start": "2026-12-01T09:00:00Z" } } }))
    };
    let without_key = |mut policy: Value| {
        policy["rollouts"][0].as_object_mut().unwrap().remove("key");
        policy
    };
    let user = |i: usize| json!({ "x_user_id": format!("user-{i}") });
    let text: String = (0..500)
        .map(|i| format!("[2026-11-23T18:00:00.000Z] \"GET /checkout HTTP/1.1\" 200 - 0 3 1 0 \"-\" \"curl\" \"{i}\" \"a\" \"b\"\n"))
        .collect();
    let no_key = "500 of 500 requests tell no key (header x-user-id)";
    for (case, old, new, log, expected) in [
        ("no-key", &old, &reseeded, lines(|_| json!({})), no_key),
        ("null", &old, &reseeded, lines(|_| json!({ "x_user_id": null })), no_key),
        ("dash", &old, &reseeded, lines(|_| json!({ "x_user_id": "-" })), no_key),
        ("empty", &old, &reseeded, lines(|_| json!({ "x_user_id": "" })), no_key),
        ("other-name", &old, &reseeded, lines(|i| json!({ "user": i })), no_key),
        ("text", &old, &reseeded, text, no_key),
        (
            "few",
            &old,
            &reseeded,
            lines(|i| if i < 4 { user(i) } else { json!({}) }),
            "496 of 500 requests tell no key (header x-user-id)",
        ),
        ("one-key", &old, &reseeded, lines(|_| user(7)), "all 500 requests have one key (header x-user-id)"),
        (
            "one-request",
            &old,
            &reseeded,
            lines(user).lines().take(1).collect(),
            "1 request has one key (header x-user-id)",
        ),
        (
            "other-path",
            &grown("/cart", 10.0),
            &grown("/cart", 80.0),
            lines(user),
            "no request matches it (path PathPrefix /cart)",
        ),
        // The log tells the key that was, not the one that is to be.
        ("other-key", &old, &by_device, lines(user), "500 of 500 requests tell no key (cookie uid)"),
        (
            "layer",
            &in_layer(10.0),
            &in_layer(80.0),
            lines(user),
            "500 of 500 requests tell no key (cookie uid)",
        ),
        ("holdout", &held_out(1), &held_out(30), lines(user), "500 of 500 requests tell no key (cookie uid)"),
        ("mint", &minted(10.0), &minted(80.0), lines(user), "500 of 500 requests tell no key (cookie uid)"),
        (
            "when",
            &with(&json!({ "when": { "cohort": "staff" } })),
            &with(&json!({ "when": { "cohort": "staff" }, "strategy": canary(80.0) })),
            lines(user),
            "no request meets when (cohort staff); it asks for header x-user-email",
        ),
        (
            "rolling",
            &without_key(rolling(2)),
            &without_key(rolling(3)),
            lines(user),
            "the proxy has no id; add --node ID",
        ),
    ] {
        let output = difference(case, [old, new], Some(&log), &[]);
        let told = answer(&output);
        assert_eq!(output.status.code(), Some(1), "{case}: {told}");
        assert_eq!(told["changes"][0]["unknown"][0]["lacks"], expected, "{case}");
        assert_eq!(told["changes"][0]["unknown"][0]["of"], told["count"], "{case}");
    }
}

#[test]
fn numbers_and_booleans_of_a_log_are_their_texts() {
    let (old, reseeded) = (with(&json!({})), with(&json!({ "seed": "another" })));
    let numbers = lines(|i| json!({ "x_user_id": i }));
    let texts = lines(|i| json!({ "x_user_id": i.to_string() }));
    let [numbers, texts] = [("numbers", numbers), ("texts", texts)].map(|(case, log)| {
        let output = difference(case, [&old, &reseeded], Some(&log), &[]);
        assert_eq!(output.status.code(), Some(1));
        answer(&output)["changes"].clone()
    });
    assert_eq!(numbers, texts);
    assert_eq!(numbers[0]["kind"], "reshuffles");
    let beta = |percent| {
        let header = json!([{ "headers": [{ "name": "x-beta", "value": "true" }] }]);
        with(&json!({ "matches": header, "strategy": canary(percent) }))
    };
    let log = lines(|i| json!({ "x_user_id": i, "x_beta": i % 2 == 0 }));
    let output = difference("booleans", [&beta(10.0), &beta(80.0)], Some(&log), &[]);
    let change = answer(&output)["changes"][0].clone();
    let moved = change["moves"][0]["count"].as_u64().unwrap() + change["unchanged"].as_u64().unwrap();
    assert_eq!((output.status.code(), change["kind"].as_str(), moved), (Some(0), Some("grows"), 250));
}

#[test]
fn logs_that_cannot_be_read_are_no_good_news() {
    let policy = with(&json!({}));
    let garbage = "nothing\n".repeat(501);
    let known = lines(|i| json!({ "x_user_id": i }));
    for (case, log, code) in [
        ("garbage-none", String::new(), 2),
        ("garbage-all", garbage.clone(), 2),
        ("garbage-fields", r#"{"uri": "/", "verb": "GET"}"#.to_owned(), 2),
        ("garbage-most", known.clone() + &garbage, 1),
        ("garbage-half", known.clone() + &garbage["nothing\n".len()..], 0),
        ("garbage-no", known, 0),
    ] {
        let output = difference(case, [&policy, &policy], Some(&log), &[]);
        assert_eq!(output.status.code(), Some(code), "{case}");
    }
}

/// Made-up requests have keys and what rollouts match, and nothing of what conditions ask for.
#[test]
fn what_made_up_requests_lack_is_not_known() {
    let when = |percent| with(&json!({ "when": { "cohort": "staff" }, "strategy": canary(percent) }));
    let force = |variant: &str, percent| {
        let force = json!([{ "when": { "cohort": "staff" }, "variant": variant }]);
        with(&json!({ "force": force, "strategy": canary(percent) }))
    };
    let region = |region: &str| with(&json!({ "when": { "==": [{ "var": "region" }, region] } }));
    let flag = |percent: u32, export: bool| {
        let split = json!({ "fractional": [["on", percent], ["off", 100 - percent]] });
        let mut policy = with(&json!({}));
        policy["flagKey"] = json!("user");
        policy["flags"] = json!({ "cart": {
            "state": "ENABLED", "variants": { "on": true, "off": false }, "defaultVariant": "off",
            "targeting": { "if": [{ "==": [{ "var": "region" }, "kr"] }, split, "off"] },
            "metadata": { "mulkko.export": export },
        } });
        policy
    };
    let path = |paths: &[Value]| {
        let matches: Vec<Value> = paths.iter().map(|path| json!({ "path": path })).collect();
        with(&json!({ "matches": matches }))
    };
    let (cart, exactly) = (json!({ "value": "/cart" }), json!({ "type": "Exact", "value": "/cart" }));
    let mut other_staff = when(10.0);
    other_staff["cohorts"]["staff"] = json!({ "==": [{ "var": "request.cookies.staff" }, "1"] });
    let mut renamed = with(&json!({}));
    renamed["rollouts"][0]["name"] = json!("b");
    let staff = "-H 'x-user-email: …'";
    for (case, old, new, options, lacks) in [
        ("when", when(10.0), when(80.0), &[][..], format!("no request meets when (cohort staff); add {staff}")),
        ("when-met", when(10.0), when(80.0), &["-H", "x-user-email: a@example.com"], String::new()),
        ("when-same", when(10.0), when(10.0), &[], String::new()),
        (
            "cohort",
            when(10.0),
            other_staff,
            &[],
            format!("no request meets when (cohort staff); add -H 'cookie: staff=…', {staff}"),
        ),
        (
            "force",
            force("stable", 10.0),
            force("canary", 10.0),
            &[],
            format!("no request meets force[0] (cohort staff); add {staff}"),
        ),
        // What is seen to grow does not hide what is not seen.
        (
            "force-and-split",
            force("stable", 10.0),
            force("canary", 20.0),
            &[],
            format!("no request meets force[0] (cohort staff); add {staff}"),
        ),
        ("split-past-force", force("stable", 10.0), force("stable", 20.0), &[], String::new()),
        (
            "region",
            region("kr"),
            region("jp"),
            &[],
            "no request meets when (region == \"jp\") or when (region == \"kr\"); add -H 'x-region: …'".to_owned(),
        ),
        (
            "flag",
            flag(10, true),
            flag(80, true),
            &[],
            "no request meets region == \"kr\"; add -H 'x-region: …'".to_owned(),
        ),
        ("flag-met", flag(10, true), flag(80, true), &["-H", "x-region: kr"], String::new()),
        (
            "flag-of-clients",
            flag(10, false),
            flag(80, false),
            &[],
            "no request meets region == \"kr\"; add -H 'x-region: …'".to_owned(),
        ),
        (
            "flag-of-clients-met",
            flag(10, false),
            flag(80, false),
            &["--context", r#"{"region": "kr"}"#],
            String::new(),
        ),
        (
            "key",
            with(&json!({})),
            with(&json!({ "key": "device" })),
            &[],
            "its key is another (cookie uid, before header x-user-id); made-up keys are the same in both, \
             --access-log tells who moves"
                .to_owned(),
        ),
        ("more-paths", path(&[json!({ "value": "/a" })]), path(&[json!({ "value": "/a" }), cart.clone()]), &[], String::new()),
        (
            "fewer-paths",
            path(&[cart]),
            path(&[exactly]),
            &[],
            "it matches others than before, and no request was found that only one of both policies matches; \
             say one by --host, --path and -H"
                .to_owned(),
        ),
        (
            "renamed",
            with(&json!({})),
            renamed,
            &[],
            "it is as a, which goes, but for its seed: keys that had one variant get another; \"seed\": \"a\" keeps them"
                .to_owned(),
        ),
        ("disabled", when(10.0), when(10.0), &[], String::new()),
    ] {
        let output = difference(case, [&old, &new], None, options);
        let told = answer(&output);
        let changes = told["changes"].as_array().unwrap();
        let found = changes.iter().find_map(|it| it["unknown"][0]["lacks"].as_str()).unwrap_or_default();
        assert_eq!(found, lacks, "{case}");
        assert_eq!(output.status.code(), Some(i32::from(!lacks.is_empty())), "{case}: {told}");
    }
}

/// Before a canary starts nobody moves, and that is known; but it is not all there is to say.
#[test]
fn shares_that_are_others_later_are_told() {
    let from = |start: &str, percent: u32| {
        let steps = json!([{ "percent": percent }]);
        with(&json!({ "strategy": { "canary": { "variant": "canary", "start": start, "steps": steps } } }))
    };
    let (old, new) = (from("2026-12-02T09:00:00Z", 10), from("2026-12-02T09:00:00Z", 80));
    let output = difference("later", [&old, &new], None, &[]);
    let change = answer(&output)["changes"][0].clone();
    assert_eq!((output.status.code(), change["kind"].as_str()), (Some(0), Some("unchanged")));
    assert_eq!(change["later"], "2026-12-02T09:00:00Z");
    let output = difference("never", [&old, &old], None, &[]);
    assert_eq!(answer(&output)["changes"][0]["later"], Value::Null);
}

#[test]
fn flags_are_counted() {
    let policy = json!({
        "flags": {
            "cart": { "state": "ENABLED", "variants": { "on": true, "off": false }, "defaultVariant": "off",
                "targeting": { "if": [{ "==": [{ "var": "plan" }, "pro"] },
                    { "fractional": [["on", 30], ["off", 70]] }] } },
            "banner": { "state": "DISABLED", "variants": { "on": true } },
        },
    });
    let file = scratch("flags.json");
    fs::write(&file, policy.to_string()).unwrap();
    let simulated = |options: &[&str]| {
        let file = file.to_str().unwrap();
        let output = run(&[&["simulate", file, "--keys", "100000"], options].concat());
        assert_eq!(output.status.code(), Some(0));
        answer(&output)["flags"].clone()
    };
    let flags = simulated(&["--context", r#"{"plan": "pro"}"#]);
    let [banner, cart] = [&flags[0], &flags[1]];
    assert_eq!(banner["variants"][1], json!({ "variant": null, "keys": 100_000, "share": 1.0 }));
    let on = cart["variants"].as_array().unwrap().iter().find(|it| it["variant"] == "on").unwrap();
    assert_likely(on["keys"].as_u64().unwrap(), 100_000, 0.3);
    assert_eq!(cart["reasons"], json!({ "TARGETING_MATCH": 100_000 }));
    let told = simulated(&["--flag", "cart"]);
    assert_eq!(told[0]["reasons"], json!({ "DEFAULT": 100_000 }));
    assert_eq!(told[1], Value::Null);
}

#[cfg(target_os = "linux")]
#[test]
fn a_million_keys_take_less_memory_than_they_are() {
    let file = scratch("keys.txt");
    let mut keys = std::io::BufWriter::new(fs::File::create(&file).unwrap());
    for i in 0..1_000_000 {
        writeln!(keys, "{i:0>120}").unwrap();
    }
    keys.flush().unwrap();
    let (old, new) = (policy("million-old.json", 5.0, "a"), policy("million-new.json", 25.0, "a"));
    let (file, old, new) = (file.to_str().unwrap(), old.to_str().unwrap(), new.to_str().unwrap());
    for arguments in [&["simulate", old][..], &["diff", old, new]] {
        // In KiB; the file alone has 118,000 of them.
        let limited = ["-c", "ulimit -v 65536 && exec \"$0\" \"$@\"", MULKKO];
        let options = ["--keys", file, "--format", "json", "--at", AT];
        let mut command = Command::new("sh");
        // glibc would set aside 64 MiB for each thread, and try again at every allocation.
        command.env("MALLOC_ARENA_MAX", "1");
        let output = command.args(limited).args(arguments).args(options).output().unwrap();
        let told = answer(&output);
        let count = told["keys"].as_u64().or(told["count"].as_u64());
        assert_eq!(count, Some(1_000_000), "{arguments:?}");
    }
}

/// Whoever waits is told how long; the bar is for people, so it needs a terminal.
#[cfg(target_os = "linux")]
#[test]
fn what_takes_longer_than_a_second_shows_a_bar() {
    let policy = policy("bar.json", 5.0, "a");
    let run = |keys: u64| {
        let line = format!("{MULKKO} simulate {} --keys {keys} --at {AT}", policy.display());
        let started = std::time::Instant::now();
        let arguments = ["--quiet", "--return", "--command", &line, "/dev/null"];
        let output = Command::new("script").args(arguments).env("TERM", "xterm").output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), started.elapsed().as_secs_f64())
    };
    let is_bar = |shown: &str| shown.contains(" left");
    assert!(!is_bar(&run(100).0));
    // As many keys as take this machine three seconds.
    let (mut keys, mut shown, mut took_s) = (50_000, String::new(), 0.0);
    while took_s < 3.0 {
        keys *= 2;
        (shown, took_s) = run(keys);
    }
    assert!(is_bar(&shown), "{keys} keys, {took_s} s: {shown:?}");
}
