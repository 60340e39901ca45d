//! Two processes hand a turn to and fro: how many round trips a second, and
//! what they cost in processor time. `ShmCondvar` first, then, for comparison,
//! `PthreadCondvar`, which is the system's `pthread_cond_t`.
//!
//! ```text
//! cargo run --release --example ping_pong            # 100000 round trips
//! cargo run --release --example ping_pong -- 20000
//! ```
//!
//! Each side waits until the turn is its own, gives it to the other, and tells
//! it so. Both players are children: the parent only waits for them, so the
//! kernel's bill for a reaped child is the bill of one side, and if one of them
//! should die, somebody is left to stop the other.

use std::env;
use std::error::Error;
use std::process;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{ForkResult, Pid, fork};
use shm_sync::{LockResult, PthreadCondvar, Segment, ShmCondvar, ShmMutex, ShmMutexGuard, ShmSafe};

const DEFAULT_ROUND_TRIPS: u64 = 100_000;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ShmSafe)]
#[repr(u8)]
enum Turn {
    Ping,
    Pong,
}

impl Turn {
    fn other(self) -> Self {
        match self {
            Self::Ping => Self::Pong,
            Self::Pong => Self::Ping,
        }
    }
}

/// What the two share.
#[derive(ShmSafe)]
#[repr(C)]
struct Table<C> {
    turn: ShmMutex<Turn>,
    changed: C,
}

/// What this example needs of a condition variable. Both kinds have it.
trait Condvar: ShmSafe {
    const NAME: &str;

    fn new() -> Self;
    fn notify_one(&self);
    fn wait_while<'a>(
        &self,
        guard: ShmMutexGuard<'a, Turn>,
        condition: impl FnMut(&mut Turn) -> bool,
    ) -> LockResult<ShmMutexGuard<'a, Turn>>;
}

macro_rules! condvars {
    ($($name:ident),+) => {$(
        impl Condvar for $name {
            const NAME: &str = stringify!($name);

            fn new() -> Self {
                $name::new()
            }
            fn notify_one(&self) {
                $name::notify_one(self);
            }
            fn wait_while<'a>(
                &self,
                guard: ShmMutexGuard<'a, Turn>,
                condition: impl FnMut(&mut Turn) -> bool,
            ) -> LockResult<ShmMutexGuard<'a, Turn>> {
                $name::wait_while(self, guard, condition)
            }
        }
    )+};
}

condvars!(ShmCondvar, PthreadCondvar);

fn main() -> Result<(), Box<dyn Error>> {
    let round_trips = match env::args().nth(1) {
        None => DEFAULT_ROUND_TRIPS,
        Some(argument) => argument
            .parse()
            .map_err(|_| "the argument must be a number of round trips")?,
    };

    println!("{round_trips} round trips between two processes\n");
    println!(
        "{:<16}{:>14}{:>14}{:>14}",
        "", "a second", "CPU, ping", "CPU, pong"
    );
    report::<ShmCondvar>(round_trips)?;
    report::<PthreadCondvar>(round_trips)
}

/// Plays once and prints one line.
fn report<C: Condvar>(round_trips: u64) -> Result<(), Box<dyn Error>> {
    let game = play::<C>(round_trips)?;
    println!(
        "{:<16}{:>14.0}{:>12.3} s{:>12.3} s",
        C::NAME,
        round_trips as f64 / game.duration.as_secs_f64(),
        game.ping.as_secs_f64(),
        game.pong.as_secs_f64(),
    );
    Ok(())
}

/// What a game took.
struct Game {
    /// From the first fork to the end of both players.
    duration: Duration,
    /// Processor time, user and system, of each side.
    ping: Duration,
    pong: Duration,
}

fn play<C: Condvar>(round_trips: u64) -> Result<Game, Box<dyn Error>> {
    let table = Segment::anonymous(Table {
        turn: ShmMutex::new(Turn::Ping),
        changed: C::new(),
    })?;

    let start = Instant::now();
    let ping = start_player(&table, Turn::Ping, round_trips)?;
    let pong = match start_player(&table, Turn::Pong, round_trips) {
        Ok(pong) => pong,
        Err(error) => {
            stop(ping)?;
            return Err(error.into());
        }
    };

    let (first, cost_of_first) = wait_for_either(ping, pong)?;
    let (_, cost_of_second) = wait_for_either(ping, pong)?;
    let duration = start.elapsed();

    let (ping, pong) = if first == ping {
        (cost_of_first, cost_of_second)
    } else {
        (cost_of_second, cost_of_first)
    };
    Ok(Game {
        duration,
        ping,
        pong,
    })
}

/// Forks one side.
fn start_player<C: Condvar>(table: &Table<C>, me: Turn, round_trips: u64) -> nix::Result<Pid> {
    // SAFETY: this process has one thread, so no other can have left a lock of
    // the allocator or of the standard library locked in the child.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => match take_turns(table, me, round_trips) {
            Ok(()) => process::exit(0),
            Err(error) => {
                eprintln!("{me:?}: {error}");
                process::exit(1)
            }
        },
    }
}

/// The game itself, as each side plays it.
fn take_turns<C: Condvar>(
    table: &Table<C>,
    me: Turn,
    round_trips: u64,
) -> Result<(), shm_sync::Error> {
    let mut turn = table.turn.lock()?;
    for _ in 0..round_trips {
        turn = table.changed.wait_while(turn, |turn| *turn != me)?;
        *turn = me.other();
        table.changed.notify_one();
    }
    Ok(())
}

/// Waits until one of the players has ended, and returns which, and its
/// processor time. If it did not end well, the other would wait for ever, so
/// it is stopped.
fn wait_for_either(ping: Pid, pong: Pid) -> Result<(Pid, Duration), Box<dyn Error>> {
    let before = processor_time_of_the_reaped()?;
    match wait()? {
        WaitStatus::Exited(player, 0) => Ok((
            player,
            processor_time_of_the_reaped()?.saturating_sub(before),
        )),
        other => {
            let ended = other.pid();
            for player in [ping, pong].into_iter().filter(|&p| Some(p) != ended) {
                stop(player)?;
            }
            Err(format!("a player failed: {other:?}").into())
        }
    }
}

/// Kills a player and reaps it, unless that has happened already.
fn stop(player: Pid) -> nix::Result<()> {
    match kill(player, Signal::SIGKILL) {
        Ok(()) => wait().map(drop),
        Err(Errno::ESRCH) => Ok(()),
        Err(other) => Err(other),
    }
}

/// What all children that were waited for have used, user and system.
fn processor_time_of_the_reaped() -> nix::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(
        time.num_microseconds().unsigned_abs(),
    ))
}
