use super::*;
use crate::guard::Memory;
use crate::policy::Clusters;
use crate::shadow::print::SeenKind;

const KB: usize = 1_000;

fn policy(shadow: &str) -> Policy {
    let document = format!(
        r#"{{"rollouts": [{{"name": "r", "variants": {{"stable": {{}}, "dark": {{}}}}, "default": "stable",
            "strategy": {{"dark": {{"variant": "dark"}}}},
            "shadow": {{"cluster": "new", "percent": 100, "mode": "compare", {shadow}}}}}]}}"#
    );
    Policy::parse(document.as_bytes(), &Clusters::default()).unwrap()
}

/// One VM, under one policy.
struct Vm {
    shadows: Shadows,
    policy: Policy,
    /// The number of the last call.
    call: u32,
}

impl Vm {
    fn new(shadow: &str) -> Vm {
        Vm { shadows: Shadows::new("shop"), policy: policy(shadow), call: 0 }
    }

    fn begin(&mut self, pairs: &[(&str, &str)], now_ms: i64) -> Begun {
        let (id, rollout) = self.policy.rollout_named("r").unwrap();
        let asked = [(":method", "POST"), (":path", "/")].iter().chain(pairs);
        let headers = Headers::new(asked.map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect());
        let shadowed = Shadowed { rollout: id, has_secondary: true };
        let is_whole = headers.count("content-length") == 0;
        self.shadows.begin(rollout, shadowed, Copied { headers: &headers, edits: &[], is_whole, now_ms })
    }

    #[track_caller]
    fn copied(&mut self, pairs: &[(&str, &str)]) -> u64 {
        match self.begin(pairs, 0) {
            Begun::Copying(id, _) => id,
            other => panic!("{other:?}"),
        }
    }

    /// Sends all that is due; the numbers of the calls.
    fn send(&mut self) -> Vec<u32> {
        let mut calls = Vec::new();
        while let Some(call) = self.shadows.next_call() {
            let (id, whose) = (call.id, call.whose);
            self.call += 1;
            self.shadows.sent(id, whose, Ok(self.call), 0);
            calls.push(self.call);
        }
        calls
    }

    fn answered(&mut self, call: u32, body: &[u8]) {
        let headers = answer();
        let read = |most: usize| body[..most].to_vec();
        self.shadows.answered(call, Some(&headers), body.len(), read, 5_000);
    }

    fn ended(&mut self, id: u64, body: &[u8]) {
        let mut printing = self.shadows.printing(id, &answer()).unwrap();
        self.shadows.take(id, &mut printing, body, body.len());
        self.shadows.ended(id, Some(printing), 1_000);
    }

    /// A request whose copy's answer is `candidate` where its own is `primary`.
    fn exchange(&mut self, primary: &[u8], candidate: &[u8]) {
        let id = self.copied(&[]);
        self.shadows.complete(id, Vec::new());
        for call in self.send() {
            self.answered(call, candidate);
        }
        self.ended(id, primary);
    }

    fn events(&mut self) -> Vec<Event> {
        self.shadows.take_events().into_iter().map(|(_, event)| event).collect()
    }

    fn tick(&mut self, now_ms: i64, process: &Memory) -> Vec<String> {
        self.shadows.read_on(|| false);
        let changes = self.shadows.tick(now_ms, &self.policy, process, || false);
        changes.into_iter().map(|change| change.to_string()).collect()
    }

    fn record(&self, process: &Memory) -> Option<Record> {
        self.shadows.record(self.policy.rollout_named("r").unwrap().1, process)
    }
}

fn answer() -> Headers<'static> {
    let pairs =
        [(":status", "200"), ("content-type", "application/json"), ("x-envoy-upstream-service-time", "1")];
    Headers::new(pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect())
}

