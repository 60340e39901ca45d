//! Several processes increment one number in shared memory, under one lock.
//!
//! ```text
//! cargo run --release --example counters
//! ```
//!
//! The segment is anonymous: it has no name. The children share it, because they are
//! forked from the process that created it.

use std::error::Error;
use std::io::{self, Write};
use std::process::{self, ExitCode};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use shm_sync::{Segment, ShmMutex};

const WORKERS: u64 = 4;
const INCREMENTS: u64 = 100_000;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let counter = Segment::anonymous(ShmMutex::new(0_u64))?;

    let workers = (0..WORKERS)
        .map(|_| start_worker(&counter))
        .collect::<Result<Vec<Pid>, _>>()?;
    for worker in workers {
        match waitpid(worker, None)? {
            WaitStatus::Exited(_, 0) => {}
            other => return Err(format!("a worker failed: {other:?}").into()),
        }
    }

    // Each increment is one store, so there is nothing to repair.
    let total = *counter.lock_or_recover(|_, _| ())?;
    let expected = WORKERS * INCREMENTS;
    writeln!(io::stdout(), "counted {total}, expected {expected}")?;
    Ok(ExitCode::from(u8::from(total != expected)))
}

/// Forks a process that increments the counter and exits.
fn start_worker(counter: &ShmMutex<u64>) -> Result<Pid, nix::Error> {
    // SAFETY: this process has only one thread. So no other thread holds a lock of the
    // allocator or of the standard library that would stay locked in the child.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => match increment(counter) {
            Ok(()) => process::exit(0),
            Err(error) => {
                eprintln!("process {}: {error}", process::id());
                process::exit(1)
            }
        },
    }
}

fn increment(counter: &ShmMutex<u64>) -> Result<(), shm_sync::Error> {
    for _ in 0..INCREMENTS {
        *counter.lock()? += 1;
    }
    Ok(())
}
