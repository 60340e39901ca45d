//! Processor time of waiters. Four processes wait in `lock()` for a lock that stays
//! locked, and four in `wait()` for a notification that does not come. The waiters of
//! all contestants wait at the same time. Each round reads the processor time of each
//! process from the kernel. The values are for one waiter, relative to one processor.

use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use shm_sync::ShmCondvar;

use crate::child::Child;
use crate::contestants::{Lock, PolledFlag, Pthread, Robust, ShmSync};
use crate::failure::Failure;
use crate::monitors::{self, Monitor, Notify, ShmMonitor, WaitQueue};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::series::{Measure, Series, Survives};

/// The number of waiters in each group.
const WAITERS: usize = 4;

/// The time in which waiters fall asleep.
const SETTLE: Duration = Duration::from_millis(300);

/// Measures all groups at the same time.
pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let rounds = 5;
    let span = plan.pick(Duration::from_secs(1), Duration::from_millis(200));
    progress.begin("idle", rounds);
    let mut groups = vec![
        in_lock::<Pthread<Robust>>()?,
        in_lock::<ShmSync>()?,
        in_lock::<PolledFlag>()?,
        in_wait::<monitors::Pthread>()?,
        in_wait::<ShmMonitor<ShmCondvar>>()?,
    ];
    groups.retain(|group| plan.includes(group.series.contestant));
    thread::sleep(SETTLE);
    for group in &mut groups {
        group.sample()?;
    }
    for _ in 0..rounds {
        progress.step("")?;
        thread::sleep(span);
        for group in &mut groups {
            let percent = group.sample()?;
            group.series.rounds.push(percent);
        }
    }
    Ok(groups.into_iter().map(|group| group.series).collect())
}

/// Waiters that wait for the same object.
struct WaiterGroup {
    series: Series,
    waiters: Vec<Child>,
    /// The process that holds the lock.
    _holder: Option<Child>,
    /// The time of the last sample, and the processor time of all waiters until then.
    last_sample: (Instant, Duration),
}

impl WaiterGroup {
    /// Returns the processor time per waiter since the last sample, in percent.
    fn sample(&mut self) -> Result<f64, Failure> {
        let used = self
            .waiters
            .iter()
            .map(processor_time)
            .sum::<Result<Duration, Failure>>()?;
        let (then, used_then) = self.last_sample;
        self.last_sample = (Instant::now(), used);
        let share = (used - used_then).as_secs_f64() / then.elapsed().as_secs_f64();
        Ok(share * 100.0 / WAITERS as f64)
    }
}

/// Returns the processor time that a process has used so far.
fn processor_time(process: &Child) -> Result<Duration, Failure> {
    let clock =
        ClockId::pid_cpu_clock_id(process.pid()).map_err(Failure::os("clock_getcpuclockid"))?;
    let time = clock_gettime(clock).map_err(Failure::os("clock_gettime"))?;
    Ok(time.into())
}

/// Spawns waiters for a lock that stays locked. They share the lock after this process
/// has dropped it.
fn in_lock<L: Lock>() -> Result<WaiterGroup, Failure> {
    let mut lock = L::create()?;
    let holder = Child::spawn(|| {
        lock.after_fork()?;
        lock.with(|_| {
            loop {
                thread::park();
            }
        })
    })?;
    thread::sleep(SETTLE);
    spawn_group(
        "in lock()",
        L::PROFILE.name,
        L::PROFILE.survives,
        Some(holder),
        || {
            lock.after_fork()?;
            lock.with(|_| ());
            Ok(())
        },
    )
}

/// Spawns waiters for a notification.
fn in_wait<M: Monitor>() -> Result<WaiterGroup, Failure> {
    let monitor = M::create()?;
    spawn_group("in wait()", M::NAME, M::SURVIVES, None, || {
        monitor.execute(
            WaitQueue::Forward,
            |state| state.turn == 0,
            |_| Notify::None,
        )
    })
}

fn spawn_group(
    column: &str,
    contestant: &'static str,
    survives: Survives,
    holder: Option<Child>,
    mut wait: impl FnMut() -> Result<(), Failure>,
) -> Result<WaiterGroup, Failure> {
    let waiters = (0..WAITERS).map(|_| Child::spawn(&mut wait));
    Ok(WaiterGroup {
        series: Series {
            workload: format!("idle/waiters/{column}"),
            contestant,
            survives,
            measure: Measure::CpuPercent,
            rounds: Vec::new(),
        },
        waiters: waiters.collect::<Result<_, _>>()?,
        _holder: holder,
        last_sample: (Instant::now(), Duration::ZERO),
    })
}

#[cfg(test)]
mod tests {
    use serial_test::serial;

    use super::*;

    #[test]
    #[serial]
    fn smoke() -> Result<(), Failure> {
        for mut group in [in_lock::<ShmSync>()?, in_wait::<ShmMonitor<ShmCondvar>>()?] {
            group.sample()?;
            thread::sleep(Duration::from_millis(20));
            let percent = group.sample()?;
            assert!((0.0..100.0).contains(&percent), "{percent}");
        }
        Ok(())
    }
}
