//! Says that a connection ends where a request was answered before its body had come.
//!
//! Nobody's body is read, and hyper then closes the connection: a client that is not told sends its next request into it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Version};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::{StreamExt, stream};

/// Answers a request, with `connection: close` where its body was not read to its end.
pub async fn closing(request: Request, next: Next) -> Response {
    // In HTTP/2 a stream ends by itself.
    if request.body().is_end_stream() || request.version() >= Version::HTTP_2 {
        return next.run(request).await;
    }
    let is_read = Arc::new(AtomicBool::new(false));
    let read = Arc::clone(&is_read);
    let end = stream::poll_fn(move |_| {
        read.store(true, Ordering::Relaxed);
        Poll::Ready(None)
    });
    let request = request.map(|body| Body::from_stream(body.into_data_stream().chain(end)));
    let mut response = next.run(request).await;
    if !is_read.load(Ordering::Relaxed) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
