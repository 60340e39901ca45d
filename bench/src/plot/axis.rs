//! Linear scales from zero, and their names.

use crate::series::Measure;

/// The axis of the measured values.
#[derive(Debug)]
pub(super) struct Axis {
    pub(super) quantity: &'static str,
    pub(super) measure: Measure,
}

impl Axis {
    /// Returns the name of the axis, with the unit that suits values up to `high`.
    pub(super) fn name(&self, high: f64) -> String {
        let (_, unit) = self.measure.unit_for(high);
        let better = self.measure.better().label();
        format!("{} in {unit}, {better} is better", self.quantity)
    }

    /// Returns the values of the ticks up to `high`, and their texts in the unit of the
    /// name.
    pub(super) fn ticks(&self, high: f64) -> Vec<(f64, String)> {
        let (size, _) = self.measure.unit_for(high);
        let step = step(high / size);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        (0_u32..)
            .map(|number| f64::from(number) * step)
            .take_while(|tick| tick * size <= high)
            .map(|tick| (tick * size, format!("{tick:.decimals$}")))
            .collect()
    }
}

/// Returns the distance of ticks: 1, 2 or 5 times a power of ten, for three to seven
/// ticks up to `high`.
fn step(high: f64) -> f64 {
    let power = 10_f64.powf((high / 6.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let fits = |step: &f64| high / step < 7.0;
    steps.into_iter().find(fits).unwrap_or(10.0 * power)
}

/// Returns the pixel of a value on a scale from `zero`, where the value is 0, to `end`,
/// where it is `high`.
pub(super) fn pixel(value: f64, high: f64, zero: i32, end: i32) -> i32 {
    zero + (value / high * f64::from(end - zero)).round() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_begin_at_zero_and_have_the_unit() {
        let axis = Axis {
            quantity: "time",
            measure: Measure::Nanos,
        };
        for (high, name, expected) in [
            (59.2, "time in ns, lower is better", "0 10 20 30 40 50"),
            (7_760.0, "time in µs, lower is better", "0 2 4 6"),
            (
                1.4e6,
                "time in ms, lower is better",
                "0.0 0.2 0.4 0.6 0.8 1.0 1.2",
            ),
        ] {
            assert_eq!(axis.name(high), name);
            let texts: Vec<String> = axis.ticks(high).into_iter().map(|tick| tick.1).collect();
            assert_eq!(texts.join(" "), expected, "up to {high}");
        }
    }

    #[test]
    fn ticks_are_few_up_to_any_value() {
        for tenths in 1..1000_u32 {
            let high = f64::from(tenths) / 10.0;
            let count = (high / step(high)) as u32 + 1;
            assert!((2..=7).contains(&count), "{high}: {count} ticks");
        }
    }

    #[test]
    fn pixel_is_linear_from_zero() {
        assert_eq!(
            [0.0, 5.0, 10.0].map(|v| pixel(v, 10.0, 100, 300)),
            [100, 200, 300]
        );
        assert_eq!(pixel(2.5, 10.0, 400, 0), 300);
    }
}
