//! What it costs to compare the answers to a request and its copy.

use std::hint::black_box;

use mulkko::decide::Shadowed;
use mulkko::headers::Headers;
use mulkko::policy::{Clusters, Policy};
use mulkko::shadow::{Begun, Copied, Shadows};

use super::{median, time};

const POLICY: &str = r#"{"rollouts": [{"name": "r", "variants": {"stable": {}, "dark": {}}, "default": "stable",
    "strategy": {"dark": {"variant": "dark"}},
    "shadow": {"cluster": "c", "percent": 100, "mode": "compare", "maxBodyBytes": 1048576}}]}"#;

/// JSON of about so many bytes, as services answer.
fn json(bytes: usize) -> Vec<u8> {
    let item = |i: usize| {
        format!(
            r#"{{"sku":"sku-{i}","name":"Kimchi of the house, {i} g","price":{i}.5,"tags":["a","b"],"inStock":true}}"#
        )
    };
    let items: Vec<String> = (0..=bytes / item(100).len()).map(item).collect();
    format!(r#"{{"items":[{}],"total":1900}}"#, items.join(",")).into_bytes()
}

/// The time that answers of these sizes take, as JSON and as bytes.
pub fn bench() {
    let policy = Policy::parse(POLICY.as_bytes(), &Clusters::default()).expect("a policy");
    for kind in ["application/json", "text/plain"] {
        for bytes in [1_000, 60_000, 1_000_000] {
            let body = json(bytes);
            let mut shadows = Shadows::new("shop");
            let mut times = Vec::new();
            for _ in 0..31 {
                times.push(time(10, || compare(&mut shadows, &policy, kind, &body)));
            }
            let events = shadows.take_events();
            assert!(events.len() > 310, "each was compared: {events:?}");
            let ns = median(times).as_nanos();
            let each = ns as f64 / (2.0 * body.len() as f64);
            println!("{:>9} bytes of {kind:<16}: compared in {ns:>9} ns, {each:.2} ns a byte", body.len());
        }
    }
}

/// A request, its copy, and both answers.
fn compare(shadows: &mut Shadows, policy: &Policy, kind: &str, body: &[u8]) {
    let (id, rollout) = policy.rollout_named("r").expect("a rollout");
    let shadowed = Shadowed { rollout: id, has_secondary: false };
    let request = Headers::new(vec![(b":method", b"GET"), (b":path", b"/"), (b":authority", b"shop")]);
    let pairs = vec![
        (&b":status"[..], &b"200"[..]),
        (b"content-type", kind.as_bytes()),
        (b"x-envoy-upstream-service-time", b"1"),
    ];
    let answer = Headers::new(pairs);
    let copied = Copied { headers: &request, edits: &[], is_whole: true, now_ms: 0 };
    let Begun::Copying(id, _) = shadows.begin(rollout, shadowed, copied) else { panic!("it is copied") };
    shadows.complete(id, Vec::new());
    let call = shadows.next_call().map(|call| (call.id, call.whose)).expect("a call");
    shadows.sent(call.0, call.1, Ok(1), 0);
    let mut printing = shadows.printing(id, &answer).expect("it is read");
    for part in body.chunks(16_384) {
        let wanted = printing.wanted().min(part.len());
        shadows.read(id, &mut printing, &part[..wanted], part.len());
    }
    shadows.ended(id, Some(printing), 1_000);
    shadows.answered(1, Some(&answer), body.len(), |most| body[..most.min(body.len())].to_vec(), 1_000);
    shadows.read_on(&mut || false);
    black_box(shadows.is_due());
}
