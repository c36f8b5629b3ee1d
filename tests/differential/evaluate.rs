//! Resolves flags for whom compares: reads cases, one JSON object a line, and prints what each resolves to.
//!
//! `{"id", "document", "flag", "context"}` in, `{"id", "value"?, "variant"?, "reason"?, "errorCode"?}` out; a document
//! that is refused gives `{"id", "refused"}`.

#![expect(clippy::unwrap_used, reason = "a test fails by them")]

use std::io::{self, BufRead};
use std::time::{SystemTime, UNIX_EPOCH};

use mulkko::decide::{Node, Proxy, Request, Trust};
use mulkko::headers::Headers;
use mulkko::ofrep::{Begun, Ofrep};
use mulkko::pass::Passes;
use mulkko::policy::{Clusters, Policy};
use serde_json::{Map, Value, json};

fn main() {
    for line in io::stdin().lock().lines() {
        let case: Value = serde_json::from_str(&line.unwrap()).unwrap();
        println!("{}", resolved(&case));
    }
}

fn resolved(case: &Value) -> Value {
    let member = |name: &str| case.get(name).unwrap();
    let policy = match Policy::parse(member("document").to_string().as_bytes(), &Clusters::default()) {
        Ok(policy) => policy,
        Err(found) => return json!({ "id": member("id"), "refused": found.first().unwrap().to_string() }),
    };
    let path = format!("/evaluate/flags/{}", member("flag").as_str().unwrap());
    let headers =
        Headers::new(vec![(b":method", b"POST"), (b":path", path.as_bytes()), (b":authority", b"a")]);
    let ofrep =
        Ofrep { prefix: "".into(), bearer: None, allow_origins: [].into(), max_body_bytes: usize::MAX };
    let Some(Begun::Asked(asked)) = ofrep.begin(None, Trust::Mesh, &headers) else {
        return json!({ "id": member("id") });
    };
    let (passes, node) = (Passes::default(), Node::default());
    let request =
        Request { headers: &headers, passes: &passes, trust: Trust::Mesh, node: &node, proxy: &Clock };
    let body = json!({ "context": member("context") }).to_string();
    let answer = asked.answer(body.as_bytes(), Some(&policy), request);
    let answer: Map<String, Value> = serde_json::from_str(&answer.body).unwrap();
    let mut resolved = json!({ "id": member("id") });
    for name in ["value", "variant", "reason", "errorCode"] {
        // No variant is an empty one.
        if let Some(value) = answer.get(name).filter(|value| name != "variant" || **value != "") {
            resolved.as_object_mut().unwrap().insert(name.to_owned(), value.clone());
        }
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
