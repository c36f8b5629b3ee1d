use crate::pattern::Pattern;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A rollout's `hostnames` and `matches` as a policy writes them.
#[derive(Clone, Debug)]
struct Rollout {
    hostnames: Vec<String>,
    matches: Vec<wire::Match>,
}

/// A request as a test writes it: `GET`, host, path with query, headers.
#[derive(Clone, Debug)]
struct Request {
    host: Option<String>,
    method: String,
    path: Vec<u8>,
    headers: Vec<(String, String)>,
    query: Vec<(String, String)>,
}

#[test]
fn rollouts_apply_in_the_order_of_the_gateway_api() {
    for (better, worse) in [
        (rollout(&["shop.example.com"], json!([])), rollout(&["*.example.com"], json!([exact("/cart")]))),
        (rollout(&["*.example.com"], json!([])), rollout(&["*.com"], json!([exact("/cart")]))),
        (rollout(&["*.com"], json!([])), rollout(&[], json!([exact("/cart")]))),
        (rollout(&[], json!([exact("/cart")])), rollout(&[], json!([pattern("/[a-z]{4,99}")]))),
        (rollout(&[], json!([pattern("/.*")])), rollout(&[], json!([prefix("/cart")]))),
        (rollout(&[], json!([prefix("/cart")])), rollout(&[], json!([prefix("/")]))),
        (rollout(&[], json!([pattern("/c[a]rt")])), rollout(&[], json!([pattern("/c.*")]))),
        (rollout(&[], json!([{"method": "GET"}])), rollout(&[], json!([{"headers": [A, B]}]))),
        (
            rollout(&[], json!([{"headers": [A, B]}])),
            rollout(&[], json!([{"headers": [A], "queryParams": [Q]}])),
        ),
        (
            rollout(&[], json!([{"headers": [A], "queryParams": [Q]}])),
            rollout(&[], json!([{"headers": [A]}])),
        ),
        // The best of the entries that match counts.
        (rollout(&[], json!([{}, prefix("/cart")])), rollout(&[], json!([exact("/other"), {}]))),
        (rollout(&["*.com", "shop.example.com"], json!([])), rollout(&["*.example.com"], json!([]))),
        // Document order.
        (rollout(&[], json!([])), rollout(&[], json!([]))),
        (rollout(&[], json!([prefix("/cart/")])), rollout(&[], json!([prefix("/cart")]))),
        (rollout(&[], json!([{}])), rollout(&[], json!([prefix("/")]))),
    ] {
        let request = request("shop.example.com", "/cart", &[("x-a", "1"), ("x-b", "2")], &[("q", "1")]);
        let is_tie = index(&[better.clone(), worse.clone()]);
        assert_eq!(find(&is_tie, &request), [0, 1], "{better:?} {worse:?}");
        let apart = index(&[worse.clone(), rollout(&["elsewhere"], json!([])), better.clone()]);
        let expected = if rank_is_equal(&better, &worse, &request) { [0, 2] } else { [2, 0] };
        assert_eq!(find(&apart, &request), expected, "{better:?} {worse:?}");
    }
}

#[test]
fn all_members_of_an_entry_must_hold() {
    let entry = json!([{
        "path": {"value": "/cart"},
        "method": "POST",
        "headers": [{"name": "X-A", "value": "1,2"}, {"type": "RegularExpression", "name": "x-b", "value": "[0-9]+"}],
        "queryParams": [{"name": "Q", "value": "1"}],
    }]);
    let index = index(&[rollout(&["a.b"], entry)]);
    let holds = Request {
        method: "POST".to_owned(),
        ..request("a.b", "/cart/x", &[("x-a", "1"), ("x-b", "77"), ("x-a", "2")], &[("Q", "1"), ("Q", "2")])
    };
    assert_eq!(find(&index, &holds), [0]);
    for change in [
        |r: &mut Request| r.host = None,
        |r: &mut Request| r.path = b"/cartx".to_vec(),
        |r: &mut Request| r.method = "post".to_owned(),
        |r: &mut Request| r.headers.truncate(2),
        |r: &mut Request| r.headers.swap(0, 2),
        |r: &mut Request| r.headers[1].1 = "77x".to_owned(),
        |r: &mut Request| r.query.clear(),
        |r: &mut Request| r.query.swap(0, 1),
        |r: &mut Request| r.query[0].0 = "q".to_owned(),
    ] {
        let mut request = holds.clone();
        change(&mut request);
        assert_eq!(find(&index, &request), [0; 0], "{request:?}");
    }
}

