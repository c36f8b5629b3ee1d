//! What OFREP's clients get: status, headers and JSON.

use std::fmt::Write;
use std::hash::Hasher;

use fnv::FnvHasher;

use crate::bucket::fmix64;
use crate::flag::{Error, Flag, Resolution};
use crate::json::quoted;

/// An answer, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u32,
    /// The headers but for `content-length`.
    pub headers: Vec<(&'static str, String)>,
    /// The body: JSON or nothing.
    pub body: String,
}

impl Answer {
    /// Nothing but a status.
    pub(super) fn empty(status: u32) -> Answer {
        Answer { status, headers: Vec::new(), body: String::new() }
    }

    fn json(status: u32, body: String) -> Answer {
        Answer { status, headers: vec![("content-type", "application/json".to_owned())], body }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn with_cookies(mut self, cookies: Vec<String>) -> Answer {
        self.headers.extend(cookies.into_iter().map(|cookie| ("set-cookie", cookie)));
        self
    }

    /// To a request that cannot be read any more.
    #[must_use]
    pub fn failure() -> Answer {
        Answer::json(500, r#"{"errorDetails":"the request cannot be read"}"#.to_owned())
    }

    /// To who has no token, or a wrong one.
    pub(super) fn unauthorized() -> Answer {
        Answer::empty(401).with("www-authenticate", "Bearer")
    }

    /// To a path that OFREP does not have.
    pub(super) fn not_found() -> Answer {
        Answer::json(
            404,
            r#"{"errorDetails":"expected `evaluate/flags` or `evaluate/flags/KEY`"}"#.to_owned(),
        )
    }

    /// To a method that OFREP does not have.
    pub(super) fn not_allowed() -> Answer {
        Answer::json(405, r#"{"errorDetails":"expected POST"}"#.to_owned()).with("allow", "OPTIONS, POST")
    }

    /// To a request that cannot be evaluated, for the flag `key` or for all.
    pub(super) fn failed(status: u32, key: Option<&str>, code: &str, details: &str) -> Answer {
        let mut body = String::from("{");
        if let Some(key) = key {
            push_member(&mut body, "key", &quoted(key));
        }
        push_error(&mut body, code, details);
        body.push('}');
        Answer::json(status, body)
    }

    /// One flag.
    pub(super) fn single(flag: &Flag, resolution: Resolution) -> Answer {
        let mut body = String::new();
        let is_resolved = push_flag(&mut body, flag, resolution);
        Answer::json(if is_resolved { 200 } else { 400 }, body)
    }

    /// All flags; or that nothing has changed, if the client has this very answer (`none_match`).
    pub(super) fn bulk<'f>(
        flags: impl Iterator<Item = (&'f Flag, Resolution)>,
        metadata: &str,
        none_match: Option<&[u8]>,
    ) -> Answer {
        let mut body = String::from(r#"{"flags":["#);
        for (i, (flag, resolution)) in flags.enumerate() {
            if i > 0 {
                body.push(',');
            }
            push_flag(&mut body, flag, resolution);
        }
        body.push(']');
        if !metadata.is_empty() {
            push_member(&mut body, "metadata", metadata);
        }
        body.push('}');
        let etag = etag(&body);
        if none_match.is_some_and(|list| names(list, &etag)) {
            return Answer::empty(304).with("etag", etag);
        }
        Answer::json(200, body).with("etag", etag)
    }
}

/// The ETag of a body: the body is all that was evaluated, whatever it was evaluated from.
fn etag(body: &str) -> String {
    let mut hasher = FnvHasher::default();
    hasher.write(body.as_bytes());
    format!("\"{:016x}\"", fmix64(hasher.finish()))
}

/// Whether a list of entity tags has `etag`, which somebody on the way may have made a weak one.
fn names(list: &[u8], etag: &str) -> bool {
    let mut tags = list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    tags.any(|tag| tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

/// Writes what a flag resolves to; whether it does.
///
/// `variant` is there in any case, empty where there is none: some clients insist on it.
fn push_flag(body: &mut String, flag: &Flag, resolution: Resolution) -> bool {
    let resolved = match resolution {
        Resolution { lacks_key: true, .. } => Err(("TARGETING_KEY_MISSING", "the flag needs a targetingKey")),
        Resolution { why: Err(error), .. } => Err((error.code(), details(error))),
        Resolution { why: Ok(reason), variant, .. } => Ok((reason, variant)),
    };
    body.push('{');
    push_member(body, "key", &quoted(&flag.key));
    match resolved {
        Err((code, details)) => push_error(body, code, details),
        Ok((reason, variant)) => {
            let variant = variant.and_then(|variant| flag.variant(variant));
            if let Some(variant) = variant {
                push_member(body, "value", &variant.json);
            }
            push_member(body, "reason", &quoted(reason.as_str()));
            push_member(body, "variant", &quoted(variant.map_or("", |variant| &variant.name)));
        }
    }
    if !flag.metadata.is_empty() {
        push_member(body, "metadata", &flag.metadata);
    }
    body.push('}');
    resolved.is_ok()
}

fn push_error(body: &mut String, code: &str, details: &str) {
    push_member(body, "errorCode", &quoted(code));
    push_member(body, "errorDetails", &quoted(details));
}

/// Writes a member of an object, with a comma before it unless it is the first.
fn push_member(body: &mut String, name: &str, json: &str) {
    let comma = if body.ends_with('{') { "" } else { "," };
    // Writing to a String does not fail.
    let _ = write!(body, "{comma}\"{name}\":{json}");
}

fn details(error: Error) -> &'static str {
    match error {
        Error::Parse => "its targeting refers to an evaluator that is not there",
        Error::NoSuchVariant => "its targeting names a variant that it lacks",
        Error::Exhausted => "its targeting takes too many steps",
    }
}
