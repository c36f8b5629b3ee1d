//! An explanation as people read it.

use super::super::output::{FAINT, STRONG, painted};
use super::expression::short;
use super::{Explanation, OfDecision, OfFlag, conditions, timeline};

/// The most rollouts that do not match of which is told.
const MOST_UNMATCHED: usize = 20;

/// All of it.
pub fn text(told: &Explanation) -> String {
    let mut text = head(told);
    for decision in &told.decisions {
        text += &of_decision(decision, told.at_ms);
    }
    for it in told.unmatched.iter().take(MOST_UNMATCHED) {
        let because = it.because.join("; ");
        text += &format!("\n{} does not match: {because}\n", painted(STRONG, &it.rollout));
    }
    if let Some(more @ 1..) = told.unmatched.len().checked_sub(MOST_UNMATCHED) {
        text += &format!("\nand {more} more that do not match\n");
    }
    text.extend(told.flags.iter().map(of_flag));
    text + &effects(told)
}

fn head(told: &Explanation) -> String {
    let request = &told.request;
    let host = request.headers.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = host.map_or_else(String::new, |(_, host)| format!(" of {host}"));
    let policy = told.policy.as_ref().map_or_else(String::new, |name| format!("{name} "));
    format!(
        "{} {}{host} at {}, policy {policy}revision {}\n",
        request.method, request.path, told.at, told.revision
    )
}

fn of_decision(decision: &OfDecision, at_ms: i64) -> String {
    let handed_on = if decision.applies { "" } else { ", handed on" };
    let mut text = format!(
        "\n{} → {} {}{handed_on}\n",
        painted(STRONG, &decision.rollout),
        painted(STRONG, &decision.variant),
        decision.reason
    );
    for step in &decision.steps {
        text += &line(step.step, &step.ended);
        text.extend(step.condition.iter().map(|it| of_condition(it, 12)));
    }
    if decision.schedule.len() > 1 {
        text += &line("schedule", &timeline::told(&decision.schedule, at_ms));
    }
    text
}

fn line(what: &str, told: &str) -> String {
    format!("  {what:<9} {told}\n")
}

fn of_condition(told: &conditions::Told, indent: usize) -> String {
    let saw: Vec<String> =
        told.saw.iter().map(|(what, value)| format!("{what} is {}", short(&value.to_string()))).collect();
    let saw =
        if saw.is_empty() { String::new() } else { painted(FAINT, format!(", where {}", saw.join(", "))) };
    let mut text =
        format!("{:indent$}{}: {}{saw}\n", "", short(&told.condition), short(&told.value.to_string()));
    text.extend(told.because.iter().map(|part| of_condition(part, indent + 2)));
    text
}

fn of_flag(flag: &OfFlag) -> String {
    let value = flag.value.as_ref().map_or("the caller's own default", |value| value.get());
    let variant = flag.variant.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
    let mut text = format!(
        "\n{} {} = {}{variant} {}\n",
        "flag",
        painted(STRONG, flag.flag.escape_debug()),
        short(value),
        flag.reason
    );
    text.extend(flag.targeting.iter().map(|it| of_condition(it, 2)));
    text
}

/// What happens to the request and its response.
fn effects(told: &Explanation) -> String {
    let headers = told.headers.iter().map(|header| match &header.value {
        Some(value) => format!("  {}: {value}\n", header.name),
        None => format!("  {} is removed\n", header.name),
    });
    let headers: String = headers.collect();
    let headers = if headers.is_empty() {
        "nothing changes\n".to_owned()
    } else {
        format!("headers upstream\n{headers}")
    };
    let cookies: String = told.cookies.iter().map(|cookie| format!("  set-cookie: {cookie}\n")).collect();
    let cookies = if cookies.is_empty() { cookies } else { format!("response\n{cookies}") };
    format!("\n{headers}{cookies}")
}
