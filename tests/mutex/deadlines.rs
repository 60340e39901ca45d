//! Deadlines and clocks. A jump of the wall clock neither ends a wait early nor
//! prolongs it, because no wait uses the wall clock (failure mode 23).
//!
//! Setting the machine's clock would disturb other programs. So the tests have the
//! kernel kill the process at a futex wait on the wall clock, and then wait in every
//! way.

use std::time::{Duration, Instant};

use crate::support::{
    LOCK_WORD, dead_owner, die, expect_poisoned, holder_of, on_stage, seccomp, spawn, time,
};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use shm_sync::{LockError, PthreadCondvar, Segment, ShmCondvar, ShmMutex, ShmSafe};

/// A lock or condition variable for each way to wait.
#[derive(ShmSafe)]
#[repr(C)]
struct Waits {
    held: ShmMutex<u64>,
    held_with_pi: ShmMutex<u64>,
    free: ShmMutex<u64>,
    changed: ShmCondvar,
    pthread_changed: PthreadCondvar,
}

fn waits() -> Segment<Waits> {
    Segment::anonymous(Waits {
        held: ShmMutex::new(0),
        held_with_pi: ShmMutex::with_priority_inheritance(0),
        free: ShmMutex::new(0),
        changed: ShmCondvar::new(),
        pthread_changed: PthreadCondvar::new(),
    })
    .unwrap()
}

const TIMEOUT: Duration = Duration::from_millis(200);

/// Runs a wait, and checks that it lasts for [`TIMEOUT`] at least.
fn assert_lasts_timeout(wait: impl FnOnce()) {
    let start = Instant::now();
    wait();
    assert!(start.elapsed() >= TIMEOUT);
}

