//! Tables and figures as people read them.

use comfy_table::{CellAlignment, Table, presets};

/// A table with these heads.
pub fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heads.to_vec());
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if i == 0 { 0 } else { 1 }, 1));
    }
    table
}

/// The table, its figures to the right.
pub fn indented(table: &Table) -> String {
    let mut table = table.clone();
    let cells: Vec<Vec<String>> =
        table.row_iter().map(|row| row.cell_iter().map(|it| it.content()).collect()).collect();
    for (i, column) in table.column_iter_mut().enumerate() {
        let is_figure = |row: &Vec<String>| {
            row.get(i).is_some_and(|it| it.ends_with('%') || it.starts_with(|c: char| c.is_ascii_digit()))
        };
        if i > 0 && cells.iter().any(is_figure) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string().lines().map(|line| format!("  {}\n", line.trim_end())).collect()
}

/// `25.01 %`
pub fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// `1,000,000`
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
