//! A wasm filter that leaves a lease behind whose holder does not exist.
//!
//! Its configuration: the entry of shared data, and how far ahead the lease ends, in milliseconds.

#![cfg(target_arch = "wasm32")]
#![expect(missing_docs, reason = "the entry point is the SDK's")]

use std::time::UNIX_EPOCH;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root) });
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let text = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size)
            .ok()
            .flatten()
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let Some((key, ahead_ms)) = text.split_once(' ') else { return false };
        let Ok(ahead_ms) = ahead_ms.parse::<i64>() else { return false };
        let now = hostcalls::get_current_time().unwrap_or(UNIX_EPOCH);
        let now_ms =
            now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0));
        // Id, plugin configuration, instant of birth (the youngest there can be: nobody supersedes it), end.
        let lease: Vec<u8> =
            [4_711, 4_711, i64::MAX, now_ms + ahead_ms].iter().flat_map(|n| n.to_le_bytes()).collect();
        hostcalls::set_shared_data(key, Some(&lease), None).is_ok()
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream;

impl Context for Stream {}

impl HttpContext for Stream {}
