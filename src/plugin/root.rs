//! A root context: the plugin configuration on one thread, and the life of its policy.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType, MapType};

use crate::configuration::{Configuration, Source};
use crate::decide::Node;
use crate::finding::Finding;
use crate::guard::Author;
use crate::mesh::MeshKeys;
use crate::ofrep::Bearer;
use crate::plugin::fetching::Fetching;
use crate::plugin::host;
use crate::plugin::shadowing;
use crate::plugin::shared::{
    BUSY_TICK_MS, SHADOW_TICK_MS, Secrets, Shared, TICK_MS, compiled, free, retire, share_compiled,
};
use crate::plugin::stream::Stream;
use crate::plugin::{now_ms, random};
use crate::policy::{MAX_BYTES, Policy};
use crate::update::{News, Origin, Outcome, Stamp, Update, etag_text, token_text};

/// After how many nanoseconds a turn ends, once the step is done that it is at: streams wait meanwhile.
const TURN_NS: u64 = 5_000_000;

/// Tells Envoy, which keeps them to itself, to ask another endpoint of the cluster at once where one does not answer: a
/// server may die while a long poll waits for it.
const RETRIES: [(&str, &str); 2] =
    [("x-envoy-retry-on", "connect-failure,refused-stream,reset"), ("x-envoy-max-retries", "2")];

/// A root context. Until it is configured it acts as `{}`.
pub struct Root {
    shared: Rc<Shared>,
    update: Update,
    fetching: Option<Fetching>,
    refused_configuration: bool,
    /// The id by which the host knows it.
    id: u32,
    /// Whether streams wait for an answer that is due.
    is_late: bool,
}

thread_local! {
    /// How many root contexts of this VM have a plugin configuration that is refused. They all act as `{}`, so they share
    /// one gauge.
    static REFUSED_CONFIGURATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The first of some findings, as a log line shows it.
struct First<'f>(&'f [Finding]);

impl fmt::Display for First<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.first().map_or(Ok(()), |finding| finding.fmt(f))
    }
}

impl Root {
    /// The root context that the host knows by this id.
    pub fn new(id: u32) -> Root {
        Root {
            shared: Rc::new(Shared::new(
                Configuration::default(),
                Author::inline(0),
                Secrets::default(),
                Node::default(),
            )),
            update: Update::default(),
            fetching: None,
            refused_configuration: false,
            id,
            is_late: false,
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _: usize) {
        if shadowing::answered(&self.shared, token, headers, body_size) {
            return;
        }
        let Some(fetching) = &mut self.fetching else { return };
        if fetching.call != Some(token) {
            return;
        }
        fetching.call = None;
        // No headers: the connection was reset after the first of them.
        let news = if headers == 0 { News::Failed } else { self.reply(body_size) };
        self.answered(news);
        self.turn();
        self.set_tick();
    }

    fn on_done(&mut self) -> bool {
        if let Some(fetching) = &mut self.fetching {
            fetching.release_lease();
        }
        retire(self.update.policy().cloned());
        if self.refused_configuration {
            let others = REFUSED_CONFIGURATIONS.get().saturating_sub(1);
            REFUSED_CONFIGURATIONS.set(others);
            self.shared.metrics.gauge("policy_refused", u64::from(others > 0));
        }
        true
    }
}

impl RootContext for Root {
    /// Never refuses: that would stop the proxy at its start, or leave it without the filter.
    fn on_configure(&mut self, size: usize) -> bool {
        let text = host::buffer(BufferType::PluginConfiguration, 0, size).unwrap_or_default();
        let (mut configuration, refusal) = match Configuration::parse(&text) {
            Ok(configuration) => (configuration, None),
            Err(found) => (Configuration::default(), Some(found)),
        };
        let secrets = secrets(&configuration);
        self.update = Update::new(configuration.policy.take(), configuration.rules());
        self.fetching =
            configuration.source.clone().map(|source| Fetching::new(source, &configuration, &text));
        let author = self.fetching.as_ref().map_or_else(|| Author::inline(now_ms()), Fetching::author);
        self.shared = Rc::new(Shared::new(configuration, author, secrets, node()));
        if let Some(found) = &refusal {
            log::error!("plugin configuration refused: {}", First(found));
            self.refused_configuration = true;
            REFUSED_CONFIGURATIONS.set(REFUSED_CONFIGURATIONS.get() + 1);
        }
        if self.fetching.is_some() && self.shared.configuration.clusters.allow_all() {
            let name = &self.shared.configuration.name;
            log::warn!("{name}: no `clusters`: who pushes policies may route to any cluster of this proxy");
        }
        // With a source the first fetch tells.
        if refusal.is_some() || self.fetching.is_none() {
            self.shared.metrics.gauge("policy_refused", u64::from(refusal.is_some()));
        }
        self.look_for_published();
        while self.update.is_loading() {
            if let Some(outcome) = self.update.step() {
                self.settled(outcome);
            }
        }
        if let (None, Some(inline)) = (self.shared.policy(), self.update.policy()) {
            self.shared.take(Rc::clone(inline));
        }
        self.set_tick();
        true
    }

