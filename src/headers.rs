//! The headers of one request, as the proxy hands them over: pairs of bytes, in order, repeats included.

use std::borrow::Cow;

use crate::budget::Budget;
use crate::decide::Trust;
use crate::forged;

/// Header names and values. Names are lower case, as Envoy keeps them; pseudo headers (`:path`) are among them.
///
/// What a request says in mulkko's own name and is not believed stands among those that came, and nowhere else: whoever
/// looks a header up does not see it.
#[derive(Clone, Debug, Default)]
pub struct Headers<'a> {
    pairs: Vec<(&'a [u8], &'a [u8])>,
    /// Whether they are believed; `None`: they are no request's.
    trust: Option<Trust>,
    /// Whether a name among them is not believed.
    has_forged: bool,
    /// Those that carry members (`baggage`), all values of a name joined, less the members that are not believed.
    cleaned: Vec<(&'a [u8], Vec<u8>)>,
}

impl<'a> Headers<'a> {
    /// Headers of these pairs, names in lower case, of which all is believed: an answer's.
    #[must_use]
    pub fn new(pairs: Vec<(&'a [u8], &'a [u8])>) -> Headers<'a> {
        Headers { pairs, ..Headers::default() }
    }

    /// The headers or trailers of a request, names in lower case.
    #[must_use]
    pub fn of_request(pairs: Vec<(&'a [u8], &'a [u8])>, trust: Trust) -> Headers<'a> {
        let has_forged = pairs.iter().any(|(name, _)| forged::is_name(trust, name));
        let mut headers = Headers { pairs, trust: Some(trust), has_forged, cleaned: Vec::new() };
        if trust == Trust::Edge {
            headers.clean();
        }
        headers
    }

    /// Takes out the members that are not believed.
    fn clean(&mut self) {
        // A name that is repeated is joined once, however often it stands there.
        let mut seen: Vec<&[u8]> = Vec::new();
        for &(name, _) in &self.pairs {
            let Some(divider) = forged::divider(name) else { continue };
            if seen.contains(&name) {
                continue;
            }
            seen.push(name);
            let value = joined(b",", self.pairs.iter().filter(|(n, _)| *n == name).map(|(_, value)| *value));
            if let Some(rest) = value.and_then(|value| forged::without(&value, divider)) {
                self.cleaned.push((name, rest));
            }
        }
    }

    /// Whether they are believed; those of nobody's request are not.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.trust.unwrap_or(Trust::Edge)
    }

    /// Every name and value that came, in the order in which they came, believed or not.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + '_ {
        self.pairs.iter().copied()
    }

    /// The names that are not believed, each as often as it came.
    pub fn forged(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        let trust = self.trust.filter(|_| self.has_forged);
        let names = self.pairs.iter().map(|(name, _)| *name);
        names.filter(move |name| trust.is_some_and(|trust| forged::is_name(trust, name)))
    }

    /// The headers of which members are not believed, by name: what is left of each, which may be nothing.
    #[must_use]
    pub fn cleaned(&self) -> &[(&'a [u8], Vec<u8>)] {
        &self.cleaned
    }

    /// How often `name` (lower case) came.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.values(name).count()
    }

    /// The value of `name` (lower case): of a repeated header all values joined by `,` as Envoy's matchers do, of
    /// repeated `cookie` headers by `; `. What is not believed is absent.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        if let Some((_, rest)) = self.cleaned.iter().find(|(cleaned, _)| *cleaned == name.as_bytes()) {
            return (!rest.is_empty()).then(|| Cow::Owned(rest.clone()));
        }
        let is_forged = self.has_forged && forged::is_name(self.trust(), name.as_bytes());
        if is_forged { None } else { self.came(name) }
    }

    /// As [`Headers::value`], out of a budget; absent where that has not enough left.
    #[must_use]
    pub fn spent_value(&self, name: &str, budget: &Budget) -> Option<Cow<'a, [u8]>> {
        budget.scan(self.pairs.len()).ok()?;
        let value = self.value(name);
        if let Some(Cow::Owned(value)) = &value {
            budget.read(value.len()).ok()?;
        }
        value
    }

    /// As [`Headers::value`], believed or not.
    #[must_use]
    pub fn came(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let glue: &[u8] = if name == "cookie" { b"; " } else { b"," };
        joined(glue, self.values(name))
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.pairs.iter().filter(move |(n, _)| *n == name.as_bytes()).map(|(_, value)| *value)
    }
}

/// Values with something between them; the only one as it is.
fn joined<'a>(glue: &[u8], mut values: impl Iterator<Item = &'a [u8]>) -> Option<Cow<'a, [u8]>> {
    let first = values.next()?;
    let Some(second) = values.next() else { return Some(Cow::Borrowed(first)) };
    let mut joined = first.to_vec();
    for value in std::iter::once(second).chain(values) {
        joined.extend_from_slice(glue);
        joined.extend_from_slice(value);
    }
    Some(Cow::Owned(joined))
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
