//! Read-only segments and private snapshots.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicI16, AtomicU64, Ordering};

use crate::support::{
    Gate, TestFile, TestKey, TestName, become_nobody, dead_owner, die, expect_poisoned, holder_of,
    is_root_for, on_stage, spawn,
};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use shm_sync::{
    Error, LockError, ReadOnly, Segment, SegmentOptions, ShmMutex, ShmSafe, WithTail, project,
    unlink,
};

type Counter = ShmMutex<u64>;

#[derive(ShmSafe, Debug, PartialEq)]
#[repr(C)]
struct Limits {
    lowest: u32,
    highest: u64,
}

#[derive(ShmSafe)]
#[repr(C)]
struct Board {
    limits: Limits,
    done: AtomicU64,
    flags: (AtomicBool, AtomicI16),
    pending: Counter,
    slots: [ShmMutex<(u8, u32)>; 3],
}

fn board() -> Board {
    Board {
        limits: Limits {
            lowest: 1,
            highest: 9,
        },
        done: AtomicU64::new(3),
        flags: (AtomicBool::new(true), AtomicI16::new(-1)),
        pending: Counter::new(5),
        slots: [0, 1, 2].map(|n| ShmMutex::new((n, 100 + u32::from(n)))),
    }
}

/// An address of each kind, for a test of all kinds.
struct Names(TestName, TestFile, TestKey);

impl Names {
    fn new(what: &str) -> Self {
        Self(TestName::new(what), TestFile::new(what), TestKey::new())
    }

    fn all(&self) -> [&str; 3] {
        [&self.0, &self.1, &self.2]
    }
}

/// Returns the permissions of the mapping that contains an address, such as `r--s`.
fn protection(at: usize) -> String {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| {
        let range = line.split(' ').next().unwrap().split_once('-').unwrap();
        let bound = |text| usize::from_str_radix(text, 16).unwrap();
        (bound(range.0)..bound(range.1)).contains(&at)
    });
    line.unwrap().split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn smoke() {
    let names = Names::new("smoke");
    for name in names.all() {
        let shared = Segment::create(name, board()).unwrap();
        let read = Segment::<Board>::open_read_only(name).unwrap();
        assert_eq!(read.address().to_str(), Some(name));
        let view = read.view();
        let limits: ReadOnly<'_, Limits> = project!(view => limits);
        assert_eq!(
            *limits.get(),
            Limits {
                lowest: 1,
                highest: 9
            }
        );
        assert_eq!(*project!(view => limits.highest).get(), 9);
        assert_eq!(project!(view => done).load(), 3);
        assert!(project!(view => flags.0).load());
        assert_eq!(project!(view => flags.1).load(), -1);
        assert_eq!(project!(view => pending).peek(), 5);

        let slots = project!(view => slots).as_slice();
        assert_eq!((slots.len(), slots.is_empty()), (3, false));
        assert_eq!(slots.element(2).unwrap().peek(), (2, 102));
        assert!(slots.element(3).is_none());
        let all: Vec<_> = slots.iter().map(ReadOnly::peek).collect();
        assert_eq!(all, [(0, 100), (1, 101), (2, 102)]);

        let limits_at = std::ptr::from_ref(limits.get()).addr();
        assert_eq!(protection(limits_at), "r--s");
        let shared_at = std::ptr::from_ref::<Board>(&shared).addr();
        assert_eq!(protection(shared_at), "rw-s");
        // Another thread can use the view, like a `&T`.
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(project!(read.view() => done).load(), 3));
        });
    }
}

#[test]
fn open_read_only_refuses_missing_or_foreign() {
    let names = Names::new("refused");
    for name in names.all() {
        let missing = Segment::<Board>::open_read_only(name);
        assert!(
            matches!(missing, Err(Error::NotFound { .. })),
            "{missing:?}"
        );
        let missing = SegmentOptions::<Board>::new().open_snapshot(name);
        assert!(
            matches!(missing, Err(Error::NotFound { .. })),
            "{missing:?}"
        );
        let _shared = Segment::create(name, 5_u64).unwrap();
        let other = Segment::<i64>::open_read_only(name);
        assert!(
            matches!(other, Err(Error::LayoutMismatch { .. })),
            "{other:?}"
        );
        let other = SegmentOptions::<i64>::new().open_snapshot(name);
        assert!(
            matches!(other, Err(Error::LayoutMismatch { .. })),
            "{other:?}"
        );
    }
}

