//! What the targets share: requests and policies that stand still while something else is drawn.

use std::sync::Arc;

use mulkko::cases::Asked;
use mulkko::configuration::Configuration;
use mulkko::decide::{Node, Trust};
use mulkko::dry_run::{DryRun, Host, Pair, request};
use mulkko::mesh::{Macs, MeshKeys};
use mulkko::pass::PassKeys;
use mulkko::policy::{Clusters, Policy};

/// 2026-12-01T00:00:00Z.
pub const NOW_MS: i64 = 1_796_083_200_000;
/// What passes are signed with.
pub const PASS_KEY: &[u8] = b"a key for the passes of fuzzing, 32 bytes";
/// What decisions are vouched for with.
pub const MESH_KEY: &[u8] = b"a key for the mesh of fuzzing, 32 bytes and more";
/// The plugin's name.
pub const NAME: &str = "shop";

/// A policy with some of everything.
pub const POLICY: &str = include_str!("../../../policies/shop.json");
/// A policy with flags, conditions and cohorts.
pub const FLAGS: &str = include_str!("../../../policies/flags.json");

/// A policy that is good.
///
/// # Panics
/// When it is not.
#[must_use]
pub fn policy(text: &str) -> Policy {
    Policy::parse(text.as_bytes(), &Clusters::default()).expect("a policy")
}

/// A policy on a proxy that believes its requests or does not.
#[must_use]
pub fn run(policy: Policy, trust: Trust) -> DryRun {
    let mut run = DryRun::new(policy, &Configuration::default(), NOW_MS);
    run.trust = trust;
    run.node = Node { id: Some("node-1".into()), region: Some("kr".into()), zone: None };
    run.pass_keys = PassKeys::of(PASS_KEY);
    run.host = Host { now_ms: NOW_MS, drawn: "drawn".to_owned(), ..Host::default() };
    run
}

/// What vouches for decisions.
#[must_use]
pub fn macs() -> Macs {
    let mut keys = MeshKeys::default();
    keys.add(MESH_KEY).unwrap_or_else(|problem| panic!("{problem}"));
    Macs::new(NAME, Arc::new(keys))
}

/// A request of these bytes: a path in the first line, a header in each of the others.
#[must_use]
pub fn pairs(text: &[u8]) -> Vec<Pair> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let path = lines.next().unwrap_or_default().to_vec();
    let mut pairs = request("GET", "/", [("host", "shop.example.com")].into_iter());
    pairs.retain(|(name, _)| name != b":path");
    pairs.push((b":path".to_vec(), path));
    for line in lines {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        pairs.push((name, parts.next().unwrap_or_default().trim_ascii().to_vec()));
    }
    pairs
}

/// Requests that many policies know.
#[must_use]
pub fn requests() -> Vec<Vec<Pair>> {
    let lines: [&[u8]; 5] = [
        b"/checkout?debug=1&q=a%20b\nx-user-id:user-1\ncookie:mulkko_id=u2; session=s\nx-region:kr",
        b"/\nx-user-id:\xff\nbaggage:mulkko.checkout-v2=canary,tenant=7",
        b"/search/all\nx-mulkko-checkout-v2:canary\nx-email:somebody@example.com\nuser-agent:curl/8",
        b"*\nx-forwarded-for:10.0.0.1",
        b"/page\nx-user-id:user-2\nx-app-version:1.2.3-rc.1",
    ];
    lines.into_iter().map(pairs).collect()
}

/// A request as it is written down.
#[must_use]
pub fn asked(path: &str) -> Asked {
    Asked { method: "GET".to_owned(), path: path.to_owned(), headers: Vec::new() }
}
