//! What a request holds, looked up when it is asked for and at most once.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;

use crate::authority;
use crate::budget::Budget;
use crate::cookie;
use crate::decide::{Request, Trust};
use crate::flag::{Flag, FlagId, Resolution};
use crate::json::Json;
use crate::logic::{Data, Key as HashedKey, Truth, Value, Var, Way};
use crate::matches::Target;
use crate::mesh::Macs;
use crate::ofrep::Context;
use crate::pass::Passes;
use crate::policy::{Key, KeyId, Policy, Source, TargetingKey};
use crate::query;

/// The longest targeting key in bytes; a longer one counts as absent.
const MAX_KEY_BYTES: usize = 1_024;

/// Steps that asking the proxy for a property takes: some two microseconds.
const PROPERTY: usize = 100;

/// Steps that a level of a caller's context takes.
const LEVEL: usize = 2;

/// An id that was drawn for this request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    /// The key that it is.
    pub key: KeyId,
    /// The id.
    pub id: Box<str>,
}

/// What was found, once it was looked up.
type Lookup<'a> = OnceCell<Option<Cow<'a, [u8]>>>;

/// The values of one request under one policy.
pub struct Values<'a> {
    policy: &'a Policy,
    request: Request<'a>,
    host: Option<Cow<'a, str>>,
    path: &'a [u8],
    query: &'a [u8],
    method: &'a [u8],
    now_ms: OnceCell<i64>,
    cookies: OnceCell<Option<Cow<'a, [u8]>>>,
    client_ip: OnceCell<Option<Box<str>>>,
    /// Made when the first of them is asked for, as the keys are: most requests ask for few values.
    attributes: OnceCell<Box<[Lookup<'a>]>>,
    keys: OnceCell<Box<[KeyCell<'a>]>>,
    /// What the flags resolve to that were asked for.
    flags: RefCell<BTreeMap<FlagId, Resolution>>,
    /// The cohorts that were asked for, each for one targeting key, with what somebody says who asks for flags or without.
    cohorts: RefCell<BTreeMap<(usize, TargetingKey, bool), Truth>>,
    /// What all that the request asks of the policy may take. What there is nothing left to look up is absent.
    budget: Budget,
}

/// A targeting key of the request: as it came, and as it was minted.
#[derive(Default)]
struct KeyCell<'a> {
    found: Lookup<'a>,
    minted: OnceCell<Option<Box<str>>>,
}

