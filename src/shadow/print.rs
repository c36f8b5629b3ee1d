//! What is kept of a response in order to compare it: hashes, never the response itself.

use std::collections::HashMap;
use std::hash::Hasher;

use fnv::FnvHasher;
use foldhash::fast::RandomState;

use crate::headers::Headers;
use crate::shadow::Comparison;
use crate::shadow::field::{CELLS, Field, MAX_PATHS};
use crate::shadow::json::{Kind, Path, Reader, Scalar, Scalars};

/// The most named paths that were seen in the answers of shadows first: one that invents names must not use them all up.
const MAX_PATHS_OF_SHADOWS: usize = MAX_PATHS / 4;
/// The most paths of which it is remembered that they are ignored.
const MAX_IGNORED: usize = 1_024;

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

/// The paths of JSON that are compared one by one, and told by name. What else there is is compared in 64 cells.
#[derive(Debug, Default)]
pub struct Paths {
    known: HashMap<u64, Known, RandomState>,
    texts: Vec<Box<str>>,
    /// How many of them shadows have brought.
    of_shadows: usize,
    ignored: usize,
}

#[derive(Clone, Copy, Debug)]
enum Known {
    Named(usize),
    Ignored,
}

impl Paths {
    /// The text of a path that is told by name: a JSON Pointer.
    #[must_use]
    pub fn text(&self, i: usize) -> Option<&str> {
        self.texts.get(i).map(|text| &**text)
    }

    /// How many are told by name.
    #[must_use]
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// What is known of a path; nothing where it is one of those that are not told by name.
    fn find(&mut self, path: Path<'_>, whose: Whose, comparison: &Comparison) -> Option<Known> {
        if let Some(known) = self.known.get(&path.hash) {
            return Some(*known);
        }
        if comparison.ignored.has(path.text) {
            if self.ignored < MAX_IGNORED {
                self.ignored += 1;
                self.known.insert(path.hash, Known::Ignored);
            }
            return Some(Known::Ignored);
        }
        let of_shadows = whose != Whose::Primary;
        if self.texts.len() >= MAX_PATHS || (of_shadows && self.of_shadows >= MAX_PATHS_OF_SHADOWS) {
            return None;
        }
        let known = Known::Named(self.texts.len());
        self.of_shadows += usize::from(of_shadows);
        self.texts.push(String::from_utf8_lossy(path.text).into());
        self.known.insert(path.hash, known);
        Some(known)
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
    /// JSON, by path.
    Json { sketch: Box<Sketch>, length: u64 },
}

/// JSON: all that is told by name, and sums of the rest.
#[derive(Debug)]
pub struct Sketch {
    pub(super) cells: [u64; CELLS],
    pub(super) paths: Vec<Option<At>>,
}

/// What stands at a path, or at all of those that are called so.
#[derive(Clone, Debug)]
pub struct At {
    pub(super) sum: u64,
    pub(super) seen: Seen,
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

/// A response that is being read.
#[derive(Debug)]
pub struct Printing {
    whose: Whose,
    status: u16,
    headers: Vec<Header>,
    is_encoded: bool,
    most: usize,
    length: u64,
    hash: u64,
    json: Option<(Reader, Box<Sketch>)>,
}

impl Printing {
    /// A response with these headers, and a body of so many bytes, if that is known.
    #[must_use]
    pub fn new(
        comparison: &Comparison,
        headers: &Headers<'_>,
        whose: Whose,
        length: Option<usize>,
    ) -> Printing {
        let status = headers.value(":status").and_then(|it| str::from_utf8(&it).ok()?.parse().ok());
        let encoding = headers.value("content-encoding");
        let is_encoded = encoding.is_some_and(|it| !it.eq_ignore_ascii_case(b"identity"));
        let most = comparison.max_body_bytes;
        // What is too long to be read whole is compared by its length and its beginning.
        let is_read = !is_encoded && length.is_none_or(|length| length <= most);
        let json = headers.value("content-type").filter(|it| is_read && is_json(it)).map(|_| {
            let sketch = Box::new(Sketch { cells: [0; CELLS], paths: Vec::new() });
            (Reader::new(comparison.items, comparison.shows_values), sketch)
        });
        Printing {
            whose,
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
            json,
        }
    }

    /// How many bytes of the next part are of interest.
    #[must_use]
    pub fn wanted(&self) -> usize {
        let read = usize::try_from(self.length).unwrap_or(usize::MAX);
        if self.is_encoded { 0 } else { self.most.saturating_sub(read) }
    }

    /// Reads the beginning of a part of the body that has so many bytes in all: as much of it as is
    /// [wanted](Self::wanted).
    pub fn read(&mut self, part: &[u8], size: usize, paths: &mut Paths, comparison: &Comparison) {
        let part = part.get(..self.wanted()).unwrap_or(part);
        let mut hasher = FnvHasher::with_key(self.hash);
        hasher.write(part);
        self.hash = hasher.finish();
        self.length = self.length.saturating_add(u64::try_from(size).unwrap_or(u64::MAX));
        if self.length > u64::try_from(self.most).unwrap_or(u64::MAX) {
            self.json = None;
        }
        if let Some((reader, sketch)) = &mut self.json {
            reader.read(part, &mut Sketching { sketch, paths, comparison, whose: self.whose });
        }
    }

    /// What is kept of it.
    #[must_use]
    pub fn end(self, paths: &mut Paths, comparison: &Comparison) -> Print {
        let length = self.length;
        let hash = self.hash;
        let bytes = || Body::Bytes { length, hash };
        let body = match self.json {
            _ if self.is_encoded && length > 0 => Body::Encoded,
            Some((mut reader, mut sketch)) if length > 0 => {
                let mut sketching = Sketching { sketch: &mut sketch, paths, comparison, whose: self.whose };
                match reader.end(&mut sketching) {
                    Ok(()) => Body::Json { sketch, length },
                    Err(_) => bytes(),
                }
            }
            _ => bytes(),
        };
        Print { status: self.status, headers: self.headers, body }
    }
}

struct Sketching<'s> {
    sketch: &'s mut Sketch,
    paths: &'s mut Paths,
    comparison: &'s Comparison,
    whose: Whose,
}

impl Scalars for Sketching<'_> {
    fn scalar(&mut self, path: Path<'_>, scalar: Scalar<'_>) {
        match self.paths.find(path, self.whose, self.comparison) {
            Some(Known::Ignored) => {}
            Some(Known::Named(i)) => {
                let paths = &mut self.sketch.paths;
                if paths.len() <= i {
                    paths.resize(i + 1, None);
                }
                let Some(at) = paths.get_mut(i) else { return };
                let before = at.as_ref().map_or(0, |at| at.sum);
                *at = Some(At {
                    sum: before.wrapping_add(scalar.hash),
                    seen: Seen::of(scalar, self.comparison.shows_values),
                });
            }
            None => {
                if let Some(cell) = self.sketch.cells.get_mut(Field::cell_of(path.hash)) {
                    *cell = cell.wrapping_add(scalar.hash);
                }
            }
        }
    }
}

impl Seen {
    fn of(scalar: Scalar<'_>, shows_values: bool) -> Seen {
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
