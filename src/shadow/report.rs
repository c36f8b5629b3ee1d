//! What is known of a shadow, as a JSON document on the plugin's own path.

use std::fmt::Write;

use crate::json::quoted;
use crate::ofrep::Answer;
use crate::policy::Policy;
use crate::shadow::print::{Seen, SeenKind};
use crate::shadow::record::{Found, Record};
use crate::shadow::{Comparison, Shadow};

/// Where the documents lie: `/.mulkko/shadow/<rollout>`.
const PREFIX: &[u8] = b"/.mulkko/shadow/";
/// The most fields that a document tells.
const MAX_FIELDS: usize = 32;

/// The rollout whose document is asked for with this path, if one is.
#[must_use]
pub fn asked(path: &[u8]) -> Option<&str> {
    let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
    str::from_utf8(path.strip_prefix(PREFIX)?).ok()
}

/// The answer to who asks for the document of a rollout of `policy`.
#[must_use]
pub fn answer(
    policy: Option<&Policy>,
    rollout: &str,
    record: impl FnOnce() -> Option<Record>,
    now_ms: i64,
) -> Answer {
    let found = policy.and_then(|policy| policy.rollout_named(rollout)).and_then(|(_, found)| {
        let shadow = found.shadow.as_deref()?;
        Some((shadow, shadow.comparison.as_deref()?))
    });
    let (status, body) = match found {
        Some((shadow, comparison)) => {
            (200, document(rollout, shadow, comparison, &record().unwrap_or_default(), now_ms))
        }
        None => (404, format!("{{\"error\":{}}}", quoted("no such rollout, or it compares nothing"))),
    };
    Answer::json(status, body + "\n").with("cache-control", "no-store")
}

fn document(rollout: &str, shadow: &Shadow, comparison: &Comparison, record: &Record, now_ms: i64) -> String {
    let totals = &record.totals;
    let seconds =
        if record.began_ms == 0 { 0 } else { now_ms.saturating_sub(record.began_ms).max(0) / 1_000 };
    let noise = if comparison.secondary.is_some() { "cancelled" } else { "not cancelled" };
    let secondary = comparison.secondary.as_ref().map_or("null".to_owned(), |it| quoted(&it.cluster));
    let mean_us = |us: u64| us.checked_div(totals.compared).unwrap_or(0);
    let (primary_us, shadow_us) = (mean_us(totals.primary_us), mean_us(totals.candidate_us));
    let sign = if shadow_us < primary_us { "-" } else { "" };
    let mut text = format!(
        "{{\n  \"rollout\": {},\n  \"cluster\": {},\n  \"secondary\": {secondary},\n  \"noise\": \"{noise}\",\n  \
         \"seconds\": {seconds},\n  \"compared\": {},\n  \"paired\": {},\n  \"equal\": {},\n  \
         \"bodiesNotCompared\": {},\n  \"meanMilliseconds\": {{\"primary\": {}, \"shadow\": {}, \"difference\": {sign}{}}},\n  \"fields\": [",
        quoted(rollout),
        quoted(&shadow.cluster),
        totals.compared,
        totals.paired,
        totals.equal,
        totals.unknown_bodies,
        thousandths(primary_us),
        thousandths(shadow_us),
        thousandths(shadow_us.abs_diff(primary_us)),
    );
    let mut worst: Vec<&Found> = record.fields.iter().filter(|found| found.seen.tally.raw > 0).collect();
    worst.sort_by(|a, b| {
        let by_evidence = b.evidence.log_e().total_cmp(&a.evidence.log_e());
        b.differs.cmp(&a.differs).then(by_evidence).then(b.seen.tally.raw.cmp(&a.seen.tally.raw))
    });
    for (i, found) in worst.iter().take(MAX_FIELDS).enumerate() {
        text.push_str(if i == 0 { "\n    " } else { ",\n    " });
        field(found, comparison, totals.paired, &mut text);
    }
    let more = worst.len().saturating_sub(MAX_FIELDS);
    // Writing to a String does not fail.
    let _ = write!(text, "\n  ],\n  \"fieldsLeftOut\": {more}\n}}");
    text
}

fn field(found: &Found, comparison: &Comparison, paired: u64, text: &mut String) {
    let Found { seen, evidence, differs } = found;
    let tally = seen.tally;
    let [primary, candidate] = &seen.example;
    let _ = write!(
        text,
        "{{\"kind\": \"{}\", \"name\": {}, \"differs\": {differs}, \"evidence\": {:.3}, \"different\": {}",
        seen.kind.as_str(),
        quoted(&seen.name),
        evidence.log_e() / std::f64::consts::LN_10,
        tally.raw,
    );
    if comparison.secondary.is_some() {
        let diffy = tally.diffy(paired);
        let _ = write!(
            text,
            ", \"onlyShadow\": {}, \"onlySecondary\": {}, \"both\": {}, \"relativePercent\": {:.2}, \"absolutePercent\": {:.2}",
            tally.only_candidate, tally.only_secondary, tally.both, diffy.relative, diffy.absolute,
        );
    }
    let _ = write!(
        text,
        ", \"example\": {{\"primary\": {}, \"shadow\": {}}}}}",
        quoted(&told(primary)),
        quoted(&told(candidate))
    );
}

/// Microseconds as milliseconds.
fn thousandths(us: u64) -> String {
    format!("{}.{:03}", us / 1_000, us % 1_000)
}

/// What is told of a value: what it is and how long, and itself where the policy says so.
fn told(seen: &Seen) -> String {
    let kind = match seen.kind {
        SeenKind::Missing => return "missing".to_owned(),
        SeenKind::Status => return seen.bytes.to_string(),
        SeenKind::Other => return "another".to_owned(),
        SeenKind::Null => return "null".to_owned(),
        SeenKind::Array => return "[]".to_owned(),
        SeenKind::Object => return "{}".to_owned(),
        SeenKind::Header => "header",
        SeenKind::Bytes => "body",
        SeenKind::Json => "JSON",
        SeenKind::Boolean => "boolean",
        SeenKind::Number => "number",
        SeenKind::Text => "text",
    };
    match &seen.text {
        Some(text) => format!("{kind} {text}"),
        None => format!("{kind} of {} bytes", seen.bytes),
    }
}
