//! What can be asked of the server.

pub mod answers;
mod asked;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, MatchedPath, Path, Query, Request, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use mulkko::policy::{MAX_BYTES, is_name};
use std::net::SocketAddr;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::candidate::Candidate;
use super::metrics::{Metrics, Outcome};
use super::policies::{Author, Policies, Pushed};
use super::problem::Problem;
use super::proxies::Proxies;
use super::tokens::Tokens;
use answers::{Audit, Names, Standing, VersionItem, Versions, document, unmodified};
use asked::{Page, ProxiesAsked, not_newer, precondition, wait, wants_gzip};

/// The most pushes that are read at once: each may take 8 MiB, and as much again to be checked.
const MOST_PUSHES: usize = 4;
/// What the handlers share.
pub struct Server {
    pub policies: Policies,
    pub proxies: Proxies,
    pub tokens: Tokens,
    pub metrics: Metrics,
    /// The longest that a request may wait for news.
    pub longest_wait: Duration,
    /// How long a body may take.
    pub body_timeout: Duration,
    pushes: Semaphore,
    /// That the server is to end: who waits is told to ask elsewhere.
    pub ending: CancellationToken,
}

impl Server {
    pub fn new(
        policies: Policies,
        proxies: Proxies,
        tokens: Tokens,
        longest_wait: Duration,
        body_timeout: Duration,
    ) -> Server {
        Server {
            policies,
            proxies,
            tokens,
            metrics: Metrics::default(),
            longest_wait,
            body_timeout,
            pushes: Semaphore::new(MOST_PUSHES),
            ending: CancellationToken::new(),
        }
    }
}

type Shared = State<Arc<Server>>;
type Answer = Result<Response, Problem>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "mulkko serve",
        description = "The config cluster of mulkko: versions of policies, and the proxies that run them."
    ),
    modifiers(&Security)
)]
struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

/// All routes.
pub fn router(server: Arc<Server>) -> Router {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(policies))
        .routes(routes!(policy, push))
        .routes(routes!(versions))
        .routes(routes!(version))
        .routes(routes!(audit))
        .routes(routes!(all_proxies))
        .routes(routes!(metrics))
        .routes(routes!(health))
        .split_for_parts();
    router
        .route("/v1/openapi.json", axum::routing::get(move || std::future::ready(Json(document.clone()))))
        .fallback(|| std::future::ready(Problem::not_found("there is no such path")))
        .method_not_allowed_fallback(|| {
            std::future::ready(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        })
        .layer(from_fn_with_state(Arc::clone(&server), counted))
        .layer(CatchPanicLayer::new())
        .with_state(server)
}

/// The names of all policies.
#[utoipa::path(
    get, path = "/v1/policies", operation_id = "listPolicies",
    responses(
        (status = OK, body = Names, description = "Their names, sorted"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json", description = "The store is not to be had"),
    )
)]
async fn policies(State(server): Shared) -> Answer {
    let policies = server.policies.store().names().await.map_err(|error| Problem::unavailable(&error))?;
    Ok(Json(Names { policies }).into_response())
}

