//! Waits that end by their timeout, by a notification at the last moment, or are
//! interrupted by signals: the cases of the published suites, over both condition
//! variables.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Condvar, Guard, Shared, State, is_empty};
use crate::support::{Child, Gate, on_stage, spawn};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use shm_sync::{PthreadCondvar, Segment, ShmCondvar};

on_stage! {
    fn smoke() {
        ends_in_time::<ShmCondvar>(Duration::from_millis(20));
        ends_in_time::<PthreadCondvar>(Duration::from_millis(20));
    }

    fn wait_timeout_lasts_full_length() {
        let lengths = [0, 1, 999, 1_000, 999_999, 1_000_000, 150_000_001, 999_999_999, 1_000_000_001];
        std::thread::scope(|s| {
            for nanos in lengths {
                s.spawn(move || {
                    ends_in_time::<ShmCondvar>(Duration::from_nanos(nanos));
                    ends_in_time::<PthreadCondvar>(Duration::from_nanos(nanos));
                });
            }
        });
    }

    fn wait_timeout_of_maximum_does_not_wrap() {
        endless::<ShmCondvar>();
        endless::<PthreadCondvar>();
    }

    fn wait_timeout_while_false_returns_at_once() {
        needs_no_time::<ShmCondvar>();
        needs_no_time::<PthreadCondvar>();
    }

    fn wait_timeout_relocks_after_holder() {
        comes_back_late::<ShmCondvar>();
        comes_back_late::<PthreadCondvar>();
    }

    fn wait_timeout_notified_but_relocked_late() {
        notified_in_time::<ShmCondvar>();
        notified_in_time::<PthreadCondvar>();
    }

    fn wait_timeout_while_condition_met_late() {
        came_false_late::<ShmCondvar>();
        came_false_late::<PthreadCondvar>();
    }

    fn wait_timeout_while_ignores_notify_and_signal() {
        never_gives_up_early::<ShmCondvar>();
        never_gives_up_early::<PthreadCondvar>();
    }

    fn wait_survives_signals_and_holds_lock() {
        bears_signals::<ShmCondvar>();
        bears_signals::<PthreadCondvar>();
    }

    fn signals_lose_no_notification() {
        loses_nothing_to_signals::<ShmCondvar>();
        loses_nothing_to_signals::<PthreadCondvar>();
    }

    fn wait_timeout_expired_takes_no_notification() {
        takes_none_from_another::<ShmCondvar>();
        takes_none_from_another::<PthreadCondvar>();
    }

    fn wait_timeout_expired_passes_notification_on() {
        is_passed_on::<ShmCondvar>();
        is_passed_on::<PthreadCondvar>();
    }
}

