//! What is played, by whatever passes turns or guards a state. `share` divides how long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::clock::now;
use crate::contestants::Scope;
use crate::crew::{self, Worker};
use crate::failure::Failure;
use crate::monitors::{Gate, Monitor, RING, State, Tell, Turns};
use crate::shared::Shared;
use crate::stats::quantile;

/// How often each side has the turn, both running.
const TRIPS: usize = 2000;
/// How often before that: the first lock of a process, and who comes later, are not the
/// question.
const WARM_UP: usize = 200;

/// How often the turn is given, both asleep.
const WAKEUPS: usize = 100;
/// How long it is kept, for the other side to fall asleep.
const KEPT: Duration = Duration::from_millis(1);

/// How many are called.
const WAITERS: u64 = 8;
/// How often they are.
const CALLS: usize = 200;

/// How many items go through the ring.
const ITEMS: usize = 20_000;

/// Nanoseconds for one hand-over between two that do nothing else.
pub(in crate::workloads) fn running<T: Turns>(share: usize) -> Result<f64, Failure> {
    let trips = TRIPS / share;
    let turns = T::make()?;
    let took = Shared::<AtomicU64>::zeroed()?;
    staff(T::SCOPE, T::NAME, 2, |worker| {
        crew::sit(worker.index)?;
        worker.start()?;
        for _ in 0..WARM_UP {
            turns.take_and_give(worker.index)?;
        }
        let start = now();
        for _ in 0..trips {
            turns.take_and_give(worker.index)?;
        }
        // The one who comes second has waited for all turns but the other's last.
        took.fetch_max(now() - start, Ordering::Relaxed);
        Ok(())
    })?;
    Ok(took.load(Ordering::Relaxed) as f64 / (2 * trips) as f64)
}

/// Nanoseconds from giving the turn to having it, for one who sleeps: the median, and
/// what 99 % are below.
pub(super) fn asleep<T: Turns>(share: usize) -> Result<[f64; 2], Failure> {
    let wakeups = WAKEUPS / share;
    let turns = T::make()?;
    let given = Shared::<AtomicU64>::zeroed()?;
    let took = Shared::<[AtomicU64; WAKEUPS]>::zeroed()?;
    staff(T::SCOPE, T::NAME, 2, |worker| {
        crew::sit(worker.index)?;
        worker.start()?;
        // Side 0 has the odd numbers and begins without one: it is its turn already.
        if worker.index == 0 {
            thread::sleep(KEPT);
            turns.take(0)?;
            given.store(now(), Ordering::Relaxed);
            turns.give(0)?;
        }
        for number in (1 - worker.index..wakeups).step_by(2) {
            turns.take(worker.index)?;
            took[number].store(now() - given.load(Ordering::Relaxed), Ordering::Relaxed);
            thread::sleep(KEPT);
            given.store(now(), Ordering::Relaxed);
            turns.give(worker.index)?;
        }
        Ok(())
    })?;
    let mut took: Vec<f64> = took[..wakeups]
        .iter()
        .map(|nanos| nanos.load(Ordering::Relaxed) as f64)
        .collect();
    took.sort_by(f64::total_cmp);
    Ok([quantile(&took, 0.5), quantile(&took, 0.99)])
}

/// Nanoseconds for one call to all with all their answers.
pub(super) fn call_all<M: Monitor>(share: usize) -> Result<f64, Failure> {
    let calls = (CALLS / share) as u64;
    let monitor = M::make()?;
    let took = Shared::<AtomicU64>::zeroed()?;
    staff(M::SCOPE, M::NAME, 1 + WAITERS as usize, |worker| {
        worker.start()?;
        if worker.index > 0 {
            return (1..=calls)
                .try_for_each(|call| monitor.pass(Gate::Forth, |state| state.turn < call, answer));
        }
        let start = now();
        for call in 1..=calls {
            let announce = |state: &mut State| {
                state.answers = 0;
                state.turn = call;
                Tell::All(Gate::Forth)
            };
            monitor.pass(Gate::Back, |_| false, announce)?;
            monitor.pass(
                Gate::Back,
                |state| state.answers < WAITERS,
                |_| Tell::Nobody,
            )?;
        }
        took.store(now() - start, Ordering::Relaxed);
        Ok(())
    })?;
    Ok(took.load(Ordering::Relaxed) as f64 / calls as f64)
}

