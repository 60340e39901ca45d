//! One lock for a slice, or for a head and a slice: `ShmMutex<[T]>` and
//! `ShmMutex<WithTail<H, [T]>>`.

use std::time::Duration;

use crate::support::{
    Gate, TestFile, TestKey, TestName, dead_owner, die, expect_poisoned, holder_of, on_stage, spawn,
};
use shm_sync::inspect::{self, LockState, SyncState};
use shm_sync::{
    Error, LockError, Segment, SegmentContent, SegmentOptions, ShmCondvar, ShmMutex, ShmSafe,
    WithTail, project,
};

type Samples = ShmMutex<[u64]>;

/// A change that may be half done: `to` is written, and then the element at `at`.
#[derive(ShmSafe, Debug, PartialEq)]
#[repr(C)]
struct Journal {
    at: usize,
    to: u64,
    is_open: bool,
}

type Table = ShmMutex<WithTail<Journal, [u64]>>;

/// What the lock does not guard comes first.
type Board = WithTail<ShmCondvar, Table>;

/// An address of each kind.
struct Names(TestName, TestFile, TestKey);

impl Names {
    fn new(what: &str) -> Self {
        Self(TestName::new(what), TestFile::new(what), TestKey::new())
    }

    fn all(&self) -> [&str; 3] {
        [&self.0, &self.1, &self.2]
    }
}

fn board(name: &str, len: usize) -> Segment<Board> {
    SegmentOptions::new()
        .create_with_len(name, len, |board: &mut Board| {
            let table = board.tail.get_mut();
            table.head.to = 1;
            table.tail.fill(1);
        })
        .unwrap()
}

#[test]
fn smoke() {
    let names = Names::new("guarded-smoke");
    for name in names.all() {
        let mine = SegmentOptions::new()
            .create_with_len(name, 3, |samples: &mut Samples| samples.get_mut()[2] = 5)
            .unwrap();
        let same = Segment::<Samples>::open(name).unwrap();
        let mut all = same.lock().unwrap();
        all[2] += 1;
        assert!(
            matches!(mine.try_lock(), Err(LockError::WouldBlock)),
            "one lock for all"
        );
        drop(all);
        assert_eq!(*mine.lock().unwrap(), [0, 0, 6]);
        let first_come: Segment<Samples> = SegmentOptions::new()
            .open_or_create_with_len(name, 9, |_| panic!("the segment exists already"))
            .unwrap();
        assert_eq!(first_come.lock().unwrap().len(), 3);
    }
}

#[test]
fn head_and_tail_are_lent_together() {
    let names = Names::new("guarded-head");
    for name in names.all() {
        let board = board(name, 1000);
        let same = Segment::<Board>::open(name).unwrap();
        let mut table = same.tail.lock().unwrap();
        let WithTail { head, tail } = &mut *table;
        head.at = tail.len() - 1;
        tail[head.at] = head.to + 6;
        drop(table);
        let table = board.tail.lock().unwrap();
        assert_eq!(
            (table.head.at, table.tail[999], table.tail[998]),
            (999, 7, 1)
        );
    }
}

#[test]
fn slice_may_be_empty_or_long() {
    let none = SegmentOptions::new()
        .anonymous_with_len("none", 0, |_: &mut Samples| {})
        .unwrap();
    assert!(none.lock().unwrap().is_empty());
    let long = SegmentOptions::new()
        .anonymous_with_len("long", 1 << 20, |_: &mut Samples| {})
        .unwrap();
    let mut all = long.lock().unwrap();
    all[(1 << 20) - 1] = 1;
    assert_eq!(all.iter().sum::<u64>(), 1);
    let too_long =
        SegmentOptions::new().anonymous_with_len("huge", usize::MAX, |_: &mut Samples| {});
    assert!(
        matches!(too_long, Err(Error::NoSpace { .. })),
        "{too_long:?}"
    );
}

#[test]
fn open_refuses_other_shape() {
    fn refuses<T: SegmentContent + ?Sized>(name: &str) {
        let opened = Segment::<T>::open(name);
        assert!(
            matches!(opened, Err(Error::LayoutMismatch { .. })),
            "{opened:?}"
        );
    }
    let name = TestName::new("guarded-shape");
    let samples = SegmentOptions::new()
        .create_with_len(&name, 8, |_: &mut Samples| {})
        .unwrap();
    refuses::<[ShmMutex<u64>]>(&name);
    refuses::<ShmMutex<[u64; 8]>>(&name);
    refuses::<ShmMutex<[i64]>>(&name);
    refuses::<ShmMutex<u64>>(&name);
    refuses::<WithTail<(), Samples>>(&name);
    refuses::<ShmMutex<WithTail<(), [u64]>>>(&name);
    refuses::<[u64]>(&name);
    drop(samples);
}

#[test]
fn views_and_copies_read_the_slice() {
    let names = Names::new("guarded-read");
    for name in names.all() {
        let board = board(name, 4);
        board.tail.lock().unwrap().tail[3] = 33;
        let held = board.tail.lock().unwrap();

        let read = Segment::<Board>::open_read_only(name).unwrap();
        let table = project!(read.view() => tail);
        assert_eq!(table.holder().unwrap().pid, std::process::id());
        assert!(!table.is_poisoned());
        assert_eq!(table.tail_len(), 4);
        assert_eq!(table.peek_head().to, 1);
        assert_eq!(
            [0, 3, 4].map(|at| table.peek_element(at)),
            [Some(1), Some(33), None]
        );

        let copy = Segment::<Board>::options().open_snapshot(name).unwrap();
        let table = expect_poisoned(copy.tail.lock()).recover(|table| table.head.to = 9);
        assert_eq!((table.head.to, &table.tail), (9, &[1, 1, 1, 33][..]));
        assert_eq!(held.head.to, 1, "the original does not change");
    }

    let name = TestName::new("guarded-read-slice");
    let _samples = SegmentOptions::new()
        .create_with_len(&name, 3, |samples: &mut Samples| samples.get_mut()[1] = 7)
        .unwrap();
    let read = Segment::<Samples>::open_read_only(&name)
        .unwrap()
        .view()
        .len();
    assert_eq!(read, 3);
    let read = Segment::<Samples>::open_read_only(&name).unwrap();
    assert_eq!(read.view().peek_element(1), Some(7));
    assert_eq!(read.view().peek_element(3), None);
    assert!(!read.view().is_empty());
}

