//! The copy of a request that the plugin sends itself, and which requests can have one.

use std::sync::Arc;

use crate::effects::Edit;
use crate::headers::Headers;
use crate::policy::matches_glob;
use crate::shadow::{Comparison, MARK, Whose};

/// Why a request has no copy, or its copy was not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Its body is too long, or nobody knows how long it is.
    Body,
    /// Its headers are no UTF-8.
    Headers,
    /// It is an upgrade.
    Upgrade,
    /// As many copies as there may be are under way.
    InFlight,
    /// The bodies of copies take as much memory as they may.
    Memory,
    /// The proxy has no such cluster.
    NoCluster,
    /// The cluster has no healthy host, or its circuit breaker is open.
    Unavailable,
    /// No connection, or it broke before an answer.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The answer broke off, or is too long for the proxy.
    Reset,
    /// The user's own request or answer broke off, or takes too long.
    Primary,
    /// The other copy of the stable version did not answer; the request is compared without it.
    Secondary,
}

impl Cause {
    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Body => "body",
            Cause::Headers => "headers",
            Cause::Upgrade => "upgrade",
            Cause::InFlight => "in_flight",
            Cause::Memory => "memory",
            Cause::NoCluster => "no_cluster",
            Cause::Unavailable => "unavailable",
            Cause::Unreachable => "unreachable",
            Cause::Timeout => "timeout",
            Cause::Reset => "reset",
            Cause::Primary => "primary",
            Cause::Secondary => "secondary",
        }
    }
}

/// What is to be done with a request that a shadow picked.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is copied once so many bytes of its body are there; it is known by this number.
    Copying(u64, usize),
    /// The proxy is told to copy it to this cluster.
    Mirrored(Arc<str>),
    /// Nothing.
    Left,
}

/// How long the body of a request is that can be copied to be compared: decided by its headers, before any of it is
/// there. `is_whole`: it has none.
pub(super) fn body_bytes(
    comparison: &Comparison,
    headers: &Headers<'_>,
    is_whole: bool,
) -> Result<usize, Cause> {
    if headers.count("upgrade") > 0 || headers.value(":method").as_deref() == Some(b"CONNECT") {
        return Err(Cause::Upgrade);
    }
    if is_whole {
        return Ok(0);
    }
    let length = headers.value("content-length");
    let length = length.and_then(|it| str::from_utf8(&it).ok()?.parse::<usize>().ok());
    length.filter(|length| *length <= comparison.max_body_bytes).ok_or(Cause::Body)
}

/// A copy that has not been sent yet.
#[derive(Debug)]
pub(super) struct Copy {
    /// Names and values, pseudo headers among them.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// The body.
    pub body: Vec<u8>,
    /// How many bytes it takes, with the body that is to come.
    pub held_bytes: usize,
}