#[test]
fn rollouts_without_hostnames_apply_to_requests_without_host() {
    let index = index(&[rollout(&["a.b"], json!([])), rollout(&[], json!([])), rollout(&["*.b"], json!([]))]);
    let hostless = Request { host: None, ..request("", "*", &[], &[]) };
    assert_eq!(find(&index, &hostless), [1]);
}

#[test]
fn a_hostile_path_finds_what_a_plain_one_finds() {
    let index = index(&[
        rollout(&[], json!([prefix("/a")])),
        rollout(&[], json!([pattern("/a/.*")])),
        rollout(&[], json!([pattern("/.*")])),
        rollout(&[], json!([prefix("//////////")])),
    ]);
    for (path, expected) in [
        (b"/a/\xff".to_vec(), &[0][..]),
        (b"/a/b".to_vec(), &[1, 2, 0]),
        ([b"/a", &[b'/'; 60_000][..]].concat(), &[0]),
        (vec![b'/'; 60_000], &[3]),
        ("/a/b".repeat(15_000).into_bytes(), &[0]),
        (vec![], &[]),
    ] {
        assert_eq!(find(&index, &Request { path, ..request("a.b", "", &[], &[]) }), expected);
    }
}

#[test]
fn refusals_name_the_place_and_the_problem() {
    let long = "a".repeat(1_025);
    let hostname = "expected a lower case DNS name without port and final dot, or `*.` before one, found";
    let method = "expected GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE or PATCH, found";
    for (hostnames, matches, refusals) in [
        (&["a.b", "A.b"][..], json!([]), vec![format!("rollouts[3].hostnames[1]: {hostname} A.b")]),
        (&["a.b:80", "*", ""], json!([]), vec![
            format!("rollouts[3].hostnames[0]: {hostname} a.b:80"),
            format!("rollouts[3].hostnames[1]: {hostname} *"),
            format!("rollouts[3].hostnames[2]: {hostname} nothing"),
        ]),
        (&["a.b", "*.b", "a.b"], json!([]), vec!["rollouts[3].hostnames[2]: `a.b` stands twice".to_owned()]),
        (&[&long], json!([]), vec!["rollouts[3].hostnames[0]: expected at most 253 bytes, found 1025".to_owned()]),
        (&[], json!([{}, exact("cart")]), vec![
            "rollouts[3].matches[1].path.value: expected a path that begins with `/`, found cart".to_owned(),
        ]),
        (&[], json!([prefix("")]), vec![
            "rollouts[3].matches[0].path.value: expected a path that begins with `/`, found nothing".to_owned(),
        ]),
        (&[], json!([pattern("/a(")]), vec![
            "rollouts[3].matches[0].path.value: expected a regular expression (open group without closing ')'), \
             found /a(".to_owned(),
        ]),
        (&[], json!([pattern(&long)]), vec![
            "rollouts[3].matches[0].path.value: expected at most 1024 bytes, found 1025".to_owned(),
        ]),
        (&[], json!([{"method": "get"}, {"method": ""}]), vec![
            format!("rollouts[3].matches[0].method: {method} get"),
            format!("rollouts[3].matches[1].method: {method} nothing"),
        ]),
        (&[], json!([{"headers": [{"name": ":path", "value": "/"}, {"type": "RegularExpression", "name": "", "value": "["}]}]), vec![
            "rollouts[3].matches[0].headers[0].name: expected the name of a header, found :path".to_owned(),
            "rollouts[3].matches[0].headers[1].name: expected the name of a header, found nothing".to_owned(),
            "rollouts[3].matches[0].headers[1].value: expected a regular expression (unclosed character class), found ["
                .to_owned(),
        ]),
        (&[], json!([{"headers": [{"name": "x-a", "value": "1"}, {"name": "X-A", "value": "1"}]}]), vec![
            "rollouts[3].matches[0].headers[1].name: `X-A` stands twice".to_owned(),
        ]),
        (&[], json!([{"queryParams": [{"name": "q", "value": "1"}, {"name": "Q", "value": "1"}, {"name": "q", "value": "1"}]}]), vec![
            "rollouts[3].matches[0].queryParams[2].name: `q` stands twice".to_owned(),
        ]),
        (&[], json!([{"queryParams": [{"name": "", "value": "1"}]}]), vec![
            "rollouts[3].matches[0].queryParams[0].name: expected the name of a query parameter, found nothing".to_owned(),
        ]),
        (&[], json!(vec![json!({}); 4_097]), vec![
            "rollouts[3]: expected at most 4096 pairs of a hostname and a match, found 4097".to_owned(),
        ]),
    ] {
        let mut index = Index::default();
        assert_eq!(insert(&mut index, 3, &rollout(hostnames, matches)), refusals);
        assert_eq!(find(&index, &request("a.b", "/cart", &[], &[])), [0; 0], "{refusals:?}");
    }
}

