//! How guards reach what the VMs of a process share, and how a stream tells them how its request ended.

use proxy_wasm::types::MapType;

use crate::guard::{Ended, Exposure, Nature, Process, Series};
use crate::plugin::host;
use crate::plugin::metrics::Metrics;

/// The memory and the metrics of the process.
pub struct Host<'m>(pub &'m Metrics);

impl Process for Host<'_> {
    fn read(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        host::shared_data(key).ok().flatten()
    }

    fn write(&self, key: &str, value: &[u8], version: u32) -> bool {
        host::set_shared_data(key, value, version) == Ok(true)
    }

    fn add(&self, series: &Series<'_>, by: u64) {
        if let (1.., Ok(by), Some(id)) = (by, i64::try_from(by), self.0.guard(series)) {
            let _ = host::increment_metric(id, by);
        }
    }

    fn show(&self, series: &Series<'_>, value: u64) {
        if let Some(id) = self.0.guard(series) {
            let _ = host::record_metric(id, value);
        }
    }

    fn show_idle(&self, rollout: &str, is_idle: bool) {
        self.0.guard_idle(rollout, is_idle);
    }
}

/// A request that counts for guards.
pub struct Watched {
    /// The decisions that count.
    pub exposures: Vec<Exposure>,
    nature: Nature,
    start_ns: u64,
    /// The response's status, once its headers have come, and how long they took.
    status: Option<u16>,
    headers_us: Option<u64>,
    /// Whether the response has come to its end.
    is_whole: bool,
}

impl Watched {
    /// A request whose headers have come at this time, in unix nanoseconds.
    pub fn new(exposures: Vec<Exposure>, nature: Nature, start_ns: u64) -> Watched {
        Watched { exposures, nature, start_ns, status: None, headers_us: None, is_whole: false }
    }

    /// The response's headers have come.
    pub fn response(&mut self) {
        self.headers_us = Some(self.age_us());
        let status = host::header(MapType::HttpResponseHeaders, ":status").ok().flatten();
        self.status = status.and_then(|status| std::str::from_utf8(&status).ok()?.parse().ok());
    }

    /// The response has come to its end.
    pub fn whole(&mut self) {
        self.is_whole = true;
    }

    /// When its response came, in unix milliseconds, or when it came itself.
    pub fn answered_ms(&self) -> i64 {
        let after_ms = self.headers_us.unwrap_or(0) / 1_000;
        i64::try_from(self.start_ns / 1_000_000 + after_ms).unwrap_or(0)
    }

    fn age_us(&self) -> u64 {
        host::now_ns().unwrap_or(0).saturating_sub(self.start_ns) / 1_000
    }

    /// How it ended. Resets, time-outs and what fails in mid-body show only now.
    pub fn ended(&self) -> Ended {
        // Asking the host is what a guard costs. A response that is whole and no error has no flag that says otherwise.
        let is_fine = self.is_whole && matches!(self.status, Some(200..=399));
        let status = || number(b"response\0code").and_then(|code| u16::try_from(code).ok());
        let grpc_status = if self.nature.is_grpc { number(b"response\0grpc_status") } else { None };
        Ended {
            status: if is_fine { self.status } else { status().filter(|status| *status > 0) },
            flags: if is_fine { 0 } else { number(b"response\0flags").unwrap_or(0) },
            grpc_status: grpc_status.and_then(|status| u8::try_from(status).ok()),
            headers_us: self.headers_us,
            total_us: self.headers_us.unwrap_or_else(|| self.age_us()),
            is_upgrade: self.nature.is_upgrade,
        }
    }
}

/// A property that is a whole number.
pub fn number(path: &[u8]) -> Option<u64> {
    let bytes = host::property(path).ok().flatten()?;
    bytes.try_into().ok().map(u64::from_le_bytes)
}
