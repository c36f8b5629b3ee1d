//! Reads JSON as it streams by, and keeps nothing of it: each scalar is told once, as a hash under its path.
//!
//! Memory is bounded by the depth, whatever comes: of a name only the first bytes are kept, of a value nothing.

use std::hash::Hasher;

use fnv::FnvHasher;

use crate::bucket::fmix64;

/// The most levels of arrays and objects.
const MAX_DEPTH: usize = 128;
/// The most bytes of a path that are kept for people; all of it is hashed.
pub(super) const MAX_PATH_BYTES: usize = 256;

/// The most bytes of a value that are kept for people; all of it is hashed.
pub(super) const MAX_VALUE_BYTES: usize = 64;

/// Who is told of the scalars of a document.
pub trait Scalars {
    /// A scalar, or an array or object with nothing in it.
    fn scalar(&mut self, path: Path<'_>, scalar: Scalar<'_>);
}

/// A scalar, or an array or object with nothing in it.
#[derive(Clone, Copy, Debug)]
pub struct Scalar<'s> {
    /// Path and value, hashed.
    pub hash: u64,
    /// What it is.
    pub kind: Kind,
    /// How many bytes it has, a text without its quotes and escapes.
    pub bytes: u32,
    /// Its beginning.
    pub text: &'s [u8],
}

/// What a scalar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// A number.
    Number,
    /// A text.
    Text,
    /// `[]`
    Array,
    /// `{}`
    Object,
}

/// Where a scalar stands.
#[derive(Clone, Copy, Debug)]
pub struct Path<'p> {
    /// All of it, hashed.
    pub hash: u64,
    /// Its beginning, as a JSON Pointer (RFC 6901) with `*` for items of arrays.
    pub text: &'p [u8],
}

/// How the items of an array are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Items {
    /// All of them `*`: their order says nothing.
    #[default]
    Any,
    /// By their index.
    Numbered,
}

/// Why a document cannot be read as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is no JSON.
    Syntax,
    /// It is nested too deep.
    Depth,
    /// It breaks off.
    End,
}

/// A reader of one document.
#[derive(Debug)]
pub struct Reader {
    items: Items,
    expected: Expected,
    open: Vec<Open>,
    /// The path of what is being read.
    path: Hash,
    text: Vec<u8>,
    value: Value,
    failed: Option<Unreadable>,
}

/// A scalar that is being read.
#[derive(Debug)]
struct Value {
    kind: Kind,
    hash: Hash,
    bytes: u32,
    text: Vec<u8>,
    /// How many bytes of it are kept for people.
    most_kept: usize,
}

impl Value {
    fn begin(&mut self, kind: Kind, first: u8) {
        (self.kind, self.hash, self.bytes) = (kind, Hash::default(), 0);
        self.text.clear();
        if kind == Kind::Text {
            // What makes "1" another value than 1.
            self.hash.take(first);
        } else {
            self.take(first);
        }
    }

    fn take(&mut self, byte: u8) {
        self.hash.take(byte);
        self.bytes = self.bytes.saturating_add(1);
        if self.text.len() < self.most_kept {
            self.text.push(byte);
        }
    }

    fn take_all(&mut self, bytes: &[u8]) {
        self.hash.take_all(bytes);
        self.bytes = self.bytes.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        keep(&mut self.text, bytes, self.most_kept);
    }
}

/// Adds as many of the bytes to a text as it may have.
fn keep(text: &mut Vec<u8>, bytes: &[u8], most: usize) {
    let room = most.saturating_sub(text.len());
    if room > 0 {
        text.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }
}

/// FNV-1a of the bytes so far, 64 bits.
#[derive(Clone, Copy, Debug)]
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Hash(FnvHasher::default().finish())
    }
}

impl Hash {
    fn take(&mut self, byte: u8) {
        let mut hasher = FnvHasher::with_key(self.0);
        hasher.write_u8(byte);
        self.0 = hasher.finish();
    }

    fn take_all(&mut self, bytes: &[u8]) {
        let mut hasher = FnvHasher::with_key(self.0);
        hasher.write(bytes);
        self.0 = hasher.finish();
    }
}

