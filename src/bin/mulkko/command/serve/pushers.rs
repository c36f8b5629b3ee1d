//! How much each pusher may ask for at once, so that none keeps the others waiting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mulkko::policy::MAX_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;

/// The most pushes of a holder that are checked at once, or wait for it.
const MOST_CHECKS: usize = 4;
/// The most bytes of a holder's bodies at once: eight of the longest.
const MOST_BODY_BYTES: usize = 8 * MAX_BYTES;
/// The most pushes of all that are checked at once: each may take many times its document.
const MOST_CHECKS_OF_ALL: usize = 8;

/// All who push, by their names.
#[derive(Debug)]
pub struct Pushers {
    all: Mutex<HashMap<String, Arc<Pusher>>>,
    checks: Arc<Semaphore>,
}

/// What one holder of tokens may still ask for.
#[derive(Debug)]
pub struct Pusher {
    name: String,
    checks: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    checks_of_all: Arc<Semaphore>,
}

impl Default for Pushers {
    fn default() -> Self {
        Pushers { all: Mutex::default(), checks: Arc::new(Semaphore::new(MOST_CHECKS_OF_ALL)) }
    }
}

impl Pushers {
    /// The holder of that name: there are as many as the file of tokens has.
    pub fn named(&self, name: &str) -> Arc<Pusher> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            Arc::new(Pusher {
                name: name.to_owned(),
                checks: Arc::new(Semaphore::new(MOST_CHECKS)),
                bytes: Arc::new(Semaphore::new(MOST_BODY_BYTES)),
                checks_of_all: Arc::clone(&self.checks),
            })
        };
        Arc::clone(all.entry(name.to_owned()).or_insert_with(new))
    }
}

impl Pusher {
    /// Room for a piece of a body, which lasts as long as the permit; `None` for a piece of nothing.
    ///
    /// # Errors
    /// 429 where its bodies take too much already.
    pub fn room(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        match u32::try_from(bytes) {
            Ok(0) => Ok(None),
            Ok(bytes) => {
                Arc::clone(&self.bytes).try_acquire_many_owned(bytes).map(Some).map_err(|_| self.busy())
            }
            Err(_) => Err(self.busy()),
        }
    }

    /// Leave to have a document checked and stored, which lasts as long as the permits.
    ///
    /// # Errors
    /// 429 where too many of its documents are at that already.
    pub async fn check(&self) -> Result<[OwnedSemaphorePermit; 2], Problem> {
        let own = Arc::clone(&self.checks).try_acquire_owned().map_err(|_| self.busy())?;
        // Checks end by themselves, so this wait does.
        let shared = Arc::clone(&self.checks_of_all).acquire_owned().await.map_err(|_| self.busy())?;
        Ok([own, shared])
    }

    fn busy(&self) -> Problem {
        Problem::busy(format!("{} pushes too much at once", self.name))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[tokio::test]
    async fn who_pushes_too_much_keeps_nobody_else_waiting() {
        let pushers = Pushers::default();
        let (greedy, other) = (pushers.named("greedy"), pushers.named("other"));
        let mut held = Vec::new();
        for _ in 0..MOST_CHECKS {
            held.push(greedy.check().await.unwrap());
        }
        let refused = pushers.named("greedy").check().await.unwrap_err();
        assert_eq!(
            (refused.status, &*refused.detail),
            (StatusCode::TOO_MANY_REQUESTS.as_u16(), "greedy pushes too much at once")
        );
        assert!(other.check().await.is_ok());
        held.pop();
        assert!(greedy.check().await.is_ok());

        let body = greedy.room(MOST_BODY_BYTES).unwrap();
        assert_eq!(greedy.room(1).unwrap_err().status, 429);
        assert!(greedy.room(0).unwrap().is_none());
        assert!(other.room(MAX_BYTES).is_ok());
        drop(body);
        assert!(greedy.room(1).is_ok());
    }
}
