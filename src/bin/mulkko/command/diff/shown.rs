//! A difference as people read it.

use super::super::output::{ERROR, FAINT, GOOD, STRONG, painted};
use super::super::tables::{grouped, indented, percent, table};
use super::moves::{Change, Kind};
use super::names::What;
use super::{Difference, Named};

pub fn text(it: &Difference) -> String {
    let named = |it: &Named| format!("{} (revision {})", it.file, it.revision);
    let mut text = format!(
        "{} → {}: {} {} at {}\n",
        named(&it.old),
        named(&it.new),
        grouped(it.count),
        it.traffic,
        it.at
    );
    let most = if it.is_read() { "" } else { ", more than do" };
    match it.unread {
        0 => {}
        1 => text += "1 line of the access log tells no request\n",
        many => text += &format!("{} lines of the access log tell no request{most}\n", grouped(many)),
    }
    let is_still = |change: &&Change| matches!(change.kind, Kind::Unchanged | Kind::Unknown);
    text.extend(
        it.changes.iter().filter(|change| !is_still(change)).map(|change| of_change(change, it.traffic)),
    );
    let unchanged = it.changes.iter().filter(|it| it.kind == Kind::Unchanged);
    let names: Vec<&str> =
        unchanged.clone().filter(|it| it.later.is_none()).map(|it| it.name.as_str()).collect();
    if !names.is_empty() {
        text += &format!("\n{}: nobody moves\n", names.join(", "));
    }
    for change in unchanged {
        text.extend(change.later.iter().map(|later| {
            format!("\n{}: nobody moves now; its shares are others from {later} on\n", change.name)
        }));
    }
    text + &unknown(it)
}

/// What is not known.
fn unknown(it: &Difference) -> String {
    let lines = it.changes.iter().flat_map(|change| {
        change.unknown.iter().map(|it| format!("  {}: {}\n", painted(STRONG, &change.name), it.lacks))
    });
    let lines: String = lines.collect();
    if lines.is_empty() {
        return lines;
    }
    format!("\n{}\n{lines}", painted(ERROR, "who moves is not known:"))
}

fn of_change(change: &Change, traffic: &str) -> String {
    let told = match change.kind {
        Kind::Grows => painted(GOOD, "grows: keys leave the default, and none comes back"),
        Kind::Shrinks => painted(GOOD, "shrinks: keys come back to the default, and none leaves it"),
        Kind::Shifts => painted(ERROR, "shifts: keys move between variants"),
        Kind::Reshuffles => painted(ERROR, "reshuffles: keys move both ways between the same variants"),
        Kind::Added => "is new to these".to_owned(),
        Kind::Removed => "leaves these".to_owned(),
        Kind::Unchanged | Kind::Unknown => String::new(),
    };
    let what = if change.what == What::Flag { painted(FAINT, "flag ") } else { String::new() };
    let by_keys = change.moves.iter().any(|it| it.keys.is_some());
    let heads = ["from", "to", traffic, "share"].into_iter().chain(by_keys.then_some("of keys"));
    let mut table = table(&heads.collect::<Vec<_>>());
    let total: u64 = change.unchanged + change.moves.iter().map(|it| it.count).sum::<u64>();
    for it in &change.moves {
        let name = |variant: &Option<String>| variant.clone().unwrap_or_else(|| "-".to_owned());
        let share = percent(it.count as f64 / total as f64);
        let keys = it.keys.map(|keys| grouped(keys as u64));
        table.add_row([name(&it.from), name(&it.to), grouped(it.count), share].into_iter().chain(keys));
    }
    format!("\n{what}{} {told}\n{}", painted(STRONG, &change.name), indented(&table))
}
