//! What is kept of a response in order to compare it: hashes, and JSON until it is compared.

use std::hash::Hasher;

use fnv::FnvHasher;

use crate::headers::Headers;
use crate::shadow::Comparison;
use crate::shadow::json::{Kind, Scalar};
use crate::shadow::sketch::Json;

/// Whose a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The user's.
    Primary,
    /// That of the new version.
    Candidate,
    /// That of another copy of the stable version.
    Secondary,
}

impl Whose {
    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Whose::Primary => "primary",
            Whose::Candidate => "shadow",
            Whose::Secondary => "secondary",
        }
    }
}

/// What is kept of a response.
#[derive(Debug)]
pub struct Print {
    pub(super) status: u16,
    pub(super) headers: Vec<Header>,
    pub(super) body: Body,
}

/// A header: its values hashed, and how long they are.
#[derive(Debug)]
pub struct Header {
    pub(super) hash: u64,
    pub(super) seen: Seen,
}

/// What is kept of a body.
#[derive(Debug)]
pub enum Body {
    /// It is encoded, so that equal bodies need not be equal bytes.
    Encoded,
    /// Its length, and a hash of its beginning.
    Bytes { length: u64, hash: u64 },
    /// JSON.
    Json(Json),
}

impl Body {
    /// Whether it is the same as another to the byte, as far as is known of both.
    #[must_use]
    pub fn is_same(&self, other: &Body) -> bool {
        match (self, other) {
            (Body::Json(one), Body::Json(other)) => one.text() == other.text(),
            (Body::Bytes { length, hash }, Body::Bytes { length: its_length, hash: its_hash }) => {
                (length, hash) == (its_length, its_hash)
            }
            (Body::Json(json), Body::Bytes { length, hash })
            | (Body::Bytes { length, hash }, Body::Json(json)) => {
                json.text().len() as u64 == *length && hash_of(FnvHasher::default(), json.text()) == *hash
            }
            (Body::Encoded, _) | (_, Body::Encoded) => false,
        }
    }

    /// Whether both must be read before they can be compared: JSON that is not the same to the byte.
    #[must_use]
    pub fn is_to_be_read(&self, other: &Body) -> bool {
        matches!((self, other), (Body::Json(_), Body::Json(_))) && !self.is_same(other)
    }
}

fn hash_of(mut hasher: FnvHasher, bytes: &[u8]) -> u64 {
    hasher.write(bytes);
    hasher.finish()
}

/// What is told of a value, which itself is told only where the policy says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What it is called: `number`, `text`.
    pub kind: SeenKind,
    /// How many bytes it has.
    pub bytes: u32,
    /// Its beginning.
    pub text: Option<Box<str>>,
}

/// What a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SeenKind {
    /// There is none.
    #[default]
    Missing,
    /// A status; `bytes` is the status itself.
    Status,
    /// A header's.
    Header,
    /// Bytes of a body.
    Bytes,
    /// Of JSON: `null`.
    Null,
    /// Of JSON: `true` or `false`.
    Boolean,
    /// Of JSON.
    Number,
    /// Of JSON.
    Text,
    /// Of JSON: `[]`.
    Array,
    /// Of JSON: `{}`.
    Object,
    /// JSON as a whole.
    Json,
    /// A part of JSON that is not told by name.
    Other,
}

/// A response that is coming by.
#[derive(Debug)]
pub struct Printing {
    status: u16,
    headers: Vec<Header>,
    is_encoded: bool,
    most: usize,
    length: u64,
    /// Of the bytes so far, where they are not held.
    hash: u64,
    /// The bytes so far, where they are JSON, and not too many.
    held: Option<Vec<u8>>,
}

impl Printing {
    /// A response with these headers, and a body of so many bytes, if that is known.
    #[must_use]
    pub fn new(comparison: &Comparison, headers: &Headers<'_>, length: Option<usize>) -> Printing {
        let status = headers.value(":status").and_then(|it| str::from_utf8(&it).ok()?.parse().ok());
        let encoding = headers.value("content-encoding");
        let is_encoded = encoding.is_some_and(|it| !it.eq_ignore_ascii_case(b"identity"));
        let most = comparison.max_body_bytes;
        let is_held = !is_encoded
            && length.is_none_or(|length| length <= most)
            && headers.value("content-type").is_some_and(|it| is_json(&it));
        Printing {
            status: status.unwrap_or(0),
            headers: comparison
                .headers
                .iter()
                .map(|name| header(name, headers, comparison.shows_values))
                .collect(),
            is_encoded,
            most,
            length: 0,
            hash: FnvHasher::default().finish(),
            held: is_held.then(Vec::new),
        }
    }

