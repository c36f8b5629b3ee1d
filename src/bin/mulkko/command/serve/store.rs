//! Where versions of policies lie: objects that are created once and never written again.
//!
//! The object `policies/shop/000000000007` is the seventh version of `shop`: its record, a line of JSON, and below it the
//! document as it was pushed. Versions are numbered without gaps, and creating an object that is there fails in every
//! store, so of two servers that push at once one wins; and record and document, being one object, come to be together.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use mulkko::policy::MAX_REVISION;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

/// The most bytes of a record. What has changed is left out of one that would be longer.
pub const MOST_RECORD_BYTES: usize = 64 << 10;
/// The most bytes of a part of a heartbeat.
pub const MOST_PART_BYTES: usize = 1 << 20;
/// The digits of a version's number.
const NUMBER_DIGITS: usize = 12;

/// The objects of all servers that share a place.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
}

/// What is kept of a push, besides the document.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The number of the version, from 1.
    pub version: u64,
    /// The revision that the document says.
    pub revision: u64,
    /// The ETag, without quotes.
    pub etag: String,
    /// The key that signed it, as the document says.
    pub signed_by: Option<String>,
    /// Whether that signature was verified when it was pushed.
    #[serde(default)]
    pub verified: bool,
    /// How long the document is, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What tells this push from any other.
    pub id: String,
    /// When it was pushed.
    pub at_ms: i64,
    /// Whose token it was pushed with.
    pub by: String,
    /// From where.
    pub from: String,
    /// What it changed.
    pub change: Change,
}

impl Record {
    /// The key whose signature was verified.
    pub fn verified_key(&self) -> Option<&str> {
        self.signed_by.as_deref().filter(|_| self.verified)
    }

    /// What is known of the signature.
    pub fn signature(&self) -> &'static str {
        match &self.signed_by {
            Some(_) if self.verified => "verified",
            Some(_) => "claimed",
            None => "none",
        }
    }
}

/// What a push changed in the version before it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// How many places it changed.
    pub places: usize,
    /// The change as a JSON Patch (RFC 6902); absent where it is too long to keep, or there was no version before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<serde_json::Value>,
}

/// A version of a policy.
#[derive(Clone, Debug)]
pub struct Version {
    pub record: Record,
    pub document: Bytes,
}

/// What lies under a version's number.
#[derive(Clone, Debug)]
pub enum Found<T> {
    /// What was pushed.
    Whole(T),
    /// Something else: why it is no version.
    Broken(String),
}

impl<T> From<Result<T, String>> for Found<T> {
    fn from(read: Result<T, String>) -> Found<T> {
        read.map_or_else(Found::Broken, Found::Whole)
    }
}

impl Store {
    /// The store at a URL (`s3://bucket/folder`, `gs://…`, `az://…`, with credentials from the environment), or a folder.
    ///
    /// # Errors
    /// When there is no such kind of store, or the folder cannot be made.
    pub fn open(place: &str) -> Result<Store> {
        let url = url::Url::parse(place).ok().filter(|url| url.scheme() != "file" && url.has_host());
        if let Some(url) = url {
            let (objects, prefix) =
                object_store::parse_url_opts(&url, std::env::vars()).with_context(|| place.to_owned())?;
            return Ok(Store { objects: objects.into(), prefix });
        }
        let folder = place.strip_prefix("file://").unwrap_or(place);
        std::fs::create_dir_all(folder).with_context(|| folder.to_owned())?;
        let objects = LocalFileSystem::new_with_prefix(folder).with_context(|| folder.to_owned())?;
        Ok(Store { objects: Arc::new(objects.with_fsync(true)), prefix: Path::default() })
    }

    fn policies(&self) -> Path {
        self.prefix.clone().join("policies")
    }

    fn versions(&self, name: &str) -> Path {
        self.policies().join(name)
    }

    fn place(&self, name: &str, version: u64) -> Path {
        self.versions(name).join(format!("{version:0NUMBER_DIGITS$}"))
    }

    /// The key of a version's object, for people.
    pub fn key(&self, name: &str, version: u64) -> String {
        self.place(name, version).to_string()
    }

    /// The names of all policies, sorted.
    pub async fn names(&self) -> Result<Vec<String>> {
        let listed = self.objects.list_with_delimiter(Some(&self.policies())).await?;
        let names = listed.common_prefixes.iter().filter_map(|place| place.filename().map(str::to_owned));
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The numbers of all versions that are there, ascending.
    pub async fn numbers(&self, name: &str) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        let mut listed = self.objects.list(Some(&self.versions(name)));
        while let Some(object) = listed.try_next().await.with_context(|| self.versions(name).to_string())? {
            let digits = object.location.filename().filter(|it| it.len() == NUMBER_DIGITS);
            let digits = digits.filter(|it| it.bytes().all(|b| b.is_ascii_digit()));
            numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()).filter(|number| *number > 0));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A version, if anything is there.
    pub async fn version(&self, name: &str, number: u64) -> Result<Option<Found<Version>>> {
        let Some((bytes, _)) = self.read(&self.place(name, number), None).await? else { return Ok(None) };
        // Hashing a large document takes a while.
        let read = tokio::task::spawn_blocking(move || read_version(&bytes, number)).await?;
        Ok(Some(read.into()))
    }

