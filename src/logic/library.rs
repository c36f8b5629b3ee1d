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

#[derive(Clone, Copy, Debug)]
enum Visit {
    Never,
    /// On the way down: who meets it again has gone in a circle.
    Open,
    /// Levels below it, names followed.
    Done(usize),
}

/// A node on the way down, the next of its uses to follow, and how deep it goes as far as is known.
#[derive(Debug)]
struct Frame {
    node: usize,
    next: usize,
    levels: usize,
}

/// What of named expressions is unknown that some others lead to, from name to name: a walk, some steps at a time.
#[derive(Debug, Default)]
pub(super) struct Reach {
    reached: Vec<bool>,
    left: Vec<usize>,
    is_begun: bool,
}

impl Reach {
    /// Goes on for a while from what `roots` refer to; `false` at the end.
    pub(super) fn step(
        &mut self,
        graph: &Graph<'_>,
        roots: impl Iterator<Item = Use>,
        mut report: impl FnMut(&Unknown),
    ) -> bool {
        const STEPS: usize = 1_000;
        if !self.is_begun {
            self.is_begun = true;
            self.reached = vec![false; graph.nodes()];
            self.left = roots.map(|used| graph.target(used).0).collect();
        }
        for _ in 0..STEPS {
            let Some(node) = self.left.pop() else { return false };
            if self.reached.get_mut(node).is_some_and(|reached| !std::mem::replace(reached, true)) {
                graph.node(node).and_then(|named| named.unknown.as_ref()).into_iter().for_each(&mut report);
                self.left.extend(graph.uses(node).iter().map(|used| graph.target(*used).0));
            }
        }
        true
    }
}

/// Whether the references of a graph come to an end: a walk over all of it, some steps at a time.
#[derive(Debug, Default)]
pub(super) struct Check {
    visits: Visits,
    /// The way from a root down to where the walk is.
    stack: Vec<Frame>,
    /// The next root.
    root: usize,
    is_unsound: bool,
}

impl Check {
    /// Goes on for a while; `false` at the end. Tells `report` of each circle, once, and of what is too deep. Nodes are
    /// numbered cohorts first.
    pub(super) fn step(&mut self, graph: &Graph<'_>, mut report: impl FnMut(usize, Fault)) -> bool {
        const STEPS: usize = 1_000;
        for _ in 0..STEPS {
            if !self.stack.is_empty() {
                self.follow(graph, &mut report);
            } else if self.root < graph.nodes() {
                self.stack.extend(self.visits.enter(graph, self.root));
                self.root += 1;
            } else {
                return false;
            }
        }
        true
    }

    /// Whether nothing was reported.
    pub(super) fn is_sound(&self) -> bool {
        !self.is_unsound
    }

    /// Follows one use, or goes back up where there is none left.
    fn follow(&mut self, graph: &Graph<'_>, report: &mut impl FnMut(usize, Fault)) {
        let Check { visits, stack, is_unsound, .. } = self;
        let Some(top) = stack.last_mut() else { return };
        let Some(&used) = graph.uses(top.node).get(top.next) else {
            if top.levels > DEEPEST_EXPANDED {
                *is_unsound = true;
                report(top.node, Fault::TooDeep(top.levels));
                // Told once: who uses it is only too deep if what is above it is.
                top.levels = 0;
            }
            visits.set(top.node, Visit::Done(top.levels));
            stack.pop();
            return;
        };
        let (target, above) = graph.target(used);
        match visits.get(target) {
            Visit::Never => stack.extend(visits.enter(graph, target)),
            Visit::Open => {
                *is_unsound = true;
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

impl Graph<'_> {
    fn nodes(&self) -> usize {
        self.cohorts.len() + self.evaluators.len()
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
#[derive(Debug, Default)]
struct Visits(Vec<(Visit, InCircle)>);

/// Whether a node is known to be part of a circle.
type InCircle = bool;

impl Visits {
    fn get(&self, node: usize) -> Visit {
        self.0.get(node).map_or(Visit::Never, |(visit, _)| *visit)
    }

    fn set(&mut self, node: usize, visit: Visit) {
        if let Some((slot, _)) = self.0.get_mut(node) {
            *slot = visit;
        }
    }

    /// Opens a node, unless it was met before.
    fn enter(&mut self, graph: &Graph<'_>, node: usize) -> Option<Frame> {
        let Visit::Never = self.get(node) else { return None };
        if self.0.len() <= node {
            self.0.resize(graph.nodes(), (Visit::Never, false));
        }
        self.set(node, Visit::Open);
        Some(Frame { node, next: 0, levels: graph.node(node).map_or(0, |named| named.levels) })
    }

    /// Marks `node` as part of a circle; whether that is news.
    fn circle(&mut self, node: usize) -> bool {
        self.0.get_mut(node).is_some_and(|(_, known)| !std::mem::replace(known, true))
    }
}
