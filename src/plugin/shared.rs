//! What a root context shares with its streams.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use fnv::FnvHasher;

use crate::configuration::Configuration;
use crate::decide::{Decision, Decisions, Node, Reason};
use crate::flag::{Error, FlagId, Resolution};
use crate::guard::{self, Author, Change, Guards, RolledBack};
use crate::mesh::{Macs, MeshKeys};
use crate::ofrep::{Answer, BODY_TIMEOUT_MS, Bearer};
use crate::pass::PassKeys;
use crate::plugin::guarding::{Host, Watched, number};
use crate::plugin::host;
use crate::plugin::metrics::Metrics;
use crate::plugin::now_ms;
use crate::plugin::ofrep::answer_late;
use crate::plugin::reaching::{Reaching, Sent};
use crate::plugin::shares::Shares;
use crate::policy::{Policy, RolloutId};
use crate::schedule::VariantId;
use crate::shadow::{self, Shadows};
use crate::update::{Retired, Rules};

/// What a root context shares with its streams.
pub struct Shared {
    /// The plugin configuration.
    pub configuration: Configuration,
    /// What only the environment says.
    pub secrets: Secrets,
    /// The proxy.
    pub node: Node,
    /// Its metrics.
    pub metrics: Metrics,
    author: Author,
    policy: RefCell<Option<Rc<InForce>>>,
    guards: RefCell<Option<Guards>>,
    /// The copies of requests.
    pub shadows: RefCell<Shadows>,
    /// How many of the guarded rollouts have their series defined.
    defined: Cell<usize>,
    shares: RefCell<Shares>,
    /// Which clusters requests reach.
    reaching: Reaching,
    /// How many policies have been in force.
    generation: Cell<u64>,
    waiting: RefCell<Vec<WaitingStream>>,
    /// When guards were last judged, in unix milliseconds.
    ticked_ms: Cell<i64>,
    tick_ms: Cell<u32>,
}

/// The time between two ticks, in milliseconds, where there is something to look for.
pub const TICK_MS: u32 = 100;
/// The same while a policy is being loaded, or more is due than one tick can do.
pub const BUSY_TICK_MS: u32 = 5;
/// The same while shadows have something to do, whose turns are shorter.
pub const SHADOW_TICK_MS: u32 = 2;

/// The most streams of a root context that may wait for their bodies.
const MOST_WAITING: usize = 10_000;

/// What only the environment says.
#[derive(Default)]
pub struct Secrets {
    /// The keys of passes.
    pub pass_keys: PassKeys,
    /// The keys by which proxies vouch for their decisions.
    pub mesh_keys: Arc<MeshKeys>,
    /// The token without which OFREP answers nobody.
    pub bearer: Option<Bearer>,
    /// The token with which the config cluster is asked.
    pub token: Option<Box<str>>,
}

/// A stream that waits for its body.
struct WaitingStream {
    id: u32,
    deadline_ms: i64,
    /// That it waits; gone once it is answered or gone itself.
    token: Weak<()>,
}

impl Shared {
    /// Nothing is in force yet.
    pub fn new(configuration: Configuration, author: Author, secrets: Secrets, node: Node) -> Shared {
        Shared {
            metrics: Metrics::new(&configuration.name),
            author,
            secrets,
            node,
            policy: RefCell::default(),
            guards: RefCell::default(),
            shadows: RefCell::new(Shadows::new(&configuration.name)),
            defined: Cell::new(0),
            shares: RefCell::default(),
            reaching: Reaching::new(&configuration.name),
            generation: Cell::new(0),
            waiting: RefCell::default(),
            ticked_ms: Cell::new(0),
            tick_ms: Cell::new(0),
            configuration,
        }
    }

    /// Asks for ticks of this period; 0: none.
    pub fn set_tick(&self, tick_ms: u32) {
        if self.tick_ms.get() != tick_ms && host::set_tick_period(tick_ms).is_ok() {
            self.tick_ms.set(tick_ms);
        }
    }

    /// Has the root context tick where shadows have something to do, which may be all that it ticks for.
    pub fn tick_for_shadows(&self) {
        let shadows = self.shadows.borrow();
        if shadows.is_due() {
            self.set_tick(SHADOW_TICK_MS);
        } else if shadows.is_busy() && !(1..=TICK_MS).contains(&self.tick_ms.get()) {
            self.set_tick(TICK_MS);
        }
    }

