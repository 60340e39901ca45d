//! Scenarios. Each function divides its number of operations by `share`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use crate::affinity;
use crate::clock::now;
use crate::failure::Failure;
use crate::monitors::{HandOver, Monitor, Notify, RING, State, WaitQueue};
use crate::shared::Shared;
use crate::stats::quantile;
use crate::workers;
use crate::workloads::busy_work::busy_work;

/// The number of turns of each side in [`running`].
const TRIPS: usize = 2000;
/// The number of turns before that. The first lock of a process takes longer, and the
/// sides start at different times.
const WARM_UP: usize = 200;

/// The number of turns in [`asleep`].
const WAKEUPS: usize = 100;
/// The duration of a turn in [`asleep`], in which the other side falls asleep.
const TURN_DURATION: Duration = Duration::from_millis(1);

/// The number of waiters that are called one by one.
const WAITERS: u64 = 8;
/// The number of measured calls.
const CALLS: u64 = 200;
/// The number of calls of all waiters before that. Until then, threads find out whether
/// it helps to spin.
const FIRST_CALLS: u64 = 70;

/// The number of items that go through the ring.
const ITEMS: usize = 20_000;

/// The processors of two workers.
#[derive(Clone, Copy)]
pub(in crate::workloads) enum Placement {
    TwoProcessors,
    OneProcessor,
}

/// Returns nanoseconds per hand-over between two workers that do nothing else.
pub(in crate::workloads) fn running<T: HandOver>(
    placement: Placement,
    share: usize,
) -> Result<f64, Failure> {
    let trips = TRIPS / share;
    let turns = T::create()?;
    let took = Shared::<AtomicU64>::zeroed()?;
    workers::run(T::SCOPE, T::NAME, 2, |worker| {
        affinity::pin(match placement {
            Placement::TwoProcessors => worker.index,
            Placement::OneProcessor => 0,
        })?;
        worker.start()?;
        for _ in 0..WARM_UP {
            turns.wait_and_pass(worker.index)?;
        }
        let start = now();
        for _ in 0..trips {
            turns.wait_and_pass(worker.index)?;
        }
        // The later side has waited for all turns except the last one of the other
        // side.
        took.fetch_max(now() - start, Ordering::Relaxed);
        Ok(())
    })?;
    Ok(took.load(Ordering::Relaxed) as f64 / (2 * trips) as f64)
}

