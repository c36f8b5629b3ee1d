//! Simulates canaries and writes down what the guard makes of them, beside the statistics page and other tools' rules.
//!
//! `make guard-report` writes `tests/guard/report.md` and `tests/guard/evidence.svg`; with `--quick` fewer runs are
//! made and nothing is written but to standard output.

mod errors;
mod fleet;
mod page;
mod policies;
mod rules;
mod runs;
mod tables;
mod users;

use std::time::Instant;

use tables::Report;

/// How many runs are made of each kind of world.
struct Sizes {
    healthy: usize,
    bad: usize,
    long: usize,
    users: usize,
}

fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let sizes = if is_quick {
        Sizes { healthy: 50, bad: 50, long: 8, users: 40 }
    } else {
        Sizes { healthy: 1_000, bad: 400, long: 400, users: 200 }
    };
    let guards = [
        policies::guard(r#"{"alpha": 0.01, "warmup": "0s", "errors": {}}"#),
        policies::guard(r#"{"warmup": "0s", "errors": {}}"#),
    ];
    let mut report = Report::default();
    let begun = Instant::now();
    let mut timed = |name: &str, section: &mut dyn FnMut(&mut Report)| {
        section(&mut report);
        eprintln!("{name}: {:.0} s", begun.elapsed().as_secs_f64());
    };
    timed("healthy", &mut |report| errors::healthy(sizes.healthy, &guards, report));
    timed("bad", &mut |report| errors::detection(sizes.bad, &guards, report));
    timed("users", &mut |report| users::robustness(sizes.users, &guards, report));
    timed("hard", &mut |report| users::hard(sizes.users, &guards, report));
    timed("late", &mut |report| errors::late(sizes.long, &guards, report));
    timed("days", &mut |report| errors::days(sizes.long, &guards, report));
    println!("{}", report.text);
    println!("{} of {}: {:#?}", report.differing.len(), report.compared, report.differing);
}
