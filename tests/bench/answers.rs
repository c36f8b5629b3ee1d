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
fn json(bytes: usize, total: u32) -> Vec<u8> {
    let item = |i: usize| {
        format!(
            r#"{{"sku":"sku-{i}","name":"Kimchi of the house, {i} g","price":{i}.5,"tags":["a","b"],"inStock":true}}"#
        )
    };
    let items: Vec<String> = (0..=bytes / item(100).len()).map(item).collect();
    format!(r#"{{"items":[{}],"total":{total}}}"#, items.join(",")).into_bytes()
}

/// The time that it takes to compare answers of these sizes, as JSON that is the same or not, and as other bytes.
pub fn bench() {
    let policy = Policy::parse(POLICY.as_bytes(), &Clusters::default()).expect("a policy");
    for (what, kind, total) in [
        ("the same JSON", "application/json", 1_900),
        ("other JSON", "application/json", 1_901),
        ("other bytes", "text/plain", 1_901),
    ] {
        for bytes in [1_000, 60_000, 1_000_000] {
            let (body, other) = (json(bytes, 1_900), json(bytes, total));
            let mut shadows = Shadows::new("shop");
            let mut times = Vec::new();
            for _ in 0..31 {
                times.push(time(10, || compare(&mut shadows, &policy, kind, &body, &other)));
            }
            assert!(shadows.take_events().len() > 310, "each was compared");
            let ns = median(times).as_nanos();
            println!("{what:>15}, {:>7} bytes: compared in {ns:>9} ns", body.len());
        }
    }
}

/// A request, its copy, and both answers.
fn compare(shadows: &mut Shadows, policy: &Policy, kind: &str, body: &[u8], other: &[u8]) {
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
    let begun = shadows.begin(rollout, shadowed, copied);
    let id = if let Begun::Copying(id, _) = begun { Some(id) } else { None }.expect("it is copied");
    shadows.complete(id, Vec::new());
    let call = shadows.next_call().map(|call| (call.id, call.whose)).expect("a call");
    shadows.sent(call.0, call.1, Ok(1), 0);
    let mut printing = shadows.printing(id, &answer).expect("it is read");
    for part in body.chunks(16_384) {
        let wanted = printing.wanted().min(part.len());
        shadows.take(id, &mut printing, &part[..wanted], part.len());
    }
    shadows.ended(id, Some(printing), 1_000);
    shadows.answered(1, Some(&answer), other.len(), |most| other[..most.min(other.len())].to_vec(), 1_000);
    shadows.read_on(|| false);
    assert!(!black_box(shadows.is_due()), "it is compared");
}
