//! Timeouts and signals, by the published suites (see `mod.rs`), over both condition
//! variables.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Condvar, Guard, Shared, State, is_empty};
use crate::support::{Child, Gate, on_stage, spawn};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use shm_sync::{PthreadCondvar, Segment, ShmCondvar};

on_stage! {
    fn smoke() {
        check_timeout_length::<ShmCondvar>(Duration::from_millis(20));
        check_timeout_length::<PthreadCondvar>(Duration::from_millis(20));
    }

    fn wait_timeout_lasts_full_length() {
        let lengths = [0, 1, 999, 1_000, 999_999, 1_000_000, 150_000_001, 999_999_999, 1_000_000_001];
        std::thread::scope(|s| {
            for nanos in lengths {
                s.spawn(move || {
                    check_timeout_length::<ShmCondvar>(Duration::from_nanos(nanos));
                    check_timeout_length::<PthreadCondvar>(Duration::from_nanos(nanos));
                });
            }
        });
    }

    fn wait_timeout_of_maximum_does_not_wrap() {
        check_maximum_timeout::<ShmCondvar>();
        check_maximum_timeout::<PthreadCondvar>();
    }

    fn wait_timeout_while_false_returns_at_once() {
        check_false_condition::<ShmCondvar>();
        check_false_condition::<PthreadCondvar>();
    }

    fn wait_timeout_relocks_after_holder() {
        check_timeout_while_locked::<ShmCondvar>();
        check_timeout_while_locked::<PthreadCondvar>();
    }

    fn wait_timeout_notified_but_relocked_late() {
        check_notified_before_deadline::<ShmCondvar>();
        check_notified_before_deadline::<PthreadCondvar>();
    }

    fn wait_timeout_while_condition_met_late() {
        check_condition_met_late::<ShmCondvar>();
        check_condition_met_late::<PthreadCondvar>();
    }

    fn wait_timeout_while_ignores_notify_and_signal() {
        check_no_early_timeout::<ShmCondvar>();
        check_no_early_timeout::<PthreadCondvar>();
    }

    fn wait_survives_signals_and_holds_lock() {
        check_signals_end_no_wait::<ShmCondvar>();
        check_signals_end_no_wait::<PthreadCondvar>();
    }

    fn signals_lose_no_notification() {
        check_signals_lose_nothing::<ShmCondvar>();
        check_signals_lose_nothing::<PthreadCondvar>();
    }

    fn wait_timeout_expired_takes_no_notification() {
        check_expired_wait_takes_nothing::<ShmCondvar>();
        check_expired_wait_takes_nothing::<PthreadCondvar>();
    }

    fn wait_timeout_expired_passes_notification_on() {
        check_notification_is_passed_on::<ShmCondvar>();
        check_notification_is_passed_on::<PthreadCondvar>();
    }
}

