//! What the server answers where something is wrong: problem details (RFC 9457).

use anyhow::Error;
use axum::Json;
use axum::http::header::{CONTENT_TYPE, ETAG, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something is wrong with a request, or with the server.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[schema(description = "Problem details (RFC 9457)")]
pub struct Problem {
    /// The status code.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What it is, in short.
    pub title: String,
    /// What it is here.
    pub detail: String,
    /// Why a policy is refused, as `mulkko check` tells it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    #[serde(skip)]
    header: Option<(&'static str, String)>,
}

/// One reason why a policy is refused.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Of what kind it is.
    pub code: String,
    /// Where: members by dot, items by `[i]`; empty for the whole document.
    pub place: String,
    /// What is wrong there.
    pub message: String,
    /// The line in the document, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        let title = status.canonical_reason().unwrap_or_default().to_owned();
        Problem { status: status.as_u16(), title, detail: detail.into(), findings: Vec::new(), header: None }
    }

    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// Who asks is not known, or `lacks` what it takes.
    pub fn unauthorized(lacks: Option<String>) -> Problem {
        let unknown = || "expected `authorization: Bearer` with a known token".to_owned();
        Problem::new(StatusCode::UNAUTHORIZED, lacks.unwrap_or_else(unknown))
            .with(WWW_AUTHENTICATE, "Bearer".to_owned())
    }

    /// Who asks is known, and `lacks` what it takes.
    pub fn forbidden(lacks: String) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, lacks)
    }

    /// Somebody asks for more at once than may be.
    pub fn busy(detail: String) -> Problem {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).with(RETRY_AFTER, "1".to_owned())
    }

    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    /// Another version is the newest by now, or none; its ETag.
    pub fn changed(etag: Option<&str>) -> Problem {
        let problem = Problem::new(
            StatusCode::PRECONDITION_FAILED,
            match etag {
                Some(_) => "the policy has changed meanwhile: the newest version has another ETag",
                None => "there is no such policy yet: push it with `if-none-match: *`",
            },
        );
        match etag {
            Some(etag) => problem.with(ETAG, format!("\"{etag}\"")),
            None => problem,
        }
    }

    pub fn refused(detail: impl Into<String>, findings: Vec<Finding>) -> Problem {
        Problem { findings, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    /// The store, or a file, is not to be had. What exactly is the log's.
    pub fn unavailable(error: &Error) -> Problem {
        tracing::error!(error = format!("{error:#}"), "unavailable");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the store is not to be had")
            .with(RETRY_AFTER, "5".to_owned())
    }

    fn with(self, name: HeaderName, value: String) -> Problem {
        let name = match name {
            WWW_AUTHENTICATE => "www-authenticate",
            ETAG => "etag",
            _ => "retry-after",
        };
        Problem { header: Some((name, value)), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let header = self.header.clone();
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, Ok(value))) = header.map(|(name, value)| (name, HeaderValue::from_str(&value))) {
            headers.insert(name, value);
        }
        response
    }
}
