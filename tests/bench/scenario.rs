//! What is decided in benchmarks: policies, and the request that they are about.

use mulkko::decide::{Proxy, Trust};
use mulkko::headers::Headers;

/// A proxy of which nothing is asked but the time.
pub struct Still;

impl Proxy for Still {
    fn property(&self, _: &[Box<str>]) -> Option<Vec<u8>> {
        None
    }

    fn client_address(&self) -> Option<Vec<u8>> {
        None
    }

    fn now_ms(&self) -> i64 {
        1_800_000_000_000
    }

    fn draw_id(&self) -> String {
        String::new()
    }
}

/// A policy of so many canaries, each for a path of its own below one of a hundred hosts.
pub fn document(rollouts: usize) -> Vec<u8> {
    let rollout = |i: usize| {
        format!(
            r#"{{"name": "rollout-{i}", "hostnames": ["host-{host}.example.com"],
            "matches": [{{"path": {{"value": "/service-{i}"}}}}], "key": "user",
            "when": {{"!=": [{{"var": "request.headers.x-region"}}, "kr"]}},
            "variants": {{"stable": {{}}, "canary": {{"cluster": "v2", "headers": {{"x-version": "v2"}}}}}},
            "default": "stable", "strategy": {{"canary": {{"variant": "canary", "percent": 5}}}}}}"#,
            host = i % 100,
        )
    };
    let rollouts: Vec<String> = (0..rollouts).map(rollout).collect();
    format!(
        r#"{{"keys": {{"user": {{"from": [{{"header": "x-user-id"}}]}}}}, "rollouts": [{}]}}"#,
        rollouts.join(",")
    )
    .into_bytes()
}

/// A policy of one rollout and so many flags, the first of which requests carry upstream.
pub fn with_flags(flags: usize, exported: usize) -> Vec<u8> {
    let flag = |i: usize| {
        format!(
            r#""flag-{i}": {{"state": "ENABLED", "variants": {{"on": true, "off": false}}, "defaultVariant": "off",
            "targeting": {{"if": [{{"==": [{{"var": "request.headers.x-region"}}, "kr"]}}, "on",
                                  {{"fractional": [["on", 10], ["off", 90]]}}]}},
            "metadata": {{"mulkko.export": {}}}}}"#,
            i < exported
        )
    };
    let flags: Vec<String> = (0..flags).map(flag).collect();
    let document = String::from_utf8(document(1)).expect("a text");
    let document = document.strip_prefix('{').expect("an object");
    format!(r#"{{"flagKey": "user", "flags": {{{}}}, {document}"#, flags.join(",")).into_bytes()
}

/// The headers of a request for the first rollout's path and host.
pub fn headers() -> Headers<'static> {
    let pairs: Vec<(&[u8], &[u8])> = vec![
        (b":authority", b"host-0.example.com"),
        (b":path", b"/service-0/cart?item=7"),
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64)"),
        (b"accept", b"*/*"),
        (b"x-forwarded-proto", b"https"),
        (b"x-request-id", b"7f3c1b9e-8d1e-4c6b-9a55-0c2f6f1f7a10"),
        (b"x-user-id", b"user-1"),
    ];
    Headers::of_request(pairs, Trust::Edge)
}
