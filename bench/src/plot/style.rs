//! Colours, texts and scales that all plots share.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::series::{Measure, Series, Survives};
use crate::stats::Summary;

pub(super) const INK: RGBColor = RGBColor(0x30, 0x30, 0x30);
pub(super) const PALE: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
const SHM_SYNC: RGBColor = RGBColor(0xd9, 0x4f, 0x04);
const SAFE: RGBColor = RGBColor(0x2a, 0x6f, 0xb0);
const HALF_SAFE: RGBColor = RGBColor(0x7a, 0xb0, 0xd8);
const UNSAFE: RGBColor = RGBColor(0x8f, 0x98, 0xa3);
const ALONE: RGBColor = RGBColor(0xc8, 0xcd, 0xd3);

pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The result of drawing.
pub(super) type Drawn = Result<(), Box<dyn Error>>;

/// Returns the colour of shm-sync, or the colour for what a contestant survives.
pub(super) fn colour(series: &Series) -> RGBColor {
    match (series.contestant, series.survives) {
        ("shm-sync", _) => SHM_SYNC,
        (_, Survives::Kills) => SAFE,
        (_, Survives::SomeKills) => HALF_SAFE,
        (_, Survives::Nothing) => UNSAFE,
        (_, Survives::DoesNotApply) => ALONE,
    }
}

/// Draws the meaning of the colours at the bottom of a plot.
pub(super) fn legend(canvas: &Canvas<'_>, top: i32) -> Drawn {
    let mut left = 12;
    for (label, colour) in [
        ("shm-sync", SHM_SYNC),
        ("survives kills", SAFE),
        ("some kills", HALF_SAFE),
        ("does not survive", UNSAFE),
        ("threads only, or no lock", ALONE),
    ] {
        let square = [(left, top), (left + 10, top + 10)];
        canvas.draw(&Rectangle::new(square, colour.filled()))?;
        canvas.draw(&Text::new(label, (left + 16, top), text(12)))?;
        left += 40 + 7 * label.len() as i32;
    }
    Ok(())
}

/// Returns a text style of this size.
pub(super) fn text(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// Returns the powers of ten in `low..=high`, and their multiples by 2 and 5 if the
/// range is small.
pub(super) fn ticks(low: f64, high: f64) -> Vec<f64> {
    let few = high / low < 50.0;
    let steps: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let first = low.log10().floor() as i32;
    let last = high.log10().ceil() as i32;
    (first..=last)
        .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)))
        .filter(|tick| (low..=high).contains(tick))
        .collect()
}

/// Returns the smallest and the largest quartile of all series. `None` without values.
pub(super) fn range<'a>(
    series: impl Iterator<Item = &'a Series>,
    measure: Measure,
) -> Option<(f64, f64)> {
    let values = series
        .filter(|series| series.measure == measure)
        .flat_map(|series| {
            let summary = Summary::new(&series.rounds);
            [summary.lower, summary.upper]
        })
        .filter(|value| value.is_finite() && *value > 0.0);
    let (low, high) = values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    (low <= high).then_some((low, high))
}