/// Both ways to wait with a timeout.
fn ends_in_time<C: Condvar>(timeout: Duration) {
    let shared = Shared::<C>::placed();
    let waits: [&dyn Fn(Guard<'_>); 2] = [
        &|state| {
            let (state, result) = shared.changed.wait_timeout(state, timeout).unwrap();
            assert!(result.timed_out());
            shared.came_back_with(state);
        },
        &|state| {
            let result = shared.changed.wait_timeout_while(state, timeout, is_empty);
            let (state, result) = result.unwrap();
            assert!(result.timed_out());
            shared.came_back_with(state);
        },
    ];
    for wait in waits {
        let state = shared.state.lock().unwrap();
        let start = Instant::now();
        wait(state);
        let elapsed = start.elapsed();
        assert!(elapsed >= timeout, "{elapsed:?} instead of {timeout:?}");
    }
}

fn endless<C: Condvar>() {
    let timeouts = [
        Duration::MAX,
        Duration::from_secs(u64::MAX),
        Duration::from_millis(u64::MAX),
        Duration::from_nanos(u64::MAX),
        Duration::new(i64::MAX as u64, 999_999_999),
        Duration::from_nanos(i64::MAX as u64),
        Duration::from_secs(u64::from(u32::MAX)),
    ];
    for timeout in timeouts {
        let shared = Shared::<C>::placed();
        let waiters = [
            spawn(|| {
                let state = shared.lock_to_wait();
                let (state, result) = shared.changed.wait_timeout(state, timeout).unwrap();
                assert!(!result.timed_out(), "{timeout:?}");
                shared.came_back_with(state);
            }),
            spawn(|| {
                let state = shared.lock_to_wait();
                let result = shared.changed.wait_timeout_while(state, timeout, is_empty);
                let (state, result) = result.unwrap();
                assert!(!result.timed_out(), "{timeout:?}");
                shared.came_back_with(state);
            }),
        ];
        let mut state = shared.lock_when_waiting(2);
        assert_eq!(shared.returned(), 0, "{timeout:?}");
        state.items = 1;
        shared.changed.notify_all();
        drop(state);
        waiters.into_iter().for_each(Child::join);
    }
}

fn needs_no_time<C: Condvar>() {
    let shared = Shared::<C>::placed();
    let mut asked = 0;
    let state = shared.state.lock().unwrap();
    let result = shared
        .changed
        .wait_timeout_while(state, Duration::ZERO, |_| {
            asked += 1;
            false
        });
    let (state, result) = result.unwrap();
    assert!(!result.timed_out());
    assert_eq!(asked, 1);
    shared.came_back_with(state);
}

/// The waiter's deadline passes while this process holds the lock.
fn comes_back_late<C: Condvar>() {
    const TIMEOUT: Duration = Duration::from_millis(100);
    let shared = Shared::<C>::placed();
    let waiter = spawn(|| {
        let start = Instant::now();
        let state = shared.lock_to_wait();
        let (state, result) = shared.changed.wait_timeout(state, TIMEOUT).unwrap();
        assert!(result.timed_out());
        assert_eq!(state.items, 1, "before the lock was free");
        assert!(start.elapsed() >= TIMEOUT);
        shared.came_back_with(state);
    });
    let mut state = shared.lock_when_waiting(1);
    std::thread::sleep(3 * TIMEOUT);
    assert_eq!(shared.returned(), 0);
    state.items = 1;
    drop(state);
    waiter.join();
}

fn notified_in_time<C: Condvar>() {
    const TIMEOUT: Duration = Duration::from_millis(400);
    let was_in_time = || {
        let shared = Shared::<C>::placed();
        let before = Instant::now();
        let waiter = spawn(|| {
            let state = shared.lock_to_wait();
            let (state, result) = shared.changed.wait_timeout(state, TIMEOUT).unwrap();
            shared.came_back_with(state);
            if result.timed_out() {
                crate::support::exit_now(1);
            }
        });
        let state = shared.lock_when_waiting(1);
        let after = Instant::now();
        shared.changed.notify_one();
        let notified = Instant::now();
        std::thread::sleep((after + TIMEOUT).saturating_duration_since(Instant::now()));
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(shared.returned(), 0);
        drop(state);
        // A busy machine may have notified too late.
        let in_time = notified < before + TIMEOUT;
        if in_time {
            waiter.join();
        }
        in_time
    };
    while !was_in_time() {}
}

/// Nobody notifies: it is the deadline that has the condition looked at once more.
fn came_false_late<C: Condvar>() {
    const TIMEOUT: Duration = Duration::from_millis(100);
    let shared = Shared::<C>::placed();
    let waiter = spawn(|| {
        let state = shared.lock_to_wait();
        let result = shared.changed.wait_timeout_while(state, TIMEOUT, is_empty);
        let (state, result) = result.unwrap();
        assert!(!result.timed_out());
        shared.came_back_with(state);
    });
    let mut state = shared.lock_when_waiting(1);
    std::thread::sleep(3 * TIMEOUT);
    state.items = 1;
    drop(state);
    waiter.join();
}

fn never_gives_up_early<C: Condvar>() {
    const TIMEOUT: Duration = Duration::from_millis(700);
    let shared = Shared::<C>::placed();
    let mut waiter = spawn(|| {
        bear_signals();
        let start = Instant::now();
        let state = shared.lock_to_wait();
        let result = shared.changed.wait_timeout_while(state, TIMEOUT, is_empty);
        let (state, result) = result.unwrap();
        assert!(result.timed_out());
        assert!(start.elapsed() >= TIMEOUT, "{:?}", start.elapsed());
        shared.came_back_with(state);
        assert!(SIGNALS.load(Ordering::Relaxed) > 0);
    });
    drop(shared.lock_when_waiting(1));
    while waiter.try_wait().is_none() {
        shared.changed.notify_one();
        shared.changed.notify_all();
        waiter.signal(Signal::SIGUSR1);
        std::thread::sleep(Duration::from_micros(300));
    }
    waiter.join();
}

/// The waiters wait in every way, again and again, until they have had enough
/// signals. Notifications end what signals do not.
fn bears_signals<C: Condvar>() {
    const ENOUGH: u64 = 300;
    const SHORT: Duration = Duration::from_millis(5);
    let shared = Shared::<C>::placed();
    let waits: [&dyn Fn(Guard<'_>); 4] = [
        &|state| shared.came_back_with(shared.changed.wait(state).unwrap()),
        &|state| {
            let mut looks = 0;
            let state = shared.changed.wait_while(state, |_| {
                looks += 1;
                looks < 3
            });
            shared.came_back_with(state.unwrap());
        },
        &|state| {
            let start = Instant::now();
            let (state, result) = shared.changed.wait_timeout(state, SHORT).unwrap();
            assert!(!result.timed_out() || start.elapsed() >= SHORT);
            shared.came_back_with(state);
        },
        &|state| {
            let start = Instant::now();
            let result = shared.changed.wait_timeout_while(state, SHORT, |_| true);
            let (state, result) = result.unwrap();
            assert!(result.timed_out() && start.elapsed() >= SHORT);
            shared.came_back_with(state);
        },
    ];
    let mut waiters: Vec<_> = waits
        .iter()
        .map(|wait| {
            spawn(|| {
                bear_signals();
                drop(shared.lock_to_wait());
                while SIGNALS.load(Ordering::Relaxed) < ENOUGH {
                    wait(shared.state.lock().unwrap());
                }
            })
        })
        .collect();
    drop(shared.lock_when_waiting(4));
    while interrupt(&mut waiters) {
        std::thread::sleep(Duration::from_micros(200));
        shared.changed.notify_all();
    }
    waiters.into_iter().for_each(Child::join);
}

/// Who notifies and who waits: both are interrupted.
fn loses_nothing_to_signals<C: Condvar>() {
    const ITEMS: u64 = 1_000;
    let shared = Shared::<C>::placed();
    let ready = Gate::new();
    let mut both = vec![
        spawn(|| {
            bear_signals();
            ready.open();
            for taken in 0..ITEMS {
                shared.take();
                assert_eq!(shared.returned(), taken + 1);
                shared.answered.notify_all();
            }
        }),
        spawn(|| {
            bear_signals();
            ready.open();
            for _ in 0..ITEMS {
                let state = shared.state.lock().unwrap();
                let full = |state: &mut State| state.items != 0;
                let mut state = shared.answered.wait_while(state, full).unwrap();
                state.items += 1;
                drop(state);
                shared.changed.notify_one();
            }
        }),
    ];
    ready.pass();
    ready.pass();
    while interrupt(&mut both) {
        std::thread::sleep(Duration::from_micros(100));
    }
    both.into_iter().for_each(Child::join);
    assert_eq!(shared.returned(), ITEMS);
}

/// One waiter times out all the time, and takes an item only if it was notified. So
/// each item must be taken by it, or by the one that waits for ever.
fn takes_none_from_another<C: Condvar>() {
    const ITEMS: u64 = 300;
    let shared = Shared::<C>::placed();
    let done = Segment::anonymous(AtomicBool::new(false)).unwrap();
    let patient = spawn(|| {
        loop {
            let state = shared.state.lock().unwrap();
            let nothing = |state: &mut State| state.items == 0 && !done.load(Ordering::SeqCst);
            let mut state = shared.changed.wait_while(state, nothing).unwrap();
            if state.items == 0 {
                return;
            }
            state.items -= 1;
            shared.answered.notify_one();
        }
    });
    let hasty = spawn(|| {
        for nanos in (0..).map(|n| 1_000 + 7_919 * n % 150_000) {
            let state = shared.state.lock().unwrap();
            if done.load(Ordering::SeqCst) {
                return;
            }
            let timeout = Duration::from_nanos(nanos);
            let (mut state, result) = shared.changed.wait_timeout(state, timeout).unwrap();
            if !result.timed_out() && state.items > 0 {
                state.items -= 1;
                shared.answered.notify_one();
            }
        }
    });
    for _ in 0..ITEMS {
        let mut state = shared.state.lock().unwrap();
        state.items = 1;
        drop(state);
        shared.changed.notify_one();
        let state = shared.state.lock().unwrap();
        let untaken = |state: &mut State| state.items != 0;
        drop(shared.answered.wait_while(state, untaken).unwrap());
    }
    let state = shared.state.lock().unwrap();
    done.store(true, Ordering::SeqCst);
    shared.changed.notify_all();
    drop(state);
    patient.join();
    hasty.join();
}

/// Each that is woken waits a little longer, in vain, and wakes the next.
fn is_passed_on<C: Condvar>() {
    const WAITERS: u64 = 4;
    let shared = Shared::<C>::placed();
    let waiters: Vec<_> = (0..WAITERS)
        .map(|_| {
            spawn(|| {
                let state = shared.lock_to_wait();
                let state = shared.changed.wait(state).unwrap();
                let short = Duration::from_millis(1);
                let (state, _) = shared.changed.wait_timeout(state, short).unwrap();
                shared.changed.notify_one();
                shared.came_back_with(state);
            })
        })
        .collect();
    drop(shared.lock_when_waiting(WAITERS));
    shared.changed.notify_one();
    waiters.into_iter().for_each(Child::join);
    assert_eq!(shared.returned(), WAITERS);
}

/// How many signals have interrupted this process.
static SIGNALS: AtomicU64 = AtomicU64::new(0);

/// Has `SIGUSR1` interrupt whatever this process is in, without a restart.
fn bear_signals() {
    extern "C" fn count(_: libc::c_int) {
        SIGNALS.fetch_add(1, Ordering::Relaxed);
    }
    let action = SigAction::new(
        SigHandler::Handler(count),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler only counts.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
}

/// Sends a signal to each that is still there. Returns whether there was any.
fn interrupt(children: &mut [Child]) -> bool {
    let mut any = false;
    for child in children {
        if child.try_wait().is_none() {
            child.signal(Signal::SIGUSR1);
            any = true;
        }
    }
    any
}
