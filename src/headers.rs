//! The headers of one request, as the proxy hands them over: pairs of bytes, in order, repeats included.

use std::borrow::Cow;

/// Header names and values. Names are lower case, as Envoy keeps them; pseudo headers (`:path`) are among them.
#[derive(Clone, Debug, Default)]
pub struct Headers<'a> {
    pairs: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Headers<'a> {
    /// Headers of these pairs, names in lower case.
    #[must_use]
    pub fn new(pairs: Vec<(&'a [u8], &'a [u8])>) -> Headers<'a> {
        Headers { pairs }
    }

    /// Every name and value, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + '_ {
        self.pairs.iter().copied()
    }

    /// How often `name` (lower case) stands there.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.values(name).count()
    }

    /// The value of `name` (lower case): of a repeated header all values joined by `,` as Envoy's matchers do, of
    /// repeated `cookie` headers by `; `.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let mut values = self.values(name);
        let first = values.next()?;
        let Some(second) = values.next() else { return Some(Cow::Borrowed(first)) };
        let glue: &[u8] = if name == "cookie" { b"; " } else { b"," };
        let mut joined = first.to_vec();
        for value in std::iter::once(second).chain(values) {
            joined.extend_from_slice(glue);
            joined.extend_from_slice(value);
        }
        Some(Cow::Owned(joined))
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.pairs.iter().filter(move |(n, _)| *n == name.as_bytes()).map(|(_, value)| *value)
    }
}

/// The name under which the proxy keeps the header that is written as `name`: in lower case, and `host` as `:authority`, as
/// for Envoy's own matchers.
#[must_use]
pub fn kept_name(name: &str) -> Box<str> {
    if name.eq_ignore_ascii_case("host") { ":authority".into() } else { name.to_ascii_lowercase().into() }
}

/// Whether `text` is a token (RFC 9110, section 5.6.2), as names of headers and cookies are.
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_values_are_joined_in_order() {
        let headers = Headers::new(vec![
            (b"x-a", b"1"),
            (b"cookie", b"a=1"),
            (b"x-a", b""),
            (b"x-a", b"\xff"),
            (b"cookie", b"b=2"),
        ]);
        for (name, expected) in
            [("x-a", Some(&b"1,,\xff"[..])), ("cookie", Some(b"a=1; b=2")), ("x-b", None), ("x", None)]
        {
            assert_eq!(headers.value(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn host_is_kept_as_authority_and_every_name_in_lower_case() {
        for (name, kept) in
            [("X-A", "x-a"), ("host", ":authority"), ("HOST", ":authority"), ("x-host", "x-host"), ("", "")]
        {
            assert_eq!(&*kept_name(name), kept, "{name}");
        }
    }

    #[test]
    fn names_are_tokens() {
        for name in ["mulkko_id", "__Host-id", "a", "9", "!#$%&'*+-.^_`|~"] {
            assert!(is_token(name), "{name}");
        }
        for text in ["", "a b", "a=b", "a;b", "a,b", "a\"", "a/b", "a[0]", "a\n", "é", "a\0", "\u{7f}"] {
            assert!(!is_token(text), "{text:?}");
        }
    }
}
