//! What the targets share: a policy, a proxy, requests, and how long the slowest input took.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use mulkko::decide::{Node, Trust};
use mulkko::dry_run::{DryRun, Host, Pair};
use mulkko::guard::RolledBack;
use mulkko::mesh::{Macs, MeshKeys};
use mulkko::pass::PassKeys;
use mulkko::policy::{Clusters, Policy};

/// The instant of all requests that name no other, in unix milliseconds: 2026-11-22T12:00:00Z.
pub const NOW_MS: i64 = 1_795_348_800_000;

/// A rollout of each kind that a header can have an effect on, and flags that clients may see or not.
pub const POLICY: &str = include_str!("../policy.json");

/// The name of a flag of [`POLICY`] that no client may see.
pub const SECRET: &str = "secret";

const MESH_KEY: &[u8] = b"a key of 32 bytes or more for fuzzing the mesh";
const PASS_KEY: &[u8] = b"a key of 32 bytes or more for fuzzing passes";

static SLOWEST_US: AtomicU64 = AtomicU64::new(0);
static PASS_KEYS: LazyLock<PassKeys> = LazyLock::new(|| {
    let mut keys = PassKeys::for_audience(None, true);
    // Long enough.
    let _ = keys.add(PASS_KEY);
    keys
});

/// Runs a target on one input, and prints its time when no other took as long: libFuzzer itself counts in seconds.
pub fn timed(run: impl FnOnce()) {
    let start = Instant::now();
    run();
    let us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    if SLOWEST_US.fetch_max(us, Ordering::Relaxed) < us {
        eprintln!("slowest: {us} us");
    }
}

/// The secret that passes are signed with.
pub fn pass_secret() -> &'static [u8] {
    PASS_KEY
}

/// The keys that passes are verified with.
pub fn pass_keys() -> &'static PassKeys {
    &PASS_KEYS
}

/// The policy of the targets whose input is a request.
///
/// # Panics
/// When it is refused.
pub fn policy() -> Policy {
    Policy::parse(POLICY.as_bytes(), &Clusters::default()).unwrap_or_else(|found| panic!("{found:?}"))
}

/// The three kinds of hop: at the edge, in the mesh, and in a mesh that follows only what is vouched for.
pub const HOPS: [(Trust, bool); 3] = [(Trust::Edge, false), (Trust::Mesh, false), (Trust::Mesh, true)];

/// The policy on a proxy of which all is known.
pub fn run_on(policy: Policy, (trust, vouches): (Trust, bool)) -> DryRun {
    DryRun {
        policy,
        trust,
        node: Node { id: Some("edge-1".into()), region: Some("eu".into()), zone: Some("a".into()) },
        pass_keys: PASS_KEYS.clone(),
        macs: vouches.then(|| Macs::new("shop", mesh_keys().into())),
        host: Host {
            now_ms: NOW_MS,
            client: "10.1.2.3:4711".to_owned(),
            properties: vec![(vec!["metadata".to_owned(), "tenant".to_owned()], "t1".to_owned())],
            drawn: "drawn-id".to_owned(),
        },
        rolled_back: RolledBack::default(),
    }
}

fn mesh_keys() -> MeshKeys {
    let mut keys = MeshKeys::default();
    // Long enough.
    let _ = keys.add(MESH_KEY);
    keys
}

/// Headers, one in a line, and the body after an empty line. Pseudo headers begin with a colon.
pub fn message(input: &[u8]) -> (Vec<Pair>, &[u8]) {
    let mut pairs = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let (line, after) = cut(rest, b'\n');
        rest = after;
        if line.is_empty() {
            break;
        }
        let colon = line.iter().skip(1).position(|b| *b == b':').map_or(line.len(), |at| at + 1);
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        pairs.push((name.to_ascii_lowercase(), value.strip_prefix(b" ").unwrap_or(value).to_vec()));
    }
    (pairs, rest)
}

/// What stands before the first `divider`, and after it.
pub fn cut(bytes: &[u8], divider: u8) -> (&[u8], &[u8]) {
    match bytes.iter().position(|b| *b == divider) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}
