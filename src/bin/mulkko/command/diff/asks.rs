//! What conditions ask a request for, and which option says it.

use std::collections::BTreeSet;

use mulkko::json::Json;
use mulkko::logic::{Var, Way};
use mulkko::policy::{KeyId, Policy, Source, TargetingKey};

use super::super::shares::sources;
use super::meaning::Meaning;

/// Where a key comes from.
pub fn key_told(policy: &Policy, key: TargetingKey) -> String {
    match key {
        TargetingKey::None => "none".to_owned(),
        TargetingKey::Node => "the proxy's id".to_owned(),
        TargetingKey::Key(KeyId(id)) => {
            policy.keys.get(id).map_or_else(String::new, |key| sources(&key.from))
        }
    }
}

/// What a condition asks for.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    /// How it is told: `region (header x-region)`.
    pub told: String,
    /// The option that says it; empty where none does.
    pub option: String,
}

impl Ask {
    /// All that an expression asks for, of a flag or else of a rollout.
    pub fn all(json: &Json, policy: &Policy, meaning: &Meaning<'_>, is_flag: bool) -> BTreeSet<Ask> {
        let mut asks = BTreeSet::new();
        meaning.each(json, &mut |operator, operands| {
            let names = match operator {
                "var" => operands.get(..1).unwrap_or_default(),
                "missing" => operands,
                _ => return,
            };
            for name in names {
                let Json::Text(name) = name else { continue };
                let var = match policy.attributes.iter().position(|it| it.way == Way::new(name)) {
                    Some(attribute) => Var::Attribute(attribute),
                    None => Var::built_in(name).unwrap_or_else(|| Var::Other(Way::new(name))),
                };
                asks.insert(Ask::of(&var, policy, is_flag));
            }
        });
        asks
    }

    /// What a variable asks for.
    pub fn of(var: &Var, policy: &Policy, is_flag: bool) -> Ask {
        let ask = |told: String, option: String| Ask { told, option };
        let plain = |told: &str, option: &str| ask(told.to_owned(), option.to_owned());
        match var {
            Var::Attribute(i) => {
                let Some(attribute) = policy.attributes.get(*i) else { return plain("", "") };
                let name = attribute.way.steps().collect::<Vec<_>>().join(".");
                let option = attribute.from.first().map_or_else(String::new, option);
                ask(format!("{name} ({})", sources(&attribute.from)), option)
            }
            Var::Header(name) => of_source(Source::Header(name.clone())),
            Var::Query(name) => of_source(Source::Query(name.clone())),
            Var::Cookie(name) => of_source(Source::Cookie(name.clone())),
            Var::TargetingKey => match policy.flag_key {
                Some(key) if is_flag => {
                    ask(format!("key ({})", key_told(policy, TargetingKey::Key(key))), String::new())
                }
                None if is_flag => plain("key (the policy has no flagKey)", ""),
                _ => plain("key", "--keys FILE"),
            },
            Var::Method => plain("method", "--method …"),
            Var::Host => plain("host", "--host …"),
            Var::Path => plain("path", "--path …"),
            Var::ClientIp => plain("address of the client", "--client-ip …"),
            Var::NodeId => plain("node.id", "--node …"),
            Var::NodeRegion => plain("node.region", "--region …"),
            Var::NodeZone => plain("node.zone", "--zone …"),
            Var::FlagKey => plain("", ""),
            Var::Timestamp => plain("time", "--at …"),
            Var::Other(way) => {
                let name = way.steps().collect::<Vec<_>>().join(".");
                let option = if is_flag { context_option(way) } else { String::new() };
                ask(name, option)
            }
        }
    }
}

fn of_source(source: Source) -> Ask {
    Ask { option: option(&source), told: sources(&[source]) }
}

/// The option that has a request come from there.
fn option(source: &Source) -> String {
    match source {
        Source::Header(name) => format!("-H '{name}: …'"),
        Source::Cookie(name) => format!("-H 'cookie: {name}=…'"),
        Source::Query(name) => format!("--path '…?{name}=…'"),
        Source::Property(path) => match &path[..] {
            [first, second, rest @ ..] if (&**first, &**second) == ("metadata", "filter_metadata") => {
                format!("--metadata '{}=…'", rest.join("/"))
            }
            path => format!("--property '{}=…'", path.join("/")),
        },
    }
}

/// `--context '{"user": {"plan": …}}'`
fn context_option(way: &Way) -> String {
    let steps: Vec<&str> = way.steps().collect();
    let inner = steps.iter().rev().fold("…".to_owned(), |inner, step| format!("{{{step:?}: {inner}}}"));
    format!("--context '{inner}'")
}
