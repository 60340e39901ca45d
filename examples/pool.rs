//! A pool of worker processes does jobs that wait in shared memory. The parent kills
//! one worker with a job in hand. Another worker begins this job again, and each job
//! has exactly one result.
//!
//! A change of a job is one store to one field, so a killed worker never leaves it half
//! done, and there is nothing to repair. The lock reports no death of a worker that
//! does not hold it. But the parent reaps the worker, and then releases its job.
//!
//! The parent starts the workers by `std::process::Command`. The segment has no name:
//! each worker inherits its descriptor as standard input. So nothing is left behind,
//! even if Ctrl-C or `kill -9` ends all processes at once.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::{self, Child, Command};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;
use shm_sync::{PoisonCause, Segment, ShmCondvar, ShmMutex, ShmSafe};

const HELP: &str = "\
A pool of processes does jobs that wait in shared memory: each counts primes. One
process is killed with a job in hand, and another one does the job again.

Usage: cargo run --release --example pool [-- OPTIONS]

  --workers N   number of processes, 2 to 64, default 4
  --below N     count the primes below N in each job, 1000 to 10000000, default 50000
  --help        print this text

You can kill more processes: with --below 5000000 there is time.

Exit status: 0 if each job has its result, 1 if not or after an error, 2 for wrong
arguments.
";

const JOBS: usize = 40;
/// The argument that makes this program a worker.
const WORKER: &str = "--worker-process";

/// The contents of the segment.
#[derive(ShmSafe)]
#[repr(C)]
struct Pool {
    parent: u32,
    jobs: ShmMutex<[Job; JOBS]>,
    /// Notified after each change of a job.
    changed: ShmCondvar,
}

#[derive(Clone, Copy, ShmSafe)]
#[repr(C)]
struct Job {
    /// The job counts the primes below this number.
    below: u64,
    /// The process that does or did the job. 0 if the job waits for a worker.
    worker: u32,
    /// The result. 0 if the job is not done.
    primes: u64,
}

impl Job {
    fn waits(&self) -> bool {
        self.worker == 0
    }

    fn is_in_hand(&self) -> bool {
        self.worker != 0 && self.primes == 0
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    if env::args().nth(1).as_deref() == Some(WORKER) {
        return run_worker();
    }
    let options = [("workers", 4, 2..=64), ("below", 50_000, 1000..=10_000_000)];
    let [workers, below] = support::parse_arguments(HELP, options);
    let mut out = io::stdout();

    let job = Job {
        below,
        worker: 0,
        primes: 0,
    };
    let pool = Segment::anonymous(Pool {
        parent: process::id(),
        jobs: ShmMutex::new([job; JOBS]),
        changed: ShmCondvar::new(),
    })?;
    for _ in 0..workers {
        let worker = start_worker(&pool)?;
        writeln!(out, "worker {} has started", worker.id())?;
    }
    kill_one_with_a_job_in_hand(&pool)?;

    // Each iteration reaps the next process that ends, whichever it is.
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if code != 0 => {
                return Err(format!("worker {pid} failed").into());
            }
            Ok(status) => {
                let pid = status.pid().map_or(0, Pid::as_raw).try_into()?;
                for number in release_jobs(&pool, pid)? {
                    writeln!(out, "worker {pid} was killed with job {number} in hand")?;
                }
            }
            Err(Errno::ECHILD) => break,
            Err(error) => return Err(error.into()),
        }
    }
    // If all workers were killed, this process does the rest.
    do_jobs(&pool)?;

    let jobs = *pool.jobs.lock_or_recover(nothing_to_repair)?;
    let expected = support::count_primes(below);
    let right = jobs.iter().filter(|job| job.primes == expected).count();
    writeln!(out, "{JOBS} jobs, with exactly one right result: {right}")?;
    if right == JOBS {
        Ok(())
    } else {
        Err("not all jobs are done".into())
    }
}

/// Starts this program again, as a worker.
fn start_worker(pool: &Segment<Pool>) -> Result<Child, Box<dyn Error>> {
    let fd = Segment::as_fd(pool).ok_or("the segment has no descriptor")?;
    let mut command = Command::new(env::current_exe()?);
    let command = command.arg(WORKER).stdin(fd.try_clone_to_owned()?);
    Ok(command.spawn()?)
}

fn run_worker() -> Result<(), Box<dyn Error>> {
    let fd = io::stdin().as_fd().try_clone_to_owned()?;
    let pool = Segment::<Pool>::options().from_fd(fd)?;
    support::end_with_parent(pool.parent)?;
    Ok(do_jobs(&pool)?)
}

/// Does one job after the other until all are done. Waits while all jobs are in the
/// hands of other processes, because these may die.
fn do_jobs(pool: &Pool) -> Result<(), shm_sync::Error> {
    let mut jobs = pool.jobs.lock_or_recover(nothing_to_repair)?;
    loop {
        let must_wait = |jobs: &mut [Job; JOBS]| {
            !jobs.iter().any(Job::waits) && jobs.iter().any(Job::is_in_hand)
        };
        jobs = pool
            .changed
            .wait_while_or_recover(jobs, must_wait, nothing_to_repair)?;
        let Some(number) = jobs.iter().position(Job::waits) else {
            return Ok(());
        };
        jobs[number].worker = process::id();
        pool.changed.notify_all();
        let below = jobs[number].below;
        drop(jobs); // The job takes time, so the lock is not held meanwhile.

        let primes = support::count_primes(below);

        jobs = pool.jobs.lock_or_recover(nothing_to_repair)?;
        assert_eq!(jobs[number].primes, 0, "job {number} was done before");
        jobs[number].primes = primes;
        pool.changed.notify_all();
    }
}

fn kill_one_with_a_job_in_hand(pool: &Pool) -> Result<(), Box<dyn Error>> {
    let jobs = pool.jobs.lock_or_recover(nothing_to_repair)?;
    let nothing_in_hand = |jobs: &mut [Job; JOBS]| !jobs.iter().any(Job::is_in_hand);
    // The time limit is for the case that you kill all workers first.
    let limit = Duration::from_secs(10);
    let (jobs, _) = pool.changed.wait_timeout_while_or_recover(
        jobs,
        limit,
        nothing_in_hand,
        nothing_to_repair,
    )?;
    // While this process holds the lock, the worker can't finish its job.
    if let Some(job) = jobs.iter().find(|job| job.is_in_hand()) {
        kill(Pid::from_raw(job.worker.try_into()?), Signal::SIGKILL)?;
    }
    Ok(())
}

/// Releases the jobs that a dead worker had in hand, and returns their numbers.
fn release_jobs(pool: &Pool, worker: u32) -> Result<Vec<usize>, shm_sync::Error> {
    let mut jobs = pool.jobs.lock_or_recover(nothing_to_repair)?;
    let mut released = Vec::new();
    for (number, job) in jobs.iter_mut().enumerate() {
        if job.worker == worker && job.is_in_hand() {
            job.worker = 0;
            released.push(number);
        }
    }
    pool.changed.notify_all();
    Ok(released)
}

fn nothing_to_repair(_jobs: &mut [Job; JOBS], _cause: PoisonCause) {}
