//! Query parameters.

use std::borrow::Cow;
use std::iter;

/// The value of the first parameter called `name`, decoded; borrowed where there is nothing to decode.
///
/// Parameters are divided by `&`, a name from its value by the first `=`; one without `=` has an empty value. Names and
/// values are decoded once: `+` is a space, `%2f` a byte (so the result need not be UTF-8), and an escape that is none
/// stays as written.
#[must_use]
pub fn find<'a>(query: &'a [u8], name: &str) -> Option<Cow<'a, [u8]>> {
    query.split(|b| *b == b'&').filter(|parameter| !parameter.is_empty()).find_map(|parameter| {
        let mut parts = parameter.splitn(2, |b| *b == b'=');
        let is_called = decoded(parts.next()?, b' ').eq(name.bytes());
        is_called.then(|| decode(parts.next().unwrap_or_default()))
    })
}

/// The bytes that part of a path stands for: as [`find`] decodes, but `+` is itself.
#[must_use]
pub fn decode_path(text: &[u8]) -> Vec<u8> {
    decoded(text, b'+').collect()
}

fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if decoded(text, b' ').eq(text.iter().copied()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(decoded(text, b' ').collect())
}

/// The bytes that `text` stands for, where `+` stands for `plus`.
fn decoded(text: &[u8], plus: u8) -> impl Iterator<Item = u8> {
    let mut rest = text;
    iter::from_fn(move || {
        let (byte, after) = match rest {
            [b'%', high, low, after @ ..] => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', rest.get(1..)?),
            },
            [b'+', after @ ..] => (plus, after),
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        rest = after;
        Some(byte)
    })
}

/// The value of a hexadecimal digit.
pub(crate) fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_parameter_of_a_name_is_found_and_decoded_once() {
        for (query, value) in [
            (&b"q=1"[..], Some(&b"1"[..])),
            (b"a=0&q=1&q=2", Some(b"1")),
            (b"%71=1", Some(b"1")),
            (b"q", Some(b"")),
            (b"q=", Some(b"")),
            (b"q&q=1", Some(b"")),
            (b"q=a=b", Some(b"a=b")),
            (b"q=a+b%20c", Some(b"a b c")),
            (b"q=%2B%26%3d", Some(b"+&=")),
            (b"q=%2541", Some(b"%41")),
            (b"q=%zz%4%", Some(b"%zz%4%")),
            (b"q=%%41%4%41", Some(b"%A%4A")),
            (b"q=%ff\xfe%00", Some(b"\xff\xfe\0")),
            (b"q=a;b", Some(b"a;b")),
            (b"", None),
            (b"&&", None),
            (b"=1&Q=1&aq=1&qa=1&q+=1", None),
            (b"%7=1&%=2", None),
        ] {
            assert_eq!(find(query, "q").as_deref(), value, "{}", query.escape_ascii());
        }
    }

    #[test]
    fn names_are_decoded_too() {
        assert_eq!(find(b"user+id=1", "user id").as_deref(), Some(&b"1"[..]));
        assert_eq!(find(b"%EB%85%BC=1", "논").as_deref(), Some(&b"1"[..]));
        assert_eq!(find(b"&=1", "").as_deref(), Some(&b"1"[..]));
        assert_eq!(find(b"a&&b", ""), None);
    }

    #[test]
    fn a_value_with_nothing_to_decode_is_borrowed() {
        for (query, is_borrowed) in
            [(&b"q=abc"[..], true), (b"q=%zz%", true), (b"q", true), (b"q=a+b", false), (b"q=%41", false)]
        {
            let value = find(query, "q").unwrap();
            assert_eq!(matches!(value, Cow::Borrowed(_)), is_borrowed, "{}", query.escape_ascii());
        }
    }

    proptest! {
        #![proptest_config(crate::laws::config(256))]

        #[test]
        fn no_query_makes_the_reader_panic(
            query in proptest::collection::vec(any::<u8>(), 0..64),
            name in "\\PC{0,4}",
        ) {
            let _ = find(&query, &name);
        }

        #[test]
        fn what_is_escaped_is_read_back(
            name in "\\PC{0,8}",
            value in proptest::collection::vec(any::<u8>(), 0..32),
        ) {
            let escape = |bytes: &[u8]| bytes.iter().map(|b| format!("%{b:02x}")).collect::<String>();
            let query = format!("{}={}", escape(name.as_bytes()), escape(&value));
            let found = find(query.as_bytes(), &name);
            prop_assert_eq!(found.as_deref(), Some(&value[..]));
        }
    }
}
