//! Workers who start together: forked processes, or threads for the contestants that
//! know no processes.
//!
//! Each worker gets ready (opens its own descriptors, pins itself to a processor),
//! and waits at a gate, asleep, so that it takes no processor time from those who
//! still get ready. When all are there, the gate opens for all at once. Meanwhile the
//! caller conducts: sleeps for as long as is measured, and tells them to stop by a
//! flag in [`Shared`](crate::shared::Shared) memory. Who does not come to an end is
//! killed, and its contestant named.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use crate::child::{Child, readable};
use crate::failure::Failure;

/// The largest crew of all workloads.
pub(crate) const MAX_WORKERS: usize = 64;

/// How long a worker may take to get ready, and to come to an end.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a worker has: its number, and the gate.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) index: usize,
    /// `None` once it has passed.
    gate: Option<(PipeWriter, PipeReader)>,
}

impl Worker {
    /// Says that this worker is ready, and waits until all are.
    pub(crate) fn start(&mut self) -> Result<(), Failure> {
        let Some((mut arrived, mut opens)) = self.gate.take() else {
            return Ok(());
        };
        arrived.write_all(&[0]).map_err(Failure::of("write"))?;
        // Nobody writes: it ends when the conductor closes the other end.
        let read = opens.read(&mut [0]).map_err(Failure::of("read"))?;
        debug_assert_eq!(read, 0);
        Ok(())
    }
}

/// Does `work`. Who returns before the gate keeps nobody waiting in front of it.
fn attend(
    mut worker: Worker,
    work: impl FnOnce(&mut Worker) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let result = work(&mut worker);
    if let Some((mut arrived, _)) = worker.gate {
        arrived.write_all(&[0]).map_err(Failure::of("write"))?;
    }
    result
}

/// The conductor's side of the gate.
#[derive(Debug)]
struct Gate {
    arrivals: PipeReader,
    arrived: PipeWriter,
    opens: PipeReader,
    /// Closing it opens the gate.
    open: Option<PipeWriter>,
}

impl Gate {
    fn new() -> Result<Self, Failure> {
        let (arrivals, arrived) = pipe().map_err(Failure::of("pipe"))?;
        let (opens, open) = pipe().map_err(Failure::of("pipe"))?;
        Ok(Self {
            arrivals,
            arrived,
            opens,
            open: Some(open),
        })
    }

    /// What the worker with this number gets.
    fn worker(&self, index: usize) -> Result<Worker, Failure> {
        let arrived = self.arrived.try_clone().map_err(Failure::of("dup"))?;
        let opens = self.opens.try_clone().map_err(Failure::of("dup"))?;
        Ok(Worker {
            index,
            gate: Some((arrived, opens)),
        })
    }

    /// Waits until so many workers are there, and opens.
    fn open(mut self, what: &str, workers: usize) -> Result<(), Failure> {
        for _ in 0..workers {
            if !readable(&self.arrivals, PATIENCE)? {
                return Err(stuck(what));
            }
            self.arrivals
                .read_exact(&mut [0])
                .map_err(Failure::of("read"))?;
        }
        self.open = None;
        Ok(())
    }
}

fn stuck(what: &str) -> Failure {
    Failure::Stuck {
        what: what.to_owned(),
        seconds: PATIENCE.as_secs(),
    }
}

/// Forks `workers` processes that do `work`, and calls `conduct` when all have
/// started. `what` is for messages.
///
/// To be called while this process has one thread.
pub(crate) fn processes<R>(
    what: &str,
    workers: usize,
    mut work: impl FnMut(&mut Worker) -> Result<(), Failure>,
    conduct: impl FnOnce() -> R,
) -> Result<R, Failure> {
    let mut gate = Gate::new()?;
    let mut children = Vec::with_capacity(workers);
    for index in 0..workers {
        let worker = gate.worker(index)?;
        children.push(Child::spawn(|| {
            gate.open = None; // the child's copy
            attend(worker, &mut work)
        })?);
    }
    gate.open(what, workers)?;
    let result = conduct();
    for (index, child) in children.iter_mut().enumerate() {
        let how = match child.wait(PATIENCE)? {
            Some(WaitStatus::Exited(_, 0)) => continue,
            Some(WaitStatus::Exited(_, status)) => format!("failed with exit status {status}"),
            Some(other) => format!("ended badly: {other:?}"),
            None => return Err(stuck(what)),
        };
        return Err(Failure::Worker {
            what: what.to_owned(),
            index,
            how,
        });
    }
    Ok(result)
}

