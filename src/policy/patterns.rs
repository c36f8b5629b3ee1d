//! The patterns of a piece of a document, so that each can be compiled by itself.

use crate::json::Json;
use crate::logic::operation;
use crate::wire::{Match, PathMatchType, Rollout, ValueMatch, ValueMatchType};

/// Those of an expression.
pub(super) fn of(json: &Json) -> Vec<Box<str>> {
    let mut found = Vec::new();
    look_into(json, &mut found);
    found
}

/// Those of a rollout: of its conditions, and of its matches.
pub(super) fn of_rollout(rollout: &Rollout) -> Vec<Box<str>> {
    let mut found = Vec::new();
    let shadow = rollout.shadow.as_ref().and_then(|shadow| shadow.when.as_ref());
    let forced = rollout.force.iter().map(|force| &force.when);
    for json in rollout.when.iter().chain(shadow).chain(forced) {
        look_into(json, &mut found);
    }
    for Match { path, headers, query_params, .. } in &rollout.matches {
        let path = path.as_ref().filter(|path| path.kind == PathMatchType::RegularExpression);
        found.extend(path.and_then(|path| path.value.as_deref()).map(Box::from));
        let of_value = |rule: &&ValueMatch| rule.kind == ValueMatchType::RegularExpression;
        let values = headers.iter().chain(query_params).filter(of_value);
        found.extend(values.map(|rule| Box::from(rule.value.as_str())));
    }
    found
}

fn look_into(json: &Json, found: &mut Vec<Box<str>>) {
    if let Some(("matches", [_, Json::Text(pattern)])) = operation(json) {
        found.push(pattern.clone());
    }
    match json {
        Json::List(items) => items.iter().for_each(|item| look_into(item, found)),
        Json::Object(members) => members.iter().for_each(|(_, inner)| look_into(inner, found)),
        _ => {}
    }
}
