//! Every host call that the plugin makes, each as a function that returns `Result` and never panics.
//!
//! The SDK's own bindings panic on statuses that they do not expect, and a panic kills every stream of a worker; so the
//! bindings are here, and this is the only place for `unsafe`. One exception: HTTP calls are sent by the SDK, whose
//! dispatcher must know their tokens.

#![expect(unsafe_code, reason = "bindings of host calls")]

use std::cell::Cell;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType, MetricType};

/// A host call that did not work, with the host's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed(pub u32);

/// What was asked for is not there, or not in that form: of a call, its cluster.
pub const BAD_ARGUMENT: Failed = Failed(2);

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const CAS_MISMATCH: u32 = 8;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, text: *const u8, text_size: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_buffer_bytes(
        kind: BufferType,
        start: usize,
        most: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(kind: MapType, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        kind: MapType,
        name: *const u8,
        name_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_remove_header_map_value(kind: MapType, name: *const u8, name_size: usize) -> u32;
    fn proxy_replace_header_map_value(
        kind: MapType,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_add_header_map_value(
        kind: MapType,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        version: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        version: u32,
    ) -> u32;
    fn proxy_define_metric(kind: MetricType, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_set_effective_context(id: u32) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        argument: *const u8,
        argument_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
}

thread_local! {
    static FAILURES: Cell<usize> = const { Cell::new(0) };
}

/// How many host calls have failed since this was last asked.
pub fn take_failures() -> usize {
    FAILURES.take()
}

fn done(status: u32) -> Result<(), Failed> {
    if status == OK {
        return Ok(());
    }
    Err(failed(status))
}

/// Counts a failure.
pub fn failed(status: u32) -> Failed {
    FAILURES.set(FAILURES.get().saturating_add(1));
    Failed(status)
}

/// As [`done`], but "not found" is an answer.
fn found(status: u32) -> Result<bool, Failed> {
    match status {
        NOT_FOUND => Ok(false),
        status => done(status).map(|()| true),
    }
}

/// Bytes that a host call returns: where it put them, in memory that it asked this module for.
struct Returned {
    data: *mut u8,
    size: usize,
}

impl Returned {
    fn new() -> Returned {
        Returned { data: std::ptr::null_mut(), size: 0 }
    }

    fn into_bytes(self) -> Vec<u8> {
        if self.data.is_null() {
            return Vec::new();
        }
        // SAFETY: the host wrote `size` bytes to memory that it got from the SDK's `proxy_on_memory_allocate`, which
        // is a boxed slice of exactly that size, and has handed it over.
        unsafe { Vec::from_raw_parts(self.data, self.size, self.size) }
    }
}

/// Writes a line to the proxy's log. A failure has nowhere to go.
pub fn log(level: log::Level, text: &str) {
    let level = match level {
        log::Level::Trace => 0,
        log::Level::Debug => 1,
        log::Level::Info => 2,
        log::Level::Warn => 3,
        log::Level::Error => 4,
    };
    // SAFETY: the pointer and the size are those of `text`, which the host only reads.
    let _ = unsafe { proxy_log(level, text.as_ptr(), text.len()) };
}

/// The wall clock, in unix nanoseconds.
pub fn now_ns() -> Result<u64, Failed> {
    let mut time = 0;
    // SAFETY: the host writes one u64.
    done(unsafe { proxy_get_current_time_nanoseconds(&mut time) })?;
    Ok(time)
}

/// Asks for ticks of the current root context.
pub fn set_tick_period(ms: u32) -> Result<(), Failed> {
    // SAFETY: no pointers.
    done(unsafe { proxy_set_tick_period_milliseconds(ms) })
}

/// The bytes of a buffer from `start` on, at most `most`.
pub fn buffer(kind: BufferType, start: usize, most: usize) -> Result<Vec<u8>, Failed> {
    let mut returned = Returned::new();
    // SAFETY: the host writes one pointer and one size.
    let status = unsafe { proxy_get_buffer_bytes(kind, start, most, &mut returned.data, &mut returned.size) };
    Ok(if found(status)? { returned.into_bytes() } else { Vec::new() })
}

/// A header map, as the host serialises it.
#[derive(Default)]
pub struct Pairs(Vec<u8>);

impl Pairs {
    /// How many there are, as the host says.
    pub fn count(&self) -> usize {
        let count = self.0.first_chunk::<4>().map_or(0, |count| u32::from_le_bytes(*count));
        // Each pair has at least its two sizes.
        usize::try_from(count).unwrap_or(0).min(self.0.len() / 8)
    }

    /// Names and values. What is not as it should be ends them.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (count, sizes) = self.0.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
        let count = usize::try_from(u32::from_le_bytes(*count)).unwrap_or(0);
        let (sizes, mut texts) = sizes.split_at_checked(count.saturating_mul(8)).unwrap_or((&[], &[]));
        let (sizes, _) = sizes.as_chunks::<4>();
        let mut text = move |size: &[u8; 4]| {
            let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
            let (text, rest) = texts.split_at_checked(size)?;
            // Every text is followed by a NUL.
            texts = rest.get(1..)?;
            Some(text)
        };
        sizes.chunks_exact(2).map_while(move |pair| match pair {
            [name, value] => Some((text(name)?, text(value)?)),
            _ => None,
        })
    }
}

/// Names and values as the host reads them: what [`Pairs`] reads.
fn pairs(headers: &[(&str, String)]) -> Vec<u8> {
    let size = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = size(headers.len()).to_vec();
    for (name, value) in headers {
        bytes.extend(size(name.len()));
        bytes.extend(size(value.len()));
    }
    for (name, value) in headers {
        for text in [*name, &**value] {
            bytes.extend(text.as_bytes());
            bytes.push(0);
        }
    }
    bytes
}

/// Answers the current stream, or the one that was made current, in place of the upstream.
pub fn send_response(status: u32, headers: &[(&str, String)], body: &str) -> Result<(), Failed> {
    /// The host takes the status for gRPC from the one for HTTP.
    const NO_GRPC_STATUS: i32 = -1;
    let headers = pairs(headers);
    // SAFETY: the pointers and sizes are those of nothing, `body` and `headers`, which the host only reads.
    done(unsafe {
        proxy_send_local_response(
            status,
            std::ptr::null(),
            0,
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            NO_GRPC_STATUS,
        )
    })
}

/// Makes a context the one that host calls are about, until the callback ends.
pub fn set_effective_context(id: u32) -> Result<(), Failed> {
    // SAFETY: no pointers.
    done(unsafe { proxy_set_effective_context(id) })
}

/// All headers of a map.
pub fn headers(kind: MapType) -> Result<Pairs, Failed> {
    let mut returned = Returned::new();
    // SAFETY: the host writes one pointer and one size.
    done(unsafe { proxy_get_header_map_pairs(kind, &mut returned.data, &mut returned.size) })?;
    Ok(Pairs(returned.into_bytes()))
}

/// The first header of that name.
pub fn header(kind: MapType, name: &str) -> Result<Option<Vec<u8>>, Failed> {
    let mut returned = Returned::new();
    // SAFETY: the pointer and the size are those of `name`, which the host only reads; it writes one pointer and one size.
    let status = unsafe {
        proxy_get_header_map_value(kind, name.as_ptr(), name.len(), &mut returned.data, &mut returned.size)
    };
    Ok(if found(status)? { Some(returned.into_bytes()) } else { None })
}

/// Removes all headers of that name.
pub fn remove_header(kind: MapType, name: &[u8]) -> Result<(), Failed> {
    // SAFETY: the pointer and the size are those of `name`, which the host only reads.
    done(unsafe { proxy_remove_header_map_value(kind, name.as_ptr(), name.len()) })
}

/// Sets a header of which there is none or one.
pub fn set_header(kind: MapType, name: &str, value: &[u8]) -> Result<(), Failed> {
    // SAFETY: the pointers and sizes are those of `name` and `value`, which the host only reads.
    done(unsafe {
        proxy_replace_header_map_value(kind, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

/// Adds a header to those that there are.
pub fn add_header(kind: MapType, name: &str, value: &[u8]) -> Result<(), Failed> {
    // SAFETY: the pointers and sizes are those of `name` and `value`, which the host only reads.
    done(unsafe { proxy_add_header_map_value(kind, name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// A property, by its names joined by NUL.
pub fn property(path: &[u8]) -> Result<Option<Vec<u8>>, Failed> {
    let mut returned = Returned::new();
    // SAFETY: `path` is only read; the host writes one pointer and one size.
    let status =
        unsafe { proxy_get_property(path.as_ptr(), path.len(), &mut returned.data, &mut returned.size) };
    Ok(if found(status)? { Some(returned.into_bytes()) } else { None })
}

/// Sets the filter state `wasm.<name>` of the current stream.
pub fn set_filter_state(name: &str, value: &str) -> Result<(), Failed> {
    // SAFETY: the pointers and sizes are those of `name` and `value`, which the host only reads.
    done(unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// An entry of shared data with its version; `None` where there is none.
pub fn shared_data(key: &str) -> Result<Option<(Vec<u8>, u32)>, Failed> {
    let mut returned = Returned::new();
    let mut version = 0;
    // SAFETY: `key` is only read; the host writes one pointer, one size and one version.
    let status = unsafe {
        proxy_get_shared_data(key.as_ptr(), key.len(), &mut returned.data, &mut returned.size, &mut version)
    };
    Ok(if found(status)? { Some((returned.into_bytes(), version)) } else { None })
}

/// Writes an entry of shared data: with a version only if it is still that one, with 0 in any case. `false`: somebody
/// else has written.
pub fn set_shared_data(key: &str, value: &[u8], version: u32) -> Result<bool, Failed> {
    // SAFETY: the pointers and sizes are those of `key` and `value`, which the host only reads.
    match unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), version) } {
        CAS_MISMATCH => Ok(false),
        status => done(status).map(|()| true),
    }
}

/// The id of a metric. Each call makes a new id: call once, keep it.
pub fn define_metric(kind: MetricType, name: &str) -> Result<u32, Failed> {
    let mut id = 0;
    // SAFETY: `name` is only read; the host writes one id.
    done(unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &mut id) })?;
    Ok(id)
}

/// Adds to a counter; the host refuses 0.
pub fn increment_metric(id: u32, by: i64) -> Result<(), Failed> {
    // SAFETY: no pointers.
    done(unsafe { proxy_increment_metric(id, by) })
}

/// Sets a gauge.
pub fn record_metric(id: u32, value: u64) -> Result<(), Failed> {
    // SAFETY: no pointers.
    done(unsafe { proxy_record_metric(id, value) })
}

/// Has the route picked anew. Header writes do so by themselves; filter state alone does not.
pub fn clear_route_cache() -> Result<(), Failed> {
    const NAME: &str = "clear_route_cache";
    let mut returned = Returned::new();
    // SAFETY: `NAME` is only read, the argument is empty; the host writes one pointer and one size.
    done(unsafe {
        proxy_call_foreign_function(
            NAME.as_ptr(),
            NAME.len(),
            std::ptr::null(),
            0,
            &mut returned.data,
            &mut returned.size,
        )
    })?;
    drop(returned.into_bytes());
    Ok(())
}

/// Sends a request to `cluster`; the reply comes to the current root context. That it cannot be sent is no failure of the
/// host's, and not counted: the cluster is not there, or has no healthy host, or its circuit breaker is open.
pub fn call(
    cluster: &str,
    headers: Vec<(&str, &str)>,
    body: Option<&[u8]>,
    timeout: Duration,
) -> Result<u32, Failed> {
    hostcalls::dispatch_http_call(cluster, headers, body, Vec::new(), timeout)
        .map_err(|status| Failed(status as u32))
}

// The module's entry point. The SDK's macro writes the `unsafe` that calls the constructors.
proxy_wasm::main! {{
    super::start();
}}