/// The newest version of a policy, as it was pushed.
///
/// With `if-none-match` and `prefer: wait=N` it waits up to so many seconds for a newer one.
#[utoipa::path(
    get, path = "/v1/policies/{name}", operation_id = "getPolicy",
    params(
        ("name" = String, Path, description = "The policy", pattern = "^[a-z][a-z0-9-]{0,62}$"),
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
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json", description = "No name of a policy"),
        (status = NOT_FOUND, body = Problem, content_type = "application/problem+json", description = "There is no such policy"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json", description = "The store is not to be had"),
    )
)]
async fn policy(State(server): Shared, Path(name): Path<String>, headers: HeaderMap) -> Answer {
    check_name(&name)?;
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

/// Pushes a new version of a policy.
///
/// It is read as the plugin reads it, and stored as it came. Its `revision` must be above the newest version's.
#[utoipa::path(
    put, path = "/v1/policies/{name}", operation_id = "pushPolicy",
    security(("token" = [])),
    params(
        ("name" = String, Path, description = "The policy", pattern = "^[a-z][a-z0-9-]{0,62}$"),
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
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json", description = "No name of a policy, or a body that broke off"),
        (status = UNAUTHORIZED, body = Problem, content_type = "application/problem+json", description = "No known token"),
        (status = FORBIDDEN, body = Problem, content_type = "application/problem+json", description = "The token is not good for this policy"),
        (status = REQUEST_TIMEOUT, body = Problem, content_type = "application/problem+json", description = "The body took too long"),
        (status = PRECONDITION_FAILED, body = Problem, content_type = "application/problem+json", description = "Another version is the newest"),
        (status = PAYLOAD_TOO_LARGE, body = Problem, content_type = "application/problem+json", description = "Over 8 MiB"),
        (status = UNPROCESSABLE_ENTITY, body = Problem, content_type = "application/problem+json", description = "The policy is refused"),
        (status = PRECONDITION_REQUIRED, body = Problem, content_type = "application/problem+json", description = "Neither `if-match` nor `if-none-match: *`"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json", description = "The store is not to be had"),
    )
)]
async fn push(
    State(server): Shared,
    Path(name): Path<String>,
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
    check_name(name)?;
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
    answers::describe(response.headers_mut(), record);
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
    let said = asked::content_length(request.headers());
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

/// The versions of a policy, the newest first.
#[utoipa::path(
    get, path = "/v1/policies/{name}/versions", operation_id = "listVersions",
    params(("name" = String, Path, description = "The policy", pattern = "^[a-z][a-z0-9-]{0,62}$"), Page),
    responses(
        (status = OK, body = Versions, description = "A page of them"),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json", description = "No name of a policy, or no page"),
        (status = NOT_FOUND, body = Problem, content_type = "application/problem+json", description = "There is no such policy"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json", description = "The store is not to be had"),
    )
)]
async fn versions(
    State(server): Shared,
    Path(name): Path<String>,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer {
    let records = records(&server, &name, page).await?;
    Ok(Json(Versions { versions: records.iter().map(VersionItem::of).collect() }).into_response())
}

/// Who has pushed which version when, from where, and what it changed; the newest first.
#[utoipa::path(
    get, path = "/v1/policies/{name}/audit", operation_id = "audit",
    security(("token" = [])),
    params(("name" = String, Path, description = "The policy", pattern = "^[a-z][a-z0-9-]{0,62}$"), Page),
    responses(
        (status = OK, body = Audit, description = "A page of it"),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json", description = "No name of a policy, or no page"),
        (status = UNAUTHORIZED, body = Problem, content_type = "application/problem+json", description = "No known token"),
        (status = FORBIDDEN, body = Problem, content_type = "application/problem+json", description = "The token is not good for this policy"),
        (status = NOT_FOUND, body = Problem, content_type = "application/problem+json", description = "There is no such policy"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json", description = "The store is not to be had"),
    )
)]
async fn audit(
    State(server): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer {
    check_name(&name)?;
    server.tokens.holder(&headers, &name)?;
    let records = records(&server, &name, page).await?;
    Ok(Json(Audit { changes: records.into_iter().map(answers::AuditItem::of).collect() }).into_response())
}

async fn records(
    server: &Server,
    name: &str,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Vec<super::store::Record>, Problem> {
    check_name(name)?;
    let (before, most) = asked::page(page)?;
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
    params(
        ("name" = String, Path, description = "The policy", pattern = "^[a-z][a-z0-9-]{0,62}$"),
        ("revision" = u64, Path, description = "The revision that the document says"),
    ),
    responses(
        (status = OK, description = "The document: JSON, or a compact JWS", content(
            (serde_json::Value = "application/json"), (String = "application/jose"),
        )),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json", description = "No name of a policy, or no revision"),
        (status = NOT_FOUND, body = Problem, content_type = "application/problem+json", description = "There is no such version"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json", description = "The store is not to be had"),
    )
)]
async fn version(State(server): Shared, Path((name, revision)): Path<(String, String)>) -> Answer {
    check_name(&name)?;
    let revision =
        revision.parse().map_err(|_| Problem::bad_request("expected a revision, a whole number"))?;
    let found =
        server.policies.revision(&name, revision).await.map_err(|error| Problem::unavailable(&error))?;
    let version =
        found.ok_or_else(|| Problem::not_found(format!("{name} has no version of revision {revision}")))?;
    let mut response = version.document.clone().into_response();
    answers::describe(response.headers_mut(), &version.record);
    answers::name_type(response.headers_mut(), &version.record);
    Ok(response)
}

/// Which proxies run which revision.
#[utoipa::path(
    get, path = "/v1/proxies", operation_id = "listProxies",
    params(ProxiesAsked),
    responses(
        (status = OK, body = Standing, description = "The proxies of all servers, and how they stand to the newest versions"),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json", description = "What is asked for cannot be read"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json", description = "The store is not to be had"),
    )
)]
async fn all_proxies(State(server): Shared, asked: Result<Query<ProxiesAsked>, QueryRejection>) -> Answer {
    let Query(asked) = asked.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let standing = Standing::of(&server.policies, &server.proxies, &asked).await;
    Ok(Json(standing.map_err(|error| Problem::unavailable(&error))?).into_response())
}

/// The server's own metrics, in the OpenMetrics text format.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics",
    responses((status = OK, body = String, content_type = "application/openmetrics-text", description = "The metrics"))
)]
async fn metrics(State(server): Shared) -> Response {
    let proxies = server.proxies.all(server.policies.store()).await.unwrap_or_default();
    let text = server.metrics.text(&server.policies, &proxies);
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

/// Whether the server can answer.
#[utoipa::path(
    get, path = "/healthz", operation_id = "health",
    responses(
        (status = NO_CONTENT, description = "It can"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json", description = "The store is not to be had"),
    )
)]
async fn health(State(server): Shared) -> Answer {
    let asked = timeout(Duration::from_secs(2), server.policies.store().check()).await;
    let answered = asked.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in 2 s")));
    answered.map_err(|error| Problem::unavailable(&error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn check_name(name: &str) -> Result<(), Problem> {
    is_name(name).then_some(()).ok_or_else(|| {
        Problem::bad_request("expected the name of a policy: 1 to 63 of `a-z 0-9 -`, a letter first")
    })
}

fn no_policy(name: &str) -> Problem {
    Problem::not_found(format!("there is no policy {name}"))
}

/// Counts a request, and logs it where requests are logged.
async fn counted(
    State(server): Shared,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "PUT" | "POST" | "DELETE" | "OPTIONS" | "PATCH") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let response = next.run(request).await;
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    let (code, seconds) = (response.status().as_u16(), started.elapsed().as_secs_f64());
    server.metrics.request(route, &method, code, seconds);
    tracing::debug!(method, route, code, seconds, "answered");
    response
}