/// An array or an object that is being read.
#[derive(Debug)]
struct Open {
    is_object: bool,
    /// Its own path.
    path: Hash,
    text_bytes: usize,
    /// The next item.
    index: u64,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Value,
    /// After `[`.
    ValueOrEnd,
    /// After `{`.
    NameOrEnd,
    /// After a comma in an object.
    Name,
    Colon,
    /// After a value.
    CommaOrEnd,
    Text {
        is_name: bool,
        part: Part,
    },
    Number(Digits),
    /// The rest of `true`, `false` or `null`.
    Word(&'static [u8]),
    /// After the document.
    Nothing,
}

/// Where in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Plain,
    /// So many bytes of a character follow, the next of them within bounds.
    Utf8 {
        left: u8,
        low: u8,
        high: u8,
    },
    /// After a backslash.
    Escape,
    /// After `\u` and so many digits.
    Unicode {
        digits: u8,
        code: u16,
    },
    /// After the first half of a pair.
    Half(u16),
    /// After it and a backslash.
    HalfEscape(u16),
    /// After it and `\u` and so many digits.
    HalfUnicode {
        half: u16,
        digits: u8,
        code: u16,
    },
}

/// Where in a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digits {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    E,
    ESign,
    Exponent,
}

impl Reader {
    /// A reader of a document from its first byte on. Of values the beginning is kept only where they are shown.
    #[must_use]
    pub fn new(items: Items, shows_values: bool) -> Reader {
        let most_kept = if shows_values { MAX_VALUE_BYTES } else { 0 };
        Reader {
            items,
            expected: Expected::Value,
            open: Vec::new(),
            path: Hash::default(),
            text: Vec::new(),
            value: Value { kind: Kind::Null, hash: Hash::default(), bytes: 0, text: Vec::new(), most_kept },
            failed: None,
        }
    }

    /// Reads the next part.
    pub fn read<S: Scalars>(&mut self, part: &[u8], scalars: &mut S) {
        let mut rest = part;
        while self.failed.is_none() {
            rest = self.plain(rest);
            let Some((byte, after)) = rest.split_first() else { return };
            if let Err(why) = self.take(*byte, scalars) {
                self.fail(why);
            }
            rest = after;
        }
    }

