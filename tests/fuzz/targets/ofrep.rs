//! Requests for flags: a path, headers and, after an empty line, a body.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mulkko::decide::Trust;
use mulkko::dry_run::DryRun;
use mulkko::ofrep::{Bearer, Begun, Ofrep};
use mulkko_fuzz::{FLAGS, pairs, policy, run};

static RUNS: LazyLock<[DryRun; 2]> =
    LazyLock::new(|| [Trust::Edge, Trust::Mesh].map(|trust| run(policy(FLAGS), trust)));

fuzz_target!(|input: &[u8]| {
    let end = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(input.len());
    let (head, body) = input.split_at(end);
    let body = body.get(2..).unwrap_or_default();
    let mut pairs = pairs(head);
    pairs.retain(|(name, _)| name != b":method");
    pairs.push((b":method".to_vec(), b"POST".to_vec()));
    let ofrep = Ofrep {
        prefix: "/ofrep/v1".into(),
        bearer: None,
        allow_origins: ["https://app.example.com".into()].into(),
        max_body_bytes: 65_536,
    };
    let bearer = Bearer::new(b"a token of the fuzzing");
    for run in &*RUNS {
        run.asked(&pairs, |request| {
            for bearer in [None, Some(&bearer)] {
                if let Some(Begun::Asked(asked)) = ofrep.begin(bearer, run.trust, request.headers) {
                    let answer = asked.answer(body, Some(&run.policy), *request);
                    let json = serde_json::from_str::<serde_json::Value>(&answer.body);
                    assert!(json.is_ok() || answer.body.is_empty(), "{}", answer.body);
                    let mut values = answer.headers.iter().map(|(_, value)| value.bytes());
                    assert!(values.all(|mut value| value.all(|byte| byte >= b' ' && byte != 0x7f)));
                }
            }
        });
    }
});
