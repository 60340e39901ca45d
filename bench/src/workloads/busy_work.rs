//! Work that takes a known time and that neither compiler nor processor can shorten.

use std::hint::black_box;
use std::time::Instant;

/// Runs `steps` multiplications, each of which needs the result of the previous one.
#[inline]
pub(super) fn busy_work(seed: u64, steps: u32) {
    let mut value = seed;
    for _ in 0..steps {
        // A step of Knuth's MMIX generator.
        value = value
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
    }
    black_box(value);
}

/// The speed of [`busy_work`] on this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speed {
    steps_per_nano: f64,
}

impl Speed {
    /// Measures the speed in some milliseconds. The fastest of many tries counts,
    /// because disturbances only slow a try.
    pub(super) fn measure() -> Self {
        const STEPS: u32 = 20_000;
        let tries = (0..100).map(|seed| {
            let start = Instant::now();
            busy_work(seed, black_box(STEPS));
            f64::from(STEPS) / start.elapsed().as_nanos() as f64
        });
        Self {
            steps_per_nano: tries.fold(0.0, f64::max),
        }
    }

    /// Returns the number of steps that take `nanos` nanoseconds.
    pub(super) fn steps(self, nanos: u32) -> u32 {
        (f64::from(nanos) * self.steps_per_nano).round() as u32
    }
}

/// Random numbers of steps between 0.5 and 1.5 times a mean.
#[derive(Debug)]
pub(super) struct RandomSteps {
    mean: u32,
    state: u64,
}

impl RandomSteps {
    /// Creates a generator. `seed` must not be 0.
    pub(super) fn new(mean: u32, seed: u64) -> Self {
        Self { mean, state: seed }
    }

    #[inline]
    pub(super) fn next(&mut self) -> u32 {
        // Marsaglia's xorshift.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let random = self.state >> 32; // Below 2^32.
        self.mean / 2 + ((u64::from(self.mean) * random) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let speed = Speed::measure();
        assert!(speed.steps_per_nano > 0.0);
        assert_eq!(speed.steps(0), 0);
    }

    #[test]
    fn random_steps_vary_around_their_mean() {
        let mut steps = RandomSteps::new(1000, 1);
        let all: Vec<u32> = (0..10_000).map(|_| steps.next()).collect();
        assert!(all.iter().all(|steps| (500..1500).contains(steps)));
        let mean = all.iter().sum::<u32>() / 10_000;
        assert!((980..1020).contains(&mean), "{mean}");
    }
}
