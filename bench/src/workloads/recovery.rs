//! Recovery: a process is killed with the lock held; how long until another one has it?
//!
//! * **Sleeps in lock()**: the next one waits for the lock already, asleep in the kernel.
//!   From just before `kill` until it has the lock, and the data is repaired, as far as
//!   the lock lets one know.
//! * **Comes afterwards**: the next one comes when the dead one is gone. How long it needs
//!   to get and repair the lock.
//!
//! Before that, the next one has used another lock of the kind, so that what a new process
//! does once is not in it. The floor is what the kernel needs for the death alone: from
//! just before `kill` until the parent has seen the end. Every kill is a round.

use std::fs;
use std::io::{Read, Write, pipe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::rounds::{Entry, take_turns};
use crate::child::Child;
use crate::clock::now;
use crate::contestants::{Lock, Visitor, visit_all};
use crate::crew;
use crate::failure::Failure;
use crate::plan::{Plan, Progress};
use crate::report::{Measure, Series, Survives};
use crate::shared::{Shared, Zeroed};
use crate::stats::quantile;

/// How long anybody waits for anybody else.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one who sleeps is left alone, so that its processor is idle.
const SETTLE: Duration = Duration::from_millis(1);

/// Kills holders of every lock that survives it.
pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let mut entries = Entries {
        when: When::Waiting,
        entries: vec![],
    };
    visit_all(&mut entries);
    entries.entries.push(floor());
    entries.when = When::Afterwards;
    visit_all(&mut entries);
    let mut series = take_turns("recovery", entries.entries, plan.pick(200, 20), progress)?;
    let tails: Vec<Series> = series.iter().map(tail).collect();
    series.extend(tails);
    Ok(series)
}

/// What 99 % of all kills are below: one value for all.
fn tail(series: &Series) -> Series {
    let mut sorted = series.rounds.clone();
    sorted.sort_by(f64::total_cmp);
    Series {
        workload: format!("{}: 99 % are below", series.workload),
        rounds: vec![quantile(&sorted, 0.99)],
        ..*series
    }
}

/// When the next one comes.
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
                When::Waiting => sleeps_in_lock::<L>(),
                When::Afterwards => comes_afterwards::<L>(),
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
        When::Waiting => "sleeps in lock()",
        When::Afterwards => "comes afterwards",
    };
    Entry {
        workload: "recovery/the next one".to_owned(),
        contestant,
        survives,
        columns: vec![(column, Measure::Nanos)],
        round: Box::new(move || Ok(vec![kill()?])),
    }
}

/// The death of a process that has no lock.
fn floor() -> Entry {
    let name = "floor: a death seen by waitpid";
    let survives = Survives::DoesNotApply;
    entry(name, survives, When::Waiting, move || {
        let mut victim = Child::spawn(|| {
            crew::sit(0)?;
            sleep_for_ever()
        })?;
        until(name, || is_asleep(victim.pid()))?;
        thread::sleep(SETTLE);
        let killed = now();
        victim.kill();
        victim.wait(PATIENCE)?;
        Ok((now() - killed) as f64)
    })
}

/// A lock, and what the two processes tell.
struct Scene<L> {
    lock: L,
    /// Another lock of the kind, for the first use of it in a process.
    warm: L,
    clocks: Shared<Clocks>,
}

/// When something happened first; 0 if it has not.
#[repr(C)]
struct Clocks {
    /// The holder has the lock.
    held: AtomicU64,
    /// The next one is about to lock.
    came: AtomicU64,
    /// The next one has the lock.
    got: AtomicU64,
}

// SAFETY: it consists of atomic numbers.
unsafe impl Zeroed for Clocks {}

impl<L: Lock> Scene<L> {
    fn make() -> Result<Self, Failure> {
        Ok(Self {
            lock: L::make()?,
            warm: L::make()?,
            clocks: Shared::zeroed()?,
        })
    }

    /// Forks a process that holds the lock, and sleeps.
    fn holder(&mut self) -> Result<Child, Failure> {
        let Self { lock, clocks, .. } = self;
        let holder = Child::spawn(|| {
            crew::sit(0)?;
            lock.join()?;
            lock.with(|_| {
                clocks.held.store(now(), Ordering::Relaxed);
                sleep_for_ever()
            })
        })?;
        until(L::PROFILE.name, || clocks.held.load(Ordering::Relaxed) != 0)?;
        until(L::PROFILE.name, || is_asleep(holder.pid()))?;
        Ok(holder)
    }

    /// Forks a process that locks once, when `go` has said so.
    fn next(&mut self, go: impl FnOnce() -> Result<(), Failure>) -> Result<Child, Failure> {
        let Self { lock, warm, clocks } = self;
        Child::spawn(|| {
            crew::sit(1)?;
            lock.join()?;
            warm.join()?;
            warm.with(|_| ());
            go()?;
            clocks.came.store(now(), Ordering::Relaxed);
            let got = lock.with(|_| now());
            clocks.got.store(got, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Waits for the end of the next one, and returns when it got the lock.
    fn got(&self, mut next: Child) -> Result<u64, Failure> {
        match (
            next.wait(PATIENCE)?,
            self.clocks.got.load(Ordering::Relaxed),
        ) {
            (Some(_), got) if got != 0 => Ok(got),
            (status, _) => Err(Failure::Wrong {
                contestant: L::PROFILE.name,
                what: format!("nobody gets it after a kill: {status:?}"),
            }),
        }
    }
}

/// From the kill until one who slept in `lock()` has the lock.
fn sleeps_in_lock<L: Lock>() -> Result<f64, Failure> {
    let mut scene = Scene::<L>::make()?;
    let holder = scene.holder()?;
    let next = scene.next(|| Ok(()))?;
    until(L::PROFILE.name, || {
        scene.clocks.came.load(Ordering::Relaxed) != 0
    })?;
    until(L::PROFILE.name, || is_asleep(next.pid()))?;
    thread::sleep(SETTLE);
    let killed = now();
    holder.kill();
    Ok((scene.got(next)? - killed) as f64)
}

/// What it takes to get the lock of one who is dead and gone.
fn comes_afterwards<L: Lock>() -> Result<f64, Failure> {
    let mut scene = Scene::<L>::make()?;
    let mut holder = scene.holder()?;
    let (mut opens, open) = pipe().map_err(Failure::of("pipe"))?;
    let next = scene.next(|| opens.read_exact(&mut [0]).map_err(Failure::of("read")))?;
    until(L::PROFILE.name, || is_asleep(next.pid()))?;
    holder.kill();
    holder.wait(PATIENCE)?;
    (&open).write_all(&[0]).map_err(Failure::of("write"))?;
    Ok((scene.got(next)? - scene.clocks.came.load(Ordering::Relaxed)) as f64)
}

/// Waits until `done` says yes, looking often, but leaving the processor to others.
fn until(what: &str, done: impl Fn() -> bool) -> Result<(), Failure> {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > PATIENCE {
            return Err(Failure::Stuck {
                what: what.to_owned(),
                seconds: PATIENCE.as_secs(),
            });
        }
        thread::sleep(Duration::from_micros(50));
    }
    Ok(())
}

/// Whether a process sleeps in the kernel: state `S` of `/proc/PID/stat`.
fn is_asleep(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in brackets, may have spaces and brackets in it.
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('S'))
}

fn sleep_for_ever() -> ! {
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
        assert!(sleeps_in_lock::<L>()? > 0.0);
        assert!(comes_afterwards::<L>()? > 0.0);
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
