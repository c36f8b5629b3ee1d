//! Requests for flags and their answers, natively; `tests/envoy/test_ofrep*.py` asks a real Envoy.

use super::*;
use crate::decide::{Node, Proxy};
use crate::pass::Passes;
use crate::policy::Clusters;

const POLICY: &str = r#"{
    "keys": { "user": { "from": [{ "header": "x-user-id" }] } },
    "flagKey": "user",
    "attributes": { "region": [{ "header": "x-region" }] },
    "metadata": { "team": "shop" },
    "flags": {
        "who": {
            "state": "ENABLED",
            "variants": { "ann": "ann", "bob": "bob", "nobody": "nobody" },
            "defaultVariant": "nobody",
            "targeting": { "var": "targetingKey" },
            "metadata": { "mulkko.public": true, "team": "search" }
        },
        "where": {
            "state": "ENABLED",
            "variants": { "kr": 1.0, "us": 2, "path": 3 },
            "targeting": { "if": [{ "var": "region" }, { "var": "region" }, { "==": [{ "var": "request.path" }, "/x"] }, "path", null] },
            "metadata": { "mulkko.public": true }
        },
        "half": {
            "state": "ENABLED",
            "variants": { "on": true, "off": false },
            "targeting": { "fractional": [["on", 1], ["off", 1]] },
            "metadata": { "mulkko.public": true }
        },
        "a/b c": { "state": "ENABLED", "variants": { "on": true }, "defaultVariant": "on" },
        "long": {
            "state": "ENABLED",
            "variants": { "on": true },
            "targeting": { "reduce": [{ "var": "list" }, { "cat": [{ "var": "accumulator" }, { "var": "accumulator" }] }, "x"] }
        }
    }
}"#;

/// A host that knows nothing.
struct Nothing;

impl Proxy for Nothing {
    fn property(&self, _: &[Box<str>]) -> Option<Vec<u8>> {
        None
    }

    fn client_address(&self) -> Option<Vec<u8>> {
        None
    }

    fn now_ms(&self) -> i64 {
        0
    }

    fn draw_id(&self) -> String {
        "drawn-id".to_owned()
    }
}

/// What a request looks like, and who answers it.
struct Ask<'a> {
    method: &'a str,
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a str,
    trust: Trust,
    bearer: Option<&'a str>,
}

const POST: Ask<'static> = Ask {
    method: "POST",
    path: "/ofrep/v1/evaluate/flags",
    headers: &[],
    body: "",
    trust: Trust::Mesh,
    bearer: None,
};

impl Ask<'_> {
    fn answer(&self) -> Option<Answer> {
        self.answer_under(POLICY)
    }

    fn answer_under(&self, policy: &str) -> Option<Answer> {
        let ofrep = Ofrep {
            prefix: "/ofrep/v1".into(),
            bearer: None,
            allow_origins: ["https://shop.example.com".into()].into(),
            max_body_bytes: 100,
        };
        let mut pairs = vec![(&b":method"[..], self.method.as_bytes()), (b":path", self.path.as_bytes())];
        pairs.extend(self.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let headers = Headers::of_request(pairs, self.trust);
        let bearer = self.bearer.map(|token| Bearer::new(token.as_bytes()));
        let asked = match ofrep.begin(bearer.as_ref(), self.trust, &headers)? {
            Begun::Answered(answer) => return Some(answer),
            Begun::Asked(asked) => asked,
        };
        let policy = Policy::parse(policy.as_bytes(), &Clusters::default()).unwrap();
        let (passes, node) = (Passes::default(), Node::default());
        let request = Request {
            headers: &headers,
            passes: &passes,
            macs: None,
            node: &node,
            proxy: &Nothing,
            rolled_back: None,
        };
        Some(asked.answer(self.body.as_bytes(), Some(&policy), request))
    }

    #[track_caller]
    fn check(&self, status: u32, body: &str) -> Answer {
        let answer = self.answer().unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{}", self.path);
        let has_type = answer.header("content-type") == Some("application/json");
        assert_eq!(has_type, !body.is_empty(), "{}", self.path);
        answer
    }
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| &**value)
    }
}

