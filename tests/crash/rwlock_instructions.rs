//! Every operation on a `ShmRwLock`, killed at every instruction: see
//! [`family_instructions`](super::family_instructions) for the method and for the
//! variables.

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use std::cell::RefCell;
use std::mem::forget;
use std::time::Duration;

use crate::family_results::record;
use crate::scene::{Order, Reached, Scene, TIME_LIMIT, nothing, try_keeps_no_other_try_out, yes};
use crate::support::walker::Walker;
use crate::support::{on_stage, spawn};
use shm_sync::{LockError, Segment, ShmRwLock, ShmRwLockWriteGuard};

/// Two equal numbers. There are two seats.
type Lock = ShmRwLock<(u64, u64), 2>;

fn lock() -> Lock {
    ShmRwLock::new((0, 0))
}

/// Uses an object of the same kind, because the first use in a process takes another
/// path.
fn warm_up() {
    let spare = Segment::anonymous(lock()).unwrap();
    drop(spare.write().unwrap());
    let _both = [spare.read().unwrap(), spare.read().unwrap()];
    assert!(spare.try_write_for(Duration::from_millis(1)).is_err());
}

fn change(guard: &mut ShmRwLockWriteGuard<'_, (u64, u64), 2>) {
    guard.0 += 1;
    std::hint::black_box(&mut *guard);
    guard.1 += 1;
}

fn read(lock: &Lock) {
    match lock.read() {
        Ok(pair) => assert_eq!(pair.0, pair.1, "half a change without poison"),
        Err(LockError::Poisoned(_)) => {}
        Err(other) => panic!("{other:?}"),
    }
}

fn write(lock: &Lock) {
    match lock.write() {
        Ok(mut pair) => {
            assert_eq!(pair.0, pair.1, "half a change without poison");
            change(&mut pair);
        }
        Err(LockError::Poisoned(_)) => {}
        Err(other) => panic!("{other:?}"),
    }
}

/// Checks that readers and writers get in, and that the data is whole or poisoned.
/// Returns whether it is poisoned.
fn check(lock: &Lock) -> bool {
    let is_poisoned = lock.is_poisoned();
    read(lock);
    assert_eq!(lock.is_poisoned(), is_poisoned, "it is known at once");
    let result = lock.try_write_for(TIME_LIMIT);
    assert_eq!(
        matches!(result, Err(LockError::Poisoned(_))),
        is_poisoned,
        "{result:?}"
    );
    drop(result);
    if is_poisoned {
        let repair = |pair: &mut (u64, u64), _| pair.1 = pair.0;
        drop(lock.write_or_recover(repair).unwrap());
        write(lock);
    }
    read(lock);
    let all = [lock.read().unwrap(), lock.read().unwrap()];
    assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
    drop(all);
    assert!(lock.try_write().is_ok(), "no dead reader is inside");
    is_poisoned
}

fn check_whole(lock: &Lock, _: Reached) {
    assert!(!check(lock), "only a writer inside poisons");
}

fn check_end_whole(lock: &Lock, reached: Reached) {
    let is_poisoned = check(lock);
    assert!(!is_poisoned || reached == Reached::Inside);
}

