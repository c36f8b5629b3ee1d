//! What the dearest policies and requests take, beside the budget: `make bench-budget`.
//!
//! One program for the native and the wasm figures. Each request is decided several times: for the first time while the
//! VM has not optimised all of the code, then as fast as it goes.
//!
//!     budget [NAME...]

#![expect(clippy::expect_used, reason = "a benchmark may stop at what cannot be")]

#[expect(dead_code, reason = "its policies are of other benchmarks")]
mod scenario;

use std::cell::Cell;
use std::hint::black_box;
use std::time::Instant;

use mulkko::budget::STEPS;
use mulkko::decide::{Node, Request, Trust, Values, Watch, decide_watched};
use mulkko::effects::effects;
use mulkko::headers::Headers;
use mulkko::ofrep::{Begun, Ofrep};
use mulkko::pass::Passes;
use mulkko::policy::{Clusters, Policy};

/// How often each request is decided.
const ROUNDS: usize = 40;

/// How many bytes a request has in all.
const REQUEST_BYTES: usize = 60_000;

type Pairs = Vec<(String, String)>;

/// A policy, and the request that it is dear for; with a body, one for flags.
struct Case {
    policy: String,
    headers: Pairs,
    body: Option<String>,
}

/// How many steps were taken.
#[derive(Default)]
struct Counted(Cell<usize>);

impl Watch for Counted {
    fn decided(&self, values: &Values<'_>) {
        self.0.set(values.budget().spent());
    }
}

/// The members of a list or an object.
fn all(count: usize, member: impl FnMut(usize) -> String) -> String {
    (0..count).map(member).collect::<Vec<_>>().join(",")
}

/// A rollout with these members, which every request meets.
fn rollout(i: usize, members: &str) -> String {
    format!(
        r#"{{"name": "r{i}", "variants": {{"a": {{}}, "b": {{}}}}, "default": "a", "key": "user",
        "strategy": {{"canary": {{"variant": "b", "percent": 5}}}}{members}}}"#
    )
}

fn policy(members: &str, rollouts: usize, of_rollout: impl Fn(usize) -> String) -> String {
    format!(
        r#"{{"keys": {{"user": {{"from": [{{"header": "x-user-id"}}]}}}}, {members} "rollouts": [{}]}}"#,
        all(rollouts, |i| rollout(i, &of_rollout(i)))
    )
}

