//! Users who keep their variant: worlds in which their errors come in bursts, or hit few of them, and nothing is wrong
//! with the canary.

use mulkko::bucket::Bucket;
use mulkko::guard::{Guard, Tally};
use rand::Rng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Geometric, Zipf};

use crate::fleet::{CANARY, Fleet, Request};
use crate::policies::{START_MS, Terms, policy};
use crate::rules::{Checked, NAMES, OURS, Second, is_breach};
use crate::runs::runs;
use crate::tables::{Report, Sample, Share};

const REQUESTS_PER_SECOND: usize = 100;
const HOUR_S: i64 = 3_600;

/// A world in which both variants are alike.
#[derive(Clone, Copy)]
struct World<'s> {
    name: &'static str,
    users: u32,
    /// What is split between them: the canary's steps.
    steps: &'s str,
    errors: Errors,
    /// The page's figures, in percent of its 200 runs: by request, by user, Flagger, Argo 99 %.
    page: Option<[f64; 4]>,
}

/// Who fails when.
#[derive(Clone, Copy)]
enum Errors {
    /// Anybody, at a rate that depends on the second.
    Rate(fn(i64) -> f64),
    /// Anybody; but few users have most of the requests: Zipf's law with this exponent.
    Zipf(f64, f64),
    /// The first users, with this probability; all others never.
    Chronic(u32, f64),
    /// Of anybody's requests this part fails, and is tried again until the client succeeds: so often on average.
    Storms(f64, f64),
}

const FIVE_PERCENT: &str = r#"[{"percent": 5}]"#;
const RAMP: &str = r#"[{"percent": 1, "hold": "12m"}, {"percent": 5, "hold": "12m"}, {"percent": 10, "hold": "12m"},
    {"percent": 25, "hold": "12m"}, {"percent": 50}]"#;

const WORLDS: [World<'static>; 7] = [
    World {
        name: "1 % of errors",
        users: 20_000,
        steps: FIVE_PERCENT,
        errors: Errors::Rate(|_| 0.01),
        page: Some([0.0, 0.0, 100.0, 100.0]),
    },
    World {
        name: "shared outages: 1 %, and 30 % for 20 s every 5 min",
        users: 20_000,
        steps: FIVE_PERCENT,
        errors: Errors::Rate(|second| if second % 300 < 20 { 0.3 } else { 0.01 }),
        page: Some([0.0, 0.5, 100.0, 100.0]),
    },
    World {
        name: "the rate cycles between 0.1 % and 3 % every 10 min",
        users: 20_000,
        steps: FIVE_PERCENT,
        errors: Errors::Rate(|second| {
            let turn = std::f64::consts::TAU * second as f64 / 600.0;
            0.0155 - 0.0145 * turn.cos()
        }),
        page: Some([0.5, 0.5, 100.0, 100.0]),
    },
    World {
        name: "ramp 1-5-10-25-50 % while the rate rises from 0.1 % to 2 %",
        users: 20_000,
        steps: RAMP,
        errors: Errors::Rate(|second| 0.001 + 0.019 * second as f64 / HOUR_S as f64),
        page: Some([0.0, 0.0, 100.0, 100.0]),
    },
    World {
        name: "2,000 users, Zipf 1.2, 1 % of errors",
        users: 2_000,
        steps: FIVE_PERCENT,
        errors: Errors::Zipf(1.2, 0.01),
        page: Some([0.0, 0.0, 100.0, 100.0]),
    },
    World { page: Some([13.5, 0.0, 47.5, 54.5]), ..CHRONIC },
    World {
        name: "retry storms: 1 % of requests fail, and 4 times on average",
        users: 20_000,
        steps: FIVE_PERCENT,
        errors: Errors::Storms(0.01, 4.0),
        page: Some([98.0, 0.0, 100.0, 100.0]),
    },
];

