//! Measurement of one contestant with one setup: a number of workers and a kind of
//! section.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::section::{Millis, Section};
use crate::contestants::{Lock, Scope};
use crate::failure::Failure;
use crate::histogram::{Histogram, SharedHistogram};
use crate::shared::{Shared, Zeroed};
use crate::workers::{self, MAX_WORKERS, Worker};
use crate::workloads::busy_work::{RandomSteps, Speed, busy_work};
use crate::{affinity, clock};

/// The work of all workers.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) section: Section,
    pub(super) workers: usize,
    millis: Millis,
    /// Steps of busy work.
    inside: u32,
    /// Steps of busy work, on average.
    outside: u32,
}

/// The result of [`Setup::measure_throughput`].
#[derive(Debug)]
pub(super) struct Throughput {
    pub(super) per_second: f64,
    pub(super) cpu_nanos: f64,
}

/// The result of [`Setup::measure_latency`], in nanoseconds.
#[derive(Debug)]
pub(super) struct Latency {
    pub(super) fairness: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
}

/// The memory that the workers share, besides the lock.
struct SharedResults {
    stop: Stop,
    workers: [WorkerResult; MAX_WORKERS],
}

/// A flag on its own cache line, because all workers poll it.
#[repr(align(128))]
struct Stop(AtomicBool);

/// The result of a worker.
#[repr(align(128))]
struct WorkerResult {
    operations: AtomicU64,
    cpu_nanos: AtomicU64,
    latencies: SharedHistogram,
}

// SAFETY: zeros are valid numbers and a valid bool; neither refers to a process.
unsafe impl Zeroed for SharedResults {}

impl Setup {
    pub(super) fn new(section: Section, workers: usize, millis: Millis, speed: Speed) -> Self {
        let (inside, outside) = section.nanos();
        Self {
            section,
            workers,
            millis,
            inside: speed.steps(inside),
            outside: speed.steps(outside),
        }
    }

    /// Counts operations.
    pub(super) fn measure_throughput<L: Lock>(&self, lock: &mut L) -> Result<Throughput, Failure> {
        let (results, time) = self.run(lock, self.millis.counted, || NoStopwatch)?;
        let workers = &results.workers[..self.workers];
        let each = workers
            .iter()
            .map(|worker| worker.operations.load(Ordering::Relaxed));
        let sum = each.sum::<u64>() as f64;
        let cpu_nanos: u64 = workers
            .iter()
            .map(|worker| worker.cpu_nanos.load(Ordering::Relaxed))
            .sum();
        Ok(Throughput {
            per_second: sum / time.as_secs_f64(),
            cpu_nanos: cpu_nanos as f64 / sum,
        })
    }

    /// Measures the time to lock.
    pub(super) fn measure_latency<L: Lock>(&self, lock: &mut L) -> Result<Latency, Failure> {
        let (results, _) = self.run(lock, self.millis.clocked, LockStopwatch::new)?;
        let workers = &results.workers[..self.workers];
        let mut all = Histogram::new();
        for worker in workers {
            all.add(&worker.latencies);
        }
        let each = workers
            .iter()
            .map(|worker| worker.operations.load(Ordering::Relaxed));
        let (fewest, most) = (each.clone().min(), each.max());
        Ok(Latency {
            fairness: fewest.unwrap_or(0) as f64 / most.unwrap_or(0).max(1) as f64,
            p50: all.quantile(0.5),
            p99: all.quantile(0.99),
            p999: all.quantile(0.999),
        })
    }

    /// Runs the workers for `millis` and checks that no update was lost. Returns their
    /// results and the exact time.
    fn run<L: Lock, S: Stopwatch>(
        &self,
        lock: &mut L,
        millis: u64,
        stopwatch: impl Fn() -> S + Sync,
    ) -> Result<(Shared<SharedResults>, Duration), Failure> {
        let results = Shared::<SharedResults>::zeroed()?;
        let before = lock.with(|count| *count);
        let meanwhile = || {
            let time = clock::sleep(Duration::from_millis(millis));
            results.stop.0.store(true, Ordering::Relaxed);
            time
        };
        let name = L::PROFILE.name;
        let time = match L::PROFILE.scope {
            Scope::Processes => {
                let work = |worker: &mut Worker| {
                    lock.after_fork()?;
                    self.work(lock, worker, &results, stopwatch())
                };
                workers::run_processes(name, self.workers, work, meanwhile)
            }
            Scope::Threads => {
                let lock = &*lock;
                let work = |worker: &mut Worker| self.work(lock, worker, &results, stopwatch());
                workers::run_threads(name, self.workers, work, meanwhile)
            }
        }?;
        let counted = lock.with(|count| *count) - before;
        let done: u64 = results
            .workers
            .iter()
            .map(|worker| worker.operations.load(Ordering::Relaxed))
            .sum();
        if counted != done {
            return Err(Failure::WrongResult {
                contestant: name,
                what: format!("{done} operations were done, {counted} were counted"),
            });
        }
        Ok((results, time))
    }

    /// Does the work of a worker until it is stopped.
    fn work<L: Lock>(
        &self,
        lock: &L,
        worker: &mut Worker,
        results: &SharedResults,
        mut stopwatch: impl Stopwatch,
    ) -> Result<(), Failure> {
        let mut outside = RandomSteps::new(self.outside, worker.index as u64 + 1);
        affinity::pin(worker.index)?;
        worker.start()?;
        let cpu_before = cpu_nanos()?;
        let mut operations = 0;
        while !results.stop.0.load(Ordering::Relaxed) {
            stopwatch.before_lock();
            lock.with(|count| {
                stopwatch.after_lock();
                *count += 1;
                busy_work(*count, self.inside);
            });
            operations += 1;
            busy_work(operations, outside.next());
        }
        let result = &results.workers[worker.index];
        result.operations.store(operations, Ordering::Relaxed);
        let cpu = cpu_nanos()? - cpu_before;
        result.cpu_nanos.store(cpu, Ordering::Relaxed);
        stopwatch.store_into(&result.latencies);
        Ok(())
    }
}

/// Returns the processor time that this thread has used.
fn cpu_nanos() -> Result<u64, Failure> {
    let time =
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_err(Failure::os("clock_gettime"))?;
    Ok(Duration::from(time).as_nanos() as u64)
}

/// A stopwatch for the time to lock. By default it measures nothing.
trait Stopwatch {
    fn before_lock(&mut self) {}
    fn after_lock(&mut self) {}
    fn store_into(&self, _shared: &SharedHistogram) {}
}

struct NoStopwatch;

impl Stopwatch for NoStopwatch {}

struct LockStopwatch {
    started: Instant,
    latencies: Histogram,
}

impl LockStopwatch {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            latencies: Histogram::new(),
        }
    }
}

impl Stopwatch for LockStopwatch {
    #[inline]
    fn before_lock(&mut self) {
        self.started = Instant::now();
    }

    #[inline]
    fn after_lock(&mut self) {
        let nanos = self.started.elapsed().as_nanos();
        self.latencies.record(nanos as u64);
    }

    fn store_into(&self, shared: &SharedHistogram) {
        self.latencies.store_into(shared);
    }
}
