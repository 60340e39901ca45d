//! A histogram of durations from nanoseconds to 18 minutes. Recording allocates no
//! memory.
//!
//! Buckets grow with the values: there are 16 for each power of two, so the error of a
//! value is at most 6 %. Each worker records into its own histogram and copies it to
//! shared memory at the end.

use std::array;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::shared::Zeroed;

/// Buckets per power of two.
const STEPS: usize = 16;
/// Powers of two beyond the first 16 values: up to 2^40 ns, 18 minutes.
const POWERS: usize = 36;
const BUCKETS: usize = STEPS * (POWERS + 1);

/// Approximate counts of values.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    buckets: Box<[u64; BUCKETS]>,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            buckets: Box::new([0; BUCKETS]),
        }
    }

    #[inline]
    pub(crate) fn record(&mut self, value: u64) {
        self.buckets[bucket(value)] += 1;
    }

    /// Adds the counts that a worker has stored.
    pub(crate) fn add(&mut self, stored: &SharedHistogram) {
        for (own, stored) in self.buckets.iter_mut().zip(&stored.0) {
            *own += u64::from(stored.load(Ordering::Relaxed));
        }
    }

    /// Stores a copy in shared memory.
    pub(crate) fn store_into(&self, shared: &SharedHistogram) {
        for (own, stored) in self.buckets.iter().zip(&shared.0) {
            stored.store(u32::try_from(*own).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
    }

    /// Returns the value that a part `q` of the values is below. NaN if there are none.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let total: u64 = self.buckets.iter().sum();
        let wanted = (total as f64 * q).max(1.0);
        let mut seen = 0.0;
        for (index, &count) in self.buckets.iter().enumerate() {
            seen += count as f64;
            if seen >= wanted {
                return middle(index);
            }
        }
        f64::NAN
    }
}

/// A histogram in shared memory.
#[derive(Debug)]
pub(crate) struct SharedHistogram([AtomicU32; BUCKETS]);

impl Default for SharedHistogram {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU32::new(0)))
    }
}

// SAFETY: zeros are valid numbers; numbers refer to no process.
unsafe impl Zeroed for SharedHistogram {}

/// Returns the bucket that counts `value`. The largest values share the last bucket.
///
/// ```text
/// value            bucket          values per bucket
/// 0 to 31          0 to 31         1
/// 32 to 63         32 to 47        2
/// 64 to 127        48 to 63        4
/// ```
#[inline]
fn bucket(value: u64) -> usize {
    let value = value.min((1 << (STEPS.ilog2() as usize + POWERS)) - 1);
    let shift = (value | STEPS as u64).ilog2() - STEPS.ilog2();
    shift as usize * STEPS + (value >> shift) as usize
}

/// Returns the value in the middle of a bucket.
fn middle(bucket: usize) -> f64 {
    let shift = (bucket / STEPS).saturating_sub(1);
    let width = (1_u64 << shift) as f64;
    (bucket - shift * STEPS) as f64 * width + (width - 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let mut histogram = Histogram::new();
        for value in 1..=1000 {
            histogram.record(value);
        }
        for (q, expected) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let value = histogram.quantile(q);
            assert!((value / expected - 1.0).abs() < 0.06, "{q}: {value}");
        }
        let stored = SharedHistogram::default();
        histogram.store_into(&stored);
        let mut merged = Histogram::new();
        merged.add(&stored);
        merged.add(&stored);
        assert_eq!(merged.quantile(0.5), histogram.quantile(0.5));
    }

    #[test]
    fn bucket_contains_its_values() {
        let mut before = 0;
        for exponent in 0..64 {
            for value in [
                1_u64 << exponent,
                (1_u64 << exponent) + (1_u64 << exponent) / 3,
            ] {
                let bucket = bucket(value);
                assert!(bucket >= before && bucket < BUCKETS, "{value}");
                before = bucket;
                if value < 1 << 40 {
                    let middle = middle(bucket);
                    assert!(
                        (middle / value as f64 - 1.0).abs() < 0.07,
                        "{value}: {middle}"
                    );
                }
            }
        }
    }

    #[test]
    fn values_below_32_are_exact() {
        for value in 0..32 {
            assert_eq!(middle(bucket(value)), value as f64);
        }
    }

    #[test]
    fn empty_histogram_has_nan_quantiles() {
        assert!(Histogram::new().quantile(0.5).is_nan());
    }
}
