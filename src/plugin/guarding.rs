//! How guards reach what the VMs of a process share, and how a stream tells them how its request ended.

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
    headers_us: Option<u64>,
}

impl Watched {
    /// A request whose headers have just come.
    pub fn new(exposures: Vec<Exposure>, nature: Nature) -> Watched {
        let start_ns = host::now_ns().unwrap_or(0);
        Watched { exposures, nature, start_ns, headers_us: None }
    }

    /// The response's headers have come.
    pub fn response(&mut self) {
        self.headers_us = Some(self.age_us());
    }

    fn age_us(&self) -> u64 {
        host::now_ns().unwrap_or(0).saturating_sub(self.start_ns) / 1_000
    }

    /// How it ended. Resets, time-outs and what fails in mid-body show only now.
    pub fn ended(&self) -> Ended {
        let status = number(b"response\0code").and_then(|code| u16::try_from(code).ok());
        let grpc_status = if self.nature.is_grpc { number(b"response\0grpc_status") } else { None };
        Ended {
            status: status.filter(|status| *status > 0),
            flags: number(b"response\0flags").unwrap_or(0),
            grpc_status: grpc_status.and_then(|status| u8::try_from(status).ok()),
            headers_us: self.headers_us,
            total_us: self.age_us(),
            is_upgrade: self.nature.is_upgrade,
        }
    }
}

/// A property that is a whole number.
fn number(path: &[u8]) -> Option<u64> {
    let bytes = host::property(path).ok().flatten()?;
    bytes.try_into().ok().map(u64::from_le_bytes)
}
