//! Who runs what: what proxies say of themselves as they ask, gathered from all servers through the store.

mod heartbeat;
mod own;
mod proxy;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::http::HeaderMap;
use futures_util::TryStreamExt;
use mulkko::policy::MAX_REVISION;

use super::asker::{Asker, network};
use super::store::Store;
use super::tokens::Reader;
use crate::command::moments::now_ms;
use heartbeat::{parts, proxies_of};
pub use own::LeftOut;
use own::{Asking, Key, MOST_PROXIES, MOST_UNVERIFIED, Own};
pub use proxy::{Proxy, Seen, State};

/// The most bytes of a node's name.
const MOST_NAME_BYTES: usize = 256;
/// The most bytes of all else that a proxy says of itself: an ETag of ours, a version.
const MOST_TEXT_BYTES: usize = 64;
/// The most rolled back variants of a proxy that are kept, and the most bytes of all of them.
const MOST_ROLLED_BACK: usize = 16;
const MOST_ROLLED_BACK_BYTES: usize = 1_024;
/// What the other servers say may be as old as this.
const OTHERS_REFRESH_MS: i64 = 500;

/// The proxies of one server, and what the others say of theirs.
pub struct Proxies {
    /// The name of this server's heartbeat.
    server: String,
    forget_ms: i64,
    /// The most of one address that show nothing.
    most_by_address: usize,
    own: Mutex<Own>,
    others: tokio::sync::Mutex<(i64, Vec<Seen>)>,
    /// How many parts the last heartbeat had.
    parts: AtomicUsize,
}

/// That a proxy's request waits; it ends with this.
pub struct Waiting<'p> {
    proxies: &'p Proxies,
    key: Key,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(asking) = self.proxies.own().proxies.get_mut(&self.key) {
            asking.waiting = asking.waiting.saturating_sub(1);
            asking.seen_ms = now_ms();
        }
    }
}

impl Proxies {
    /// Proxies are forgotten that were not heard of for `forget`; of one address as many are kept that show nothing.
    pub fn new(server: String, forget: Duration, most_by_address: usize) -> Proxies {
        let forget_ms = i64::try_from(forget.as_millis()).unwrap_or(i64::MAX);
        Proxies {
            server,
            forget_ms,
            most_by_address,
            own: Mutex::default(),
            others: tokio::sync::Mutex::default(),
            parts: AtomicUsize::new(0),
        }
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down what a proxy says of itself as it asks for `policy`; `None` for who is no proxy.
    ///
    /// # Errors
    /// Why it is left out. It is served all the same.
    pub fn seen(
        &self,
        policy: &str,
        headers: &HeaderMap,
        asker: &Asker,
        reader: &Reader,
    ) -> Result<Option<Waiting<'_>>, LeftOut> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let text = |name: &str| header(name).and_then(text);
        let Some(node) = header("x-mulkko-node").filter(|node| !node.is_empty()) else { return Ok(None) };
        if node.len() > MOST_NAME_BYTES {
            return Err(LeftOut::Name);
        }
        let verified = reader.is_believed(node, asker);
        let address = (!reader.is_known()).then(|| network(asker.address));
        let proxy = Arc::new(Proxy {
            policy: policy.to_owned(),
            node: node.to_owned(),
            revision: text("x-mulkko-revision")
                .and_then(|it| it.parse().ok())
                .filter(|it| *it <= MAX_REVISION),
            refused: text("x-mulkko-refused"),
            rolled_back: rolled_back(header("x-mulkko-rolled-back").unwrap_or_default()),
            version: text("x-mulkko-version"),
            verified,
        });
        let key = (policy.to_owned(), node.to_owned(), verified);
        let mut own = self.own();
        if !own.proxies.contains_key(&key) {
            own.make_room(verified, address, self.most_by_address)?;
        }
        let new = || Asking { proxy: Arc::clone(&proxy), seen_ms: 0, waiting: 0, address };
        let asking = own.proxies.entry(key.clone()).or_insert_with(new);
        (asking.proxy, asking.seen_ms) = (proxy, now_ms());
        asking.waiting += 1;
        Ok(Some(Waiting { proxies: self, key }))
    }

    /// The proxies of this server, those that wait here as of now; forgets who was not heard of for long.
    fn current(&self) -> Vec<Seen> {
        let now_ms = now_ms();
        let mut own = self.own();
        own.forget(now_ms.saturating_sub(self.forget_ms));
        let seen = own.proxies.values().map(|asking| Seen {
            seen_ms: if asking.waiting > 0 { now_ms } else { asking.seen_ms },
            proxy: Arc::clone(&asking.proxy),
        });
        seen.collect()
    }

    /// The proxies of all servers, by their places.
    pub async fn all(&self, store: &Store) -> Vec<Seen> {
        let mut all = self.current();
        {
            let mut others = self.others.lock().await;
            if now_ms().saturating_sub(others.0).abs() >= OTHERS_REFRESH_MS {
                match self.read_others(store).await {
                    Ok(read) => others.1 = read,
                    // What is known is told on.
                    Err(error) => {
                        tracing::warn!(error = format!("{error:#}"), "no heartbeats of other servers")
                    }
                }
                others.0 = now_ms();
            }
            all.extend(others.1.iter().cloned());
        }
        // What a proxy has said last counts.
        all.sort_unstable_by(|a, b| (a.proxy.place(), b.seen_ms).cmp(&(b.proxy.place(), a.seen_ms)));
        all.dedup_by(|later, first| later.proxy.place() == first.proxy.place());
        all
    }

