//! A supervisor sends jobs to workers and gets their results, all by messages. It kills
//! workers at random and starts others. Each job has exactly one result in the end.
//!
//! Each worker has a channel of its own, with room for one job. When the supervisor
//! gets a result, it sends the worker the next job. So the supervisor always knows
//! which job the worker has in hand. (With one channel for all workers, a worker could
//! die after it has received a job and before it has told any other process which.)
//! When a worker dies, its successor gets the same channel:
//!
//! | the dead worker had | the supervisor |
//! |---|---|
//! | not received the job | leaves it in the channel |
//! | received it, and sent no result | sends the job again |
//! | sent the result | has handled the result before the death |
//!
//! The third row holds because results and deaths come through one channel, in their
//! order. For each worker, a thread waits until the worker is dead, and reports it
//! after that. So no result comes twice, and none comes from a worker whose job was
//! sent again. The work itself may be done twice.
//!
//! The example `pool` needs no messages: its jobs lie in a table under a lock, and the
//! workers claim them there. It has all jobs in shared memory from the beginning. Here,
//! the supervisor may make a job when a worker is free for it.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Child, Command};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use shm_sync::{Segment, SendError, Sender, ShmChannel, ShmSafe};
use support::{Random, count_primes};

const HELP: &str = "\
A supervisor sends jobs to workers, which count primes. It kills workers at random and
starts others, and each job has exactly one result.

Usage: cargo run --release --example job_queue [-- OPTIONS]

  --workers N   number of processes that work at the same time, 1 to 32, default 4
  --jobs N      number of jobs, 1 to 1000000, default 1000
  --kills N     number of kills, 0 to 100000, default 20
  --seed N      selects the victims and when they are killed, default 1
  --help        print this text

You can kill more workers: with --jobs 100000 there is time.

Exit status: 0 if each job has its result, 1 if not or after an error, 2 for wrong
arguments.
";

const MAX_WORKERS: usize = 32;
/// The argument that makes this program a worker. Its index follows.
const WORKER: &str = "--worker-process";

/// The contents of the segment.
#[derive(ShmSafe)]
#[repr(C)]
struct Shared {
    supervisor: u32,
    /// One channel for each worker. Its successor uses the same one.
    jobs: [ShmChannel<Job, 1, 1, 1>; MAX_WORKERS],
    /// The senders are the workers, the threads that wait for their deaths, and the
    /// supervisor: it keeps the channel connected when all workers are dead.
    events: ShmChannel<Event, 64, { 2 * MAX_WORKERS + 1 }, 1>,
}

#[derive(Clone, Copy, ShmSafe)]
#[repr(u8)]
enum Job {
    Work(u64),
    Stop,
}

#[derive(Clone, Copy, ShmSafe)]
#[repr(u8)]
enum Event {
    Result { worker: u32, job: u64, primes: u64 },
    Death { worker: u32 },
}

/// A worker, as the supervisor sees it.
struct Worker<'a> {
    child: Child,
    jobs: Sender<'a, Job, 1, 1, 1>,
    /// The job that was sent last, until its result comes.
    in_hand: Option<u64>,
    is_killed: bool,
    /// Reports its death.
    watcher: JoinHandle<()>,
}

fn main() -> Result<(), Box<dyn Error>> {
    if env::args().nth(1).as_deref() == Some(WORKER) {
        return run_worker(env::args().nth(2).unwrap_or_default().parse()?);
    }
    let options = [
        ("workers", 4, 1..=MAX_WORKERS as u64),
        ("jobs", 1000, 1..=1_000_000),
        ("kills", 20, 0..=100_000),
        ("seed", 1, 1..=u64::MAX),
    ];
    let [workers, jobs, kills, seed] = support::parse_arguments(HELP, options);
    let shared = Arc::new(Segment::anonymous(Shared {
        supervisor: process::id(),
        jobs: [const { ShmChannel::new() }; MAX_WORKERS],
        events: ShmChannel::new(),
    })?);
    let mut random = Random(seed);
    let kills = (0..kills).map(|_| random.below(jobs)).collect();
    let results = supervise(&shared, workers as usize, jobs, kills, random)?;

    let expected: Vec<_> = (0..100).map(work).map(Some).collect();
    let pairs = results.iter().zip(expected.iter().cycle());
    let right = pairs
        .filter(|(result, expected)| result == expected)
        .count();
    let mut out = io::stdout();
    writeln!(out, "{jobs} jobs, with exactly one right result: {right}")?;
    if right as u64 == jobs {
        Ok(())
    } else {
        Err("not all results are right".into())
    }
}

