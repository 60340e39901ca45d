//! A wall clock that jumps can't end a wait early, nor prolong it, because no
//! wait looks at it (failure mode 23).
//!
//! Setting the machine's clock would disturb everything else on it. So the
//! kernel is told to kill the process if it asks for a futex wait on the wall
//! clock, and then everything that can wait is made to.

use std::time::{Duration, Instant};

use crate::support::{dead_owner, die, expect_poisoned, holder_of, on_stage, seccomp, spawn, time};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use shm_sync::{LockError, PthreadCondvar, Segment, ShmCondvar, ShmMutex, ShmSafe};

/// Everything that can wait.
#[derive(ShmSafe)]
#[repr(C)]
struct Waits {
    held: ShmMutex<u64>,
    held_by_a_priority: ShmMutex<u64>,
    free: ShmMutex<u64>,
    changed: ShmCondvar,
    pthread_changed: PthreadCondvar,
}

fn waits() -> Segment<Waits> {
    Segment::anonymous(Waits {
        held: ShmMutex::new(0),
        held_by_a_priority: ShmMutex::with_priority_inheritance(0),
        free: ShmMutex::new(0),
        changed: ShmCondvar::new(),
        pthread_changed: PthreadCondvar::new(),
    })
    .unwrap()
}

const TIMEOUT: Duration = Duration::from_millis(200);

/// Runs a wait and sees that it lasted as long as it should.
fn lasts_its_time(wait: impl FnOnce()) {
    let start = Instant::now();
    wait();
    assert!(start.elapsed() >= TIMEOUT);
}

on_stage! {
    fn smoke() {
        let waits = waits();
        let _holder = holder_of(&waits.held);
        // The trap works: the call that POSIX had first waits on the wall clock.
        let mut careless = spawn(|| {
            kill_if_the_wall_clock_is_used();
            let soon = libc::timespec { tv_sec: 0, tv_nsec: 1 };
            let mutex = waits.held.as_pthread_ptr().cast();
            // SAFETY: placed, hence initialised; `soon` outlives the call.
            unsafe { libc::pthread_mutex_timedlock(mutex, &raw const soon) };
        });
        match careless.wait() {
            WaitStatus::Signaled(_, Signal::SIGSYS, _) => {}
            other => panic!("the trap did not close: {other:?}"),
        }
    }

    fn waits_do_not_use_wall_clock() {
        let waits = waits();
        let _holder = holder_of(&waits.held);
        let _other_holder = holder_of(&waits.held_by_a_priority);
        spawn(|| {
            kill_if_the_wall_clock_is_used();
            for held in [&waits.held, &waits.held_by_a_priority] {
                lasts_its_time(|| {
                    let result = held.try_lock_for(TIMEOUT);
                    assert!(matches!(result, Err(LockError::TimedOut)));
                });
                lasts_its_time(|| {
                    let result = held.try_lock_until(Instant::now() + TIMEOUT);
                    assert!(matches!(result, Err(LockError::TimedOut)));
                });
            }
            lasts_its_time(|| {
                let guard = waits.free.lock().unwrap();
                let (_guard, result) = waits.changed.wait_timeout(guard, TIMEOUT).unwrap();
                assert!(result.timed_out());
            });
            lasts_its_time(|| {
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
        let _other_holder = holder_of(&waits.held_by_a_priority);
        for held in [&waits.held, &waits.held_by_a_priority] {
            is_punctual("lock", || {
                let result = held.try_lock_for(TIMEOUT);
                assert!(matches!(result, Err(LockError::TimedOut)));
            });
        }
        is_punctual("condvar", || {
            let guard = waits.free.lock().unwrap();
            let (_guard, result) = waits.changed.wait_timeout(guard, TIMEOUT).unwrap();
            assert!(result.timed_out());
        });
        is_punctual("pthread condvar", || {
            let guard = waits.free.lock().unwrap();
            let result = waits.pthread_changed.wait_timeout(guard, TIMEOUT);
            assert!(result.unwrap().1.timed_out());
        });
    }

    // Failure mode 38.
    fn timer_slack_delays_no_owner_death() {
        let waits = waits();
        let sleeper = spawn(|| {
            set_timer_slack(Duration::from_secs(5));
            let guard = waits.free.lock().unwrap();
            let result = waits.changed.wait_while(guard, |n| *n == 0);
            let dead = dead_owner(expect_poisoned(result).cause()).unwrap();
            assert_ne!(dead, 0);
        });
        sleeper.wait_until_asleep();
        let mut holder = spawn(|| {
            let _guard = waits.free.lock().unwrap();
            die()
        });
        holder.wait();
        let took = time(|| sleeper.join());
        assert!(took < Duration::from_secs(1), "{took:?}");
    }

    // Failure mode 38.
    fn timer_slack_is_restored_after_signal() {
        extern "C" fn do_nothing(_: libc::c_int) {}
        let waits = waits();
        let holder = holder_of(&waits.held);
        let slack = Duration::from_secs(5);
        let sleeper = spawn(|| {
            let handler = nix::sys::signal::SigHandler::Handler(do_nothing);
            // SAFETY: the handler does nothing.
            unsafe { nix::sys::signal::signal(Signal::SIGUSR1, handler) }.unwrap();
            set_timer_slack(slack);
            assert!(expect_poisoned(waits.held.lock()).cause().pid() != 0);
            assert_eq!(timer_slack(), slack.as_nanos() as i64);
            let guard = waits.free.lock().unwrap();
            // A signal ends it: a spurious wakeup.
            let _guard = waits.changed.wait(guard).unwrap();
            assert_eq!(timer_slack(), slack.as_nanos() as i64);
        });
        for _ in 0..20 {
            sleeper.wait_until_asleep();
            sleeper.signal(Signal::SIGUSR1);
        }
        drop(holder);
        // Until it sleeps in the other wait, and has been interrupted there.
        let mut sleeper = sleeper;
        crate::support::poll(|| {
            let ended = sleeper.try_wait().is_some();
            if !ended {
                sleeper.signal(Signal::SIGUSR1);
            }
            ended
        });
        sleeper.join();
    }
}

/// What `PR_GET_TIMERSLACK` says, in nanoseconds.
fn timer_slack() -> i64 {
    // SAFETY: the call takes no memory.
    unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_TIMERSLACK, 0, 0, 0, 0) }
}

fn set_timer_slack(slack: Duration) {
    // SAFETY: the call takes numbers only.
    let rc = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack.as_nanos() as libc::c_ulong) };
    assert_eq!(rc, 0);
}

/// Runs a wait with a slack of some seconds, and sees that it lasted as long as it
/// should, and that the slack is as it was.
fn is_punctual(what: &str, wait: impl FnOnce()) {
    // More than 32 bits hold.
    let slack = Duration::from_secs(5);
    set_timer_slack(slack);
    let took = time(|| lasts_its_time(wait));
    assert!(took < TIMEOUT + Duration::from_secs(1), "{what}: {took:?}");
    assert_eq!(timer_slack(), slack.as_nanos() as i64, "{what}");
}

/// Has the kernel kill this process (`SIGSYS`) at the first futex call with
/// `FUTEX_CLOCK_REALTIME`.
fn kill_if_the_wall_clock_is_used() {
    let clock = libc::FUTEX_CLOCK_REALTIME as u32;
    seccomp::kill_with_bits(libc::SYS_futex, 1, clock);
}