    /// Reads the plain characters of a text, or the digits of a number, at once: most of most documents. What is left.
    fn plain<'p>(&mut self, part: &'p [u8]) -> &'p [u8] {
        let of_name = |byte: &u8| matches!(byte, 0x20..0x80) && !matches!(byte, b'"' | b'\\' | b'~' | b'/');
        let of_value = |byte: &u8| matches!(byte, 0x20..0x80) && !matches!(byte, b'"' | b'\\');
        match self.expected {
            Expected::Text { is_name: true, part: Part::Plain } => {
                let (run, rest) = split(part, of_name);
                self.lengthen_all(run);
                rest
            }
            Expected::Text { is_name: false, part: Part::Plain } => {
                let (run, rest) = split(part, of_value);
                self.value.take_all(run);
                rest
            }
            Expected::Number(Digits::Whole | Digits::Fraction | Digits::Exponent) => {
                let (run, rest) = split(part, u8::is_ascii_digit);
                self.value.take_all(run);
                rest
            }
            _ => part,
        }
    }

    /// Ends the document.
    ///
    /// # Errors
    /// When it was no JSON, or not a whole one.
    pub fn end<S: Scalars>(&mut self, scalars: &mut S) -> Result<(), Unreadable> {
        if let (None, Expected::Number(digits)) = (self.failed, self.expected)
            && digits.may_end()
        {
            self.scalar(scalars);
        }
        match self.failed {
            Some(why) => Err(why),
            None if self.expected == Expected::Nothing => Ok(()),
            None => Err(Unreadable::End),
        }
    }

    fn fail(&mut self, why: Unreadable) {
        self.failed = Some(why);
        self.open = Vec::new();
        self.text = Vec::new();
    }

    fn take<S: Scalars>(&mut self, byte: u8, scalars: &mut S) -> Result<(), Unreadable> {
        let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match self.expected {
            Expected::Text { is_name, part } => self.text(byte, is_name, part, scalars),
            Expected::Number(digits) => match digits.next(byte) {
                Some(next) => {
                    self.value.take(byte);
                    self.expected = Expected::Number(next);
                    Ok(())
                }
                None if digits.may_end() => {
                    self.scalar(scalars);
                    self.take(byte, scalars)
                }
                None => Err(Unreadable::Syntax),
            },
            Expected::Word(rest) => match rest.split_first() {
                Some((first, rest)) if *first == byte => {
                    self.value.take(byte);
                    self.expected = Expected::Word(rest);
                    if rest.is_empty() {
                        self.scalar(scalars);
                    }
                    Ok(())
                }
                _ => Err(Unreadable::Syntax),
            },
            _ if is_space => Ok(()),
            Expected::Value => self.value(byte),
            Expected::ValueOrEnd if byte == b']' => self.close(byte, scalars),
            Expected::ValueOrEnd => {
                self.item();
                self.value(byte)
            }
            Expected::NameOrEnd if byte == b'}' => self.close(byte, scalars),
            Expected::NameOrEnd | Expected::Name if byte == b'"' => {
                self.step();
                self.lengthen(b'/');
                self.expected = Expected::Text { is_name: true, part: Part::Plain };
                Ok(())
            }
            Expected::Colon if byte == b':' => {
                self.expected = Expected::Value;
                Ok(())
            }
            Expected::CommaOrEnd => self.after_value(byte, scalars),
            _ => Err(Unreadable::Syntax),
        }
    }

    /// The first byte of a value.
    fn value(&mut self, byte: u8) -> Result<(), Unreadable> {
        let kind = match byte {
            b'"' => Kind::Text,
            b't' | b'f' => Kind::Boolean,
            b'n' => Kind::Null,
            b'[' => Kind::Array,
            b'{' => Kind::Object,
            _ => Kind::Number,
        };
        self.value.begin(kind, byte);
        self.expected = match byte {
            b'"' => Expected::Text { is_name: false, part: Part::Plain },
            b'-' => Expected::Number(Digits::Minus),
            b'0' => Expected::Number(Digits::Zero),
            b'1'..=b'9' => Expected::Number(Digits::Whole),
            b't' => Expected::Word(b"rue"),
            b'f' => Expected::Word(b"alse"),
            b'n' => Expected::Word(b"ull"),
            b'[' | b'{' => {
                if self.open.len() >= MAX_DEPTH {
                    return Err(Unreadable::Depth);
                }
                let is_object = byte == b'{';
                let path = self.path;
                self.open.push(Open { is_object, path, text_bytes: self.text.len(), index: 0 });
                if is_object { Expected::NameOrEnd } else { Expected::ValueOrEnd }
            }
            _ => return Err(Unreadable::Syntax),
        };
        Ok(())
    }

    /// A comma or an end after a value.
    fn after_value<S: Scalars>(&mut self, byte: u8, scalars: &mut S) -> Result<(), Unreadable> {
        let is_object = self.open.last().is_some_and(|open| open.is_object);
        match byte {
            b',' if is_object => self.expected = Expected::Name,
            b',' => {
                self.item();
                self.expected = Expected::Value;
            }
            b'}' if is_object => return self.close(byte, scalars),
            b']' if !is_object => return self.close(byte, scalars),
            _ => return Err(Unreadable::Syntax),
        }
        Ok(())
    }

    /// The end of an array or object. With nothing in it, it is itself a value.
    fn close<S: Scalars>(&mut self, byte: u8, scalars: &mut S) -> Result<(), Unreadable> {
        let is_empty = matches!(self.expected, Expected::NameOrEnd | Expected::ValueOrEnd);
        self.step();
        self.open.pop();
        if is_empty {
            self.value.take(byte);
            self.scalar(scalars);
        } else {
            self.ended();
        }
        Ok(())
    }

    /// Goes back to the path of what is open, and from there by one step.
    fn step(&mut self) {
        if let Some(open) = self.open.last() {
            self.path = open.path;
            self.text.truncate(open.text_bytes);
        }
    }

    /// The path of the next item.
    fn item(&mut self) {
        self.step();
        let Some(open) = self.open.last_mut() else { return };
        let index = open.index;
        open.index += 1;
        self.lengthen(b'/');
        match self.items {
            Items::Any => self.lengthen(b'*'),
            Items::Numbered => {
                let mut place = [0; 20];
                self.lengthen_all(decimal(index, &mut place));
            }
        }
    }

    fn lengthen(&mut self, byte: u8) {
        self.path.take(byte);
        if self.text.len() < MAX_PATH_BYTES {
            self.text.push(byte);
        }
    }

    fn lengthen_all(&mut self, bytes: &[u8]) {
        self.path.take_all(bytes);
        keep(&mut self.text, bytes, MAX_PATH_BYTES);
    }

    fn text<S: Scalars>(
        &mut self,
        byte: u8,
        is_name: bool,
        part: Part,
        scalars: &mut S,
    ) -> Result<(), Unreadable> {
        let next = match part {
            Part::Plain => match byte {
                b'"' => {
                    self.text_ends(is_name, scalars);
                    return Ok(());
                }
                b'\\' => Part::Escape,
                0..0x20 => return Err(Unreadable::Syntax),
                _ => {
                    self.character(is_name, byte);
                    utf8(byte).ok_or(Unreadable::Syntax)?
                }
            },
            Part::Utf8 { left, low, high } => {
                if !(low..=high).contains(&byte) {
                    return Err(Unreadable::Syntax);
                }
                self.character(is_name, byte);
                if left == 1 { Part::Plain } else { Part::Utf8 { left: left - 1, low: 0x80, high: 0xbf } }
            }
            Part::Escape => self.escape(is_name, byte)?,
            Part::Unicode { digits, code } => match unicode(digits, code, byte)? {
                (4, code @ 0xd800..0xdc00) => Part::Half(code),
                (4, code) => {
                    self.code_point(is_name, u32::from(code));
                    Part::Plain
                }
                (digits, code) => Part::Unicode { digits, code },
            },
            Part::Half(half) if byte == b'\\' => Part::HalfEscape(half),
            Part::HalfEscape(half) if byte == b'u' => Part::HalfUnicode { half, digits: 0, code: 0 },
            // A half without its other is as it is.
            Part::Half(half) => {
                self.code_point(is_name, u32::from(half));
                return self.text(byte, is_name, Part::Plain, scalars);
            }
            Part::HalfEscape(half) => {
                self.code_point(is_name, u32::from(half));
                self.escape(is_name, byte)?
            }
            Part::HalfUnicode { half, digits, code } => match unicode(digits, code, byte)? {
                (4, low @ 0xdc00..0xe000) => {
                    let code = 0x1_0000 + (u32::from(half - 0xd800) << 10) + u32::from(low - 0xdc00);
                    self.code_point(is_name, code);
                    Part::Plain
                }
                (4, other) => {
                    self.code_point(is_name, u32::from(half));
                    if (0xd800..0xdc00).contains(&other) {
                        Part::Half(other)
                    } else {
                        self.code_point(is_name, u32::from(other));
                        Part::Plain
                    }
                }
                (digits, code) => Part::HalfUnicode { half, digits, code },
            },
        };
        self.expected = Expected::Text { is_name, part: next };
        Ok(())
    }

    /// The first byte after a backslash.
    fn escape(&mut self, is_name: bool, byte: u8) -> Result<Part, Unreadable> {
        let character = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return Ok(Part::Unicode { digits: 0, code: 0 }),
            _ => return Err(Unreadable::Syntax),
        };
        self.character(is_name, character);
        Ok(Part::Plain)
    }

    /// A byte of a text, whose escapes are undone.
    fn character(&mut self, is_name: bool, byte: u8) {
        if !is_name {
            self.value.take(byte);
            return;
        }
        // What stands for steps in a pointer is escaped there.
        let (first, second) = match byte {
            b'~' => (b'~', Some(b'0')),
            b'/' => (b'~', Some(b'1')),
            _ => (byte, None),
        };
        self.lengthen(first);
        if let Some(second) = second {
            self.lengthen(second);
        }
    }

    /// A character that was escaped by its number; a lone half of a pair, too, has bytes of its own.
    fn code_point(&mut self, is_name: bool, code: u32) {
        let tail = |shift: u32| 0x80 | ((code >> shift) & 0x3f) as u8;
        let (bytes, from) = match code {
            0..0x80 => ([0, 0, 0, code as u8], 3),
            0x80..0x800 => ([0, 0, 0xc0 | (code >> 6) as u8, tail(0)], 2),
            0x800..0x1_0000 => ([0, 0xe0 | (code >> 12) as u8, tail(6), tail(0)], 1),
            _ => ([0xf0 | (code >> 18) as u8, tail(12), tail(6), tail(0)], 0),
        };
        bytes.into_iter().skip(from).for_each(|byte| self.character(is_name, byte));
    }

    fn text_ends<S: Scalars>(&mut self, is_name: bool, scalars: &mut S) {
        if is_name {
            self.expected = Expected::Colon;
        } else {
            self.scalar(scalars);
        }
    }

    /// Tells of the value that has ended.
    fn scalar<S: Scalars>(&mut self, scalars: &mut S) {
        let hash = self.path.0;
        let Value { kind, hash: value, bytes, text, .. } = &self.value;
        let scalar = Scalar { hash: fmix64(hash ^ value.0.rotate_left(1)), kind: *kind, bytes: *bytes, text };
        scalars.scalar(Path { hash, text: &self.text }, scalar);
        self.ended();
    }

    fn ended(&mut self) {
        self.expected = if self.open.is_empty() { Expected::Nothing } else { Expected::CommaOrEnd };
    }
}

