//! All versions of a policy, and who has pushed them.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::IntoResponse;

use super::super::store::Record;
use super::answers::{Audit, AuditItem, BrokenItem, VersionItem, Versions, describe, name_type};
use super::asked::{Named, Numbered, Page, page};
use super::refusals::{Denied, NoSuch, NotRead, Unavailable, no_policy};
use super::{Answer, Asker, Problem, Server, Shared};

/// The versions of a policy, the newest first.
#[utoipa::path(
    get, path = "/v1/policies/{name}/versions", operation_id = "listVersions",
    security((), ("token" = [])),
    params(Named, Page),
    responses(
        (status = OK, body = Versions, description = "A page of them"),
        NoSuch,
        NotRead,
        Unavailable,
    )
)]
pub async fn versions(
    State(server): Shared,
    Named { name }: Named,
    asker: Asker,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer {
    server.tokens.reader(&asker, &name)?;
    let (records, broken) = records(&server, &name, page).await?;
    let versions = Versions { versions: records.iter().map(VersionItem::of).collect(), broken };
    Ok(Json(versions).into_response())
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
    asker: Asker,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer {
    server.tokens.pusher(&asker, &name)?;
    let (records, broken) = records(&server, &name, page).await?;
    let audit = Audit { changes: records.into_iter().map(AuditItem::of).collect(), broken };
    Ok(Json(audit).into_response())
}

async fn records(
    server: &Server,
    name: &str,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<(Vec<Record>, Vec<BrokenItem>), Problem> {
    let (before, most) = self::page(page)?;
    let records = server.policies.records(name, before, most).await;
    let (records, broken) = records.map_err(|error| Problem::unavailable(&error))?;
    if records.is_empty() && broken.is_empty() && before.is_none() {
        return Err(no_policy(name));
    }
    Ok((records, broken.into_iter().map(BrokenItem::from).collect()))
}

/// A version of a policy, as it was pushed.
#[utoipa::path(
    get, path = "/v1/policies/{name}/versions/{revision}", operation_id = "getVersion",
    security((), ("token" = [])),
    params(Numbered),
    responses(
        (status = OK, description = "The document: JSON, or a compact JWS", content(
            (serde_json::Value = "application/json"), (String = "application/jose"),
        )),
        NoSuch,
        NotRead,
        Unavailable,
    )
)]
pub async fn version(State(server): Shared, Numbered { name, revision }: Numbered, asker: Asker) -> Answer {
    server.tokens.reader(&asker, &name)?;
    let found =
        server.policies.revision(&name, revision).await.map_err(|error| Problem::unavailable(&error))?;
    let version =
        found.ok_or_else(|| Problem::not_found(format!("{name} has no version of revision {revision}")))?;
    let mut response = version.document.clone().into_response();
    describe(response.headers_mut(), &version.record);
    name_type(response.headers_mut(), &version.record);
    Ok(response)
}
