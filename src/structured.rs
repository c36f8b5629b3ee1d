//! Values as members of a dictionary of RFC 9651, in which upstreams read the flags of a request.
//!
//! Booleans, whole numbers of at most 15 digits, decimals of at most 12 and 3 digits, and texts of visible ASCII stay
//! what they are. Other texts go as display strings. Everything else, and numbers that would lose digits, goes as a byte
//! sequence of its JSON.

use sfv::{Decimal, DictSerializer, Integer, KeyRef, RefBareItem, StringRef};

use crate::json::Json;

/// Whether `text` may be the name of a member: a lower case letter or `*`, then also digits and `_ - .`
#[must_use]
pub fn is_key(text: &str) -> bool {
    KeyRef::from_str(text).is_ok()
}

/// The member `key` with a value, which `json` writes; `None` for what [`is_key`] does not hold.
#[must_use]
pub fn member(key: &str, value: &Json, json: &str) -> Option<String> {
    let key = KeyRef::from_str(key).ok()?;
    let mut dictionary = DictSerializer::new();
    let _ = dictionary.bare_item(key, item(value, json));
    dictionary.finish()
}

fn item<'v>(value: &'v Json, json: &'v str) -> RefBareItem<'v> {
    let exact = match value {
        Json::Bool(value) => Some(RefBareItem::Boolean(*value)),
        Json::Text(text) => Some(match StringRef::from_str(text) {
            Ok(text) => RefBareItem::String(text),
            Err(_) => RefBareItem::DisplayString(text),
        }),
        Json::Number(_) => number(json),
        _ => None,
    };
    exact.unwrap_or(RefBareItem::ByteSequence(json.as_bytes()))
}

/// A number as it is written, if it is exactly an integer or a decimal. With a point in it, it is a decimal.
fn number<'v>(text: &str) -> Option<RefBareItem<'v>> {
    let thousandths = thousandths(text)?;
    if text.contains('.') || thousandths % 1_000 != 0 {
        let thousandths = Integer::try_from(thousandths).ok()?;
        return Some(RefBareItem::Decimal(Decimal::from_integer_scaled_1000(thousandths)));
    }
    Integer::try_from(thousandths / 1_000).ok().map(RefBareItem::Integer)
}

/// How many thousandths a number is, if it is whole thousandths, and not far too many.
fn thousandths(text: &str) -> Option<i64> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, decimals) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, decimals].concat();
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() || significant == "-" {
        return Some(0);
    }
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let shift = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(decimals.len()).ok()?)?;
    let power = u32::try_from(shift.checked_add(zeros)?.checked_add(3)?).ok()?;
    significant.parse::<i64>().ok()?.checked_mul(10i64.checked_pow(power)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_what_they_are_where_that_is_exact() {
        for (json, expected) in [
            ("true", "a"),
            ("false", "a=?0"),
            ("1", "a=1"),
            ("-17", "a=-17"),
            ("0", "a=0"),
            ("-0", "a=0"),
            ("999999999999999", "a=999999999999999"),
            ("1000000000000000", "a=:MTAwMDAwMDAwMDAwMDAwMA==:"),
            ("9007199254740993", "a=:OTAwNzE5OTI1NDc0MDk5Mw==:"),
            ("1e3", "a=1000"),
            ("12e-1", "a=1.2"),
            ("120e-1", "a=12"),
            ("1.0", "a=1.0"),
            ("0.0", "a=0.0"),
            ("0.5", "a=0.5"),
            ("-2.125", "a=-2.125"),
            ("1.1000", "a=1.1"),
            ("1.5e1", "a=15.0"),
            ("0.1234", "a=:MC4xMjM0:"),
            ("999999999999.999", "a=999999999999.999"),
            ("1234567890123.5", "a=:MTIzNDU2Nzg5MDEyMy41:"),
            ("1e999999999999999999999", "a=:MWU5OTk5OTk5OTk5OTk5OTk5OTk5OTk=:"),
            ("1e-999", "a=:MWUtOTk5:"),
            ("0e999999999999999999999", "a=0"),
            (r#""""#, r#"a="""#),
            (r#""v2 \"x\" \\""#, r#"a="v2 \"x\" \\""#),
            (r#""물꼬 100%\n""#, r#"a=%"%eb%ac%bc%ea%bc%ac 100%25%0a""#),
            (r#"{"a":1.0}"#, "a=:eyJhIjoxLjB9:"),
        ] {
            // As serde_json reads it where the number is too large for a double.
            let value = serde_json::from_str(json).unwrap_or(Json::Number(f64::INFINITY));
            assert_eq!(member("a", &value, json).as_deref(), Some(expected), "{json}");
        }
    }

    #[test]
    fn keys_are_those_of_rfc_9651() {
        for (key, expected) in [
            ("new-cart", true),
            ("a", true),
            ("*a_1-.*", true),
            ("", false),
            ("New", false),
            ("1a", false),
            ("a b", false),
            ("a/b", false),
            ("ä", false),
        ] {
            assert_eq!(is_key(key), expected, "{key}");
            assert_eq!(member(key, &Json::Bool(true), "true").is_some(), expected, "{key}");
        }
    }
}
