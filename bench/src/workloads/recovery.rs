//! Recovery: a process is killed while it holds the lock, and another process locks.
//!
//! * **Waits in lock()**: the next locker already sleeps in the kernel. The time is
//!   from just before `kill` until it has locked, and repaired the data if the lock
//!   reports the owner death.
//! * **Locks afterwards**: the next locker begins after the holder has been reaped. The
//!   time is that of locking and repairing.
//!
//! The next locker has used another lock of the same type before, because the first
//! lock of a process takes longer. The lower bound is the time that the kernel needs to
//! end a process: from just before `kill` until `waitpid` returns. Every kill is a
//! round.

use std::fs;
use std::io::{Read, Write, pipe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::rounds::{Entry, run_rounds};
use crate::affinity;
use crate::child::Child;
use crate::clock::now;
use crate::contestants::{Lock, Visitor, visit_all};
use crate::failure::Failure;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::series::{Measure, Series, Survives};
use crate::shared::{Shared, Zeroed};
use crate::stats::quantile;

/// The longest wait for another process.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The time that a waiter sleeps before the kill, so that its processor becomes idle.
const SETTLE: Duration = Duration::from_millis(1);

/// Kills holders of every lock that survives kills.
pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let mut entries = Entries {
        when: When::Waiting,
        entries: vec![],
    };
    visit_all(&mut entries);
    entries.entries.push(lower_bound());
    entries.when = When::Afterwards;
    visit_all(&mut entries);
    let mut series = run_rounds(
        plan,
        "recovery",
        entries.entries,
        plan.pick(200, 20),
        progress,
    )?;
    let tails: Vec<Series> = series.iter().map(tail).collect();
    series.extend(tails);
    Ok(series)
}

/// Returns the 99 % quantile of all kills, as one value.
fn tail(series: &Series) -> Series {
    let mut sorted = series.rounds.clone();
    sorted.sort_by(f64::total_cmp);
    Series {
        workload: format!("{}: 99 % are below", series.workload),
        rounds: vec![quantile(&sorted, 0.99)],
        ..*series
    }
}

/// The time at which the next locker begins.
#[derive(Clone, Copy)]
enum When {
    Waiting,
    Afterwards,
}

struct Entries {
    when: When,
    entries: Vec<Entry>,
}

impl Visitor for Entries {
    fn visit<L: Lock>(&mut self) {
        if L::PROFILE.survives != Survives::Kills {
            return;
        }
        let when = self.when;
        self.entries.push(entry(
            L::PROFILE.name,
            L::PROFILE.survives,
            when,
            move || match when {
                When::Waiting => waits_in_lock::<L>(),
                When::Afterwards => locks_afterwards::<L>(),
            },
        ));
    }
}

fn entry(
    contestant: &'static str,
    survives: Survives,
    when: When,
    kill: impl Fn() -> Result<f64, Failure> + 'static,
) -> Entry {
    let column = match when {
        When::Waiting => "waits in lock()",
        When::Afterwards => "locks afterwards",
    };
    Entry {
        workload: "recovery/next locker".to_owned(),
        contestant,
        survives,
        columns: vec![(column, Measure::Nanos)],
        round: Box::new(move || Ok(vec![kill()?])),
    }
}

/// Returns the entry for the death of a process that holds no lock.
fn lower_bound() -> Entry {
    let name = "lower bound: waitpid returns";
    let survives = Survives::DoesNotApply;
    entry(name, survives, When::Waiting, move || {
        let mut victim = Child::spawn(|| {
            affinity::pin(0)?;
            sleep_forever()
        })?;
        wait_until(name, || is_asleep(victim.pid()))?;
        thread::sleep(SETTLE);
        let killed = now();
        victim.kill();
        victim.wait(TIMEOUT)?;
        Ok((now() - killed) as f64)
    })
}

/// A lock, and the times that the two processes report.
struct Setup<L> {
    lock: L,
    /// Another lock of the same type, for the first lock of a process.
    warm_up: L,
    times: Shared<Times>,
}

/// Times of events. 0 before the event.
#[repr(C)]
struct Times {
    /// The holder has the lock.
    held: AtomicU64,
    /// The next locker is about to lock.
    arrived: AtomicU64,
    /// The next locker has locked.
    locked: AtomicU64,
}

// SAFETY: zeros are valid numbers; numbers refer to no process.
unsafe impl Zeroed for Times {}

impl<L: Lock> Setup<L> {
    fn create() -> Result<Self, Failure> {
        Ok(Self {
            lock: L::create()?,
            warm_up: L::create()?,
            times: Shared::zeroed()?,
        })
    }

