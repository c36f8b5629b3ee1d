//! What requests say: preconditions, preferences, pages.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderName, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use mulkko::policy::is_name;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::super::policies::Precondition;
use super::super::problem::Problem;
use super::super::proxies::{Proxy, State};

/// What ends the ETag of a compressed document: it is another representation.
pub const GZIP: &str = "-gzip";
/// The most items of a page.
const MOST_ITEMS: usize = 1_000;

/// A policy.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Named {
    /// The policy
    #[param(pattern = "^[a-z][a-z0-9-]{0,62}$")]
    pub name: String,
}

/// A version of a policy.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Numbered {
    /// The policy
    #[param(pattern = "^[a-z][a-z0-9-]{0,62}$")]
    pub name: String,
    /// The revision that the document says
    pub revision: u64,
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Named, Problem> {
        let named: Named = path(parts, state).await?;
        check_name(&named.name).map(|()| named)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Numbered {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Numbered, Problem> {
        let numbered: Numbered = path(parts, state).await?;
        check_name(&numbered.name).map(|()| numbered)
    }
}

async fn path<T: DeserializeOwned + Send, S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<T, Problem> {
    let read: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
    read.map(|Path(read)| read).map_err(|rejection| Problem::bad_request(rejection.body_text()))
}

fn check_name(name: &str) -> Result<(), Problem> {
    is_name(name).then_some(()).ok_or_else(|| {
        Problem::bad_request("expected the name of a policy: 1 to 63 of `a-z 0-9 -`, a letter first")
    })
}

/// A page of a policy's versions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Only versions with a lower number than this one
    #[param(minimum = 1)]
    before: Option<u64>,
    /// The most that are wanted; 50 where absent
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Which proxies are asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub struct ProxiesAsked {
    /// Only those that ask for this policy
    pub policy: Option<String>,
    /// Only those that stand so to its newest version
    #[param(inline)]
    pub state: Option<State>,
    /// Only those that were heard of within so many seconds
    pub seen_within: Option<u32>,
    /// The most that are listed, all being counted; 1,000 where absent
    #[param(maximum = 1000)]
    pub limit: Option<usize>,
    /// Only those after this one: what the page before says as `next`
    pub after: Option<String>,
}

impl ProxiesAsked {
    /// As it is, if it can be answered.
    pub fn checked(self) -> Result<ProxiesAsked, Problem> {
        let unreadable = || Problem::bad_request("expected as `after` what the page before says as `next`");
        if self.limit.is_some_and(|limit| limit > MOST_ITEMS) {
            return Err(Problem::bad_request(format!("expected a `limit` of at most {MOST_ITEMS}")));
        }
        match self.after.as_deref().map(Place::parse) {
            Some(None) => Err(unreadable()),
            _ => Ok(self),
        }
    }

    /// The most that are wanted.
    pub fn most(&self) -> usize {
        self.limit.unwrap_or(MOST_ITEMS)
    }

    /// Whether a proxy comes after the page before.
    pub fn is_after(&self, proxy: &Proxy) -> bool {
        let after = self.after.as_deref().and_then(Place::parse);
        after.is_none_or(|Place(policy, is_unverified, node)| proxy.place() > (policy, is_unverified, node))
    }
}

/// Where a proxy stands in the list: its policy, whether it is not believed, its node.
#[derive(Clone, Copy, Debug)]
pub struct Place<'t>(pub &'t str, pub bool, pub &'t str);

impl<'t> Place<'t> {
    fn parse(text: &'t str) -> Option<Place<'t>> {
        let (policy, rest) = text.split_once('/')?;
        let (is_unverified, node) = rest.split_once('/')?;
        Some(Place(policy, is_unverified.parse::<u8>().ok()? == 1, node))
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Place(policy, is_unverified, node) = self;
        write!(f, "{policy}/{}/{node}", u8::from(*is_unverified))
    }
}

/// The version number before which, and how many.
pub fn page(page: Result<Query<Page>, QueryRejection>) -> Result<(Option<u64>, usize), Problem> {
    let Query(page) = page.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let most = page.limit.unwrap_or(50);
    if !(1..=MOST_ITEMS).contains(&most) || page.before == Some(0) {
        return Err(Problem::bad_request(format!(
            "expected a `limit` of 1 to {MOST_ITEMS}, and `before` above 0"
        )));
    }
    Ok((page.before, most))
}

/// What must be so for a push to count.
pub fn precondition(headers: &HeaderMap) -> Result<Precondition, Problem> {
    let (of, none_of) = (etags(headers, &IF_MATCH), etags(headers, &IF_NONE_MATCH));
    match (of, none_of) {
        (Some(etags), None) if etags == ["*"] => Ok(Precondition::Any),
        (Some(etags), None) => Ok(Precondition::Etags(etags)),
        (None, Some(etags)) if etags == ["*"] => Ok(Precondition::New),
        _ => Err(Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "expected `if-match` with the ETag of the newest version, or `if-none-match: *` for a new policy",
        )),
    }
}

/// Whether who asks has the version with this ETag already.
pub fn not_newer(headers: &HeaderMap, etag: &str) -> bool {
    etags(headers, &IF_NONE_MATCH).is_some_and(|etags| etags.iter().any(|it| it == "*" || it == etag))
}

/// The ETags of a header, bare; `None` without the header.
fn etags(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<String>> {
    let mut values = headers.get_all(name).iter().peekable();
    values.peek()?;
    // Ours have no commas.
    let texts = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    let bare = texts.map(|text| {
        let text = text.trim();
        let text = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
        text.strip_suffix(GZIP).unwrap_or(text).to_owned()
    });
    Some(bare.collect())
}

/// How many seconds who asks would wait (RFC 7240).
pub fn wait(headers: &HeaderMap) -> Option<u64> {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split([',', ';']));
    let seconds = preferences.find_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"').parse().ok())?
    });
    seconds.filter(|seconds| *seconds > 0)
}

