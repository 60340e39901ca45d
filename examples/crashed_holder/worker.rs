//! A worker process. It counts a chunk without the lock, and then adds the counts to
//! the ledger. A victim stops in the middle of an update and waits until the parent
//! kills it.

use std::io::{self, Write};
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::process;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::pause;
use shm_sync::Segment;

use crate::failure::Failure;
use crate::ledger::{INITIAL_CHUNKS, Shared, Step};

/// The arguments that the parent passes to a worker.
pub(crate) struct WorkerOptions {
    pub(crate) segment: String,
    pub(crate) kind: WorkerKind,
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Clone, Copy)]
pub(crate) enum WorkerKind {
    Survivor,
    /// The parent kills it in the middle of an update.
    Victim,
}

/// The messages of a worker to the parent. Each is one line on standard output.
pub(crate) const READY: &str = "ready";
pub(crate) const HALFWAY: &str = "halfway";

pub(crate) fn run(options: &WorkerOptions) -> Result<(), Failure> {
    let shared = Segment::<Shared>::open(&options.segment)?;
    die_with_parent(shared.parent)?;
    writeln!(io::stdout(), "{READY}")?;

    let me = process::id();
    let mut ledger = shared.lock()?;
    while !ledger.started {
        ledger = shared.wait(ledger)?;
    }
    loop {
        match ledger.next_step(me) {
            Step::Count(chunk) => {
                drop(ledger);
                let counts = shared.plan.chunks[chunk].count(&options.files)?;
                ledger = shared.lock()?;

                // A victim first counts some chunks. It dies with more chunks assigned
                // than the one in the update.
                let has_counted_some = ledger.uncounted_chunks_of(me) <= INITIAL_CHUNKS / 2;
                let halfway = match options.kind {
                    WorkerKind::Victim if has_counted_some => wait_for_kill,
                    _ => do_nothing,
                };
                ledger.add_chunk(me, chunk, counts, halfway);
                if ledger.is_complete() {
                    shared.changed.notify_all();
                }
            }
            Step::Wait => ledger = shared.wait(ledger)?,
            Step::Finish => return Ok(()),
        }
    }
}

/// Makes the kernel kill this process when the parent dies. Without this, a victim
/// would hold the lock for ever.
fn die_with_parent(parent: u32) -> Result<(), Failure> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if parent_id() == parent {
        Ok(())
    } else {
        // The parent died before the call above.
        Err("the parent has died".into())
    }
}

fn do_nothing() {}

fn wait_for_kill() {
    println!("{HALFWAY}");
    loop {
        pause();
    }
}
