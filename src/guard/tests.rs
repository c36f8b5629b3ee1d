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
            window.sums[0] = batch(own_bad, own_bad + other_bad, share(own, other));
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
            for (sums, (own_slow, other_slow)) in window.sums[1..].iter_mut().zip(slow) {
                *sums = batch(own_slow, own_slow + other_slow, share(own, other));
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

fn policy(guard: &str, seed: &str) -> Rc<Policy> {
    let document = format!(
        r#"{{"keys": {{"user": {{"from": [{{"header": "x-user"}}]}}}},
            "rollouts": [{{"name": "shop", "key": "user", "seed": "{seed}", "default": "stable",
              "variants": {{"stable": {{}}, "canary": {{}}}},
              "strategy": {{"canary": {{"variant": "canary", "percent": 50}}}}, "guard": {guard}}}]}}"#
    );
    Rc::new(Policy::parse(document.as_bytes(), &Clusters::default()).unwrap())
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
        let mut guards = Guards::new("default", Rc::clone(policy));
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
        let exposure = Exposure { rollout: 0, variant, bucket, now_ms: self.now_ms };
        self.guards.count(&policy, &exposure, ended, self.now_ms, self.memory);
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
        line.starts_with("shop: canary is rolled back: canary failed 20 of 20, stable 0 of 20; "),
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
        vm.fail(i * 10..i * 10 + 4);
    }
    assert!(vms[3].is_rolled_back(), "four of each would not have been enough for one");
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
    vm.guards.replace(policy(PROMPT, "shop"), &memory);
    assert!(vm.is_rolled_back());
    vm.guards.replace(policy(PROMPT, "again"), &memory);
    assert_eq!(memory.shown.borrow().get("guard_breached"), Some(&0), "nothing speaks against that");
    assert!(!vm.is_rolled_back(), "another seed");
    let changes = vm.tick();
    let line = "shop: the verdict on canary has lapsed: the policy guards it no longer";
    assert_eq!(changes.first().map(ToString::to_string).as_deref(), Some(line));
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
    let changes = vm.fail(0..7);
    let line = changes.first().unwrap().to_string();
    assert!(
        line.starts_with("shop: canary is suspicious, hold it: canary failed 7 of 7, stable 0 of 7; "),
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

#[test]
fn as_many_verdicts_as_are_kept_are_read_again() {
    let mut verdicts = Verdicts::default();
    for i in 0..5_000 {
        let name = |prefix: &str| format!("{prefix:a<58}{i:05}").into_boxed_str();
        verdicts.add(Verdict { rollout: name("r"), seed: u64::MAX, variant: name("v"), revision: u64::MAX });
    }
    assert_eq!(Verdicts::read(&verdicts.bytes()), verdicts);
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
    let watch = size_of::<Watch>() + 400 * 4 + TESTS * 1_024;
    let arms = MAX_COMPARED * watch::ARM_BYTES;
    // Of each variant the gauges and the counters of each comparison, in a table that may be half empty.
    let ids = (MAX_COMPARED + 1) * (TESTS + 1) * 2 * (8 + PLACES * 4);
    assert!(watch + arms + ids <= 8_192, "{} bytes", watch + arms + ids);
}
