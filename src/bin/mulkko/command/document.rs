//! The documents that a command reads: a policy, and the plugin configuration of the proxies that it is for.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use mulkko::configuration::Configuration;
use mulkko::finding::Finding;
use mulkko::mesh::MeshKeys;
use mulkko::pass::PassKeys;
use mulkko::policy::Policy;

/// The policy's own limit is said by its refusal; this keeps what is no policy out of memory.
const MOST_BYTES: u64 = 64 << 20;

/// A document, as it was read.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it is called: its path, or `-`.
    pub name: String,
    /// What it says.
    pub text: Vec<u8>,
}

impl Document {
    /// Reads a file, or standard input for `-`.
    ///
    /// # Errors
    /// When it cannot be read, or is beyond any limit.
    pub fn read(path: &Path) -> Result<Document> {
        let name = path.display().to_string();
        let mut text = Vec::new();
        let mut limited: Box<dyn Read> = match name.as_str() {
            "-" => Box::new(io::stdin().take(MOST_BYTES + 1)),
            _ => Box::new(fs::File::open(path).with_context(|| name.clone())?.take(MOST_BYTES + 1)),
        };
        limited.read_to_end(&mut text).with_context(|| name.clone())?;
        if text.len() as u64 > MOST_BYTES {
            bail!("{name}: more than {} MiB", MOST_BYTES >> 20);
        }
        Ok(Document { name, text })
    }
}

/// The proxies that a policy is for.
#[derive(Args, Clone, Debug, Default)]
pub struct Plugin {
    /// The plugin configuration of the proxies that the policy is for: its clusters, trust and keys of passes
    #[arg(long, value_name = "FILE", help_heading = "The proxy")]
    plugin: Option<PathBuf>,
}

impl Plugin {
    /// The plugin configuration; without a file, that of a plugin that was told nothing.
    ///
    /// # Errors
    /// When it cannot be read, or is refused.
    pub fn configuration(&self) -> Result<Configuration> {
        let Some(file) = &self.plugin else { return Ok(Configuration::default()) };
        let document = Document::read(file)?;
        let first =
            |found: Vec<Finding>| found.into_iter().next().map_or_else(String::new, |it| it.to_string());
        Configuration::parse(&document.text)
            .map_err(|found| anyhow::anyhow!("{}: {}", document.name, first(found)))
    }

    /// The keys of passes and of the mesh, out of the environment variables that the configuration names. One that is too
    /// short is left out, as the plugin does.
    pub fn secrets(configuration: &Configuration) -> (PassKeys, Arc<MeshKeys>) {
        let secret = |name: &str| std::env::var(name).ok();
        let (mut pass_keys, mut mesh_keys) = (configuration.passes(), MeshKeys::default());
        for secret in configuration.pass_keys.iter().filter_map(|name| secret(name)) {
            let _ = pass_keys.add(secret.as_bytes());
        }
        for secret in configuration.mesh_keys.iter().flatten().filter_map(|name| secret(name)) {
            let _ = mesh_keys.add(secret.as_bytes());
        }
        (pass_keys, Arc::new(mesh_keys))
    }
}

/// A policy that must be taken for anything to be told of it.
#[derive(Args, Clone, Debug)]
pub struct Input {
    /// The policy; `-` reads it from standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    pub plugin: Plugin,
}

impl Input {
    /// The policy, the text that it was compiled from, and the configuration of its proxies.
    ///
    /// # Errors
    /// When it cannot be read, or is refused: then by its first finding.
    pub fn taken(&self) -> Result<Taken> {
        let configuration = self.plugin.configuration()?;
        let document = Document::read(&self.file)?;
        let policy = taken(&document, &configuration)?;
        Ok(Taken { document, policy, configuration })
    }
}

/// A policy that was taken.
#[derive(Debug)]
pub struct Taken {
    pub document: Document,
    pub policy: Policy,
    pub configuration: Configuration,
}

/// The policy of a document.
///
/// # Errors
/// When it is refused: by its first finding, and where to see all of them.
pub fn taken(document: &Document, configuration: &Configuration) -> Result<Policy> {
    Policy::parse(&document.text, &configuration.clusters).map_err(|found| {
        let more = match found.len() {
            0 | 1 => String::new(),
            all => format!(" (and {} more: `mulkko check` shows all)", all - 1),
        };
        let first = found.into_iter().next().map_or_else(String::new, |it| it.to_string());
        anyhow::anyhow!("{} is refused: {first}{more}", document.name)
    })
}
