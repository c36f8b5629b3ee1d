//! Requests that are bucketed each for itself: false rollbacks, delays, days, and regressions that come late.

use mulkko::guard::{Guard, Tally};
use rand::rngs::SmallRng;
use rand_distr::{Binomial, Distribution};

use crate::page;
use crate::rules::{Ended, Jury, NAMES, OURS, RULES, Second};
use crate::runs::runs;
use crate::tables::{Report, Sample, Share, figure};

const REQUESTS_PER_SECOND: u64 = 100;
pub const HOUR_S: i64 = 3_600;
pub const DAY_S: i64 = 24 * HOUR_S;

/// A canary's share and both error rates.
#[derive(Clone, Copy)]
pub struct World {
    pub weight: f64,
    pub default: f64,
    pub canary: f64,
}

impl World {
    /// A second of it.
    fn second(self, rng: &mut SmallRng) -> Second {
        let requests = draw(REQUESTS_PER_SECOND, self.weight, rng);
        let side = |requests, rate, rng: &mut _| Tally { requests, bad: draw(requests, rate, rng) };
        Second {
            canary: side(requests, self.canary, rng),
            default: side(REQUESTS_PER_SECOND - requests, self.default, rng),
        }
    }

    /// All rules over so many seconds, or until all have rolled back.
    fn run(self, jury: &mut Jury<'_>, seconds: i64, rng: &mut SmallRng) {
        for _ in 0..seconds {
            if jury.has_ended() {
                return;
            }
            jury.take(self.second(rng));
        }
    }

    fn name(self) -> String {
        let World { weight, default, canary } = self;
        format!("weight {} %, {} % → {} %", percent(weight), percent(default), percent(canary))
    }
}

fn draw(n: u64, p: f64, rng: &mut SmallRng) -> u64 {
    Binomial::new(n, p).expect("a probability").sample(rng)
}

/// A share in percent, without needless decimals.
fn percent(share: f64) -> f64 {
    (share * 1e6).round() / 1e4
}

/// When each rule rolled back, in runs of a world that last at most so many seconds.
fn all_runs(world: World, n: usize, seconds: i64, guards: &[Guard; OURS]) -> Vec<[Option<Ended>; RULES]> {
    runs(n, &format!("{} {seconds} s", world.name()), |_, rng| {
        let mut jury = Jury::new(guards);
        world.run(&mut jury, seconds, rng);
        jury.ended
    })
}

fn share(found: &[[Option<Ended>; RULES]], rule: usize) -> Share {
    Share::of(found.iter().map(|ended| ended[rule].is_some()))
}

fn sample(found: &[[Option<Ended>; RULES]], rule: usize, figure: fn(&Ended) -> f64) -> Sample {
    Sample::of(found.iter().map(|ended| ended[rule].as_ref().map(figure)))
}

/// Canaries that are no worse than the default, for an hour.
pub fn healthy(n: usize, guards: &[Guard; OURS], report: &mut Report) {
    report.say("## Healthy canaries");
    report.say(&format!(
        "Rolled back within an hour, in percent of {n} runs; in parentheses the page's figure, of {} runs. {n} runs \
         without any rollback say: less than {:.2} %, with 95 %.",
        page::HEALTHY_RUNS,
        300.0 / n as f64
    ));
    let mut rows = vec![];
    for (w, weight) in page::WEIGHTS.into_iter().enumerate() {
        for (r, rate) in page::RATES.into_iter().enumerate() {
            let world = World { weight, default: rate, canary: rate };
            let found = all_runs(world, n, HOUR_S, guards);
            let mut row = vec![format!("{} %", percent(weight)), format!("{} %", percent(rate))];
            for (rule, name) in NAMES.iter().enumerate() {
                let page = page::HEALTHY.iter().find(|(it, _)| *it == rule);
                let page = page.map(|(_, figures)| (figures[w][r], page::HEALTHY_RUNS));
                let what = format!("healthy, {}, {name}", world.name());
                row.push(report.share(share(&found, rule), page, &what));
            }
            rows.push(row);
        }
    }
    report.table(&[&["weight", "errors"], &NAMES[..]].concat(), &rows);
}

