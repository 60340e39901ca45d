//! A monitor shows live values of a segment while other processes change them. It opens
//! the segment for reading only: it can't write, it takes no lock, and so it never
//! delays the writers.
//!
//! The segment has a name, so that a monitor in another terminal finds it. The name
//! must be removed at the end, also after Ctrl-C, with which the terminal sends SIGINT
//! to all processes. If that ended them, the name would stay. So they block the signal,
//! and a thread of the parent waits for it, removes the name, and exits. The kernel
//! then kills the writers. (No program can do this after `kill -9` of the parent.
//! `shm-sync gc` finds such names. The other examples need no handler: their segments
//! have no name.)

use std::error::Error;
use std::io::{self, Write};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use shm_sync::{Removal, Segment, ShmMutex, ShmSafe, project, unlink};

const HELP: &str = "\
Shows live values of a segment while processes change them. Opens it for reading
only.

Usage: cargo run --release --example monitor [-- OPTIONS]

  --writers N   number of processes that write, 0 to 64, default 2
  --ticks N     how often the values are shown, 0 to 1000000, default 5
  --tick M      milliseconds between two of these, 1 to 60000, default 100
  --pid P       start no writers: show the segment of the monitor with process id P
  --help        print this text

In one terminal run it with --ticks 1000, in another with --pid.

Exit status: 0, 1 after an error, 2 for wrong arguments, 130 after Ctrl-C.
";

/// The contents of the segment.
#[derive(ShmSafe)]
#[repr(C)]
struct Shared {
    /// How often a process has written.
    writes: AtomicU64,
    latest: ShmMutex<Sample>,
}

#[derive(Clone, Copy, Default, ShmSafe)]
#[repr(C)]
struct Sample {
    writer: u32,
    number: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = [
        ("writers", 2, 0..=64),
        ("ticks", 5, 0..=1_000_000),
        ("tick", 100, 1..=60_000),
        ("pid", 0, 0..=u64::from(u32::MAX)),
    ];
    let [writers, ticks, tick, pid] = support::parse_arguments(HELP, options);
    let tick = Duration::from_millis(tick);
    let mut out = io::stdout();
    if pid != 0 {
        return monitor(&name_of(pid), ticks, tick);
    }

    // The threads and children of this process, which start later, inherit the mask.
    let mut ending = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        ending.add(signal);
    }
    ending.thread_block()?;

    let name = name_of(process::id().into());
    let value = Shared {
        writes: AtomicU64::new(0),
        latest: ShmMutex::new(Sample::default()),
    };
    let shared = Segment::<Shared>::options()
        .removal(Removal::UntilLastDetach)
        .create(&name, value)?;
    let shown = (|| {
        for _ in 0..writers {
            support::fork(|| write_for_ever(&shared))?;
        }
        let name_to_remove = name.clone();
        thread::spawn(move || {
            let signal = ending.wait();
            let _ = unlink(name_to_remove);
            process::exit(128 + signal.map_or(0, |signal| signal as i32))
        });
        writeln!(out, "segment {name}, of process {}", process::id())?;
        monitor(&name, ticks, tick)
    })();
    // The writers are still attached, so this process is not the last one. The kernel
    // kills them when this process ends.
    let removed = unlink(&name);
    shown?;
    match removed {
        // The other thread was faster.
        Err(shm_sync::Error::NotFound { .. }) => Ok(()),
        other => Ok(other?),
    }
}

fn name_of(pid: u64) -> String {
    format!("/shm-sync-monitor-{pid}")
}

/// Shows the segment, as any other process can.
fn monitor(name: &str, ticks: u64, tick: Duration) -> Result<(), Box<dyn Error>> {
    let shared = Segment::<Shared>::open_read_only(name)?;
    // `view().latest.lock()` would not compile.
    let shared = shared.view();
    for _ in 0..ticks {
        thread::sleep(tick);
        let writes = project!(shared => writes).load();
        let latest = project!(shared => latest);
        // A copy without the lock. Its fields may be of different writes.
        let Sample { writer, number } = latest.peek();
        let lock = match latest.holder() {
            Some(holder) => format!("held by process {}", holder.pid),
            None => "free".to_owned(),
        };
        writeln!(
            io::stdout(),
            "{writes} writes, the latest is number {number} of process {writer}, the lock is {lock}"
        )?;
    }
    Ok(())
}

fn write_for_ever(shared: &Shared) -> Result<(), shm_sync::Error> {
    for number in 1.. {
        // If a writer is killed, the next write replaces what it left half done.
        let mut latest = shared.latest.lock_or_recover(|_, _| ())?;
        latest.writer = process::id();
        latest.number = number;
        thread::sleep(Duration::from_millis(1));
        drop(latest);
        shared.writes.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
