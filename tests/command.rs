//! The command as its users see it: sessions at a console in `tests/command/*.md`, each run and compared to the letter.
//!
//! `TRYCMD=overwrite cargo test --test command` writes down what is printed now; read the difference.

#![cfg(not(target_arch = "wasm32"))]
#![expect(clippy::unwrap_used, reason = "a test fails by them")]

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use mulkko::pass::{self, Forced, PassKeys};
use serde_json::Value;

#[test]
fn sessions_go_as_written_down() {
    trycmd::TestCases::new().case("tests/command/*.md");
}

/// Runs the command with the key of passes in its environment; gives what it prints.
fn run(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mulkko"));
    let output = command.args(arguments).env("MULKKO_PASS_KEY", PASS_KEY).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const PASS_KEY: &str = "a key of thirty-two bytes or more";

#[test]
fn a_pass_of_the_command_is_one_to_the_engine() {
    let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let mut keys = PassKeys::default();
    keys.add(PASS_KEY.as_bytes()).unwrap();
    let forced = Forced { rollout: "checkout-v2".into(), variant: "canary".into() };
    let names = ["--rollout", "checkout-v2", "--variant", "canary"];
    for (arguments, expected, explain) in [
        (&["--explain"][..], None, true),
        (&names, Some(&forced), false),
        (&[&names[..], &["--explain"]].concat(), Some(&forced), true),
    ] {
        let token = run(&[&["pass", "--for", "1h"], arguments].concat());
        for (later_ms, verified) in [(0, true), (3_590_000, true), (3_620_000, false)] {
            let passes = pass::read(token.trim_end().as_bytes(), &keys, now_ms + later_ms);
            let found = passes.verified.first().map(|pass| (pass.forced.as_ref(), pass.explain));
            assert_eq!(found, verified.then_some((expected, explain)), "{arguments:?} {later_ms}");
        }
        let told: Value =
            serde_json::from_str(&run(&[&["pass", "--for", "1h", "--format", "json"], arguments].concat()))
                .unwrap();
        let token = told["pass"].as_str().unwrap();
        assert_eq!(pass::read(token.as_bytes(), &keys, now_ms).verified.len(), 1);
    }
}

#[test]
fn results_are_written_as_junit_xml() {
    let file = format!("{}/junit.xml", env!("CARGO_TARGET_TMPDIR"));
    run(&["test", "policies/tests", "--junit", &file]);
    let report = std::fs::read_to_string(&file).unwrap();
    let case =
        r#"<testcase name="at 5 % it has the old version" classname="policies/tests/canary.json" time="#;
    assert!(
        report.contains(r#"tests="9" skipped="0" failures="0" errors="0""#) && report.contains(case),
        "{report}"
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_mulkko"));
    let output = command.args(["test", "tests/command/failing", "--junit", &file]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report = std::fs::read_to_string(&file).unwrap();
    assert!(report.contains(r#"failures="5""#) && report.contains("<failure message="), "{report}");
}
