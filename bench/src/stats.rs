//! Statistics of rounds.
//!
//! Noise on a shared machine only makes values worse, sometimes by a lot. Therefore
//! values are summarised by the median and the quartiles, which outliers do not move.
//! Rounds with the same number ran next to each other and are compared with each other:
//! a disturbance of a second slows both contestants and cancels out in the ratio.

/// The median of some values, and their spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) min: f64,
    /// The first quartile.
    pub(crate) lower: f64,
    pub(crate) median: f64,
    /// The third quartile.
    pub(crate) upper: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// Summarises `values`. All fields are NaN if there are none.
    pub(crate) fn new(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            min: quantile(&sorted, 0.0),
            lower: quantile(&sorted, 0.25),
            median: quantile(&sorted, 0.5),
            upper: quantile(&sorted, 0.75),
            max: quantile(&sorted, 1.0),
        }
    }

    /// Returns half the distance between the quartiles, relative to the median.
    pub(crate) fn spread(&self) -> f64 {
        (self.upper - self.lower) / 2.0 / self.median
    }
}

/// Returns the median, or NaN if there are no values.
pub(crate) fn median(values: &[f64]) -> f64 {
    Summary::new(values).median
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

    #[test]
    fn smoke() {
        let summary = Summary::new(&[5.0, 1.0, 2.0, 4.0, 3.0]);
        let expected = Summary {
            min: 1.0,
            lower: 2.0,
            median: 3.0,
            upper: 4.0,
            max: 5.0,
        };
        assert_eq!(summary, expected);
        assert!((summary.spread() - 1.0 / 3.0).abs() < 1e-12);
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
