//! `ShmRwLock`: readers, writers, their order, and their deaths.

use std::fs;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use shm_sync::{
    Error, LockError, LockResult, OrRecover, PoisonCause, Removal, Segment, SegmentOptions,
    ShmMutex, ShmRwLock, ShmRwLockWriteGuard, ShmSafe,
};

use crate::support::{Child, Gate, TestFile, TestName, median, on_stage, poll, seccomp, spawn};

/// The promised time after a death.
const RECOVERS_WITHIN: Duration = Duration::from_millis(250);
/// A time in which a waiter does its recheck, and yet does not go on.
const SEVERAL_RECHECKS: Duration = Duration::from_millis(400);
const SHORT: Duration = Duration::from_millis(1);

fn lock<const N: usize>() -> Segment<ShmRwLock<u64, N>> {
    Segment::anonymous(ShmRwLock::new(7)).unwrap()
}

fn would_block<G>(result: LockResult<G>) -> bool {
    matches!(result, Err(LockError::WouldBlock))
}

fn timed_out<G>(result: LockResult<G>) -> bool {
    matches!(result, Err(LockError::TimedOut))
}

fn deadlocks<G>(result: LockResult<G>) -> bool {
    matches!(result, Err(LockError::Deadlock))
}

fn died_as<G>(result: LockResult<G>, pid: u32) -> bool {
    match result {
        Err(LockError::Poisoned(poisoned)) => {
            matches!(poisoned.cause(), PoisonCause::OwnerDied { pid: dead, .. } if dead == pid)
        }
        _ => false,
    }
}

/// Starts a process that keeps read access until it is killed.
fn reader<const N: usize>(lock: &ShmRwLock<u64, N>) -> Child {
    let inside = Gate::new();
    let reader = spawn(|| {
        let _guard = lock.read().unwrap();
        inside.open();
        nix::unistd::pause();
    });
    inside.pass();
    reader
}

/// Starts a process that changes the data and keeps write access until it is killed.
fn writer<const N: usize>(lock: &ShmRwLock<u64, N>) -> Child {
    let inside = Gate::new();
    let writer = spawn(|| {
        *lock.write().unwrap() = 8;
        let mut guard = lock.write().unwrap();
        *guard = 9;
        inside.open();
        nix::unistd::pause();
    });
    inside.pass();
    writer
}

/// Starts a process that runs `body`, and waits until it sleeps.
fn sleeper(body: impl FnOnce()) -> Child {
    let sleeper = spawn(body);
    sleeper.wait_until_asleep();
    sleeper
}

#[test]
fn unplaced_rwlock_is_refused() {
    let lock: ShmRwLock<u64, 2> = ShmRwLock::new(7);
    assert!(matches!(lock.read(), Err(LockError::NotPlaced)));
    assert!(matches!(lock.try_read(), Err(LockError::NotPlaced)));
    assert!(matches!(lock.write(), Err(LockError::NotPlaced)));
    assert!(matches!(lock.try_write(), Err(LockError::NotPlaced)));
    assert!(matches!(
        lock.try_write_for(SHORT),
        Err(LockError::NotPlaced)
    ));
    assert!(!lock.is_poisoned());
    assert_eq!((lock.readers(), lock.writer()), (0, None));
}

#[test]
fn rwlock_has_one_line_per_reader() {
    const SEAT: usize = size_of::<ShmMutex<()>>().next_multiple_of(64);
    let len = |readers: usize| 2 * SEAT + 64 + readers * SEAT + 64;
    assert_eq!(size_of::<ShmRwLock<u64>>(), len(16));
    assert_eq!(size_of::<ShmRwLock<[u64; 8], 4>>(), len(4));
}

#[test]
fn thread_that_reads_may_read_but_not_write() {
    let lock = lock::<2>();
    let first = lock.read().unwrap();
    let guards = [0; 10].map(|_| lock.read().unwrap());
    assert_eq!(lock.try_read().map(|guard| *guard).unwrap(), 7);
    assert!(deadlocks(lock.write()));
    assert!(deadlocks(lock.try_write_for(Duration::MAX)));
    assert!(would_block(lock.try_write()));
    drop(first);
    assert!(would_block(lock.try_write()), "ten guards are left");
    assert!(lock.readers() >= 1);
    drop(guards);
    assert_eq!(lock.readers(), 0);
    assert!(lock.try_write().is_ok());
}

