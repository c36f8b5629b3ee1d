//! What is over.

use super::{Lint, Warnings};
use crate::finding::Path;
use crate::policy::Policy;
use crate::schedule::Schedule;
use crate::wire::{Document, State, Strategy};

pub fn lint(document: &Document, policy: &Policy, now_ms: i64, warnings: &mut Warnings) {
    let rollouts = Path::Root.field("rollouts");
    let compiled = document.rollouts.iter().flatten().zip(&policy.rollouts).enumerate();
    for (i, (rollout, compiled)) in compiled.filter(|(_, (rollout, _))| rollout.state == State::Enabled) {
        let place = rollouts.item(i);
        let place = place.field("strategy");
        of_strategy(&rollout.strategy, &compiled.schedule, now_ms, &place, warnings);
    }
}

fn of_strategy(
    strategy: &Strategy,
    schedule: &Schedule,
    now_ms: i64,
    place: &Path<'_>,
    warnings: &mut Warnings,
) {
    let mut report = |place: &Path<'_>, message: String| warnings.report(Lint::PastStep, place, message);
    match schedule {
        Schedule::Steps { steps, .. } if strategy.canary.as_ref().is_some_and(|it| it.steps.is_some()) => {
            // A step is over when the next has begun.
            let begun = steps.iter().filter(|step| step.from_ms <= now_ms).count();
            if let Some(last_over) = begun.checked_sub(2) {
                let all = steps.len();
                let message = match last_over {
                    0 => format!("is over: step {begun} of {all} has begun"),
                    _ => format!("is over, with all before it: step {begun} of {all} has begun"),
                };
                report(&place.field("canary").field("steps").item(last_over), message);
            }
        }
        Schedule::Steps { steps, .. } => {
            let blue_green = strategy.blue_green.as_ref();
            let has_begun = steps.first().is_some_and(|step| step.from_ms <= now_ms);
            if let Some(it) = blue_green.filter(|it| it.at.is_some() && has_begun) {
                let message = format!("is over: everybody has `{}`", it.active);
                report(&place.field("blueGreen").field("at"), message);
            }
        }
        Schedule::Batches { start_ms, batches, every_ms, .. } => {
            let last = i64::try_from(batches.saturating_sub(1)).unwrap_or(i64::MAX);
            if start_ms.saturating_add(last.saturating_mul(*every_ms)) <= now_ms {
                report(&place.field("rolling").field("start"), "is over: all batches have moved".to_owned());
            }
        }
        Schedule::Between { end_ms, .. } if *end_ms <= now_ms => {
            report(&place.field("ab").field("end"), "is over: everybody has the default".to_owned());
        }
        Schedule::Between { .. } => {}
    }
}
