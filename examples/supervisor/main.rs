//! A supervisor in Rust starts a worker in C on the same lock. The worker crashes in
//! the middle of an update. The supervisor is told, repairs the table, and starts the
//! next worker. A monitor in Python can read the table meanwhile.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use shm_sync::{OrRecover, PoisonCause, Removal, Segment, ShmCondvar, ShmMutex, ShmSafe};

const HELP: &str = "\
Starts a worker that is written in C (worker.c, compiled by cc). It crashes while it
holds the lock. The supervisor repairs the table and starts another worker.

Usage: cargo run --release --example supervisor [-- OPTIONS]

  --crash-at N  the first worker crashes in job N; 0: no crash (default 13)
  --pause MS    pause of a worker before each job (default 0)
  --help        print this text

Try: with `--pause 500`, run monitor.py in another terminal, with the address that is
printed, or kill -9 a worker at any moment.

Exit status: 0 if all jobs were done, 1 after an error, 2 for wrong arguments.
";

/// The number of jobs.
const JOBS: usize = 40;

/// What the programs share. `jobs.h` is the same in C.
#[derive(Debug, ShmSafe)]
#[repr(C)]
struct Jobs {
    table: ShmMutex<Table>,
    /// Notified after each change of the table.
    changed: ShmCondvar,
}

/// A job's result is 0 until it is done. `done` and `sum` follow from the results, so
/// they can be computed again.
#[derive(Debug, ShmSafe)]
#[repr(C)]
struct Table {
    done: u32,
    sum: u64,
    results: [u64; JOBS],
}

impl Table {
    /// Repairs the table after a worker has died in the middle of an update.
    fn repair(&mut self) {
        let results = self.results.iter().filter(|result| **result != 0);
        self.done = results.clone().count() as u32;
        self.sum = results.sum();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = [("crash-at", 13, 0..=JOBS as u64), ("pause", 0, 0..=10_000)];
    let [crash_at, pause] = support::parse_arguments(HELP, options);
    let mut out = io::stdout();
    let worker = compile_worker()?;
    let address = format!("/shm-sync-supervisor-{}", process::id());
    let options = Segment::options().removal(Removal::UntilLastDetach);
    let jobs = options.create(
        address.as_str(),
        Jobs {
            table: ShmMutex::new(Table {
                done: 0,
                sum: 0,
                results: [0; JOBS],
            }),
            changed: ShmCondvar::new(),
        },
    )?;
    remove_at_signal(&address)?;
    writeln!(out, "the segment is {address}")?;

    let start = |crash_at: u64| -> io::Result<Child> {
        let arguments = [crash_at.to_string(), pause.to_string()];
        Command::new(&worker).arg(&address).args(arguments).spawn()
    };
    let mut child = start(crash_at)?;
    let mut out_of_repair = io::stdout();
    let mut repair = |table: &mut Table, cause: PoisonCause| {
        let before = (table.done, table.sum);
        table.repair();
        let after = (table.done, table.sum);
        let _ = writeln!(out_of_repair, "{cause}\nrepaired: {before:?} -> {after:?}");
    };
    loop {
        let table = jobs.table.lock_or_recover(&mut repair)?;
        // The death of a worker that holds the lock ends this wait. If it does not hold
        // the lock, the timeout does.
        let tick = Duration::from_millis(200);
        let (table, _) = jobs
            .changed
            .wait_timeout_while(table, tick, |table| (table.done as usize) < JOBS)
            .or_recover(&mut repair)?;
        let is_done = table.done as usize == JOBS;
        drop(table);
        if is_done {
            break;
        }
        if let Some(status) = child.try_wait()? {
            writeln!(out, "the worker has ended ({status}); starting another one")?;
            child = start(0)?;
        }
    }
    child.wait()?;
    let table = jobs.table.lock_or_recover(&mut repair)?;
    let expected: u64 = (1..=JOBS as u64).map(result_of).sum();
    writeln!(out, "{} jobs, sum {}", table.done, table.sum)?;
    if table.sum != expected {
        return Err(format!("the sum is {}, not {expected}", table.sum).into());
    }
    Ok(())
}

/// Returns the result of job `number`, as the worker computes it.
fn result_of(number: u64) -> u64 {
    number * number
}

/// Removes the name of the segment when Ctrl-C ends this program. The worker, to which
/// the terminal sends the signal as well, just ends.
fn remove_at_signal(address: &str) -> Result<(), Box<dyn Error>> {
    let ending = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    ending.thread_block()?;
    let address = address.to_owned();
    thread::spawn(move || {
        let signal = ending.wait();
        // The program ends in any case.
        let _ = shm_sync::unlink(address.as_str());
        process::exit(128 + signal.map_or(0, |signal| signal as i32))
    });
    Ok(())
}

/// Compiles `worker.c` beside this program, and returns the path of the result.
fn compile_worker() -> Result<PathBuf, Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let worker = env::current_exe()?.with_file_name("supervisor_worker");
    // Several supervisors may run, so the file gets its name when it is complete.
    let unfinished = worker.with_extension(process::id().to_string());
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let status = Command::new(&compiler)
        .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-pthread", "-o"])
        .arg(&unfinished)
        .arg(here.join("supervisor/worker.c"))
        .arg(format!("-I{}", here.join("../include").display()))
        .status()
        .map_err(|error| format!("{compiler} can't be run: {error}"))?;
    if !status.success() {
        return Err(format!("{compiler} has failed to compile worker.c").into());
    }
    fs::rename(&unfinished, &worker)?;
    Ok(worker)
}
