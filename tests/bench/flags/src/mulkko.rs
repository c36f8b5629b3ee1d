//! mulkko: a flagd definition, evaluated for who asks over OFREP.

use std::sync::LazyLock;

use mulkko::decide::{Proxy, Request, Trust};
use mulkko::headers::Headers;
use mulkko::json::Json;
use mulkko::ofrep::{Context, Evaluating};
use mulkko::policy::{Clusters, Policy};
use serde_json::json;

use crate::users::{BELOW, COUNTRIES, FLAG, FROM, PERCENT, User};

/// What the table's reader should know.
pub const NOTE: &str =
    "flagd's definition; the context is the body of an OFREP request, read, beside that request's headers";

/// The policy with the flag.
static POLICY: LazyLock<Policy> = LazyLock::new(compiled);

/// Who asks, for as long as the process lives: what is evaluated borrows from it.
pub fn context(user: &User) -> Evaluating<'static> {
    let User { key, country, version, .. } = user;
    let body = json!({"context": {"targetingKey": key, "country": country, "version": version}});
    let context = Box::leak(Box::new(Context::read(body.to_string().as_bytes()).expect("a context")));
    let headers = vec![
        (&b":method"[..], &b"POST"[..]),
        (b":path", b"/ofrep/v1/evaluate/flags/new-checkout"),
        (b":authority", b"localhost"),
        (b"content-type", b"application/json"),
    ];
    let request = Request {
        headers: Box::leak(Box::new(Headers::of_request(headers, Trust::Mesh))),
        passes: Box::leak(Box::default()),
        macs: None,
        node: Box::leak(Box::default()),
        proxy: &Host,
        rolled_back: None,
    };
    Evaluating::new(&POLICY, request, context)
}

pub fn evaluator() -> impl Fn(&Evaluating<'static>) -> bool {
    |evaluating| {
        let flag = POLICY.flag_keyed(FLAG).expect("the flag");
        let variant = evaluating.resolve(flag).variant.and_then(|variant| flag.variant(variant));
        variant.is_some_and(|variant| variant.value == Json::Bool(true))
    }
}

fn compiled() -> Policy {
    let document = json!({"flags": {FLAG: {
        "state": "ENABLED",
        "variants": {"on": true, "off": false},
        "defaultVariant": "off",
        "targeting": {"if": [
            {"and": [
                {"in": [{"var": "country"}, COUNTRIES]},
                {"sem_ver": [{"var": "version"}, ">=", FROM]},
                {"sem_ver": [{"var": "version"}, "<", BELOW]},
            ]},
            {"fractional": [["on", PERCENT], ["off", 100 - PERCENT]]},
        ]},
    }}});
    Policy::parse(document.to_string().as_bytes(), &Clusters::default()).expect("a policy")
}

/// A host that knows nothing; the rule asks it nothing.
struct Host;

impl Proxy for Host {
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
        String::new()
    }
}
