//! What a policy may say, and what is likely not what was meant.
//!
//! For who writes policies, so natively only: the plugin takes every document that is whole.

mod absent;
mod clashes;
mod conditions;
mod constant;
mod expressions;
mod hops;
mod meeting;
mod patterns;
mod reach;
mod subjects;
mod time;
mod unused;
mod verdicts;

use std::fmt;

pub use hops::Hops;

use crate::finding::Path;
use crate::policy::Policy;
use crate::wire::{Document, OnBreach};

/// What can be wrong with what is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lint {
    /// A rollout, one of its matches, or an entry of `force` that no request can reach.
    Unreachable,
    /// A step, a switch, a batch or an experiment that is over.
    PastStep,
    /// A flag that can only give one value.
    ConstantFlag,
    /// A part of a condition that never holds, or always does.
    ConstantCondition,
    /// A comparison that holds for what is absent, since that counts as 0.
    AbsentIsZero,
    /// A header or a variable that no request has.
    Absent,
    /// A cohort, key, attribute, layer or evaluator that nothing uses.
    Unused,
    /// Two rollouts that set the cluster of the same request.
    SameCluster,
    /// Two rollouts that set the same header of the same request.
    SameHeader,
    /// A regular expression that is a prefix or a text.
    NeedlessPattern,
    /// A guard that only tells.
    ReportOnly,
    /// A header that is mulkko's own, which nobody sees at the edge.
    MeshOnly,
    /// A variant that no later hop follows.
    FirstHop,
}

impl Lint {
    /// All of them.
    pub const ALL: [Lint; 13] = [
        Lint::Unreachable,
        Lint::PastStep,
        Lint::ConstantFlag,
        Lint::ConstantCondition,
        Lint::AbsentIsZero,
        Lint::Absent,
        Lint::Unused,
        Lint::SameCluster,
        Lint::SameHeader,
        Lint::NeedlessPattern,
        Lint::ReportOnly,
        Lint::MeshOnly,
        Lint::FirstHop,
    ];

    /// Its name, by which it can be allowed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Lint::Unreachable => "unreachable",
            Lint::PastStep => "past-step",
            Lint::ConstantFlag => "constant-flag",
            Lint::ConstantCondition => "constant-condition",
            Lint::AbsentIsZero => "absent-is-zero",
            Lint::Absent => "absent",
            Lint::Unused => "unused",
            Lint::SameCluster => "same-cluster",
            Lint::SameHeader => "same-header",
            Lint::NeedlessPattern => "needless-pattern",
            Lint::ReportOnly => "report-only",
            Lint::MeshOnly => "mesh-only",
            Lint::FirstHop => "first-hop",
        }
    }
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// That a lint has found something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Which lint.
    pub lint: Lint,
    /// Where: members by dot, items by `[i]`.
    pub place: String,
    /// What, on one line.
    pub message: String,
}

/// The warnings, as lints find them.
#[derive(Debug, Default)]
struct Warnings(Vec<Warning>);

impl Warnings {
    fn report(&mut self, lint: Lint, place: &Path<'_>, message: impl Into<String>) {
        self.push(Warning { lint, place: place.to_string(), message: message.into() });
    }

    /// Beyond a thousand, as of refusals, nobody reads on.
    fn push(&mut self, warning: Warning) {
        const MOST: usize = 1_000;
        if self.0.len() < MOST {
            self.0.push(warning);
        }
    }
}

/// Everything that lints find in `document`, which was taken as `policy`, at `now_ms` (unix milliseconds), for these proxies.
#[must_use]
pub fn lint(document: &Document, policy: &Policy, now_ms: i64, hops: Hops) -> Vec<Warning> {
    let mut warnings = Warnings::default();
    let truths = expressions::Truths::new(document, now_ms);
    reach::lint(document, policy, &truths, &mut warnings);
    time::lint(document, policy, now_ms, &mut warnings);
    constant::lint(document, &truths, &mut warnings);
    conditions::lint(document, &truths, &mut warnings);
    absent::lint(document, &truths, &mut warnings);
    unused::lint(document, &mut warnings);
    meeting::lint(document, &mut warnings);
    patterns::lint(document, &mut warnings);
    guards(document, &mut warnings);
    hops::lint(document, policy, hops, &mut warnings);
    warnings.0
}

fn guards(document: &Document, warnings: &mut Warnings) {
    let rollouts = Path::Root.field("rollouts");
    for (i, rollout) in document.rollouts.iter().flatten().enumerate() {
        if rollout.guard.as_ref().is_some_and(|guard| guard.on_breach == OnBreach::Report) {
            let place = rollouts.item(i);
            let place = place.field("guard");
            let message = "only tells of a breach: the traffic stays where it is";
            warnings.report(Lint::ReportOnly, &place.field("onBreach"), message);
        }
    }
}

/// Shows `look` every operator of every expression of a document, with its operands.
pub fn each_expression(document: &Document, look: &mut dyn FnMut(&str, &[crate::json::Json])) {
    expressions::each_whole(document, &mut |json, place| {
        expressions::each(json, place, &mut |operator, operands, _| look(operator, operands));
    });
}