impl<'a> Values<'a> {
    /// The values of `request`. Nothing is looked up yet but its first line.
    #[must_use]
    pub fn new(policy: &'a Policy, request: Request<'a>) -> Values<'a> {
        let first = |name: &[u8]| request.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value);
        let (path, query) = authority::path(first(b":path").unwrap_or_default());
        Values {
            policy,
            request,
            host: first(b":authority").and_then(authority::host),
            path,
            query,
            method: first(b":method").unwrap_or_default(),
            now_ms: OnceCell::new(),
            cookies: OnceCell::new(),
            client_ip: OnceCell::new(),
            attributes: OnceCell::new(),
            keys: OnceCell::new(),
            flags: RefCell::default(),
            cohorts: RefCell::default(),
            budget: Budget::default(),
        }
    }

    /// What is left of what the request may ask.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What rollouts are matched with.
    #[must_use]
    pub fn target<'t>(&'t self, query: &'t dyn Fn(&str) -> Option<Cow<'t, [u8]>>) -> Target<'t> {
        Target {
            host: self.host.as_deref(),
            path: self.path,
            method: self.method,
            headers: self.request.headers,
            query,
            budget: &self.budget,
        }
    }

    /// The query parameter `name`.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.budget.parse(self.query.len()).ok()?;
        query::find(self.query, name)
    }

    /// The value of a header, as [`Headers::value`](crate::headers::Headers::value) gives it.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.request.headers.spent_value(name, &self.budget)
    }

    /// The names of headers that start with `prefix`.
    pub fn headers_starting(&self, prefix: &str) -> impl Iterator<Item = &'a str> {
        let names = self.request.headers.iter().filter(move |(name, _)| name.starts_with(prefix.as_bytes()));
        names.filter_map(|(name, _)| str::from_utf8(name).ok())
    }

    /// Whether a cluster is known to be missing.
    #[must_use]
    pub fn lacks_cluster(&self, cluster: &str) -> bool {
        self.request.proxy.lacks_cluster(cluster)
    }

    /// What vouches for decisions, where keys for that are configured.
    #[must_use]
    pub fn macs(&self) -> Option<&'a Macs> {
        self.request.macs
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &'a [u8] {
        self.method
    }

    /// The instant of this request: one for all its decisions.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        *self.now_ms.get_or_init(|| self.request.proxy.now_ms())
    }

    /// The passes.
    #[must_use]
    pub fn passes(&self) -> &'a Passes<'a> {
        self.request.passes
    }

    /// The id of the proxy that decides.
    #[must_use]
    pub fn node_id(&self) -> Option<&[u8]> {
        self.request.node.id.as_deref().map(str::as_bytes)
    }

    /// The targeting key; drawn now where the request has none, the key is minted, and the request comes from outside.
    #[must_use]
    pub fn key_or_mint(&self, id: KeyId) -> Option<&[u8]> {
        if let Some(key) = self.key(id) {
            return Some(key);
        }
        // It may have one that there was nothing left to look for.
        if self.budget.is_exhausted() {
            return None;
        }
        let cell = self.key_cell(id)?;
        let minted = cell.minted.get_or_init(|| {
            let mint = self.policy.keys.get(id.0)?.mint.as_ref();
            mint.filter(|_| self.request.trust() == Trust::Edge).map(|_| self.request.proxy.draw_id().into())
        });
        minted.as_deref().map(str::as_bytes)
    }

    /// What is hashed: as [`Values::key_or_mint`], or the proxy's own id.
    #[must_use]
    pub fn key_to_hash(&self, key: TargetingKey) -> Option<&[u8]> {
        match key {
            TargetingKey::None => None,
            TargetingKey::Key(id) => self.key_or_mint(id),
            TargetingKey::Node => self.node_id(),
        }
    }

    /// As [`Values::key_to_hash`], where that is known without drawing an id.
    #[must_use]
    pub fn known_key(&self, key: TargetingKey) -> Option<&[u8]> {
        match key {
            TargetingKey::Key(id) => self.key(id),
            key => self.key_to_hash(key),
        }
    }

    fn key_cell(&self, id: KeyId) -> Option<&KeyCell<'a>> {
        self.keys.get_or_init(|| cells(self.policy.keys.len())).get(id.0)
    }

    /// The targeting key, if the request has it or it was minted already.
    fn key(&self, id: KeyId) -> Option<&[u8]> {
        let cell = self.key_cell(id)?;
        if let Some(Some(minted)) = cell.minted.get() {
            return Some(minted.as_bytes());
        }
        let found = cell.found.get_or_init(|| {
            let key = self.policy.keys.get(id.0)?;
            self.first(&key.from).filter(|key| key.len() <= MAX_KEY_BYTES)
        });
        // Another key may have been minted since into a cookie that this one reads too.
        found.as_deref().or_else(|| self.minted_for(self.policy.keys.get(id.0)?))
    }

    /// An id that was minted into a cookie from which `key` comes.
    fn minted_for(&self, key: &Key) -> Option<&[u8]> {
        key.from.iter().find_map(|source| match source {
            Source::Cookie(name) => self.minted_cookie(name),
            _ => None,
        })
    }

    fn minted_cookie(&self, name: &str) -> Option<&[u8]> {
        let cells = self.keys.get()?;
        self.budget.scan(cells.len()).ok()?;
        let mut keys = self.policy.keys.iter().zip(cells);
        keys.find_map(|(key, cell)| {
            key.mint.as_ref().filter(|mint| &*mint.cookie == name)?;
            cell.minted.get()?.as_deref().map(str::as_bytes)
        })
    }

    /// The ids that were drawn.
    #[must_use]
    pub fn into_minted(self) -> Vec<Minted> {
        let cells = self.keys.into_inner().unwrap_or_default().into_iter().enumerate();
        cells
            .filter_map(|(i, cell)| cell.minted.into_inner()?.map(|id| Minted { key: KeyId(i), id }))
            .collect()
    }

    /// The first value that is present and not empty.
    fn first(&self, sources: &'a [Source]) -> Option<Cow<'a, [u8]>> {
        sources.iter().filter_map(|source| self.source(source)).find(|value| !value.is_empty())
    }

    fn source(&self, source: &'a Source) -> Option<Cow<'a, [u8]>> {
        match source {
            Source::Header(name) => self.header(name),
            Source::Cookie(name) => self.cookie(name).map(|value| Cow::Owned(value.to_vec())),
            Source::Query(name) => self.query(name),
            Source::Property(path) => {
                self.budget.spend(PROPERTY).ok()?;
                self.request.proxy.property(path).map(Cow::Owned)
            }
        }
    }

    fn cookie(&self, name: &str) -> Option<&[u8]> {
        if let Some(minted) = self.minted_cookie(name) {
            return Some(minted);
        }
        let header = self.cookies.get_or_init(|| self.request.headers.value("cookie")).as_deref()?;
        self.budget.parse(header.len()).ok()?;
        cookie::find(header, name)
    }

    fn attribute(&self, i: usize) -> Option<&[u8]> {
        let attributes = self.attributes.get_or_init(|| cells(self.policy.attributes.len()));
        let value = attributes.get(i)?.get_or_init(|| self.first(&self.policy.attributes.get(i)?.from));
        value.as_deref()
    }

    fn client_ip(&self) -> Option<&str> {
        let ip = self.client_ip.get_or_init(|| {
            let address = self.request.proxy.client_address()?;
            authority::client_ip(&address).map(Box::from)
        });
        ip.as_deref()
    }

    /// What the conditions of a rollout see whose targeting key is `key`.
    #[must_use]
    pub fn seen_with(&self, key: TargetingKey) -> Seen<'_, 'a> {
        Seen { values: self, key, flag: None, context: None }
    }

    /// What the targeting of a flag sees, for the context for which somebody asks, if somebody does.
    #[must_use]
    pub fn seen_for(&self, id: FlagId, context: Option<&'a Context>) -> Option<Seen<'_, 'a>> {
        self.policy.flag(id).map(|flag| self.seen_by(flag, context))
    }

    fn seen_by(&self, flag: &'a Flag, context: Option<&'a Context>) -> Seen<'_, 'a> {
        let key = self.policy.flag_key.map_or(TargetingKey::None, TargetingKey::Key);
        Seen { values: self, key, flag: Some(flag), context }
    }

    /// A flag, and what it resolves to for this request. It is resolved once.
    #[must_use]
    pub fn flag(&self, id: FlagId) -> Option<(&'a Flag, Resolution)> {
        let flag = self.policy.flag(id)?;
        let resolution = self.resolved(id, flag);
        self.flags.borrow_mut().insert(id, resolution);
        Some((flag, resolution))
    }

    /// What an exported flag resolves to for this request. Nobody asks for it again, so it is not kept.
    #[must_use]
    pub fn exported(&self, id: FlagId) -> Option<Resolution> {
        self.policy.flag(id).map(|flag| self.resolved(id, flag))
    }

    fn resolved(&self, id: FlagId, flag: &'a Flag) -> Resolution {
        let known = self.flags.borrow().get(&id).copied();
        known.unwrap_or_else(|| self.resolve(flag, None))
    }

    /// The ways, among those for which `is_said` holds, that lead to what the request says itself.
    pub fn known_ways(&self, is_said: impl Fn(&Way) -> bool) -> Vec<Way> {
        let attributes = self.policy.attributes.iter().enumerate();
        let known = attributes.filter(|(i, it)| is_said(&it.way) && self.attribute(*i).is_some());
        let mut ways: Vec<Way> = known.map(|(_, attribute)| attribute.way.clone()).collect();
        if self.policy.flag_key.is_some_and(|key| self.key(key).is_some()) {
            ways.push(Way::new("targetingKey"));
        }
        ways
    }

    /// What a flag resolves to, for the context for which somebody asks, if somebody does.
    #[must_use]
    pub fn resolve(&self, flag: &'a Flag, context: Option<&'a Context>) -> Resolution {
        flag.resolve(&self.policy.library, &self.seen_by(flag, context))
    }
}

fn cells<T: Default>(len: usize) -> Box<[T]> {
    (0..len).map(|_| T::default()).collect()
}

/// What a condition sees: the request, and one targeting key.
#[derive(Clone, Copy)]
pub struct Seen<'v, 'a> {
    values: &'v Values<'a>,
    key: TargetingKey,
    /// The flag whose targeting it is.
    flag: Option<&'a Flag>,
    /// What somebody says who asks for flags.
    context: Option<&'a Context>,
}

impl<'a> Seen<'_, 'a> {
    /// What the context says, where there is one.
    fn said(&self, way: &Way) -> Value<'a> {
        if self.values.budget.spend(LEVEL * way.len()).is_err() {
            return Value::Null;
        }
        self.context.and_then(|context| context.follow(way)).map_or(Value::Null, Value::from)
    }

    /// The targeting key that the context says; as of a request's, one that is too long is none.
    fn said_key(&self) -> Value<'a> {
        match self.context.and_then(|context| context.member("targetingKey")) {
            Some(Json::Text(text)) if text.len() > MAX_KEY_BYTES => Value::Null,
            key => key.map_or(Value::Null, Value::from),
        }
    }

    /// What the request says (null, where that is no text) or, where it says nothing, the context: at the edge. In the
    /// mesh the other way round.
    fn either<'s>(
        &'s self,
        said: impl FnOnce() -> Value<'s>,
        known: impl FnOnce() -> Option<&'s [u8]>,
    ) -> Value<'s> {
        match self.values.request.trust() {
            Trust::Edge => known().map_or_else(said, |bytes| text(Some(bytes))),
            Trust::Mesh => said().or_else(|| text(known())),
        }
    }
}

