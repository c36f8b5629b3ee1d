//! Documents, through to decisions: whoever loads one, and however, decides the same.

#![no_main]

use std::rc::Rc;

use fuzz::{HOPS, NOW_MS, run_on, timed};
use libfuzzer_sys::fuzz_target;
use mulkko::cases::Asked;
use mulkko::decide::Trust;
use mulkko::dry_run::{self, Pair};
use mulkko::effects::Response;
use mulkko::finding::Finding;
use mulkko::lint::{self, Hops};
use mulkko::policy::{Clusters, Loading, Places, Policy, parse_thoroughly};
use mulkko::update::{Outcome, Published, Retired, Rules, Stamp, Update};
use mulkko::wire::Document;

/// Before the schedules of most documents, within them, and after them.
const INSTANTS_MS: [i64; 3] = [0, NOW_MS, 4_102_444_800_000];

type Loaded<P> = Result<P, Vec<Finding>>;

fuzz_target!(|document: &[u8]| timed(|| {
    let all = Policy::parse(document, &Clusters::default());
    let again = Policy::parse(document, &Clusters::default());
    let first = Loading::new(document.to_vec(), Clusters::default()).finish();
    let in_turns = updated(document, None);
    let interrupted = updated(document, Some(document.len() % 64));
    let (policy, others) = match (all, again, first, in_turns, interrupted) {
        (Ok(policy), Ok(a), Ok(b), Ok(c), Ok(d)) => (policy, [a, b, c, d]),
        (Err(found), again, first, in_turns, interrupted) => {
            assert_eq!(Some(&found), again.as_ref().err(), "the same findings each time");
            for other in [first, in_turns, interrupted] {
                assert_eq!(Some(&found[..1]), other.err().as_deref(), "the first finding");
            }
            places(document, &found);
            assert!(
                parse_thoroughly(document, &Clusters::default()).is_err_and(|more| more.len() >= found.len())
            );
            return;
        }
        _ => panic!("taken and refused"),
    };
    lints(document, &policy);
    let expected = decided(policy);
    for other in others {
        assert!(decided(other) == expected, "other decisions");
    }
}));

/// What comes of a document in turns: of one that comes while another is being loaded, which is `before` steps on.
fn updated(document: &[u8], before: Option<usize>) -> Loaded<Policy> {
    let mut update = Update::new(None, Rules::default());
    update.load_fetched(document.to_vec(), Some("e".into()), NOW_MS);
    if let Some(steps) = before {
        for _ in 0..steps {
            if update.step().is_some() {
                break;
            }
        }
        let stamp = Stamp { id: 1, revision: 1 };
        update.load_published(Published { stamp, etag: None, document: document.to_vec() });
    }
    let outcome = loop {
        if let Some(outcome) = update.step() {
            break outcome;
        }
    };
    assert!(!update.is_loading());
    while update.free() {}
    match outcome {
        Outcome::Taken { policy, replaced, document: kept, .. } => {
            assert_eq!(kept, document, "the document is kept as it came");
            // With a published one the policy of the first may have been in force already.
            drop((update, replaced));
            Ok(Rc::into_inner(policy).expect("nobody else holds it"))
        }
        Outcome::Refused { found, .. } => Err(found),
    }
}

/// Findings stand where something is.
fn places(document: &[u8], found: &[Finding]) {
    let mut places = Places::of(document);
    for finding in found {
        let range = places.mark(finding);
        assert!(range.start <= range.end && range.end <= document.len(), "{finding}: {range:?}");
        let _ = places.position(range.start);
        assert!(!finding.to_string().contains('\n'), "{finding:?}");
    }
}

fn lints(document: &[u8], policy: &Policy) {
    let written: Document = serde_json::from_slice(document).expect("what is taken can be read");
    for (trust, vouch) in HOPS {
        for warning in lint::lint(&written, policy, NOW_MS, Hops { trust, vouch }) {
            assert!(!warning.message.contains('\n'), "{warning:?}");
        }
    }
}

/// What a request comes to.
#[derive(Debug, PartialEq)]
struct Sent {
    decisions: String,
    states: Vec<(String, String)>,
    upstream: Vec<Pair>,
    response: Response,
}

/// What each request comes to at each instant at each kind of hop.
fn decided(mut policy: Policy) -> Vec<Sent> {
    let mut all = Vec::new();
    for hop in HOPS {
        let mut run = run_on(policy, hop);
        for now_ms in INSTANTS_MS {
            run.host.now_ms = now_ms;
            let exp = now_ms / 1_000 + 3_600;
            let forced = format!(r#"{{"exp": {exp}, "rollout": "checkout-v2", "variant": "canary"}}"#);
            let token = run.pass_keys.sign(&forced);
            let explain = run.pass_keys.sign(&format!(r#"{{"exp": {exp}, "explain": true}}"#));
            let tokens: Vec<String> = [token, explain].into_iter().flatten().collect();
            for asked in requests() {
                for tokens in [&tokens[1..], &tokens] {
                    let pairs = asked.pairs(tokens);
                    let send = || {
                        run.decided(&pairs, |decisions, effects| Sent {
                            decisions: format!("{decisions:?}"),
                            states: effects.states.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect(),
                            upstream: dry_run::applied(&pairs, &effects.edits),
                            response: effects.response,
                        })
                    };
                    let sent = send();
                    assert_eq!(sent, send(), "another decision");
                    if hop.0 == Trust::Edge {
                        let followed = sent.decisions.contains("reason: Followed");
                        assert!(!followed, "the edge follows nobody");
                    }
                    all.push(sent);
                }
            }
        }
        policy = run.policy;
    }
    let mut retired = Retired::default();
    retired.push(Rc::new(policy));
    while retired.free() {}
    all
}

fn requests() -> [Asked; 3] {
    let asked = |method: &str, path: &str, headers: &[(&str, &str)]| Asked {
        method: method.to_owned(),
        path: path.to_owned(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    [
        asked("GET", "/", &[("host", "shop.example.com"), ("x-request-id", "r1")]),
        asked(
            "POST",
            "/checkout?beta=1&u=u7",
            &[
                ("host", "shop.example.com:8080"),
                ("x-user-id", "user-1"),
                ("cookie", "mulkko_id=m1; uid=u1"),
                ("user-agent", "Mozilla/5.0"),
                ("baggage", "mulkko.checkout-v2=canary,mulkko.next=yes,k=v"),
                ("x-mulkko-checkout-v2", "canary"),
            ],
        ),
        asked(
            "GET",
            "/p",
            &[("host", "a"), ("x-user-id", ""), ("x-staff", "1"), ("x-email", "a@example.com")],
        ),
    ]
}
