//! What one evaluation of a feature flag costs: mulkko and the engines of other systems, with the same flag, the same
//! rule and the same users, each in its own idiom.
//!
//! Contexts are made before; only evaluations are timed. The engines are measured in turn, round after round, so that a
//! slow moment slows all of them: a round's ratios say more than its times.

mod datalogic;
mod eppo;
mod flagd;
mod growthbook;
mod launchdarkly;
mod mulkko;
mod unleash;
mod users;

use std::hint::black_box;
use std::time::{Duration, Instant};

use users::{PERCENT, User, users};

const USERS: usize = 1_000;
const ROUNDS: usize = 401;

/// What an engine's turn takes at least: long beside an interrupt.
const TURN: Duration = Duration::from_micros(500);

/// An engine with its rule and its contexts.
struct Engine {
    name: &'static str,
    note: &'static str,
    /// The share of the users whom the rule lets in that the flag is on for, in percent.
    share: f64,
    /// Evaluates the flag for every user; says for how many it is on.
    pass: Box<dyn Fn() -> usize>,
    /// How often, to fill a turn.
    passes: u32,
}

impl Engine {
    /// Refuses an engine that does not evaluate the rule.
    fn new<C: 'static>(
        name: &'static str,
        note: &'static str,
        users: &[User],
        context: impl Fn(&User) -> C,
        evaluate: impl Fn(&C) -> bool + 'static,
    ) -> Engine {
        let contexts: Vec<C> = users.iter().map(context).collect();
        let on: Vec<bool> = contexts.iter().map(&evaluate).collect();
        let share = share(name, users, &on);
        let pass = move || contexts.iter().filter(|context| evaluate(black_box(context))).count();
        let start = Instant::now();
        pass();
        let passes = TURN.div_duration_f64(start.elapsed()).ceil() as u32;
        Engine { name, note, share, pass: Box::new(pass), passes }
    }
}

/// Every hash puts other users among the ten percent, so this can only ask for a plausible share of those whom the rule
/// lets in, and for nobody else. Four points are three standard deviations of a fair hash with 500 users.
fn share(name: &str, users: &[User], on: &[bool]) -> f64 {
    for (user, on) in users.iter().zip(on) {
        let User { country, version, matches, .. } = user;
        assert!(*matches || !on, "{name}: on for a user of {country} with {version}");
    }
    let matching = users.iter().filter(|user| user.matches).count();
    let percent = 100.0 * on.iter().filter(|on| **on).count() as f64 / matching as f64;
    assert!((percent - f64::from(PERCENT)).abs() < 4.0, "{name}: on for {percent:.1} % of those it is for");
    percent
}

fn engines(users: &[User]) -> Vec<Engine> {
    macro_rules! engine {
        ($name:literal, $module:ident) => {
            Engine::new($name, $module::NOTE, users, $module::context, $module::evaluator())
        };
    }
    vec![
        engine!("mulkko", mulkko),
        engine!("flagd-evaluation-engine", flagd),
        engine!("datalogic-rs", datalogic),
        engine!("unleash-yggdrasil", unleash),
        engine!("launchdarkly-server-sdk-evaluation", launchdarkly),
        engine!("eppo_core", eppo),
        engine!("growthbook-rust", growthbook),
    ]
}

/// The time of an evaluation in ns, of every engine in every round.
fn measure(engines: &[Engine]) -> Vec<Vec<f64>> {
    let mut times = vec![Vec::with_capacity(ROUNDS); engines.len()];
    for round in 0..ROUNDS {
        for turn in 0..engines.len() {
            // Nobody always follows the same engine, which leaves the caches and the heap as it likes.
            let i = (round + turn) % engines.len();
            // The contexts are warm, as a request's are.
            (engines[i].pass)();
            times[i].push(time(&engines[i]));
        }
    }
    times
}

/// The mean time of an evaluation in one turn.
fn time(engine: &Engine) -> f64 {
    let start = Instant::now();
    for _ in 0..engine.passes {
        black_box((engine.pass)());
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(engine.passes) / USERS as f64
}

/// The item below which that share of the items lies.
fn quantile(items: &[f64], share: f64) -> f64 {
    let mut items = items.to_vec();
    items.sort_unstable_by(f64::total_cmp);
    items[((items.len() - 1) as f64 * share).round() as usize]
}

fn print(engines: &[Engine], times: &[Vec<f64>]) {
    let medians: Vec<f64> = times.iter().map(|times| quantile(times, 0.5)).collect();
    println!(
        "{:<36} {:>6} {:>12} {:>8}   {:<17} over",
        "engine", "on", "ns, median", "ratio", "in 90 % of rounds"
    );
    for (i, engine) in engines.iter().enumerate() {
        let others = (0..engines.len()).filter(|other| *other != i);
        let fastest = others.min_by(|a, b| medians[*a].total_cmp(&medians[*b])).expect("another engine");
        let ratios: Vec<f64> = times[i].iter().zip(&times[fastest]).map(|(own, other)| own / other).collect();
        println!(
            "{:<36} {:>4.1} % {:>12.0} {:>8.2}   {:<17} {}",
            engine.name,
            engine.share,
            medians[i],
            medians[i] / medians[fastest],
            format!("{:.2} to {:.2}", quantile(&ratios, 0.05), quantile(&ratios, 0.95)),
            engines[fastest].name,
        );
    }
    println!();
    for Engine { name, note, .. } in engines {
        println!("{name}: {note}");
    }
}

fn main() {
    let users = users(USERS);
    let engines = engines(&users);
    let times = measure(&engines);
    println!(
        "{USERS} users, {ROUNDS} rounds; on: of the users whom the rule lets in; ratio: to the fastest other engine\n"
    );
    print(&engines, &times);
}
