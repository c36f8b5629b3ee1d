//! Keys: so many made-up ones, or those of a file.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use super::Source;

/// The longest line that is read.
const LONGEST_LINE: u64 = 1 << 20;

/// Where keys come from.
#[derive(Clone, Debug)]
pub enum Keys {
    /// `user-0`, `user-1` and so on.
    Count(u64),
    /// One in a line.
    File(PathBuf),
}

impl FromStr for Keys {
    type Err = String;

    fn from_str(text: &str) -> Result<Keys, String> {
        let digits: String = text.chars().filter(|c| !matches!(c, '_' | ',')).collect();
        match digits.parse() {
            Ok(0) => Err("expected at least one key".to_owned()),
            Ok(count) => Ok(Keys::Count(count)),
            Err(_) => Ok(Keys::File(text.into())),
        }
    }
}

impl Keys {
    /// The keys, one after the other: they never are in memory all at once.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn source(&self) -> Result<Source<String>> {
        match self {
            Keys::Count(count) => {
                let items = (0..*count).map(|i| Ok(format!("user-{i}")));
                Ok(Source { items: Box::new(items), total: Some(*count) })
            }
            Keys::File(path) => lines(path),
        }
    }
}

/// The lines of a file that are not empty, as text.
///
/// # Errors
/// When the file cannot be opened. Reading ends with an error at a line that is too long, or is no UTF-8.
pub fn lines(path: &PathBuf) -> Result<Source<String>> {
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| name.clone())?;
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let mut number = 0_u64;
    let mut next = move || -> Result<Option<String>> {
        let mut line = Vec::new();
        number += 1;
        let read =
            reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).with_context(|| name.clone())?;
        if read as u64 == LONGEST_LINE {
            bail!("{name}:{number}: a line of 1 MiB or more");
        }
        if read == 0 {
            return Ok(None);
        }
        let line = String::from_utf8(line).with_context(|| format!("{name}:{number}"))?;
        Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned()))
    };
    let items = std::iter::from_fn(move || next().transpose());
    let items = items.filter(|line| line.as_ref().map_or(true, |line| !line.is_empty()));
    Ok(Source { items: Box::new(items), total: None })
}