/// Worlds that are hard for the guard when it counts by user, with the warm-up of its rollout.
const HARD: [(World<'static>, &str); 6] =
    [(MANY, "0s"), (MANY, "10s"), (MANY, "1m"), (MANY, "5m"), (CHRONIC, "5m"), (CROWD, "0s")];

const MANY: World<'static> = World {
    name: "400 of 10,000 users fail 60 % of their requests",
    users: 10_000,
    errors: Errors::Chronic(400, 0.6),
    ..CHRONIC
};

const CROWD: World<'static> = World {
    name: "8,000 of 16,000 users fail half of their requests, canary 1 %: more than the bitmap holds",
    users: 16_000,
    steps: r#"[{"percent": 1}]"#,
    errors: Errors::Chronic(8_000, 0.5),
    ..CHRONIC
};

const CHRONIC: World<'static> = World {
    name: "20 of 2,000 users fail 60 % of their requests",
    users: 2_000,
    steps: FIVE_PERCENT,
    errors: Errors::Chronic(20, 0.6),
    page: None,
};

/// Ways of counting the same requests.
const WAYS: [(&str, bool, usize); 4] = [
    ("by request, 1 worker", false, 1),
    ("by request, 4 workers", false, 4),
    ("by user, 1 worker", true, 1),
    ("by user, 4 workers", true, 4),
];

/// What became of the canary in a run: for each way, in which second each guard gave it up; and whether other rules did.
type Found = (Vec<[Option<i64>; OURS]>, [bool; 3]);

/// How long a world is looked at.
#[derive(Clone, Copy)]
struct Course {
    hours: i64,
    /// From which second on the canary fails more, and how many of its requests.
    late: Option<(i64, f64)>,
}

const AN_HOUR: Course = Course { hours: 1, late: None };

/// How well canaries fare that are no worse.
pub fn robustness(n: usize, guards: &[Guard; OURS], report: &mut Report) {
    report.say("## Users who keep their variant");
    report.say(&format!(
        "A canary that is no worse, 5 % of the users, an hour of 100 requests per second: rolled back, in percent of {n} \
         runs, in parentheses the page's figure of 200. Users keep their variant in all of these worlds; counted by \
         request, each error counts, and counted by user, each user's first. Workers share one case; each request is \
         served by any of them. What the page does not say of a world is ours: the number of users, rates, periods. \
         How many users fail for ever decides how often errors by request mislead: twenty are an assumption."
    ));
    let mut rows = vec![];
    for world in WORLDS {
        let found = runs(n, world.name, |i, rng| {
            run(
                world,
                &WAYS,
                AN_HOUR,
                r#"{"alpha": 0.01, "warmup": "0s", "errors": {}, "onBreach": "report"}"#,
                guards,
                (i, rng),
            )
        });
        let mut row = vec![world.name.to_owned()];
        for (way, (name, by_user, workers)) in WAYS.into_iter().enumerate() {
            for guard in 0..OURS {
                let share = Share::of(found.iter().map(|(ours, _)| ours[way][guard].is_some()));
                let page = world.page.filter(|_| guard == 0 && workers == 1);
                let page = page.map(|page| (page[usize::from(by_user)], 200));
                row.push(report.share(share, page, &format!("{}, {name}", world.name)));
            }
        }
        for (rule, page) in [(0, Some(2)), (1, None), (2, Some(3))] {
            let share = Share::of(found.iter().map(|(_, others)| others[rule]));
            let page = page.and_then(|at| Some((world.page?[at], 200)));
            row.push(report.share(share, page, &format!("{}, {}", world.name, NAMES[OURS + rule])));
        }
        rows.push(row);
    }
    let ways = WAYS.iter().flat_map(|(name, ..)| [format!("{name}, α = 0.01"), "0.001".to_owned()]);
    let head: Vec<String> = ["world".to_owned()]
        .into_iter()
        .chain(ways)
        .chain(NAMES[OURS..].iter().map(|it| (*it).to_owned()))
        .collect();
    report.table(&head.iter().map(String::as_str).collect::<Vec<_>>(), &rows);
}

