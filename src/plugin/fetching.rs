//! How the root contexts of a process share one fetch: the lease, and what is published in shared data.

use std::hash::Hasher;

use fnv::FnvHasher;

use crate::configuration::{Configuration, Source};
use crate::guard::Author;
use crate::lease::{Claim, Holder};
use crate::plugin::host;
use crate::plugin::{now_ms, random};
use crate::update::{Polling, Published, Stamp};

/// How a root context with a source comes to its policies.
pub struct Fetching {
    /// The config cluster.
    pub source: Source,
    /// When it is asked.
    pub polling: Polling,
    holder: Holder,
    /// Whether this root context is the one that asks.
    pub holds_lease: bool,
    /// The call that is under way.
    pub call: Option<u32>,
    /// The stamp that was seen last.
    stamp: Option<Vec<u8>>,
    keys: SharedKeys,
}

/// The entries of shared data that all root contexts with one source share.
struct SharedKeys {
    /// The source, hashed.
    source: u64,
    policy: String,
    stamp: String,
    lease: String,
}

impl Fetching {
    /// Root contexts whose plugin configuration reads `text`.
    pub fn new(source: Source, configuration: &Configuration, text: &[u8]) -> Fetching {
        let mut hasher = FnvHasher::default();
        hasher.write(text);
        let holder = Holder { id: random(), configuration: hasher.finish(), born_ms: now_ms() };
        Fetching {
            polling: Polling::new(&source),
            keys: SharedKeys::new(&source, configuration),
            source,
            holder,
            holds_lease: false,
            call: None,
            stamp: None,
        }
    }

    /// Who gives verdicts under policies of this source.
    pub fn author(&self) -> Author {
        Author { source: self.keys.source, since_ms: self.holder.born_ms }
    }

    /// Renews the lease, or takes it over if it is free; whether this root context holds it.
    fn claim(&self, now_ms: i64) -> bool {
        let key = &self.keys.lease;
        let Ok(mut found) = host::shared_data(key) else { return false };
        if let Claim::Seed(seed) = self.holder.claim(found.as_ref().map(|(bytes, _)| &**bytes), now_ms) {
            if host::set_shared_data(key, &seed, 0).is_err() {
                return false;
            }
            found = host::shared_data(key).unwrap_or_default();
        }
        let Some((bytes, version)) = found else { return false };
        match self.holder.claim(Some(&bytes), now_ms) {
            Claim::Write(lease) => host::set_shared_data(key, &lease, version) == Ok(true),
            Claim::Seed(_) | Claim::Leave => false,
        }
    }

    /// What another root context has published since the last look.
    pub fn news(&mut self) -> Option<Published> {
        let (stamp, _) = host::shared_data(&self.keys.stamp).ok().flatten()?;
        if self.stamp.as_ref() == Some(&stamp) {
            return None;
        }
        Stamp::read(&stamp)?;
        self.stamp = Some(stamp);
        self.published()
    }

    /// What is published.
    pub fn published(&self) -> Option<Published> {
        let (bytes, _) = host::shared_data(&self.keys.policy).ok().flatten()?;
        Published::read(bytes)
    }

    /// Publishes a document that was taken, for the other root contexts of the process: the document first, then the
    /// stamp, so that who sees the stamp finds a document that is at least as new. Of two that publish at once one
    /// writes the document; the stamp only says that there is another.
    pub fn publish(&mut self, revision: u64, etag: Option<&str>, document: &[u8]) -> Option<Stamp> {
        if !self.holds_lease {
            return None;
        }
        let version = host::shared_data(&self.keys.policy).ok()?.map_or(0, |(_, version)| version);
        let stamp = Stamp { id: random(), revision };
        let bytes = Published::bytes(stamp, etag, document);
        let written = host::set_shared_data(&self.keys.policy, &bytes, version) == Ok(true)
            && host::set_shared_data(&self.keys.stamp, &stamp.bytes(), 0) == Ok(true);
        written.then(|| {
            self.stamp = Some(stamp.bytes());
            stamp
        })
    }

    /// Renews the lease, or takes it over if it is free. Who has just taken it over asks at once.
    pub fn claim_lease(&mut self) {
        let now_ms = now_ms();
        let held = self.claim(now_ms);
        if held && !self.holds_lease {
            self.polling.restart(now_ms);
        }
        self.holds_lease = held;
    }

    /// Gives the lease up, so that nobody has to wait for its end.
    pub fn release_lease(&mut self) {
        if !std::mem::take(&mut self.holds_lease) {
            return;
        }
        let Ok(Some((found, version))) = host::shared_data(&self.keys.lease) else { return };
        if let Some(released) = self.holder.release(&found) {
            let _ = host::set_shared_data(&self.keys.lease, &released, version);
        }
    }
}

impl SharedKeys {
    fn new(source: &Source, configuration: &Configuration) -> SharedKeys {
        let mut hasher = FnvHasher::default();
        for part in [&source.cluster, &source.authority, &source.path] {
            hasher.write(part.as_bytes());
            // None of them holds a NUL.
            hasher.write_u8(0);
        }
        hasher.write_u8(u8::from(configuration.verify.is_some()));
        let source = hasher.finish();
        let place = format!("mulkko/1/{}/{source:016x}", configuration.name);
        SharedKeys {
            source,
            policy: format!("{place}/policy"),
            stamp: format!("{place}/stamp"),
            lease: format!("{place}/lease"),
        }
    }
}
