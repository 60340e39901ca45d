//! A supervisor sends jobs to workers and gets their results, all by messages. It kills
//! workers at random and starts others. Each job has exactly one result in the end.
//!
//! Each worker has a channel of its own, with room for one job, and the supervisor
//! sends the next job when it gets a result. So it knows which job is in whose hand:
//! no worker has to record it, and could die before it has. (With one channel for all
//! workers, a worker could die after it has received a job and before any other process
//! knows which one.) The states in which a worker dies:
//!
//! | the worker has | the supervisor, when it handles the death |
//! |---|---|
//! | not received the job | leaves it in the channel, for the next worker |
//! | received it, and sent no result | sends the job again, to the next worker |
//! | sent the result | has got the result before, and has sent another job |
//!
//! The third row holds because results and deaths come through one channel. A thread
//! for each worker waits until the worker is dead, and sends the event after that, so
//! it is behind all messages of the worker. A job is done twice if its worker dies
//! between the end of the work and the sending, but then it still has one result.
//!
//! `pool` does its jobs without messages: they lie in a table under a lock, in which the
//! workers claim them. There all jobs are in the memory at once, and a worker needs no
//! supervisor to get the next one. Here each process knows only its own job.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Child, Command};
use std::sync::Arc;
use std::thread;

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use shm_sync::{Segment, SendError, Sender, ShmChannel, ShmSafe};

const HELP: &str = "\
A supervisor sends jobs to workers, which count primes. It kills workers at random and
starts others, and each job has exactly one result.

Usage: cargo run --release --example job_queue [-- OPTIONS]

  --workers N   number of processes that work at the same time, 1 to 32, default 4
  --jobs N      number of jobs, 1 to 10000000, default 1000
  --kills N     number of kills, 0 to 100000, default 20
  --seed N      selects the victims and the times of the kills, default 1
  --help        print this text

You can kill more workers: with --jobs 100000 there is time.

Exit status: 0 if each job has its result, 1 if not or after an error, 2 for wrong
arguments.
";

const MAX_WORKERS: usize = 32;
/// The number of different jobs.
const INPUTS: u64 = 100;
/// The argument that makes this program a worker. Its number follows.
const WORKER: &str = "--worker-process";

/// The contents of the segment.
#[derive(ShmSafe)]
#[repr(C)]
struct Shared {
    supervisor: u32,
    /// One channel for each worker. Replaced workers have the same number.
    jobs: [ShmChannel<Job, 1, 1, 1>; MAX_WORKERS],
    /// From the workers, from the threads that wait for their ends, and from the main
    /// thread: that one keeps it connected if all workers are dead.
    events: ShmChannel<Event, 64, { 2 * MAX_WORKERS + 1 }, 1>,
}

#[derive(Clone, Copy, ShmSafe)]
#[repr(u8)]
enum Job {
    CountPrimes { number: u64, below: u64 },
    Stop,
}

#[derive(Clone, Copy, ShmSafe)]
#[repr(u8)]
enum Event {
    Result {
        worker: u64,
        number: u64,
        primes: u64,
    },
    Death {
        worker: u64,
    },
}

/// A worker, as the supervisor sees it.
struct Worker<'a> {
    child: Child,
    jobs: Sender<'a, Job, 1, 1, 1>,
    /// The number of the job that it was sent last, if the result is missing.
    in_hand: Option<u64>,
    is_killed: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [WORKER, number] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return run_worker(number.parse()?);
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

    let expected: Vec<_> = (0..INPUTS)
        .map(|job| Some(count_primes(below(job))))
        .collect();
    let expected = expected.iter().cycle();
    let right = results.iter().zip(expected).filter(|(a, b)| a == b).count();
    writeln!(
        io::stdout(),
        "{jobs} jobs, with exactly one right result: {right}"
    )?;
    if right as u64 == jobs {
        Ok(())
    } else {
        Err("not all jobs are done".into())
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
    for number in 0..count {
        workers.push(Worker::start(shared, number, waiting.next())?);
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
            kills.pop();
            let victim = random.below(living.len() as u64) as usize;
            living[victim].child.kill()?;
            living[victim].is_killed = true;
        }
        match events.recv()? {
            Event::Result {
                worker,
                number,
                primes,
            } => {
                if results[number as usize].replace(primes).is_some() {
                    return Err(format!("job {number} has two results").into());
                }
                done += 1;
                workers[worker as usize].give(waiting.next())?;
            }
            Event::Death { worker } => replace(shared, &mut workers, worker as usize)?,
        }
    }
    for worker in &mut workers {
        worker.send(Job::Stop)?;
        worker.child.wait()?;
    }
    Ok(results)
}

