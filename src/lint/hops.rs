//! What counts at one kind of hop alone: in the mesh, or at the hop that decides.

use super::expressions::{each_asking, each_named, each_root};
use super::{Lint, Warnings};
use crate::decide::Trust;
use crate::finding::Path;
use crate::forged;
use crate::headers::kept_name;
use crate::json::Json;
use crate::logic::Var;
use crate::policy::{Policy, Rollout};
use crate::schedule::VariantId;
use crate::wire::{Document, Source};

/// The proxies that a policy is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hops {
    /// Whether they believe requests.
    pub trust: Trust,
    /// Whether they vouch for decisions.
    pub vouch: bool,
}

pub fn lint(document: &Document, policy: &Policy, hops: Hops, warnings: &mut Warnings) {
    match hops.trust {
        Trust::Edge => of_the_edge(document, warnings),
        Trust::Mesh if !hops.vouch => of_the_mesh(document, policy, warnings),
        Trust::Mesh => {}
    }
}

/// What asks for headers that nobody sees at the edge.
fn of_the_edge(document: &Document, warnings: &mut Warnings) {
    let root = Path::Root;
    for (name, key) in document.keys.iter().flat_map(|it| &it.0) {
        of_sources(&key.from, &root.field("keys").field(name).field("from"), warnings);
    }
    for (name, sources) in document.attributes.iter().flat_map(|it| &it.0) {
        of_sources(sources, &root.field("attributes").field(name), warnings);
    }
    for (i, rollout) in document.rollouts.iter().flatten().enumerate() {
        let place = root.field("rollouts");
        let place = place.item(i);
        for (j, entry) in rollout.matches.iter().enumerate() {
            for (k, header) in entry.headers.iter().enumerate() {
                let place = place.field("matches");
                of_header(&header.name, &place.item(j).field("headers").item(k).field("name"), warnings);
            }
        }
    }
    each_named(document, &mut |_, _, json, place| of_expression(json, place, warnings));
    each_root(document, &mut |asked, place| of_expression(asked.json, place, warnings));
}

fn of_sources(sources: &[Source], place: &Path<'_>, warnings: &mut Warnings) {
    for (i, source) in sources.iter().enumerate() {
        if let Some(header) = &source.header {
            of_header(header, &place.item(i).field("header"), warnings);
        }
    }
}

fn of_header(name: &str, place: &Path<'_>, warnings: &mut Warnings) {
    if forged::is_name(Trust::Edge, kept_name(name).as_bytes()) {
        let message =
            format!("`{name}` is a client's word at the edge, which nobody sees: it counts in the mesh only");
        warnings.report(Lint::MeshOnly, place, message);
    }
}

fn of_expression(json: &Json, place: &Path<'_>, warnings: &mut Warnings) {
    each_asking(json, place, &mut |operator, written, place| {
        let mut look = |name: &Json, place: &Path<'_>| {
            let Json::Text(name) = name else { return };
            if let Some(Var::Header(header)) = Var::built_in(name) {
                of_header(&header, place, warnings);
            }
        };
        match (operator, written) {
            ("var", Json::List(operands)) => {
                operands.iter().take(1).for_each(|name| look(name, &place.item(0)))
            }
            ("missing", Json::List(operands)) => {
                operands.iter().enumerate().for_each(|(i, name)| look(name, &place.item(i)));
            }
            ("missing_some", Json::List(operands)) => {
                if let Some(Json::List(names)) = operands.get(1) {
                    names.iter().enumerate().for_each(|(i, name)| look(name, &place.item(1).item(i)));
                }
            }
            ("var" | "missing", name) => look(name, place),
            _ => {}
        }
    });
}

/// Which variants no later hop follows, since anybody might say so.
fn of_the_mesh(document: &Document, policy: &Policy, warnings: &mut Warnings) {
    for (i, (written, rollout)) in document.rollouts.iter().flatten().zip(&policy.rollouts).enumerate() {
        for (number, (name, _)) in written.variants.0.iter().enumerate() {
            let variant = u8::try_from(number).map(VariantId);
            if variant.is_ok_and(|variant| {
                rollout.enabled && variant != rollout.default && !has_share(rollout, variant)
            }) {
                let place = Path::Root.field("rollouts");
                let message = format!(
                    "without `meshKeys` `{name}` ends at the first hop: it never has a share of the split"
                );
                warnings.report(Lint::FirstHop, &place.item(i).field("variants").field(name), message);
            }
        }
    }
}

/// Whether a variant has a share of the split at any time.
fn has_share(rollout: &Rollout, variant: VariantId) -> bool {
    let instants = rollout.schedule.changes();
    std::iter::once(i64::MIN).chain(instants).any(|at_ms| rollout.schedule.at(at_ms).width(variant) > 0)
}
