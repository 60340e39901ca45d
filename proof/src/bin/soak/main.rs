//! The soak: many processes use the same mutexes, condition variables and segments,
//! while one of them kills the others.
//!
//! ```text
//! cargo run --release -p shm-sync-proof --bin soak -- --seconds 60
//! cargo run --release -p shm-sync-proof --bin soak -- --kills 1000000 --seed 7
//! ```
//!
//! A *supervisor* forks the *workers*, and acts on them at random moments. It sends
//! SIGKILL, SIGSTOP and SIGCONT, and gives commands. The workers change a ledger under
//! a mutex, move items through a bounded queue, create, open and drop segments under
//! contended names, and use all other primitives of the crate.
//!
//! | command | the worker |
//! |---|---|
//! | `Exit`, `Exec`, `Panic`, `Fork` | does so with a lock held and the data half-changed |
//! | `EndThread` | ends a thread that has leaked a guard |
//! | `Leak` | leaks a guard, drops its segment, locks other mutexes, and ends |
//!
//! Every process checks for violations:
//!
//! * two holders at once
//! * torn data or a lost item without poison
//! * poison that is cleared before the repair ends
//! * a forked child that changes what only its parent may change
//! * a message that is torn or comes twice, a torn published value, two holders of a
//!   permit or of a lifeline
//! * a segment that is incomplete, or is not the one with the name
//!
//! After each thousand kills there is a *checkpoint*. Every worker must make progress,
//! and the totals must be right. Then *scenarios* run: deaths that swallow a wake, and
//! the time until the waiters recover.
//!
//! A seed repeats the actions, their slots and their order, but not their moments. A
//! violation may need several runs to show again.
//!
//! The exit status is 0, or 1 after a violation. Nothing is left behind, also after
//! SIGINT and SIGTERM. If SIGKILL ends the supervisor, all other processes die with it,
//! but the names stay.
//!
//! With `SHM_SYNC_RESULTS=DIRECTORY`, an absolute path, the soak writes `soak.md`
//! there.

mod checked_mutex;
mod commands;
mod condvar;
mod family;
mod family_work;
mod findings;
mod ledger;
mod plan;
mod process;
mod progress;
mod queue;
mod random;
mod report;
mod scenario;
mod scenarios;
mod segments;
mod shared;
mod slot;
mod statistics;
mod supervisor;
mod worker;
mod workload;

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Parser;
use nix::sys::resource::{Resource, setrlimit};
use shm_sync::{Segment, SegmentOptions};

use condvar::CondvarKind;
use plan::{Limit, Plan};
use report::Report;
use segments::Addresses;
use shared::Shared;
use slot::MAX_WORKERS;
use supervisor::Supervisor;
use worker::{Role, Worker};

/// Kills processes that share locks, condition variables and segments, and checks the
/// survivors.
#[derive(Debug, Parser)]
struct Options {
    /// Ends after this number of seconds.
    #[arg(long, default_value_t = 60, conflicts_with = "kills")]
    seconds: u64,
    /// Ends after this number of kills.
    #[arg(long)]
    kills: Option<u64>,
    /// Repeats the actions of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
    /// Sets the number of workers.
    #[arg(long, default_value_t = 10, value_parser = parse_workers)]
    processes: usize,
    /// Selects the condition variable of the queue.
    #[arg(long, value_enum, default_value_t = CondvarKind::ShmCondvar)]
    condvar: CondvarKind,
    /// Gives the mutexes of the ledger, the queue and the scenarios priority
    /// inheritance.
    #[arg(long, conflicts_with = "condvar")]
    priority_inheritance: bool,
    /// Sets the seconds after which a worker without progress is stuck, at a
    /// checkpoint.
    #[arg(long, default_value_t = 20)]
    timeout: u64,

    /// The shared memory of a worker that was commanded to `exec`.
    #[arg(long, hide = true)]
    join: Option<String>,
    #[arg(long, hide = true, default_value_t = 0)]
    slot: usize,
    #[arg(long, hide = true, default_value_t = 0)]
    worker_seed: u64,
}

fn parse_workers(text: &str) -> Result<usize, String> {
    let least = Role::ALL.len();
    match text.parse() {
        Ok(workers) if (least..=MAX_WORKERS).contains(&workers) => Ok(workers),
        _ => Err(format!("between {least} and {MAX_WORKERS}")),
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    process::note_end_signals();
    if let Some(shared) = &options.join {
        join(shared, options.slot, options.worker_seed);
    }
    // A crash is a finding. Its core dump would only take time.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    process::adopt_orphans();
    let plan = Plan {
        limit: match options.kills {
            Some(kills) => Limit::Kills(kills),
            None => Limit::Time(Duration::from_secs(options.seconds)),
        },
        seed: options.seed.unwrap_or_else(|| process::now() % 1_000_000),
        workers: options.processes,
        condvar: options.condvar,
        priority_inheritance: options.priority_inheritance,
        timeout: Duration::from_secs(options.timeout),
    };
    soak(&plan)
}

/// Takes over a slot after `exec`.
fn join(shared: &str, slot: usize, seed: u64) -> ! {
    let shared = Segment::<Shared>::open(shared).expect("it exists while its workers live");
    let addresses = Addresses::of(shared.supervisor.load(Ordering::Relaxed));
    Worker::new(&shared, &addresses, slot, seed).run()
}

/// Removes all objects of a soak, also after a panic.
struct RemoveOnDrop<'a>(&'a Addresses);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        self.0.remove_all();
    }
}

fn soak(plan: &Plan) -> ExitCode {
    let addresses = Addresses::of(std::process::id());
    let shared =
        match SegmentOptions::<Shared>::new().create_in_place(addresses.shared(), |shared| {
            if plan.priority_inheritance {
                shared.set_priority_inheritance();
            }
        }) {
            Ok(shared) => shared,
            Err(error) => {
                eprintln!("soak: {}: {error}", addresses.shared());
                return ExitCode::from(2);
            }
        };
    let _removed = RemoveOnDrop(&addresses);
    shared
        .supervisor
        .store(std::process::id(), Ordering::Relaxed);
    shared.set_condvar_kind(plan.condvar);

    let mut supervisor = Supervisor::new(&shared, &addresses, *plan);
    supervisor.run();
    supervisor.end_everything();
    let report = Report {
        plan,
        shared: &shared,
        statistics: &supervisor.statistics,
    };
    print!("{}", report.text());
    report.write_results();
    match process::end_signal() {
        _ if shared.findings.is_violated() => ExitCode::FAILURE,
        Some(signal) => ExitCode::from(128 + u8::try_from(signal).unwrap_or(0)),
        None => ExitCode::SUCCESS,
    }
}