/// Returns nanoseconds from before a side passes the turn until the sleeping side has
/// it: the median and the 99 % quantile.
pub(super) fn asleep<T: HandOver>(share: usize) -> Result<[f64; 2], Failure> {
    let wakeups = WAKEUPS / share;
    let turns = T::create()?;
    let passed_at = Shared::<AtomicU64>::zeroed()?;
    let took = Shared::<[AtomicU64; WAKEUPS]>::zeroed()?;
    workers::run(T::SCOPE, T::NAME, 2, |worker| {
        affinity::pin(worker.index)?;
        worker.start()?;
        // The first turn belongs to side 0 and is not measured. Later, side 0 receives
        // the turns with odd numbers.
        if worker.index == 0 {
            thread::sleep(TURN_DURATION);
            turns.wait_for_turn(0)?;
            passed_at.store(now(), Ordering::Relaxed);
            turns.pass_turn(0)?;
        }
        for number in (1 - worker.index..wakeups).step_by(2) {
            turns.wait_for_turn(worker.index)?;
            took[number].store(now() - passed_at.load(Ordering::Relaxed), Ordering::Relaxed);
            thread::sleep(TURN_DURATION);
            passed_at.store(now(), Ordering::Relaxed);
            turns.pass_turn(worker.index)?;
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

/// Returns nanoseconds and context switches per `notify_all` with all answers. Each
/// waiter does `work` steps of work under the lock.
pub(super) fn call_all<M: Monitor>(
    waiters: u64,
    work: u32,
    share: usize,
) -> Result<[f64; 2], Failure> {
    let calls = CALLS / share as u64;
    let all_calls = || 1..=FIRST_CALLS + calls;
    let monitor = M::create()?;
    let took = Shared::<AtomicU64>::zeroed()?;
    let switches = Shared::<AtomicU64>::zeroed()?;
    workers::run(M::SCOPE, M::NAME, 1 + waiters as usize, |worker| {
        worker.start()?;
        let mut start = now();
        let mut switches_before = switches_of_this_thread()?;
        let mut begin_at = |call| -> Result<(), Failure> {
            if call == FIRST_CALLS + 1 {
                start = now();
                switches_before = switches_of_this_thread()?;
            }
            Ok(())
        };
        if worker.index > 0 {
            all_calls().try_for_each(|call| {
                begin_at(call)?;
                monitor.execute(
                    WaitQueue::Forward,
                    |state| state.turn < call,
                    |state| {
                        busy_work(call, work);
                        answer(state, waiters)
                    },
                )
            })?;
        } else {
            for call in all_calls() {
                begin_at(call)?;
                let announce = |state: &mut State| {
                    state.answers = 0;
                    state.turn = call;
                    Notify::All(WaitQueue::Forward)
                };
                monitor.execute(WaitQueue::Backward, |_| false, announce)?;
                monitor.execute(
                    WaitQueue::Backward,
                    |state| state.answers < waiters,
                    |_| Notify::None,
                )?;
            }
            took.store(now() - start, Ordering::Relaxed);
        }
        let more = switches_of_this_thread()? - switches_before;
        switches.fetch_add(more, Ordering::Relaxed);
        Ok(())
    })?;
    let per_call = |total: &AtomicU64| total.load(Ordering::Relaxed) as f64 / calls as f64;
    Ok([per_call(&took), per_call(&switches)])
}

/// Returns how often the processor went from this thread to another one.
fn switches_of_this_thread() -> Result<u64, Failure> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).map_err(Failure::os("getrusage"))?;
    let switches = usage.voluntary_context_switches() + usage.involuntary_context_switches();
    Ok(switches.unsigned_abs())
}

/// Returns nanoseconds per eight `notify_one` with all answers.
pub(super) fn call_each<M: Monitor>(share: usize) -> Result<f64, Failure> {
    let calls = CALLS as usize / share;
    let monitor = M::create()?;
    let took = Shared::<AtomicU64>::zeroed()?;
    workers::run(M::SCOPE, M::NAME, 1 + WAITERS as usize, |worker| {
        worker.start()?;
        if worker.index > 0 {
            return take_permits(&monitor);
        }
        let start = now();
        for _ in 0..calls {
            for _ in 0..WAITERS {
                let permit = |state: &mut State| {
                    state.permits += 1;
                    Notify::One(WaitQueue::Forward)
                };
                monitor.execute(WaitQueue::Backward, |_| false, permit)?;
            }
            let reset = |state: &mut State| {
                state.answers = 0;
                Notify::None
            };
            monitor.execute(WaitQueue::Backward, |state| state.answers < WAITERS, reset)?;
        }
        took.store(now() - start, Ordering::Relaxed);
        let end = |state: &mut State| {
            state.turn = 1;
            Notify::All(WaitQueue::Forward)
        };
        monitor.execute(WaitQueue::Backward, |_| false, end)
    })?;
    Ok(took.load(Ordering::Relaxed) as f64 / calls as f64)
}

/// Takes permits and answers for each, until the scenario is over.
fn take_permits<M: Monitor>(monitor: &M) -> Result<(), Failure> {
    let mut is_over = false;
    while !is_over {
        let nothing_to_do = |state: &mut State| state.permits == 0 && state.turn == 0;
        monitor.execute(WaitQueue::Forward, nothing_to_do, |state| {
            if state.permits == 0 {
                is_over = true;
                return Notify::None;
            }
            state.permits -= 1;
            answer(state, WAITERS)
        })?;
    }
    Ok(())
}

/// Counts an answer. The last answer notifies the caller.
fn answer(state: &mut State, waiters: u64) -> Notify {
    state.answers += 1;
    if state.answers == waiters {
        Notify::One(WaitQueue::Backward)
    } else {
        Notify::None
    }
}

/// Returns nanoseconds per item from a producer to a consumer.
pub(super) fn ring<M: Monitor>(share: usize) -> Result<f64, Failure> {
    let items = (ITEMS / share) as u64;
    let monitor = M::create()?;
    let took = Shared::<AtomicU64>::zeroed()?;
    let is_right = |state: &State, item: u64| state.ring[item as usize % RING] == item;
    workers::run(M::SCOPE, M::NAME, 2, |worker| {
        affinity::pin(worker.index)?;
        worker.start()?;
        if worker.index == 0 {
            return (0..items).try_for_each(|item| {
                let is_full = |state: &mut State| state.produced - state.consumed == RING as u64;
                monitor.execute(WaitQueue::Backward, is_full, |state| {
                    state.ring[item as usize % RING] = item;
                    state.produced += 1;
                    Notify::One(WaitQueue::Forward)
                })
            });
        }
        let start = now();
        for item in 0..items {
            let mut found = false;
            let is_empty = |state: &mut State| state.produced == state.consumed;
            monitor.execute(WaitQueue::Forward, is_empty, |state| {
                found = is_right(state, item);
                state.consumed += 1;
                Notify::One(WaitQueue::Backward)
            })?;
            if !found {
                return Err(Failure::WrongResult {
                    contestant: M::NAME,
                    what: format!("item {item} is not in its place of the ring"),
                });
            }
        }
        took.store(now() - start, Ordering::Relaxed);
        Ok(())
    })?;
    Ok(took.load(Ordering::Relaxed) as f64 / items as f64)
}

#[cfg(test)]
mod tests {
    use serial_test::serial;
    use shm_sync::{PthreadCondvar, ShmCondvar};

    use super::*;
    use crate::monitors::{Boost, Pipes, Pthread, Semaphores, ShmMonitor, Standard};

    const SHORT: usize = 20;

    fn check_hand_over<T: HandOver>() -> Result<(), Failure> {
        for placement in [Placement::TwoProcessors, Placement::OneProcessor] {
            assert!(running::<T>(placement, SHORT)? > 0.0);
        }
        let [median, most] = asleep::<T>(SHORT)?;
        assert!(0.0 < median && median <= most);
        Ok(())
    }

    fn check_monitor<M: Monitor>() -> Result<(), Failure> {
        check_hand_over::<M>()?;
        for (waiters, work) in [(8, 0), (32, 1_000)] {
            let [nanos, switches] = call_all::<M>(waiters, work, SHORT)?;
            assert!(nanos > 0.0 && switches > 0.0);
        }
        assert!(call_each::<M>(SHORT)? > 0.0);
        assert!(ring::<M>(SHORT)? > 0.0);
        Ok(())
    }

    #[test]
    #[serial]
    fn smoke() -> Result<(), Failure> {
        check_hand_over::<Semaphores>()?;
        check_hand_over::<Pipes>()?;
        check_monitor::<Pthread>()?;
        check_monitor::<ShmMonitor<ShmCondvar>>()?;
        check_monitor::<ShmMonitor<PthreadCondvar>>()?;
        match check_monitor::<Boost>() {
            Err(Failure::Unavailable(_)) => {}
            other => other?,
        }
        check_monitor::<Standard>()
    }
}
