//! Statistics of rounds.
//!
//! Noise on a shared machine only makes values worse, sometimes by a lot. Therefore
//! values are summarised by the median, which outliers do not move, and by a confidence
//! interval of the median. Its bounds are two of the values, chosen by their ranks. So
//! it assumes no distribution, but it assumes that rounds are independent.
//!
//! Rounds with the same number ran next to each other and are compared with each other:
//! a disturbance of a second slows both contestants and cancels out in the ratio.

use std::f64::consts::LN_2;

/// The fewest values whose median has a 95 % confidence interval.
pub(crate) const FEWEST: usize = 6;

/// An interval around a median.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// The number of values. If there are fewer than [`FEWEST`], the interval is their
    /// range.
    pub(crate) values: usize,
}

impl Interval {
    /// Returns the 95 % confidence interval of the median of `values`, or the range of
    /// fewer than [`FEWEST`] values. The bounds are NaN if there are no values.
    pub(crate) fn new(values: &[f64]) -> Self {
        let sorted = sorted(values);
        let cut = values_outside(sorted.len()).unwrap_or(0);
        let bound = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
        Self {
            low: bound(sorted.get(cut)),
            high: bound(sorted.iter().nth_back(cut)),
            values: sorted.len(),
        }
    }

    /// Formats the bounds by `format`: `[10–30]`, or `[10–30 of 3]` for the range of 3
    /// values. The text is empty for fewer than 2 values, and if a bound is not finite.
    pub(crate) fn show(&self, format: impl Fn(f64) -> String) -> String {
        if self.values < 2 || !self.low.is_finite() || !self.high.is_finite() {
            return String::new();
        }
        let (low, high) = (format(self.low), format(self.high));
        match self.values {
            FEWEST.. => format!("[{low}–{high}]"),
            values => format!("[{low}–{high} of {values}]"),
        }
    }
}

/// Returns how many of `count` sorted values are below the confidence interval of the
/// median, and as many above it. `None` if there are too few values.
///
/// Each value is below the true median with a probability of 1/2, so the number of
/// values below it is binomial. The whole interval is above the true median if that
/// number is at most the result of this function. The probability of this must be at
/// most 2.5 %, as must that of the opposite case.
fn values_outside(count: usize) -> Option<usize> {
    let mut at_most = 0.0;
    // 2^-count would be zero for a large count, so this is a logarithm.
    let mut exactly = -(count as f64) * LN_2;
    let first_to_keep = (0..=count).position(|below| {
        at_most += exactly.exp();
        exactly += ((count - below) as f64 / (below + 1) as f64).ln();
        at_most > 0.025
    });
    first_to_keep?.checked_sub(1)
}

/// Returns the median, or NaN if there are no values.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(&sorted(values), 0.5)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Returns the interpolated value that a part `q` of the `sorted` values is below.
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let position = q * last as f64;
    let below = position.floor();
    let (low, high) = (sorted[below as usize], sorted[position.ceil() as usize]);
    low + (high - low) * (position - below)
}

/// Returns the ratios of `values` to `base`, round by round.
pub(crate) fn ratios(values: &[f64], base: &[f64]) -> Vec<f64> {
    values
        .iter()
        .zip(base)
        .map(|(value, base)| value / base)
        .collect()
}

/// Returns the geometric mean, in which factors of 2 and 1/2 cancel out. NaN if there
/// are no values.
pub(crate) fn geometric_mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0.0), |(sum, count), value| {
        (sum + value.ln(), count + 1.0)
    });
    (sum / count).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ascending(count: usize) -> Vec<f64> {
        (1..=count).map(|value| value as f64).collect()
    }

    #[test]
    fn smoke() {
        let values = [9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0, 100.0];
        assert_eq!(median(&values), 5.5);
        let interval = Interval::new(&values);
        assert_eq!((interval.low, interval.high), (2.0, 9.0));
        assert_eq!(interval.show(|value| value.to_string()), "[2–9]");
    }

    #[test]
    fn interval_has_the_ranks_of_the_binomial_table() {
        // Ranks from tables of the sign test, counted from 1.
        for (count, low, high) in [
            (6, 1, 6),
            (8, 1, 8),
            (9, 2, 8),
            (20, 6, 15),
            (25, 8, 18),
            (50, 18, 33),
            (100, 40, 61),
        ] {
            let interval = Interval::new(&ascending(count));
            let expected = (f64::from(low), f64::from(high));
            assert_eq!((interval.low, interval.high), expected, "{count}");
        }
        let many = Interval::new(&ascending(10_000));
        assert_eq!((many.low, many.high), (4902.0, 5099.0), "no underflow");
    }

    #[test]
    fn few_values_show_their_range() {
        let show = |count| Interval::new(&ascending(count)).show(|value| value.to_string());
        assert_eq!(show(FEWEST), "[1–6]");
        assert_eq!(show(FEWEST - 1), "[1–5 of 5]");
        assert_eq!([show(1), show(0)], ["", ""]);
    }

    #[test]
    fn median_of_even_count_is_interpolated() {
        assert!((median(&[1.0, 2.0, 3.0, 10.0]) - 2.5).abs() < 1e-12);
    }

    #[test]
    fn no_values_give_nan() {
        assert!(median(&[]).is_nan());
        assert!(geometric_mean([]).is_nan());
    }

    #[test]
    fn ratios_are_round_by_round() {
        assert_eq!(ratios(&[2.0, 30.0], &[1.0, 10.0]), [2.0, 3.0]);
    }

    #[test]
    fn geometric_mean_cancels_inverse_factors() {
        assert!((geometric_mean([2.0, 0.5, 1.0]) - 1.0).abs() < 1e-12);
    }
}
