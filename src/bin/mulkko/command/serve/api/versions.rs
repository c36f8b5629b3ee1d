//! All versions of a policy, and who has pushed them.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;

use super::super::store::Record;
use super::answers::{Audit, AuditItem, VersionItem, Versions, describe, name_type};
use super::asked::{Named, Numbered, Page, page};
use super::refusals::{Denied, NoSuch, Unavailable, no_policy};
use super::{Answer, Problem, Server, Shared};

/// The versions of a policy, the newest first.
#[utoipa::path(
    get, path = "/v1/policies/{name}/versions", operation_id = "listVersions",
    params(Named, Page),
    responses(
        (status = OK, body = Versions, description = "A page of them"),
        NoSuch,
        Unavailable,
    )
)]
pub async fn versions(
    State(server): Shared,
    Named { name }: Named,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer {
    let records = records(&server, &name, page).await?;
    Ok(Json(Versions { versions: records.iter().map(VersionItem::of).collect() }).into_response())
}

/// Who has pushed which version when, from where, and what it changed; the newest first.
#[utoipa::path(
    get, path = "/v1/policies/{name}/audit", operation_id = "audit",
    security(("token" = [])),
    params(Named, Page),
    responses(
        (status = OK, body = Audit, description = "A page of it"),
        NoSuch,
        Denied,
        Unavailable,
    )
)]
pub async fn audit(
    State(server): Shared,
    Named { name }: Named,
    headers: HeaderMap,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer {
    server.tokens.holder(&headers, &name)?;
    let records = records(&server, &name, page).await?;
    Ok(Json(Audit { changes: records.into_iter().map(AuditItem::of).collect() }).into_response())
}

async fn records(
    server: &Server,
    name: &str,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Vec<Record>, Problem> {
    let (before, most) = self::page(page)?;
    let records = server.policies.records(name, before, most).await;
    let records = records.map_err(|error| Problem::unavailable(&error))?;
    if records.is_empty() && before.is_none() {
        return Err(no_policy(name));
    }
    Ok(records)
}

/// A version of a policy, as it was pushed.
#[utoipa::path(
    get, path = "/v1/policies/{name}/versions/{revision}", operation_id = "getVersion",
    params(Numbered),
    responses(
        (status = OK, description = "The document: JSON, or a compact JWS", content(
            (serde_json::Value = "application/json"), (String = "application/jose"),
        )),
        NoSuch,
        Unavailable,
    )
)]
pub async fn version(State(server): Shared, Numbered { name, revision }: Numbered) -> Answer {
    let found =
        server.policies.revision(&name, revision).await.map_err(|error| Problem::unavailable(&error))?;
    let version =
        found.ok_or_else(|| Problem::not_found(format!("{name} has no version of revision {revision}")))?;
    let mut response = version.document.clone().into_response();
    describe(response.headers_mut(), &version.record);
    name_type(response.headers_mut(), &version.record);
    Ok(response)
}
