//! What the longest step of loading costs, for the worst documents: `make bench-turns`.
//!
//! One program for the native and the wasm figures. A document is loaded as the plugin does it, step by step, several
//! times; of each step the shortest time counts, for other programs run beside. Freeing the policy is measured likewise.
//!
//!     turns --list
//!     turns NAME...

#![expect(clippy::expect_used, reason = "a benchmark may stop at what cannot be")]

mod documents;

use std::rc::Rc;
use std::time::{Duration, Instant};

use mulkko::configuration::Configuration;
use mulkko::jws::sign;
use mulkko::update::{Outcome, Retired, Rules, Update};

/// How often each document is loaded.
const ROUNDS: usize = 5;

/// The times of some steps, in the order in which they are taken.
#[derive(Default)]
struct Steps(Vec<Duration>);

impl Steps {
    fn take(step: &mut impl FnMut() -> bool) -> Steps {
        let mut steps = Steps::default();
        loop {
            let start = Instant::now();
            let goes_on = step();
            steps.0.push(start.elapsed());
            if !goes_on {
                return steps;
            }
        }
    }

    /// Of each step the shorter time.
    fn merge(&mut self, other: Steps) {
        if self.0.is_empty() {
            self.0 = other.0;
            return;
        }
        for (mine, others) in self.0.iter_mut().zip(other.0) {
            *mine = (*mine).min(others);
        }
    }

    /// How many, the longest and the sum, in milliseconds.
    fn figures(&self) -> (usize, f64, f64) {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        (self.0.len(), ms(self.0.iter().max().copied().unwrap_or_default()), ms(self.0.iter().sum()))
    }
}

/// How much memory there is, in MiB: it never shrinks.
#[cfg(target_arch = "wasm32")]
fn memory_mib() -> f64 {
    core::arch::wasm32::memory_size(0) as f64 / 16.0
}

#[cfg(not(target_arch = "wasm32"))]
fn memory_mib() -> f64 {
    0.0
}

fn bench(name: &str, document: &[u8], rules: &Rules) {
    let (mut loading, mut freeing, mut outcome, mut grown_mib) =
        (Steps::default(), Steps::default(), String::new(), 0.0);
    for round in 0..ROUNDS {
        let (copy, before_mib) = (document.to_vec(), memory_mib());
        let (mut update, mut settled) = (Update::new(None, rules.clone()), None);
        update.load_fetched(copy, Some("\"a\"".into()), 0);
        loading.merge(Steps::take(&mut || {
            settled = update.step();
            settled.is_none()
        }));
        if round == 0 {
            grown_mib = memory_mib() - before_mib;
        }
        let mut retired = Retired::default();
        outcome = match settled {
            Some(Outcome::Taken { policy, replaced, .. }) => {
                drop(replaced);
                retired.push(Rc::clone(&policy));
                "taken".to_owned()
            }
            Some(Outcome::Refused { found, .. }) => {
                found.first().map(ToString::to_string).unwrap_or_default()
            }
            None => String::new(),
        };
        drop(update);
        freeing.merge(Steps::take(&mut || retired.free()));
    }
    let ((steps, longest_ms, sum_ms), (_, longest_free_ms, free_ms)) = (loading.figures(), freeing.figures());
    println!(
        "{name}|{}|{steps}|{longest_ms:.2}|{sum_ms:.0}|{longest_free_ms:.2}|{free_ms:.0}|{grown_mib:.0}|{outcome}",
        document.len()
    );
}

/// What takes documents that are signed, and a signed one as large as may be.
fn signed() -> (Rules, Vec<u8>) {
    let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let public = {
        use base64ct::{Base64UrlUnpadded, Encoding};
        Base64UrlUnpadded::encode_string(key.verifying_key().as_bytes())
    };
    let text = format!(r#"{{"name": "shop", "verify": [{{"kid": "a", "ed25519": "{public}"}}]}}"#);
    let rules = Configuration::parse(text.as_bytes()).expect("a configuration").rules();
    let mut policy = b"{".to_vec();
    policy.resize((8 << 20) / 4 * 3 - 200, b' ');
    policy.extend_from_slice(br#""name":"shop","revision":1}"#);
    (rules, sign(&policy, "a", &key, 0).into_bytes())
}

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    if asked.iter().any(|it| it == "--list") {
        documents::ALL.iter().for_each(|(name, _)| println!("{name}"));
        println!("a signed policy");
        return;
    }
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|it| it == name);
    for (name, document) in documents::ALL.iter().filter(|(name, _)| is_asked(name)) {
        bench(name, &document(), &Rules::default());
    }
    if is_asked("a signed policy") {
        let (rules, document) = signed();
        bench("a signed policy", &document, &rules);
    }
}