/// Canaries that are worse from their first request on.
pub fn detection(n: usize, guards: &[Guard; OURS], report: &mut Report) {
    report.say("## Bad canaries");
    report.say(&format!(
        "Canary requests until rollback, median (90th percentile) of {n} runs; ∞: not within an hour. Below each rule \
         the page's figures, of 400 runs; below mulkko's at α = 0.01 between what the median lies with 95 %."
    ));
    let heads: Vec<_> =
        page::CHANGES.iter().map(|(from, to)| format!("{} → {} %", percent(*from), percent(*to))).collect();
    let head: Vec<_> = ["rule"].into_iter().chain(heads.iter().map(String::as_str)).collect();
    for (w, weight) in page::WEIGHTS.into_iter().enumerate() {
        let found: Vec<_> = page::CHANGES
            .iter()
            .map(|(default, canary)| {
                all_runs(World { weight, default: *default, canary: *canary }, n, HOUR_S, guards)
            })
            .collect();
        report.say(&format!("### Weight {} %", percent(weight)));
        let mut rows = vec![];
        for (rule, name) in NAMES.iter().enumerate() {
            let samples: Vec<_> =
                found.iter().map(|found| sample(found, rule, |ended| ended.requests as f64)).collect();
            rows.push(row(name, samples.iter().map(Sample::show)));
            if rule == 0 {
                rows.push(row("— 95 % of the median", samples.iter().map(Sample::show_error)));
            }
            if let Some((_, figures)) = page::DETECTION[w].iter().find(|(it, _)| *it == rule) {
                rows.push(row("— page", figures.iter().map(|it| (*it).to_owned())));
                for ((sample, figure), change) in samples.iter().zip(figures).zip(&heads) {
                    let grain = weight * REQUESTS_PER_SECOND as f64;
                    report.median(sample, figure, grain, &format!("bad, weight {weight}, {change}, {name}"));
                }
            }
        }
        report.table(&head, &rows);
        report.say("Seconds at 100 requests per second / canary errors served until rollback, medians:");
        let costs = |rule| {
            found.iter().map(move |found| {
                let median = |of| figure(sample(found, rule, of).quantile(0.5));
                format!("{} s / {}", median(|it| it.seconds as f64), median(|it| it.errors as f64))
            })
        };
        let mut rows = vec![];
        for (rule, name) in NAMES.iter().enumerate() {
            rows.push(row(name, costs(rule)));
            let page = page::COSTS.iter().find(|(it, _)| *it == rule && weight == 0.05);
            if let Some((_, figures)) = page {
                rows.push(row("— page", figures.iter().map(|it| (*it).to_owned())));
            }
        }
        report.table(&head, &rows);
    }
}

fn row(name: &str, cells: impl Iterator<Item = String>) -> Vec<String> {
    [name.to_owned()].into_iter().chain(cells).collect()
}

