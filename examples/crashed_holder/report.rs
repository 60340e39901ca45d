//! The output of the parent.

use crate::ledger::{Call, Ledger, OwnerDeath};
use crate::text::Counts;

/// What the parent knows of a worker at the end.
pub(crate) struct WorkerRun {
    pub(crate) pid: u32,
    /// When the parent killed it, in nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) killed_at: Option<u64>,
}

/// Prints the result. `victims` is how many workers the parent wanted to kill, and
/// `alone` are the totals of the plain count.
pub(crate) fn print(
    files: usize,
    ledger: &Ledger,
    workers: &[WorkerRun],
    victims: usize,
    alone: Counts,
) {
    let killed = ledger.owner_deaths().len();
    println!("{:>10}{files:>10}", "files");
    println!("{:>10}{:>10}", "chunks", ledger.chunk_count);
    println!("{:>10}{:>10}", "workers", workers.len());
    print!("{:>10}{killed:>10}", "killed");
    if killed < victims {
        print!("   of {victims}: the files have too few chunks to kill more");
    }
    println!("\n");

    print_workers(workers, ledger);
    for worker in workers {
        let mut deaths = ledger.owner_deaths().iter();
        let death = deaths.find(|death| death.pid == worker.pid);
        if let (Some(death), Some(killed_at)) = (death, worker.killed_at) {
            print_owner_death(death, killed_at);
        }
    }
    print_comparison(ledger.totals, alone);
}

/// Prints how many chunks each worker counted.
fn print_workers(workers: &[WorkerRun], ledger: &Ledger) {
    println!("{:>10}{:>10}", "process", "chunks");
    for &WorkerRun { pid, .. } in workers {
        let chunks = ledger.counted_chunks_of(pid);
        let deaths = ledger.owner_deaths();
        let died = deaths.iter().any(|death| death.pid == pid);
        let repaired = deaths.iter().any(|death| death.repair.pid == pid);
        let note = match (repaired, died) {
            (true, true) => "   repaired the ledger, then died holding the lock",
            (true, false) => "   repaired the ledger",
            (false, true) => "   died holding the lock",
            (false, false) => "",
        };
        println!("{pid:>10}{chunks:>10}{note}");
    }
    println!();
}

fn print_owner_death(death: &OwnerDeath, killed_at: u64) {
    let OwnerDeath { pid, repair, .. } = death;
    let delay = repair.locked_at.saturating_sub(killed_at) / 1000;
    let call = match repair.reported_by {
        Call::Lock => "ShmMutex::lock",
        Call::Wait => "ShmCondvar::wait",
    };
    println!("{pid:>10}   was killed in an update: lines added, words and bytes not");
    println!(
        "{:>10}   acquired the lock in {call}, {delay} µs after the kill,\n\
         {:13}rolled back the update, and released uncounted chunks: {}\n",
        repair.pid, "", death.released_chunks,
    );
}

fn print_comparison(together: Counts, alone: Counts) {
    println!("{:>10}{:>12}{:>12}{:>14}", "", "lines", "words", "bytes");
    for (label, counts) in [("together", together), ("alone", alone)] {
        let Counts {
            lines,
            words,
            bytes,
        } = counts;
        println!("{label:>10}{lines:>12}{words:>12}{bytes:>14}");
    }
    let verdict = if together == alone {
        "equal"
    } else {
        "NOT EQUAL"
    };
    println!("{verdict:>10}");
}