on_stage! {
    output to record;

    fn try_write_keeps_no_other_try_out() {
        try_keeps_no_other_try_out(
            "try_write",
            lock,
            warm_up,
            |lock| lock.write().unwrap(),
            |lock| lock.try_write().is_ok(),
        );
    }

    fn smoke() {
        let lock = Segment::anonymous(lock()).unwrap();
        warm_up();
        write(&lock);
        assert!(!check(&lock));
    }

    fn read_survives_kills() {
        let scene = Scene {
            name: "read",
            object: &lock,
            set_up: &nothing,
            sleepers: &[],
            order: Order::BeforeVictim,
            victim: &|lock: &'static Lock| {
                Walker::prepared(warm_up, |()| forget(lock.read().unwrap()))
            },
            release: &nothing,
            check: &check_whole,
            goes_on_alone: &yes,
        };
        scene.run(1);
    }

    fn end_of_read_survives_kills() {
        for (name, sleepers) in [
            ("end of read", &[] as &[&dyn Fn(&Lock)]),
            ("end of read with a waiting writer", &[&write]),
            ("end of read with a waiting writer and reader", &[&write, &read]),
        ] {
            let scene = Scene {
                name,
                object: &lock,
                set_up: &nothing,
                sleepers,
                order: Order::AfterPreparation,
                victim: &|lock: &'static Lock| {
                    let prepare = || {
                        warm_up();
                        lock.read().unwrap()
                    };
                    Walker::prepared(prepare, drop)
                },
                release: &nothing,
                check: &check_whole,
                goes_on_alone: &yes,
            };
            scene.run(2);
        }
    }

    fn second_read_survives_kills() {
        let scene = Scene {
            name: "second read of a thread, with a waiting writer",
            object: &lock,
            set_up: &nothing,
            sleepers: &[&write],
            order: Order::AfterPreparation,
            victim: &|lock: &'static Lock| {
                let prepare = || {
                    warm_up();
                    lock.read().unwrap()
                };
                Walker::prepared(prepare, |first| {
                    drop(lock.read().unwrap());
                    drop(first);
                })
            },
            release: &nothing,
            check: &check_whole,
            goes_on_alone: &yes,
        };
        scene.run(8);
    }

    fn write_survives_kills() {
        let scene = Scene {
            name: "write",
            object: &lock,
            set_up: &nothing,
            sleepers: &[],
            order: Order::BeforeVictim,
            victim: &|lock: &'static Lock| Walker::prepared(warm_up, |()| write(lock)),
            release: &nothing,
            check: &check_end_whole,
            goes_on_alone: &yes,
        };
        scene.run(1);
    }

    fn end_of_write_survives_kills() {
        for (name, sleepers) in [
            ("end of write", &[] as &[&dyn Fn(&Lock)]),
            ("end of write with waiting readers", &[&read, &read, &read]),
            ("end of write with a waiting writer", &[&write]),
            ("end of write with waiting readers and writers", &[&read, &write, &read, &write]),
        ] {
            let scene = Scene {
                name,
                object: &lock,
                set_up: &nothing,
                sleepers,
                order: Order::AfterPreparation,
                victim: &|lock: &'static Lock| {
                    let prepare = || {
                        warm_up();
                        lock.write().unwrap()
                    };
                    Walker::prepared(prepare, |mut guard| {
                        change(&mut guard);
                        drop(guard);
                    })
                },
                release: &nothing,
                check: &check_end_whole,
                goes_on_alone: &yes,
            };
            scene.run(2);
        }
    }

    fn downgrade_survives_kills() {
        for (name, sleepers) in [
            ("downgrade", &[] as &[&dyn Fn(&Lock)]),
            ("downgrade with waiting readers and writers", &[&read, &write, &read, &write]),
        ] {
            let scene = Scene {
                name,
                object: &lock,
                set_up: &nothing,
                sleepers,
                order: Order::AfterPreparation,
                victim: &|lock: &'static Lock| {
                    let prepare = || {
                        warm_up();
                        drop(ShmRwLockWriteGuard::downgrade(lock.write().unwrap()));
                        lock.write().unwrap()
                    };
                    Walker::prepared(prepare, |mut guard| {
                        change(&mut guard);
                        drop(ShmRwLockWriteGuard::downgrade(guard));
                    })
                },
                release: &nothing,
                check: &check_end_whole,
                goes_on_alone: &yes,
            };
            scene.run(2);
        }
    }

    fn write_waiting_for_reader_survives_kills() {
        // The harness reads.
        let kept = RefCell::new(None);
        let scene = Scene {
            name: "write that waits for a reader",
            object: &lock,
            set_up: &|lock: &'static Lock| {
                drop(kept.replace(None));
                kept.replace(Some(lock.read().unwrap()));
            },
            sleepers: &[],
            order: Order::BeforeVictim,
            victim: &|lock: &'static Lock| Walker::prepared(warm_up, |()| write(lock)),
            release: &|_| drop(kept.take()),
            check: &check_end_whole,
            goes_on_alone: &yes,
        };
        scene.run(100);
    }

    fn write_at_gate_survives_kills() {
        // The harness writes. One process queues before the victim, or is at the gate.
        for (name, sleepers) in [
            ("write at the gate", &[] as &[&dyn Fn(&Lock)]),
            ("write behind the gate, with a waiting reader", &[&write, &read]),
        ] {
            let kept = RefCell::new(None);
            let scene = Scene {
                name,
                object: &lock,
                set_up: &|lock: &'static Lock| {
                    drop(kept.replace(None));
                    kept.replace(Some(lock.write().unwrap()));
                },
                sleepers,
                order: Order::BeforeVictim,
                victim: &|lock: &'static Lock| Walker::prepared(warm_up, |()| write(lock)),
                release: &|_| drop(kept.take()),
                check: &check_end_whole,
                goes_on_alone: &yes,
            };
            scene.run(150);
        }
    }

    fn waiting_read_survives_kills() {
        // The harness writes. With two readers before the victim, it has no seat.
        let one: &[&dyn Fn(&Lock)] = &[&read];
        let many: &[&dyn Fn(&Lock)] = &[&read, &read, &write];
        for (name, sleepers) in [
            ("read that waits for a writer", one),
            ("read that waits for a seat, with a waiting writer", many),
        ] {
            let kept = RefCell::new(None);
            let scene = Scene {
                name,
                object: &lock,
                set_up: &|lock: &'static Lock| {
                    drop(kept.replace(None));
                    kept.replace(Some(lock.write().unwrap()));
                },
                sleepers,
                order: Order::BeforeVictim,
                victim: &|lock: &'static Lock| Walker::prepared(warm_up, |()| read(lock)),
                release: &|_| drop(kept.take()),
                check: &check_whole,
                goes_on_alone: &yes,
            };
            scene.run(150);
        }
    }

    fn repair_after_writer_survives_kills() {
        // A writer has died inside, or while it waited for a reader. The victim is the
        // first to see it.
        for (name, is_inside, victim) in [
            ("read after a dead writer", true, &read as &dyn Fn(&Lock)),
            ("write after a dead writer", true, &write),
            ("read after a waiting dead writer", false, &read),
            ("write after a waiting dead writer", false, &write),
        ] {
            let scene = Scene {
                name,
                object: &lock,
                set_up: &|lock: &'static Lock| {
                    let reading = (!is_inside).then(|| lock.read().unwrap());
                    let mut dead = spawn(|| {
                        let mut guard = lock.write().unwrap();
                        guard.0 += 1;
                        nix::unistd::pause();
                    });
                    if is_inside {
                        crate::support::poll(|| lock.writer().is_some());
                    } else {
                        dead.wait_until_asleep();
                    }
                    dead.kill();
                    drop(reading);
                },
                sleepers: &[],
                order: Order::BeforeVictim,
                victim: &|lock: &'static Lock| Walker::prepared(warm_up, |()| victim(lock)),
                release: &nothing,
                check: &|lock: &Lock, reached: Reached| {
                    let is_poisoned = check(lock);
                    if is_inside {
                        assert!(is_poisoned, "no thread has repaired");
                    } else {
                        assert!(!is_poisoned || reached == Reached::Inside);
                    }
                },
                goes_on_alone: &yes,
            };
            scene.run(4);
        }
    }
}
