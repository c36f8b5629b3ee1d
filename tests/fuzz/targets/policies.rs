//! Documents through to decisions: refused or whole, and the same each time.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mulkko::decide::{Decisions, Trust};
use mulkko::dry_run::DryRun;
use mulkko::policy::{Clusters, Loading, Policy};
use mulkko_fuzz::{macs, requests, run};

fuzz_target!(|document: &[u8]| {
    let mut loading = Loading::new(document.to_vec(), Clusters::default());
    while loading.step() {}
    let (in_turns, at_once) = (loading.finish(), Policy::parse(document, &Clusters::default()));
    let (in_turns, at_once) = match (in_turns, at_once) {
        (Ok(in_turns), Ok(at_once)) => (in_turns, at_once),
        (Err(in_turns), Err(at_once)) => {
            assert_eq!(in_turns.first(), at_once.first());
            for finding in at_once {
                let shown = finding.to_string();
                assert!(!shown.contains('\n') && shown.len() < 4_096, "{shown}");
            }
            return;
        }
        (in_turns, at_once) => panic!("{} in turns, {} at once", in_turns.is_ok(), at_once.is_ok()),
    };
    for trust in [Trust::Edge, Trust::Mesh] {
        if trust == Trust::Mesh {
            return check(&run(in_turns, trust), &run(at_once, trust));
        }
        let again = Policy::parse(document, &Clusters::default());
        let other = Policy::parse(document, &Clusters::default());
        if let (Ok(again), Ok(other)) = (again, other) {
            check(&run(again, trust), &run(other, trust));
        }
    }
});

/// Two loads of one document decide the same.
fn check(one: &DryRun, other: &DryRun) {
    for (i, pairs) in requests().into_iter().enumerate() {
        let first = one.decided(&pairs, |decisions, effects| {
            whole(one, decisions);
            format!("{decisions:?}{effects:?}")
        });
        let second = other.decided(&pairs, |decisions, effects| format!("{decisions:?}{effects:?}"));
        assert_eq!(first, second, "request {i}");
    }
    // With keys of a mesh nothing else may go wrong.
    let macs = macs();
    for pairs in requests() {
        one.asked(&pairs, |request| {
            let request = mulkko::decide::Request { macs: Some(&macs), ..*request };
            let decisions = mulkko::decide::decide(&one.policy, request);
            let _ = mulkko::effects::effects(Some(&one.policy), &decisions, &request);
        });
    }
}

/// Each decision is one of the policy's.
fn whole(run: &DryRun, decisions: &Decisions) {
    for decision in &decisions.list {
        let rollout = run.policy.rollout(decision.rollout);
        assert!(rollout.is_some_and(|rollout| rollout.variant(decision.variant).is_some()));
    }
}
