//! Which pieces a document has, and in what order they are read.

use crate::finding::{Findings, Path, Problem};
use crate::policy::outline::{Item, Member};

/// The most rollouts that a policy may have.
pub const MAX_ROLLOUTS: usize = 20_000;

/// One piece, and what it is.
#[derive(Debug)]
pub(super) struct Piecework {
    pub(super) what: What,
    pub(super) name: Box<str>,
    pub(super) at: usize,
    pub(super) end: usize,
    /// Which of its container's items it is.
    pub(super) item: usize,
}

/// The members of a document, and the brackets in which their items stand.
const MEMBERS: [(&str, What, &str); 15] = [
    ("apiVersion", What::ApiVersion, ""),
    ("name", What::Name, ""),
    ("revision", What::Revision, ""),
    ("flagKey", What::FlagKey, ""),
    ("keys", What::Key, "{"),
    ("attributes", What::Attribute, "{"),
    ("cohorts", What::Cohort, "{"),
    ("layers", What::Layer, "{"),
    ("holdouts", What::Holdout, "["),
    ("rollouts", What::Rollout, "["),
    ("flags", What::Flag, "{["),
    ("fractional", What::Fractional, ""),
    ("$evaluators", What::Evaluator, "{"),
    ("metadata", What::Metadata, ""),
    ("$schema", What::Schema, ""),
];

/// What a piece is. The order is that in which pieces are read: names are defined before they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    ApiVersion,
    Name,
    Revision,
    Schema,
    Metadata,
    Fractional,
    Key,
    FlagKey,
    Attribute,
    Evaluator,
    Cohort,
    Layer,
    Holdout,
    Rollout,
    Flag,
}

/// Puts the pieces in the order in which they are read. Reports members that nobody knows, that stand twice, or that are
/// not what holds their items.
pub(super) fn plan(document: &[u8], members: Vec<Member>, findings: &mut Findings) -> Vec<Piecework> {
    let mut pieces = Vec::new();
    let mut known = Vec::new();
    for member in members {
        plan_member(document, member, &mut known, &mut pieces, findings);
    }
    pieces.sort_by_key(|piece| piece.what);
    pieces
}

fn plan_member(
    document: &[u8],
    member: Member,
    known: &mut Vec<What>,
    pieces: &mut Vec<Piecework>,
    findings: &mut Findings,
) {
    let known_as = MEMBERS.iter().find(|(name, ..)| *name == &*member.name);
    let Some((_, what, brackets)) = known_as.copied() else {
        let names: Vec<String> = MEMBERS.iter().map(|(name, ..)| format!("`{name}`")).collect();
        let expected = format!("one of {}", names.join(", "));
        let problem = Problem::UnknownMember { expected };
        return findings.report(&Path::Root.field(&member.name), problem);
    };
    let place = Path::Root.field(&member.name);
    if known.contains(&what) {
        return findings.report(&place, Problem::Twice(member.name.to_string()));
    }
    known.push(what);
    if brackets.is_empty() {
        let (at, end) = (member.value.start, member.value.end);
        pieces.push(Piecework { what, name: Box::default(), at, end, item: 0 });
        return;
    }
    let open = document.get(member.value.start).map_or(' ', |byte| char::from(*byte));
    if !brackets.contains(open) {
        let expected = match brackets {
            "{" => "an object",
            "[" => "an array",
            _ => "an object or an array",
        };
        let found = if open == '{' { "an object" } else { "another value" };
        findings.report(&place, Problem::expected(expected, found));
        return;
    }
    if what == What::Rollout && member.items.len() > MAX_ROLLOUTS {
        findings.report(&place, Problem::over_limit("rollouts", MAX_ROLLOUTS, member.items.len()));
        return;
    }
    for (item, Item { name, value }) in member.items.into_iter().enumerate() {
        let name = name.unwrap_or_default();
        pieces.push(Piecework { what, name, at: value.start, end: value.end, item });
    }
}