/// The bytes at the beginning of which this holds, and the rest.
fn split(part: &[u8], holds: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = part.iter().position(|byte| !holds(byte)).unwrap_or(part.len());
    part.split_at_checked(end).unwrap_or((part, &[]))
}

/// The decimal digits of a number: an item has one in every path, and formatting takes longer than all else there.
fn decimal(mut number: u64, place: &mut [u8; 20]) -> &[u8] {
    let mut from = place.len();
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        from -= 1;
        if number == 0 {
            break;
        }
    }
    place.get(from..).unwrap_or_default()
}

/// What follows the first byte of a character: Unicode 16, table 3-7.
fn utf8(first: u8) -> Option<Part> {
    let (left, low, high) = match first {
        0..0x80 => return Some(Part::Plain),
        0xc2..=0xdf => (1, 0x80, 0xbf),
        0xe0 => (2, 0xa0, 0xbf),
        0xe1..=0xec | 0xee | 0xef => (2, 0x80, 0xbf),
        0xed => (2, 0x80, 0x9f),
        0xf0 => (3, 0x90, 0xbf),
        0xf1..=0xf3 => (3, 0x80, 0xbf),
        0xf4 => (3, 0x80, 0x8f),
        _ => return None,
    };
    Some(Part::Utf8 { left, low, high })
}