#[test]
fn a_policy_has_room_for_half_a_million_pairs() {
    let many = rollout(&[], json!(vec![json!({}); 4_096]));
    let mut index = Index::default();
    for number in 0..122 {
        assert_eq!(insert(&mut index, number, &many), [""; 0]);
    }
    let refusal =
        "rollouts[122]: expected at most 500000 pairs of a hostname and a match up to here, found 503808";
    assert_eq!(insert(&mut index, 122, &many), [refusal]);
}

const A: &str = "x-a=1";
const B: &str = "x-b=2";
const Q: &str = "q=1";

fn prefix(value: &str) -> Value {
    json!({"path": {"type": "PathPrefix", "value": value}})
}

fn exact(value: &str) -> Value {
    json!({"path": {"type": "Exact", "value": value}})
}

fn pattern(value: &str) -> Value {
    json!({"path": {"type": "RegularExpression", "value": value}})
}

/// `matches` as a policy writes them, but that `name=value` may stand for a header or parameter.
fn rollout(hostnames: &[&str], mut matches: Value) -> Rollout {
    for list in matches
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .flat_map(|entry| entry.as_object_mut().unwrap().values_mut())
    {
        for item in list.as_array_mut().into_iter().flatten() {
            if let Some((name, value)) = item.as_str().and_then(|text| text.split_once('=')) {
                *item = json!({"name": name, "value": value});
            }
        }
    }
    Rollout {
        hostnames: hostnames.iter().map(|name| (*name).to_owned()).collect(),
        matches: serde_json::from_value(matches).unwrap(),
    }
}

fn request(host: &str, path: &str, headers: &[(&str, &str)], query: &[(&str, &str)]) -> Request {
    let owned =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    Request {
        host: Some(host.to_owned()),
        method: "GET".to_owned(),
        path: path.as_bytes().to_vec(),
        headers: owned(headers),
        query: owned(query),
    }
}

fn index(rollouts: &[Rollout]) -> Index {
    let mut index = Index::default();
    for (number, rollout) in (0..).zip(rollouts) {
        assert_eq!(insert(&mut index, number, rollout), [""; 0]);
    }
    index
}

fn insert(index: &mut Index, number: u32, rollout: &Rollout) -> Vec<String> {
    let mut findings = Findings::default();
    let list = Path::Root.field("rollouts");
    index.insert(number, &rollout.hostnames, &rollout.matches, &list.item(number as usize), &mut findings);
    findings.into_vec().iter().map(ToString::to_string).collect()
}

