//! Workers that start together: forked processes, or threads for contestants that
//! cannot be shared between processes.
//!
//! Each worker prepares itself (opens its descriptors, pins itself to a processor) and
//! then sleeps at a barrier. The barrier opens after the last worker has arrived. While
//! the workers run, the caller measures time and stops them by a flag in
//! [`Shared`](crate::shared::Shared) memory. A worker that does not finish in time is
//! killed, and the failure names its contestant.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::thread;
use std::time::Duration;

use nix::sys::wait::WaitStatus;

use crate::child::{Child, wait_readable};
use crate::contestants::Scope;
use crate::failure::Failure;

/// The largest number of workers of all workloads.
pub(crate) const MAX_WORKERS: usize = 64;

/// Time that a worker has to arrive at the barrier, and again to finish.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The worker's side of the barrier.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) index: usize,
    /// `None` after the worker has passed the barrier.
    barrier: Option<(PipeWriter, PipeReader)>,
}

impl Worker {
    /// Reports that this worker is ready, and waits until all workers are.
    pub(crate) fn start(&mut self) -> Result<(), Failure> {
        let Some((mut arrived, mut opens)) = self.barrier.take() else {
            return Ok(());
        };
        arrived.write_all(&[0]).map_err(Failure::os("write"))?;
        // The pipe carries no data. The read returns when `Barrier::open` closes the
        // other end.
        let read = opens.read(&mut [0]).map_err(Failure::os("read"))?;
        debug_assert_eq!(read, 0);
        Ok(())
    }
}

/// Runs `work`. Reports the arrival of a worker that returned before the barrier,
/// because the barrier waits for all workers.
fn run_worker(
    mut worker: Worker,
    work: impl FnOnce(&mut Worker) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let result = work(&mut worker);
    if let Some((mut arrived, _)) = worker.barrier {
        arrived.write_all(&[0]).map_err(Failure::os("write"))?;
    }
    result
}

/// The caller's side of the barrier.
#[derive(Debug)]
struct Barrier {
    arrivals: PipeReader,
    arrived: PipeWriter,
    opens: PipeReader,
    /// Closing it opens the barrier.
    open: Option<PipeWriter>,
}

impl Barrier {
    fn new() -> Result<Self, Failure> {
        let (arrivals, arrived) = pipe().map_err(Failure::os("pipe"))?;
        let (opens, open) = pipe().map_err(Failure::os("pipe"))?;
        Ok(Self {
            arrivals,
            arrived,
            opens,
            open: Some(open),
        })
    }

    /// Returns the side of the worker with this index.
    fn worker(&self, index: usize) -> Result<Worker, Failure> {
        let arrived = self.arrived.try_clone().map_err(Failure::os("dup"))?;
        let opens = self.opens.try_clone().map_err(Failure::os("dup"))?;
        Ok(Worker {
            index,
            barrier: Some((arrived, opens)),
        })
    }

    /// Waits until `workers` workers have arrived, and opens the barrier.
    fn open(mut self, what: &str, workers: usize) -> Result<(), Failure> {
        for _ in 0..workers {
            if !wait_readable(&self.arrivals, TIMEOUT)? {
                return Err(timed_out(what));
            }
            self.arrivals
                .read_exact(&mut [0])
                .map_err(Failure::os("read"))?;
        }
        self.open = None;
        Ok(())
    }
}

fn timed_out(what: &str) -> Failure {
    Failure::TimedOut {
        what: what.to_owned(),
        seconds: TIMEOUT.as_secs(),
    }
}

/// Runs workers that are processes, or threads if the contestant supports only these.
pub(crate) fn run(
    scope: Scope,
    what: &str,
    workers: usize,
    work: impl Fn(&mut Worker) -> Result<(), Failure> + Sync,
) -> Result<(), Failure> {
    match scope {
        Scope::Processes => run_processes(what, workers, work, || ()),
        Scope::Threads => run_threads(what, workers, work, || ()),
    }
}

