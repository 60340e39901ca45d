//! Bars: one panel per column of a table, one bar per contestant, the best on top.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::style::{Canvas, Drawn, INK, PALE, colour, legend, range, text, ticks};
use crate::series::{Better, Measure, Series, distinct};
use crate::stats::Summary;

const WIDTH: i32 = 860;
/// The left end of all bars, and the largest right end.
const LEFT: i32 = 190;
const RIGHT: i32 = 760;
const ROW: i32 = 20;
/// The space above and below the bars of a panel.
const TITLE: i32 = 34;
const AXIS: i32 = 30;
/// The space above and below all panels.
const HEAD: i32 = 34;
const FOOT: i32 = 22;

pub(super) fn draw(path: &Path, title: &str, series: &[&Series]) -> Drawn {
    let panels = distinct(series.iter().map(|s| (s.table_and_column().1, s.measure)));
    let heights = panels.iter().map(|panel| {
        let rows = series.iter().filter(|s| belongs(s, *panel)).count();
        TITLE + rows as i32 * ROW + AXIS
    });
    let height = HEAD + heights.sum::<i32>() + FOOT;
    let canvas = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    canvas.fill(&WHITE)?;
    canvas.draw(&Text::new(title.to_owned(), (12, 10), text(18)))?;
    let mut top = HEAD;
    for panel in panels {
        let mut rows: Vec<&Series> = series
            .iter()
            .copied()
            .filter(|s| belongs(s, panel))
            .collect();
        rows.sort_by(|a, b| median(a).total_cmp(&median(b)));
        if panel.1.better() == Better::Higher {
            rows.reverse();
        }
        draw_panel(&canvas, top, panel, &rows)?;
        top += TITLE + rows.len() as i32 * ROW + AXIS;
    }
    legend(&canvas, height - FOOT)?;
    canvas.present()?;
    Ok(())
}

fn belongs(series: &Series, (column, measure): (&str, Measure)) -> bool {
    series.table_and_column().1 == column && series.measure == measure
}

fn median(series: &Series) -> f64 {
    Summary::new(&series.rounds).median
}

fn draw_panel(canvas: &Canvas<'_>, top: i32, panel: (&str, Measure), rows: &[&Series]) -> Drawn {
    let (column, measure) = panel;
    let Some((low, high)) = range(rows.iter().copied(), measure) else {
        return Ok(());
    };
    let (low, high) = (low / 2.0, high * 1.1);
    let x = |value: f64| {
        let part = (value.max(low) / low).ln() / (high / low).ln();
        LEFT + (part * f64::from(RIGHT - LEFT)).round() as i32
    };
    let first = top + TITLE;
    let bottom = first + rows.len() as i32 * ROW;

    let separator = if column.is_empty() { "" } else { ": " };
    let better = match measure.better() {
        Better::Lower => "lower",
        Better::Higher => "higher",
    };
    let title = format!(
        "{column}{separator}{} ({better} is better, logarithmic)",
        measure.title()
    );
    canvas.draw(&Text::new(title, (12, top + 10), text(14)))?;

    let centred = text(11).pos(Pos::new(HPos::Center, VPos::Top));
    for tick in ticks(low, high) {
        let line = vec![(x(tick), first), (x(tick), bottom + 4)];
        canvas.draw(&PathElement::new(line, PALE))?;
        let label = measure.show_round(tick);
        canvas.draw(&Text::new(label, (x(tick), bottom + 6), centred.clone()))?;
    }
    let name = text(13).pos(Pos::new(HPos::Right, VPos::Center));
    let value = text(12).pos(Pos::new(HPos::Left, VPos::Center));
    for (series, top) in rows.iter().zip((first..).step_by(ROW as usize)) {
        let middle = top + ROW / 2;
        let summary = Summary::new(&series.rounds);
        let position = (LEFT - 8, middle);
        canvas.draw(&Text::new(series.contestant, position, name.clone()))?;
        let bar = [(LEFT, top + 3), (x(summary.median), top + ROW - 3)];
        canvas.draw(&Rectangle::new(bar, colour(series).filled()))?;
        // The whisker reaches from quartile to quartile.
        let whisker = vec![(x(summary.lower), middle), (x(summary.upper), middle)];
        canvas.draw(&PathElement::new(whisker, INK))?;
        let position = (x(summary.median.max(summary.upper)) + 6, middle);
        let label = measure.show(summary.median);
        canvas.draw(&Text::new(label, position, value.clone()))?;
    }
    Ok(())
}
