//! Tables of series, for the terminal and for Markdown.

use std::fmt::{self, Write};

use comfy_table::CellAlignment;
use comfy_table::presets::NOTHING;

use crate::cell::Cell;
use crate::series::{Series, distinct};

/// The format of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Terminal,
    Markdown,
}

impl Style {
    /// Returns a table with these column titles. The first `words` columns are aligned
    /// to the left, the others to the right.
    pub(crate) fn table<T: Into<String>>(self, titles: Vec<T>, words: usize) -> Table {
        Table {
            style: self,
            titles: titles.into_iter().map(Into::into).collect(),
            words,
            rows: vec![],
        }
    }

    /// Returns a heading. Markdown shows its `level`.
    pub(crate) fn heading(self, level: usize, text: &str) -> String {
        match self {
            Self::Terminal => format!("\n{text}\n"),
            Self::Markdown => format!("\n{} {text}\n\n", "#".repeat(level)),
        }
    }
}

/// A table of text.
#[derive(Debug)]
pub(crate) struct Table {
    style: Style,
    titles: Vec<String>,
    /// The number of columns that are aligned to the left.
    words: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn add_row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Writes columns that are aligned by spaces.
    fn fmt_terminal(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table.load_preset(NOTHING);
        table.set_header(&self.titles);
        table.add_rows(&self.rows);
        for column in table.column_iter_mut().skip(self.words) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{table}")
    }

    /// Writes Markdown without padding, which would enlarge the file.
    fn fmt_markdown(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} |", self.titles.join(" | "))?;
        let alignments =
            (0..self.titles.len()).map(|column| if column < self.words { "---|" } else { "--:|" });
        write!(f, "|{}", alignments.collect::<String>())?;
        for row in &self.rows {
            write!(f, "\n| {} |", row.join(" | "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.style {
            Style::Terminal => self.fmt_terminal(f),
            Style::Markdown => self.fmt_markdown(f),
        }
    }
}

/// Returns all tables of one workload. Ratios are relative to `baseline`. Only Markdown
/// contains the details.
pub(crate) fn tables(series: &[Series], baseline: &str, style: Style) -> String {
    let mut text = String::new();
    for group in distinct(series.iter().map(|series| series.table_and_column().0)) {
        let members: Vec<&Series> = series
            .iter()
            .filter(|series| series.table_and_column().0 == group)
            .collect();
        for measure in distinct(members.iter().map(|series| series.measure)) {
            let of_measure: Vec<&Series> = members
                .iter()
                .copied()
                .filter(|series| series.measure == measure)
                .collect();
            if style == Style::Terminal && measure.is_detail() {
                continue;
            }
            let better = measure.better().label();
            let title = format!("{group}: {}, {better} is better", measure.title());
            text += &style.heading(3, &title);
            let _ = writeln!(text, "{}", matrix(&of_measure, baseline, style));
        }
    }
    text
}

/// Returns a table with one row per contestant and one column per last part of the
/// name.
fn matrix(series: &[&Series], baseline: &str, style: Style) -> Table {
    let columns = distinct(series.iter().map(|series| series.table_and_column().1));
    let mut titles = vec!["contestant", "survives"];
    titles.extend(&columns);
    let mut table = style.table(titles, 2);
    for contestant in distinct(series.iter().map(|series| series.contestant)) {
        let cell = |column: &str, contestant: &str| {
            series
                .iter()
                .find(|s| s.table_and_column().1 == column && s.contestant == contestant)
        };
        let mut row = vec![contestant.to_owned(), String::new()];
        for column in &columns {
            let Some(own) = cell(column, contestant) else {
                row.push(String::new());
                continue;
            };
            row[1] = own.survives.label().to_owned();
            let base = cell(column, baseline);
            row.push(Cell::new(own, base.copied()).to_string());
        }
        table.add_row(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Measure, Survives};

    fn series(workload: &str, contestant: &'static str, rounds: &[f64]) -> Series {
        Series {
            workload: workload.to_owned(),
            contestant,
            survives: Survives::Kills,
            measure: Measure::Nanos,
            rounds: rounds.to_vec(),
        }
    }

    #[test]
    fn smoke() {
        let all = [
            series("wait/2 processes", "a", &[10.0, 20.0, 30.0]),
            series("wait/2 processes", "b", &[20.0, 40.0, 60.0]),
            series("wait/4 processes", "b", &[5e3]),
        ];
        let text = tables(&all, "a", Style::Terminal);
        assert!(text.contains("wait: time, lower is better"), "{text}");
        assert!(text.contains("40.0 ns [20.0–60.0 of 3] ×2.00"), "{text}");
        assert!(text.contains("5.00 µs"), "{text}");
        let text = tables(&all, "a", Style::Markdown);
        assert!(
            text.contains("\n|---|---|--:|--:|\n| a | kills |"),
            "{text}"
        );
    }
}
