//! One contestant's turn in one cell: so many workers, one kind of section.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::toil::{Breaks, Pace, toil};
use super::{Millis, Section};
use crate::contestants::{Lock, Scope};
use crate::crew::{self, MAX_WORKERS, Worker};
use crate::failure::Failure;
use crate::histogram::{Histogram, SharedHistogram};
use crate::shared::{Shared, Zeroed};

/// What all workers of a turn do.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) section: Section,
    pub(super) workers: usize,
    millis: Millis,
    /// Steps of toil.
    inside: u32,
    /// Steps of toil, on average.
    outside: u32,
}

/// What came of a turn.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) per_second: f64,
    pub(super) cpu_nanos: f64,
}

/// What came of a turn in which the time to get the lock was taken, in nanoseconds.
#[derive(Debug)]
pub(super) struct Clocked {
    pub(super) fairness: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
}

/// What the workers of a turn share, besides the lock.
struct Board {
    stop: Stop,
    tallies: [Tally; MAX_WORKERS],
}

/// On a cache line of its own: all read it, all the time.
#[repr(align(128))]
struct Stop(AtomicBool);

/// What a worker leaves at the end.
#[repr(align(128))]
struct Tally {
    operations: AtomicU64,
    cpu_nanos: AtomicU64,
    latencies: SharedHistogram,
}

// SAFETY: it is made of atomic numbers, which may be zero.
unsafe impl Zeroed for Board {}

impl Cell {
    pub(super) fn new(section: Section, workers: usize, millis: Millis, pace: Pace) -> Self {
        let (inside, outside) = section.nanos();
        Self {
            section,
            workers,
            millis,
            inside: pace.steps(inside),
            outside: pace.steps(outside),
        }
    }

    /// A turn in which operations are counted.
    pub(super) fn count<L: Lock>(&self, lock: &mut L) -> Result<Counted, Failure> {
        let (board, time) = self.turn(lock, self.millis.counted, || NoClock)?;
        let tallies = &board.tallies[..self.workers];
        let each = tallies
            .iter()
            .map(|tally| tally.operations.load(Ordering::Relaxed));
        let sum = each.sum::<u64>() as f64;
        let cpu_nanos: u64 = tallies
            .iter()
            .map(|tally| tally.cpu_nanos.load(Ordering::Relaxed))
            .sum();
        Ok(Counted {
            per_second: sum / time.as_secs_f64(),
            cpu_nanos: cpu_nanos as f64 / sum,
        })
    }

    /// A turn in which the time to get the lock is taken.
    pub(super) fn clock<L: Lock>(&self, lock: &mut L) -> Result<Clocked, Failure> {
        let (board, _) = self.turn(lock, self.millis.clocked, Stopwatch::new)?;
        let tallies = &board.tallies[..self.workers];
        let mut all = Histogram::new();
        for tally in tallies {
            all.add(&tally.latencies);
        }
        let each = tallies
            .iter()
            .map(|tally| tally.operations.load(Ordering::Relaxed));
        let (fewest, most) = (each.clone().min(), each.max());
        Ok(Clocked {
            fairness: fewest.unwrap_or(0) as f64 / most.unwrap_or(0).max(1) as f64,
            p50: all.quantile(0.5),
            p99: all.quantile(0.99),
            p999: all.quantile(0.999),
        })
    }

    /// Has the workers do it, and checks that no update was lost. Returns what they
    /// left, and how long it took.
    fn turn<L: Lock, C: Clock>(
        &self,
        lock: &mut L,
        millis: u64,
        clock: impl Fn() -> C + Sync,
    ) -> Result<(Shared<Board>, Duration), Failure> {
        let board = Shared::<Board>::zeroed()?;
        let before = lock.with(|count| *count);
        let conduct = || {
            let time = crew::sleep(Duration::from_millis(millis));
            board.stop.0.store(true, Ordering::Relaxed);
            time
        };
        let name = L::PROFILE.name;
        let time = match L::PROFILE.scope {
            Scope::Processes => {
                let work = |worker: &mut Worker| {
                    lock.join()?;
                    self.labour(lock, worker, &board, clock())
                };
                crew::processes(name, self.workers, work, conduct)
            }
            Scope::Threads => {
                let lock = &*lock;
                let work = |worker: &mut Worker| self.labour(lock, worker, &board, clock());
                crew::threads(name, self.workers, work, conduct)
            }
        }?;
        let counted = lock.with(|count| *count) - before;
        let done: u64 = board
            .tallies
            .iter()
            .map(|tally| tally.operations.load(Ordering::Relaxed))
            .sum();
        if counted != done {
            return Err(Failure::Wrong {
                contestant: name,
                what: format!("{done} operations were done, {counted} were counted"),
            });
        }
        Ok((board, time))
    }

    /// What a worker does.
    fn labour<L: Lock>(
        &self,
        lock: &L,
        worker: &mut Worker,
        board: &Board,
        mut clock: impl Clock,
    ) -> Result<(), Failure> {
        let mut breaks = Breaks::new(self.outside, worker.index as u64 + 1);
        crew::sit(worker.index)?;
        worker.start()?;
        let cpu_before = cpu_nanos()?;
        let mut operations = 0;
        while !board.stop.0.load(Ordering::Relaxed) {
            clock.asks();
            lock.with(|count| {
                clock.has();
                *count += 1;
                toil(*count, self.inside);
            });
            operations += 1;
            toil(operations, breaks.next());
        }
        let tally = &board.tallies[worker.index];
        tally.operations.store(operations, Ordering::Relaxed);
        let cpu = cpu_nanos()? - cpu_before;
        tally.cpu_nanos.store(cpu, Ordering::Relaxed);
        clock.leave(&tally.latencies);
        Ok(())
    }
}

/// Processor time that this thread has used.
fn cpu_nanos() -> Result<u64, Failure> {
    let time =
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_err(Failure::of("clock_gettime"))?;
    Ok(Duration::from(time).as_nanos() as u64)
}

/// What takes the time to get the lock, or does not.
trait Clock {
    fn asks(&mut self) {}
    fn has(&mut self) {}
    fn leave(&self, _place: &SharedHistogram) {}
}

struct NoClock;

impl Clock for NoClock {}

struct Stopwatch {
    asked: Instant,
    latencies: Histogram,
}

impl Stopwatch {
    fn new() -> Self {
        Self {
            asked: Instant::now(),
            latencies: Histogram::new(),
        }
    }
}

impl Clock for Stopwatch {
    #[inline]
    fn asks(&mut self) {
        self.asked = Instant::now();
    }

    #[inline]
    fn has(&mut self) {
        let nanos = self.asked.elapsed().as_nanos();
        self.latencies.record(nanos as u64);
    }

    fn leave(&self, place: &SharedHistogram) {
        self.latencies.leave(place);
    }
}
