//! The newest version of each policy, for who asks and who waits; and how another becomes the newest.

mod entry;
mod history;

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::http::StatusCode;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::StreamExt;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use super::candidate::Candidate;
use super::problem::Problem;
use super::store::{Found, Record, Store, Version, etag, hex};
use crate::command::moments::now_ms;
use entry::Entry;
pub use history::Broken;

/// How often a push is tried again that another server's has overtaken, and that has no precondition to fail.
const MOST_TRIES: usize = 16;

/// All policies of a store, as far as anybody has asked for them.
pub struct Policies {
    store: Store,
    /// How old the answer of the store may be.
    refresh: Duration,
    entries: Mutex<HashMap<String, Arc<Entry>>>,
}

/// A version that is served.
#[derive(Debug)]
pub struct Served {
    pub version: Version,
    gzip: OnceCell<Bytes>,
}

impl Served {
    pub fn record(&self) -> &Record {
        &self.version.record
    }

    /// The document, compressed: once for all who ask.
    pub async fn gzip(&self) -> Result<Bytes> {
        let compressed = self.gzip.get_or_try_init(|| async {
            let document = self.version.document.clone();
            tokio::task::spawn_blocking(move || {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(&document)?;
                anyhow::Ok(Bytes::from(encoder.finish()?))
            })
            .await?
        });
        compressed.await.cloned()
    }
}

/// What must be so for a push to count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// There is no version yet.
    New,
    /// There is one.
    Any,
    /// The newest version has one of these ETags.
    Etags(Vec<String>),
}

impl Precondition {
    fn holds(&self, newest: Option<&Served>) -> bool {
        match (self, newest) {
            (Precondition::New, newest) => newest.is_none(),
            (Precondition::Any, newest) => newest.is_some(),
            (Precondition::Etags(etags), Some(newest)) => etags.contains(&newest.record().etag),
            (Precondition::Etags(_), None) => false,
        }
    }
}

/// Who pushes, and from where.
#[derive(Clone, Debug)]
pub struct Author {
    pub by: String,
    pub from: String,
}

/// What has become of a push.
#[derive(Debug)]
pub enum Pushed {
    /// It is the newest version.
    Stored(Arc<Served>),
    /// It was that already.
    Unchanged(Arc<Served>),
}

impl Policies {
    pub fn new(store: Store, refresh: Duration) -> Policies {
        Policies { store, refresh, entries: Mutex::default() }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    fn entry(&self, name: &str) -> Arc<Entry> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(name) {
            return Arc::clone(entry);
        }
        let entry = Arc::new(Entry::new());
        entries.insert(name.to_owned(), Arc::clone(&entry));
        entry
    }

