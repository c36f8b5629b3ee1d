//! The plugin: carries host calls to the engine and effects to the host.
//!
//! Nothing here decides: what a policy means is the engine's, when to fetch is [`crate::update`]'s and
//! [`crate::lease`]'s. Only [`host`] talks to the proxy.

mod fetching;
mod guarding;
mod host;
mod metrics;
mod ofrep;
mod reaching;
mod root;
mod shadowing;
mod shared;
mod shares;
mod stream;

use std::hash::{BuildHasher, Hasher, RandomState};

use proxy_wasm::traits::RootContext;

/// Called once per VM, before anything else.
fn start() {
    static LOG: HostLog = HostLog;
    if log::set_logger(&LOG).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
    std::panic::set_hook(Box::new(|panic| host::log(log::Level::Error, &format!("mulkko: {panic}"))));
    proxy_wasm::set_root_context(|id| -> Box<dyn RootContext> { Box::new(root::Root::new(id)) });
}

/// The proxy's log.
struct HostLog;

impl log::Log for HostLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            host::log(record.level(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// A random number: the hash of nothing under keys that the standard library draws from the host.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The wall clock in unix milliseconds; 1970 where the host has none.
fn now_ms() -> i64 {
    i64::try_from(host::now_ns().unwrap_or(0) / 1_000_000).unwrap_or(0)
}
