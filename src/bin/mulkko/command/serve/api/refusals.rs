//! What can be wrong, as the API's description has it.

use utoipa::IntoResponses;

use super::super::problem::Problem;

/// The store is not to be had.
#[derive(IntoResponses)]
#[response(status = SERVICE_UNAVAILABLE, content_type = "application/problem+json")]
pub struct Unavailable(#[expect(dead_code, reason = "a shape")] Problem);

/// What is asked for cannot be read.
#[derive(IntoResponses)]
#[response(status = BAD_REQUEST, content_type = "application/problem+json")]
pub struct Unreadable(#[expect(dead_code, reason = "a shape")] Problem);

/// A policy or a version that is not there.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "shapes")]
pub enum NoSuch {
    /// No name of a policy, or what else is asked for cannot be read.
    #[response(status = BAD_REQUEST, content_type = "application/problem+json")]
    Unreadable(Problem),
    /// It is not there.
    #[response(status = NOT_FOUND, content_type = "application/problem+json")]
    NotThere(Problem),
}

/// Somebody who may not read, where not everybody may.
#[derive(IntoResponses)]
#[response(status = UNAUTHORIZED, content_type = "application/problem+json")]
pub struct NotRead(#[expect(dead_code, reason = "a shape")] Problem);

/// Somebody who may not.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "shapes")]
pub enum Denied {
    /// No known token.
    #[response(status = UNAUTHORIZED, content_type = "application/problem+json")]
    Unknown(Problem),
    /// The token is not good for this policy.
    #[response(status = FORBIDDEN, content_type = "application/problem+json")]
    Others(Problem),
}

/// A push that is none.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "shapes")]
pub enum NotPushed {
    /// No name of a policy, or a body that broke off.
    #[response(status = BAD_REQUEST, content_type = "application/problem+json")]
    Unreadable(Problem),
    /// The body took too long.
    #[response(status = REQUEST_TIMEOUT, content_type = "application/problem+json")]
    TooSlow(Problem),
    /// Another version is the newest.
    #[response(status = PRECONDITION_FAILED, content_type = "application/problem+json")]
    Changed(Problem),
    /// Over 8 MiB.
    #[response(status = PAYLOAD_TOO_LARGE, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// The policy is refused.
    #[response(status = UNPROCESSABLE_ENTITY, content_type = "application/problem+json")]
    Refused(Problem),
    /// Whoever it is pushes too much at once.
    #[response(status = TOO_MANY_REQUESTS, content_type = "application/problem+json")]
    Busy(Problem),
    /// Neither `if-match` nor `if-none-match: *`.
    #[response(status = PRECONDITION_REQUIRED, content_type = "application/problem+json")]
    Unconditional(Problem),
}

/// There is no policy of that name.
pub fn no_policy(name: &str) -> Problem {
    Problem::not_found(format!("there is no policy {name}"))
}
