//! OFREP: the headers of a request for flags, one in a line, and its body after an empty line.

#![no_main]

use std::sync::LazyLock;

use fuzz::{HOPS, NOW_MS, SECRET, message, pass_keys, policy, run_on, timed};
use libfuzzer_sys::fuzz_target;
use mulkko::decide::{Request, Trust};
use mulkko::dry_run::{DryRun, Pair};
use mulkko::headers::Headers;
use mulkko::ofrep::{Answer, Bearer, Begun, Ofrep};
use mulkko::pass;

static OFREP: LazyLock<Ofrep> = LazyLock::new(|| Ofrep {
    prefix: "/ofrep/v1".into(),
    bearer: None,
    allow_origins: ["https://shop.example.com".into(), "https://*.example.org".into()].into(),
    max_body_bytes: 1 << 16,
});

thread_local! {
    static RUNS: [DryRun; 3] = HOPS.map(|hop| run_on(policy(), hop));
}

fuzz_target!(|input: &[u8]| timed(|| {
    let (pairs, body) = message(input);
    RUNS.with(|runs| {
        for run in runs {
            for bearer in [None, Some(Bearer::new(b"token"))] {
                let Some(one) = answered(run, bearer.as_ref(), &pairs, body) else { return };
                let other = answered(run, bearer.as_ref(), &pairs, body);
                assert_eq!(format!("{other:?}"), format!("{:?}", Some(&one)), "the same each time");
                check(&one, run.trust == Trust::Edge && bearer.is_none());
            }
        }
    });
}));

fn answered(run: &DryRun, bearer: Option<&Bearer>, pairs: &[Pair], body: &[u8]) -> Option<Answer> {
    let pairs = pairs.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let headers = Headers::of_request(pairs, run.trust);
    match OFREP.begin(bearer, run.trust, &headers)? {
        Begun::Answered(answer) => Some(answer),
        Begun::Asked(asked) => {
            let header = headers.came("x-mulkko-pass").unwrap_or_default();
            let request = Request {
                headers: &headers,
                passes: &pass::read(&header, pass_keys(), NOW_MS),
                macs: run.macs.as_ref(),
                node: &run.node,
                proxy: &run.host,
                rolled_back: Some(&run.rolled_back),
            };
            Some(asked.answer(body, Some(&run.policy), request))
        }
    }
}

/// An answer can be sent as it is, and tells nothing that is not public.
fn check(answer: &Answer, is_public_only: bool) {
    for (name, value) in &answer.headers {
        assert!(!value.bytes().any(|b| b.is_ascii_control()), "{name}: {value:?}");
    }
    if answer.body.is_empty() {
        return;
    }
    let body: serde_json::Value = serde_json::from_str(&answer.body).expect("a body is JSON");
    if is_public_only {
        let keys = body["flags"].as_array().into_iter().flatten().map(|flag| &flag["key"]);
        assert!(keys.clone().all(|key| key != SECRET), "{body}");
        assert!(answer.status != 200 || body["key"] != SECRET, "{body}");
    }
}
