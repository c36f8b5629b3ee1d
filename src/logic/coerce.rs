//! How values turn into numbers and texts, and compare: JavaScript's rules.
//!
//! Two things are kinder than JavaScript: null and what is absent are the empty text, never `null`; and two lists or
//! objects are never equal to each other, where JavaScript asks whether they are the same one.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::value::{List, Value};
use crate::budget::{Budget, Exhausted};

/// A number as a text: the shortest that reads back as it, with an exponent from 1e21 on and below 1e-6.
pub(super) fn number_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if number == 0.0 {
        return "0".to_owned();
    }
    if (1e-6..1e21).contains(&number.abs()) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    if text.contains("e-") { text } else { text.replace('e', "e+") }
}

/// A text as a number: what JavaScript's `Number(text)` gives, NaN for what is none.
pub(super) fn text_number(text: &str) -> f64 {
    let text = text.trim_matches(|c: char| (c.is_whitespace() && c != '\u{85}') || c == '\u{feff}');
    let radix = |prefixes: [&str; 2], radix| {
        let digits = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix))?;
        Some(whole_number(digits, radix))
    };
    match text {
        "" => return 0.0,
        "Infinity" | "+Infinity" => return f64::INFINITY,
        "-Infinity" => return f64::NEG_INFINITY,
        _ => {}
    }
    if let Some(number) =
        radix(["0x", "0X"], 16).or_else(|| radix(["0o", "0O"], 8)).or_else(|| radix(["0b", "0B"], 2))
    {
        return number;
    }
    // Rust also reads `inf` and `nan`, in any case.
    if text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')) {
        text.parse().unwrap_or(f64::NAN)
    } else {
        f64::NAN
    }
}

fn whole_number(digits: &str, radix: u32) -> f64 {
    if digits.is_empty() {
        return f64::NAN;
    }
    digits
        .chars()
        .try_fold(0.0, |number, c| Some(number * f64::from(radix) + f64::from(c.to_digit(radix)?)))
        .unwrap_or(f64::NAN)
}

/// Any value as a number.
pub(super) fn number(value: &Value<'_>) -> f64 {
    match value {
        Value::Null => 0.0,
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Number(number) => *number,
        Value::Text(text) => text_number(text),
        Value::List(list) => list_number(list),
        Value::Object(_) => f64::NAN,
    }
}

/// What the list's text is as a number, without making the text: with two items it has a comma in it.
fn list_number(list: &List<'_>) -> f64 {
    match (list.len(), list.item(0).as_deref()) {
        (0, _) | (1, None) => 0.0,
        (1, Some(Value::Bool(_))) => f64::NAN,
        (1, Some(only)) => number(only),
        _ => f64::NAN,
    }
}

/// Steps that writing a number takes beside those of its text.
const WRITTEN_NUMBER: usize = 4;

/// Any value as a text, borrowed where it is one.
pub(super) fn text<'v>(value: &'v Value<'_>, budget: &Budget) -> Result<Cow<'v, str>, Exhausted> {
    if let Value::Text(text) = value {
        return Ok(Cow::Borrowed(text));
    }
    let mut text = String::new();
    append(&mut text, value, budget)?;
    Ok(Cow::Owned(text))
}

/// Writes any value behind `out` as a text: items with commas between them.
pub(super) fn append(out: &mut String, value: &Value<'_>, budget: &Budget) -> Result<(), Exhausted> {
    let start = out.len();
    match value {
        Value::Null => {}
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => {
            budget.spend(WRITTEN_NUMBER)?;
            out.push_str(&number_text(*number));
        }
        Value::Text(text) => {
            budget.make(text.len())?;
            out.push_str(text);
            return Ok(());
        }
        Value::List(list) => {
            for (i, item) in list.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                append(out, &item, budget)?;
            }
            return budget.spend(1);
        }
        Value::Object(_) => out.push_str("[object Object]"),
    }
    budget.make(out.len() - start)
}

/// `===`: same kind, same value.
pub(super) fn same(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Number(a), Value::Number(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => a == b,
        _ => false,
    }
}

/// `==`: texts and booleans count as numbers beside a number; lists and objects as their texts.
pub(super) fn equal(a: &Value<'_>, b: &Value<'_>, budget: &Budget) -> Result<bool, Exhausted> {
    Ok(match (a, b) {
        (Value::Null, _) | (_, Value::Null) => same(a, b),
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::List(_) | Value::Object(_), Value::List(_) | Value::Object(_)) => false,
        (Value::List(_) | Value::Object(_), Value::Text(b)) => text(a, budget)? == *b,
        (Value::Text(a), Value::List(_) | Value::Object(_)) => *a == text(b, budget)?,
        _ => number(a) == number(b),
    })
}

