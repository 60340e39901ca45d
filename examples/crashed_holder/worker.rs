//! A worker process. It counts a chunk without the lock, and then adds the counts to
//! the ledger. A victim stops in the middle of an update and waits until the parent
//! kills it.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process;

use nix::unistd::pause;
use shm_sync::Segment;

use crate::failure::Failure;
use crate::ledger::{INITIAL_CHUNKS, Shared, Step};

/// The arguments that the parent passes to a worker.
pub(crate) struct WorkerOptions {
    pub(crate) kind: WorkerKind,
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkerKind {
    Survivor,
    /// The parent kills it in the middle of an update.
    Victim,
}

/// The messages of a worker to the parent. Each is one line on standard output.
pub(crate) const READY: &str = "ready";
pub(crate) const HALFWAY: &str = "halfway";

pub(crate) fn run(options: &WorkerOptions) -> Result<(), Failure> {
    let segment = io::stdin().as_fd().try_clone_to_owned()?;
    let shared = Segment::<Shared>::options().from_fd(segment)?;
    // Without this, a victim would hold the lock for ever after the parent's death.
    support::end_with_parent(shared.parent)?;
    if writeln!(io::stdout(), "{READY}").is_err() {
        return Ok(()); // The parent is ending.
    }
    count_chunks(&shared, options)
}

/// Counts chunks until all of them are counted.
pub(crate) fn count_chunks(shared: &Shared, options: &WorkerOptions) -> Result<(), Failure> {
    let me = process::id();
    let mut ledger = shared.lock_after_start()?;
    loop {
        match ledger.next_step(me) {
            Step::Count(chunk) => {
                drop(ledger);
                shared.pause();
                let counts = shared.plan.chunks[chunk].count(&options.files)?;
                ledger = shared.lock()?;

                // A victim first counts some chunks. It dies with more chunks assigned
                // than the one in the update.
                let has_counted_some = ledger.uncounted_chunks_of(me) <= INITIAL_CHUNKS / 2;
                ledger.add_chunk(me, chunk, counts, || match options.kind {
                    WorkerKind::Victim if has_counted_some => wait_for_kill(),
                    _ => shared.pause(),
                });
                if ledger.is_complete() {
                    shared.changed.notify_all();
                }
            }
            Step::Wait => ledger = shared.wait(ledger)?,
            Step::Finish => return Ok(()),
        }
    }
}

fn wait_for_kill() {
    // If the parent has died, the kernel kills this process.
    let _ = writeln!(io::stdout(), "{HALFWAY}");
    loop {
        pause();
    }
}
