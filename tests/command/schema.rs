//! The JSON Schema of a policy, judged by a validator that is not ours: it takes what is taken, and refuses by shape what the
//! parser refuses by shape.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use jsonschema::Validator;
use mulkko::wire::Document;
use mulkko::wire::schema::policy;
use serde_json::Value;

fn validator() -> Validator {
    jsonschema::draft202012::new(policy().as_value()).unwrap()
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|it| it == "json"));
    files.sort();
    assert!(!files.is_empty(), "{folder} is empty");
    files
}

#[test]
fn the_schema_is_one() {
    jsonschema::draft202012::meta::validate(policy().as_value()).unwrap();
}

#[test]
fn what_is_taken_fits_the_schema() {
    let validator = validator();
    let of_cases = files("tests/cases").into_iter().map(|file| {
        let cases: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        (file, cases["policy"].clone())
    });
    let examples = files("policies").into_iter().map(|file| {
        let policy = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        (file, policy)
    });
    for (file, policy) in examples.chain(of_cases) {
        let found: Vec<String> =
            validator.iter_errors(&policy).map(|it| format!("{}: {it}", it.instance_path())).collect();
        assert!(found.is_empty(), "{}: {found:?}", file.display());
    }
}

/// What no schema can say: sums, order, names that something else in the document defines, numbers as they are written, …
const ONLY_THE_PARSER: &str = "tests/schema.txt";

#[test]
fn what_is_refused_by_shape_does_not_fit_the_schema() {
    let validator = validator();
    let mut only_the_parser = BTreeSet::new();
    let (mut both, mut by_shape) = (0, 0);
    for file in files("tests/refusals") {
        let text = fs::read(&file).unwrap();
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let read = serde_json::from_slice::<Document>(&text);
        // What is no JSON, or has a member twice, no schema ever sees.
        let Ok(document) = serde_json::from_slice::<Value>(&text) else { continue };
        let is_twice = read.as_ref().is_err_and(|error| {
            let error = error.to_string();
            error.contains("duplicate") || error.contains("twice")
        });
        if read.is_err() && !is_twice {
            by_shape += 1;
            assert!(!validator.is_valid(&document), "{name}: {}", read.err().unwrap());
        }
        if validator.is_valid(&document) {
            let refusal = fs::read_to_string(file.with_extension("txt")).unwrap();
            only_the_parser.insert(format!("{name}: {}", refusal.trim_end()));
        } else {
            both += 1;
        }
    }
    assert!(by_shape > 30, "only {by_shape} are refused by shape");
    println!("{by_shape} by shape, {both} by both, {} by the parser alone", only_the_parser.len());
    assert!(both > 140, "only {both} are refused by both");
    let found = only_the_parser.into_iter().collect::<Vec<_>>().join("\n") + "\n";
    if std::env::var_os("TRYCMD").is_some_and(|it| it == "overwrite") {
        fs::write(ONLY_THE_PARSER, &found).unwrap();
    }
    let expected = fs::read_to_string(ONLY_THE_PARSER).unwrap_or_default();
    assert_eq!(found, expected, "TRYCMD=overwrite writes {ONLY_THE_PARSER} anew");
}