#[test]
fn inspect_shows_one_lock() {
    let name = TestName::new("guarded-inspect");
    let board = board(&name, 500);
    let _held = board.tail.lock().unwrap();
    let details = inspect::details(&name.parse().unwrap(), 1000).unwrap();
    let paths: Vec<&str> = details
        .sync_objects
        .iter()
        .map(|o| o.path.as_str())
        .collect();
    assert_eq!(paths, [".head", ".tail"]);
    let SyncState::Mutex(mutex) = &details.sync_objects[1].state else {
        panic!("the tail is a mutex: {details:?}");
    };
    assert!(matches!(mutex.lock, LockState::Held(_)), "{mutex:?}");
}

#[test]
fn priority_inheritance_can_be_chosen_in_place() {
    let samples = SegmentOptions::new()
        .anonymous_with_len("inheriting", 10, |samples: &mut Samples| {
            samples.set_priority_inheritance();
        })
        .unwrap();
    samples.lock().unwrap()[9] = 1;
    let timed_out = std::thread::scope(|scope| {
        let _held = samples.lock().unwrap();
        let waiter = scope.spawn(|| {
            samples
                .try_lock_for(Duration::from_millis(1))
                .map(drop)
                .is_err()
        });
        waiter.join().unwrap()
    });
    assert!(timed_out, "another thread holds the lock");
    // The kind is a word of `pthread_mutex_t`: see docs/format.md.
    let (at, bit) = if cfg!(target_env = "musl") {
        (0, 8)
    } else {
        (4, 32)
    };
    let kind = samples.as_pthread_ptr().cast::<u32>().wrapping_add(at);
    // SAFETY: the segment keeps the mutex mapped. No thread writes to its kind.
    let kind = unsafe { kind.read() };
    assert_eq!(kind & bit, bit, "the bit of priority inheritance");
}

on_stage! {
    fn death_in_slice_is_recovered() {
        let names = Names::new("guarded-death");
        for name in names.all() {
            let board = board(name, 100);
            let mut child = spawn(|| {
                let board = Segment::<Board>::open(name).unwrap();
                let mut table = board.tail.lock().unwrap();
                table.head = Journal { at: 42, to: 7, is_open: true };
                std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
                table.tail[41] = 99;
                die()
            });
            child.wait();

            let poisoned = expect_poisoned(board.tail.lock());
            assert_eq!(dead_owner(poisoned.cause()), Some(child.pid()));
            let table = poisoned.recover(|table| {
                assert!(table.head.is_open, "the journal shows the change");
                table.tail[41] = 1;
                table.tail[table.head.at] = table.head.to;
                table.head.is_open = false;
            });
            assert_eq!((table.tail[41], table.tail[42], table.tail.len()), (1, 7, 100));
            drop(table);
            let again = Segment::<Board>::open(name).unwrap();
            assert!(again.tail.lock().is_ok(), "the repair has cleared the poison");
        }
    }

    fn killed_holder_poisons_slice_of_opener() {
        let name = TestName::new("guarded-killed");
        let mine = SegmentOptions::new()
            .create_with_len(&name, 10, |_: &mut Samples| {})
            .unwrap();
        let theirs = Segment::<Samples>::open(&name).unwrap();
        let mut holder = holder_of::<[u64]>(&theirs);
        assert_eq!(mine.holder().unwrap().pid, holder.pid());
        holder.kill();
        let poisoned = expect_poisoned(mine.lock());
        assert_eq!(dead_owner(poisoned.cause()), Some(holder.pid()));
        assert_eq!(*poisoned.recover(|all| all.fill(3)), [3; 10]);
    }

    fn processes_wait_for_the_slice() {
        let name = TestName::new("guarded-wait");
        let board = board(&name, 8);
        let waits = Gate::new();
        let child = spawn(|| {
            let board = Segment::<Board>::open(&name).unwrap();
            let table = board.tail.lock().unwrap();
            waits.open();
            let table = board.head.wait_while(table, |table| table.tail[7] == 1).unwrap();
            assert_eq!(table.tail[7], 5);
            let (table, result) = board
                .head
                .wait_timeout_while(table, Duration::from_millis(1), |table| table.head.to == 1)
                .unwrap();
            assert!(result.timed_out() && table.head.to == 1);
        });
        waits.pass();
        board.tail.lock().unwrap().tail[7] = 5;
        board.head.notify_all();
        child.join();
    }

    fn processes_count_in_all_elements() {
        const ROUNDS: u64 = 2000;
        let samples = SegmentOptions::new()
            .anonymous_with_len("count", 16, |_: &mut Samples| {})
            .unwrap();
        let count = || {
            for _ in 0..ROUNDS {
                samples.lock().unwrap().iter_mut().for_each(|element| *element += 1);
            }
        };
        let children = [spawn(count), spawn(count)];
        for child in children {
            child.join();
        }
        assert_eq!(*samples.lock().unwrap(), [2 * ROUNDS; 16]);
    }
}