/// Has `workers` threads of this process do `work`, and calls `conduct` when all have
/// started.
pub(crate) fn threads<R>(
    what: &str,
    workers: usize,
    work: impl Fn(&mut Worker) -> Result<(), Failure> + Sync,
    conduct: impl FnOnce() -> R,
) -> Result<R, Failure> {
    let gate = Gate::new()?;
    let crew = (0..workers)
        .map(|index| gate.worker(index))
        .collect::<Result<Vec<_>, _>>()?;
    thread::scope(|scope| {
        let crew: Vec<_> = crew
            .into_iter()
            .map(|worker| scope.spawn(|| attend(worker, &work)))
            .collect();
        gate.open(what, workers)?;
        let result = conduct();
        for (index, worker) in crew.into_iter().enumerate() {
            worker.join().unwrap_or_else(|_panic| {
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

/// Sleeps for at least `time`, and returns how long that was.
pub(crate) fn sleep(time: Duration) -> Duration {
    let start = Instant::now();
    thread::sleep(time);
    start.elapsed()
}

/// The processors that this process may run on.
pub(crate) fn processors() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count())
        .filter(|&processor| set.is_set(processor).unwrap_or(false))
        .collect()
}

/// Keeps the calling thread on one processor: the same for the same `seat`, and
/// different ones for different seats as far as there are any.
pub(crate) fn sit(seat: usize) -> Result<(), Failure> {
    let processors = processors();
    let mut set = CpuSet::new();
    if let Some(&processor) = processors.get(seat % processors.len().max(1)) {
        set.set(processor).map_err(Failure::of("CPU_SET"))?;
        sched_setaffinity(Pid::from_raw(0), &set).map_err(Failure::of("sched_setaffinity"))?;
    }
    Ok(())
}

/// Keeps the calling thread on its first processor until dropped.
#[derive(Debug)]
pub(crate) struct Seated {
    before: CpuSet,
}

impl Seated {
    pub(crate) fn first() -> Result<Self, Failure> {
        let before =
            sched_getaffinity(Pid::from_raw(0)).map_err(Failure::of("sched_getaffinity"))?;
        sit(0)?;
        Ok(Self { before })
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use serial_test::serial;

    use super::*;
    use crate::shared::Shared;

    #[test]
    #[serial] // another test's children would keep the gate's pipes open
    fn smoke() -> Result<(), Failure> {
        let stop = Shared::<AtomicBool>::zeroed()?;
        let sum = Shared::<AtomicU64>::zeroed()?;
        let work = |worker: &mut Worker| {
            sit(worker.index)?;
            worker.start()?;
            while !stop.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            sum.fetch_add(1 << (4 * worker.index), Ordering::Relaxed);
            Ok(())
        };
        let conduct = || stop.store(true, Ordering::Relaxed);
        processes("a test", 3, work, conduct)?;
        assert_eq!(sum.load(Ordering::Relaxed), 0x111);
        stop.store(false, Ordering::Relaxed);
        threads("a test", 3, work, conduct)?;
        assert_eq!(sum.load(Ordering::Relaxed), 0x222);
        Ok(())
    }

    #[test]
    #[serial]
    fn who_fails_before_the_gate_is_named() {
        let work = |worker: &mut Worker| match worker.index {
            1 => Err(Failure::NotHere("a test: this is expected".to_owned())),
            _ => worker.start(),
        };
        let failure = processes("a test", 2, work, || ()).unwrap_err();
        assert!(
            matches!(failure, Failure::Worker { index: 1, .. }),
            "{failure}"
        );
    }
}
