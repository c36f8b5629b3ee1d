//! Conditions: compiled as all that they may be, and evaluated for requests and for callers' contexts.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mulkko::decide::{Trust, decide};
use mulkko::ofrep::{Context, Evaluating};
use mulkko::policy::{Clusters, Policy};
use mulkko_fuzz::{requests, run};

fuzz_target!(|condition: &[u8]| {
    let Ok(condition) = str::from_utf8(condition) else { return };
    let all = [
        // A cohort and an evaluator, and what asks for them.
        r#"{"keys": {"user": {"from": [{"header": "x-user-id"}]}}, "flagKey": "user", "attributes": {"region": [{"header": "x-region"}]},
        "cohorts": {"c": CONDITION}, "$evaluators": {"e": CONDITION},
        "flags": {"f": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
            "targeting": {"if": [{"cohort": "c"}, "on", {"$ref": "e"}, "off"]}, "metadata": {"mulkko.public": true, "mulkko.export": true}}},
        "rollouts": [{"name": "r", "key": "user", "default": "a", "variants": {"a": {}, "b": {}},
            "when": {"or": [{"cohort": "c"}, {"==": [{"flag": "f"}, true]}]}, "strategy": {"dark": {"variant": "b"}}}]}"#,
        // A flag's own, which is taken as flagd takes it.
        r#"{"flags": {"f": {"state": "ENABLED", "variants": {"on": true, "off": false}, "targeting": CONDITION,
            "metadata": {"mulkko.public": true}}}}"#,
        r#"{"rollouts": [{"name": "r", "default": "a", "variants": {"a": {}, "b": {}}, "when": CONDITION,
            "force": [{"when": CONDITION, "variant": "b"}], "strategy": {"dark": {"variant": "b"}}}]}"#,
    ];
    for text in all {
        let text = text.replace("CONDITION", condition);
        let Ok(policy) = Policy::parse(text.as_bytes(), &Clusters::default()) else { continue };
        for trust in [Trust::Edge, Trust::Mesh] {
            let Ok(policy) = Policy::parse(text.as_bytes(), &Clusters::default()) else { return };
            let run = run(policy, trust);
            for pairs in requests() {
                run.asked(&pairs, |request| {
                    assert_eq!(decide(&run.policy, *request), decide(&run.policy, *request))
                });
            }
        }
        let run = run(policy, Trust::Mesh);
        for body in [
            "",
            r#"{"context": {"targetingKey": "u", "region": "kr", "a": {"b": [1, "x", null]}, "list": [1, 2, 3]}}"#,
        ] {
            let Ok(context) = Context::read(body.as_bytes()) else { return };
            run.asked(&[], |request| {
                let evaluating = Evaluating::new(&run.policy, *request, &context);
                let resolved = run.policy.flags.iter().map(|flag| evaluating.resolve(flag));
                resolved.for_each(drop);
            });
        }
    }
});