    fn on_tick(&mut self) {
        self.look_for_published();
        if let Some(fetching) = &mut self.fetching {
            fetching.claim_lease();
        }
        self.turn();
        self.fetch();
        let start_ns = host::now_ns().unwrap_or(0);
        let is_time_up = || host::now_ns().is_ok_and(|now| now.saturating_sub(start_ns) >= TURN_NS);
        self.shared.judge(now_ms(), is_time_up);
        self.shared.show_shares(now_ms(), is_time_up);
        self.shared.look_for_clusters();
        shadowing::tick(&self.shared, now_ms());
        self.is_late = self.shared.answer_late(self.id, now_ms());
        self.set_tick();
        self.shared.count_failures();
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(id, Rc::clone(&self.shared))))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Root {
    /// Takes, or starts to load, what another root context has published since the last look.
    fn look_for_published(&mut self) {
        let Some(published) = self.fetching.as_mut().and_then(Fetching::news) else { return };
        if self.update.policy().is_some_and(|policy| policy.revision > published.stamp.revision) {
            return;
        }
        match self.compiled(published.stamp) {
            Some(policy) => self.take_compiled(policy, published.etag),
            None => self.update.load_published(published),
        }
    }

    /// The published policy, if another root context of this VM has compiled it.
    fn compiled(&self, stamp: Stamp) -> Option<Rc<Policy>> {
        let floor = self.update.policy().map_or(0, |policy| policy.revision);
        compiled(stamp.id, self.update.rules()).filter(|policy| policy.revision >= floor)
    }

    fn take_compiled(&mut self, policy: Rc<Policy>, etag: Option<Box<str>>) {
        retire(self.update.take(Rc::clone(&policy), etag));
        self.shared.take(policy);
    }

    /// Loads, and frees what is not used any more, for at most one turn.
    fn turn(&mut self) {
        let Ok(start_ns) = host::now_ns() else { return };
        let awaited = self.update.awaited();
        let compiled = awaited.and_then(|(stamp, etag)| Some((self.compiled(stamp)?, etag.map(Box::from))));
        if let Some((policy, etag)) = compiled {
            self.take_compiled(policy, etag);
        }
        while free() || self.update.free() || self.load() {
            if host::now_ns().is_ok_and(|now_ns| now_ns.saturating_sub(start_ns) >= TURN_NS) {
                return;
            }
        }
    }

    /// Loads a part of a document; `false` where there is none.
    fn load(&mut self) -> bool {
        let is_loading = self.update.is_loading();
        if let Some(outcome) = self.update.step() {
            self.settled(outcome);
        }
        is_loading
    }

    /// Puts a policy in force, or tells why not.
    fn settled(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Taken { policy, replaced, document, origin } => {
                retire(replaced);
                self.shared.take(Rc::clone(&policy));
                match origin {
                    Origin::Published(stamp) => {
                        share_compiled(stamp.id, self.update.rules(), &policy);
                    }
                    Origin::Fetched => {
                        log::info!(
                            "{}: policy taken, revision {}",
                            self.shared.configuration.name,
                            policy.revision
                        );
                        self.shared.metrics.outcome("policies", "taken");
                        self.shared.metrics.gauge("policy_refused", 0);
                        let (revision, etag) = (policy.revision, self.update.etag());
                        let fetching = self.fetching.as_mut();
                        let stamp = fetching.and_then(|it| it.publish(revision, etag, &document));
                        if let Some(stamp) = stamp {
                            share_compiled(stamp.id, self.update.rules(), &policy);
                        }
                    }
                }
            }
            Outcome::Refused { found, origin: Origin::Fetched } => self.refused(&found),
            // Told by the root context that fetches. Here it means that this one is configured otherwise, or that
            // something else wrote to the shared data.
            Outcome::Refused { found, origin: Origin::Published(_) } => {
                log::warn!("{}: published policy refused: {}", self.shared.configuration.name, First(&found));
            }
        }
    }