    /// Notes that stream `id` waits for its body, for as long as it keeps what it is given; nothing where too many wait.
    pub fn wait_for_body(&self, id: u32, now_ms: i64) -> Option<Rc<()>> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= MOST_WAITING {
            waiting.retain(|stream| stream.token.strong_count() > 0);
        }
        if waiting.len() >= MOST_WAITING {
            return None;
        }
        let (token, deadline_ms) = (Rc::new(()), now_ms.saturating_add(BODY_TIMEOUT_MS));
        waiting.push(WaitingStream { id, deadline_ms, token: Rc::downgrade(&token) });
        if self.tick_ms.get() == 0 {
            self.set_tick(TICK_MS);
        }
        Some(token)
    }

    /// Whether streams wait for their bodies.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Answers some of the streams whose bodies have not come in time; whether there are more. Called by root context
    /// `root`, which is the current one again afterwards.
    ///
    /// The host sends all answers of a callback from within each other: hundreds at once would overflow its stack.
    pub fn answer_late(&self, root: u32, now_ms: i64) -> bool {
        const MOST_AT_ONCE: usize = 32;
        let mut waiting = self.waiting.borrow_mut();
        waiting.retain(|stream| stream.token.strong_count() > 0);
        let mut is_root = true;
        let late = waiting.extract_if(.., |stream| stream.deadline_ms <= now_ms);
        for stream in late.take(MOST_AT_ONCE) {
            if host::set_effective_context(stream.id).is_ok() {
                is_root = false;
                answer_late(self);
            }
        }
        if !is_root {
            let _ = host::set_effective_context(root);
        }
        waiting.iter().any(|stream| stream.deadline_ms <= now_ms)
    }

    /// Sends an answer of OFREP's to the current stream, and counts it.
    pub fn send(&self, answer: &Answer) {
        let _ = host::send_response(answer.status, &answer.headers, &answer.body);
        self.metrics.outcome("ofrep_requests", &answer.status.to_string());
        self.metrics.count("budget_exhausted", usize::from(answer.is_exhausted));
    }

    /// Sends the current stream what is known of a rollout's shadow.
    pub fn send_shadow(&self, rollout: &str, now_ms: i64) {
        let in_force = self.policy();
        let policy = in_force.as_ref().map(|it| &*it.policy);
        let record = || {
            let (_, rollout) = policy?.rollout_named(rollout)?;
            self.shadows.borrow().record(rollout, &Host(&self.metrics))
        };
        let answer = shadow::answer(policy, rollout, record, now_ms);
        let _ = host::send_response(answer.status, &answer.headers, &answer.body);
    }

    /// The policy in force: a stream that holds it sees no other.
    pub fn policy(&self) -> Option<Rc<InForce>> {
        self.policy.borrow().clone()
    }

    /// Puts a policy in force.
    pub fn take(&self, policy: Rc<Policy>) {
        self.metrics.gauge("policy_revision", policy.revision);
        if let Some(signed_ms) = policy.signed_ms {
            let seconds = u64::try_from(signed_ms / 1_000).unwrap_or(0);
            self.metrics.gauge("policy_signed_timestamp_seconds", seconds);
        }
        {
            let mut guards = self.guards.borrow_mut();
            match &mut *guards {
                Some(guards) => guards.replace(Rc::clone(&policy)),
                None => {
                    *guards = Some(Guards::new(&self.configuration.name, self.author, Rc::clone(&policy)));
                }
            }
        }
        self.defined.set(0);
        self.generation.set(self.generation.get() + 1);
        self.shares.borrow_mut().renew();
        let macs = self.configuration.macs(&self.secrets.mesh_keys);
        let mut variants = policy.rollouts.iter().flat_map(|rollout| &rollout.variants);
        let names_clusters = self.configuration.spares_missing && variants.any(|it| it.cluster.is_some());
        let in_force = InForce { policy, macs, names_clusters, counters: RefCell::default() };
        self.policy.replace(Some(Rc::new(in_force)));
        self.with_guards(|guards, host| guards.find_verdicts(host));
    }

    fn with_guards<T>(&self, act: impl FnOnce(&mut Guards, &Host<'_>) -> T) -> Option<T> {
        Some(act(self.guards.borrow_mut().as_mut()?, &Host(&self.metrics)))
    }

    /// Whether anything is guarded.
    pub fn is_guarding(&self) -> bool {
        self.guards.borrow().as_ref().is_some_and(|guards| !guards.is_empty())
    }

    /// The variants that have been given up.
    pub fn rolled_back(&self) -> Option<Rc<RolledBack>> {
        self.with_guards(|guards, _| Rc::clone(guards.rolled_back()))
    }

    /// What the config cluster is told of them.
    pub fn rolled_back_header(&self) -> String {
        let header = self.with_guards(|guards, _| guards.rolled_back().header(guards.policy()));
        header.unwrap_or_default()
    }

    /// How the guards of these decisions stand.
    pub fn explain_guards(&self, decisions: &Decisions) -> String {
        let guarded = decisions.list.iter().map(|decision| decision.rollout);
        self.with_guards(|guards, host| guards.explain(guarded, now_ms(), host)).unwrap_or_default()
    }

    /// Counts a request that has ended for the guards that it concerns.
    pub fn count_ended(&self, watched: &Watched) {
        // As exact as the windows of guards need it, and without asking the host again.
        let (ended, now_ms) = (watched.ended(), watched.answered_ms().max(self.ticked_ms.get()));
        self.with_guards(|guards, host| {
            for exposure in &watched.exposures {
                guards.count(exposure, ended, now_ms, host);
            }
        });
    }

    /// Judges what was counted, and takes over what others have judged. Ends when `is_time_up`.
    pub fn judge(&self, now_ms: i64, mut is_time_up: impl FnMut() -> bool) {
        self.ticked_ms.set(now_ms);
        self.with_guards(|guards, host| {
            tell(guards.tick(now_ms, host, &mut is_time_up), &self.configuration.name);
        });
        while self.is_defining() && !is_time_up() {
            self.define_next();
        }
    }

    /// Whether series of guards are still to be defined.
    pub fn is_defining(&self) -> bool {
        self.guards.borrow().as_ref().is_some_and(|guards| self.defined.get() < guards.policy().guarded.len())
    }

    /// Defines the series of one guarded rollout: they die with the last VM that knows them, so every VM does.
    fn define_next(&self) {
        let next = self.defined.get();
        self.defined.set(next + 1);
        self.with_guards(|guards, _| {
            let policy = guards.policy();
            let rollout = policy.guarded.get(next).and_then(|id| policy.rollout(*id));
            for series in rollout.map(guard::series).unwrap_or_default() {
                self.metrics.guard(&series);
            }
        });
    }

    /// Learns which clusters other workers have found missing.
    pub fn look_for_clusters(&self) {
        if let Some(in_force) = self.policy.borrow().as_ref().filter(|it| it.names_clusters) {
            self.reaching.look(in_force.policy.revision);
        }
    }

    /// Whether nobody is to be sent to a cluster by the policy in force.
    pub fn lacks_cluster(&self, cluster: &str, now_ms: impl FnOnce() -> i64) -> bool {
        let in_force = self.policy.borrow();
        let in_force = in_force.as_ref().filter(|it| it.names_clusters);
        in_force.is_some_and(|it| self.reaching.lacks(cluster, it.policy.revision, now_ms))
    }

    /// Where a request is sent, if how it ends says something of that.
    pub fn sent(&self, in_force: Option<&Rc<InForce>>, decisions: &Decisions) -> Option<Sent> {
        Sent::by(in_force.filter(|it| it.names_clusters)?, decisions)
    }

    /// Learns from how a request has ended that was sent there.
    pub fn has_ended(&self, sent: &Sent) {
        let Some(flags) = number(b"response\0flags") else { return };
        let Some(tell) = self.reaching.ended(sent, flags, now_ms()) else { return };
        let rollout = sent.in_force.policy.rollout(sent.rollout);
        let Some((rollout, variant)) = rollout.and_then(|it| Some((it, it.variant(sent.variant)?))) else {
            return;
        };
        self.metrics.cluster_missing(&rollout.name, &variant.name);
        if tell {
            log::warn!(
                "{}: {}: variant {} has the cluster {}, which this proxy lacks: its users get {}",
                self.configuration.name,
                rollout.name,
                variant.name,
                sent.cluster(),
                rollout.variant(rollout.default).map_or("", |it| &*it.name),
            );
        }
    }

    /// Shows what shares strategies intend. Ends when `is_time_up`.
    pub fn show_shares(&self, now_ms: i64, is_time_up: impl FnMut() -> bool) {
        if let Some(in_force) = &*self.policy.borrow() {
            let mut shares = self.shares.borrow_mut();
            shares.show(&in_force.policy, self.generation.get(), &self.metrics, now_ms, is_time_up);
        }
    }

    /// How soon they must be shown again, in milliseconds.
    pub fn shares_period_ms(&self) -> Option<u32> {
        self.shares.borrow().period_ms(TICK_MS)
    }

    /// Counts the host calls that have failed since this was last done.
    pub fn count_failures(&self) {
        self.metrics.count("hostcall_failures", host::take_failures());
    }

    /// Counts a decision.
    pub fn count(&self, in_force: &InForce, decision: &Decision) {
        let Decision { rollout, variant, reason, .. } = *decision;
        in_force.count(Counted::Decision(rollout, variant, reason), || {
            let rollout = in_force.policy.rollout(rollout)?;
            self.shares.borrow_mut().meet(&rollout.name);
            if !(1..=TICK_MS).contains(&self.tick_ms.get()) {
                self.set_tick(TICK_MS);
            }
            self.metrics.requests(&rollout.name, &rollout.variant(variant)?.name, reason.as_str())
        });
    }

    /// Counts what an exported flag resolved to.
    pub fn count_flag(&self, in_force: &InForce, flag: FlagId, resolution: Resolution) {
        in_force.count(Counted::Flag(flag, resolution), || {
            let flag = in_force.policy.flag(flag)?;
            let variant = resolution.variant.and_then(|variant| flag.variant(variant));
            let variant = variant.map(|variant| &*variant.name);
            let reason = resolution.why.map_or_else(Error::code, Reason::as_str);
            self.metrics.flag_evaluations(&flag.key, variant, reason)
        });
    }
}

