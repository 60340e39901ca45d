//! The output of the parent.

use std::io::{self, Write};
use std::process;

use nix::sys::signal::Signal;

use crate::ledger::{Call, Ledger, OwnerDeath};
use crate::text::Counts;

/// What the parent knows of a worker at the end.
pub(crate) struct WorkerRun {
    pub(crate) pid: u32,
    /// Whether the parent wanted to kill it.
    pub(crate) is_victim: bool,
    /// When the parent killed it, in nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) killed_at: Option<u64>,
    /// The signal that ended it, from the parent or from the user.
    pub(crate) signal: Option<i32>,
    /// How many chunks the parent released when it reaped the worker. The repair
    /// releases the chunks of a worker that dies with the lock held.
    pub(crate) released_chunks: usize,
}

impl WorkerRun {
    fn killer(&self) -> &'static str {
        match self.killed_at {
            Some(_) => "killed by this program",
            None => "killed by you",
        }
    }

    fn owner_death<'a>(&self, ledger: &'a Ledger) -> Option<&'a OwnerDeath> {
        let mut deaths = ledger.owner_deaths().iter();
        deaths.find(|death| death.pid == self.pid)
    }
}

/// Prints the processes that the user may kill.
pub(crate) fn invite(pids: &[u32]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "kill any of the workers, in another terminal:\n")?;
    for pid in pids {
        writeln!(out, "    kill -9 {pid}")?;
    }
    writeln!(out)
}

/// Tells the user how to take part.
pub(crate) fn hint() -> io::Result<()> {
    writeln!(
        io::stdout(),
        "\nTo kill workers yourself, run it with: --pause 50"
    )
}

/// Prints at once that a worker was killed.
pub(crate) fn print_death(run: &WorkerRun) -> io::Result<()> {
    let signal = run.signal.and_then(|number| Signal::try_from(number).ok());
    let signal = signal.map_or("a signal", Signal::as_str);
    let (pid, killer) = (run.pid, run.killer());
    writeln!(io::stdout(), "{pid:>10}   was {killer} ({signal})")
}

/// Prints the result. `alone` are the totals of the plain count.
pub(crate) fn print(
    files: usize,
    ledger: &Ledger,
    workers: &[WorkerRun],
    alone: Counts,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let killed = workers.iter().filter(|run| run.signal.is_some());
    let (ours, by_user): (Vec<_>, Vec<_>) = killed.partition(|run| run.killed_at.is_some());
    let spared = workers
        .iter()
        .filter(|run| run.is_victim && run.signal.is_none());
    writeln!(out, "\n{:>10}{files:>10}", "files")?;
    writeln!(out, "{:>10}{:>10}", "chunks", ledger.chunk_count)?;
    writeln!(out, "{:>10}{:>10}", "workers", workers.len())?;
    writeln!(
        out,
        "{:>10}{:>10}   {} by this program, {} by you",
        "killed",
        ours.len() + by_user.len(),
        ours.len(),
        by_user.len()
    )?;
    match spared.count() {
        0 => {}
        spared => writeln!(out, "{:23}too few chunks to kill {spared} more", "")?,
    }

    print_workers(&mut out, workers, ledger)?;
    for run in workers.iter().filter(|run| run.signal.is_some()) {
        print_repair(&mut out, run, ledger)?;
    }
    print_comparison(&mut out, ledger.totals, alone)
}

/// Prints how many chunks each process counted.
fn print_workers(out: &mut impl Write, workers: &[WorkerRun], ledger: &Ledger) -> io::Result<()> {
    let repaired = |pid| {
        let mut deaths = ledger.owner_deaths().iter();
        deaths.any(|death| death.repair.pid == pid)
    };
    writeln!(out, "\n{:>10}{:>10}", "process", "chunks")?;
    for run in workers {
        let mut notes = Vec::new();
        if repaired(run.pid) {
            notes.push("repaired the ledger");
        }
        if run.signal.is_some() {
            notes.push(run.killer());
        }
        let chunks = ledger.counted_chunks_of(run.pid);
        let line = format!("{:>10}{chunks:>10}   {}", run.pid, notes.join(", then "));
        writeln!(out, "{}", line.trim_end())?;
    }
    let me = process::id();
    let chunks = ledger.counted_chunks_of(me);
    if chunks > 0 || repaired(me) {
        writeln!(out, "{me:>10}{chunks:>10}   this program itself")?;
    }
    writeln!(out)
}

/// Prints how a worker was killed, and how the other processes dealt with that.
fn print_repair(out: &mut impl Write, run: &WorkerRun, ledger: &Ledger) -> io::Result<()> {
    let (pid, killer) = (run.pid, run.killer());
    let Some(death) = run.owner_death(ledger) else {
        writeln!(out, "{pid:>10}   was {killer}, without the lock")?;
        return writeln!(
            out,
            "{:>10}   reaped it, and released uncounted chunks: {}\n",
            process::id(),
            run.released_chunks
        );
    };
    let (place, repaired) = if death.in_update {
        ("in an update", "rolled back the update, and")
    } else {
        (
            "with the lock held, but not in an update",
            "found no update,",
        )
    };
    let half = match run.killed_at {
        Some(_) => ": lines added, words and bytes not",
        None => "",
    };
    writeln!(out, "{pid:>10}   was {killer} {place}{half}")?;
    let call = match death.repair.reported_by {
        Call::Lock => "ShmMutex::lock",
        Call::Wait => "ShmCondvar::wait",
    };
    write!(
        out,
        "{:>10}   acquired the lock in {call}",
        death.repair.pid
    )?;
    if let Some(killed_at) = run.killed_at {
        let delay = death.repair.locked_at.saturating_sub(killed_at) / 1000;
        write!(out, ", {delay} µs after the kill")?;
    }
    writeln!(
        out,
        ",\n{:13}{repaired} released uncounted chunks: {}\n",
        "", death.released_chunks,
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