    fn refused(&self, found: &[Finding]) {
        log::warn!("{}: policy refused: {}", self.shared.configuration.name, First(found));
        self.shared.metrics.outcome("policies", "refused");
        self.shared.metrics.gauge("policy_refused", 1);
    }

    /// Asks the config cluster, where this root context does so and it is time.
    fn fetch(&mut self) {
        let Some(fetching) = &mut self.fetching else { return };
        let now_ms = now_ms();
        if fetching.polling.is_lost(now_ms) {
            fetching.call = None;
            self.answered(News::Failed);
            return;
        }
        if !fetching.holds_lease || self.update.is_loading() || !fetching.polling.is_due(now_ms) {
            return;
        }
        fetching.polling.sent(now_ms);
        let node = self.shared.node.id.as_deref().filter(|id| id.bytes().all(|b| b.is_ascii_graphic()));
        let token = self.shared.secrets.token.as_deref();
        let mut asked = self.update.headers(&fetching.source, node, token);
        let rolled_back = self.shared.rolled_back_header();
        if !rolled_back.is_empty() {
            asked.push(("x-mulkko-rolled-back", rolled_back.into()));
        }
        let Source { cluster, authority, path, .. } = &fetching.source;
        let mut headers = vec![(":method", "GET"), (":path", &**path), (":authority", &**authority)];
        headers.extend(RETRIES);
        headers.extend(asked.iter().map(|(name, value)| (*name, &**value)));
        let timeout = Duration::from_millis(fetching.polling.timeout_ms().unsigned_abs());
        match host::call(cluster, headers, None, timeout) {
            Ok(call) => fetching.call = Some(call),
            // No such cluster, no healthy host, or its circuit breaker is open: no reply will come.
            Err(host::Failed(status)) => {
                host::failed(status);
                self.answered(News::Failed);
            }
        }
    }

    fn answered(&mut self, news: News) {
        let Some(fetching) = &mut self.fetching else { return };
        let now_ms = now_ms();
        let spread = u32::try_from(random() >> 32).unwrap_or(0);
        fetching.polling.answered(news, now_ms, spread);
        let metrics = &self.shared.metrics;
        metrics.outcome(
            "fetches",
            match news {
                News::Document { .. } => "document",
                News::Unchanged => "unchanged",
                News::Failed => "failed",
            },
        );
        if news != News::Failed {
            metrics.gauge("last_fetch_timestamp_seconds", now_ms.unsigned_abs() / 1_000);
        }
        if news == News::Unchanged {
            metrics.gauge("policy_refused", u64::from(self.update.is_refused()));
        }
    }

