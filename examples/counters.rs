//! Several processes increment one number in shared memory, under one lock.
//!
//! The segment is anonymous: it has no name. The children share it, because they are
//! forked from the process that created it.

use std::error::Error;
use std::io::{self, Write};

use nix::sys::wait::{WaitStatus, waitpid};
use shm_sync::{Segment, ShmMutex};

const HELP: &str = "\
Several processes increment one number in shared memory, under one lock.

Usage: cargo run --release --example counters [-- OPTIONS]

  --workers N      number of processes, default 4
  --increments N   how often each one increments, default 100000
  --help           print this text

Exit status: 0 if the total is right, 1 if it is wrong or after an error, 2 for
wrong arguments.
";

fn main() -> Result<(), Box<dyn Error>> {
    let [workers, increments] = support::parse_arguments(
        HELP,
        [
            ("workers", 4, 1..=1000),
            ("increments", 100_000, 0..=u64::from(u32::MAX)),
        ],
    );
    let counter = Segment::anonymous(ShmMutex::new(0_u64))?;

    let children = (0..workers)
        .map(|_| support::fork(|| increment(&counter, increments)))
        .collect::<Result<Vec<_>, _>>()?;
    for child in children {
        match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => {}
            other => return Err(format!("a worker failed: {other:?}").into()),
        }
    }

    // Each increment is one store, so there is nothing to repair.
    let total = *counter.lock_or_recover(|_, _| ())?;
    let expected = workers * increments;
    writeln!(io::stdout(), "counted {total}, expected {expected}")?;
    if total == expected {
        Ok(())
    } else {
        Err("the total is wrong".into())
    }
}

fn increment(counter: &ShmMutex<u64>, increments: u64) -> Result<(), shm_sync::Error> {
    for _ in 0..increments {
        *counter.lock()? += 1;
    }
    Ok(())
}
