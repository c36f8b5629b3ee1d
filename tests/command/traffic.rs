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
