//! Frees what is not needed any more a part at a time: freeing megabytes at once stalls a worker as making them would.

use std::fmt;
use std::iter;

/// How many names are freed at a time, and other things that are small.
pub(crate) const FEW: usize = 100;

/// Things that are to be freed. Dropping it frees all that is left at once.
#[derive(Default)]
pub struct Parts(Vec<Box<dyn Iterator<Item = ()>>>);

impl Parts {
    /// Takes over `things`, which are freed before those that it has already, and of which so many are freed at a time: one where each may be as large as an item of a
    /// document may be.
    pub(crate) fn add<T>(&mut self, things: T, at_a_time: usize)
    where
        T: IntoIterator,
        T::IntoIter: 'static,
    {
        let mut things = things.into_iter();
        let free = move || (things.by_ref().take(at_a_time).map(drop).count() > 0).then_some(());
        self.0.push(Box::new(iter::from_fn(free)));
    }

    /// Takes over what others are.
    pub(crate) fn append(&mut self, mut others: Parts) {
        self.0.append(&mut others.0);
    }

    /// Frees a part; `false` when nothing is left.
    pub fn free(&mut self) -> bool {
        while let Some(things) = self.0.last_mut() {
            if things.next().is_some() {
                return true;
            }
            self.0.pop();
        }
        false
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parts({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn parts_are_freed_one_after_the_other() {
        let thing = Rc::new(());
        let things = |count| vec![Rc::clone(&thing); count];
        let mut parts = Parts::default();
        parts.add(things(5), 2);
        let mut others = Parts::default();
        others.add(things(2), 1);
        parts.append(others);
        let mut left = Vec::new();
        while parts.free() {
            left.push(Rc::strong_count(&thing) - 1);
        }
        assert_eq!(left, [6, 5, 3, 1, 0]);
    }
}