#[test]
fn thread_that_writes_may_do_neither() {
    let lock = lock::<1>();
    let guard = lock.write().unwrap();
    assert!(deadlocks(lock.read()) && deadlocks(lock.write()));
    assert!(deadlocks(lock.try_read_for(SHORT)) && deadlocks(lock.try_write_for(SHORT)));
    assert!(would_block(lock.try_read()) && would_block(lock.try_write()));
    assert_eq!(lock.writer().unwrap().pid, std::process::id());
    drop(guard);
    assert_eq!(*lock.read().unwrap(), 7);
}

#[test]
fn downgrade_lets_readers_in_and_keeps_writers_out() {
    let lock = lock::<2>();
    let mut guard = lock.write().unwrap();
    *guard = 8;
    let reading = ShmRwLockWriteGuard::downgrade(guard);
    assert_eq!((*reading, lock.readers(), lock.writer()), (8, 1, None));
    std::thread::scope(|s| {
        s.spawn(|| {
            assert_eq!(*lock.read().unwrap(), 8);
            assert!(would_block(lock.try_write()) && timed_out(lock.try_write_for(SHORT)));
        });
    });
    // This thread is a reader.
    let guards = [
        lock.read().unwrap(),
        lock.read().unwrap(),
        lock.read().unwrap(),
    ];
    assert!(deadlocks(lock.write()) && would_block(lock.try_write()));
    drop(reading);
    assert!(deadlocks(lock.write()));
    drop(guards);
    assert_eq!(lock.readers(), 0);
    *lock.write().unwrap() = 9;
    assert_eq!(*lock.read().unwrap(), 9);
}

#[test]
fn downgrade_while_panicking_poisons() {
    let lock = lock::<2>();
    struct Downgrades<'a>(Option<ShmRwLockWriteGuard<'a, u64, 2>>);
    impl Drop for Downgrades<'_> {
        fn drop(&mut self) {
            let guard = self.0.take().expect("it has the guard");
            drop(ShmRwLockWriteGuard::downgrade(guard));
        }
    }
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _downgrades = Downgrades(Some(lock.write().unwrap()));
        resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err() && lock.is_poisoned());
}

#[test]
fn guards_of_a_thread_have_a_limit() {
    let lock = lock::<1>();
    let mut guards = Vec::new();
    let error = loop {
        match lock.read() {
            Ok(guard) => guards.push(guard),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LockError::TooManyLocks), "{error:?}");
    assert_eq!(guards.len(), 4096);
    drop(guards);
    assert!(lock.try_write().is_ok());
}

#[test]
fn panic_of_writer_poisons() {
    let lock = lock::<2>();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut guard = lock.write().unwrap();
        *guard = 1;
        resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err() && lock.is_poisoned());
    let Err(LockError::Poisoned(poisoned)) = lock.read() else {
        panic!("a reader is told");
    };
    assert!(matches!(poisoned.cause(), PoisonCause::Panicked { .. }));
    assert_eq!(**poisoned.get_ref(), 1);
    assert_eq!(lock.readers(), 1);
    drop(poisoned);
    let Err(LockError::Poisoned(poisoned)) = lock.write() else {
        panic!("a writer is told");
    };
    assert_eq!(*poisoned.recover(|value| *value = 2), 2);
    assert!(!lock.is_poisoned());
    assert_eq!(*lock.read().unwrap(), 2);
}

#[test]
fn panic_of_reader_poisons_nothing() {
    let lock = lock::<2>();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = lock.read().unwrap();
        resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err() && !lock.is_poisoned());
    assert!(lock.try_write().is_ok());
}

