//! How another version becomes the newest.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use mulkko::policy::MAX_BYTES;
use tokio::time::timeout;

use super::super::candidate::Candidate;
use super::super::metrics::Outcome;
use super::super::policies::{Author, Pushed};
use super::answers::{VersionItem, describe};
use super::asked::{Named, content_length, precondition};
use super::refusals::{Denied, NotPushed, Unavailable};
use super::{Answer, Problem, Server, Shared};

/// Pushes a new version of a policy.
///
/// It is read as the plugin reads it, and stored as it came. Its `revision` must be above the newest version's.
#[utoipa::path(
    put, path = "/v1/policies/{name}", operation_id = "pushPolicy",
    security(("token" = [])),
    params(
        Named,
        ("if-match" = Option<String>, Header, description = "The ETag of the newest version, or `*`"),
        ("if-none-match" = Option<String>, Header, description = "`*` for a policy that is new"),
    ),
    request_body(description = "The document: JSON, or a compact JWS", content(
        (serde_json::Value = "application/json"), (String = "application/jose"),
    )),
    responses(
        (status = CREATED, body = VersionItem, description = "It is the newest version", headers(
            ("etag" = String, description = "The version's ETag"),
        )),
        (status = OK, body = VersionItem, description = "It was the newest version already"),
        NotPushed,
        Denied,
        Unavailable,
    )
)]
pub async fn push(
    State(server): Shared,
    Named { name }: Named,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    request: Request,
) -> Answer {
    let pushed = pushed(&server, &name, peer, &headers, request).await;
    match &pushed {
        Ok((_, outcome)) => server.metrics.push(*outcome),
        Err(problem) => {
            server.metrics.push(Outcome::of(problem.status));
            tracing::warn!(policy = name, from = %peer.ip(), status = problem.status, "not pushed: {}", problem.title);
        }
    }
    pushed.map(|(response, _)| response)
}

async fn pushed(
    server: &Server,
    name: &str,
    peer: SocketAddr,
    headers: &HeaderMap,
    request: Request,
) -> Result<(Response, Outcome), Problem> {
    let author =
        Author { by: server.tokens.holder(headers, name)?, from: peer.ip().to_canonical().to_string() };
    let precondition = precondition(headers)?;
    let _permit = server.pushes.acquire().await;
    let body = timeout(server.body_timeout, body(request)).await;
    let body = body.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long"))??;
    let read = {
        let name = name.to_owned();
        tokio::task::spawn_blocking(move || Candidate::read(&name, body)).await
    };
    let candidate = read.map_err(|error| Problem::unavailable(&error.into()))??;
    let pushed = server.policies.push(name, candidate, &precondition, &author).await?;
    let (status, outcome, served) = match &pushed {
        Pushed::Stored(served) => (StatusCode::CREATED, Outcome::stored, served),
        Pushed::Unchanged(served) => (StatusCode::OK, Outcome::unchanged, served),
    };
    let record = served.record();
    let (version, revision) = (record.version, record.revision);
    if outcome == Outcome::stored {
        tracing::info!(policy = name, version, revision, by = author.by, from = author.from, "pushed");
    }
    let mut response = (status, Json(VersionItem::of(record))).into_response();
    describe(response.headers_mut(), record);
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/policies/{name}/versions/{revision}")) {
        response.headers_mut().insert(LOCATION, place);
    }
    Ok((response, outcome))
}

/// Reads a body up to what a policy may have.
async fn body(request: Request) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("expected a body of at most {MAX_BYTES} bytes"))
    };
    let said = content_length(request.headers());
    if said.is_some_and(|said| said > MAX_BYTES as u64) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    let mut pieces = request.into_body().into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Problem::bad_request("the body broke off"))?;
        if body.len() + piece.len() > MAX_BYTES {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}