/// One more hexadecimal digit.
fn unicode(digits: u8, code: u16, byte: u8) -> Result<(u8, u16), Unreadable> {
    let digit = char::from(byte).to_digit(16).ok_or(Unreadable::Syntax)?;
    Ok((digits + 1, (code << 4) | digit as u16))
}

impl Digits {
    fn next(self, byte: u8) -> Option<Digits> {
        Some(match (self, byte) {
            (Digits::Minus, b'0') => Digits::Zero,
            (Digits::Minus, b'1'..=b'9') | (Digits::Whole, b'0'..=b'9') => Digits::Whole,
            (Digits::Zero | Digits::Whole, b'.') => Digits::Point,
            (Digits::Point | Digits::Fraction, b'0'..=b'9') => Digits::Fraction,
            (Digits::Zero | Digits::Whole | Digits::Fraction, b'e' | b'E') => Digits::E,
            (Digits::E, b'+' | b'-') => Digits::ESign,
            (Digits::E | Digits::ESign | Digits::Exponent, b'0'..=b'9') => Digits::Exponent,
            _ => return None,
        })
    }

    fn may_end(self) -> bool {
        matches!(self, Digits::Zero | Digits::Whole | Digits::Fraction | Digits::Exponent)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::Value as Document;

    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Seen(BTreeMap<String, Vec<u64>>);

    impl Scalars for Seen {
        fn scalar(&mut self, path: Path<'_>, scalar: Scalar<'_>) {
            let hashes = self.0.entry(String::from_utf8_lossy(path.text).into_owned()).or_default();
            hashes.push(scalar.hash);
            hashes.sort_unstable();
        }
    }

    fn read(items: Items, parts: &[&[u8]]) -> Result<Seen, Unreadable> {
        let (mut reader, mut seen) = (Reader::new(items, true), Seen::default());
        for part in parts {
            reader.read(part, &mut seen);
        }
        reader.end(&mut seen).map(|()| seen)
    }

    fn paths(json: &str) -> Vec<String> {
        read(Items::Any, &[json.as_bytes()]).unwrap().0.into_keys().collect()
    }

    #[test]
    fn scalars_are_told_under_their_paths() {
        assert_eq!(paths("1"), [""]);
        assert_eq!(
            paths(r#"{"a":{"b":[1,{"c":2}],"d":{}},"e/~":[[]]}"#),
            ["/a/b/*", "/a/b/*/c", "/a/d", "/e~1~0/*"]
        );
        let numbered = read(Items::Numbered, &[b"[[1,2],[3]]"]).unwrap();
        assert_eq!(numbered.0.into_keys().collect::<Vec<_>>(), ["/0/0", "/0/1", "/1/0"]);
        let numbers = [0, 9, 10, 1_234, u64::MAX];
        assert!(numbers.into_iter().all(|n| decimal(n, &mut [0; 20]) == n.to_string().as_bytes()));
    }

    #[test]
    fn equal_values_are_equal_however_they_are_written() {
        let same = |a: &str, b: &str| {
            read(Items::Any, &[a.as_bytes()]).unwrap() == read(Items::Any, &[b.as_bytes()]).unwrap()
        };
        assert!(same(r#"{"a":1,"b":"\u00e9\n\ud83d\ude00"}"#, " { \"b\" : \"é\\n😀\" , \"a\":1 } "));
        assert!(same(r#"{"\u0061":1}"#, r#"{"a":1}"#));
        assert!(same("[1,2]", "[2,1]"));
        for (a, b) in [
            ("1", "1.0"),
            ("1", "\"1\""),
            ("{}", "[]"),
            ("{}", "null"),
            ("[1,1]", "[1]"),
            ("true", "false"),
            (r#"{"a":1}"#, r#"{"b":1}"#),
            (r#""\ud83d""#, r#""\ude00""#),
            ("[[]]", "[]"),
            (r#"{"a/b":1}"#, r#"{"a":{"b":1}}"#),
        ] {
            assert!(!same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn what_is_no_json_is_said() {
        let deep = "[".repeat(10_000);
        let fine = ["[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH)].concat();
        assert!(read(Items::Any, &[fine.as_bytes()]).is_ok());
        for (json, why) in [
            (deep.as_bytes(), Unreadable::Depth),
            (b"", Unreadable::End),
            (b"{\"a\":1", Unreadable::End),
            (b"-", Unreadable::End),
            (b"01", Unreadable::Syntax),
            (b"1 2", Unreadable::Syntax),
            (b"[1,]", Unreadable::Syntax),
            (b"{\"a\"}", Unreadable::Syntax),
            (b"{,}", Unreadable::Syntax),
            (b"\"\xff\"", Unreadable::Syntax),
            (b"\"\xed\xa0\x80\"", Unreadable::Syntax),
            (b"\"\x01\"", Unreadable::Syntax),
            (b"nul", Unreadable::End),
            (b"nulL", Unreadable::Syntax),
            (b"]", Unreadable::Syntax),
            (b"[}", Unreadable::Syntax),
        ] {
            assert_eq!(
                read(Items::Any, &[json]).err(),
                Some(why),
                "{:?}",
                String::from_utf8_lossy(&json[..json.len().min(20)])
            );
        }
    }

    #[test]
    fn a_long_name_is_hashed_whole_and_kept_in_part() {
        let name = "k".repeat(64_000);
        let (a, b) = (format!("{{\"{name}a\":1}}"), format!("{{\"{name}b\":1}}"));
        let (a, b) = (read(Items::Any, &[a.as_bytes()]).unwrap(), read(Items::Any, &[b.as_bytes()]).unwrap());
        assert_ne!(a, b);
        assert!(a.0.keys().all(|path| path.len() == MAX_PATH_BYTES));
    }

    fn json() -> impl Strategy<Value = Document> {
        let leaf = prop_oneof![
            Just(Document::Null),
            any::<bool>().prop_map(Document::from),
            any::<i64>().prop_map(Document::from),
            any::<f64>().prop_map(Document::from),
            ".*".prop_map(Document::from),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Document::from),
                prop::collection::vec((".*", inner), 0..6)
                    .prop_map(|members| Document::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn parts_may_be_cut_anywhere(value in json(), cut in any::<prop::sample::Index>()) {
            let text = serde_json::to_vec(&value).unwrap();
            let pretty = serde_json::to_vec_pretty(&value).unwrap();
            let at = cut.index(text.len() + 1);
            let whole = read(Items::Any, &[&text]).unwrap();
            prop_assert_eq!(&whole, &read(Items::Any, &[&text[..at], &text[at..]]).unwrap());
            prop_assert_eq!(&whole, &read(Items::Any, &[&pretty]).unwrap());
        }

        #[test]
        fn json_is_what_serde_takes_for_it(text in r#"[\[\]{}",:0-9a-z.+\-eE\\u ]{0,12}"#) {
            let taken = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(read(Items::Any, &[text.as_bytes()]).is_ok(), taken, "{}", text);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(Items::Numbered, &[&bytes]);
        }
    }
}
