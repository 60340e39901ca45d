//! Random numbers.

use std::time::{Duration, Instant};

use super::environment::number_from_env;

/// Random numbers that a seed repeats (xorshift64*, Vigna 2016).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Returns a generator and its seed: `SHM_SYNC_STORM_SEED` or, if that is not set,
    /// `default`.
    pub fn from_env(default: u64) -> (Self, u64) {
        let seed = number_from_env("SHM_SYNC_STORM_SEED").unwrap_or(default);
        (Self::new(seed), seed)
    }

    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    /// Spins for between 0 and 2^`scale` ns. Short times are as frequent as long ones.
    pub fn dither(&mut self, scale: u64) {
        let range = 1 << self.below(scale + 1);
        let until = Instant::now() + Duration::from_nanos(self.below(range));
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }
}
