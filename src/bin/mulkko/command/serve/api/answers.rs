//! What the server answers with.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::policies::{Broken, Policies, Served};
use super::super::problem::Problem;
use super::super::proxies::{Proxy, Seen, State};
use super::super::store::{Change, Record};
use super::asked::{GZIP, Place, ProxiesAsked};
use crate::command::moments::{now_ms, told};

/// Shorter documents are not worth compressing.
const FEWEST_GZIP_BYTES: usize = 1_024;

/// The revision of a document, beside it.
const REVISION: HeaderName = HeaderName::from_static("x-mulkko-revision");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The names of all policies.
#[derive(Debug, Serialize, ToSchema)]
pub struct Names {
    pub policies: Vec<String>,
}

/// The versions of a policy.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct Versions {
    pub versions: Vec<VersionItem>,
    /// What lies under other numbers, and cannot be read
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<BrokenItem>,
}

/// What should be a version, and cannot be read.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Broken)]
pub struct BrokenItem {
    /// Its number
    pub version: u64,
    /// The key of its object in the store
    pub key: String,
    /// What is wrong with it
    pub problem: String,
}

impl From<Broken> for BrokenItem {
    fn from(Broken { version, key, problem }: Broken) -> BrokenItem {
        BrokenItem { version, key, problem }
    }
}

/// A version of a policy.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Version)]
pub struct VersionItem {
    /// Its number, from 1
    pub version: u64,
    /// The revision that the document says
    pub revision: u64,
    /// Its ETag, quotes included
    pub etag: String,
    /// When it was pushed
    #[schema(format = DateTime)]
    pub at: String,
    /// The key that signed it, where the server has verified that
    pub signed_by: Option<String>,
    /// The key that the document says has signed it, where the server has not verified that
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_by: Option<String>,
    /// What to know of a push: proxies that do not know a member of the policy
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Who has changed a policy.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct Audit {
    pub changes: Vec<AuditItem>,
    /// What lies under other numbers, and cannot be read
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<BrokenItem>,
}

/// A push.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Push)]
pub struct AuditItem {
    /// The version that it made
    #[serde(flatten)]
    pub version: VersionItem,
    /// Whose token it was pushed with
    pub by: String,
    /// From which address
    pub from: String,
    /// What it changed
    pub change: Change,
}

impl VersionItem {
    pub fn of(record: &Record) -> VersionItem {
        VersionItem {
            version: record.version,
            revision: record.revision,
            etag: format!("\"{}\"", record.etag),
            at: told(record.at_ms),
            signed_by: record.verified_key().map(str::to_owned),
            claimed_by: record.signed_by.clone().filter(|_| !record.verified),
            warnings: Vec::new(),
        }
    }
}

impl AuditItem {
    pub fn of(record: Record) -> AuditItem {
        let version = VersionItem::of(&record);
        let Record { by, from, change, .. } = record;
        AuditItem { version, by, from, change }
    }
}

/// How proxies stand to the newest versions of their policies.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct Standing {
    /// By policy: the newest version, and how many stand how to it
    pub policies: BTreeMap<String, Spread>,
    /// The proxies, by policy and node
    pub proxies: Vec<ProxyItem>,
    /// There are more: what to ask for the next page with, as `after`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How far a version has come.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct Spread {
    /// The revision of the newest version
    pub revision: u64,
    /// How many run it
    pub current: usize,
    /// How many run an older one, or none
    pub behind: usize,
    /// How many have refused it
    pub refused: usize,
    /// How many say something of themselves that nobody believes: they are in no other count
    #[serde(default, skip_serializing_if = "is_none")]
    pub unverified: usize,
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

/// A proxy.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Proxy)]
pub struct ProxyItem {
    /// The policy that it asks for
    pub policy: String,
    /// Its node id
    pub node: String,
    /// How it stands to the newest version
    pub state: State,
    /// The revision that is in force there, if any is
    pub revision: Option<u64>,
    /// The version of its plugin, if it tells it
    #[serde(default)]
    pub version: Option<String>,
    /// How long ago it was heard of, in milliseconds
    pub age_ms: u64,
    /// The ETag of the document that it refuses, if it does
    pub refused: Option<String>,
    /// The variants that its guards have rolled back: `checkout-v2/canary`
    pub rolled_back: Vec<String>,
}

impl Standing {
    /// Of `all` proxies, sorted by their places, those that are asked for.
    pub async fn of(policies: &Policies, all: Vec<Seen>, asked: &ProxiesAsked) -> Result<Standing> {
        let now_ms = now_ms();
        let age_ms = |seen: &Seen| now_ms.saturating_sub(seen.seen_ms).max(0).unsigned_abs();
        let longest_ms = asked.seen_within.map_or(u64::MAX, |seconds| u64::from(seconds) * 1_000);
        let mut standing = Standing::default();
        let mut newest: Option<(String, Option<Arc<Served>>)> = None;
        let wanted = all.into_iter().filter(|seen| {
            asked.policy.as_ref().is_none_or(|policy| *policy == seen.proxy.policy)
                && age_ms(seen) <= longest_ms
        });
        // They come sorted by policy.
        for seen in wanted {
            let proxy = &*seen.proxy;
            if newest.as_ref().is_none_or(|(policy, _)| *policy != proxy.policy) {
                newest = Some((proxy.policy.clone(), policies.newest(&proxy.policy).await?));
            }
            let Some((_, Some(served))) = &newest else { continue };
            let record = served.record();
            let state = proxy.state(record.revision, &record.etag);
            if !standing.policies.contains_key(&proxy.policy) {
                standing.policies.insert(proxy.policy.clone(), Spread::of(record.revision));
            }
            if let Some(spread) = standing.policies.get_mut(&proxy.policy) {
                spread.count(state);
            }
            if asked.state.is_none_or(|wanted| wanted == state) && asked.is_after(proxy) {
                standing.list(proxy, state, age_ms(&seen), asked.most());
            }
        }
        Ok(standing)
    }