/// A request with these headers beside its own.
fn request(path: &str, headers: &[(&str, &str)]) -> Pairs {
    let own = [(":authority", "shop"), (":path", path), (":method", "GET"), ("x-user-id", "user-1")];
    own.iter().chain(headers).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn case(policy: String, headers: Pairs) -> Case {
    Case { policy, headers, body: None }
}

/// Two hundred rollouts that ask one condition, for which `{i}` is the number of the rollout.
fn whens(condition: &str, headers: &[(&str, &str)]) -> Case {
    let of_rollout = |i: usize| format!(r#", "when": {}"#, condition.replace("{i}", &i.to_string()));
    case(policy("", 200, of_rollout), request("/", headers))
}

/// What an operator takes: asked for each of ten thousand items, in each of two hundred rollouts.
fn each(body: &str, headers: &[(&str, &str)]) -> Case {
    let hundred = all(100, |i| i.to_string());
    whens(&format!(r#"{{"none": [[{hundred}], {{"none": [[{hundred}], {body}]}}]}}"#), headers)
}

/// Five hundred rollouts that ask what is written once, ten times each.
fn asked_again(ask: &str, headers: &[(&str, &str)]) -> Case {
    let again = all(10, |_| r#"{"!": {"!": {"$ref": "e"}}}"#.to_owned());
    let of_rollout = |_: usize| format!(r#", "when": {{"or": [{again}]}}"#);
    case(policy(&format!(r#""$evaluators": {{"e": {ask}}},"#), 500, of_rollout), request("/", headers))
}

/// A text of the length that patterns read, which holds `part`.
fn longest(part: &str) -> String {
    format!("{}{part}", "a".repeat(4_096 - part.len()))
}

type Make = fn() -> Case;

/// The dearest cases, by name.
const ALL: &[(&str, Make)] = &[
    ("one rollout", || case(policy("", 1, |_| String::new()), request("/", &[]))),
    ("a pattern of many states", || {
        whens(
            r#"{"matches": [{"var": "request.headers.x"}, "((a*)*(a*)*(a*)*(a*)*){9}[bc]"]}"#,
            &[("x", &longest(""))],
        )
    }),
    ("a pattern of 200 states", || {
        whens(
            r#"{"matches": [{"var": "request.headers.x"}, "((a*)*(a*)*(a*)*(a*)*){2}[bc]"]}"#,
            &[("x", &longest("").split_off(3_700))],
        )
    }),
    ("a pattern of 1,000 states", || {
        whens(
            r#"{"matches": [{"var": "request.headers.x"}, "((a*)*(a*)*(a*)*(a*)*){9}[bc]"]}"#,
            &[("x", &longest("").split_off(4_000))],
        )
    }),
    ("a pattern of few states", || {
        whens(r#"{"matches": [{"var": "request.headers.x"}, "(a|aa)*[bc]"]}"#, &[("x", &longest("b"))])
    }),
    ("a pattern with classes", || {
        whens(
            r#"{"matches": [{"var": "request.headers.x"}, "(\\w|[a-m]|[^xyz])*\\d{3}"]}"#,
            &[("x", &longest(""))],
        )
    }),
    ("bots", || {
        whens(
            r#"{"matches": [{"var": "request.headers.user-agent"}, ".*(bot|crawler|spider).*"]}"#,
            &[("user-agent", &longest("bo"))],
        )
    }),
    ("bots, more or less", || {
        whens(
            r#"{"matches": [{"var": "request.headers.user-agent"}, ".*(bot|crawler|spider)[0-9].*"]}"#,
            &[("user-agent", &longest("bot"))],
        )
    }),
    ("path patterns", || {
        let of_rollout = |_: usize| {
            r#", "matches": [{"path": {"type": "RegularExpression", "value": "/(a|aa)*[bc]"}}]"#.to_owned()
        };
        case(policy("", 1_000, of_rollout), request(&format!("/{}", longest("").split_off(1)), &[]))
    }),
    ("20,000 rollouts on one path", || case(policy("", 20_000, |_| String::new()), request("/", &[]))),
    ("20,000 rollouts by a header that 100 hide", || {
        let of_rollout =
            |i: usize| format!(r#", "matches": [{{"headers": [{{"name": "x-{i}", "value": "a"}}]}}]"#);
        let names: Vec<String> = (0..96).map(|i| format!("y-{i:04}")).collect();
        let headers: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "a")).collect();
        case(policy("", 20_000, of_rollout), request("/", &headers))
    }),
    ("20,000 rollouts by a repeated header", || {
        let of_rollout = |_: usize| r#", "matches": [{"headers": [{"name": "x", "value": "a"}]}]"#.to_owned();
        let part = "a".repeat(REQUEST_BYTES / 96);
        let headers: Vec<(&str, &str)> = (0..96).map(|_| ("x", &*part)).collect();
        case(policy("", 20_000, of_rollout), request("/", &headers))
    }),
    ("20,000 rollouts by a parameter", || {
        let of_rollout =
            |i: usize| format!(r#", "matches": [{{"queryParams": [{{"name": "x{i}", "value": "a"}}]}}]"#);
        let query = "a&".repeat(REQUEST_BYTES / 2);
        case(policy("", 20_000, of_rollout), request(&format!("/?{query}"), &[]))
    }),
    ("100 rollouts of 4,000 entries", || {
        let entries = all(4_000, |_| r#"{"method":"POST"}"#.to_owned());
        let of_rollout = |_: usize| format!(r#", "matches": [{entries}]"#);
        case(policy("", 100, of_rollout), request("/", &[]))
    }),
    ("100 rollouts of 4,000 entries that hold", || {
        let entries = all(4_000, |_| r#"{"method":"GET"}"#.to_owned());
        let of_rollout = |_: usize| format!(r#", "matches": [{entries}]"#);
        case(policy("", 100, of_rollout), request("/", &[]))
    }),
    ("a path of slashes below many hosts", || {
        let hosts = all(120, |i| format!(r#""*.{}""#, "a.".repeat(i + 1) + "a"));
        let value = "/".repeat(40_000);
        let rollouts = format!(
            r#"{{"name": "r", "hostnames": [{hosts}], "matches": [{{"path": {{"value": "{value}a"}}}}],
            "variants": {{"a": {{}}, "b": {{}}}}, "default": "a", "strategy": {{"dark": {{"variant": "b"}}}}}}"#
        );
        let mut headers = request(&"/".repeat(50_000), &[]);
        headers.retain(|(name, _)| name != ":authority");
        headers.push((":authority".to_owned(), "a.".repeat(124) + "a"));
        case(format!(r#"{{"rollouts": [{rollouts}]}}"#), headers)
    }),
    ("2,000 attributes of 16 cookies", || {
        let sources = all(16, |i| format!(r#"{{"cookie": "c{i}"}}"#));
        let attributes = all(2_000, |i| format!(r#""a{i}": [{sources}]"#));
        let of_rollout = |i: usize| format!(r#", "when": {{"var": "a{i}"}}"#);
        let cookies = "a;".repeat(REQUEST_BYTES / 2);
        case(
            policy(&format!(r#""attributes": {{{attributes}}},"#), 2_000, of_rollout),
            request("/", &[("cookie", &cookies)]),
        )
    }),
    ("2,000 keys of 16 parameters", || {
        let sources = all(16, |i| format!(r#"{{"query": "c{i}"}}"#));
        let keys = all(2_000, |i| format!(r#""k{i}": {{"from": [{sources}]}}"#));
        let query = "%61&".repeat(REQUEST_BYTES / 4);
        let rollouts = all(2_000, |i| rollout(i, "").replace(r#""user""#, &format!(r#""k{i}""#)));
        case(
            format!(r#"{{"keys": {{{keys}}}, "rollouts": [{rollouts}]}}"#),
            request(&format!("/?{query}"), &[]),
        )
    }),
    ("50 rollouts of 1,000 force entries", || {
        let entries = all(1_000, |i| {
            format!(
                r#"{{"when": {{"==": [{{"var": "request.headers.x-user-id"}}, "u{i}"]}}, "variant": "b"}}"#
            )
        });
        case(policy("", 50, |_| format!(r#", "force": [{entries}]"#)), request("/", &[]))
    }),
    ("one cohort for 200 rollouts", || {
        let cohort = r#""cohorts": {"c": {"matches": [{"var": "request.headers.x"}, "(a|aa)*[bc]"]}},"#;
        case(
            policy(cohort, 200, |_| r#", "when": {"cohort": "c"}"#.to_owned()),
            request("/", &[("x", &longest(""))]),
        )
    }),
    ("20,000 cohorts", || {
        let cohorts = all(20_000, |i| format!(r#""c{i}": {{"var": "request.headers.x"}}"#));
        let of_rollout = |i: usize| format!(r#", "when": {{"cohort": "c{i}"}}"#);
        case(
            policy(&format!(r#""cohorts": {{{cohorts}}},"#), 20_000, of_rollout),
            request("/", &[("x", "a")]),
        )
    }),
    ("2,000 rollouts and 20,000 holdouts", || {
        let holdouts = all(20_000, |i| format!(r#"{{"name": "h{i}", "key": "user", "percent": 0.01}}"#));
        let key = "k".repeat(1_000);
        let headers = request("/", &[]).into_iter().filter(|(name, _)| name != "x-user-id");
        case(
            policy(&format!(r#""holdouts": [{holdouts}],"#), 2_000, |_| String::new()),
            headers.chain([("x-user-id".to_owned(), key)]).collect(),
        )
    }),
    ("500 rollouts of 100 headers", || {
        let headers = all(100, |i| format!(r#""x-h-{i}": "v""#));
        let rollouts = all(500, |i| {
            rollout(i, "").replace(r#""a": {}"#, &format!(r#""a": {{"headers": {{{headers}}}}}"#))
        });
        case(
            format!(
                r#"{{"keys": {{"user": {{"from": [{{"header": "x-user-id"}}]}}}}, "rollouts": [{rollouts}]}}"#
            ),
            request("/", &[]),
        )
    }),
    ("operators: numbers", || each(r#"{">": [{"+": [{"var": ""}, 0.1]}, 1e9]}"#, &[])),
    ("operators: texts of numbers", || each(r#"{"in": ["x", {"cat": [{"/": [{"var": ""}, 7]}]}]}"#, &[])),
    ("operators: numbers of texts", || each(r#"{"==": [{"var": ""}, "1e-30"]}"#, &[])),
    ("operators: substr", || {
        each(r#"{"!": {"substr": ["abcdefghijklmnopqrstuvwxyz", {"var": ""}, 3]}}"#, &[])
    }),
    ("operators: a header among 100", || {
        let names: Vec<String> = (0..96).map(|i| format!("y-{i:04}")).collect();
        let headers: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "a")).collect();
        each(r#"{"missing": ["request.headers.y-0095"]}"#, &headers)
    }),
    ("operators: reduce", || {
        let items = all(100, |i| i.to_string());
        whens(
            &format!(
                r#"{{"reduce": [[{items}], {{"reduce": [[{items}], {{"+": [{{"var": "current"}}, {{"var": "accumulator"}}]}}, 0]}}, 0]}}"#
            ),
            &[],
        )
    }),
    ("operators: cat", || {
        each(r#"{"!": {"cat": [{"var": ""}, "abcdefghijklmnop", "abcdefghijklmnop"]}}"#, &[])
    }),
    ("operators: merge", || each(r#"{"!": {"merge": [[1, 2, 3], {"var": ""}]}}"#, &[])),
    ("operators: filter", || each(r#"{"filter": [[1, 2, 3], {"var": ""}]}"#, &[])),
    ("operators: in", || {
        let numbers = all(2_000, |i| i.to_string());
        whens(
            &format!(
                r#"{{"none": [[{numbers}], {{"in": [{{"var": ""}}, [{}]]}}]}}"#,
                all(2_000, |i| format!("-{i}.5"))
            ),
            &[],
        )
    }),
    ("operators: in of texts", || {
        let texts = all(2_000, |i| format!(r#""text-{i}""#));
        each(&format!(r#"{{"in": [{{"cat": ["text-x", {{"var": ""}}]}}, [{texts}]]}}"#), &[])
    }),
    ("operators: in a text", || {
        let text = "a".repeat(REQUEST_BYTES - 1_000);
        each(
            r#"{"in": ["aaaaaaaaaaaaaaaab", {"var": ["x", {"var": "request.headers.x"}]}]}"#,
            &[("x", &text)],
        )
    }),
    ("a header of 60 kB", || {
        let text = "a".repeat(REQUEST_BYTES - 1_000);
        let asks = all(500, |_| r#"{"in": ["aaaaaaaaaaaaaaaab", {"var": "request.headers.x"}]}"#.to_owned());
        whens(&format!(r#"{{"or": [{asks}]}}"#), &[("x", &text)])
    }),
    ("a header of 60 kB as a number", || {
        let text = "1".repeat(REQUEST_BYTES - 1_000);
        let asks = all(500, |_| r#"{"==": [1, {"var": "request.headers.x"}]}"#.to_owned());
        whens(&format!(r#"{{"or": [{asks}]}}"#), &[("x", &text)])
    }),
    ("a header of 60 kB, not UTF-8", || {
        let text = "é".repeat(REQUEST_BYTES / 2 - 1_000);
        let asks =
            all(500, |_| r#"{"<": [{"substr": [{"var": "request.headers.x"}, 20000, 1]}, ""]}"#.to_owned());
        whens(&format!(r#"{{"or": [{asks}]}}"#), &[("x", &text)])
    }),
    ("a header of 60 kB in 96 parts", || {
        let part = "a".repeat(REQUEST_BYTES / 96);
        let headers: Vec<(&str, &str)> = (0..96).map(|_| ("x", &*part)).collect();
        let asks = all(500, |_| r#"{"==": ["b", {"var": "request.headers.x"}]}"#.to_owned());
        whens(&format!(r#"{{"or": [{asks}]}}"#), &headers)
    }),
    ("cookies", || {
        let cookies = "a;".repeat(REQUEST_BYTES / 2);
        let asks = all(500, |i| format!(r#"{{"var": "request.cookies.c{i}"}}"#));
        whens(&format!(r#"{{"or": [{asks}]}}"#), &[("cookie", &cookies)])
    }),
    ("parameters", || {
        let query = "%61&".repeat(REQUEST_BYTES / 4);
        let asks = all(500, |i| format!(r#"{{"var": "request.query.c{i}"}}"#));
        let mut case = whens(&format!(r#"{{"or": [{asks}]}}"#), &[]);
        case.headers = request(&format!("/?{query}"), &[]);
        case
    }),
    ("versions", || {
        let text = format!("1.2.3-{}1", "a.1.".repeat(REQUEST_BYTES / 4 - 1_000));
        let asks =
            all(500, |_| r#"{"sem_ver": [{"var": "request.headers.x"}, "<", "1.2.3-a.0"]}"#.to_owned());
        whens(&format!(r#"{{"or": [{asks}]}}"#), &[("x", &text)])
    }),
    ("versions: many targets", || {
        let text = format!("1.2.3-{}1", "a.1.".repeat(500));
        let targets =
            all(80, |_| format!(r#"{{"sem_ver": [{{"var": "request.headers.x"}}, "<=", "{text}"]}}"#));
        asked_again(&format!(r#"{{"!": {{"and": [{targets}]}}}}"#), &[("x", &text)])
    }),
    ("names of many levels", || {
        let text = ".".repeat(REQUEST_BYTES - 1_000);
        let asks = all(500, |_| r#"{"var": {"var": "request.headers.x"}}"#.to_owned());
        whens(&format!(r#"{{"or": [{asks}]}}"#), &[("x", &text)])
    }),
    ("in of long texts that begin the same", || {
        let start = "a".repeat(10_000);
        let texts = all(20, |i| format!(r#""{start}{i}""#));
        asked_again(
            &format!(r#"{{"in": [{{"var": "request.headers.x"}}, [{texts}]]}}"#),
            &[("x", &format!("{start}x"))],
        )
    }),
    ("weights of which one is computed", || {
        let weights = all(6_000, |_| r#"["", 1]"#.to_owned());
        let ask = format!(
            r#"{{"fractional": [{{"var": "request.headers.x"}}, {weights}, ["", {{"var": "request.headers.n"}}]]}}"#
        );
        asked_again(&ask, &[("x", "a")])
    }),
    ("networks", || {
        let networks = all(1_000, |i| format!(r#""10.{}.{}.0/25""#, i / 250, i % 250));
        let asks = all(300, |i| {
            format!(
                r#"{{"cidr": [{{"var": "request.headers.x"}}, {}]}}"#,
                if i == 0 { format!("[{networks}]") } else { r#""2001:db8::/32""#.to_owned() }
            )
        });
        whens(&format!(r#"{{"or": [{asks}]}}"#), &[("x", "2001:0db9:0000:0000:0000:ffff:0000:0001")])
    }),
    ("hashed texts", || {
        let text = "a".repeat(REQUEST_BYTES - 1_000);
        let asks = all(300, |_| {
            r#"{"!": {"fractional": [{"var": "request.headers.x"}, ["", 1], ["", 1]]}}"#.to_owned()
        });
        whens(&format!(r#"{{"and": [{asks}]}}"#), &[("x", &text)])
    }),
    ("exported flags", || {
        let flags = all(600, |i| {
            format!(
                r#""f{i}": {{"state": "ENABLED", "variants": {{"on": true, "off": false}}, "defaultVariant": "off",
                "targeting": {{"if": [{{"matches": [{{"var": "request.headers.x"}}, "(a|aa)*[bc]"]}}, "on"]}},
                "metadata": {{"mulkko.export": true}}}}"#
            )
        });
        case(
            policy(&format!(r#""flagKey": "user", "flags": {{{flags}}},"#), 0, |_| String::new()),
            request("/", &[("x", &longest(""))]),
        )
    }),
    ("OFREP: 20,000 flags without targeting", || ofrep(&all(20_000, |i| flag(i, "")), "", &[])),
    ("OFREP: 200 flags that ask one cohort", || {
        let targeting = r#", "targeting": {"if": [{"cohort": "c"}, "on"]}"#;
        ofrep(
            &all(200, |i| flag(i, targeting)),
            r#""cohorts": {"c": {"matches": [{"var": "request.headers.user-agent"}, ".*(bot|crawler|spider).*"]}},"#,
            &[("user-agent", &longest("bot"))],
        )
    }),
    ("OFREP: 20,000 flags with a split", || {
        ofrep(
            &all(20_000, |i| flag(i, r#", "targeting": {"fractional": [["on", 10], ["off", 90]]}"#)),
            "",
            &[],
        )
    }),
    ("OFREP: 16,000 flags with a pattern", || {
        let targeting = r#", "targeting": {"if": [{"matches": [{"var": "email"}, ".*@example.com"]}, "on"]}"#;
        ofrep(&all(16_000, |i| flag(i, targeting)), "", &[])
    }),
    ("baggage of 60 kB", || {
        let baggage = "a=b,".repeat(REQUEST_BYTES / 4);
        case(policy("", 100, |_| String::new()), request("/", &[("baggage", &baggage)]))
    }),
];

fn flag(i: usize, members: &str) -> String {
    format!(
        r#""flag-{i}": {{"state": "ENABLED", "variants": {{"on": true, "off": false}}, "defaultVariant": "off",
        "metadata": {{"mulkko.public": true}}{members}}}"#
    )
}

fn ofrep(flags: &str, members: &str, headers: &[(&str, &str)]) -> Case {
    let mut headers = request("/ofrep/v1/evaluate/flags", headers);
    headers
        .iter_mut()
        .filter(|(name, _)| name == ":method")
        .for_each(|(_, method)| "POST".clone_into(method));
    Case {
        policy: policy(&format!(r#""flagKey": "user", {members} "flags": {{{flags}}},"#), 0, |_| {
            String::new()
        }),
        headers,
        body: Some(r#"{"context": {"targetingKey": "user-1", "email": "somebody@example.org"}}"#.to_owned()),
    }
}

/// Decides once, and works out what is done; how many steps it took.
fn run(policy: &Policy, case: &Case) -> String {
    let pairs = case.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let headers = Headers::of_request(pairs, Trust::Edge);
    let (passes, node) = (Passes::default(), Node::default());
    let request = Request {
        headers: &headers,
        passes: &passes,
        macs: None,
        node: &node,
        proxy: &scenario::Still,
        rolled_back: None,
    };
    let Some(body) = &case.body else {
        let counted = Counted::default();
        let decisions = decide_watched(policy, request, &counted);
        black_box(effects(Some(policy), &decisions, &request));
        return counted.0.get().min(STEPS).to_string();
    };
    let ofrep = Ofrep {
        prefix: "/ofrep/v1".into(),
        bearer: None,
        allow_origins: Box::default(),
        max_body_bytes: REQUEST_BYTES,
    };
    let Some(Begun::Asked(asked)) = ofrep.begin(None, Trust::Edge, &headers) else { return String::new() };
    let answer = black_box(asked.answer(body.as_bytes(), Some(policy), request));
    if answer.is_exhausted { "all" } else { "" }.to_owned()
}

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    println!("| request | first, ms | then, ms | steps of {STEPS} |\n|---|---|---|---|");
    for (name, case) in ALL.iter().filter(|(name, _)| asked.is_empty() || asked.iter().any(|it| it == name)) {
        let case = case();
        let policy = Policy::parse(case.policy.as_bytes(), &Clusters::default()).expect("a policy");
        let (mut first_ms, mut least_ms, mut steps) = (None, f64::INFINITY, String::new());
        for _ in 0..ROUNDS {
            let start = Instant::now();
            steps = run(&policy, &case);
            let took_ms = start.elapsed().as_secs_f64() * 1e3;
            first_ms.get_or_insert(took_ms);
            least_ms = took_ms.min(least_ms);
        }
        println!("| {name} | {:.2} | {least_ms:.2} | {steps} |", first_ms.unwrap_or_default());
    }
}
