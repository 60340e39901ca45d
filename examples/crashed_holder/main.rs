//! Several processes count the words of some files in one shared ledger. The parent
//! kills some of them with `SIGKILL` in the middle of an update, while they hold the
//! lock. The user may kill more of them, at any time. The other processes are told,
//! repair the ledger and finish the count. A plain count at the end shows that no chunk
//! was lost and none was counted twice.
//!
//! The example shows how an application recovers from the death of its processes. All
//! parts but the last one are in `ledger.rs`:
//!
//! 1. **The report.** `ShmMutex::lock` and `ShmCondvar::wait` return
//!    `LockError::Poisoned` with the lock held. `Shared::repair` handles both. A
//!    thread that waits for the lock acquires it at once. A thread that waits for the
//!    condition variable is told within 250 ms.
//! 2. **The journal.** `Ledger::add_chunk` saves the totals before it changes them.
//!    `Ledger::roll_back` restores them.
//! 3. **The assignments.** The ledger records which process counts which chunk.
//!    `Ledger::roll_back` releases the chunks of a dead process for the other
//!    processes. Therefore a worker without a chunk waits until all chunks are counted.
//! 4. **The repair can be repeated.** A process may be killed during the repair. The
//!    ledger stays poisoned, and the next process repeats all steps.
//! 5. **The parent.** A process may be killed without the lock. The lock does not
//!    report that death, but the parent reaps the process, and releases its chunks.
//!    That is in `parent.rs`.
//!
//! The segment is anonymous, and each worker inherits its descriptor as standard input.
//! Because the segment has no name, Ctrl-C needs no handler: the signal ends all
//! processes, and the kernel frees the memory with the last of them.
//!
//! The files in reading order: `text.rs` cuts the files into chunks and counts a chunk.
//! `ledger.rs` is the shared state. `worker.rs` is a worker process. `parent.rs`
//! starts, kills and reaps the workers. `report.rs` prints the result, and
//! `arguments.rs` parses the command line.

mod arguments;
mod failure;
mod ledger;
mod parent;
mod report;
mod text;
mod worker;

use std::io::{self, Write};
use std::iter;
use std::process::ExitCode;

use arguments::Invocation;

const EXIT_FAILURE: u8 = 2;

fn main() -> ExitCode {
    let result = match Invocation::parse(lexopt::Parser::from_env()) {
        Ok(Invocation::Help) => {
            let written = io::stdout().write_all(arguments::HELP.as_bytes());
            written.map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
        Ok(Invocation::Parent(options)) => parent::count_with_workers(options),
        Ok(Invocation::Worker(options)) => worker::run(&options).map(|()| ExitCode::SUCCESS),
        Err(failure) => Err(format!("{failure}: see --help").into()),
    };
    result.unwrap_or_else(|failure| {
        let causes = iter::successors(failure.source(), |cause| (*cause).source());
        let causes: String = causes.map(|cause| format!(": {cause}")).collect();
        eprintln!("crashed_holder: {failure}{causes}");
        ExitCode::from(EXIT_FAILURE)
    })
}
