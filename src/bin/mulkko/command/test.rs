//! `mulkko test`: runs decision cases against their policies.

mod junit;
mod suite;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use mulkko::cases::Difference;
use serde::Serialize;

use super::Outcome;
use super::output::{ERROR, GOOD, Output, STRONG, painted};
use suite::{Case, Suite};

/// Run policy tests: requests, and the decisions that are expected of them.
///
/// A file of cases is a JSON file with the member `cases`; `policy` is the policy, or the name of its file. Folders are searched
/// with all that is below them; other JSON files there are left alone.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  mulkko test policies/tests

A file of cases:
  {
    \"policy\": \"../canary.json\",
    \"at\": \"2026-12-01T09:30:00Z\",
    \"cases\": [
      {
        \"name\": \"staff is in the canary\",
        \"request\": {
          \"method\": \"GET\", \"path\": \"/checkout\",
          \"headers\": [[\"host\", \"shop.example.com\"], [\"x-user-email\", \"a@example.com\"]]
        },
        \"expect\": { \"decisions\": [[\"checkout-v2\", \"canary\", \"TARGETING_MATCH\"]] }
      }
    ]
  }")]
pub struct Test {
    /// Folders and files of cases
    #[arg(required = true, value_name = "DIR")]
    paths: Vec<PathBuf>,

    /// Run only the cases whose file or name has this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// Write the results as JUnit XML, too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// How all cases went.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Results<'s> {
    passed: usize,
    failed: usize,
    files: &'s [Suite],
}

impl Test {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        let started = Instant::now();
        let mut suites = Vec::new();
        for file in suite::files(&self.paths)? {
            let suite = Suite::run(&file, self.filter.as_deref().unwrap_or_default());
            if !output.is_json() {
                anstream::print!("{}", progress(&suite));
            }
            suites.push(suite);
        }
        let unusable = suites.iter().filter(|suite| suite.unusable.is_some()).count();
        let cases = || suites.iter().flat_map(|suite| &suite.cases);
        let passed = cases().filter(|case| case.passed()).count();
        let failed = cases().count() - passed + unusable;
        if passed + failed == 0 {
            bail!("no cases are there");
        }
        if let Some(path) = &self.junit {
            std::fs::write(path, junit::report(&suites)?).with_context(|| path.display().to_string())?;
        }
        let took_s = started.elapsed().as_secs_f64();
        output
            .tell(&Results { passed, failed, files: &suites }, || summary(&suites, passed, failed, took_s))?;
        Ok(if failed == 0 { Outcome::Good } else { Outcome::Findings })
    }
}

/// A line for each case of a file, or for the file.
fn progress(suite: &Suite) -> String {
    if suite.unusable.is_some() {
        return format!("\ntest {} ... {}\n", suite.file, verdict(false));
    }
    let cases = suite.cases.iter();
    let lines: String =
        cases.map(|case| format!("test {} ... {}\n", case.name, verdict(case.passed()))).collect();
    match suite.cases.len() {
        0 => String::new(),
        1 => format!("\nrunning 1 case of {}\n{lines}", suite.file),
        many => format!("\nrunning {many} cases of {}\n{lines}", suite.file),
    }
}

fn verdict(passed: bool) -> String {
    if passed { painted(GOOD, "ok") } else { painted(ERROR, "FAILED") }
}

/// What failed, and how many.
fn summary(suites: &[Suite], passed: usize, failed: usize, took_s: f64) -> String {
    let mut text = String::new();
    for suite in suites {
        if let Some(unusable) = &suite.unusable {
            text += &format!("{}\n{}\n", headline(&suite.file), unusable.shown);
        }
        text.extend(suite.cases.iter().filter(|case| !case.passed()).map(|case| failure(suite, case)));
    }
    let failures =
        if text.is_empty() { String::new() } else { format!("\nfailures:\n\n{}", text.trim_end()) + "\n" };
    let verdict = verdict(failed == 0);
    // Of what nobody waits for nobody wants to know how long it took.
    let took = if took_s < 1.0 { String::new() } else { format!("; finished in {took_s:.2}s") };
    format!("{failures}\ntest result: {verdict}. {passed} passed; {failed} failed{took}\n")
}

fn failure(suite: &Suite, case: &Case) -> String {
    let mut text = headline(&format!("{}: {}", suite.file, case.name)) + "\n";
    for Difference { what, expected, found } in &case.differences {
        text += &format!("{what}\n  expected {expected}\n  found    {found}\n");
    }
    text + &case.explain.as_ref().map_or_else(String::new, |explain| format!("because {explain}\n")) + "\n"
}

fn headline(what: &str) -> String {
    painted(STRONG, format!("---- {what} ----"))
}
