use std::cell::RefCell;
use std::collections::HashMap;

use serde::Deserialize;

use super::evidence::{Evidence, Sums};
use super::*;
use crate::policy::Clusters;

fn close(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 5e-7 * expected.abs().max(1.0)
}

/// Requests and errors of the canary, then of the default.
type ErrorWindow = (u64, u64, u64, u64);
/// Requests of the canary and of the default, and of each the slow ones at each quantile.
type LatencyWindow = (u64, u64, [(u64, u64); 2]);

#[derive(Deserialize)]
struct Suite {
    #[serde(rename = "A_kernel")]
    kernel: Vec<Kernel>,
    #[serde(rename = "B_guard")]
    guard: Vec<Windows<ErrorWindow, (f64, f64, String)>>,
    #[serde(rename = "C_bucket")]
    bucket: Vec<(u64, u64, u64)>,
    #[serde(rename = "C_ladder")]
    ladder: Vec<Windows<LatencyWindow, (f64, f64, f64)>>,
    #[serde(rename = "D_fleet")]
    fleet: Fleet,
}

#[derive(Deserialize)]
struct Kernel {
    name: String,
    batches: Batches,
    log_e: Vec<f64>,
    j: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Batches {
    Listed(Vec<(u64, u64, f64)>),
    /// `A5 200 quiet batches (0 of 1 at p0=0.0617284) then 8 batches of 1 of 1`
    Described(String),
}

impl Batches {
    fn list(self) -> Vec<(u64, u64, f64)> {
        match self {
            Batches::Listed(batches) => batches,
            Batches::Described(text) => {
                assert!(text.starts_with("A5 200 quiet batches"), "{text}");
                (0..208).map(|i| (u64::from(i >= 200), 1, 6.25 / 101.25)).collect()
            }
        }
    }
}

#[derive(Deserialize)]
struct Windows<W, S> {
    name: String,
    windows: Vec<W>,
    steps: Vec<S>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fleet {
    proxy1: Vec<(u64, u64, f64)>,
    proxy2: Vec<(u64, u64, f64)>,
    #[serde(rename = "X")]
    events: [u64; 2],
    #[serde(rename = "D1")]
    first: [f64; 5],
    #[serde(rename = "D2")]
    second: [f64; 5],
    #[serde(rename = "log_e_one_report")]
    log_e: f64,
}

fn suite() -> Option<Suite> {
    let folder = std::env::var("MULKKO_SUITES").unwrap_or_else(|_| "../shared/suites".to_owned());
    let text = std::fs::read_to_string(format!("{folder}/statistics/vectors.json"));
    if text.is_err() {
        eprintln!("suite absent, skipped");
    }
    text.ok().map(|text| serde_json::from_str(&text).unwrap())
}

fn batch(own: u64, all: u64, share: f64) -> Sums {
    let mut sums = Sums::default();
    sums.add(own, all, share);
    sums
}

fn share(own: u64, other: u64) -> f64 {
    let own = 1.25 * own as f64;
    own / (own + other as f64)
}

#[test]
fn the_kernel_meets_its_vectors() {
    let Some(suite) = suite() else { return };
    assert!(suite.kernel.len() >= 6);
    for Kernel { name, batches, log_e, j } in suite.kernel {
        let temper = if name.starts_with("A7 tempered 1/4") { 0.25 } else { 1.0 };
        let mut evidence = Evidence::default();
        let found: Vec<f64> = batches
            .list()
            .into_iter()
            .map(|(own, all, share)| {
                evidence.take_tempered(&batch(own, all, share), temper);
                evidence.log_e()
            })
            .collect();
        let last = &found[found.len() - log_e.len()..];
        assert!(last.iter().zip(&log_e).all(|(a, b)| close(*a, *b)), "{name}: {last:?}, expected {log_e:?}");
        assert_eq!(evidence.batches, j, "{name}");
    }
}

#[test]
fn errors_are_judged_as_the_vectors_say() {
    let Some(suite) = suite() else { return };
    for Windows { name, windows, steps } in suite.guard {
        let guard = guard(r#"{"alpha": 0.01, "errors": {}}"#);
        assert!(close(guard.breach, 100_f64.ln()));
        let mut case = Case::default();
        for ((own, own_bad, other, other_bad), (relative, floor, decision)) in windows.into_iter().zip(steps)
        {
            let mut window = Batch { floor: batch(own_bad, own, 0.001), ..Batch::default() };
            window.tests[0].sums = batch(own_bad, own_bad + other_bad, share(own, other));
            window.own[0] = Tally { requests: own, bad: own_bad };
            case.take(&window, &guard);
            let (tests, found) = case.log_e();
            assert!(close(tests[0], relative) && close(found, floor), "{name}: {tests:?} {found}");
            assert_eq!(case.state == State::Breached, decision == "ROLLBACK", "{name}");
        }
    }
}

#[test]
fn latency_is_judged_as_the_vectors_say() {
    let Some(suite) = suite() else { return };
    for (us, _, edge) in suite.bucket {
        let mut histogram = Histogram::default();
        histogram.record(us);
        assert_eq!(histogram.quantile(500_000), Some(edge));
    }
    for Windows { name, windows, steps } in suite.ladder {
        let guard = guard(r#"{"latency": {}}"#);
        let mut case = Case::default();
        for ((own, other, slow), (p90, p99, mean)) in windows.into_iter().zip(steps) {
            let mut window = Batch::default();
            for (test, (own_slow, other_slow)) in window.tests[1..].iter_mut().zip(slow) {
                test.sums = batch(own_slow, own_slow + other_slow, share(own, other));
            }
            case.take(&window, &guard);
            let (tests, _) = case.log_e();
            let found = (tests[1], tests[2], case.latency(&guard).unwrap());
            let is_met = close(found.0, p90) && close(found.1, p99) && close(found.2, mean);
            assert!(is_met, "{name}: {found:?}, expected {p90} {p99} {mean}");
        }
    }
}

#[test]
fn a_fleet_is_judged_by_sums() {
    let Some(Suite { fleet, .. }) = suite() else { return };
    let summed = |batches: Vec<(u64, u64, f64)>| {
        let mut sums = Sums::default();
        batches.into_iter().for_each(|(own, all, share)| sums.add(own, all, share));
        sums
    };
    let (mut first, second) = (summed(fleet.proxy1), summed(fleet.proxy2));
    assert_eq!([first.events, second.events], fleet.events);
    for (sums, costs) in [(&first, fleet.first), (&second, fleet.second)] {
        assert!(sums.costs.iter().zip(costs).all(|(a, b)| close(*a, b)), "{sums:?}");
    }
    first.merge(&second);
    let mut evidence = Evidence::default();
    evidence.take(&first);
    assert!(close(evidence.log_e(), fleet.log_e));
}

/// What the VMs of a process share, and what they have shown.
#[derive(Default)]
struct Shown {
    memory: super::Memory,
    shown: RefCell<HashMap<String, u64>>,
}

impl Process for Shown {
    fn read(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.memory.read(key)
    }

    fn write(&self, key: &str, value: &[u8], version: u32) -> bool {
        self.memory.write(key, value, version)
    }

    fn add(&self, series: &Series<'_>, by: u64) {
        *self.shown.borrow_mut().entry(format!("{series:?}")).or_default() += by;
    }

    fn show(&self, series: &Series<'_>, value: u64) {
        self.shown.borrow_mut().insert(series.metric.to_owned(), value);
    }

    fn show_idle(&self, rollout: &str, is_idle: bool) {
        self.shown.borrow_mut().insert(format!("idle {rollout}"), u64::from(is_idle));
    }
}

fn guard(json: &str) -> Guard {
    (**policy(json, "x").rollouts[0].guard.as_ref().unwrap()).clone()
}

fn empty() -> Policy {
    Policy::parse(b"{}", &Clusters::default()).unwrap()
}

fn policy(guard: &str, seed: &str) -> Rc<Policy> {
    Rc::new(Policy::parse(document(guard, seed).as_bytes(), &Clusters::default()).unwrap())
}

fn document(guard: &str, seed: &str) -> String {
    format!(
        r#"{{"keys": {{"user": {{"from": [{{"header": "x-user"}}]}}}},
            "rollouts": [{{"name": "shop", "key": "user", "seed": "{seed}", "default": "stable",
              "variants": {{"stable": {{}}, "canary": {{}}}},
              "strategy": {{"canary": {{"variant": "canary", "percent": 50}}}}, "guard": {guard}}}]}}"#
    )
}

const STABLE: VariantId = VariantId(0);
const CANARY: VariantId = VariantId(1);

/// A VM with a clock.
struct Vm<'m> {
    guards: Guards,
    memory: &'m Shown,
    now_ms: i64,
}

impl<'m> Vm<'m> {
    fn new(policy: &Rc<Policy>, memory: &'m Shown) -> Vm<'m> {
        Vm::of(policy, memory, Author::inline(0))
    }

    fn of(policy: &Rc<Policy>, memory: &'m Shown, author: Author) -> Vm<'m> {
        let mut guards = Guards::new("default", author, Rc::clone(policy));
        guards.find_verdicts(memory);
        Vm { guards, memory, now_ms: 1_800_000_000_000 }
    }

    fn request(&mut self, variant: VariantId, key: u32, status: u16) {
        self.ended(variant, key, Ended { status: Some(status), headers_us: Some(1_000), ..Ended::default() });
    }

    fn slow_request(&mut self, variant: VariantId, key: u32, us: u64) {
        self.ended(variant, key, Ended { status: Some(200), headers_us: Some(us), ..Ended::default() });
    }

    fn ended(&mut self, variant: VariantId, key: u32, ended: Ended) {
        let policy = Rc::clone(self.guards.policy());
        let bucket = Some(Bucket(key.wrapping_mul(2_654_435_761)));
        let rollout = &policy.rollouts[0];
        let Some(guard) = &rollout.guard else { return };
        let exposure = Exposure::new(rollout, guard, variant, bucket, || self.now_ms);
        self.guards.count(&exposure, ended, self.now_ms, self.memory);
    }

    fn tick(&mut self) -> Vec<Change> {
        self.now_ms += 1_000;
        self.guards.tick(self.now_ms, self.memory, || false)
    }

    fn is_rolled_back(&self) -> bool {
        self.guards.rolled_back().has(0, CANARY)
    }

    /// So many failing keys of the canary, and as many healthy ones of the default.
    fn fail(&mut self, keys: std::ops::Range<u32>) -> Vec<Change> {
        for key in keys {
            self.request(CANARY, key, 503);
            self.request(STABLE, key + 1_000_000, 200);
        }
        self.tick()
    }
}

const PROMPT: &str = r#"{"warmup": "0s", "errors": {}}"#;

#[test]
fn a_failing_canary_is_rolled_back_on_all_vms() {
    let (memory, policy) = (Shown::default(), policy(PROMPT, "shop"));
    let (mut a, mut b) = (Vm::new(&policy, &memory), Vm::new(&policy, &memory));
    let changes = a.fail(0..20);
    assert!(a.is_rolled_back() && !b.is_rolled_back());
    let line = changes.first().unwrap().to_string();
    assert!(
        line.starts_with("shop: canary is rolled back: canary failed for 20 keys in 20 requests, stable 0 keys in 20 requests; "),
        "{line}"
    );
    assert_eq!(memory.shown.borrow().get("guard_rolled_back"), Some(&1));
    assert!(b.tick().is_empty() && b.is_rolled_back(), "found, and told once");
    assert!(Vm::new(&policy, &memory).is_rolled_back(), "a new VM finds it before its first request");
}

#[test]
fn evidence_of_all_vms_is_one() {
    let (memory, policy) = (Shown::default(), policy(PROMPT, "shop"));
    let mut vms: Vec<_> = (0..4).map(|_| Vm::new(&policy, &memory)).collect();
    for (i, vm) in (0..).zip(&mut vms) {
        vm.fail(i * 10..i * 10 + 5);
    }
    assert!(vms[3].is_rolled_back(), "five of each would not have been enough for one");
    let mut alone = Vm::new(&policy, &Shown::default()).guards;
    assert!(alone.tick(0, &Shown::default(), || false).is_empty());
}

#[test]
fn a_key_that_fails_again_and_again_fails_once() {
    let (memory, policy) = (Shown::default(), policy(PROMPT, "shop"));
    let (mut a, mut b) = (Vm::new(&policy, &memory), Vm::new(&policy, &memory));
    for _ in 0..100 {
        for vm in [&mut a, &mut b] {
            for _ in 0..10 {
                vm.request(CANARY, 7, 503);
                vm.request(STABLE, 8, 200);
            }
            assert!(vm.tick().is_empty());
        }
    }
    let record = a.guards.record(&policy.rollouts[0], &memory);
    assert_eq!(record.case("canary").unwrap().own[0], Tally { requests: 2_000, bad: 1 });
}

#[test]
fn a_verdict_belongs_to_the_seed_and_outlives_a_percentage() {
    let memory = Shown::default();
    let mut vm = Vm::new(&policy(PROMPT, "shop"), &memory);
    vm.fail(0..20);
    vm.guards.replace(policy(PROMPT, "shop"));
    assert!(vm.is_rolled_back());
    vm.guards.replace(policy(PROMPT, "again"));
    assert!(!vm.is_rolled_back(), "another seed");
    let changes = vm.tick();
    let line = "shop: the verdict on canary has lapsed: the policy guards it no longer";
    assert_eq!(changes.first().map(ToString::to_string).as_deref(), Some(line));
    assert_eq!(memory.shown.borrow().get("guard_breached"), Some(&0), "nothing speaks against that");
    assert!(vm.tick().is_empty());
}

#[test]
fn a_verdict_lapses_with_the_guard_and_starts_afresh_with_the_next() {
    let memory = Shown::default();
    let guarded = policy(PROMPT, "shop");
    Vm::new(&guarded, &memory).fail(0..20);
    let unguarded = Rc::new(Policy::parse(br#"{"revision": 0}"#, &Clusters::default()).unwrap());
    let mut vm = Vm::new(&unguarded, &memory);
    vm.tick();
    let mut vm = Vm::new(&guarded, &memory);
    assert!(!vm.is_rolled_back());
    assert_eq!(vm.guards.record(&guarded.rollouts[0], &memory).case("canary"), None);
    vm.fail(100..101);
    assert!(!vm.is_rolled_back(), "old evidence does not count");
    vm.fail(0..20);
    assert!(vm.is_rolled_back(), "keys that failed then count again");
}

#[test]
fn of_several_variants_the_bad_one_alone_is_rolled_back() {
    let document = r#"{"keys": {"user": {"from": [{"header": "x-user"}]}}, "rollouts": [{"name": "trio", "key": "user",
        "default": "a", "variants": {"a": {}, "b": {}, "c": {}}, "guard": {"warmup": "0s", "alpha": 0.01},
        "strategy": {"ab": {"split": [{"variant": "a", "percent": 40}, {"variant": "b", "percent": 30},
                                      {"variant": "c", "percent": 30}]}}}]}"#;
    let policy = Rc::new(Policy::parse(document.as_bytes(), &Clusters::default()).unwrap());
    let guard = policy.rollouts[0].guard.as_ref().unwrap();
    // Two variants, each by its errors and its latency.
    assert!(close(guard.breach, 400_f64.ln()));
    let memory = Shown::default();
    let mut vm = Vm::new(&policy, &memory);
    for second in 0..20 {
        for key in second * 30..second * 30 + 10 {
            vm.request(VariantId(0), key, 200);
            vm.request(VariantId(1), key + 10_000, 200);
            vm.request(VariantId(2), key + 20_000, if key % 3 == 0 { 503 } else { 200 });
        }
        vm.tick();
    }
    let rolled_back: Vec<_> = vm.guards.rolled_back().iter().collect();
    assert_eq!(rolled_back, [(0, VariantId(2))]);
    assert_eq!(vm.guards.rolled_back().header(&policy), "trio/c");
    let shown = memory.shown.borrow();
    let default = shown.iter().filter(|(series, _)| {
        let is_default = series.contains("variant: \"a\"") && series.contains("test: Some(Errors)");
        is_default && series.contains("metric: \"guard_requests\"")
    });
    assert_eq!(
        default.map(|(_, value)| *value).collect::<Vec<_>>(),
        [200],
        "once, not for each that it is compared with"
    );
}

#[test]
fn a_clock_that_jumps_neither_stops_a_guard_nor_makes_it_judge() {
    let (memory, policy) = (Shown::default(), policy(PROMPT, "shop"));
    let mut vm = Vm::new(&policy, &memory);
    for (round, jump_ms) in (0..).zip([-86_400_000, 86_400_000, i64::MIN / 2, i64::MAX / 2, 0]) {
        vm.request(STABLE, round, 200);
        vm.request(CANARY, round + 100, 200);
        vm.now_ms = vm.now_ms.saturating_add(jump_ms);
        vm.tick();
        assert!(!vm.is_rolled_back());
    }
    vm.now_ms = 1_800_000_000_000;
    vm.tick();
    vm.fail(1_000..1_030);
    assert!(vm.is_rolled_back());
}

#[test]
fn a_suspicion_is_told_with_the_figures_that_it_rests_on() {
    let (memory, policy) = (Shown::default(), policy(PROMPT, "shop"));
    let mut vm = Vm::new(&policy, &memory);
    let changes = vm.fail(0..8);
    let line = changes.first().unwrap().to_string();
    assert!(
        line.starts_with("shop: canary is suspicious, hold it: canary failed for 8 keys in 8 requests, stable 0 keys in 8 requests; "),
        "{line}"
    );
    assert!(!line.contains(" once in 1 "), "{line}");
}

#[test]
fn who_reports_does_not_roll_back() {
    let memory = Shown::default();
    let reporting = policy(r#"{"warmup": "0s", "errors": {}, "onBreach": "report"}"#, "shop");
    let mut vm = Vm::new(&reporting, &memory);
    let changes = vm.fail(0..20);
    assert!(changes.first().unwrap().to_string().starts_with("shop: canary should be rolled back: "));
    assert!(!vm.is_rolled_back());
}

#[test]
fn nothing_counts_while_a_variant_warms_up() {
    let (memory, policy) = (Shown::default(), policy(r#"{"errors": {}}"#, "shop"));
    let mut vm = Vm::new(&policy, &memory);
    for second in 0..10 {
        vm.fail(second * 10..second * 10 + 10);
        assert!(!vm.is_rolled_back(), "{second}");
    }
    vm.fail(200..230);
    assert!(vm.is_rolled_back());
}

#[test]
fn keys_that_fail_in_the_warm_up_count_for_neither_side() {
    let (memory, policy) = (Shown::default(), policy(r#"{"errors": {}}"#, "shop"));
    let mut vm = Vm::new(&policy, &memory);
    for _ in 0..20 {
        // The same keys of both variants fail as long as anybody looks.
        for key in 0..20 {
            vm.request(CANARY, key, 503);
            vm.request(STABLE, key + 1_000_000, 503);
        }
        vm.tick();
    }
    let record = vm.guards.record(&policy.rollouts[0], &memory);
    let case = record.case("canary").unwrap();
    assert!(case.own[0].requests > 100);
    assert_eq!((case.own[0].bad, case.default[0].bad), (0, 0));
    assert!(!vm.is_rolled_back());
}

#[test]
fn a_slow_canary_is_rolled_back_by_a_guard_that_compares_nothing_else() {
    let (memory, policy) = (Shown::default(), policy(r#"{"warmup": "0s", "latency": {}}"#, "shop"));
    let mut vm = Vm::new(&policy, &memory);
    for second in 0..20 {
        for i in 0..200 {
            let key = second * 200 + i;
            let (variant, us) = if i % 2 == 0 { (CANARY, 90_000) } else { (STABLE, 10_000) };
            vm.slow_request(variant, key, us);
        }
        vm.tick();
    }
    assert!(vm.is_rolled_back());
}

#[test]
fn who_is_rolled_back_is_as_unlikely_as_alpha_says() {
    let (memory, policy) = (Shown::default(), policy(r#"{"warmup": "0s", "latency": {}}"#, "shop"));
    let mut vm = Vm::new(&policy, &memory);
    for key in 0..4_000 {
        let is_slow = key > 2_000 && key % 4 == 0;
        vm.slow_request(CANARY, 2 * key, if is_slow { 90_000 } else { 10_000 + u64::from(key % 100) });
        vm.slow_request(STABLE, 2 * key + 1, 10_000 + u64::from(key % 100));
        vm.tick();
        if vm.is_rolled_back() {
            break;
        }
    }
    let p = memory.shown.borrow().get("guard_p_millionths").copied();
    assert!(vm.is_rolled_back() && p.is_some_and(|millionths| (1..=1_000).contains(&millionths)), "{p:?}");
}

#[test]
fn the_request_that_ends_the_warm_up_does_not_count() {
    let (memory, policy) = (Shown::default(), policy(r#"{"errors": {}}"#, "shop"));
    let mut vm = Vm::new(&policy, &memory);
    for key in 0..19 {
        vm.request(CANARY, key, 200);
    }
    vm.now_ms += 10_000;
    vm.request(CANARY, 19, 503);
    vm.tick();
    assert_eq!(vm.guards.record(&policy.rollouts[0], &memory).case("canary"), None);
    vm.request(CANARY, 20, 503);
    vm.tick();
    let record = vm.guards.record(&policy.rollouts[0], &memory);
    assert_eq!(record.case("canary").unwrap().own[0], Tally { requests: 1, bad: 1 });
}

#[test]
fn evidence_for_other_terms_does_not_count() {
    let memory = Shown::default();
    let strict = policy(r#"{"warmup": "0s", "errors": {}, "onBreach": "report"}"#, "shop");
    Vm::new(&strict, &memory).fail(0..20);
    let same = policy(r#"{"warmup": "0s", "errors": {}, "window": "500ms"}"#, "shop");
    let mut vm = Vm::new(&same, &memory);
    vm.fail(200..201);
    assert!(vm.is_rolled_back(), "what was reported is acted on now");
    let memory = Shown::default();
    Vm::new(&strict, &memory).fail(0..20);
    let lenient = policy(r#"{"warmup": "0s", "errors": {"floor": 0.5}, "margin": 50}"#, "shop");
    let mut vm = Vm::new(&lenient, &memory);
    vm.fail(100..101);
    assert!(!vm.is_rolled_back());
}

#[test]
fn verdicts_that_no_policy_can_be_about_are_not_told() {
    let (memory, policy) = (Shown::default(), policy(PROMPT, "shop"));
    let forged = r#"[{"rollout": "x\n[critical]", "seed": 0, "variant": "canary", "revision": 0}]"#;
    memory.write("mulkko/1/default/verdicts", forged.as_bytes(), 0);
    assert!(Vm::new(&policy, &memory).tick().is_empty());
}

fn author(source: u64, since_ms: i64) -> Author {
    Author { source, since_ms }
}

#[test]
fn only_who_took_over_lets_a_verdict_lapse() {
    let (guarded, unguarded) = (policy(PROMPT, "shop"), Rc::new(empty()));
    for (of, is_own) in [
        // A listener that is draining, one that is called the same, and a policy that has not come there yet.
        (author(7, 50), false),
        (author(8, 200), false),
        (author(0, 200), false),
        (author(7, 100), true),
        (author(7, 200), true),
    ] {
        let memory = Shown::default();
        let mut vm = Vm::of(&guarded, &memory, author(7, 100));
        vm.fail(0..20);
        let changes = Vm::of(&unguarded, &memory, of).tick();
        vm.tick();
        assert_eq!((changes.len(), vm.is_rolled_back()), (usize::from(is_own), !is_own), "{of:?}");
    }
}

#[test]
fn a_verdict_goes_over_to_the_next_configuration() {
    let (guarded, unguarded) = (policy(PROMPT, "shop"), Rc::new(empty()));
    let memory = Shown::default();
    Vm::of(&guarded, &memory, author(7, 100)).fail(0..20);
    let mut next = Vm::of(&guarded, &memory, author(8, 200));
    assert!(next.tick().is_empty() && next.is_rolled_back());
    assert!(Vm::of(&unguarded, &memory, author(7, 100)).tick().is_empty(), "it is its own no more");
    next.guards.replace(unguarded);
    assert_eq!(next.tick().len(), 1);
    assert!(!Vm::of(&guarded, &memory, author(7, 100)).is_rolled_back());
}

#[test]
fn an_older_policy_lets_no_verdict_of_a_newer_one_lapse() {
    let revision = |revision: u64, guard: &str| {
        let rollout = document(guard, "shop");
        let document = format!(r#"{{"revision": {revision}, {}"#, &rollout[1..]);
        Rc::new(Policy::parse(document.as_bytes(), &Clusters::default()).unwrap())
    };
    let memory = Shown::default();
    Vm::of(&revision(2, PROMPT), &memory, author(7, 100)).fail(0..20);
    let reports = r#"{"errors": {}, "onBreach": "report"}"#;
    for (of, lapsed) in [(1, 0), (2, 1)] {
        let mut vm = Vm::of(&revision(of, reports), &memory, author(7, 100));
        assert_eq!(vm.tick().len(), lapsed, "{of}");
    }
}

#[test]
fn damaged_verdicts_are_put_right_by_who_knows_them() {
    let (memory, policy) = (Shown::default(), policy(PROMPT, "shop"));
    let mut vm = Vm::new(&policy, &memory);
    vm.fail(0..20);
    let key = "mulkko/1/default/verdicts";
    for damaged in [&b"{"[..], b"[1]", &[b' '; (1 << 20) + 1]] {
        let version = memory.read(key).unwrap().1;
        assert!(memory.write(key, damaged, version));
        assert!(!Vm::new(&policy, &memory).is_rolled_back());
        assert!(vm.tick().is_empty() && vm.is_rolled_back());
        assert!(Vm::new(&policy, &memory).is_rolled_back());
    }
}

#[test]
fn verdicts_lapse_a_few_at_a_time() {
    let mut verdicts = Verdicts::default();
    let policy = empty();
    for i in 0..200 {
        let (rollout, variant) = (format!("r-{i}").into(), "canary".into());
        verdicts.add(Verdict { rollout, seed: 0, variant, revision: 0, source: 0, since_ms: 0 });
    }
    let memory = Shown::default();
    memory.write("mulkko/1/default/verdicts", &verdicts.bytes(), 0);
    let mut vm = Vm::new(&Rc::new(policy), &memory);
    let lapsed: Vec<_> = (0..5).map(|_| vm.tick().len()).collect();
    assert_eq!(lapsed, [64, 64, 64, 8, 0]);
}

#[test]
fn what_is_not_guarded_any_more_leaves_nothing_behind() {
    let memory = Shown::default();
    let old = policy(PROMPT, "shop");
    let mut vm = Vm::new(&old, &memory);
    vm.fail(0..8);
    let place = Shared { place: "mulkko/1/default/", process: &memory };
    let keys =
        [place.record_key("shop", old.rollouts[0].seed), place.firsts_key("shop", old.rollouts[0].seed, 0)];
    let is_empty = |key: &String| memory.read(key).unwrap().0.is_empty();
    assert_eq!(memory.shown.borrow().get("guard_hold"), Some(&1));
    vm.guards.replace(policy(r#"{"warmup": "0s", "errors": {}, "window": "2s"}"#, "shop"));
    vm.tick();
    assert!(!keys.iter().any(is_empty), "evidence is kept under another window");
    assert_eq!(memory.shown.borrow().get("guard_hold"), Some(&1));
    vm.guards.replace(policy(PROMPT, "again"));
    vm.tick();
    assert!(keys.iter().all(is_empty), "a seed that is not used any more");
    assert_eq!(memory.shown.borrow().get("guard_hold"), Some(&0));
    vm.fail(0..20);
    vm.guards.replace(Rc::new(empty()));
    vm.tick();
    assert_eq!(memory.shown.borrow().get("idle shop"), Some(&0));
}

#[test]
fn a_request_is_counted_under_the_policy_that_has_come_meanwhile() {
    let (memory, old) = (Shown::default(), policy(PROMPT, "shop"));
    let rollout = &old.rollouts[0];
    let guard = rollout.guard.as_ref().unwrap();
    let failed = Ended { status: Some(503), ..Ended::default() };
    let counted = |next: Rc<Policy>| {
        let mut vm = Vm::new(&old, &memory);
        vm.guards.replace(next);
        let exposure = Exposure::new(rollout, guard, CANARY, Some(Bucket(7)), || vm.now_ms);
        vm.guards.count(&exposure, failed, vm.now_ms, &memory);
        vm.guards.watches.len()
    };
    let moved = document(PROMPT, "shop").replace(
        r#""rollouts": ["#,
        r#""rollouts": [{"name": "before", "variants":
        {"a": {}, "b": {}}, "default": "a", "strategy": {"dark": {"variant": "b"}}},"#,
    );
    assert_eq!(counted(Rc::new(Policy::parse(moved.as_bytes(), &Clusters::default()).unwrap())), 1);
    assert_eq!(counted(policy(PROMPT, "another")), 0);
    assert_eq!(counted(Rc::new(empty())), 0);
}

#[test]
fn a_guard_that_has_seen_all_of_few_users_fail_sees_them_again() {
    let (memory, policy) = (Shown::default(), policy(PROMPT, "shop"));
    let mut vm = Vm::new(&policy, &memory);
    let minute = |vm: &mut Vm<'_>, is_bad: bool| {
        for second in 0..60 {
            for key in 0..50 {
                // One request in a hundred fails, whoever is served.
                let fails = (second * 50 + key) % 97 == 0;
                vm.request(STABLE, key + 1_000_000, if fails { 503 } else { 200 });
                vm.request(CANARY, key, if is_bad || fails { 503 } else { 200 });
            }
            vm.tick();
        }
    };
    (0..60).for_each(|_| minute(&mut vm, false));
    let record = vm.guards.record(&policy.rollouts[0], &memory);
    assert!(record.case("canary").unwrap().own[0].bad > 100, "50 users fail in more than one epoch");
    assert!(!vm.is_rolled_back());
    (0..12).for_each(|_| minute(&mut vm, true));
    assert!(vm.is_rolled_back());
}

#[test]
fn as_many_verdicts_as_are_kept_are_read_again() {
    let mut verdicts = Verdicts::default();
    for i in 0..5_000 {
        let name = |prefix: &str| format!("{prefix:a<58}{i:05}").into_boxed_str();
        verdicts.add(Verdict {
            rollout: name("r"),
            seed: u64::MAX,
            variant: name("v"),
            revision: u64::MAX,
            source: u64::MAX,
            since_ms: i64::MIN,
        });
    }
    assert_eq!(Verdicts::read(&verdicts.bytes()), Some(verdicts.clone()));
    assert_ne!(verdicts, Verdicts::default());
}

#[test]
fn a_policy_that_has_just_come_lets_nothing_lapse() {
    let memory = Shown::default();
    let guarded = policy(PROMPT, "shop");
    Vm::new(&guarded, &memory).fail(0..20);
    let unguarded = Rc::new(Policy::parse(b"{}", &Clusters::default()).unwrap());
    let mut tried = Vm::new(&unguarded, &memory);
    assert!(Vm::new(&guarded, &memory).is_rolled_back(), "a configuration may be refused yet");
    tried.tick();
    assert!(!Vm::new(&guarded, &memory).is_rolled_back());
}

#[test]
fn what_others_write_to_shared_memory_does_no_harm() {
    let policy = policy(PROMPT, "shop");
    let rubbish: [&[u8]; 8] =
        [b"", b"\0", b"null", b"[]", &[0xff; 8], &[0xff; 4_096], b"[{\"rollout\":\"shop\"}]", &[0; 1_033]];
    for bytes in rubbish {
        let memory = Shown::default();
        let seed = policy.rollouts[0].seed.0;
        for key in [
            "verdicts",
            &format!("guard/shop/{seed:016x}/evidence"),
            &format!("guard/shop/{seed:016x}/keys-0"),
        ] {
            memory.write(&format!("mulkko/1/default/{key}"), bytes, 0);
        }
        let mut vm = Vm::new(&policy, &memory);
        assert!(!vm.is_rolled_back());
        vm.fail(0..20);
        assert!(vm.is_rolled_back(), "{bytes:?}");
    }
}

#[test]
fn a_record_reads_back_and_nothing_in_it_is_no_number() {
    let (memory, policy) = (Shown::default(), policy(PROMPT, "shop"));
    let mut vm = Vm::new(&policy, &memory);
    vm.fail(0..5);
    let rollout = &policy.rollouts[0];
    let key = Shared { place: "mulkko/1/default/", process: &memory }.record_key("shop", rollout.seed);
    let bytes = memory.read(&key).unwrap().0;
    let record = Record::read(rollout.seed, &bytes);
    assert_eq!(record.bytes(rollout.seed), bytes);
    for at in (8..bytes.len()).step_by(8) {
        for word in [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN] {
            let mut damaged = bytes.clone();
            damaged[at..at + 8].copy_from_slice(&word.to_le_bytes());
            let version = memory.read(&key).unwrap().1;
            assert!(memory.write(&key, &damaged, version));
            vm.fail(0..3);
        }
    }
}

#[test]
fn what_a_vm_keeps_for_a_guard_is_small() {
    // The heap of a watch over as many variants as there may be, and its series' ids.
    let watch = size_of::<Watch>() + 384 * 4 + TESTS * 1_024;
    let arms = MAX_COMPARED * watch::ARM_BYTES;
    // Of each variant the gauges and the counters of each comparison, in a table that may be half empty.
    let ids = (MAX_COMPARED + 1) * (TESTS + 1) * 2 * (8 + PLACES * 4);
    assert!(watch + arms + ids <= 8_192, "{} bytes", watch + arms + ids);
}
