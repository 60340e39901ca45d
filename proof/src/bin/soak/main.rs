//! The soak: many processes over the same locks, condition variables and segments,
//! while one of them deals out deaths.
//!
//! ```text
//! cargo run --release -p shm-sync-proof --bin soak -- --seconds 60
//! cargo run --release -p shm-sync-proof --bin soak -- --kills 1000000 --seed 7
//! ```
//!
//! A *conductor* forks the *players* and deals *cards* to them at random instants:
//! SIGKILL, SIGSTOP and SIGCONT, and orders to `exit`, to `exec` or to panic with a
//! lock held, to end a thread with a leaked guard, to leak a guard and drop its
//! segment, to fork inside a lock. The players change a ledger under a mutex, put into
//! and take from a bounded queue, and open, create, use and leave segments under names
//! that all fight for. Everybody watches for what must not happen: two inside at once,
//! torn data or a lost item without poison, a poison that goes too early, a forked
//! child that does harm, a segment that is half-built or not the one that has the name.
//!
//! After every thousand kills there is a *calm*, in which everyone must get on and the
//! books must be right, and then two *scenes* are played: deaths that swallow a wakeup,
//! and how long it takes to heal.
//!
//! The same seed deals the same cards to the same seats in the same sequence. The
//! instants differ, so a violation may need some runs to show again.
//!
//! The exit status is 0, or 1 after a violation. Nothing is left behind, also after
//! SIGINT and SIGTERM. If the conductor itself is killed with SIGKILL, all others die
//! with it, but nobody is left to take away the names.

mod arena;
mod conductor;
mod games;
mod orders;
mod player;
mod process;
mod progress;
mod random;
mod report;
mod scenes;
mod tally;
mod vessels;
mod watched;

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Parser;
use nix::sys::resource::{Resource, setrlimit};
use shm_sync::{Segment, SegmentOptions};

use arena::{Arena, MAX_SEATS, Over};
use conductor::{Conductor, Limit, Plan};
use player::{Player, Role};
use vessels::Addresses;

/// Kills processes that share locks, condition variables and segments, and watches
/// the survivors.
#[derive(Debug, Parser)]
struct Options {
    /// Ends after so many seconds.
    #[arg(long, default_value_t = 60, conflicts_with = "kills")]
    seconds: u64,
    /// Ends after so many kills.
    #[arg(long)]
    kills: Option<u64>,
    /// Repeats the cards of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
    /// How many players there are.
    #[arg(long, default_value_t = 8, value_parser = parse_players)]
    processes: usize,
    /// The condition variable of the queue.
    #[arg(long, value_enum, default_value_t = Over::ShmCondvar)]
    over: Over,
    /// Gives the ledger, the queue and the scenes locks with priority inheritance.
    #[arg(long, conflicts_with = "over")]
    inheriting: bool,
    /// How many seconds a player may take to get on, in a calm.
    #[arg(long, default_value_t = 20)]
    patience: u64,

    /// Of a player that was told to `exec`: the arena that it comes back to.
    #[arg(long, hide = true)]
    join: Option<String>,
    #[arg(long, hide = true, default_value_t = 0)]
    seat: usize,
    #[arg(long, hide = true, default_value_t = 0)]
    life: u64,
}

fn parse_players(text: &str) -> Result<usize, String> {
    let least = Role::ALL.len();
    match text.parse() {
        Ok(players) if (least..=MAX_SEATS).contains(&players) => Ok(players),
        _ => Err(format!("between {least} and {MAX_SEATS}")),
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    process::note_requests_to_end();
    if let Some(arena) = &options.join {
        join(arena, options.seat, options.life);
    }
    // A process that crashes is a finding; its memory is not.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    process::adopt_orphans();
    let plan = Plan {
        limit: match options.kills {
            Some(kills) => Limit::Kills(kills),
            None => Limit::Time(Duration::from_secs(options.seconds)),
        },
        seed: options.seed.unwrap_or_else(|| process::now() % 1_000_000),
        players: options.processes,
        over: options.over,
        inheriting: options.inheriting,
        patience: Duration::from_secs(options.patience),
    };
    soak(&plan)
}

/// Takes a seat again.
fn join(arena: &str, seat: usize, life: u64) -> ! {
    let arena = Segment::<Arena>::open(arena).expect("it stays until all have ended");
    let addresses = Addresses::of(arena.conductor.load(Ordering::Relaxed));
    Player::new(&arena, &addresses, seat, life).play()
}

/// Removes what a soak has made, also if it panics.
struct Cleared<'a>(&'a Addresses);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        self.0.clear();
    }
}

fn soak(plan: &Plan) -> ExitCode {
    let addresses = Addresses::of(std::process::id());
    let arena = match SegmentOptions::new().create_in_place::<Arena>(addresses.arena(), |arena| {
        if plan.inheriting {
            arena.inherit_priorities();
        }
    }) {
        Ok(arena) => arena,
        Err(error) => {
            eprintln!("soak: {}: {error}", addresses.arena());
            return ExitCode::from(2);
        }
    };
    let _cleared = Cleared(&addresses);
    arena.conductor.store(std::process::id(), Ordering::Relaxed);
    arena.set_over(plan.over);

    let mut conductor = Conductor::new(&arena, &addresses, *plan);
    conductor.run();
    conductor.end_everything();
    print!("{}", report::report(plan, &arena, &conductor.tally));
    match process::asked_to_end() {
        _ if arena.is_violated() => ExitCode::FAILURE,
        Some(signal) => ExitCode::from(128 + u8::try_from(signal).unwrap_or(0)),
        None => ExitCode::SUCCESS,
    }
}
