//! Metrics: names with labels in them, which `stats_tags` turn into labels of Prometheus.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use proxy_wasm::types::MetricType;

use crate::guard::{PLACES, Series};
use crate::plugin::host;

thread_local! {
    /// Every metric that this VM has defined: the host makes a new id for each definition, so a name is defined once.
    static IDS: RefCell<HashMap<String, u32>> = RefCell::new(HashMap::new());
    /// The same for the series of guarded variants, of which there are many: by hash, and by their places.
    static GUARDS: RefCell<HashMap<u64, [u32; PLACES]>> = RefCell::new(HashMap::new());
    /// What is hashed with: keys that nobody knows, so that nobody can make two variants share their series.
    static HASHER: RandomState = RandomState::new();
}

/// The metrics of one policy name.
pub struct Metrics {
    prefix: String,
}

impl Metrics {
    /// Metrics with the label `policy`.
    pub fn new(policy: &str) -> Metrics {
        Metrics { prefix: format!("mulkko.{}", label("policy", policy)) }
    }

    /// The id of the counter of requests that a rollout sent to a variant.
    pub fn requests(&self, rollout: &str, variant: &str, reason: &str) -> Option<u32> {
        let labels = [label("rollout", rollout), label("variant", variant), label("reason", reason)].concat();
        self.id(MetricType::Counter, &labels, "requests")
    }

    /// Counts a request that a rollout's shadow picked.
    pub fn shadow_request(&self, rollout: &str, outcome: &str) {
        let labels = [label("rollout", rollout), label("outcome", outcome)].concat();
        self.add(self.id(MetricType::Counter, &labels, "shadow_requests"), 1);
    }

    /// Counts one that was not compared.
    pub fn shadow_dropped(&self, rollout: &str, reason: &str) {
        let labels = [label("rollout", rollout), label("reason", reason)].concat();
        self.add(self.id(MetricType::Counter, &labels, "shadow_dropped"), 1);
    }

    /// Counts one whose answers differ.
    pub fn shadow_difference(&self, rollout: &str, kind: &str) {
        let labels = [label("rollout", rollout), label("kind", kind)].concat();
        self.add(self.id(MetricType::Counter, &labels, "shadow_differences"), 1);
    }

    /// Records how long an answer took.
    pub fn shadow_latency(&self, rollout: &str, answer: &str, ms: u64) {
        let labels = [label("rollout", rollout), label("answer", answer)].concat();
        if let Some(id) = self.id(MetricType::Histogram, &labels, "shadow_latency_milliseconds") {
            let _ = host::record_metric(id, ms);
        }
    }

    /// Shows how many fields of a rollout's shadow are reported to differ.
    pub fn shadow_fields(&self, rollout: &str, fields: u64) {
        if let Some(id) = self.id(MetricType::Gauge, &label("rollout", rollout), "shadow_fields") {
            let _ = host::record_metric(id, fields);
        }
    }

    /// Counts a request that ended without the cluster of its variant.
    pub fn cluster_missing(&self, rollout: &str, variant: &str) {
        let labels = [label("rollout", rollout), label("variant", variant)].concat();
        self.add(self.id(MetricType::Counter, &labels, "cluster_missing"), 1);
    }

    /// The id of the gauge of the share that a strategy intends for a variant.
    pub fn intended_share(&self, rollout: &str, variant: &str) -> Option<u32> {
        let labels = [label("rollout", rollout), label("variant", variant)].concat();
        self.id(MetricType::Gauge, &labels, "intended_share_millionths")
    }

    /// The id of the counter of what an exported flag resolved to; without a variant where it has no value.
    pub fn flag_evaluations(&self, flag: &str, variant: Option<&str>, reason: &str) -> Option<u32> {
        let variant = variant.map_or_else(String::new, |variant| label("variant", variant));
        let labels = [label("flag", flag), variant, label("reason", reason)].concat();
        self.id(MetricType::Counter, &labels, "flag_evaluations")
    }

    /// The id of a series of a guarded variant.
    pub fn guard(&self, series: &Series<'_>) -> Option<u32> {
        /// What stands for an id that there is not yet.
        const NONE: u32 = u32::MAX;
        let Series { rollout, variant, test, place, .. } = *series;
        let group = HASHER.with(|hasher| hasher.hash_one((&self.prefix, rollout, variant, test)));
        let known = GUARDS.with_borrow(|guards| guards.get(&group).and_then(|ids| ids.get(place).copied()));
        known.filter(|id| *id != NONE).or_else(|| {
            let mut labels = [label("rollout", rollout), label("variant", variant)].concat();
            labels.extend(series.test.map(|test| label("test", &test.to_string())));
            labels.extend(series.odds.map(|odds| label("odds", &odds.to_string())));
            let kind = if series.is_counter { MetricType::Counter } else { MetricType::Gauge };
            let id = host::define_metric(kind, &[&self.prefix, &*labels, series.metric].concat()).ok()?;
            GUARDS.with_borrow_mut(|guards| {
                let ids = guards.entry(group).or_insert([NONE; PLACES]);
                if let Some(place) = ids.get_mut(place) {
                    *place = id;
                }
            });
            Some(id)
        })
    }

    /// Shows whether the guard of a rollout has nothing to compare.
    pub fn guard_idle(&self, rollout: &str, is_idle: bool) {
        if let Some(id) = self.id(MetricType::Gauge, &label("rollout", rollout), "guard_idle") {
            let _ = host::record_metric(id, u64::from(is_idle));
        }
    }

    /// Adds to a counter without further labels.
    pub fn count(&self, metric: &str, by: usize) {
        if by > 0 {
            self.add(self.id(MetricType::Counter, "", metric), by);
        }
    }

    /// Adds 1 to a counter with the label `outcome`.
    pub fn outcome(&self, metric: &str, outcome: &str) {
        self.add(self.id(MetricType::Counter, &label("outcome", outcome), metric), 1);
    }

    /// Sets a gauge.
    pub fn gauge(&self, metric: &str, value: u64) {
        if let Some(id) = self.id(MetricType::Gauge, "", metric) {
            // A failure is counted by the host calls themselves.
            let _ = host::record_metric(id, value);
        }
    }

    fn add(&self, id: Option<u32>, by: usize) {
        if let (Some(id), Ok(by)) = (id, i64::try_from(by)) {
            let _ = host::increment_metric(id, by);
        }
    }

    fn id(&self, kind: MetricType, labels: &str, metric: &str) -> Option<u32> {
        let name = [&self.prefix, labels, metric].concat();
        IDS.with_borrow_mut(|ids| {
            if let Some(id) = ids.get(&name) {
                return Some(*id);
            }
            let id = host::define_metric(kind, &name).ok()?;
            ids.insert(name, id);
            Some(id)
        })
    }
}

/// A label as it stands in a metric's name. Flags and their variants may be called anything: what is not visible ASCII,
/// and `;`, which ends a label, is percent-encoded.
fn label(name: &str, value: &str) -> String {
    let mut label = format!("{name}=.=");
    for byte in value.bytes() {
        match byte {
            b'!'..=b'~' if !b"%;".contains(&byte) => label.push(char::from(byte)),
            _ => label.push_str(&format!("%{byte:02X}")),
        }
    }
    label.push_str(";.;");
    label
}
