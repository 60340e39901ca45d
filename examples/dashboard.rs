//! A dashboard shows the latest values of several processes. Each process publishes its
//! values; any number of dashboards read them. A dashboard opens the segment for
//! reading only: it can't write, it takes no lock, and so it never delays a writer.
//!
//! The segment has a name, so that a dashboard in another terminal finds it. The name
//! must be removed at the end, also after Ctrl-C, with which the terminal sends SIGINT
//! to all processes. If that ended them, the name would stay. So they block the signal,
//! and a thread of the parent waits for it, removes the name, and exits. The kernel
//! then kills the writers. (No program can do this after `kill -9` of the parent.
//! `shm-sync gc` finds such names. Most of the other examples need no handler: their
//! segments have no name.)

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use shm_sync::{Published, Removal, Segment, ShmSafe, unlink};

const HELP: &str = "\
Shows the latest values of several processes, which it opens for reading only.

Usage: cargo run --release --example dashboard [-- OPTIONS]

  --ticks N   how often the values are shown, 0 to 1000000, default 5
  --tick M    milliseconds between two of these, 1 to 60000, default 100
  --pid P     start no writers: show the values of the dashboard with process id P
  --help      print this text

In one terminal run it with --ticks 1000, in others with --pid. Kill a writer.

Exit status: 0, 1 after an error, 2 for wrong arguments, 130 after Ctrl-C.
";

const WRITERS: usize = 3;

/// The contents of the segment: the latest values of each writer.
type Shared = [Published<Sample>; WRITERS];

/// Values that belong together: a reader never gets a mixture of two samples.
#[derive(Clone, Copy, Default, ShmSafe)]
#[repr(C)]
struct Sample {
    process: u32,
    count: u64,
    sum: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = [
        ("ticks", 5, 0..=1_000_000),
        ("tick", 100, 1..=60_000),
        ("pid", 0, 0..=u64::from(u32::MAX)),
    ];
    let [ticks, tick, pid] = support::parse_arguments(HELP, options);
    let tick = Duration::from_millis(tick);
    if pid != 0 {
        return show(&name_of(pid), ticks, tick);
    }

    // The threads and children of this process, which start later, inherit the mask.
    let ending = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    ending.thread_block()?;

    let name = name_of(process::id().into());
    let shared = Segment::<Shared>::options()
        .removal(Removal::UntilLastDetach)
        .create_in_place(&name, |_| ())?; // All zeros.
    let shown = (|| {
        for index in 0..WRITERS {
            support::fork(|| write_for_ever(&shared, index))?;
        }
        let name_to_remove = name.clone();
        thread::spawn(move || {
            let signal = ending.wait();
            let _ = unlink(name_to_remove);
            process::exit(128 + signal.map_or(0, |signal| signal as i32))
        });
        writeln!(io::stdout(), "segment {name}, of process {}", process::id())?;
        show(&name, ticks, tick)
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
    format!("/shm-sync-dashboard-{pid}")
}

/// Shows the values, as any other process can.
fn show(name: &str, ticks: u64, tick: Duration) -> Result<(), Box<dyn Error>> {
    let shared = Segment::<Shared>::open_read_only(name)?;
    // `publish` would not compile here.
    let latest = shared.view().as_slice();
    let mut out = io::stdout();
    for number in 0..ticks {
        thread::sleep(tick);
        if number > 0 && out.is_terminal() {
            write!(out, "\x1b[{}A", WRITERS + 1)?; // Overwrites the last table.
        }
        writeln!(out, "{:>10}{:>10}{:>12}", "process", "count", "mean")?;
        for writer in latest.iter() {
            let Sample {
                process,
                count,
                sum,
            } = writer.read();
            let mean = sum as f64 / count.max(1) as f64;
            writeln!(out, "{process:>10}{count:>10}{mean:>12.1}")?;
        }
    }
    Ok(())
}

fn write_for_ever(shared: &Shared, index: usize) -> Result<(), shm_sync::Error> {
    let process = process::id();
    for number in 1.. {
        shared[index].update(|last| Sample {
            process,
            count: last.count + 1,
            sum: last.sum + number,
        })?;
        thread::sleep(Duration::from_millis(1 + index as u64));
    }
    Ok(())
}
