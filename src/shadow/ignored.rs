//! Paths of JSON that are not compared.

use std::collections::BTreeMap;

use crate::shadow::json::MAX_PATH_BYTES;

/// Paths of JSON that are not compared, with all below them: JSON Pointers, in which `*` stands for any one step.
///
/// A tree of their steps, so that a path is looked up in the time that its own length takes, however many are ignored.
#[derive(Debug, Default)]
pub struct Ignored {
    /// The first is the root.
    nodes: Vec<Node>,
}

/// What may follow some steps.
#[derive(Debug, Default)]
struct Node {
    /// Where a step leads to.
    named: BTreeMap<Box<[u8]>, usize>,
    /// Where any step leads to.
    any: Option<usize>,
    /// Whether a path ends here.
    is_end: bool,
}

impl Ignored {
    /// Whether it is a path: of no more bytes than are kept of paths in documents, or it might never match.
    #[must_use]
    pub fn is_path(text: &str) -> bool {
        text.starts_with('/') && text.len() <= MAX_PATH_BYTES
    }

    /// All of these paths.
    #[must_use]
    pub fn new(paths: &[String]) -> Ignored {
        let mut ignored = Ignored { nodes: vec![Node::default()] };
        for path in paths {
            let steps = path.split('/').skip(1);
            let end = steps.fold(0, |node, step| ignored.grow(node, step));
            if let Some(node) = ignored.nodes.get_mut(end) {
                node.is_end = true;
            }
        }
        ignored
    }

    /// Where a step leads to from a node.
    fn grow(&mut self, from: usize, step: &str) -> usize {
        let new = self.nodes.len();
        let Some(node) = self.nodes.get_mut(from) else { return from };
        let to = match step {
            "*" => *node.any.get_or_insert(new),
            step => *node.named.entry(step.as_bytes().into()).or_insert(new),
        };
        if to == new {
            self.nodes.push(Node::default());
        }
        to
    }

    /// Whether this path of a document is ignored.
    #[must_use]
    pub fn has(&self, path: &[u8]) -> bool {
        self.leads(0, path.strip_prefix(b"/"))
    }

    /// Whether the rest of a path leads from a node to an end. Each node is come to once at most.
    fn leads(&self, from: usize, rest: Option<&[u8]>) -> bool {
        let Some(node) = self.nodes.get(from) else { return false };
        if node.is_end {
            return true;
        }
        let Some(rest) = rest else { return false };
        let mut parts = rest.splitn(2, |byte| *byte == b'/');
        let (step, rest) = (parts.next().unwrap_or_default(), parts.next());
        let named = node.named.get(step).copied();
        named.into_iter().chain(node.any).any(|to| self.leads(to, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_ignored_with_all_below_it() {
        let ignored = Ignored::new(&["/meta", "/items/*/id", "/items/7/8", "/a~1b", "/"].map(str::to_owned));
        for (path, expected) in [
            ("/meta", true),
            ("/meta/now", true),
            ("/metadata", false),
            ("", false),
            ("/", true),
            ("/items", false),
            ("/items/7/id", true),
            ("/items/*/id", true),
            ("/items/*/id/x", true),
            ("/items/7", false),
            ("/items/7/8/id", true),
            ("/items/8/8/id", false),
            ("/a~1b", true),
            ("/a/b", false),
        ] {
            assert_eq!(ignored.has(path.as_bytes()), expected, "{path}");
        }
        assert!(!Ignored::default().has(b"/meta") && !Ignored::new(&[]).has(b""));
    }
}
