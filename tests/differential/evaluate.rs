//! Resolves flags for whom compares: reads cases, one JSON object a line, and prints what each resolves to.
//!
//! `{"id", "document", "flag", "context"}` in, `{"id", "value"?, "variant"?, "reason"?, "errorCode"?}` out; a document
//! that is refused gives `{"id", "refused"}`.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by them")]

use std::io::{self, BufRead};
use std::time::{SystemTime, UNIX_EPOCH};

use mulkko::decide::{Node, Proxy, Request, Trust};
use mulkko::headers::Headers;
use mulkko::ofrep::{Context, Evaluating};
use mulkko::pass::Passes;
use mulkko::policy::{Clusters, Policy};
use serde_json::{Value, json};

fn main() {
    // Cases of one document follow each other.
    let mut latest: Option<(String, Result<Policy, String>)> = None;
    for line in io::stdin().lock().lines() {
        let case: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let document = case["document"].to_string();
        if latest.as_ref().is_none_or(|(known, _)| *known != document) {
            let policy = Policy::parse(document.as_bytes(), &Clusters::default());
            latest = Some((document, policy.map_err(|found| found.first().unwrap().to_string())));
        }
        let answer = match &latest.as_ref().unwrap().1 {
            Ok(policy) => resolved(policy, &case),
            Err(refusal) => json!({ "id": case["id"], "refused": refusal }),
        };
        println!("{answer}");
    }
}

fn resolved(policy: &Policy, case: &Value) -> Value {
    let member = |name: &str| case.get(name).unwrap();
    let body = json!({ "context": member("context") }).to_string();
    let context = Context::read(body.as_bytes()).unwrap();
    let (headers, passes, node) =
        (Headers::of_request(Vec::new(), Trust::Mesh), Passes::default(), Node::default());
    let request = Request {
        headers: &headers,
        passes: &passes,
        macs: None,
        node: &node,
        proxy: &Clock,
        rolled_back: None,
    };
    let flag = policy.flag_keyed(member("flag").as_str().unwrap()).unwrap();
    let resolution = Evaluating::new(policy, request, &context).resolve(flag);
    let mut resolved = json!({ "id": member("id") });
    match resolution.why {
        Ok(reason) => resolved["reason"] = json!(reason.as_str()),
        Err(error) => {
            resolved["reason"] = json!("ERROR");
            resolved["errorCode"] = json!(error.code());
        }
    }
    if let Some(variant) = resolution.variant.and_then(|variant| flag.variant(variant)) {
        resolved["variant"] = json!(variant.name);
        resolved["value"] = serde_json::from_str(&variant.json).unwrap();
    }
    resolved
}

/// A host that knows nothing but the time.
struct Clock;

impl Proxy for Clock {
    fn property(&self, _: &[Box<str>]) -> Option<Vec<u8>> {
        None
    }

    fn client_address(&self) -> Option<Vec<u8>> {
        None
    }

    fn now_ms(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(now.as_millis()).unwrap()
    }

    fn draw_id(&self) -> String {
        String::new()
    }
}
