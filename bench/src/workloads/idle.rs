//! Idle: what those cost who only sleep. Four processes wait in `lock()` for a lock that
//! is held, and four in `wait()` for a notification that does not come. All contestants
//! sleep at the same time; the kernel's clock of each process is read now and then. The
//! values are parts of one processor, for one sleeper.

use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use shm_sync::ShmCondvar;

use crate::child::Child;
use crate::contestants::{Lock, PolledFlag, Pthread, Robust, ShmSync};
use crate::failure::Failure;
use crate::monitors::{self, Gate, Monitor, Ours, Tell};
use crate::plan::{Plan, Progress};
use crate::report::{Measure, Series, Survives};

/// How many sleep in each way.
const SLEEPERS: usize = 4;

/// How long they may take to fall asleep.
const SETTLE: Duration = Duration::from_millis(300);

/// Measures all at once.
pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let rounds = 5;
    let span = plan.pick(Duration::from_secs(1), Duration::from_millis(200));
    progress.begin("idle", rounds);
    let mut dormitories = [
        in_lock::<Pthread<Robust>>()?,
        in_lock::<ShmSync>()?,
        in_lock::<PolledFlag>()?,
        in_wait::<monitors::Pthread>()?,
        in_wait::<Ours<ShmCondvar>>()?,
    ];
    thread::sleep(SETTLE);
    for dormitory in &mut dormitories {
        dormitory.look()?;
    }
    for _ in 0..rounds {
        progress.step("")?;
        thread::sleep(span);
        for dormitory in &mut dormitories {
            let percent = dormitory.look()?;
            dormitory.series.rounds.push(percent);
        }
    }
    Ok(dormitories.map(|dormitory| dormitory.series).into())
}

/// Those who sleep in one way.
struct Dormitory {
    series: Series,
    sleepers: Vec<Child>,
    /// Who keeps the lock from them.
    _holder: Option<Child>,
    /// When somebody looked last, and the processor time of all until then.
    seen: (Instant, Duration),
}

impl Dormitory {
    /// The part of a processor that each has used since the last look, in percent.
    fn look(&mut self) -> Result<f64, Failure> {
        let used = self
            .sleepers
            .iter()
            .map(processor_time)
            .sum::<Result<Duration, Failure>>()?;
        let (then, used_then) = self.seen;
        self.seen = (Instant::now(), used);
        let share = (used - used_then).as_secs_f64() / then.elapsed().as_secs_f64();
        Ok(share * 100.0 / SLEEPERS as f64)
    }
}

/// What a process has used so far.
fn processor_time(process: &Child) -> Result<Duration, Failure> {
    let clock =
        ClockId::pid_cpu_clock_id(process.pid()).map_err(Failure::of("clock_getcpuclockid"))?;
    let time = clock_gettime(clock).map_err(Failure::of("clock_gettime"))?;
    Ok(time.into())
}

/// Some who wait for a lock that is held. They share it, also when it is dropped here.
fn in_lock<L: Lock>() -> Result<Dormitory, Failure> {
    let mut lock = L::make()?;
    let holder = Child::spawn(|| {
        lock.join()?;
        lock.with(|_| {
            loop {
                thread::park();
            }
        })
    })?;
    thread::sleep(SETTLE);
    dormitory(
        "in lock()",
        L::PROFILE.name,
        L::PROFILE.survives,
        Some(holder),
        || {
            lock.join()?;
            lock.with(|_| ());
            Ok(())
        },
    )
}

/// Some who wait for a notification.
fn in_wait<M: Monitor>() -> Result<Dormitory, Failure> {
    let monitor = M::make()?;
    dormitory("in wait()", M::NAME, M::SURVIVES, None, || {
        monitor.pass(Gate::Forth, |state| state.turn == 0, |_| Tell::Nobody)
    })
}

fn dormitory(
    column: &str,
    contestant: &'static str,
    survives: Survives,
    holder: Option<Child>,
    mut fall_asleep: impl FnMut() -> Result<(), Failure>,
) -> Result<Dormitory, Failure> {
    let sleepers = (0..SLEEPERS).map(|_| Child::spawn(&mut fall_asleep));
    Ok(Dormitory {
        series: Series {
            workload: format!("idle/asleep/{column}"),
            contestant,
            survives,
            measure: Measure::CpuPercent,
            rounds: Vec::new(),
        },
        sleepers: sleepers.collect::<Result<_, _>>()?,
        _holder: holder,
        seen: (Instant::now(), Duration::ZERO),
    })
}

#[cfg(test)]
mod tests {
    use serial_test::serial;

    use super::*;

    #[test]
    #[serial]
    fn smoke() -> Result<(), Failure> {
        for mut dormitory in [in_lock::<ShmSync>()?, in_wait::<Ours<ShmCondvar>>()?] {
            dormitory.look()?;
            thread::sleep(Duration::from_millis(20));
            let percent = dormitory.look()?;
            assert!((0.0..100.0).contains(&percent), "{percent}");
        }
        Ok(())
    }
}