/// Nanoseconds for eight calls to one each, with all their answers.
pub(super) fn call_each<M: Monitor>(share: usize) -> Result<f64, Failure> {
    let calls = CALLS / share;
    let monitor = M::make()?;
    let took = Shared::<AtomicU64>::zeroed()?;
    staff(M::SCOPE, M::NAME, 1 + WAITERS as usize, |worker| {
        worker.start()?;
        if worker.index > 0 {
            return take_permits(&monitor);
        }
        let start = now();
        for _ in 0..calls {
            for _ in 0..WAITERS {
                let permit = |state: &mut State| {
                    state.permits += 1;
                    Tell::One(Gate::Forth)
                };
                monitor.pass(Gate::Back, |_| false, permit)?;
            }
            let reset = |state: &mut State| {
                state.answers = 0;
                Tell::Nobody
            };
            monitor.pass(Gate::Back, |state| state.answers < WAITERS, reset)?;
        }
        took.store(now() - start, Ordering::Relaxed);
        let end = |state: &mut State| {
            state.turn = 1;
            Tell::All(Gate::Forth)
        };
        monitor.pass(Gate::Back, |_| false, end)
    })?;
    Ok(took.load(Ordering::Relaxed) as f64 / calls as f64)
}

/// Answers for each permit that can be had, until the play is over.
fn take_permits<M: Monitor>(monitor: &M) -> Result<(), Failure> {
    let mut is_over = false;
    while !is_over {
        let nothing_to_do = |state: &mut State| state.permits == 0 && state.turn == 0;
        monitor.pass(Gate::Forth, nothing_to_do, |state| {
            if state.permits == 0 {
                is_over = true;
                return Tell::Nobody;
            }
            state.permits -= 1;
            answer(state)
        })?;
    }
    Ok(())
}

/// The last one to answer wakes the one who called.
fn answer(state: &mut State) -> Tell {
    state.answers += 1;
    if state.answers == WAITERS {
        Tell::One(Gate::Back)
    } else {
        Tell::Nobody
    }
}

/// Nanoseconds per item, from a producer to a consumer.
pub(super) fn ring<M: Monitor>(share: usize) -> Result<f64, Failure> {
    let items = (ITEMS / share) as u64;
    let monitor = M::make()?;
    let took = Shared::<AtomicU64>::zeroed()?;
    let is_right = |state: &State, item: u64| state.ring[item as usize % RING] == item;
    staff(M::SCOPE, M::NAME, 2, |worker| {
        crew::sit(worker.index)?;
        worker.start()?;
        if worker.index == 0 {
            return (0..items).try_for_each(|item| {
                let is_full = |state: &mut State| state.produced - state.consumed == RING as u64;
                monitor.pass(Gate::Back, is_full, |state| {
                    state.ring[item as usize % RING] = item;
                    state.produced += 1;
                    Tell::One(Gate::Forth)
                })
            });
        }
        let start = now();
        for item in 0..items {
            let mut found = false;
            let is_empty = |state: &mut State| state.produced == state.consumed;
            monitor.pass(Gate::Forth, is_empty, |state| {
                found = is_right(state, item);
                state.consumed += 1;
                Tell::One(Gate::Back)
            })?;
            if !found {
                return Err(Failure::Wrong {
                    contestant: M::NAME,
                    what: format!("item {item} was not in its place"),
                });
            }
        }
        took.store(now() - start, Ordering::Relaxed);
        Ok(())
    })?;
    Ok(took.load(Ordering::Relaxed) as f64 / items as f64)
}

/// Has processes work, or threads for those that know no processes.
fn staff(
    scope: Scope,
    what: &str,
    workers: usize,
    work: impl Fn(&mut Worker) -> Result<(), Failure> + Sync,
) -> Result<(), Failure> {
    match scope {
        Scope::Processes => crew::processes(what, workers, work, || ()),
        Scope::Threads => crew::threads(what, workers, work, || ()),
    }
}

#[cfg(test)]
mod tests {
    use serial_test::serial;
    use shm_sync::{PthreadCondvar, ShmCondvar};

    use super::*;
    use crate::monitors::{Boost, Ours, Pthread, Semaphores, Standard};

    const SHORT: usize = 20;

    fn turns<T: Turns>() -> Result<(), Failure> {
        assert!(running::<T>(SHORT)? > 0.0);
        let [median, most] = asleep::<T>(SHORT)?;
        assert!(0.0 < median && median <= most);
        Ok(())
    }

    fn everything<M: Monitor>() -> Result<(), Failure> {
        turns::<M>()?;
        assert!(call_all::<M>(SHORT)? > 0.0);
        assert!(call_each::<M>(SHORT)? > 0.0);
        assert!(ring::<M>(SHORT)? > 0.0);
        Ok(())
    }

    #[test]
    #[serial]
    fn smoke() -> Result<(), Failure> {
        turns::<Semaphores>()?;
        everything::<Pthread>()?;
        everything::<Ours<ShmCondvar>>()?;
        everything::<Ours<PthreadCondvar>>()?;
        match everything::<Boost>() {
            Err(Failure::NotHere(_)) => {}
            other => other?,
        }
        everything::<Standard>()
    }
}
