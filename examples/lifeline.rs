//! A process learns at once that another process has ended, and how. It does not poll,
//! and needs no process ids, which the kernel uses again.
//!
//! Each worker holds a lifeline for as long as it works. The parent waits until the
//! lifeline is dropped, or until the kernel reports that its holder has died. It could
//! be any process: it need not be the parent.

use std::error::Error;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::pause;
use shm_sync::{End, Segment, ShmLifeline};

const HELP: &str = "\
A process waits for the end of two workers. One ends normally, and the other one is
killed.

Usage: cargo run --release --example lifeline [-- OPTIONS]

  --work M   milliseconds that a worker works, 1 to 60000, default 300
  --help     print this text

You can kill the workers yourself: with --work 20000 there is time.

Exit status: 0, 1 after an error, 2 for wrong arguments.
";

fn main() -> Result<(), Box<dyn Error>> {
    let [work] = support::parse_arguments(HELP, [("work", 300, 1..=60_000)]);
    let work = Duration::from_millis(work);
    let mut out = io::stdout();
    let workers = Segment::anonymous([const { ShmLifeline::new() }; 2])?;

    let first = support::fork(|| -> Result<(), shm_sync::Error> {
        let lifeline = workers[0].hold()?;
        thread::sleep(work);
        // A process that exits with a lifeline counts as dead, so it drops it before.
        drop(lifeline);
        Ok(())
    })?;
    let second = support::fork(|| -> Result<(), shm_sync::Error> {
        let _lifeline = workers[1].hold()?;
        loop {
            pause(); // Works for ever, until it is killed.
        }
    })?;
    writeln!(out, "workers {first} and {second} have started")?;

    let end = workers[0].wait_for_end(None)?;
    writeln!(out, "worker {first} {}", describe(end))?;

    let killer = thread::spawn(move || {
        thread::sleep(work);
        let now = Instant::now();
        kill(second, Signal::SIGKILL).map(|()| now)
    });
    let end = workers[1].wait_for_end(None)?;
    let told_at = Instant::now();
    writeln!(out, "worker {second} {}", describe(end))?;
    let killed_at = killer.join().map_err(|_| "the killer panicked")??;
    // If you have killed the worker, the parent was told before.
    if let Some(delay) = told_at.checked_duration_since(killed_at) {
        writeln!(out, "the parent was told {delay:.0?} after the kill")?;
    }
    Ok(())
}

fn describe(end: End) -> &'static str {
    match end {
        End::Ended => "ended normally",
        End::Died => "died",
        _ => "still works",
    }
}
