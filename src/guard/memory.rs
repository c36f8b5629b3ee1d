//! A process of one's own: for benchmarks and simulations, which have no proxy around them.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::guard::series::Series;
use crate::guard::shared::Process;

/// Shared memory that nobody else writes, and metrics that nobody looks at.
#[derive(Debug, Default)]
pub struct Memory(RefCell<HashMap<String, (Vec<u8>, u32)>>);

impl Process for Memory {
    fn read(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.0.borrow().get(key).cloned()
    }

    fn write(&self, key: &str, value: &[u8], version: u32) -> bool {
        let mut entries = self.0.borrow_mut();
        let found = entries.get(key).map(|(_, version)| *version);
        if found.is_some_and(|found| found != version) {
            return false;
        }
        entries.insert(key.to_owned(), (value.to_vec(), found.unwrap_or(0).wrapping_add(1)));
        true
    }

    fn add(&self, _: &Series<'_>, _: u64) {}

    fn show(&self, _: &Series<'_>, _: u64) {}

    fn show_idle(&self, _: &str, _: bool) {}
}
