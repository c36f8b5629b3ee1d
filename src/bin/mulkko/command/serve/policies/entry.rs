//! What is known of one policy here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::Instant;

use super::Served;

/// One policy.
pub struct Entry {
    /// The newest version that is whole.
    pub newest: watch::Sender<Option<Arc<Served>>>,
    numbers: Mutex<Numbers>,
    /// When the store was last asked; who holds it asks.
    pub asked: AsyncMutex<Option<Instant>>,
    /// The same, for who only looks.
    asked_last: Mutex<Option<Instant>>,
}

/// What lies in the store, as far as it was looked at.
#[derive(Debug, Default)]
pub struct Numbers {
    /// The highest number; 0 where there is none.
    pub last: u64,
    /// Those above the first that was read whole, under which no version lies, and why not.
    pub broken: BTreeMap<u64, String>,
}

impl Entry {
    /// Nothing is known.
    pub fn new() -> Entry {
        Entry {
            newest: watch::Sender::new(None),
            numbers: Mutex::default(),
            asked: AsyncMutex::new(None),
            asked_last: Mutex::new(None),
        }
    }

    pub fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down that all numbers up to this one were looked at.
    pub fn saw(&self, number: u64) {
        let mut numbers = self.numbers();
        numbers.last = numbers.last.max(number);
    }

    /// Serves a version from now on, unless a newer one is served already.
    pub fn serve(&self, served: Arc<Served>) {
        self.newest.send_if_modified(|newest| {
            let is_newer = newest.as_ref().is_none_or(|it| it.record().version < served.record().version);
            if is_newer {
                *newest = Some(served);
            }
            is_newer
        });
    }

    pub fn is_fresh(&self, refresh: Duration) -> bool {
        let asked = *self.asked_last.lock().unwrap_or_else(PoisonError::into_inner);
        asked.is_some_and(|at| at.elapsed() < refresh)
    }

    pub fn asked(&self, asked: &mut Option<Instant>) {
        let now = Some(Instant::now());
        *asked = now;
        *self.asked_last.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}
