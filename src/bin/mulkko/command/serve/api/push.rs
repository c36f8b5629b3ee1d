//! How another version becomes the newest.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use mulkko::policy::MAX_BYTES;
use mulkko::policy::since::Need;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::super::candidate::Candidate;
use super::super::metrics::Outcome;
use super::super::policies::{Author, Pushed};
use super::super::proxies::Seen;
use super::super::pushers::Pusher;
use super::answers::{VersionItem, describe};
use super::asked::{Named, content_length, precondition};
use super::refusals::{Denied, NotPushed, Unavailable};
use super::{Answer, Asker, Problem, Server, Shared};

/// The most proxies that a warning names.
const MOST_NAMED: usize = 10;

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
    asker: Asker,
    headers: HeaderMap,
    request: Request,
) -> Answer {
    let pushed = pushed(&server, &name, &asker, &headers, request).await;
    match &pushed {
        Ok((_, outcome)) => server.metrics.push(*outcome),
        Err(problem) => {
            server.metrics.push(Outcome::of(problem.status));
            tracing::warn!(policy = name, from = %asker.address, status = problem.status, "not pushed: {}", problem.title);
        }
    }
    pushed.map(|(response, _)| response)
}

async fn pushed(
    server: &Server,
    name: &str,
    asker: &Asker,
    headers: &HeaderMap,
    request: Request,
) -> Result<(Response, Outcome), Problem> {
    let author = Author { by: server.tokens.pusher(asker, name)?, from: asker.address.to_string() };
    let precondition = precondition(headers)?;
    let pusher = server.pushers.named(&author.by);
    let body = timeout(server.body_timeout, body(request, &pusher)).await;
    let (body, _room) =
        body.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long"))??;
    let _permits = pusher.check().await?;
    let read = {
        let (name, plugins) = (name.to_owned(), server.plugins.clone());
        tokio::task::spawn_blocking(move || {
            let plugins = plugins.of(&name).map_err(|error| Problem::unavailable(&error))?;
            Candidate::read(&name, body, &plugins)
        })
        .await
    };
    let candidate = read.map_err(|error| Problem::unavailable(&error.into()))??;
    let needs = candidate.needs.clone();
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
    let warnings = unknowing(&server.proxies.all(server.policies.store()).await, name, &needs);
    let mut response = (status, Json(VersionItem { warnings, ..VersionItem::of(record) })).into_response();
    describe(response.headers_mut(), record);
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/policies/{name}/versions/{revision}")) {
        response.headers_mut().insert(LOCATION, place);
    }
    Ok((response, outcome))
}

/// Which believed proxies do not know what a policy needs: they will refuse it.
fn unknowing(proxies: &[Seen], policy: &str, needs: &[Need]) -> Vec<String> {
    let own = proxies.iter().map(|seen| &*seen.proxy).filter(|it| it.verified && it.policy == policy);
    let versions: Vec<_> = own.map(|proxy| (proxy.plugin(), &*proxy.node)).collect();
    let warnings = needs.iter().filter_map(|Need { since, place }| {
        let nodes: Vec<_> = versions.iter().filter(|(its, _)| its < since).map(|(_, node)| *node).collect();
        let named = nodes.iter().take(MOST_NAMED).copied().collect::<Vec<_>>().join(", ");
        let more = match nodes.len().saturating_sub(MOST_NAMED) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        (!nodes.is_empty()).then(|| {
            format!(
                "{place} is known since version {since} of the plugin, which is not that of {named}{more}"
            )
        })
    });
    warnings.collect()
}

/// Reads a body up to what a policy may have, and up to what who pushes has room for.
async fn body(request: Request, pusher: &Pusher) -> Result<(Bytes, Vec<OwnedSemaphorePermit>), Problem> {
    let too_large = || {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("expected a body of at most {MAX_BYTES} bytes"))
    };
    let said = content_length(request.headers());
    if said.is_some_and(|said| said > MAX_BYTES as u64) {
        return Err(too_large());
    }
    let (mut body, mut room) = (BytesMut::new(), Vec::new());
    let mut pieces = request.into_body().into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Problem::bad_request("the body broke off"))?;
        if body.len() + piece.len() > MAX_BYTES {
            return Err(too_large());
        }
        merge(&mut room, pusher.room(piece.len())?);
        body.extend_from_slice(&piece);
    }
    Ok((body.freeze(), room))
}

/// Keeps one permit of all.
fn merge(kept: &mut Vec<OwnedSemaphorePermit>, new: Option<OwnedSemaphorePermit>) {
    match (kept.first_mut(), new) {
        (Some(kept), Some(new)) => kept.merge(new),
        (None, Some(new)) => kept.push(new),
        (_, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mulkko::policy::since::Version;

    use super::super::super::proxies::Proxy;
    use super::*;

    #[test]
    fn believed_proxies_that_do_not_know_a_member_are_named() {
        let seen = |node: &str, version: Option<&str>, verified: bool| Seen {
            proxy: Arc::new(Proxy {
                policy: "shop".to_owned(),
                node: node.to_owned(),
                version: version.map(str::to_owned),
                verified,
                ..Proxy::default()
            }),
            seen_ms: 0,
        };
        let need = |since, place: &str| Need { since, place: place.to_owned() };
        let proxies = [
            seen("edge-1", Some("0.2.0"), true),
            seen("edge-2", Some("0.1.9"), true),
            seen("edge-3", None, true),
            seen("edge-4", Some("0.0.1"), false),
        ];
        let needs = [need(Version(0, 1, 0), "rollouts"), need(Version(0, 2, 0), "rollouts[1].new")];
        assert_eq!(
            unknowing(&proxies, "shop", &needs),
            [
                "rollouts[1].new is known since version 0.2.0 of the plugin, which is not that of edge-2, edge-3"
            ]
        );
        assert!(unknowing(&proxies, "cart", &needs).is_empty());
        let many: Vec<_> = (0..12).map(|i| seen(&format!("edge-{i}"), Some("0.1.0"), true)).collect();
        let [told] = &unknowing(&many, "shop", &needs)[..] else { panic!() };
        assert!(told.ends_with("edge-8, edge-9, and 2 more"), "{told}");
    }
}