fn find(index: &Index, request: &Request) -> Vec<u32> {
    let headers = Headers::new(request.headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect());
    let query = |name: &str| {
        let parameter = request.query.iter().find(|(n, _)| n == name);
        parameter.map(|(_, value)| Cow::Borrowed(value.as_bytes()))
    };
    let target = Target {
        host: request.host.as_deref(),
        path: &request.path,
        method: request.method.as_bytes(),
        headers: &headers,
        query: &query,
        budget: &Budget::default(),
    };
    let mut found = vec![77];
    index.find(&target, &mut found);
    found
}

/// What the documents say, without an index and without integers: for every rollout the best of its hostnames and
/// entries that match.
mod naive {
    use std::cmp::Reverse;

    use super::*;
    use crate::wire::{PathMatchType, ValueMatchType};

    /// The order among matches, best last.
    type Precedence = (u8, usize, u8, usize, bool, usize, usize);

    pub(super) fn find(rollouts: &[Rollout], request: &Request) -> Vec<u32> {
        let mut found: Vec<_> = (0..)
            .zip(rollouts)
            .filter_map(|(number, rollout)| Some((Reverse(best(rollout, request)?), number)))
            .collect();
        found.sort();
        found.into_iter().map(|(_, number)| number).collect()
    }

    pub(super) fn best(rollout: &Rollout, request: &Request) -> Option<Precedence> {
        let hostname = match rollout.hostnames.as_slice() {
            [] => Some((0, 0)),
            hostnames => hostnames.iter().filter_map(|name| fits(name, request.host.as_deref()?)).max(),
        }?;
        let all = vec![wire::Match::default()];
        let matches = if rollout.matches.is_empty() { &all } else { &rollout.matches };
        let entry = matches.iter().filter_map(|entry| holds(entry, request)).max()?;
        let ((kind, length), (path, characters, method, headers, query)) = (hostname, entry);
        Some((kind, length, path, characters, method, headers, query))
    }

    fn fits(name: &str, host: &str) -> Option<(u8, usize)> {
        match name.strip_prefix('*') {
            Some(suffix) => (host.len() > suffix.len() && host.ends_with(suffix)).then_some((1, name.len())),
            None => (name == host).then_some((2, name.len())),
        }
    }

    fn holds(entry: &wire::Match, request: &Request) -> Option<(u8, usize, bool, usize, usize)> {
        let path = path(entry, &String::from_utf8_lossy(&request.path))?;
        let method = entry.method.as_ref().is_none_or(|method| *method == request.method);
        let headers = entry.headers.iter().all(|header| {
            let name = header.name.to_lowercase();
            let values: Vec<_> =
                request.headers.iter().filter(|h| h.0 == name).map(|h| h.1.as_str()).collect();
            !values.is_empty() && value(header, &values.join(","))
        });
        let query = entry.query_params.iter().all(|parameter| {
            request.query.iter().find(|q| q.0 == parameter.name).is_some_and(|q| value(parameter, &q.1))
        });
        let precedence =
            (path.0, path.1, entry.method.is_some(), entry.headers.len(), entry.query_params.len());
        (method && headers && query).then_some(precedence)
    }

    fn path(entry: &wire::Match, path: &str) -> Option<(u8, usize)> {
        let Some(rule) = &entry.path else { return Some((0, 1)) };
        let written = rule.value.as_deref().unwrap_or("/");
        match rule.kind {
            PathMatchType::Exact => (path == written).then_some((2, written.chars().count())),
            PathMatchType::RegularExpression => {
                is_whole(written, path).then_some((1, written.chars().count()))
            }
            PathMatchType::PathPrefix if written == "/" => Some((0, 1)),
            PathMatchType::PathPrefix => {
                let prefix: Vec<_> = written.strip_suffix('/').unwrap_or(written).split('/').collect();
                let segments: Vec<_> = path.split('/').collect();
                segments.starts_with(&prefix).then_some((0, prefix.join("/").chars().count().max(1)))
            }
        }
    }

