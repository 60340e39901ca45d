//! A process is killed in the middle of a transfer, with the lock held. The next
//! process that locks is told, repairs the accounts, and goes on. Read this example
//! first.

use std::error::Error;
use std::io::{self, Write};

use nix::sys::signal::{Signal, raise};
use nix::sys::wait::waitpid;
use shm_sync::{Segment, ShmMutex, ShmSafe};

const HELP: &str = "\
Kills a process in the middle of a transfer between two accounts, with the lock
held. The next process is told, and repairs the accounts.

Usage: cargo run --release --example recover [-- OPTIONS]

  --help   print this text

Exit status: 0 if the accounts were repaired, 1 after an error, 2 for wrong
arguments.
";

/// The sum of both accounts. A transfer does not change it.
const TOTAL: u64 = 100;

#[derive(Debug, ShmSafe)]
#[repr(C)]
struct Accounts {
    savings: u64,
    checking: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    support::parse_arguments(HELP, []);
    let mut out = io::stdout();
    // An anonymous segment is shared with the children that this process forks.
    let accounts = Segment::anonymous(ShmMutex::new(Accounts {
        savings: TOTAL,
        checking: 0,
    }))?;

    let child = support::fork(|| transfer_and_die(&accounts))?;
    waitpid(child, None)?;
    writeln!(
        out,
        "process {child} was killed in a transfer, with the lock held"
    )?;

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
fn transfer_and_die(accounts: &ShmMutex<Accounts>) -> Result<(), shm_sync::Error> {
    let mut guard = accounts.lock()?;
    guard.savings -= 30;
    let _ = raise(Signal::SIGKILL);
    guard.checking += 30;
    Ok(())
}