#[test]
fn only_what_lies_below_the_prefix_is_ofreps() {
    for (path, is_ofreps) in [
        ("/ofrep/v1", true),
        ("/ofrep/v1/", true),
        ("/ofrep/v1?x=1", true),
        ("/ofrep/v1/evaluate/flags", true),
        ("/ofrep/v1/configuration", true),
        ("/ofrep/v10", false),
        ("/ofrep", false),
        ("/", false),
        ("", false),
    ] {
        assert_eq!(Ask { path, ..POST }.answer().is_some(), is_ofreps, "{path}");
    }
    Ask { path: "/ofrep/v1/evaluate", ..POST }
        .check(404, r#"{"errorDetails":"expected `evaluate/flags` or `evaluate/flags/KEY`"}"#);
    let answer = Ask { method: "GET", ..POST }.check(405, r#"{"errorDetails":"expected POST"}"#);
    assert_eq!(answer.header("allow"), Some("OPTIONS, POST"));
}

#[test]
fn a_key_is_all_that_follows_decoded_once() {
    for key in ["a/b%20c", "a%2Fb%20c", "a%2fb%20c?x=y", "a/b%20c#x"] {
        let path = format!("/ofrep/v1/evaluate/flags/{key}");
        let expected =
            r#"{"key":"a/b c","value":true,"reason":"STATIC","variant":"on","metadata":{"team":"shop"}}"#;
        Ask { path: &path, ..POST }.check(200, expected);
    }
    for (key, read) in [("a/b+c", "a/b+c"), ("", ""), ("%", "%"), ("%ff", "\u{fffd}"), ("\"", "\\\"")] {
        let path = format!("/ofrep/v1/evaluate/flags/{key}");
        let expected = format!(
            r#"{{"key":"{read}","errorCode":"FLAG_NOT_FOUND","errorDetails":"flag `{read}` is not there"}}"#
        );
        Ask { path: &path, ..POST }.check(404, &expected);
    }
}

#[test]
fn a_context_is_read_or_the_answer_says_why_not() {
    let path = "/ofrep/v1/evaluate/flags/who";
    let resolved = |variant: &str, reason: &str| {
        format!(
            r#"{{"key":"who","value":"{variant}","reason":"{reason}","variant":"{variant}","metadata":{{"mulkko.public":true,"team":"search"}}}}"#
        )
    };
    for body in ["", " \r\n", "{}", r#"{"context": {}}"#, r#"{"context": null}"#, r#"{"other": 1}"#] {
        Ask { path, body, ..POST }.check(200, &resolved("nobody", "DEFAULT"));
    }
    for body in [
        r#"{"context": {"targetingKey": "ann"}}"#,
        r#"{"context": {"targetingKey": "bob", "targetingKey": "ann"}}"#,
        r#"{"context": 1, "context": {"targetingKey": "ann"}}"#,
    ] {
        Ask { path, body, ..POST }.check(200, &resolved("ann", "TARGETING_MATCH"));
    }
    for (body, problem) in [
        ("[]", "expected an object, found an array"),
        ("null", "expected an object, found null"),
        (r#"{"context": "ann"}"#, "context: expected an object, found a text"),
        (r#"{"context": {"#, "expected JSON: EOF while parsing an object at line 1 column 13"),
        ("secret", "expected JSON: expected value at line 1 column 1"),
    ] {
        let expected = format!(r#"{{"key":"who","errorCode":"INVALID_CONTEXT","errorDetails":"{problem}"}}"#);
        Ask { path, body, ..POST }.check(400, &expected);
    }
    Ask { path, body: r#"{"context": {"targetingKey": "eve"}}"#, ..POST }.check(
        400,
        r#"{"key":"who","errorCode":"GENERAL","errorDetails":"its targeting names a variant that it lacks","metadata":{"mulkko.public":true,"team":"search"}}"#,
    );
    let deep = "[".repeat(100_000);
    let answer = Ask { path, body: &deep, ..POST }.answer().unwrap();
    assert_eq!(answer.status, 400);
}

#[test]
fn the_request_goes_first_at_the_edge_and_the_context_in_the_mesh() {
    let context = r#"{"context": {"targetingKey": "bob", "region": "us"}}"#;
    for (trust, headers, body, who, place) in [
        (Trust::Edge, &[("x-user-id", "ann"), ("x-region", "kr")][..], context, "ann", "kr"),
        (Trust::Mesh, &[("x-user-id", "ann"), ("x-region", "kr")], context, "bob", "us"),
        (Trust::Edge, &[], context, "bob", "us"),
        (Trust::Mesh, &[("x-user-id", "ann"), ("x-region", "kr")], "", "ann", "kr"),
    ] {
        for (key, variant) in [("who", who), ("where", place)] {
            let path = format!("/ofrep/v1/evaluate/flags/{key}");
            let answer = Ask { path: &path, headers, body, trust, ..POST }.answer().unwrap();
            assert!(
                answer.body.contains(&format!(r#""variant":"{variant}""#)),
                "{trust:?} {key}: {}",
                answer.body
            );
        }
    }
    // Nor by looking at more or less of the context than the attribute.
    let policy = POLICY.replace(
        r#""targeting": { "var": "targetingKey" }"#,
        r#""targeting": { "if": [{ "some": [[{ "var": "" }], { "in": ["us", [{ "var": "region" }, { "var": "targetingKey" }]] }] }, "bob",
                                 { "var": "region.name" }, "bob"] }"#,
    );
    assert_ne!(policy, POLICY);
    for (body, at_the_edge, in_the_mesh) in [
        (r#"{"context": {"region": "us"}}"#, "nobody", "bob"),
        (r#"{"context": {"targetingKey": "us"}}"#, "nobody", "bob"),
        (r#"{"context": {"region": {"name": "x"}}}"#, "nobody", "bob"),
    ] {
        for (trust, variant) in [(Trust::Edge, at_the_edge), (Trust::Mesh, in_the_mesh)] {
            let headers: &[_] = &[("x-user-id", "ann"), ("x-region", "kr")];
            let ask = Ask { path: "/ofrep/v1/evaluate/flags/who", headers, body, trust, ..POST };
            let found = ask.answer_under(&policy).unwrap().body;
            assert!(found.contains(&format!(r#""variant":"{variant}""#)), "{trust:?} {body}: {found}");
        }
    }
    // Nobody can say what the request is.
    for trust in [Trust::Edge, Trust::Mesh] {
        let body = r#"{"context": {"request": {"path": "/x"}, "request.path": "/x"}}"#;
        let path = "/ofrep/v1/evaluate/flags/where";
        Ask { path, body, trust, ..POST }.check(
            200,
            r#"{"key":"where","reason":"DEFAULT","variant":"","metadata":{"team":"shop","mulkko.public":true}}"#,
        );
    }
}

#[test]
fn a_targeting_key_is_missed_only_by_flags_that_need_one() {
    let path = "/ofrep/v1/evaluate/flags/half";
    for body in ["", r#"{"context": {"targetingKey": ""}}"#, r#"{"context": {"targetingKey": null}}"#] {
        let expected = r#"{"key":"half","errorCode":"TARGETING_KEY_MISSING","errorDetails":"the flag needs a targetingKey","metadata":{"team":"shop","mulkko.public":true}}"#;
        Ask { path, body, ..POST }.check(400, expected);
    }
    let answer = Ask { path, body: r#"{"context": {"targetingKey": "ann"}}"#, ..POST }.answer().unwrap();
    assert_eq!(answer.status, 200);
}

#[test]
fn from_outside_only_public_flags_are_there_unless_the_token_is() {
    let keys = |ask: &Ask<'_>| {
        let body = ask.answer().unwrap().body;
        ["who", "where", "half", "a/b c", "long"].map(|key| body.contains(&format!(r#""key":"{key}""#)))
    };
    let public = [true, true, true, false, false];
    assert_eq!(keys(&Ask { trust: Trust::Edge, ..POST }), public);
    assert_eq!(keys(&POST), [true; 5]);
    let token: &[_] = &[("authorization", "bEARER s3cret")];
    for trust in [Trust::Edge, Trust::Mesh] {
        assert_eq!(keys(&Ask { trust, headers: token, bearer: Some("s3cret"), ..POST }), [true; 5]);
        for headers in [
            &[][..],
            &[("authorization", "Bearer s3cre")],
            &[("authorization", "Bearer s3crets")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Basic s3cret")],
            &[("authorization", "s3cret")],
            &[("authorization", "Bearer s3cret"), ("authorization", "Bearer s3cret")],
        ] {
            let answer = Ask { trust, headers, bearer: Some("s3cret"), ..POST }.check(401, "");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
        Ask { trust, headers: &[("authorization", "Bearer ")], bearer: Some(""), ..POST }.check(401, "");
    }
    Ask { trust: Trust::Edge, path: "/ofrep/v1/evaluate/flags/long", ..POST }.check(
        404,
        r#"{"key":"long","errorCode":"FLAG_NOT_FOUND","errorDetails":"flag `long` is not there"}"#,
    );
}

#[test]
fn all_flags_have_an_etag_of_what_was_evaluated() {
    let first = POST.answer().unwrap();
    assert!(first.body.ends_with(r#"],"metadata":{"team":"shop"}}"#), "{}", first.body);
    let etag = first.header("etag").unwrap().to_owned();
    for (tags, is_same) in [
        (etag.clone(), true),
        (format!("W/{etag}"), true),
        (format!("\"x\" , {etag}"), true),
        ("\"x\"".to_owned(), false),
        ("*".to_owned(), false),
        (etag.replace('"', ""), false),
    ] {
        let headers: &[_] = &[("if-none-match", &*tags)];
        let answer = Ask { headers, ..POST }.answer().unwrap();
        assert_eq!(answer.status, if is_same { 304 } else { 200 }, "{tags}");
        assert_eq!(answer.header("etag"), Some(&*etag));
        assert_eq!(answer.body.is_empty(), is_same);
        let other = Ask { headers, body: r#"{"context": {"region": "kr"}}"#, ..POST }.answer().unwrap();
        assert_eq!(other.status, 200, "{tags}");
        assert_ne!(other.header("etag"), Some(&*etag));
    }
}

#[test]
fn scripts_of_other_origins_read_nothing() {
    for (origin, is_allowed) in [
        ("https://shop.example.com", true),
        ("https://shop.example.com.evil.com", false),
        ("http://shop.example.com", false),
        ("null", false),
    ] {
        let expected = is_allowed.then_some(origin);
        let headers: &[_] = &[("origin", origin), ("access-control-request-headers", "content-type, x-a")];
        let preflight = Ask { method: "OPTIONS", headers, bearer: Some("s3cret"), ..POST }.check(204, "");
        let asked = is_allowed.then_some("content-type, x-a");
        assert_eq!(preflight.header("access-control-allow-headers"), asked);
        assert_eq!(preflight.header("access-control-allow-methods"), is_allowed.then_some("POST"));
        let unauthorized = Ask { headers, bearer: Some("s3cret"), ..POST }.check(401, "");
        for answer in [preflight, unauthorized, Ask { headers, ..POST }.answer().unwrap()] {
            assert_eq!(answer.header("access-control-allow-origin"), expected);
            assert_eq!(answer.header("access-control-allow-credentials"), is_allowed.then_some("true"));
            assert_eq!(answer.header("vary"), Some("Origin"));
        }
    }
    let headers: &[_] = &[("origin", "https://shop.example.com"), ("access-control-request-headers", "a b")];
    let preflight = Ask { method: "OPTIONS", headers, ..POST }.answer().unwrap();
    assert_eq!(preflight.header("access-control-allow-headers"), None);
}

#[test]
fn bodies_and_evaluations_have_limits() {
    let path = "/ofrep/v1/evaluate/flags/long";
    Ask { path, headers: &[("content-length", "101")], ..POST }.check(
        413,
        r#"{"key":"long","errorCode":"GENERAL","errorDetails":"expected at most 100 bytes, found more"}"#,
    );
    let body = format!(r#"{{"context": {{"list": [{}0]}}}}"#, "0,".repeat(1_000));
    Ask { path, headers: &[("content-length", "100")], body: &body, ..POST }.check(
        400,
        r#"{"key":"long","errorCode":"GENERAL","errorDetails":"its targeting takes too many steps","metadata":{"team":"shop"}}"#,
    );
}

#[test]
fn an_id_that_is_drawn_comes_back_in_a_cookie() {
    let key = r#"{ "from": [{ "cookie": "id" }], "mint": { "cookie": "id", "maxAge": "1d" } }"#;
    let policy = POLICY.replace(r#"{ "from": [{ "header": "x-user-id" }] }"#, key);
    assert_ne!(policy, POLICY);
    for (trust, headers, body, is_drawn) in [
        (Trust::Edge, &[][..], "", true),
        (Trust::Edge, &[("cookie", "id=mine")], "", false),
        (Trust::Edge, &[], r#"{"context": {"targetingKey": "ann"}}"#, false),
        (Trust::Mesh, &[], "", false),
    ] {
        for path in ["/ofrep/v1/evaluate/flags/half", "/ofrep/v1/evaluate/flags"] {
            let answer = Ask { path, headers, body, trust, ..POST }.answer_under(&policy).unwrap();
            let cookie = answer.header("set-cookie").unwrap_or_default();
            assert_eq!(
                cookie.starts_with("id=drawn-id; Max-Age=86400;"),
                is_drawn,
                "{path} {body}: {answer:?}"
            );
        }
    }
}

#[test]
fn all_flags_of_a_request_share_their_steps() {
    let list = vec!["0"; 2_000].join(",");
    let loops = r#"{ "state": "ENABLED", "variants": { "on": true }, "defaultVariant": "on",
                     "targeting": { "if": [{ "some": [{ "var": "list" }, { "var": "" }] }, "on"] } }"#;
    let flags: Vec<String> = (0..100).map(|i| format!(r#""f{i}": {loops}"#)).collect();
    let policy = format!(r#"{{ "flags": {{ {} }} }}"#, flags.join(","));
    let body = format!(r#"{{"context": {{"list": [{list}]}}}}"#);
    let answer = Ask { body: &body, ..POST }.answer_under(&policy).unwrap();
    let failures = answer.body.matches("GENERAL").count();
    // Each takes some six thousand of a hundred thousand steps, so the first have enough and the last do not.
    assert!((20..90).contains(&failures), "{failures}");
    let one =
        Ask { path: "/ofrep/v1/evaluate/flags/f99", body: &body, ..POST }.answer_under(&policy).unwrap();
    assert_eq!(one.status, 200, "{}", one.body);
}

#[test]
fn who_has_the_budget_used_up_is_not_believed_for_it() {
    // The region is known from the last of many cookies, each of which is looked for in all of them.
    let sources: Vec<String> = (0..16).map(|i| format!(r#"{{"cookie": "c{i}"}}"#)).collect();
    let attributes: Vec<String> = (0..20).map(|i| format!(r#""a{i}": [{}]"#, sources.join(","))).collect();
    let policy = format!(
        r#"{{"attributes": {{{}, "region": [{{"cookie": "region"}}]}}, "flags": {{"where": {{"state": "ENABLED",
            "variants": {{"kr": 1, "us": 2}}, "targeting": {{"var": "region"}}, "metadata": {{"mulkko.public": true}}}}}}}}"#,
        attributes.join(",")
    );
    let said: Vec<String> = (0..20).map(|i| format!(r#""a{i}": 1"#)).collect();
    let body = format!(r#"{{"context": {{{}, "region": "us"}}}}"#, said.join(","));
    for (filler, expected) in [(10, r#""variant":"kr""#), (10_000, r#""errorCode":"GENERAL""#)] {
        let cookies = format!("{}region=kr", "a=b;".repeat(filler));
        let headers = &[("cookie", &*cookies)][..];
        let answer = Ask { headers, body: &body, trust: Trust::Edge, ..POST }.answer_under(&policy).unwrap();
        assert!(answer.body.contains(expected), "{}", answer.body);
    }
}
