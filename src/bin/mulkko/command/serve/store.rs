//! Where versions of policies lie: objects that are created once and never written again.
//!
//! The object `policies/shop/000000000007` is the seventh version of `shop`: its record, a line of JSON, and below it the
//! document as it was pushed. Versions are numbered without gaps, and creating an object that is there fails in every
//! store, so of two servers that push at once one wins; and record and document, being one object, come to be together.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The most bytes of a record. What has changed is left out of one that would be longer.
pub const MOST_RECORD_BYTES: usize = 64 << 10;
/// The longest heartbeat that is read: a hundred thousand proxies fit.
const MOST_HEARTBEAT_BYTES: u64 = 16 << 20;

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
    /// The key that signed it, as the document says; nobody here verifies it.
    pub signed_by: Option<String>,
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
        self.versions(name).join(format!("{version:012}"))
    }

    /// The names of all policies, sorted.
    pub async fn names(&self) -> Result<Vec<String>> {
        let listed = self.objects.list_with_delimiter(Some(&self.policies())).await?;
        let names = listed.common_prefixes.iter().filter_map(|place| place.filename().map(str::to_owned));
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The numbers of the first and the newest version that are there.
    pub async fn numbers(&self, name: &str) -> Result<Option<(u64, u64)>> {
        let mut found: Option<(u64, u64)> = None;
        let mut listed = self.objects.list(Some(&self.versions(name)));
        while let Some(object) = listed.try_next().await? {
            let number = object.location.filename().and_then(|name| name.parse().ok());
            if let Some(number) = number {
                let (first, newest) = found.unwrap_or((number, number));
                found = Some((first.min(number), newest.max(number)));
            }
        }
        Ok(found)
    }

    /// A version, if it is there.
    pub async fn version(&self, name: &str, number: u64) -> Result<Option<Version>> {
        let Some(bytes) = self.read(&self.place(name, number), None).await? else { return Ok(None) };
        let end = bytes.iter().position(|b| *b == b'\n').context("a version without a record")?;
        let record =
            serde_json::from_slice(bytes.get(..end).unwrap_or_default()).context("a version's record")?;
        Ok(Some(Version { record, document: bytes.slice(end + 1..) }))
    }

    /// The record of a version, if it is there.
    pub async fn record(&self, name: &str, number: u64) -> Result<Option<Record>> {
        let most = MOST_RECORD_BYTES as u64 + 1;
        let Some(bytes) = self.read(&self.place(name, number), Some(most)).await? else { return Ok(None) };
        let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
        serde_json::from_slice(line).context("a version's record").map(Some)
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
                Ok(found.is_some_and(|it| it.id == version.record.id))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn read(&self, place: &Path, most: Option<u64>) -> Result<Option<Bytes>> {
        let range = most.map(|most| (0..most).into());
        match self.objects.get_opts(place, GetOptions { range, ..GetOptions::default() }).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn servers(&self) -> Path {
        self.prefix.clone().join("servers")
    }

    /// Says what a server knows of the proxies that ask it.
    pub async fn beat(&self, server: &str, heartbeat: Vec<u8>) -> Result<()> {
        self.objects.put(&self.servers().join(server), heartbeat.into()).await?;
        Ok(())
    }

    /// Takes a server's heartbeat away.
    pub async fn forget(&self, server: &str) -> Result<()> {
        match self.objects.delete(&self.servers().join(server)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What all servers have said, by their names; without what is no heartbeat by its size.
    pub async fn heartbeats(&self) -> Result<Vec<(String, Bytes)>> {
        let listed: Vec<_> = self.objects.list(Some(&self.servers())).try_collect().await?;
        let read = listed.into_iter().filter(|object| object.size <= MOST_HEARTBEAT_BYTES).map(
            |object| async move {
                let bytes = self.read(&object.location, None).await?;
                anyhow::Ok(
                    bytes.map(|bytes| (object.location.filename().unwrap_or_default().to_owned(), bytes)),
                )
            },
        );
        let found: Vec<_> = futures_util::stream::iter(read).buffer_unordered(8).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Whether the store answers.
    pub async fn check(&self) -> Result<()> {
        match self.objects.head(&self.prefix.clone().join("no-such-object")).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => bail!(error),
        }
    }
}
