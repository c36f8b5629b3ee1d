//! A service that uses OpenTelemetry: for each line, the headers of a request (a JSON object) that it was sent, those that it
//! sends on, as its SDK makes them.

use std::collections::HashMap;
use std::io::{self, BufRead};

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::BaggagePropagator;

fn main() {
    let propagator = BaggagePropagator::new();
    for line in io::stdin().lock().lines() {
        let headers: HashMap<String, String> = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let context = propagator.extract_with_context(&Context::new(), &headers);
        let mut carrier: HashMap<String, String> = HashMap::new();
        propagator.inject_context(&context, &mut carrier);
        println!("{}", serde_json::json!(carrier));
    }
}
