//! Expressions that have names, and whether their references come to an end.

use super::tree::Expr;

/// How deep expressions may stand in each other when every name is replaced by what it stands for: evaluation calls
/// itself once for each, and the stack of a WebAssembly VM is one megabyte.
pub(super) const DEEPEST_EXPANDED: usize = 256;

/// A compiled expression and the names it uses.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) expr: Expr,
    /// How deep operators and lists stand in each other, names not followed.
    pub(super) levels: usize,
    pub(super) uses: Vec<Use>,
    /// The first name in it that no request has, and where that stands.
    pub(super) unknown: Option<Unknown>,
}

/// A variable that no request has: the name, and its place in the document.
#[derive(Debug)]
pub(super) struct Unknown {
    pub(super) name: Box<str>,
    pub(super) place: Box<str>,
}

/// That an expression uses a named one, with so many levels above that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    Cohort { id: usize, above: usize },
    Evaluator { id: usize, above: usize },
}

/// All named expressions of a policy: cohorts, then the evaluators that are used.
pub(super) struct Graph<'n> {
    pub(super) cohorts: &'n [Option<Named>],
    pub(super) evaluators: &'n [Option<Named>],
}

/// Why a named expression cannot be evaluated.
pub(super) enum Fault {
    /// Its names lead back to it.
    ReachesItself,
    /// With its names followed it is so many levels deep.
    TooDeep(usize),
}

#[derive(Clone, Copy)]
enum Visit {
    Never,
    /// On the way down: who meets it again has gone in a circle.
    Open,
    /// Levels below it, names followed.
    Done(usize),
}

/// A node on the way down, the next of its uses to follow, and how deep it goes as far as is known.
struct Frame {
    node: usize,
    next: usize,
    levels: usize,
}

impl Graph<'_> {
    /// Tells `report` of each circle, once, and of what is too deep. Nodes are numbered cohorts first.
    pub(super) fn check(&self, mut report: impl FnMut(usize, Fault)) {
        let nodes = self.cohorts.len() + self.evaluators.len();
        let mut visits = Visits { of: vec![Visit::Never; nodes], in_circle: vec![false; nodes] };
        for root in 0..nodes {
            self.visit(root, &mut visits, &mut report);
        }
    }

    /// What is unknown in the expressions that these uses lead to, from name to name.
    pub(super) fn unknown(&self, roots: impl Iterator<Item = Use>) -> Vec<&Unknown> {
        let mut reached = vec![false; self.cohorts.len() + self.evaluators.len()];
        let mut left: Vec<usize> = roots.map(|used| self.target(used).0).collect();
        let mut found = Vec::new();
        while let Some(node) = left.pop() {
            if reached.get_mut(node).is_some_and(|reached| !std::mem::replace(reached, true)) {
                found.extend(self.node(node).and_then(|named| named.unknown.as_ref()));
                left.extend(self.uses(node).iter().map(|used| self.target(*used).0));
            }
        }
        found
    }

    fn visit(&self, root: usize, visits: &mut Visits, report: &mut impl FnMut(usize, Fault)) {
        let mut stack: Vec<Frame> = self.enter(root, visits).into_iter().collect();
        while let Some(top) = stack.last_mut() {
            let Some(&used) = self.uses(top.node).get(top.next) else {
                if top.levels > DEEPEST_EXPANDED {
                    report(top.node, Fault::TooDeep(top.levels));
                    // Told once: who uses it is only too deep if what is above it is.
                    top.levels = 0;
                }
                visits.set(top.node, Visit::Done(top.levels));
                stack.pop();
                continue;
            };
            let (target, above) = self.target(used);
            match visits.get(target) {
                Visit::Never => stack.extend(self.enter(target, visits)),
                Visit::Open => {
                    if visits.circle(target) {
                        report(target, Fault::ReachesItself);
                    }
                    top.next += 1;
                }
                Visit::Done(levels) => {
                    top.levels = top.levels.max(above + levels);
                    top.next += 1;
                }
            }
        }
    }

    fn enter(&self, node: usize, visits: &mut Visits) -> Option<Frame> {
        let Visit::Never = visits.get(node) else { return None };
        visits.set(node, Visit::Open);
        Some(Frame { node, next: 0, levels: self.node(node).map_or(0, |named| named.levels) })
    }

    fn node(&self, node: usize) -> Option<&Named> {
        let evaluator = node.checked_sub(self.cohorts.len());
        evaluator.map_or_else(|| self.cohorts.get(node), |id| self.evaluators.get(id))?.as_ref()
    }

    fn uses(&self, node: usize) -> &[Use] {
        self.node(node).map_or(&[], |named| &named.uses)
    }

    fn target(&self, used: Use) -> (usize, usize) {
        match used {
            Use::Cohort { id, above } => (id, above),
            Use::Evaluator { id, above } => (self.cohorts.len() + id, above),
        }
    }
}

/// What is known of each node.
struct Visits {
    of: Vec<Visit>,
    in_circle: Vec<bool>,
}

impl Visits {
    fn get(&self, node: usize) -> Visit {
        self.of.get(node).copied().unwrap_or(Visit::Done(0))
    }

    fn set(&mut self, node: usize, visit: Visit) {
        if let Some(slot) = self.of.get_mut(node) {
            *slot = visit;
        }
    }

    /// Marks `node` as part of a circle; whether that is news.
    fn circle(&mut self, node: usize) -> bool {
        self.in_circle.get_mut(node).is_some_and(|known| !std::mem::replace(known, true))
    }
}