/// Whether who asks takes gzip.
pub fn wants_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let unwanted = weight.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0_f32));
        name.trim().eq_ignore_ascii_case("gzip") && !unwanted
    })
}

/// How long the body is said to be.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn etags_are_known_weak_compressed_and_in_lists() {
        for (values, known) in [
            (&["\"a\""][..], true),
            (&["W/\"a\""], true),
            (&["\"a-gzip\""], true),
            (&["\"b\", \"a\""], true),
            (&["\"b\"", "\"a\""], true),
            (&["*"], true),
            (&["\"b\""], false),
            (&[""], false),
            (&[], false),
        ] {
            assert_eq!(not_newer(&headers("if-none-match", values), "a"), known, "{values:?}");
        }
    }

    #[test]
    fn waits_are_read() {
        for (values, seconds) in [
            (&["wait=30"][..], Some(30)),
            (&["respond-async, wait=30"], Some(30)),
            (&["handling=lenient; wait=5"], Some(5)),
            (&["respond-async", "Wait = \"7\""], Some(7)),
            (&["wait=0"], None),
            (&["wait=-1"], None),
            (&["wait=x"], None),
            (&["wait"], None),
            (&[], None),
        ] {
            assert_eq!(wait(&headers("prefer", values)), seconds, "{values:?}");
        }
    }

    #[test]
    fn a_push_must_say_what_it_replaces() {
        let etags = |etags: &[&str]| Precondition::Etags(etags.iter().map(|it| (*it).to_owned()).collect());
        for (name, values, expected) in [
            ("if-match", &["\"a\""][..], Some(etags(&["a"]))),
            ("if-match", &["\"a\", \"b\""], Some(etags(&["a", "b"]))),
            ("if-match", &["*"], Some(Precondition::Any)),
            ("if-none-match", &["*"], Some(Precondition::New)),
            ("if-none-match", &["\"a\""], None),
            ("if-match", &[], None),
        ] {
            assert_eq!(precondition(&headers(name, values)).ok(), expected, "{name} {values:?}");
        }
    }

    #[test]
    fn gzip_is_for_who_asks() {
        for (values, wanted) in [
            (&["gzip"][..], true),
            (&["br, gzip;q=0.5"], true),
            (&["GZIP"], true),
            (&["gzip;q=0"], false),
            (&["gzip; q=0.0"], false),
            (&["identity"], false),
            (&[], false),
        ] {
            assert_eq!(wants_gzip(&headers("accept-encoding", values)), wanted, "{values:?}");
        }
    }
}
