//! A process learns at once that another process has ended, and whether it was killed.
//! It neither polls nor asks for process ids.
//!
//! Each worker holds a lock of its own as long as it works: its lifeline. The watcher
//! locks the lifeline too, and sleeps in the kernel until the worker has ended. If the
//! worker has unlocked, the watcher simply gets the lock. If it was killed, or exited
//! early, the watcher gets the lock with `LockError::Poisoned`.
//!
//! The watcher need not be the parent: it can be any process that shares the segment.

use std::error::Error;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::pause;
use shm_sync::{LockError, Segment, ShmCondvar, ShmMutex, ShmMutexGuard, ShmSafe};

const HELP: &str = "\
Two workers hold a lock each as long as they work. One ends normally, and the other
one is killed. A watcher is told at once, because it waits for both locks.

Usage: cargo run --release --example lifeline [-- OPTIONS]

  --work M   milliseconds that the workers work, 1 to 60000, default 300
  --help     print this text

With --work 30000, you can kill a worker yourself.

Exit status: 0, 1 after an error, 2 for wrong arguments.
";

const WORKERS: usize = 2;

/// The contents of the segment.
#[derive(ShmSafe)]
#[repr(C)]
struct Lifelines {
    lifelines: [ShmMutex<()>; WORKERS],
    /// How many workers hold their lifeline.
    working: ShmMutex<usize>,
    changed: ShmCondvar,
}

fn main() -> Result<(), Box<dyn Error>> {
    let [work] = support::parse_arguments(HELP, [("work", 300, 1..=60_000)]);
    let work = Duration::from_millis(work);
    let mut out = io::stdout();
    let shared = Segment::anonymous(Lifelines {
        lifelines: [const { ShmMutex::new(()) }; WORKERS],
        working: ShmMutex::new(0),
        changed: ShmCondvar::new(),
    })?;
    let first = support::fork(|| -> Result<(), shm_sync::Error> {
        let lifeline = hold_lifeline(&shared, 0)?;
        thread::sleep(work);
        // A process that exits with the lock held counts as dead, so it unlocks first.
        drop(lifeline);
        Ok(())
    })?;
    let second = support::fork(|| -> Result<(), shm_sync::Error> {
        let _lifeline = hold_lifeline(&shared, 1)?;
        loop {
            pause(); // Works for ever, until it is killed.
        }
    })?;
    wait_until_all_work(&shared)?;
    writeln!(out, "workers {first} and {second} hold their lifelines")?;

    writeln!(out, "worker {first} {}", watch(&shared.lifelines[0])?)?;

    let killer = thread::spawn(move || {
        thread::sleep(work);
        let now = Instant::now();
        kill(second, Signal::SIGKILL).map(|()| now)
    });
    writeln!(out, "worker {second} {}", watch(&shared.lifelines[1])?)?;
    let told_at = Instant::now();
    let killed_at = killer.join().map_err(|_| "the killer panicked")??;
    // If you have killed the worker, the watcher was told before.
    if let Some(delay) = told_at.checked_duration_since(killed_at) {
        writeln!(out, "the watcher was told {delay:.0?} after the kill")?;
    }
    Ok(())
}

fn hold_lifeline(
    shared: &Lifelines,
    index: usize,
) -> Result<ShmMutexGuard<'_, ()>, shm_sync::Error> {
    let lifeline = shared.lifelines[index].lock()?;
    *shared.working.lock_or_recover(|_, _| ())? += 1;
    shared.changed.notify_all();
    Ok(lifeline)
}

/// Waits until all workers hold their lifelines. Before, a free lifeline would look as
/// if the worker had ended normally.
fn wait_until_all_work(shared: &Lifelines) -> Result<(), Box<dyn Error>> {
    let limit = Duration::from_secs(10);
    let not_all = |working: &mut usize| *working < WORKERS;
    let working = shared.working.lock_or_recover(|_, _| ())?;
    let (working, _) =
        shared
            .changed
            .wait_timeout_while_or_recover(working, limit, not_all, |_, _| ())?;
    match *working {
        WORKERS => Ok(()),
        _ => Err("a worker did not start".into()),
    }
}

/// Waits until the holder of the lifeline has ended, and returns how. (`try_lock_for`
/// does the same with a time limit.)
fn watch(lifeline: &ShmMutex<()>) -> Result<String, shm_sync::Error> {
    match lifeline.lock() {
        Ok(_) => Ok("ended normally".to_owned()),
        Err(LockError::Poisoned(death)) => Ok(format!("died: {}", death.cause())),
        Err(other) => Err(other.into()),
    }
}