#[test]
fn panic_in_repair_keeps_poison() {
    let lock = lock::<2>();
    std::thread::scope(|s| {
        s.spawn(|| forget(lock.write()));
    });
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        lock.write_or_recover(|_, _| resume_unwind(Box::new(())))
            .map(drop)
    }));
    assert!(panicked.is_err());
    let guard = lock.read_or_recover(|value, cause| {
        assert!(matches!(cause, PoisonCause::Panicked { .. }), "{cause}");
        *value = 3;
    });
    assert_eq!(*guard.unwrap(), 3);
    // A reader can't repair.
    std::thread::scope(|s| {
        s.spawn(|| forget(lock.write()));
    });
    let Err(LockError::Poisoned(reading)) = lock.read() else {
        panic!("a writer has died");
    };
    let refused = lock.read_or_recover(|_, _| ());
    assert!(matches!(refused, Err(Error::Lock(LockError::Deadlock))));
    drop((refused, reading));
    *lock
        .try_write_for(SHORT)
        .or_recover(|value, _| *value = 4)
        .unwrap() += 1;
    assert_eq!(*lock.read().unwrap(), 5);
}

#[test]
fn clear_poison_works_with_the_guard() {
    let lock = lock::<2>();
    // The scope alone may end a moment before the thread does.
    std::thread::scope(|s| s.spawn(|| forget(lock.write())).join())
        .expect("the thread does not panic");
    assert!(lock.is_poisoned(), "before any thread has seen the death");
    let guard = match lock.write() {
        Err(LockError::Poisoned(poisoned)) => poisoned.into_inner(),
        _ => panic!("a writer has died"),
    };
    lock.clear_poison();
    drop(guard);
    assert!(!lock.is_poisoned());
    assert!(lock.read().is_ok());
}

#[test]
fn debug_shows_state_and_data_of_guards() {
    let lock = lock::<2>();
    let guard = lock.read().unwrap();
    assert!(format!("{:?}", *lock).contains("readers: 1, writer: None, poison: None"));
    assert_eq!(
        (format!("{guard:?}"), format!("{guard}")),
        ("7".into(), "7".into())
    );
    drop(guard);
    let guard = lock.write().unwrap();
    assert!(format!("{:?}", *lock).contains("readers: 0, writer: Some"));
    assert_eq!(
        (format!("{guard:?}"), format!("{guard}")),
        ("7".into(), "7".into())
    );
}

#[test]
fn threads_see_whole_changes() {
    let lock: Segment<ShmRwLock<(u64, u64), 3>> =
        Segment::anonymous(ShmRwLock::new((0, 0))).unwrap();
    std::thread::scope(|s| {
        for thread in 0..6 {
            let lock = &lock;
            s.spawn(move || {
                for _ in 0..2_000 {
                    if thread < 4 {
                        let pair = lock.read().unwrap();
                        assert_eq!(pair.0, pair.1, "no writer is inside");
                    } else {
                        let mut pair = lock.write().unwrap();
                        pair.0 += 1;
                        std::hint::spin_loop();
                        pair.1 += 1;
                    }
                }
            });
        }
    });
    assert_eq!(*lock.read().unwrap(), (4_000, 4_000));
}

#[derive(ShmSafe)]
#[repr(C)]
struct Office {
    lock: ShmRwLock<u64, 4>,
    reads: AtomicU32,
    writes: AtomicU32,
}

fn office() -> Segment<Office> {
    Segment::anonymous(Office {
        lock: ShmRwLock::new(0),
        reads: AtomicU32::new(0),
        writes: AtomicU32::new(0),
    })
    .unwrap()
}

/// Waits until a number has grown by `more`, or panics after a minute.
fn expect_progress(count: &AtomicU32, more: u32, what: &str) {
    let (before, begin) = (count.load(Ordering::SeqCst), Instant::now());
    while count.load(Ordering::SeqCst) < before + more {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(SHORT);
    }
}

