//! What can be asked of the server.

pub mod answers;
mod asked;
mod newest;
mod overview;
mod push;
mod refusals;
mod unread;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::{Json, Router};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::asker::Asker;
use super::metrics::Metrics;
use super::plugins::Plugins;
use super::policies::Policies;
use super::problem::Problem;
use super::proxies::Proxies;
use super::pushers::Pushers;
use super::tokens::Tokens;

/// What the handlers share.
pub struct Server {
    pub policies: Policies,
    pub proxies: Proxies,
    pub tokens: Tokens,
    pub plugins: Plugins,
    pub metrics: Metrics,
    /// The longest that a request may wait for news.
    pub longest_wait: Duration,
    /// How long a body may take.
    pub body_timeout: Duration,
    pushers: Pushers,
    /// That the server is to end: who waits is told to ask elsewhere.
    pub ending: CancellationToken,
}

impl Server {
    pub fn new(
        policies: Policies,
        proxies: Proxies,
        (tokens, plugins): (Tokens, Plugins),
        longest_wait: Duration,
        body_timeout: Duration,
    ) -> Server {
        Server {
            policies,
            proxies,
            tokens,
            plugins,
            metrics: Metrics::default(),
            longest_wait,
            body_timeout,
            pushers: Pushers::default(),
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
        .routes(routes!(newest::policies))
        .routes(routes!(newest::policy, push::push))
        .routes(routes!(versions::versions))
        .routes(routes!(versions::version))
        .routes(routes!(versions::audit))
        .routes(routes!(overview::proxies))
        .routes(routes!(overview::metrics))
        .routes(routes!(overview::health))
        .split_for_parts();
    router
        .route("/v1/openapi.json", axum::routing::get(move || std::future::ready(Json(document.clone()))))
        .fallback(|| std::future::ready(Problem::not_found("there is no such path")))
        .method_not_allowed_fallback(|| {
            std::future::ready(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        })
        .layer(from_fn(unread::closing))
        .layer(from_fn_with_state(Arc::clone(&server), counted))
        .layer(CatchPanicLayer::new())
        .with_state(server)
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
