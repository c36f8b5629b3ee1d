//! A wasm filter that writes to mulkko's shared data, as any plugin with its vm_id can.
//!
//! Its configuration has a line for each entry: the key, then `text` and what to write, `hex` and the bytes of it, or
//! `lease` and how far ahead a lease ends, in milliseconds, whose holder does not exist.

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
        text.lines().all(|line| write(line).is_some())
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

/// Writes what a line of the configuration says.
fn write(line: &str) -> Option<()> {
    let (key, what) = line.split_once(' ')?;
    let value = match what.split_once(' ')? {
        ("text", text) => text.as_bytes().to_vec(),
        ("hex", digits) => bytes(digits)?,
        ("lease", ahead_ms) => lease(ahead_ms.parse().ok()?)?,
        _ => return None,
    };
    hostcalls::set_shared_data(key, Some(&value), None).ok()
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let (pairs, _) = digits.as_bytes().as_chunks::<2>();
    pairs.iter().map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn lease(ahead_ms: i64) -> Option<Vec<u8>> {
    let now = hostcalls::get_current_time().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let ends_ms = i64::try_from(now.as_millis()).ok()?.checked_add(ahead_ms)?;
    // Id, plugin configuration, instant of birth (the youngest there can be: nobody supersedes it), end.
    Some([4_711, 4_711, i64::MAX, ends_ms].iter().flat_map(|number| number.to_le_bytes()).collect())
}
