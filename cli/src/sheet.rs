//! Tables that fit a width.

use comfy_table::presets::NOTHING;
use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table,
};
use unicode_width::UnicodeWidthStr;

use crate::text::{Palette, Style, shorten_end, shorten_middle};
use crate::view::View;

/// The number of spaces between two columns.
const GAP: usize = 2;

/// A column of a table.
#[derive(Debug)]
pub(crate) struct Column {
    title: &'static str,
    alignment: CellAlignment,
    shrinks: Shrinks,
    /// Whether the column shrinks only after all others.
    is_late: bool,
}

/// What becomes of a text that does not fit its column.
#[derive(Clone, Copy, Debug)]
enum Shrinks {
    Never,
    AtEnd { least: usize },
    InMiddle { least: usize },
}

/// Returns a column whose texts begin at the left.
pub(crate) fn left(title: &'static str) -> Column {
    Column {
        title,
        alignment: CellAlignment::Left,
        shrinks: Shrinks::Never,
        is_late: false,
    }
}

/// Returns a column whose texts end at the right.
pub(crate) fn right(title: &'static str) -> Column {
    Column {
        alignment: CellAlignment::Right,
        ..left(title)
    }
}

impl Column {
    /// Lets the column shrink to a width. Texts lose their ends.
    pub(crate) fn cut_to(mut self, least: usize) -> Self {
        self.shrinks = Shrinks::AtEnd { least };
        self
    }

    /// Lets the column shrink to a width. Texts lose their middle.
    pub(crate) fn cut_in_middle_to(mut self, least: usize) -> Self {
        self.shrinks = Shrinks::InMiddle { least };
        self
    }

    /// Lets the column shrink only after all others.
    pub(crate) fn late(mut self) -> Self {
        self.is_late = true;
        self
    }

    fn least(&self) -> usize {
        match self.shrinks {
            Shrinks::Never => usize::MAX,
            Shrinks::AtEnd { least } | Shrinks::InMiddle { least } => least.max(self.title.width()),
        }
    }

    fn fit(&self, text: &str, width: usize) -> String {
        match self.shrinks {
            Shrinks::Never => text.to_owned(),
            Shrinks::AtEnd { .. } => shorten_end(text, width),
            Shrinks::InMiddle { .. } => shorten_middle(text, width),
        }
    }
}

/// A cell: one line of printable characters.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    text: String,
    style: Style,
}

pub(crate) fn styled(text: impl ToString, style: Style) -> Text {
    let text = text.to_string();
    Text { text, style }
}

pub(crate) fn plain(text: impl ToString) -> Text {
    styled(text, Style::Plain)
}

pub(crate) fn faint(text: impl ToString) -> Text {
    styled(text, Style::Faint)
}

/// A table. Each row has a cell per column.
#[derive(Debug)]
pub(crate) struct Sheet {
    columns: Vec<Column>,
    rows: Vec<Vec<Text>>,
}

impl Sheet {
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        let rows = Vec::new();
        Self { columns, rows }
    }

    pub(crate) fn add(&mut self, row: Vec<Text>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// Returns the table as text, one line per row, without spaces at the ends.
    pub(crate) fn render(&self, view: View) -> String {
        let mut table = Table::new();
        table
            .load_preset(NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(
                self.columns
                    .iter()
                    .map(|column| column.cell(&styled(column.title, Style::Heading))),
            );
        match view.palette {
            Palette::Plain => table.force_no_tty(),
            Palette::Coloured => table.enforce_styling(),
        };
        for column in table.column_iter_mut() {
            column.set_padding((0, GAP as u16));
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
        // Styled spaces at the end of a line would be outside of the terminal.
        if let Some(last) = table.column_iter_mut().last() {
            last.set_padding((0, 0));
        }
        let widths = self.widths(view.width);
        for row in &self.rows {
            let cells = row.iter().zip(&self.columns).zip(&widths);
            table.add_row(cells.map(|((text, column), width)| {
                let fitted = column.fit(&text.text, *width);
                column.cell(&styled(fitted, text.style))
            }));
        }
        let mut text = String::new();
        for line in table.lines() {
            text += line.trim_end();
            text.push('\n');
        }
        text
    }

    /// Returns the width of each column. The last columns shrink first.
    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let natural = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().map(|row| row[index].text.width());
            cells.fold(column.title.width(), usize::max)
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(natural).collect();
        let gaps = GAP * widths.len().saturating_sub(1);
        let total = widths.iter().sum::<usize>() + gaps;
        let mut excess = limit.map_or(0, |limit| total.saturating_sub(limit));
        for is_late in [false, true] {
            for (column, width) in self.columns.iter().zip(&mut widths).rev() {
                if column.is_late == is_late {
                    let cut = width.saturating_sub(column.least()).min(excess);
                    *width -= cut;
                    excess -= cut;
                }
            }
        }
        widths
    }
}

impl Column {
    fn cell(&self, text: &Text) -> Cell {
        let cell = Cell::new(&text.text).set_alignment(self.alignment);
        match text.style {
            Style::Plain => cell,
            Style::Heading => cell.add_attribute(Attribute::Bold),
            Style::Good => cell.fg(Color::DarkGreen),
            Style::Doubtful => cell.fg(Color::DarkYellow),
            Style::Bad => cell.fg(Color::DarkRed),
            Style::Faint => cell.add_attribute(Attribute::Dim),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(width: Option<usize>) -> View {
        View {
            palette: Palette::Plain,
            is_wide: false,
            width,
        }
    }

    fn sheet() -> Sheet {
        let mut sheet = Sheet::new(vec![
            left("NAME").cut_in_middle_to(8),
            left("STATE").cut_to(5).late(),
            left("POISON"),
            left("TYPE").cut_to(6),
        ]);
        sheet.add(vec![
            plain("/a-long-name-of-a-segment"),
            plain("stopped"),
            plain("owner died: 4194304"),
            plain("ShmMutex<Jobs>"),
        ]);
        sheet
    }

    #[test]
    fn smoke() {
        let text = sheet().render(view(None));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[1],
            "/a-long-name-of-a-segment  stopped  owner died: 4194304  ShmMutex<Jobs>"
        );
    }

    #[test]
    fn last_columns_shrink_first() {
        let rows = [
            (
                66,
                "/a-long-name-of-a-segment  stopped  owner died: 4194304  ShmMutex…",
            ),
            (50, "/a-lon…gment  stopped  owner died: 4194304  ShmMu…"),
            (10, "/a-l…ent  stop…  owner died: 4194304  ShmMu…"),
        ];
        for (width, row) in rows {
            let text = sheet().render(view(Some(width)));
            assert_eq!(text.lines().nth(1), Some(row), "{width}");
        }
    }
}
