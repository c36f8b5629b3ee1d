//! How much one evaluation may do: steps, so that no condition can take a worker's time or memory away.

use std::cell::Cell;

/// Steps of one evaluation. An operator costs one, a list one an item, a text one for every 64 bytes read and one for
/// every 16 bytes made, a pattern one for every 16 bytes of text and KiB of pattern. Conditions need some ten; all of
/// them are a few megabytes, and milliseconds, unless it is patterns made to be slow: then tenths of a second.
pub(super) const STEPS: usize = 100_000;

/// Bytes that are read (compared, searched, turned into a number) in one step.
const READ_BYTES: usize = 64;

/// Members that are gone through for one that is looked up, in one step.
const SCANNED_MEMBERS: usize = 64;

/// Bytes that are made (copied, joined) in one step.
const MADE_BYTES: usize = 16;

/// Steps of all flags that one request asks for.
const STEPS_OF_REQUEST: usize = 1_000_000;

/// No step is left: the evaluation ends, and its value is null.
#[derive(Debug)]
pub(super) struct Exhausted;

/// The steps that several evaluations have left together.
#[derive(Debug)]
pub struct Steps(Cell<usize>);

impl Steps {
    /// Those of a request that evaluates flags: a million.
    #[must_use]
    pub fn of_request() -> Steps {
        Steps(Cell::new(STEPS_OF_REQUEST))
    }

    /// The budget of one more evaluation, out of these.
    pub(super) fn budget(&self) -> Budget {
        Budget(self.0.get().min(STEPS))
    }

    /// Takes away what an evaluation took whose budget has `left` over.
    pub(super) fn spent(&self, left: &Budget) {
        let given = self.budget();
        self.0.set(self.0.get().saturating_sub(given.0.saturating_sub(left.0)));
    }
}

/// The steps that are left.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new() -> Budget {
        Budget(STEPS)
    }

    /// Takes `steps` away.
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Exhausted> {
        match self.0.checked_sub(steps) {
            Some(left) => self.0 = left,
            None => {
                self.0 = 0;
                return Err(Exhausted);
            }
        }
        Ok(())
    }

    /// Takes away what reading a text of `bytes` costs: nothing for a short one.
    pub(super) fn read(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.spend(bytes / READ_BYTES)
    }

    /// Takes away what looking into objects of so many members costs: nothing for small ones.
    pub(super) fn scan(&mut self, members: usize) -> Result<(), Exhausted> {
        self.spend(members / SCANNED_MEMBERS)
    }

    /// Takes away what making a text of `bytes` costs.
    pub(super) fn make(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.spend(1 + bytes / MADE_BYTES)
    }
}
