//! Texts that stand in a policy many times, each kept once: a thousand rollouts have variants of the same names, which lead
//! to the same clusters.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

/// How many texts are kept. Whoever has more of them has most of them once.
const MOST: usize = 20_000;

/// The texts that have been met while a policy is compiled.
#[derive(Debug, Default)]
pub struct Texts(RefCell<HashSet<Arc<str>, foldhash::fast::RandomState>>);

impl Texts {
    /// The text, shared with whoever has asked for the same one.
    pub fn share(&self, text: &str) -> Arc<str> {
        let mut met = self.0.borrow_mut();
        if let Some(shared) = met.get(text) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = text.into();
        if met.len() < MOST {
            met.insert(Arc::clone(&shared));
        }
        shared
    }

    /// All of them.
    pub fn into_all(self) -> impl IntoIterator<Item = Arc<str>> {
        self.0.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once() {
        let texts = Texts::default();
        let (one, other) = (texts.share("canary"), texts.share("canary"));
        assert!(Arc::ptr_eq(&one, &other) && &*one == "canary");
        assert!(!Arc::ptr_eq(&one, &texts.share("stable")));
    }
}
