//! What OFREP's clients get: status, headers and JSON.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::flag::{Error, Flag, Resolution};
use crate::json::quoted;

/// The room that a flag is given in the answer for all of them: what a small one needs.
const ANSWER_BYTES: usize = 128;

/// An answer, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u32,
    /// The headers but for `content-length`.
    pub headers: Vec<(&'static str, String)>,
    /// The body: JSON or nothing.
    pub body: String,
    /// Whether more was asked than the budget of a request holds.
    pub is_exhausted: bool,
}

impl Answer {
    /// Nothing but a status.
    pub(super) fn empty(status: u32) -> Answer {
        Answer { status, headers: Vec::new(), body: String::new(), is_exhausted: false }
    }

    /// JSON.
    pub(crate) fn json(status: u32, body: String) -> Answer {
        let headers = vec![("content-type", "application/json".to_owned())];
        Answer { headers, body, ..Answer::empty(status) }
    }

    pub(super) fn with_exhausted(mut self, is_exhausted: bool) -> Answer {
        self.is_exhausted = is_exhausted;
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Answer {
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
        let mut body = String::with_capacity(ANSWER_BYTES * flags.size_hint().1.unwrap_or(0));
        body.push_str(r#"{"flags":["#);
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
    format!("\"{:016x}\"", FixedState::with_seed(0).hash_one(body))
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
    body.push_str("{\"key\":");
    push_quoted(body, &flag.key);
    match resolved {
        Err((code, details)) => push_error(body, code, details),
        Ok((reason, variant)) => {
            let variant = variant.and_then(|variant| flag.variant(variant));
            if let Some(variant) = variant {
                push_member(body, "value", &variant.json);
            }
            body.push_str(",\"reason\":");
            push_quoted(body, reason.as_str());
            body.push_str(",\"variant\":");
            push_quoted(body, variant.map_or("", |variant| &variant.name));
        }
    }
    if !flag.metadata.is_empty() {
        push_member(body, "metadata", &flag.metadata);
    }
    body.push('}');
    resolved.is_ok()
}

fn push_error(body: &mut String, code: &str, details: &str) {
    body.push_str(if body.ends_with('{') { "\"errorCode\":" } else { ",\"errorCode\":" });
    push_quoted(body, code);
    body.push_str(",\"errorDetails\":");
    push_quoted(body, details);
}

/// Writes a member of an object, with a comma before it unless it is the first.
fn push_member(body: &mut String, name: &str, json: &str) {
    body.push_str(if body.ends_with('{') { "\"" } else { ",\"" });
    body.push_str(name);
    body.push_str("\":");
    body.push_str(json);
}

/// Writes a text as JSON: the answer for all flags is made of short ones, few of which need an escape.
fn push_quoted(body: &mut String, text: &str) {
    if text.bytes().any(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')) {
        return body.push_str(&quoted(text));
    }
    body.push('"');
    body.push_str(text);
    body.push('"');
}

fn details(error: Error) -> &'static str {
    match error {
        Error::Parse => "its targeting refers to an evaluator that is not there",
        Error::NoSuchVariant => "its targeting names a variant that it lacks",
        Error::Exhausted => "its targeting takes too many steps",
    }
}