impl Copy {
    /// The copy of a request with these headers, to which these edits are made.
    pub fn of(
        comparison: &Comparison,
        headers: &Headers<'_>,
        edits: &[Edit<'_>],
        body_bytes: usize,
    ) -> Result<Copy, Cause> {
        let is_edited = |name: &[u8]| {
            edits.iter().any(|edit| match edit {
                Edit::Remove(removed) => *removed == name,
                Edit::Set(set, _) => set.as_bytes() == name,
            })
        };
        let kept = headers.iter().filter(|(name, _)| !is_edited(name));
        let set = edits.iter().filter_map(|edit| match edit {
            Edit::Set(name, value) => Some((name.as_bytes(), &**value)),
            Edit::Remove(_) => None,
        });
        let mut all: Vec<(Box<str>, Box<str>)> = Vec::with_capacity(headers.iter().count() + 2);
        for (name, value) in
            kept.chain(set).filter(|(name, _)| goes_along(name, comparison.credentials.as_deref()))
        {
            let text = |bytes| str::from_utf8(bytes).map(Box::from).map_err(|_| Cause::Headers);
            all.push((text(name)?, text(value)?));
        }
        // What is encoded cannot be compared.
        all.push(("accept-encoding".into(), "identity".into()));
        let header_bytes: usize = all.iter().map(|(name, value)| name.len() + value.len()).sum();
        Ok(Copy { headers: all, body: Vec::new(), held_bytes: header_bytes.saturating_add(body_bytes) })
    }

    /// Its headers, and the one that says for whom it is.
    pub fn headers(&self, whose: Whose) -> Vec<(&str, &str)> {
        let mark = if whose == Whose::Secondary { "secondary" } else { "compare" };
        self.headers.iter().map(|(name, value)| (&**name, &**value)).chain([(MARK, mark)]).collect()
    }
}

/// Whether a header is for the copy, too: not what is between two hops, what Envoy takes as orders, or what counts for
/// this hop; and not the user's credentials, unless the policy says so.
fn goes_along(name: &[u8], credentials: Option<&[Box<str>]>) -> bool {
    match name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade"
        | b"expect" | b"content-length" | b"accept-encoding" | b"x-mulkko-cluster" | b"x-mulkko-mirror" => {
            false
        }
        b"cookie" | b"authorization" | b"proxy-authorization" | b"x-mulkko-pass" => credentials.is_none(),
        name => {
            let is_credential =
                |name: &str| credentials.into_iter().flatten().any(|it| matches_glob(it, name));
            !name.starts_with(b"x-envoy-")
                && name != MARK.as_bytes()
                && !str::from_utf8(name).is_ok_and(is_credential)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shadow::tests::comparison;

    fn headers<'h>(pairs: &[(&'h str, &'h str)]) -> Headers<'h> {
        Headers::new(pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect())
    }

    #[test]
    fn bodies_are_judged_by_their_headers() {
        let comparison = comparison();
        for (pairs, is_whole, expected) in [
            (&[][..], true, Ok(0)),
            (&[("content-length", "1000")], false, Ok(1_000)),
            (&[("content-length", "1001")], false, Err(Cause::Body)),
            (&[("content-length", "x")], false, Err(Cause::Body)),
            (&[("transfer-encoding", "chunked")], false, Err(Cause::Body)),
            (&[("upgrade", "websocket")], true, Err(Cause::Upgrade)),
        ] {
            assert_eq!(body_bytes(&comparison, &headers(pairs), is_whole), expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_copy_has_what_upstreams_get_but_for_credentials() {
        let asked = headers(&[
            (":method", "GET"),
            ("cookie", "a=1"),
            ("authorization", "Bearer"),
            ("x-api-key", "secret"),
            ("x-mulkko-pass", "a.b.c"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("x-mulkko-b", "forged"),
            ("x-mulkko-mirror", "x"),
            ("x-envoy-retry-on", "5xx"),
            ("accept-encoding", "gzip"),
            ("connection", "close"),
        ]);
        let edits = [
            Edit::Remove(b"x-mulkko-b"),
            Edit::Set("x-mulkko-c", b"stable"[..].into()),
            Edit::Set("cookie", b"a=2"[..].into()),
        ];
        let mut comparison = comparison();
        let copied = |comparison: &Comparison| {
            let copy = Copy::of(comparison, &asked, &edits, 0).unwrap();
            let named =
                copy.headers(Whose::Candidate).into_iter().map(|(name, value)| format!("{name}: {value}"));
            named.collect::<Vec<_>>()
        };
        let always = [
            ":method: GET",
            "x-a: 1",
            "x-a: 2",
            "x-mulkko-c: stable",
            "accept-encoding: identity",
            "x-mulkko-shadow: compare",
        ];
        assert_eq!(copied(&comparison), always);
        comparison.credentials = None;
        let more = copied(&comparison).into_iter().filter(|it| !always.contains(&&**it)).collect::<Vec<_>>();
        assert_eq!(
            more,
            ["authorization: Bearer", "x-api-key: secret", "x-mulkko-pass: a.b.c", "cookie: a=2"]
        );
        let bytes = Headers::new(vec![(b"x-a", b"\xff")]);
        assert_eq!(Copy::of(&comparison, &bytes, &[], 0).err(), Some(Cause::Headers));
    }
}
