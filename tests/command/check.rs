//! `mulkko check` over documents of every kind: what it shows of each refusal and each warning is written down beside them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use mulkko::lint::Lint;
use serde_json::Value;

/// An instant at which some of the documents' steps are over.
const AT: &str = "2026-12-01T12:00:00Z";
const LINTS: &str = "tests/check/lints";

fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|it| it == "json"));
    files.sort();
    files
}

/// What is printed for these files, and the exit code.
fn check(files: &[PathBuf], options: &[&str]) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mulkko"));
    let at: &[&str] = if options.contains(&"--at") { &[] } else { &["--at", AT] };
    let output = command.arg("check").args(options).args(at).args(files).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

/// The codes of what is found in a file.
fn codes(file: &str, options: &[&str]) -> Vec<String> {
    let (json, code) = check(&[file.into()], &[&["--format", "json"], options].concat());
    let checked: Value = serde_json::from_str(&json).unwrap();
    let found = checked[0]["findings"].as_array().unwrap();
    assert_eq!(code, Some(i32::from(!found.is_empty())), "{file}");
    found.iter().map(|it| it["code"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn assert_written_down(file: &str, found: &str) {
    if std::env::var_os("TRYCMD").is_some_and(|it| it == "overwrite") {
        fs::write(file, found).unwrap();
    }
    let written = fs::read_to_string(file).unwrap();
    let differs = written.lines().zip(found.lines()).position(|(written, found)| written != found);
    assert!(written == found, "{file} says otherwise, first in line {:?}", differs.map(|at| at + 1));
}

#[test]
fn every_refusal_is_shown_where_it_stands() {
    let plugin = "tests/check/plugin.json";
    let (shown, code) = check(&files("tests/refusals"), &["--plugin", plugin]);
    assert_eq!(code, Some(1));
    assert_written_down("tests/check/refusals.txt", &shown);
}

#[test]
fn every_warning_is_shown_where_it_stands() {
    let (shown, code) = check(&files(LINTS), &[]);
    assert_eq!(code, Some(1));
    assert_written_down("tests/check/lints.txt", &shown);
}

#[test]
fn each_lint_has_a_document_that_triggers_it_and_one_that_must_not() {
    for lint in Lint::ALL {
        // A new lint does not compile before it has documents.
        let name = match lint {
            Lint::Unreachable => "unreachable",
            Lint::PastStep => "past-step",
            Lint::ConstantFlag => "constant-flag",
            Lint::ConstantCondition => "constant-condition",
            Lint::AbsentIsZero => "absent-is-zero",
            Lint::Absent => "absent",
            Lint::Unused => "unused",
            Lint::SameCluster => "same-cluster",
            Lint::SameHeader => "same-header",
            Lint::NeedlessPattern => "needless-pattern",
            Lint::ReportOnly => "report-only",
            Lint::MeshOnly => "mesh-only",
            Lint::FirstHop => "first-hop",
        };
        let proxies: &[&str] =
            if lint == Lint::FirstHop { &["--plugin", "tests/check/mesh.json"] } else { &[] };
        let file = format!("{LINTS}/{name}.json");
        let found = codes(&file, proxies);
        assert!(!found.is_empty() && found.iter().all(|code| code == name), "{name}: {found:?}");
        assert_eq!(codes(&file, &[proxies, &["--allow", name]].concat()), [""; 0]);
        assert_eq!(codes(&format!("{LINTS}/{name}-not.json"), proxies), [""; 0], "{name}");
    }
    assert_eq!(files(LINTS).len(), 2 * Lint::ALL.len());
}

#[test]
fn what_counts_at_one_kind_of_hop_is_told_for_that_kind() {
    let (in_the_mesh, with_keys) = ("tests/check/mesh.json", "tests/check/mesh-keys.json");
    assert_eq!(codes(&format!("{LINTS}/mesh-only.json"), &["--plugin", in_the_mesh]), [""; 0]);
    for options in [&[][..], &["--plugin", with_keys]] {
        assert_eq!(codes(&format!("{LINTS}/first-hop.json"), options), [""; 0]);
    }
}

#[test]
fn the_examples_are_good() {
    for file in files("policies") {
        let before = codes(file.to_str().unwrap(), &["--at", "2026-11-30T00:00:00Z"]);
        assert_eq!(before, [""; 0], "{}", file.display());
    }
}