#[test]
fn open_read_only_learns_length() {
    let names = Names::new("tail");
    type Table = WithTail<u32, [Counter]>;
    for name in names.all() {
        let _shared = SegmentOptions::<Table>::new()
            .create_with_len(name, 4, |table| {
                table.head = 7;
                table.tail[3] = Counter::new(33);
            })
            .unwrap();
        let read = Segment::<Table>::open_read_only(name).unwrap();
        let tail = project!(read.view() => tail);
        assert_eq!(*project!(read.view() => head).get(), 7);
        assert_eq!(tail.len(), 4);
        assert_eq!(tail.element(3).unwrap().peek(), 33);

        let copy = SegmentOptions::<Table>::new().open_snapshot(name).unwrap();
        assert_eq!((copy.head, copy.tail.len()), (7, 4));
        assert_eq!(*copy.tail[3].lock().unwrap(), 33);
    }
}

on_stage! {
    fn view_shows_writes_of_other_processes() {
        let names = Names::new("seen");
        for name in names.all() {
            let shared = Segment::create(name, board()).unwrap();
            let read = Segment::<Board>::open_read_only(name).unwrap();
            let view = read.view();
            spawn(|| {
                let mine = Segment::<Board>::open(name).unwrap();
                *mine.pending.lock().unwrap() = 6;
                mine.done.store(4, Ordering::Release);
            })
            .join();
            assert_eq!(project!(view => pending).peek(), 6);
            assert_eq!(project!(view => done).load(), 4);

            let mut holder = holder_of(&shared.pending);
            let seen = project!(view => pending).holder().unwrap();
            assert_eq!(seen.pid, holder.pid());
            holder.kill();
            drop(expect_poisoned(shared.pending.lock()));
            assert!(project!(view => pending).is_poisoned());
            shared.pending.clear_poison();
            assert!(!project!(view => pending).is_poisoned());
            assert_eq!(project!(view => pending).holder(), None);
        }
    }

    fn read_only_mapping_refuses_writes() {
        let names = Names::new("write");
        for name in names.all() {
            let _shared = Segment::create(name, board()).unwrap();
            let read = Segment::<Board>::open_read_only(name).unwrap();
            let mut writer = spawn(|| {
                let at = std::ptr::from_ref(project!(read.view() => limits.highest).get());
                // SAFETY: the address is mapped. The write faults, which is what the
                // test checks.
                unsafe { at.cast_mut().write_volatile(1) };
            });
            let status = writer.wait();
            assert!(
                matches!(status, WaitStatus::Signaled(_, Signal::SIGSEGV, _)),
                "{status:?}"
            );
            assert_eq!(*project!(read.view() => limits.highest).get(), 9);
        }
    }

    fn open_read_only_needs_only_read_permission() {
        if !is_root_for("open_read_only_needs_only_read_permission") {
            return;
        }
        let names = Names::new("reader");
        for name in names.all() {
            let readable = SegmentOptions::new().mode(0o644);
            let shared = readable.create(name, board()).unwrap();
            let (ready, changed) = (Gate::new(), Gate::new());
            let reader = spawn(|| {
                become_nobody();
                let unexpected = Segment::<Board>::open_read_only(name);
                assert!(matches!(unexpected, Err(Error::WrongOwner { found: 0, .. })));
                let of_root = SegmentOptions::<Board>::new().owner(0);
                let opened = of_root.open(name);
                assert!(matches!(opened, Err(Error::PermissionDenied { .. })), "{opened:?}");
                let read = of_root.open_read_only(name).unwrap();
                let copy = of_root.open_snapshot(name).unwrap();
                ready.open();
                changed.pass();
                assert_eq!(project!(read.view() => done).load(), 11);
                assert_eq!(copy.done.load(Ordering::Acquire), 3);
                copy.done.store(12, Ordering::Release);
                *copy.pending.lock().unwrap() = 12;
            });
            ready.pass();
            let attached = Segment::attached_pids(&shared).unwrap();
            assert!(attached.contains(&reader.pid()), "{attached:?}");
            shared.done.store(11, Ordering::Release);
            changed.open();
            reader.join();
            assert_eq!(shared.done.load(Ordering::Acquire), 11);
            assert_eq!(*shared.pending.lock().unwrap(), 5);
            // The reader has removed nothing and left nothing.
            assert_eq!(Segment::attached_pids(&shared).unwrap(), [std::process::id()]);
        }
    }

    fn peek_neither_waits_nor_tears_numbers() {
        let name = TestName::new("peek");
        let shared = Segment::create(&name, ShmMutex::new([0_u64; 4])).unwrap();
        let read = Segment::<ShmMutex<[u64; 4]>>::open_read_only(&name).unwrap();
        let mut writer = spawn(|| {
            let mut numbers = shared.lock().unwrap();
            for round in 0_u64.. {
                let number = if round % 2 == 0 { 0 } else { u64::MAX };
                for to in numbers.iter_mut() {
                    // SAFETY: `to` is a valid reference to a number. The write is
                    // volatile, so that each is stored.
                    unsafe { std::ptr::from_mut(to).write_volatile(number) };
                }
            }
        });
        for _ in 0..100_000 {
            assert!(read.view().peek().iter().all(|number| [0, u64::MAX].contains(number)));
        }
        writer.kill();
    }

    fn snapshot_is_independent_of_original() {
        let names = Names::new("apart");
        for name in names.all() {
            let shared = Segment::create(name, board()).unwrap();
            let copy = SegmentOptions::<Board>::new().open_snapshot(name).unwrap();
            // The snapshot has its own copy of every page, also of pages never written
            // to.
            spawn(|| {
                let mine = Segment::<Board>::open(name).unwrap();
                mine.done.store(40, Ordering::Release);
                *mine.slots[2].lock().unwrap() = (40, 40);
            })
            .join();
            assert_eq!(copy.done.load(Ordering::Acquire), 3);
            assert_eq!(*copy.slots[2].lock().unwrap(), (2, 102));

            copy.done.store(50, Ordering::Release);
            *copy.pending.lock().unwrap() = 50;
            assert_eq!(shared.done.load(Ordering::Acquire), 40);
            assert_eq!(*shared.pending.lock().unwrap(), 5);
            // One thread can hold locks of both at once.
            let (_ours, _theirs) = (copy.pending.lock().unwrap(), shared.pending.lock().unwrap());
            assert_eq!(copy.limits.highest, 9);
        }
    }

    fn large_snapshot_keeps_all_pages() {
        const LEN: usize = 3 << 20;
        let names = Names::new("pages");
        for name in names.all() {
            let shared = SegmentOptions::<[AtomicU64; LEN / 8]>::new().create_in_place(name, |_| {}).unwrap();
            let copy = SegmentOptions::<[AtomicU64; LEN / 8]>::new().open_snapshot(name).unwrap();
            spawn(|| shared.iter().for_each(|word| word.store(1, Ordering::Relaxed))).join();
            assert!(copy.iter().all(|word| word.load(Ordering::Relaxed) == 0), "{name}");
            unlink(name).unwrap();
            // The snapshot does not need the original any more.
            drop(shared);
            copy.iter().for_each(|word| word.store(2, Ordering::Relaxed));
            assert_eq!(copy[LEN / 8 - 1].load(Ordering::Relaxed), 2);
        }
    }

    fn snapshot_poisons_held_lock() {
        let names = Names::new("held");
        for name in names.all() {
            let shared = Segment::create(name, board()).unwrap();
            let mut holder = holder_of(&shared.slots[1]);
            // A waiter of the original does not wait for the snapshot's lock.
            let waiter = spawn(|| {
                let _ = shared.slots[1].lock();
            });
            waiter.wait_until_asleep();
            let copy = SegmentOptions::<Board>::new().open_snapshot(name).unwrap();
            let poisoned = expect_poisoned(copy.slots[1].try_lock());
            assert_eq!(dead_owner(poisoned.cause()), Some(holder.pid()));
            let mut data = poisoned.recover(|data| *data = (0, 0));
            *data = (9, 9);
            drop(data);
            assert!(!copy.pending.is_poisoned(), "the other locks are unchanged");
            assert_eq!(*copy.pending.lock().unwrap(), 5);
            assert_eq!(*copy.slots[1].lock().unwrap(), (9, 9));

            // In the original, the lock is held and not poisoned.
            assert!(!shared.slots[1].is_poisoned());
            assert!(matches!(shared.slots[1].try_lock(), Err(LockError::WouldBlock)));
            holder.kill();
            waiter.join();
            let poisoned = expect_poisoned(shared.slots[1].lock());
            assert_eq!(*poisoned.into_inner(), (1, 101));
        }
    }

    fn snapshot_lock_is_free_in_forked_child() {
        let names = Names::new("forked");
        for name in names.all() {
            let _shared = Segment::create(name, board()).unwrap();
            let copy = SegmentOptions::<Board>::new().open_snapshot(name).unwrap();
            let (board, me) = (&*copy, std::process::id());
            let guard = board.pending.lock().unwrap();
            let [locked, end] = [Gate::new(), Gate::new()];
            std::thread::scope(|s| {
                s.spawn(|| {
                    let _guard = board.slots[2].lock().unwrap();
                    locked.open();
                    end.pass();
                });
                locked.pass();
                // The child uses references from before and after the fork. A child of
                // the child is checked as well.
                let check = || {
                    let poisoned = expect_poisoned(board.pending.lock());
                    assert_eq!(dead_owner(poisoned.cause()), Some(me));
                    drop(poisoned.recover(|n| *n = 1));
                    let poisoned = expect_poisoned(copy.slots[2].try_lock());
                    assert_eq!(dead_owner(poisoned.cause()), Some(me));
                    drop(poisoned.recover(|_| ()));
                    // Free locks are free and not poisoned.
                    assert!(copy.slots[0].try_lock().is_ok());
                    assert!(copy.slots[2].try_lock().is_ok());
                };
                spawn(|| spawn(check).join()).join();
                spawn(|| {
                    check();
                    // The lock still excludes other lockers.
                    let guard = board.pending.lock().unwrap();
                    assert!(matches!(board.pending.try_lock(), Err(LockError::WouldBlock)));
                    assert!(matches!(board.pending.lock(), Err(LockError::Deadlock)));
                    let me = std::process::id();
                    spawn(|| {
                        let poisoned = expect_poisoned(board.pending.lock());
                        assert_eq!(dead_owner(poisoned.cause()), Some(me));
                    })
                    .join();
                    drop(guard);
                    assert!(board.pending.lock().is_ok());
                })
                .join();
                end.open();
            });
            // The parent's snapshot is unchanged.
            assert!(matches!(board.pending.lock(), Err(LockError::Deadlock)));
            drop(guard);
            assert_eq!(*board.pending.lock().unwrap(), 5);
            assert!(board.slots[2].lock().is_ok());
        }
    }

    fn snapshot_is_shared_by_threads_of_child() {
        let names = Names::new("forked-threads");
        let name = names.all()[0];
        let _shared = Segment::create(name, board()).unwrap();
        let copy = SegmentOptions::<Board>::new().open_snapshot(name).unwrap();
        let _guard = copy.pending.lock().unwrap();
        for _ in 0..50 {
            spawn(|| {
                let begun = copy.done.load(Ordering::Relaxed);
                std::thread::scope(|s| {
                    for _ in 0..4 {
                        s.spawn(|| {
                            let mut guard = match copy.pending.lock() {
                                Err(LockError::Poisoned(poisoned)) => poisoned.into_inner(),
                                other => panic!("{:?}", other.map(drop)),
                            };
                            *guard += 1;
                            let done = copy.done.load(Ordering::Relaxed);
                            std::thread::yield_now();
                            copy.done.store(done + 1, Ordering::Relaxed);
                        });
                    }
                });
                assert_eq!(copy.done.load(Ordering::Relaxed), begun + 4);
            })
            .join();
        }
    }

    fn snapshot_keeps_poison_and_own_locks() {
        let names = Names::new("poison");
        for name in names.all() {
            let shared = Segment::create(name, board()).unwrap();
            // An owner death that no locker has seen yet.
            spawn(|| {
                let _guard = shared.slots[0].lock().unwrap();
                die()
            })
            .wait();
            let guard = shared.pending.lock().unwrap();
            let copy = SegmentOptions::<Board>::new().open_snapshot(name).unwrap();
            drop(expect_poisoned(copy.slots[0].lock()));
            let own = expect_poisoned(copy.pending.lock());
            assert_eq!(dead_owner(own.cause()), Some(std::process::id()));
            drop(own);
            drop(copy);
            drop(guard);
            *shared.pending.lock().unwrap() += 1;
            drop(expect_poisoned(shared.slots[0].lock()));
            let again = SegmentOptions::<Board>::new().open_snapshot(name).unwrap();
            assert!(again.slots[0].is_poisoned() && !again.pending.is_poisoned());
        }
    }

    fn snapshot_does_not_count_as_attached() {
        let names = Names::new("count");
        for name in names.all() {
            let (created, seen) = (Gate::new(), Gate::new());
            let owner = spawn(|| {
                let shared = Segment::create(name, board()).unwrap();
                created.open();
                seen.pass();
                assert_eq!(Segment::attached_pids(&shared).unwrap(), [std::process::id()]);
            });
            created.pass();
            let copy = SegmentOptions::<Board>::new().open_snapshot(name).unwrap();
            seen.open();
            owner.join();
            assert_eq!(*copy.pending.lock().unwrap(), 5);
        }
    }
}
