//! A process is killed in the middle of a transfer, with the lock held. The next
//! process that locks is told, repairs the accounts, and goes on. Read this example
//! first.
//!
//! ```text
//! cargo run --release --example recover
//! ```

use std::error::Error;
use std::io::{self, Write};

use nix::sys::signal::{Signal, raise};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use shm_sync::{Segment, ShmMutex, ShmSafe};

/// The sum of both accounts. A transfer does not change it.
const TOTAL: u64 = 100;

#[derive(Debug, ShmSafe)]
#[repr(C)]
struct Accounts {
    savings: u64,
    checking: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout();
    // An anonymous segment is shared with the children that this process forks.
    let accounts = Segment::anonymous(ShmMutex::new(Accounts {
        savings: TOTAL,
        checking: 0,
    }))?;

    // SAFETY: this process has only one thread. So no other thread holds a lock of the
    // allocator or of the standard library that would stay locked in the child.
    match unsafe { fork() }? {
        ForkResult::Child => return transfer_and_die(&accounts),
        ForkResult::Parent { child } => {
            waitpid(child, None)?;
            writeln!(
                out,
                "process {child} was killed in a transfer, with the lock held"
            )?;
        }
    }

    // An ordinary process-shared mutex would block here for ever.
    let mut report = None;
    // The closure runs because the holder died. It runs with the lock held. When it
    // returns, the poison is cleared.
    let mut guard = accounts.lock_or_recover(|accounts, cause| {
        report = Some(format!("{cause}\nfound:         {accounts:?}"));
        accounts.checking = TOTAL - accounts.savings;
    })?;
    let report = report.ok_or("the child died with the lock held, but this was not reported")?;
    writeln!(out, "the accounts are poisoned: {report}")?;
    writeln!(out, "repaired:      {:?}", *guard)?;

    guard.savings -= 10;
    guard.checking += 10;
    writeln!(out, "next transfer: {:?}", *guard)?;
    Ok(())
}

/// Begins a transfer, and is killed before it ends.
fn transfer_and_die(accounts: &ShmMutex<Accounts>) -> Result<(), Box<dyn Error>> {
    let mut guard = accounts.lock().map_err(shm_sync::Error::from)?;
    guard.savings -= 30;
    raise(Signal::SIGKILL)?;
    guard.checking += 30;
    Ok(())
}
