//! A wasm filter that makes the host calls which mulkko makes for a request with one rollout, and decides nothing.

#![cfg(target_arch = "wasm32")]
#![expect(missing_docs, reason = "the entry point is the SDK's")]

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, MapType, MetricType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root { counter: 0 }) });
}}

struct Root {
    counter: u32,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        self.counter = hostcalls::define_metric(MetricType::Counter, "calls").unwrap_or(0);
        true
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { counter: self.counter }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    counter: u32,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let request = MapType::HttpRequestHeaders;
        let _ = hostcalls::get_map_bytes(request);
        let _ = hostcalls::set_property(vec!["calls.checkout-v2"], Some(b"stable"));
        let _ = hostcalls::set_property(vec!["calls.checkout-v2.reason"], Some(b"SPLIT"));
        let _ = hostcalls::set_map_value(request, "x-calls-checkout-v2", Some("stable"));
        let _ = hostcalls::set_map_value(request, "x-mark", Some("1"));
        let _ = hostcalls::set_map_value(request, "baggage", Some("calls.checkout-v2=stable"));
        let _ = hostcalls::increment_metric(self.counter, 1);
        Action::Continue
    }
}