    /// Forgets what is no policy: anybody can ask for any name.
    fn drop_unknown(&self, name: &str) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.get(name).is_some_and(|entry| Arc::strong_count(entry) <= 2 && entry.numbers().last == 0) {
            entries.remove(name);
        }
    }

    /// The newest version of a policy, if there is one; not older than `refresh`.
    pub async fn newest(&self, name: &str) -> Result<Option<Arc<Served>>> {
        self.newest_since(name, self.refresh).await
    }

    /// The newest version of a policy that the store had within the last `age`.
    async fn newest_since(&self, name: &str, age: Duration) -> Result<Option<Arc<Served>>> {
        let entry = self.entry(name);
        if !entry.is_fresh(age) {
            let mut asked = entry.asked.lock().await;
            if asked.is_none_or(|at| at.elapsed() >= age) {
                let known = entry.newest.borrow().is_some();
                match self.look(name, &entry).await {
                    Ok(()) => {}
                    // What is known is served on.
                    Err(error) if known => {
                        tracing::warn!(policy = name, error = format!("{error:#}"), "the store fails")
                    }
                    Err(error) => return Err(error),
                }
                entry.asked(&mut asked);
            }
        }
        let newest = entry.newest.borrow().clone();
        if newest.is_none() {
            self.drop_unknown(name);
        }
        Ok(newest)
    }

    /// Asks the store for versions that others have pushed. What is no version is passed over.
    async fn look(&self, name: &str, entry: &Entry) -> Result<()> {
        let mut number = entry.numbers().last;
        let mut found = None;
        if number == 0 {
            for there in self.store.numbers(name).await?.into_iter().rev() {
                number = number.max(there);
                found = self.found(name, entry, there).await?.flatten();
                if found.is_some() {
                    break;
                }
            }
        }
        while let Some(next) = self.found(name, entry, number.saturating_add(1)).await? {
            number = number.saturating_add(1);
            found = next.or(found);
        }
        entry.saw(number);
        if let Some(version) = found {
            entry.serve(Arc::new(Served { version, gzip: OnceCell::new() }));
        }
        Ok(())
    }

    /// What lies under a number, if anything does: a version, or what is none, which is said once.
    async fn found(&self, name: &str, entry: &Entry, number: u64) -> Result<Option<Option<Version>>> {
        match self.store.version(name, number).await? {
            None => Ok(None),
            Some(Found::Whole(version)) => Ok(Some(Some(version))),
            Some(Found::Broken(problem)) => {
                let key = self.store.key(name, number);
                tracing::error!(policy = name, version = number, key, problem, "a version is broken");
                entry.numbers().broken.insert(number, problem);
                Ok(Some(None))
            }
        }
    }

    /// Waits until the newest version of a policy has another ETag than `etag`; `None` when it is `until` first.
    pub async fn wait(&self, name: &str, etag: &str, until: Instant) -> Option<Arc<Served>> {
        let mut newest = self.entry(name).newest.subscribe();
        let differs =
            |served: &Option<Arc<Served>>| served.as_ref().is_some_and(|served| served.record().etag != etag);
        let found = timeout_at(until, newest.wait_for(differs)).await.ok()?.ok()?;
        found.clone()
    }

    /// How many wait, of all policies.
    pub fn waiting(&self) -> usize {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.values().map(|entry| entry.newest.receiver_count()).sum()
    }

    /// The newest versions that are known here, by name.
    pub fn known(&self) -> Vec<(String, Arc<Served>)> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            entries.iter().filter_map(|(name, entry)| Some((name.clone(), entry.newest.borrow().clone()?)));
        known.collect()
    }

    /// How many broken versions were met, by policy.
    pub fn broken(&self) -> Vec<(String, usize)> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|(name, entry)| (name.clone(), entry.numbers().broken.len())).collect()
    }

    /// Looks for what other servers have pushed, for those who wait. Never ends.
    pub async fn keep_fresh(&self) {
        let mut ticks = tokio::time::interval(self.refresh);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let awaited: Vec<String> = {
                let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
                let waited_for = entries.iter().filter(|(_, entry)| entry.newest.receiver_count() > 0);
                waited_for.map(|(name, _)| name.clone()).collect()
            };
            // One that was asked for a moment ago is left for the next time.
            let looks = awaited.iter().map(|name| self.newest_since(name, self.refresh / 2));
            futures_util::stream::iter(looks)
                .for_each_concurrent(16, |look| async { drop(look.await) })
                .await;
        }
    }

    /// Makes a document the newest version. What takes long, like comparing two documents, keeps nobody waiting.
    ///
    /// # Errors
    /// 412 when another version is the newest than the one that is asked for, 422 for a revision that does not follow it.
    pub async fn push(
        &self,
        name: &str,
        candidate: Candidate,
        precondition: &Precondition,
        author: &Author,
    ) -> Result<Pushed, Problem> {
        let unavailable = |error: anyhow::Error| Problem::unavailable(&error);
        let entry = self.entry(name);
        let candidate = Arc::new(candidate);
        for _ in 0..MOST_TRIES {
            {
                let mut asked = entry.asked.lock().await;
                self.look(name, &entry).await.map_err(unavailable)?;
                entry.asked(&mut asked);
            }
            let (newest, last) = (entry.newest.borrow().clone(), entry.numbers().last);
            // A push whose answer was lost is pushed again.
            if let Some(served) = newest.as_ref().filter(|it| it.version.document == candidate.document) {
                return Ok(Pushed::Unchanged(Arc::clone(served)));
            }
            if !precondition.holds(newest.as_deref()) {
                return Err(Problem::changed(newest.as_ref().map(|served| &*served.record().etag)));
            }
            if let Some(newest) = &newest {
                candidate.follows(newest.record().revision)?;
            }
            let number = last.saturating_add(1);
            let version =
                version(number, newest, Arc::clone(&candidate), author).await.map_err(unavailable)?;
            // Who has stored another version under this number meanwhile was first.
            if self.store.create(name, &version).await.map_err(unavailable)? {
                let served = Arc::new(Served { version, gzip: OnceCell::new() });
                entry.saw(number);
                entry.serve(Arc::clone(&served));
                return Ok(Pushed::Stored(served));
            }
        }
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many push this policy at once"))
    }
}

/// The version that a document becomes under a number.
async fn version(
    number: u64,
    newest: Option<Arc<Served>>,
    candidate: Arc<Candidate>,
    author: &Author,
) -> Result<Version> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let Author { by, from } = author.clone();
    // Comparing and hashing large policies takes a while.
    let made = tokio::task::spawn_blocking(move || Version {
        record: Record {
            version: number,
            revision: candidate.revision,
            etag: etag(&candidate.document),
            signed_by: candidate.signed_by.clone(),
            verified: candidate.verified,
            bytes: Some(candidate.document.len() as u64),
            id: hex(&id),
            at_ms: now_ms(),
            by,
            from,
            change: candidate.change(newest.as_ref().map(|served| &served.version.document)),
        },
        document: candidate.document.clone(),
    });
    Ok(made.await?)
}