/// Canaries that are no worse, or just tolerable, for a day.
pub fn days(n: usize, guards: &[Guard; OURS], report: &mut Report) {
    /// The rate whose odds are 1.25 times, or that part of, a rate's.
    fn by_margin(rate: f64, times: f64) -> f64 {
        let odds = times * rate / (1.0 - rate);
        odds / (1.0 + odds)
    }
    report.say("## A day");
    report.say(&format!(
        "Rolled back within 24 hours, 8.64 million requests, in percent of {n} runs; in parentheses the page's figure, of \
         {} runs. Where the page says less than the whole world, the rest is ours.",
        page::DAY_RUNS
    ));
    let world = |weight, default, canary| World { weight, default, canary };
    let worlds = [
        ("equal, 1 %", world(0.05, 0.01, 0.01), 0.17),
        ("on the margin, odds 1.25 times those of 1 %", world(0.05, 0.01, by_margin(0.01, 1.25)), 0.17),
        ("on the margin, 10 %, half of the requests", world(0.5, 0.1, by_margin(0.1, 1.25)), 0.0),
        (
            "on the margin and on the floor, 1 % of the requests",
            world(0.01, by_margin(0.001, 0.8), 0.001),
            0.33,
        ),
        ("the default without errors, the canary on the floor", world(0.05, 0.0, 0.001), 0.17),
        ("no errors", world(0.05, 0.0, 0.0), 0.0),
    ];
    let mut rows = vec![];
    for (name, world, page) in worlds {
        let found = runs(n, name, |_, rng| {
            let mut jury = Jury::new(guards);
            world.run(&mut jury, DAY_S, rng);
            jury.ended
        });
        let mut row = vec![name.to_owned()];
        for rule in 0..RULES {
            let page = (rule == 0).then_some((page, page::DAY_RUNS));
            row.push(report.share(share(&found, rule), page, &format!("a day, {name}")));
        }
        rows.push(row);
    }
    report.table(&[&["canary"], &NAMES[..]].concat(), &rows);
}

/// Canaries that become worse after a while, at 5 % of the requests and from 0.1 % of errors.
pub fn late(n: usize, guards: &[Guard; OURS], report: &mut Report) {
    const HEALTHY_S: [(i64, &str); 5] =
        [(0, "0"), (600, "10 min"), (HOUR_S, "1 h"), (6 * HOUR_S, "6 h"), (DAY_S, "24 h")];
    const TO: [f64; 3] = [0.01, 0.05, 0.2];
    let page = |healthy_s, to| match (healthy_s, to) {
        (0, 0.05) => Some("63"),
        (600, 0.05) => Some("118"),
        (HOUR_S, 0.05) => Some("154"),
        (21_600, 0.05) => Some("165"),
        (DAY_S, 0.05) => Some("188"),
        (DAY_S, 0.2) => Some("46"),
        (DAY_S, 0.01) => Some("1960"),
        _ => None,
    };
    report.say("## Late regressions");
    report.say(&format!(
        "A canary with 5 % of the requests that fails as the default does, 0.1 %, for a while, and then more often: canary \
         requests from then on until rollback, median (90th percentile) of {n} runs, and between what the median lies with \
         95 %. Runs in which a rule gives up the canary before are left out for it."
    ));
    let healthy = World { weight: 0.05, default: 0.001, canary: 0.001 };
    let found = runs(n, "late", |_, rng| {
        let mut jury = Jury::new(guards);
        let mut now_s = 0;
        HEALTHY_S.map(|(until_s, _)| {
            while now_s < until_s {
                jury.take(healthy.second(rng));
                now_s += 1;
            }
            let before = jury.ended.map(|ended| ended.is_some());
            TO.map(|canary| {
                let mut later = jury.clone();
                later.restart();
                World { canary, ..healthy }.run(&mut later, HOUR_S, rng);
                (before, later.ended)
            })
        })
    });
    let mut rows = vec![];
    for (at, (healthy_s, after)) in HEALTHY_S.into_iter().enumerate() {
        for (i, to) in TO.into_iter().enumerate() {
            let of = |rule: usize| {
                let found = found.iter().map(|run| run[at][i]).filter(|(before, _)| !before[rule]);
                Sample::of(found.map(|(_, ended)| ended[rule].map(|it| it.requests as f64)))
            };
            let page = page(healthy_s, to);
            if let Some(page) = page {
                report.median(&of(0), page, 5.0, &format!("late, after {after}, to {} %", percent(to)));
            }
            let mut row =
                vec![after.to_owned(), format!("{} %", percent(to)), of(0).show(), of(0).show_error()];
            row.push(page.unwrap_or("").to_owned());
            row.extend((1..RULES).map(|rule| of(rule).show()));
            rows.push(row);
        }
    }
    let [loose, others @ ..] = NAMES;
    report.table(
        &[&["healthy before", "to", loose, "95 % of the median", "page"], &others[..]].concat(),
        &rows,
    );
}
