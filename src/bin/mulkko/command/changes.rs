//! What an edit changes, shown before it is signed and pushed; and the question whether it may be.

use std::borrow::Cow;
use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use similar::{ChangeTag, TextDiff};

use super::output::{ERROR, FAINT, GOOD, STRONG, painted};

/// The most lines of a change that are shown, and characters of each.
const MOST_LINES: usize = 200;
const MOST_CHARS: usize = 200;
/// How far a line is indented, in levels.
const MOST_DEPTH: usize = 32;
/// How long the smallest difference is looked for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether to ask.
#[derive(Args, Clone, Debug)]
pub struct Ask {
    /// Do not ask on a terminal whether the change may be pushed
    #[arg(long)]
    yes: bool,
}

impl Ask {
    /// Shows a change on standard error, and asks on a terminal whether to `act`.
    ///
    /// # Errors
    /// When the answer is no.
    pub fn about(&self, change: &str, act: &str) -> Result<()> {
        anstream::eprint!("{change}");
        if self.yes || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Ok(());
        }
        anstream::eprint!("{} [y/N] ", painted(STRONG, act));
        io::stderr().flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => bail!("nothing is pushed"),
        }
    }
}

/// The lines that differ, with those around them, of two JSON documents. Those that lie in long lines are laid out first.
pub fn shown(before: (&str, &str), after: (&str, &str)) -> String {
    let is_long = [before.1, after.1].iter().any(|it| it.lines().any(|line| line.len() > MOST_CHARS));
    let [old, new] = [before.1, after.1].map(|it| if is_long { laid_out(it).into() } else { Cow::from(it) });
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(&*old, &*new);
    let mut lines = vec![format!("--- {}", before.0), format!("+++ {}", after.0)];
    let mut left_out = 0;
    for hunk in diff.unified_diff().iter_hunks() {
        for change in hunk.iter_changes() {
            if lines.len() > MOST_LINES {
                left_out += 1;
                continue;
            }
            let text = visible(change.value().trim_end_matches(['\r', '\n']));
            lines.push(match change.tag() {
                ChangeTag::Delete => painted(ERROR, format_args!("-{text}")),
                ChangeTag::Insert => painted(GOOD, format_args!("+{text}")),
                ChangeTag::Equal => format!(" {text}"),
            });
        }
    }
    if left_out > 0 {
        lines.push(painted(FAINT, format_args!("… {left_out} lines more")));
    }
    lines.join("\n") + "\n"
}

/// A JSON document with a line for each member and item. Nothing but white space differs, which is why no library's is used:
/// they sort members, or write numbers anew.
fn laid_out(json: &str) -> String {
    let (mut text, mut depth, mut in_string, mut is_escaped) = (String::new(), 0_usize, false, false);
    let newline = |depth: usize| format!("\n{}", "  ".repeat(depth.min(MOST_DEPTH)));
    for char in json.chars() {
        if in_string {
            text.push(char);
            in_string = is_escaped || char != '"';
            is_escaped = char == '\\' && !is_escaped;
            continue;
        }
        match char {
            '{' | '[' => {
                depth += 1;
                text += &format!("{char}{}", newline(depth));
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                text += &format!("{}{char}", newline(depth));
            }
            ',' => text += &format!(",{}", newline(depth)),
            ':' => text += ": ",
            _ if char.is_ascii_whitespace() => {}
            _ => {
                text.push(char);
                in_string = char == '"';
            }
        }
    }
    text
}

/// A line without what would steer a terminal, and not too long for one.
fn visible(line: &str) -> String {
    let mut chars = line.chars();
    let mut text: String = chars
        .by_ref()
        .take(MOST_CHARS)
        .map(|char| if char.is_control() && char != '\t' { char::REPLACEMENT_CHARACTER } else { char })
        .collect();
    if chars.next().is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_with_its_lines_and_steers_no_terminal() {
        let old = "{\n  \"revision\": 1,\n  \"name\": \"a\u{9b}31m\"\n}\n";
        let new = old.replace('1', "2");
        let shown = shown(("a, revision 1", old), ("a, revision 2", &new));
        let plain = anstream::adapter::strip_str(&shown).to_string();
        let expected = "--- a, revision 1\n+++ a, revision 2\n {\n-  \"revision\": 1,\n-  \"name\": \"a�31m\"\n\
                        +  \"revision\": 2,\n+  \"name\": \"a�32m\"\n }\n";
        assert_eq!(plain, expected);
    }

    #[test]
    fn a_document_in_one_line_is_laid_out() {
        let filler = "x".repeat(300);
        let old = format!(r#"{{"z":1.50,"a":["\",{{",{{}},"{filler}"]}}"#);
        let shown = shown(("a", &old), ("b", &old.replace("1.50", "2")));
        let plain = anstream::adapter::strip_str(&shown).to_string();
        let expected = "--- a\n+++ b\n {\n-  \"z\": 1.50,\n+  \"z\": 2,\n   \"a\": [\n     \"\\\",{\",\n";
        assert!(plain.starts_with(expected), "{plain}");
    }

    #[test]
    fn a_long_change_is_cut() {
        let document = |end: &str| {
            format!("[{}]", (0..1_000).map(|i| format!("\"{i}{end}\"")).collect::<Vec<_>>().join(","))
        };
        let shown = shown(("a", &document("")), ("b", &document(&"x".repeat(1_000))));
        assert!(shown.lines().count() <= MOST_LINES + 2, "{}", shown.lines().count());
        assert!(
            shown.lines().all(|line| line.len() < MOST_CHARS + 50) && shown.contains("lines more"),
            "{shown}"
        );
    }
}
