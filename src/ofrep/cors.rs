//! Cross-origin requests: which scripts in browsers may ask, and read the answer.

use crate::headers::{Headers, is_token};
use crate::ofrep::Answer;

/// How long browsers may keep the answer to a preflight, in seconds.
const MAX_AGE_S: &str = "600";

/// What a request's origin may do.
#[derive(Debug)]
pub struct Cors {
    /// The origin, if its scripts may read the answer.
    origin: Option<Box<str>>,
    /// Whether other origins get other answers, which caches must know.
    varies: bool,
}

impl Cors {
    /// For a request with these headers, where these origins may ask.
    pub fn new(allowed: &[Box<str>], headers: &Headers<'_>) -> Cors {
        let origin = headers.value("origin");
        let found = allowed.iter().find(|allowed| origin.as_deref() == Some(allowed.as_bytes()));
        Cors { origin: found.cloned(), varies: !allowed.is_empty() }
    }

    /// The answer with what the browser needs to hand it to the script.
    pub fn mark(&self, mut answer: Answer) -> Answer {
        if let Some(origin) = &self.origin {
            answer = answer
                .with("access-control-allow-origin", &**origin)
                .with("access-control-allow-credentials", "true")
                .with("access-control-expose-headers", "ETag");
        }
        if self.varies { answer.with("vary", "Origin") } else { answer }
    }

    /// The answer to a preflight. It comes without token: browsers send none. The headers that the script is to send
    /// are those that it asks for.
    pub fn preflight(&self, headers: &Headers<'_>) -> Answer {
        let mut answer = Answer::empty(204).with("allow", "OPTIONS, POST");
        if let Some(origin) = &self.origin {
            answer = answer
                .with("access-control-allow-origin", &**origin)
                .with("access-control-allow-credentials", "true")
                .with("access-control-allow-methods", "POST")
                .with("access-control-max-age", MAX_AGE_S);
            let asked = headers.value("access-control-request-headers").unwrap_or_default();
            if let Ok(asked) = str::from_utf8(&asked)
                && asked.split(',').all(|name| is_token(name.trim()))
            {
                answer = answer.with("access-control-allow-headers", asked);
            }
        }
        if self.varies { answer.with("vary", "Origin") } else { answer }
    }
}
