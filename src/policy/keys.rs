//! Compiles where values come from: targeting keys, with what is minted, and attributes.

use crate::finding::{Findings, Path, Problem};
use crate::headers::{is_token, kept_name};
use crate::moment::Duration;
use crate::policy::{Key, Mint, Source};
use crate::wire;

/// The most sources of a value: a request is asked for each, and has a few at most.
const MAX_SOURCES: usize = 16;

/// The key `request`: the request id that Envoy draws.
pub fn request() -> Key {
    Key { from: Box::new([Source::Header("x-request-id".into())]), mint: None }
}

/// Compiles the key at `place`.
pub fn key(key: &wire::Key, place: &Path<'_>, findings: &mut Findings) -> Option<Key> {
    let from = sources(&key.from, &place.field("from"), findings);
    let mint = match &key.mint {
        None => None,
        Some(mint) => {
            let place = place.field("mint");
            let is_source = |source: &wire::Source| source.cookie.as_deref() == Some(&mint.cookie);
            if !key.from.iter().any(is_source) {
                let found = format!("`{}`", mint.cookie);
                findings
                    .report(&place.field("cookie"), Problem::expected("a cookie that is in `from`", found));
            }
            let max_age = findings.reported(Duration::parse(&mint.max_age), &place.field("maxAge"))?;
            let max_age_ms = max_age.as_ms();
            if max_age_ms < 1_000 {
                findings.report(
                    &place.field("maxAge"),
                    Problem::expected("a duration of at least 1s", &mint.max_age),
                );
                return None;
            }
            Some(Mint { cookie: mint.cookie.as_str().into(), max_age_s: max_age_ms / 1_000 })
        }
    };
    Some(Key { from: from?, mint })
}

/// Compiles the sources at `place`: 1 to 16.
pub fn sources(sources: &[wire::Source], place: &Path<'_>, findings: &mut Findings) -> Option<Box<[Source]>> {
    if sources.is_empty() {
        findings.report(place, Problem::expected("at least one source", "none"));
        return None;
    }
    if sources.len() > MAX_SOURCES {
        findings.report(place, Problem::over_limit("sources", MAX_SOURCES, sources.len()));
        return None;
    }
    sources.iter().enumerate().map(|(i, it)| source(it, &place.item(i), findings)).collect()
}

fn source(source: &wire::Source, place: &Path<'_>, findings: &mut Findings) -> Option<Source> {
    let wire::Source { header, cookie, query, metadata, property, filter_state } = source;
    let compiled = match (header, cookie, query, metadata, property, filter_state) {
        (Some(name), None, None, None, None, None) if is_token(name) => Source::Header(kept_name(name)),
        (Some(name), None, None, None, None, None) => {
            let problem = Problem::expected("a header name", format_args!("\"{name}\""));
            findings.report(&place.field("header"), problem);
            return None;
        }
        (None, Some(name), None, None, None, None) if is_token(name) => Source::Cookie(name.as_str().into()),
        (None, Some(name), None, None, None, None) => {
            let problem = Problem::expected("a cookie name", format_args!("\"{name}\""));
            findings.report(&place.field("cookie"), problem);
            return None;
        }
        (None, None, Some(name), None, None, None) => Source::Query(name.as_str().into()),
        (None, None, None, Some(path), None, None) => {
            host_path(&["metadata", "filter_metadata"], path, 2, &place.field("metadata"), findings)?
        }
        (None, None, None, None, Some(path), None) => {
            host_path(&[], path, 1, &place.field("property"), findings)?
        }
        (None, None, None, None, None, Some(key)) => {
            host_path(&["filter_state"], std::slice::from_ref(key), 1, &place.field("filterState"), findings)?
        }
        _ => {
            let expected =
                "exactly one of `header`, `cookie`, `query`, `metadata`, `property`, `filterState`";
            let simple = [header, cookie, query, filter_state].iter().filter(|it| it.is_some()).count();
            let paths = [metadata, property].iter().filter(|it| it.is_some()).count();
            findings.report(place, Problem::expected(expected, simple + paths));
            return None;
        }
    };
    Some(compiled)
}

/// A way down the host's properties. An empty name or one with a NUL, which separates names for the host, leads nowhere.
fn host_path(
    above: &[&str],
    path: &[String],
    shortest: usize,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Source> {
    if path.len() < shortest || path.iter().any(|name| name.is_empty() || name.contains('\0')) {
        let expected = if shortest == 1 { "names, none empty" } else { "a namespace and names, none empty" };
        findings.report(place, Problem::expected(expected, format_args!("{path:?}")));
        return None;
    }
    let names = above.iter().copied().chain(path.iter().map(String::as_str));
    Some(Source::Property(names.map(Box::from).collect()))
}
