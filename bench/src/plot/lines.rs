//! Lines: throughput by number of processes, one line per contestant.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::style::{Drawn, INK, PALE, colour, legend, range, text, ticks};
use crate::series::{Measure, Series, distinct};
use crate::stats::median;

const SIZE: (i32, i32) = (860, 560);
/// The edges of the area of the lines.
const LEFT: i32 = 80;
const RIGHT: i32 = 660;
const TOP: i32 = 48;
const BOTTOM: i32 = 488;
/// The smallest distance between the names at the right.
const NAME_DISTANCE: i32 = 15;

/// Returns the numbers of processes, if all columns of the table are numbers of
/// processes and there are enough for a line.
pub(super) fn columns(series: &[&Series]) -> Option<Vec<u32>> {
    let columns = distinct(series.iter().map(|s| s.table_and_column().1));
    let counts: Option<Vec<u32>> = columns.into_iter().map(processes).collect();
    counts.filter(|counts| counts.len() > 2)
}

fn processes(column: &str) -> Option<u32> {
    column.strip_suffix(" processes")?.parse().ok()
}

pub(super) fn draw(path: &Path, title: &str, series: &[&Series], counts: &[u32]) -> Drawn {
    const MEASURE: Measure = Measure::OperationsPerSecond;
    let series = || {
        let all = series.iter().copied();
        all.filter(|s| s.measure == MEASURE)
    };
    let Some((low, high)) = range(series(), MEASURE) else {
        return Ok(());
    };
    let (low, high) = (low / 1.3, high * 1.3);
    let (fewest, most) = (counts[0], counts[counts.len() - 1]);
    let x = |count: u32| {
        let part = (f64::from(count) / f64::from(fewest)).ln()
            / (f64::from(most) / f64::from(fewest)).ln();
        LEFT + (part * f64::from(RIGHT - LEFT)).round() as i32
    };
    let y = |value: f64| {
        let part = (value / low).ln() / (high / low).ln();
        BOTTOM - (part * f64::from(BOTTOM - TOP)).round() as i32
    };

    let canvas = SVGBackend::new(path, (SIZE.0 as u32, SIZE.1 as u32)).into_drawing_area();
    canvas.fill(&WHITE)?;
    let heading = format!("{title}: {}, by processes, logarithmic", MEASURE.title());
    canvas.draw(&Text::new(heading, (12, 10), text(18)))?;
    let right = text(12).pos(Pos::new(HPos::Right, VPos::Center));
    for tick in ticks(low, high) {
        canvas.draw(&PathElement::new(
            vec![(LEFT, y(tick)), (RIGHT, y(tick))],
            PALE,
        ))?;
        let label = MEASURE.show_round(tick);
        canvas.draw(&Text::new(label, (LEFT - 8, y(tick)), right.clone()))?;
    }
    let centre = text(12).pos(Pos::new(HPos::Center, VPos::Top));
    for &count in counts {
        let line = vec![(x(count), TOP), (x(count), BOTTOM + 4)];
        canvas.draw(&PathElement::new(line, PALE))?;
        let label = (x(count), BOTTOM + 8);
        canvas.draw(&Text::new(count.to_string(), label, centre.clone()))?;
    }

    // The end of each line, and its contestant.
    let mut ends = vec![];
    for contestant in distinct(series().map(|s| s.contestant)) {
        let own: Vec<&Series> = series().filter(|s| s.contestant == contestant).collect();
        let points: Vec<(i32, i32)> = own
            .iter()
            .filter_map(|s| Some((x(processes(s.table_and_column().1)?), y(median(&s.rounds)))))
            .collect();
        let width = if contestant == "shm-sync" { 3 } else { 1 };
        let style = colour(own[0]).stroke_width(width);
        canvas.draw(&PathElement::new(points.clone(), style))?;
        for &point in &points {
            canvas.draw(&Circle::new(
                point,
                2 + width as i32,
                colour(own[0]).filled(),
            ))?;
        }
        ends.extend(points.last().map(|&end| (end, contestant)));
    }
    // Draws the names from top to bottom and moves them down where they would overlap.
    ends.sort_by_key(|&((_, y), _)| y);
    let left = text(12).pos(Pos::new(HPos::Left, VPos::Center));
    let mut free = i32::MIN;
    for (end, contestant) in ends {
        let position = (RIGHT + 16, end.1.max(free));
        free = position.1 + NAME_DISTANCE;
        canvas.draw(&PathElement::new(
            vec![end, (RIGHT + 12, position.1)],
            INK.mix(0.2),
        ))?;
        canvas.draw(&Text::new(contestant, position, left.clone()))?;
    }
    legend(&canvas, SIZE.1 - 24)?;
    canvas.present()?;
    Ok(())
}
