//! Worker processes count the words of some files into one shared ledger. Some
//! of them are killed with `SIGKILL` halfway through an update, with the lock
//! held. The others are told, repair the ledger and finish. A plain count at
//! the end shows that nothing was lost and nothing counted twice.
//!
//! ```text
//! cargo run --release --example crashed_holder
//! cargo run --release --example crashed_holder -- --workers 8 --kill 3 FILE...
//! ```
//!
//! How to survive a death inside the lock (all in `ledger.rs`):
//!
//! 1. **The news.** `ShmMutex::lock` and `ShmCondvar::wait` say
//!    `LockError::Poisoned`, and hold the lock. `Shared::repaired` handles both.
//!    Those who queue for the lock have it at once; those who sleep in `wait`
//!    notice within a quarter of a second.
//! 2. **The journal.** `Ledger::enter` notes what the totals were before it
//!    changes them, so that `Ledger::roll_back` can return there.
//! 3. **The hands.** The ledger knows who has taken which chunk of the files,
//!    so that those of the dead can be given to others. For this reason a
//!    worker that finds nothing to do waits until everything is counted.
//! 4. **The repair may be cut short too.** Every step of it can be done twice,
//!    and the lock stays poisoned until the last one is done.
//!
//! The other files, in reading order: `worker.rs`, which counts and dies;
//! `parent.rs`, which starts, kills and reaps; `text.rs`, which cuts files into
//! chunks; `report.rs` and `arguments.rs`.

use std::env;
use std::error::Error;
use std::iter;
use std::process::ExitCode;

// A file in this directory itself would be another example.
#[path = "crashed_holder/arguments.rs"]
mod arguments;
#[path = "crashed_holder/ledger.rs"]
mod ledger;
#[path = "crashed_holder/parent.rs"]
mod parent;
#[path = "crashed_holder/report.rs"]
mod report;
#[path = "crashed_holder/text.rs"]
mod text;
#[path = "crashed_holder/worker.rs"]
mod worker;

use arguments::Role;

/// Any error: it ends as text on standard error.
type Failure = Box<dyn Error>;

const SOMETHING_WENT_WRONG: u8 = 2;

fn main() -> ExitCode {
    let outcome = match Role::from_arguments(env::args_os().skip(1)) {
        Ok(Role::Help) => {
            print!("{}", arguments::HELP);
            Ok(ExitCode::SUCCESS)
        }
        Ok(Role::Parent(options)) => parent::count_in_company(options),
        Ok(Role::Worker(orders)) => worker::work(&orders).map(|()| ExitCode::SUCCESS),
        Err(failure) => Err(failure),
    };
    outcome.unwrap_or_else(|failure| {
        let causes = iter::successors(failure.source(), |cause| (*cause).source());
        let causes: String = causes.map(|cause| format!(": {cause}")).collect();
        eprintln!("crashed_holder: {failure}{causes}");
        ExitCode::from(SOMETHING_WENT_WRONG)
    })
}
