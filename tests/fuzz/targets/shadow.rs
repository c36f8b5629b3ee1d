//! Answers that a shadow compares: the user's, an empty byte, and that of the copy.

#![no_main]

use fuzz::{cut, timed};
use libfuzzer_sys::fuzz_target;
use mulkko::decide::Shadowed;
use mulkko::guard::Memory;
use mulkko::headers::Headers;
use mulkko::policy::{Clusters, Policy};
use mulkko::shadow::json::{Path, Reader, Scalar, Scalars};
use mulkko::shadow::{self, Begun, Copied, Event, Items, Shadows, Whose};
use serde_json::Value;

const POLICY: &str = r#"{"rollouts": [{"name": "r", "variants": {"a": {}, "b": {}}, "default": "a",
    "strategy": {"dark": {"variant": "b"}},
    "shadow": {"cluster": "new", "percent": 100, "mode": "compare",
        "compare": {"ignorePaths": ["/meta", "/*/id"], "showValues": true,
            "secondary": {"cluster": "old", "percent": 100}}}}]}"#;

thread_local! {
    static SHADOWED: Policy = Policy::parse(POLICY.as_bytes(), &Clusters::default())
        .unwrap_or_else(|found| panic!("{found:?}"));
}

fuzz_target!(|input: &[u8]| timed(|| {
    let (one, other) = cut(input, 0);
    for items in [Items::Any, Items::Numbered] {
        for text in [one, other] {
            reads(items, text);
        }
    }
    SHADOWED.with(|policy| {
        let same = compared(policy, one, one);
        assert!(same.is_empty(), "an answer is like itself: {same:?}");
        let differing = compared(policy, one, other);
        let in_turn = compared(policy, other, one);
        assert_eq!(differing.is_empty(), in_turn.is_empty(), "{differing:?} {in_turn:?}");
        if let (Ok(a), Ok(b)) = (serde_json::from_slice::<Value>(one), serde_json::from_slice::<Value>(other))
            && a == b
            && !one.is_empty()
            && [one, other].iter().all(|text| !text.contains(&b'\\') && !has_number(text))
        {
            assert!(differing.is_empty(), "equal JSON: {differing:?}");
        }
    });
}));

/// Numbers are compared as they are written.
fn has_number(text: &[u8]) -> bool {
    text.iter().any(u8::is_ascii_digit)
}

/// What a reader says of a document, all of it.
#[derive(Default, PartialEq, Debug)]
struct Told(Vec<(u64, u64, u32, Vec<u8>, Vec<u8>)>);

impl Scalars for Told {
    fn scalar(&mut self, path: Path<'_>, scalar: Scalar<'_>) {
        self.0.push((path.hash, scalar.hash, scalar.bytes, path.text.to_vec(), scalar.text.to_vec()));
    }
}

/// However a document is cut, the same is read; and what others read as JSON is JSON.
fn reads(items: Items, text: &[u8]) {
    let read = |piece: usize| {
        let (mut reader, mut told) = (Reader::new(items, true), Told::default());
        text.chunks(piece.max(1)).for_each(|part| reader.read(part, &mut told));
        let end = reader.end(&mut told);
        (end, told)
    };
    let whole = read(text.len());
    for piece in [1, 3, 64] {
        assert_eq!(read(piece), whole, "in pieces of {piece}");
    }
    let is_json = serde_json::from_slice::<Value>(text).is_ok();
    assert!(!is_json || whole.0.is_ok(), "{:?} of JSON", whole.0);
    if whole.0.is_ok() {
        let readable =
            str::from_utf8(text).ok().and_then(|it| serde_json::from_str::<serde::de::IgnoredAny>(it).ok());
        assert!(readable.is_some(), "read what is no JSON");
    }
}

/// The events of an exchange in which these answers came, but for their times.
fn compared(policy: &Policy, primary: &[u8], candidate: &[u8]) -> Vec<Event> {
    let (id, rollout) = policy.rollout_named("r").expect("it is there");
    let mut shadows = Shadows::new("shop");
    let asked: Vec<(&[u8], &[u8])> = vec![(b":method", b"GET"), (b":path", b"/")];
    // What has no time of an upstream the proxy has answered itself.
    let answer: Vec<(&[u8], &[u8])> = vec![
        (b":status", b"200"),
        (b"content-type", b"application/json"),
        (b"x-envoy-upstream-service-time", b"1"),
    ];
    let (asked, answer) = (Headers::new(asked), Headers::new(answer));
    let copied = Copied { headers: &asked, edits: &[], is_whole: true, now_ms: 0 };
    let begun = shadows.begin(rollout, Shadowed { rollout: id, has_secondary: true }, copied);
    let Begun::Copying(id, _) = begun else { panic!("{begun:?}") };
    shadows.complete(id, Vec::new());
    let mut number = 0;
    let mut calls = Vec::new();
    while let Some(call) = shadows.next_call() {
        let (id, whose) = (call.id, call.whose);
        number += 1;
        shadows.sent(id, whose, Ok(number), 0);
        calls.push((number, whose));
    }
    let mut printing = shadows.printing(id, &answer).expect("it is under way");
    primary.chunks(100).for_each(|part| shadows.take(id, &mut printing, part, part.len()));
    shadows.ended(id, Some(printing), 1_000);
    for (call, whose) in calls {
        let body = if whose == Whose::Secondary { primary } else { candidate };
        let read = |most: usize| body[..most.min(body.len())].to_vec();
        shadows.answered(call, Some(&answer), body.len(), read, 5_000);
    }
    shadows.read_on(|| false);
    let memory = Memory::default();
    let mut events = shadows.take_events();
    for now_ms in [1_000, 2_000, 3_000] {
        shadows.tick(now_ms, policy, &memory, || false);
        events.extend(shadows.take_events());
    }
    let told = shadow::answer(Some(policy), "r", || shadows.record(rollout, &memory), 4_000);
    let told: Value = serde_json::from_str(&told.body).expect("a report is JSON");
    assert_eq!(told["compared"], 1, "{told}");
    let differs = |event: &Event| matches!(event, Event::Differs(_) | Event::Compared(false));
    events.into_iter().map(|(_, event)| event).filter(differs).collect()
}