impl Data for Seen<'_, '_> {
    fn var<'s>(&'s self, var: &Var) -> Value<'s> {
        let values = self.values;
        let node = values.request.node;
        match var {
            Var::Attribute(i) => {
                let way = values.policy.attributes.get(*i).map(|attribute| &attribute.way);
                let said = || way.map_or(Value::Null, |way| self.said(way));
                self.either(said, || values.attribute(*i))
            }
            Var::TargetingKey => {
                let said = self.said_key();
                if values.request.trust() == Trust::Mesh && !HashedKey::is_none(&said) {
                    return said;
                }
                match self.key {
                    TargetingKey::None => None,
                    TargetingKey::Key(id) => values.key(id),
                    TargetingKey::Node => values.node_id(),
                }
                .map_or(said, |key| text(Some(key)))
            }
            Var::Method => text(Some(values.method)),
            Var::Host => values.host.as_deref().map_or(Value::Null, |host| Value::Text(Cow::Borrowed(host))),
            Var::Path => text(Some(values.path)),
            Var::Header(name) => owned_text(values.header(name)),
            Var::Query(name) => owned_text(values.query(name)),
            Var::Cookie(name) => text(values.cookie(name)),
            Var::ClientIp => values.client_ip().map_or(Value::Null, |ip| Value::Text(Cow::Borrowed(ip))),
            Var::NodeId => text(node.id.as_deref().map(str::as_bytes)),
            Var::NodeRegion => text(node.region.as_deref().map(str::as_bytes)),
            Var::NodeZone => text(node.zone.as_deref().map(str::as_bytes)),
            #[expect(clippy::cast_precision_loss, reason = "seconds stay far below 2⁵³")]
            Var::Timestamp => Value::Number(values.now_ms().div_euclid(1_000) as f64),
            Var::FlagKey => self.flag.map_or(Value::Null, |flag| Value::from(&*flag.key)),
            Var::Other(way) => self.said(way),
        }
    }

    fn text<'s>(&'s self, var: &Var) -> Option<Cow<'s, str>> {
        match (var, self.context) {
            (Var::Other(way), Some(context)) => {
                self.values.budget.spend(LEVEL * way.len()).ok()?;
                match context.follow(way)? {
                    Json::Text(text) => Some(Cow::Borrowed(text)),
                    _ => None,
                }
            }
            _ => match self.var(var) {
                Value::Text(text) => Some(text),
                _ => None,
            },
        }
    }

    fn key(&self) -> HashedKey<'_> {
        let said = HashedKey::Value(self.said_key());
        let is_known = match self.key {
            TargetingKey::Key(id) => {
                self.values.request.trust() == Trust::Edge && self.values.key(id).is_some()
            }
            TargetingKey::Node | TargetingKey::None => false,
        };
        if !is_known && !said.is_missing() {
            return said;
        }
        HashedKey::Bytes(Cow::Borrowed(self.values.key_to_hash(self.key).unwrap_or_default()))
    }

    fn cohort(&self, id: usize) -> Option<Truth> {
        self.values.cohorts.borrow().get(&(id, self.key, self.context.is_some())).copied()
    }

    fn keep_cohort(&self, id: usize, truth: Truth) {
        self.values.cohorts.borrow_mut().insert((id, self.key, self.context.is_some()), truth);
    }

    fn budget(&self) -> Option<&Budget> {
        Some(&self.values.budget)
    }

    fn flag(&self, id: FlagId) -> Value<'_> {
        let Some((flag, resolution)) = self.values.flag(id) else { return Value::Null };
        let variant = resolution.variant.and_then(|variant| flag.variant(variant));
        variant.map_or(Value::Null, |variant| Value::from(&variant.value))
    }
}

/// A text; null where there is none or it is not UTF-8.
fn text(bytes: Option<&[u8]>) -> Value<'_> {
    bytes
        .and_then(|bytes| str::from_utf8(bytes).ok())
        .map_or(Value::Null, |text| Value::Text(Cow::Borrowed(text)))
}

fn owned_text(bytes: Option<Cow<'_, [u8]>>) -> Value<'_> {
    match bytes {
        Some(Cow::Borrowed(bytes)) => text(Some(bytes)),
        Some(Cow::Owned(bytes)) => {
            String::from_utf8(bytes).map_or(Value::Null, |text| Value::Text(Cow::Owned(text)))
        }
        None => Value::Null,
    }
}