/// Checks that both ways to wait with a timeout last for the whole timeout.
fn check_timeout_length<C: Condvar>(timeout: Duration) {
    let shared = Shared::<C>::placed();
    let waits: [&dyn Fn(Guard<'_>); 2] = [
        &|state| {
            let (state, result) = shared.changed.wait_timeout(state, timeout).unwrap();
            assert!(result.timed_out());
            shared.count_return(state);
        },
        &|state| {
            let result = shared.changed.wait_timeout_while(state, timeout, is_empty);
            let (state, result) = result.unwrap();
            assert!(result.timed_out());
            shared.count_return(state);
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

fn check_maximum_timeout<C: Condvar>() {
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
                shared.count_return(state);
            }),
            spawn(|| {
                let state = shared.lock_to_wait();
                let result = shared.changed.wait_timeout_while(state, timeout, is_empty);
                let (state, result) = result.unwrap();
                assert!(!result.timed_out(), "{timeout:?}");
                shared.count_return(state);
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

fn check_false_condition<C: Condvar>() {
    let shared = Shared::<C>::placed();
    let mut evaluations = 0;
    let state = shared.state.lock().unwrap();
    let result = shared
        .changed
        .wait_timeout_while(state, Duration::ZERO, |_| {
            evaluations += 1;
            false
        });
    let (state, result) = result.unwrap();
    assert!(!result.timed_out());
    assert_eq!(evaluations, 1);
    shared.count_return(state);
}

/// Holds the lock until after the waiter's deadline.
fn check_timeout_while_locked<C: Condvar>() {
    const TIMEOUT: Duration = Duration::from_millis(100);
    let shared = Shared::<C>::placed();
    let waiter = spawn(|| {
        let start = Instant::now();
        let state = shared.lock_to_wait();
        let (state, result) = shared.changed.wait_timeout(state, TIMEOUT).unwrap();
        assert!(result.timed_out());
        assert_eq!(state.items, 1, "the wait returned before the lock was free");
        assert!(start.elapsed() >= TIMEOUT);
        shared.count_return(state);
    });
    let mut state = shared.lock_when_waiting(1);
    std::thread::sleep(3 * TIMEOUT);
    assert_eq!(shared.returned(), 0);
    state.items = 1;
    drop(state);
    waiter.join();
}

fn check_notified_before_deadline<C: Condvar>() {
    const TIMEOUT: Duration = Duration::from_millis(400);
    let was_in_time = || {
        let shared = Shared::<C>::placed();
        let before = Instant::now();
        let waiter = spawn(|| {
            let state = shared.lock_to_wait();
            let (state, result) = shared.changed.wait_timeout(state, TIMEOUT).unwrap();
            shared.count_return(state);
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
        // On a busy machine, the notification may have come too late.
        let in_time = notified < before + TIMEOUT;
        if in_time {
            waiter.join();
        }
        in_time
    };
    while !was_in_time() {}
}

/// Changes the condition after the deadline, without a notification. The waiter
/// evaluates it once more when it has the lock.
fn check_condition_met_late<C: Condvar>() {
    const TIMEOUT: Duration = Duration::from_millis(100);
    let shared = Shared::<C>::placed();
    let waiter = spawn(|| {
        let state = shared.lock_to_wait();
        let result = shared.changed.wait_timeout_while(state, TIMEOUT, is_empty);
        let (state, result) = result.unwrap();
        assert!(!result.timed_out());
        shared.count_return(state);
    });
    let mut state = shared.lock_when_waiting(1);
    std::thread::sleep(3 * TIMEOUT);
    state.items = 1;
    drop(state);
    waiter.join();
}

fn check_no_early_timeout<C: Condvar>() {
    const TIMEOUT: Duration = Duration::from_millis(700);
    let shared = Shared::<C>::placed();
    let mut waiter = spawn(|| {
        count_signals();
        let start = Instant::now();
        let state = shared.lock_to_wait();
        let result = shared.changed.wait_timeout_while(state, TIMEOUT, is_empty);
        let (state, result) = result.unwrap();
        assert!(result.timed_out());
        assert!(start.elapsed() >= TIMEOUT, "{:?}", start.elapsed());
        shared.count_return(state);
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

/// Waits in all four ways until enough signals have come. Notifications end the waits
/// that signals do not end.
fn check_signals_end_no_wait<C: Condvar>() {
    const ENOUGH: u64 = 300;
    const SHORT: Duration = Duration::from_millis(5);
    let shared = Shared::<C>::placed();
    let waits: [&dyn Fn(Guard<'_>); 4] = [
        &|state| shared.count_return(shared.changed.wait(state).unwrap()),
        &|state| {
            let mut evaluations = 0;
            let state = shared.changed.wait_while(state, |_| {
                evaluations += 1;
                evaluations < 3
            });
            shared.count_return(state.unwrap());
        },
        &|state| {
            let start = Instant::now();
            let (state, result) = shared.changed.wait_timeout(state, SHORT).unwrap();
            assert!(!result.timed_out() || start.elapsed() >= SHORT);
            shared.count_return(state);
        },
        &|state| {
            let start = Instant::now();
            let result = shared.changed.wait_timeout_while(state, SHORT, |_| true);
            let (state, result) = result.unwrap();
            assert!(result.timed_out() && start.elapsed() >= SHORT);
            shared.count_return(state);
        },
    ];
    let mut waiters: Vec<_> = waits
        .iter()
        .map(|wait| {
            spawn(|| {
                count_signals();
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

/// Interrupts both the notifier and the waiter.
fn check_signals_lose_nothing<C: Condvar>() {
    const ITEMS: u64 = 1_000;
    let shared = Shared::<C>::placed();
    let ready = Gate::new();
    let mut both = vec![
        spawn(|| {
            count_signals();
            ready.open();
            for taken in 0..ITEMS {
                shared.take();
                assert_eq!(shared.returned(), taken + 1);
                shared.answered.notify_all();
            }
        }),
        spawn(|| {
            count_signals();
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

/// One waiter times out again and again, and takes an item only if it was notified. So
/// it takes each item, or the waiter without a timeout does.
fn check_expired_wait_takes_nothing<C: Condvar>() {
    const ITEMS: u64 = 300;
    let shared = Shared::<C>::placed();
    let done = Segment::anonymous(AtomicBool::new(false)).unwrap();
    let untimed_waiter = spawn(|| {
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
    let timed_waiter = spawn(|| {
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
    untimed_waiter.join();
    timed_waiter.join();
}

/// Each woken waiter waits once more until a timeout, and then notifies the next
/// waiter.
fn check_notification_is_passed_on<C: Condvar>() {
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
                shared.count_return(state);
            })
        })
        .collect();
    drop(shared.lock_when_waiting(WAITERS));
    shared.changed.notify_one();
    waiters.into_iter().for_each(Child::join);
    assert_eq!(shared.returned(), WAITERS);
}

/// The number of signals that this process has handled.
static SIGNALS: AtomicU64 = AtomicU64::new(0);

/// Counts each `SIGUSR1`. The handler does not restart system calls.
fn count_signals() {
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

/// Sends `SIGUSR1` to each child that still runs. Returns whether there was one.
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
