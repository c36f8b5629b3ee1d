//! What all that one request asks of a policy may cost: so many steps, that no policy can take a worker's time away.
//!
//! A step is what takes some twenty nanoseconds as wasm: an operator, a header that is looked up. Steps are counted and
//! never timed, so the same request ends at the same place everywhere. They are spent in the order of the work: entries
//! of `matches`, rollouts by precedence, exported flags; once they are used up, nothing more is asked. `make bench-budget`
//! shows what the dearest policies take.

use std::cell::Cell;

/// Steps of one request: some three milliseconds at the most.
pub const STEPS: usize = 100_000;

/// Bytes that are read (compared, searched, turned into a number) in one step.
const READ_BYTES: usize = 32;

/// Bytes that are taken apart (cookies, parameters of a query, a key that is hashed) in one step.
const PARSED_BYTES: usize = 8;

/// Bytes that are made (copied, joined) in one step.
const MADE_BYTES: usize = 16;

/// Names, of headers and members, that are gone through for one that is looked up, in one step.
const SCANNED_NAMES: usize = 16;

/// No step is left: what was asked has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// The steps that are left; none, once more were asked for than there were.
#[derive(Debug)]
pub struct Budget(Cell<Option<usize>>);

impl Default for Budget {
    fn default() -> Budget {
        Budget(Cell::new(Some(STEPS)))
    }
}

impl Budget {
    /// Takes `steps` away.
    ///
    /// # Errors
    /// There are not so many. From then on there are none.
    pub fn spend(&self, steps: usize) -> Result<(), Exhausted> {
        self.0.set(self.0.get().and_then(|left| left.checked_sub(steps)));
        if self.is_exhausted() { Err(Exhausted) } else { Ok(()) }
    }

    /// Whether more was asked than there was.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.0.get().is_none()
    }

    /// How many steps were taken; more than there were, once more was asked.
    #[must_use]
    pub fn spent(&self) -> usize {
        self.0.get().map_or(STEPS + 1, |left| STEPS - left)
    }

    /// Has somebody look who is no part of what the request asks, as who explains it: that has a budget of its own.
    pub fn apart<T>(&self, look: impl FnOnce() -> T) -> T {
        let own = self.0.replace(Some(STEPS));
        let seen = look();
        self.0.set(own);
        seen
    }

    /// Takes away what reading `bytes` costs: nothing for a few.
    pub(crate) fn read(&self, bytes: usize) -> Result<(), Exhausted> {
        self.spend(bytes / READ_BYTES)
    }

    /// Takes away what taking `bytes` apart costs.
    pub(crate) fn parse(&self, bytes: usize) -> Result<(), Exhausted> {
        self.spend(1 + bytes / PARSED_BYTES)
    }

    /// Takes away what making a text of `bytes` costs.
    pub(crate) fn make(&self, bytes: usize) -> Result<(), Exhausted> {
        self.spend(1 + bytes / MADE_BYTES)
    }

    /// Takes away what looking among so many names costs: nothing for a few.
    pub(crate) fn scan(&self, names: usize) -> Result<(), Exhausted> {
        self.spend(names / SCANNED_NAMES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_more_is_asked_than_there_is_nothing_is_left() {
        let budget = Budget::default();
        assert_eq!(budget.spend(STEPS - 1), Ok(()));
        assert_eq!((budget.apart(|| budget.spend(STEPS)), budget.spent()), (Ok(()), STEPS - 1));
        assert_eq!(budget.spend(1), Ok(()));
        assert_eq!((budget.spend(0), budget.is_exhausted()), (Ok(()), false));
        assert_eq!((budget.spend(1), budget.is_exhausted()), (Err(Exhausted), true));
        assert_eq!((budget.spend(0), budget.spent()), (Err(Exhausted), STEPS + 1));
        assert_eq!((budget.apart(|| budget.spend(1)), budget.is_exhausted()), (Ok(()), true));
    }
}
