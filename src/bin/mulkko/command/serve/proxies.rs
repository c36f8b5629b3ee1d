//! Who runs what: what proxies say of themselves as they ask, gathered from all servers through the store.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::http::HeaderMap;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::store::Store;
use crate::command::moments::now_ms;

/// The most proxies that a server keeps; the first that came keep their place.
const MOST_PROXIES: usize = 100_000;
/// The most bytes of each thing that a proxy says of itself: a node id, an ETag of ours, `rollout/variant`.
const MOST_TEXT_BYTES: usize = 256;
/// The most rolled back variants of a proxy that are kept.
const MOST_ROLLED_BACK: usize = 16;
/// The most bytes that a heartbeat may have when it is decompressed.
const MOST_HEARTBEAT_BYTES: u64 = 128 << 20;
/// What the other servers say may be as old as this.
const OTHERS_REFRESH_MS: i64 = 500;

/// A proxy's process, as it asks for one policy.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Proxy {
    pub policy: String,
    pub node: String,
    /// What is in force there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The ETag of the document that it refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The variants that its guards have rolled back, `checkout-v2/canary`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rolled_back: Vec<String>,
    /// When it was last heard of, in unix milliseconds.
    pub seen_ms: i64,
    /// How many of its requests are waiting here.
    #[serde(skip)]
    waiting: usize,
}

/// How a proxy stands to the newest version of its policy.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It runs it.
    Current,
    /// It runs an older one, or none.
    Behind,
    /// It has refused it.
    Refused,
}

impl Proxy {
    /// How it stands to a version.
    pub fn state(&self, revision: u64, etag: &str) -> State {
        match &self.refused {
            Some(refused) if refused.trim_matches('"') == etag => State::Refused,
            _ if self.revision.is_some_and(|its| its >= revision) => State::Current,
            _ => State::Behind,
        }
    }
}

/// The proxies of one server, and what the others say of theirs.
pub struct Proxies {
    /// The name of this server's heartbeat.
    server: String,
    forget_ms: i64,
    own: Mutex<HashMap<(String, String), Proxy>>,
    others: tokio::sync::Mutex<(i64, Vec<Proxy>)>,
}

#[derive(Deserialize, Serialize)]
struct Heartbeat {
    at_ms: i64,
    proxies: Vec<Proxy>,
}

/// That a proxy's request waits; it ends with this.
pub struct Waiting<'p> {
    proxies: &'p Proxies,
    key: (String, String),
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(proxy) = self.proxies.own().get_mut(&self.key) {
            proxy.waiting = proxy.waiting.saturating_sub(1);
            proxy.seen_ms = now_ms();
        }
    }
}

impl Proxies {
    /// Proxies are forgotten that were not heard of for `forget`.
    pub fn new(server: String, forget: Duration) -> Proxies {
        let forget_ms = i64::try_from(forget.as_millis()).unwrap_or(i64::MAX);
        Proxies { server, forget_ms, own: Mutex::default(), others: tokio::sync::Mutex::default() }
    }