/// Starts another worker after the death of one. It has the same number.
fn replace<'a>(
    shared: &'a Arc<Segment<Shared>>,
    workers: &mut Vec<Worker<'a>>,
    number: usize,
) -> Result<(), Box<dyn Error>> {
    let mut dead = workers.remove(number);
    let (pid, status, in_hand) = (dead.child.id(), dead.child.wait()?, dead.in_hand);
    if status.signal().is_none() {
        return Err(format!("worker {pid} failed: {status}").into());
    }
    drop(dead); // There is one sender of its jobs at a time.
    let state = match in_hand {
        Some(job) if shared.jobs[number].is_empty() => format!("with job {job} in hand"),
        Some(job) => format!("before it received job {job}"),
        None => "without a job".into(),
    };
    let next = Worker::start(shared, number, in_hand)?;
    let mut out = io::stdout();
    writeln!(
        out,
        "worker {pid} was killed {state}: worker {} is next",
        next.child.id()
    )?;
    workers.insert(number, next);
    Ok(())
}

impl<'a> Worker<'a> {
    /// Starts this program again, as a worker. It gets the job that the last worker
    /// with this number had in hand.
    fn start(
        shared: &'a Arc<Segment<Shared>>,
        number: usize,
        in_hand: Option<u64>,
    ) -> Result<Self, Box<dyn Error>> {
        let jobs = shared.jobs[number].sender()?;
        let fd = Segment::as_fd(shared).ok_or("the segment has no descriptor")?;
        let fd = fd.try_clone_to_owned()?;
        // The last worker is dead, and may have died before it received the job.
        let is_received = shared.jobs[number].is_empty();
        let mut command = Command::new(env::current_exe()?);
        let command = command.args([WORKER, &number.to_string()]).stdin(fd);
        let mut worker = Self {
            child: command.spawn()?,
            jobs,
            in_hand,
            is_killed: false,
        };
        if is_received {
            worker.give(in_hand)?;
        }
        let pid = Pid::from_raw(worker.child.id().try_into()?);
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // Does not reap the worker, so its id stays valid until the main thread
            // has handled the event.
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            let waited = waitid(Id::Pid(pid), flags);
            if let (Ok(_), Ok(events)) = (waited, shared.events.sender()) {
                let worker = number as u64;
                // Fails only if the main thread has ended.
                let _ = events.send(Event::Death { worker });
            }
        });
        Ok(worker)
    }

    fn give(&mut self, job: Option<u64>) -> Result<(), Box<dyn Error>> {
        self.in_hand = job;
        match job {
            Some(number) => self.send(Job::CountPrimes {
                number,
                below: below(number),
            }),
            None => Ok(()),
        }
    }

    fn send(&self, job: Job) -> Result<(), Box<dyn Error>> {
        match self.jobs.send(job) {
            // The death of a worker is an event, which comes as well.
            Ok(()) | Err(SendError::Disconnected { .. }) => Ok(()),
            Err(error) => Err(error.to_string().into()),
        }
    }
}

fn run_worker(number: usize) -> Result<(), Box<dyn Error>> {
    let fd = io::stdin().as_fd().try_clone_to_owned()?;
    let shared: Segment<Shared> = Segment::<Shared>::options().from_fd(fd)?;
    support::end_with_parent(shared.supervisor)?;
    let jobs = shared.jobs.get(number).ok_or("there is no such worker")?;
    let jobs = jobs.receiver()?;
    let events = shared.events.sender()?;
    while let Job::CountPrimes { number: job, below } = jobs.recv()? {
        let result = Event::Result {
            worker: number as u64,
            number: job,
            primes: count_primes(below),
        };
        events.send(result).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Returns the input of a job.
fn below(number: u64) -> u64 {
    10_000 + number % INPUTS
}

fn count_primes(below: u64) -> u64 {
    let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0);
    (2..below).filter(is_prime).count() as u64
}

/// Pseudorandom numbers (xorshift64). The seed is not 0.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
