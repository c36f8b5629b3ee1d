//! The newest version of a policy: asked for, and waited for.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use tokio::time::Instant;

use super::super::proxies::Waiting;
use super::super::tokens::Reader;
use super::answers::{Names, document, unmodified};
use super::asked::{Named, not_newer, wait, wants_gzip};
use super::refusals::{NoSuch, NotRead, Unavailable, no_policy};
use super::{Answer, Asker, Problem, Server, Shared};

/// The names of all policies.
#[utoipa::path(
    get, path = "/v1/policies", operation_id = "listPolicies",
    security((), ("token" = [])),
    responses(
        (status = OK, body = Names, description = "The names of those that who asks may read, sorted"),
        NotRead,
        Unavailable,
    )
)]
pub async fn policies(State(server): Shared, asker: Asker) -> Answer {
    // Who may read nothing has the store asked for nothing.
    server.tokens.readable(&asker, [])?;
    let names = server.policies.store().names().await.map_err(|error| Problem::unavailable(&error))?;
    let readable = server.tokens.readable(&asker, names.iter().map(|name| &**name))?;
    Ok(Json(Names { policies: readable.into_iter().map(str::to_owned).collect() }).into_response())
}

/// The newest version of a policy, as it was pushed.
///
/// With `if-none-match` and `prefer: wait=N` it waits up to so many seconds for a newer one.
#[utoipa::path(
    get, path = "/v1/policies/{name}", operation_id = "getPolicy",
    security((), ("token" = [])),
    params(
        Named,
        ("if-none-match" = Option<String>, Header, description = "The ETag of the version that is there already"),
        ("prefer" = Option<String>, Header, description = "`wait=N`: how many seconds to wait for a newer version"),
    ),
    responses(
        (status = OK, description = "The document: JSON, or a compact JWS", content(
            (serde_json::Value = "application/json"), (String = "application/jose"),
        ), headers(
            ("etag" = String, description = "The version's ETag"),
            ("x-mulkko-revision" = u64, description = "The revision that the document says"),
        )),
        (status = NOT_MODIFIED, description = "There is no newer one"),
        NoSuch,
        NotRead,
        Unavailable,
    )
)]
pub async fn policy(
    State(server): Shared,
    Named { name }: Named,
    asker: Asker,
    headers: HeaderMap,
) -> Answer {
    let reader = server.tokens.reader(&asker, &name)?;
    let newest = server.policies.newest(&name).await.map_err(|error| Problem::unavailable(&error))?;
    let newest = newest.ok_or_else(|| no_policy(&name))?;
    let _waiting = server.seen(&name, &headers, &asker, &reader);
    if !not_newer(&headers, &newest.record().etag) {
        return document(&newest, wants_gzip(&headers), None).await;
    }
    let Some(seconds) = wait(&headers) else { return Ok(unmodified(newest.record(), None)) };
    let until = Instant::now() + Duration::from_secs(seconds).min(server.longest_wait);
    let newer = tokio::select! {
        newer = server.policies.wait(&name, &newest.record().etag, until) => newer,
        () = server.ending.cancelled() => None,
    };
    match newer {
        Some(newer) => {
            // Who was taken out of the file while it waited is out.
            server.tokens.reader(&asker, &name)?;
            document(&newer, wants_gzip(&headers), Some(seconds)).await
        }
        None => Ok(unmodified(newest.record(), Some(seconds))),
    }
}

impl Server {
    /// Takes down what a proxy says of itself. What is left out is counted, and logged now and then.
    fn seen(&self, name: &str, headers: &HeaderMap, asker: &Asker, reader: &Reader) -> Option<Waiting<'_>> {
        self.proxies.seen(name, headers, asker, reader).unwrap_or_else(|why| {
            let before = self.metrics.left_out(why);
            if before.is_power_of_two() || before == 0 {
                let (from, all) = (asker.address.to_string(), before + 1);
                tracing::warn!(policy = name, from, all, "a proxy is left out: {}", why.told());
            }
            None
        })
    }
}
