//! Values as the bytes that `fractional` v3 hashes: RFC 8949, section 4.2 (core deterministic encoding).

use super::value::{Object, Value};
use crate::budget::{Budget, Exhausted};

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// Whole numbers from here on are integers.
const LEAST_INTEGER: f64 = -9_223_372_036_854_775_808.0;
/// Whole numbers from here on are floats again: 2⁶⁴.
const ABOVE_INTEGERS: f64 = 18_446_744_073_709_551_616.0;

/// Hands the encoding of `value` to `out`, piece by piece.
pub(super) fn encode(
    value: &Value<'_>,
    budget: &Budget,
    out: &mut impl FnMut(&[u8]),
) -> Result<(), Exhausted> {
    match value {
        Value::Null => out(&[0xf6]),
        Value::Bool(false) => out(&[0xf4]),
        Value::Bool(true) => out(&[0xf5]),
        Value::Number(number) => self::number(*number, out),
        Value::Text(text) => {
            budget.read(text.len())?;
            self::text(text, out);
        }
        Value::List(list) => {
            head(ARRAY, size(list.len()), out);
            for item in list.iter() {
                budget.spend(1)?;
                encode(&item, budget, out)?;
            }
        }
        Value::Object(object) => members(object, budget, out)?,
    }
    Ok(())
}

/// Encodes the head of an array of so many items, which must follow.
pub(super) fn array(len: usize, out: &mut impl FnMut(&[u8])) {
    head(ARRAY, size(len), out);
}

/// Encodes a text.
pub(super) fn text(text: &str, out: &mut impl FnMut(&[u8])) {
    head(TEXT, size(text.len()), out);
    out(text.as_bytes());
}

/// Members in the order of their encoded names: shorter names first. Of a name that stands twice the last counts.
fn members(object: &Object<'_>, budget: &Budget, out: &mut impl FnMut(&[u8])) -> Result<(), Exhausted> {
    let mut members: Vec<_> = object.iter().collect();
    budget.spend(members.len())?;
    members.reverse();
    members.sort_by(|(a, _), (b, _)| (a.len(), *a).cmp(&(b.len(), *b)));
    members.dedup_by(|(later, _), (earlier, _)| later == earlier);
    head(MAP, size(members.len()), out);
    for (name, value) in &members {
        budget.read(name.len())?;
        text(name, out);
        encode(value, budget, out)?;
    }
    Ok(())
}

fn number(number: f64, out: &mut impl FnMut(&[u8])) {
    if number.fract() == 0.0 && (LEAST_INTEGER..ABOVE_INTEGERS).contains(&number) {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number of at most 64 bits")]
        let integer = number as i128;
        // -1 is encoded as 0, and so on.
        let (major, value) = if integer < 0 { (NEGATIVE, -1 - integer) } else { (UNSIGNED, integer) };
        return head(major, u64::try_from(value).unwrap_or(u64::MAX), out);
    }
    if number.is_nan() {
        return out(&[0xf9, 0x7e, 0x00]);
    }
    #[expect(clippy::cast_possible_truncation, reason = "compared with what it was")]
    let single = number as f32;
    if f64::from(single) != number {
        out(&[0xfb]);
        return out(&number.to_be_bytes());
    }
    match half(single) {
        Some(half) => {
            out(&[0xf9]);
            out(&half.to_be_bytes());
        }
        None => {
            out(&[0xfa]);
            out(&single.to_be_bytes());
        }
    }
}

/// The bits of `single` as a float of 16 bits, if it is exactly one.
fn half(single: f32) -> Option<u16> {
    let bits = single.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let (exponent, fraction) = ((bits >> 23) & 0xff, bits & 0x7f_ffff);
    // Exponents are biased by 127 in 32 bits, by 15 in 16 bits, where 10 of 23 bits of the fraction are left.
    let magnitude = match exponent {
        0 => (fraction == 0).then_some(0)?,
        255 => (fraction == 0).then_some(0x7c00)?,
        113..=142 => exact_shift(fraction, 13)? | ((exponent - 112) << 10),
        103..=112 => exact_shift(fraction | 0x80_0000, 126 - exponent)?,
        _ => return None,
    };
    u16::try_from(sign | magnitude).ok()
}

/// `bits` without the lowest `count`, if these are all zero.
fn exact_shift(bits: u32, count: u32) -> Option<u32> {
    (bits.trailing_zeros() >= count).then(|| bits >> count)
}

/// The first byte or bytes of an item: its kind, and a number in as few bytes as can be.
fn head(major: u8, value: u64, out: &mut impl FnMut(&[u8])) {
    let major = major << 5;
    if let Ok(value) = u8::try_from(value) {
        return if value < 24 { out(&[major | value]) } else { out(&[major | 24, value]) };
    }
    if let Ok(value) = u16::try_from(value) {
        out(&[major | 25]);
        return out(&value.to_be_bytes());
    }
    if let Ok(value) = u32::try_from(value) {
        out(&[major | 26]);
        return out(&value.to_be_bytes());
    }
    out(&[major | 27]);
    out(&value.to_be_bytes());
}

fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;

    fn encoded(value: &Value<'_>) -> String {
        let mut hex = String::new();
        let mut out = |bytes: &[u8]| hex.extend(bytes.iter().map(|byte| format!("{byte:02x}")));
        encode(value, &Budget::default(), &mut out).unwrap();
        hex
    }

    #[test]
    fn json_is_encoded_as_the_rfc_says() {
        // Most of them are examples of RFC 8949, appendix A.
        for (json, expected) in [
            ("0", "00"),
            ("-0.0", "00"),
            ("10", "0a"),
            ("23", "17"),
            ("24", "1818"),
            ("100.0", "1864"),
            ("1000", "1903e8"),
            ("1000000", "1a000f4240"),
            ("1000000000000", "1b000000e8d4a51000"),
            ("18446744073709549568", "1bfffffffffffff800"),
            ("18446744073709551616", "fa5f800000"),
            ("-1", "20"),
            ("-1000", "3903e7"),
            ("-9223372036854775808", "3b7fffffffffffffff"),
            ("-18446744073709551616", "fadf800000"),
            ("1.1", "fb3ff199999999999a"),
            ("1.5", "f93e00"),
            ("-4.1", "fbc010666666666666"),
            ("100000.5", "fa47c35040"),
            ("65503.5", "fa477fdf80"),
            ("5.960464477539063e-8", "f90001"),
            ("0.00006103515625", "f90400"),
            ("0.000060975551605224609375", "f903ff"),
            ("2.98023223876953125e-8", "fa33000000"),
            ("1.0e+300", "fb7e37e43c8800759c"),
            ("3.4028234663852886e+38", "fa7f7fffff"),
            ("false", "f4"),
            ("true", "f5"),
            ("null", "f6"),
            (r#""""#, "60"),
            (r#""ü물""#, "65c3bcebacbc"),
            (r#"[1,[2,3],[]]"#, "830182020380"),
            (r#"{"b":[2,3],"aa":null,"a":1}"#, "a36161016162820203626161f6"),
            (r#"{"a":1,"a":2}"#, "a1616102"),
        ] {
            let json: Json = serde_json::from_str(json).unwrap();
            assert_eq!(encoded(&Value::from(&json)), expected, "{json:?}");
        }
        for (number, expected) in
            [(f64::NAN, "f97e00"), (f64::INFINITY, "f97c00"), (f64::NEG_INFINITY, "f9fc00")]
        {
            assert_eq!(encoded(&Value::Number(number)), expected);
        }
    }
}
