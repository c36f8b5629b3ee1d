//! What the server answers with.

use std::collections::BTreeMap;

use anyhow::Result;
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::policies::{Policies, Served};
use super::super::problem::Problem;
use super::super::proxies::{Proxies, Proxy, State};
use super::super::store::{Change, Record};
use super::asked::{GZIP, ProxiesAsked};
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
    /// The key that signed it, if any did
    pub signed_by: Option<String>,
}

/// Who has changed a policy.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct Audit {
    pub changes: Vec<AuditItem>,
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
            signed_by: record.signed_by.clone(),
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
    /// How long ago it was heard of, in milliseconds
    pub age_ms: u64,
    /// The ETag of the document that it refuses, if it does
    pub refused: Option<String>,
    /// The variants that its guards have rolled back: `checkout-v2/canary`
    pub rolled_back: Vec<String>,
}

impl Standing {
    /// The proxies that are asked for.
    pub async fn of(policies: &Policies, proxies: &Proxies, asked: &ProxiesAsked) -> Result<Standing> {
        let most = usize::try_from(asked.limit.unwrap_or(1_000)).unwrap_or(usize::MAX);
        let now_ms = now_ms();
        let age_ms = |proxy: &Proxy| now_ms.saturating_sub(proxy.seen_ms).max(0).unsigned_abs();
        let longest_ms = asked.seen_within.map_or(u64::MAX, |seconds| u64::from(seconds) * 1_000);
        let mut standing = Standing::default();
        let mut newest: Option<(String, Option<std::sync::Arc<Served>>)> = None;
        let all = proxies.all(policies.store()).await?;
        let wanted = all.into_iter().filter(|proxy| {
            asked.policy.as_ref().is_none_or(|policy| *policy == proxy.policy) && age_ms(proxy) <= longest_ms
        });
        // They come sorted by policy.
        for proxy in wanted {
            if newest.as_ref().is_none_or(|(policy, _)| *policy != proxy.policy) {
                newest = Some((proxy.policy.clone(), policies.newest(&proxy.policy).await?));
            }
            let Some((_, Some(served))) = &newest else { continue };
            let record = served.record();
            let state = proxy.state(record.revision, &record.etag);
            let spread = standing.policies.entry(proxy.policy.clone()).or_default();
            spread.revision = record.revision;
            match state {
                State::Current => spread.current += 1,
                State::Behind => spread.behind += 1,
                State::Refused => spread.refused += 1,
            }
            if standing.proxies.len() < most && asked.state.is_none_or(|wanted| wanted == state) {
                let age_ms = age_ms(&proxy);
                let Proxy { policy, node, revision, refused, rolled_back, .. } = proxy;
                standing.proxies.push(ProxyItem {
                    policy,
                    node,
                    state,
                    revision,
                    age_ms,
                    refused,
                    rolled_back,
                });
            }
        }
        Ok(standing)
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
