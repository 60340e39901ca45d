//! Lines: operations per second by number of processes, one line per contestant.

use plotters::prelude::*;

use super::axis::{Axis, pixel};
use super::labels::spread;
use super::page::{
    CENTRE_TOP, Canvas, Drawn, GRID, LEFT_CENTRE, MARGIN, Page, QUIET, RIGHT_CENTRE, plain,
};
use crate::cell::Cell;
use crate::series::{SHM_SYNC, distinct};

const HEIGHT: i32 = 490;
/// The edges of the area of the lines. The vertical ones count from the title.
const LEFT: i32 = 52;
const RIGHT: i32 = 562;
const TOP: i32 = 40;
const BOTTOM: i32 = HEIGHT - 56;
/// The distance of names, and the room between the end of a line and its name.
const NAME_DISTANCE: i32 = 16;
const LEADER: i32 = 18;

/// Returns the numbers of processes, if all columns are numbers of processes and there
/// are enough for a line.
pub(super) fn counts(cells: &[&Cell]) -> Option<Vec<u32>> {
    let columns = distinct(cells.iter().map(|cell| cell.column()));
    let counts: Option<Vec<u32>> = columns.into_iter().map(processes).collect();
    counts.filter(|counts| counts.len() > 2)
}

fn processes(column: &str) -> Option<u32> {
    column.strip_suffix(" processes")?.parse().ok()
}

/// The line of one contestant.
struct Line<'a> {
    contestant: &'a str,
    points: Vec<(i32, i32)>,
    /// The last point, the value there, and the name.
    end: (i32, i32),
    label: String,
}

pub(super) fn draw(page: &Page<'_>, axis: &Axis, cells: &[&Cell], counts: &[u32]) -> Drawn {
    let (canvas, top) = page.open(HEIGHT)?;
    let (top, bottom) = (top + TOP, top + BOTTOM);
    let values = cells.iter().map(|cell| cell.median);
    let high = values.fold(f64::MIN_POSITIVE, f64::max);
    let y = |value: f64| pixel(value, high, bottom, top);
    let x = |count: u32| {
        let index = counts.iter().position(|other| *other == count)?;
        Some(LEFT + index as i32 * (RIGHT - LEFT) / (counts.len() as i32 - 1))
    };

    let name = axis.name(high);
    canvas.draw(&Text::new(name, (MARGIN, top - 28), plain(12, QUIET)))?;
    for (tick, text) in axis.ticks(high) {
        let line = vec![(LEFT, y(tick)), (RIGHT, y(tick))];
        canvas.draw(&PathElement::new(line, GRID))?;
        let style = plain(12, QUIET).pos(RIGHT_CENTRE);
        canvas.draw(&Text::new(text, (LEFT - 8, y(tick)), style))?;
    }
    let style = plain(12, QUIET).pos(CENTRE_TOP);
    for &count in counts {
        let place = (x(count).unwrap_or(LEFT), bottom + 8);
        canvas.draw(&Text::new(count.to_string(), place, style.clone()))?;
    }
    let middle = ((LEFT + RIGHT) / 2, bottom + 27);
    let name = "number of processes (equal steps, not to scale)";
    canvas.draw(&Text::new(name, middle, style))?;

    let mut lines: Vec<Line<'_>> = vec![];
    for contestant in distinct(cells.iter().map(|cell| cell.contestant.as_str())) {
        let own: Vec<&&Cell> = cells
            .iter()
            .filter(|cell| cell.contestant == contestant)
            .collect();
        let points: Vec<(i32, i32)> = own
            .iter()
            .filter_map(|cell| Some((x(processes(cell.column())?)?, y(cell.median))))
            .collect();
        if let (Some(&end), Some(last)) = (points.last(), own.last()) {
            lines.push(Line {
                contestant,
                points,
                end,
                label: format!("{contestant} {}", last.value()),
            });
        }
    }
    // Those with a colour come last, above the others.
    lines.sort_by_key(|line| {
        (
            page.stands_out(line.contestant),
            line.contestant == SHM_SYNC,
        )
    });
    for line in &lines {
        draw_line(&canvas, page, line)?;
    }
    for end in distinct(lines.iter().map(|line| line.end.0)) {
        let mut ending: Vec<&Line<'_>> = lines.iter().filter(|line| line.end.0 == end).collect();
        ending.sort_by_key(|line| line.end.1);
        draw_names(&canvas, page, &ending, (top, bottom))?;
    }
    canvas.present()?;
    Ok(())
}

fn draw_line(canvas: &Canvas<'_>, page: &Page<'_>, line: &Line<'_>) -> Drawn {
    let colour = page.colour(line.contestant);
    let (width, radius) = if page.stands_out(line.contestant) {
        (3, 4)
    } else {
        (1, 2)
    };
    let style = colour.stroke_width(width);
    canvas.draw(&PathElement::new(line.points.clone(), style))?;
    for &point in &line.points {
        canvas.draw(&Circle::new(point, radius, colour.filled()))?;
    }
    Ok(())
}

/// Writes the names of lines that end at the same number of processes.
fn draw_names(
    canvas: &Canvas<'_>,
    page: &Page<'_>,
    lines: &[&Line<'_>],
    (top, bottom): (i32, i32),
) -> Drawn {
    let wanted: Vec<i32> = lines.iter().map(|line| line.end.1).collect();
    let places = spread(&wanted, NAME_DISTANCE, top, bottom);
    for (line, y) in lines.iter().zip(places) {
        let (x, end) = line.end;
        let leader = vec![(x + 6, end), (x + LEADER, y)];
        canvas.draw(&PathElement::new(leader, page.colour(line.contestant)))?;
        let style = page.name(line.contestant, 12).pos(LEFT_CENTRE);
        let position = (x + LEADER + 4, y);
        canvas.draw(&Text::new(line.label.clone(), position, style))?;
    }
    Ok(())
}