on_stage! {
    fn smoke() {
        let waits = waits();
        let _holder = holder_of(&waits.held);
        // The filter works for a wait on the wall clock.
        let mut victim = spawn(|| {
            kill_on_wall_clock_wait();
            let soon = libc::timespec { tv_sec: 0, tv_nsec: 1 };
            let word = waits.held.as_pthread_ptr().wrapping_byte_add(LOCK_WORD);
            let operation = libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME;
            // SAFETY: the segment keeps the word mapped; `soon` outlives the call.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    word,
                    operation,
                    u32::MAX,
                    &raw const soon,
                    std::ptr::null::<u32>(),
                    libc::FUTEX_BITSET_MATCH_ANY,
                )
            };
        });
        match victim.wait() {
            WaitStatus::Signaled(_, Signal::SIGSYS, _) => {}
            other => panic!("the filter did not kill the process: {other:?}"),
        }
    }

    fn waits_do_not_use_wall_clock() {
        let waits = waits();
        let _holder = holder_of(&waits.held);
        let _other_holder = holder_of(&waits.held_with_pi);
        spawn(|| {
            kill_on_wall_clock_wait();
            for held in [&waits.held, &waits.held_with_pi] {
                assert_lasts_timeout(|| {
                    let result = held.try_lock_for(TIMEOUT);
                    assert!(matches!(result, Err(LockError::TimedOut)));
                });
                assert_lasts_timeout(|| {
                    let result = held.try_lock_until(Instant::now() + TIMEOUT);
                    assert!(matches!(result, Err(LockError::TimedOut)));
                });
            }
            assert_lasts_timeout(|| {
                let guard = waits.free.lock().unwrap();
                let (_guard, result) = waits.changed.wait_timeout(guard, TIMEOUT).unwrap();
                assert!(result.timed_out());
            });
            assert_lasts_timeout(|| {
                let guard = waits.free.lock().unwrap();
                let result = waits.pthread_changed.wait_timeout(guard, TIMEOUT);
                assert!(result.unwrap().1.timed_out());
            });
        })
        .join();
    }

    // Failure mode 38.
    fn timer_slack_delays_no_timeout() {
        let waits = waits();
        let _holder = holder_of(&waits.held);
        let _other_holder = holder_of(&waits.held_with_pi);
        for held in [&waits.held, &waits.held_with_pi] {
            assert_punctual("lock", || {
                let result = held.try_lock_for(TIMEOUT);
                assert!(matches!(result, Err(LockError::TimedOut)));
            });
        }
        assert_punctual("condvar", || {
            let guard = waits.free.lock().unwrap();
            let (_guard, result) = waits.changed.wait_timeout(guard, TIMEOUT).unwrap();
            assert!(result.timed_out());
        });
        assert_punctual("pthread condvar", || {
            let guard = waits.free.lock().unwrap();
            let result = waits.pthread_changed.wait_timeout(guard, TIMEOUT);
            assert!(result.unwrap().1.timed_out());
        });
    }

    // Failure mode 38.
    fn timer_slack_delays_no_owner_death() {
        let waits = waits();
        let waiter = spawn(|| {
            set_timer_slack(Duration::from_secs(5));
            let guard = waits.free.lock().unwrap();
            let result = waits.changed.wait_while(guard, |n| *n == 0);
            let dead = dead_owner(expect_poisoned(result).cause()).unwrap();
            assert_ne!(dead, 0);
        });
        waiter.wait_until_asleep();
        let mut holder = spawn(|| {
            let _guard = waits.free.lock().unwrap();
            die()
        });
        holder.wait();
        let took = time(|| waiter.join());
        assert!(took < Duration::from_secs(1), "{took:?}");
    }

    // Failure mode 38.
    fn timer_slack_is_restored_after_signal() {
        extern "C" fn do_nothing(_: libc::c_int) {}
        let waits = waits();
        let holder = holder_of(&waits.held);
        let slack = Duration::from_secs(5);
        let waiter = spawn(|| {
            let handler = nix::sys::signal::SigHandler::Handler(do_nothing);
            // SAFETY: the handler does nothing.
            unsafe { nix::sys::signal::signal(Signal::SIGUSR1, handler) }.unwrap();
            set_timer_slack(slack);
            assert!(expect_poisoned(waits.held.lock()).cause().pid() != 0);
            assert_eq!(timer_slack(), slack.as_nanos() as i64);
            let guard = waits.free.lock().unwrap();
            // A signal ends the wait: a spurious wakeup.
            let _guard = waits.changed.wait(guard).unwrap();
            assert_eq!(timer_slack(), slack.as_nanos() as i64);
        });
        for _ in 0..20 {
            waiter.wait_until_asleep();
            waiter.signal(Signal::SIGUSR1);
        }
        drop(holder);
        // Until the waiter sleeps in the second wait, and a signal has interrupted
        // that.
        let mut waiter = waiter;
        crate::support::poll(|| {
            let ended = waiter.try_wait().is_some();
            if !ended {
                waiter.signal(Signal::SIGUSR1);
            }
            ended
        });
        waiter.join();
    }
}

/// Returns the timer slack of this thread in nanoseconds.
fn timer_slack() -> i64 {
    // SAFETY: the call accesses no memory.
    unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_TIMERSLACK, 0, 0, 0, 0) }
}

fn set_timer_slack(slack: Duration) {
    // SAFETY: the call takes numbers only.
    let rc = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack.as_nanos() as libc::c_ulong) };
    assert_eq!(rc, 0);
}

/// Runs a wait with a timer slack of some seconds. Checks that the wait lasts for
/// [`TIMEOUT`] and not much longer, and that the slack is restored.
fn assert_punctual(what: &str, wait: impl FnOnce()) {
    // More nanoseconds than 32 bits can hold.
    let slack = Duration::from_secs(5);
    set_timer_slack(slack);
    let took = time(|| assert_lasts_timeout(wait));
    assert!(took < TIMEOUT + Duration::from_secs(1), "{what}: {took:?}");
    assert_eq!(timer_slack(), slack.as_nanos() as i64, "{what}");
}

/// Makes the kernel kill this process with `SIGSYS` at the first futex call with
/// `FUTEX_CLOCK_REALTIME`.
fn kill_on_wall_clock_wait() {
    let clock = libc::FUTEX_CLOCK_REALTIME as u32;
    seccomp::kill_with_bits(libc::SYS_futex, 1, clock);
}
