//! What many rounds say together.
//!
//! Noise on a shared machine has one sign: it makes things slower, now and then by a
//! lot. So values are summed up as the median and the quartiles, which outliers don't
//! move. Contestants take turns round by round, and rounds with the same number are
//! compared with each other: what slows the machine for a second slows both, and
//! cancels out in the ratio.

/// The median of some values, and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) min: f64,
    /// A quarter of the values are below.
    pub(crate) lower: f64,
    pub(crate) median: f64,
    /// A quarter of the values are above.
    pub(crate) upper: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// All are NaN if there are no values.
    pub(crate) fn of(values: &[f64]) -> Self {
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

    /// Half the distance between the quartiles, as a part of the median.
    pub(crate) fn spread(&self) -> f64 {
        (self.upper - self.lower) / 2.0 / self.median
    }
}

/// The median of some values, or NaN.
pub(crate) fn median(values: &[f64]) -> f64 {
    Summary::of(values).median
}

/// The value below which a part `q` of the sorted values is, interpolated.
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let position = q * last as f64;
    let below = position.floor();
    let (low, high) = (sorted[below as usize], sorted[position.ceil() as usize]);
    low + (high - low) * (position - below)
}

/// Round by round, how `values` compare to `base`.
pub(crate) fn ratios(values: &[f64], base: &[f64]) -> Vec<f64> {
    values
        .iter()
        .zip(base)
        .map(|(value, base)| value / base)
        .collect()
}

/// The mean in which twice as good and half as good cancel out. NaN of no values.
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
        let summary = Summary::of(&[5.0, 1.0, 2.0, 4.0, 3.0]);
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
    fn the_median_of_an_even_number_of_values_lies_between_two() {
        assert!((median(&[1.0, 2.0, 3.0, 10.0]) - 2.5).abs() < 1e-12);
    }

    #[test]
    fn nothing_has_no_median() {
        assert!(median(&[]).is_nan());
        assert!(geometric_mean([]).is_nan());
    }

    #[test]
    fn ratios_compare_what_was_measured_side_by_side() {
        assert_eq!(ratios(&[2.0, 30.0], &[1.0, 10.0]), [2.0, 3.0]);
    }

    #[test]
    fn twice_and_half_cancel_out() {
        assert!((geometric_mean([2.0, 0.5, 1.0]) - 1.0).abs() < 1e-12);
    }
}
