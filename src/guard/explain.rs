//! How a guard stands, for who asks with a pass.

use std::fmt::Write;

use crate::guard::record::{Case, Record};
use crate::guard::terms::Guard;
use crate::guard::verdicts::RolledBack;
use crate::policy::{Rollout, RolloutId};

/// A member of a dictionary of RFC 9651: the variants that are compared with the default, each with its case.
/// `checkout-v2=("canary";state=hold;errors=1.204;latency=-0.301;p=0.062;failed=3;of=41;default-failed=1;default-of=802)`
pub fn rollout(
    id: RolloutId,
    rollout: &Rollout,
    record: &Record,
    rolled_back: &RolledBack,
    now_ms: i64,
) -> Option<String> {
    let guard = rollout.guard.as_ref()?;
    let mut text = format!("{}=(", rollout.name);
    for (i, variant) in guard.compared.iter().enumerate() {
        let name = &rollout.variant(*variant)?.name;
        let case = record.case(name).copied().unwrap_or_default();
        let state = if rolled_back.has(id, *variant) { "rolled-back" } else { case.state.as_str() };
        // Writing to a String does not fail.
        let _ = write!(text, "{}\"{name}\";state={state}", if i > 0 { " " } else { "" });
        figures(&case, guard, &mut text);
    }
    text.push(')');
    if rollout.is_idle(now_ms) {
        text.push_str(";idle");
    }
    Some(text)
}

/// Evidence as decimal logarithms, and what it rests on.
fn figures(case: &Case, guard: &Guard, text: &mut String) {
    // Decimals and integers as RFC 9651 can hold them.
    let decimal = |log_e: f64| (log_e / std::f64::consts::LN_10).clamp(-1e6, 1e6);
    if let Some(log_e) = case.errors(guard) {
        let _ = write!(text, ";errors={:.3}", decimal(log_e));
    }
    if let Some(log_e) = case.latency(guard) {
        let _ = write!(text, ";latency={:.3}", decimal(log_e));
    }
    let ([own, ..], [default, ..]) = (&case.own, &case.default);
    // Rounded up: never shown as impossible.
    let _ = write!(text, ";p={:.3}", (case.p(guard) * 1e3).ceil() / 1e3);
    if guard.errors.is_some() {
        let integer = |n: u64| n.min(999_999_999_999_999);
        let [bad, requests] = [own.bad, own.requests].map(integer);
        let _ = write!(text, ";failed={bad};of={requests}");
        let [bad, requests] = [default.bad, default.requests].map(integer);
        let _ = write!(text, ";default-failed={bad};default-of={requests}");
    }
}