    fn own(&self) -> MutexGuard<'_, HashMap<(String, String), Proxy>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down what a proxy says of itself as it asks for `policy`; `None` for who is no proxy.
    pub fn seen(&self, policy: &str, headers: &HeaderMap) -> Option<Waiting<'_>> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let text = |name: &str| header(name).and_then(text);
        let node = text("x-mulkko-node")?;
        let key = (policy.to_owned(), node.clone());
        let mut own = self.own();
        if own.len() >= MOST_PROXIES && !own.contains_key(&key) {
            return None;
        }
        let proxy = own.entry(key.clone()).or_default();
        *proxy = Proxy {
            policy: policy.to_owned(),
            node,
            revision: text("x-mulkko-revision").and_then(|revision| revision.parse().ok()),
            refused: text("x-mulkko-refused"),
            rolled_back: rolled_back(header("x-mulkko-rolled-back").unwrap_or_default()),
            seen_ms: now_ms(),
            waiting: proxy.waiting + 1,
        };
        Some(Waiting { proxies: self, key })
    }

    /// The proxies of this server, those that wait here as of now; forgets who was not heard of for long.
    fn current(&self) -> Vec<Proxy> {
        let now_ms = now_ms();
        let mut own = self.own();
        own.retain(|_, proxy| proxy.waiting > 0 || now_ms.saturating_sub(proxy.seen_ms) < self.forget_ms);
        let seen = own.values().map(|proxy| Proxy {
            seen_ms: if proxy.waiting > 0 { now_ms } else { proxy.seen_ms },
            ..proxy.clone()
        });
        seen.collect()
    }

    /// The proxies of all servers, by policy and node.
    pub async fn all(&self, store: &Store) -> Result<Vec<Proxy>> {
        let others = {
            let mut others = self.others.lock().await;
            if now_ms().saturating_sub(others.0).abs() >= OTHERS_REFRESH_MS {
                *others = (now_ms(), self.read_others(store).await?);
            }
            others.1.clone()
        };
        let mut all: HashMap<(String, String), Proxy> = HashMap::new();
        for proxy in self.current().into_iter().chain(others) {
            let key = (proxy.policy.clone(), proxy.node.clone());
            let known = all.entry(key).or_insert_with(|| proxy.clone());
            if known.seen_ms < proxy.seen_ms {
                *known = proxy;
            }
        }
        let mut all: Vec<Proxy> = all.into_values().collect();
        all.sort_unstable_by(|a, b| (&a.policy, &a.node).cmp(&(&b.policy, &b.node)));
        Ok(all)
    }

    async fn read_others(&self, store: &Store) -> Result<Vec<Proxy>> {
        let oldest_ms = now_ms().saturating_sub(self.forget_ms);
        let mut proxies = Vec::new();
        for (server, bytes) in store.heartbeats().await? {
            if server == self.server {
                continue;
            }
            // What cannot be read is another version's, or nobody's.
            let Some(heartbeat) = unpacked(&bytes) else { continue };
            if heartbeat.at_ms < oldest_ms {
                store.forget(&server).await?;
            }
            proxies.extend(heartbeat.proxies.into_iter().filter(|proxy| proxy.seen_ms >= oldest_ms));
        }
        Ok(proxies)
    }

    /// Tells the other servers about the proxies of this one, at every `interval`. Never ends.
    pub async fn beat(&self, store: &Store, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut said = false;
        loop {
            ticks.tick().await;
            let proxies = self.current();
            // A server that nobody asks has nothing to say.
            if proxies.is_empty() && !said {
                continue;
            }
            said = !proxies.is_empty();
            if let Err(error) = self.say(store, proxies).await {
                tracing::warn!(error = format!("{error:#}"), "no heartbeat");
            }
        }
    }

    async fn say(&self, store: &Store, proxies: Vec<Proxy>) -> Result<()> {
        store.beat(&self.server, packed(&Heartbeat { at_ms: now_ms(), proxies })?).await
    }

    /// Leaves a last word for the other servers: the proxies will come to them.
    pub async fn leave(&self, store: &Store) {
        let proxies = self.current();
        let left = if proxies.is_empty() {
            store.forget(&self.server).await
        } else {
            self.say(store, proxies).await
        };
        if let Err(error) = left {
            tracing::warn!(error = format!("{error:#}"), "no last heartbeat");
        }
    }
}

/// What is kept of a text.
fn text(value: &str) -> Option<String> {
    (1..=MOST_TEXT_BYTES).contains(&value.len()).then(|| value.to_owned())
}

fn rolled_back(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter_map(text).take(MOST_ROLLED_BACK).collect()
}

fn packed(heartbeat: &Heartbeat) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&serde_json::to_vec(heartbeat)?)?;
    Ok(encoder.finish()?)
}

fn unpacked(bytes: &[u8]) -> Option<Heartbeat> {
    let mut text = Vec::new();
    GzDecoder::new(bytes).take(MOST_HEARTBEAT_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}
