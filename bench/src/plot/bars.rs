//! Bars: one panel per column of a table, one bar per contestant, the best on top.

use plotters::prelude::*;

use super::axis::{Axis, pixel};
use super::labels::wrap;
use super::page::{
    CENTRE_TOP, Canvas, Drawn, GRID, INK, LEFT_CENTRE, MARGIN, Page, QUIET, RIGHT_CENTRE, bold,
    plain,
};
use crate::cell::Cell;
use crate::series::{Better, SHM_SYNC, Survives, distinct};

/// The left end of all bars, and the right end of the longest.
const ZERO: i32 = 212;
const END: i32 = 580;
const ROW: i32 = 22;
/// The height of a panel's heading, of its axis, and of a line of its note.
const HEADING: i32 = 26;
const AXIS: i32 = 50;
const NOTE: i32 = 16;
const NOTE_COLUMNS: usize = 92;
/// A contestant that takes more than this many times as long as both shm-sync and its
/// peer is beyond the scale, on which it would hide their difference.
const FAR: f64 = 10.0;

/// One column of a table.
struct Panel<'a> {
    column: &'a str,
    /// The best first.
    rows: Vec<&'a Cell>,
    /// The longest bar.
    high: f64,
    /// Lines that name the contestants beyond the scale.
    note: Vec<String>,
}

impl<'a> Panel<'a> {
    fn new(page: &Page<'_>, column: &'a str, cells: &[&'a Cell]) -> Self {
        let mut rows: Vec<&Cell> = cells.to_vec();
        rows.retain(|cell| cell.column() == column);
        rows.sort_by(|a, b| a.median.total_cmp(&b.median));
        let limit = rows
            .iter()
            .filter(|cell| page.stands_out(&cell.contestant))
            .map(|cell| cell.median * FAR)
            .reduce(f64::max)
            .unwrap_or(f64::INFINITY);
        let mut far = vec![];
        match rows.first().map(|cell| cell.measure.better()) {
            Some(Better::Higher) => rows.reverse(),
            _ => far = rows.split_off(rows.partition_point(|cell| cell.median <= limit)),
        }
        let far: Vec<String> = far
            .iter()
            .map(|cell| format!("{} {}", cell.contestant, cell.value()))
            .collect();
        let note = match &far[..] {
            [] => vec![],
            _ => wrap(
                &format!("Beyond the scale: {}", far.join(", ")),
                NOTE_COLUMNS,
            ),
        };
        let values = rows.iter().map(|cell| cell.median);
        Self {
            column,
            high: values.fold(f64::MIN_POSITIVE, f64::max),
            rows,
            note,
        }
    }

    fn bars_top(&self) -> i32 {
        if self.column.is_empty() { 8 } else { HEADING }
    }

    fn height(&self) -> i32 {
        let rows = self.rows.len() as i32 * ROW;
        self.bars_top() + rows + AXIS + self.note.len() as i32 * NOTE
    }

    fn draw(&self, canvas: &Canvas<'_>, page: &Page<'_>, axis: &Axis, top: i32) -> Drawn {
        canvas.draw(&Text::new(self.column, (MARGIN, top + 6), bold(14, INK)))?;
        let first = top + self.bars_top();
        let bottom = first + self.rows.len() as i32 * ROW;
        for (tick, text) in axis.ticks(self.high) {
            let x = pixel(tick, self.high, ZERO, END);
            canvas.draw(&PathElement::new(vec![(x, first), (x, bottom + 4)], GRID))?;
            let style = plain(12, QUIET).pos(CENTRE_TOP);
            canvas.draw(&Text::new(text, (x, bottom + 7), style))?;
        }
        for (row, top) in self.rows.iter().zip((first..).step_by(ROW as usize)) {
            self.draw_bar(canvas, page, row, top)?;
        }
        let mut line = bottom + 25;
        let name = axis.name(self.high);
        canvas.draw(&Text::new(name, (ZERO, line), plain(12, QUIET)))?;
        for text in &self.note {
            line += NOTE;
            canvas.draw(&Text::new(text.clone(), (ZERO, line), plain(12, QUIET)))?;
        }
        Ok(())
    }

    fn draw_bar(&self, canvas: &Canvas<'_>, page: &Page<'_>, cell: &Cell, top: i32) -> Drawn {
        let middle = top + ROW / 2;
        let style = page.name(&cell.contestant, 13).pos(RIGHT_CENTRE);
        let position = (ZERO - 8, middle);
        canvas.draw(&Text::new(cell.contestant.clone(), position, style))?;
        let end = pixel(cell.median, self.high, ZERO, END);
        let corners = [(ZERO, top + 3), (end, top + ROW - 3)];
        let colour = page.colour(&cell.contestant).filled();
        canvas.draw(&Rectangle::new(corners, colour))?;
        let style = plain(13, INK).pos(LEFT_CENTRE);
        let text = format!("{}{}", cell.value(), survival(cell));
        canvas.draw(&Text::new(text, (end + 7, middle), style))?;
        Ok(())
    }
}

/// Returns what to add to a value, because locks that survive less can be faster.
fn survival(cell: &Cell) -> &'static str {
    match cell.survives {
        _ if cell.contestant == SHM_SYNC => "",
        Survives::Kills | Survives::DoesNotApply => "",
        Survives::SomeKills => ", survives some kills",
        Survives::Nothing => ", survives no kill",
    }
}

pub(super) fn draw(page: &Page<'_>, axis: &Axis, cells: &[&Cell]) -> Drawn {
    let columns = distinct(cells.iter().map(|cell| cell.column()));
    let panels: Vec<Panel<'_>> = columns
        .into_iter()
        .map(|column| Panel::new(page, column, cells))
        .collect();
    let height = panels.iter().map(Panel::height).sum();
    let (canvas, mut top) = page.open(height)?;
    for panel in &panels {
        panel.draw(&canvas, page, axis, top)?;
        top += panel.height();
    }
    canvas.present()?;
    Ok(())
}
