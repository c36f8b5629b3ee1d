//! The requests of an Envoy's access log, as texts or as JSON.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use mulkko::cases::Asked;
use mulkko::command::access_log::request;
use mulkko::command::log_format::{DEFAULT, LogFormat};

use super::Source;
use super::keys::lines;

/// An access log.
#[derive(Args, Clone, Debug)]
pub struct AccessLog {
    /// The access log of an Envoy: lines of text, or of JSON
    #[arg(long = "access-log", value_name = "FILE", help_heading = "The traffic")]
    file: Option<PathBuf>,

    /// The format of a log of texts, as Envoy's configuration has it [default: Envoy's own]
    #[arg(long, value_name = "FORMAT", requires = "file", help_heading = "The traffic")]
    log_format: Option<String>,

    /// A field of a log of JSON, and the header that it tells; fields that are called like a header tell it anyway
    #[arg(long = "log-field", value_name = "FIELD=HEADER", value_parser = field, help_heading = "The traffic")]
    log_fields: Vec<(String, String)>,
}

fn field(text: &str) -> Result<(String, String), String> {
    let (field, header) = text.split_once('=').ok_or("expected `field=header`")?;
    Ok((field.to_owned(), header.to_ascii_lowercase()))
}

/// What is known of a request: `None`, where a line tells none.
pub type Logged = Option<FromClient>;

/// A request, and the address of its client where that is known.
#[derive(Debug)]
pub struct FromClient {
    pub asked: Asked,
    pub client: Option<String>,
    /// The id that it is given where a key is minted: another for each request.
    pub drawn: String,
}

impl AccessLog {
    /// Whether there is one.
    pub fn is_given(&self) -> bool {
        self.file.is_some()
    }

    /// Its requests, one for each line.
    ///
    /// # Errors
    /// When it cannot be opened, or its format is none.
    pub fn source(&self) -> Result<Source<Logged>> {
        let path = self.file.as_ref().context("no access log")?;
        let format =
            LogFormat::parse(self.log_format.as_deref().unwrap_or(DEFAULT)).context("--log-format")?;
        let fields = self.log_fields.clone();
        let Source { items, total } = lines(path)?;
        let numbered = items.zip(0_u64..);
        let items = numbered.map(move |(line, number)| {
            let line = line?;
            let read = request(&line, &format, &fields);
            Ok(read.map(|(asked, client)| FromClient { asked, client, drawn: format!("drawn-{number}") }))
        });
        Ok(Source { items: Box::new(items), total })
    }
}
