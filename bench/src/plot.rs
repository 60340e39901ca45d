//! Plots, as SVG files: one per table of a workload.
//!
//! A table whose columns are numbers of processes becomes lines, one per contestant.
//! Any other becomes bars, one panel per column. Scales are logarithmic, because
//! contestants differ by orders of magnitude. Colours tell who survives kills.

mod bars;
mod lines;

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::failure::Failure;
use crate::report::{Measure, Series, Survives, distinct};
use crate::stats::Summary;

const INK: RGBColor = RGBColor(0x30, 0x30, 0x30);
const PALE: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
const OURS: RGBColor = RGBColor(0xd9, 0x4f, 0x04);
const SAFE: RGBColor = RGBColor(0x2a, 0x6f, 0xb0);
const HALF_SAFE: RGBColor = RGBColor(0x7a, 0xb0, 0xd8);
const UNSAFE: RGBColor = RGBColor(0x8f, 0x98, 0xa3);
const ALONE: RGBColor = RGBColor(0xc8, 0xcd, 0xd3);

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Whatever goes wrong while something is drawn.
type Drawn = Result<(), Box<dyn Error>>;

/// Plots all tables of a workload, in files in `directory`. Returns their names.
pub(crate) fn plot(series: &[Series], directory: &Path) -> Result<Vec<String>, Failure> {
    let mut files = vec![];
    for table in distinct(series.iter().map(|series| series.place().0)) {
        let members: Vec<&Series> = series
            .iter()
            .filter(|series| series.place().0 == table && !series.rounds.is_empty())
            .collect();
        let name = format!("{}.svg", table.replace([' ', '/'], "-"));
        let path = directory.join(&name);
        match lines::columns(&members) {
            Some(counts) => lines::draw(&path, table, &members, &counts),
            None => bars::draw(&path, table, &members),
        }
        .map_err(|error| Failure::Plot(name.clone(), error.to_string()))?;
        files.push(name);
    }
    Ok(files)
}

/// Ours, those that survive kills, and the others.
fn colour(series: &Series) -> RGBColor {
    match (series.contestant, series.survives) {
        ("shm-sync", _) => OURS,
        (_, Survives::Kills) => SAFE,
        (_, Survives::SomeKills) => HALF_SAFE,
        (_, Survives::Nothing) => UNSAFE,
        (_, Survives::DoesNotApply) => ALONE,
    }
}

/// Says at the bottom of a plot what the colours mean.
fn legend(canvas: &Canvas<'_>, top: i32) -> Drawn {
    let mut left = 12;
    for (words, colour) in [
        ("shm-sync", OURS),
        ("survives kills", SAFE),
        ("some kills", HALF_SAFE),
        ("does not survive", UNSAFE),
        ("threads only, or no lock", ALONE),
    ] {
        let square = [(left, top), (left + 10, top + 10)];
        canvas.draw(&Rectangle::new(square, colour.filled()))?;
        canvas.draw(&Text::new(words, (left + 16, top), text(12)))?;
        left += 40 + 7 * words.len() as i32;
    }
    Ok(())
}

/// Text of some size.
fn text(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// Powers of ten (or 1, 2, 5 times them, if there are few) around `low..=high`.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let few = high / low < 50.0;
    let steps: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let first = low.log10().floor() as i32;
    let last = high.log10().ceil() as i32;
    (first..=last)
        .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)))
        .filter(|tick| (low..=high).contains(tick))
        .collect()
}

/// The scale of a plot: all values, and a bit of room.
fn range<'a>(series: impl Iterator<Item = &'a Series>, measure: Measure) -> Option<(f64, f64)> {
    let values = series
        .filter(|series| series.measure == measure)
        .flat_map(|series| {
            let summary = Summary::of(&series.rounds);
            [summary.lower, summary.upper]
        })
        .filter(|value| value.is_finite() && *value > 0.0);
    let (low, high) = values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    (low <= high).then_some((low, high))
}
