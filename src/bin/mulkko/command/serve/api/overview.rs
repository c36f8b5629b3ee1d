//! How proxies and the server itself are doing.

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
use super::refusals::{Unavailable, Unreadable};
use super::{Answer, Problem, Shared};

/// Which proxies run which revision.
#[utoipa::path(
    get, path = "/v1/proxies", operation_id = "listProxies",
    params(ProxiesAsked),
    responses(
        (status = OK, body = Standing, description = "The proxies of all servers, and how they stand to the newest versions"),
        Unreadable,
        Unavailable,
    )
)]
pub async fn proxies(State(server): Shared, asked: Result<Query<ProxiesAsked>, QueryRejection>) -> Answer {
    let Query(asked) = asked.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let standing = Standing::of(&server.policies, &server.proxies, &asked).await;
    Ok(Json(standing.map_err(|error| Problem::unavailable(&error))?).into_response())
}

/// The server's own metrics, in the OpenMetrics text format.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics",
    responses((status = OK, body = String, content_type = "application/openmetrics-text", description = "The metrics"))
)]
pub async fn metrics(State(server): Shared) -> Response {
    let all = server.proxies.all(server.policies.store()).await.unwrap_or_default();
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
