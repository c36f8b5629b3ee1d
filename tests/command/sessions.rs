//! The command as its users see it: sessions at a console in `tests/command/*.md` and in the README, each run and compared to
//! the letter.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use mulkko::pass::{self, Forced, PassKeys};
use serde_json::Value;

#[test]
fn sessions_go_as_written_down() {
    let cases = trycmd::TestCases::new();
    // What the README shows of other programs is theirs.
    for other in ["make", "curl"] {
        cases.register_bin(other, trycmd::schema::Bin::Ignore);
    }
    cases.case("tests/command/*.md").case("README.md");
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
        for (later_ms, verified) in [(0, true), (3_620_000, true), (3_640_000, false)] {
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

/// What a command prints on a terminal, and what it prints into a pipe.
#[cfg(target_os = "linux")]
fn on_terminal_and_piped(arguments: &str, environment: &[(&str, &str)]) -> (String, String) {
    let line = format!("{} {arguments}", env!("CARGO_BIN_EXE_mulkko"));
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).env("TERM", "xterm").env("MULKKO_PASS_KEY", PASS_KEY).env_remove("NO_COLOR");
        command.envs(environment.iter().copied());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let on_terminal = run("script", &["--quiet", "--return", "--command", &line, "/dev/null"]);
    // A terminal is told to return to the start of the line, too.
    (on_terminal.replace("\r\n", "\n"), run("sh", &["-c", &line]))
}

#[cfg(target_os = "linux")]
#[test]
fn colours_are_for_terminals() {
    let at = "--at 2026-12-01T09:45:00Z";
    for arguments in [
        format!("check {at} tests/refusals/holdout-percent.json policies/canary.json"),
        format!("explain {at} policies/cohorts.json --path /checkout"),
        format!("simulate {at} policies/canary.json --keys 100"),
        format!("diff {at} tests/command/diff/old.json tests/command/diff/grown.json --keys 100"),
        "test policies/tests tests/command/failing".to_owned(),
        "help".to_owned(),
    ] {
        let (on_terminal, piped) = on_terminal_and_piped(&arguments, &[]);
        assert!(on_terminal.contains("\x1b["), "{arguments}: {on_terminal}");
        assert!(!piped.contains('\x1b') && piped.lines().count() > 3, "{arguments}: {piped}");
        let plain = anstream::adapter::strip_str(&on_terminal).to_string();
        assert_eq!(plain, piped, "{arguments}");
        let (on_terminal, _) = on_terminal_and_piped(&arguments, &[("NO_COLOR", "1")]);
        assert_eq!(on_terminal, piped, "{arguments}");
        let (_, piped) = on_terminal_and_piped(&format!("{arguments} --color always"), &[]);
        assert!(piped.contains("\x1b[") || arguments == "help", "{arguments}");
        let (on_terminal, _) = on_terminal_and_piped(&format!("{arguments} --color never"), &[]);
        assert!(!on_terminal.contains('\x1b') || arguments == "help", "{arguments}");
    }
}