    /// Lists a proxy where there is room for it on the page, or says where the next one begins.
    fn list(&mut self, proxy: &Proxy, state: State, age_ms: u64, most: usize) {
        if self.proxies.len() < most {
            self.proxies.push(ProxyItem::of(proxy, state, age_ms));
        } else if self.next.is_none() {
            self.next = self
                .proxies
                .last()
                .map(|last| Place(&last.policy, last.state == State::Unverified, &last.node).to_string());
        }
    }
}

impl Spread {
    fn of(revision: u64) -> Spread {
        Spread { revision, ..Spread::default() }
    }

    fn count(&mut self, state: State) {
        let count = match state {
            State::Current => &mut self.current,
            State::Behind => &mut self.behind,
            State::Refused => &mut self.refused,
            State::Unverified => &mut self.unverified,
        };
        *count += 1;
    }
}

impl ProxyItem {
    fn of(proxy: &Proxy, state: State, age_ms: u64) -> ProxyItem {
        let Proxy { policy, node, revision, refused, rolled_back, version, verified: _ } = proxy.clone();
        ProxyItem { policy, node, state, revision, version, age_ms, refused, rolled_back }
    }
}

/// A document, compressed for who takes it; `waited` for so many seconds.
pub async fn document(served: &Served, gzip: bool, waited: Option<u64>) -> Result<Response, Problem> {
    let record = served.record();
    let gzip = gzip && served.version.document.len() >= FEWEST_GZIP_BYTES;
    let mut response = match gzip {
        true => served.gzip().await.map_err(|error| Problem::unavailable(&error))?,
        false => served.version.document.clone(),
    }
    .into_response();
    let headers = response.headers_mut();
    describe(headers, record);
    name_type(headers, record);
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        insert(headers, ETAG, &format!("\"{}{GZIP}\"", record.etag));
    }
    applied(headers, waited);
    Ok(response)
}

/// That there is nothing newer, `waited` for so many seconds.
pub fn unmodified(record: &Record, waited: Option<u64>) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    describe(response.headers_mut(), record);
    applied(response.headers_mut(), waited);
    response
}

/// Says which version it is.
pub fn describe(headers: &mut HeaderMap, record: &Record) {
    insert(headers, ETAG, &format!("\"{}\"", record.etag));
    headers.insert(REVISION, HeaderValue::from(record.revision));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
}

/// Says whether a document is signed.
pub fn name_type(headers: &mut HeaderMap, record: &Record) {
    let name = if record.signed_by.is_some() { "application/jose" } else { "application/json" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(name));
}

fn applied(headers: &mut HeaderMap, waited: Option<u64>) {
    if let Some(seconds) = waited {
        insert(headers, PREFERENCE_APPLIED, &format!("wait={seconds}"));
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
