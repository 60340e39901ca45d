//! Two processes take turns. The program measures how many round trips they make in a
//! second, and how much processor time each process needs. It measures `ShmCondvar`
//! first and then `PthreadCondvar`, which is the `pthread_cond_t` of the C library.
//!
//! Each process waits until it is its turn, gives the turn to the other process, and
//! notifies it. Both are children of a parent that only waits for them. So the kernel's
//! `RUSAGE_CHILDREN` is the time of one process at a time. If one process dies, the
//! parent kills the other one.

use std::error::Error;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;
use shm_sync::{LockResult, PthreadCondvar, Segment, ShmCondvar, ShmMutex, ShmMutexGuard, ShmSafe};

const HELP: &str = "\
Two processes take turns with a condition variable. Measures ShmCondvar, and the
pthread_cond_t of the C library: round trips per second, processor time of each
process.

Usage: cargo run --release --example ping_pong [-- OPTIONS]

  --round-trips N   number of round trips, default 100000
  --help            print this text

Exit status: 0, 1 after an error, 2 for wrong arguments.
";

/// The process that may go on.
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

/// The contents of the segment.
#[derive(ShmSafe)]
#[repr(C)]
struct Shared<C> {
    turn: ShmMutex<Turn>,
    changed: C,
}

/// The methods of a condition variable that this example uses.
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
    let options = [("round-trips", 100_000, 1..=u64::from(u32::MAX))];
    let [round_trips] = support::parse_arguments(HELP, options);

    let mut out = io::stdout();
    writeln!(out, "{round_trips} round trips between two processes\n")?;
    writeln!(
        out,
        "{:<16}{:>14}{:>14}{:>14}",
        "", "per second", "CPU, ping", "CPU, pong"
    )?;
    print_measurement::<ShmCondvar>(round_trips)?;
    print_measurement::<PthreadCondvar>(round_trips)
}

/// Measures one condition variable and prints one line.
fn print_measurement<C: Condvar>(round_trips: u64) -> Result<(), Box<dyn Error>> {
    let Measurement {
        duration,
        ping,
        pong,
    } = measure::<C>(round_trips)?;
    writeln!(
        io::stdout(),
        "{:<16}{:>14.0}{:>12.3} s{:>12.3} s",
        C::NAME,
        round_trips as f64 / duration.as_secs_f64(),
        ping.as_secs_f64(),
        pong.as_secs_f64(),
    )?;
    Ok(())
}

struct Measurement {
    /// From the first fork to the end of both processes.
    duration: Duration,
    /// The processor time of each process, user and system.
    ping: Duration,
    pong: Duration,
}

fn measure<C: Condvar>(round_trips: u64) -> Result<Measurement, Box<dyn Error>> {
    let shared = Segment::anonymous(Shared {
        turn: ShmMutex::new(Turn::Ping),
        changed: C::new(),
    })?;

    let start = Instant::now();
    // If the second fork fails, this process ends, and the first child with it.
    let ping = support::fork(|| take_turns(&shared, Turn::Ping, round_trips))?;
    let pong = support::fork(|| take_turns(&shared, Turn::Pong, round_trips))?;

    let (first, time_of_first) = reap_next(ping, pong)?;
    let (_, time_of_second) = reap_next(ping, pong)?;
    let duration = start.elapsed();

    let (ping, pong) = if first == ping {
        (time_of_first, time_of_second)
    } else {
        (time_of_second, time_of_first)
    };
    Ok(Measurement {
        duration,
        ping,
        pong,
    })
}

/// Waits for its turn and passes it on, `round_trips` times.
fn take_turns<C: Condvar>(
    shared: &Shared<C>,
    me: Turn,
    round_trips: u64,
) -> Result<(), shm_sync::Error> {
    let mut turn = shared.turn.lock()?;
    for _ in 0..round_trips {
        turn = shared.changed.wait_while(turn, |turn| *turn != me)?;
        *turn = me.other();
        shared.changed.notify_one();
    }
    Ok(())
}

/// Waits until one process has ended, and returns its id and its processor time. If it
/// failed, the other process would wait for ever, so this kills the other process.
fn reap_next(ping: Pid, pong: Pid) -> Result<(Pid, Duration), Box<dyn Error>> {
    let before = processor_time_of_reaped_children()?;
    match wait()? {
        WaitStatus::Exited(pid, 0) => {
            let after = processor_time_of_reaped_children()?;
            Ok((pid, after.saturating_sub(before)))
        }
        other => {
            let ended = other.pid();
            for pid in [ping, pong].into_iter().filter(|&pid| Some(pid) != ended) {
                kill_and_reap(pid)?;
            }
            Err(format!("a process failed: {other:?}").into())
        }
    }
}

/// Kills a child and reaps it. Does nothing if it was reaped before.
fn kill_and_reap(child: Pid) -> nix::Result<()> {
    match kill(child, Signal::SIGKILL) {
        Ok(()) => wait().map(drop),
        Err(Errno::ESRCH) => Ok(()),
        Err(other) => Err(other),
    }
}

/// Returns the processor time of all children that were reaped, user and system.
fn processor_time_of_reaped_children() -> nix::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(
        time.num_microseconds().unsigned_abs(),
    ))
}