/// The same where counting by user is hard.
pub fn hard(n: usize, guards: &[Guard; OURS], report: &mut Report) {
    report.say("### With a warm-up, and with many failing users");
    report.say(&format!("Rolled back within an hour, counted by user, in percent of {n} runs."));
    let mut rows = vec![];
    for (world, warmup) in HARD {
        let guard =
            format!(r#"{{"alpha": 0.01, "warmup": "{warmup}", "errors": {{}}, "onBreach": "report"}}"#);
        let found = runs(n, world.name, |i, rng| run(world, &WAYS[2..], AN_HOUR, &guard, guards, (i, rng)));
        let mut row = vec![world.name.to_owned(), warmup.to_owned()];
        for way in 0..2 {
            for guard in 0..OURS {
                let share = Share::of(found.iter().map(|(ours, _)| ours[way][guard].is_some()));
                row.push(report.share(share, None, ""));
            }
        }
        rows.push(row);
    }
    let head = ["world", "warm-up", "1 worker, α = 0.01", "0.001", "4 workers, α = 0.01", "0.001"];
    report.table(&head, &rows);
}

/// The same where all users who fail at times have failed before long, so that epochs follow each other; and how soon a canary
/// is found out then that gets worse.
pub fn epochs(n: usize, guards: &[Guard; OURS], report: &mut Report) {
    const GUARD: &str = r#"{"alpha": 0.01, "warmup": "0s", "errors": {}, "onBreach": "report"}"#;
    let way = [WAYS[2]];
    report.say("### Many hours");
    report.say(&format!(
        "Rolled back within six hours, counted by user, in percent of {n} runs. Users who have failed once are counted again \
         in each epoch, of ten minutes and more."
    ));
    let few =
        |users| World { name: "few users, 1 % of errors", users, errors: Errors::Rate(|_| 0.01), ..CHRONIC };
    let mut rows = vec![];
    for (name, world) in [
        ("500 users, 1 % of errors", few(500)),
        (CHRONIC.name, CHRONIC),
        (MANY.name, MANY),
        (CROWD.name, CROWD),
    ] {
        let course = Course { hours: 6, late: None };
        let found = runs(n, name, |i, rng| run(world, &way, course, GUARD, guards, (i, rng)));
        let shares = (0..OURS).map(|guard| Share::of(found.iter().map(|(ours, _)| ours[0][guard].is_some())));
        let cells = shares.map(|share| report.share(share, None, "")).collect::<Vec<_>>();
        rows.push([vec![name.to_owned()], cells].concat());
    }
    report.table(&["world", "α = 0.01", "0.001"], &rows);
    report.say("### Late regressions, counted by user");
    report.say(&format!(
        "Seconds until rollback after two hours in which 1 % of all requests failed, median (90th percentile) of {n} runs; \
         —: in less than half of the runs within an hour, and in how many. There is no more to be found out than the canary has \
         users; with few of them only what is much worse is found."
    ));
    let mut rows = vec![];
    for (users, percent) in [(500, 5), (500, 20), (2_000, 5), (20_000, 5)] {
        let steps = format!(r#"[{{"percent": {percent}}}]"#);
        let mut row = vec![format!("{users} users, {percent} % of them")];
        for rate in [0.05, 0.2, 0.5] {
            let world = World { steps: &steps, ..few(users) };
            let course = Course { hours: 3, late: Some((2 * HOUR_S, rate)) };
            let name = format!("late {users} {percent} {rate}");
            let found = runs(n, &name, |i, rng| run(world, &way, course, GUARD, guards, (i, rng)));
            row.extend((0..OURS).map(|guard| {
                let seconds = found.iter().map(|(ours, _)| Some((ours[0][guard]? - 2 * HOUR_S) as f64));
                Sample::of(seconds).show()
            }));
        }
        rows.push(row);
    }
    let rates = ["5 %", "20 %", "50 %"];
    let heads: Vec<_> =
        rates.iter().flat_map(|to| [format!("1 → {to}, α = 0.01"), "0.001".to_owned()]).collect();
    report.table(&["users", &heads[0], &heads[1], &heads[2], &heads[3], &heads[4], &heads[5]], &rows);
}

/// A course of a world.
fn run(
    world: World<'_>,
    ways: &[(&str, bool, usize)],
    course: Course,
    guard: &str,
    guards: &[Guard; OURS],
    (i, rng): (usize, &mut SmallRng),
) -> Found {
    let seed = format!("run-{i}");
    let terms = |by_user| Terms { by_user, steps: world.steps, guard, seed: &seed };
    let mut fleets: Vec<_> =
        ways.iter().map(|(_, by_user, workers)| Fleet::new(&policy(terms(*by_user)), *workers)).collect();
    let policy = policy(terms(true));
    let rollout = &policy.rollouts[0];
    let seed = rollout.seed;
    let buckets: Vec<Bucket> =
        (0..world.users).map(|user| seed.bucket(user.to_string().as_bytes())).collect();
    let mut given_up = vec![[None; OURS]; ways.len()];
    let mut others = Checked::default();
    let mut requests = vec![];
    for second in 0..course.hours * HOUR_S {
        let now_ms = START_MS + second * 1_000;
        requests.clear();
        world.second(second, rng, &mut requests);
        let split = rollout.schedule.at(now_ms);
        let mut canary = Tally::default();
        let count = requests.len() as i64;
        let worse = course.late.filter(|(from, _)| second >= *from).map_or(0.0, |(_, rate)| rate);
        for (at, (user, is_error)) in requests.iter().enumerate() {
            let bucket = buckets[*user as usize];
            let variant = split.variant(bucket);
            let mut is_error = *is_error;
            if variant == CANARY {
                is_error |= worse > 0.0 && rng.random_bool(worse);
                canary.count(is_error);
            }
            let now_ms = now_ms + 1_000 * at as i64 / count;
            let request = Request { variant, bucket, is_error, latency_us: 1_000, now_ms };
            let worker = rng.random_range(0..4);
            for (fleet, given_up) in fleets.iter_mut().zip(&given_up) {
                if given_up.iter().any(Option::is_none) {
                    fleet.count(worker, request);
                }
            }
        }
        others.take(Second { canary, ..Second::default() });
        for (fleet, given_up) in fleets.iter_mut().zip(&mut given_up) {
            fleet.tick(now_ms + 1_000);
            let Some(case) = fleet.case() else { continue };
            for (given_up, guard) in given_up.iter_mut().zip(guards) {
                if given_up.is_none() && is_breach(&case, guard) {
                    *given_up = Some(second + 1);
                }
            }
        }
    }
    (given_up, others.rolled_back)
}

impl World<'_> {
    /// Who is served in a second, and whether it fails.
    fn second(self, second: i64, rng: &mut SmallRng, requests: &mut Vec<(u32, bool)>) {
        while requests.len() < REQUESTS_PER_SECOND {
            let user = match self.errors {
                Errors::Zipf(exponent, _) => {
                    let zipf = Zipf::new(f64::from(self.users), exponent).expect("a law");
                    zipf.sample(rng) as u32 - 1
                }
                _ => rng.random_range(0..self.users),
            };
            match self.errors {
                Errors::Rate(rate) => requests.push((user, rng.random_bool(rate(second)))),
                Errors::Zipf(_, rate) => requests.push((user, rng.random_bool(rate))),
                Errors::Chronic(few, rate) => requests.push((user, user < few && rng.random_bool(rate))),
                Errors::Storms(rate, tries) => {
                    if rng.random_bool(rate) {
                        let more = Geometric::new(1.0 / tries).expect("a probability").sample(rng);
                        requests.extend((0..=more).map(|_| (user, true)));
                    }
                    requests.push((user, false));
                }
            }
        }
    }
}
