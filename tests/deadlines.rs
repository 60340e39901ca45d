//! A wall clock that jumps can't end a wait early, nor prolong it, because no
//! wait looks at it (failure mode 23).
//!
//! Setting the machine's clock would disturb everything else on it. So the
//! kernel is told to kill the process if it asks for a futex wait on the wall
//! clock, and then everything that can wait is made to.

mod common;

use std::time::{Duration, Instant};

use common::{holder_of, on_stage, spawn};
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

    fn no_wait_looks_at_the_wall_clock() {
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
}

/// Has the kernel kill this process (`SIGSYS`) at the first futex call with
/// `FUTEX_CLOCK_REALTIME`:
/// [`seccomp(2)`](https://man7.org/linux/man-pages/man2/seccomp.2.html).
fn kill_if_the_wall_clock_is_used() {
    /// Offsets in `struct seccomp_data`, in bytes.
    const CALL_NUMBER: u32 = 0;
    const SECOND_ARGUMENT: u32 = if cfg!(target_endian = "little") {
        24
    } else {
        28
    };

    let load = |at| libc::sock_filter {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: at,
    };
    let jump = |test, k, jt, jf| libc::sock_filter {
        code: (libc::BPF_JMP | test | libc::BPF_K) as u16,
        jt,
        jf,
        k,
    };
    let answer = |k| libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let mut filter = [
        load(CALL_NUMBER),
        jump(libc::BPF_JEQ, libc::SYS_futex as u32, 0, 3),
        load(SECOND_ARGUMENT),
        jump(libc::BPF_JSET, libc::FUTEX_CLOCK_REALTIME as u32, 0, 1),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the call takes numbers only.
    let rc = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(rc, 0);
    // SAFETY: `program` and the filter it points at outlive the call.
    let rc = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
}