    /// Reads a reply, whose headers and body can be had only now.
    fn reply(&mut self, body_size: usize) -> News {
        let Ok(headers) = host::headers(MapType::HttpCallResponseHeaders) else { return News::Failed };
        let header = |name: &[u8]| headers.iter().find(|(it, _)| *it == name).map(|(_, value)| value);
        match header(b":status") {
            Some(b"304") => return News::Unchanged,
            Some(b"200") => {}
            _ => return News::Failed,
        }
        if self.update.is_loading() {
            // Another root context has taken the lease over meanwhile, and published. This document is left unread, so
            // that the published one is not lost for it; whoever holds the lease asks again.
            return News::Failed;
        }
        let etag = header(b"etag").and_then(etag_text);
        let is_new = etag.is_some() && etag.as_deref() != self.update.etag();
        if etag.is_some() && !is_new {
            // The server does not know `if-none-match`.
            return News::Unchanged;
        }
        if body_size > MAX_BYTES {
            let finding = self.update.refuse_unread(etag, body_size);
            self.refused(&[finding]);
            return News::Document { is_new };
        }
        let body = match host::buffer(BufferType::HttpCallResponseBody, 0, body_size) {
            Ok(body) if body.len() == body_size => body,
            _ => return News::Failed,
        };
        if etag.is_none() && self.is_no_news(&body) {
            return News::Unchanged;
        }
        self.update.load_fetched(body, etag, now_ms());
        News::Document { is_new }
    }

    /// Whether `document`, which came without an ETag, was read before: its bytes tell.
    fn is_no_news(&self, document: &[u8]) -> bool {
        if self.update.is_refused() {
            return self.update.is_refused_document(document);
        }
        let in_force = self.update.policy().map(|policy| policy.revision);
        let published = self.fetching.as_ref().and_then(Fetching::published);
        published.is_some_and(|it| it.document == document && Some(it.stamp.revision) == in_force)
    }

    /// Ticks often while there is much to do, and not at all while there is nothing to wait for.
    fn set_tick(&self) {
        self.shared.set_tick(if self.shared.shadows.borrow().is_due() {
            SHADOW_TICK_MS
        } else if self.update.is_loading() || self.is_late || self.shared.is_defining() {
            BUSY_TICK_MS
        } else if self.fetching.is_some()
            || self.shared.is_waiting()
            || self.shared.is_guarding()
            || self.shared.shadows.borrow().is_busy()
        {
            TICK_MS
        } else {
            self.shared.shares_period_ms().unwrap_or(0)
        });
    }
}

/// The secrets, from the environment. A pass key or mesh key that is missing or too short is left out: better fewer passes
/// than forged ones, and nobody followed than anybody. A bearer token that is missing is one that nobody has: better no flags
/// than everybody's. Without its token the config cluster is asked all the same: it may let everybody read.
fn secrets(configuration: &Configuration) -> Secrets {
    let secret = |name: &str| std::env::var_os(name).unwrap_or_default().into_encoded_bytes();
    let mut pass_keys = configuration.passes();
    for name in &configuration.pass_keys {
        if let Err(problem) = pass_keys.add(&secret(name)) {
            log::warn!("{}: pass key {name} left out: {problem}", configuration.name);
        }
    }
    let mut mesh_keys = MeshKeys::default();
    for name in configuration.mesh_keys.iter().flatten() {
        if let Err(problem) = mesh_keys.add(&secret(name)) {
            log::warn!("{}: mesh key {name} left out: {problem}", configuration.name);
        }
    }
    let bearer = configuration.ofrep.as_ref().and_then(|ofrep| ofrep.bearer.as_deref()).map(|name| {
        let bearer = Bearer::new(&secret(name));
        if bearer.is_empty() {
            log::warn!("{}: bearer token {name} is missing: OFREP answers 401", configuration.name);
        }
        bearer
    });
    let token = configuration.source.as_ref().and_then(|source| source.token.as_deref()).and_then(|name| {
        let token = token_text(&secret(name));
        if token.is_none() {
            log::warn!(
                "{}: source token {name} is missing, or no visible ASCII: the config cluster is asked without",
                configuration.name
            );
        }
        token
    });
    Secrets { pass_keys, mesh_keys: Arc::new(mesh_keys), bearer, token }
}

/// The proxy, as it calls itself.
fn node() -> Node {
    let text = |path: &[u8]| {
        let value = host::property(path).ok().flatten().filter(|value| !value.is_empty())?;
        String::from_utf8(value).ok().map(Box::from)
    };
    Node {
        id: text(b"xds\0node\0id"),
        region: text(b"xds\0node\0locality\0region"),
        zone: text(b"xds\0node\0locality\0zone"),
    }
}
