//! Work that takes a known time, and that no compiler or processor can shorten.

use std::hint::black_box;
use std::time::Instant;

use crate::stats::Summary;

/// `steps` multiplications, each of which needs the one before it.
#[inline]
pub(super) fn toil(seed: u64, steps: u32) {
    let mut value = seed;
    for _ in 0..steps {
        // A step of Knuth's MMIX generator.
        value = value
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
    }
    black_box(value);
}

/// How fast this machine toils.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    steps_per_nano: f64,
}

impl Pace {
    /// Takes some milliseconds. The fastest of many tries counts: the others were
    /// disturbed.
    pub(super) fn measure() -> Self {
        const STEPS: u32 = 20_000;
        let tries: Vec<f64> = (0..100)
            .map(|seed| {
                let start = Instant::now();
                toil(seed, black_box(STEPS));
                f64::from(STEPS) / start.elapsed().as_nanos() as f64
            })
            .collect();
        Self {
            steps_per_nano: Summary::of(&tries).max,
        }
    }

    /// So many steps take so long.
    pub(super) fn steps(self, nanos: u32) -> u32 {
        (f64::from(nanos) * self.steps_per_nano).round() as u32
    }
}

/// Random durations around a mean: from half of it to one and a half times as much.
#[derive(Debug)]
pub(super) struct Breaks {
    mean: u32,
    state: u64,
}

impl Breaks {
    /// `seed` is not 0.
    pub(super) fn new(mean: u32, seed: u64) -> Self {
        Self { mean, state: seed }
    }

    #[inline]
    pub(super) fn next(&mut self) -> u32 {
        // Marsaglia's xorshift.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let random = self.state >> 32; // below 2^32
        self.mean / 2 + ((u64::from(self.mean) * random) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let pace = Pace::measure();
        assert!(pace.steps_per_nano > 0.0);
        assert_eq!(pace.steps(0), 0);
    }

    #[test]
    fn breaks_vary_around_their_mean() {
        let mut breaks = Breaks::new(1000, 1);
        let all: Vec<u32> = (0..10_000).map(|_| breaks.next()).collect();
        assert!(all.iter().all(|nanos| (500..1500).contains(nanos)));
        let mean = all.iter().sum::<u32>() / 10_000;
        assert!((980..1020).contains(&mean), "{mean}");
    }
}