    async fn read_others(&self, store: &Store) -> Result<Vec<Seen>> {
        let oldest_ms = now_ms().saturating_sub(self.forget_ms);
        let mut proxies = Vec::new();
        let mut heartbeats = std::pin::pin!(store.heartbeats().await?);
        while let Some((part, bytes)) = heartbeats.try_next().await? {
            if part.split('.').next() == Some(&*self.server) {
                continue;
            }
            let Some((at_ms, said)) = proxies_of(&bytes) else {
                tracing::debug!(part, "no heartbeat of this version");
                continue;
            };
            if at_ms < oldest_ms {
                store.forget(&part).await?;
            }
            let room = (MOST_PROXIES + MOST_UNVERIFIED).saturating_sub(proxies.len());
            proxies.extend(said.into_iter().filter(|seen| seen.seen_ms >= oldest_ms).take(room));
        }
        Ok(proxies)
    }

    /// Tells the other servers about the proxies of this one, at every `interval`. Never ends.
    pub async fn beat(&self, store: &Store, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.say(store).await;
        }
    }

    /// Says which proxies ask here; takes away what was said of more. A server that nobody asks has nothing to say.
    async fn say(&self, store: &Store) {
        let proxies = self.current();
        let mut said = 0;
        let mut failed = None;
        for part in parts(now_ms(), &proxies) {
            let stored = match part {
                Ok(bytes) => store.beat(&self.part(said), bytes).await,
                Err(error) => Err(error),
            };
            failed = failed.or(stored.err());
            said += 1;
        }
        for gone in said..self.parts.swap(said, Ordering::Relaxed) {
            failed = failed.or(store.forget(&self.part(gone)).await.err());
        }
        if let Some(error) = failed {
            tracing::warn!(error = format!("{error:#}"), "no heartbeat, or not all of it");
        }
    }

    fn part(&self, number: usize) -> String {
        format!("{}.{number}", self.server)
    }

    /// Leaves a last word for the other servers: the proxies will come to them.
    pub async fn leave(&self, store: &Store) {
        self.say(store).await;
    }
}

/// What is kept of a text.
fn text(value: &str) -> Option<String> {
    (1..=MOST_TEXT_BYTES).contains(&value.len()).then(|| value.to_owned())
}

/// The variants of a list, as many as are kept.
fn rolled_back(list: &str) -> Vec<String> {
    let mut room = MOST_ROLLED_BACK_BYTES;
    let variants = list.split(',').map(str::trim).filter(|variant| !variant.is_empty());
    let kept = variants.take(MOST_ROLLED_BACK).take_while(|variant| {
        let fits = variant.len() <= room;
        room = room.saturating_sub(variant.len());
        fits
    });
    kept.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(address: &str) -> Asker {
        Asker { address: address.parse().unwrap(), token: None, names: Vec::new() }
    }

    fn headers(node: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-mulkko-node", node.parse().unwrap());
        headers.insert("x-mulkko-revision", "7".parse().unwrap());
        headers
    }

    #[test]
    fn an_address_has_a_quota_of_proxies_that_ends_with_them() {
        let proxies = Proxies::new("a".to_owned(), Duration::ZERO, 2);
        let seen = |node: &str, address: &str| {
            proxies.seen("shop", &headers(node), &asker(address), &Reader::Stranger).map(drop)
        };
        assert_eq!(seen("edge-1", "10.0.0.1"), Ok(()));
        assert_eq!(seen("edge-2", "10.0.0.1"), Ok(()));
        assert_eq!(seen("edge-1", "10.0.0.1"), Ok(()));
        assert_eq!(seen("edge-3", "10.0.0.1"), Err(LeftOut::Address));
        assert_eq!(seen("edge-3", "10.0.0.2"), Ok(()));
        assert_eq!(seen("edge-4", "2001:db8::1"), Ok(()));
        assert_eq!(seen("edge-5", "2001:db8::2"), Ok(()));
        assert_eq!(seen("edge-6", "2001:db8::3"), Err(LeftOut::Address));
        // Nobody is remembered for long here.
        assert!(proxies.current().is_empty());
        assert_eq!(seen("edge-3", "10.0.0.1"), Ok(()));
    }

    #[test]
    fn who_is_not_believed_stands_for_nobody_else() {
        let proxies = Proxies::new("a".to_owned(), Duration::from_secs(60), 10);
        for reader in [Reader::Anybody, Reader::Stranger] {
            drop(proxies.seen("shop", &headers("edge-1"), &asker("10.0.0.1"), &reader).unwrap());
        }
        let mut states: Vec<_> = proxies.current().iter().map(|it| it.proxy.state(7, "x")).collect();
        states.sort_unstable();
        assert_eq!(states, [State::Current, State::Unverified]);
    }

    #[test]
    fn what_a_proxy_says_is_kept_in_part() {
        let long = "x".repeat(257);
        let proxies = Proxies::new("a".to_owned(), Duration::from_secs(60), 10);
        let left_out = proxies.seen("shop", &headers(&long), &asker("10.0.0.1"), &Reader::Anybody);
        assert_eq!(left_out.map(|it| it.is_some()), Err(LeftOut::Name));
        assert_eq!(rolled_back(" a/b,, c/d "), ["a/b", "c/d"]);
        assert_eq!(rolled_back(&"a,".repeat(10_000)).len(), MOST_ROLLED_BACK);
        assert_eq!(rolled_back(&format!("{long},{long},{long},{long}")).len(), 3);
        assert_eq!(text(&long), None);
    }
}
