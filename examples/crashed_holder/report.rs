//! The output of the parent.

use std::io::{self, Write};

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
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let killed = ledger.owner_deaths().len();
    writeln!(out, "{:>10}{files:>10}", "files")?;
    writeln!(out, "{:>10}{:>10}", "chunks", ledger.chunk_count)?;
    writeln!(out, "{:>10}{:>10}", "workers", workers.len())?;
    write!(out, "{:>10}{killed:>10}", "killed")?;
    if killed < victims {
        write!(
            out,
            "   of {victims}: the files have too few chunks to kill more"
        )?;
    }
    writeln!(out, "\n")?;

    print_workers(&mut out, workers, ledger)?;
    for worker in workers {
        let mut deaths = ledger.owner_deaths().iter();
        let death = deaths.find(|death| death.pid == worker.pid);
        if let (Some(death), Some(killed_at)) = (death, worker.killed_at) {
            print_owner_death(&mut out, death, killed_at)?;
        }
    }
    print_comparison(&mut out, ledger.totals, alone)
}

/// Prints how many chunks each worker counted.
fn print_workers(out: &mut impl Write, workers: &[WorkerRun], ledger: &Ledger) -> io::Result<()> {
    writeln!(out, "{:>10}{:>10}", "process", "chunks")?;
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
        writeln!(out, "{pid:>10}{chunks:>10}{note}")?;
    }
    writeln!(out)
}

fn print_owner_death(out: &mut impl Write, death: &OwnerDeath, killed_at: u64) -> io::Result<()> {
    let OwnerDeath { pid, repair, .. } = death;
    let delay = repair.locked_at.saturating_sub(killed_at) / 1000;
    let call = match repair.reported_by {
        Call::Lock => "ShmMutex::lock",
        Call::Wait => "ShmCondvar::wait",
    };
    writeln!(
        out,
        "{pid:>10}   was killed in an update: lines added, words and bytes not"
    )?;
    writeln!(
        out,
        "{:>10}   acquired the lock in {call}, {delay} µs after the kill,\n\
         {:13}rolled back the update, and released uncounted chunks: {}\n",
        repair.pid, "", death.released_chunks,
    )
}

fn print_comparison(out: &mut impl Write, together: Counts, alone: Counts) -> io::Result<()> {
    writeln!(
        out,
        "{:>10}{:>12}{:>12}{:>14}",
        "", "lines", "words", "bytes"
    )?;
    for (label, counts) in [("together", together), ("alone", alone)] {
        let Counts {
            lines,
            words,
            bytes,
        } = counts;
        writeln!(out, "{label:>10}{lines:>12}{words:>12}{bytes:>14}")?;
    }
    let verdict = if together == alone {
        "equal"
    } else {
        "NOT EQUAL"
    };
    writeln!(out, "{verdict:>10}")
}
