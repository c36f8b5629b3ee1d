//! The server's own metrics, for Prometheus.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::policies::Policies;
use super::proxies::{LeftOut, Seen, State};

/// What is counted as it happens.
pub struct Metrics {
    requests: Family<Request, Counter>,
    durations: Family<Route, Histogram>,
    pushes: Family<Push, Counter>,
    left_out: Family<Unseen, Counter>,
    pub connections: Gauge,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Request {
    route: String,
    method: String,
    code: u16,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Push {
    outcome: Outcome,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Named {
    policy: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Standing {
    policy: String,
    state: State,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Signature {
    policy: String,
    signature: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Unseen {
    why: LeftOut,
}

/// How a push ended.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
#[expect(non_camel_case_types, reason = "the names are the labels' values")]
pub enum Outcome {
    stored,
    unchanged,
    refused,
    conflict,
    denied,
    failed,
}

impl EncodeLabelValue for State {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(&self.name(), encoder)
    }
}

impl EncodeLabelValue for LeftOut {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let name = match self {
            LeftOut::Name => "name",
            LeftOut::Address => "address",
            LeftOut::All => "all",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

impl Outcome {
    /// The outcome of a push that was answered with an error.
    pub fn of(status: u16) -> Outcome {
        match StatusCode::from_u16(status) {
            Ok(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Outcome::denied,
            Ok(StatusCode::PRECONDITION_FAILED | StatusCode::PRECONDITION_REQUIRED) => Outcome::conflict,
            Ok(status) if status.is_client_error() => Outcome::refused,
            _ => Outcome::failed,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 4.0, 9))),
            pushes: Family::default(),
            left_out: Family::default(),
            connections: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Counts a request that was answered.
    pub fn request(&self, route: &str, method: &str, code: u16, seconds: f64) {
        let (route, method) = (route.to_owned(), method.to_owned());
        self.durations.get_or_create(&Route { route: route.clone() }).observe(seconds);
        self.requests.get_or_create(&Request { route, method, code }).inc();
    }

    /// Counts a push.
    pub fn push(&self, outcome: Outcome) {
        self.pushes.get_or_create(&Push { outcome }).inc();
    }

    /// Counts a request of a proxy that is not taken down; how many there were before, for this reason.
    pub fn left_out(&self, why: LeftOut) -> u64 {
        self.left_out.get_or_create(&Unseen { why }).inc()
    }

    /// All of them, as Prometheus reads them: what was counted, and how things stand now.
    pub fn text(&self, policies: &Policies, proxies: &[Seen]) -> String {
        let mut registry = Registry::with_prefix("mulkko_serve");
        registry.register("requests", "Requests that were answered", self.requests.clone());
        registry.register(
            "request_duration_seconds",
            "How long answers took, waits included",
            self.durations.clone(),
        );
        registry.register("pushes", "Pushes, by how they ended", self.pushes.clone());
        registry.register(
            "proxies_left_out",
            "Requests of proxies that are served and not counted: a name too long, too many of an address, too many of all",
            self.left_out.clone(),
        );
        registry.register("connections", "Open connections", self.connections.clone());
        let waiting: Gauge = Gauge::default();
        waiting.set(i64::try_from(policies.waiting()).unwrap_or(i64::MAX));
        registry.register("waiting", "Requests that wait for a new version", waiting);

        let (revisions, standings): (Family<Named, Gauge>, Family<Standing, Gauge>) = Default::default();
        let (signatures, broken): (Family<Signature, Gauge>, Family<Named, Gauge>) = Default::default();
        for (policy, count) in policies.broken() {
            broken.get_or_create(&Named { policy }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let known: BTreeMap<_, _> = policies.known().into_iter().collect();
        for (policy, served) in &known {
            let revision = i64::try_from(served.record().revision).unwrap_or(i64::MAX);
            revisions.get_or_create(&Named { policy: policy.clone() }).set(revision);
            let signature = served.record().signature();
            signatures.get_or_create(&Signature { policy: policy.clone(), signature }).set(1);
            for state in State::ALL {
                drop(standings.get_or_create(&Standing { policy: policy.clone(), state }));
            }
        }
        for Seen { proxy, .. } in proxies {
            let Some(served) = known.get(&proxy.policy) else { continue };
            let state = proxy.state(served.record().revision, &served.record().etag);
            standings.get_or_create(&Standing { policy: proxy.policy.clone(), state }).inc();
        }
        registry.register(
            "policy_signature",
            "1 for what is known of the newest version's signature: verified, claimed (by the document alone), none",
            signatures,
        );
        registry.register(
            "versions_broken",
            "Versions that were met in the store and cannot be read",
            broken,
        );
        registry.register("policy_revision", "The revision of the newest version", revisions);
        registry.register("proxies", "Proxies, by how they stand to the newest version", standings);

        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}