    fn value(rule: &wire::ValueMatch, found: &str) -> bool {
        match rule.kind {
            ValueMatchType::Exact => rule.value == found,
            ValueMatchType::RegularExpression => is_whole(&rule.value, found),
        }
    }

    fn is_whole(pattern: &str, text: &str) -> bool {
        regex_lite::Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(text)
    }
}

fn rank_is_equal(a: &Rollout, b: &Rollout, request: &Request) -> bool {
    naive::best(a, request) == naive::best(b, request)
}

fn any_value_match() -> impl Strategy<Value = Value> {
    (prop_oneof!["Exact", "RegularExpression"], prop::sample::select(vec!["1", "2", "1,2", "[12]", ".*"]))
        .prop_map(|(kind, value)| json!({"type": kind, "value": value}))
}

fn any_values(names: [&'static str; 2]) -> impl Strategy<Value = Value> {
    prop::collection::vec(prop::option::weighted(0.2, any_value_match()), 2).prop_map(move |values| {
        let named = names.into_iter().zip(values);
        let items = named.filter_map(|(name, value)| {
            let mut value = value?;
            value["name"] = json!(name);
            Some(value)
        });
        items.collect()
    })
}

fn any_entry() -> impl Strategy<Value = Value> {
    let path = prop_oneof![
        "(/[ab]?){1,4}".prop_map(|value| json!({"type": "Exact", "value": value})),
        "(/[ab]?){1,4}".prop_map(|value| json!({"type": "PathPrefix", "value": value})),
        "(/[ab]?){1,4}".prop_map(|value| json!({"value": value})),
        Just(json!({})),
        r"\^?(/a/b?\|)?((/|a|/a|/b|/.)([?*+]|\{0,1\})?|\[ab\]|\(a\|/b\)|\|){1,5}".prop_filter_map(
            "no pattern",
            |value| {
                Pattern::compile(&value, &mut Findings::default())
                    .ok()
                    .map(|_| json!({"type": "RegularExpression", "value": value}))
            }
        ),
    ];
    let method = prop_oneof!["GET", "POST"];
    let members = (
        prop::option::of(path),
        prop::option::weighted(0.2, method),
        any_values(["X-A", "x-b"]),
        any_values(["q", "Q"]),
    );
    members.prop_map(|(path, method, headers, query)| {
        let mut entry = json!({"headers": headers, "queryParams": query});
        path.into_iter().for_each(|path| entry["path"] = path);
        method.into_iter().for_each(|method| entry["method"] = json!(method));
        entry
    })
}

fn any_rollout() -> impl Strategy<Value = Rollout> {
    let hostname = r"(\*\.)?(a|b)(\.(a|b)){0,2}";
    let hostnames = prop::collection::btree_set(hostname, 0..3);
    (hostnames, prop::collection::vec(any_entry(), 0..4)).prop_map(|(hostnames, matches)| {
        rollout(&hostnames.iter().map(String::as_str).collect::<Vec<_>>(), json!(matches))
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    let pairs = |names| prop::collection::vec((names, "[12]"), 0..3);
    let host = prop::option::weighted(0.9, r"(a|b)(\.(a|b)){0,3}");
    (host, prop_oneof!["GET", "POST"], "((/[ab]?){0,5}|[*])", pairs("x-(a|b)"), pairs("[qQ]")).prop_map(
        |(host, method, path, headers, query)| Request {
            host,
            method,
            path: path.into_bytes(),
            headers,
            query,
        },
    )
}

proptest! {
    #![proptest_config(crate::laws::config(512))]

    #[test]
    fn the_index_finds_what_a_scan_finds(
        rollouts in prop::collection::vec(any_rollout(), 0..24),
        requests in prop::collection::vec(any_request(), 1..24),
    ) {
        let index = index(&rollouts);
        for request in &requests {
            prop_assert_eq!(find(&index, request), naive::find(&rollouts, request), "{:?}", request);
        }
    }
}
