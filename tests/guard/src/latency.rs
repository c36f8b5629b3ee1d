//! Canaries that are slower, request by request through the engine's guard.

use mulkko::bucket::Bucket;
use mulkko::guard::{Guard, State, Tally};
use rand::Rng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, LogNormal};

use crate::errors::HOUR_S;
use crate::fleet::{CANARY, Fleet, Request, STABLE};
use crate::policies::{START_MS, Terms, policy, share};
use crate::rules::{Checks, is_breach};
use crate::runs::runs;
use crate::tables::{Report, Sample, Share};

const REQUESTS_PER_SECOND: i64 = 100;
const WEIGHT: f64 = 0.05;
/// The page's latencies: lognormal with this median, in microseconds, and this deviation.
const MEDIAN_US: f64 = 50_000.0;
const DEVIATION: f64 = 0.6;
/// For so long only the default has requests, where thresholds are to be known before the canary's first.
const BEFORE_S: i64 = 120;

/// What is slow.
#[derive(Clone, Copy)]
pub struct World {
    name: &'static str,
    /// How many times longer the canary takes.
    pub times: f64,
    /// This part of the canary's requests takes a second longer.
    stuck: f64,
    /// How many times longer everything takes in a second.
    shared: fn(i64) -> f64,
    /// The page's: percent of 200 runs, or median requests; then Flagger's.
    page: (Page, &'static str),
}

#[derive(Clone, Copy)]
enum Page {
    Percent(f64),
    Requests(&'static str),
}

const NULL: World =
    World { name: "no slower", times: 1.0, stuck: 0.0, shared: |_| 1.0, page: (Page::Percent(0.5), "0 %") };

const WORLDS: [World; 9] = [
    NULL,
    World {
        name: "no slower; all take 3 times as long for 20 s every 5 min",
        shared: |second| if second.rem_euclid(300) < 20 { 3.0 } else { 1.0 },
        page: (Page::Percent(0.5), "82 %"),
        ..NULL
    },
    World {
        name: "no slower; all take 1 to 2 times as long, in turns of 10 min",
        shared: |second| 1.5 - 0.5 * (std::f64::consts::TAU * second as f64 / 600.0).cos(),
        page: (Page::Percent(0.5), "0.5 %"),
        ..NULL
    },
    World { name: "× 1.1, inside of the margin", times: 1.1, page: (Page::Percent(32.0), "0 %"), ..NULL },
    World { name: "× 1.25", times: 1.25, page: (Page::Requests("714"), "never"), ..NULL },
    World { name: "× 1.5", times: 1.5, page: (Page::Requests("118"), "never"), ..NULL },
    World { name: "× 2", times: 2.0, page: (Page::Requests("32"), "never"), ..NULL },
    World { name: "× 3", times: 3.0, page: (Page::Requests("14"), "never"), ..NULL },
    World { name: "5 % take 1 s more", stuck: 0.05, page: (Page::Requests("160"), "1796"), ..NULL },
];

/// Canary requests until rollback: at α = 0.01, at 0.001, and by Flagger's rule.
type Found = [Option<f64>; 3];

/// All worlds.
pub fn latency(n: usize, guards: &[Guard; 2], report: &mut Report) {
    report.say("## Slow canaries");
    report.say(&format!(
        "5 % of 100 requests per second, for an hour; latencies are lognormal with a median of 50 ms, σ = 0.6. Rolled \
         back, in percent of {n} runs, and canary requests until then, median (90th percentile). The guard learns from the \
         default which responses are slow: “from the start” both variants begin at once, else the default {BEFORE_S} s \
         before. The page's figures are of 200 runs; Flagger's rule is p99 ≤ 500 ms over 1 m, threshold 5. \
         On the page thresholds are known at the canary's first request and each second is \
         judged at its end; the engine sets them when the canary's first window closes, and windows begin at its first \
         request, to which the 5 to 8 requests more are put down."
    ));
    let mut rows = vec![];
    for world in WORLDS {
        let warm = runs(n, world.name, |i, rng| run(world, BEFORE_S, guards, i, rng));
        let cold = runs(n, world.name, |i, rng| run(world, 0, guards, i, rng));
        let share = |found: &[Found], rule: usize| Share::of(found.iter().map(|it| it[rule].is_some()));
        let sample = |found: &[Found], rule: usize| Sample::of(found.iter().map(|it| it[rule]));
        let (page, flagger) = world.page;
        let mut row = vec![world.name.to_owned()];
        let requests = match page {
            Page::Percent(percent) => {
                row.push(report.share(
                    share(&warm, 0),
                    Some((percent, 200)),
                    &format!("latency, {}", world.name),
                ));
                String::new()
            }
            Page::Requests(median) => {
                row.push(report.share(share(&warm, 0), None, ""));
                report.median(&sample(&warm, 0), median, 5.0, &format!("latency, {}", world.name));
                median.to_owned()
            }
        };
        let first = sample(&warm, 0);
        row.extend([first.show(), first.show_error(), requests]);
        row.push(sample(&cold, 0).show());
        row.push(report.share(share(&warm, 1), None, ""));
        row.push(sample(&warm, 1).show());
        row.push(report.share(share(&warm, 2), None, ""));
        row.push(sample(&warm, 2).show());
        row.push(flagger.to_owned());
        rows.push(row);
    }
    let head = [
        "canary",
        "α = 0.01: % (page)",
        "requests",
        "95 % of the median",
        "page",
        "requests, from the start",
        "α = 0.001: %",
        "requests",
        "Flagger: %",
        "requests",
        "page",
    ];
    report.table(&head, &rows);
}

fn run(world: World, before_s: i64, guards: &[Guard; 2], i: usize, rng: &mut SmallRng) -> Found {
    let seed = format!("run-{i}");
    let guard = r#"{"alpha": 0.01, "warmup": "0s", "latency": {}, "onBreach": "report"}"#;
    let policy = policy(Terms { by_user: false, steps: &share(100.0 * WEIGHT), guard, seed: &seed });
    let mut fleet = Fleet::new(&policy, 1);
    let mut flagger = Checks::of_latency();
    let mut found = Found::default();
    let mut requests = 0.0;
    for second in -before_s..HOUR_S {
        let mut slow = Tally::default();
        for at in 0..REQUESTS_PER_SECOND {
            let is_canary = second >= 0 && rng.random_bool(WEIGHT);
            let variant = if is_canary { CANARY } else { STABLE };
            let latency_us = world.latency_us(is_canary, second, rng);
            let now_ms = START_MS + second * 1_000 + 1_000 * at / REQUESTS_PER_SECOND;
            fleet.count(
                0,
                Request { variant, bucket: Bucket(rng.random()), is_error: false, latency_us, now_ms },
            );
            if is_canary {
                requests += 1.0;
                slow.count(latency_us > 500_000);
            }
        }
        fleet.tick(START_MS + second * 1_000 + 1_000);
        if second < 0 {
            continue;
        }
        let has_failed = flagger.take(second + 1, slow);
        let [ours @ .., theirs] = &mut found;
        if has_failed && theirs.is_none() {
            *theirs = Some(requests);
        }
        let Some(case) = fleet.case() else { continue };
        for (ended, guard) in ours.iter_mut().zip(guards) {
            if ended.is_none() && (case.state == State::Breached && is_breach(&case, guard)) {
                *ended = Some(requests);
            }
        }
    }
    found
}

impl World {
    /// How long a response takes.
    pub fn latency_us(self, is_canary: bool, second: i64, rng: &mut SmallRng) -> u64 {
        let law = LogNormal::new(MEDIAN_US.ln(), DEVIATION).expect("a deviation");
        let mut us = law.sample(rng) * (self.shared)(second);
        if is_canary {
            us *= self.times;
            if self.stuck > 0.0 && rng.random_bool(self.stuck) {
                us += 1e6;
            }
        }
        us as u64
    }

    /// A canary that takes so many times longer.
    pub fn slower(times: f64) -> World {
        World { times, ..NULL }
    }
}
