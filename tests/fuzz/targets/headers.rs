//! What clients write: baggage, cookies, hosts, paths, queries, and names that mulkko alone may use.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mulkko::authority;
use mulkko::baggage;
use mulkko::cookie;
use mulkko::decide::Trust;
use mulkko::dry_run::{DryRun, applied};
use mulkko::forged;
use mulkko::query;
use mulkko_fuzz::{POLICY, macs, pairs, policy, run};

static RUNS: LazyLock<[DryRun; 3]> = LazyLock::new(|| {
    let [edge, mesh, mut vouched] =
        [Trust::Edge, Trust::Mesh, Trust::Mesh].map(|trust| run(policy(POLICY), trust));
    vouched.macs = Some(macs());
    [edge, mesh, vouched]
});

fuzz_target!(|input: &[u8]| {
    let _ = (authority::host(input), authority::client_ip(input), authority::path(input));
    let _ = (query::find(input, "q"), query::decode_path(input));
    let replaced = cookie::replace(Some(input), "mulkko_id", "v");
    assert_eq!(cookie::find(&replaced, "mulkko_id"), Some(&b"v"[..]));
    if let Some(divider) = forged::divider(b"baggage") {
        let rest = forged::without(input, divider).unwrap_or_else(|| input.to_vec());
        assert_eq!(baggage::decisions(&rest).count(), 0, "{}", rest.escape_ascii());
        assert!(forged::without(&rest, divider).is_none(), "{}", rest.escape_ascii());
    }
    let pairs = pairs(input);
    for run in &*RUNS {
        run.decided(&pairs, |_, effects| {
            let upstream = applied(&pairs, &effects.edits);
            let said: Vec<_> = upstream.iter().filter(|(name, _)| forged::is_name(run.trust, name)).collect();
            let ours = |name: &[u8]| {
                effects
                    .edits
                    .iter()
                    .any(|edit| matches!(edit, mulkko::effects::Edit::Set(set, _) if set.as_bytes() == name))
            };
            for (name, _) in said {
                assert!(ours(name), "{}", name.escape_ascii());
            }
            let baggage = upstream.iter().find(|(name, _)| name == b"baggage");
            if let (Trust::Edge, Some((_, value))) = (run.trust, baggage) {
                // What is left of mulkko's own is what was decided here.
                for (rollout, _) in baggage::decisions(value).filter(|(rollout, _)| *rollout != "mk") {
                    assert!(run.policy.rollout_named(rollout).is_some(), "{rollout}");
                }
            }
        });
    }
});
