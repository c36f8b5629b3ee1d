//! The newest version of a policy: asked for, and waited for.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use tokio::time::Instant;

use super::answers::{Names, document, unmodified};
use super::asked::{Named, not_newer, wait, wants_gzip};
use super::refusals::{NoSuch, Unavailable, no_policy};
use super::{Answer, Problem, Shared};

/// The names of all policies.
#[utoipa::path(
    get, path = "/v1/policies", operation_id = "listPolicies",
    responses(
        (status = OK, body = Names, description = "Their names, sorted"),
        Unavailable,
    )
)]
pub async fn policies(State(server): Shared) -> Answer {
    let policies = server.policies.store().names().await.map_err(|error| Problem::unavailable(&error))?;
    Ok(Json(Names { policies }).into_response())
}

/// The newest version of a policy, as it was pushed.
///
/// With `if-none-match` and `prefer: wait=N` it waits up to so many seconds for a newer one.
#[utoipa::path(
    get, path = "/v1/policies/{name}", operation_id = "getPolicy",
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
        Unavailable,
    )
)]
pub async fn policy(State(server): Shared, Named { name }: Named, headers: HeaderMap) -> Answer {
    let newest = server.policies.newest(&name).await.map_err(|error| Problem::unavailable(&error))?;
    let newest = newest.ok_or_else(|| no_policy(&name))?;
    let _waiting = server.proxies.seen(&name, &headers);
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
        Some(newer) => document(&newer, wants_gzip(&headers), Some(seconds)).await,
        None => Ok(unmodified(newest.record(), Some(seconds))),
    }
}
