//! A simulation as people read it.

use super::super::output::{ERROR, FAINT, STRONG, painted};
use super::super::tables::{grouped, indented, percent, table};
use super::flags::OfFlag;
use super::{OfRollout, Simulation};

/// The heights of a column.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// How many columns a plot has.
const COLUMNS: i64 = 48;
/// The most overlaps that are shown: the largest.
const MOST_OVERLAPS: usize = 20;

pub fn text(simulation: &Simulation) -> String {
    let policy = simulation.policy.as_ref().map_or_else(String::new, |name| format!("{name} "));
    let keys = grouped(simulation.keys);
    let mut text =
        format!("{keys} keys at {}, policy {policy}revision {}\n", simulation.at, simulation.revision);
    text.extend(simulation.rollouts.iter().map(|it| of_rollout(it, simulation.range_ms)));
    for name in &simulation.without {
        text += &format!(
            "\n{}: no request was found that it matches; say one by --host, --path and -H\n",
            painted(STRONG, name)
        );
    }
    text.extend(simulation.flags.iter().map(of_flag));
    text + &overlaps(simulation)
}

fn of_flag(it: &OfFlag) -> String {
    let mut table = table(&["variant", "keys", "share"]);
    for share in &it.variants {
        let variant = share.variant.as_deref().unwrap_or("the caller's own default");
        table.add_row([variant.to_owned(), grouped(share.keys), percent(share.share)]);
    }
    let reasons: Vec<String> =
        it.reasons.iter().map(|(reason, keys)| format!("{reason} {}", grouped(*keys))).collect();
    let name = painted(STRONG, it.flag.escape_debug());
    let flag = painted(FAINT, "flag ");
    let mut text = format!("\n{flag}{name}\n{}  {}\n", indented(&table), reasons.join(", "));
    if it.exported && !it.has_key {
        text += "  upstream it goes without a targeting key: the policy has no `flagKey`\n";
    }
    text
}

fn of_rollout(it: &OfRollout, range_ms: (i64, i64)) -> String {
    let host = it.request.headers.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = host.map_or_else(String::new, |(_, host)| format!(" of {host}"));
    let request = painted(FAINT, format!("{} {}{host}", it.request.method, it.request.path));
    let mut table = table(&["variant", "keys", "share", "of the split", "intended"]);
    let total: u64 = it.variants.iter().map(|it| it.split).sum();
    for share in &it.variants {
        let split = if total == 0 { "-".to_owned() } else { percent(share.split as f64 / total as f64) };
        let row = [
            share.variant.clone(),
            grouped(share.keys),
            percent(share.share),
            split,
            percent(share.intended),
        ];
        table.add_row(row);
    }
    let reasons: Vec<String> =
        it.reasons.iter().map(|(reason, keys)| format!("{reason} {}", grouped(*keys))).collect();
    let mut text = format!(
        "\n{}  {request}\n{}  {}\n",
        painted(STRONG, &it.rollout),
        indented(&table),
        reasons.join(", ")
    );
    if it.nobody_is_eligible {
        text += "  no request meets `when`: -H, --property and their like say what it asks for\n";
    }
    if let Some(ratio) = it.sample_ratio {
        let verdict = format!("χ² = {:.2}, p = {:.2}", ratio.chi_squared, ratio.p);
        text += &match ratio.as_intended {
            true => format!("  the split is as intended ({verdict})\n"),
            false => format!(
                "  {}\n",
                painted(
                    ERROR,
                    format!(
                        "the split is not as intended (χ² = {:.1}, p = {:.1e})",
                        ratio.chi_squared, ratio.p
                    )
                )
            ),
        };
    }
    text + &over(it, range_ms)
}

/// Shares over time: a plot, and a table of the instants at which they change.
fn over(it: &OfRollout, (from_ms, to_ms): (i64, i64)) -> String {
    if it.over.is_empty() {
        return String::new();
    }
    let width = it.variants.iter().map(|it| it.variant.len()).max().unwrap_or(0);
    let mut text = "\n".to_owned();
    for (i, share) in it.variants.iter().enumerate() {
        let bars: String = (0..COLUMNS)
            .map(|column| {
                let at_ms = from_ms + (to_ms - from_ms) / COLUMNS * column;
                let rules = it.over.iter().rev().find(|since| since.at_ms <= at_ms).or(it.over.first());
                let share = rules.and_then(|since| since.shares.get(i)).copied().unwrap_or(0.0);
                bar(share)
            })
            .collect();
        text += format!("  {:width$} {bars}", share.variant).trim_end();
        text.push('\n');
    }
    let heads: Vec<&str> =
        std::iter::once("from").chain(it.variants.iter().map(|it| it.variant.as_str())).collect();
    let mut table = table(&heads);
    for since in &it.over {
        table.add_row(
            std::iter::once(since.at.clone()).chain(since.shares.iter().map(|share| percent(*share))),
        );
    }
    text + &indented(&table)
}

/// A column's height: nobody is told from few.
fn bar(share: f64) -> char {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 8")]
    let height = (share.clamp(0.0, 1.0) * 8.0).round().max(if share > 0.0 { 1.0 } else { 0.0 }) as usize;
    BARS.get(height).copied().unwrap_or(' ')
}

fn overlaps(simulation: &Simulation) -> String {
    if simulation.overlaps.is_empty() {
        return String::new();
    }
    let mut largest: Vec<_> = simulation.overlaps.iter().collect();
    largest.sort_by_key(|it| std::cmp::Reverse(it.keys));
    let mut table = table(&["away from the default in", "and in", "keys", "share", "if independent"]);
    for it in largest.iter().take(MOST_OVERLAPS) {
        let [a, b] = it.rollouts.clone();
        let of_all = |keys: f64| percent(keys / simulation.keys as f64);
        table.add_row([a, b, grouped(it.keys), of_all(it.keys as f64), of_all(it.independent)]);
    }
    let more = match largest.len().checked_sub(MOST_OVERLAPS) {
        Some(more @ 1..) => format!("  and {} more\n", grouped(more as u64)),
        _ => String::new(),
    };
    format!("\n{}\n{}{more}", painted(STRONG, "overlap"), indented(&table))
}
