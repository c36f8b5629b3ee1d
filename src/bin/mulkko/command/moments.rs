//! Instants and durations as they are written on a command line, and as they are told.

use std::time::{SystemTime, UNIX_EPOCH};

use mulkko::moment::{Duration, Instant};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// An instant of an option, in unix milliseconds: RFC 3339.
pub fn instant(text: &str) -> Result<i64, String> {
    Instant::parse(text).map(Instant::unix_ms).map_err(|problem| problem.to_string())
}

/// A duration of an option, as policies write it.
pub fn duration(text: &str) -> Result<Duration, String> {
    Duration::parse(text).map_err(|problem| problem.to_string())
}

/// The wall clock, in unix milliseconds.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// `2026-12-01T09:00:00Z`
pub fn told(unix_ms: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000);
    let text = at.ok().and_then(|at| at.format(&Rfc3339).ok());
    text.unwrap_or_else(|| format!("{unix_ms} ms after 1970"))
}
