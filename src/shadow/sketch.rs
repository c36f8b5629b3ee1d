//! JSON of answers, which is read only where that of another answer is not the same to the byte.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::shadow::Comparison;
use crate::shadow::field::{CELLS, Field, MAX_PATHS};
use crate::shadow::json::{Path, Reader, Scalar, Scalars};
use crate::shadow::print::{Seen, Whose};

/// The most named paths that were seen in the answers of shadows first: one that invents names must not use them all up.
const MAX_PATHS_OF_SHADOWS: usize = MAX_PATHS / 4;
/// The most paths of which it is remembered that they are ignored.
const MAX_IGNORED: usize = 1_024;

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

/// The JSON of an answer.
#[derive(Debug)]
pub struct Json {
    text: Vec<u8>,
    reading: Reading,
}

#[derive(Debug, Default)]
enum Reading {
    #[default]
    Unread,
    /// So many bytes of it have been read.
    Begun(Box<Reader>, Box<Sketch>, usize),
    /// All of it; nothing where it is no JSON.
    Done(Option<Box<Sketch>>),
}

impl Json {
    /// JSON that has not been read.
    #[must_use]
    pub fn new(text: Vec<u8>) -> Json {
        Json { text, reading: Reading::Unread }
    }

    /// As it came.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// What was read; nothing where it has not been, or is no JSON.
    #[must_use]
    pub fn sketch(&self) -> Option<&Sketch> {
        match &self.reading {
            Reading::Done(sketch) => sketch.as_deref(),
            Reading::Unread | Reading::Begun(..) => None,
        }
    }

    /// Reads the next so many bytes; whether that is all.
    pub fn read_on(&mut self, most: usize, whose: Whose, paths: &mut Paths, comparison: &Comparison) -> bool {
        let (mut reader, mut sketch, from) = match std::mem::take(&mut self.reading) {
            Reading::Unread => {
                let reader = Reader::new(comparison.items, comparison.shows_values);
                (Box::new(reader), Box::new(Sketch { cells: [0; CELLS], paths: Vec::new() }), 0)
            }
            Reading::Begun(reader, sketch, from) => (reader, sketch, from),
            done @ Reading::Done(_) => {
                self.reading = done;
                return true;
            }
        };
        let rest = self.text.get(from..).unwrap_or_default();
        let piece = rest.get(..most).unwrap_or(rest);
        let mut sketching = Sketching { sketch: &mut sketch, paths, comparison, whose };
        reader.read(piece, &mut sketching);
        if piece.len() < rest.len() {
            self.reading = Reading::Begun(reader, sketch, from + piece.len());
            return false;
        }
        let is_json = reader.end(&mut sketching).is_ok();
        self.reading = Reading::Done(is_json.then_some(sketch));
        true
    }
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
