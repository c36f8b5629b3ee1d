//! Simulates canaries and writes down what the guard makes of them, beside the statistics page and other tools' rules.
//!
//! `make guard-report` writes `report.md` and `evidence.svg` beside this crate's manifest. With `--quick` fewer runs are
//! made, and all goes to the folder for temporary files. With `--check` nothing is written: the exit code is 1 where the
//! report would be another one.

mod errors;
mod fleet;
mod latency;
mod page;
mod picture;
mod policies;
mod rules;
mod runs;
mod tables;
mod users;

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use tables::Report;

/// How many runs are made of each kind of world.
struct Sizes {
    healthy: usize,
    bad: usize,
    days: usize,
    users: usize,
    latency: usize,
}

const FULL: Sizes = Sizes { healthy: 1_000, bad: 400, days: 200, users: 100, latency: 100 };
const QUICK: Sizes = Sizes { healthy: 50, bad: 50, days: 8, users: 8, latency: 8 };

fn main() -> Result<(), Box<dyn Error>> {
    let [is_quick, is_check] =
        ["--quick", "--check"].map(|asked| std::env::args().any(|argument| argument == asked));
    let (sizes, folder) = if is_quick {
        (QUICK, std::env::temp_dir())
    } else {
        (FULL, PathBuf::from(env!("CARGO_MANIFEST_DIR")))
    };
    let of_errors = [
        policies::guard(r#"{"alpha": 0.01, "warmup": "0s", "errors": {}}"#),
        policies::guard(r#"{"warmup": "0s", "errors": {}}"#),
    ];
    let of_latency = [
        policies::guard(r#"{"alpha": 0.01, "warmup": "0s", "latency": {}}"#),
        policies::guard(r#"{"warmup": "0s", "latency": {}}"#),
    ];
    let begun = Instant::now();
    let mut report = Report::default();
    let mut section = |name: &str, write: &dyn Fn(&mut Report)| {
        write(&mut report);
        eprintln!("{name}: {:.0} s", begun.elapsed().as_secs_f64());
    };
    section("healthy", &|report| errors::healthy(sizes.healthy, &of_errors, report));
    section("bad", &|report| errors::detection(sizes.bad, &of_errors, report));
    section("late", &|report| errors::late(sizes.days, &of_errors, report));
    section("days", &|report| errors::days(sizes.days, &of_errors, report));
    section("users", &|report| users::robustness(sizes.users, &of_errors, report));
    section("hard", &|report| users::hard(sizes.users, &of_errors, report));
    section("epochs", &|report| users::epochs(sizes.users, &of_errors, report));
    section("latency", &|report| latency::latency(sizes.latency, &of_latency, report));

    let text = format!("{}{}{}", head(), summary(&report), report.text).trim_end().to_owned() + "\n";
    let written = folder.join("report.md");
    if is_check {
        let before = std::fs::read_to_string(&written)?;
        let same = before.lines().zip(text.lines()).take_while(|(before, now)| before == now).count();
        return if before == text {
            Ok(())
        } else {
            Err(format!("{} says otherwise, first in line {}", written.display(), same + 1).into())
        };
    }
    let picture = folder.join("evidence.svg");
    picture::draw(&picture)?;
    std::fs::write(&written, text)?;
    println!("{}\n{}", written.display(), picture.display());
    Ok(())
}

fn head() -> &'static str {
    "# What the guard makes of canaries\n\n\
     Written by `make guard-report`: simulated requests, the engine's own code, the same random numbers every time. 100 \
     requests per second reach one proxy. Beside it stand the figures of the project's statistics page, which another \
     program simulated, and the rules of Flagger and Argo Rollouts as their documentation shows them, made anew from that \
     page's description, with metrics that are exact and never late.\n\n\
     Margin 1.25, floor 0.1 %, windows of 1 s, as a policy has them by default; warm-up is off (`0s`) in all tables that do \
     not say otherwise, and errors or latencies alone are compared, with all of α. A guard that compares both, which is \
     the default, has half of α for each: it asks for twice the evidence.\n\n\
     ![Evidence against three canaries](evidence.svg)\n\n\
     The default guard (α = 0.001 for errors and latency together, 10 s of warm-up), 5 % of the requests: the higher of \
     both evidences, one run each.\n\n"
}

/// What differs from the page.
fn summary(report: &Report) -> String {
    let differing = match report.differing.as_slice() {
        [] => "None is".to_owned(),
        differing => format!("{} are", differing.len()),
    };
    let mut text = format!(
        "{} figures stand beside the page's. {differing} further from it than chance explains: three standard deviations of \
         the difference, as both have errors.\n\n",
        report.compared
    );
    report.differing.iter().for_each(|line| text += &format!("* {line}\n"));
    if !report.differing.is_empty() {
        text.push('\n');
    }
    text
}