    /// How many bytes of the next part are of interest.
    #[must_use]
    pub fn wanted(&self) -> usize {
        let read = usize::try_from(self.length).unwrap_or(usize::MAX);
        if self.is_encoded { 0 } else { self.most.saturating_sub(read) }
    }

    /// How many bytes are held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, Vec::len)
    }

    /// Takes the beginning of a part of the body that has so many bytes in all: as much of it as is
    /// [wanted](Self::wanted).
    pub fn take(&mut self, part: &[u8], size: usize) {
        let part = part.get(..self.wanted()).unwrap_or(part);
        match &mut self.held {
            Some(held) => held.extend_from_slice(part),
            None => self.hash = hash_of(FnvHasher::with_key(self.hash), part),
        }
        self.length = self.length.saturating_add(u64::try_from(size).unwrap_or(u64::MAX));
        if self.length > u64::try_from(self.most).unwrap_or(u64::MAX) {
            self.let_go();
        }
    }

    /// Holds nothing any more.
    pub fn let_go(&mut self) {
        if let Some(held) = self.held.take() {
            self.hash = hash_of(FnvHasher::default(), &held);
        }
    }

    /// What is kept of it.
    #[must_use]
    pub fn end(self) -> Print {
        let body = match self.held {
            _ if self.is_encoded && self.length > 0 => Body::Encoded,
            Some(text) if !text.is_empty() => Body::Json(Json::new(text)),
            _ => Body::Bytes { length: self.length, hash: self.hash },
        };
        Print { status: self.status, headers: self.headers, body }
    }
}

impl Seen {
    pub(super) fn of(scalar: Scalar<'_>, shows_values: bool) -> Seen {
        let kind = match scalar.kind {
            Kind::Null => SeenKind::Null,
            Kind::Boolean => SeenKind::Boolean,
            Kind::Number => SeenKind::Number,
            Kind::Text => SeenKind::Text,
            Kind::Array => SeenKind::Array,
            Kind::Object => SeenKind::Object,
        };
        let text = shows_values.then(|| String::from_utf8_lossy(scalar.text).into());
        Seen { kind, bytes: scalar.bytes, text }
    }

    /// Something of so many bytes.
    pub(super) fn sized(kind: SeenKind, bytes: u64) -> Seen {
        Seen { kind, bytes: u32::try_from(bytes).unwrap_or(u32::MAX), text: None }
    }
}

/// Of `set-cookie` the names of the cookies only: their values are another user's each time.
fn header(name: &str, headers: &Headers<'_>, shows_values: bool) -> Header {
    let Some(value) = headers.value(name) else { return Header { hash: 0, seen: Seen::default() } };
    let mut hasher = FnvHasher::default();
    let shown = if name == "set-cookie" {
        let own = headers.iter().filter(|(its, _)| *its == name.as_bytes());
        let mut names: Vec<&[u8]> =
            own.map(|(_, value)| value.split(|byte| *byte == b'=').next().unwrap_or_default()).collect();
        names.sort_unstable();
        names.join(&b' ')
    } else {
        value.into_owned()
    };
    hasher.write(&shown);
    let text = shows_values.then(|| {
        let beginning = shown.get(..super::json::MAX_VALUE_BYTES).unwrap_or(&shown);
        String::from_utf8_lossy(beginning).into()
    });
    let bytes = u32::try_from(shown.len()).unwrap_or(u32::MAX);
    Header { hash: hasher.finish() | 1, seen: Seen { kind: SeenKind::Header, bytes, text } }
}

/// Whether a `content-type` is one of JSON.
fn is_json(content_type: &[u8]) -> bool {
    let media = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let media = media.to_ascii_lowercase();
    media == b"application/json" || media.ends_with(b"+json")
}