/// How `a` and `b` stand to each other for `<` and its like: two texts by their characters, all else as numbers, lists
/// beside texts as their texts. Nothing where one is not a number.
pub(super) fn order(a: &Value<'_>, b: &Value<'_>, budget: &Budget) -> Result<Option<Ordering>, Exhausted> {
    let textual = |value: &Value<'_>| matches!(value, Value::Text(_) | Value::List(_) | Value::Object(_));
    Ok(match (a, b) {
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        _ if textual(a) && textual(b) => Some(text(a, budget)?.cmp(&text(b, budget)?)),
        _ => number(a).partial_cmp(&number(b)),
    })
}

/// Part of `text` from character `start` on (from the end where it is negative): `length` characters, or all but the last
/// `-length` where that is negative. Characters are Unicode scalar values, where JavaScript counts UTF-16 units.
pub(super) fn substring(text: &str, start: f64, length: Option<f64>) -> &str {
    let (start, length) = (start.trunc(), length.map(f64::floor));
    let from = if start < 0.0 { offset_from_end(text, -start) } else { offset(text, start) };
    let tail = text.get(from..).unwrap_or_default();
    let end = match length {
        None => tail.len(),
        Some(length) if length < 0.0 => offset_from_end(tail, -length),
        Some(length) => offset(tail, length),
    };
    tail.get(..end).unwrap_or_default()
}

/// Where the first `count` characters of `text` end, in bytes.
fn offset(text: &str, count: f64) -> usize {
    text.char_indices().nth(whole(count)).map_or(text.len(), |(offset, _)| offset)
}

/// Where the last `count` characters of `text` begin, in bytes.
fn offset_from_end(text: &str, count: f64) -> usize {
    match whole(count) {
        0 => text.len(),
        count => text.char_indices().nth_back(count - 1).map_or(0, |(offset, _)| offset),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is cut off is meant to be; `as` takes NaN as 0 and what is too large as the largest"
)]
fn whole(count: f64) -> usize {
    count as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_written_as_javascript_writes_them() {
        for (number, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (1e21, "1e+21"),
            (-1.5e300, "-1.5e+300"),
            (f64::MAX, "1.7976931348623157e+308"),
            (0.000_001, "0.000001"),
            (0.000_000_1, "1e-7"),
            (-1.234e-9, "-1.234e-9"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(number_text(number), expected);
        }
    }

    #[test]
    fn texts_are_read_as_javascript_reads_them() {
        for (text, expected) in [
            ("", 0.0),
            (" \t\n\u{feff}\u{a0}", 0.0),
            (" 12 ", 12.0),
            ("-1.5", -1.5),
            ("+1", 1.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1E-2", 0.01),
            ("007", 7.0),
            ("0x1F", 31.0),
            ("0b101", 5.0),
            ("0o17", 15.0),
            ("Infinity", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e400", f64::INFINITY),
        ] {
            assert_eq!(text_number(text), expected, "{text:?}");
        }
        for text in [
            "a", "1px", "1 2", "1_000", "1,5", ".", "e5", "+", "--1", "0x", "0xg", "-0x1", "0b2", "inf",
            "nan", "infinity", "NaN", "1e", "\u{85}1",
        ] {
            assert!(text_number(text).is_nan(), "{text:?}");
        }
    }

    #[test]
    fn substrings_count_characters_from_either_end() {
        for (text, start, length, expected) in [
            ("물꼬를 트다", 0.0, Some(2.0), "물꼬"),
            ("물꼬를 트다", -2.0, None, "트다"),
            ("물꼬를 트다", 1.0, Some(-3.0), "꼬를"),
            ("abc", -9.0, Some(2.0), "ab"),
            ("abc", 9.0, None, ""),
            ("abc", 1.9, Some(1.9), "b"),
            ("abc", -0.5, None, "abc"),
            ("abc", 0.0, Some(-0.5), "ab"),
            ("abc", 0.0, Some(-9.0), ""),
            ("abc", f64::NAN, Some(f64::NAN), ""),
            ("abc", f64::NEG_INFINITY, Some(f64::INFINITY), "abc"),
            ("", -1.0, Some(-1.0), ""),
        ] {
            assert_eq!(substring(text, start, length), expected, "{text} {start} {length:?}");
        }
    }

    proptest! {
        #[test]
        fn a_number_written_reads_back(bits: u64) {
            let number = f64::from_bits(bits);
            let read = text_number(&number_text(number));
            prop_assert!(read == number || read.is_nan() && number.is_nan());
        }

        #[test]
        fn substrings_never_fail(text: String, start: f64, length in prop::option::of(-10.0..10.0)) {
            prop_assert!(text.contains(substring(&text, start, length)));
        }
    }
}