/// Forks `workers` processes that run `work`. Calls `meanwhile` after all of them have
/// passed the barrier, and returns its result. Failures mention `what`.
///
/// The caller must be the only thread of this process.
pub(crate) fn run_processes<R>(
    what: &str,
    workers: usize,
    mut work: impl FnMut(&mut Worker) -> Result<(), Failure>,
    meanwhile: impl FnOnce() -> R,
) -> Result<R, Failure> {
    let mut barrier = Barrier::new()?;
    let mut children = Vec::with_capacity(workers);
    for index in 0..workers {
        let worker = barrier.worker(index)?;
        children.push(Child::spawn(|| {
            // Closes the child's copy. Otherwise the barrier would never open.
            barrier.open = None;
            run_worker(worker, &mut work)
        })?);
    }
    barrier.open(what, workers)?;
    let result = meanwhile();
    for (index, child) in children.iter_mut().enumerate() {
        let how = match child.wait(TIMEOUT)? {
            Some(WaitStatus::Exited(_, 0)) => continue,
            Some(WaitStatus::Exited(_, status)) => format!("failed with exit status {status}"),
            Some(other) => format!("ended abnormally: {other:?}"),
            None => return Err(timed_out(what)),
        };
        return Err(Failure::Worker {
            what: what.to_owned(),
            index,
            how,
        });
    }
    Ok(result)
}

/// Like [`run_processes`], with threads of this process.
pub(crate) fn run_threads<R>(
    what: &str,
    workers: usize,
    work: impl Fn(&mut Worker) -> Result<(), Failure> + Sync,
    meanwhile: impl FnOnce() -> R,
) -> Result<R, Failure> {
    let barrier = Barrier::new()?;
    let sides = (0..workers)
        .map(|index| barrier.worker(index))
        .collect::<Result<Vec<_>, _>>()?;
    thread::scope(|scope| {
        let threads: Vec<_> = sides
            .into_iter()
            .map(|worker| scope.spawn(|| run_worker(worker, &work)))
            .collect();
        barrier.open(what, workers)?;
        let result = meanwhile();
        for (index, thread) in threads.into_iter().enumerate() {
            thread.join().unwrap_or_else(|_panic| {
                Err(Failure::Worker {
                    what: what.to_owned(),
                    index,
                    how: "panicked".to_owned(),
                })
            })?;
        }
        Ok(result)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use serial_test::serial;

    use super::*;
    use crate::affinity;
    use crate::shared::Shared;

    #[test]
    #[serial] // The children of another test would keep the pipes of the barrier open.
    fn smoke() -> Result<(), Failure> {
        let stop = Shared::<AtomicBool>::zeroed()?;
        let sum = Shared::<AtomicU64>::zeroed()?;
        let work = |worker: &mut Worker| {
            affinity::pin(worker.index)?;
            worker.start()?;
            while !stop.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            sum.fetch_add(1 << (4 * worker.index), Ordering::Relaxed);
            Ok(())
        };
        let meanwhile = || stop.store(true, Ordering::Relaxed);
        run_processes("a test", 3, work, meanwhile)?;
        assert_eq!(sum.load(Ordering::Relaxed), 0x111);
        stop.store(false, Ordering::Relaxed);
        run_threads("a test", 3, work, meanwhile)?;
        assert_eq!(sum.load(Ordering::Relaxed), 0x222);
        Ok(())
    }

    #[test]
    #[serial]
    fn worker_failing_before_barrier_is_named() {
        let work = |worker: &mut Worker| match worker.index {
            1 => Err(Failure::Unavailable(
                "a test: this message is expected".to_owned(),
            )),
            _ => worker.start(),
        };
        let failure = run_processes("a test", 2, work, || ()).unwrap_err();
        assert!(
            matches!(failure, Failure::Worker { index: 1, .. }),
            "{failure}"
        );
    }
}
