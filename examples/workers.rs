//! Worker processes add up numbers in shared memory. The parent starts them by
//! `std::process::Command` and passes the name of the segment. It kills one worker, and
//! the sum is still right.
//!
//! ```text
//! cargo run --release --example workers
//! cargo run --release --example workers -- 8
//! ```
//!
//! The numbers are divided into chunks. A worker takes a chunk, adds up its numbers
//! without the lock, and stores the sum. Both changes of a chunk are one store to one
//! field, so a killed worker never leaves a change half done, and the data needs no
//! repair. The parent reaps the workers. It therefore knows which one has died, and
//! adds up the chunks that this worker had taken.

use std::env;
use std::error::Error;
use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{self, Child, Command, Stdio};

use shm_sync::{Removal, Segment, ShmMutex, ShmMutexGuard, ShmSafe};

const CHUNKS: usize = 2_000;
const CHUNK_LEN: u64 = 100_000;
const DEFAULT_WORKERS: usize = 4;
/// The first argument of a worker. The second is the name of the segment.
const WORKER: &str = "--worker";

/// The contents of the segment.
type Job = ShmMutex<[Chunk; CHUNKS]>;

/// The numbers from `index * CHUNK_LEN + 1` to `(index + 1) * CHUNK_LEN`.
#[derive(Clone, Copy, ShmSafe)]
#[repr(C)]
struct Chunk {
    /// The process that adds up the numbers. 0 if no process has taken the chunk.
    taken_by: u32,
    /// The sum of the numbers. 0 if it is unknown.
    sum: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => run_parent(DEFAULT_WORKERS),
        (Some(WORKER), Some(name)) => run_worker(&name),
        (Some(count), _) => run_parent(
            count
                .parse()
                .map_err(|_| "the argument must be a number of workers")?,
        ),
    }
}

fn run_parent(count: usize) -> Result<(), Box<dyn Error>> {
    const EMPTY: Chunk = Chunk {
        taken_by: 0,
        sum: 0,
    };
    let name = format!("/shm-sync-workers-{}", process::id());
    // The last process that drops the segment removes its name.
    let job = Segment::<Job>::options()
        .removal(Removal::UntilLastDetach)
        .create(&name, Job::new([EMPTY; CHUNKS]))?;

    let mut workers = (0..count)
        .map(|_| start_worker(&name))
        .collect::<Result<Vec<Child>, _>>()?;
    if let Some(victim) = workers.first_mut() {
        wait_for_output(victim)?;
        victim.kill()?;
    }
    for worker in &mut workers {
        let (pid, status) = (worker.id(), worker.wait()?);
        let released = release_chunks(&job, pid)?;
        writeln!(
            io::stdout(),
            "worker {pid}: {status}; chunks that it left without a sum: {released}"
        )?;
    }
    // The parent does what is left.
    add_up(&job)?;

    let sum: u64 = lock(&job)?.iter().map(|chunk| chunk.sum).sum();
    let last = CHUNKS as u64 * CHUNK_LEN;
    let expected = last * (last + 1) / 2;
    writeln!(
        io::stdout(),
        "the sum of 1 to {last} is {sum}, expected {expected}"
    )?;
    if sum == expected {
        Ok(())
    } else {
        Err("the sum is wrong".into())
    }
}

/// Starts this program again, as a worker.
fn start_worker(name: &str) -> Result<Child, Box<dyn Error>> {
    let mut command = Command::new(env::current_exe()?);
    let command = command.args([WORKER, name]).stdout(Stdio::piped());
    Ok(command.spawn()?)
}

/// Waits until the worker has printed a line, or has ended.
fn wait_for_output(worker: &mut Child) -> Result<(), Box<dyn Error>> {
    let output = worker.stdout.take().ok_or("the worker has no pipe")?;
    BufReader::new(output).read_line(&mut String::new())?;
    Ok(())
}

fn run_worker(name: &str) -> Result<(), Box<dyn Error>> {
    let job = Segment::<Job>::open(name)?;
    writeln!(io::stdout(), "the segment is open")?; // The parent waits for this line.
    Ok(add_up(&job)?)
}

/// Takes one chunk after the other and adds up its numbers, until no chunk is left.
fn add_up(job: &Job) -> Result<(), shm_sync::Error> {
    while let Some(index) = take_chunk(job)? {
        let first = index as u64 * CHUNK_LEN + 1;
        // Without `black_box`, the compiler replaces the loop by a formula.
        let sum = (first..first + CHUNK_LEN).map(black_box).sum();
        lock(job)?[index].sum = sum;
    }
    Ok(())
}

fn take_chunk(job: &Job) -> Result<Option<usize>, shm_sync::Error> {
    let mut chunks = lock(job)?;
    let index = chunks.iter().position(|chunk| chunk.taken_by == 0);
    if let Some(index) = index {
        chunks[index].taken_by = process::id();
    }
    Ok(index)
}

/// Releases the chunks that worker `pid` has taken and not added up. Returns how many
/// there are.
fn release_chunks(job: &Job, pid: u32) -> Result<usize, shm_sync::Error> {
    let mut chunks = lock(job)?;
    let unfinished = chunks
        .iter_mut()
        .filter(|chunk| chunk.taken_by == pid && chunk.sum == 0);
    Ok(unfinished.map(|chunk| chunk.taken_by = 0).count())
}

/// Locks the chunks, also after a holder has died.
fn lock(job: &Job) -> Result<ShmMutexGuard<'_, [Chunk; CHUNKS]>, shm_sync::Error> {
    // A store to one field is done or not done, so there is nothing to repair.
    job.lock_or_recover(|_, _| ())
}
