//! What the parent prints.

use crate::ledger::{Death, Ledger, News};
use crate::parent::Worker;
use crate::text::{Counts, Input};

pub(crate) fn report(
    inputs: &[Input],
    ledger: &Ledger,
    workers: &[Worker],
    doomed: usize,
    alone: Counts,
) {
    let killed = ledger.deaths().len();
    println!("{:>10}{:>10}", "files", inputs.len());
    println!("{:>10}{:>10}", "chunks", ledger.chunk_count);
    println!("{:>10}{:>10}", "workers", workers.len());
    print!("{:>10}{killed:>10}", "killed");
    if killed < doomed {
        print!("   of {doomed}: there were too few chunks to die with");
    }
    println!("\n");

    list(workers, ledger);
    for worker in workers {
        let mut deaths = ledger.deaths().iter();
        let death = deaths.find(|death| death.pid == worker.pid());
        if let (Some(death), Some(killed_at)) = (death, worker.killed_at) {
            tell_of(death, killed_at);
        }
    }
    compare(ledger.totals, alone);
}

/// Who counted how much.
fn list(workers: &[Worker], ledger: &Ledger) {
    println!("{:>10}{:>10}", "process", "chunks");
    for pid in workers.iter().map(Worker::pid) {
        let chunks = ledger.chunks_counted_by(pid);
        let died = ledger.deaths().iter().any(|death| death.pid == pid);
        let repaired = ledger.deaths().iter().any(|death| death.repair.by == pid);
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

fn tell_of(death: &Death, killed_at: u64) {
    let Death { pid, repair, .. } = death;
    let later = repair.at.saturating_sub(killed_at) / 1000;
    let call = match repair.news {
        News::FromLock => "ShmMutex::lock",
        News::FromWait => "ShmCondvar::wait",
    };
    println!("{pid:>10}   was killed with lines added, words and bytes not yet");
    println!(
        "{:>10}   got the lock {later} µs after the kill, from {call},\n\
         {:13}undid the update and put back what was in hand, chunks: {}\n",
        repair.by, "", death.chunks_put_back,
    );
}

fn compare(together: Counts, alone: Counts) {
    println!("{:>10}{:>12}{:>12}{:>14}", "", "lines", "words", "bytes");
    for (who, counts) in [("together", together), ("alone", alone)] {
        let Counts {
            lines,
            words,
            bytes,
        } = counts;
        println!("{who:>10}{lines:>12}{words:>12}{bytes:>14}");
    }
    let verdict = if together == alone {
        "equal"
    } else {
        "NOT EQUAL"
    };
    println!("{verdict:>10}");
}