/// Writes what has changed to the proxy's log.
fn tell(changes: Vec<Change>, name: &str) {
    for change in changes {
        let level = if change.is_alarming() { log::Level::Warn } else { log::Level::Info };
        log::log!(level, "{name}: {change}");
    }
}

/// What is counted for requests.
#[derive(PartialEq, Eq, Hash)]
enum Counted {
    Decision(RolloutId, VariantId, Reason),
    Flag(FlagId, Resolution),
}

/// Ids of counters by what they count.
type Counters = HashMap<Counted, u32, BuildHasherDefault<FnvHasher>>;

/// A policy in force, with the counters of its decisions.
pub struct InForce {
    /// The policy.
    pub policy: Rc<Policy>,
    /// What vouches for decisions under it, where that is asked for.
    pub macs: Option<Macs>,
    /// Whether a variant names a cluster, and something is to be done where the proxy lacks it.
    names_clusters: bool,
    counters: RefCell<Counters>,
}

impl InForce {
    /// Adds 1 to a counter, which `define` gives the id of when it is first counted.
    fn count(&self, counted: Counted, define: impl FnOnce() -> Option<u32>) {
        let known = self.counters.borrow().get(&counted).copied();
        let Some(id) = known.or_else(define) else { return };
        if known.is_none() {
            self.counters.borrow_mut().insert(counted, id);
        }
        // A failure is counted by the host calls themselves.
        let _ = host::increment_metric(id, 1);
    }
}

