//! How much one evaluation may do: steps, so that no condition can take a worker's time or memory away.

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

/// No step is left: the evaluation ends, and its value is null.
#[derive(Debug)]
pub(super) struct Exhausted;

/// The steps that are left.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new() -> Budget {
        Budget(STEPS)
    }

    /// Takes `steps` away.
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Exhausted> {
        self.0 = self.0.checked_sub(steps).ok_or(Exhausted)?;
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
