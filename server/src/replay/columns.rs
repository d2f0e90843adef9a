//! Tables for a person's eyes.

use std::fmt::Write as _;

/// Adds a table with columns as wide as their widest entry, two blanks between. The first `text_columns` are text and
/// stand at the left, the others are numbers and stand at the right.
pub(super) fn write<const N: usize>(
    text: &mut String,
    head: [&str; N],
    text_columns: usize,
    rows: &[[String; N]],
) {
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    write_row(text, &widths, text_columns, head.iter().copied());
    for row in rows {
        let cells = row.iter().map(String::as_str);
        write_row(text, &widths, text_columns, cells);
    }
}

fn write_row<'a>(
    text: &mut String,
    widths: &[usize],
    text_columns: usize,
    cells: impl Iterator<Item = &'a str>,
) {
    let mut row = String::new();
    for (column, (cell, width)) in cells.zip(widths).enumerate() {
        let written = if column < text_columns {
            write!(row, "{cell:<width$}  ")
        } else {
            write!(row, "{cell:>width$}  ")
        };
        written.expect("a string takes what is written to it");
    }
    line(text, row.trim_end());
}

/// Adds a line.
pub(super) fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
