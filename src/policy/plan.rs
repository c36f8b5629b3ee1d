//! Which pieces a document has, and in what order they are read.

use crate::finding::{Findings, Path, Problem};
use crate::policy::outline::{Item, MAX_ITEMS, Member};

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

/// The members of a document, and the brackets in which their items stand. The order is that in which they are read:
/// names are defined before they are used.
const MEMBERS: [(&str, What, &str); 15] = [
    ("apiVersion", What::ApiVersion, ""),
    ("name", What::Name, ""),
    ("revision", What::Revision, ""),
    ("metadata", What::Metadata, ""),
    ("$schema", What::Schema, ""),
    ("fractional", What::Fractional, ""),
    ("keys", What::Key, "{"),
    ("flagKey", What::FlagKey, ""),
    ("attributes", What::Attribute, "{"),
    ("$evaluators", What::Evaluator, "{"),
    ("cohorts", What::Cohort, "{"),
    ("layers", What::Layer, "{"),
    ("holdouts", What::Holdout, "["),
    ("flags", What::Flag, "{["),
    ("rollouts", What::Rollout, "["),
];

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    ApiVersion,
    Name,
    Revision,
    Metadata,
    Schema,
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
    let mut known: [Option<Member>; MEMBERS.len()] = Default::default();
    for member in members {
        let place = Path::Root.field(&member.name);
        let slot = MEMBERS.iter().position(|(name, ..)| *name == &*member.name);
        match slot.and_then(|slot| known.get_mut(slot)) {
            Some(Some(_)) => findings.report(&place, Problem::Twice(member.name.to_string())),
            Some(slot) => *slot = Some(member),
            None => {
                let names: Vec<String> = MEMBERS.iter().map(|(name, ..)| format!("`{name}`")).collect();
                let expected = format!("one of {}", names.join(", "));
                findings.report(&place, Problem::UnknownMember { expected });
            }
        }
    }
    let mut pieces = Vec::new();
    for (member, (_, what, brackets)) in known.into_iter().zip(MEMBERS) {
        if let Some(member) = member {
            plan_member(document, member, (what, brackets), &mut pieces, findings);
        }
    }
    pieces
}

fn plan_member(
    document: &[u8],
    member: Member,
    (what, brackets): (What, &str),
    pieces: &mut Vec<Piecework>,
    findings: &mut Findings,
) {
    let place = Path::Root.field(&member.name);
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
    if member.count > MAX_ITEMS {
        let named = if what == What::Rollout { "rollouts" } else { "items" };
        findings.report(&place, Problem::over_limit(named, MAX_ITEMS, member.count));
        return;
    }
    for (item, Item { name, value }) in member.items.into_iter().enumerate() {
        if name.as_deref() == Some("") {
            findings.report(&place.field(""), Problem::expected("a name", ""));
            continue;
        }
        let name = name.unwrap_or_default();
        pieces.push(Piecework { what, name, at: value.start, end: value.end, item });
    }
}