thread_local! {
    /// The published policies that some root context of this VM has compiled, by the id of their stamp.
    static COMPILED: RefCell<Vec<(u64, Rules, Weak<Policy>)>> = const { RefCell::new(Vec::new()) };
    /// What the root contexts of this VM had in force before.
    static RETIRED: RefCell<Retired> = RefCell::new(Retired::default());
}

/// The published policy `id`, if another root context of this VM has compiled it under the same rules.
pub fn compiled(id: u64, rules: &Rules) -> Option<Rc<Policy>> {
    COMPILED
        .with_borrow(|compiled| compiled.iter().find(|(it, its, _)| *it == id && its == rules)?.2.upgrade())
}

/// Lets other root contexts of this VM have the published policy `id`.
pub fn share_compiled(id: u64, rules: &Rules, policy: &Rc<Policy>) {
    COMPILED.with_borrow_mut(|compiled| {
        compiled.retain(|(_, _, policy)| policy.strong_count() > 0);
        compiled.push((id, rules.clone(), Rc::downgrade(policy)));
    });
}

/// Has a policy freed that was replaced, when nobody holds it any more.
pub fn retire(policy: Option<Rc<Policy>>) {
    if let Some(policy) = policy {
        RETIRED.with_borrow_mut(|retired| retired.push(policy));
    }
}

/// Frees a part of what was retired; `false` where there is nothing.
pub fn free() -> bool {
    RETIRED.with_borrow_mut(Retired::free)
}
