//! A storm of kills, and what its processes share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shm_sync::ShmSafe;

use crate::family_results::Storm;
use crate::support::{Child, Random, number_from_env, spawn};

pub(crate) const PROCESSES: usize = 6;
/// The number of kills between two checks of progress.
const KILLS_PER_CHECK: u64 = 100;
/// The time within which each process must make progress during a check.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(20);

/// What the processes of a storm share, beside the object.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Log {
    /// The number of rounds of each process.
    pub(crate) rounds: [AtomicU64; PROCESSES],
    pub(crate) deaths_reported: AtomicU64,
    pub(crate) violations: AtomicU64,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            rounds: [const { AtomicU64::new(0) }; PROCESSES],
            deaths_reported: AtomicU64::new(0),
            violations: AtomicU64::new(0),
        }
    }

    pub(crate) fn record_violation(&self, what: &str) {
        eprintln!("VIOLATION: {what}");
        self.violations.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn finish_round(&self, me: usize) {
        self.rounds[me].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn rounds(&self) -> [u64; PROCESSES] {
        std::array::from_fn(|me| self.rounds[me].load(Ordering::Relaxed))
    }
}

/// Waits until each process has finished a round. Returns the processes that have not.
pub(crate) fn check_progress(log: &Log) -> Result<(), Vec<usize>> {
    let before = log.rounds();
    let begin = Instant::now();
    loop {
        let now = log.rounds();
        let stuck: Vec<usize> = (0..PROCESSES).filter(|&me| now[me] == before[me]).collect();
        if stuck.is_empty() {
            return Ok(());
        }
        if begin.elapsed() > TIME_LIMIT {
            return Err(stuck);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills processes that run `body`, and starts new ones. Panics if one is stuck, or has
/// recorded a violation.
pub(crate) fn survive(name: &str, log: &Log, body: impl Fn(usize)) {
    let kills = number_from_env("SHM_SYNC_STORM_KILLS").unwrap_or(300);
    let (mut random, seed) = Random::from_env(0x5eed);
    let start = |me| spawn(|| body(me));
    let mut processes: Vec<Child> = (0..PROCESSES).map(start).collect();
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    for kill in 1..=kills {
        random.dither(20);
        let victim = random.below(PROCESSES as u64) as usize;
        processes[victim].kill();
        processes[victim] = start(victim);
        if kill % KILLS_PER_CHECK == 0 || kill == kills {
            let calm = Instant::now();
            assert_eq!(
                check_progress(log),
                Ok(()),
                "{name}: stuck after {kill} kills"
            );
            slowest = slowest.max(calm.elapsed());
        }
    }
    for mut process in processes {
        process.kill();
    }
    let storm = Storm {
        name,
        kills,
        seed,
        rounds: log.rounds().iter().sum(),
        deaths_reported: log.deaths_reported.load(Ordering::Relaxed),
        slowest,
        violations: log.violations.load(Ordering::Relaxed),
    };
    println!("{name}: {kills} kills in {:.1?}", begin.elapsed());
    storm.print();
    assert_eq!(storm.violations, 0, "{name}");
}
