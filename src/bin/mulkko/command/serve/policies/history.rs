//! The versions that a policy has had.

use std::sync::PoisonError;

use anyhow::Result;
use futures_util::{StreamExt, TryStreamExt};

use super::Policies;
use crate::command::serve::store::{Found, Record, Version};

/// What lies under the number of a version, and is none.
#[derive(Clone, Debug)]
pub struct Broken {
    pub version: u64,
    /// The key of the object.
    pub key: String,
    pub problem: String,
}

impl Policies {
    /// The records of a policy's versions, the newest first, below the version number `before`; and what is broken among
    /// them.
    pub async fn records(
        &self,
        name: &str,
        before: Option<u64>,
        most: usize,
    ) -> Result<(Vec<Record>, Vec<Broken>)> {
        let numbers = self.store.numbers(name).await?;
        let wanted = numbers.into_iter().rev().filter(|number| before.is_none_or(|before| *number < before));
        // What was found broken as a whole may have a record that is not.
        let known = self.entries.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let known = known.map(|entry| entry.numbers().broken.clone()).unwrap_or_default();
        let read = wanted.map(async |number| {
            let found = match known.get(&number) {
                Some(problem) => Some(Found::Broken(problem.clone())),
                None => self.store.record(name, number).await?,
            };
            anyhow::Ok((number, found))
        });
        let mut read = futures_util::stream::iter(read).buffered(most.clamp(1, 16));
        let (mut records, mut broken) = (Vec::new(), Vec::new());
        while records.len() < most {
            let Some((version, found)) = read.try_next().await? else { break };
            match found {
                Some(Found::Whole(record)) => records.push(record),
                Some(Found::Broken(problem)) => {
                    broken.push(Broken { version, key: self.store.key(name, version), problem });
                }
                None => {}
            }
        }
        Ok((records, broken))
    }

    /// The version with a revision: revisions rise with versions, so this takes a few looks. What is broken is passed over.
    pub async fn revision(&self, name: &str, revision: u64) -> Result<Option<Version>> {
        let numbers = self.store.numbers(name).await?;
        let (mut first, mut end) = (0, numbers.len());
        while first < end {
            let middle = first.midpoint(end);
            let half = numbers.get(middle..end).unwrap_or_default();
            match self.first_record(name, half).await? {
                Some((i, record)) if record.revision < revision => first = middle + i + 1,
                _ => end = middle,
            }
        }
        // Of several with the revision all but one are broken.
        let mut left = numbers.get(first..).unwrap_or_default();
        while let Some((i, record)) = self.first_record(name, left).await? {
            if record.revision != revision {
                break;
            }
            if let Some(Found::Whole(version)) = self.store.version(name, record.version).await? {
                return Ok(Some(version));
            }
            left = left.get(i + 1..).unwrap_or_default();
        }
        Ok(None)
    }

    /// The first record under some numbers that can be read, and which of them it is under.
    async fn first_record(&self, name: &str, numbers: &[u64]) -> Result<Option<(usize, Record)>> {
        for (i, number) in numbers.iter().enumerate() {
            if let Some(Found::Whole(record)) = self.store.record(name, *number).await? {
                return Ok(Some((i, record)));
            }
        }
        Ok(None)
    }
}
