//! Traffic to decide for: keys that somebody has, in requests that rollouts match, or the requests of an access log.

mod access_log;
mod keys;
mod parallel;
mod sample;
mod template;

pub use access_log::{AccessLog, FromClient, Logged};
pub use keys::Keys;
pub use parallel::{Source, tally};
pub use sample::{Sample, applies, candidates, samples};
pub use template::Template;
