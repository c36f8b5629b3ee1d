//! Files of cases: where they are, and how their cases went.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Error};
use mulkko::cases::{Difference, File, Stage};
use mulkko::finding::Finding;
use mulkko::policy::Places;
use serde::Serialize;
use serde::de::IgnoredAny;

use super::super::document::Document;
use super::super::findings::{Told, shown};

/// A file of cases that was run.
#[derive(Serialize)]
pub struct Suite {
    pub file: String,
    /// Why it could not be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unusable: Option<Unusable>,
    pub cases: Vec<Case>,
}

/// Why a file of cases cannot be run.
#[derive(Serialize)]
pub struct Unusable {
    pub message: String,
    /// What is wrong with its policy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Told>,
    /// All of that, for people.
    #[serde(skip)]
    pub shown: String,
}

/// A case that was run.
#[derive(Serialize)]
pub struct Case {
    pub name: String,
    /// What is different from what was expected. Empty: it passed.
    pub differences: Vec<Difference>,
    /// Why it was decided so, as `x-mulkko-explain` says it; where it did not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explain: Option<String>,
    #[serde(skip)]
    pub took: Duration,
}

impl Case {
    pub fn passed(&self) -> bool {
        self.differences.is_empty()
    }
}

/// The files of cases below some paths, in order.
pub fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            search(path, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn search(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            search(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "json") && may_have_cases(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// Whether a file has cases. One that cannot be read may have: it must not be passed over in silence.
fn may_have_cases(path: &Path) -> bool {
    #[derive(serde::Deserialize)]
    struct Outline {
        cases: Option<IgnoredAny>,
    }
    let read = fs::read(path).ok().and_then(|text| serde_json::from_slice::<Outline>(&text).ok());
    read.is_none_or(|outline| outline.cases.is_some())
}

impl Suite {
    /// Runs the cases of a file that are called like `filter`, or all if the file is.
    pub fn run(path: &Path, filter: &str) -> Suite {
        let file = path.display().to_string();
        let is_asked = |name: &str| file.contains(filter) || name.contains(filter);
        let (unusable, cases) = match run(path, is_asked) {
            Ok(cases) => (None, cases),
            Err(unusable) => (Some(unusable), Vec::new()),
        };
        Suite { file, unusable, cases }
    }
}

fn run(path: &Path, is_asked: impl Fn(&str) -> bool) -> Result<Vec<Case>, Unusable> {
    let document = Document::read(path)?;
    let file: File = serde_json::from_slice(&document.text).with_context(|| document.name.clone())?;
    let policy = match serde_json::from_str::<String>(file.policy.get()) {
        Ok(name) => Document::read(&path.with_file_name(name))?,
        Err(_) => Document { name: document.name, text: file.policy.get().as_bytes().to_vec() },
    };
    let mut stage = Stage::of(&file, &policy.text).map_err(|found| Unusable::refused(&policy, &found))?;
    let run = file.cases.iter().filter(|case| is_asked(&case.name)).map(|case| {
        let started = Instant::now();
        let (found, differences) = stage.check(case);
        let explain = found.explain.filter(|_| !differences.is_empty());
        Case { name: case.name.clone(), differences, explain, took: started.elapsed() }
    });
    Ok(run.collect())
}

impl Unusable {
    fn refused(policy: &Document, found: &[Finding]) -> Unusable {
        let mut places = Places::of(&policy.text);
        let findings: Vec<Told> = found.iter().map(|it| Told::refusal(&mut places, it)).collect();
        Unusable { message: format!("{} is refused", policy.name), shown: shown(policy, &findings), findings }
    }
}

impl From<Error> for Unusable {
    fn from(error: Error) -> Unusable {
        let message = format!("{error:#}");
        Unusable { shown: format!("{message}\n"), message, findings: Vec::new() }
    }
}