on_stage! {
    fn smoke() {
        let lock = lock::<2>();
        let guard = lock.write().unwrap();
        let readers = [0; 4].map(|_| sleeper(|| assert_eq!(*lock.read().unwrap(), 7)));
        let writer = sleeper(|| *lock.write().unwrap() = 8);
        drop(guard);
        writer.join();
        assert_eq!(*lock.read().unwrap(), 8);
        drop(readers);
    }

    fn killed_reader_lets_writer_in() {
        let lock = lock::<2>();
        let time = median(5, || {
            let mut readers = [reader(&lock), reader(&lock)];
            assert_eq!(lock.readers(), 2);
            let writer = sleeper(|| *lock.write().unwrap() += 1);
            readers[0].kill();
            let begin = Instant::now();
            readers[1].kill();
            writer.join();
            begin.elapsed()
        });
        println!("from SIGKILL of the reader until the writer had written: {time:?}");
        assert!(time < RECOVERS_WITHIN, "{time:?}");
        assert_eq!((*lock.read().unwrap(), lock.is_poisoned()), (12, false));
    }

    // A writer that does not respect a living reader passes the storms, because there
    // each process dies soon.
    fn stopped_reader_keeps_writer_out() {
        let lock = lock::<2>();
        let reader = reader(&lock);
        reader.stop();
        assert!(timed_out(lock.try_write_for(SEVERAL_RECHECKS)));
        assert!(would_block(lock.try_write()));
        assert_eq!(*lock.try_read().unwrap(), 7, "the timeout has ended the phase");
        reader.signal(Signal::SIGCONT);
    }

    fn stopped_writer_keeps_all_out() {
        let lock = lock::<2>();
        let writer = writer(&lock);
        writer.stop();
        assert!(timed_out(lock.try_read_for(SEVERAL_RECHECKS)));
        assert!(timed_out(lock.try_write_for(SEVERAL_RECHECKS)));
        assert!(would_block(lock.try_read()) && would_block(lock.try_write()));
        assert!(!lock.is_poisoned());
        assert_eq!(lock.writer().unwrap().pid, writer.pid());
        writer.signal(Signal::SIGCONT);
    }

    fn killed_waiting_writer_poisons_nothing() {
        let lock = lock::<3>();
        let time = median(5, || {
            let first = reader(&lock);
            let mut writer = sleeper(|| *lock.write().unwrap() = 8);
            let second = sleeper(|| assert_eq!(*lock.read().unwrap(), 7));
            assert!(would_block(lock.try_read()), "a writer waits");
            assert_eq!(lock.writer(), None, "it does not write yet");
            let begin = Instant::now();
            writer.kill();
            second.join();
            drop(first);
            begin.elapsed()
        });
        println!("from SIGKILL of the waiting writer until the reader had read: {time:?}");
        assert!(time < RECOVERS_WITHIN, "{time:?}");
        assert!(!lock.is_poisoned());
        assert!(lock.write().is_ok());
    }

    fn try_read_ends_phase_of_dead_writer() {
        let lock = lock::<2>();
        let reader = reader(&lock);
        sleeper(|| drop(lock.write())).kill();
        assert_eq!(*lock.try_read().unwrap(), 7);
        drop(reader);
        let mut writer = writer(&lock);
        let pid = writer.pid();
        writer.kill();
        assert!(lock.is_poisoned(), "before any thread has seen the death");
        assert!(died_as(lock.try_read(), pid));
        assert!(lock.is_poisoned());
        assert!(died_as(lock.try_write(), pid));
    }

    fn killed_inside_writer_is_told_to_reader() {
        let lock = lock::<2>();
        let time = median(5, || {
            drop(lock.write_or_recover(|_, _| ()).unwrap());
            let mut writer = writer(&lock);
            let pid = writer.pid();
            let readers = [0; 2].map(|_| sleeper(|| assert!(died_as(lock.read(), pid))));
            let begin = Instant::now();
            writer.kill();
            readers.into_iter().for_each(Child::join);
            begin.elapsed()
        });
        println!("from SIGKILL of the writer until the readers had read: {time:?}");
        assert!(time < RECOVERS_WITHIN, "{time:?}");
    }

    fn killed_inside_writer_is_told_to_writer() {
        let lock = lock::<2>();
        let time = median(5, || {
            let mut writer = writer(&lock);
            let pid = writer.pid();
            let next = sleeper(|| {
                let Err(LockError::Poisoned(poisoned)) = lock.write() else {
                    panic!("a writer has died");
                };
                assert_eq!(poisoned.cause().pid(), pid);
                drop(poisoned.recover(|value| *value = 7));
            });
            let begin = Instant::now();
            writer.kill();
            next.join();
            begin.elapsed()
        });
        println!("from SIGKILL of the writer until the next had written: {time:?}");
        assert!(time < RECOVERS_WITHIN, "{time:?}");
        assert_eq!(*lock.read().unwrap(), 7);
    }

    fn killed_process_is_noticed_without_waitv() {
        // As before Linux 5.16, and under a filter that does not know the call.
        for errno in [libc::ENOSYS, libc::EPERM] {
            let lock = lock::<2>();
            let mut dead = writer(&lock);
            let pid = dead.pid();
            let waiter = sleeper(|| {
                seccomp::refuse(libc::SYS_futex_waitv, errno);
                assert!(died_as(lock.read(), pid));
            });
            dead.kill();
            waiter.join();
            let mut dead = spawn(|| {
                let _guard = lock.read();
                nix::unistd::pause();
            });
            poll(|| lock.readers() == 1);
            let waiter = sleeper(|| {
                seccomp::refuse(libc::SYS_futex_waitv, errno);
                assert!(died_as(lock.write(), pid));
            });
            dead.kill();
            waiter.join();
        }
    }

    // All seats belong to readers that wait for the end of the phase.
    fn downgrade_needs_no_seat() {
        let lock = lock::<2>();
        let mut guard = lock.write().unwrap();
        let readers = [0; 2].map(|_| sleeper(|| assert_eq!(*lock.read().unwrap(), 8)));
        let writer = sleeper(|| *lock.write().unwrap() = 9);
        *guard = 8;
        let reading = ShmRwLockWriteGuard::downgrade(guard);
        readers.into_iter().for_each(Child::join);
        assert_eq!(*reading, 8, "no writer comes between");
        assert!(would_block(lock.try_write()));
        drop(reading);
        writer.join();
        assert_eq!(*lock.read().unwrap(), 9);
    }

    fn killed_downgraded_reader_is_a_reader() {
        let lock = lock::<2>();
        let time = median(5, || {
            let inside = Gate::new();
            let mut dead = spawn(|| {
                let _reading = ShmRwLockWriteGuard::downgrade(lock.write().unwrap());
                inside.open();
                nix::unistd::pause();
            });
            inside.pass();
            assert_eq!(lock.readers(), 1);
            let writer = sleeper(|| *lock.write().unwrap() = 9);
            let begin = Instant::now();
            dead.kill();
            writer.join();
            begin.elapsed()
        });
        assert!(time < RECOVERS_WITHIN, "{time:?}");
        assert_eq!((lock.readers(), lock.is_poisoned()), (0, false));
    }

    fn forked_child_can_not_downgrade() {
        let lock = lock::<2>();
        let mut inherited = lock.write().ok();
        spawn(|| {
            let guard = inherited.take().unwrap();
            drop(ShmRwLockWriteGuard::downgrade(guard));
            assert!(would_block(lock.try_read()));
        })
        .join();
        assert_eq!(lock.writer().unwrap().pid, std::process::id());
        drop(inherited);
        let mut inherited = lock.write().ok().map(ShmRwLockWriteGuard::downgrade);
        spawn(|| drop(inherited.take())).join();
        assert!(would_block(lock.try_write()));
        drop(inherited);
        assert!(lock.try_write().is_ok());
    }

    fn reader_waits_for_one_writer_only() {
        let lock = lock::<3>();
        let first = reader(&lock);
        let writer = sleeper(|| *lock.write().unwrap() += 1);
        let (inside, leave) = (Gate::new(), Gate::new());
        let second = sleeper(|| {
            let guard = lock.read().unwrap();
            assert_eq!(*guard, 8, "one writer has written");
            inside.open();
            leave.pass();
            assert_eq!(*guard, 8);
        });
        let next_writer = sleeper(|| *lock.write().unwrap() += 1);
        drop(first);
        writer.join();
        inside.pass();
        // The next writer waits for this reader, and later readers for that writer.
        poll(|| would_block(lock.try_read()));
        next_writer.wait_until_asleep();
        leave.open();
        second.join();
        next_writer.join();
        assert_eq!(*lock.read().unwrap(), 9);
    }

    fn readers_do_not_starve_writer() {
        let office = office();
        // There is a reader inside at all times.
        let _readers = [0; 3].map(|_| spawn(|| loop {
            let _guard = office.lock.read().unwrap();
            office.reads.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(SHORT);
        }));
        let _writer = spawn(|| loop {
            *office.lock.write().unwrap() += 1;
            office.writes.fetch_add(1, Ordering::SeqCst);
        });
        expect_progress(&office.writes, 50, "the writer starves");
        expect_progress(&office.reads, 50, "the readers starve");
    }

    fn writers_do_not_starve_reader() {
        let office = office();
        // There is a writer inside or at the gate at all times.
        let _writers = [0; 3].map(|_| spawn(|| loop {
            let mut guard = office.lock.write().unwrap();
            *guard += 1;
            office.writes.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(SHORT);
        }));
        let _reader = spawn(|| loop {
            drop(office.lock.read().unwrap());
            office.reads.fetch_add(1, Ordering::SeqCst);
        });
        expect_progress(&office.reads, 20, "the reader starves");
        expect_progress(&office.writes, 20, "the writers starve");
    }

    fn reader_without_seat_waits() {
        let lock = lock::<1>();
        let mut first = reader(&lock);
        assert!(would_block(lock.try_read()));
        assert!(timed_out(lock.try_read_for(SHORT)));
        let second = sleeper(|| drop(lock.read().unwrap()));
        first.kill();
        second.join();
        let guard = lock.read().unwrap();
        let third = sleeper(|| drop(lock.read().unwrap()));
        drop(guard);
        third.join();
    }

    fn reader_reads_once_more_without_seat() {
        let lock = lock::<3>();
        let first = lock.read().unwrap();
        let writer = sleeper(|| *lock.write().unwrap() += 1);
        // They have the other seats, and wait for the writer, which waits for this
        // thread.
        let waiting = [0; 2].map(|_| sleeper(|| assert_eq!(*lock.read().unwrap(), 8)));
        let without_seat = sleeper(|| assert_eq!(*lock.read().unwrap(), 8));
        let more = [lock.read().unwrap(), lock.try_read().unwrap()];
        drop(first);
        assert_eq!(*more[0], 7);
        assert!(!lock.is_poisoned());
        drop(more);
        writer.join();
        waiting.into_iter().for_each(Child::join);
        without_seat.join();
    }

    fn dead_reader_leaves_no_guards_behind() {
        let lock = lock::<1>();
        for _ in 0..3 {
            let inside = Gate::new();
            let mut reader = spawn(|| {
                let _guards = [0; 3].map(|_| lock.read().unwrap());
                inside.open();
                nix::unistd::pause();
            });
            inside.pass();
            reader.kill();
            drop(lock.read().unwrap());
            assert!(lock.try_write().is_ok());
        }
    }

    fn two_upgraders_are_both_told() {
        let lock = lock::<4>();
        let both_read = [Gate::new(), Gate::new()];
        let upgrade = |mine: usize| {
            let _guard = lock.read().unwrap();
            both_read[mine].open();
            both_read[1 - mine].pass();
            for _ in 0..200 {
                assert!(deadlocks(lock.write()));
                assert!(deadlocks(lock.try_write_for(Duration::from_secs(600))));
            }
        };
        let other = spawn(|| upgrade(0));
        upgrade(1);
        other.join();
        assert!(lock.try_write().is_ok());
    }

    fn forked_child_has_no_access() {
        let lock = lock::<2>();
        for nested in [false, true] {
            let mut guards = vec![lock.read().unwrap()];
            if nested {
                guards.extend([lock.read().unwrap(), lock.read().unwrap()]);
            }
            let mut guards = Some(guards);
            spawn(|| {
                drop(guards.take());
                assert!(would_block(lock.try_write()));
            })
            .join();
            assert_eq!(lock.readers(), if nested { 2 } else { 1 });
            drop(guards);
            assert_eq!(lock.readers(), 0);
        }
        let mut guard = Some(lock.write().unwrap());
        spawn(|| {
            drop(guard.take());
            assert!(would_block(lock.try_read()) && would_block(lock.try_write()));
        })
        .join();
        let panicked = spawn(|| {
            let _guard = guard.take();
            resume_unwind(Box::new(()));
        });
        drop(panicked);
        assert!(!lock.is_poisoned());
        assert_eq!(lock.writer().unwrap().pid, std::process::id());
        drop(guard);
        assert!(lock.try_read().is_ok());
    }

    fn exec_ends_access() {
        let lock = lock::<2>();
        for writes in [false, true] {
            let executed = Gate::new();
            let mut child = spawn(|| {
                if writes {
                    forget(lock.write().unwrap());
                } else {
                    forget(lock.read().unwrap());
                }
                executed.open();
                let sleep = std::ffi::CString::new("/bin/sleep").unwrap();
                let time = std::ffi::CString::new("60").unwrap();
                let _ = nix::unistd::execv(&sleep, &[&sleep, &time]);
            });
            executed.pass();
            let poisoned = lock.write().is_err();
            assert_eq!(poisoned, writes);
            child.kill();
        }
    }

    // The copy of a file is like a file of another boot: no process is there any more.
    fn copy_is_poisoned_if_writer_was_inside() {
        for (name, inside) in [("inside", true), ("waiting", false)] {
            let original = TestFile::new(&format!("rwlock-{name}"));
            let copy = TestFile::new(&format!("rwlock-{name}-copy"));
            let lock = SegmentOptions::new()
                .removal(Removal::Persistent)
                .create(&original, ShmRwLock::<u64, 3>::new(7))
                .unwrap();
            let _processes = if inside {
                vec![writer(&lock), sleeper(|| drop(lock.read()))]
            } else {
                vec![reader(&lock), sleeper(|| drop(lock.write())), sleeper(|| drop(lock.read()))]
            };
            Segment::flush(&lock).unwrap();
            fs::copy(&*original, &*copy).unwrap();
            let copied = Segment::<ShmRwLock<u64, 3>>::open(&copy).unwrap();
            assert_eq!(copied.is_poisoned(), inside, "{name}");
            assert_eq!((copied.readers(), copied.writer()), (0, None));
            let pid = _processes[0].pid();
            if inside {
                assert!(died_as(copied.try_read(), pid));
                let mut guard = copied.write_or_recover(|value, _| *value = 7).unwrap();
                *guard += 1;
            } else {
                assert_eq!(*copied.try_read().unwrap(), 7);
                *copied.try_write().unwrap() += 1;
            }
            assert_eq!(*copied.read().unwrap(), 8);
            assert!(!lock.is_poisoned(), "the original has not changed");
        }
    }

    // The memory of a snapshot is private, so the child has a copy of the lock. The
    // writer or reader inside does not exist there.
    fn child_renews_copied_lock() {
        let name = TestName::new("rwlock-snapshot");
        let segment = Segment::create(&name, ShmRwLock::<u64, 2>::new(7)).unwrap();
        let options = SegmentOptions::<ShmRwLock<u64, 2>>::new();
        let lock = options.open_snapshot(&name).unwrap();
        drop(segment);
        let guard = lock.read().unwrap();
        spawn(|| {
            let guard = lock.try_write().unwrap();
            assert!(would_block(lock.try_read()));
            drop(guard);
            assert_eq!(*lock.read().unwrap(), 7);
        })
        .join();
        drop(guard);
        let guard = lock.write().unwrap();
        spawn(|| {
            assert!(lock.read().is_err(), "the copied writer is not there");
            assert!(lock.try_write().is_err());
        })
        .join();
        drop(guard);
        assert!(lock.read().is_ok());
    }

    // All seats are taken when the process forks, and vacant in the child.
    fn child_reads_copied_lock_at_once() {
        let name = TestName::new("rwlock-seats");
        let segment = Segment::create(&name, ShmRwLock::<u64, 1>::new(7)).unwrap();
        let options = SegmentOptions::<ShmRwLock<u64, 1>>::new();
        let lock = options.open_snapshot(&name).unwrap();
        drop(segment);
        let guard = lock.read().unwrap();
        spawn(|| assert_eq!(*lock.try_read().unwrap(), 7)).join();
        drop(guard);
    }

    fn mutex_inside_a_guard_works() {
        let shared = Segment::anonymous((ShmRwLock::<u64>::new(7), ShmMutex::new(0))).unwrap();
        let (lock, mutex) = &*shared;
        let reading = lock.read().unwrap();
        *mutex.lock().unwrap() = *reading;
        let held = mutex.lock().unwrap();
        drop(reading);
        *lock.write().unwrap() = *held + 1;
        drop(held);
        assert_eq!((*lock.read().unwrap(), *mutex.lock().unwrap()), (8, 7));
    }
}