#[test]
fn answers_are_compared_when_all_are_there() {
    let mut vm = Vm::new(r#""compare": {"secondary": {"cluster": "old", "percent": 100}}"#);
    let id = vm.copied(&[]);
    vm.shadows.complete(id, Vec::new());
    let [candidate, secondary] = vm.send()[..] else { panic!("two copies") };
    vm.answered(candidate, br#"{"a":1}"#);
    vm.ended(id, br#"{"a":2}"#);
    assert_eq!(vm.events(), []);
    vm.answered(secondary, br#"{"a":2}"#);
    vm.shadows.read_on(|| false);
    let latency = |whose, ms| Event::Latency(whose, ms);
    assert_eq!(
        vm.events(),
        [
            latency(Whose::Primary, 1),
            latency(Whose::Candidate, 5),
            latency(Whose::Secondary, 5),
            Event::Compared(false),
            Event::Differs(Kind::Json),
        ]
    );
    // Who answers twice, or has not been asked, is not heard.
    vm.answered(secondary, b"{}");
    vm.answered(99, b"{}");
    assert_eq!(vm.events(), []);
    assert!(!vm.shadows.is_due() && vm.shadows.is_busy());
}

#[test]
fn the_secondary_may_fail_and_the_others_not() {
    let mut vm = Vm::new(r#""compare": {"secondary": {"cluster": "old", "percent": 100}}"#);
    let reset = |vm: &mut Vm, call| vm.shadows.answered(call, None, 0, |_| Vec::new(), 0);
    let id = vm.copied(&[]);
    vm.shadows.complete(id, Vec::new());
    let [candidate, secondary] = vm.send()[..] else { panic!("two copies") };
    reset(&mut vm, secondary);
    vm.answered(candidate, b"{}");
    vm.ended(id, b"{}");
    let events = vm.events();
    assert!(events.contains(&Event::Dropped(Cause::Secondary)) && events.contains(&Event::Compared(true)));

    let id = vm.copied(&[]);
    vm.shadows.complete(id, Vec::new());
    let [candidate, secondary] = vm.send()[..] else { panic!("two copies") };
    reset(&mut vm, candidate);
    assert_eq!(vm.events(), [Event::Dropped(Cause::Reset)]);
    vm.answered(secondary, b"{}");

    // The user has left: what is not sent yet is not sent any more.
    let id = vm.copied(&[]);
    vm.shadows.complete(id, b"body".to_vec());
    vm.shadows.ended(id, None, 0);
    assert_eq!((vm.events(), vm.send()), (vec![Event::Dropped(Cause::Primary)], vec![]));
    assert_eq!(vm.shadows.held_bytes, 0);
}

#[test]
fn copies_that_wait_are_bounded_whether_their_bodies_have_come_or_not() {
    let mut vm = Vm::new(r#""maxInFlight": 10000, "maxBodyBytes": 1000000, "methods": ["POST"]"#);
    let begin = |vm: &mut Vm, pairs: &[(&str, &str)]| {
        std::iter::from_fn(|| match vm.begin(pairs, 0) {
            Begun::Copying(id, _) => Some(id),
            _ => None,
        })
        .collect::<Vec<_>>()
    };
    let ids = begin(&mut vm, &[("content-length", "1000000")]);
    assert_eq!((ids.len(), vm.events()), (33, vec![Event::Dropped(Cause::Memory)]));
    for id in ids {
        vm.shadows.complete(id, vec![b'a'; 1_000 * KB]);
    }
    assert_eq!(vm.begin(&[("content-length", "1000000")], 0), Begun::Left);
    assert_eq!(vm.send().len(), 33);
    assert_eq!(vm.shadows.held_bytes, 0);
    // Headers count, too.
    let long = "a".repeat(60 * KB);
    assert!((550..560).contains(&begin(&mut vm, &[("x-long", &long)]).len()));
}

#[test]
fn there_are_no_more_at_once_than_the_policy_says() {
    let mut vm = Vm::new(r#""maxInFlight": 2"#);
    let first = vm.copied(&[]);
    vm.copied(&[]);
    assert_eq!(vm.begin(&[], 0), Begun::Left);
    assert_eq!(vm.events(), [Event::Dropped(Cause::InFlight)]);
    vm.shadows.ended(first, None, 0);
    vm.copied(&[]);
}

fn long(last: u8) -> Vec<u8> {
    format!("[{}{last}]", "1,".repeat(100_000)).into_bytes()
}

#[test]
fn long_answers_that_are_not_the_same_are_read_in_turns() {
    let mut vm = Vm::new(r#""maxBodyBytes": 1000000"#);
    vm.exchange(&long(1), &long(2));
    let mut turns = 0;
    while vm.shadows.is_due() {
        assert!(!vm.events().contains(&Event::Compared(false)));
        vm.shadows.read_on(|| true);
        turns += 1;
    }
    assert_eq!(turns, 2 * long(1).len().div_ceil(PIECE_BYTES));
    assert_eq!(vm.events(), [Event::Compared(false), Event::Differs(Kind::Json)]);
    assert_eq!(vm.shadows.held_bytes, 0);
}

#[test]
fn answers_that_are_the_same_to_the_byte_are_not_read() {
    let mut vm = Vm::new(r#""maxBodyBytes": 1000000"#);
    vm.exchange(&long(1), &long(1));
    assert!(!vm.shadows.is_due());
    assert!(vm.events().contains(&Event::Compared(true)));
    assert_eq!(vm.shadows.held_bytes, 0);
}

#[test]
fn answers_that_wait_for_others_are_bounded() {
    let mut vm = Vm::new(r#""maxBodyBytes": 1000000, "maxInFlight": 1000"#);
    let ids: Vec<u64> = (0..200).map(|_| vm.copied(&[])).collect();
    ids.iter().for_each(|id| vm.shadows.complete(*id, Vec::new()));
    for call in vm.send() {
        vm.answered(call, &long(1));
    }
    let dropped = vm.events();
    assert!(dropped.iter().all(|event| *event == Event::Dropped(Cause::Memory)));
    assert_eq!(dropped.len(), 200 - MAX_HELD_BYTES / long(1).len());
    // The user's answers are not held either, then.
    let last = *ids.last().unwrap();
    let mut printing = vm.shadows.printing(ids[0], &answer()).unwrap();
    vm.shadows.take(ids[0], &mut printing, &long(1), long(1).len());
    assert_eq!((printing.held_bytes(), vm.events()), (0, vec![Event::Dropped(Cause::Memory)]));
    assert!(vm.shadows.printing(last, &answer()).is_none());
    ids.iter().for_each(|id| vm.shadows.ended(*id, None, 0));
    assert_eq!(vm.shadows.held_bytes, 0);
}

#[test]
fn what_takes_too_long_is_given_up() {
    let (mut vm, process) = (Vm::new(r#""timeout": "2s""#), Memory::default());
    let id = vm.copied(&[]);
    vm.shadows.complete(id, Vec::new());
    let [call] = vm.send()[..] else { panic!("a copy") };
    vm.answered(call, b"{}");
    vm.tick(61_000, &process);
    assert_eq!(vm.events(), []);
    vm.tick(62_001, &process);
    assert_eq!(vm.events(), [Event::Dropped(Cause::Primary)]);
    assert!(!vm.shadows.is_busy());
}

#[test]
fn the_process_knows_what_all_of_its_vms_have_compared() {
    let process = Memory::default();
    let mut vms = [Vm::new(r#""timeout": "2s""#), Vm::new(r#""timeout": "2s""#)];
    let mut changes = Vec::new();
    for second in 1..=10 {
        for vm in &mut vms {
            vm.exchange(br#"{"a":1}"#, br#"{"a":2}"#);
            changes.extend(vm.tick(second * 1_000, &process));
        }
    }
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert!(changes[0].starts_with(r#"shadow of r: json "/a" differs: for "#), "{changes:?}");
    assert!(changes[0].ends_with(" to 1, noise not cancelled"), "{changes:?}");
    let record = vms[0].record(&process).unwrap();
    assert_eq!((record.totals.compared, record.fields[0].seen.tally.raw), (20, 20));
    assert_eq!((record.reported(), vms[1].events().pop()), (1, Some(Event::Fields(1))));
    assert_eq!(record.fields[0].seen.example[0].kind, SeenKind::Number);
}

#[test]
fn another_comparison_begins_anew_and_ends_the_one_before_it() {
    let process = Memory::default();
    let (mut old, mut new) = (Vm::new(r#""timeout": "2s""#), Vm::new(r#""timeout": "3s""#));
    old.exchange(b"1", b"2");
    old.tick(1_000, &process);
    let id = match new.begin(&[], 2_000) {
        Begun::Copying(id, _) => id,
        other => panic!("{other:?}"),
    };
    new.shadows.complete(id, Vec::new());
    let [call] = new.send()[..] else { panic!("a copy") };
    new.answered(call, b"1");
    new.ended(id, b"1");
    new.tick(2_000, &process);
    old.exchange(b"1", b"2");
    old.tick(3_000, &process);
    assert!(old.record(&process).is_none());
    let record = new.record(&process).unwrap();
    assert_eq!((record.totals.compared, record.totals.equal), (1, 1));
}

#[test]
fn what_others_have_written_to_the_record_does_not_stop_it() {
    let made_up = Record::new(7, i64::MAX);
    for written in [&b"no record"[..], &made_up.bytes()] {
        let (process, mut vm) = (Memory::default(), Vm::new(r#""timeout": "2s""#));
        crate::guard::Process::write(&process, "mulkko/1/shop/shadow/r", written, u32::MAX);
        vm.exchange(b"1", b"1");
        vm.tick(1_000, &process);
        assert_eq!(vm.record(&process).unwrap().totals.compared, 1);
    }
}

#[test]
fn shadows_that_no_policy_has_any_more_are_forgotten() {
    let (mut vm, process) = (Vm::new(r#""timeout": "2s""#), Memory::default());
    vm.exchange(b"1", b"1");
    vm.events();
    vm.policy = policy(r#""timeout": "3s""#);
    vm.tick(1_000, &process);
    assert!(vm.shadows.watches.is_empty());
    assert_eq!(vm.events(), [Event::Fields(0), Event::Fields(0)]);
}
