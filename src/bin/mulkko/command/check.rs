//! `mulkko check`: everything that is wrong with a policy, and what is likely not what was meant.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use mulkko::configuration::Configuration;
use mulkko::lint::{self, Hops, Lint};
use mulkko::policy::{Places, parse_thoroughly};
use serde::Serialize;

use super::Outcome;
use super::document::{Document, Plugin};
use super::findings::{Severity, Told, shown};
use super::moments::now_ms;
use super::output::{ERROR, GOOD, Output, WARNING, painted};
use super::request::At;

/// Tell everything that is wrong with policies, with its line, and what is likely not what was meant.
///
/// The plugin refuses a document for the first refusal. Of what it takes, this warns; `--allow` silences a kind of warning.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mulkko check policies/*.json
  mulkko check --allow past-step --allow report-only policies/canary.json")]
pub struct Check {
    /// The policies; `-` reads one from standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    plugin: Plugin,

    /// Do not warn of this; may be given many times
    #[arg(long, value_name = "LINT", value_parser = lints())]
    allow: Vec<Lint>,

    #[command(flatten)]
    at: At,
}

fn lints() -> impl TypedValueParser<Value = Lint> {
    let named = |name: String| Lint::ALL.into_iter().find(|lint| lint.as_str() == name).ok_or("no such lint");
    PossibleValuesParser::new(Lint::ALL.map(Lint::as_str)).try_map(named)
}

/// What is told of one file.
#[derive(Serialize)]
struct Checked {
    file: String,
    findings: Vec<Told>,
}

impl Check {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        let configuration = self.plugin.configuration()?;
        let at_ms = self.at.at.unwrap_or_else(now_ms);
        let (mut all, mut text, mut outcome) = (Vec::new(), String::new(), Outcome::Good);
        for file in &self.files {
            let document = Document::read(file)?;
            let findings = self.findings(&document, &configuration, at_ms);
            if !findings.is_empty() {
                outcome = Outcome::Findings;
            }
            text += &shown(&document, &findings);
            text += &format!("{}: {}\n", document.name, verdict(&findings));
            all.push(Checked { file: document.name, findings });
        }
        output.tell(&all, || text)?;
        Ok(outcome)
    }

    /// What is wrong with a document; where nothing is, what lints find.
    fn findings(&self, document: &Document, configuration: &Configuration, at_ms: i64) -> Vec<Told> {
        let text = &document.text;
        let mut places = Places::of(text);
        let policy = match parse_thoroughly(text, &configuration.clusters) {
            Ok(policy) => policy,
            Err(found) => return sorted(found.iter().map(|it| Told::refusal(&mut places, it)).collect()),
        };
        // What was taken can be read.
        let Ok(whole) = serde_json::from_slice(text) else { return Vec::new() };
        let hops = Hops { trust: configuration.trust, vouch: configuration.mesh_keys.is_some() };
        let warnings = lint::lint(&whole, &policy, at_ms, hops).into_iter();
        let warnings = warnings.filter(|warning| !self.allow.contains(&warning.lint));
        sorted(warnings.map(|warning| Told::warning(text, &mut places, warning)).collect())
    }
}

/// As they stand in the document.
fn sorted(mut told: Vec<Told>) -> Vec<Told> {
    told.sort_by_key(|it| it.at.start);
    told
}

/// `good`, or how many findings of which kind.
fn verdict(findings: &[Told]) -> String {
    let many =
        |count: usize, one: &str, more: &str| format!("{count} {}", if count == 1 { one } else { more });
    let count = findings.len();
    match findings.first().map(|it| it.severity) {
        None => painted(GOOD, "good"),
        Some(Severity::Error) => painted(ERROR, many(count, "refusal", "refusals")),
        Some(Severity::Warning) => painted(WARNING, many(count, "warning", "warnings")),
    }
}