/// Lets workers do all jobs, and returns the results. Kills a worker each time when
/// there are as many results as `kills` says.
fn supervise(
    shared: &Arc<Segment<Shared>>,
    count: usize,
    jobs: u64,
    mut kills: Vec<u64>,
    mut random: Random,
) -> Result<Vec<Option<u64>>, Box<dyn Error>> {
    let events = shared.events.receiver()?;
    let _keeps_connected = shared.events.sender()?;
    let mut waiting = 0..jobs;
    let mut workers = Vec::new();
    for index in 0..count {
        workers.push(Worker::start(shared, index, waiting.next())?);
    }
    kills.sort_unstable_by(|a, b| b.cmp(a));
    let mut results = vec![None; jobs as usize];
    let mut done = 0;
    while done < jobs {
        while kills.last().is_some_and(|at| *at <= done) {
            let mut living: Vec<_> = workers.iter_mut().filter(|it| !it.is_killed).collect();
            if living.is_empty() {
                break; // The next event is a death.
            }
            let victim = living.swap_remove(random.below(living.len() as u64) as usize);
            victim.child.kill()?;
            victim.is_killed = true;
            kills.pop();
        }
        match events.recv()? {
            Event::Result {
                worker,
                job,
                primes,
            } => {
                if results[job as usize].replace(primes).is_some() {
                    return Err(format!("job {job} has two results").into());
                }
                done += 1;
                workers[worker as usize].give(waiting.next())?;
            }
            Event::Death { worker } => {
                let index = worker as usize;
                let in_hand = end(shared, workers.remove(index), index)?;
                workers.insert(index, Worker::start(shared, index, in_hand)?);
            }
        }
    }
    for worker in &mut workers {
        worker.send(Job::Stop)?;
        worker.child.wait()?;
    }
    Ok(results)
}

/// Reaps a worker and reports its death. Returns the job that it had in hand.
fn end(
    shared: &Shared,
    mut worker: Worker<'_>,
    index: usize,
) -> Result<Option<u64>, Box<dyn Error>> {
    let (pid, status) = (worker.child.id(), worker.child.wait()?);
    if status.signal().is_none() {
        return Err(format!("worker {pid} failed: {status}").into());
    }
    let state = match worker.in_hand {
        Some(job) if shared.jobs[index].is_empty() => format!("with job {job} in hand"),
        Some(job) => format!("before it received job {job}"),
        None => "without a job".into(),
    };
    writeln!(io::stdout(), "worker {pid} was killed {state}")?;
    worker.watcher.join().map_err(|_| "the thread panicked")?;
    Ok(worker.in_hand)
}

impl<'a> Worker<'a> {
    /// Starts this program again, as a worker. It gets the job that its predecessor had
    /// in hand.
    fn start(
        shared: &'a Arc<Segment<Shared>>,
        index: usize,
        in_hand: Option<u64>,
    ) -> Result<Self, Box<dyn Error>> {
        let jobs = shared.jobs[index].sender()?;
        // The predecessor is dead. If it did not receive the job, the job is there.
        let is_received = shared.jobs[index].is_empty();
        let fd = Segment::as_fd(shared).ok_or("the segment has no descriptor")?;
        let child = Command::new(env::current_exe()?)
            .args([WORKER, &index.to_string()])
            .stdin(fd.try_clone_to_owned()?)
            .spawn()?;
        let mut worker = Self {
            watcher: report_death(shared, index, child.id())?,
            child,
            jobs,
            in_hand,
            is_killed: false,
        };
        if is_received {
            worker.give(in_hand)?;
        }
        Ok(worker)
    }

    fn give(&mut self, job: Option<u64>) -> Result<(), Box<dyn Error>> {
        self.in_hand = job;
        job.map_or(Ok(()), |job| self.send(Job::Work(job)))
    }

    fn send(&self, job: Job) -> Result<(), Box<dyn Error>> {
        match self.jobs.send(job) {
            // If the worker is dead, that is an event as well.
            Ok(()) | Err(SendError::Disconnected { .. }) => Ok(()),
            Err(error) => Err(error.to_string().into()),
        }
    }
}

/// Starts a thread that sends an event when a worker is dead. It does not reap the
/// worker. So the process id stays valid until the supervisor has handled the event.
fn report_death(
    shared: &Arc<Segment<Shared>>,
    index: usize,
    pid: u32,
) -> Result<JoinHandle<()>, Box<dyn Error>> {
    let id = Id::Pid(Pid::from_raw(pid.try_into()?));
    let worker = index.try_into()?;
    let shared = Arc::clone(shared);
    Ok(thread::spawn(move || {
        let ended = waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        // At the end, the supervisor reaps the workers itself and gets no more events.
        if let (Ok(_), Ok(events)) = (ended, shared.events.sender()) {
            let _ = events.send(Event::Death { worker });
        }
    }))
}

fn run_worker(worker: u32) -> Result<(), Box<dyn Error>> {
    let fd = io::stdin().as_fd().try_clone_to_owned()?;
    let shared: Segment<Shared> = Segment::<Shared>::options().from_fd(fd)?;
    support::end_with_parent(shared.supervisor)?;
    let jobs = shared.jobs.get(worker as usize).ok_or("no such worker")?;
    let (jobs, events) = (jobs.receiver()?, shared.events.sender()?);
    while let Job::Work(job) = jobs.recv()? {
        let primes = work(job);
        let result = Event::Result {
            worker,
            job,
            primes,
        };
        events.send(result).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Does a job. Every hundredth job has the same result.
fn work(job: u64) -> u64 {
    count_primes(10_000 + job % 100)
}