    /// Forks a process that locks and sleeps.
    fn spawn_holder(&mut self) -> Result<Child, Failure> {
        let Self { lock, times, .. } = self;
        let holder = Child::spawn(|| {
            affinity::pin(0)?;
            lock.after_fork()?;
            lock.with(|_| {
                times.held.store(now(), Ordering::Relaxed);
                sleep_forever()
            })
        })?;
        wait_until(L::PROFILE.name, || times.held.load(Ordering::Relaxed) != 0)?;
        wait_until(L::PROFILE.name, || is_asleep(holder.pid()))?;
        Ok(holder)
    }

    /// Forks a process that locks once, after `wait_for_start` has returned.
    fn spawn_next(
        &mut self,
        wait_for_start: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<Child, Failure> {
        let Self {
            lock,
            warm_up,
            times,
        } = self;
        Child::spawn(|| {
            affinity::pin(1)?;
            lock.after_fork()?;
            warm_up.after_fork()?;
            warm_up.with(|_| ());
            wait_for_start()?;
            times.arrived.store(now(), Ordering::Relaxed);
            let locked = lock.with(|_| now());
            times.locked.store(locked, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Waits until the next locker has ended, and returns when it had locked.
    fn locked_at(&self, mut next: Child) -> Result<u64, Failure> {
        match (
            next.wait(TIMEOUT)?,
            self.times.locked.load(Ordering::Relaxed),
        ) {
            (Some(_), locked) if locked != 0 => Ok(locked),
            (status, _) => Err(Failure::WrongResult {
                contestant: L::PROFILE.name,
                what: format!("no process can lock after a kill: {status:?}"),
            }),
        }
    }
}

/// Returns nanoseconds from the kill until a waiter has locked.
fn waits_in_lock<L: Lock>() -> Result<f64, Failure> {
    let mut setup = Setup::<L>::create()?;
    let holder = setup.spawn_holder()?;
    let next = setup.spawn_next(|| Ok(()))?;
    wait_until(L::PROFILE.name, || {
        setup.times.arrived.load(Ordering::Relaxed) != 0
    })?;
    wait_until(L::PROFILE.name, || is_asleep(next.pid()))?;
    thread::sleep(SETTLE);
    let killed = now();
    holder.kill();
    Ok((setup.locked_at(next)? - killed) as f64)
}

/// Returns nanoseconds to lock after the death of the holder.
fn locks_afterwards<L: Lock>() -> Result<f64, Failure> {
    let mut setup = Setup::<L>::create()?;
    let mut holder = setup.spawn_holder()?;
    let (mut opens, open) = pipe().map_err(Failure::os("pipe"))?;
    let next = setup.spawn_next(|| opens.read_exact(&mut [0]).map_err(Failure::os("read")))?;
    wait_until(L::PROFILE.name, || is_asleep(next.pid()))?;
    holder.kill();
    holder.wait(TIMEOUT)?;
    (&open).write_all(&[0]).map_err(Failure::os("write"))?;
    Ok((setup.locked_at(next)? - setup.times.arrived.load(Ordering::Relaxed)) as f64)
}

/// Waits until `done` returns `true`. It polls every 50 µs, so that the processor is
/// free for the other processes.
fn wait_until(what: &str, done: impl Fn() -> bool) -> Result<(), Failure> {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > TIMEOUT {
            return Err(Failure::TimedOut {
                what: what.to_owned(),
                seconds: TIMEOUT.as_secs(),
            });
        }
        thread::sleep(Duration::from_micros(50));
    }
    Ok(())
}

/// Returns whether a process sleeps in the kernel: state `S` in `/proc/PID/stat`.
fn is_asleep(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name is in brackets and may itself contain spaces and brackets.
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('S'))
}

fn sleep_forever() -> ! {
    loop {
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use serial_test::serial;

    use super::*;
    use crate::contestants::{Flock, OfdLock, Robust, ShmSync, SystemVSemaphore};
    use crate::contestants::{PosixSync, Pthread};

    fn recovers<L: Lock>() -> Result<(), Failure> {
        assert!(waits_in_lock::<L>()? > 0.0);
        assert!(locks_afterwards::<L>()? > 0.0);
        Ok(())
    }

    #[test]
    #[serial]
    fn smoke() -> Result<(), Failure> {
        recovers::<ShmSync>()?;
        recovers::<Pthread<Robust>>()?;
        recovers::<PosixSync>()?;
        recovers::<Flock>()?;
        recovers::<OfdLock>()?;
        recovers::<SystemVSemaphore>()
    }
}
