//! Why rollouts do not match a request.
//!
//! The engine is asked: for each rollout a policy is made of others that have one part of its match each, and that match
//! or don't.

use mulkko::cases::Asked;
use mulkko::decide::{Node, Request, Trust, decide};
use mulkko::dry_run::Host;
use mulkko::headers::Headers;
use mulkko::pass::Passes;
use mulkko::policy::{Clusters, Policy};
use serde::Serialize;
use serde_json::{Value, json};

/// A rollout that does not match, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Unmatched {
    pub rollout: String,
    /// What does not fit, for each of its matches: `path PathPrefix /cart`.
    pub because: Vec<String>,
}

/// Why a rollout (as the document writes it) does not match.
pub fn why(rollout: &Value, asked: &Asked, trust: Trust) -> Unmatched {
    let name = rollout["name"].as_str().unwrap_or_default().to_owned();
    let mut because = Vec::new();
    if let Some(hosts) =
        rollout.get("hostnames").filter(|hosts| !fits(&json!({ "hostnames": hosts }), asked, trust))
    {
        let hosts = hosts.as_array().into_iter().flatten().filter_map(Value::as_str);
        because.push(format!("host {}", hosts.collect::<Vec<_>>().join(" or ")));
    } else {
        for one in rollout["matches"].as_array().into_iter().flatten() {
            let misfit =
                parts(one).into_iter().find(|(_, part)| !fits(&json!({ "matches": [part] }), asked, trust));
            because.extend(misfit.map(|(told, _)| told));
        }
    }
    Unmatched { rollout: name, because }
}

/// What a rollout (as the document writes it) matches, as it is told: `host a or b, path PathPrefix /cart`.
pub fn told(rollout: &Value) -> String {
    let hosts: Vec<&str> =
        rollout["hostnames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let hosts = (!hosts.is_empty()).then(|| format!("host {}", hosts.join(" or ")));
    let of_one = |one| parts(one).into_iter().map(|(told, _)| told).collect::<Vec<_>>().join(" and ");
    let matches: Vec<String> = rollout["matches"].as_array().into_iter().flatten().map(of_one).collect();
    let matches = (!matches.is_empty()).then(|| matches.join(" or "));
    hosts.into_iter().chain(matches).collect::<Vec<_>>().join(", ")
}

/// The parts of a match, with how they are told, each as a match of its own.
fn parts(one: &Value) -> Vec<(String, Value)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut parts = Vec::new();
    if let Some(path) = one.get("path") {
        let kind = path["type"].as_str().unwrap_or("PathPrefix");
        parts.push((format!("path {kind} {}", text(&path["value"])), json!({ "path": path })));
    }
    if let Some(method) = one.get("method") {
        parts.push((format!("method {}", text(method)), json!({ "method": method })));
    }
    for (member, what) in [("headers", "header"), ("queryParams", "query parameter")] {
        for entry in one[member].as_array().into_iter().flatten() {
            let kind = entry["type"].as_str().map_or(String::new(), |kind| format!("{kind} "));
            let told = format!("{what} {} {kind}{}", text(&entry["name"]), text(&entry["value"]));
            parts.push((told, json!({ member: [entry] })));
        }
    }
    parts
}

/// Whether a rollout with nothing but these members would match.
fn fits(members: &Value, asked: &Asked, trust: Trust) -> bool {
    let mut rollout = json!({
        "name": "part", "variants": { "a": {}, "b": {} }, "default": "a", "strategy": { "dark": { "variant": "b" } },
    });
    if let (Some(rollout), Some(members)) = (rollout.as_object_mut(), members.as_object()) {
        rollout.extend(members.clone());
    }
    let policy = json!({ "rollouts": [rollout] }).to_string();
    let Ok(policy) = Policy::parse(policy.as_bytes(), &Clusters::default()) else { return false };
    let pairs = asked.pairs(&[]);
    let pairs = pairs.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let headers = Headers::of_request(pairs, trust);
    let (passes, node, proxy) = (Passes::default(), Node::default(), Host::default());
    let request = Request {
        headers: &headers,
        passes: &passes,
        macs: None,
        node: &node,
        proxy: &proxy,
        rolled_back: None,
    };
    !decide(&policy, request).list.is_empty()
}
