//! When a key moves from one variant to another.

use mulkko::bucket::Bucket;
use mulkko::policy::Rollout;
use serde::Serialize;

use super::super::moments;

/// That a key gets a variant from an instant on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub variant: String,
    /// `None`: since ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(skip)]
    pub from_ms: i64,
}

/// The variants of a bucket, in the order of time, as the schedule stands.
pub fn of(rollout: &Rollout, bucket: Bucket) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    let instants = rollout.schedule.changes();
    for from_ms in std::iter::once(i64::MIN).chain(instants) {
        let variant = rollout.schedule.at(from_ms).variant(bucket);
        let variant = rollout.variant(variant).map_or("", |it| &it.name).to_owned();
        if changes.last().is_none_or(|last| last.variant != variant) {
            let from = (from_ms != i64::MIN).then(|| moments::told(from_ms));
            changes.push(Change { variant, from, from_ms });
        }
    }
    changes
}

/// What of it is to come, or came last: `canary since …`, `canary from … on`, `stable for good`.
pub fn told(changes: &[Change], now_ms: i64) -> String {
    let is_past = |change: &&Change| change.from_ms <= now_ms;
    let Some(now) = changes.iter().take_while(is_past).last() else { return String::new() };
    let since = now.from.as_ref().map_or(String::new(), |from| format!(" since {from}"));
    let next: Vec<String> = changes
        .iter()
        .skip_while(is_past)
        .map(|change| format!("{} from {} on", change.variant, change.from.as_deref().unwrap_or_default()))
        .collect();
    match &next[..] {
        [] if since.is_empty() => format!("{} at any time, as the schedule stands", now.variant),
        [] => format!("{}{since}, for good", now.variant),
        next => format!("{}{since}, {}", now.variant, next.join(", ")),
    }
}
