//! Which rollouts apply to a request: hostnames and HTTPRoute matches, compiled into an index.
//!
//! A rollout applies when one of its hostnames and one of its entries hold. All of its pairs of a hostname and an entry
//! are filed with a rank, an integer that sorts as the Gateway API's precedence does, so that a request only compares
//! integers. The index narrows the search to what is filed below the request's host and path; the entry alone decides.
//! What a request costs depends on the rollouts of its host and path, not on the rollouts of others, and is linear in
//! the length of host and path whatever they hold.
//!
//! * `hostname`: the hosts of a policy, and which of them a request's host fits.
//! * `path`: path matches, and the text below which they are filed.
//! * `value`: matches of headers and query parameters.
//! * `index`: the index.
//! * `tiers`: the map that it is made of.

use std::borrow::Cow;
use std::fmt;

use crate::budget::{Budget, Exhausted};
use crate::finding::{Findings, Path, Problem};
use crate::headers::Headers;
use crate::wire;

mod hostname;
mod index;
mod path;
mod tiers;
mod value;

pub use index::Index;

use path::{Filed, PathRule};
use value::ValueRule;

/// What is matched of one request.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The host in lower case, without port and final dot. Without one, only rollouts without hostnames apply.
    pub host: Option<&'a str>,
    /// The path as it came, without query and fragment.
    pub path: &'a [u8],
    /// The method as it came.
    pub method: &'a [u8],
    /// The headers.
    pub headers: &'a Headers<'a>,
    /// Finds the first query parameter of a name, decoded. Only called for names that a match asks for, once the rest
    /// of the entry holds.
    pub query: &'a dyn Fn(&str) -> Option<Cow<'a, [u8]>>,
    /// What looking may take. Once that is used up, no entry holds.
    pub budget: &'a Budget,
}

impl fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("host", &self.host)
            .field("path", &self.path.escape_ascii().to_string())
            .field("method", &self.method.escape_ascii().to_string())
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

/// The Gateway API's `HTTPMethod`s.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// One entry of `matches`: all of its members must hold.
#[derive(Debug)]
struct Entry {
    path: PathRule,
    method: Option<&'static str>,
    headers: Box<[ValueRule]>,
    query: Box<[ValueRule]>,
}

/// An entry with what the index needs to file it.
#[derive(Debug)]
struct CompiledEntry {
    entry: Entry,
    rank: u64,
    filed: Filed,
}

impl Entry {
    /// Compiles the entry written at `place`. Reports what it refuses, and gives `None` then.
    fn compile(entry: &wire::Match, place: &Path<'_>, findings: &mut Findings) -> Option<CompiledEntry> {
        let path = path::compile(entry.path.as_ref(), &place.field("path"), findings);
        let method = compile_method(entry.method.as_deref(), &place.field("method"), findings);
        let headers = value::compile_headers(&entry.headers, &place.field("headers"), findings);
        let query = value::compile_query(&entry.query_params, &place.field("queryParams"), findings);
        let (path, method) = (path?, method?);
        let entry = Entry { path: path.rule, method, headers: headers?, query: query? };
        Some(CompiledEntry {
            rank: path.rank << BELOW_PATH | entry.rank_below_path(),
            filed: path.filed,
            entry,
        })
    }

    /// Whether all members hold. `text` is the path as patterns read it.
    fn is_match(&self, target: &Target<'_>, text: Option<&str>) -> Result<bool, Exhausted> {
        if self.method.is_some_and(|method| method.as_bytes() != target.method)
            || !self.path.is_match(target.path, text, target.budget)?
        {
            return Ok(false);
        }
        for header in &self.headers {
            let value = target.headers.spent_value(header.name(), target.budget);
            if !header.is_match(value, target.budget)? {
                return Ok(false);
            }
        }
        for parameter in &self.query {
            if !parameter.is_match((target.query)(parameter.name()), target.budget)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// From the highest bit down: a method match, how many header matches, how many query matches. Nobody writes more
    /// than the bits can tell; should somebody, the most that they can tell stands for all beyond.
    fn rank_below_path(&self) -> u64 {
        let method = u64::from(self.method.is_some());
        let headers = saturated(self.headers.len(), HEADERS_BITS);
        let query = saturated(self.query.len(), QUERY_BITS);
        (method << HEADERS_BITS | headers) << QUERY_BITS | query
    }
}

/// How many bits of a rank tell header matches.
const HEADERS_BITS: u32 = 13;
/// How many bits of a rank tell query matches.
const QUERY_BITS: u32 = 14;
/// How many bits of a rank stand below the path's.
const BELOW_PATH: u32 = 1 + HEADERS_BITS + QUERY_BITS;
/// How many bits of a rank stand below the hostname's.
const BELOW_HOSTNAME: u32 = path::RANK_BITS + BELOW_PATH;
const _: () = assert!(BELOW_HOSTNAME + hostname::RANK_BITS == u64::BITS);

/// `count`, or the most that `bits` can tell.
fn saturated(count: usize, bits: u32) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX).min((1 << bits) - 1)
}

/// Gives `Some(None)` for no method match, `None` for what it refuses.
fn compile_method(
    method: Option<&str>,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Option<&'static str>> {
    let Some(method) = method else { return Some(None) };
    let known = METHODS.into_iter().find(|known| *known == method);
    if known.is_none() {
        let expected = "GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE or PATCH";
        findings.report(place, Problem::expected(expected, method));
    }
    known.map(Some)
}

#[cfg(test)]
mod tests;
