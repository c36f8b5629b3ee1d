//! How proxies and the server itself are doing.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use super::answers::Standing;
use super::asked::ProxiesAsked;
use super::refusals::{NotRead, Unavailable, Unreadable};
use super::{Answer, Asker, Problem, Shared};

/// Which proxies run which revision.
#[utoipa::path(
    get, path = "/v1/proxies", operation_id = "listProxies",
    security((), ("token" = [])),
    params(ProxiesAsked),
    responses(
        (status = OK, body = Standing, description = "The proxies of all servers, and how they stand to the newest versions"),
        Unreadable,
        NotRead,
        Unavailable,
    )
)]
pub async fn proxies(
    State(server): Shared,
    asker: Asker,
    asked: Result<Query<ProxiesAsked>, QueryRejection>,
) -> Answer {
    let Query(asked) = asked.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let asked = asked.checked()?;
    match &asked.policy {
        Some(policy) => drop(server.tokens.reader(&asker, policy)?),
        None => drop(server.tokens.readable(&asker, [])?),
    }
    let mut all = server.proxies.all(server.policies.store()).await;
    if asked.policy.is_none() {
        let names: BTreeSet<_> = all.iter().map(|seen| &*seen.proxy.policy).collect();
        let readable: BTreeSet<_> =
            server.tokens.readable(&asker, names)?.into_iter().map(str::to_owned).collect();
        all.retain(|seen| readable.contains(&seen.proxy.policy));
    }
    let standing = Standing::of(&server.policies, all, &asked).await;
    Ok(Json(standing.map_err(|error| Problem::unavailable(&error))?).into_response())
}

/// The server's own metrics, in the OpenMetrics text format.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics",
    responses((status = OK, body = String, content_type = "application/openmetrics-text", description = "The metrics"))
)]
pub async fn metrics(State(server): Shared) -> Response {
    let all = server.proxies.all(server.policies.store()).await;
    let text = server.metrics.text(&server.policies, &all);
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

/// Whether the server can answer.
#[utoipa::path(
    get, path = "/healthz", operation_id = "health",
    responses(
        (status = NO_CONTENT, description = "It can"),
        Unavailable,
    )
)]
pub async fn health(State(server): Shared) -> Answer {
    let asked = timeout(Duration::from_secs(2), server.policies.store().check()).await;
    let answered = asked.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in 2 s")));
    answered.map_err(|error| Problem::unavailable(&error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