    /// The record of a version, if anything is there.
    pub async fn record(&self, name: &str, number: u64) -> Result<Option<Found<Record>>> {
        let most = MOST_RECORD_BYTES as u64 + 1;
        let found = self.read(&self.place(name, number), Some(most)).await?;
        Ok(found.map(|(bytes, size)| read_record(&bytes, size, number).map(|(record, _)| record).into()))
    }

    /// Stores a version under its number; `false` when another version has it.
    pub async fn create(&self, name: &str, version: &Version) -> Result<bool> {
        let mut bytes = serde_json::to_vec(&version.record)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&version.document);
        let place = self.place(name, version.record.version);
        let options = PutOptions::from(PutMode::Create);
        match self.objects.put_opts(&place, PutPayload::from(bytes), options).await {
            Ok(_) => Ok(true),
            // A store that had answered too late is asked again, and finds what it had stored the first time.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                let found = self.record(name, version.record.version).await?;
                Ok(matches!(found, Some(Found::Whole(it)) if it.id == version.record.id))
            }
            Err(error) => Err(error).with_context(|| place.to_string()),
        }
    }

    /// An object, or its first bytes; and how long all of it is.
    async fn read(&self, place: &Path, most: Option<u64>) -> Result<Option<(Bytes, u64)>> {
        let range = most.map(|most| (0..most).into());
        let read = async {
            match self.objects.get_opts(place, GetOptions { range, ..GetOptions::default() }).await {
                Ok(found) => {
                    let size = found.meta.size;
                    Ok(Some((found.bytes().await?, size)))
                }
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        match read.await {
            // Of an object without a byte no store gives a range.
            Err(_) if most.is_some() && self.is_empty(place).await => Ok(Some((Bytes::new(), 0))),
            read => read.with_context(|| place.to_string()),
        }
    }

    async fn is_empty(&self, place: &Path) -> bool {
        self.objects.head(place).await.is_ok_and(|object| object.size == 0)
    }

    fn servers(&self) -> Path {
        self.prefix.clone().join("servers")
    }

    /// Says a part of what a server knows of the proxies that ask it.
    pub async fn beat(&self, part: &str, heartbeat: Vec<u8>) -> Result<()> {
        self.objects.put(&self.servers().join(part), heartbeat.into()).await?;
        Ok(())
    }

    /// Takes a part of a server's heartbeat away.
    pub async fn forget(&self, part: &str) -> Result<()> {
        match self.objects.delete(&self.servers().join(part)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The parts of what all servers have said, by their names, as they come; without what is none by its size.
    pub async fn heartbeats(&self) -> Result<impl Stream<Item = Result<(String, Bytes)>>> {
        let listed: Vec<_> = self.objects.list(Some(&self.servers())).try_collect().await?;
        let is_part = |object: &ObjectMeta| object.size <= MOST_PART_BYTES as u64;
        let read = listed.into_iter().filter(is_part).map(async |object| {
            let found = self.read(&object.location, None).await?;
            Ok(found.map(|(bytes, _)| (object.location.filename().unwrap_or_default().to_owned(), bytes)))
        });
        let read = futures_util::stream::iter(read).buffer_unordered(8);
        Ok(read.try_filter_map(|found| std::future::ready(Ok(found))))
    }

    /// Whether the store answers.
    pub async fn check(&self) -> Result<()> {
        match self.objects.head(&self.prefix.clone().join("no-such-object")).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => bail!(error),
        }
    }
}

/// The record of the version `number` in the first bytes of its object, which has `size`; and where the document starts.
fn read_record(bytes: &[u8], size: u64, number: u64) -> Result<(Record, usize), String> {
    let end = bytes.iter().position(|b| *b == b'\n').ok_or("there is no record")?;
    let line = bytes.get(..end).unwrap_or_default();
    let record: Record = serde_json::from_slice(line).map_err(|_| "the record cannot be read")?;
    let start = end + 1;
    if record.version != number {
        return Err(format!("the record is that of version {}", record.version));
    }
    if record.revision > MAX_REVISION {
        return Err(format!("no plugin takes its revision, {}", record.revision));
    }
    let found = size.saturating_sub(start as u64);
    match record.bytes {
        Some(expected) if expected != found => Err(format!("the document has {found} of {expected} bytes")),
        _ => Ok((record, start)),
    }
}

fn read_version(bytes: &Bytes, number: u64) -> Result<Version, String> {
    let (record, start) = read_record(bytes, bytes.len() as u64, number)?;
    let document = bytes.slice(start..);
    match etag(&document) == record.etag {
        true => Ok(Version { record, document }),
        false => Err("the document is not the one that was pushed".to_owned()),
    }
}

/// The ETag of a document, without quotes.
pub fn etag(document: &[u8]) -> String {
    hex(Sha256::digest(document).get(..16).unwrap_or_default())
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
